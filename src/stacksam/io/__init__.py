"""Readers and writers of stacks and labels. A leaf: imports neither torch nor the rest of the package."""

from __future__ import annotations

from stacksam.io.images import LazyImage, open_image
from stacksam.io.labels import (
    create_label_store,
    grow_label_store,
    open_label_store,
    read_labels,
    store_frame,
    write_labels_ome_zarr,
    write_labels_tiff,
)

__all__ = [
    "LazyImage",
    "create_label_store",
    "grow_label_store",
    "open_image",
    "open_label_store",
    "read_labels",
    "store_frame",
    "write_labels_ome_zarr",
    "write_labels_tiff",
]

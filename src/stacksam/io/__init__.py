"""Readers and writers of stacks and labels. A leaf: imports neither torch nor the rest of the package.

Formats of results, each with its writer, are in :mod:`stacksam.io.formats`; their modules are loaded when
they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from stacksam.io.coco import write_coco
    from stacksam.io.ctc import CtcTracks, read_ctc, write_ctc
    from stacksam.io.geff import write_geff
    from stacksam.io.image_labels import write_image_labels
    from stacksam.io.label_stack import LabelStack
    from stacksam.io.lineage import check_lineage, read_lineage
    from stacksam.io.measurements import measure, write_measurements
    from stacksam.io.trackmate import write_trackmate
    from stacksam.io.volumes import write_nifti, write_nrrd

_HOMES = {
    "CtcTracks": "ctc",
    "LabelStack": "label_stack",
    "check_lineage": "lineage",
    "measure": "measurements",
    "read_ctc": "ctc",
    "read_lineage": "lineage",
    "write_coco": "coco",
    "write_ctc": "ctc",
    "write_geff": "geff",
    "write_image_labels": "image_labels",
    "write_measurements": "measurements",
    "write_nifti": "volumes",
    "write_nrrd": "volumes",
    "write_trackmate": "trackmate",
}

__all__ = [
    "CtcTracks",
    "LabelStack",
    "LazyImage",
    "check_lineage",
    "create_label_store",
    "grow_label_store",
    "measure",
    "open_image",
    "open_label_store",
    "read_ctc",
    "read_labels",
    "read_lineage",
    "store_frame",
    "write_coco",
    "write_ctc",
    "write_geff",
    "write_image_labels",
    "write_labels_ome_zarr",
    "write_labels_tiff",
    "write_measurements",
    "write_nifti",
    "write_nrrd",
    "write_trackmate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

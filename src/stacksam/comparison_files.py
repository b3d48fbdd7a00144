"""What is compared: labels plane by plane from any file, and the lineage that goes with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.io.ctc_planes import SegMask, is_ctc_folder, read_ctc_planes, read_track_lineage
from stacksam.io.images import Source
from stacksam.io.labels import read_labels

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Planes", "open_planes", "read_lineage"]


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Labels, read one plane at a time.

    Attributes
    ----------
    name : str
        What to call them in errors and reports.
    axes : {"yx", "tyx", "zyx", "tzyx"}
    shape : tuple of int
        By axis.
    read : callable
        ``read(time, plane)`` gives the (H, W) labels; both count from 0, also where there is no such axis.
    lineage : networkx.DiGraph or None
        What the source itself tells of it.
    check : callable, optional
        ``check(present)`` sees that the ids of each time point are those that the source tells of.
    segmentation : tuple of SegMask
        Other masks, for SEG of the Cell Tracking Challenge.
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    read: Callable[[int, int], NDArray[Any]]
    lineage: nx.DiGraph | None = None
    check: Callable[[Sequence[NDArray[Any]]], None] | None = None
    segmentation: tuple[SegMask, ...] = ()

    @property
    def n_times(self) -> int:
        """Time points; 1 without a time axis."""
        return self.shape[0] if self.axes[0] == "t" else 1

    @property
    def n_planes(self) -> int:
        """Planes of a time point; 1 without a depth axis."""
        return self.shape[self.axes.index("z")] if "z" in self.axes else 1

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[-2], self.shape[-1]


def open_planes(source: Source | Planes, axes: str | None = None) -> Planes:
    """Open labels to be read plane by plane.

    Parameters
    ----------
    source : path, array or LazyImage
        Anything that :func:`stacksam.io.read_labels` opens, a results folder, or one of the Cell Tracking
        Challenge.
    axes : str, optional
        Meaning of the dimensions, where the source does not tell or is wrong.

    Raises
    ------
    StackError
        If it cannot be read, or holds no labels.
    InputError
        If it has channels, or the table of a challenge's folder does not fit its masks.
    """
    if isinstance(source, Planes):
        return source
    if isinstance(source, str | os.PathLike) and is_ctc_folder(Path(source).expanduser()):
        folder = Path(source).expanduser()
        if axes is not None:
            raise InputError(
                f"{folder} is a folder of the Cell Tracking Challenge, whose axes are known; leave out "
                f"axes={axes!r}"
            )
        found = read_ctc_planes(folder)
        return Planes(
            str(source), found.axes, found.shape, found.read, found.lineage, found.check, found.segmentation
        )
    if isinstance(source, str | os.PathLike):
        live = Path(source).expanduser() / "session" / "labels.ome.zarr"
        source = live if live.is_dir() else source  # of a results folder: up to date, whatever was written
    image = read_labels(source, axes=axes)
    if image.sizes.get("c", 1) > 1:
        raise InputError(
            f"{image.source} has {image.sizes['c']} channels (axes {image.axes}, shape {image.shape}); "
            "labels have one"
        )
    kept = [axis for axis in image.axes if axis != "c"]

    def read(time: int, plane: int) -> NDArray[Any]:
        at = {"t": time, "z": plane, "c": 0}
        return np.asarray(image.read(**{axis: at[axis] for axis in image.axes if axis not in "yx"}))

    return Planes(image.source, "".join(kept), tuple(image.sizes[axis] for axis in kept), read)


def read_lineage(path: str | os.PathLike[str]) -> nx.DiGraph:
    """A lineage from a table of the Cell Tracking Challenge, a line ``L B E P`` a track.

    Only labels (L) and parents (P) are taken: first and last frames follow from the labels.

    Raises
    ------
    StackError
        If it cannot be read.
    InputError
        If it is no such table.
    """
    return read_track_lineage(Path(path).expanduser())

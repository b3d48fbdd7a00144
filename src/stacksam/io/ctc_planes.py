"""Folders of the Cell Tracking Challenge plane by plane, volumes included.

:func:`stacksam.io.ctc.read_ctc` reads time-lapses of images. Here each time point may also be a volume, one
TIFF of several pages; one of them is in memory at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from stacksam.errors import InputError, StackError
from stacksam.io._lazy import READ_ERRORS, _told
from stacksam.io.ctc import _MASK, _TABLES, Row, _graph, _masks_of, _table_of, read_track_table

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["CtcPlanes", "SegMask", "is_ctc_folder", "read_ctc_planes", "read_track_lineage"]

_SEG = re.compile(r"man_seg_?(\d+)(?:_(\d+))?\.tiff?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SegMask:
    """One mask of gold truth for segmentation.

    Attributes
    ----------
    path : Path
    time : int
    plane : int or None
        None for all planes of the time point.
    """

    path: Path
    time: int
    plane: int | None

    def read(self) -> NDArray[Any]:
        """The labels: (H, W), or (Z, H, W) for all planes of a volume."""
        return _read(self.path)


@dataclass(frozen=True, slots=True, eq=False)
class CtcPlanes:
    """Masks and tracks of a folder.

    Attributes
    ----------
    axes : {"tyx", "tzyx"}
    shape : tuple of int
        By axis.
    read : callable
        ``read(time, plane)`` gives the (H, W) labels.
    lineage : networkx.DiGraph
        All tracks; edges from parent to daughter.
    segmentation : tuple of SegMask
        Masks that the challenge measures SEG with; none if they are those of the tracks.
    """

    axes: str
    shape: tuple[int, ...]
    read: Callable[[int, int], NDArray[Any]]
    lineage: nx.DiGraph
    segmentation: tuple[SegMask, ...]
    _rows: tuple[Row, ...]
    _name: str

    def check(self, present: Sequence[NDArray[Any]]) -> None:
        """See that the table of tracks tells what the masks show.

        Parameters
        ----------
        present : sequence of (N,) int array
            Ids in each mask.

        Raises
        ------
        InputError
            If a track is not in every mask from its first frame to its last, or one is in a mask and not in
            the table.
        """
        shown = {(track, time) for time, ids in enumerate(present) for track in ids.tolist()}
        told = {(track, time) for track, begin, end, _ in self._rows for time in range(begin, end + 1)}
        for missing, text in (
            (told - shown, "is to be on frame {}, by the table, but its mask does not show it"),
            (shown - told, "is in the mask of frame {}, where the table does not have it"),
        ):
            if missing:
                track, time = min(missing)
                raise InputError(
                    f"{self._name}: track {track} {text.format(time)}; mend the table, or compare the masks "
                    "without it"
                )


def is_ctc_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with a table of tracks or masks named as the challenge does.

    Also one that has such a folder named ``TRA``, as ``01_GT`` of the challenge's data sets has.
    """
    folder = Path(path)
    if not folder.is_dir():
        return False
    folder = _tra(folder)
    return any((folder / name).is_file() for name in _TABLES) or any(
        _MASK.fullmatch(each.name) for each in folder.iterdir()
    )


def read_ctc_planes(path: str | os.PathLike[str]) -> CtcPlanes:
    """Open a folder of the Cell Tracking Challenge, results or gold truth.

    Parameters
    ----------
    path : path
        A folder with ``maskT.tif`` and ``res_track.txt``, or ``man_trackT.tif`` and ``man_track.txt``; or one
        that has such a folder ``TRA``, and maybe beside it ``SEG``, with ``man_segT.tif`` for some time
        points or ``man_seg_T_Z.tif`` for some planes.

    Raises
    ------
    StackError
        If files are missing or cannot be read, or masks differ in shape.
    InputError
        If the table is none of the challenge.
    """
    folder = _tra(Path(path))
    rows = read_track_table(_table_of(folder))
    files = _masks_of(folder)
    first = _read(files[0])
    kept: dict[int, NDArray[Any]] = {0: first}

    def read(time: int, plane: int) -> NDArray[Any]:
        if time not in kept:
            mask = _read(files[time])
            if mask.shape != first.shape:
                raise StackError(
                    f"{files[time]} has shape {mask.shape}, but {files[0].name} has {first.shape}; all masks "
                    "of a folder are alike"
                )
            kept.clear()
            kept[time] = mask
        mask = kept[time]
        return mask if mask.ndim == 2 else np.asarray(mask[plane])

    axes = "tyx" if first.ndim == 2 else "tzyx"
    shape = (len(files), *first.shape)
    segmentation = _seg_masks(folder.parent / "SEG") if folder != Path(path) else ()
    for mask in segmentation:
        if mask.time >= len(files) or (mask.plane or 0) >= (1 if first.ndim == 2 else len(first)):
            raise StackError(f"{mask.path} is of a frame or plane that {folder} does not have")
    return CtcPlanes(axes, shape, read, _graph(rows, {}), segmentation, tuple(rows), folder.name)


def read_track_lineage(path: str | os.PathLike[str]) -> nx.DiGraph:
    """The lineage of a table of tracks, a line ``L B E P`` each.

    Raises
    ------
    StackError, InputError
        As :func:`stacksam.io.ctc.read_track_table`.
    """
    return _graph(read_track_table(Path(path)), {})


def _tra(folder: Path) -> Path:
    """The folder of tracks, where there is one beside that of segmentations."""
    inner = folder / "TRA"
    return inner if (inner / _TABLES[1]).is_file() else folder


def _seg_masks(folder: Path) -> tuple[SegMask, ...]:
    if not folder.is_dir():
        return ()
    found = [(path, match) for path in folder.iterdir() if (match := _SEG.fullmatch(path.name))]
    masks = (SegMask(path, int(m[1]), None if m[2] is None else int(m[2])) for path, m in found)
    return tuple(sorted(masks, key=lambda mask: (mask.time, mask.plane or 0)))


def _read(path: Path) -> NDArray[Any]:
    try:
        mask = np.squeeze(tifffile.imread(path))
    except READ_ERRORS as error:
        raise StackError(f"cannot read {path}: {_told(error)}") from error
    if mask.ndim not in (2, 3):
        raise StackError(f"{path} has shape {mask.shape}; a mask is an image or a volume")
    return mask

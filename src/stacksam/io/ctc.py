"""Folders of the Cell Tracking Challenge: one mask image a frame, and a table of tracks.

``mask000.tif``, ``mask001.tif`` ... hold 16-bit labels; ``res_track.txt`` has a line ``L B E P`` for each
track: label, first frame, last frame, label of its parent (0: none). See "Naming and file content
conventions" of the challenge (Ulman et al., 2017; Maška et al., 2023). A track has to be in every mask from B
to E. So one with a gap becomes several tracks, each the only daughter of the one before, which is how the
challenge writes a cell that was out of sight.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray

from stacksam.errors import InputError, StackError
from stacksam.io._complete import complete_or_nothing
from stacksam.io._lazy import READ_ERRORS, _told
from stacksam.io.label_stack import LabelStack
from stacksam.io.lineage import check_lineage, parents

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["CtcTracks", "read_ctc", "write_ctc"]

_LIMIT = 2**16 - 1
_TABLES = ("res_track.txt", "man_track.txt")
_MASK = re.compile(r"(mask|man_track)(\d+)\.tiff?", re.IGNORECASE)

Row: TypeAlias = tuple[int, int, int, int]
"""Label, first frame, last frame, parent."""


@dataclass(frozen=True, eq=False)
class CtcTracks:
    """What a folder of the Cell Tracking Challenge holds.

    Attributes
    ----------
    labels : LabelStack
        Read frame by frame; the folder has no calibration.
    lineage : networkx.DiGraph
        All tracks; edges from parent to daughter.
    """

    labels: LabelStack
    lineage: nx.DiGraph


def write_ctc(
    path: str | os.PathLike[str],
    labels: LabelStack,
    lineage: nx.DiGraph | None = None,
    *,
    overwrite: bool = False,
    gaps: Literal["split", "refuse"] = "split",
) -> Path:
    """Write a folder of the Cell Tracking Challenge.

    Parameters
    ----------
    path : path
        Folder to be made.
    labels : LabelStack
        Of a time-lapse. Spacing and units are not kept: the format has no place for them.
    lineage : networkx.DiGraph, optional
        Edges from parent to daughter.
    overwrite : bool
        Whether such a folder may be replaced.
    gaps : {"split", "refuse"}
        What becomes of an object that is missing on frames between its first and its last: a new track from
        the gap on, with the next free number and the track before as its parent; or an error.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If frames lie along z, the lineage does not fit, a number above 65535 is
        needed, or there is a gap and `gaps` is "refuse".
    StorageError
        If the folder exists or cannot be written. Nothing is left behind.
    """
    if gaps not in ("split", "refuse"):
        raise InputError(f"gaps is {gaps!r}; use 'split' or 'refuse'")
    if labels.frame_axis != "t":
        raise InputError(
            f"{labels.name} has frames along z; the Cell Tracking Challenge has tracks through time"
        )
    labels.check(lineage)
    rows, numbers = _tracks(labels, lineage, gaps)
    digits = max(3, len(str(labels.n_frames - 1)))
    target = Path(path)
    with complete_or_nothing(target, overwrite, _is_ctc) as temporary:
        temporary.mkdir()
        for number in range(labels.n_frames):
            tifffile.imwrite(
                temporary / f"mask{number:0{digits}}.tif",
                _renumbered(labels.frame(number), number, numbers),
                photometric="minisblack",
                compression="zlib",
                metadata=None,
                maxworkers=1,
            )
        table = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        (temporary / _TABLES[0]).write_text(table, encoding="ascii")
    return target


def read_ctc(path: str | os.PathLike[str], *, join_gaps: bool = False) -> CtcTracks:
    """Read a folder of the Cell Tracking Challenge, results or gold truth (``TRA``), frame by frame.

    Parameters
    ----------
    path : path
        A folder with ``maskT.tif`` and ``res_track.txt``, or ``man_trackT.tif`` and ``man_track.txt``.
    join_gaps : bool
        Whether a track whose parent has no other daughter, and ended more than a frame before, is taken for
        the same object after a gap.

    Returns
    -------
    CtcTracks

    Raises
    ------
    StackError
        If files are missing or cannot be read.
    InputError
        If the table is none of the challenge, or does not fit the masks.
    """
    folder = Path(path)
    rows = read_track_table(_table_of(folder))
    files = _masks_of(folder)
    first = _read_mask(files[0])
    same = _gaps_joined(rows) if join_gaps else {}
    height, width = first.shape
    labels = LabelStack(lambda f: _read_mask(files[f]), (len(files), height, width), name=folder.name)
    _check_masks(labels, rows)
    if same:
        table = _lookup(rows, same)
        labels = LabelStack(lambda f: table[_read_mask(files[f])], labels.shape, name=folder.name)
    lineage = _graph(rows, same)
    labels.check(lineage)
    return CtcTracks(labels, lineage)


def read_track_table(path: Path) -> list[Row]:
    """Rows ``L B E P`` of a table of tracks, checked among themselves.

    Raises
    ------
    StackError
        If it cannot be read.
    InputError
        If a line is not four whole numbers, a label comes twice, or a parent is not there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"cannot read {path}: {_told(error)}") from error
    rows: dict[int, Row] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            label, begin, end, parent = (int(word) for word in line.split())
        except ValueError:
            raise InputError(f"{path}, line {number}: {line!r} is not four whole numbers L B E P") from None
        if label < 1 or parent < 0 or not 0 <= begin <= end:
            raise InputError(f"{path}, line {number}: {line!r} is no track; L is from 1, and B not after E")
        if label in rows:
            raise InputError(f"{path}, line {number}: track {label} is there already")
        rows[label] = (label, begin, end, parent)
    for label, _, _, parent in rows.values():
        if parent and parent not in rows:
            raise InputError(f"{path}: track {label} has the parent {parent}, which is not in the table")
    check_lineage(_graph(list(rows.values()), {}), {row[0]: row[1:3] for row in rows.values()})
    return list(rows.values())


def _tracks(
    labels: LabelStack, lineage: nx.DiGraph | None, gaps: str
) -> tuple[list[Row], dict[int, list[tuple[int, int, int]]]]:
    """The table, and for each object that was split: first frame, last frame and number of its parts."""
    survey = labels.survey
    above = parents(lineage)
    free = max(survey, default=0) + 1
    rows: list[Row] = []
    numbers: dict[int, list[tuple[int, int, int]]] = {}
    last_part: dict[int, int] = {}
    for object_id, seen in survey.items():
        if len(seen.runs) > 1 and gaps == "refuse":
            (_, end), (begin, _) = seen.runs[:2]
            raise InputError(
                f"object {object_id} is missing between frames {end} and {begin}; a track of the Cell "
                "Tracking Challenge has no gaps: fill it, or have the track split"
            )
        parts = [(*seen.runs[0], object_id)]
        for run in seen.runs[1:]:
            parts.append((*run, free))
            free += 1
        if len(parts) > 1:
            numbers[object_id] = parts
        last_part[object_id] = parts[-1][2]
        parent = above.get(object_id, 0)
        for begin, end, number in parts:
            rows.append((number, begin, end, parent))
            parent = number
    top = max((row[0] for row in rows), default=0)
    if top > _LIMIT:
        raise InputError(
            f"{labels.name} needs the track number {top}; masks of the Cell Tracking Challenge have 16 bits, "
            f"numbers up to {_LIMIT}: give the objects smaller ids"
        )
    # A daughter's parent is what the parent was called at its end.
    heads = set(survey)
    rows = [(n, b, e, last_part.get(p, p) if n in heads else p) for n, b, e, p in rows]
    return sorted(rows), numbers


def _renumbered(
    frame: NDArray[Any], number: int, numbers: Mapping[int, list[tuple[int, int, int]]]
) -> NDArray[np.uint16]:
    out = frame.astype(np.uint16)
    for object_id, parts in numbers.items():
        for begin, end, part in parts[1:]:
            if begin <= number <= end:
                out[frame == object_id] = part
    return out


def _is_ctc(folder: Path) -> bool:
    """Whether a folder holds what `write_ctc` writes, and nothing else."""
    names = os.listdir(folder)
    return _TABLES[0] in names and all(name == _TABLES[0] or _MASK.fullmatch(name) for name in names)


def _table_of(folder: Path) -> Path:
    for name in _TABLES:
        if (folder / name).is_file():
            return folder / name
    raise StackError(
        f"{folder} is no folder of the Cell Tracking Challenge: it has no {' or '.join(_TABLES)}"
    )


def _masks_of(folder: Path) -> list[Path]:
    found = {int(m[2]): p for p in folder.iterdir() if (m := _MASK.fullmatch(p.name))}
    if not found:
        raise StackError(f"{folder} has no mask images (mask000.tif ... or man_track000.tif ...)")
    missing = [number for number in range(max(found) + 1) if number not in found]
    if missing:
        raise StackError(
            f"{folder} has no mask image of frame {missing[0]}; there are masks up to {max(found)}"
        )
    return [found[number] for number in sorted(found)]


def _read_mask(path: Path) -> NDArray[Any]:
    try:
        mask = tifffile.imread(path)
    except READ_ERRORS as error:
        raise StackError(f"cannot read {path}: {_told(error)}") from error
    if mask.ndim != 2:
        raise StackError(f"{path} has shape {mask.shape}; masks of two dimensions are read")
    return mask


def _check_masks(labels: LabelStack, rows: list[Row]) -> None:
    """Every track is where the table says, and nothing else is."""
    table = {label: (begin, end) for label, begin, end, _ in rows}
    for label, seen in labels.survey.items():
        if label not in table:
            raise InputError(
                f"{labels.name}: the masks show track {label} (frame {seen.first}), which is not in the table"
            )
        if seen.runs != (table[label],):
            shown = ", ".join(f"{first} to {last}" for first, last in seen.runs)
            begin, end = table[label]
            raise InputError(
                f"{labels.name}: the masks show track {label} on frames {shown}, but its table says {begin} "
                f"to {end}"
            )
    missing = sorted(set(table) - set(labels.survey))
    if missing:
        raise InputError(f"{labels.name}: track {missing[0]} of the table is on no mask")


def _gaps_joined(rows: list[Row]) -> dict[int, int]:
    """Track -> the first track of the same object, for those that begin after a gap."""
    ends = {label: end for label, _, end, _ in rows}
    daughters: dict[int, int] = {}
    for *_, parent in rows:
        daughters[parent] = daughters.get(parent, 0) + 1
    same: dict[int, int] = {}
    for label, begin, _, parent in sorted(rows, key=lambda row: row[1]):
        if parent and daughters[parent] == 1 and begin > ends[parent] + 1:
            same[label] = same.get(parent, parent)
    return same


def _lookup(rows: list[Row], same: Mapping[int, int]) -> NDArray[np.uint32]:
    table = np.arange(max(label for label, *_ in rows) + 1, dtype=np.uint32)
    for label, first in same.items():
        table[label] = first
    return table


def _graph(rows: list[Row], same: Mapping[int, int]) -> nx.DiGraph:
    import networkx as nx

    lineage = nx.DiGraph()
    lineage.add_nodes_from(label for label, *_ in rows if label not in same)
    lineage.add_edges_from(
        (same.get(parent, parent), label) for label, *_, parent in rows if parent and label not in same
    )
    return lineage

"""A table of where each object was on each frame."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stacksam.errors import StorageError

if TYPE_CHECKING:
    from stacksam.session.scores import FrameScores
    from stacksam.session.session import Session
    from stacksam.session.stack import Stack

__all__ = ["write_tracks"]


def write_tracks(
    path: Path, session: Session, object_ids: Collection[int], advance: Callable[[], None]
) -> None:
    """Write a CSV table with a row for each object and frame that shows it, replacing what is there.

    Columns are ``track_id, frame, y, x, area``, the centre and area of the mask in pixels; then the same
    in the stack's units, where it tells them: ``t_minute, y_micrometer, x_micrometer, area_micrometer2``; and
    ``parent_id``, empty where the object has none.

    Parameters
    ----------
    path : Path
        Its folder must exist. The table is written beside its place and moved there when it is complete.
    session : Session
    object_ids : collection of int
    advance : callable
        Called after each object.

    Raises
    ------
    StorageError
        If it cannot be written; what was there stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow([*_header(session.stack), "parent_id"])
            parents = {daughter: parent for parent, daughter in session.lineage.edges}
            for object_id in object_ids:
                parent = str(parents.get(object_id, ""))
                table.writerows([*row, parent] for row in _rows(session.scores(object_id), session.stack))
                advance()
        part.replace(path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; nothing of it was left behind"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _header(stack: Stack) -> list[str]:
    names = ["track_id", "frame", "y", "x", "area"]
    names += [f"{axis}_{unit}" for axis, unit in zip(stack.axes_out, stack.units, strict=True) if unit]
    return [*names, f"area_{stack.units[1]}2"] if _has_area(stack) else names


def _has_area(stack: Stack) -> bool:
    return stack.units[1] is not None and stack.units[1] == stack.units[2]


def _rows(scores: FrameScores, stack: Stack) -> Iterator[list[str]]:
    steps, units = stack.spacing, stack.units
    columns = (scores.frames.tolist(), scores.area.tolist(), scores.centroid.tolist())
    for frame, area, (y, x) in zip(*columns, strict=True):
        if not area:
            continue
        row = [str(scores.object_id), str(frame), f"{y:.3f}", f"{x:.3f}", str(area)]
        places = zip((frame, y, x), steps, units, strict=True)
        row += [f"{value * step:.6g}" for value, step, unit in places if unit]
        yield [*row, f"{area * steps[1] * steps[2]:.6g}"] if _has_area(stack) else row

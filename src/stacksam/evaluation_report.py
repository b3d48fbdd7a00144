"""Figures of an evaluation as tables and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stacksam.errors import StorageError
from stacksam.evaluation_result import EvaluationRow
from stacksam.tables import Style, figure, text_table

__all__ = ["CURVE_DISTANCES", "format_curves", "format_report", "format_table", "save_json", "to_plain"]

CURVE_DISTANCES = (0, 1, 2, 4, 8)
"""Distances from the prompted frame that the table of curves shows, before the last."""


def format_table(rows: Iterable[EvaluationRow], style: Style = "markdown") -> str:
    """Rows as a table, one line each; figures that are not there show as ``-``."""
    header = (
        *("set", "method", "objects", "IoU prompted", "IoU others", "F prompted", "F others", "Dice"),
        "seconds",
    )
    body = [
        (
            row.dataset,
            row.method,
            str(row.objects),
            *map(figure, (row.iou_prompted, row.iou_others, row.boundary_prompted, row.boundary_others)),
            figure(row.dice_volume),
            f"{row.seconds:.1f}",
        )
        for row in rows
    ]
    return text_table(header, body, style, left=2)


def format_curves(rows: Iterable[EvaluationRow], style: Style = "markdown") -> str:
    """Mean IoU at some distances from the prompted frame, and at the last, a line a row.

    Rows of single images have no curve and are left out; nothing is left of nothing.
    """
    header = ("set", "method", *map(str, CURVE_DISTANCES), "last", "distance of the last")
    body = []
    for row in rows:
        found = {point.distance: point.iou for point in row.curve}
        last = max(found, default=0)
        if last:
            ious = [found.get(distance, math.nan) for distance in (*CURVE_DISTANCES, last)]
            body.append((row.dataset, row.method, *map(figure, ious), str(last)))
    return text_table(header, body, style, left=2) if body else ""


def format_report(rows: Sequence[EvaluationRow], style: Style = "markdown") -> str:
    """All that is printed of rows: their table and, below, how IoU changes with distance."""
    curves = format_curves(rows, style)
    below = f"\n\nIoU by distance in frames from the prompted one:\n\n{curves}" if curves else ""
    return format_table(rows, style) + below


def to_plain(rows: Iterable[EvaluationRow]) -> list[dict[str, Any]]:
    """All that is known of rows, curves and single objects included, for JSON; None for what is not there."""
    return [_without_nan(dataclasses.asdict(row)) for row in rows]


def save_json(rows: Iterable[EvaluationRow], path: Path) -> None:
    """Write all that is known of rows to a file.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    try:
        path.write_text(json.dumps(to_plain(rows), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; choose another place") from error


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value

"""A picture of a lineage: time goes to the right, each object is a line, divisions are forks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stacksam.errors import InputError
from stacksam.io.lineage import Spans, check_lineage, parents
from stacksam.overview_tile import BRIGHT, DIM, Rgb, colour_of, text_width, write
from stacksam.tracks.lineage import rows_of

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["lineage_tree"]

_BACKGROUND: Rgb = (18, 20, 26)
_GRID: Rgb = (44, 48, 58)
_MARGIN, _ROW, _AXIS, _TITLE = 28, 22, 30, 40
_SMALLEST_ROW = 7
_LARGEST = 4000  # pixels, of the picture's height; rows get narrower first


def lineage_tree(
    lineage: nx.DiGraph | None,
    spans: Spans,
    *,
    n_frames: int | None = None,
    title: str = "",
    width: int = 1000,
) -> NDArray[np.uint8]:
    """Draw a lineage.

    Parameters
    ----------
    lineage : networkx.DiGraph or None
        Edges from parent to daughter.
    spans : mapping of int to (int, int)
        First and last frame of each object, as from :func:`stacksam.tracks.spans_of`. Objects without
        relatives are drawn below the families.
    n_frames : int, optional
        Of the stack; by default up to the last frame of any object.
    title : str
    width : int
        Of the picture in pixels, at least 200.

    Returns
    -------
    (H, W, 3) uint8 array
        Objects have the colours that they have in an overview. With more objects than fit under each other,
        rows are narrow and without numbers.

    Raises
    ------
    InputError
        If there are no objects, the lineage does not fit the spans, or the width is too small.
    """
    if not spans:
        raise InputError("there are no objects to draw; give the first and last frame of at least one")
    if width < 200:
        raise InputError(f"width is {width}; use at least 200 pixels")
    check_lineage(lineage, spans)
    last = max([*(span[1] for span in spans.values()), (n_frames or 1) - 1])
    rows, count = rows_of(lineage, spans)
    top = _MARGIN + (_TITLE if title else 0)
    step = max(_SMALLEST_ROW, min(_ROW, (_LARGEST - top - _AXIS - _MARGIN) // count))
    sheet = Image.new("RGB", (width, top + count * step + _AXIS + _MARGIN // 2), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title:
        write(draw, (_MARGIN, 16), title, 22, BRIGHT, room=width - 2 * _MARGIN)
    named = step >= 13
    left = _MARGIN + (text_width(str(max(spans)), 12) + 8 if named else 0)
    right = width - _MARGIN

    def x(frame: float) -> float:
        """Frames are as wide as the time that they stand for; a frame begins at its number."""
        return left + (right - left) * frame / (last + 1)

    def y(object_id: int) -> float:
        return top + (rows[object_id] + 0.5) * step

    _axis(draw, last, x, top, top + count * step)
    for daughter, parent in parents(lineage).items():
        # From the parent's end to the daughter's beginning, and there up or down to its line.
        fork = x(spans[daughter][0])
        draw.line((x(spans[parent][1] + 1), y(parent), fork, y(parent)), fill=DIM, width=1)
        draw.line((fork, y(parent), fork, y(daughter)), fill=DIM, width=2)
    for object_id, (first, end) in spans.items():
        line = (x(first), y(object_id), x(end + 1), y(object_id))
        draw.line(line, fill=colour_of(object_id), width=max(2, step // 5))
    if named:
        for object_id in spans:
            text = str(object_id)
            place = (round(x(spans[object_id][0])) - text_width(text, 12) - 4, round(y(object_id)) - 8)
            write(draw, place, text, 12, colour_of(object_id))
    return np.asarray(sheet).copy()


def _axis(draw: ImageDraw.ImageDraw, last: int, x: Callable[[float], float], top: int, bottom: int) -> None:
    """Thin lines at round numbers of frames, and the numbers below."""
    room = max(1.0, (x(last + 1) - x(0)) / 70)  # so many labels have room
    rough = max(1.0, (last + 1) / room)
    power = 10 ** int(np.floor(np.log10(rough)))
    every = next(int(k * power) for k in (1, 2, 5, 10) if k * power >= rough)
    for frame in range(0, last + 1, every):
        place = round(x(frame))
        draw.line((place, top, place, bottom), fill=_GRID)
        write(draw, (place - text_width(str(frame), 12) // 2, bottom + 6), str(frame), 12, DIM)

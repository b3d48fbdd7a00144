"""A picture of a lineage: time goes to the right, each object is a line, divisions are forks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

__all__ = ["TreeLayout", "lineage_tree", "tree_layout"]

_BACKGROUND: Rgb = (18, 20, 26)
_GRID: Rgb = (44, 48, 58)
_MARGIN, _ROW, _AXIS, _TITLE = 28, 22, 30, 40
_SMALLEST_ROW = 7
_NAMED = 13  # pixels that a row needs for a number
_LARGEST = 4000  # pixels, of the picture's height; rows get narrower first


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Where the things of a tree lie in its picture; made by :func:`tree_layout`.

    Attributes
    ----------
    size : (int, int)
        Height and width of the picture in pixels.
    left, right, top, bottom : int
        Of the part that the lines are in.
    step : int
        Height of a row in pixels.
    n_frames : int
        Frames between left and right.
    rows : dict of int to float
        Row of each object, from 0.
    spans : dict of int to (int, int)
        First and last frame of each object.
    """

    size: tuple[int, int]
    left: int
    right: int
    top: int
    bottom: int
    step: int
    n_frames: int
    rows: dict[int, float]
    spans: dict[int, tuple[int, int]]

    @property
    def named(self) -> bool:
        """Whether there is room for numbers."""
        return self.step >= _NAMED

    def x(self, frame: float) -> float:
        """Frames are as wide as the time that they stand for; a frame begins at its number."""
        return self.left + (self.right - self.left) * frame / self.n_frames

    def y(self, object_id: int) -> float:
        """Middle of an object's line."""
        return self.top + (self.rows[object_id] + 0.5) * self.step

    def frame_at(self, x: float) -> int:
        """The frame at a place across, the nearest for one beside all of them."""
        frame = int((x - self.left) / (self.right - self.left) * self.n_frames // 1)
        return min(max(frame, 0), self.n_frames - 1)

    def object_at(self, x: float, y: float) -> int | None:
        """The object whose line, or number before it, is at a place; None where there is none near."""
        near = []
        for object_id, (first, last) in self.spans.items():
            aside = abs(y - self.y(object_id))
            begin = self.x(first) - (24 if self.named else 4)
            if aside <= self.step / 2 and begin <= x <= self.x(last + 1) + 4:
                near.append((aside, object_id))
        return min(near)[1] if near else None


def tree_layout(
    lineage: nx.DiGraph | None,
    spans: Spans,
    *,
    n_frames: int | None = None,
    title: str = "",
    width: int = 1000,
) -> TreeLayout:
    """Where :func:`lineage_tree` draws what; arguments and errors are the same."""
    if not spans:
        raise InputError("there are no objects to draw; give the first and last frame of at least one")
    if width < 200:
        raise InputError(f"width is {width}; use at least 200 pixels")
    check_lineage(lineage, spans)
    last = max([*(span[1] for span in spans.values()), (n_frames or 1) - 1])
    rows, count = rows_of(lineage, spans)
    top = _MARGIN + (_TITLE if title else 0)
    step = max(_SMALLEST_ROW, min(_ROW, (_LARGEST - top - _AXIS - _MARGIN) // count))
    bottom = top + count * step
    left = _MARGIN + (text_width(str(max(spans)), 12) + 8 if step >= _NAMED else 0)
    size = bottom + _AXIS + _MARGIN // 2, width
    return TreeLayout(size, left, width - _MARGIN, top, bottom, step, last + 1, rows, dict(spans))


def lineage_tree(
    lineage: nx.DiGraph | None,
    spans: Spans,
    *,
    n_frames: int | None = None,
    title: str = "",
    width: int = 1000,
    colours: Callable[[int], Rgb] = colour_of,
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
    colours : callable, optional
        Gives red, green and blue (0 to 255) of an object id; by default those of an overview.

    Returns
    -------
    (H, W, 3) uint8 array
        With more objects than fit under each other, rows are narrow and without numbers.

    Raises
    ------
    InputError
        If there are no objects, the lineage does not fit the spans, or the width is too small.
    """
    at = tree_layout(lineage, spans, n_frames=n_frames, title=title, width=width)
    sheet = Image.new("RGB", at.size[::-1], _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title:
        write(draw, (_MARGIN, 16), title, 22, BRIGHT, room=width - 2 * _MARGIN)
    _axis(draw, at.n_frames - 1, at.x, at.top, at.bottom)
    for daughter, parent in parents(lineage).items():
        # From the parent's end to the daughter's beginning, and there up or down to its line.
        fork = at.x(spans[daughter][0])
        draw.line((at.x(spans[parent][1] + 1), at.y(parent), fork, at.y(parent)), fill=DIM, width=1)
        draw.line((fork, at.y(parent), fork, at.y(daughter)), fill=DIM, width=2)
    for object_id, (first, end) in spans.items():
        line = (at.x(first), at.y(object_id), at.x(end + 1), at.y(object_id))
        draw.line(line, fill=colours(object_id), width=max(2, at.step // 5))
    if at.named:
        for object_id in spans:
            text = str(object_id)
            place = (round(at.x(spans[object_id][0])) - text_width(text, 12) - 4, round(at.y(object_id)) - 8)
            write(draw, place, text, 12, colours(object_id))
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

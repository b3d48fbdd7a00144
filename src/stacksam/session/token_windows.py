"""Where an object looks on the canvas of a whole frame: its window of tokens, from one mask to the next.

A cell covers a hundredth of a frame, and the cost of memory attention grows with what is looked at. So an
object that is small against the canvas sees a square of tokens around it. What is decided here depends on
records alone, so that doing it again gives the same windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.network.windows import Window
from stacksam.session.boxes import bbox_of
from stacksam.session.canvas import WINDOW_SIDE, object_size
from stacksam.session.records import Record
from stacksam.session.settings import Scope

__all__ = ["TokenWindows", "searched", "seen"]

SIDES = (16, 24, 32, 48)  # few, so that many objects have the same and are computed together
_SHRINK = 0.85  # a smaller side is taken when the wanted one is below this share of it
_STAY = 1.1  # the present side is kept up to this many times itself
_MARGIN = 2.0  # tokens between a mask and the border of its window
_DOUBT = 2.0  # object score (a logit) below which there may be something wrong
_SPECK = 0.02  # share of the mask below which a piece far away is no part of the object
_RECENT, _OFTEN, _SELDOM = 6, 4, 16  # a lost object is searched for every 4th frame; after 6, every 16th


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a mask lies on the canvas, in tokens."""

    y0: float
    x0: float
    y1: float
    x1: float
    size: float

    @property
    def centre(self) -> tuple[float, float]:
        return (self.y0 + self.y1) / 2, (self.x0 + self.x1) / 2


@dataclass(frozen=True, slots=True)
class TokenWindows:
    """Windows on canvases of one size.

    Attributes
    ----------
    grid : int
        Tokens along a side of the canvas.
    sides : tuple of int
        Sides that a window may have, in order; without any, every object sees the whole canvas.
    """

    grid: int
    sides: tuple[int, ...]

    @classmethod
    def of(cls, scope: Scope, grid: int) -> Self:
        """Windows as a scope allows them; in ``"auto"`` up to half the side of the canvas."""
        largest = {"full": 0, "auto": grid // 2, "window": grid - 1}[scope]
        return cls(grid, tuple(side for side in SIDES if side <= largest))

    def around(self, logits: NDArray[np.float32]) -> Window | None:
        """The window for what was found on the whole canvas; None is all of it.

        Parameters
        ----------
        logits : (4 * grid, 4 * grid) float32
            With something positive.
        """
        place = self._place(_without_specks(logits > 0), None) if self.sides else None
        if place is None:
            return None
        wanted = WINDOW_SIDE * place.size
        side = next((side for side in self.sides if side >= wanted), None)
        return None if side is None else self._at(place.centre, side)

    def after(self, previous: Record, before: Record | None) -> Window | None:
        """Where to look for an object on the next frame; None is everywhere.

        Parameters
        ----------
        previous : Record
            The object on the frame before.
        before : Record, optional
            The object one frame earlier still: it is expected to move on as it did.
        """
        wanted = self.wanted(previous, before)
        if wanted is None:
            return previous.view.window
        centre, side, _ = wanted
        return None if side is None else self._at(centre, side)

    def wanted(
        self, previous: Record, before: Record | None
    ) -> tuple[tuple[float, float], int | None, float] | None:
        """Middle and side of the window for an object on the next frame, and its present size, all in tokens.

        The middle is told from the corner of the canvas that `previous` was seen on, and may lie outside of
        it. There is no side where the object is too large for any, and nothing where it was not seen.
        """
        present = previous.view.window
        place = self._place(previous.logits > 0, present) if self.sides else None
        if place is None:
            return None
        side = self._settled(WINDOW_SIDE * place.size, self.grid if present is None else present.side)
        if side is None:
            return place.centre, None, place.size
        if present is not None and (self._is_near_border(place, present) or previous.object_score < _DOUBT):
            side = max(side, next((s for s in self.sides if s > present.side), self.sides[-1]))
        y, x = place.centre
        earlier = self._earlier(before, previous)
        if earlier is not None:
            # Not so far that what is known to be there would leave the window.
            reach = side / 4
            y += min(max(y - earlier[0], -reach), reach)
            x += min(max(x - earlier[1], -reach), reach)
        return (y, x), side, place.size

    def _earlier(self, before: Record | None, previous: Record) -> tuple[float, float] | None:
        """Middle of an earlier mask on the canvas of the previous one, if both were seen at one scale."""
        if before is None:
            return None
        now, then = previous.view, before.view
        place = self._place(before.logits > 0, then.window)
        if place is None or (now.height, now.width) != (then.height, then.width):
            return None
        y, x = place.centre
        return y + (then.y - now.y) * self.grid / now.height, x + (then.x - now.x) * self.grid / now.width

    def _settled(self, wanted: float, present: int) -> int | None:
        """The side to use, given the present one: it must not flip with every small change of the mask."""
        for side in self.sides:
            slack = _SHRINK if side < present else _STAY if side == present else 1.0
            if wanted <= slack * side:
                return side
        return None

    def _is_near_border(self, place: _Place, window: Window) -> bool:
        """Whether a mask comes near a border of its window that is not one of the canvas."""
        row, column, side = window
        return (
            (row > 0 and place.y0 < row + _MARGIN)
            or (column > 0 and place.x0 < column + _MARGIN)
            or (row + side < self.grid and place.y1 > row + side - _MARGIN)
            or (column + side < self.grid and place.x1 > column + side - _MARGIN)
        )

    def _at(self, centre: tuple[float, float], side: int) -> Window:
        row, column = (min(max(round(middle - side / 2), 0), self.grid - side) for middle in centre)
        return Window(row, column, side)

    def _place(self, mask: NDArray[np.bool_], window: Window | None) -> _Place | None:
        """Where a mask lies that is of a window or of the whole canvas; None where it is empty."""
        y0, x0, y1, x1 = bbox_of(mask)
        if y0 == y1:
            return None
        row, column, side = window or Window(0, 0, self.grid)
        cell = side / mask.shape[0]  # tokens
        return _Place(
            row + y0 * cell,
            column + x0 * cell,
            row + y1 * cell,
            column + x1 * cell,
            object_size(mask) * cell,
        )


def seen(record: Record) -> bool:
    """Whether the network saw anything of the object."""
    return bool((record.logits > 0).any())


def searched(frame: int, object_id: int, unseen: int) -> bool:
    """Whether an object that was not seen on the last `unseen` frames is looked for on the whole canvas.

    Objects take turns, so that not all of them are searched for on one frame.
    """
    return (frame + object_id) % (_OFTEN if unseen < _RECENT else _SELDOM) == 0


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask without its smallest pieces: a stray pixel must not stretch a window over the canvas."""
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return mask
    areas = np.bincount(pieces.ravel())
    kept = areas >= math.ceil(_SPECK * areas[1:].sum())
    kept[0] = False
    found: NDArray[np.bool_] = kept[pieces]
    return found

"""The native canvas: a frame at a scale that suits the object, encoded in tiles, only where objects are.

An official model squeezes a frame to 1024 pixels: a bacterium of 12 pixels on a frame of 4096 becomes 3. Here
each object has a scale of its own, chosen when it is first prompted, and is seen in a window of tokens on a
tile of the frame at that scale. Tiles overlap, so that every window lies in one as a whole, and nothing has
to be stitched. An object that crosses tiles takes its memories with it.

Tiles and windows follow from records alone, so doing it again gives the same ones; which of the tiles that
hold a window is taken also depends on the objects that are followed with it, and the record tells.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stacksam.network.windows import Window
from stacksam.session.canvas import WINDOW_SIDE, View
from stacksam.session.records import Record
from stacksam.session.token_windows import TokenWindows

__all__ = ["NativeCanvas", "centred", "placed"]

SIDES = (16, 24, 32)  # of windows, in tokens; an object that wants more is seen at a coarser scale
_FINEST = 4  # frame pixels along a token: no pixel is magnified to more than 4 x 4
_WORTH = 0.75  # of the whole frame's pixels along a token: where a tile has more, it shows no more
_STEP = 16  # tokens between the places that a tile may have
_STRIDE = 16  # input pixels along a token


@dataclass(frozen=True, slots=True)
class NativeCanvas:
    """Tiles of frames of one shape.

    Attributes
    ----------
    frame_shape : (int, int)
    size : int
        Side of a tile in pixels of the network's input.
    """

    frame_shape: tuple[int, int]
    size: int

    @property
    def grid(self) -> int:
        """Tokens along a side of a tile."""
        return self.size // _STRIDE

    @property
    def tokens(self) -> TokenWindows:
        """Windows on a tile."""
        return TokenWindows(self.grid, tuple(side for side in SIDES if side < self.grid))

    def pitch(self, size: float) -> int | None:
        """The scale at which to look at an object.

        Parameters
        ----------
        size : float
            Of the object, in frame pixels; see :func:`stacksam.session.canvas.object_size`.

        Returns
        -------
        int or None
            Frame pixels along a token, a power of two, so that many objects share a scale; 16 is the frame as
            it is. None where the whole frame shows as much.
        """
        wanted = WINDOW_SIDE * size / SIDES[0]
        pitch = max(_FINEST, 2 ** round(math.log2(max(wanted, 1.0))))
        return pitch if pitch <= self._worth else None

    @property
    def _worth(self) -> float:
        return _WORTH * max(self.frame_shape) / self.grid

    def look(self, centre: tuple[float, float], pitch: int) -> View:
        """The tile around a place ``(y, x)`` in frame pixels."""
        starts = []
        for middle, extent in zip(centre, self._extents(pitch), strict=True):
            nearest = round((middle / pitch - self.grid / 2) / _STEP) * _STEP
            starts.append(min(max(nearest, 0), max(extent - self.grid, 0)))
        return self._tile(starts[0], starts[1], pitch)

    def window(self, centre: tuple[float, float], side: int, pitch: int) -> View:
        """A window of `side` tokens around a place, on a tile that holds it."""
        tile = self.look(centre, pitch)
        row, column = (
            min(max(round((middle - start) / pitch - side / 2), 0), self.grid - side)
            for middle, start in zip(centre, (tile.y, tile.x), strict=True)
        )
        return View(tile.y, tile.x, tile.height, tile.width, self.size, window=Window(row, column, side))

    def after(self, previous: Record, before: Record | None) -> View | None:
        """Where to look for an object that was seen on a tile; None is the whole frame.

        Parameters
        ----------
        previous : Record
            The object on the frame before.
        before : Record, optional
            The object one frame earlier still.
        """
        view = previous.view
        pitch = view.height // self.grid
        wanted = self.tokens.wanted(previous, before)
        if wanted is None:
            return view
        (y, x), side, size = wanted
        centre = view.y + y * pitch, view.x + x * pitch
        if side is not None:
            return self.window(centre, side, pitch)
        while WINDOW_SIDE * size * (view.height / self.grid) / pitch > self.tokens.sides[-1]:
            pitch *= 2  # it has outgrown its scale
        return self.window(centre, self.tokens.sides[-1], pitch) if pitch <= self._worth else None

    def cover(self, views: Sequence[View]) -> list[View]:
        """The same windows on as few tiles as may be.

        Encoding a tile takes as long as following dozens of objects. The tile that holds most windows is
        taken first, then the one that holds most of the rest, and so on; of tiles that hold equally many the
        one whose middle is nearest to them.

        Parameters
        ----------
        views : sequence of View
            Of one frame; those without a window, or of the whole frame, stay as they are.

        Returns
        -------
        list of View
            In the same order.
        """
        found = list(views)
        left: dict[int, list[int]] = defaultdict(list)
        for i, view in enumerate(views):
            if view.window is not None and not view.official:
                left[view.height // self.grid].append(i)
        for pitch, several in left.items():
            holding: dict[tuple[int, int], list[int]] = defaultdict(list)
            for i in several:
                for place in self._holding(views[i], pitch):
                    holding[place].append(i)
            waiting = set(several)
            while waiting:
                place = max(
                    holding, key=lambda at: self._rank(at, [views[i] for i in holding[at] if i in waiting])
                )
                tile = self._tile(*place, pitch)
                for i in waiting.intersection(holding.pop(place)):
                    found[i] = _moved(views[i], tile, pitch)
                    waiting.discard(i)
        return found

    def _rank(self, place: tuple[int, int], views: Sequence[View]) -> tuple[float, ...]:
        """How good a tile is: the more windows, the better; then the nearer its middle is to theirs."""
        off = 0.0
        for view in views:
            row, column = _absolute(view)
            side = view.tokens
            off += math.hypot(
                row + side / 2 - place[0] - self.grid / 2, column + side / 2 - place[1] - self.grid / 2
            )
        return len(views), -off, -place[0], -place[1]

    def _holding(self, view: View, pitch: int) -> list[tuple[int, int]]:
        """First tokens (row, column) of the tiles that hold a window."""
        side = view.tokens
        ranges = []
        for at, extent in zip(_absolute(view), self._extents(pitch), strict=True):
            last = max(extent - self.grid, 0)
            starts = {*range(0, last, _STEP), last}
            ranges.append([start for start in starts if start <= at and at + side <= start + self.grid])
        return [(row, column) for row in ranges[0] for column in ranges[1]]

    def _extents(self, pitch: int) -> tuple[int, int]:
        """Tokens along the rows and columns of a frame."""
        return -(-self.frame_shape[0] // pitch), -(-self.frame_shape[1] // pitch)

    def _tile(self, row: int, column: int, pitch: int) -> View:
        extent = self.grid * pitch
        return View(row * pitch, column * pitch, extent, extent, self.size)


def _absolute(view: View) -> tuple[int, int]:
    """First row and column of a window in tokens of its scale, counted from the frame's corner."""
    pitch = view.height // (view.size // _STRIDE)
    row, column, _ = view.window or Window(0, 0, 0)
    return view.y // pitch + row, view.x // pitch + column


def _moved(view: View, tile: View, pitch: int) -> View:
    """A window as one of another tile."""
    row, column = _absolute(view)
    window = Window(row - tile.y // pitch, column - tile.x // pitch, view.tokens)
    return View(tile.y, tile.x, tile.height, tile.width, tile.size, window=window)


def centred(view: View) -> Window | None:
    """Where memory attention takes a window to be: as if it were in the middle of its tile.

    A tile ends where it happens to, so places on it mean nothing; what matters is how memories lie to what is
    seen now. In the middle there is most room for memories on all sides. None for what is not a window of a
    tile: the whole frame, whose windows have their true places, or a whole tile.
    """
    if view.window is None or view.official:
        return None
    start = (view.size // _STRIDE - view.window.side) // 2
    return Window(start, start, view.window.side)


def placed(seen: View, now: View) -> Window:
    """Where a memory lies on the grid of what is seen now.

    Exactly where it was, as long as that is on the grid and at one scale; a memory from farther away lies at
    the border of the grid, one of another scale around its true middle.

    Parameters
    ----------
    seen : View
        What the memory is of.
    now : View
        What the object sees now.
    """
    grid = now.size // _STRIDE
    row, column, side = seen.window or Window(0, 0, grid)
    own, middle = now.window, centred(now)
    shift = (0, 0) if own is None or middle is None else (middle.row - own.row, middle.column - own.column)
    if seen.canvas != now.canvas:
        top, left, height, width = seen.span
        row = round((top + height / 2 - now.y) * grid / now.height - side / 2)
        column = round((left + width / 2 - now.x) * grid / now.width - side / 2)
    row, column = (int(np.clip(at, 0, grid - side)) for at in (row + shift[0], column + shift[1]))
    return Window(row, column, side)

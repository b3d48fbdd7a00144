"""Tiles: windows of objects that lie close together, cut from one encoded picture.

To encode a picture takes as long as it is large, and the windows of a hundred cells cover a frame many
times over. Where the windows in a tile of the frame have a larger area than the tile itself, the tile is
encoded, and each object sees its window of it. Tiles lie on a fixed grid and overlap by a window, so that
every window lies in one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from stacksam.network.windows import Window
from stacksam.session.canvas import View

__all__ = ["shared"]

_SMALLEST, _LARGEST = 2, 4  # sides of tiles, in sides of windows


def shared(views: Sequence[View], frame_shape: tuple[int, int]) -> list[View]:
    """Views of one frame, as windows of tiles where that is cheaper.

    Parameters
    ----------
    views : sequence of View
        Square windows, each to be encoded alone.
    frame_shape : (int, int)

    Returns
    -------
    list of View
        The same places at the same scale, in the same order.
    """
    tiles = [_tile(view, frame_shape) for view in views]
    lying: dict[View, set[View]] = defaultdict(set)
    for view, tile in zip(views, tiles, strict=True):
        if tile is not None:
            lying[tile.canvas].add(view)
    worth = {tile for tile, inside in lying.items() if sum(v.tokens**2 for v in inside) > tile.tokens**2}
    return [
        tile if tile is not None and tile.canvas in worth else view
        for view, tile in zip(views, tiles, strict=True)
    ]


def _tile(view: View, frame_shape: tuple[int, int]) -> View | None:
    """The tile that a window lies in, and the window in it; None if it is not on the grid of tiles."""
    tokens = view.tokens
    pitch, odd = divmod(view.height, tokens)
    if odd or view.height != view.width or view.y % pitch or view.x % pitch:
        return None
    grid = [math.ceil(extent / pitch) for extent in frame_shape]
    side = min(_LARGEST * tokens, max(_SMALLEST * tokens, min(grid)))
    side += side % 2  # the trunk halves the grid of tokens once more
    row, column = (
        _start(at // pitch, extent, side, tokens) for at, extent in zip((view.y, view.x), grid, strict=True)
    )
    own = Window(view.y // pitch - row, view.x // pitch - column, tokens)
    if min(own.row, own.column) < 0 or max(own.row, own.column) + tokens > side:
        return None  # it reaches over the frame
    stride = view.size // tokens
    return View(row * pitch, column * pitch, side * pitch, side * pitch, side * stride, window=own)


def _start(at: int, extent: int, side: int, tokens: int) -> int:
    """First token of the tile for a window that starts at `at`; all are tokens along one axis."""
    if extent <= side:
        return 0
    step = side - tokens
    return min(max(at, 0) // step * step, max(extent - side, 0))

"""Windows: squares of the token grid (the *canvas*) of a frame, and what lies in them.

Whatever is computed in a window is computed at the true places of its tokens: positions are made for the
canvas and cut like the features, so that a window is to the canvas what a crop is to a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Window", "cut", "places"]


class Window(NamedTuple):
    """A square of tokens."""

    row: int
    column: int
    side: int


def cut(x: Tensor, windows: Sequence[Window] | None, scale: int = 1) -> Tensor:
    """What windows show of one picture.

    Parameters
    ----------
    x : (1, C, scale * rows, scale * columns)
    windows : sequence of Window, optional
        B windows of one side; the whole canvas by default.
    scale : int
        Cells of `x` along the side of a token.

    Returns
    -------
    (B, C, scale * side, scale * side), or (1, ...) where all windows are the same
        One row serves all objects then, as it does for the whole canvas.
    """
    if windows is None:
        return x
    parts = [
        x[
            :,
            :,
            scale * window.row : scale * (window.row + window.side),
            scale * window.column : scale * (window.column + window.side),
        ]
        for window in (windows[:1] if len(set(windows)) == 1 else windows)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def places(windows: Sequence[Window], columns: int, device: torch.device) -> Tensor:
    """Indices (N,) of the tokens that lie in windows, one window after the other; `columns` of the canvas."""
    found = []
    for row, column, side in windows:  # put together on the processor: one transfer rather than many
        steps = torch.arange(side)
        found.append(((row + steps)[:, None] * columns + column + steps).flatten())
    return torch.cat(found).to(device)

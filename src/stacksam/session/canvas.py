"""Views: which part of a frame the network looks at, and how its pixels and the network's relate.

Two kinds. The *whole* view is the frame squeezed to the model's square input, as the official predictor
does; of its canvas an object may see a window of tokens only. A *window view* is a square around one object,
magnified or shrunk to that input. All are one class, so that nothing else needs to know which it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stacksam.network.windows import Window
from stacksam.session.boxes import BBox, bbox_of

__all__ = ["PITCHES", "View", "nearest_pitch", "object_size", "whole_view", "window_view"]

WINDOW_SIDE = 4.5  # side of a window in object sizes
# Frame pixels along a token of a window. Windows of one pitch lie on one grid, so that many of them can be
# cut from one encoded picture; see `session.tiles`.
PITCHES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
_KEPT = 1.2  # a pitch is kept while the wanted one is within this ratio
_STRIDE = 16  # input pixels along a token


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle of a frame that fills the network's square input.

    Attributes
    ----------
    y, x : int
        First row and column, in frame pixels; may be negative where a window leaves the frame.
    height, width : int
        Extent in frame pixels.
    size : int
        Side of the network's input.
    official : bool
        Place points as the official predictor does, half a pixel off where it resizes.
    window : Window, optional
        The part of the canvas that the object sees, and that its mask logits are of; all by default.
    """

    y: int
    x: int
    height: int
    width: int
    size: int
    official: bool = False
    window: Window | None = None

    @property
    def canvas(self) -> View:
        """The view without its window: what is encoded."""
        return self if self.window is None else replace(self, window=None)

    @property
    def alone(self) -> View:
        """What the object sees as a view of its own, that is encoded for it alone."""
        if self.window is None:
            return self
        y, x, height, width = (round(v) for v in self.span)
        return View(y, x, height, width, self.window.side * _STRIDE, self.official)

    @property
    def span(self) -> tuple[float, float, float, float]:
        """First row, first column, height and width, in frame pixels, of what the object sees."""
        if self.window is None:
            return self.y, self.x, self.height, self.width
        row, column, side = self.window
        tokens = self.size // _STRIDE
        height, width = self.height / tokens, self.width / tokens
        return self.y + row * height, self.x + column * width, side * height, side * width

    @property
    def tokens(self) -> int:
        """Tokens along a side of what the object sees."""
        return self.size // _STRIDE if self.window is None else self.window.side

    def points(self, yx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Official ``(x, y)`` input pixels (N, 2) of frame pixels ``(y, x)`` (N, 2)."""
        scale = self.size / np.array([self.height, self.width])
        offset = 0.0 if self.official else 0.5
        moved = (yx - (self.y, self.x) + offset) * scale - offset
        return np.ascontiguousarray(moved[:, ::-1])

    def contains(self, yx: tuple[float, float], margin: float = 0.0) -> bool:
        """Whether a frame pixel lies inside, `margin` (a share of the extent) from the border."""
        top, left, height, width = self.span
        dy, dx = margin * height, margin * width
        y, x = yx[0] - top, yx[1] - left
        return dy <= y <= height - 1 - dy and dx <= x <= width - 1 - dx

    def coarser(self, step: int) -> View:
        """The same view of a frame of which every `step`-th row and column is there, to the nearest pixel."""
        y, x, height, width = (v // step for v in (self.y, self.x, self.height, self.width))
        return replace(self, y=y, x=x, height=max(height, 1), width=max(width, 1))

    def cut(self, frame: NDArray[np.float32], origin: tuple[int, int] = (0, 0)) -> Tensor:
        """The network's input (3, size, size); black outside the frame.

        Parameters
        ----------
        frame : (h, w, 3) array
            A frame, or the part of it that the view shows.
        origin : (int, int)
            Row and column of the frame that ``frame[0, 0]`` is.
        """
        if origin != (0, 0):
            return replace(self, y=self.y - origin[0], x=self.x - origin[1]).cut(frame)
        picture = torch.from_numpy(self._crop(frame)).permute(2, 0, 1)[None]
        if picture.shape[2:] != (self.size, self.size):
            mode = "bicubic" if self.official else "bilinear"
            picture = F.interpolate(
                picture, size=(self.size, self.size), mode=mode, align_corners=False, antialias=True
            ).clamp(0, 1)
        return picture[0]

    def cut_mask(self, mask: NDArray[np.bool_], origin: tuple[int, int] = (0, 0)) -> Tensor:
        """A mask (H, W), or the part of it that begins at `origin`, as zeros and ones (1, size, size)."""
        if origin != (0, 0):
            return replace(self, y=self.y - origin[0], x=self.x - origin[1]).cut_mask(mask)
        values = torch.from_numpy(self._crop(mask.astype(np.float32)))[None, None]
        if values.shape[2:] != (self.size, self.size):
            values = F.interpolate(
                values, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
        return (values[0] >= 0.5).float()

    def _crop(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, columns = array.shape[:2]
        if (self.y, self.x, self.height, self.width) == (0, 0, rows, columns):
            return np.ascontiguousarray(array)
        out = np.zeros((self.height, self.width, *array.shape[2:]), dtype=array.dtype)
        y0, x0, y1, x1 = self.inside((rows, columns))
        out[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x] = array[y0:y1, x0:x1]
        return out

    def inside(self, frame_shape: tuple[int, int]) -> BBox:
        """The part of the view that lies in the frame; empty where there is none."""
        y0, x0 = max(self.y, 0), max(self.x, 0)
        y1, x1 = min(self.y + self.height, frame_shape[0]), min(self.x + self.width, frame_shape[1])
        return y0, x0, max(y0, y1), max(x0, x1)

    def upsample(self, logits: NDArray[np.float32], bbox: BBox) -> NDArray[np.float32]:
        """Logits at frame pixels of `bbox` from the network's small ones (h, w), bilinearly."""
        y0, x0, y1, x1 = bbox
        y, x, height, width = self.span
        rows = _bilinear(y0, y1, y, height, logits.shape[0])
        columns = _bilinear(x0, x1, x, width, logits.shape[1])
        return np.asarray(rows @ logits @ columns.T, np.float32)

    def mask(
        self, logits: NDArray[np.float32], frame_shape: tuple[int, int]
    ) -> tuple[BBox, NDArray[np.bool_]]:
        """Where the logits are positive at frame resolution: tight bounding box, and the mask inside it."""
        top, left, height, width = self.span
        y0, x0, y1, x1 = self.inside(frame_shape)
        seen = (
            max(y0, math.floor(top)),
            max(x0, math.floor(left)),
            min(y1, math.ceil(top + height)),
            min(x1, math.ceil(left + width)),
        )
        rows, columns = np.nonzero(logits.max(axis=1) > 0)[0], np.nonzero(logits.max(axis=0) > 0)[0]
        if len(rows) == 0 or seen[0] >= seen[2] or seen[1] >= seen[3]:
            return (0, 0, 0, 0), np.zeros((0, 0), bool)
        cell_y, cell_x = height / logits.shape[0], width / logits.shape[1]
        box = (
            max(seen[0], math.floor(top + (rows[0] - 1) * cell_y)),
            max(seen[1], math.floor(left + (columns[0] - 1) * cell_x)),
            min(seen[2], math.ceil(top + (rows[-1] + 2) * cell_y)),
            min(seen[3], math.ceil(left + (columns[-1] + 2) * cell_x)),
        )
        mask = self.upsample(logits, box) > 0
        tight = bbox_of(mask)
        moved = (box[0] + tight[0], box[1] + tight[1], box[0] + tight[2], box[1] + tight[3])
        if tight == (0, 0, 0, 0):
            return tight, np.zeros((0, 0), bool)
        return moved, np.ascontiguousarray(mask[tight[0] : tight[2], tight[1] : tight[3]])

    def carry(self, logits: NDArray[np.float32], other: View, outside: float = -10.0) -> NDArray[np.float32]:
        """Logits (h, w) seen in this view, as `other` would show them."""
        if self == other:
            return logits
        cells = logits.shape[0]
        wanted = cells * other.tokens // self.tokens  # as many logits along a token, whatever its size

        def weights(start: float, extent: float, own: float, own_extent: float) -> NDArray[np.float32]:
            place = start + (np.arange(wanted) + 0.5) * extent / wanted - 0.5
            return _weights(place, own, own_extent, cells)

        y, x, height, width = self.span
        other_y, other_x, other_height, other_width = other.span
        rows = weights(other_y, other_height, y, height)
        columns = weights(other_x, other_width, x, width)
        out = rows @ (logits - outside) @ columns.T + outside
        return np.asarray(out, np.float32)

    def to_json(self) -> list[int]:
        """The view as a list."""
        return [self.y, self.x, self.height, self.width, self.size, int(self.official), *(self.window or ())]

    @classmethod
    def from_json(cls, data: Any) -> View:
        """Undo :meth:`to_json`."""
        y, x, height, width, size, official, *window = (int(v) for v in data)
        return cls(y, x, height, width, size, bool(official), Window(*window) if window else None)


def _bilinear(start: int, stop: int, origin: float, extent: float, cells: int) -> NDArray[np.float32]:
    """Weights (stop - start, cells) of bilinear interpolation at pixels; clamped at the border."""
    place = np.arange(start, stop, dtype=np.float64)
    low = np.clip((place + 0.5 - origin) * cells / extent - 0.5, 0, cells - 1)
    return _spread(low, cells)


def _weights(place: NDArray[np.float64], origin: float, extent: float, cells: int) -> NDArray[np.float32]:
    """As :func:`_bilinear` at any places; no weight outside the view."""
    low = (place + 0.5 - origin) * cells / extent - 0.5
    inside = (low >= -0.5) & (low <= cells - 0.5)
    return _spread(np.clip(low, 0, cells - 1), cells) * inside[:, None].astype(np.float32)


def _spread(low: NDArray[np.float64], cells: int) -> NDArray[np.float32]:
    first = np.minimum(low.astype(int), max(cells - 2, 0))
    second = np.minimum(first + 1, cells - 1)
    share = (low - first).astype(np.float32)
    weights = np.zeros((len(low), cells), np.float32)
    rows = np.arange(len(low))
    weights[rows, first] += 1 - share
    weights[rows, second] += share
    return weights


def whole_view(frame_shape: tuple[int, int], size: int) -> View:
    """The whole frame, squeezed to a square as the official predictor does."""
    return View(0, 0, frame_shape[0], frame_shape[1], size, official=True)


def window_view(centre: tuple[float, float], side: float, frame_shape: tuple[int, int], size: int) -> View:
    """A square window around `centre`, moved into the frame where it fits and no larger than the frame.

    Its side and its place are whole tokens of one of `PITCHES`, so that it may reach over the last rows and
    columns of a frame by less than a token. A window as large as the frame shows just the frame.

    Parameters
    ----------
    centre : tuple of float
        ``(y, x)`` in frame pixels.
    side : float
        Wanted side in frame pixels.
    frame_shape : (int, int)
    size : int
        Side of the network's input.
    """
    tokens = size // _STRIDE
    pitch = nearest_pitch(side / tokens)
    pixels = tokens * pitch
    if pixels >= max(frame_shape):
        pitch, pixels = 1, max(frame_shape)

    def origin(middle: float, extent: int) -> int:
        if pixels >= extent:  # the frame fits: centre it
            return -((pixels - extent) // 2 // pitch) * pitch
        start = round((middle + 0.5 - pixels / 2) / pitch) * pitch
        return min(max(start, 0), -(-(extent - pixels) // pitch) * pitch)

    return View(origin(centre[0], frame_shape[0]), origin(centre[1], frame_shape[1]), pixels, pixels, size)


def nearest_pitch(wanted: float, present: int | None = None) -> int:
    """The one of `PITCHES` that is nearest; the present one as long as it is near enough.

    Parameters
    ----------
    wanted : float
        Frame pixels along a token.
    present : int, optional
        Of an object that is followed: memories were seen at that scale, so it changes slowly, too.
    """
    if present is None or present not in PITCHES:
        return min(PITCHES, key=lambda pitch: abs(math.log(pitch / wanted)))
    place = PITCHES.index(present)
    if wanted > _KEPT * present:
        return PITCHES[min(place + 1, len(PITCHES) - 1)]
    if wanted * _KEPT < present:
        return PITCHES[max(place - 1, 0)]
    return present


def object_size(mask: NDArray[np.bool_]) -> float:
    """Size in pixels by which windows are chosen: between the root of the area and the longest side."""
    y0, x0, y1, x1 = bbox_of(mask)
    return float(max(math.sqrt(mask.sum()), 0.6 * max(y1 - y0, x1 - x0)))

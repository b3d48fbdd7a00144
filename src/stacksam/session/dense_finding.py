"""Proposals of ``nano``: places from its dense head, masks from its decoder, at the scale that suits.

The dense head tells of every cell (4 x 4 pixels of the input) whether it belongs to an object, and where that
object's centre is. The cells vote for centres, as in Hough voting (Leibe et al., 2008), and each place with
enough votes is taken for a click: the decoder says what is there, and how good its own mask is. The head is
weak and finds too much, the decoder sorts it out: on procedural clips at the right scale, a click on every
16th pixel finds no more objects than the head's places do, in ten times as long.

``nano`` was trained on windows of 4.5 object sizes, so all of this works at one scale at a time. `best_pitch`
compares a ladder of scales: where the scale is right, masks are large together, believed in, and of the size
that the scale is for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.network.windows import Window
from stacksam.session.boxes import BBox, intersection
from stacksam.session.canvas import PITCHES, WINDOW_SIDE, View, nearest_pitch
from stacksam.session.compose import fill_small_holes
from stacksam.session.encoder import Encoder, quiet
from stacksam.session.judge import stability
from stacksam.session.models import Model
from stacksam.session.proposals import Proposal, suppress
from stacksam.session.stack import Stack

__all__ = ["DenseFinder", "pitch_of", "size_of"]

_STRIDE = 16  # input pixels along a token
_CELLS = 4  # cells of the dense head along a token
_OFFSET = 8  # cells that an offset of one is, as in training
_TILE = 64  # tokens along a side of what is encoded at once
_SPREAD = 1.5  # cells by which votes are smoothed
_APART = 4  # cells between two places
_VOTES = 0.5  # cells that vote for a place at least, after smoothing
_ROUND = math.sqrt(math.pi) / 2  # object size (root of the area) of a disc, in diameters
_PLACE = 256  # side of the parts of a frame, in pixels, on which scales are compared
_PLACES = 2
_FINE = 46  # tokens along a side of such a part, at most: at fine scales its middle is enough
_WORSE, _FAR_WORSE = 0.85, 0.5  # shares of the best, at which twice, or once, the search for finer ones ends
_WIDEST = 1.25  # side of a window in sides of the frame, at most
_LEAST = 0.02  # share of the picture that an estimate covers at least

Guard = Callable[[], AbstractContextManager[object]]


def pitch_of(size: float) -> int:
    """Frame pixels along a token that suit objects of a diameter in pixels."""
    return nearest_pitch(size * _ROUND * WINDOW_SIDE / _STRIDE)


def size_of(pitch: int) -> float:
    """Diameter in pixels of the objects that a pitch suits."""
    return pitch * _STRIDE / WINDOW_SIDE / _ROUND


@dataclass(frozen=True, slots=True)
class _Tile:
    """A part of the frame that is encoded at once, and the part of it whose places count."""

    view: View
    core: BBox  # frame pixels


class DenseFinder:
    """Looks for all objects of a frame with a model that has a dense head.

    Parameters
    ----------
    model : Model
    stack : Stack
    encoder : Encoder
    guard : callable
        Gives a context manager to be in while the encoder is used.
    """

    def __init__(self, model: Model, stack: Stack, encoder: Encoder, guard: Guard) -> None:
        self._model, self._stack, self._encoder, self._guard = model, stack, encoder, guard
        self._tokens = model.config.image_size // _STRIDE

    def find(self, frame: int, region: BBox, pitch: int, min_score: float) -> list[Proposal]:
        """Proposals of one frame, tile by tile; also at the next coarser scale, for what is larger.

        Parameters
        ----------
        frame : int
        region : (int, int, int, int)
            Where to look, in frame pixels.
        pitch : int
            Of `PITCHES`.
        min_score : float
            Least score of a proposal.
        """
        found: list[Proposal] = []
        coarser = [scale for scale in _ladder(self._stack.frame_shape) if scale >= 1.3 * pitch]
        for scale in (pitch, *coarser[:1]):
            for proposals in self._look(frame, region, scale, min_score):
                found += suppress(proposals)
        return suppress(found)

    def best_pitch(self, frame: int, region: BBox, min_score: float) -> int | None:
        """The scale of the objects on a frame; None where no scale shows any.

        Each scale is tried on the same few parts of the region, those of most contrast. It is worth the
        pixels that its masks cover, each mask weighed by its score and by how well its size fits the scale.
        On 40 procedural clips the masks at the scale chosen so had a mean F1 of 0.67, those at the scale of
        the true median size 0.71. Windows much larger than the frame are left out, for there the network
        likes to take all of the frame for one object (0.59).

        Parameters
        ----------
        frame, region, min_score
            As for :meth:`find`.
        """
        places = self._places(frame, region)
        best, pitch, worse = _LEAST, None, 0
        for scale in reversed(_ladder(self._stack.frame_shape)):
            parts = [_middle(place, _FINE * scale) for place in places]
            area = sum((y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in parts)
            worth = sum(self._worth(frame, part, scale, min_score) for part in parts) / area
            if worth > best:
                best, pitch = worth, scale
            worse = worse + 1 if worth < _WORSE * best else 0
            if pitch is not None and (worse == 2 or worth < _FAR_WORSE * best):
                break
        return pitch

    def _worth(self, frame: int, place: BBox, pitch: int, min_score: float) -> float:
        """Pixels of a part of the frame that masks cover, weighed."""
        wanted = pitch * _STRIDE / WINDOW_SIDE
        worth = 0.0
        for proposal in suppress(p for some in self._look(frame, place, pitch, min_score) for p in some):
            part = intersection(proposal.bbox, place)
            if part is not None:
                y, x = proposal.bbox[:2]
                inside = proposal.mask[part[0] - y : part[2] - y, part[1] - x : part[3] - x]
                misfit = math.log(math.sqrt(proposal.area) / wanted)
                worth += np.count_nonzero(inside) * proposal.score * math.exp(-(misfit**2))
        return worth

    def _places(self, frame: int, region: BBox) -> list[BBox]:
        """Parts of a region on which scales are compared: all of a small one, else those of most contrast."""
        y0, x0, y1, x1 = region
        height, width = min(_PLACE, y1 - y0), min(_PLACE, x1 - x0)
        rows, columns = -(-(y1 - y0) // height), -(-(x1 - x0) // width)
        if rows * columns == 1:
            return [region]
        found: list[tuple[float, BBox]] = []
        for row in range(rows):
            for column in range(columns):
                y = y0 + row * (y1 - y0 - height) // max(rows - 1, 1)
                x = x0 + column * (x1 - x0 - width) // max(columns - 1, 1)
                # A coarse look is enough, and of a large frame all that is read.
                view = View(y, x, max(height, width), max(height, width), 64)
                with self._guard():
                    seen = self._encoder.cut(frame, view)
                found.append((-float(seen.mean(dim=0).std()), (y, x, y + height, x + width)))
        return [place for _, place in sorted(found)[:_PLACES]]

    def _look(self, frame: int, region: BBox, pitch: int, min_score: float) -> Iterator[list[Proposal]]:
        """Proposals of each tile at one scale; there are duplicates among them."""
        for tile in _tiles(self._stack.frame_shape, region, pitch, self._tokens):
            seeds = self._seeds(frame, tile)
            with self._guard():
                looks = [self._window(tile.view, yx) for yx in seeds]
                window = looks[0][0] if looks else tile.view
                found = self._encoder.in_chunks(
                    looks, window, lambda some: self._click(frame, some, min_score)
                )
            yield [proposal for some in found for proposal in some]

    @quiet
    def _seeds(self, frame: int, tile: _Tile) -> list[tuple[float, float]]:
        """Places ``(y, x)`` in frame pixels that many cells of a tile take for the centre of their object."""
        view = tile.view
        with self._guard():
            features = self._encoder.features(frame, [view])
            with self._encoder.computing():
                told = self._model.network.propose(features)[0].float().cpu().numpy()
        cell = view.height / told.shape[1]
        place = (np.arange(told.shape[1]) + 0.5) * cell - 0.5
        height, width = self._stack.frame_shape
        rows, columns = view.y + place, view.x + place
        there = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
        votes = _votes(there / (1 + np.exp(-told[0])), told[2:])
        highest = votes == ndimage.maximum_filter(votes, 2 * _APART + 1)
        y0, x0, y1, x1 = tile.core
        found = [(float(rows[r]), float(columns[c])) for r, c in np.argwhere(highest & (votes > _VOTES))]
        return [(y, x) for y, x in found if y0 <= y < y1 and x0 <= x < x1]

    def _window(self, tile: View, yx: tuple[float, float]) -> tuple[View, tuple[float, float]]:
        """The window of a tile with a place in its middle, as far as the tile reaches."""
        pitch, most = tile.height // (tile.size // _STRIDE), tile.size // _STRIDE - self._tokens
        row, column = (
            min(max(round((at + 0.5 - start) / pitch - self._tokens / 2), 0), most)
            for at, start in zip(yx, (tile.y, tile.x), strict=True)
        )
        window = Window(row, column, self._tokens)
        return View(tile.y, tile.x, tile.height, tile.width, tile.size, window=window), yx

    @quiet
    def _click(
        self, frame: int, looks: Sequence[tuple[View, tuple[float, float]]], min_score: float
    ) -> list[list[Proposal]]:
        """What the decoder says to a click on each place: up to three masks that it believes in."""
        network, device = self._model.network, self._model.device
        features = self._encoder.features(frame, [view for view, _ in looks])
        points = torch.from_numpy(np.stack([v.alone.points(np.array([yx], np.float64)) for v, yx in looks]))
        labels = torch.ones(len(looks), 1, dtype=torch.long, device=device)
        with self._encoder.computing():
            top = network.unconditioned(features)
            masks = network.decode_masks(features, top, points.float().to(device), labels, candidates=True)
        iou = masks.iou.float().cpu().numpy()
        good = iou >= min_score
        logits = {(i, k): masks.logits[i, k].float().cpu().numpy() for i, k in np.argwhere(good).tolist()}
        found: list[list[Proposal]] = [[] for _ in looks]
        for (i, k), own in logits.items():
            proposal = self._proposal(frame, looks[i][0], own, float(iou[i, k]))
            if proposal is not None:
                found[i].append(proposal)
        return found

    def _proposal(self, frame: int, view: View, logits: NDArray[np.float32], score: float) -> Proposal | None:
        """A mask in frame pixels; None where it is empty, or cut off by the window."""
        height, width = self._stack.frame_shape
        inside = logits > 0
        y, x, extent, _ = view.span
        cut = (
            (y > 0 and inside[0].any())
            or (x > 0 and inside[:, 0].any())
            or (y + extent < height and inside[-1].any())
            or (x + extent < width and inside[:, -1].any())
        )
        if cut:
            return None
        bbox, mask = view.mask(logits, (height, width))
        if not mask.any():
            return None
        return Proposal(frame, bbox, fill_small_holes(mask, 0.05 * mask.sum()), score, stability(logits))


def _votes(weights: NDArray[np.floating], offsets: NDArray[np.floating]) -> NDArray[np.float64]:
    """How many cells (h, w) take each cell for the centre of their object, smoothed.

    Parameters
    ----------
    weights : (h, w) float
        How far each cell belongs to an object, 0 to 1.
    offsets : (2, h, w) float
        From each cell to its centre (y, x), as the dense head gives it.
    """
    rows, columns = weights.shape
    voters = weights > 0.05
    y, x = np.nonzero(voters)
    to_y = np.clip(np.rint(y + _OFFSET * offsets[0][voters]), 0, rows - 1).astype(int)
    to_x = np.clip(np.rint(x + _OFFSET * offsets[1][voters]), 0, columns - 1).astype(int)
    counts = np.bincount(to_y * columns + to_x, weights[voters], rows * columns).reshape(rows, columns)
    smoothed: NDArray[np.float64] = ndimage.gaussian_filter(counts, _SPREAD)
    return smoothed


def _middle(box: BBox, side: int) -> BBox:
    """The middle of a box, of at most this side."""
    y0, x0, y1, x1 = box
    dy, dx = max(0, y1 - y0 - side) // 2, max(0, x1 - x0 - side) // 2
    return y0 + dy, x0 + dx, y1 - dy, x1 - dx


def _ladder(frame_shape: tuple[int, int]) -> list[int]:
    """Pitches that objects of a frame may have, in steps of some 1.5, from the finest on."""
    chosen: list[int] = []
    for pitch in PITCHES:
        if (not chosen or pitch >= 1.3 * chosen[-1]) and pitch * _STRIDE <= _WIDEST * max(frame_shape):
            chosen.append(pitch)
    return chosen or [PITCHES[0]]


def _tiles(frame_shape: tuple[int, int], region: BBox, pitch: int, window: int) -> Iterator[_Tile]:
    """Tiles that cover a region at one scale, each place in the core of exactly one.

    A core is half a window from the border of its tile, but for the frame's own border, so that a window
    around any place in it lies in the tile.
    """
    margin = window // 2
    spans = []
    for axis in (0, 1):
        grid = math.ceil(frame_shape[axis] / pitch)
        first = max(region[axis] // pitch - margin, 0)
        spans.append((first, min(-(-region[axis + 2] // pitch) + margin, grid), grid))
    side = min(_TILE, max(window, *(last - first for first, last, _ in spans)))
    side += side % 2  # the trunk halves the grid of tokens once more
    starts = [_starts(*span, side, window) for span in spans]
    for row, low_y, high_y in starts[0]:
        for column, low_x, high_x in starts[1]:
            view = View(row * pitch, column * pitch, side * pitch, side * pitch, side * _STRIDE)
            core = (
                max(region[0], low_y * pitch),
                max(region[1], low_x * pitch),
                min(region[2], high_y * pitch),
                min(region[3], high_x * pitch),
            )
            yield _Tile(view, core)


def _starts(first: int, last: int, grid: int, side: int, window: int) -> list[tuple[int, int, int]]:
    """First token of each tile along an axis, and where its core begins and ends."""
    if last - first <= side:
        begin = max(0, min(first, grid - side)) if grid > side else -((side - grid) // 2)
        return [(begin, -side, grid + side)]
    count = math.ceil((last - first - window) / (side - window))
    begins = [first + round(i * (last - first - side) / (count - 1)) for i in range(count)]
    bounds = [-side, *((a + side + b) // 2 for a, b in pairwise(begins)), grid + side]
    return [(begin, low, high) for begin, (low, high) in zip(begins, pairwise(bounds), strict=True)]

"""Where to look: windows for prompts, for what was found, and for objects that move on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import match_template
from torch import Tensor

from stacksam.network.prompt_encoder import BOX_FIRST, BOX_SECOND, NEGATIVE, POSITIVE
from stacksam.session.boxes import bbox_of
from stacksam.session.canvas import WINDOW_SIDE, View, nearest_pitch, object_size, window_view
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.records import Record

__all__ = ["Windows", "as_points", "box_size", "corners", "displacement"]

_CLICK_SIDES = 1.6  # ratio of neighbouring window sides that are tried for a click
_LARGEST_CLICK = 4096  # pixels; an object of a quarter of that needs a box, so that a click reads no more
_REACH = 0.8  # how far an object is expected to move between frames, in its sizes
_MOVED = 0.1  # gain in correlation from which on it is taken to have moved
_SETTLED = 1.15  # a window within this ratio of the wanted side is not chosen again


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows on frames of one shape.

    Attributes
    ----------
    frame_shape : (int, int)
    size : int
        Side of the network's input.
    """

    frame_shape: tuple[int, int]
    size: int

    def at(self, centre: tuple[float, float], side: float) -> View:
        """A window around a place ``(y, x)``, of about this side in frame pixels."""
        return window_view(centre, side, self.frame_shape, self.size)

    def of_mask(self, mask: Mask) -> View:
        """The window for a painted mask."""
        y0, x0, y1, x1 = mask.bbox
        return self.at(((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2), WINDOW_SIDE * object_size(mask.painted))

    def of_box(self, box: Box) -> View:
        """The window for an object that a box was drawn around."""
        y0, x0, y1, x1 = box.yxyx
        return self.at(((y0 + y1) / 2, (x0 + x1) / 2), WINDOW_SIDE * box_size(box))

    def around(self, prompts: Sequence[Point | Box], previous: Record) -> View:
        """A window over the present mask and prompts that fell outside the present window."""
        places = [yx for p in prompts for yx in corners(p)]
        y0, x0, y1, x1 = previous.bbox
        if previous.mask.any():
            places += [(float(y0), float(x0)), (y1 - 1.0, x1 - 1.0)]
        ys, xs = [c[0] for c in places], [c[1] for c in places]
        extent = max(max(ys) - min(ys), max(xs) - min(xs)) + 1
        side = max(previous.view.alone.height if previous.mask.any() else 0, 1.6 * extent)
        return self.at(((min(ys) + max(ys)) / 2, (min(xs) + max(xs)) / 2), side)

    def ladder(self, middle: tuple[float, float], near: Record | None) -> list[View]:
        """Windows to try for an object that was clicked on: of sides like its window in `near`, or of all."""
        largest = float(min(max(self.frame_shape), _LARGEST_CLICK))
        if near is not None and near.mask.any():
            side = near.view.alone.height
            sides = [side / _CLICK_SIDES, float(side), side * _CLICK_SIDES]
        else:
            count = max(1, int(np.ceil(np.log(max(largest / 40, 1)) / np.log(_CLICK_SIDES))) + 1)
            sides = [min(40 * _CLICK_SIDES**k, largest) for k in range(count)]
        return list(dict.fromkeys(self.at(middle, side) for side in sides))

    def recentred(self, record: Record, middle: tuple[float, float]) -> View:
        """A window of the right side around what was found; the present one where that is much the same."""
        view = record.view
        if not record.mask.any():
            return view
        side = WINDOW_SIDE * object_size(record.mask)
        moved = np.abs(np.subtract(_centre(record), _middle(view))).max() > 0.1 * view.height
        if not moved and 1 / _SETTLED < side / view.height < _SETTLED:
            return view
        fresh = self.at(_centre(record), side)
        return fresh if fresh.contains(middle) else view

    def after(self, previous: Record, move: tuple[int, int]) -> View:
        """Where to look for an object that was last seen in `previous` and moved since."""
        old = previous.view.alone
        if not previous.mask.any():
            return self.at(_middle(old), old.height)
        tokens = old.tokens
        wanted = WINDOW_SIDE * object_size(previous.mask) / tokens
        y, x = _centre(previous)
        return self.at((y + move[0], x + move[1]), tokens * nearest_pitch(wanted, old.height // tokens))


def displacement(
    inside: NDArray[np.bool_], before: NDArray[np.float32], now: NDArray[np.float32]
) -> tuple[int, int]:
    """How far (y, x) the object seems to have moved between two pictures of one window, in their pixels.

    Normalised cross-correlation of the object as it was with what the window shows now, weighed by
    distance: look-alikes are common, and near ones are likelier.

    Parameters
    ----------
    inside : (n, n) bool
        The object before.
    before, now : (n, n) float32
    """
    cells = inside.shape[0]
    y0, x0, y1, x1 = bbox_of(inside)
    y0, x0, y1, x1 = max(y0 - 2, 0), max(x0 - 2, 0), min(y1 + 2, cells), min(x1 + 2, cells)
    template = before[y0:y1, x0:x1]
    if template.size == 0 or float(np.ptp(template)) < 1e-3 or float(np.ptp(now)) < 1e-3:
        return 0, 0
    match = match_template(now, template)  # type: ignore[no-untyped-call]
    dy, dx = np.arange(match.shape[0])[:, None] - y0, np.arange(match.shape[1])[None] - x0
    reach = _REACH * object_size(inside)
    weighed = match * np.exp(-0.5 * (dy**2 + dx**2) / reach**2)
    row, column = np.unravel_index(int(weighed.argmax()), match.shape)
    if weighed[row, column] < match[y0, x0] + _MOVED:
        return 0, 0
    return int(row) - y0, int(column) - x0


def box_size(box: Box) -> float:
    """Size in pixels of an object that a box was drawn around; see `object_size`."""
    y0, x0, y1, x1 = box.yxyx
    height, width = y1 - y0 + 1, x1 - x0 + 1
    return max(0.87 * float(np.sqrt(height * width)), 0.6 * max(height, width))


def corners(prompt: Point | Box) -> list[tuple[float, float]]:
    """Places ``(y, x)`` that a prompt names."""
    if isinstance(prompt, Point):
        return [prompt.yx]
    y0, x0, y1, x1 = prompt.yxyx
    return [(y0, x0), (y1, x1)]


def as_points(view: View, prompts: Sequence[Point | Box]) -> tuple[Tensor, Tensor]:
    """Points (1, N, 2) and labels (1, N) of prompts; the newest box comes first, as in training."""
    places: list[tuple[float, float]] = []
    labels: list[int] = []
    boxes = [p for p in prompts if isinstance(p, Box)]
    if boxes:
        places += corners(boxes[-1])
        labels += [BOX_FIRST, BOX_SECOND]
    for prompt in prompts:
        if isinstance(prompt, Point):
            places.append(prompt.yx)
            labels.append(POSITIVE if prompt.positive else NEGATIVE)
    points = view.points(np.array(places, np.float64).reshape(-1, 2))
    return torch.from_numpy(points)[None].float(), torch.tensor([labels])


def _centre(record: Record) -> tuple[float, float]:
    y0, x0, y1, x1 = record.bbox
    return (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2


def _middle(view: View) -> tuple[float, float]:
    return view.y + (view.height - 1) / 2, view.x + (view.width - 1) / 2

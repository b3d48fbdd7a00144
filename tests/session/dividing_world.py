"""A made time-lapse of two cells of which one divides, and a predictor that sees it as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from random_model import DiscPredictor

from stacksam.session.boxes import bbox_of
from stacksam.session.prompts import Point

SIDE, N, DIVIDES = 64, 8, 4
SHAPE = SIDE, SIDE
MOTHER, STILL = (26.0, 32.0), (50.0, 30.0)
"""Places (y, x) on frame 0."""


def _disc(y, x, radius):
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def truth(frame):
    """A mother (1) that divides into 2 and 3 on frame 4, above a cell (4) that does not."""
    found = np.zeros(SHAPE, np.int32)
    found[_disc(STILL[0], STILL[1] + frame / 2, 6)] = 4
    if frame < DIVIDES:
        found[_disc(*MOTHER, 9)] = 1
        return found
    gap = 7.5 + 0.5 * (frame - DIVIDES)
    found[_disc(MOTHER[0], MOTHER[1] - gap, 6)] = 2
    found[_disc(MOTHER[0], MOTHER[1] + gap, 6)] = 3
    return found


TRUTH = np.stack([truth(frame) for frame in range(N)])


def images():
    """Frames (T, H, W) that show it."""
    noise = np.random.default_rng(0).normal(0, 0.02, TRUTH.shape)
    return ((TRUTH > 0) + noise).astype(np.float32)


class Seeing(DiscPredictor):
    """Masks are the cells that the mask before lies on, so a mother's falls into two parts."""

    def follow(self, frame, requests, step):
        found = super().follow(frame, requests, step)
        if self.stack.frame_shape != SHAPE:
            return found
        return [
            self._seen(one, request.previous, frame) for one, request in zip(found, requests, strict=True)
        ]

    def candidates(self, object_id, frame, prompts, *rest, **options):
        found = super().candidates(object_id, frame, prompts, *rest, **options)
        last = prompts[-1]
        if not isinstance(last, Point) or self.stack.frame_shape != SHAPE:  # as where a model is timed
            return found
        label = TRUTH[frame][round(last.yx[0]), round(last.yx[1])]
        return [_with_mask(one, TRUTH[frame] == label) if label else one for one in found]

    @staticmethod
    def _seen(record, before, frame):
        y0, x0, y1, x1 = before.bbox
        inside = TRUTH[frame][y0:y1, x0:x1][before.mask]
        return _with_mask(record, np.isin(TRUTH[frame], np.unique(inside[inside > 0])))


def _with_mask(record, mask):
    y0, x0, y1, x1 = box = bbox_of(mask)
    return replace(record, bbox=box, mask=mask[y0:y1, x0:x1])

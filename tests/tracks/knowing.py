"""In place of a Predictor: one that knows the true volumes, in both directions of frames.

It follows whatever its last mask covers. A parent that has divided becomes both daughters, and daughters
become their parent where time goes back; so what is tested is what is made of masks, not how good they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from random_model import DiscPredictor

from stacksam.session.boxes import bbox_of
from stacksam.session.prompts import Mask, Point


class Oracle(DiscPredictor):
    truth = np.zeros((1, 1, 1, 1), int)  # (T, Z, H, W)
    daughters: ClassVar[dict] = {}  # of parents

    def _labels(self, frame):
        at = {axis: self.stack.at.get(axis, 0) for axis in "tz"} | {self.stack.frame_axis: frame}
        return self.truth[at["t"], at["z"]]

    def _shown(self, record, mask):
        box = bbox_of(mask) if mask.any() else (0, 0, 0, 0)
        return replace(record, bbox=box, mask=mask[box[0] : box[2], box[1] : box[3]].copy())

    def candidates(self, object_id, frame, prompts, previous, choice, near, *, all_three):
        found = super().candidates(object_id, frame, prompts, previous, choice, near, all_three=all_three)
        if isinstance(prompts[-1], Mask):
            return found
        last = prompts[-1]
        place = last.yx if isinstance(last, Point) else np.reshape(last.yxyx, (2, 2)).mean(axis=0)
        y, x = (round(float(v)) for v in place)
        labels = self._labels(frame)
        return [self._shown(one, labels == labels[y, x]) for one in found]

    def follow(self, frame, requests, step):
        found = []
        for request, record in zip(requests, super().follow(frame, requests, step), strict=True):
            before = request.previous
            y0, x0, y1, x1 = before.bbox
            under = self._labels(before.frame)[y0:y1, x0:x1][before.mask]
            ids = set(np.unique(under[under > 0]).tolist())
            if self.stack.frame_axis == "t":
                parents = {d: p for p, own in self.daughters.items() for d in own}
                related = {d for i in ids for d in self.daughters.get(i, ())}
                related |= {parents[i] for i in ids if i in parents} if step < 0 else set()
                ids |= related
            found.append(self._shown(record, np.isin(self._labels(frame), sorted(ids))))
        return found

"""Sessions with an official kind of model whose answers a test decides.

The network is a small one of random weights, run as it is; only its mask is replaced by a disc where the test
says that the object is, or by nothing where it is not, or not in what was looked at. Pointers, scores and
memories stay the network's, so that results still tell which memories and windows they came from.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from random_model import CONFIG, CPU, random_network

from stacksam.network.sam2 import Sam2
from stacksam.session.models import Model
from stacksam.session.predictor import Predictor
from stacksam.session.prompts import Point

GRID = 32
OFFICIAL = replace(CONFIG, image_size=16 * GRID, dense_prompts=False, carry_mask=False, dense_head=False)
SEEN, ABSENT = 5.0, -5.0


@lru_cache
def official_model() -> Model:
    """A model of the official kind, which sees frames as 32 x 32 tokens."""
    network = Sam2(OFFICIAL).eval().requires_grad_(False)
    known, shapes = random_network().state_dict(), network.state_dict()
    shared = {name: known[name] for name, own in shapes.items() if known[name].shape == own.shape}
    network.load_state_dict(shapes | shared)
    return Model(network, "random", "digest", CPU, torch.float32, windowed=False)


class World:
    """Where objects are, and what was looked at.

    Attributes
    ----------
    places : dict
        By object id: a function of the frame that gives ``(y, x, radius)`` in pixels, or None.
    looks : list
        Object id, frame and window of each answer.
    """

    def __init__(self, monkeypatch):
        self.places = {}
        self.looks = []
        world, make = self, Predictor._record

        def record(self, object_id, frame, view, masks, row, k, **how):
            world.looks.append((object_id, frame, view.window))
            logits = masks.logits.clone()
            logits[row, k] = world.logits(object_id, frame, view)
            score = masks.object_score.clone()
            score[row] = 9.0 if (logits[row, k] > 0).any() else -9.0
            shown = masks._replace(logits=logits, object_score=score)
            return make(self, object_id, frame, view, shown, row, k, **how)

        monkeypatch.setattr(Predictor, "_record", record)

    def logits(self, object_id, frame, view):
        top, left, height, width = view.span
        cells = 4 * view.tokens
        place = (np.arange(cells) + 0.5) / cells
        rows, columns = top + place * height - 0.5, left + place * width - 0.5
        y, x, radius = self.places[object_id](frame) or (0, 0, 0)
        distance = (rows[:, None] - y) ** 2 + (columns[None] - x) ** 2
        return torch.from_numpy(np.where(distance < radius**2, SEEN, ABSENT)).float()


def still(y, x, radius=8):
    return lambda _: (y, x, radius)


def moving(y, x, dy, dx, radius=8):
    return lambda frame: (y + dy * frame, x + dx * frame, radius)


def click(world, object_id, frame=0):
    y, x, _ = world.places[object_id](frame)
    return Point(frame, object_id, (y, x))

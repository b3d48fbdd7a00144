"""Stand-ins: a controller without a window, a predictor that paints discs, a dock on a viewer without one."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for desk
sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model

from desk import Desk
from napari.components import ViewerModel
from random_model import DiscPredictor, random_model

from stacksam.plugin.widget import StacksamWidget


@pytest.fixture
def discs(monkeypatch):
    """Sessions whose predictor paints discs."""
    monkeypatch.setattr("stacksam.session.session.Predictor", DiscPredictor)
    monkeypatch.setattr("stacksam.plugin.controller.load_model", lambda *_, **__: random_model())


@pytest.fixture
def desk(discs):
    desk = Desk()
    yield desk
    assert desk.controller.shut_down(30)


@pytest.fixture
def slow(monkeypatch):
    """Makes the predictor wait at each frame that it follows, until it is let go on."""

    class Gate:
        def __init__(self) -> None:
            self.arrived = threading.Semaphore(0)
            self.let = threading.Semaphore(0)
            self.open = False

        def free(self) -> None:
            self.open = True
            self.let.release(1000)

    gate = Gate()
    follow = DiscPredictor.follow

    def held(self, frame, requests, step):
        gate.arrived.release()
        if not gate.open:
            assert gate.let.acquire(timeout=30)
        return follow(self, frame, requests, step)

    monkeypatch.setattr(DiscPredictor, "follow", held)
    return gate


@pytest.fixture
def dock(discs, qtbot):
    """The dock, on a viewer that has no window, with an image of 8 frames."""
    viewer = ViewerModel()
    made = StacksamWidget(viewer)
    qtbot.addWidget(made)
    y, x = np.mgrid[:64, :64]
    frame = np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / 50).astype(np.float32)
    viewer.add_image(np.stack([frame] * 8), name="blob")
    yield made
    assert made.controller.shut_down(30)

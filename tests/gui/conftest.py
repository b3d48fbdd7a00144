"""A napari window on a virtual display, and a robot that sits at its mouse and keyboard."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for robot
sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model

from random_model import DiscPredictor, random_model
from robot import SECONDS, Robot


@pytest.fixture(scope="session", autouse=True)
def _unfrozen():
    """Leave what was imported out of the many collections of garbage that look for widgets left behind."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def viewer(make_napari_viewer):
    """A napari window that is shown."""
    shown = make_napari_viewer(show=True)
    shown.window.resize(1200, 700)
    return shown


@pytest.fixture
def robot(qtbot, viewer):
    """The window and who uses it; what is open at the end is closed as a person would."""
    made = Robot(qtbot, viewer)
    yield made
    made.leave()


class Gate:
    """Lets a predictor through, or holds it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.waiting = threading.Event()
        self.passed = 0

    def hold(self, after: int = 0) -> None:
        """Let so many pass, and hold the next one."""
        self.waiting.clear()
        self.left = after
        self._open.clear()

    def release(self) -> None:
        """Let all through."""
        self._open.set()

    def go_through(self) -> None:
        """Wait while it is closed; called where something is computed."""
        if not self._open.is_set() and self.left > 0:
            self.left -= 1
        else:
            if not self._open.is_set():
                self.waiting.set()
            assert self._open.wait(SECONDS), "the gate was not opened again"
        self.passed += 1


@pytest.fixture
def gate(monkeypatch):
    """Sessions whose predictor paints discs around what was clicked, at once, unless the gate holds it.

    The model is a tiny one of random weights.
    """
    made = Gate()

    class Held(DiscPredictor):
        def answer(self, *arguments):
            made.go_through()
            return super().answer(*arguments)

        def follow(self, *arguments):
            made.go_through()
            return super().follow(*arguments)

    monkeypatch.setattr("stacksam.session.session.Predictor", Held)
    monkeypatch.setattr("stacksam.plugin.controller.load_model", lambda *_, **__: random_model())
    yield made
    made.release()


@pytest.fixture
def blobs():
    """A stack of 8 frames of 64 by 64 pixels, with two blobs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    frames = rng.normal(0, 0.1, (8, 64, 64))
    for cy, cx in ((20, 20), (44, 40)):
        frames += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 50)
    return frames.astype(np.float32)


@pytest.fixture
def started(robot, gate, blobs):
    """The robot, with a session on the blobs that computes nothing."""
    robot.viewer.add_image(blobs, name="blobs")
    robot.start()
    robot.show_frame(0)
    return robot


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark all tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("gui")

"""A napari window on a virtual display, and a robot that sits at its mouse and keyboard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for robot

from robot import Robot


@pytest.fixture
def viewer(make_napari_viewer):
    """A napari window that is shown."""
    shown = make_napari_viewer(show=True)
    shown.window.resize(1300, 900)
    return shown


@pytest.fixture
def robot(qtbot, viewer):
    """The window and who uses it; what is open at the end is closed as a person would."""
    made = Robot(qtbot, viewer)
    yield made
    made.leave()

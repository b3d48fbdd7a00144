"""What was opened is gone when it is closed: threads, widgets, layers, sessions, memory."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import psutil
import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QWidget
from robot import Robot, threads, workers

HERE = (20.0, 20.0)


def memory() -> float:
    """Resident memory in MB, once what can be freed is free."""
    clean()
    return psutil.Process(os.getpid()).memory_info().rss / 1e6


def clean() -> None:
    for _ in range(3):
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QApplication.processEvents()
        gc.collect()


def widgets() -> list[QWidget]:
    """Widgets of ours that are alive."""
    return [w for w in QApplication.allWidgets() if type(w).__module__.startswith("stacksam")]


def visit(robot: Robot) -> list[weakref.ref]:
    """Open the dock, click, follow, and close it; what must be gone afterwards."""
    if robot.dock is None:
        robot.open_dock()
    robot.start()
    robot.show_frame(0)
    if not robot.prompts:
        robot.click(HERE)
        robot.wait(lambda: len(robot.prompts) == 1)
        robot.follow()
    robot.press("Control-Z")
    robot.wait_for_word("Undone")
    robot.press("Control-Shift-Z")
    robot.wait_for_word("Done again")
    robot.settle()
    dock = robot.dock
    kept = [dock, dock.controller, dock.layers, dock.controller.session, dock.bridge, *dock.layers.all]
    found = [weakref.ref(one) for one in kept]
    del dock, kept
    robot.close_dock()
    return found


def left(found: list[weakref.ref]) -> list[object]:
    """Those that are still there; napari lets go of the layers a little later."""
    clean()
    return [ref() for ref in found if ref() is not None]


def more(before: list[threading.Thread]) -> list[str]:
    """Names of the threads that were not there before, but for zarr's pool, which fills up and stays."""
    pool = [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]
    assert len(pool) <= min(32, (os.cpu_count() or 1) + 4)
    return [t.name for t in threading.enumerate() if t not in before and t not in pool]


def test_a_dock_that_is_closed_is_gone(robot, gate, blobs):
    image = robot.viewer.add_image(blobs, name="blobs")
    bound = len(image.keymap)
    for _ in range(2):
        found = visit(robot)
        robot.wait(lambda refs=found: not left(refs))
        assert threads() == []
        assert widgets() == []
        assert list(robot.viewer.layers) == [image]
        assert len(image.keymap) == bound


@pytest.mark.slow
def test_opening_and_closing_twenty_times_leaves_nothing(robot, gate, blobs):
    robot.viewer.add_image(blobs, name="blobs")
    found = [ref for _ in range(4) for ref in visit(robot)]
    others, before = threading.enumerate(), memory()
    for _ in range(20):
        found += visit(robot)
    robot.wait(lambda: not left(found))
    assert more(others) == []
    assert widgets() == []
    grown = memory() - before
    assert grown < 40


@pytest.mark.slow
def test_ten_passes_leave_nothing(robot, gate, blobs):
    robot.viewer.add_image(blobs, name="blobs")
    robot.start()
    robot.click(HERE)
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()

    def once() -> None:
        robot.follow()
        robot.press("Control-Z")
        robot.wait_for_word("Undone: following")
        robot.settle()

    for _ in range(3):
        once()
    others, before = threading.enumerate(), memory()
    for _ in range(10):
        once()
    assert more(others) == []
    assert len(workers()) == 1
    grown = memory() - before
    assert grown < 20

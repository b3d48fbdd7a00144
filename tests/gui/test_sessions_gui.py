"""What was done before is found again."""

from __future__ import annotations

import pytest
from napari.layers import Labels
from random_model import random_model

HERE, THERE = (20.0, 20.0), (44.0, 40.0)


@pytest.fixture
def done(started, monkeypatch):
    """The robot, with an object that was clicked and followed."""
    monkeypatch.setattr("stacksam.plugin.widget.digest_of", lambda _: random_model().digest)
    started.click(HERE)
    started.wait(lambda: len(started.prompts) == 1)
    started.settle()
    started.follow()
    return started


def test_saved_work_is_told_of_before_start_and_gone_on_with(done, blobs):
    robot = done
    robot.close_dock()
    robot.viewer.layers.clear()
    robot.open_dock()
    other = robot.viewer.add_image(blobs[::-1], name="other")
    robot.wait(lambda: "Look how the image is read" in robot.dock.next_step.text())
    robot.viewer.layers.remove(other)
    robot.viewer.add_image(blobs, name="blobs")
    robot.wait(lambda: "Work on this image is saved" in robot.dock.next_step.text())
    robot.start()
    robot.wait_for_word("Continued where it was left: 1 object")
    robot.show_frame(0)
    robot.click((22.0, 22.0))  # which refines it
    robot.wait(lambda: len(robot.prompts) == 2)
    assert {prompt.object_id for prompt in robot.prompts} == {1}


def test_a_session_file_shows_its_labels_once(robot, gate):
    robot.viewer.open_sample("napari-stacksam", "timelapse")
    folder = robot.start().folder
    assert folder.name.startswith("timelapse-")
    robot.click((58.0, 61.0))
    robot.wait(lambda: len(robot.prompts) == 1)
    (prompt,) = robot.prompts
    robot.settle()
    robot.close_dock()
    robot.viewer.layers.clear()
    robot.open_dock()
    robot.viewer.open(str(folder / "session.json"), plugin="napari-stacksam")
    read = next(layer for layer in robot.viewer.layers if isinstance(layer, Labels))
    assert read.visible
    robot.start()
    assert robot.session.folder == folder
    assert not read.visible
    assert robot.dock.layers.result.visible
    robot.show_frame(prompt.frame)
    assert robot.seen(1).any()

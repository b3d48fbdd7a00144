"""A person follows two cells, accepts a division by key, looks at the tree, and exports for the challenge."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QComboBox, QLabel, QLineEdit, QPushButton

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for dividing_world

from dividing_world import DIVIDES, MOTHER, STILL, TRUTH, N, Seeing, images
from random_model import random_model

from stacksam.io.ctc import read_ctc
from stacksam.plugin.colors import color_of
from stacksam.plugin.exporting import What


@pytest.fixture
def followed(robot, monkeypatch):
    """The robot, which has clicked a cell that divides and one that does not, and followed them."""
    monkeypatch.setattr("stacksam.session.session.Predictor", Seeing)
    monkeypatch.setattr("stacksam.plugin.controller.load_model", lambda *_, **__: random_model())
    robot.viewer.add_image(images(), name="cells")
    robot.start()
    robot.show_frame(0)
    for object_id, place in ((1, MOTHER), (2, STILL)):
        if object_id > 1:
            robot.press("N")
        robot.click(place)
        robot.wait(lambda own=object_id: robot.seen(own).any())
    robot.settle()
    robot.follow()
    robot.wait(lambda: robot.dock.lineage.divisions.looked)
    return robot


def test_a_division_is_accepted_looked_at_and_exported(followed, tmp_path):
    robot, panel = followed, followed.dock.lineage_part
    assert "1 division to decide on" in robot.dock.next_step.text()
    robot.press("D")
    robot.wait(lambda: robot.frame == DIVIDES)
    robot.wait(lambda: "Does object 1 divide here?" in robot.dock.next_step.text())
    daughters_are_outlined(robot)
    robot.press("Y")
    robot.wait_for_word("Object 1 divides into 3 and 4 on frame 4")
    robot.settle()
    assert panel.list.isHidden()
    robot.press("Control-Z")
    robot.wait_for_word("Undone: division")
    robot.wait(panel.list.isVisible)
    robot.reach(panel.list)
    robot.click_in(panel.list.viewport(), panel.list.visualItemRect(panel.list.item(0)).center())
    robot.wait(panel.accept.isEnabled)
    robot.push(panel.accept)
    robot.wait_for_word("Object 1 divides into 3 and 4")
    robot.settle()
    robot.follow()
    labels = robot.labels()
    for own, cell in ((1, 1), (2, 4), (3, 2), (4, 3)):
        assert np.array_equal(labels == own, cell == TRUTH) or np.array_equal(
            labels == 7 - own, cell == TRUTH
        )
    look_at_tree(robot)
    export(robot, tmp_path, labels)


def daughters_are_outlined(robot) -> None:
    """In the colours that they will have: one beside the left daughter, one beside the right one."""

    def seen() -> bool:
        picture = robot.picture().astype(int)[..., :3]
        colors = [np.round(255 * np.array(color_of(i)[:3])).astype(int) for i in (3, 4)]
        return all((np.abs(picture - color).max(axis=-1) < 60).sum() > 20 for color in colors)

    robot.wait(seen)


def look_at_tree(robot) -> None:
    """Open the tree, and click a daughter's line in it."""
    panel = robot.dock.lineage_part
    robot.push(panel.tree)
    tree = robot.dock.lineage.tree
    robot.wait(tree.isVisible)
    at = tree.picture.layout_
    place = QPoint(round(at.x(N - 1.5)), round(at.y(4)))
    robot.click_in(tree.picture, place)
    robot.wait(lambda: robot.dock.controller.current == 4 and robot.frame == N - 2)
    drawn = tree.picture.grab().toImage().pixelColor(round(at.x(5.2)), round(at.y(4)))
    wanted = np.round(255 * np.array(color_of(4)[:3]))
    assert np.abs(np.array([drawn.red(), drawn.green(), drawn.blue()]) - wanted).max() < 40
    tree.close()


def export(robot, folder: Path, labels: np.ndarray) -> None:
    """Export for the Cell Tracking Challenge, which has the links."""
    panel = robot.dock.export_part
    box = next(box for box in panel.findChildren(QComboBox) if box.findData("ctc") >= 0)
    robot.choose(box, "ctc")
    for kind, choice in panel._what.items():
        if choice.isChecked() != (kind == What.OTHER):
            robot.push(choice, QPoint(8, choice.height() // 2))
    robot.type(panel.findChild(QLineEdit), str(folder))
    robot.wait(lambda: panel.plan().folder == folder)
    go = next(button for button in panel.findChildren(QPushButton) if button.text() == "Export")
    robot.push(go)
    robot.wait(lambda: any("written." in label.text() for label in panel.findChildren(QLabel)))
    back = read_ctc(folder / "cells-ctc")
    assert set(back.lineage.edges) == {(1, 3), (1, 4)}
    for frame in range(N):
        assert np.array_equal(back.labels.frame(frame), labels[frame])

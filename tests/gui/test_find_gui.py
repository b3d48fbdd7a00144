"""A person has all cells of a time-lapse found, compares them with the truth, and takes them back."""

from __future__ import annotations

import numpy as np
import tifffile

from stacksam import assets
from stacksam.plugin.contributions import sample_timelapse


def test_all_cells_are_found_by_a_click_compared_and_taken_back(robot):
    ((data, about, _),) = sample_timelapse()
    about.pop("metadata")
    robot.viewer.add_image(data[:2], **about)
    truth = tifffile.imread(assets.sample("timelapse").with_name("timelapse_labels.tif"))[:2]
    session = robot.start()
    robot.show_frame(0)
    panel, table = robot.dock.find_part, robot.dock.objects_part._model
    robot.push(panel.find)
    robot.wait(panel.outcome.isVisible)
    robot.settle()
    n = len(session.object_ids)
    assert n >= 7
    assert table.rowCount() == n
    assert set(np.unique(robot.labels()[0])) == {0, *session.object_ids}
    assert f"{n} objects of about" in panel.outcome.text()
    assert "µm) found on frame 0; Ctrl-Z takes them back" in panel.outcome.text()
    robot.press("Shift-F")  # they are not found twice
    robot.wait(lambda: "No further object" in panel.outcome.text())
    robot.settle()
    assert len(session.object_ids) == n
    robot.follow()
    assert robot.dock.controller.current in session.object_ids
    robot.viewer.add_labels(truth, name="truth", scale=about["scale"], units=about["units"])
    compare = robot.dock.compare_part
    robot.push(compare.fold)
    robot.push(compare.go)
    robot.wait(compare.table.isVisible)
    shown = {compare.table.item(r, 0).text(): float(compare.table.item(r, 1).text()) for r in range(5)}
    assert list(shown) == ["Mean IoU", "F1 at IoU 0.5", "DET", "SEG", "TRA"]
    assert shown["F1 at IoU 0.5"] > 0.6
    robot.viewer.layers.selection.active = robot.image
    for _ in range(2):  # following, and what was found
        robot.press("Control-Z")
        robot.settle()
    assert session.object_ids == ()
    assert table.rowCount() == 0
    assert not robot.labels().any()
    assert robot.dock.controller.current == 1

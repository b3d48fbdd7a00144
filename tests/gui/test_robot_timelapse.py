"""A person follows three cells of the sample time-lapse, corrects one, accepts, comes back, and exports."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from robot import iou, threads
from stacksam import assets
from stacksam.plugin.contributions import sample_timelapse

def test_first(robot):
    (data, about, _), = sample_timelapse()
    truth = tifffile.imread(assets.sample("timelapse").with_name("timelapse_labels.tif"))
    robot.viewer.add_image(data, **about)
    robot.start()
    robot.show_frame(0)
    for n, label in enumerate((1, 4, 7)):
        ys, xs = np.nonzero(truth[0] == label)
        yx = (float(np.median(ys)), float(np.median(xs)))
        if n: robot.press("N")
        before = robot.color_at(yx)
        robot.click(yx)
        robot.wait(lambda: robot.seen(n+1).any())
        robot.settle()
        print(label, iou(robot.seen(n+1), truth[0]==label), before, robot.color_at(yx))
    print(robot.told)
    robot.push(robot.dock.follow_part.go)
    robot.wait(lambda: len(robot.session.frames_of(1))>5)
    robot.viewer.screenshot("/tmp/p/F/q.png", canvas_only=False, flash=False)
    robot.press("Escape")
    robot.followed()
    print(robot.told, [len(robot.session.frames_of(i)) for i in (1,2,3)])

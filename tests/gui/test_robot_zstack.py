"""A person draws a box around a nucleus in the middle of the sample z-stack, and follows it both ways."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from robot import Robot, iou

from stacksam import assets, replay
from stacksam.plugin.colors import color_of
from stacksam.plugin.contributions import sample_zstack
from stacksam.plugin.exporting import FileFormat
from stacksam.session.prompts import Box

LABEL, MIDDLE = 1, 9  # the nucleus in the truth, and its largest frame
MARGIN = 2.0


@pytest.fixture(scope="module")
def truth():
    path = assets.sample("zstack")
    return tifffile.imread(path.with_name("zstack_labels.tif")) == LABEL


def draw_box(robot: Robot, mask: np.ndarray) -> tuple[float, ...]:
    """Drag a box around a mask; its corners (y0, x0, y1, x1) as meant."""
    y, x = np.nonzero(mask)
    corners = (y.min() - MARGIN, x.min() - MARGIN), (y.max() + MARGIN, x.max() + MARGIN)
    robot.drag(*corners)
    return *corners[0], *corners[1]


def colored(robot: Robot, object_id: int) -> int:
    """How many pixels of the picture have the hue of an object."""
    picture = robot.picture()[..., :3].astype(float)
    color = np.array(color_of(object_id)[:3])
    strength = np.linalg.norm(picture, axis=-1)
    angle = picture @ color / np.maximum(strength * np.linalg.norm(color), 1e-9)
    return int(((angle > 0.97) & (strength > 60) & (np.ptp(picture, axis=-1) > 40)).sum())


def test_a_box_is_dragged_and_followed_both_ways(robot, truth):
    ((data, about, _),) = sample_zstack()
    about.pop("metadata")
    part = slice(MIDDLE - 2, MIDDLE + 3)
    robot.viewer.add_image(data[part], **about)
    session = robot.start()
    robot.show_frame(2)
    robot.press("Shift-R")
    wanted = draw_box(robot, truth[MIDDLE])
    robot.wait(lambda: robot.seen(1).any())
    robot.settle()
    (box,) = robot.prompts
    assert isinstance(box, Box)
    assert box.yxyx == pytest.approx(wanted, abs=1.0)  # a pixel of the screen is smaller than one of these
    robot.follow()
    assert session.frames_of(1) == (0, 1, 2, 3, 4)
    assert iou(robot.labels() == 1, truth[part]) > 0.85
    robot.press("Control-Y")
    assert robot.viewer.dims.ndisplay == 3
    robot.wait(lambda: colored(robot, 1) > 500)
    robot.press("Control-Y")
    assert robot.viewer.dims.ndisplay == 2
    assert robot.told == []


@pytest.mark.slow
def test_a_person_works_through_the_zstack(robot, truth, tmp_path):
    ((data, about, _),) = sample_zstack()
    layer = robot.viewer.add_image(data, **about)
    session = robot.start()
    folder = session.folder
    robot.show_frame(MIDDLE)
    robot.push(robot.dock.prompt_part.tools["box"])
    assert colored(robot, 1) == 0
    draw_box(robot, truth[MIDDLE])
    robot.wait(lambda: robot.seen(1).any())
    robot.settle()
    assert iou(robot.seen(1), truth[MIDDLE]) > 0.85
    assert colored(robot, 1) > 500
    robot.follow()
    labels = robot.labels()
    assert set(session.frames_of(1)) == set(range(24))
    assert iou(labels == 1, truth) > 0.75
    for own in robot.dock.layers.all:
        assert np.array_equal(own.scale, layer.scale)
        assert own.units == layer.units
        assert own.axis_labels == layer.axis_labels
    see_in_3d(robot)
    robot.export(tmp_path / "zarr", FileFormat.OME_ZARR)
    (written,) = (tmp_path / "zarr").iterdir()
    group = zarr.open_group(written, mode="r")
    assert np.array_equal(np.asarray(group["0"]), labels)
    (scales,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
    robot.close_dock()
    with replay(folder / "session.json") as again:
        assert np.array_equal(again.labels[...], labels)


def see_in_3d(robot: Robot) -> None:
    """Look at the volume, and turn it."""
    robot.press("Control-Y")
    assert robot.viewer.dims.ndisplay == 3
    robot.wait(lambda: colored(robot, 1) > 500)
    before = robot.viewer.scene.camera.angles
    here = robot.canvas.rect().center()
    robot.press("4")  # napari's key for moving the camera
    robot.drag_in(robot.canvas, [here, here * 0.7])
    assert robot.viewer.scene.camera.angles != before
    assert colored(robot, 1) > 500
    robot.press("Control-Y")
    assert robot.viewer.dims.ndisplay == 2

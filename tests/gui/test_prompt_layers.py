"""Prompts in their layers: made, moved, deleted, drawn and painted by hand, and shown as they are."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from robot import iou
from skimage.draw import polygon2mask

from stacksam.session.prompts import Box, Mask, Point

HERE, THERE = (20.0, 20.0), (44.0, 40.0)


def disc(yx, radius=5.0):
    y, x = np.ogrid[:64, :64]
    return (y - yx[0]) ** 2 + (x - yx[1]) ** 2 <= radius**2


def click(robot, yx):
    """Click, and wait for the answer."""
    before = len(robot.prompts)
    robot.click(yx)
    robot.wait(lambda: len(robot.prompts) == before + 1)
    robot.settle()


def places(robot):
    """Points of the session, in whole pixels."""
    return [(p.object_id, *(round(v) for v in p.yx), p.positive) for p in robot.prompts]


# --- points ------------------------------------------------------------------------------------------------


def test_a_point_is_moved_by_dragging(started):
    robot = started
    click(robot, HERE)
    assert iou(robot.seen(1), disc(HERE)) > 0.8
    robot.press("3")  # napari's key for selecting points
    robot.drag(HERE, (32.0, 28.0), THERE)
    robot.wait(lambda: places(robot) == [(1, 44, 40, True)])
    robot.settle()
    assert iou(robot.seen(1), disc(THERE)) > 0.8
    assert robot.n_shown() == (1, 0)
    while places(robot) != [(1, 20, 20, True)]:
        robot.press("Control-Z")
        robot.wait_for_word("Undone")
    assert iou(robot.seen(1), disc(HERE)) > 0.8
    assert robot.n_shown() == (1, 0)
    assert np.round(robot.dock.layers.points.data).tolist() == [[0, 20, 20]]


def test_a_point_is_deleted(started):
    robot = started
    click(robot, HERE)
    click(robot, THERE)
    robot.press("3")
    robot.click(HERE)
    robot.press("Delete")
    robot.wait(lambda: places(robot) == [(1, 44, 40, True)])
    robot.settle()
    assert robot.n_shown() == (1, 0)
    robot.click(THERE)
    robot.press("Delete")
    robot.wait(lambda: robot.prompts == ())
    robot.settle()
    assert robot.dock.controller.state.objects == ()  # with its last prompt an object is gone
    assert not robot.seen(1).any()
    robot.press("Control-Z")
    robot.wait(lambda: places(robot) == [(1, 44, 40, True)])
    robot.settle()
    assert robot.n_shown() == (1, 0)
    assert robot.seen(1).any()


def test_an_image_that_is_moved_takes_its_points_and_masks_along(started):
    robot = started
    click(robot, HERE)
    robot.image.scale, robot.image.translate = (1, 2, 2), (0, 30, -20)
    robot.viewer.reset_view()
    robot.see_color((20.0, 24.0), 1)
    robot.press("N")
    click(robot, THERE)
    assert places(robot) == [(1, 20, 20, True), (2, 44, 40, True)]
    assert iou(robot.seen(2), disc(THERE)) > 0.8
    robot.see_color((44.0, 44.0), 2)


def test_keys_say_what_the_next_point_is(started):
    robot = started
    signs = robot.dock.prompt_part.signs
    click(robot, HERE)
    assert signs[True].isChecked()
    robot.press("T")
    assert signs[False].isChecked()
    click(robot, (30.0, 20.0))
    robot.push(signs[True])
    assert signs[True].isChecked()
    robot.press("N")
    click(robot, THERE)
    assert places(robot) == [(1, 20, 20, True), (1, 30, 20, False), (2, 44, 40, True)]
    points = robot.dock.layers.points
    assert [str(symbol) for symbol in points.symbol] == ["disc", "x", "disc"]
    assert np.allclose(points.face_color[0], points.face_color[1])
    assert not np.allclose(points.face_color[0], points.face_color[2])
    robot.press("Alt-Up")
    assert robot.dock.controller.current == 1
    robot.press("Alt-Down")
    assert robot.dock.controller.current == 2
    robot.press("Alt-Down")
    assert robot.dock.controller.current == 2  # there is none after it


def test_an_object_is_made_current_by_its_row_and_by_new(started):
    robot = started
    click(robot, HERE)
    robot.push(robot.dock.prompt_part.new)
    click(robot, THERE)
    assert places(robot) == [(1, 20, 20, True), (2, 44, 40, True)]
    robot.press("Alt-Up")
    click(robot, (24.0, 20.0))
    assert [p.object_id for p in robot.prompts] == [1, 1, 2]


def test_a_second_click_does_not_wait_for_the_first(started, gate):
    robot = started
    gate.hold()
    robot.click(HERE)
    robot.wait(gate.waiting.is_set)
    assert robot.dock.prompt_part.busy.text() == "Looking …"
    for yx in ((24.0, 20.0), (20.0, 24.0)):  # two more, while the first is being answered
        before = robot.n_shown()[0]
        robot.click(yx)
        robot.wait(lambda n=before: robot.n_shown()[0] == n + 1)
    assert robot.prompts == ()
    gate.release()
    robot.wait(lambda: len(robot.prompts) == 3)
    robot.settle()
    assert robot.n_shown() == (3, 0)
    assert robot.session.history == ("add", "add")  # the later two were answered together
    assert robot.dock.prompt_part.busy.text() != "Looking …"
    assert robot.told == []


def test_a_click_beside_the_image_is_refused(started):
    robot = started
    robot.click((-4.0, 20.0))
    robot.wait_for_word("lies outside “blobs”")
    robot.settle()
    assert robot.n_shown() == (0, 0)
    assert robot.prompts == ()
    click(robot, HERE)
    assert robot.n_shown() == (1, 0)


def test_points_on_other_frames_are_kept_apart(started):
    robot = started
    click(robot, HERE)
    robot.show_frame(3)
    click(robot, THERE)
    assert [(p.frame, p.object_id) for p in robot.prompts] == [(0, 1), (3, 1)]
    robot.press("Alt-Left")
    robot.wait(lambda: robot.frame == 0)
    robot.press("Alt-Right")
    robot.wait(lambda: robot.frame == 3)


def test_candidates_are_cycled(started):
    robot = started
    click(robot, HERE)
    sizes = [robot.seen(1).sum()]
    for _ in range(3):
        robot.press("C")
        robot.wait_for_word("Reading")
        robot.settle()
        sizes.append(robot.seen(1).sum())
    assert len(set(sizes)) == 3
    assert sizes[3] == sizes[0]
    robot.push(robot.dock.prompt_part.another)
    robot.wait_for_word("Reading 2 of 3")


def test_a_reading_without_a_prompt_is_refused(started):
    started.press("C")
    started.wait_for_word("error: Next reading: there is no object 1")


# --- boxes and outlines ------------------------------------------------------------------------------------


def test_a_box_is_drawn_moved_and_deleted(started):
    robot = started
    robot.press("Shift-R")
    robot.drag((10.0, 12.0), (30.0, 28.0))
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()
    assert robot.prompts[0].yxyx == pytest.approx((10, 12, 30, 28), abs=0.2)
    assert robot.n_shown() == (0, 1)
    robot.press("5")  # napari's key for selecting shapes
    robot.drag(HERE, (26.0, 30.0), (40.0, 40.0))
    robot.wait(lambda: len(robot.prompts) == 1 and robot.prompts[0].yxyx[0] > 20)
    robot.settle()
    assert isinstance(robot.prompts[0], Box)
    assert robot.prompts[0].yxyx == pytest.approx((30, 32, 50, 48), abs=0.3)
    assert robot.n_shown() == (0, 1)
    assert iou(robot.seen(1), disc((40, 40))) > 0.8
    robot.click((40.0, 40.0))
    robot.press("Delete")
    robot.wait(lambda: robot.prompts == ())
    robot.settle()
    assert robot.n_shown() == (0, 0)


def test_a_click_with_the_box_tool_makes_nothing(started):
    robot = started
    robot.press("Shift-R")
    robot.click(HERE)
    robot.wait(lambda: robot.n_shown() == (0, 0))
    assert robot.prompts == ()
    assert robot.told == []


def test_a_box_may_reach_over_the_border(started):
    robot = started
    robot.press("Shift-R")
    robot.drag((-2.0, 10.0), (20.0, 30.0))
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()
    assert robot.prompts[0].yxyx == pytest.approx((0, 10, 20, 30), abs=0.5)
    robot.drag((-6.0, 10.0), (-2.0, 30.0))
    robot.wait_for_word("lies outside “blobs”")
    robot.settle()
    assert robot.n_shown() == (0, 1)


@pytest.mark.parametrize(("key", "place"), [("Shift-R", 1), ("Shift-W", 0)])
def test_the_tool_stays_in_hand_after_undo(started, key, place):
    robot = started
    robot.press(key)

    def make():
        before = len(robot.prompts)
        if place == 1:
            robot.drag((10.0, 12.0), (30.0, 28.0))
        else:
            robot.click(HERE)
        robot.wait(lambda: len(robot.prompts) == before + 1)
        robot.settle()

    make()
    robot.press("Control-Z")
    robot.wait(lambda: robot.prompts == ())
    robot.settle()
    assert robot.n_shown() == (0, 0)
    make()
    assert robot.n_shown()[place] == 1


def test_an_outline_is_drawn_and_taken_as_it_is(started):
    robot = started
    robot.press("Shift-S")
    path = [(10.0, 10.0), (10.0, 30.0), (25.0, 30.0), (25.0, 10.0), (11.0, 10.0)]
    robot.drag(*path, steps=10)
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()
    assert isinstance(robot.prompts[0], Mask)
    assert iou(robot.seen(1), polygon2mask((64, 64), path)) > 0.85  # its border is half of a pixel wide
    assert robot.n_shown() == (0, 0)  # an outline is a mask from then on
    robot.press("N")
    robot.drag((40.0, 40.0), (40.0, 55.0), (55.0, 55.0), (55.0, 41.0), steps=10)
    robot.wait(lambda: len(robot.prompts) == 2)
    robot.settle()
    assert robot.dock.controller.state.object_ids == (1, 2)
    assert robot.told == []


def test_an_outline_is_drawn_between_two_clicks(started):
    """The way of napari's lasso with a mouse: no button is held meanwhile."""
    robot = started
    robot.press("Shift-S")
    path = [(10.0, 10.0), (10.0, 30.0), (25.0, 30.0), (25.0, 10.0), (12.0, 10.0)]
    robot.click(path[0])
    for yx in path[1:]:
        robot.hover(yx)
        robot.settle()  # a person is slow
    robot.click(path[-1])
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()
    assert iou(robot.seen(1), polygon2mask((64, 64), path)) > 0.85
    assert robot.n_shown() == (0, 0)


# --- paint -------------------------------------------------------------------------------------------------


def test_a_mask_is_painted_and_mended(started):
    robot = started
    click(robot, HERE)
    found = robot.seen(1)
    robot.press("Shift-B")
    paint = robot.dock.layers.paint
    assert np.array_equal(np.asarray(paint.data[0]) != 0, found)  # the brush mends what is there
    paint.brush_size = 4
    robot.drag((20.0, 30.0), (20.0, 40.0))
    robot.wait(lambda: any(isinstance(p, Mask) for p in robot.prompts))
    robot.settle()
    more = robot.seen(1)
    assert more[found].all()
    assert more[20, 31:39].all()
    robot.press("1")  # napari's key for the eraser
    robot.drag((20.0, 33.0), (20.0, 41.0), steps=10)
    robot.wait(lambda: not robot.seen(1)[20, 36])
    robot.settle()
    assert robot.seen(1)[found].all()
    robot.press("Control-Z")
    robot.wait_for_word("Undone: prompt")
    assert np.array_equal(robot.seen(1), more)
    robot.wait(lambda: np.array_equal(np.asarray(paint.data[0]) != 0, more))


def test_a_new_object_is_painted_on_an_empty_brush(started):
    robot = started
    click(robot, HERE)
    robot.press("Shift-B")
    robot.press("N")
    assert not np.asarray(robot.dock.layers.paint.data[0]).any()
    robot.drag((44.0, 36.0), (44.0, 46.0))
    robot.wait(lambda: robot.dock.controller.state.object_ids == (1, 2))
    robot.settle()
    assert robot.seen(2)[44, 37:45].all()
    robot.show_frame(1)
    assert not np.asarray(robot.dock.layers.paint.data[1]).any()
    robot.show_frame(0)
    robot.wait(lambda: np.asarray(robot.dock.layers.paint.data[0])[44, 40])


def test_a_second_stroke_does_not_wait_for_the_first(started, gate):
    robot = started
    robot.press("Shift-B")
    robot.dock.layers.paint.brush_size = 4
    gate.hold()
    robot.drag((20.0, 10.0), (20.0, 20.0))
    robot.wait(gate.waiting.is_set)
    robot.drag((40.0, 10.0), (40.0, 20.0))
    gate.release()
    robot.wait(lambda: robot.seen(1)[40, 15])
    robot.settle()
    for y in (20, 40):
        assert robot.seen(1)[y, 11:19].all()
    robot.drag((50.0, 10.0), (50.0, 20.0))
    robot.wait(lambda: robot.seen(1)[50, 15])
    robot.settle()
    for y in (20, 40, 50):
        assert robot.seen(1)[y, 11:19].all()


def test_a_mask_that_is_wiped_off_stays_and_says_so(started):
    robot = started
    robot.press("Shift-B")
    paint = robot.dock.layers.paint
    paint.brush_size = 6
    robot.click(HERE)
    robot.wait(lambda: robot.seen(1).any())
    robot.settle()
    robot.press("1")
    paint.brush_size = 20
    robot.click(HERE)
    robot.wait_for_word("is empty; paint at least one pixel")
    robot.settle()
    assert robot.seen(1).any()
    assert np.array_equal(np.asarray(paint.data[0]) != 0, robot.seen(1))  # the brush shows what holds


def test_a_tool_that_is_chosen_in_napari_itself_is_taken_up(started):
    robot = started
    click(robot, HERE)
    found, layers = robot.seen(1), robot.dock.layers
    layers.paint.visible = True
    robot.viewer.layers.selection.active = layers.paint
    layers.paint.mode = "erase"
    assert layers.tool == "paint"
    assert robot.dock.prompt_part.tools["paint"].isChecked()
    assert layers.paint.mode == "erase"
    assert np.array_equal(np.asarray(layers.paint.data[0]) != 0, found)
    layers.paint.brush_size = 2
    robot.click(HERE)
    robot.wait(lambda: not robot.seen(1)[20, 20])
    robot.settle()
    robot.viewer.layers.selection.active = layers.points
    layers.points.mode = "add"
    assert layers.tool == "point"
    assert not layers.paint.visible
    click(robot, HERE)
    assert [isinstance(p, Mask) for p in robot.prompts] == [True, False]


# --- labels ------------------------------------------------------------------------------------------------


def test_objects_are_taken_from_a_labels_layer(started):
    robot = started
    labels = np.zeros((8, 64, 64), np.uint8)
    labels[0][disc(HERE)] = 3
    labels[0][disc(THERE, 7)] = 8
    robot.viewer.add_labels(labels, name="cellpose")
    robot.push(robot.dock.prompt_part.from_labels)
    robot.wait(lambda: robot.dock.controller.state.object_ids == (3, 8))
    robot.settle()
    assert np.array_equal(robot.labels()[0], labels[0])
    robot.follow()
    assert [row.n_frames for row in robot.dock.controller.state.objects] == [8, 8]


def test_large_ids_are_shown_with_more_bits(started):
    robot = started
    assert robot.dock.layers.result.dtype == np.uint16
    labels = np.zeros((8, 64, 64), np.int32)
    labels[0][disc(HERE)] = 70_000
    robot.viewer.add_labels(labels, name="cellpose")
    robot.push(robot.dock.prompt_part.from_labels)
    robot.wait(lambda: robot.dock.controller.state.object_ids == (70_000,))
    robot.settle()
    assert robot.dock.layers.result.dtype == np.uint32
    assert np.array_equal(robot.labels()[0], labels[0])
    assert len(robot.viewer.layers) == 6


def test_without_a_labels_layer_nothing_is_taken(started):
    started.push(started.dock.prompt_part.from_labels)
    started.wait_for_word("there is no other Labels layer")


# --- 3D ----------------------------------------------------------------------------------------------------


def test_a_click_in_3d_makes_no_prompt(started):
    robot = started
    robot.press("Control-Y")
    assert robot.viewer.dims.ndisplay == 3
    middle = robot.canvas.rect().center()
    robot.click_in(robot.canvas, middle)
    robot.settle()
    robot.wait(lambda: robot.n_shown() == (0, 0))
    assert robot.prompts == ()
    robot.press("Control-Y")
    click(robot, HERE)
    assert [type(p) for p in robot.prompts] == [Point]


def test_keys_do_their_work_in_3d_after_a_box(started):
    robot = started
    robot.press("Shift-R")
    robot.drag((14.0, 14.0), (26.0, 26.0))
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()
    robot.dock.layers.boxes.selected_data = {0}
    robot.press("Control-Y")
    QTest.keyPress(robot.canvas, Qt.Key.Key_Shift)
    QTest.keyRelease(robot.canvas, Qt.Key.Key_Shift)
    robot.press("Shift-K")
    robot.wait(lambda: robot.session.locked_frames(1) == (0,))
    robot.settle()
    robot.press("Control-Y")
    assert robot.n_shown() == (0, 1)
    assert robot.dock.layers.boxes.mode == "add_rectangle"

"""The dock on a viewer without a window: what keys and buttons ask for, and what is shown of the answers."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from stacksam import Point
from stacksam.errors import InputError


@pytest.fixture
def started(dock, qtbot):
    """The dock with a session."""
    dock.start_chosen()
    qtbot.waitUntil(lambda: dock.layers is not None, timeout=30_000)
    dock.layers.go_to(0)
    settle(dock, qtbot)
    return dock


def settle(dock, qtbot):
    """Wait until all that was asked for is answered."""
    answered = []
    dock.controller.run(lambda: None, answered.append, "Waiting")
    qtbot.waitUntil(lambda: bool(answered), timeout=30_000)


def test_labels_keep_their_number_only_if_no_object_ever_had_it(started, qtbot):
    controller = started.controller
    controller.add(Point(0, 1, (10.0, 10.0)), Point(0, 2, (30.0, 30.0)))
    settle(started, qtbot)
    controller.remove_objects([2])
    settle(started, qtbot)
    labels = np.zeros((8, 64, 64), np.uint8)
    for value, place in ((1, 5), (2, 20), (7, 40)):
        labels[0, place : place + 8, place : place + 8] = value
    started.commands.take_labels_of(started.viewer.add_labels(labels, name="others"))
    settle(started, qtbot)
    assert controller.state.object_ids == (1, 7, 8, 9)
    assert np.array_equal(controller.session.mask(7, 0), labels[0] == 7)
    assert np.array_equal(controller.session.mask(9, 0), labels[0] == 2)


@pytest.fixture
def followed(started, qtbot):
    """The dock with an object that was followed through all frames."""
    started.controller.add(Point(0, 1, (20.0, 20.0)))
    started.controller.follow()
    qtbot.waitUntil(lambda: not started.controller.following, timeout=30_000)
    settle(started, qtbot)
    return started


@pytest.mark.parametrize("how", ["keys", "buttons"])
def test_a_selection_of_frames_is_for_one_wish(followed, qtbot, how):
    dock, strip, mask = followed, followed.review_part.strip, followed.controller.session.mask
    accept, absent = (
        (dock.acts["accept"], dock.acts["mark_absent"])
        if how == "keys"
        else (dock.review_part.accept.click, dock.review_part.absent.click)
    )
    strip.canvas.select((1, 2, 4))
    accept()
    dock.layers.go_to(6)
    absent()
    settle(dock, qtbot)
    assert [frame for frame in range(8) if not mask(1, frame).any()] == [6]
    assert dock.controller.session.locked_frames(1) == (2, 3, 4, 6)


def test_what_is_asked_beside_the_stack_changes_no_frame(followed, qtbot):
    dock = followed
    dock.viewer.add_image(np.zeros((20, 64, 64), np.float32))
    dock.viewer.dims.set_point(0, 15)
    with pytest.raises(InputError, match="the slider stands at no frame"):
        dock.commands.accept()
    with pytest.raises(InputError, match="the slider stands at no frame"):
        dock.commands.mark_absent()
    settle(dock, qtbot)
    assert dock.controller.session.locked_frames(1) == ()


def stroke(layer, place):
    """Paint as the mouse does, by a stroke that is over when the button is let go."""
    with layer.block_history():
        layer.paint(place, 1)


def test_a_stroke_is_under_the_brush_again_while_it_is_being_answered(started, qtbot):
    dock, go_on = started, threading.Event()
    layers = dock.layers
    dock.commands.use("paint")
    dock.controller.run(lambda: go_on.wait(30), print, "Waiting")
    stroke(layers.paint, (0, 20, 10))
    dock.layers.go_to(1)
    assert not layers.buffer.mask.any()
    dock.layers.go_to(0)
    assert layers.buffer.mask[20, 10]
    stroke(layers.paint, (0, 50, 40))
    go_on.set()
    settle(dock, qtbot)
    mask = dock.controller.session.mask(1, 0)
    assert mask[20, 10]
    assert mask[50, 40]
    assert not mask[35, 25]


def test_what_was_found_stays_on_the_image_when_that_is_moved(followed, qtbot):
    layers, image = followed.layers, followed.viewer.layers[0]
    image.scale, image.translate = (1, 0.5, 0.25), (2, 30, -10)
    image.rotate = 30
    image.affine = np.array([[1, 0, 0, 0], [0, 2, 0, 5], [0, 0.5, 1, 3], [0, 0, 0, 1]])
    image.units = ("second", "um", "um")
    place = np.array([3.0, 21.0, 22.0])
    for layer in layers.all:
        np.testing.assert_allclose(layer.data_to_world(place), image.data_to_world(place))
        assert layer.units == image.units
    layers.go_to(5)
    assert layers.frame == 5
    layers.points.add(layers.points.world_to_data(image.data_to_world((5, 40.0, 41.0))))
    layers._read_prompts()
    settle(followed, qtbot)
    assert followed.controller.state.prompts[-1].yx == pytest.approx((40, 41))


def test_start_cannot_be_pressed_while_a_session_is_being_opened(dock, qtbot):
    start, go_on = dock.image_part.start, threading.Event()
    assert start.isEnabled()
    dock.controller.run(lambda: go_on.wait(30), print, "Waiting")
    start.click()
    dock.viewer.add_labels(np.zeros((8, 64, 64), np.uint8))
    dock.viewer.add_image(np.zeros((8, 64, 64), np.float32))
    assert not start.isEnabled()
    go_on.set()
    qtbot.waitUntil(lambda: dock.layers is not None, timeout=30_000)
    assert start.isEnabled()


def test_an_image_that_cannot_be_worked_on_is_not_offered_when_another_comes(dock, monkeypatch):
    def refuse(*_):
        raise InputError("the layer holds nothing")

    part = dock.image_part
    monkeypatch.setattr(part, "describe", refuse)
    part.choose(dock.viewer.add_image(np.zeros((8, 64, 64), np.float32)))
    for _ in range(2):
        assert not part.start.isEnabled()
        assert part.message.text() == "the layer holds nothing"
        dock.viewer.add_image(np.zeros((8, 64, 64), np.float32))


def test_the_note_names_the_model_that_is_at_work(started, qtbot):
    note, panel = started.sections[1].note, started.model_part
    qtbot.waitUntil(lambda: "a mask" in note.text(), timeout=30_000)
    panel.choose("another.pt")
    started._show_pace(started.controller.session, 0.02)
    assert note.text() == "random on cpu · 20 ms a mask"
    assert "20 ms" not in panel.about.text()
    started.controller.close_session()
    started._show_pace(started.controller.session, 0.03)
    assert "30 ms" not in note.text()


def followed_to(dock, qtbot):
    """Press Follow, and wait; the frames on which each object is then."""
    dock.acts["follow"]()
    qtbot.waitUntil(lambda: not dock.controller.following, timeout=30_000)
    settle(dock, qtbot)
    return {i: dock.controller.session.frames_of(i) for i in dock.controller.state.object_ids}


def test_objects_are_followed_to_the_frame_shown_and_no_further(started, qtbot):
    dock = started
    dock.controller.add(Point(0, 1, (20.0, 20.0)), Point(7, 2, (40.0, 40.0)))
    dock.layers.go_to(3)
    dock.follow_part.set_reach("to here")
    assert followed_to(dock, qtbot) == {1: (0, 1, 2, 3), 2: (3, 4, 5, 6, 7)}
    dock.layers.go_to(5)
    dock.follow_part.set_direction("backward")
    assert followed_to(dock, qtbot) == {1: (0, 1, 2, 3), 2: (3, 4, 5, 6, 7)}
    dock.follow_part.set_direction("forward")
    assert followed_to(dock, qtbot) == {1: (0, 1, 2, 3, 4, 5), 2: (3, 4, 5, 6, 7)}


def test_an_object_that_was_said_to_be_gone_comes_back_when_it_is_followed_anew(followed, qtbot):
    dock, session = followed, followed.controller.session
    dock.layers.go_to(4)
    dock.acts["mark_absent"]()
    settle(dock, qtbot)
    assert not session.mask(1, 4).any()
    dock.review_part.unlock.click()
    followed_to(dock, qtbot)
    assert not session.mask(1, 4).any()
    dock.follow_part.set_reach("all anew")
    followed_to(dock, qtbot)
    assert session.mask(1, 4).any()
    assert dock.follow_part.reach_name() == "all"


def test_an_ellipse_is_taken_as_it_is_drawn(started, qtbot):
    dock, boxes = started, started.layers.boxes
    a, b = np.array([0.0, 16, -8]), np.array([0.0, 3, 6])  # half of its axes
    middle = np.array([2.0, 30, 30])
    boxes.add([middle + v for v in (-a - b, a - b, a + b, b - a)], shape_type="ellipse")
    dock.layers._read_prompts()
    settle(dock, qtbot)
    places = np.mgrid[2:3, :64, :64].reshape(3, -1).T - middle
    ellipse = ((places @ a / (a @ a)) ** 2 + (places @ b / (b @ b)) ** 2 <= 1).reshape(64, 64)
    mask = dock.controller.session.mask(1, 2)
    assert (mask & ellipse).sum() > 0.95 * (mask | ellipse).sum()
    assert len(boxes.data) == 0


def hidden(layers, object_id):
    """Whether the masks of an object are left out of the picture."""
    return layers.result.colormap.map(np.array([object_id]))[0, 3] == 0


def test_an_object_stays_hidden_when_a_layer_is_made_anew(followed, qtbot):
    dock = followed
    former = dock.layers
    dock.objects_part._set_visible([1], False)
    assert hidden(former, 1)
    dock.viewer.layers.remove(former.points)
    qtbot.waitUntil(lambda: dock.layers is not former, timeout=30_000)
    assert hidden(dock.layers, 1)


def test_nothing_of_a_session_is_left_when_it_is_closed(followed, qtbot):
    dock = followed
    dock.objects_part._set_visible([1], False)
    dock.controller.close_session()
    assert dock.objects_part.hidden() == frozenset()
    assert dock.controller.prompts == ()
    assert dock.objects_part._model.object_ids == ()
    assert "press <b>Start</b>" in dock.next_step.text()
    dock.start_chosen()
    qtbot.waitUntil(lambda: dock.layers is not None, timeout=30_000)
    settle(dock, qtbot)
    assert dock.controller.state.object_ids == (1,)
    assert not hidden(dock.layers, 1)


def test_a_layer_that_is_tilted_against_its_frames_is_told_of(dock, qtbot):
    message = dock.image_part.message
    dock._show_preview()
    assert message.text() == ""
    dock.viewer.layers[0].shear = (0, 0.3, 0)
    dock._show_preview()
    assert "tilted against its frames" in message.text()


@pytest.fixture
def overlapping(started, qtbot):
    """The dock with two objects in one place, which are unsure for it, and one apart, which is current."""
    started.controller.add(Point(0, 1, (20.0, 20.0)), Point(0, 2, (20.0, 20.0)), Point(0, 3, (48.0, 48.0)))
    followed_to(started, qtbot)
    started.controller.set_current(3)
    return started


def test_who_lay_under_an_object_that_is_not_there_is_judged_anew(overlapping, qtbot):
    dock = overlapping
    assert max(dock.controller.state.overlaps[2]) == 1
    dock.controller.mark_absent(1, range(1, 8))
    settle(dock, qtbot)
    assert max(dock.controller.state.overlaps[2][1:]) == 0


def test_the_next_unsure_frame_may_be_another_objects(overlapping, qtbot):
    dock = overlapping
    dock.commands.next_worst()
    assert dock.controller.current == 1
    dock.controller.mark_absent(1, range(1, 8))
    dock.controller.remove_objects([1, 2])
    settle(dock, qtbot)
    dock.controller.set_current(3)
    with pytest.raises(InputError, match="no frame is unsure"):
        dock.commands.next_worst()


def test_what_is_selected_can_be_exported_also_when_it_is_new(started, qtbot):
    started.controller.add(Point(0, 1, (20.0, 20.0)))
    settle(started, qtbot)
    started.controller.new_object()
    started.controller.add(Point(0, 2, (40.0, 40.0)))
    settle(started, qtbot)
    assert started.objects_part.selected() == (2,)
    assert started.export_part._selected == (2,)


def test_another_session_does_not_follow_as_the_former_one_was_told_to(started, qtbot):
    dock = started
    dock.follow_part.set_reach("to here")
    dock.follow_part.set_direction("forward")
    dock.follow_part.which.setCurrentIndex(1)
    former = dock.controller.session
    dock.start_chosen()
    qtbot.waitUntil(
        lambda: dock.controller.session not in {None, former} and dock.layers is not None, timeout=30_000
    )
    part = dock.follow_part
    assert (part.which.currentIndex(), part.reach_name(), part.direction) == (0, "all", "both")

"""What is found at one go: objects of a frame, a vote of three axes, and how labels compare with others."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from stacksam import Mask, Point
from stacksam.comparison import compare
from stacksam.errors import InputError, StackError
from stacksam.plugin.choice import LayerChoice, Layout
from stacksam.plugin.comparing import measures, planes_of
from stacksam.plugin.image_panel import ImagePanel
from stacksam.plugin.stacks import stack_of
from stacksam.plugin.words import action_name
from stacksam.session.proposals import Proposal
from stacksam.tracks.consensus import Consensus

SECONDS = 30_000


def square(y: int, x: int, frame: int = 0) -> Proposal:
    return Proposal(frame, (y, x, y + 8, x + 8), np.ones((8, 8), bool), 0.9, 0.9)


@pytest.fixture
def started(dock, qtbot):
    """The dock with a session, at its first frame."""
    dock.start_chosen()
    qtbot.waitUntil(lambda: dock.layers is not None, timeout=SECONDS)
    dock.layers.go_to(0)
    settle(dock, qtbot)
    return dock


def choose_axis(panel: ImagePanel, kind: str) -> None:
    panel.frames.setCurrentIndex(
        next(i for i in range(panel.frames.count()) if panel.frames.itemData(i) == (0, kind))
    )


def settle(dock, qtbot):
    answered = []
    dock.controller.run(lambda: None, answered.append, "Waiting")
    qtbot.waitUntil(lambda: bool(answered), timeout=SECONDS)


@pytest.fixture
def search(monkeypatch):
    """A search that finds what it is told to, and what it was asked."""

    class Asked:
        def __init__(self):
            self.found = (square(4, 4), square(30, 30), square(50, 20))
            self.asked: list[dict] = []
            self.waits: threading.Event | None = None
            self.begun = threading.Event()

        def find(self, session, frame, *, step, **how):
            self.asked.append({"frame": frame, **how})
            step()
            self.begun.set()
            if self.waits is not None:
                assert self.waits.wait(30)
            step()
            return [replace(one, frame=frame) for one in self.found]

    asked = Asked()
    monkeypatch.setattr("stacksam.session.finding.find_objects", asked.find)
    monkeypatch.setattr("stacksam.session.finding.estimate_size", lambda *_, **__: 12.0)
    return asked


def test_what_is_found_is_objects_at_once_and_one_undo_takes_all_back(started, search, qtbot):
    dock, c = started, started.controller
    dock.find_part.find.click()
    settle(dock, qtbot)
    assert c.state.object_ids == (1, 2, 3)
    assert dock.objects_part._model.rowCount() == 3
    assert np.asarray(dock.layers.result.data[0])[34, 34] == 2
    assert "3 objects" in dock.find_part.outcome.text()
    assert "found on frame 0; Ctrl-Z takes them back" in dock.find_part.outcome.text()
    assert c.current == 4  # a click on what was missed begins another object
    assert "Click another object" in dock.next_step.text()
    dock.acts["undo"]()
    settle(dock, qtbot)
    assert c.state.object_ids == ()
    assert c.current == 1
    assert dock.find_part.outcome.isHidden()


def test_after_following_an_object_that_is_there_is_current(started, search, qtbot):
    started.acts["find_all"]()
    settle(started, qtbot)
    started.controller.follow()
    qtbot.waitUntil(lambda: not started.controller.following, timeout=SECONDS)
    settle(started, qtbot)
    assert started.controller.current == 1
    assert all(row.n_frames == 8 for row in started.controller.state.objects)


def test_the_search_is_for_what_the_panel_says(started, search, qtbot):
    panel = started.find_part
    search.found = ()
    panel.size.setValue(20)
    panel.score.setValue(0.5)
    started.layers.go_to(3)
    panel.find.click()
    settle(started, qtbot)
    assert search.asked == [{"frame": 3, "size": 20, "min_score": 0.5}]
    assert "No object of about 20 px found on frame 3" in panel.outcome.text()
    assert "lower confidence" in panel.outcome.text()
    assert panel.fold.isChecked()
    panel.size.setValue(2)
    with pytest.raises(InputError, match="give 4 or more, or 0"):
        started.finding.find()


def test_the_arrow_leaves_out_sizes_that_cannot_be(started):
    size = started.find_part.size
    assert size.text() == "estimated"
    size.stepBy(1)
    assert size.value() == 16
    size.setValue(4)
    size.stepBy(-1)
    assert size.value() == 0


def test_a_search_that_is_cancelled_leaves_everything_as_it_was(started, search, qtbot):
    panel, search.waits = started.find_part, threading.Event()
    panel.find.click()
    assert search.begun.wait(30)
    assert not panel.find.isEnabled()
    assert panel.running.isVisibleTo(started)
    assert "Looking for objects" in started.prompt_part.busy.text()
    with pytest.raises(InputError, match="already"):
        started.finding.find()
    started.acts["cancel"]()  # the key
    search.waits.set()
    settle(started, qtbot)
    assert started.controller.state.object_ids == ()
    assert panel.find.isEnabled()
    assert not panel.running.isVisibleTo(started)
    assert started.prompt_part.busy.text() == ""


def test_a_search_ends_with_its_session(started, search, qtbot):
    search.waits = threading.Event()
    started.find_part.find.click()
    assert search.begun.wait(30)
    session = started.controller.session
    started.controller.close_session()
    search.waits.set()
    settle(started, qtbot)
    assert session.next_id == 1  # it was closed, and nothing was added
    assert not started.find_part.running.isVisibleTo(started)
    started.start_chosen()
    qtbot.waitUntil(lambda: started.layers is not None, timeout=SECONDS)
    started.layers.go_to(0)
    started.find_part.find.click()
    settle(started, qtbot)
    assert len(started.controller.state.object_ids) == 3


def test_a_search_that_fails_is_told(started, monkeypatch, qtbot):
    def fails(*_, **__):
        raise StackError("frame 0 cannot be read")

    monkeypatch.setattr("stacksam.session.finding.find_objects", fails)
    monkeypatch.setattr("stacksam.session.finding.estimate_size", fails)
    started.find_part.find.click()
    settle(started, qtbot)
    assert "Looking for objects: frame 0 cannot be read" in started.trouble.text()
    assert started.find_part.find.isEnabled()


# Volumes


@pytest.fixture
def volume(dock, qtbot):
    """The dock with a session along z, and an object that was followed."""
    choose_axis(dock.image_part, "z")
    dock.start_chosen()
    qtbot.waitUntil(lambda: dock.layers is not None, timeout=SECONDS)
    dock.controller.add(Point(0, 1, (20.0, 20.0)))
    dock.controller.follow()
    qtbot.waitUntil(lambda: not dock.controller.following, timeout=SECONDS)
    settle(dock, qtbot)
    return dock


def test_a_consensus_replaces_masks_as_one_action(volume, monkeypatch, qtbot):
    mask = np.zeros((64, 64), bool)
    mask[:3, :3] = True

    def vote(session, *, progress):
        progress(1, 2)
        return Consensus(tuple(Mask(frame, 1, mask) for frame in (3, 4, 5)), {1: 0.5})

    monkeypatch.setattr("stacksam.tracks.consensus.consensus", vote)
    assert volume.vote_part.isVisibleTo(volume.follow_part)
    before, accepted = (volume.controller.session.mask(1, frame) for frame in (3, 5))
    volume.controller.accept(1, [5])
    volume.vote_part.vote.click()
    settle(volume, qtbot)
    session = volume.controller.session
    assert np.array_equal(session.mask(1, 3), mask)
    assert session.locked_frames(1) == (3, 4, 5)
    assert np.array_equal(session.mask(1, 5), accepted)
    text = volume.vote_part.outcome.text()
    assert "2 masks changed; the axes agree to 50%" in text
    assert "Look at object 1" in text
    assert volume.undo_button.toolTip().startswith(f"Undo: {action_name('set_masks')}")
    volume.acts["undo"]()
    settle(volume, qtbot)
    assert np.array_equal(session.mask(1, 3), before)


def test_there_is_no_consensus_without_a_volume_or_a_mask(started):
    assert not started.vote_part.isVisibleTo(started.follow_part)
    with pytest.raises(InputError, match="press Follow first"):
        started.finding.vote()


def test_windows_are_offered_along_depth_only(qtbot):
    panel, viewer = ImagePanel(), ViewerModel()
    qtbot.addWidget(panel)
    layer = viewer.add_image(np.linspace(-1000, 1000, 4 * 32 * 32, dtype=np.float32).reshape(4, 32, 32))
    panel.set_layers([layer], layer)
    panel.describe(layer, ("t", "y", "x"), (0, 0, 0))
    assert panel.frames.currentData()[1] == "t"
    assert panel.intensity.findData("window") < 0
    choose_axis(panel, "z")
    panel.intensity.setCurrentIndex(panel.intensity.findData("window"))
    assert panel.window.isVisibleTo(panel)
    assert "CT lung (−1350 … 150 HU)" in panel.window.itemText(0)
    panel.window.setCurrentIndex(panel.window.findData("ct-brain"))
    assert panel.choice().intensity == "ct-brain"
    stack = stack_of(layer, panel.choice())
    assert (stack.intensity.low, stack.intensity.high) == ((0.0,), (80.0,))
    choose_axis(panel, "t")
    assert panel.choice().intensity == "auto"
    assert not panel.window.isVisibleTo(panel)


def test_a_window_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="ct-lung"):
        stack_of(Image(np.zeros((3, 8, 8))), LayerChoice(frame_dim=0, kind="z", intensity="ct-toe"))


# Comparing


def test_labels_are_compared_with_those_of_a_layer(started, search, qtbot):
    panel = started.compare_part
    assert not panel.go.isEnabled()
    truth = np.zeros((8, 64, 64), np.uint8)
    for value, place in ((5, (4, 4)), (6, (30, 30))):
        truth[0, place[0] : place[0] + 8, place[1] : place[1] + 8] = value
    started.viewer.add_labels(truth, name="truth")
    assert [panel.reference.itemText(i) for i in range(panel.reference.count())] == ["truth"]
    started.find_part.find.click()
    settle(started, qtbot)
    panel.fold.setChecked(True)
    panel.go.click()
    settle(started, qtbot)
    shown = {panel.table.item(r, 0).text(): panel.table.item(r, 1).text() for r in range(2)}
    assert shown == {"Mean IoU": "1.000", "F1 at IoU 0.5": "0.800"}  # 2 of 2, and one too many
    assert started.controller.session.history == ("add",)


def test_without_the_extra_the_table_says_how_to_get_it(monkeypatch):
    labels = np.ones((2, 4, 4), np.uint8)
    monkeypatch.setitem(sys.modules, "ctc_metrics.metrics", None)
    rows, note = measures(compare(labels, labels, axes="tyx"))
    assert [name for name, *_ in rows] == ["Mean IoU", "F1 at IoU 0.5"]
    assert 'pip install "napari-stacksam[evaluate]"' in note
    rows, note = measures(compare(labels, labels, axes="zyx"))
    assert note == ""  # of volumes there is nothing to follow through time


def test_a_reference_has_the_frames_of_the_image():
    layout = Layout((5, 3, 4, 6), 2, 3, frame=0, at={1: 2})
    data = np.arange(5 * 3 * 4 * 6, dtype=np.int32).reshape(5, 3, 4, 6)
    assert np.array_equal(planes_of(Labels(data), layout, "t").read(1, 0), data[1, 2])
    assert np.array_equal(planes_of(Labels(data[:, 0]), layout, "z").read(0, 4), data[4, 0])
    single = Layout((4, 6), 0, 1)
    assert np.array_equal(planes_of(Labels(data[0, 0]), single, "t").read(0, 0), data[0, 0])
    with pytest.raises(InputError, match="must have 5 frames of 4 x 6 pixels"):
        planes_of(Labels(data[:4, 0], name="other"), layout, "t")

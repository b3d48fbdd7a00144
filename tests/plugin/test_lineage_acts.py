"""The menu of the table offers what makes sense for tracks and lineages, and says why something does not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QInputDialog

sys.path.insert(0, str(Path(__file__).parent))  # for desk
sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model

from desk import Desk

from stacksam import Mask
from stacksam.plugin.lineage_acts import LineageActs, joinable, lineage_entries, parents_for
from stacksam.plugin.objects import ObjectsPanel
from stacksam.plugin.state import ObjectRow, State
from stacksam.session.scores import FrameScores


def scores(object_id: int, first: int, last: int, x: float) -> FrameScores:
    frames = np.arange(first, last + 1)
    n = len(frames)
    no = np.zeros(n, bool)
    return FrameScores(
        object_id=object_id,
        frames=frames,
        object_score=np.full(n, 5.0),
        predicted_iou=np.full(n, 0.9),
        area=np.full(n, 100),
        centroid=np.column_stack([np.zeros(n), np.full(n, x)]),
        bbox=np.zeros((n, 4), np.int64),
        prompted=no,
        locked=no,
        stale=no,
    )


SPANS = {1: (0, 3, 10.0), 2: (4, 9, 8.0), 3: (4, 9, 12.0), 4: (0, 3, 50.0), 5: (0, 9, 30.0), 6: (2, 2, 0.0)}
ROWS = tuple(ObjectRow(i, "", 1, 1.0, 0, 0, (0,)) for i in (*SPANS, 7))  # 7 is seen nowhere
FREE = State(10, ROWS, scores={i: scores(i, *span) for i, span in SPANS.items()})
LINKED = State(10, ROWS, scores=FREE.scores, parents={2: 1, 3: 1})


def entry(name, ids, frame=5, state=FREE):
    return next(one for one in lineage_entries(state, ids, frame) if one.name == name)


@pytest.mark.parametrize(
    ("name", "ids", "text"),
    [
        ("link", [2], "Link to parent …"),
        ("link", [2, 3], "Link to parent …"),
        ("link", [1, 2, 3], "Link 2 and 3 to parent 1"),
        ("swap", [2], "Swap from frame 5 with …"),
        ("swap", [2, 3], "Swap 2 and 3 from frame 5"),
        ("cut", [5], "Cut track at frame 5"),
        ("join", [1], "Join with …"),
        ("join", [1, 2], "Join 1 and 2"),
    ],
)
def test_what_makes_sense_is_offered(name, ids, text):
    one = entry(name, ids)
    assert (one.text, one.enabled) == (text, True)


@pytest.mark.parametrize(
    ("name", "ids", "frame", "state", "why"),
    [
        ("link", [], 5, FREE, "Select objects in the table first"),
        ("cut", [7], 5, FREE, "Object 7 is not seen on any frame"),
        ("link", [5], 5, FREE, "No other object ends before frame 0"),
        ("link", [2], 5, LINKED, "Object 2 is a daughter of 1"),
        ("unlink", [2], 5, FREE, "Object 2 has no parent"),
        ("unlink", [2, 3], 5, FREE, "None of these has a parent"),
        ("swap", [2, 3], None, FREE, "Show a frame of the image first"),
        ("swap", [1, 4], 5, FREE, "Both have ended before this frame"),
        ("swap", [1, 2, 3], 5, FREE, "select one or two"),
        ("cut", [1, 2], 5, FREE, "Select one object"),
        ("cut", [2], 4, FREE, "can be cut on frame 5 to 9"),
        ("cut", [6], 2, FREE, "is seen on frame 2 only"),
        ("join", [2, 3], 5, FREE, "They are seen at the same time"),
        ("join", [5], 5, FREE, "Every other object is there at the same time"),
    ],
)
def test_what_does_not_says_why(name, ids, frame, state, why):
    one = entry(name, ids, frame, state)
    assert not one.enabled
    assert why in one.tip


def test_those_that_are_likely_come_first():
    assert parents_for(FREE, [2, 3]) == [1, 4, 6], "by frames between, then by how near they are"
    assert joinable(FREE, 2) == [1, 4, 6]
    assert entry("unlink", [2], state=LINKED).text == "Unlink from parent 1"


def test_the_menu_asks_by_a_signal(qtbot):
    panel = ObjectsPanel()
    qtbot.addWidget(panel)
    panel.set_state(LINKED)
    panel.set_frame(5)
    panel.set_current(2)
    heard = []
    panel.lineage_requested.connect(lambda *values: heard.append(values))
    actions = {action.text(): action for action in panel._menu().actions()}
    actions["Cut track at frame 5"].trigger()
    actions["Unlink from parent 1"].trigger()
    assert heard == [("cut", (2,)), ("unlink", (2,))]
    assert not actions["Link to parent …"].isEnabled()
    assert "unlink it first" in actions["Link to parent …"].toolTip()


class Dock:
    """As much of a dock as the acts look at."""

    def __init__(self, desk: Desk) -> None:
        self.controller = desk.controller

    def frame(self) -> int:
        return 3


def mask(frame, object_id, x):
    painted = np.zeros((64, 64), bool)
    painted[20:30, x : x + 10] = True
    return Mask(frame, object_id, painted)


@pytest.fixture
def acts(desk):
    """Objects 1 and 2 throughout, 3 and 4 on the last frames."""
    desk.open()
    desk.add(mask(0, 1, 5), mask(0, 2, 40), mask(5, 3, 5), mask(5, 4, 20))
    desk.controller.follow("forward", objects=[1, 2], last=4)
    desk.turn(lambda: not desk.controller.following)
    do(desk, lambda: None)
    return LineageActs(Dock(desk))


def do(desk, act, *arguments):
    """Ask for something, and wait until it is done and told."""
    act(*arguments)
    answered = []
    desk.controller.run(lambda: None, answered.append, "Waiting")
    desk.turn(lambda: bool(answered))


def test_each_act_reaches_the_session_and_is_undone(acts, desk, monkeypatch):
    asked = []

    def choose(_parent, _title, question, texts, *_):
        asked.append((question, texts))
        return texts[0], True

    monkeypatch.setattr(QInputDialog, "getItem", choose)
    do(desk, acts.do, "link", [3, 4])
    assert asked == [("Parent of 3 and 4:", ["1 · frames 0 to 4", "2 · frames 0 to 4"])]
    assert desk.controller.state.parents == {3: 1, 4: 1}
    do(desk, acts.do, "unlink", [4])
    assert desk.controller.state.parents == {3: 1}
    do(desk, acts.do, "swap", [1, 2])
    assert desk.controller.state.parents == {3: 2}, "a daughter goes with the last frames of its parent"
    do(desk, acts.do, "cut", [1])
    assert desk.controller.state.spans[5] == (3, 4)
    do(desk, acts.do, "join", [1, 5])
    assert 5 not in desk.objects()
    for _ in range(5):
        do(desk, desk.controller.undo)
    assert desk.controller.state.parents == {}
    assert desk.objects() == (1, 2, 3, 4)
    assert not desk.failed


def test_nobody_is_linked_when_the_question_is_cancelled(acts, desk, monkeypatch):
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: ("", False))
    acts.do("link", [3])
    acts.do("join", [3])
    acts.do("swap", [1])
    do(desk, desk.controller.rename, 1, "x")
    assert desk.controller.session.history[-1] == "rename"
    assert desk.controller.state.parents == {}


def test_what_the_session_refuses_is_told(acts, desk):
    desk.controller.link(1, [2])
    desk.turn(lambda: bool(desk.failed))
    assert desk.failed[0][0] == "Linking"
    assert "its parent 1 is seen until" in str(desk.failed[0][1])

"""What the dock says of how things stand follows from the state alone."""

from __future__ import annotations

import numpy as np
import pytest

from stacksam.plugin.state import EMPTY, ObjectRow, State
from stacksam.plugin.words import action_name, n_unsure, next_step, review_note
from stacksam.session.scores import FrameScores

N = 6


def scores(object_id: int, n: int, *, prompted: int = 0, locked: tuple[int, ...] = ()) -> FrameScores:
    frames = np.arange(n)
    return FrameScores(
        object_id=object_id,
        frames=frames,
        object_score=np.full(n, 5.0),
        predicted_iou=np.full(n, 0.9),
        area=np.full(n, 100),
        centroid=np.zeros((n, 2)),
        bbox=np.zeros((n, 4), np.int64),
        prompted=frames == prompted,
        locked=np.isin(frames, locked),
        stale=np.zeros(n, bool),
    )


def state(*objects: tuple[int, list[float]], locked: tuple[int, ...] = (), stale: int = 0) -> State:
    """Objects by id and confidences on their frames; all prompted on frame 0."""
    rows = tuple(
        ObjectRow(i, "", len(values), float(np.mean(values)), len(locked), stale, (0,))
        for i, values in objects
    )
    return State(
        N,
        rows,
        scores={i: scores(i, len(values), locked=locked) for i, values in objects},
        confidences={i: np.array(values) for i, values in objects},
    )


def said(now: State = EMPTY, **changes: object) -> str:
    told = {"has_image": True, "opening": "", "has_session": True, "following": False, "current": 1}
    return next_step(now, **(told | changes))


SURE = [1.0] * N


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (said(has_image=False, has_session=False), "Open an image"),
        (said(has_session=False), "<b>Start</b>"),
        (said(has_session=False, opening="Preparing …"), "Preparing …"),
        (said(has_session=False, saved=True), "Work on this image is saved. Press <b>Start</b>"),
        (said(has_session=False, saved=True, opening="Preparing …"), "Preparing …"),
        (said(), "Click an object"),
        (said(state((1, [1.0]))), "<b>Follow</b>"),
        (said(state((1, SURE), (2, [1.0]))), "<b>Follow</b>"),  # one that is new among others
        (said(state((1, [1.0])), following=True), "Following"),
        (said(state((1, SURE), stale=2)), "Corrected"),
        (said(state((1, SURE))), "<b>Export</b>"),
    ],
)
def test_each_step_tells_the_next(text, word):
    assert word in text


def test_a_single_frame_needs_no_following():
    only = State(1, (ObjectRow(1, "", 1, 1.0, 0, 0, (0,)),))
    assert "Follow" not in said(only)
    assert "<b>Export</b>" in said(only)


def test_unsure_frames_are_counted_unless_prompted_or_accepted():
    low = [0.1] * N
    assert n_unsure(state((1, low)), 1) == N - 1  # frame 0 is prompted
    assert n_unsure(state((1, low), locked=(0, 2, 3)), 1) == N - 3
    assert n_unsure(state((1, SURE)), 1) == n_unsure(EMPTY, 1) == 0


def test_the_current_object_comes_before_others():
    now = state((1, SURE), (2, [1, 0.1, 0.1, 1, 1, 1]), (3, [1, 0.1, 1, 1, 1, 1]))
    assert "Object 2 has 2 unsure frames" in said(now, current=2)
    assert "Object 3 has 1 unsure frame:" in said(now, current=3)
    assert "objects 2, 3: choose one" in said(now, current=1)
    assert "objects 2, 3: choose one" in said(now, current=9)  # one that does not exist yet


def test_the_note_sums_all_objects():
    now = state((1, SURE), (2, [1, 0.1, 0.1, 1, 1, 1]))
    assert review_note(now) == f"{2 * N} masks · 2 unsure"
    assert review_note(state((1, [1, 0.1, 1, 1, 1, 1]), locked=(1,))) == f"{N} masks · 0 unsure · 1 accepted"
    assert review_note(EMPTY) == ""


def test_every_action_of_a_session_has_words():
    assert action_name("add") == "prompt"
    assert action_name("merge") == "merge"
    assert "_" not in action_name("remove_object")

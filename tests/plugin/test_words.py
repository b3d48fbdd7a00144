"""What the dock says of how things stand follows from the state alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stacksam.plugin.state import EMPTY, ObjectRow, State
from stacksam.plugin.words import action_name, in_the_dock, lineage_note, n_unsure, next_step, review_note
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


def test_divisions_come_before_what_is_new_and_after_what_is_out_of_date():
    assert said(state((1, SURE)), divisions=1).startswith("1 division to decide on: <b>D</b>")
    assert said(state((1, SURE)), divisions=3).startswith("3 divisions to decide on")
    assert said(state((1, SURE)), divisions=3, asked=7).startswith("Does object 7 divide here? <b>Y</b>")
    assert "Corrected" in said(state((1, SURE), stale=2), divisions=3)


def test_a_lineage_is_noted_only_where_there_is_one():
    assert lineage_note(state((1, SURE)), 0) == ""
    assert lineage_note(state((1, SURE)), 2) == "2 to decide"
    linked = replace(state((1, SURE)), parents={2: 1, 3: 1, 5: 4})
    assert lineage_note(linked, 0) == "2 divisions"
    assert lineage_note(linked, 1) == "2 divisions · 1 to decide"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            "give it another id (split_track(3, 7)), or unlink 4",
            "(Cut track at frame 7, in the menu of object 3)",
        ),
        ("take wrong masks away (mark_absent)", "(Not here)"),
        ("use merge(1, [2])", "use Merge"),
        ("give the earlier one first: join(2, 1)", "Join 2 and 1"),
    ],
)
def test_messages_of_the_session_name_what_the_dock_has(told, words):
    assert words in in_the_dock(told)
    assert "split_track" not in in_the_dock(told)

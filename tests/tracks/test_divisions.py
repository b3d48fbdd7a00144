"""Divisions are proposed from what masks do, and accepted or rejected as one action each."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from random_model import DiscPredictor, labels, random_model

from stacksam import load_model
from stacksam.dividing import dividing_cells
from stacksam.errors import InputError
from stacksam.session.boxes import bbox_of
from stacksam.session.prompts import Mask
from stacksam.session.replay import replay
from stacksam.session.session import Session
from stacksam.session.stack import open_stack
from stacksam.tracks import accept, division_scores, follow_with_divisions, propose_divisions, reject

SIDE, N = 96, 9
SHAPE = SIDE, SIDE
DIVIDES = 4


def disc(y, x, radius):
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def frame_labels(*discs):
    found = np.zeros(SHAPE, np.int32)
    for number, place in discs:
        found[disc(*place)] = number
    return found


def truth(frame):
    """A mother (1) that divides into 2 and 3 on frame 4, beside a cell (4) that does not."""
    still = (4, (70, 30 + frame, 9))
    if frame < DIVIDES:
        return frame_labels((1, (40, 48, 11)), still)
    gap = 9 + 0.5 * (frame - DIVIDES)
    return frame_labels((2, (40, 48 - gap, 8)), (3, (40, 48 + gap, 8)), still)


TRUTH = np.stack([truth(frame) for frame in range(N)])
LINEAGE = nx.DiGraph([(1, 2), (1, 3)])


# Labels that something else made


def kinds(how):
    """Labels as a model may give them that follows the mother."""
    made = TRUTH.copy()
    if how == "parts":
        made[(made == 2) | (made == 3)] = 1
    elif how == "halved":
        made[made == 2] = 1
    return made


@pytest.mark.parametrize("how", ["parts", "halved", "lost"])
def test_each_way_to_divide_is_proposed_once_and_surely(how):
    (found,) = propose_divisions(kinds(how))
    assert (found.frame, found.parent) == (DIVIDES, 1)
    assert found.confidence == pytest.approx(np.prod(list(found.factors.values())))
    assert found.confidence > 0.9
    ids = {"parts": [None, None], "halved": [1, 3], "lost": [2, 3]}[how]
    assert [daughter.object_id for daughter in found.daughters] == ids
    masks = {daughter.part.full(SHAPE).tobytes() for daughter in found.daughters}
    assert masks == {(TRUTH[DIVIDES] == i).tobytes() for i in (2, 3)}


def test_what_is_known_already_is_not_proposed():
    assert propose_divisions(TRUTH, lineage=LINEAGE) == []
    assert propose_divisions(TRUTH, first=DIVIDES + 1) == propose_divisions(TRUTH, last=DIVIDES - 1) == []
    assert len(propose_divisions(list(TRUTH), first=DIVIDES, last=DIVIDES)) == 1


def lowered(made, *names):
    """The factors that a change of labels has lowered; the confidence is no longer high."""
    found = [d for d in propose_divisions(made, at_least=0) if (d.frame, d.parent) == (DIVIDES, 1)]
    assert found, "it is still proposed, with a low confidence"
    best = max(found, key=lambda d: d.confidence)
    assert best.confidence < 0.5
    assert min(best.factors, key=best.factors.get) in names


def test_a_factor_falls_for_each_reason_to_doubt():
    made = kinds("parts")
    for frame in range(DIVIDES, N):  # a crumb, and a mother that stays as it is
        made[frame][made[frame] == 1] = 0
        made[frame][disc(40, 48, 10)] = 1
        made[frame][disc(40, 66, 5)] = 1
    lowered(made, "balance")

    made = kinds("parts")
    for frame in range(DIVIDES, N):  # much more than there was
        made[frame][disc(40, 48, 30) & (np.arange(SIDE) < 47)] = 1
        made[frame][disc(40, 48, 30) & (np.arange(SIDE) > 50)] = 1
    lowered(made, "size")

    made = kinds("lost")
    made[made == 2] = 0
    made[made == 3] = 0
    for frame in range(DIVIDES, N):  # both on one side
        made[frame][disc(27, 66, 8)] = 2
        made[frame][disc(53, 66, 8)] = 3
    lowered(made, "distance", "overlap")

    made = kinds("parts")
    made[DIVIDES + 1 :][made[DIVIDES + 1 :] == 1] = 0
    for frame in range(DIVIDES + 1, N):  # on one frame only
        made[frame][disc(40, 48, 11)] = 1
    lowered(made, "persistence")


def test_a_newcomer_beside_a_cell_is_no_daughter():
    made = np.stack([frame_labels((1, (40, 48, 11)), (2, (40, 72, 11 if f > 3 else -1))) for f in range(N)])
    assert all(d.confidence < 0.5 for d in propose_divisions(made))
    shrunk = np.stack([frame_labels((1, (40, 48, 11 if f < 4 else 8))) for f in range(N)])
    assert propose_divisions(shrunk) == []


def test_a_newcomer_has_one_mother():
    # Two cells end, and two newcomers lie between them, nearer to the first.
    first, second = (30, 40, 11), (62, 40, 11)
    made = np.stack(
        [
            frame_labels((1, first), (2, second))
            if f < DIVIDES
            else frame_labels((3, (30, 31, 8)), (4, (30, 49, 8)))
            for f in range(N)
        ]
    )
    assert [d.parent for d in propose_divisions(made)] == [1]


def test_only_integers_are_labels():
    with pytest.raises(InputError, match=r"labels of frame 0 are float64 of shape \(96, 96\)"):
        propose_divisions(np.zeros((2, *SHAPE)))
    with pytest.raises(InputError, match=r"labels of frame 0 are int64 of shape \(96,\)"):
        propose_divisions(np.zeros(SHAPE, int))
    large = TRUTH.astype(np.int64) * 400_000_000  # no table of that size is made
    assert len(propose_divisions(large)) == 1


def test_every_division_of_made_cells_is_found():
    cells = dividing_cells(24, side=224, n_start=8, n_entering=2, n_leaving=1)
    found = nx.DiGraph()
    for division in propose_divisions(cells.labels, at_least=0.5):
        found.add_edges_from((division.parent, d.object_id) for d in division.daughters)
    scores = division_scores(cells.labels, found, cells.labels, cells.lineage)
    assert scores.f1 == 1.0
    assert len(scores.right) >= 3


# Sessions


class Seeing(DiscPredictor):
    """It sees the true cells: what an object covered, it follows, in one of three ways."""

    how = "parts"

    def follow(self, frame, requests, step):
        records = []
        for request, record in zip(requests, super().follow(frame, requests, step), strict=True):
            before = request.previous
            was = np.zeros(SHAPE, bool)
            y0, x0, y1, x1 = before.bbox
            was[y0:y1, x0:x1] = before.mask
            near = [TRUTH[frame] == i for i in np.unique(TRUTH[frame][was]) if i]
            if self.how == "late" and frame == DIVIDES and len(near) == 2:  # neither one nor both
                near = [disc(*np.argwhere(near[1]).mean(axis=0), 9.6)]
            elif self.how in ("halved", "late") or len(near) < 2:
                near = near[-1:]
            elif self.how == "lost":
                near = []
            records.append(with_mask(record, np.logical_or.reduce([np.zeros(SHAPE, bool), *near])))
        return records

    def candidates(self, object_id, frame, prompts, *rest, **options):
        found = super().candidates(object_id, frame, prompts, *rest, **options)
        if isinstance(prompts[-1], Mask):
            return found
        y, x = map(round, next(p.yx for p in prompts if p.positive))
        here = TRUTH[frame][y, x]
        return [with_mask(one, TRUTH[frame] == here if here else np.zeros(SHAPE, bool)) for one in found]


def with_mask(record, mask):
    if not mask.any():
        return replace(record, bbox=(0, 0, 0, 0), mask=np.zeros((0, 0), bool))
    y0, x0, y1, x1 = box = bbox_of(mask)
    return replace(record, bbox=box, mask=mask[y0:y1, x0:x1])


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr("stacksam.session.session.Predictor", Seeing)
    stack = open_stack(np.zeros((N, *SHAPE), np.float32), axes="tyx", intensity=(0, 1))
    with Session(stack, random_model()) as opened:
        opened.add(Mask(0, 1, TRUTH[0] == 1), Mask(0, 4, TRUTH[0] == 4))
        yield opened


def daughters_that_are_missing(session, frame):
    """In place of a finder: cells of the truth that no object covers."""
    covered = session.label_frame(frame) > 0
    masks = [TRUTH[frame] == i for i in np.unique(TRUTH[frame]) if i]
    return [mask for mask in masks if not (mask & covered).any()]


@pytest.mark.parametrize(
    ("how", "newcomers"),
    [
        ("parts", None),
        ("halved", None),  # the model is asked for the other daughter
        ("halved", daughters_that_are_missing),
        ("lost", daughters_that_are_missing),
    ],
)
def test_following_goes_on_with_daughters(session, monkeypatch, tmp_path, how, newcomers):
    monkeypatch.setattr(Seeing, "how", how)
    (found,) = follow_with_divisions(session, newcomers=newcomers)
    assert (found.frame, found.parent) == (DIVIDES, 1)
    made, lineage = labels(session), session.lineage
    scores = division_scores(made, lineage, TRUTH, LINEAGE, tolerance=0, iou=1.0)
    assert scores.f1 == 1.0
    assert np.array_equal(made > 0, TRUTH > 0)
    assert len(np.unique(made)) == len(np.unique(TRUTH))
    assert propose_divisions(session) == []
    with replay(session.save(tmp_path / "s.json"), session.stack, session.model) as again:
        assert np.array_equal(labels(again), made)
        assert sorted(again.lineage.edges) == sorted(lineage.edges)


def test_a_frame_that_shows_neither_one_nor_two_delays_the_division(session, monkeypatch):
    monkeypatch.setattr(Seeing, "how", "late")
    (found,) = follow_with_divisions(session)
    assert (found.frame, found.parent) == (DIVIDES + 1, 1)
    assert found.factors["persistence"] == pytest.approx(3 / 4)
    assert division_scores(labels(session), session.lineage, TRUTH, LINEAGE).f1 == 1.0


def follow(session):
    return list(session.propagate("forward"))


def test_accepting_is_one_action(session):
    follow(session)
    before, history = labels(session), session.history
    (found,) = propose_divisions(session)
    assert accept(session, found) == (5, 6)
    assert session.history == (*history, "divide")
    assert sorted(session.lineage.edges) == [(1, 5), (1, 6)]
    assert session.frames_of(1) == (0, 1, 2, 3)
    session.undo()
    assert np.array_equal(labels(session), before)
    assert not session.lineage.edges


def test_what_is_rejected_does_not_come_again_unless_that_is_undone(session):
    follow(session)
    (found,) = propose_divisions(session)
    reject(session, found)
    assert propose_divisions(session) == []
    follow(session)
    assert propose_divisions(session) == []
    session.undo()
    assert len(propose_divisions(session)) == 1


@pytest.mark.parametrize("how", ["prompt", "lock"])
def test_what_a_person_said_is_not_doubted(session, how):
    follow(session)
    both = TRUTH[6] == 2
    if how == "prompt":
        session.add(Mask(6, 1, both | (TRUTH[6] == 3)))
    else:
        session.lock(1, [6])
    assert propose_divisions(session) == []


def test_a_person_is_asked_of_each_proposal_once(session):
    asked = []

    def decide(division):
        asked.append((division.parent, division.frame))
        return answer

    for answer, accepted, rejected in ((None, 0, ()), (False, 0, ((1, DIVIDES),)), (True, 1, ())):
        asked.clear()
        assert len(list(follow_with_divisions(session, decide=decide))) == accepted
        assert session.rejected_divisions == rejected
        assert asked == [(1, DIVIDES)]
        if answer is False:
            session.undo()


def test_a_division_on_the_last_frames_is_judged_too(session):
    assert list(follow_with_divisions(session, last=DIVIDES - 1)) == []
    (found,) = follow_with_divisions(session, last=DIVIDES)
    assert found.factors["persistence"] == pytest.approx(2 / 3)
    assert session.frames_of(5) == (DIVIDES,)


def test_a_low_confidence_is_left_alone(session):
    assert list(follow_with_divisions(session, last=DIVIDES, threshold=0.9)) == []
    assert len(propose_divisions(session)) == 1


def test_what_does_not_fit_is_an_error(session):
    for options, match in (
        ({"threshold": 2}, "threshold is 2; use 0 to 1"),
        ({"last": 99}, "frame 99 is outside the stack"),
    ):
        with pytest.raises(InputError, match=match):
            next(follow_with_divisions(session, **options))
    session.clear()
    with pytest.raises(InputError, match="there are no prompts"):
        next(follow_with_divisions(session))
    assert propose_divisions(session) == []


# Figures


def test_a_division_is_right_within_a_frame_if_all_three_are_the_same_cells():
    assert division_scores(TRUTH, LINEAGE, TRUTH, LINEAGE).right == ((1, 1),)
    for late, right in ((1, True), (2, False)):
        made = TRUTH.copy()
        for frame in range(DIVIDES, DIVIDES + late):
            made[frame][np.isin(made[frame], (2, 3))] = 1
        scores = division_scores(made, LINEAGE, TRUTH, LINEAGE)
        assert (scores.f1, scores.right) == ((1.0, ((1, 1),)) if right else (0.0, ()))
        assert (scores.missed, scores.wrong) == (((), ()) if right else ((1,), (1,)))
        assert division_scores(made, LINEAGE, TRUTH, LINEAGE, tolerance=late).f1 == 1.0
    for wrong in ([(1, 2), (1, 4)], [(4, 2), (4, 3)]):
        made = TRUTH.copy()
        if wrong[0][0] == 1:
            made[:DIVIDES][made[:DIVIDES] == 4] = 0
        else:
            made[DIVIDES:][made[DIVIDES:] == 4] = 0
        scores = division_scores(made, nx.DiGraph(wrong), TRUTH, LINEAGE)
        assert (scores.precision, scores.recall, scores.f1) == (0.0, 0.0, 0.0)
    nothing = division_scores(TRUTH, nx.DiGraph(), TRUTH, nx.DiGraph())
    assert (nothing.precision, nothing.recall, nothing.f1) == (1.0, 1.0, 1.0)
    assert division_scores(TRUTH, nx.DiGraph(), TRUTH, LINEAGE).missed == (1,)


def test_figures_of_what_cannot_be_compared_are_errors():
    with pytest.raises(InputError, match="9 frames of labels and 8 true ones"):
        division_scores(TRUTH, LINEAGE, TRUTH[1:], LINEAGE)
    with pytest.raises(InputError, match="iou 0"):
        division_scores(TRUTH, LINEAGE, TRUTH, LINEAGE, iou=0)


@pytest.mark.slow
def test_the_embedded_model_follows_cells_through_divisions():
    cells = dividing_cells(8, side=160, n_start=3, n_entering=0, n_leaving=0, seed=28)
    assert cells.lineage.number_of_edges() == 4
    with Session(open_stack(cells.images, axes="tyx"), load_model()) as session:
        session.add(*(Mask(0, i, cells.labels[0] == i) for i in range(1, 4)))
        assert list(follow_with_divisions(session))
        scores = division_scores(session.labels[...], session.lineage, cells.labels, cells.lineage)
    assert scores.f1 == 1.0

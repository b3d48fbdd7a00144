"""What is found becomes objects in one action, newcomers get new ids, and what is tracked is left alone."""

import json
from typing import ClassVar

import numpy as np
import pytest
from random_model import random_model, run, state

from stacksam import AutomaticMasks, Proposal, Session, find_and_follow, find_objects, load_model, open_stack
from stacksam.errors import InputError
from stacksam.session import finding
from stacksam.session.prompts import Mask, mask_within, prompt_from_json, prompt_to_json
from stacksam.session.replay import replay

SHAPE = (64, 64)


def proposal(frame, y, x, side=8, score=0.9):
    return Proposal(frame, (y, x, y + side, x + side), np.ones((side, side), bool), score, 1.0)


def test_what_is_found_becomes_objects_in_one_action(session):
    session.add(Mask(0, 4, proposal(0, 30, 30).full_mask(SHAPE)))
    before = state(session)
    updates = session.add_found([proposal(0, 2, 3), proposal(1, 20, 40)])

    assert [(u.object_id, u.frame, u.bbox) for u in updates] == [
        (5, 0, (2, 3, 10, 11)),
        (6, 1, (20, 40, 28, 48)),
    ]
    assert session.history == ("add", "add")
    assert session.mask(6, 1).sum() == 64
    assert [u.object_id for u in session.on_frame(0)] == [4, 5]
    session.undo()
    assert state(session) == before


def test_none_found_is_no_action(session):
    assert session.add_found([]) == ()
    assert session.history == ()


def test_a_proposal_outside_of_the_frame_is_told_and_none_is_added(session):
    with pytest.raises(InputError, match="bounding box"):
        session.add_found([proposal(0, 2, 2), proposal(0, 60, 60)])
    assert session.object_ids == ()


def test_many_masks_at_once_give_what_they_give_one_by_one(stack, model):
    places = [(2, 3), (20, 40), (40, 10), (44, 44), (10, 24)]
    masks = [Mask(0, i, proposal(0, y, x, 7 + i).full_mask(SHAPE)) for i, (y, x) in enumerate(places, 1)]
    with Session(stack, model) as together, Session(stack, model) as alone:
        together.add(*masks)
        for mask in masks:
            alone.add(mask)
        for mask in masks:
            a, b = (s._store.get(mask.object_id, 0) for s in (together, alone))
            assert (a.view, a.bbox) == (b.view, b.bbox)
            assert np.array_equal(a.mask, b.mask)
            np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)
            np.testing.assert_allclose(a.pointer, b.pointer, atol=1e-4)
        assert np.array_equal(together.label_frame(0), alone.label_frame(0))


def test_a_mask_that_replaces_clicks_is_one_of_those_said_together(session):
    session.add(Mask(0, 1, proposal(0, 2, 2).full_mask(SHAPE)))
    run(session, "forward")
    session.add(
        Mask(2, 1, proposal(2, 20, 20).full_mask(SHAPE)), Mask(0, 2, proposal(0, 40, 40).full_mask(SHAPE))
    )
    assert session.stale_frames(1) == (3, 4, 5)
    assert session.mask(1, 2)[20:28, 20:28].all()
    session.remove(session.prompts[1])
    assert session.frames_of(1) == tuple(range(6))


def test_found_masks_are_replayed(stack, tmp_path):
    model = random_model()
    with Session(stack, model, tmp_path / "a") as session:
        session.add_found([proposal(0, 2, 3), proposal(0, 20, 40)])
        run(session, "forward")
        labels = session.labels[:]
        path = session.save()
    with replay(path, stack, model) as again:
        assert np.array_equal(again.labels[:], labels)


def test_a_mask_of_a_large_frame_is_written_down_in_its_box():
    mask = mask_within(0, 3, (9000, 4000, 9012, 4020), np.eye(12, 20, dtype=bool), (20_000, 20_000))
    told = json.loads(json.dumps(prompt_to_json(mask)))
    assert len(json.dumps(told)) < 300
    again = prompt_from_json(told, 0, 3)
    assert again.bbox == mask.bbox == (9000, 4000, 9012, 4012)  # cut to what is painted
    assert np.array_equal(again.painted, mask.painted)
    assert again.frame_shape == (20_000, 20_000)


class Finder:
    """In place of the network's: it finds what a test says, by frame."""

    found: ClassVar[dict] = {}
    pitches: ClassVar[list] = []

    def __init__(self, model, stack, encoder, guard):
        with guard():
            pass

    def best_pitch(self, frame, region, min_score):
        self.pitches.append(frame)
        return 4 if self.found.get(frame) else None

    def find(self, frame, region, pitch, min_score):
        return list(self.found.get(frame, ()))


@pytest.fixture
def found(monkeypatch, discs):
    monkeypatch.setattr(finding, "DenseFinder", Finder)
    monkeypatch.setattr(Finder, "found", {})
    monkeypatch.setattr(Finder, "pitches", [])
    return Finder.found


@pytest.fixture
def opened(found, stack):
    with Session(stack, random_model()) as session:
        yield session


def test_options_choose_among_proposals(opened, found):
    found[0] = [proposal(0, 2, 2, 4), proposal(0, 20, 20, 8), proposal(0, 40, 40, 16)]
    assert [p.area for p in find_objects(opened, 0, size=20)] == [64, 256]
    assert [p.area for p in find_objects(opened, 0, size=20, min_area=1, max_area=100)] == [16, 64]
    assert [p.area for p in find_objects(opened, 0, size=20, region=(18, 0, 40, 64))] == [64]


def test_what_is_tracked_is_left_out(opened, found):
    found[0] = [proposal(0, 2, 2), proposal(0, 20, 20)]
    opened.add_found(find_objects(opened, 0, size=20))
    found[0] = [proposal(0, 4, 4), proposal(0, 40, 40)]
    assert [p.bbox[:2] for p in find_objects(opened, 0, size=20)] == [(40, 40)]
    assert len(find_objects(opened, 0, size=20, skip_tracked=False)) == 2


def test_newcomers_get_new_ids_and_all_are_followed(opened, found):
    found.update({0: [proposal(0, 2, 2)], 2: [proposal(2, 2, 3), proposal(2, 40, 40)], 4: []})
    seen = [(u.frame, u.object_id) for u in find_and_follow(opened, every=2, last=4)]
    assert seen == [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2)]
    assert opened.history == ("add", "propagate", "add", "propagate")
    assert Finder.pitches == [0]  # estimated once
    again = [(u.frame, u.object_id) for u in find_and_follow(opened, every=2, last=4)]
    assert again == []


def test_nothing_until_something_appears(opened, found):
    found[3] = [proposal(3, 2, 2)]
    assert [(u.frame, u.object_id) for u in find_and_follow(opened)] == [(3, 1), (4, 1), (5, 1)]


def test_only_the_first_frame_is_searched(opened, found):
    found.update({1: [proposal(1, 2, 2)], 2: [proposal(2, 40, 40)]})
    assert {u.object_id for u in find_and_follow(opened, every=0, first=1)} == {1}
    assert opened.frames_of(1) == (1, 2, 3, 4, 5)


def test_closing_cancels_and_a_prompt_ends_it(opened, found):
    found[0] = [proposal(0, 2, 2), proposal(0, 40, 40)]
    updates = find_and_follow(opened, every=3)
    for update in updates:
        if update.frame == 2:
            break
    updates.close()
    assert opened.frames_of(1) == opened.frames_of(2) == (0, 1, 2)

    updates = find_and_follow(opened, every=3)
    assert next(updates).frame == 3
    opened.add(Mask(1, 1, proposal(1, 4, 4).full_mask(SHAPE)))
    list(updates)
    assert opened.stale_frames(1) == (2, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 1}, "size is 1"),
        ({"min_area": 0}, "min_area is 0"),
        ({"min_area": 9, "max_area": 5}, "max_area is 5"),
        ({"min_score": 2}, "min_score is 2"),
        ({"region": (0, 0, 5)}, "give \\(y0, x0, y1, x1\\)"),
        ({"region": (70, 0, 80, 5)}, "holds nothing"),
        ({"region": 4}, "region is 4"),
    ],
)
def test_bad_options_are_told_by_the_call(session, options, words):
    with pytest.raises(InputError, match=words):
        find_objects(session, 0, **options)
    with pytest.raises(InputError, match=words):
        find_and_follow(session, **options)


@pytest.mark.parametrize("search", [find_objects, finding.estimate_size])
def test_a_step_that_raises_ends_the_search(session, search):
    """It is called before each part, so a search can be cancelled in the middle."""
    calls = []

    class EnoughError(Exception):
        pass

    def step():
        calls.append(None)
        if len(calls) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        search(session, 0, step=step)
    assert len(calls) == 2
    assert session.history == ()


def test_bad_frames_are_told_by_the_call(session):
    for options in ({"first": 9}, {"first": 3, "last": 2}, {"every": -1}, {"every": 1.5}):
        with pytest.raises(InputError):
            find_and_follow(session, **options)
    with pytest.raises(InputError, match="frame 6"):
        find_objects(session, 6)
    with pytest.raises(InputError, match="official"):
        find_objects(session, 0, masks=AutomaticMasks())
    with pytest.raises(InputError, match="points_per_side"):
        AutomaticMasks(points_per_side=0)


@pytest.mark.slow
def test_everything_in_a_sample_is_found_and_followed(repo_root):
    stack = open_stack(repo_root / "sample_data" / "timelapse.tif")
    with Session(stack, load_model()) as session:
        for _ in find_and_follow(session, every=2, size=36, last=2):
            pass
        assert 10 <= len(session.object_ids) <= 11  # ten on frame 0
        assert len(np.unique(session.label_frame(2))) > 9

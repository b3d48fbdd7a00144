"""Ends in depth: which sections are cut and believed, what they say together, and what comes of it.

The network of these tests answers every section with a mask that the test chose, so that what is tested is
what is made of the answers.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import zarr
from random_model import labels, random_model, run

from stacksam import Mask, Session, open_stack
from stacksam.session.canvas import View
from stacksam.session.ends import Ends, Reach, _together
from stacksam.session.predictor import Predictor
from stacksam.session.replay import replay
from stacksam.session.sections import Section, extent_in, longest_run, sections_of
from stacksam.session.settings import Settings

FRAMES, SIDE = 36, 48
EVERYWHERE = Reach(-math.inf, math.inf)


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def session_in_depth(**how) -> Session:
    rng = np.random.default_rng(0)
    volume = rng.uniform(0, 1, (FRAMES, SIDE, SIDE)).astype(np.float32)
    return Session(open_stack(volume, axes="zyx", intensity=(0.0, 1.0)), random_model(), **how)


def record_of(session: Session, frame: int, mask: np.ndarray):
    session.add(Mask(frame=frame, object_id=1, mask=mask))
    return session._predictor.recall(1, frame)


@pytest.mark.parametrize(
    ("line", "expected"),
    [("0110111", (4, 6)), ("1100110", (0, 1)), ("0000", (0, -1)), ("1", (0, 0)), ("111", (0, 2))],
)
def test_the_longest_run_of_a_line(line, expected):
    assert longest_run(np.array([c == "1" for c in line])) == expected


def test_sections_cut_the_mask_along_both_axes_through_its_middle():
    with session_in_depth() as session:
        sections = sections_of(record_of(session, 3, disc(20, 30, 8)))
    assert {section.axis for section in sections} == {0, 1}
    assert len(sections) == 6
    middle = [s for s in sections if (s.axis, s.at) in {(0, 20), (1, 30)}]
    assert {(s.axis, s.line) for s in middle} == {(0, (22, 38)), (1, (12, 28))}


def test_a_speck_has_no_sections():
    with session_in_depth() as session:
        mask = np.zeros((SIDE, SIDE), bool)
        mask[10:12, 10:12] = True
        assert sections_of(record_of(session, 3, mask)) == []


SECTION = Section(frame=9, axis=0, at=20, line=(10, 19))
VIEW = View(2, 0, 16, 32, 64)  # frames 2 to 17


def answer(low: int, high: int, left: int = 10, right: int = 19):
    return (low, left, high + 1, right + 1), np.ones((high + 1 - low, right + 1 - left), bool)


def extent(said, section=SECTION, view=VIEW, n_frames=FRAMES):
    box, mask = said
    return extent_in(section, view, n_frames, box, mask, 0.75)


def span(seen):
    return seen.first, seen.last


def test_a_section_tells_first_and_last_frame():
    assert span(extent(answer(6, 12))) == (6.0, 12.0)


def test_what_leaves_the_section_has_no_end_there():
    assert span(extent(answer(2, 12))) == (-math.inf, 12.0)
    assert span(extent(answer(6, 17))) == (6.0, math.inf)


def test_a_section_that_does_not_keep_to_the_known_line_is_not_believed():
    assert extent(answer(6, 12, left=0, right=30)) is None
    assert extent(answer(6, 12, left=16)) is None
    assert extent(answer(10, 14)) is None  # not even there on the frame itself
    assert extent(((0, 0, 0, 0), np.zeros((0, 0), bool))) is None


def test_a_gap_ends_an_object_and_what_lies_beside_the_line_is_no_part_of_it():
    box, mask = answer(4, 14, right=22)
    mask[2, :10] = False  # frame 6: only beside the line
    assert span(extent((box, mask))) == (7.0, 14.0)


def test_ends_are_looked_at_again_from_half_way():
    seen = extent(answer(4, 13))
    assert [(s.frame, s.line) for s in seen.closer()] == [(6, (10, 19)), (11, (10, 19))]
    open_ended = extent(answer(2, 13))
    assert [s.frame for s in open_ended.closer()] == [11]


def test_an_end_that_is_not_found_again_is_none():
    seen = extent(answer(4, 13))
    same, farther = answer(4, 13), answer(5, 16)
    near = [extent(same, section) for section in seen.closer()]
    assert seen.confirmed(iter(near)) == (4.0, 13.0)
    other = [near[0], extent(farther, seen.closer()[1])]  # a tube, seen as a blob once more
    assert seen.confirmed(iter(other)) == (4.0, math.inf)
    assert seen.confirmed(iter([None, near[1]])) == (-math.inf, 13.0)


def ends_that_answer(monkeypatch, session, extents):
    """Ends whose sections have these first and last frames, one after the other, around the known line."""
    ends = Ends(session.model, session.stack, session._predictor.encoder)
    told = {}

    def ask(questions, least):
        for (_, section), said in zip(questions, extents, strict=False):
            told.setdefault((section.axis, section.at), said)
        found = []
        for _, s in questions:
            a, b = told[s.axis, s.at]
            mask = np.ones((b + 1 - a, s.line[1] + 1 - s.line[0]), bool)
            box = a, s.line[0], b + 1, s.line[1] + 1
            found.append(extent_in(s, View(-100, 0, 300, SIDE, 64), 10 * FRAMES, box, mask, least))
        return found

    monkeypatch.setattr(ends, "_ask", ask)
    return ends


@pytest.mark.parametrize(
    ("said", "reach"),
    [
        # Sections come in this order: of axis 0 before, in and behind the middle, then the same of axis 1.
        ([(8, 13), (7, 14), (8, 13), (8, 13), (7, 14), (8, 13)], (7, 14)),  # a ball
        ([(7, 14)] * 6, (7, 14)),  # a box
        ([(2, 30), (7, 14), (8, 13), (8, 13), (7, 14), (8, 13)], (7, 14)),  # one goes on into a neighbour
        ([(8, 13), (2, 30), (8, 13), (8, 13), (7, 14), (8, 13)], (7, 14)),  # and that is in the middle
        ([(8, 13), (9, 12), (8, 13), (8, 13), (7, 14), (8, 13)], (7, 14)),  # one falls short
        ([(9, 11), (7, 14), (8, 13), (8, 13), (7, 14), (8, 13)], (7, 14)),
        ([(7, 14), (1, 30), (7, 14), (7, 14), (1, 30), (7, 14)], (6, 15)),  # no farther than a ball might
    ],
)
def test_sections_together_tell_the_middle_of_what_they_say(monkeypatch, said, reach):
    with session_in_depth() as session:
        record = record_of(session, 10, disc(20, 30, 8))
        assert ends_that_answer(monkeypatch, session, said).reach(record) == Reach(*reach)


@pytest.mark.parametrize("side", [0, 1])
def test_an_end_that_is_found_on_one_side_leaves_the_other_open(side):
    said = extent(answer(6, 12))
    ends = [(6.0, math.inf), (-math.inf, 12.0)][side]
    assert _together([said] * 2, [ends] * 2) == Reach(*ends)


def test_without_two_sections_to_believe_nothing_is_ruled_out(monkeypatch):
    with session_in_depth() as session:
        record = record_of(session, 10, disc(20, 30, 8))
        ends = ends_that_answer(monkeypatch, session, [(12, 14)] * 5 + [(8, 13)])  # five miss the frame
        assert ends.reach(record) == EVERYWHERE


def test_large_objects_of_few_planes_have_sections_only_where_spacing_is_told(monkeypatch):
    """A disc of 31 pixels on 8 planes: windows of its sections would be 17 times as high as the stack.

    Nor where it tells that planes lie so far apart that a section would be a few lines.
    """
    volume = np.random.default_rng(0).uniform(0, 1, (8, SIDE, SIDE)).astype(np.float32)
    asked = []

    def ask(self, questions, least):
        asked.extend(questions)
        return [None] * len(questions)

    monkeypatch.setattr(Ends, "_ask", ask)
    spacings = None, (0.2, 0.2), (8.0, 1.0, 1.0), {"z": 5.0, "y": 1.0, "x": 1.0}, (1.0, 1.0, 1.0)
    for spacing in spacings:
        asked.clear()
        stack = open_stack(volume, axes="zyx", intensity=(0.0, 1.0), spacing=spacing)
        with Session(stack, random_model()) as session:
            record = record_of(session, 4, disc(24, 24, 15))
            assert session._predictor._ends.reach(record) == EVERYWHERE
        assert bool(asked) is (spacing in spacings[3:])


def test_between_conditioning_frames_an_object_may_always_be(monkeypatch):
    with session_in_depth() as session:
        first, last = (record_of(session, frame, disc(20, 30, 8)) for frame in (4, 16))
        ends = Ends(session.model, session.stack, session._predictor.encoder)
        monkeypatch.setattr(ends, "_look", lambda records: [Reach(r.frame - 2, r.frame + 2) for r in records])
        allowed = [f for f in range(FRAMES) if ends.allow(f, [first, last])]
        assert allowed == list(range(2, 19))
        assert [f for f in range(FRAMES) if ends.allow(f, [first])] == list(range(2, 7))
        gone = replace(last, mask=np.zeros((0, 0), bool), bbox=(0, 0, 0, 0))
        assert not ends.allow(16, [first, gone])


def test_a_section_of_a_painted_ball_is_looked_at_by_the_network():
    """All of it, with a network of random weights: whatever it answers, the frame itself is in reach."""
    with session_in_depth() as session:
        record = record_of(session, 10, disc(20, 30, 9))
        ends = Ends(session.model, session.stack, session._predictor.encoder)
        reach = ends.reach(record)
        assert reach.first <= 10 <= reach.last
        assert ends.reach(record) is reach  # not looked at twice


@pytest.fixture
def short(monkeypatch):
    """Objects reach from two frames before each prompt to three after it, and are seen there."""

    def look(self, records):
        return [Reach(r.frame - 2, r.frame + 3) for r in records]

    monkeypatch.setattr(Ends, "_look", look)


def test_an_object_is_not_followed_beyond_its_end_and_the_network_not_asked(short, monkeypatch):
    asked = []
    decode = Predictor._follow

    def follow(self, frame, looks, step):
        asked.append(frame)
        return decode(self, frame, looks, step)

    monkeypatch.setattr(Predictor, "_follow", follow)
    with session_in_depth() as session:
        session.add(Mask(frame=10, object_id=1, mask=disc(20, 30, 8)))
        for _ in session.propagate(direction="both"):
            pass
        assert set(asked) <= set(range(8, 14))
        for frame in [*range(8), *range(14, FRAMES)]:
            assert not session.mask(1, frame).any()
        beyond = session._predictor.recall(1, 14)
        assert beyond.object_score < 0
        assert beyond.predicted_iou == 1.0  # not that of the frame before
        assert 10 in beyond.sources  # a correction there has this frame done anew
        assert np.array_equal(beyond.pointer, session.model.network.no_obj_ptr[0].float().numpy())


def seen(session, object_id=1):
    return [frame for frame in range(FRAMES) if session.mask(object_id, frame).any()]


def painted(frame: int) -> Mask:
    return Mask(frame=frame, object_id=1, mask=disc(20, 30, 8))


@pytest.mark.parametrize(("earlier", "later"), [(10, 20), (20, 10), (10, 30), (30, 10)])
def test_a_prompt_farther_away_fills_what_lies_between_whenever_it_comes(short, earlier, later, tmp_path):
    with session_in_depth() as session:
        session.add(painted(10), painted(20 if 20 in (earlier, later) else 30))
        run(session)
        both = seen(session)
    assert both == list(range(8, max(earlier, later) + 4))
    with session_in_depth() as session:
        session.add(painted(earlier))
        run(session)
        assert seen(session) == list(range(earlier - 2, earlier + 4))
        alone = labels(session)
        session.add(painted(later))
        assert set(range(min(earlier, later) + 4, max(earlier, later) - 2)) <= set(session.stale_frames(1))
        run(session)
        assert seen(session) == both
        assert session.stale_frames(1) == ()
        filled = labels(session)
        with replay(session.save(tmp_path / "session.json"), session.stack, session.model) as again:
            assert np.array_equal(labels(again), filled)
        session.undo()
        session.undo()
        assert session.stale_frames(1) == ()
        assert np.array_equal(labels(session), alone)
        session.redo()
        session.redo()
        assert np.array_equal(labels(session), filled)


def test_another_prompt_has_all_of_the_ended_frames_looked_at_anew(monkeypatch):
    """Also those beyond a prompt that was there before: the new one may tell that it reaches farther."""

    def look(self, records):
        return [Reach(r.frame - (2 if r.frame == 10 else 26), r.frame + 3) for r in records]

    monkeypatch.setattr(Ends, "_look", look)
    with session_in_depth() as session:
        session.add(painted(10))
        run(session)
        assert seen(session) == list(range(8, 14))
        session.add(painted(31))
        run(session)
        assert seen(session) == list(range(5, 35))


def test_what_was_approved_shields_ended_frames_behind_it(short):
    with session_in_depth() as session:
        session.add(painted(10))
        run(session)
        session.lock(1, [16])
        session.add(painted(25))
        stale = session.stale_frames(1)
        assert set(range(17, 25)) <= set(stale)
        assert not set(range(17)) & set(stale)


def test_a_further_prompt_on_the_same_frame_leaves_ended_frames_that_did_not_come_from_it(short):
    with session_in_depth(settings=Settings(max_conditioning=1)) as session:
        session.add(painted(10), painted(30))
        run(session)
        assert 15 in session.frames_of(1)
        session.add(painted(30))
        assert 15 not in session.stale_frames(1)


def test_where_ends_are_not_looked_for_a_prompt_has_only_what_came_from_it_done_anew(monkeypatch):
    """As in sessions of before, whose actions tell how many frames were done."""
    monkeypatch.setattr(Predictor, "_follow_all", lambda self, frame, requests, step: {
        r.object_id: replace(self.absent(r.previous), frame=frame, prompted=False, step=step, sources=(10,))
        for r in requests
    })  # fmt: skip
    for ends in (False, True):
        with session_in_depth(settings=Settings(find_ends=ends)) as session:
            monkeypatch.setattr(Ends, "_look", lambda self, records: [EVERYWHERE] * len(records))
            session.add(painted(10))
            run(session, "forward", last=19)
            session.add(painted(20))
            assert session.stale_frames(1) == (tuple(range(11, 20)) if ends else ())


def test_live_stacks_have_no_ends_but_what_has_ended_does_not_come_back(tmp_path, monkeypatch):
    """An end may lie among planes that are to come; results must not depend on how many there are."""

    def fail(self, records):
        raise AssertionError("looked")

    monkeypatch.setattr(Ends, "_look", fail)
    volume = np.random.default_rng(0).integers(0, 1000, (6, SIDE, SIDE), dtype=np.uint16)
    array = zarr.create_array(tmp_path / "z.zarr", shape=volume.shape, chunks=(1, SIDE, SIDE), dtype="uint16")
    array[...] = volume
    stack = open_stack(tmp_path / "z.zarr", axes="zyx", frame_axis="z", intensity=(0.0, 1000.0), live=True)
    with Session(stack, random_model()) as session:
        session.add(painted(1))
        run(session, "forward", last=3)
        assert session.mask(1, 3).any()
        session.mark_absent(1, [3])
        run(session, "forward")
        assert not session.mask(1, 4).any()


def test_ends_are_looked_for_in_depth_alone_and_only_if_wished(monkeypatch):
    def fail(self, records):
        raise AssertionError("looked")

    monkeypatch.setattr(Ends, "_look", fail)
    with session_in_depth(settings=Settings(find_ends=False)) as session:
        session.add(Mask(frame=10, object_id=1, mask=disc(20, 30, 8)))
        for _ in session.propagate(direction="forward", last=12):
            pass
    volume = np.random.default_rng(0).uniform(0, 1, (6, SIDE, SIDE)).astype(np.float32)
    with Session(open_stack(volume, axes="tyx", intensity=(0.0, 1.0)), random_model()) as session:
        session.add(Mask(frame=0, object_id=1, mask=disc(20, 30, 8)))
        for _ in session.propagate():
            pass


def test_sessions_of_before_are_replayed_without_looking_for_ends():
    assert Settings.from_json({"max_conditioning": None, "fill_holes": 8}).find_ends is False
    assert Settings.from_json(Settings().to_json(windowed=True)) == Settings()
    off = Settings(find_ends=False)
    assert Settings.from_json(off.to_json(windowed=True)) == off


def test_sections_are_cut_where_they_lie():
    """Rows of pixels for one axis, columns for the other, of the frames that were asked for."""
    rng = np.random.default_rng(3)
    volume = rng.uniform(0, 1, (FRAMES, SIDE, SIDE)).astype(np.float32)
    with Session(open_stack(volume, axes="zyx", intensity=(0.0, 1.0)), random_model()) as session:
        ends = session._predictor._ends
        one = ends._subject(record_of(session, 10, disc(20, 30, 3)))
        ends._read([one])
        y0, x0, y1, x1 = one.box
        assert y0 > 0  # else nothing is told of where they begin
        assert len({y0, SIDE - y1, x0}) == 3
        assert len(one.shown) == 6
        for (axis, at), shown in one.shown.items():
            expected = volume[one.frames][:, at, x0:x1] if axis == 0 else volume[one.frames][:, y0:y1, at]
            assert np.allclose(shown[..., 0], expected, atol=1e-5)
            assert shown.shape[2] == 1  # greys are not kept thrice

"""Sessions with an official kind of model, whose small objects see windows of the frame only."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
from random_model import labels, rows, run
from worlds import World, click, moving, official_model, still

from stacksam.errors import InputError, SessionFileError
from stacksam.session.prompts import Mask, Point
from stacksam.session.replay import replay
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.stack import open_stack

SIDE, FRAMES = 256, 10  # a token is 8 frame pixels


@pytest.fixture(scope="module")
def model():
    return official_model()


@pytest.fixture(scope="module")
def stack():
    noise = np.random.default_rng(0).random((FRAMES, SIDE, SIDE), np.float32)
    return open_stack(noise, axes="tyx", intensity=(0, 1))


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


AUTO = Settings(scope="auto")


def windows(session, object_id):
    return [session._store.get(object_id, f).view.window for f in session.frames_of(object_id)]


def two(world):
    """Two small objects, one of them on its way."""
    world.places = {1: still(60, 190), 2: moving(80, 70, 9, 6)}
    return click(world, 1), click(world, 2)


# Which window


def test_small_objects_see_windows_and_large_ones_the_frame(stack, model, world):
    world.places = {1: still(60, 190), 2: still(120, 100, 40)}
    with Session(stack, model, settings=AUTO) as session:
        session.add(click(world, 1), click(world, 2))
        run(session, last=2)
        assert {w.side for w in windows(session, 1)} == {16}
        assert windows(session, 2) == [None] * 3
        found = labels(session)
    assert (found[2] == 1).sum() == pytest.approx(np.pi * 8**2, rel=0.1)
    assert (found[2] == 2).sum() == pytest.approx(np.pi * 40**2, rel=0.1)


@pytest.mark.parametrize(("scope", "sides"), [("full", {None}), ("auto", {None}), ("window", {24})])
def test_the_scope_is_heeded(stack, model, world, scope, sides):
    world.places = {1: still(120, 100, 18)}  # 4 tokens, wanting a window of 18
    with Session(stack, model, settings=Settings(scope=scope)) as session:
        session.add(click(world, 1))
        run(session, last=2)
        assert {w and w.side for w in windows(session, 1)} == sides


def test_large_objects_have_the_same_results_in_auto_and_full(stack, model, world):
    world.places = {1: still(120, 100, 40)}
    found = []
    for scope in ("auto", "full"):
        with Session(stack, model, settings=Settings(scope=scope)) as session:
            session.add(click(world, 1))
            run(session, last=3)
            found.append(rows(session, 1))
    assert found[0] == found[1]


def test_a_click_is_read_on_the_whole_frame(stack, model, world):
    world.places = {1: still(60, 190)}
    found = []
    for scope in ("auto", "full"):
        with Session(stack, model, settings=Settings(scope=scope)) as session:
            session.add(click(world, 1))
            found.append(session._store.get(1, 0))
    windowed, full = found
    assert windowed.view.window is not None
    assert full.view.window is None
    assert np.array_equal(windowed.pointer, full.pointer)
    assert windowed.predicted_iou == full.predicted_iou
    assert np.array_equal(windowed.mask, full.mask)


# Following


def test_a_window_follows_its_object(stack, model, world):
    two(world)
    with Session(stack, model, settings=AUTO) as session:
        session.add(click(world, 2))
        run(session)
        for frame, window in enumerate(windows(session, 2)):
            y, x, _ = world.places[2](frame)
            assert abs(8 * (window.row + window.side / 2) - y) <= 24
            assert abs(8 * (window.column + window.side / 2) - x) <= 24
            assert session.mask(2, frame).sum() == pytest.approx(np.pi * 8**2, rel=0.1)
        assert len(set(windows(session, 2))) > 3


def test_objects_do_not_depend_on_what_they_are_computed_with(stack, model, world):
    prompts = [*two(world)]
    for i in range(3, 8):
        world.places[i] = moving(30 * i, 200 - 20 * i, 2 - i % 3, i % 2)
        prompts.append(click(world, i))
    found = []
    for batch, together in ((16, True), (4, True), (16, False)):
        with Session(stack, model, settings=Settings(batch=batch, scope="auto")) as session:
            session.add(*prompts)
            for ids in [session.object_ids] if together else [[i] for i in session.object_ids]:
                run(session, objects=ids, last=5)
            found.append({i: [session._store.get(i, f) for f in range(6)] for i in session.object_ids})
    for other in found[1:]:
        for i, records in found[0].items():
            for mine, theirs in zip(records, other[i], strict=True):
                assert mine.view == theirs.view
                assert np.array_equal(mine.mask, theirs.mask)
                np.testing.assert_allclose(mine.pointer, theirs.pointer, rtol=1e-3, atol=1e-3)


def test_memories_made_anew_are_those_that_were_dropped(stack, model, world):
    found = []
    for dropped in (False, True):
        with Session(stack, model, settings=AUTO) as session:
            session.add(*two(world))
            for frame in range(1, 6):
                if dropped:
                    session._predictor.bank.clear()
                run(session, "forward", first=frame, last=frame)
            found.append(np.stack([session._store.get(i, f).pointer for i in (1, 2) for f in range(6)]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_the_way_back_encodes_no_frame_again(stack, model, world):
    world.places = {1: still(60, 190), 2: still(150, 80)}
    with Session(stack, model, settings=Settings(cache_bytes=2**28, scope="auto")) as session:
        session.add(click(world, 1, 0), click(world, 2, FRAMES - 1))
        run(session, "forward")
        assert session._predictor.features_encoded == FRAMES
        run(session, "backward")
        assert session._predictor.features_encoded == FRAMES
        assert session.frames_of(2) == tuple(range(FRAMES))


# Losing and finding


def test_a_lost_object_is_searched_for_everywhere_and_found_again(stack, model, world):
    def place(frame):
        return (60, 190, 8) if frame < 3 else None if frame < 5 else (200, 40, 8)

    world.places = {1: place}
    with Session(stack, model, settings=AUTO) as session:
        session.add(click(world, 1))
        world.looks.clear()
        run(session)
        everywhere = [frame for _, frame, window in world.looks if window is None]
        assert everywhere[0] == 3  # at once, besides the look in its window
        assert (1, 3, None) in world.looks
        assert len(everywhere) == 1 + sum(1 for f in (4, 5, 6, 7) if f in everywhere)
        found = [f for f in range(3, FRAMES) if session.mask(1, f).any()]
        assert found[0] <= 8  # within four frames of its return
        assert found == list(range(found[0], FRAMES))
        kept = windows(session, 1)
        assert all(window.side == 16 for window in kept)  # memories stay small, also of the search
        assert kept[found[0]].row >= 16
        assert kept[found[0]].column == 0


def test_an_object_that_is_gone_costs_few_searches(model, world):
    stack = open_stack(np.zeros((40, SIDE, SIDE), np.float32), axes="tyx", intensity=(0, 1))
    world.places = {1: lambda frame: (60, 190, 8) if frame == 0 else None}
    with Session(stack, model, settings=AUTO) as session:
        session.add(click(world, 1))
        world.looks.clear()
        run(session)
        everywhere = [frame for _, frame, window in world.looks if window is None]
        assert len(everywhere) <= 6
        assert not session.label_frame(39).any()


# Correcting


def test_a_correction_runs_its_object_again_from_there(stack, model, world):
    with Session(stack, model, settings=AUTO) as session:
        session.add(*two(world))
        run(session)
        before, other = rows(session, 1), rows(session, 2)
        session.add(Point(4, 1, (62, 192)))
        assert session.stale_frames(1) == (5, 6, 7, 8, 9)
        assert run(session) == [(frame, 1) for frame in range(5, FRAMES)]
        after = rows(session, 1)
        assert rows(session, 2) == other
        assert all(after[f] == before[f] for f in range(4))
        assert all(after[f] != before[f] for f in range(4, FRAMES))


def test_a_correction_near_by_is_read_in_the_window_and_one_far_away_everywhere(stack, model, world):
    with Session(stack, model, settings=AUTO) as session:
        session.add(*two(world))
        run(session)
        here = windows(session, 1)[4]
        world.looks.clear()
        session.add(Point(4, 1, (62, 192)))
        assert {window for _, _, window in world.looks} == {here}
        world.looks.clear()
        world.places[1] = still(200, 30)
        session.add(Point(4, 1, (200, 30)))
        assert {window for _, _, window in world.looks} == {None}
        moved = windows(session, 1)[4]
        assert moved.row >= 16
        run(session, last=6)
        assert session.mask(1, 6)[200, 30]


def test_a_painted_mask_is_remembered_in_a_window(stack, model, world):
    world.places = {1: still(64, 64)}
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = (y - 64) ** 2 + (x - 64) ** 2 < 64
    with Session(stack, model, settings=AUTO) as session:
        session.add(Mask(0, 1, mask))
        assert windows(session, 1)[0].side == 16
        assert np.array_equal(session.mask(1, 0), mask)
        run(session, last=2)
        assert session.mask(1, 2).any()


# Saving


def test_replay_and_resuming_give_the_same(stack, model, world, tmp_path):
    def work(session):
        session.add(*two(world))
        run(session, last=4)
        session.add(Point(3, 2, (110, 90)))
        run(session, last=6)

    with Session(stack, model, tmp_path / "s", settings=Settings(scope="window")) as session:
        work(session)
        path = session.save()
        kept = {i: rows(session, i) for i in (1, 2)}
        with replay(path, stack, model) as again:
            assert again.settings.scope == "window"
            assert {i: rows(again, i) for i in (1, 2)} == kept
            assert np.array_equal(labels(again), labels(session))
        run(session)
        straight = [session._store.get(i, f) for i in (1, 2) for f in range(FRAMES)]
    with Session(stack, model, tmp_path / "t", settings=Settings(scope="window")) as session:
        work(session)
    with Session(stack, model, tmp_path / "t") as session:
        assert session.settings.scope == "window"
        assert {i: rows(session, i) for i in (1, 2)} == kept
        run(session)
        for one, i, f in zip(straight, np.repeat((1, 2), FRAMES), [*range(FRAMES)] * 2, strict=True):
            other = session._store.get(int(i), f)
            assert one.view == other.view
            assert np.array_equal(one.mask, other.mask)
            np.testing.assert_allclose(one.pointer, other.pointer, rtol=1e-3, atol=1e-3)


def test_a_session_keeps_its_scope(stack, model, tmp_path):
    Session(stack, model, tmp_path, settings=Settings(scope="window")).close()
    with pytest.raises(SessionFileError, match=r"made with the settings .*'window'.*, not with .*'full'"):
        Session(stack, model, tmp_path, settings=Settings())
    with Session(stack, model, tmp_path) as session:
        assert session.settings.scope == "window"
    about = json.loads((tmp_path / "session.json").read_text())
    assert about["settings"]["scope"] == "window"


@pytest.mark.parametrize("given", [None, Settings()])
def test_a_session_from_before_there_were_windows_goes_on_without(stack, model, world, tmp_path, given):
    world.places = {1: still(60, 190)}
    with Session(stack, model, tmp_path, settings=Settings()) as session:
        session.add(click(world, 1))
        run(session, last=2)
        before = rows(session, 1)
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        (text,) = db.execute("SELECT value FROM meta WHERE key = 'session'").fetchone()
        about = json.loads(text)
        del about["settings"]["scope"]
        db.execute("UPDATE meta SET value = ? WHERE key = 'session'", [json.dumps(about)])
        db.execute("UPDATE meta SET value = '1' WHERE key = 'format_version'")
    db.close()
    told = json.loads((tmp_path / "session.json").read_text())
    del told["settings"]["scope"]
    (tmp_path / "old.json").write_text(json.dumps({**told, "version": 1}))
    with pytest.raises(SessionFileError, match="made with the settings"):
        Session(stack, model, tmp_path, settings=Settings(scope="window"))
    with Session(stack, model, tmp_path, settings=given) as session:
        assert session.settings.scope == "full"
        assert rows(session, 1) == before
        run(session, last=4)
        assert windows(session, 1) == [None] * 5
    with replay(tmp_path / "old.json", stack, model) as again:
        assert again.settings.scope == "full"
        assert rows(again, 1) == before


@pytest.mark.parametrize("scope", ["", "whole", None, 3, ["auto"]])
def test_a_scope_that_is_none_is_told(scope):
    with pytest.raises(InputError, match="use 'auto', 'full' or 'window'"):
        Settings(scope=scope)


def test_a_damaged_scope_is_told(stack, model, tmp_path):
    Session(stack, model, tmp_path).close()
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        db.execute("UPDATE meta SET value = replace(value, '\"full\"', '\"otto\"')")
    db.close()
    with pytest.raises(SessionFileError, match=r"damaged.*use 'auto'"):
        Session(stack, model, tmp_path)

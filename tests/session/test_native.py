"""Official models on the native canvas: small objects on tiles of the frame, at a scale of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_model import labels, rows, run
from worlds import GRID, World, click, moving, official_model, still

from stacksam.errors import InputError
from stacksam.network.windows import Window
from stacksam.session.canvas import View
from stacksam.session.native import SIDES, NativeCanvas, centred, placed
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.replay import replay
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.stack import open_stack

SIDE, FRAMES = 768, 8  # the whole frame has 24 pixels along a token, a small object's tile 4
NATIVE = Settings(canvas="native")
CANVAS = NativeCanvas((3000, 5000), 1024)
PLACES = st.tuples(st.floats(0, 2999), st.floats(0, 4999))


@pytest.fixture(scope="module")
def model():
    return official_model()


@pytest.fixture(scope="module")
def stack():
    noise = np.random.default_rng(0).integers(0, 255, (FRAMES, SIDE, SIDE), np.uint8)
    return open_stack(noise, axes="tyx", intensity=(0, 255))


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def views(session, object_id):
    return [session._store.get(object_id, f).view for f in session.frames_of(object_id)]


def disc(y, x, radius):
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


# Scales, tiles and places


@given(st.floats(1, 3000))
def test_an_object_has_a_sensible_share_of_its_window(size):
    pitch = CANVAS.pitch(size)
    if pitch is None:  # the whole frame has 5000 / 64 pixels along a token
        assert 4.5 * size / 16 > 32
    else:
        assert pitch in (4, 8, 16, 32)
        assert 4.5 * size / pitch < 16 * 1.5
        assert pitch == 4 or 4.5 * size / pitch > 16 / 1.5


def test_on_a_small_frame_nothing_is_gained():
    assert NativeCanvas((300, 300), 1024).pitch(10) is None


@given(PLACES, st.sampled_from(SIDES), st.sampled_from([4, 8, 16, 32]))
def test_a_window_lies_around_its_place_as_far_as_the_frame_goes(centre, side, pitch):
    view = CANVAS.window(centre, side, pitch)
    top, left, height, width = view.span
    assert height == width == side * pitch
    assert view.window.row >= 0
    assert view.window.row + side <= 64
    assert view.window.column >= 0
    assert view.window.column + side <= 64
    assert top <= centre[0] <= top + height
    assert left <= centre[1] <= left + width
    # Inside the frame it is in the middle.
    if pitch * side < min(centre[0], 2999 - centre[0], centre[1], 4999 - centre[1]):
        assert abs(top + height / 2 - centre[0]) <= pitch
        assert abs(left + width / 2 - centre[1]) <= pitch


@given(st.lists(st.tuples(PLACES, st.sampled_from(SIDES), st.sampled_from([8, 16])), max_size=30))
def test_few_tiles_show_the_same_places(wanted):
    alone = [CANVAS.window(*each) for each in wanted]
    together = CANVAS.cover(alone)
    assert [view.span for view in together] == [view.span for view in alone]
    assert all(min(view.window[:2]) >= 0 for view in together)
    assert all(max(view.window[:2]) + view.window.side <= 64 for view in together)
    assert len({view.canvas for view in together}) <= max(len({view.canvas for view in alone}), 0)


def test_a_crowd_shares_tiles():
    rng = np.random.default_rng(1)
    alone = [CANVAS.window(centre, 16, 8) for centre in rng.uniform(500, 1400, (100, 2))]
    # 113 tokens a side: what four tiles of 64 hold but for the windows across their borders.
    assert len({view.canvas for view in CANVAS.cover(alone)}) <= 9 < len({view.canvas for view in alone})


def test_one_object_is_in_the_middle_of_its_tile():
    (view,) = CANVAS.cover([CANVAS.window((1500, 2500), 16, 8)])
    assert 16 <= view.window.row <= 32
    assert 16 <= view.window.column <= 32


def test_whole_frames_and_whole_tiles_stay():
    whole = View(0, 0, 3000, 5000, 1024, official=True, window=Window(3, 4, 16))
    tile = CANVAS.look((700, 800), 8)
    assert CANVAS.cover([whole, tile]) == [whole, tile]


@given(PLACES, st.tuples(st.floats(-40, 40), st.floats(-40, 40)), st.sampled_from(SIDES))
def test_memories_keep_their_distances_across_tiles(centre, move, side):
    """Wherever the tiles are, a memory lies to what is seen now as it does on the frame."""
    pitch = 8
    now = CANVAS.window(centre, 16, pitch)
    then = CANVAS.window((centre[0] + move[0], centre[1] + move[1]), side, pitch)
    at, place = centred(now), placed(then, now)
    assert at == Window(24, 24, 16)
    for axis in (0, 1):
        true = (then.span[axis] - now.span[axis]) / pitch
        assert place[axis] - at[axis] == true


def test_a_memory_from_far_away_lies_at_the_border():
    now, then = CANVAS.window((400, 400), 16, 8), CANVAS.window((1500, 400), 16, 8)
    assert placed(then, now) == Window(48, 24, 16)


def test_a_memory_of_another_scale_lies_around_its_true_middle():
    now, then = CANVAS.window((800, 800), 16, 8), CANVAS.window((800, 800), 16, 4)
    place = placed(then, now)
    assert abs(place.row - 24) <= 1
    assert abs(place.column - 24) <= 1


def test_on_the_whole_frame_all_places_are_true_ones():
    whole = View(0, 0, 3000, 5000, 1024, official=True)
    view = View(0, 0, 3000, 5000, 1024, official=True, window=Window(3, 40, 16))
    assert centred(view) is None
    assert placed(view, whole) == Window(3, 40, 16)
    assert placed(whole, view) == Window(0, 0, 64)


# Sessions


def test_small_objects_see_tiles_and_large_ones_the_frame(stack, model, world):
    world.places = {1: still(300, 500), 2: still(400, 300, 120)}
    with Session(stack, model, settings=NATIVE) as session:
        session.add(click(world, 1), click(world, 2))
        run(session, last=2)
        for view in views(session, 1):
            assert view.height == 4 * GRID
            assert view.window.side == 16
        assert {(view.height, view.official, view.window) for view in views(session, 2)} == {
            (SIDE, True, None)
        }
        found = labels(session)
        large = rows(session, 2)
    for frame in range(3):
        # At 4 pixels a token a mask is exact, which at 24 it is not.
        assert np.array_equal(found[frame] == 1, disc(300, 500, 8))
    with Session(stack, model) as session:  # on the canvas of the whole frame
        session.add(click(world, 2))
        run(session, last=2)
        assert rows(session, 2) == large


@pytest.mark.parametrize("kind", ["click", "box", "mask"])
def test_the_first_prompt_tells_the_scale(stack, model, world, kind):
    world.places = {1: still(300, 500), 2: still(500, 200, 25)}
    prompts = {
        "click": (Point(0, 1, (300, 500)), Point(0, 2, (500, 200))),
        "box": (Box(0, 1, (292, 492, 308, 508)), Box(0, 2, (475, 175, 525, 225))),
        "mask": (Mask(0, 1, disc(300, 500, 8)), Mask(0, 2, disc(500, 200, 25))),
    }[kind]
    with Session(stack, model, settings=NATIVE) as session:
        session.add(*prompts)
        assert [views(session, i)[0].height // GRID for i in (1, 2)] == [4, 16]
        if kind == "mask":
            assert np.array_equal(session.mask(1, 0), disc(300, 500, 8))
        # A later prompt on another frame, of whatever kind, keeps to it.
        session.add(Point(5, 2, (500, 200)))
        assert views(session, 2)[1].height == 16 * GRID


def test_an_object_that_crosses_tiles_keeps_its_track(stack, model, world):
    world.places = {1: moving(100, 100, 5, 40)}
    with Session(stack, model, settings=NATIVE) as session:
        session.add(click(world, 1))
        run(session)
        seen = views(session, 1)
        for frame in range(FRAMES):
            y, x, radius = world.places[1](frame)
            assert np.array_equal(session.mask(1, frame), disc(y, x, radius))
    assert len({view.canvas for view in seen}) >= 3


def test_an_object_that_outgrows_its_scale_gets_a_coarser_one(stack, model, world):
    world.places = {1: lambda frame: (300, 300, 8 * 1.35**frame)}
    with Session(stack, model, settings=NATIVE) as session:
        session.add(click(world, 1))
        run(session)
        pitches = [view.height // GRID for view in views(session, 1)]
        assert pitches[0] == 4
        assert pitches == sorted(pitches)
        assert pitches[-1] > 8
        assert all(view.window is None or view.window.side in SIDES for view in views(session, 1))
        assert session.mask(1, FRAMES - 1)[300, 300 + int(8 * 1.35 ** (FRAMES - 1)) - 4]


def test_tiles_are_encoded_only_where_objects_are_and_once(stack, model, world):
    world.places = {i: still(100 + 60 * (i % 3), 100 + 60 * (i // 3)) for i in range(1, 10)}
    world.places[10] = still(700, 700)
    one = 4 * (GRID * GRID) * sum((4 * 16, 8 * 4, 32))  # bytes of the features of one tile
    with Session(stack, model, settings=Settings(canvas="native", cache_bytes=one)) as session:
        session.add(*(Mask(0, i, disc(*world.places[i](0))) for i in world.places))
        run(session, last=1)
        before = session._predictor.features_encoded
        run(session, last=4)
        # Memories are made as long as a tile is at hand, so that each is encoded once.
        tiles = {(f, session._store.get(i, f).view.canvas) for f in (2, 3, 4) for i in world.places}
        assert session._predictor.features_encoded - before == len(tiles)
        assert len(tiles) <= 3 * 6


def test_a_lost_object_is_searched_for_on_its_tile(stack, model, world):
    def place(frame):
        return (300, 300, 8) if frame < 2 else None if frame < 4 else (340, 325, 8)

    world.places = {1: place}
    with Session(stack, model, settings=NATIVE) as session:
        session.add(click(world, 1))
        run(session)
        found = [f for f in range(2, FRAMES) if session.mask(1, f).any()]
        assert found
        assert found == list(range(found[0], FRAMES))
        assert np.array_equal(session.mask(1, FRAMES - 1), disc(340, 325, 8))
        assert all(view.window.side <= 24 for view in views(session, 1))


def test_corrections_are_read_where_they_are(stack, model, world):
    world.places = {1: still(300, 300)}
    with Session(stack, model, settings=NATIVE) as session:
        session.add(click(world, 1))
        run(session)
        here = views(session, 1)[4]
        session.add(Point(4, 1, (303, 302)))
        assert views(session, 1)[4] == here
        world.places[1] = still(700, 40)
        session.add(Point(4, 1, (700, 40)))
        assert views(session, 1)[4].official  # far from its tile: on the whole frame
        run(session)
        assert session.mask(1, FRAMES - 1)[700, 40]


def test_replay_and_resuming_give_the_same(stack, model, world, tmp_path):
    def work(session):
        world.places = {1: moving(100, 100, 5, 40), 2: still(100, 160)}
        session.add(click(world, 1), click(world, 2))
        run(session, last=3)
        session.add(Point(2, 1, (112, 182)))
        run(session, last=5)

    with Session(stack, model, tmp_path / "s", settings=NATIVE) as session:
        work(session)
        path = session.save()
        kept = {i: rows(session, i) for i in (1, 2)}
        with replay(path, stack, model) as again:
            assert again.settings.canvas == "native"
            assert {i: rows(again, i) for i in (1, 2)} == kept
    with Session(stack, model, tmp_path / "s") as session:
        assert session.settings.canvas == "native"
        session._predictor.bank.clear()
        run(session)
        assert session.mask(1, FRAMES - 1).any()


def test_memories_made_anew_are_those_that_were_dropped(stack, model, world):
    found = []
    for dropped in (False, True):
        world.places = {1: moving(100, 100, 5, 40), 2: still(600, 160)}
        with Session(stack, model, settings=NATIVE) as session:
            session.add(click(world, 1), click(world, 2))
            for frame in range(1, 5):
                if dropped:
                    session._predictor.bank.clear()
                run(session, "forward", first=frame, last=frame)
            found.append(np.stack([session._store.get(i, f).pointer for i in (1, 2) for f in range(5)]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_a_mask_from_elsewhere_is_seen_at_its_own_scale(stack, model, world):
    world.places = {1: still(300, 500)}
    with Session(stack, model, settings=NATIVE) as session:
        session.add(click(world, 1))
        run(session, last=3)
        session.set_masks(Mask(2, 1, disc(306, 498, 9)))
        view = session._store.get(1, 2).view
        assert (view.height, view.window.side) == (4 * GRID, 24)  # it is a little larger
        likely = session.probability(1, 2)
        assert likely[disc(306, 498, 7)].min() > 0.5
        assert likely[~disc(306, 498, 12)].max() < 0.5
        run(session, last=3)
        assert not session.stale_frames(1)


def test_a_canvas_that_is_none_is_told():
    with pytest.raises(InputError, match="canvas is 'tiles'; use 'frame' or 'native'"):
        Settings(canvas="tiles")

"""Windows on the canvas of a whole frame: they hold their object, follow it, and do not flip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stacksam.network.windows import Window
from stacksam.session.boxes import bbox_of
from stacksam.session.canvas import View, whole_view
from stacksam.session.records import Record
from stacksam.session.token_windows import SIDES, TokenWindows, searched, seen

GRID = 64
WHOLE = whole_view((512, 700), 16 * GRID)
AUTO, WINDOW, FULL = (TokenWindows.of(scope, GRID) for scope in ("auto", "window", "full"))
centres = st.tuples(st.floats(0, GRID), st.floats(0, GRID))
radii = st.floats(0.6, 12)  # tokens


def disc(centre: tuple[float, float], radius: float, window: Window | None = None) -> np.ndarray:
    """Logits of a disc on the canvas (tokens), as a window shows them."""
    row, column, side = window or Window(0, 0, GRID)
    cells = (np.arange(4 * side) + 0.5) / 4
    distance = (row + cells[:, None] - centre[0]) ** 2 + (column + cells[None] - centre[1]) ** 2
    return np.where(distance < radius**2, 5, -5).astype(np.float32)


def record(logits: np.ndarray, window: Window | None, score: float = 9.0, frame: int = 0) -> Record:
    view = replace(WHOLE, window=window)
    bbox, mask = view.mask(logits, (512, 700))
    return Record(1, frame, view, logits.astype(np.float16), np.zeros(4, np.float32), score, 0.9, bbox, mask)


def holds(window: Window, logits: np.ndarray) -> bool:
    y0, x0, y1, x1 = bbox_of(logits > 0)
    row, column, side = (4 * tokens for tokens in window)
    return row <= y0 and column <= x0 and y1 <= row + side and x1 <= column + side


@given(centre=centres, radius=radii)
def test_a_window_holds_what_was_found_and_lies_on_the_canvas(centre, radius):
    logits = disc(centre, radius)
    assume((logits > 0).any())
    window = WINDOW.around(logits)
    if window is None:
        assert radius > 4
        assert AUTO.around(logits) is None
        return
    assert window.side in SIDES
    assert 0 <= window.row <= GRID - window.side
    assert 0 <= window.column <= GRID - window.side
    assert holds(window, logits)
    assert FULL.around(logits) is None
    assert AUTO.around(logits) == (window if window.side <= GRID // 2 else None)


@given(centre=centres, radius=radii)
def test_an_object_that_stays_keeps_its_window(centre, radius):
    logits = disc(centre, radius)
    assume((logits > 0).any())
    window = WINDOW.around(logits)
    assume(window is not None)
    row, column, side = (4 * tokens for tokens in window)
    now = record(logits[row : row + side, column : column + side], window)
    after = WINDOW.after(now, None)
    assert after.side >= window.side
    if after.side == window.side:
        assert after == window
        assert WINDOW.after(now, now) == window  # it does not move


@given(centre=st.tuples(st.floats(20, 44), st.floats(20, 44)), move=st.tuples(*[st.floats(-4, 4)] * 2))
def test_a_window_moves_on_with_its_object(centre, move):
    before = record(disc(centre, 1.5), None)
    there = centre[0] + move[0], centre[1] + move[1]
    window = AUTO.around(disc(centre, 1.5))
    now = record(disc(there, 1.5, window), window, frame=1)
    assume(now.mask.any())
    after = AUTO.after(now, before)
    expected = there[0] + move[0], there[1] + move[1]
    for start, middle in zip(after[:2], expected, strict=True):
        assert abs(start + after.side / 2 - middle) <= 1.0
    assert holds(after, disc(there, 1.5))


def test_a_window_does_not_flip_between_sides():
    window = AUTO.around(disc((32, 32), 2.2))
    sides = []
    for radius in [2.2, 2.0, 2.2, 1.9, 2.2, 2.05, 2.15, 1.95] * 2:
        now = record(disc((32, 32), radius, window), window)
        window = AUTO.after(now, None)
        sides.append(window.side)
    assert len(set(sides)) == 1
    assert AUTO.after(record(disc((32, 32), 1.0, window), window), None).side == 16  # much smaller


@pytest.mark.parametrize(
    ("centre", "score", "side"),
    [((32, 32), 9.0, 16), ((32, 32), 0.5, 24), ((32, 38.5), 9.0, 24), ((26, 32), 9.0, 24)],
    ids=["seen well", "doubtful", "near the right", "near the top"],
)
def test_a_window_grows_where_its_object_may_be_lost(centre, score, side):
    window = Window(24, 24, 16)
    assert AUTO.after(record(disc(centre, 1.5, window), window, score), None).side == side


def test_near_the_border_of_the_canvas_there_is_nothing_to_grow_for():
    window = Window(0, 24, 16)
    assert AUTO.after(record(disc((1.5, 32), 1.4, window), window), None) == window


def test_a_window_grows_no_further_than_the_scope_allows():
    window = Window(16, 16, 32)
    assert AUTO.after(record(disc((32, 32), 3.2, window), window, score=0.1), None).side == 32
    large = disc((32, 32), 5, window)
    assert AUTO.after(record(large, window), None) is None
    assert WINDOW.after(record(large, window), None) is not None


def test_where_nothing_is_seen_the_window_stays():
    window = Window(3, 5, 24)
    empty = record(np.full((96, 96), -5, np.float32), window)
    assert not seen(empty)
    assert AUTO.after(empty, None) == window
    assert AUTO.after(record(np.full((256, 256), -5, np.float32), None), None) is None


def test_stray_pixels_do_not_stretch_a_window():
    logits = disc((20, 20), 2)
    logits[250, 250] = 1
    assert AUTO.around(logits) == AUTO.around(disc((20, 20), 2))
    two = np.maximum(disc((10, 10), 2), disc((50, 50), 2))  # both belong to it
    assert AUTO.around(two) is None


def test_lost_objects_are_searched_for_in_turn_and_ever_less():
    for unseen, every in ((1, 4), (5, 4), (6, 16), (99, 16)):
        turns = [frame for frame in range(64) if searched(frame, 7, unseen)]
        assert np.unique(np.diff(turns)).tolist() == [every]
    assert len({frame for frame in range(4) for i in range(4) if searched(frame, i, 1)}) == 4


@given(centre=centres, radius=radii)
def test_what_a_window_shows_lies_where_the_whole_view_shows_it(centre, radius):
    logits = disc(centre, radius)
    assume((logits > 0).any())
    window = WINDOW.around(logits)
    assume(window is not None)
    row, column, side = (4 * tokens for tokens in window)
    view = replace(WHOLE, window=window)
    part = logits[row : row + side, column : column + side]
    bbox, mask = view.mask(part, (512, 700))
    expected, full = WHOLE.mask(logits, (512, 700))
    assert bbox == expected
    assert np.array_equal(mask, full)
    np.testing.assert_allclose(view.upsample(part, bbox), WHOLE.upsample(logits, bbox), atol=1e-4)
    assert np.array_equal(WHOLE.carry(logits, view), part)
    back = view.carry(part, WHOLE)
    assert np.array_equal(back[row : row + side, column : column + side], part)
    assert back.shape == logits.shape
    assert (np.delete(back, np.s_[row : row + side], axis=0) == -10).all()
    assert View.from_json(view.to_json()) == view
    assert view.canvas == WHOLE
    for yx in ((bbox[0], bbox[1]), (bbox[2] - 1, bbox[3] - 1)):
        assert view.contains(yx)

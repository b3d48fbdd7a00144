"""Sections across frames: which pixels they are of, how they are asked about, and what is read off a mask."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from stacksam.network.prompt_encoder import NEGATIVE, PADDING, POSITIVE
from stacksam.session.boxes import bbox_of
from stacksam.session.canvas import View
from stacksam.session.sections import Section, extent_in, longest_run, sections_of

SECTION = Section(frame=9, axis=0, at=20, line=(10, 19))
VIEW = View(-50, 0, 200, 64, 64)


def record_of(mask: np.ndarray, frame: int = 3):
    y0, x0, y1, x1 = box = bbox_of(mask)
    return SimpleNamespace(frame=frame, bbox=box, mask=mask[y0:y1, x0:x1])


def disc(radius: float = 10, side: int = 64):
    rows, columns = np.mgrid[:side, :side]
    return (rows - 24) ** 2 + (columns - 20) ** 2 <= radius**2


def said(*runs: tuple[int, int, int]):
    """Bounding box and mask of runs (frame, first pixel, last pixel)."""
    full = np.zeros((100, 64), bool)
    for frame, first, last in runs:
        full[frame, first : last + 1] = True
    y0, x0, y1, x1 = box = bbox_of(full)
    return box, full[y0:y1, x0:x1]


@pytest.mark.parametrize(
    ("line", "inside", "expected"),
    [
        ("11011100", "11000000", (0, 1)),  # not the longest
        ("11011100", "01011000", (3, 5)),
        ("11011100", "00000011", (3, 5)),  # the longest, if none lies there
        ("10000110", "10000001", (0, 0)),
    ],
)
def test_the_run_that_lies_in_the_known_line(line, inside, expected):
    assert longest_run(*(np.array([c == "1" for c in text]) for text in (line, inside))) == expected


def test_a_slit_is_not_clicked_on_as_if_it_were_beside_the_object():
    """A column of a disc is missing, and beyond it, two pixels from the line, the object goes on."""
    mask = disc(10)
    mask[:, 22] = False
    rows = [s for s in sections_of(record_of(mask)) if s.axis == 0]
    assert len(rows) == 3
    for section in rows:
        assert section.line[1] == 21
        places, labels = section.clicks()
        assert labels == [POSITIVE, NEGATIVE, PADDING]
        for (frame, at), label in zip(places, labels, strict=True):
            assert frame == 3
            assert label == PADDING or mask[section.at, round(at)] == (label == POSITIVE)
    assert all(s.clicks()[1] == [POSITIVE, NEGATIVE, NEGATIVE] for s in sections_of(record_of(disc())))


def test_the_closer_look_is_free_to_click_beside():
    slit = Section(frame=9, axis=0, at=20, line=(10, 19), beside=(True, False))
    seen = extent_in(slit, VIEW, 100, *said(*[(f, 10, 19) for f in range(3, 16)]), 0.75)
    assert [s.beside for s in seen.closer()] == [(True, True)] * 2


def test_the_closer_look_is_at_the_object_and_not_at_a_longer_neighbour():
    runs = [(f, 10, 19) for f in range(3, 16)] + [(f, 24, 50) for f in range(10, 14)]
    seen = extent_in(SECTION, VIEW, 100, *said(*runs), 0.75)
    assert [(s.frame, s.line) for s in seen.closer()] == [(6, (10, 19)), (12, (10, 19))]


def test_a_line_of_one_pixel_is_looked_at_from_where_it_is_longer():
    """A funnel that is a pixel wide from frame 11 on; half way to its end is frame 13."""
    runs = [(f, 10, 19) for f in range(3, 11)] + [(f, 15, 15) for f in range(11, 18)]
    seen = extent_in(SECTION, VIEW, 100, *said(*runs), 0.75)
    assert [s.frame for s in seen.closer()] == [6, 10]
    assert seen.confirmed(iter([seen, None])) == (3.0, math.inf)
    # A pixel from the next frame on: seen from as near as can be.
    runs = [(f, 10, 19) for f in range(3, 10)] + [(f, 15, 15) for f in range(10, 18)]
    seen = extent_in(SECTION, VIEW, 100, *said(*runs), 0.75)
    assert [s.frame for s in seen.closer()] == [6]
    assert seen.confirmed(iter([seen])) == (3.0, 17.0)


@pytest.mark.parametrize(("first", "open_ended"), [(0, True), (1, True), (2, False)])
def test_first_and_last_plane_are_treated_alike(first, open_ended):
    """An object at the border of the stack may go on beyond it; one plane is left for a mask to be short."""
    n_frames = 19  # so that frame 9 is in the middle
    last = n_frames - 1 - first
    seen = extent_in(SECTION, VIEW, n_frames, *said(*[(f, 10, 19) for f in range(first, last + 1)]), 0.75)
    assert (seen.first, seen.last) == ((-math.inf, math.inf) if open_ended else (first, last))


@pytest.mark.parametrize(("first", "open_ended"), [(0, True), (1, True), (2, False)])
def test_both_borders_of_a_window_are_treated_alike(first, open_ended):
    view = View(4, 0, 11, 64, 64)  # frames 4 to 14
    runs = [(f, 10, 19) for f in range(4 + first, 15 - first)]
    seen = extent_in(SECTION, view, 100, *said(*runs), 0.75)
    assert math.isinf(seen.first) is math.isinf(seen.last) is open_ended


@pytest.mark.parametrize("line", [(10, 19), (10, 20), (11, 20), (11, 19)])
@pytest.mark.parametrize("size", [32, 33])
def test_windows_lie_around_the_line(line, size):
    section = Section(frame=9, axis=0, at=20, line=line)
    view = section.view(size, 0.5, 64)
    assert (view.height, view.width) == (16, size)
    middle = view.x + (view.width - 1) / 2
    assert 0 <= middle - section.middle <= 0.5
    assert 0 <= view.y + (view.height - 1) / 2 - 9 <= 0.5


def test_sections_know_how_far_from_the_middle_they_are():
    assert sorted((s.axis, s.at, s.off) for s in sections_of(record_of(disc(8)))) == [
        (0, 20, 0.5), (0, 24, 0.0), (0, 28, 0.5), (1, 16, 0.5), (1, 20, 0.0), (1, 24, 0.5),
    ]  # fmt: skip
    small = sections_of(record_of(disc(1.5)))  # three pixels: of few sections one is the middle
    assert {s.axis for s in small if s.off == 0} == {0, 1}

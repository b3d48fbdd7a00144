"""The overview shows what it is told to show, the same each time, and is large enough to be read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stacksam.errors import InputError, StorageError
from stacksam.overview import Mark, choose_frames, colour_of, overview, save_overview
from stacksam.overview_tile import Tile


@pytest.fixture
def scene():
    """Four frames of noise; two discs, the first one moves."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:96, :128]
    images, labels = [], []
    for f in range(4):
        label = np.zeros((96, 128), np.int32)
        label[np.hypot(y - 30, x - 30 - 8 * f) < 14] = 1
        label[np.hypot(y - 70, x - 100) < 10] = 7
        images.append((200 * (label > 0) + rng.integers(90, 120, label.shape)).astype(np.uint16))
        labels.append(label)
    return images, labels


def near(picture, colour, tolerance=12):
    return np.abs(picture.astype(int) - colour).max(axis=-1) <= tolerance


@given(
    n_frames=st.integers(1, 500), count=st.integers(1, 12), include=st.sets(st.integers(0, 499), max_size=9)
)
def test_chosen_frames_are_in_order_and_few(n_frames, count, include):
    include = {f for f in include if f < n_frames}
    frames = choose_frames(n_frames, count, include)
    assert list(frames) == sorted(set(frames))
    assert len(frames) == min(count, n_frames)
    assert all(0 <= f < n_frames for f in frames)
    assert len(include & set(frames)) >= min(len(include), max(1, count // 2), len(frames))


def test_ends_are_shown():
    assert choose_frames(24) == (0, 3, 7, 10, 13, 16, 20, 23)
    assert choose_frames(24, include={12}) == (0, 3, 7, 10, 12, 16, 20, 23)
    assert choose_frames(3) == (0, 1, 2)


def test_colours_are_bright_and_tell_neighbours_apart():
    colours = np.array([colour_of(i) for i in range(1, 200)])
    brightness = colours @ (0.3, 0.59, 0.11)
    assert brightness.min() > 85
    steps = np.abs(np.diff(colours, axis=0)).max(axis=1)
    assert steps.min() > 60


def test_same_input_gives_the_same_picture(scene):
    images, labels = scene
    first, second = (
        overview(images, labels, range(4), title="cells", marks=[Mark(0, 1, (30, 30))], truth=labels)
        for _ in range(2)
    )
    assert np.array_equal(first, second)
    assert first.dtype == np.uint8
    assert first.shape[1] >= 4 * 300
    assert first.shape[0] >= 225 + 60


def test_objects_have_their_colour_and_prompts_are_marked(scene):
    images, labels = scene
    plain = overview(images, labels, range(4))
    for object_id in (1, 7):
        assert near(plain, colour_of(object_id)).sum() > 4 * 100
    accent = (255, 209, 102)
    marked = overview(
        images,
        labels,
        range(4),
        marks=[Mark(2, 1, (30, 46)), Mark(2, 7, (60, 90, 80, 110)), Mark(9, 1, (0, 0))],
    )
    width = plain.shape[1] // 4
    tile = near(marked, accent)[:, 2 * width : 3 * width]
    assert tile.sum() > 300
    assert near(marked, accent)[:, : 2 * width - 20].sum() == 0


@pytest.mark.parametrize("size", [20, 5])
@pytest.mark.parametrize("click", [None, (40.0, 60.0)])
def test_a_number_is_on_its_object_where_it_fits(size, click):
    """And hides no click; else it is beside it."""
    y, x = np.mgrid[:96, :128]
    labels = (np.hypot(y - 40, x - 60) < size).astype(np.int32)
    tile = Tile(np.full((96, 128, 3), 90, np.uint8), (256, 192), (0, 0))
    tile.draw_objects(labels)
    if click is not None:
        tile.draw_marks([Mark(0, 1, click)])
    before = tile.finished()
    picture = before.copy()
    tile.write_ids(picture)
    changed = (np.asarray(picture) != np.asarray(before)).any(axis=-1)
    on_it = labels.repeat(2, axis=0).repeat(2, axis=1)[changed].astype(bool)
    assert changed.sum() > 50
    if size == 20 and click is None:
        assert on_it.all()
    else:
        assert not on_it.any()


def test_truth_is_drawn_in_white_dashes(scene):
    images, labels = scene
    empty = [np.zeros_like(label) for label in labels]
    with_truth = overview(images, empty, range(4), truth=labels)
    without = overview(images, labels, range(4))
    white = (with_truth.min(axis=-1) > 180).sum() - (
        overview(images, empty, range(4)).min(axis=-1) > 180
    ).sum()
    assert white > 500
    assert with_truth.shape == without.shape


def test_small_objects_in_large_frames_are_shown_large():
    image, label = np.zeros((1000, 1200), np.uint16), np.zeros((1000, 1200), np.int32)
    label[500:512, 600:615] = 3
    image[label > 0] = 900
    picture = overview([image], [label], [0], pixel_size=(0.1, "µm"))
    assert near(picture, colour_of(3)).sum() > 500


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 50), bool),
        np.full((40, 50), np.nan, np.float32),
        np.full((40, 50), 7, np.uint8),
        np.random.default_rng(0).random((40, 50, 3), np.float32),
        np.random.default_rng(0).integers(0, 255, (40, 50, 4), np.uint8),
        np.random.default_rng(0).integers(0, 999, (40, 50, 2), np.uint16),
    ],
    ids=["bool", "nan", "constant", "rgb", "rgba", "two channels"],
)
def test_any_kind_of_frame_can_be_shown(image):
    labels = np.zeros((40, 50), np.uint16)
    labels[10:12, 10:12] = 65535
    labels[0, 0] = 1
    picture = overview([image], [labels], [0], title="Zelle 1 × 2 µm – 北京 " * 20, notes={0: "IoU 0.91"})
    assert picture.ndim == 3


def test_what_does_not_fit_is_an_error(scene):
    images, labels = scene
    with pytest.raises(InputError, match="at least one frame"):
        overview([], [], [])
    with pytest.raises(InputError, match="3 labels for 4 frames"):
        overview(images, labels[:3], range(4))
    with pytest.raises(InputError, match=r"both must be \(H, W\)"):
        overview(images, [label.T for label in labels], range(4))
    with pytest.raises(InputError, match="1 captions"):
        overview(images, labels, range(4), captions=["a"])


def test_it_is_saved_whole_or_not_at_all(tmp_path, scene):
    images, labels = scene
    picture = overview(images, labels, range(4))
    save_overview(tmp_path / "overview.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "overview.png")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["overview.png"]
    with pytest.raises(StorageError, match="choose another folder"):
        save_overview(tmp_path / "missing" / "overview.png", picture)

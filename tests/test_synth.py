"""Training clips are pure functions of their seed, and their labels can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def synth(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("synth")


def test_every_mode_makes_a_sound_clip(synth):
    for mode in synth.MODES:
        for seed in range(2):
            clip = synth.make_clip(seed, mode=mode)
            case = f"{mode}, seed {seed}"
            assert clip.mode == mode
            assert clip.images.shape == clip.labels.shape == (6, 256, 256), case
            assert (clip.images.dtype, clip.labels.dtype) == (np.float32, np.uint16), case
            assert np.isfinite(clip.images).all(), case
            assert 0 <= clip.images.min() <= clip.images.max() <= 1, case
            assert clip.images.std() > 0.01, case
            assert np.bincount(clip.labels[0].ravel())[1:].max() >= 30, case


def test_a_clip_is_a_pure_function_of_its_arguments(synth):
    first = synth.make_clip(5, size=96, n_frames=3)
    synth.make_clip(6, size=96, n_frames=3)
    np.random.seed(0)  # noqa: NPY002  the global generator must not matter
    again = synth.make_clip(5, size=96, n_frames=3)
    other = synth.make_clip(7, size=96, n_frames=3, mode=first.mode)
    assert again.mode == first.mode
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.labels, first.labels)
    assert not np.array_equal(other.images, first.images)


def test_naming_the_drawn_mode_changes_nothing(synth):
    drawn = synth.make_clip(11, size=96, n_frames=2)
    named = synth.make_clip(11, size=96, n_frames=2, mode=drawn.mode)
    np.testing.assert_array_equal(named.images, drawn.images)


@pytest.mark.parametrize(("size", "n_frames"), [(64, 1), (100, 2), (160, 9)])
def test_any_size_and_length(synth, size, n_frames):
    for mode in synth.MODES:
        clip = synth.make_clip(1, size=size, n_frames=n_frames, mode=mode)
        assert clip.images.shape == clip.labels.shape == (n_frames, size, size)


def test_ids_follow_their_objects(synth):
    """An id that shows on two frames of a slow tissue covers much the same pixels on both."""
    overlaps = []
    for seed in range(6):
        labels = synth.make_clip(seed, mode="membrane").labels
        for i in np.unique(labels[0])[1:]:
            a, b = labels[0] == i, labels[1] == i
            if a.sum() > 400 and b.any():
                overlaps.append((a & b).sum() / min(a.sum(), b.sum()))
    assert np.median(overlaps) > 0.6


def test_planes_through_a_solid_show_its_sections(synth):
    """An ellipsoid begins, grows, shrinks and ends as geometry says, and so does the one above it."""
    half, radius = 3.0, 12.0
    solids = synth.volumes.Solids(
        centre=np.array([[4.0, 32, 32], [10.0, 32, 32]]),
        radius=np.array([[half, radius, radius]] * 2),
        turn=np.zeros(2),
        lean=np.zeros((2, 2)),
        blunt=np.full(2, 2.0),
        over=np.zeros(2, bool),
    )
    cut = synth.volumes.cut_solids(solids, np.arange(15.0), 64, None, 1.2)
    area = (cut.index == 0).sum((1, 2))
    expected = np.pi * radius**2 * np.clip(1 - ((np.arange(15) - 4) / half) ** 2, 0, None)
    np.testing.assert_allclose(area, expected, atol=0.05 * np.pi * radius**2)
    assert not area[[0, 8, 14]].any()
    np.testing.assert_array_equal((cut.index == 1).sum((1, 2))[6:], area[:9])


def test_daughters_have_new_ids(synth):
    """Once an id has ended in a division it does not come back, and two ids begin in its place."""
    scene_rng = np.random.default_rng(3)
    for _ in range(40):
        scene = synth.scene.make_scene(scene_rng, 256, 6, 40.0, 12, divide=1.0)
        new = scene.y.shape[1] - 12
        assert new % 2 == 0
        assert len(set(scene.ids)) == len(scene.ids)
        for k in range(12, 12 + new):
            begins = int(np.argmax(scene.alive[:, k]))
            assert begins > 0
            assert scene.alive[begins:, k].all()
        if new:
            return
    pytest.fail("no division in 40 scenes")


def test_a_limb_covers_what_its_width_says(synth):
    """A straight rod and a branch are as large as their joints make them, to the pixel's fraction."""
    rng = np.random.default_rng(0)
    scene = synth.scene.slow_scene(rng, 128, 1, 20.0, 1, np.array([[64.0, 64.0]]))
    scene.warp = None
    rod = np.array([[[[64.5, 40.5], [64.5, 88.5]]]])
    buf = synth.limbs.draw_limbs(scene, rod, np.full((1, 1, 2), 6.0), synth.fields.FLAT_POOL, rng)
    assert (buf.index == 0).sum() == pytest.approx(48 * 12 + np.pi * 36, rel=0.04)
    assert buf.depth.max() == pytest.approx(6, abs=0.6)
    branched = np.concatenate([rod, [[[[64.5, 64.5], [100.5, 64.5]]]]], 2)
    buf = synth.limbs.draw_limbs(
        scene, branched, np.array([[[6.0, 6.0, -6.0, 6.0]]]), synth.fields.FLAT_POOL, rng
    )
    more = (36 - 6) * 12 + np.pi * 18
    assert (buf.index == 0).sum() == pytest.approx(48 * 12 + np.pi * 36 + more, rel=0.04)


def test_rods_that_are_pressed_together_stay_apart(synth):
    """Neighbours of a colony share a border, at which the thickness comes down to nothing."""
    rng = np.random.default_rng(1)
    scene = synth.scene.slow_scene(rng, 96, 1, 20.0, 2, np.array([[40.0, 48.0], [50.0, 48.0]]))
    scene.warp, scene.painter = None, False
    joints = np.array([[[[40.0, 20.0], [40.0, 76.0]], [[50.0, 20.0], [50.0, 76.0]]]])
    buf = synth.limbs.draw_limbs(scene, joints, np.full((1, 2, 2), 6.0), synth.fields.FLAT_POOL, rng)
    assert set(buf.index[0, :45, 48]) == {-1, 0}
    assert set(buf.index[0, 46:, 48]) == {-1, 1}
    assert buf.depth[0, 44:47, 48].max() < 1.5 < buf.depth[0, 40, 48]


def test_thin_objects_are_dark_with_a_halo_in_phase_contrast(synth):
    phase = np.zeros((1, 96, 96), np.float32)
    phase[:, 40:56, 40:56] = 0.3
    image = synth.imaging.zernike_contrast(phase, 5.0, 0.7)[0]
    assert image[2, 2] == pytest.approx(1, abs=0.02)
    assert image[48, 48] < 0.8
    assert image[37, 48] > 1.05
    assert image[41, 48] < image[48, 48]  # shade-off: the middle fades


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"size": 32}, {"n_frames": 0}, {"mode": "xray"}])
def test_bad_arguments_are_named(synth, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments)).replace("_", ".")):
        synth.make_clip(**{"seed": 0, **arguments})

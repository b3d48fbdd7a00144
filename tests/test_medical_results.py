"""A medical volume in, labels out: with the geometry of the volume, to the last bit that the format holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent / "session"))

from random_model import DiscPredictor, random_model

from stacksam import cli
from stacksam.errors import InputError, StackError
from stacksam.exports import open_results
from stacksam.io import open_image
from stacksam.session.presets import CT_WINDOWS, preset_names, read_preset
from stacksam.session.stack import Intensity, open_stack, reopen_stack

SHAPE = (6, 24, 20)  # z, y, x


def affine_of(degrees, flip, spacing=(0.75, 0.5, 2.5)):
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 3)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(np.array(spacing) * flip)
    affine[:3, 3] = (-90.3, 40.7, 12.1)
    return affine.astype(np.float32).astype(np.float64)


AFFINES = {
    "plain": affine_of(0, (1, 1, 1)),
    "flipped": affine_of(0, (-1, -1, 1)),
    "oblique": affine_of(25, (1, 1, 1)),
    "oblique and flipped": affine_of(-40, (-1, 1, -1)),
    "sagittal": affine_of(0, (1, 1, 1))[[2, 0, 1, 3]],
    "sheared": affine_of(10, (1, 1, 1))
    @ np.array([[1, 0, 0, 0], [0, 1, 0.25, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
}


def scan(path, affine, dtype=np.int16):
    """A bright body in a dark CT."""
    rng = np.random.default_rng(0)
    data = rng.normal(-900, 20, SHAPE)
    data[1:5, 6:18, 4:14] = rng.normal(50, 20, (4, 12, 10))
    nibabel.save(nibabel.Nifti1Image(data.astype(dtype).T, affine), path)
    return path


@pytest.fixture
def stacksam(monkeypatch, tmp_path):
    """The command line with a model that paints discs."""
    monkeypatch.setattr("stacksam.session.session.Predictor", DiscPredictor)
    monkeypatch.setattr(cli, "_load", lambda *_args, **_options: random_model())
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
        return result

    return run


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_labels_lie_where_the_scan_lies(stacksam, tmp_path, affine):
    scan(tmp_path / "ct.nii.gz", affine)
    done = stacksam(
        *("segment", "ct.nii.gz", "--point", "2,1,12,9", "--format", "nifti", "--format", "nrrd", "-q"),
        *("--intensity", "ct-soft-tissue", "--no-overview"),
    )
    assert done.exit_code == 0, done.stderr
    source = nibabel.load(tmp_path / "ct.nii.gz")
    written = nibabel.load(tmp_path / "ct.stacksam" / "labels.nii.gz")
    assert written.shape == source.shape
    np.testing.assert_array_equal(written.affine, source.affine)
    assert nibabel.aff2axcodes(written.affine) == nibabel.aff2axcodes(source.affine)
    np.testing.assert_allclose(written.header.get_zooms(), source.header.get_zooms(), rtol=1e-6)
    labels = np.asarray(written.dataobj)
    assert set(np.unique(labels)) == {0, 1}
    assert labels[9, 12, 2] == 1  # x, y, z of the click
    # Read again, it lies where the scan lies for us, too, and so does the NRRD.
    for name in ("labels.nii.gz", "labels.nrrd"):
        again = open_image(tmp_path / "ct.stacksam" / name)
        np.testing.assert_array_equal(again.read(), labels.T)
        np.testing.assert_allclose(again.affine, open_image(tmp_path / "ct.nii.gz").affine, rtol=1e-12)


def test_exported_later_the_image_tells_the_place(stacksam, tmp_path):
    scan(tmp_path / "ct.nii.gz", AFFINES["oblique"])
    assert stacksam("segment", "ct.nii.gz", "--point", "2,1,12,9", "-q", "--no-overview").exit_code == 0
    results = open_results(tmp_path / "ct.stacksam", image=tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(results.affine, open_image(tmp_path / "ct.nii.gz").affine)
    assert open_results(tmp_path / "ct.stacksam").affine is None


def test_consensus_on_the_command_line(stacksam, tmp_path):
    scan(tmp_path / "ct.nii.gz", AFFINES["flipped"])
    line = (
        "segment",
        "ct.nii.gz",
        "--point",
        "2,1,12,9",
        "--consensus",
        "--no-overview",
        "--intensity",
        "ct:40,400",
    )
    done = stacksam(*line, "--json", "-q")
    assert done.exit_code == 0, done.stderr
    (about,) = json.loads(done.stdout)["objects"]
    assert 0 <= about["agreement"] <= 1
    assert 0 < about["smoothness"]["dice_min"] <= about["smoothness"]["dice_mean"] <= 1
    saved = json.loads((tmp_path / "ct.stacksam" / "session.json").read_text())
    assert [action["do"] for action in saved["actions"]] == ["add", "propagate", "set_masks"]
    assert saved["stack"]["intensity"] == {"low": [-160.0], "high": [240.0]}
    # What a stopped run has decided is not decided again.
    (tmp_path / "ct.stacksam" / "summary.json").unlink()
    again = stacksam(*line, "-q")
    assert again.exit_code == 0, again.stderr
    actions = json.loads((tmp_path / "ct.stacksam" / "session.json").read_text())["actions"]
    assert [action["do"] for action in actions] == ["add", "propagate", "set_masks"]
    replayed = stacksam("replay", "ct.stacksam/session.json", "--out", "again", "-q", "--no-overview")
    assert replayed.exit_code == 0, replayed.stderr
    first, second = (open_image(tmp_path / f / "labels.tif").read() for f in ("ct.stacksam", "again"))
    np.testing.assert_array_equal(first, second)


def test_consensus_is_for_volumes(stacksam, tmp_path):
    np.save(tmp_path / "movie.npy", np.zeros((3, 20, 20), np.uint8))
    done = stacksam("segment", "movie.npy", "--point", "0,1,9,9", "--consensus")
    assert done.exit_code == 2
    assert "--consensus needs a volume" in done.stderr
    assert not (tmp_path / "movie.stacksam").exists()


# --- intensity by name --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("ct-lung", -1350, 150),
        ("ct-bone", -500, 1300),
        ("CT-soft-tissue", -160, 240),
        ("ct-brain", 0, 80),
        ("ct-liver", -20, 140),
        ("ct:50,100", 0, 100),
    ],
)
def test_ct_windows(tmp_path, name, low, high):
    stack = open_stack(scan(tmp_path / "ct.nii", np.eye(4)), intensity=name)
    assert stack.intensity == Intensity((low,), (high,))
    assert len(preset_names()) == len(CT_WINDOWS) + 1


def test_mr_is_scaled_by_what_is_not_background():
    rng = np.random.default_rng(0)
    image = np.zeros((4, 50, 50), np.uint16)
    image[:, 20:30, 20:30] = rng.integers(100, 1100, (4, 10, 10))
    tissue = image[image > 0]
    found = open_stack(image, axes="zyx", intensity="mr:1,99").intensity
    assert found.low[0] == np.percentile(tissue, 1, method="lower")
    assert found.high[0] == np.percentile(tissue, 99, method="higher")
    assert open_stack(image, axes="zyx", intensity="mr").intensity.low[0] > 0
    assert open_stack(image * 0, axes="zyx", intensity="mr").intensity == Intensity((0.0,), (0.0,))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("ct-spleen", "not known; use two numbers"),
        ("lung", "not known"),
        ("ct:40", "give ct:LEVEL,WIDTH"),
        ("ct:40,0", "width of a window is above 0"),
        ("ct:nan,4", "above 0"),
        ("mr:99,1", "the lower one first"),
        ("mr:-1,50", "0 to 100"),
        ("mr:a,b", "give mr:LOW,HIGH"),
    ],
)
def test_names_that_are_none(stacksam, tmp_path, text, match):
    with pytest.raises(InputError, match=match):
        read_preset(text)
    scan(tmp_path / "ct.nii.gz", np.eye(4))
    done = stacksam("segment", "ct.nii.gz", "--point", "2,1,12,9", "--intensity", text)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")


def test_a_window_that_shows_nothing_is_told(tmp_path):
    with pytest.raises(
        StackError, match=r"'ct-bone' shows -500 to 1300 HU, but the values of .* are 5000 to 5000"
    ):
        open_stack(np.full((2, 4, 4), 5000, np.int16), axes="zyx", intensity="ct-bone")


# --- along other axes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", "yx")
def test_a_stack_along_another_axis(tmp_path, axis):
    path = scan(tmp_path / "ct.nii", AFFINES["oblique"])
    stack = open_stack(path, intensity="ct-soft-tissue", spacing=(5.0, 0.5, 0.75))
    seen = stack.along(axis)
    data = stack.image.read()
    order = {"y": (1, 0, 2), "x": (2, 0, 1)}[axis]
    np.testing.assert_array_equal(seen.raw(7), data.transpose(order)[7])
    assert (seen.n_frames, *seen.frame_shape) == tuple(SHAPE[k] for k in order)
    assert seen.spacing == tuple((5.0, 0.5, 0.75)[k] for k in order)
    assert seen.intensity == stack.intensity
    # The same voxel at the same place, with the spacing that was given.
    index = (3, 7, 5)
    there = [index[k] for k in order]
    np.testing.assert_allclose(seen.affine @ [*there, 1], stack.affine @ [*index, 1], rtol=1e-12)
    again = reopen_stack(json.loads(json.dumps(seen.describe())))
    assert again.identity() == seen.identity() != stack.identity()
    assert again.intensity == seen.intensity
    np.testing.assert_array_equal(again.frame(2), seen.frame(2))
    np.testing.assert_array_equal(open_stack(path, along=axis).raw(2), seen.raw(2))
    with pytest.raises(StackError, match=f"seen along {axis} already"):
        seen.along("x")
    assert stack.along("z") is stack


def test_a_given_spacing_moves_the_voxels_of_the_affine(tmp_path):
    path = scan(tmp_path / "ct.nii", AFFINES["oblique"])
    plain, wide = open_stack(path), open_stack(path, spacing={"z": 5.0})
    np.testing.assert_allclose(wide.affine[:3, 0], 2 * plain.affine[:3, 0], rtol=1e-6)
    np.testing.assert_array_equal(wide.affine[:3, 1:], plain.affine[:3, 1:])


def test_what_cannot_be_turned(tmp_path):
    volume = open_stack(np.zeros((3, 4, 5), np.uint8), axes="zyx")
    with pytest.raises(InputError, match="axis is 'w'"):
        volume.along("w")
    with pytest.raises(StackError, match="followed along t"):
        open_stack(np.zeros((3, 4, 5), np.uint8)).along("y")
    with pytest.raises(StackError, match="no depth"):
        open_stack(np.zeros((3, 4, 5), np.uint8), along="y")
    with pytest.raises(InputError, match="needs frame_axis='z'"):
        open_stack(np.zeros((2, 3, 4, 5), np.uint8), along="y", frame_axis="t")
    assert volume.affine is None

"""The samples that are shipped are the ones the script makes, and any installation can read them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile

FOLDER = Path(__file__).resolve().parents[1] / "sample_data"
NAMES = ["timelapse", "zstack"]


@pytest.fixture(scope="module")
def make_samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stacksam_make_samples", FOLDER / "make_samples.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _close(made: np.ndarray, shipped: np.ndarray) -> None:
    # Another libm may round a count or a border pixel the other way; nothing more may differ.
    assert made.dtype == shipped.dtype == np.uint16
    assert made.shape == shipped.shape
    assert np.mean(made != shipped) < 1e-4


def test_the_timelapse_is_made_again(make_samples):
    frames = [0, 9, 13, 23]
    made = make_samples.make_timelapse(frames)
    _close(made.images, tifffile.imread(FOLDER / "timelapse.tif")[frames])
    _close(made.labels, tifffile.imread(FOLDER / "timelapse_labels.tif")[frames])


def test_the_zstack_is_made_again(make_samples):
    made = make_samples.make_zstack()
    _close(made.images, tifffile.imread(FOLDER / "zstack.tif"))
    _close(made.labels, tifffile.imread(FOLDER / "zstack_labels.tif"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "timelapse",
            ['SizeT="24"', 'PhysicalSizeX="0.4"', 'TimeIncrement="300.0"', 'TimeIncrementUnit="s"'],
        ),
        ("zstack", ['SizeZ="24"', 'PhysicalSizeX="0.5"', 'PhysicalSizeY="0.5"', 'PhysicalSizeZ="2.0"']),
    ],
)
def test_metadata_say_axes_and_spacing(name, words):
    for stem in (name, f"{name}_labels"):
        with tifffile.TiffFile(FOLDER / f"{stem}.tif") as tiff:
            assert tiff.series[0].axes == ("TYX" if name == "timelapse" else "ZYX")
            assert tiff.series[0].shape == (24, 256, 256)
            for word in words:
                assert word in tiff.ome_metadata


def test_the_division_and_the_return():
    labels = tifffile.imread(FOLDER / "timelapse_labels.tif")
    seen = {i: np.flatnonzero((labels == i).any(axis=(1, 2))) for i in range(1, 13)}
    assert seen[1].tolist() == list(range(13))
    assert seen[11].tolist() == seen[12].tolist() == list(range(13, 24))
    assert 9 not in seen[10]
    assert {0, 23} <= set(seen[10])
    for i in range(2, 10):
        assert len(seen[i]) == 24


@pytest.mark.parametrize("name", NAMES)
def test_objects_stand_out_from_the_background(name):
    images, labels = (tifffile.imread(FOLDER / f"{name}{end}.tif") for end in ("", "_labels"))
    for image, label in zip(images, labels, strict=True):
        if (label > 0).sum() > 100:
            assert np.median(image[label > 0]) > np.percentile(image[label == 0], 90)


def test_no_extra_codec_is_needed_and_the_files_are_small():
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "import tifffile\n"
        "for path in sys.argv[1:]: assert tifffile.imread(path).shape == (24, 256, 256), path\n"
    )
    paths = [FOLDER / f"{name}{end}.tif" for name in NAMES for end in ("", "_labels")]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sum(path.stat().st_size for path in paths) < 3_000_000

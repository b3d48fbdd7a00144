"""Calibration is computed as defined, and its pictures are sound SVG."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def calibrate(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("calibrate")


def test_what_is_as_good_as_predicted_is_calibrated(calibrate):
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 1, 20_000)
    true = (rng.uniform(0, 1, 20_000) < predicted).astype(float)  # right on the average, never singly
    assert calibrate.reliability(predicted, true).error < 0.02
    assert calibrate.reliability(predicted, true - 0.1).error == pytest.approx(0.1, abs=0.02)


def test_bins_are_weighted_by_their_masks(calibrate):
    found = calibrate.reliability([0.95, 0.95, 0.95, 0.31, 1.2], [0.95, 0.95, 0.95, 0.11, 1.0])
    assert found.masks.tolist() == [1, 4]
    assert found.error == pytest.approx(0.2 / 5)


def test_the_area_is_the_chance_that_present_scores_above_absent(calibrate):
    alarms, hits, area = calibrate.roc([3, 2, 2, 1, 0], [True, True, False, True, False])
    pairs = [(3, 2), (3, 0), (2, 2), (2, 0), (1, 2), (1, 0)]
    assert area == pytest.approx(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))
    assert np.trapezoid(hits, alarms) == pytest.approx(area)
    assert (alarms[0], hits[0], alarms[-1], hits[-1]) == (0, 0, 1, 1)
    with pytest.raises(SystemExit, match="give more clips"):
        calibrate.roc([1, 2], [True, True])


def test_objects_that_return_are_found(calibrate):
    areas = np.array(
        [
            [0, 90, 90, 90, 20, 90],
            [0, 90, 0, 0, 0, 0],
            [0, 0, 0, 50, 90, 5],
        ]
    )  # the ids: background, ends, ends at once, returns, too small to be prompted, a crumb returns
    assert calibrate.returning(areas) == [3]
    labels = np.zeros((2, 8, 8), np.uint16)
    labels[0, :4] = 1
    labels[1, :2] = 2
    assert calibrate.areas_of(labels).tolist() == [[0, 32, 0], [0, 0, 16]]


def test_pictures_are_svg(calibrate):
    curve = (np.array([0.1, 0.6]), np.array([0.2, 0.5]))
    root = ET.fromstring(calibrate.svg("title", ("x", "y"), curve, marks=np.array([1.0, 0.25])))
    kinds = [child.tag.rsplit("}")[-1] for child in root]
    assert kinds.count("circle") == 2
    (line,) = (child for child in root if child.tag.endswith("polyline"))
    assert len(line.get("points").split()) == 2


def test_the_fit_of_followed_masks_mends_what_was_too_sure(calibrate):
    rng = np.random.default_rng(1)
    predicted = rng.uniform(0.6, 0.98, 300)
    distance = rng.integers(1, 8, 300)
    true = np.clip(predicted - 0.06 * distance, 0, 1)
    how = tuple(calibrate.fit_worth(list(predicted), list(true), list(distance)))
    told = [calibrate.worth(p, int(d), how) for p, d in zip(predicted, distance, strict=True)]
    assert calibrate.reliability(list(predicted), list(true)).error > 0.2
    assert calibrate.reliability(told, list(true)).error < 0.03


def test_a_fit_of_too_few_masks_is_refused(calibrate):
    for count in (0, 5):
        with pytest.raises(SystemExit, match=f"there are {count}; give more clips"):
            calibrate.fit_worth([0.5] * count, [0.5] * count, [1] * count)
    with pytest.raises(SystemExit, match="up to 9 frames, and `worth` falls for 7"):
        calibrate.fit_worth([0.5] * 40, [0.5] * 40, [9] * 40)
    with pytest.raises(SystemExit, match="no mask was shown"):
        calibrate.reliability([], [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fit", "x.json"], "--fit with seed 0"),
        (["--clips", "0"], "--clips 0: give at least 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(calibrate, capsys, words, told):
    with pytest.raises(SystemExit):
        calibrate.main(words)
    assert told in capsys.readouterr().err


def test_coefficients_go_into_the_description_of_their_model_only(calibrate, monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Other:
        name: str = "other"
        digest: str = "0123"
        followed_iou: tuple[float, float, float] = (1.0, 0.0, 0.0)

    def measured(model, first, count):
        assert model.followed_iou == (1.0, 0.0, 0.0)
        assert first == calibrate.CHECKED + calibrate.OWN_SEEDS + calibrate.EACH_SEED
        values = np.linspace(0.5, 0.9, 40)
        return {"followed": (list(values), list(values - 0.1), [7] * 40)}

    monkeypatch.setattr(calibrate, "load_model", lambda _: Other())
    monkeypatch.setattr(calibrate, "measure_iou", measured)
    path = tmp_path / "described.json"
    path.write_text('{"sha256": "4567", "name": "nano"}')
    words = ["--fit", str(path), "--seed", "1"]
    with pytest.raises(SystemExit, match="does not describe other"):
        calibrate.main(words)
    assert json.loads(path.read_text()) == {"sha256": "4567", "name": "nano"}

    path.write_text('{"sha256": "0123", "image_size": 256}')
    calibrate.main(words)
    told = json.loads(path.read_text())
    assert told["image_size"] == 256
    assert calibrate.worth(0.7, 7, tuple(told["followed_iou"])) == pytest.approx(0.6, abs=0.02)

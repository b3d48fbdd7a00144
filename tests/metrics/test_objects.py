"""Mean, recall and decay are those of the DAVIS benchmark."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stacksam.metrics import davis_statistics


def test_statistics_by_hand():
    """Eight frames: bounds of quarters are round(1, 2.75, 4.5, 6.25, 8) = 1, 3, 5 (4.5 goes up), 6, 8."""
    values = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    found = davis_statistics(values)
    assert found.mean == pytest.approx(0.65)
    assert found.recall == 5 / 8  # 0.5 is not above 0.5
    assert found.decay == pytest.approx(np.mean(values[:3]) - np.mean(values[5:]))


def test_long_stacks_are_not_cut_at_256_frames():
    values = np.linspace(1, 0, 1000)
    assert davis_statistics(values).decay == pytest.approx(0.75, abs=0.001)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_measure_that_stays_has_no_decay(value):
    for n_frames in (1, 2, 3, 9):
        found = davis_statistics([value] * n_frames)
        assert (found.mean, found.decay) == (pytest.approx(value), pytest.approx(0))


def test_frames_that_are_not_there_do_not_count():
    assert davis_statistics([math.nan, 1.0, 0.0, math.nan]).mean == 0.5
    assert math.isnan(davis_statistics([math.nan]).mean)
    assert math.isnan(davis_statistics([]).recall)

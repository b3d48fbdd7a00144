"""Measures of one object over the frames: mean, recall and decay of J and F, as DAVIS defines them.

References
----------
.. [1] F. Perazzi, J. Pont-Tuset, B. McWilliams, L. Van Gool, M. Gross, A. Sorkine-Hornung,
   "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Davis", "davis_statistics", "nan_mean"]

_RECALLED = 0.5  # "above a threshold of 0.5": a frame at 0.5 is not


@dataclass(frozen=True, slots=True)
class Davis:
    """What DAVIS tells of a measure over the frames of an object [1]_.

    Attributes
    ----------
    mean : float
    recall : float
        Share of frames where the measure is above 0.5.
    decay : float
        Mean of the first quarter of the frames less that of the last; 0 for what does not get worse.
    """

    mean: float
    recall: float
    decay: float


def davis_statistics(values: Sequence[float] | NDArray[Any]) -> Davis:
    """Mean, recall and decay of a measure over frames [1]_.

    Quarters share their bounds, ``round(linspace(1, n, 5)) - 1``, as in the benchmark's code.

    Parameters
    ----------
    values : sequence of float
        In order of frames; NaN is left out. Of none, all three are NaN.
    """
    numbers = np.asarray(values, float)
    if not numbers.size or np.isnan(numbers).all():
        return Davis(math.nan, math.nan, math.nan)
    there = numbers[~np.isnan(numbers)]
    # The benchmark holds these in 8 bits, which is wrong from 256 frames on.
    bounds = np.round(np.linspace(1, len(numbers), 5) + 1e-10).astype(int) - 1
    first, last = (numbers[bounds[k] : bounds[k + 1] + 1] for k in (0, 3))
    return Davis(
        mean=float(there.mean()),
        recall=float((there > _RECALLED).mean()),
        decay=nan_mean(first) - nan_mean(last),
    )


def nan_mean(values: Sequence[float] | NDArray[Any]) -> float:
    """Mean of the values that are not NaN; NaN of none."""
    numbers = np.asarray(values, float)
    there = numbers[~np.isnan(numbers)]
    return float(there.mean()) if there.size else math.nan

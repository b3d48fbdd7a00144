"""Divisions in volumes: objects that fall into two, judged by factors of :mod:`stacksam.tracks.divisions`.

The confidence is a product of factors, each 0 to 1; between two bounds it changes evenly. Lengths are those
of the spacing, so planes may lie farther apart than pixels:

=========== =============================================================================================
balance     volume of the smaller daughter, as a share of the larger one's: 0 up to 0.2, 1 from 0.6 on
size        volume of both, as a share of the parent's: 1 from 0.7 to 1.35, 0 at 0.35 and below and at 2
            and above
distance    from the parent's centre to the middle between the daughters' centres, in diameters of the
            parent: 1 up to 0.3, 0 at 1; times the same for the distance between the daughters: 1 from
            0.35 to 1.4, 0 at 0.1 and at 2.2
persistence whether both are there one time point farther on, apart from each other: 1 or 0, and 0.5 where
            there is no such time point
=========== =============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stacksam.tracks.evidence import ramp
from stacksam.tracks.solids import Solid, Spacing

__all__ = ["VolumeDivision", "apart", "judged"]

_SHARED = 0.3  # of the smaller one's volume, at most, where two are apart
_LASTING = 0.3  # of its volume, at least, that a daughter keeps


@dataclass(frozen=True, slots=True, eq=False)
class VolumeDivision:
    """A division that may have happened.

    Attributes
    ----------
    time : int
        The first time point at which there are two.
    parent : int
        Object id.
    daughters : tuple of two Solid
    confidence : float
        0 to 1, the product of the factors.
    factors : dict of str to float
        By name, see the module's text.
    """

    time: int
    parent: int
    daughters: tuple[Solid, Solid]
    confidence: float
    factors: dict[str, float]


def judged(
    time: int,
    parent: int,
    before: Solid,
    daughters: tuple[Solid, Solid],
    spacing: Spacing,
    persistence: float,
) -> VolumeDivision:
    """A division with its factors.

    Parameters
    ----------
    before : Solid
        The parent, one time point earlier.
    persistence : float
        0 to 1.
    """
    one, other = daughters
    centres = one.centre(spacing), other.centre(spacing)
    diameter = before.diameter(spacing)
    aside = float(np.linalg.norm((centres[0] + centres[1]) / 2 - before.centre(spacing))) / diameter
    distance = float(np.linalg.norm(centres[0] - centres[1])) / diameter
    total = (one.volume + other.volume) / before.volume
    factors = {
        "balance": ramp(min(one.volume, other.volume) / max(one.volume, other.volume), 0.2, 0.6),
        "size": ramp(total, 0.35, 0.7) * ramp(total, 2.0, 1.35),
        "distance": ramp(aside, 1.0, 0.3) * ramp(distance, 0.1, 0.35) * ramp(distance, 2.2, 1.4),
        "persistence": persistence,
    }
    return VolumeDivision(time, parent, daughters, float(np.prod(list(factors.values()))), factors)


def apart(before: tuple[Solid, Solid], after: Mapping[int, Solid]) -> bool:
    """Whether both daughters are there one time point on, as objects 1 and 2, and are not the same."""
    if not {1, 2} <= after.keys():
        return False
    one, other = after[1], after[2]
    lasting = all(after[i + 1].volume >= _LASTING * was.volume for i, was in enumerate(before))
    return lasting and one.shared(other) <= _SHARED * min(one.volume, other.volume)

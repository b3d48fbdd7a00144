"""Intensity mappings by name: windows of CT in Hounsfield units, and percentiles for MR.

A CT number means the same in every scan, so a window is a pair of numbers. MR values mean nothing by
themselves, so their mapping is taken from the volume: percentiles of what is not background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stacksam.errors import InputError

__all__ = ["CT_WINDOWS", "Preset", "preset_names", "read_preset"]

CT_WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "soft-tissue": (40.0, 400.0),
    "brain": (40.0, 80.0),
    "liver": (60.0, 160.0),
}
"""Level and width in HU, as radiology workstations have them by default; makers differ a little."""

_MR_PERCENTILES = (0.5, 99.5)
"""Of values above zero, as nnU-Net and MedSAM clip MR [1]_.

.. [1] J. Ma et al., "Segment anything in medical images", Nature Communications 15, 654 (2024).
"""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named mapping.

    Attributes
    ----------
    name : str
        As it was asked for.
    window : (float, float), optional
        Values that become black and white.
    percentiles : (float, float), optional
        Percentiles, of values above zero, that become black and white.
    """

    name: str
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None


def preset_names() -> tuple[str, ...]:
    """Names without numbers."""
    return (*(f"ct-{name}" for name in CT_WINDOWS), "mr")


def read_preset(text: str) -> Preset:
    """The mapping of a name.

    Parameters
    ----------
    text : str
        ``"ct-lung"``, ``"ct-bone"``, ``"ct-soft-tissue"``, ``"ct-brain"``, ``"ct-liver"``;
        ``"ct:LEVEL,WIDTH"`` in HU; ``"mr"``, or ``"mr:LOW,HIGH"`` in percent.

    Raises
    ------
    InputError
        If there is no such name, or its numbers make no window.
    """
    kind, colon, numbers = text.strip().lower().partition(":")
    if not colon and kind == "mr":
        return Preset(text, percentiles=_MR_PERCENTILES)
    if not colon and kind.startswith("ct-") and kind[3:] in CT_WINDOWS:
        return Preset(text, window=_window(*CT_WINDOWS[kind[3:]]))
    if colon and kind in ("ct", "mr"):
        form = "LEVEL,WIDTH in HU" if kind == "ct" else "LOW,HIGH in percent"
        try:
            first, second = (float(part) for part in numbers.split(","))
        except ValueError:
            raise InputError(f"intensity {text!r}: give {kind}:{form}") from None
        if kind == "ct":
            if not (math.isfinite(first) and math.isfinite(second) and second > 0):
                raise InputError(f"intensity {text!r}: the width of a window is above 0; give ct:{form}")
            return Preset(text, window=_window(first, second))
        if not 0 <= first < second <= 100:
            raise InputError(f"intensity {text!r}: percentiles are 0 to 100, the lower one first")
        return Preset(text, percentiles=(first, second))
    raise InputError(
        f"intensity {text!r} is not known; use two numbers LOW,HIGH, {', '.join(preset_names())}, "
        "ct:LEVEL,WIDTH or mr:LOW,HIGH (percentiles)"
    )


def _window(level: float, width: float) -> tuple[float, float]:
    return level - width / 2, level + width / 2

"""Names of physical units, one spelling each.

Inside the package a unit is its OME-Zarr (UDUNITS) long name, such as ``"micrometer"`` or ``"second"``, or
None where the axis is counted in pixels or frames. Files spell them in many ways; this table is the only
place that knows them. A name that is not in the table is kept as it is: nothing is guessed, nothing lost.
"""

from __future__ import annotations

import re

# long name: (symbol in OME-XML, other spellings)
_SPACE = {
    "angstrom": ("Å", "ångström", "a"),
    "picometer": ("pm", "picometre"),
    "nanometer": ("nm", "nanometre"),
    "micrometer": ("µm", "um", "micron", "micrometre"),
    "millimeter": ("mm", "millimetre"),
    "centimeter": ("cm", "centimetre"),
    "meter": ("m", "metre"),
    "inch": ("in", "inches", '"'),
    "foot": ("ft", "feet"),
}
_TIME = {
    "nanosecond": ("ns", "nsec"),
    "microsecond": ("µs", "us", "usec"),
    "millisecond": ("ms", "msec"),
    "second": ("s", "sec"),
    "minute": ("min", "mins"),
    "hour": ("h", "hr", "hrs"),
    "day": ("d",),
}
_NO_UNIT = {"", "pixel", "pixels", "px", "frame", "frames", "none", "null", "reference frame"}


def _plain(text: str) -> str:
    # The micro sign has two code points, and ImageJ writes it as an escape.
    text = text.strip().replace("\\u00b5", "u").replace("\\u00B5", "u").replace("µ", "u").replace("μ", "u")
    return text.casefold()


_LONG = {
    _plain(spelling): name
    for table in (_SPACE, _TIME)
    for name, spellings in table.items()
    for spelling in (name, *spellings, *(f"{s}s" for s in (name, *spellings) if len(s) > 3))
}


def normalise_unit(text: str | None) -> str | None:
    """Long name of a unit; None for none, pixels and frames; unknown names unchanged."""
    if text is None:
        return None
    plain = re.sub(r"\s+", " ", _plain(text))
    if plain in _NO_UNIT:
        return None
    return _LONG.get(plain, text.strip())


def unit_symbol(unit: str | None) -> str | None:
    """Symbol of a unit in OME-XML, such as ``"µm"``; None if OME-XML has none for it."""
    name = normalise_unit(unit)
    spellings = _SPACE.get(name or "") or _TIME.get(name or "")
    return spellings[0] if spellings else None


def imagej_unit(unit: str | None, unitless: str = "pixel") -> str:
    """Name of a unit in ImageJ's metadata, which is ASCII: ``"micron"``, ``"sec"``, ``"pixel"``."""
    name = normalise_unit(unit)
    if name is None:
        return unitless
    special = {"micrometer": "micron", "second": "sec", "microsecond": "usec", "angstrom": "angstrom"}
    return special.get(name) or unit_symbol(name) or name.encode("ascii", "ignore").decode()


def is_time(unit: str | None) -> bool:
    """Whether a unit is one of time."""
    return normalise_unit(unit) in _TIME


def is_space(unit: str | None) -> bool:
    """Whether a unit is one of length."""
    return normalise_unit(unit) in _SPACE

"""NRRD volumes (.nrrd, .nhdr), through pynrrd.

Values that lie raw behind the header are memory-mapped; others are read as a whole with the first slice.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import StackError
from stacksam.io._affine import MILLIMETERS, checked_affine, from_xyz, spacing_of
from stacksam.io._lazy import READ_ERRORS, ArrayLike, LazyImage, _told, lazy_image
from stacksam.io._nifti import needs
from stacksam.io._units import normalise_unit

__all__ = ["read_nrrd"]

# Which of its axes a space counts the other way than right, anterior, superior.
_SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
}
_SHORT = {"ras": "right-anterior-superior", "las": "left-anterior-superior", "lps": "left-posterior-superior"}
# Spellings of the format's definition, by numpy's code.
_TYPES = {
    spelling: code
    for code, spellings in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for spelling in spellings.split(",")
}
_COLOURS = {"rgb-color", "rgba-color", "vector", "2-vector", "3-vector", "4-vector", "hsv-color", "xyz-color"}


def read_nrrd(path: Path, axes: str | None = None) -> LazyImage:
    """Open an NRRD file.

    Parameters
    ----------
    path : Path
    axes : str, optional
        Letters of the dimensions, the slowest first, where the file does not tell or is wrong.

    Raises
    ------
    StackError
        If pynrrd is missing, the file is damaged or cut short, or its directions are of no use.
    """
    try:
        import nrrd
    except ImportError as error:
        raise needs("pynrrd", str(path)) from error
    try:
        with path.open("rb") as file:
            header = dict(nrrd.read_header(file))
            behind = file.tell()
        shape = tuple(int(size) for size in header["sizes"])  # the fastest first
        dtype = _dtype(header, path)
        letters = axes[::-1] if axes else _letters(header, shape)
        scale, units, affine = _calibration(header, letters, path)
        data = _values(header, path, behind, shape, dtype)
    except StackError:
        raise
    except (*READ_ERRORS, nrrd.NRRDError) as error:
        raise StackError(f"cannot read {path} as NRRD: {_told(error)}") from error
    return lazy_image(
        data,
        letters,
        scale=scale,
        units=units,
        name=path.name.split(".")[0],
        source=str(path),
        rgb=str(_listed(header, "kinds", 1)[0]).lower() in ("rgb-color", "rgba-color"),
        affine=affine,
    )


def _dtype(header: dict[str, Any], path: Path) -> np.dtype[Any]:
    code = _TYPES.get(str(header["type"]).lower())
    if code is None:
        raise StackError(f"{path} holds values of type {header['type']!r}; a stack holds integers or floats")
    order = {"little": "<", "big": ">"}.get(str(header.get("endian", "little")).lower(), "<")
    return np.dtype(order + code)


def _letters(header: dict[str, Any], shape: tuple[int, ...]) -> str:
    """Letters of the dimensions, the fastest first: places are x, y, z; lists are t; vectors are channels."""
    kinds = [str(kind).lower() for kind in _listed(header, "kinds", len(shape))]
    directions = header.get("space directions")
    if directions is not None:
        spatial = [bool(np.isfinite(row).all()) for row in _rows(directions)]
    else:
        spatial = [kind in ("domain", "space", "none", "???") for kind in kinds]
    if len(shape) == 4 and all(spatial) and directions is None:
        spatial[3] = False  # of four axes without a word, the last is time, as everywhere here
    places = iter("xyzab")
    return "".join(
        next(places) if space else ("c" if kind in _COLOURS else "t")
        for space, kind in zip(spatial, kinds, strict=True)
    )


def _calibration(
    header: dict[str, Any], letters: str, path: Path
) -> tuple[dict[str, float], dict[str, str | None], NDArray[np.float64] | None]:
    """Scale and units by axis, and the affine where the file tells of a space that has one."""
    scale: dict[str, float] = {}
    named: dict[str, str | None] = {}
    steps, units = _listed(header, "spacings", len(letters)), _listed(header, "units", len(letters))
    for axis, step, unit in zip(letters, steps, units, strict=True):
        if isinstance(step, float | np.floating) and np.isfinite(step):
            if step == 0 and axis in "zyx":
                raise StackError(f"the spacing of {path} along {axis} is 0; correct the header (spacings)")
            scale[axis], named[axis] = float(step), normalise_unit(unit if isinstance(unit, str) else None)
    if header.get("space directions") is None:
        return scale, named, None
    rows = dict(zip(letters, _rows(header["space directions"]), strict=True))
    unit = normalise_unit(str(_listed(header, "space units", 1)[0]).strip('"') or None)
    factor = MILLIMETERS.get("millimeter" if unit in (None, "???", "none") else str(unit), 1.0)
    affine = np.eye(4)
    for column, axis in enumerate("xyz"):
        if axis in rows:
            if len(rows[axis]) != 3:
                raise StackError(f"the space of {path} has {len(rows[axis])} dimensions; three can be read")
            affine[:3, column] = rows[axis]
        else:  # a single plane: a step of one across it
            affine[:3, column] = np.cross(affine[:3, 0], affine[:3, 1])
            affine[:3, column] /= np.linalg.norm(affine[:3, column]) or 1.0
    origin = header.get("space origin")
    affine[:3, 3] = np.zeros(3) if origin is None else np.asarray(origin, np.float64)
    affine[:3] *= factor
    space = str(header.get("space", "")).lower()
    signs = _SIGNS.get(_SHORT.get(space, space))
    if signs is not None:
        affine[:3] *= np.array(signs, np.float64)[:, None]
    placed = checked_affine(from_xyz(affine), str(path))
    scale |= {axis: step for axis, step in spacing_of(placed).items() if axis in rows}
    named |= dict.fromkeys((axis for axis in "zyx" if axis in rows), "millimeter")
    return scale, named, None if signs is None else placed


def _rows(directions: Any) -> list[NDArray[np.float64]]:
    """One vector an axis; NaN where an axis is none of space."""
    return [np.array([np.nan] if row is None else row, np.float64) for row in directions]


def _listed(header: dict[str, Any], key: str, count: int) -> list[Any]:
    """Values of a field with one for each axis, or so many empty ones."""
    found = header.get(key)
    return ["domain" if key == "kinds" else ""] * count if found is None else list(found)


def _values(
    header: dict[str, Any], path: Path, behind: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> ArrayLike:
    raw = str(header.get("encoding", "")).lower() == "raw"
    detached = "data file" in header or "datafile" in header
    if (
        not raw
        or detached
        or any(int(header.get(f"{k} skip", header.get(f"{k}skip", 0))) for k in ("line", "byte"))
    ):
        return _Whole(path, shape, dtype)
    wanted, there = behind + int(np.prod(shape)) * dtype.itemsize, path.stat().st_size
    if there < wanted:
        raise StackError(f"{path} is cut short: it has {there} bytes of {wanted}; copy or download it again")
    return np.memmap(path, dtype, "r", offset=behind, shape=shape, order="F")


class _Whole:
    """Values that can only be read all at once; they are, when the first are asked for."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self.shape, self.dtype = path, shape, dtype
        self._whole: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        with self._lock:
            if self._whole is None:
                self._whole = self._read()
            return np.asarray(self._whole[key])

    def _read(self) -> NDArray[Any]:
        import nrrd

        try:
            values, _ = nrrd.read(str(self._path), index_order="F")
        except (*READ_ERRORS, nrrd.NRRDError) as error:
            raise StackError(
                f"{self._path} is damaged or cut short: {_told(error)}; copy or download it again"
            ) from error
        if values.shape != self.shape:
            raise StackError(f"{self._path} holds {values.shape} values, not {self.shape}; it is damaged")
        return np.asarray(values)

"""Label volumes for medical imaging: NIfTI and NRRD.

Both keep x fastest, so an array of (z, y, x) is written frame after frame as it lies in memory, and read back
by their libraries as (x, y, z). Where the volume lies in space is said by an *affine*, as in nibabel: a 4 × 4
matrix to millimetres in RAS+ (x to the right, y to the front, z to the head). Here it takes the index **in
the order of our array**, ``affine @ (z, y, x, 1)``. nibabel's own takes ``(x, y, z, 1)``; exchanging the
first and third column makes one of the other.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stacksam.errors import InputError
from stacksam.io._complete import complete_or_nothing
from stacksam.io._extras import needed
from stacksam.io._units import is_space, unit_symbol
from stacksam.io.label_stack import LabelStack

__all__ = ["write_nifti", "write_nrrd"]

# In millimetres and seconds.
_LENGTHS = {
    "angstrom": 1e-7,
    "picometer": 1e-9,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "meter": 1000.0,
    "inch": 25.4,
    "foot": 304.8,
}
_TIMES = {
    "nanosecond": 1e-9,
    "microsecond": 1e-6,
    "millisecond": 1e-3,
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
}
_SWAPPED = [2, 1, 0, 3]


def write_nifti(
    path: str | os.PathLike[str],
    labels: LabelStack,
    *,
    affine: ArrayLike | None = None,
    overwrite: bool = False,
) -> Path:
    """Write labels as NIfTI-1: a volume of (x, y, z), or of a time-lapse (x, y, 1, t).

    Lengths are kept in micrometres where the stack's are that small, else in millimetres; times in seconds.
    The format has single precision for them.

    Parameters
    ----------
    path : path
        File to write, ``.nii`` or ``.nii.gz``; its folder must exist.
    labels : LabelStack
    affine : (4, 4) array of float, optional
        Index (z, y, x) to millimetres in RAS+, see above; of z-stacks only. Steps along the axes are then
        its, and not those of the stack. By default the steps lie on the diagonal and the origin at 0.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the package nibabel is not installed, the name ends otherwise, the affine is none, or the volume
        is larger than the format holds (32767 along an axis).
    StorageError
        If the file exists or cannot be written. Nothing is left behind.
    """
    nibabel = needed("nibabel", "nibabel", "formats")
    target = Path(path)
    if not target.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(f"{target.name} is no name of a NIfTI file; end it with .nii.gz or .nii")
    frames, height, width = labels.shape
    volume = labels.frame_axis == "z"
    shape = (width, height, frames) if volume else (width, height, 1, frames)
    if max(shape) > np.iinfo(np.int16).max:
        raise InputError(f"{labels.name} has {max(shape)} steps along an axis; NIfTI-1 holds up to 32767")
    placed, length = _placed(labels, affine)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(shape)
    step, time = _time_step(labels)
    header.set_zooms((*np.linalg.norm(placed[:3, :3], axis=0), *(() if volume else (step,))))
    _place(header, placed)
    header.set_xyzt_units({"micrometer": "micron", "millimeter": "mm"}.get(length or "", "unknown"), time)
    header.set_intent("label", name="stacksam")
    header["vox_offset"] = 352  # the header, and four bytes that say that there are no extensions
    with _compressed(target, overwrite, squeeze=target.suffix.lower() == ".gz") as file:
        file.write(header.binaryblock + bytes(4))
        for frame in labels.frames():
            file.write(frame.astype(header.get_data_dtype()).tobytes())
    return target


def write_nrrd(
    path: str | os.PathLike[str],
    labels: LabelStack,
    *,
    affine: ArrayLike | None = None,
    overwrite: bool = False,
) -> Path:
    """Write labels as NRRD: a volume of (x, y, z) in space, or a time-lapse of (x, y, t).

    Parameters
    ----------
    path : path
        File to write, ``.nrrd``; its folder must exist.
    labels : LabelStack
    affine, overwrite
        As for :func:`write_nifti`. Without an affine, lengths stay in the stack's unit, which the file names;
        readers that take every number for millimetres do so here, too.

    Returns
    -------
    Path
        The file, compressed with gzip.

    Raises
    ------
    InputError, StorageError
        As :func:`write_nifti`.
    """
    target = Path(path)
    if target.suffix.lower() != ".nrrd":
        raise InputError(f"{target.name} is no name of a NRRD file; end it with .nrrd")
    frames, height, width = labels.shape
    kind = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int"}[labels.dtype.itemsize]
    lines = ["NRRD0005", f"type: {kind}", "dimension: 3"]
    if labels.frame_axis == "z":
        placed, length = _placed(labels, affine, keep=True)
        symbol = _ascii(length)
        lines += [
            "space: right-anterior-superior",
            f"sizes: {width} {height} {frames}",
            "space directions: " + " ".join(_vector(column) for column in placed[:3, :3].T),
            "kinds: domain domain domain",
            f"space origin: {_vector(placed[:3, 3])}",
            *([f'space units: "{symbol}" "{symbol}" "{symbol}"'] if symbol else []),
        ]
    else:
        _no_affine(labels, affine)
        dt, dy, dx = (repr(step) for step in labels.scale)
        units = " ".join(f'"{_ascii(unit)}"' for unit in labels.units[::-1])
        lines += [
            f"sizes: {width} {height} {frames}",
            f"spacings: {dx} {dy} {dt}",
            "kinds: domain domain time",
            f"units: {units}",
        ]
    lines += ["endian: little", "encoding: gzip", "", ""]
    with complete_or_nothing(target, overwrite) as temporary, temporary.open("xb") as file:
        file.write("\n".join(lines).encode("ascii"))
        with _gzip(file) as squeezed:
            for frame in labels.frames():
                squeezed.write(frame.astype(labels.dtype.newbyteorder("<")).tobytes())
    return target


def _placed(
    labels: LabelStack, affine: ArrayLike | None, *, keep: bool = False
) -> tuple[NDArray[np.float64], str | None]:
    """Affine of the index (x, y, z), and the unit that it leads to.

    With `keep` steps that have one unit are not converted.
    """
    if affine is not None:
        _no_affine(labels, affine if labels.frame_axis == "t" else None)
        return _checked(affine)[:, _SWAPPED], "millimeter"
    steps = labels.scale if labels.frame_axis == "z" else (1.0, *labels.scale[1:])
    units = labels.units if labels.frame_axis == "z" else (labels.units[1], *labels.units[1:])
    if keep and len(set(units)) == 1:
        steps, unit = tuple(steps), units[0]
    else:
        steps, unit = _one_length(steps, units, labels.name)
    return np.diag([*steps[::-1], 1.0]), unit


def _one_length(
    steps: Sequence[float], units: Sequence[str | None], name: str
) -> tuple[tuple[float, ...], str | None]:
    """Steps in micrometres or millimetres, or as they are if there are no units."""
    if not any(is_space(unit) for unit in units):
        return tuple(steps), None
    odd = [str(unit or "pixels") for unit in units if unit not in _LENGTHS]
    if odd:
        raise InputError(f"{name} has a step in {odd[0]} beside others in units of length; give all a length")
    factors = [_LENGTHS[unit or ""] for unit in units]
    target = "micrometer" if min(factors) < 1 else "millimeter"
    return tuple(
        step if unit == target else step * factor / _LENGTHS[target]
        for step, unit, factor in zip(steps, units, factors, strict=True)
    ), target


def _time_step(labels: LabelStack) -> tuple[float, str]:
    step, unit = labels.scale[0], labels.units[0]
    if labels.frame_axis == "z" or unit not in _TIMES:
        return step, "unknown"
    return step * _TIMES[unit], "sec"


def _checked(affine: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(affine, np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not (matrix[3] == (0, 0, 0, 1)).all():
        raise InputError(
            f"the affine is {matrix.tolist()}; it must be 4 × 4 finite numbers, the last row 0, 0, 0, 1"
        )
    size = np.linalg.norm(matrix[:3, :3], axis=0)
    if not size.all() or abs(np.linalg.det(matrix[:3, :3] / np.where(size > 0, size, 1))) < 1e-6:
        raise InputError(
            f"the affine {matrix.tolist()} makes the volume flat; its first three columns are the steps "
            "along z, y and x, none of them zero and no two parallel"
        )
    return matrix


def _no_affine(labels: LabelStack, affine: ArrayLike | None) -> None:
    if affine is not None:
        raise InputError(f"an affine places a volume in space, but the frames of {labels.name} lie along t")


def _place(header: Any, affine: NDArray[np.float64]) -> None:
    """Both of NIfTI's transforms; the one of rotations only where there is no shear, which it cannot say."""
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    if not np.allclose(header.get_qform(), affine, rtol=1e-4, atol=1e-4 * np.abs(affine[:3, :3]).max()):
        header.set_qform(None, code=0)


@contextmanager
def _compressed(target: Path, overwrite: bool, *, squeeze: bool) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with complete_or_nothing(target, overwrite) as temporary, temporary.open("xb") as file:
        if not squeeze:
            yield file
            return
        with _gzip(file) as squeezed:
            yield squeezed


def _gzip(file: IO[bytes]) -> gzip.GzipFile:
    # Without name and time, so that equal labels make equal files.
    return gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=5, mtime=0)


def _vector(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "(" + ",".join(repr(float(value) + 0.0) for value in values) + ")"


def _ascii(unit: str | None) -> str:
    symbol = unit_symbol(unit) or unit or ""
    return symbol.replace("µ", "u").replace("Å", "angstrom").encode("ascii", "ignore").decode()

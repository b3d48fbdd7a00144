"""NIfTI volumes (.nii, .nii.gz), through nibabel.

Slices of uncompressed files are read where they are asked for; a gzip file cannot be entered in the middle,
so the whole of it is read with the first slice and kept.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import StackError
from stacksam.io._affine import MILLIMETERS, checked_affine, from_xyz, spacing_of
from stacksam.io._lazy import READ_ERRORS, LazyImage, _told, lazy_image
from stacksam.io._units import normalise_unit

__all__ = ["needs", "read_nifti"]


def needs(package: str, what: str) -> StackError:
    """The error where a package of the extra `medical` is not installed."""
    return StackError(f'{what} needs {package}: pip install "napari-stacksam[medical]"')


def read_nifti(path: Path, axes: str | None = None) -> LazyImage:
    """Open a NIfTI file, 2D to 4D; axes of size 1 beyond that are dropped.

    Parameters
    ----------
    path : Path
    axes : str, optional
        Letters of the dimensions, the slowest first, as in ``"tzyx"``, which is the default.

    Raises
    ------
    StackError
        If nibabel is missing, the file is damaged or cut short, or its affine is of no use.
    """
    try:
        import nibabel
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError
    except ImportError as error:
        raise needs("nibabel", str(path)) from error
    failures = (*READ_ERRORS, ImageFileError, HeaderDataError)
    try:
        volume = nibabel.load(path)
        if not isinstance(volume, nibabel.Nifti1Image | nibabel.Nifti2Image):
            raise StackError(f"{path} is no NIfTI file but {type(volume).__name__}")
        _check_steps(volume, path, nibabel)
        units = _units(volume.header, path)
    except StackError:
        raise
    except failures as error:
        raise StackError(f"cannot read {path} as NIfTI: {_told(error)}") from error
    shape = tuple(int(size) for size in volume.shape)
    _check_length(volume, path)
    letters = axes[::-1] if axes else "xyztc"[: len(shape)] + "abc"[: max(0, len(shape) - 5)]
    factor = MILLIMETERS.get(units["x"] or "millimeter", 1.0)
    affine = from_xyz(volume.affine)
    if factor != 1:
        affine[:3] *= factor
    placed = checked_affine(affine, str(path))
    scale: dict[str, float] = spacing_of(placed)
    named: dict[str, str | None] = dict.fromkeys("zyx", "millimeter")
    if len(shape) > 3:
        scale["t"], named["t"] = float(volume.header["pixdim"][4]), units["t"]
    return lazy_image(
        _Voxels(volume, path),
        letters,
        scale=scale,
        units=named,
        name=path.name.split(".")[0],
        source=str(path),
        affine=placed,
    )


def _check_steps(volume: Any, path: Path, nibabel: Any) -> None:
    """StackError for a step of zero; nibabel would make it 1."""
    if int(volume.header["sform_code"]) > 0:
        return  # the steps are those of the matrix
    with nibabel.openers.Opener(path) as file:
        raw = type(volume.header).from_fileobj(file, check=False)
    steps = raw["pixdim"][1 : 1 + min(3, len(volume.shape))]
    flat = [axis for axis, step in zip("xyz", steps, strict=False) if step == 0 or not np.isfinite(step)]
    if flat:
        raise StackError(
            f"the spacing of {path} along {' and '.join(flat)} is 0; correct the header (pixdim), or write "
            "the volume anew with its true spacing"
        )


def _check_length(volume: Any, path: Path) -> None:
    """StackError for an uncompressed file that is shorter than its header says."""
    if path.suffix.lower() == ".gz":
        return
    wanted = int(volume.dataobj.offset) + int(np.prod(volume.shape)) * volume.get_data_dtype().itemsize
    there = path.stat().st_size
    if there < wanted:
        raise StackError(f"{path} is cut short: it has {there} bytes of {wanted}; copy or download it again")


def _units(header: Any, path: Path) -> dict[str, str | None]:
    try:
        space, time = header.get_xyzt_units()
    except KeyError as error:
        raise StackError(f"{path} has units of a code that NIfTI does not know: {error}") from error
    seconds = {"sec": "second", "msec": "millisecond", "usec": "microsecond"}
    return {
        "x": normalise_unit({"micron": "um"}.get(space, space.replace("unknown", ""))),
        "t": seconds.get(time),
    }


class _Voxels:
    """The values of a NIfTI file, scaled as its header says, indexed (x, y, z, t ...)."""

    def __init__(self, volume: Any, path: Path) -> None:
        self._proxy, self._path = volume.dataobj, path
        self.shape: tuple[int, ...] = tuple(int(size) for size in volume.shape)
        scaled = (float(self._proxy.slope), float(self._proxy.inter)) != (1.0, 0.0)
        self.dtype = np.dtype(np.float32) if scaled else volume.get_data_dtype().newbyteorder("=")
        self._whole: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if self._path.suffix.lower() != ".gz":
            return np.asarray(self._proxy[key]).astype(self.dtype, copy=False)
        with self._lock:
            if self._whole is None:
                self._whole = self._decompress()
            return np.asarray(self._whole[key])

    def _decompress(self) -> NDArray[Any]:
        try:
            return np.asanyarray(self._proxy, self.dtype)
        except EOFError as error:
            raise StackError(f"{self._path} is cut short; copy or download it again") from error
        except READ_ERRORS as error:
            raise StackError(
                f"{self._path} is damaged or cut short: {_told(error)}; copy or download it again"
            ) from error

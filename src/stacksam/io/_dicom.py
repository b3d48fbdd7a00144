"""DICOM series: a folder of single-slice files as a volume, through pydicom.

Headers are read when the series is opened, pixels slice by slice. Slices are ordered by their position along
the normal of their plane, never by name or number, and a series that is not one even block of slices is
refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import StackError
from stacksam.io._affine import checked_affine, lps_to_ras, spacing_of
from stacksam.io._lazy import READ_ERRORS, LazyImage, _full_key, _told, lazy_image
from stacksam.io._nifti import needs

__all__ = ["read_dicom"]

_UNEVEN = 0.05  # share of a step by which slices may be off; scanners round their positions
_SAME = 1e-3  # difference of direction cosines


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """What the header of one file tells."""

    path: Path
    header: Any

    def get(self, name: str, default: Any = None) -> Any:
        value = self.header.get(name, default)
        return default if value is None or value == "" else value

    @property
    def size(self) -> tuple[int, int]:
        return int(self.header.Rows), int(self.header.Columns)

    @property
    def rescale(self) -> tuple[float, float]:
        return float(self.get("RescaleSlope", 1)), float(self.get("RescaleIntercept", 0))


def read_dicom(files: Sequence[Path], *, name: str, source: str, series: int | None = None) -> LazyImage:
    """Open the slices of one series as a volume.

    Parameters
    ----------
    files : sequence of Path
        In any order; files that hold no image (reports, a DICOMDIR) are passed over.
    name, source : str
        Short name, and where the files lie.
    series : int, optional
        Which one, counted from 0 in the order of the series' numbers; must be given where there are several.

    Returns
    -------
    LazyImage
        With axes z, y, x. Rescale slope and intercept are applied, so CT is in HU.

    Raises
    ------
    StackError
        If pydicom is missing; a file is damaged, or of a kind or compression that cannot be read; there are
        several series; or the slices of the series are not alike, not evenly spaced, or not complete.
    """
    try:
        import pydicom
    except ImportError as error:
        raise needs("pydicom", source) from error
    slices = []
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            if "Rows" in header and "Columns" in header:
                slices.append(_Slice(path, header))
        except (*READ_ERRORS, pydicom.errors.InvalidDicomError) as error:
            raise StackError(f"cannot read {path} as DICOM: {_told(error)}") from error
    chosen = _choose(slices, series, source)
    try:
        _check_alike(chosen, source)
        _check_codecs(chosen, source)
        ordered, affine = _placed(chosen, source)
        scale, units = _in_plane(ordered[0])
        if affine is not None:
            scale, units = spacing_of(affine), dict.fromkeys("zyx", "millimeter")
        data = _Pixels(ordered, _dtype(ordered, source))
    except StackError:
        raise
    except READ_ERRORS as error:
        raise StackError(f"the headers of {source} cannot be understood: {_told(error)}") from error
    return lazy_image(data, "zyx", scale=scale, units=units, name=name, source=source, affine=affine)


def _choose(slices: Sequence[_Slice], series: int | None, source: str) -> list[_Slice]:
    by_uid: dict[str, list[_Slice]] = defaultdict(list)
    for one in slices:
        by_uid[str(one.get("SeriesInstanceUID", ""))].append(one)
    if not by_uid:
        raise StackError(f"{source} holds DICOM files, but none with an image")
    found = [by_uid[uid] for uid in sorted(by_uid, key=lambda uid: (_number(by_uid[uid][0]), uid))]
    listed = "; ".join(f"{number}: {_about(group)}" for number, group in enumerate(found))
    if series is None and len(found) > 1:
        raise StackError(f"{source} holds {len(found)} series; choose one with series=. {listed}")
    if series is not None and not 0 <= series < len(found):
        raise StackError(f"{source} has no series {series}; it has {listed}")
    return found[series or 0]


def _number(one: _Slice) -> int:
    try:
        return int(one.get("SeriesNumber", 0))
    except (TypeError, ValueError):
        return 0


def _about(group: Sequence[_Slice]) -> str:
    first = group[0]
    sizes = Counter(one.size for one in group)
    each = " and ".join(f"{count} images of {rows} × {columns}" for (rows, columns), count in sizes.items())
    described = str(first.get("SeriesDescription", "")).strip()
    return f"{first.get('Modality', 'image')} {described!r} (number {_number(first)}, {each})"


def _check_alike(slices: Sequence[_Slice], source: str) -> None:
    """StackError where the files of a series do not make one volume of plain grey values."""
    for one in slices:
        if int(one.get("NumberOfFrames", 1)) > 1:
            raise StackError(
                f"{one.path} is an enhanced (multi-frame) DICOM file, which is not read; convert it to "
                "NIfTI, for instance with dcm2niix"
            )
        if int(one.get("SamplesPerPixel", 1)) != 1:
            raise StackError(f"{one.path} is in colour; a DICOM volume holds one value a pixel")
        if "ModalityLUTSequence" in one.header:
            raise StackError(
                f"{one.path} maps its values by a table (Modality LUT), which is not read; convert it to "
                "NIfTI"
            )
        if one.rescale[0] == 0:
            raise StackError(f"{one.path} has a rescale slope of 0, which makes all values equal")
    sizes = Counter(one.size for one in slices)
    if len(sizes) > 1:
        told = ", ".join(f"{count} of {rows} × {columns}" for (rows, columns), count in sizes.items())
        raise StackError(
            f"{source} mixes slices of several sizes in one series ({told}); give a list of files"
        )
    for tag, what in (("ImageOrientationPatient", "orientations"), ("PixelSpacing", "pixel spacings")):
        kinds: list[tuple[NDArray[np.float64], int]] = []
        for one in slices:
            value = np.array(one.get(tag, []), np.float64)
            for number, (known, count) in enumerate(kinds):
                if known.shape == value.shape and np.allclose(known, value, atol=_SAME):
                    kinds[number] = known, count + 1
                    break
            else:
                kinds.append((value, 1))
        if len(kinds) > 1:
            told = ", ".join(f"{count} of {np.round(value, 3).tolist()}" for value, count in kinds)
            raise StackError(
                f"{source} mixes slices of several {what} in one series ({told}); scouts and reformatted "
                "views are volumes of their own: give a list of the files of one"
            )


def _check_codecs(slices: Sequence[_Slice], source: str) -> None:
    """Say what to install before the first read fails."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    for uid in {str(one.header.file_meta.get("TransferSyntaxUID", "")) for one in slices}:
        syntax = UID(uid)
        if not uid or (syntax.is_transfer_syntax and not syntax.is_encapsulated):
            continue
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise StackError(
                f"{source} has the transfer syntax {syntax.name} ({uid}), which cannot be read; convert it "
                "to an uncompressed one, for instance with dcmdjpeg or gdcmconv --raw"
            ) from None
        if not decoder.is_available:
            raise StackError(
                f"{source} has the transfer syntax {syntax.name} ({uid}), which needs another package: pip "
                "install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg; or convert it to an uncompressed one"
            )


def _placed(slices: Sequence[_Slice], source: str) -> tuple[list[_Slice], NDArray[np.float64] | None]:
    """Slices in the order of their places, and the affine; None for one slice that tells of no place."""
    without = [s for s in slices if not s.get("ImagePositionPatient") or not s.get("ImageOrientationPatient")]
    if without:
        if len(slices) == 1:
            return list(slices), None
        raise StackError(
            f"{without[0].path.name} and {len(without) - 1} other files of {source} do not tell where they "
            "lie (ImagePositionPatient), so they are no volume"
        )
    cosines = np.array(slices[0].header.ImageOrientationPatient, np.float64)
    along_row, along_column = cosines[:3], cosines[3:]
    normal = np.cross(along_row, along_column)
    if not abs(np.linalg.norm(normal) - 1) < _SAME:
        raise StackError(
            f"the orientation of {slices[0].path} is {cosines.tolist()}; rows and columns must be unit "
            "vectors at right angles"
        )
    ordered = sorted(slices, key=lambda s: float(np.dot(s.header.ImagePositionPatient, normal)))
    places = np.array([s.header.ImagePositionPatient for s in ordered], np.float64)
    affine = np.eye(4)
    (row_step, column_step), _ = _pixel_steps(ordered[0])
    affine[:3, 2], affine[:3, 1] = along_row * column_step, along_column * row_step
    affine[:3, 0] = _slice_step(ordered, places, normal, source)
    affine[:3, 3] = places[0]
    return ordered, checked_affine(lps_to_ras(affine), source)


def _slice_step(
    ordered: Sequence[_Slice], places: NDArray[np.float64], normal: NDArray[np.float64], source: str
) -> NDArray[np.float64]:
    """The way from one slice to the next, in mm; not along the normal where the gantry was tilted."""
    if len(ordered) == 1:
        thick = float(ordered[0].get("SpacingBetweenSlices", ordered[0].get("SliceThickness", 1)))
        return normal * (thick if thick > 0 else 1.0)
    depths = places @ normal
    steps = np.diff(depths)
    if (steps < 1e-4).any():
        twice = int((steps < 1e-4).sum())
        at = int(np.argmax(steps < 1e-4))
        raise StackError(
            f"{source} has {twice} slices at places that have one already, such as "
            f"{ordered[at].path.name} and {ordered[at + 1].path.name}: several echoes, phases or copies in "
            "one series; give a list of the files of one"
        )
    step = float(np.sort(steps)[(len(steps) - 1) // 2])  # a step that there is
    wide = np.nonzero(steps > (1 + _UNEVEN) * step)[0]
    if len(wide):
        told = [
            f"{round(steps[k] / step) - 1 or 'part of one'} at {depths[k] + step:.1f} mm" for k in wide[:5]
        ]
        more = f" and {len(wide) - 5} more gaps" if len(wide) > 5 else ""
        raise StackError(
            f"{source} lacks slices: {', '.join(told)}{more} along the normal ({len(ordered)} slices, "
            f"{step:g} mm apart elsewhere); copy the series again, or give a "
            "list of the files of a part without gaps"
        )
    if (steps < (1 - _UNEVEN) * step).any():
        raise StackError(
            f"the slices of {source} are {steps.min():g} to {steps.max():g} mm apart; a volume has one "
            "distance"
        )
    mean = (places[-1] - places[0]) / (len(places) - 1)
    off = np.linalg.norm(places - (places[0] + np.arange(len(places))[:, None] * mean), axis=1)
    if (off > 2 * _UNEVEN * step).any():
        raise StackError(
            f"the slices of {source} do not lie in a row: {ordered[int(off.argmax())].path.name} is "
            f"{off.max():.2f} mm beside it"
        )
    return np.asarray(mean, np.float64)


def _pixel_steps(one: _Slice) -> tuple[tuple[float, float], bool]:
    """Distance between rows and between columns in mm, and whether the file tells."""
    found = one.get("PixelSpacing") or one.get("ImagerPixelSpacing")
    if not found:
        return (1.0, 1.0), False
    row, column = (float(value) for value in found)
    if not (row > 0 and column > 0):
        raise StackError(f"the pixel spacing of {one.path} is {row:g} × {column:g} mm; it must be above 0")
    return (row, column), True


def _in_plane(one: _Slice) -> tuple[dict[str, float], dict[str, str | None]]:
    (row, column), told = _pixel_steps(one)
    return {"y": row, "x": column}, dict.fromkeys("yx", "millimeter" if told else None)


def _dtype(slices: Sequence[_Slice], source: str) -> np.dtype[Any]:
    """The type that holds the values of all slices after rescaling."""
    if any(int(s.get("BitsAllocated", 16)) not in (8, 16, 32) for s in slices):
        raise StackError(
            f"{source} has pixels of {slices[0].get('BitsAllocated')} bits; 8, 16 and 32 are read"
        )
    stored = [
        np.dtype(
            f"{'i' if int(s.get('PixelRepresentation', 0)) else 'u'}{int(s.get('BitsAllocated', 16)) // 8}"
        )
        for s in slices
    ]
    if all(s.rescale == (1, 0) for s in slices):
        return np.result_type(*stored)
    whole = all(slope.is_integer() and start.is_integer() for slope, start in (s.rescale for s in slices))
    return np.dtype(np.int32 if whole and all(d.itemsize < 4 for d in stored) else np.float32)


class _Pixels:
    """Slices in order as an array; each file is read when its slice is asked for."""

    def __init__(self, slices: Sequence[_Slice], dtype: np.dtype[Any]) -> None:
        self._files = [(one.path, *one.rescale) for one in slices]
        self.shape = (len(slices), *slices[0].size)
        self.dtype = dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = _full_key(key, self.shape)
        inner = tuple(keys[1:])
        if isinstance(keys[0], int):
            return self._read(keys[0])[inner]
        parts = [self._read(number)[inner] for number in range(*keys[0].indices(len(self._files)))]
        empty = np.empty((0, *np.empty(self.shape[1:], np.bool_)[inner].shape), self.dtype)
        return np.stack(parts) if parts else empty

    def _read(self, number: int) -> NDArray[Any]:
        import pydicom

        path, slope, intercept = self._files[number]
        try:
            stored = pydicom.dcmread(path).pixel_array
        except (*READ_ERRORS, pydicom.errors.InvalidDicomError) as error:
            raise StackError(f"cannot read the pixels of {path}: {_told(error)}") from error
        if stored.shape != self.shape[1:]:
            raise StackError(
                f"{path} holds {stored.shape} pixels, not {self.shape[1:]}; it was changed meanwhile"
            )
        if (slope, intercept) == (1, 0):
            return np.asarray(stored.astype(self.dtype, copy=False))
        return np.asarray(stored.astype(np.float64) * slope + intercept).astype(self.dtype)

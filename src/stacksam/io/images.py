"""Opening image stacks: every format becomes a :class:`LazyImage`, of which nothing is read yet.

TIFF, ImageJ hyperstacks and OME-TIFF; OME-Zarr (0.4, 0.5) and plain zarr, in a folder or a zip file; NIfTI,
NRRD and DICOM series; a folder or a list of images (one frame each, in natural order); ``.npy``; numpy, dask
and zarr arrays.
To add a format, add its suffixes and its reader to `_READERS`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import StackError
from stacksam.io._lazy import (
    READ_ERRORS,
    ArrayLike,
    LazyImage,
    _full_key,
    _told,
    guess_axes,
    lazy_image,
)

__all__ = ["ArrayLike", "LazyImage", "Source", "natural_key", "open_image"]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | ArrayLike | LazyImage
"""What can be opened: a path, a list of paths, an array, or an image that is open already."""

Reader = Callable[[Path, int, int | None, str | None], LazyImage]


def open_image(
    source: Source, *, level: int = 0, series: int | None = None, axes: str | None = None
) -> LazyImage:
    """Open an image lazily.

    Parameters
    ----------
    source : path, list of paths, array or LazyImage
        A file, a zarr folder, a folder of images, a list of image files (one frame each, in the order
        given), a numpy, dask or zarr array.
    level : int
        Resolution level of a multiscale file; 0 is the full size.
    series : int, optional
        Which image, for files that hold several of equal standing (positions, wells), or which series of a
        folder of DICOM files.
    axes : str, optional
        One letter of ``tzcyx`` a dimension (``s`` for colours), for sources that do not tell or are wrong.
        Bare arrays are ``yx``, ``tyx`` or ``tzyx`` by default; bytes whose last axis has size 3 or 4 are
        colours. A sequence of unknown meaning in a TIFF (``Q``, ``I``) is taken as t.

    Returns
    -------
    LazyImage

    Raises
    ------
    StackError
        If the source is missing, unreadable, empty, of an unknown format, or ambiguous.

    Notes
    -----
    Planes that an OME-TIFF announces but does not hold, and chunks that a zarr array lacks, read as
    zeros (the fill value), as in other readers. Offsets (``translation``) of OME-Zarr are not kept.
    """
    if isinstance(source, LazyImage):
        if axes is not None and axes.lower() != source.axes:
            raise StackError(
                f"{source.name} is open already, with axes {source.axes!r}; axes={axes!r} does not apply"
            )
        _only_one(source.source, level, series)
        return source
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source).expanduser(), level, series, axes)
    if isinstance(source, list | tuple):
        return _open_list(source, level, series, axes)
    if type(source).__module__.partition(".")[0] == "zarr":
        from stacksam.io._zarr import read_zarr_node

        return read_zarr_node(source, "array", "zarr array", level, series, axes)
    if all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
        _only_one("an array", level, series)
        return _open_array(source, axes, "array", f"{type(source).__module__.partition('.')[0]} array")  # type: ignore[arg-type]
    raise StackError(
        f"cannot open a {type(source).__name__}; give {_SUPPORTED}, or a numpy, dask or zarr array"
    )


def natural_key(text: str) -> tuple[list[str | int], str]:
    """Sort key that counts: ``frame2`` comes before ``frame10``."""
    parts = re.split(r"(\d+)", text.casefold())  # text and numbers in turn, so that like meets like
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], text


def _open_path(path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    if "://" in str(path) or re.match(r"[a-z0-9]{2,}:/", str(path)):
        raise StackError(
            f"{path} looks like a web address; only local files can be opened, so download it first"
        )
    try:
        if not path.exists():
            raise StackError(f"there is no file or folder {path}")
        if not path.is_dir():
            return _reader_of(path)(path, level, series, axes)
        names = sorted((entry.name for entry in path.iterdir() if entry.is_file()), key=natural_key)
    except OSError as error:
        raise StackError(f"cannot read {path}: {_told(error)}") from error
    from stacksam.io._zarr import looks_like_zarr, read_zarr

    if looks_like_zarr(path) or path.suffix.lower() == ".zarr":
        return read_zarr(path, level, series, axes)
    slices = [path / name for name in names if _is_dicom(path / name)]
    if slices and not any(_is_image(path / name) for name in names if path / name not in slices):
        return _read_slices(slices, path.name, str(path), level, series, axes)
    kinds = Counter(_suffix(path / name) for name in names if _is_image(path / name))
    if not kinds:
        raise StackError(f"the folder {path} holds no images; supported are {_SUPPORTED}")
    if len({_READERS[suffix] for suffix in kinds}) > 1 or len({_KIND.get(s, s) for s in kinds}) > 1:
        found = ", ".join(f"{count} {suffix}" for suffix, count in sorted(kinds.items()))
        raise StackError(
            f"the folder {path} mixes formats ({found}); give a list of the files that are frames"
        )
    _only_one(str(path), level, series)
    files = [path / name for name in names if _is_image(path / name)]
    return _open_files(files, axes, path.name, str(path))


def _open_list(source: Sequence[Any], level: int, series: int | None, axes: str | None) -> LazyImage:
    if not source:
        raise StackError("the list of files is empty")
    if not all(isinstance(item, str | os.PathLike) for item in source):
        raise StackError(
            "a list must hold paths of image files; for arrays, use numpy.stack or dask.array.stack"
        )
    files = [Path(item).expanduser() for item in source]
    if all(_is_dicom(file) for file in files):
        return _read_slices(files, files[0].parent.name, str(files[0].parent), level, series, axes)
    _only_one("a list of files", level, series)
    return _open_files(files, axes, files[0].parent.name or files[0].stem, str(files[0].parent))


def _open_files(files: Sequence[Path], axes: str | None, name: str, source: str) -> LazyImage:
    with open_image(files[0]) as first:
        frames = _Files(files, first)
        # The files are the time points; stacks of files that are time-lapses themselves are depths.
        outer = next((axis for axis in "tz" if axis not in first.axes), None)
        if outer is None:
            if first.sizes["t"] > 1 and first.sizes["z"] > 1:
                raise StackError(
                    f"each file of {source} has both t and z already, so the files have no axis of their own"
                )
            outer = "t" if first.sizes["t"] == 1 else "z"
        return lazy_image(
            frames,
            axes or outer + first.axes,
            scale=first.scale,
            units=first.units,
            name=name,
            source=source,
            rgb=first.rgb,
            affine=first.affine,
        )


class _Files:
    """A list of files of equal shape as an array, which grows with it; each is opened while it is read."""

    def __init__(self, files: Sequence[Path], first: LazyImage) -> None:
        self.files = files
        self._axes, self._each = first.axes, first.shape
        self.dtype = first.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.files), *self._each

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = _full_key(key, self.shape)
        inner = tuple(keys[1:])
        if isinstance(keys[0], int):
            return self._read(keys[0], inner)
        parts = [self._read(number, inner) for number in range(*keys[0].indices(len(self.files)))]
        return (
            np.stack(parts)
            if parts
            else np.empty((0, *np.empty(self.shape[1:], np.bool_)[inner].shape), self.dtype)
        )

    def _read(self, number: int, inner: tuple[int | slice, ...]) -> NDArray[Any]:
        with open_image(self.files[number]) as image:
            if (image.shape, image.dtype, image.axes) != (self.shape[1:], self.dtype, self._axes):
                raise StackError(
                    f"{self.files[number]} is {image.dtype} of shape {image.shape} ({image.axes}), but "
                    f"{self.files[0].name} is {self.dtype} of shape {self.shape[1:]} ({self._axes}); "
                    "frames must be alike"
                )
            return np.asarray(image.data[inner])


def _open_array(array: ArrayLike, axes: str | None, name: str, source: str) -> LazyImage:
    shape, dtype = tuple(int(size) for size in array.shape), np.dtype(array.dtype)
    source = f"the {source}"
    if axes is None and len(shape) > 1 and 0 not in shape:
        axes = guess_axes(shape, dtype, source)
    letters = axes or "tzcyx"[-len(shape) :]
    colours = "s" in letters.lower() or (dtype == np.uint8 and letters.lower().endswith("c"))
    return lazy_image(array, letters, name=name, source=source, rgb=colours)


def _read_tiff(path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    from stacksam.io._tiff import read_tiff

    return read_tiff(path, level, series, axes)


def _read_zarr(path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    from stacksam.io._zarr import read_zarr

    return read_zarr(path, level, series, axes)


def _read_npy(path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    _only_one(str(path), level, series)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except READ_ERRORS as error:
        raise StackError(f"cannot read {path} as a numpy array: {_told(error)}") from error
    return _open_array(array, axes, path.stem, str(path))


def _read_picture(path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    from imageio.v3 import imread

    _only_one(str(path), level, series)
    try:
        if path.suffix.lower() == ".png":
            with path.open("rb") as file:
                head = file.read(26)
            if len(head) == 26 and head[24] == 16 and head[25] != 0:
                # Pillow would drop the lower byte without a word.
                raise StackError(
                    f"{path} is a PNG with 16-bit colours, which would lose bits; convert it to TIFF"
                )
        array = np.asarray(imread(path, plugin="pillow"))
    except StackError:
        raise
    except READ_ERRORS as error:
        raise StackError(f"cannot read {path} as an image: {_told(error)}") from error
    colours = array.ndim == 3 and array.shape[-1] in (3, 4)
    letters = axes or ("yx" if array.ndim == 2 else "yxs")
    return lazy_image(array, letters, name=path.stem, source=str(path), rgb=colours)


def _read_nifti(path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    from stacksam.io._nifti import read_nifti

    _only_one(str(path), level, series)
    return read_nifti(path, axes)


def _read_nrrd(path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    from stacksam.io._nrrd import read_nrrd

    _only_one(str(path), level, series)
    return read_nrrd(path, axes)


def _read_dicom(path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    return _read_slices([path], path.stem, str(path), level, series, axes)


def _read_slices(
    files: list[Path], name: str, source: str, level: int, series: int | None, axes: str | None
) -> LazyImage:
    from stacksam.io._dicom import read_dicom

    _only_one(source, level, None)
    if axes is not None:
        raise StackError(
            f"{source} is DICOM, whose axes are known to be z, y, x; axes={axes!r} does not apply"
        )
    return read_dicom(files, name=name, source=source, series=series)


_READERS: dict[str, Reader] = {
    **dict.fromkeys((".tif", ".tiff", ".btf", ".tf2", ".tf8"), _read_tiff),
    **dict.fromkeys((".zip", ".ozx"), _read_zarr),
    ".npy": _read_npy,
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), _read_picture),
    **dict.fromkeys((".nii", ".nii.gz"), _read_nifti),
    **dict.fromkeys((".nrrd", ".nhdr"), _read_nrrd),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), _read_dicom),
}
# Spellings of one format, which may be mixed in a folder.
_KIND = {".tiff": ".tif", ".btf": ".tif", ".tf2": ".tif", ".tf8": ".tif", ".jpeg": ".jpg"}
_SUPPORTED = (
    "TIFF (.tif, .tiff, .btf, .tf2, .tf8; also ImageJ and OME), OME-Zarr and zarr (a folder, .zip or .ozx), "
    ".npy, .png, .jpg, .jpeg, .bmp, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), DICOM (.dcm), or a folder of "
    "such images"
)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner + suffix if suffix == ".gz" and inner == ".nii" else suffix


def _is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its suffix or, where it has none that is known, by its first bytes."""
    if _suffix(path) in _READERS:
        return _READERS[_suffix(path)] is _read_dicom and not path.name.startswith(".")
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _is_image(path: Path) -> bool:
    return (
        not path.name.startswith(".")
        and _suffix(path) in _READERS
        and _READERS[_suffix(path)] is not _read_zarr
    )


def _reader_of(path: Path) -> Reader:
    reader = _READERS.get(_suffix(path))
    if (
        reader is None
        and _suffix(path.parent) == ".zarr"
        and path.name in ("zarr.json", ".zarray", ".zgroup", ".zattrs")
    ):
        raise StackError(f"{path} is a part of a zarr folder; open the folder {path.parent}")
    if reader is None:
        raise StackError(f"{path} is of an unknown format {_suffix(path)!r}; supported are {_SUPPORTED}")
    return reader


def _only_one(source: str, level: int, series: int | None) -> None:
    if level:
        raise StackError(f"{source} has no level {level}, only 0")
    if series:
        raise StackError(f"{source} has no series {series}, only 0")

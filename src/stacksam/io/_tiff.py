"""TIFF, ImageJ hyperstacks and OME-TIFF, one page at a time.

Where the pages lie in one piece the file is memory-mapped; otherwise each read decodes the one page it
needs. Pixel sizes come from the OME-XML, else from ImageJ's metadata, else from the resolution tags.
"""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from stacksam.errors import StackError
from stacksam.io._lazy import READ_ERRORS, ArrayLike, LazyImage, _full_key, _told, lazy_image
from stacksam.io._units import normalise_unit

Calibration = tuple[dict[str, float], dict[str, str | None]]

# Dots per inch that programs write when they know nothing.
_PRINT_RESOLUTIONS = (1, 72, 96, 100, 150, 200, 300, 600, 1200)


def read_tiff(path: Path, level: int = 0, series: int | None = None, axes: str | None = None) -> LazyImage:
    """Open a TIFF file lazily.

    Parameters
    ----------
    path : Path
        The file.
    level : int
        Resolution level of a pyramid; 0 is the full size.
    series : int, optional
        Which image of a file with several of equal size (positions); must be given for such files.
    axes : str, optional
        Letters of the dimensions, where the file does not tell or is wrong.
    """
    try:
        with _truncation_is_an_error(path):
            tif = tifffile.TiffFile(path)
            try:
                return _read(tif, path, level, series, axes)
            except BaseException:
                tif.close()
                raise
    except StackError:
        raise
    except (*READ_ERRORS, tifffile.TiffFileError) as error:  # which was no ValueError at first
        raise StackError(f"cannot read {path} as TIFF: {_told(error)}") from error


def _read(tif: tifffile.TiffFile, path: Path, level: int, series: int | None, axes: str | None) -> LazyImage:
    number = _choose_series(tif, path, series)
    full = tif.series[number]
    if not 0 <= level < len(full.levels):
        raise StackError(f"{path} has no level {level}; its levels are 0 to {len(full.levels) - 1}")
    chosen = full.levels[level]
    keyframe = chosen.keyframe
    _check_codec(keyframe, path)
    scale, units = _calibration(tif, number)
    if level:
        for axis in "yx":
            if axis in scale:
                shrink = dict(zip(full.axes.lower(), full.shape, strict=True))[axis]
                scale[axis] *= shrink / dict(zip(chosen.axes.lower(), chosen.shape, strict=True))[axis]
    data: ArrayLike
    if chosen.dataoffset is not None:
        data = np.memmap(
            path,
            dtype=np.dtype(tif.byteorder + chosen.dtype.char),
            mode="r",
            offset=chosen.dataoffset,
            shape=chosen.shape,
        )
        tif.close()
    else:
        data = _Pages(tif, chosen, path)
    image = lazy_image(
        data,
        axes or chosen.axes,
        scale=scale,
        units=units,
        name=path.name.split(".")[0],
        source=str(path),
        rgb=int(keyframe.photometric) in (2, 6),
    )
    return image


class _Pages:
    """Pages of a TIFF as an array: a read decodes only the pages it touches, one after the other."""

    def __init__(self, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
        self.shape = tuple(int(size) for size in series.shape)
        self.dtype = np.dtype(series.dtype)
        self._pages = series.pages
        self._lock = threading.Lock()
        self._path = path
        count, size = len(self._pages), math.prod(series.keyframe.shape)
        # The first dimensions count pages, the others lie within one page.
        self._split = next(
            (
                k
                for k in range(len(self.shape) + 1)
                if math.prod(self.shape[:k]) == count and math.prod(self.shape[k:]) == size
            ),
            -1,
        )
        if self._split < 0:
            raise StackError(
                f"{path} has {count} pages of shape {series.keyframe.shape}, which do not make {self.shape}"
            )
        self.close = weakref.finalize(self, tif.close)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = _full_key(key, self.shape)
        outer, inner = keys[: self._split], tuple(keys[self._split :])
        grid = np.arange(len(self._pages)).reshape(self.shape[: self._split])
        wanted = np.asarray(grid[tuple(outer)])
        parts = [self._page(int(number))[inner] for number in wanted.ravel()]
        if wanted.ndim == 0:
            return parts[0]
        inside = np.empty(self.shape[self._split :], np.bool_)[inner].shape if not parts else parts[0].shape
        return (
            np.stack(parts).reshape(wanted.shape + inside)
            if parts
            else np.empty(wanted.shape + inside, self.dtype)
        )

    def _page(self, number: int) -> NDArray[Any]:
        if not self.close.alive:
            raise StackError(f"{self._path} was closed")
        page = self._pages[number]
        shape = self.shape[self._split :]
        if page is None:  # planned but never acquired: other readers show zeros, too
            return np.zeros(shape, self.dtype)
        with self._lock:
            return np.asarray(page.asarray()).reshape(shape)


def _choose_series(tif: tifffile.TiffFile, path: Path, series: int | None) -> int:
    count = len(tif.series)
    if not count:
        raise StackError(f"{path} holds no image")
    if series is not None:
        if not 0 <= series < count:
            raise StackError(f"{path} has no series {series}; it has {count}, counted from 0")
        return series
    alike = [n for n, other in enumerate(tif.series) if other.shape == tif.series[0].shape]
    if len(alike) > 1:
        raise StackError(
            f"{path} holds {len(alike)} images of equal size; choose one with series=, one of {alike}"
        )
    return 0


def _check_codec(page: Any, path: Path) -> None:
    """Say what to install before the first read fails."""
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError:
        name = getattr(page.compression, "name", page.compression)
        raise StackError(
            f'{path} is compressed with {name}, which needs imagecodecs: pip install "napari-stacksam[io]"'
        ) from None


@contextmanager
def _truncation_is_an_error(path: Path) -> Iterator[None]:
    """Raise where tifffile only logs that pages are missing; it would go on with the rest."""
    seen: list[str] = []

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if record.thread == here and ("invalid page offset" in text or "corrupted" in text):
                seen.append(text)

    here = threading.get_ident()
    listen, logger = Listen(logging.WARNING), logging.getLogger("tifffile")
    logger.addHandler(listen)
    try:
        yield
    finally:
        logger.removeHandler(listen)
    if seen:
        raise StackError(f"{path} is cut short or damaged: {seen[0]}")


def _calibration(tif: tifffile.TiffFile, series: int) -> Calibration:
    """Scale and units by axis, for as many axes as the file tells."""
    if tif.is_ome and tif.ome_metadata:
        found = _from_ome(tif.ome_metadata, series)
        if found[0]:
            return found
    keyframe = tif.series[series].keyframe
    if tif.is_imagej and tif.imagej_metadata:
        return _from_imagej(tif.imagej_metadata, keyframe)
    return _from_tags(keyframe)


def _from_ome(xml: str, series: int) -> Calibration:
    scale: dict[str, float] = {}
    units: dict[str, str | None] = {}
    every = [e for e in ElementTree.fromstring(xml).iter() if e.tag.rsplit("}")[-1] == "Pixels"]
    if not every:
        return scale, units
    pixels = every[series] if series < len(every) else every[0]
    for axis, key, unit in (
        ("x", "PhysicalSizeX", "µm"),
        ("y", "PhysicalSizeY", "µm"),
        ("z", "PhysicalSizeZ", "µm"),
        ("t", "TimeIncrement", "s"),
    ):
        size = _number(pixels.get(key))
        if size:
            scale[axis] = size
            units[axis] = normalise_unit(pixels.get(f"{key}Unit", unit))
    return scale, units


def _from_imagej(metadata: dict[str, Any], page: Any) -> Calibration:
    scale: dict[str, float] = {}
    units: dict[str, str | None] = {}
    unit = normalise_unit(str(metadata.get("unit", "")))
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        per_unit = _ratio(page, tag)
        if per_unit:
            scale[axis] = 1 / per_unit
            units[axis] = normalise_unit(str(metadata[f"{axis}unit"])) if f"{axis}unit" in metadata else unit
    # ImageJ leaves spacing out when it is 1.
    scale["z"] = _number(metadata.get("spacing")) or 1.0
    units["z"] = normalise_unit(str(metadata["zunit"])) if "zunit" in metadata else unit
    interval = _number(metadata.get("finterval"))
    if interval:
        scale["t"] = interval
        units["t"] = normalise_unit(str(metadata.get("tunit", "sec")))
    return scale, units


def _from_tags(page: Any) -> Calibration:
    scale: dict[str, float] = {}
    units: dict[str, str | None] = {}
    unit = page.tags.get("ResolutionUnit")
    micrometers = {2: 25400.0, 3: 10000.0}.get(int(unit.value) if unit is not None else 2)
    if micrometers is None:
        return scale, units
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        per_unit = _ratio(page, tag)
        if not per_unit or (
            micrometers == 25400.0 and any(abs(per_unit - r) < 0.01 for r in _PRINT_RESOLUTIONS)
        ):
            continue
        scale[axis], units[axis] = micrometers / per_unit, "micrometer"
    return scale, units


def _ratio(page: Any, tag: str) -> float | None:
    found = page.tags.get(tag)
    if found is None:
        return None
    value = found.value
    if isinstance(value, tuple):
        return _number(value[0] / value[1]) if value[1] else None
    return _number(value)


def _number(value: Any) -> float | None:
    """A positive finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None

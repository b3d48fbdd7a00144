"""A volume seen along another of its axes, and with square pixels; nothing is read before it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, StackError
from stacksam.io._affine import Affine
from stacksam.io._lazy import AxesView, LazyImage, _full_key, lazy_image

__all__ = ["TURNS", "resampled", "turned", "turned_affine", "unturned"]

TURNS = {"z": "zyx", "y": "yzx", "x": "xzy"}
"""By the axis that frames lie along: which axes become frames, rows and columns."""


def turned(image: LazyImage, axis: str) -> LazyImage:
    """The volume with frames along `axis`: rows are then z, and columns the other one.

    Parameters
    ----------
    image : LazyImage
        With z, y and x.
    axis : {"z", "y", "x"}

    Returns
    -------
    LazyImage
        Its axes are again called z, y and x: frames, rows and columns. Scale, units and affine go with them.

    Raises
    ------
    InputError
        If there is no such axis.
    StackError
        If the image is no volume.
    """
    if axis not in TURNS:
        raise InputError(f"axis is {axis!r}; use 'z', 'y' or 'x'")
    if axis == "z":
        return image
    if image.sizes.get("z", 1) < 2:
        raise StackError(
            f"{image.source} has axes {image.axes!r} and no depth, so it cannot be seen along {axis}"
        )
    new_of_old = dict(zip(TURNS[axis], "zyx", strict=True))
    letters = "".join(new_of_old.get(letter, letter) for letter in image.axes)
    return lazy_image(
        AxesView(image.data, letters, letters),
        letters,
        scale={new_of_old.get(a, a): step for a, step in image.scale.items()},
        units={new_of_old.get(a, a): unit for a, unit in image.units.items()},
        name=f"{image.name} along {axis}",
        source=image.source,
        rgb=image.rgb,
        affine=None if image.affine is None else turned_affine(image.affine, axis),
    )


def turned_affine(affine: Affine, axis: str) -> Affine:
    """The affine of (frame, row, column) of a turned volume, from that of (z, y, x)."""
    return affine[:, ["zyx".index(letter) for letter in TURNS[axis]] + [3]]


def unturned(volume: NDArray[Any], axis: str) -> NDArray[Any]:
    """A volume (frame, row, column) seen along `axis`, as (z, y, x); a view."""
    return volume.transpose([TURNS[axis].index(letter) for letter in "zyx"])


def resampled(image: LazyImage, shape: tuple[int, int]) -> LazyImage:
    """The image with other numbers of rows and columns, interpolated linearly.

    Parameters
    ----------
    image : LazyImage
    shape : (int, int)
        Rows and columns. The frame covers the same ground: new pixel centres lie at ``(i + 0.5) * old / new -
        0.5`` of the old ones, and beyond the outermost of these the frame goes on evenly.

    Returns
    -------
    LazyImage
        Of float32; without an affine, since its voxels are others.
    """
    factors = {axis: image.sizes[axis] / size for axis, size in zip("yx", shape, strict=True)}
    return lazy_image(
        _Resampled(image, shape),
        image.axes,
        scale={axis: step * factors.get(axis, 1.0) for axis, step in image.scale.items()},
        units=image.units,
        name=image.name,
        source=image.source,
    )


class _Resampled:
    """Rows and columns of a lazy image, interpolated as they are read."""

    def __init__(self, image: LazyImage, shape: tuple[int, int]) -> None:
        self._image = image
        new = dict(zip("yx", shape, strict=True))
        self.shape = tuple(new.get(axis, size) for axis, size in image.sizes.items())
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = dict(zip(self._image.axes, _full_key(key, self.shape), strict=True))
        wanted = {axis: np.arange(self.shape[self._image.axes.index(axis)])[keys[axis]] for axis in "yx"}
        part = np.asarray(self._image.read(**{a: k for a, k in keys.items() if a not in "yx"}), np.float32)
        left = [axis for axis in self._image.axes if axis in "yx" or isinstance(keys[axis], slice)]
        for axis in "yx":
            part = self._along(part, left.index(axis), axis, np.atleast_1d(wanted[axis]))
        drop = tuple(left.index(axis) for axis in "yx" if wanted[axis].ndim == 0)
        return part.squeeze(drop) if drop else part

    def _along(
        self, part: NDArray[Any], dimension: int, axis: str, places: NDArray[np.int64]
    ) -> NDArray[Any]:
        old, new = self._image.sizes[axis], self.shape[self._image.axes.index(axis)]
        if old == new:
            return part.take(places, dimension)
        at = np.clip((places + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.minimum(at.astype(int), max(old - 2, 0))
        share = (at - low).astype(np.float32).reshape([-1 if d == dimension else 1 for d in range(part.ndim)])
        above = part.take(np.minimum(low + 1, old - 1), dimension)
        mixed: NDArray[Any] = part.take(low, dimension) * (1 - share) + above * share
        return mixed

"""Volumes through time: one image with both t and z, seen as z-stacks and as time-lapses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from stacksam.errors import InputError, StackError
from stacksam.io.images import LazyImage, Source, open_image
from stacksam.session.stack import Intensity, Stack, open_stack

__all__ = ["Volumes", "open_volumes"]


@dataclass(frozen=True, eq=False)
class Volumes:
    """A lazy image of axes t, z, y and x; made by :func:`open_volumes`.

    Attributes
    ----------
    image : LazyImage
        Where the data come from.
    channels : tuple of int
        Channels that the model sees; empty if there is no channel axis.
    intensity : Intensity
        One mapping to 0..1 for all time points and planes.
    spacing : tuple of 4 float
        Size of a step along t, z, y and x.
    units : tuple of 4 (str or None)
    spacing_told : bool
        Whether the file or the caller tells how far planes lie apart, be it 1.
    """

    image: LazyImage
    channels: tuple[int, ...]
    intensity: Intensity
    spacing: tuple[float, float, float, float]
    units: tuple[str | None, str | None, str | None, str | None]
    spacing_told: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time points, planes, rows, columns."""
        sizes = self.image.sizes
        return sizes["t"], sizes["z"], sizes["y"], sizes["x"]

    @property
    def n_times(self) -> int:
        """Number of time points."""
        return self.shape[0]

    @property
    def n_planes(self) -> int:
        """Number of planes of a volume."""
        return self.shape[1]

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return self.shape[2:]

    def z_stack(self, time: int) -> Stack:
        """The volume of one time point; its frames are planes."""
        return self._stack("z", {"t": time})

    def time_lapse(self, plane: int) -> Stack:
        """One plane through time; its frames are time points."""
        return self._stack("t", {"z": plane})

    def _stack(self, frame_axis: str, at: Mapping[str, int]) -> Stack:
        stack = open_stack(
            self.image,
            frame_axis=frame_axis,
            at=at,
            channels=self.channels or None,
            intensity=self.intensity,
            spacing=dict(zip("tzyx", self.spacing, strict=True)),
        )
        return replace(stack, spacing_told=self.spacing_told)

    def identity(self) -> str:
        """Short digest that tells this image from others: of its shape, and of three volumes."""
        digest = hashlib.sha256(repr(self.shape).encode())
        for time in sorted({0, self.n_times // 2, self.n_times - 1}):
            digest.update(self.z_stack(time).identity().encode())
        return digest.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON types."""
        return {
            "name": self.image.name,
            "source": self.image.source,
            "identity": self.identity(),
            "shape": list(self.shape),
            "dtype": str(self.image.dtype),
            "channels": list(self.channels),
            "spacing": list(self.spacing),
            "units": list(self.units),
            "intensity": self.intensity.to_json(),
        }

    def close(self) -> None:
        """Close the file below."""
        self.image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_volumes(
    source: Source,
    *,
    channels: int | Sequence[int] | None = None,
    intensity: Intensity | tuple[float, float] | None = None,
    axes: str | None = None,
    spacing: Mapping[str, float] | Sequence[float] | None = None,
    level: int = 0,
    series: int | None = None,
) -> Volumes:
    """Open an image of axes t, z, y and x lazily.

    Parameters
    ----------
    source : path, list of paths, array or LazyImage
        See :func:`stacksam.io.open_image`; a bare array of four dimensions is taken for tzyx.
    channels, axes, level, series
        As for :func:`stacksam.open_stack`.
    intensity : Intensity or (low, high), optional
        Mapping to 0..1. By default the lowest and the highest of the percentiles that
        :func:`stacksam.open_stack` takes of the first, the middle and the last volume.
    spacing : mapping, or sequence of 4 or 3, optional
        Replaces what the file tells: by axis letter, or (t, z, y, x), or (z, y, x).

    Raises
    ------
    StackError
        If the source cannot be read, or lacks t or z.
    InputError
        If an argument does not fit the image.
    """
    image = open_image(source, level=level, series=series, axes=axes)
    try:
        _check_axes(image)
        given = _steps(spacing)
        steps = {axis: image.scale.get(axis, 1.0) for axis in "tzyx"} | given
        low: list[tuple[float, ...]] = []
        high: list[tuple[float, ...]] = []
        for time in sorted({0, image.sizes["t"] // 2, image.sizes["t"] - 1}):
            one = open_stack(
                image, frame_axis="z", at={"t": time}, channels=channels, intensity=intensity, spacing=given
            )
            low.append(one.intensity.low)
            high.append(one.intensity.high)
    except BaseException:
        if image is not source:
            image.close()
        raise
    mapping = Intensity(
        tuple(min(values) for values in zip(*low, strict=True)),
        tuple(max(values) for values in zip(*high, strict=True)),
    )
    t, z, y, x = (float(steps[axis]) for axis in "tzyx")
    units = image.units
    return Volumes(
        image,
        one.channels,
        mapping,
        (t, z, y, x),
        (units.get("t"), units.get("z"), units.get("y"), units.get("x")),
        one.spacing_told,
    )


def _check_axes(image: LazyImage) -> None:
    missing = [axis for axis in "tz" if axis not in image.sizes]
    if missing:
        kind = {"t": "time", "z": "depth"}
        raise StackError(
            f"{image.source} has no axis {' and no axis '.join(missing)} ({kind[missing[0]]}); its axes are "
            f"{image.axes!r}. Following in four dimensions needs both t and z; use stacksam segment or a "
            "Session for one of them, or say with axes what the dimensions are, such as tzyx"
        )


def _steps(spacing: Mapping[str, float] | Sequence[float] | None) -> dict[str, float]:
    if spacing is None:
        return {}
    if isinstance(spacing, Mapping):
        if set(spacing) - set("tzyx"):
            raise InputError(f"spacing names axes {sorted(set(spacing) - set('tzyx'))}; use t, z, y and x")
        return dict(spacing)
    if isinstance(spacing, str | os.PathLike) or len(spacing) not in (3, 4):
        raise InputError(f"spacing is {spacing!r}; give (z, y, x) or (t, z, y, x)")
    return dict(zip("tzyx"[-len(spacing) :], spacing, strict=True))

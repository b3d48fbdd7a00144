"""The stack: image data as frames along one axis, and what the model sees of them.

A stack is lazy: at any time one frame of it is read. The frame axis is t where there is time, else z; any
other axis is fixed to one index. One intensity mapping holds for the whole stack, never one per frame:
bleaching must stay visible to the model as what it is, and an empty frame must stay empty.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, StackError
from stacksam.io._units import normalise_unit
from stacksam.io.images import LazyImage, Source, open_image
from stacksam.session.boxes import BBox

__all__ = ["Intensity", "Stack", "open_stack", "reopen_stack"]

_SAMPLE_FRAMES = 8
_SAMPLE_PIXELS = 2**18
"""Pixels of a frame that a percentile is taken of; larger frames are strided."""
_PERCENTILES = (0.1, 99.9)


@dataclass(frozen=True, slots=True)
class Intensity:
    """Mapping of pixel values to 0..1, one for all frames.

    Attributes
    ----------
    low, high : tuple of float
        Values that become 0 and 1; one pair for all channels, or one for each. Where low equals high, what
        is above becomes 1.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        pairs = list(zip(self.low, self.high, strict=False))
        if not 1 <= len(self.low) <= 3 or len(self.low) != len(self.high):
            raise InputError(
                f"intensity has {len(self.low)} low and {len(self.high)} high values; give 1 to 3 of each"
            )
        if not all(math.isfinite(low) and math.isfinite(high) and low <= high for low, high in pairs):
            raise InputError(f"intensity is {pairs}; low and high must be finite, and low not above high")

    def apply(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Map values to 0..1.

        Parameters
        ----------
        raw : (H, W) or (H, W, C) array
            Values; NaN becomes 0, infinities the nearer end.

        Returns
        -------
        (H, W) or (H, W, C) array of float32
        """
        channels = raw.shape[-1] if raw.ndim == 3 else 1
        if len(self.low) not in (1, channels):
            raise InputError(f"intensity has {len(self.low)} channels, the frame {channels}")
        out = np.empty(raw.shape, np.float32)
        for channel, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            part = (..., slice(None)) if len(self.low) == 1 else (..., channel)
            values = raw[part].astype(np.float64)  # which holds 32-bit integers, and float16 sums
            if low == high:
                out[part] = values > low
                continue
            shrink = 1.0 if math.isfinite(high - low) else 0.25
            values *= shrink
            np.clip(values, low * shrink, high * shrink, out=values)
            values -= low * shrink
            values /= high * shrink - low * shrink
            np.nan_to_num(values, copy=False, nan=0.0)
            out[part] = values
        return out

    def to_json(self) -> dict[str, list[float]]:
        """The mapping as JSON types."""
        return {"low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The mapping back from :meth:`to_json`.

        Raises
        ------
        InputError
            If `data` is something else.
        """
        try:
            return cls(tuple(float(v) for v in data["low"]), tuple(float(v) for v in data["high"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{data!r:.80} is no intensity mapping: {error}") from error


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames of an image along one axis; made by :func:`open_stack`.

    Attributes
    ----------
    image : LazyImage
        Where the data come from.
    frame_axis : {"t", "z"}
        The axis along which the frames lie; also for a single frame.
    at : dict of str to int
        Index along the other one of t and z, where there is one of size above 1.
    channels : tuple of int
        Channels that the model sees: one (thrice), two (the third is empty), or three. Empty if the image
        has no channel axis.
    intensity : Intensity
        Mapping to 0..1, for the whole stack.
    spacing : tuple of 3 float
        Size of a step between frames, along y and along x.
    units : tuple of 3 (str or None)
        Their units by long name; None for frames or pixels.
    opened : dict
        How the image was opened, as JSON types: the path or paths, level, series, axes. Empty if that is not
        known, as for arrays; then it cannot be opened again by :func:`reopen_stack`.
    """

    image: LazyImage
    frame_axis: str
    at: dict[str, int]
    channels: tuple[int, ...]
    intensity: Intensity
    spacing: tuple[float, float, float]
    units: tuple[str | None, str | None, str | None]
    opened: dict[str, Any] = field(default_factory=dict)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.image.sizes.get(self.frame_axis, 1)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.image.sizes["y"], self.image.sizes["x"]

    @property
    def axes_out(self) -> str:
        """Axes of labels for this stack: ``"tyx"`` or ``"zyx"``."""
        return f"{self.frame_axis}yx"

    @property
    def name(self) -> str:
        """Short name."""
        return self.image.name

    @property
    def source(self) -> str:
        """Where the data come from."""
        return self.image.source

    def __len__(self) -> int:
        return self.n_frames

    def raw(self, index: int, box: BBox | None = None, step: int = 1) -> NDArray[Any]:
        """One frame, or a part of it, as it is in the file; not to be written to.

        Parameters
        ----------
        index : int
            The frame, from 0.
        box : (int, int, int, int), optional
            Half-open ``(y0, x0, y1, x1)`` of the part, inside the frame; by default all.
        step : int
            Take every pixel, every second, ... of rows and columns.

        Returns
        -------
        (H, W) or (H, W, C) array
            The chosen channels; without the last axis if it is one.

        Raises
        ------
        InputError
            If there is no such frame.
        StackError
            If it cannot be read.
        """
        return _read_frame(self.image, self.frame_axis, self.at, self.channels, index, step, box)

    def frame(self, index: int, box: BBox | None = None, step: int = 1) -> NDArray[np.float32]:
        """One frame, or a part of it, as the model sees it.

        Of a multiscale image, pixels at a distance are those of its coarser levels, which as a rule are means
        and are quicker to read; :meth:`raw` takes single pixels.

        Parameters
        ----------
        index, box, step
            As for :meth:`raw`.

        Returns
        -------
        (H, W, 3) array of float32
            In 0..1. One channel is repeated; of two, the third is zero.

        Raises
        ------
        InputError, StackError
            As :meth:`raw`.
        """
        y0, x0, y1, x1 = box = box or (0, 0, *self.frame_shape)
        factor, image = self.image.shrunk(step, *box)
        part = y0 // factor, x0 // factor, y1 // factor, x1 // factor
        raw = _read_frame(image, self.frame_axis, self.at, self.channels, index, max(step // factor, 1), part)
        mapped = self.intensity.apply(raw)
        if mapped.ndim == 3 and mapped.shape[2] == 3:
            return mapped
        out = np.zeros((*mapped.shape[:2], 3), np.float32)
        if mapped.ndim == 2:
            out[...] = mapped[..., None]
        else:
            out[..., : mapped.shape[2]] = mapped
        return out

    def identity(self) -> str:
        """Short digest that tells this stack from others, wherever the file lies and whatever its format.

        It covers shape, type, the choice of axes and channels, and pixels of three frames.
        """
        height, width = self.frame_shape
        head = (
            self.n_frames,
            height,
            width,
            self.image.dtype.str.lstrip("<>=|"),
            self.frame_axis,
            sorted(self.at.items()),
            self.channels,
        )
        digest = hashlib.sha256(repr(head).encode())
        for index in sorted({0, self.n_frames // 2, self.n_frames - 1}):
            part = _read_frame(
                self.image, self.frame_axis, self.at, self.channels, index, _stride(self.frame_shape)
            )
            digest.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """What the stack is, as JSON types, for session files and reports."""
        return {
            "name": self.name,
            "source": self.source,
            "identity": self.identity(),
            "n_frames": self.n_frames,
            "frame_shape": list(self.frame_shape),
            "dtype": str(self.image.dtype),
            "axes": self.image.axes,
            "frame_axis": self.frame_axis,
            "at": dict(self.at),
            "channels": list(self.channels),
            "spacing": list(self.spacing),
            "units": list(self.units),
            "intensity": self.intensity.to_json(),
            "opened": dict(self.opened),
        }

    def close(self) -> None:
        """Close the file below."""
        self.image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_stack(
    source: Source,
    *,
    frame_axis: str | None = None,
    at: Mapping[str, int] | None = None,
    channels: int | Sequence[int] | None = None,
    intensity: Intensity | tuple[float, float] | None = None,
    axes: str | None = None,
    spacing: Mapping[str, float] | Sequence[float] | None = None,
    units: Mapping[str, str | None] | Sequence[str | None] | str | None = None,
    level: int = 0,
    series: int | None = None,
) -> Stack:
    """Open a stack lazily.

    Parameters
    ----------
    source : path, list of paths, array or LazyImage
        See :func:`stacksam.io.open_image`.
    frame_axis : {"t", "z"}, optional
        The axis along which the frames lie; by default t if it has more than one step, else z.
    at : mapping of str to int, optional
        Index along the other one of t and z, as in ``{"z": 3}``; must be given if it has more than one step.
    channels : int or sequence of 1 to 3 ints, optional
        Channels that the model sees. By default colours as they are, else the first channel.
    intensity : Intensity or (low, high), optional
        Mapping to 0..1. By default 0..255 for 8-bit colours, 0..1 for bool, else the percentiles 0.1 and
        99.9 of up to eight frames, for each channel.
    axes : str, optional
        Axes of sources that do not tell, such as ``"tyx"``; see :func:`stacksam.io.open_image`.
    spacing : mapping, or sequence of 3 or 2, optional
        Replaces what the file tells: by axis letter, or (frame, y, x), or (y, x).
    units : str, mapping, or sequence of 3 or 2, optional
        Replaces what the file tells, in the same way; a single one is for y and x, and z if that is the
        frame axis.
    level : int
        Resolution level of a multiscale file.
    series : int, optional
        Which image of a file that holds several.

    Returns
    -------
    Stack

    Raises
    ------
    StackError
        If the source cannot be read, an index in `at` is missing, or all of its pixels are NaN.
    InputError
        If an argument does not fit the image.
    """
    image = open_image(source, level=level, series=series, axes=axes)
    try:
        frame_axis = _frame_axis(image, frame_axis)
        indices = _other_index(image, frame_axis, at or {})
        chosen = _channels(image, channels)
        step, unit = _spacing(image, frame_axis, spacing, units)
        if intensity is None:
            intensity = _sampled_intensity(image, frame_axis, indices, chosen)
        elif not isinstance(intensity, Intensity):
            intensity = _given_intensity(intensity)
        if len(intensity.low) not in (1, max(len(chosen), 1)):
            raise InputError(
                f"intensity has {len(intensity.low)} channels, but {max(len(chosen), 1)} are chosen"
            )
    except BaseException:
        if image is not source:
            image.close()
        raise
    return Stack(
        image, frame_axis, indices, chosen, intensity, step, unit, _opening(source, level, series, axes)
    )


def reopen_stack(description: Mapping[str, Any], source: Source | None = None) -> Stack:
    """Open a stack again as it was opened before.

    Parameters
    ----------
    description : mapping
        From :meth:`Stack.describe`.
    source : path, list of paths, array or LazyImage, optional
        Where it is now; by default where it was.

    Returns
    -------
    Stack
        Not checked to be the same: see :meth:`Stack.identity`.

    Raises
    ------
    StackError
        If it cannot be read, or is not known to lie anywhere.
    InputError
        If it no longer fits the description.
    """
    opened = description["opened"]
    if source is None:
        if not opened:
            raise StackError(
                f"the stack {description['name']} came from {description['source']}, "
                "which cannot be opened again; give the stack"
            )
        source = opened["source"]
    again = {} if isinstance(source, LazyImage) else {k: v for k, v in opened.items() if k != "source"}
    return open_stack(
        source,
        # A single image need not have the axis that it would have with more frames.
        frame_axis=description["frame_axis"] if description["frame_axis"] in description["axes"] else None,
        at=description["at"],
        channels=description["channels"] or None,
        intensity=Intensity.from_json(description["intensity"]),
        spacing=description["spacing"],
        units=description["units"],
        **again,
    )


def _opening(source: Source, level: int, series: int | None, axes: str | None) -> dict[str, Any]:
    """How to open a source again; empty if it lies nowhere."""
    if isinstance(source, str | os.PathLike):
        place: str | list[str] = _absolute(source)
    elif isinstance(source, list | tuple):
        place = [_absolute(item) for item in source]
    else:
        return {}
    return {"source": place, "level": level, "series": series, "axes": axes}


def _absolute(path: Any) -> str:
    return str(Path(path).expanduser().absolute())


def _frame_axis(image: LazyImage, wanted: str | None) -> str:
    sizes = image.sizes
    if wanted is not None:
        if wanted not in ("t", "z"):
            raise InputError(f"frame_axis is {wanted!r}; use 't' or 'z'")
        if wanted not in sizes:
            raise StackError(
                f"{image.source} has no axis {wanted!r} to take frames along; its axes are {image.axes!r}"
            )
        return wanted
    if sizes.get("t", 1) > 1:
        return "t"
    if sizes.get("z", 1) > 1:
        return "z"
    return "z" if "z" in sizes and "t" not in sizes else "t"


def _other_index(image: LazyImage, frame_axis: str, at: Mapping[str, int]) -> dict[str, int]:
    """Index along the one of t and z that is not the frame axis; only if it has more than one step."""
    other = "z" if frame_axis == "t" else "t"
    size = image.sizes.get(other, 1)
    for axis in at:
        if axis == frame_axis:
            raise InputError(
                f"at={dict(at)} fixes {axis}, which is the frame axis; choose another with frame_axis="
            )
        if axis != other or axis not in image.sizes:
            hint = "; choose channels with channels=" if axis == "c" else ""
            raise InputError(
                f"at={dict(at)} fixes {axis!r}, but {image.source} has axes {image.axes!r}{hint}"
            )
    if other not in at:
        if size > 1:
            raise StackError(
                f"{image.source} has {size} steps along {other} beside the frame axis {frame_axis}; "
                f"choose one, such as at={{{other!r}: {size // 2}}}, or frame_axis={other!r}"
            )
        return {}
    index = int(at[other])
    if not 0 <= index < size:
        raise InputError(
            f"at={dict(at)} is outside {image.source}, which has {size} steps along {other} (0 to {size - 1})"
        )
    return {other: index} if size > 1 else {}


def _channels(image: LazyImage, wanted: int | Sequence[int] | None) -> tuple[int, ...]:
    count = image.sizes.get("c")
    if wanted is None:
        if count is None:
            return ()
        return (0, 1, 2) if image.rgb else (0,)
    chosen = (wanted,) if isinstance(wanted, int | np.integer) else tuple(wanted)
    if not 1 <= len(chosen) <= 3 or not all(0 <= channel < (count or 1) for channel in chosen):
        raise InputError(
            f"channels={wanted} does not fit {image.source}: "
            f"choose 1 to 3 of its {count or 1}, counted from 0"
        )
    return tuple(int(channel) for channel in chosen) if count else ()


def _spacing(
    image: LazyImage,
    frame_axis: str,
    spacing: Mapping[str, float] | Sequence[float] | None,
    units: Mapping[str, str | None] | Sequence[str | None] | str | None,
) -> tuple[tuple[float, float, float], tuple[str | None, str | None, str | None]]:
    axes = (frame_axis, "y", "x")
    if isinstance(units, str):
        units = {axis: units for axis in axes if axis != "t"}
    steps = dict(image.scale) | _by_axis(spacing, axes, "spacing")
    names = dict(image.units) | _by_axis(units, axes, "units")
    frame, y, x = (float(steps.get(axis, 1.0)) for axis in axes)
    if not all(math.isfinite(step) and step > 0 for step in (frame, y, x)):
        raise InputError(f"spacing={spacing} must be positive numbers")
    frame_unit, y_unit, x_unit = (normalise_unit(names.get(axis)) for axis in axes)
    return (frame, y, x), (frame_unit, y_unit, x_unit)


def _by_axis(values: Any, axes: tuple[str, ...], what: str) -> dict[str, Any]:
    """Values by axis letter, given so or as a sequence."""
    if values is None:
        return {}
    if isinstance(values, Mapping):
        unknown = set(values) - set("tzyx")
        if unknown:
            raise InputError(f"{what} names axes {sorted(unknown)}; use t, z, y and x")
        return dict(values)
    values = tuple(values)
    if len(values) not in (2, 3):
        raise InputError(f"{what} has {len(values)} values; give (y, x) or ({axes[0]}, y, x)")
    return dict(zip(axes[-len(values) :], values, strict=True))


def _given_intensity(pair: Sequence[Any]) -> Intensity:
    if len(pair) != 2:
        raise InputError(f"intensity={pair!r} must be (low, high)")
    low, high = (tuple(float(v) for v in np.atleast_1d(value)) for value in pair)
    return Intensity(low, high)


def _read_frame(
    image: LazyImage,
    frame_axis: str,
    at: Mapping[str, int],
    channels: tuple[int, ...],
    index: int,
    stride: int = 1,
    box: BBox | None = None,
) -> NDArray[Any]:
    """The chosen channels of a box of one frame, (h, w) or (h, w, C), and of them every `stride`-th pixel."""
    count = image.sizes.get(frame_axis, 1)
    if not 0 <= index < count:
        raise InputError(f"there is no frame {index}; {image.name} has {count}, from 0 to {count - 1}")
    key: dict[str, int | slice] = {axis: at.get(axis, 0) for axis in "tz" if axis in image.axes}
    if frame_axis in key:
        key[frame_axis] = int(index)
    if stride > 1 or box is not None:
        y0, x0, y1, x1 = box or (0, 0, image.sizes["y"], image.sizes["x"])
        key |= {"y": slice(y0, y1, stride), "x": slice(x0, x1, stride)}
    if not channels:
        return image.read(**key)
    if len(channels) == 1:
        return image.read(**key, c=channels[0])
    first, last = min(channels), max(channels)
    if image.rgb or last - first < len(
        set(channels)
    ):  # colours lie together; separate channels may lie far apart
        part = image.read(**key, c=slice(first, last + 1))
        if channels == tuple(range(first, last + 1)):
            return np.moveaxis(part, 0, -1)
        return np.stack([part[channel - first] for channel in channels], axis=-1)
    return np.stack([image.read(**key, c=channel) for channel in channels], axis=-1)


def _stride(shape: tuple[int, int]) -> int:
    return max(1, math.ceil(math.sqrt(shape[0] * shape[1] / _SAMPLE_PIXELS)))


def _sampled_intensity(
    image: LazyImage, frame_axis: str, at: Mapping[str, int], channels: tuple[int, ...]
) -> Intensity:
    """Percentiles over a few frames, for each channel; fixed ranges for 8-bit colours and bool."""
    if image.dtype == np.bool_:
        return Intensity((0.0,), (1.0,))
    if image.rgb and image.dtype == np.uint8:
        return Intensity((0.0,), (255.0,))
    n_frames = image.sizes.get(frame_axis, 1)
    n_channels = max(1, len(channels))
    samples: list[list[NDArray[Any]]] = [[] for _ in range(n_channels)]
    even = [round(index) for index in np.linspace(0, n_frames - 1, min(n_frames, _SAMPLE_FRAMES))]
    # Frames without a finite value tell nothing; only if all of the sample are such, the others are tried.
    for turn, index in enumerate([*even, *(i for i in range(n_frames) if i not in set(even))]):
        if turn >= len(even) and all(samples):
            break
        frame = _read_frame(
            image, frame_axis, at, channels, index, _stride((image.sizes["y"], image.sizes["x"]))
        )
        for channel, values in enumerate(np.moveaxis(frame.reshape(*frame.shape[:2], n_channels), -1, 0)):
            finite = values[np.isfinite(values)]
            if finite.size:
                samples[channel].append(finite)
    low, high = [], []
    for channel, parts in enumerate(samples):
        if not parts:
            where = f"channel {channels[channel]} of " if n_channels > 1 else ""
            raise StackError(
                f"{where}{image.source} has no finite value in any frame: all of it is NaN or infinite"
            )
        values = np.concatenate(parts)
        bottom = np.percentile(values, _PERCENTILES[0], method="lower")
        top = np.percentile(values, _PERCENTILES[1], method="higher")
        if bottom == top:  # sparse: nearly all pixels are equal
            bottom, top = values.min(), values.max()
        low.append(float(bottom))
        high.append(float(top))
    return Intensity(tuple(low), tuple(high))

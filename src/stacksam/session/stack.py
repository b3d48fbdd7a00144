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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, StackError
from stacksam.io._affine import Affine, checked_affine, shifted
from stacksam.io._turn import TURNS, turned
from stacksam.io._units import normalise_unit
from stacksam.io.growing import Arrivals, can_grow, grow, open_growing
from stacksam.io.images import LazyImage, Source, open_image
from stacksam.session.boxes import BBox
from stacksam.session.presets import Preset, read_preset

__all__ = ["Intensity", "Stack", "open_stack", "reopen_stack"]

_SAMPLE_FRAMES = 8
_SAMPLE_PIXELS = 2**18
"""Pixels of a frame that a percentile is taken of; larger frames are strided."""
_PERCENTILES = (0.1, 99.9)
_LIVE = "live-"


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
        How the image was opened, as JSON types: the path or paths, level, series, axes, and `along` where
        it is not z. Empty if that is not known, as for arrays; then it cannot be opened again by
        :func:`reopen_stack`.
    turn : {"z", "y", "x"}
        The axis of the image as it was read that is z of `image`; see :meth:`along`.
    sampled : bool
        Whether the intensity mapping is of percentiles of the frames that were there.
    live : bool
        Whether the stack grew, or still grows, while it is followed: its identity and all results are then
        independent of how many frames there are.
    arrivals : Arrivals, optional
        What looks for more frames.
    spacing_told : bool
        Whether the file or the caller tells how far frames lie apart, be it 1; else `spacing` is 1 for want
        of better. Of a volume that is seen along another axis: how far its planes lie apart.
    """

    image: LazyImage
    frame_axis: str
    at: dict[str, int]
    channels: tuple[int, ...]
    intensity: Intensity
    spacing: tuple[float, float, float]
    units: tuple[str | None, str | None, str | None]
    opened: dict[str, Any] = field(default_factory=dict)
    turn: str = "z"
    sampled: bool = False
    live: bool = False
    arrivals: Arrivals | None = None
    spacing_told: bool = False

    @property
    def n_frames(self) -> int:
        """Number of frames; of a live stack, those that :meth:`refresh` has found."""
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

    @property
    def affine(self) -> Affine | None:
        """Where in the body labels of this stack lie; None where the file does not tell.

        (4, 4), takes ``(z, y, x, 1)`` to right, anterior, superior in mm; z is the frame, or 0 where frames
        lie along t. A spacing that was given instead of the file's is in it.
        """
        if self.image.affine is None:
            return None
        affine = shifted(self.image.affine, (float(self.at.get("z", 0)), 0.0, 0.0)).copy()
        step, y, x = self.spacing
        for column, (axis, given) in enumerate(zip("zyx", (step, y, x), strict=True)):
            told = self.image.scale.get(axis)
            if told and given != told and not (axis == "z" and self.frame_axis != "z"):
                affine[:3, column] *= given / told
        return checked_affine(affine, self.source)

    def along(self, axis: str) -> Stack:
        """The same volume with frames along another of its axes.

        Parameters
        ----------
        axis : {"z", "y", "x"}
            An axis of this stack: ``along("y")`` has a frame for each row; its rows are z, its columns x.
            ``along("x")`` has a frame for each column; its rows are z, its columns y.

        Returns
        -------
        Stack
            With the same channels and intensity. Its own axes are again called z, y and x.

        Raises
        ------
        InputError
            If there is no such axis.
        StackError
            If this is no volume, or was turned already.
        """
        if axis == "z":
            return self
        if axis in TURNS and (self.frame_axis != "z" or self.turn != "z"):
            why = f"is seen along {self.turn} already" if self.turn != "z" else "is followed along t"
            raise StackError(f"{self.name} {why}; open it with its frames along z to see it along {axis}")
        image = turned(self.image, axis)
        spacing = dict(zip("zyx", self.spacing, strict=True))
        units = dict(zip("zyx", self.units, strict=True))
        first, second, third = tuple(TURNS[axis])
        return replace(
            self,
            image=image,
            spacing=(spacing[first], spacing[second], spacing[third]),
            units=(units[first], units[second], units[third]),
            opened={**self.opened, "along": axis} if self.opened else {},
            turn=axis,
        )

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

    def refresh(self) -> int:
        """Look whether more frames of a live stack have arrived; the number of frames now.

        Raises
        ------
        StackError
            If it has shrunk or changed, or cannot be read at the moment.
        """
        return self.n_frames if self.arrivals is None else self.arrivals.refresh()

    def identity(self, live: bool | None = None) -> str:
        """Short digest that tells this stack from others, wherever the file lies and whatever its format.

        It covers shape, type, the choice of axes and channels, and pixels of three frames. That of a live
        stack begins with ``live-`` and stays the same while the stack grows: it covers the shape of a frame,
        and pixels of the first one.

        Parameters
        ----------
        live : bool, optional
            Which of the two; by default the one that the stack has.
        """
        live = self.live if live is None else live
        height, width = self.frame_shape
        head = (
            "live" if live else self.n_frames,
            height,
            width,
            self.image.dtype.str.lstrip("<>=|"),
            self.frame_axis,
            sorted(self.at.items()),
            self.channels,
        )
        digest = hashlib.sha256(repr(head).encode())
        for index in [0] if live else sorted({0, self.n_frames // 2, self.n_frames - 1}):
            part = _read_frame(
                self.image, self.frame_axis, self.at, self.channels, index, _stride(self.frame_shape)
            )
            digest.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).tobytes())
        return (_LIVE if live else "") + digest.hexdigest()[:16]

    def is_same(self, identity: str) -> bool:
        """Whether this is the stack of that identity, of either kind."""
        return self.identity(live=identity.startswith(_LIVE)) == identity

    def taken_as(self, description: Mapping[str, Any]) -> Stack:
        """The stack as it is to be seen by a session that was begun with it.

        A stack that was followed live stays a live one when it is finished, and keeps the intensity mapping
        that was sampled when it had fewer frames. Any other is returned as it is.

        Parameters
        ----------
        description : mapping
            From :meth:`describe`, at the time.
        """
        if not str(description["identity"]).startswith(_LIVE):
            return self
        kept = Intensity.from_json(description["intensity"]) if self.sampled else self.intensity
        return replace(self, live=True, intensity=kept)

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
            "spacing_told": self.spacing_told,
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


def open_stack(  # noqa: PLR0913 - what files may not tell
    source: Source,
    *,
    frame_axis: str | None = None,
    at: Mapping[str, int] | None = None,
    channels: int | Sequence[int] | None = None,
    intensity: Intensity | tuple[float, float] | str | None = None,
    axes: str | None = None,
    spacing: Mapping[str, float] | Sequence[float] | None = None,
    units: Mapping[str, str | None] | Sequence[str | None] | str | None = None,
    level: int = 0,
    series: int | None = None,
    along: str | None = None,
    live: bool = False,
    settle: float | None = None,
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
    intensity : Intensity, (low, high) or str, optional
        Mapping to 0..1, or the name of one, such as ``"ct-lung"`` or ``"mr"``: see
        :func:`stacksam.session.presets.read_preset`. By default 0..255 for 8-bit colours, 0..1 for
        bool, else the percentiles 0.1 and 99.9 of up to eight frames, for each channel.
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
        Which image of a file, or which series of a folder of DICOM files, that holds several.
    along : {"z", "y", "x"}, optional
        Axis of a volume that frames lie along; see :meth:`Stack.along`. `spacing` and `units` are then
        those of its frames, rows and columns.
    live : bool
        Whether the stack is still being written: a folder of images that gets more, or a zarr folder that
        grows along the frame axis. :meth:`Stack.refresh` finds frames that have arrived. The frame axis is t
        by default where there is one, and the intensity mapping is of the frames that are there.
    settle : float, optional
        Seconds without a change after which a frame of a live stack counts as complete; by default 1 in a
        folder, and none in a zarr array where all chunks of the frame are there.

    Returns
    -------
    Stack

    Raises
    ------
    StackError
        If the source cannot be read, an index in `at` is missing, all of its pixels are NaN, or a named CT
        window shows nothing of it. If it is live, but has no complete frame yet, or is neither a folder of
        images nor a zarr folder.
    InputError
        If an argument does not fit the image.
    """
    preset = read_preset(intensity) if isinstance(intensity, str) else None
    if settle is not None and not (live and 0 <= settle < math.inf):
        raise InputError(f"settle is {settle}; give seconds from 0, for a stack that is live")
    if live and along not in (None, "z"):
        raise InputError(f"along={along!r} is for volumes that are complete; leave out live")
    if live:
        image = open_growing(source, level=level, series=series, axes=axes, settle=settle)
    else:
        image = open_image(source, level=level, series=series, axes=axes)
    arrivals, sampled = None, intensity is None
    try:
        if along is not None and along != "z":
            if frame_axis == "t":
                raise InputError(f"along={along!r} needs frame_axis='z'; it is 't'")
            image, frame_axis = turned(image, along), "z"
        if live and frame_axis is None and "t" in image.axes:
            frame_axis = "t"  # also if it has a single step until now
        frame_axis = _frame_axis(image, frame_axis)
        indices = _other_index(image, frame_axis, at or {})
        chosen = _channels(image, channels)
        if live:
            image, arrivals = grow(image, frame_axis, indices, chosen, settle)
        step, unit = _spacing(image, frame_axis, spacing, units)
        # Planes of a volume that was turned are its rows.
        spacing_told = _tells(image, frame_axis, frame_axis if along in (None, "z") else "y", spacing, units)
        if intensity is None or preset is not None:
            intensity = _sampled_intensity(image, frame_axis, indices, chosen, preset, live=live)
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
    turn = along or "z"
    opened = _opening(source, level, series, axes)
    if opened and turn != "z":
        opened["along"] = turn
    if live:
        opened |= {"live": True, "settle": settle}
    return Stack(
        image, frame_axis, indices, chosen, intensity, step, unit, opened, turn, sampled, live, arrivals,
        spacing_told,
    )  # fmt: skip


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
        Not checked to be the same: see :meth:`Stack.is_same`.

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
    if not can_grow(source):  # a stack that was live may since have become a file
        again = {k: v for k, v in again.items() if k not in ("live", "settle")}
    stack = open_stack(
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
    # Above it was given either way. Older descriptions do not say whether it was known.
    told = description.get("spacing_told", any(step != 1 for step in description["spacing"]))
    return replace(stack, spacing_told=bool(told)).taken_as(description)


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


def _tells(
    image: LazyImage,
    frame_axis: str,
    axis: str,
    spacing: Mapping[str, float] | Sequence[float] | None,
    units: Mapping[str, str | None] | Sequence[str | None] | str | None,
) -> bool:
    """Whether a file, or what was given, tells the step along an axis: 1 without a unit is for want of it."""
    axes = (frame_axis, "y", "x")
    if isinstance(units, str):
        units = {name: units for name in axes if name != "t"}
    unit = (dict(image.units) | _by_axis(units, axes, "units")).get(axis)
    return axis in _by_axis(spacing, axes, "spacing") or image.scale.get(axis, 1.0) != 1.0 or unit is not None


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


def _given_intensity(pair: Any) -> Intensity:
    if len(pair) != 2:
        raise InputError(f"intensity={pair!r} must be (low, high), an Intensity, or a name such as 'ct-lung'")
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
    image: LazyImage,
    frame_axis: str,
    at: Mapping[str, int],
    channels: tuple[int, ...],
    preset: Preset | None = None,
    *,
    live: bool = False,
) -> Intensity:
    """Percentiles over a few frames, for each channel; fixed ranges for colours, bool and CT windows.

    Frames of a live stack that cannot be read are left out: it is told when they are followed.
    """
    if preset is None and image.dtype == np.bool_:
        return Intensity((0.0,), (1.0,))
    if preset is None and image.rgb and image.dtype == np.uint8:
        return Intensity((0.0,), (255.0,))
    low, high = [], []
    for values in _samples(image, frame_axis, at, channels, live=live):
        if preset is not None and preset.window is not None:
            bottom, top = preset.window
            if values.max() <= bottom or values.min() >= top:
                raise StackError(
                    f"intensity {preset.name!r} shows {bottom:g} to {top:g} HU, but the values of "
                    f"{image.source} are {values.min():g} to {values.max():g}, so all would be black or "
                    "all white; choose another, or give LOW,HIGH"
                )
        else:
            shares = _PERCENTILES if preset is None or preset.percentiles is None else preset.percentiles
            tissue = values[values > 0] if preset is not None else values
            inside = tissue if tissue.size else values
            bottom = np.percentile(inside, shares[0], method="lower")
            top = np.percentile(inside, shares[1], method="higher")
        if bottom == top:  # sparse: nearly all pixels are equal
            bottom, top = values.min(), values.max()
        low.append(float(bottom))
        high.append(float(top))
    return Intensity(tuple(low), tuple(high))


def _samples(
    image: LazyImage, frame_axis: str, at: Mapping[str, int], channels: tuple[int, ...], *, live: bool
) -> list[NDArray[Any]]:
    """Finite values of a few frames, for each channel; StackError where there are none."""
    n_frames = image.sizes.get(frame_axis, 1)
    n_channels = max(1, len(channels))
    samples: list[list[NDArray[Any]]] = [[] for _ in range(n_channels)]
    even = [round(index) for index in np.linspace(0, n_frames - 1, min(n_frames, _SAMPLE_FRAMES))]
    # Frames without a finite value tell nothing; only if all of the sample are such, the others are tried.
    for turn, index in enumerate([*even, *(i for i in range(n_frames) if i not in set(even))]):
        if turn >= len(even) and all(samples):
            break
        try:
            stride = _stride((image.sizes["y"], image.sizes["x"]))
            frame = _read_frame(image, frame_axis, at, channels, index, stride)
        except StackError:
            if live and n_frames > 1:
                continue
            raise
        for channel, values in enumerate(np.moveaxis(frame.reshape(*frame.shape[:2], n_channels), -1, 0)):
            finite = values[np.isfinite(values)]
            if finite.size:
                samples[channel].append(finite)
    for channel, parts in enumerate(samples):
        if not parts:
            where = f"channel {channels[channel]} of " if n_channels > 1 else ""
            raise StackError(
                f"{where}{image.source} has no finite value in any frame: all of it is NaN or infinite"
            )
    return [np.concatenate(parts) for parts in samples]

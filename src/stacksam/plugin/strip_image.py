"""One object's frames as a strip of pixels: what is drawn, without Qt, so that it can be tested as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.tracks.review import in_words

__all__ = [
    "CHANGED",
    "Rgb",
    "StripRow",
    "Theme",
    "confidence_rgb",
    "describe",
    "first_x",
    "frame_at",
    "row_pixels",
]

Rgb = tuple[int, int, int]
BoolArray = NDArray[np.bool_]

CHANGED: Rgb = (214, 92, 196)  # outline of frames that changed; far from both ends of the scale for all eyes

# Vermilion, over light, to blue: ends that the colour blind tell apart, and a middle that belongs to neither.
_STOPS = (0.0, 0.3, 0.6, 0.75, 1.0)
_SCALE = ((176, 34, 8), (240, 112, 28), (252, 214, 150), (168, 205, 232), (44, 112, 190))
_GAP_FROM = 6  # pixels a frame must be wide for a gap to the next
_HATCH = 6  # pixels from one line to the next


@dataclass(frozen=True, slots=True, eq=False)
class StripRow:
    """What the strip shows of one object: N frames with a result out of `n_frames`.

    Attributes
    ----------
    object_id : int
    name : str
        Empty where the user gave none.
    color : (r, g, b, a)
        0 to 1.
    n_frames : int
        Frames of the stack.
    frames : (N,) int array
        Ascending.
    confidence : (N,) float array
        0 to 1.
    prompted, locked, stale, changed : (N,) bool arrays
        Conditioning frames; accepted by the user; resting on something that has changed since; different
        since the last correction and not accepted yet.
    reasons : sequence of N str
        Why the confidence is low; empty where it is not. An empty sequence says nothing of any frame.

    Raises
    ------
    InputError
        If the lengths differ, or frames do not ascend within the stack.
    """

    object_id: int
    name: str
    color: tuple[float, float, float, float]
    n_frames: int
    frames: NDArray[np.int64]
    confidence: NDArray[np.float64]
    prompted: BoolArray
    locked: BoolArray
    stale: BoolArray
    changed: BoolArray
    reasons: Sequence[str]

    def __post_init__(self) -> None:
        n = len(self.frames)
        columns = (
            self.confidence,
            self.prompted,
            self.locked,
            self.stale,
            self.changed,
            self.reasons or self.frames,
        )
        lengths = [len(column) for column in columns]
        if set(lengths) != {n}:
            raise InputError(
                f"object {self.object_id}: {n} frames, but columns of {lengths}; give one value a frame"
            )
        if n and (
            self.frames[0] < 0 or self.frames[-1] >= self.n_frames or (np.diff(self.frames) <= 0).any()
        ):
            raise InputError(
                f"object {self.object_id}: frames must ascend from 0 or more to less than {self.n_frames}"
            )

    @property
    def title(self) -> str:
        """Id, and the name if there is one."""
        return f"{self.object_id}  {self.name}" if self.name else str(self.object_id)

    def looks_like(self, other: StripRow) -> bool:
        """Whether both rows are drawn as the same pixels."""
        if self is other:
            return True
        names = ("frames", "confidence", "locked", "stale", "changed")
        return self.n_frames == other.n_frames and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in names
        )


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours that come from the window: behind everything, and of text and marks."""

    background: Rgb
    foreground: Rgb

    def mix(self, share: float) -> Rgb:
        """The background with a share of the foreground, 0 to 1."""
        r, g, b = (
            round(back + (fore - back) * share)
            for back, fore in zip(self.background, self.foreground, strict=True)
        )
        return r, g, b


def confidence_rgb(confidence: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours (..., 3) of confidences (...) of 0 to 1."""
    channels = [np.interp(confidence, _STOPS, stops) for stops in zip(*_SCALE, strict=True)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def frame_at(x: int, width: int, n_frames: int) -> int:
    """The frame under column `x` of a strip, the nearest where `x` lies outside."""
    return min(max(x * n_frames // max(width, 1), 0), n_frames - 1)


def first_x(frame: int, width: int, n_frames: int) -> int:
    """The first column of a frame, so that ``first_x(frame + 1)`` is where it ends."""
    return -(-frame * width // n_frames)


def row_pixels(row: StripRow, width: int, height: int, theme: Theme) -> NDArray[np.uint8]:
    """The strip of one object.

    Where a pixel stands for several frames it shows the least sure of them, and their marks; it is accepted
    only if all of them are. A bad frame never hides, however long the stack.

    Parameters
    ----------
    row : StripRow
    width, height : int
        Pixels, at least 1.
    theme : Theme

    Returns
    -------
    (height, width, 3) uint8 array
    """
    n = row.n_frames
    # The frame each column starts with; where frames are wider than pixels, reduceat takes the one value.
    starts = np.arange(width) * n // width
    value = np.minimum.reduceat(_spread(row, row.confidence, np.inf, n), starts)
    stale = np.logical_or.reduceat(_spread(row, row.stale, False, n), starts)
    locked = np.logical_and.reduceat(_spread(row, row.locked, True, n), starts)
    changed = np.logical_or.reduceat(_spread(row, row.changed & ~row.locked, False, n), starts)
    known = np.isfinite(value)
    locked &= known

    y, x = np.mgrid[:height, :width]
    hatch = (x + y) % _HATCH < 1
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = confidence_rgb(np.where(known, value, 0.0))
    faded = pixels * 0.35 + np.asarray(theme.background) * 0.65
    pixels[:, stale] = np.rint(faded).astype(np.uint8)[:, stale]
    pixels[:, ~known] = theme.mix(0.06)
    pixels[hatch & ~known] = theme.mix(0.22)
    pixels[hatch & stale] = theme.mix(0.75)

    pixels[-4:, locked] = theme.background
    pixels[-3:, locked] = theme.foreground
    pixels[:2, changed] = CHANGED
    pixels[-2:, changed] = CHANGED
    if width >= _GAP_FROM * n:
        last = np.diff(starts, append=n) > 0
        pixels[:, last & ~changed] = theme.background
    edges = np.diff(changed.astype(np.int8), prepend=0, append=0)
    for first, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        pixels[:, first : first + 2] = CHANGED
        pixels[:, max(end - 2, 0) : end] = CHANGED
    return pixels


def describe(row: StripRow, frame: int) -> str:
    """What is known of an object on a frame, in words, for the pointer that rests there."""
    title = f"Object {row.object_id}{f' “{row.name}”' if row.name else ''}, frame {frame}"
    at = int(np.searchsorted(row.frames, frame))
    if at == len(row.frames) or row.frames[at] != frame:
        return f"{title}\nNo result yet: propagate to get one"
    value = float(row.confidence[at])
    lines = [title]
    if row.locked[at]:
        lines.append("Accepted: it is never recomputed")
    else:
        reason = row.reasons[at] if row.reasons else ""
        lines.append(f"{in_words(value).capitalize()} ({value:.2f}){f': {reason}' if reason else ''}")
    if row.prompted[at]:
        lines.append("Prompted: you said something about it here")
    if row.stale[at]:
        lines.append("Out of date: what it came from has changed; propagate again")
    if row.changed[at] and not row.locked[at]:
        lines.append("Changed by your last correction: accept it, or correct it again")
    return "\n".join(lines)


def _spread(
    row: StripRow, values: NDArray[np.generic], missing: object, n_frames: int
) -> NDArray[np.generic]:
    """Values at the row's frames as one value for each frame of the stack."""
    spread = np.full(n_frames, missing, values.dtype)
    spread[row.frames] = values
    return spread

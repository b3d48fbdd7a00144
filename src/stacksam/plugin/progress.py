"""How far a pass has come, and what of it the main thread has yet to be told."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Meter", "News", "Progress"]

_RATE_STEPS = 20  # steps over which the remaining time is estimated


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pass has come.

    Attributes
    ----------
    done, total : int
        Steps: masks of one object on one frame, or bytes of a download.
    seconds_left : float or None
        None while there is nothing to go by.
    frame : int or None
        The frame that was done last.
    seconds_each : float or None
        Pace of the latest steps.
    """

    done: int
    total: int
    seconds_left: float | None = None
    frame: int | None = None
    seconds_each: float | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What the main thread was not told yet.

    Attributes
    ----------
    frames : frozenset of int or None
        Frames whose labels changed; None for any.
    progress : Progress or None
    """

    frames: frozenset[int] | None
    progress: Progress | None

    @classmethod
    def of(cls, frames: Collection[int] | None, progress: Progress | None) -> News:
        """News of some frames, or of any for None."""
        return cls(None if frames is None else frozenset(frames), progress)

    def after(self, earlier: News | None) -> News:
        """These and earlier ones together."""
        if earlier is None:
            return self
        both = None if self.frames is None or earlier.frames is None else self.frames | earlier.frames
        return News(both, self.progress or earlier.progress)


class Meter:
    """Counts steps and guesses the time that is left from the pace of the latest ones."""

    def __init__(self) -> None:
        self._done = 0
        self._total = 0
        self._times: list[float] = []

    def left(self, count: int) -> None:
        """So many steps are left, counted from now."""
        self._total = self._done + count
        self._times = [time.perf_counter()]

    def step(self, frame: int) -> Progress:
        """A step was done, on this frame."""
        self._done += 1
        self._times = [*self._times[-_RATE_STEPS:], time.perf_counter()]
        pace = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        left = max(0, self._total - self._done)
        return Progress(self._done, self._total, pace * left if self._done >= 3 else None, frame, pace)

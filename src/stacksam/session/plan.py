"""Which frames an action touches: rules over frame numbers, without results or pictures."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stacksam.errors import InputError
from stacksam.session.memory_bank import MemoryChoice

__all__ = ["Direction", "Scope", "behind", "depending", "reaches", "unparted"]

Direction = Literal["forward", "backward", "both"]
_STEPS: dict[str, tuple[int, ...]] = {"forward": (1,), "backward": (-1,), "both": (1, -1)}


@dataclass(frozen=True, slots=True)
class Scope:
    """Which objects are followed where to.

    Attributes
    ----------
    direction : {"forward", "backward", "both"}
        Both is forward, then backward.
    objects : tuple of int
        Their ids, in order.
    first, last : int
        Frames between which to work, both included.
    """

    direction: Direction
    objects: tuple[int, ...]
    first: int
    last: int

    def __post_init__(self) -> None:
        if str(self.direction) not in _STEPS:
            raise InputError(f"direction is {self.direction!r}; use 'forward', 'backward' or 'both'")
        if self.first > self.last:
            raise InputError(
                f"first frame {self.first} lies after last frame {self.last}; give first <= last"
            )

    def order(self) -> Iterator[tuple[int, int]]:
        """``(step, frame)`` in the order of work."""
        for step in _STEPS[self.direction]:
            frames = range(self.first, self.last + 1)
            for frame in frames if step > 0 else reversed(frames):
                yield step, frame

    def reached(self, conditioning: Collection[int]) -> list[int]:
        """Frames that an object is followed to, from its conditioning frames."""
        return [
            frame
            for frame in range(self.first, self.last + 1)
            if any(reaches(conditioning, frame, step) for step in _STEPS[self.direction])
        ]


def reaches(conditioning: Collection[int], frame: int, step: int) -> bool:
    """Whether `frame` lies beyond a conditioning frame in the direction of `step`."""
    if not conditioning:
        return False
    return frame > min(conditioning) if step > 0 else frame < max(conditioning)


def depending(
    changed: Iterable[int], sources: Mapping[int, Sequence[int]], locked: Collection[int]
) -> list[int]:
    """Frames that came from the changed ones, directly or through others.

    Parameters
    ----------
    changed : iterable of int
    sources : mapping of int to sequence of int
        Of each frame that came from others: from which.
    locked : collection of int
        Frames that stay as they are. They shield what lies behind them: nothing depends across one.

    Returns
    -------
    list of int
        In order; of `changed` only those that depend on another one of them.
    """
    users: dict[int, list[int]] = defaultdict(list)
    walls = sorted(locked)
    for frame, used in sources.items():
        for source in used if frame not in locked else ():
            low, high = min(source, frame), max(source, frame)
            if bisect_right(walls, low) == bisect_left(walls, high):
                users[source].append(frame)
    found: set[int] = set()
    todo = list(changed)
    while todo:
        fresh = [frame for frame in users[todo.pop()] if frame not in found]
        found.update(fresh)
        todo += fresh
    return sorted(found)


def unparted(frame: int, frames: Iterable[int], locked: Iterable[int]) -> list[int]:
    """Those of some frames, in order, that no locked one parts from `frame`."""
    walls = sorted(locked)
    return sorted(
        other
        for other in frames
        if bisect_right(walls, min(frame, other)) == bisect_left(walls, max(frame, other))
    )


def behind(choice: MemoryChoice, frame: int, step: int) -> int:
    """The nearest frame behind, in the direction of `step`, among those that are remembered."""
    frames = [f for f in choice.conditioning if step * (frame - f) > 0]
    frames += [f for f, _ in choice.recent] + [f for f, distance in choice.pointers if distance > 0]
    return min(frames, key=lambda f: abs(f - frame))

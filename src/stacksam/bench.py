"""What this machine makes of a model: frames a second against the number of objects."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stacksam.errors import InputError

if TYPE_CHECKING:
    from stacksam.session.models import Model
    from stacksam.session.settings import Scope

__all__ = ["COUNTS", "Pace", "format_paces", "measure"]

COUNTS = (1, 5, 20, 100)
_FRAMES = 4  # the prompted one, one to warm up, and two that count
_RADIUS = 20  # pixels of an object


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast objects are followed.

    Attributes
    ----------
    objects : int
    seconds : float
        For a frame: reading, encoding, following and writing all objects.
    measured : bool
        Or else extrapolated from the two largest numbers of objects that were measured.
    """

    objects: int
    seconds: float
    measured: bool


def measure(
    model: Model,
    *,
    scope: Scope = "full",
    side: int = 1024,
    counts: Sequence[int] = COUNTS,
    budget: float = 30.0,
) -> Iterator[Pace]:
    """Follow bright discs on a computed stack.

    Parameters
    ----------
    model : Model
    scope : {"auto", "full", "window"}
        See :class:`stacksam.session.Settings`.
    side : int
        Rows and columns of a frame.
    counts : sequence of int
        Numbers of objects, in rising order.
    budget : float
        Seconds; what would take longer is extrapolated. The first two numbers are always measured.

    Yields
    ------
    Pace
        One for each number, as soon as it is known.

    Raises
    ------
    InputError
        If a number is no number of objects, or they do not rise.
    """
    if list(counts) != sorted(set(counts)) or not counts or min(counts) < 1:
        raise InputError(f"counts is {tuple(counts)}; give numbers of objects from 1, in rising order")
    start = time.monotonic()
    known: list[Pace] = []
    for count in counts:
        if len(known) > 1:
            guess = _extrapolated(known, count)
            # Prompts take about as long as a frame.
            if guess * (_FRAMES + 1) > budget - (time.monotonic() - start):
                yield Pace(count, guess, measured=False)
                continue
        pace = Pace(count, _seconds(model, scope, side, count), measured=True)
        known.append(pace)
        yield pace


def _extrapolated(known: Sequence[Pace], count: int) -> float:
    first, last = known[-2:]
    each = max(0.0, (last.seconds - first.seconds) / (last.objects - first.objects))
    return last.seconds + each * (count - last.objects)


def _seconds(model: Model, scope: Scope, side: int, count: int) -> float:
    """Seconds a frame for so many discs on a grid, which drift a little."""
    from stacksam.session.prompts import Box
    from stacksam.session.session import Session
    from stacksam.session.settings import Settings
    from stacksam.session.stack import open_stack

    columns = int(np.ceil(np.sqrt(count)))
    pitch = side / columns
    radius = min(_RADIUS, pitch / 3)
    homes = (np.stack(np.divmod(np.arange(count), columns), 1) + 0.5) * pitch
    rng = np.random.default_rng(0)
    frames = rng.normal(40, 6, (_FRAMES, side, side))
    reach = int(radius) + 2
    for t in range(_FRAMES):
        for home in homes + t:
            y0, x0 = np.maximum(np.round(home).astype(int) - reach, 0)
            y, x = np.mgrid[y0 : min(y0 + 2 * reach, side), x0 : min(x0 + 2 * reach, side)]
            frames[t, y, x] += 120 * (np.hypot(y - home[0], x - home[1]) < radius)
    stack = open_stack(frames.clip(0, 255).astype(np.uint8), axes="tyx", intensity=(0, 255))
    taken = []
    with Session(stack, model, settings=Settings(scope=scope)) as session:
        corners = np.hstack((homes - radius, homes + radius)).clip(0, side - 1)
        boxes = [(float(y0), float(x0), float(y1), float(x1)) for y0, x0, y1, x1 in corners]
        session.add(*(Box(0, i + 1, box) for i, box in enumerate(boxes)))
        for frame in range(1, _FRAMES):
            then = time.perf_counter()
            for _ in session.propagate("forward", first=frame, last=frame):
                pass
            taken.append(time.perf_counter() - then)
    return statistics.median(taken[1:])


def format_paces(name: str, paces: Sequence[Pace]) -> str:
    """One line: frames a second for each number of objects; extrapolated ones are marked."""
    each = "".join(f"{'' if p.measured else '≈'}{1 / max(p.seconds, 1e-9):.3g}".rjust(10) for p in paces)
    return f"{name:<26}{each}"

"""Progress of work that takes longer than a second, for people and for log files.

On a terminal it is a bar with the remaining time. Elsewhere (a log, a pipe, a cluster job) it is a line about
every ten seconds. All of it goes to stderr, so that stdout holds results only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO, TypeAlias

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Reporter", "Step", "duration", "quiet", "terminal"]

_LINE_EVERY = 10.0  # seconds
_BAR_AFTER = 0.5  # seconds; what is over sooner would only flicker


class Step(Protocol):
    """A piece of work under way."""

    def advance(self, count: int = 1) -> None:
        """Say that so much more is done."""

    def reach(self, done: int, total: int | None) -> None:
        """Say how much is done, of how much in all if that is known."""


Reporter: TypeAlias = Callable[[str, int | None, str], AbstractContextManager[Step]]
"""``report(title, total, unit)`` begins a piece of work; unit ``"B"`` shows sizes of files."""


@contextmanager
def quiet(title: str, total: int | None, unit: str) -> Iterator[Step]:  # noqa: ARG001
    """A reporter that says nothing."""
    yield _Silent()


@contextmanager
def terminal(title: str, total: int | None, unit: str) -> Iterator[Step]:
    """A reporter to stderr: a bar if that is a terminal, lines if not."""
    if not sys.stderr.isatty():
        yield _Lines(sys.stderr, title, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]left[/]"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
    try:
        yield _Bar(progress, title, total, unit)
    finally:
        progress.stop()


class _Silent:
    """A step that nobody watches."""

    def advance(self, count: int = 1) -> None:
        """Nothing is shown."""

    def reach(self, done: int, total: int | None) -> None:
        """Nothing is shown."""


class _Lines:
    """A line now and then: how far, and how long still."""

    def __init__(
        self,
        stream: TextIO,
        title: str,
        total: int | None,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._title, self._total, self._unit = stream, title, total, unit
        self._clock = clock
        self._done = 0
        self._start = self._told = clock()

    def advance(self, count: int = 1) -> None:
        self.reach(self._done + count, self._total)

    def reach(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total
        now = self._clock()
        if now - self._told < _LINE_EVERY:
            return
        self._told = now
        left = f", {duration((now - self._start) * (total - done) / done)} left" if total and done else ""
        self._stream.write(f"{self._title}: {_amount(done, total, self._unit)}{left}\n")
        self._stream.flush()


class _Bar:
    """A task of a rich progress display, which is shown once the work has taken a moment."""

    def __init__(self, progress: Progress, title: str, total: int | None, unit: str) -> None:
        self._progress, self._unit = progress, unit
        self._done, self._total = 0, total
        self._task = progress.add_task(title, total=total, amount=_amount(0, total, unit))
        self._start = time.monotonic()
        self._shown = False

    def advance(self, count: int = 1) -> None:
        self.reach(self._done + count, self._total)

    def reach(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total
        self._progress.update(
            self._task, completed=done, total=total, amount=_amount(done, total, self._unit)
        )
        if not self._shown and time.monotonic() - self._start > _BAR_AFTER:
            self._shown = True
            self._progress.start()


def duration(seconds: float) -> str:
    """A time span as a person says it: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _amount(done: int, total: int | None, unit: str) -> str:
    if unit == "B":
        return f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
    name = unit.removesuffix("s") if (done if total is None else total) == 1 else unit
    return f"{done} {name}" if total is None else f"{done} of {total} {name}"

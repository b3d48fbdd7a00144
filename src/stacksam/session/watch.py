"""Following objects through a stack while it is being written."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Generator, Iterator
from pathlib import Path
from typing import Any

from stacksam.errors import InputError, StackError
from stacksam.io._lazy import EmptyImageError
from stacksam.session.session import Session
from stacksam.session.stack import Stack, open_stack
from stacksam.session.update import Update

__all__ = ["Stop", "await_stack", "watch"]

Stop = Callable[[], bool] | str | os.PathLike[str] | None
"""What ends a watch: a callable that becomes true, or a file that comes to exist."""

_BEHIND = 30  # frames that wait, from which on it is told; then at twice as many, and so on


def watch(
    session: Session,
    *,
    poll: float = 1.0,
    timeout: float | None = None,
    stop: Stop = None,
    patience: float = 30.0,
    objects: Collection[int] | None = None,
    tell: Callable[[str], object] | None = None,
) -> Generator[Update, None, str]:
    """Follow objects forward through a live stack, as its frames arrive.

    First comes what is missing on frames that are there, so a watch that was stopped, or killed, goes on
    from there. No frame is left out: where frames come faster than they are followed, the watch falls behind,
    and tells it. Prompts may be added and corrected meanwhile, between two updates or from another thread;
    what they change is computed anew, and then the watch goes on.

    Parameters
    ----------
    session : Session
        Of a stack from ``open_stack(..., live=True)``, with prompts.
    poll : float
        Seconds between two looks for new frames.
    timeout : float, optional
        End when no frame has come for so many seconds; by default, never.
    stop : callable or path, optional
        End when it is true, or when there is such a file. It is asked before every frame and every look.
    patience : float
        Seconds for which a stack that cannot be read, or a frame that cannot be decoded, is tried again.
    objects : collection of int, optional
        Ids of the objects to follow; all by default, also those that come later.
    tell : callable, optional
        Called with a line of text when something happens that a person may want to know.

    Yields
    ------
    Update
        One for each object and frame, as soon as its frame is on disk.

    Returns
    -------
    str
        Why it ended, in words; the value of ``yield from``.

    Raises
    ------
    InputError
        If there are no prompts, the stack is not live, or an argument cannot be used. It is raised by the
        call, not by the first step.
    StackError
        If the stack shrinks, changes, or cannot be read for longer than `patience`. What was followed until
        then stays, and the same call goes on from there.
    StorageError
        If a result cannot be written; what was given before is safe.

    Examples
    --------
    >>> stack = open_stack("run.zarr", live=True)  # doctest: +SKIP
    >>> session = Session(stack, load_model(), "run.stacksam")  # doctest: +SKIP
    >>> session.add(Point(frame=0, object_id=1, yx=(120.0, 96.0)))  # doctest: +SKIP
    >>> for update in watch(session, timeout=60):  # doctest: +SKIP
    ...     print(update.frame, update.bbox)
    """
    if not session.stack.live:
        raise InputError(
            f"the stack {session.stack.name} is not live; open it with live=True, or use Session.propagate"
        )
    wait = _Wait(poll, timeout, stop, patience, tell)
    session.first_missing(objects)  # whether there is anything to follow
    return _watch(session, _Frames(session, wait), objects)


def _watch(
    session: Session, frames: _Frames, objects: Collection[int] | None
) -> Generator[Update, None, str]:
    while frames.wait.over is None:
        frames.next = session.first_missing(objects)
        try:
            # It ends before the frames do when something was said meanwhile.
            yield from session.follow(frames, objects=objects)
        except StackError as error:
            frames.failed(error)
    return frames.wait.over


def await_stack(
    source: str | os.PathLike[str],
    frames: int = 1,
    *,
    poll: float = 1.0,
    timeout: float | None = None,
    stop: Stop = None,
    patience: float = 5.0,
    tell: Callable[[str], object] | None = None,
    **how: Any,
) -> Stack:
    """Open a live stack, once it has so many frames.

    Parameters
    ----------
    source : path
    frames : int
        Frames to wait for.
    poll, timeout, stop, patience, tell
        As for :func:`watch`.
    **how
        Other arguments of :func:`stacksam.open_stack`.

    Raises
    ------
    StackError
        If the frames do not come in time, or the stack cannot be opened.
    InputError
        If an argument cannot be used.
    """
    wait = _Wait(poll, timeout, stop, patience, tell)
    seen = 0
    while True:
        try:
            stack = open_stack(source, live=True, **how)
        except EmptyImageError as error:
            missing = str(error)
            wait.told_once(f"waiting: {missing}")
            wait.for_more()
        except StackError as error:
            if Path(source).is_file():
                raise  # which no patience helps
            missing = str(error)
            wait.failed(missing, error)
        else:
            if stack.n_frames >= frames:
                return stack
            missing = f"{stack.source} has {stack.n_frames} of the {frames} frames that the prompts are on"
            wait.told_once(f"waiting: {missing}")
            if stack.n_frames > seen:
                wait.came()
            seen = stack.n_frames
            stack.close()
            wait.for_more()
        if wait.over is not None:
            raise StackError(f"{missing}; {wait.over}")


class _Wait:
    """Waiting for what may not come: how long still, and whether to give up."""

    def __init__(
        self,
        poll: float,
        timeout: float | None,
        stop: Stop,
        patience: float,
        tell: Callable[[str], object] | None,
    ) -> None:
        if not 0 < poll < math.inf:
            raise InputError(f"poll is {poll}; give seconds above 0")
        if timeout is not None and not 0 < timeout < math.inf:
            raise InputError(f"timeout is {timeout}; give seconds above 0, or None")
        if not 0 <= patience < math.inf:
            raise InputError(f"patience is {patience}; give seconds from 0")
        if stop is not None and not callable(stop) and not isinstance(stop, str | os.PathLike):
            raise InputError(f"stop is a {type(stop).__name__}; give a callable, or the path of a file")
        self.over: str | None = None
        self._poll, self._timeout, self._stop, self._patience = poll, timeout, stop, patience
        self._tell = tell
        self._told: str | None = None
        self._idle: float | None = None  # since when nothing has come
        self._trouble: float | None = None  # since when it fails

    def tell(self, line: str) -> None:
        """Say a line."""
        if self._tell is not None:
            self._tell(line)

    def told_once(self, line: str) -> None:
        """Say a line, but not twice on end."""
        if line != self._told:
            self.tell(line)
        self._told = line

    def stopped(self) -> bool:
        """Whether it is to end now."""
        if self.over is None and self._stop is not None:
            if callable(self._stop):
                self.over = "stopped" if self._stop() else None
            elif Path(self._stop).exists():
                self.over = f"stopped: {self._stop} is there"
            if self.over is not None:
                self.tell(self.over)
        return self.over is not None

    def succeeded(self) -> None:
        """What failed does not any more."""
        if self._trouble is not None:
            self.tell("that is over; going on")
        self._trouble = None

    def came(self) -> None:
        """Something has come."""
        self._idle = None

    def for_more(self) -> None:
        """Wait for a poll; or be over."""
        now = time.monotonic()
        self._idle = now if self._idle is None else self._idle
        if self._timeout is not None and now - self._idle >= self._timeout:
            self.over = f"stream stopped: no new frame for {self._timeout:g} s"
            self.tell(self.over)
        elif not self.stopped():
            time.sleep(self._poll)

    def failed(self, what: str, error: StackError) -> None:
        """Wait for a poll, or give up."""
        now = time.monotonic()
        if self._trouble is None:
            self._trouble = now
            self.tell(f"{what}; trying again for {self._patience:g} s")
        if now - self._trouble >= self._patience:
            raise StackError(what) from error
        if not self.stopped():
            time.sleep(self._poll)


class _Frames(Iterator[int]):
    """Numbers of frames, as they arrive; it ends when it is over, or when something was said meanwhile.

    Attributes
    ----------
    next : int
        The frame to give next.
    """

    def __init__(self, session: Session, wait: _Wait) -> None:
        self.wait, self.next = wait, 0
        self._session, self._stack = session, session.stack
        self._given: int | None = None  # the frame that is being followed
        self._behind = _BEHIND
        self._caught_up = False

    def __next__(self) -> int:
        if self._given is not None:
            self.wait.succeeded()
        self._given = None
        generation = self._session.generation
        while not self.wait.stopped() and self._session.generation == generation:
            if self.next < self._stack.n_frames:
                self._given = self.next
                self.next += 1
                return self._given
            try:
                came = self._look()
            except StackError as error:
                self.failed(error)
                continue
            if came:
                self.wait.came()
            else:
                self._caught_up = True
                self.wait.for_more()
        raise StopIteration

    def _look(self) -> bool:
        """Whether frames have come."""
        before = self._stack.n_frames
        now = self._stack.refresh()
        if now < self.next:
            raise StackError(
                f"{self._stack.source} has {now} frames, but {self.next} were followed before; a stack that "
                "is followed must not shrink"
            )
        self.wait.succeeded()
        if self._caught_up and now - before >= self._behind:
            self.wait.tell(f"{now - before} frames behind: they come faster than they are followed")
            self._behind *= 2
        return now > before

    def failed(self, error: StackError) -> None:
        """Wait and try again, or raise StackError."""
        where = "" if self._given is None else f"frame {self._given} cannot be followed: "
        self._given = None
        self.wait.failed(f"{where}{error}", error)

"""One thread that does what it is asked, in order; a long pass steps aside for whatever is quick.

The main thread never waits for the session: it hands over jobs and goes on. Answers come back through
`deliver`, which the windows make a queued signal of, and tests a list.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Deliver", "Engine", "Stream", "wait_for_closed"]

log = logging.getLogger(__name__)

Deliver = Callable[[Callable[[], None]], None]
"""Has a function called on the main thread, in order."""


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    done: Callable[[Any], None] | None
    failed: Callable[[Exception], None]
    key: str | None
    passing: bool


_closed: list[threading.Thread] = []  # of engines that were closed; they may have work left
_closed_lock = threading.Lock()


def wait_for_closed(timeout: float = 10.0) -> bool:
    """Wait until the threads of engines that were closed have done what was asked of them.

    Parameters
    ----------
    timeout : float
        Seconds to wait for all of them.

    Returns
    -------
    bool
        Whether they have ended.
    """
    end = time.monotonic() + timeout
    with _closed_lock:
        _closed[:] = [thread for thread in _closed if thread.is_alive()]
        left = [thread for thread in _closed if thread is not threading.current_thread()]
    for thread in left:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in left)


@dataclass(slots=True, eq=False)
class Stream:
    """A pass that gives one thing after another, and may be begun anew where it ended.

    Attributes
    ----------
    begin : callable
        Gives an iterator over what is left to do. It is called again after something came between, until
        there is nothing left.
    each : callable
        Called on the engine's thread with each thing.
    ended : callable
        Called on the main thread with True if nothing was left to do, False if the pass was cancelled.
    failed : callable
        Called on the main thread with the error that ended it.
    """

    begin: Callable[[], Iterator[Any]]
    each: Callable[[Any], None]
    ended: Callable[[bool], None]
    failed: Callable[[Exception], None]
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """End the pass after the step in progress."""
        self.cancelled.set()


class Engine:
    """Runs jobs one at a time on a thread of its own.

    Parameters
    ----------
    deliver : callable
        Has a function called on the main thread.
    name : str
        Of the thread.
    """

    def __init__(self, deliver: Deliver, name: str = "stacksam") -> None:
        self._deliver = deliver
        self._jobs: deque[_Job] = deque()
        self._stream: Stream | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._last: Callable[[], Any] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether anything waits to be done before a pass may go on."""
        return bool(self._jobs)

    def submit(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None] | None = None,
        *,
        failed: Callable[[Exception], None],
        key: str | None = None,
        passing: bool = False,
    ) -> None:
        """Do `work` on the engine's thread, then `done` with its result on the main thread.

        Parameters
        ----------
        work : callable
        done : callable, optional
        failed : callable
            Called on the main thread with the error, where `work` raised one.
        key : str, optional
            A job of the same key that has not begun is dropped: this one overtakes it.
        passing : bool
            Whether nobody wants what comes of it any more once the engine is closed.
        """
        with self._wake:
            if self._closing:
                return
            if key is not None:
                self._jobs = deque(job for job in self._jobs if job.key != key)
            self._jobs.append(_Job(work, done, failed, key, passing))
            self._wake.notify()

    def start(self, stream: Stream) -> None:
        """Work on a pass whenever no job waits; one that runs already is cancelled."""
        with self._wake:
            if self._closing:
                return
            if self._stream is not None:
                self._end(self._stream, False)
            self._stream = stream
            self._wake.notify()

    def cancel(self) -> None:
        """Cancel the pass, if there is one."""
        with self._wake:
            if self._stream is not None:
                self._stream.cancel()
                self._wake.notify()

    def close(self, timeout: float | None = None, last: Callable[[], Any] | None = None) -> bool:
        """Take no more jobs, and end the pass and, after the jobs that wait, the thread.

        Nothing is delivered any more.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the thread.
        last : callable, optional
            What the thread does before it ends, also when that takes longer. Errors are logged.

        Returns
        -------
        bool
            Whether the thread ended in time.
        """
        with self._wake:
            self._closing = True
            self._last = last
            self._jobs = deque(job for job in self._jobs if not job.passing)
            if self._stream is not None:
                self._stream.cancel()
            self._wake.notify()
        with _closed_lock:
            _closed.append(self._thread)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # On the engine's thread

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._jobs or self._stream or self._closing):
                    self._wake.wait()
                job = self._jobs.popleft() if self._jobs else None
                stream = self._stream
            if job is not None:
                self._do(job)
            elif stream is not None:
                self._follow(stream)
            elif self._closing:
                if self._last is not None:
                    try:
                        self._last()
                    except Exception:
                        log.exception("error at the end of the thread %s", self._thread.name)
                return

    def _do(self, job: _Job | None) -> None:
        if job is None:
            return
        try:
            result = job.work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the user is told and the thread lives on
            self._call(job.failed, error)
        else:
            if job.done is not None:
                self._call(job.done, result)

    def _follow(self, stream: Stream) -> None:
        """Work on the pass until it ends; jobs that come meanwhile are done between its steps."""
        try:
            complete = False
            while not (complete or stream.cancelled.is_set()):
                complete = self._steps(stream)
            self._finish(stream, complete)
        except Exception as error:  # noqa: BLE001 - as above
            with self._wake:
                ours = self._stream is stream
                if ours:
                    self._stream = None
            if ours:
                self._call(stream.failed, error)

    def _steps(self, stream: Stream) -> bool:
        """Go through what is left to do; whether that was all, for certain.

        A job may have ended what is left to do, or may have added to it.
        """
        disturbed = False
        steps = stream.begin()
        try:
            for step in steps:
                stream.each(step)
                while self._jobs and not stream.cancelled.is_set():
                    disturbed = True
                    self._do(self._next())
                if stream.cancelled.is_set():
                    return False
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()
        return not disturbed

    def _next(self) -> _Job | None:
        with self._wake:  # the one that was seen may have been overtaken
            return self._jobs.popleft() if self._jobs else None

    def _finish(self, stream: Stream, complete: bool) -> None:
        with self._wake:
            if self._stream is not stream:
                return
            self._stream = None
        self._call(stream.ended, complete)

    def _end(self, stream: Stream, complete: bool) -> None:
        stream.cancel()
        self._call(stream.ended, complete)

    def _call(self, function: Callable[[Any], None], value: object) -> None:
        if not self._closing:
            self._deliver(lambda: function(value))

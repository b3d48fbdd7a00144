"""What takes a while and is one action at its end: finding all objects, a vote of three axes, a comparison.

Such a search runs on the engine's thread, between other jobs and not beside them; it tells how far it is and
can be stopped, which leaves everything as it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from psygnal import Signal

from stacksam.errors import InputError
from stacksam.plugin.engine import Deliver
from stacksam.session.session import Session

__all__ = ["Found", "Kind", "Search", "Searches", "Vote"]

Kind = Literal["find", "vote", "compare"]
_TELL_SECONDS = 0.1
_WORDS: dict[Kind, str] = {
    "find": "Looking for objects",
    "vote": "Following along other axes",
    "compare": "Comparing",
}


@dataclass(frozen=True, slots=True)
class Search:
    """How far a search has come.

    Attributes
    ----------
    kind : {"find", "vote", "compare"}
    done, total : int
        Steps; a total of 0 is not known.
    """

    kind: Kind
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What was found on a frame.

    Attributes
    ----------
    frame : int
    objects : tuple of int
        Ids of the new objects.
    size : float or None
        Typical diameter in pixels, as given or estimated; None where neither.
    """

    frame: int
    objects: tuple[int, ...]
    size: float | None


@dataclass(frozen=True, slots=True)
class Vote:
    """What three axes said.

    Attributes
    ----------
    n_changed : int
        Masks that are others now.
    agreement : dict of int to float
        By object: mean Dice of each two axes.
    """

    n_changed: int
    agreement: dict[int, float]


class _StoppedError(Exception):
    """The search is not wanted any more."""


Tell = Callable[[int, int], None]
"""Tells how many steps are done, of how many; raises where the search is to end."""


class Searches:
    """What a :class:`Controller` looks for. A base of that class, and of no use alone."""

    searching: ClassVar[Signal] = Signal(object)  # Search, or None at its end
    noted: ClassVar[Signal]
    busy: ClassVar[Signal]
    session: Session | None
    _deliver: Deliver
    _open_session: Callable[[], Session]
    _submit: Callable[..., None]
    _touched: Callable[..., None]
    _forget_changes: Callable[[Collection[int]], None]
    _fail: Callable[[str], Callable[[Exception], None]]
    _searched: tuple[Session, threading.Event] | None = None

    def find_all(
        self, frame: int, done: Callable[[Found], None], *, size: float | None = None, min_score: float
    ) -> None:
        """Make an object of each that is found on a frame and is none yet; see :func:`find_objects`.

        Parameters
        ----------
        frame : int
        done : callable
            Called with what was found, unless the search was stopped.
        size : float, optional
            Typical diameter in pixels; estimated by default.
        min_score : float
            Least predicted IoU.
        """

        def act(session: Session, tell: Tell) -> tuple[Found, Collection[int]]:
            from stacksam.session.finding import estimate_size, find_objects

            typical, steps = size, [0]

            def step() -> None:
                steps[0] += 1
                tell(steps[0], 0)

            if typical is None and session.model.config.dense_head:
                typical = estimate_size(session, frame, step=step)
                if typical is None:
                    return Found(frame, (), None), ()
            proposals = find_objects(session, frame, size=typical, min_score=min_score, step=step)
            step()
            ids = tuple(update.object_id for update in session.add_found(proposals))
            return Found(frame, ids, typical), ids

        self._search("find", act, done)

    def vote(self, done: Callable[[Vote], None]) -> None:
        """Follow all objects of a volume along the other axes, and keep what two of three say.

        Accepted frames stay as they are.
        """

        def act(session: Session, tell: Tell) -> tuple[Vote, Collection[int] | None]:
            from stacksam.tracks.consensus import consensus

            tell(0, 0)
            found = consensus(session, progress=tell)
            tell(0, 0)
            locked = {i: set(session.locked_frames(i)) for i in session.object_ids}
            masks = [mask for mask in found.masks if mask.frame not in locked[mask.object_id]]
            if masks:
                session.set_masks(*masks)
            self._forget_changes({mask.object_id for mask in masks})
            return Vote(len(masks), dict(found.agreement)), None  # overlaps of others change, too

        self._search("vote", act, done)

    def compare(self, work: Callable[[Session, Tell], Any], done: Callable[[Any], None]) -> None:
        """Compare something with the session, which stays as it is."""
        self._search("compare", lambda session, tell: (work(session, tell), ()), done)

    def stop_search(self) -> None:
        """End the search that runs, if one does."""
        if self._searched is not None:
            self._searched[1].set()

    def _search(
        self,
        kind: Kind,
        act: Callable[[Session, Tell], tuple[Any, Collection[int] | None]],
        done: Callable[[Any], None],
    ) -> None:
        """Have `act` done, which gives a result and the objects that it touched (None for any)."""
        session, stop = self._open_session(), threading.Event()
        if self._searched is not None and self._searched[0] is session:
            raise InputError("something is being looked for already; wait for its end, or stop it")
        self._searched = now = session, stop
        outcome: list[Any] = []
        due = [0.0]

        def wanted() -> bool:
            return self._searched is now and self.session is session  # which may be closed by now

        def tell(count: int, total: int) -> None:
            if stop.is_set() or self.session is not session:
                raise _StoppedError
            if time.perf_counter() >= due[0]:
                due[0] = time.perf_counter() + _TELL_SECONDS
                news = Search(kind, count, total)
                self._deliver(lambda: self.searching.emit(news) if wanted() else None)

        def work() -> Collection[int] | None:
            try:
                result, touched = act(session, tell)
            except _StoppedError:
                return ()
            outcome.append(result)
            if kind != "compare":
                self._touched(None)
            return touched

        def over() -> None:
            if self._searched is now:
                self._searched = None
                self.searching.emit(None)
                self.busy.emit("")

        def arrived() -> None:
            over()
            if outcome:
                done(outcome[0])
            else:
                self.noted.emit("Stopped; everything is as it was")

        def failed(error: Exception) -> None:
            over()
            self._fail(_WORDS[kind])(error)

        self.searching.emit(Search(kind))
        self.busy.emit(f"{_WORDS[kind]} …")
        self._submit(session, work, _WORDS[kind], arrived, failed=failed)

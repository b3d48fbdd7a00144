"""Divisions that are proposed while a person works: looked for in portions, and shown as long as they hold.

A proposal rests on masks. It is remembered with what it rests on, and counts only while that is so: after a
correction, or once it is accepted, it is not shown any more, and after an undo it is there again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from psygnal import Signal

from stacksam.plugin.state import State

if TYPE_CHECKING:
    from stacksam.plugin.controller import Controller
    from stacksam.session.session import Session
    from stacksam.tracks.divisions import Division

__all__ = ["Divisions", "doubts", "likelihood"]

_MASKS, _FRAMES = 400, 10
"""Masks that are looked at before anything else may come between, but so many frames at least."""
_LEAST = 0.2  # confidence of what a person is asked about without having been in doubt
_SAME = 3  # frames between two proposals for one parent that are the same division
_BEFORE, _AFTER = 1, 3  # frames about a division that it rests on

_DOUBTS = {
    "balance": "the daughters are of unlike size",
    "size": "together they are not as large as the parent",
    "overlap": "they do not lie where the parent was",
    "distance": "they lie too near to each other, or too far from where the parent was",
    "persistence": "they are not told apart on the frames after it",
    "alone": "another object covers them",
}


def likelihood(confidence: float) -> str:
    """A confidence of a division in words."""
    return "likely" if confidence >= 0.6 else "perhaps" if confidence >= 0.35 else "doubtful"


def doubts(division: Division) -> str:
    """What speaks against a division most, in words; empty where nothing does."""
    name, least = min(division.factors.items(), key=lambda item: item[1], default=("", 1.0))
    return "" if least >= 0.9 else _DOUBTS.get(name, name)


@dataclass(frozen=True, slots=True)
class _Found:
    """A proposal, and the masks' areas that it rests on."""

    division: Division
    basis: tuple[tuple[int, ...], ...]


class Divisions:
    """Proposals of one controller's session.

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    open : tuple of Division
        Those to be decided on, by frame.
    chosen : Division or None
        The one that is looked at.
    looking : bool
        Whether they are being looked for.
    looked : bool
        Whether that was done in this session.
    """

    changed: ClassVar[Signal] = Signal()

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._found: list[_Found] = []
        self._round = 0  # grows when what is being looked for is not wanted any more
        self.open: tuple[Division, ...] = ()
        self.chosen: Division | None = None
        self.looking = self.looked = False
        controller.state_changed.connect(self._state_changed)
        controller.closed.connect(self.forget)

    def forget(self) -> None:
        """Another session, or none: nothing is known."""
        self._round += 1
        self._found, self.open, self.chosen = [], (), None
        self.looking = self.looked = False
        self.changed.emit()

    def possible(self) -> bool:
        """Whether objects can divide here: along time, and not on a single frame."""
        session = self._controller.session
        return session is not None and session.stack.frame_axis == "t" and session.stack.n_frames > 1

    def look(self, done: Callable[[], None] | None = None) -> None:
        """Look for divisions in all that is known; what was found before is forgotten."""
        if not self.possible():
            return
        self._round += 1
        token, state = self._round, self._controller.state
        per_frame = max(1, len(state.objects))
        step = max(_FRAMES, _MASKS // per_frame)
        found: list[Division] = []
        self.looking = True
        self.changed.emit()

        def ask(first: int) -> None:
            last = first + step - 1

            def work(session: Session) -> list[Division]:
                from stacksam.tracks import propose_divisions

                return propose_divisions(session, first=first, last=last, at_least=_LEAST)

            self._controller.ask(
                work, lambda own: arrived(last, own), "Divisions", key="divisions", failed=failed
            )

        def arrived(last: int, own: list[Division]) -> None:
            if token != self._round:
                return
            found.extend(own)
            if last + 1 < state.n_frames:
                ask(last + 1)
                return
            self.looking, self.looked = False, True
            now = self._controller.state
            self._found = [_Found(division, _basis(now, division)) for division in _each_once(found)]
            self._settle(now)
            if done is not None:
                done()

        def failed(error: Exception) -> None:
            if token == self._round:
                self.looking = False
                self.changed.emit()
                self._controller.failed.emit("Looking for divisions", error)

        ask(0)

    def choose(self, division: Division | None) -> None:
        """Look at a proposal."""
        self.chosen = division if division in self.open else None
        self.changed.emit()

    @property
    def asked(self) -> int:
        """Parent of the proposal that is looked at; 0 for none."""
        return 0 if self.chosen is None else self.chosen.parent

    def next(self) -> Division | None:
        """Choose the proposal after the one that is chosen, or the first; None if there is none."""
        if not self.open:
            return None
        after = self.open.index(self.chosen) + 1 if self.chosen in self.open else 0
        self.choose(self.open[after % len(self.open)])
        return self.chosen

    # Keeping them in step

    def _state_changed(self, state: State) -> None:
        if self._found:
            self._settle(state)

    def _settle(self, state: State) -> None:
        """Show the proposals that hold."""
        before = self.open
        self.open = tuple(
            one.division
            for one in self._found
            if one.basis == _basis(state, one.division) and _undecided(state, one.division)
        )
        if self.chosen not in self.open:
            self.chosen = None
        if self.open != before or not self.open:
            self.changed.emit()


def _basis(state: State, division: Division) -> tuple[tuple[int, ...], ...]:
    """Areas of the masks that a proposal rests on; -1 where there is none."""
    frames = range(division.frame - _BEFORE, division.frame + _AFTER)
    daughters = [d.object_id for d in division.daughters if d.object_id not in (None, division.parent)]
    return tuple(_areas(state, i, frames) for i in (division.parent, *daughters))


def _areas(state: State, object_id: int | None, frames: Iterable[int]) -> tuple[int, ...]:
    scores = None if object_id is None else state.scores.get(object_id)
    if scores is None:
        return ()
    known = dict(zip(scores.frames.tolist(), scores.area.tolist(), strict=True))
    return tuple(known.get(frame, -1) for frame in frames)


def _undecided(state: State, division: Division) -> bool:
    """Whether nothing was said of it yet."""
    ids = {d.object_id for d in division.daughters} - {None, division.parent}
    return (
        division.parent in state.object_ids
        and division.parent not in state.parents.values()
        and (division.parent, division.frame) not in state.rejected
        and not any(i in state.parents for i in ids)
    )


def _each_once(found: Iterable[Division]) -> list[Division]:
    """Without those that are a less sure reading of another: portions overlap in what they look at."""
    kept: list[Division] = []
    for one in sorted(found, key=lambda d: (-d.confidence, d.frame, d.parent)):
        ids = {d.object_id for d in one.daughters} - {None, one.parent}
        if not any(
            (one.parent == other.parent and abs(one.frame - other.frame) <= _SAME)
            or ids & {d.object_id for d in other.daughters}
            for other in kept
        ):
            kept.append(one)
    return sorted(kept, key=lambda d: (d.frame, -d.confidence, d.parent))

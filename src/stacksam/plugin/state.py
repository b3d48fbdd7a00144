"""What the windows show of a session: frozen, made on the inference thread, read on the main thread."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stacksam.session.prompts import Prompt
from stacksam.session.scores import FrameScores
from stacksam.session.session import Session
from stacksam.tracks.review import confidence, overlaps, reasons

__all__ = ["EMPTY", "ObjectRow", "Snapshots", "State"]


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object in the table.

    Attributes
    ----------
    object_id : int
    name : str
        Empty where the user gave none.
    n_frames : int
        Frames with a result.
    confidence : float or None
        Mean review confidence over its frames, 0 to 1; None without results.
    n_locked, n_stale : int
        Accepted frames, and frames that rest on something that has changed since.
    prompted : tuple of int
        Conditioning frames.
    """

    object_id: int
    name: str
    n_frames: int
    confidence: float | None
    n_locked: int
    n_stale: int
    prompted: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A session at one moment.

    Attributes
    ----------
    n_frames : int
    objects : tuple of ObjectRow
    prompts : tuple of Prompt
    can_undo, can_redo : str or None
        Name of the action that would be taken back, or done again.
    scores : dict of int to FrameScores
        What is known of each object on each frame, without masks.
    confidences : dict of int to (N,) array
        Review confidence of the same frames.
    reasons : dict of int to tuple of str
        Why it is low, frame by frame; empty where it is not.
    """

    n_frames: int
    objects: tuple[ObjectRow, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    can_undo: str | None = None
    can_redo: str | None = None
    scores: dict[int, FrameScores] = field(default_factory=dict)
    confidences: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    reasons: dict[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, in order."""
        return tuple(row.object_id for row in self.objects)


EMPTY = State(0)
_ONE_BY_ONE = 20  # objects; more are read faster all at once


class Snapshots:
    """Takes snapshots of one session; works out anew only what may have changed. For one thread."""

    def __init__(self) -> None:
        self._scores: dict[int, FrameScores] = {}
        self._confidences: dict[int, NDArray[np.float64]] = {}
        self._reasons: dict[int, tuple[str, ...]] = {}

    def take(self, session: Session, touched: Collection[int] | None = None) -> State:
        """Take a snapshot.

        Parameters
        ----------
        session : Session
        touched : collection of int, optional
            Objects that may have changed since the last snapshot; all by default, and then overlaps between
            objects are looked at too.

        Returns
        -------
        State
        """
        names, prompts, object_ids = session.names, session.prompts, session.object_ids
        if touched is None or len(touched) > _ONE_BY_ONE:
            read = session.all_scores()
        else:
            read = {i: session.scores(i) for i in touched if i in object_ids}
        known = {**self._scores, **read}
        self._scores = {i: known[i] for i in object_ids if i in known}
        shared = overlaps(self._scores) if touched is None else {}
        for object_id in read:
            if object_id in self._scores:
                own, overlap = self._scores[object_id], shared.get(object_id)
                self._confidences[object_id] = confidence(own, overlap)
                self._reasons[object_id] = tuple(reasons(own, overlap))
        prompted: dict[int, dict[int, None]] = {}
        for prompt in prompts:
            prompted.setdefault(prompt.object_id, {})[prompt.frame] = None
        return State(
            session.stack.n_frames,
            tuple(self._row(i, names.get(i, ""), tuple(prompted.get(i, ()))) for i in object_ids),
            prompts,
            session.undoable,
            session.redoable,
            dict(self._scores),
            {i: self._confidences[i] for i in self._scores},
            {i: self._reasons[i] for i in self._scores},
        )

    def _row(self, object_id: int, name: str, prompted: tuple[int, ...]) -> ObjectRow:
        own = self._scores.get(object_id)
        if own is None or not len(own.frames):
            return ObjectRow(object_id, name, 0, None, 0, 0, prompted)
        mean = float(self._confidences[object_id].mean())
        return ObjectRow(
            object_id, name, len(own.frames), mean, int(own.locked.sum()), int(own.stale.sum()), prompted
        )

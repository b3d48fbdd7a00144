"""What the windows show of a session: frozen, made on the inference thread, read on the main thread."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from stacksam.session.prompts import Prompt
from stacksam.session.scores import FrameScores
from stacksam.session.session import Session
from stacksam.tracks.lineage import seen_frames, spans_of
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
    n_empty : int
        Frames with a result on which the object is not.
    """

    object_id: int
    name: str
    n_frames: int
    confidence: float | None
    n_locked: int
    n_stale: int
    prompted: tuple[int, ...]
    n_empty: int = 0


@dataclass(frozen=True, eq=False)
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
    overlaps : dict of int to (N,) array
        Share of each mask that others cover, as last looked at.
    reasons : dict of int to sequence of str
        Why it is low, frame by frame; empty where it is not. Worked out when one is first asked for.
    parents : dict of int to int
        Parent of each object that has one.
    rejected : frozenset of (int, int)
        Object and frame of each division that was rejected.
    """

    n_frames: int
    objects: tuple[ObjectRow, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    can_undo: str | None = None
    can_redo: str | None = None
    scores: dict[int, FrameScores] = field(default_factory=dict)
    confidences: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    reasons: dict[int, Sequence[str]] = field(default_factory=dict)
    overlaps: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    rejected: frozenset[tuple[int, int]] = frozenset()

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, in order."""
        return tuple(row.object_id for row in self.objects)

    @cached_property
    def spans(self) -> dict[int, tuple[int, int]]:
        """First and last frame of each object that is seen on any."""
        return spans_of(seen_frames(self.scores))


EMPTY = State(0)
_ONE_BY_ONE = 20  # objects; more are read faster all at once


class Snapshots:
    """Takes snapshots of one session; works out anew only what may have changed. For one thread.

    What has not changed is the very object of the last snapshot, so that whoever shows it can tell at once.
    """

    def __init__(self) -> None:
        self._scores: dict[int, FrameScores] = {}
        self._shared: dict[int, NDArray[np.float64]] = {}  # overlaps that the confidences came from
        self._confidences: dict[int, NDArray[np.float64]] = {}
        self._reasons: dict[int, Sequence[str]] = {}

    def take(self, session: Session, touched: Collection[int] | None = None) -> State:
        """Take a snapshot.

        Parameters
        ----------
        session : Session
        touched : collection of int, optional
            Objects that may have changed since the last snapshot; all by default, and then overlaps between
            objects are looked at too. Else those of the last look count.

        Returns
        -------
        State
        """
        names, prompts, object_ids = session.names, session.prompts, session.object_ids
        if touched is None or len(touched) > _ONE_BY_ONE:
            read = session.all_scores()
        else:
            read = {i: session.scores(i) for i in touched if i in object_ids}
        before = self._scores
        known = {**before, **read}
        self._scores = {i: known[i] for i in object_ids if i in known}
        shared = overlaps(self._scores) if touched is None else None
        for object_id in read:
            if object_id in self._scores:
                then = before.get(object_id)
                overlap = self._overlap_then(object_id, then) if shared is None else shared[object_id]
                self._judge(object_id, then, overlap)
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
            {i: self._shared[i] for i in self._scores},
            {int(daughter): int(parent) for parent, daughter in session.lineage.edges},
            frozenset(session.rejected_divisions),
        )

    def _overlap_then(self, object_id: int, before: FrameScores | None) -> NDArray[np.float64]:
        """Overlaps of the last look at all objects, for the frames that an object had then."""
        frames = self._scores[object_id].frames
        overlap = np.zeros(len(frames))
        if before is not None:
            _, now, then = np.intersect1d(frames, before.frames, assume_unique=True, return_indices=True)
            overlap[now] = self._shared[object_id][then]
        return overlap

    def _judge(self, object_id: int, before: FrameScores | None, overlap: NDArray[np.float64]) -> None:
        """Work out the confidence of an object that is not the same as before."""
        own = self._scores[object_id]
        if before is not None and _equal(own, before):
            self._scores[object_id] = before
            if np.array_equal(overlap, self._shared[object_id]):
                return
        self._shared[object_id] = overlap
        self._confidences[object_id] = confidence(own, overlap)
        self._reasons[object_id] = _Reasons(own, overlap)

    def _row(self, object_id: int, name: str, prompted: tuple[int, ...]) -> ObjectRow:
        own = self._scores.get(object_id)
        if own is None or not len(own.frames):
            return ObjectRow(object_id, name, 0, None, 0, 0, prompted)
        mean = float(self._confidences[object_id].mean())
        return ObjectRow(
            object_id,
            name,
            len(own.frames),
            mean,
            int(own.locked.sum()),
            int(own.stale.sum()),
            prompted,
            int((own.area == 0).sum()),
        )


class _Reasons(Sequence[str]):
    """Reasons of low confidences, for few of which anybody ever asks."""

    def __init__(self, scores: FrameScores, overlap: NDArray[np.float64]) -> None:
        self._scores, self._overlap = scores, overlap

    @cached_property
    def _texts(self) -> list[str]:
        return reasons(self._scores, self._overlap)

    def __len__(self) -> int:
        return len(self._scores)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._texts[index]


def _equal(one: FrameScores, other: FrameScores) -> bool:
    """Whether scores are the same, frame by frame."""
    names = [field.name for field in fields(one)[1:]]
    return len(one) == len(other) and all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "centroid")
        for name in names
    )

"""The journal: every action is written whole or not at all, with its labels, and can be undone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import zarr

from stacksam.errors import StacksamError
from stacksam.io.labels import grow_label_store, store_frame
from stacksam.session.boxes import BBox
from stacksam.session.compose import compose
from stacksam.session.draft import Draft
from stacksam.session.objects import Objects
from stacksam.session.records import Record
from stacksam.session.results import ResultStore

__all__ = ["Journal"]

_UNDO_DEPTH = 50  # actions whose replaced results are kept
_BLOCK = 4096  # pixels along a side of what is composed at once


class Journal:
    """Actions, and the labels on disk that follow them.

    Parameters
    ----------
    store : ResultStore
    objects : Objects
    labels : zarr.Array
        Labels (T, Y, X), kept as the store's records say.

    Attributes
    ----------
    generation : int
        Grows with every action; a propagation that finds a newer one ends.
    unsaved : bool
        Whether something was done since it was last set to False.
    """

    def __init__(self, store: ResultStore, objects: Objects, labels: zarr.Array[Any]) -> None:
        self.generation = 0
        self.unsaved = True
        self._store = store
        self._objects = objects
        self._labels = labels
        self.repaint()

    @contextmanager
    def action(self, name: str, arguments: dict[str, Any]) -> Iterator[Draft]:
        """Do one thing: what is drafted inside is written afterwards, all of it or nothing."""
        with self._objects.drafting() as draft:
            yield draft
            with self._changing(sorted(draft.frames)):
                draft.write(self._store.begin_action(_UNDO_DEPTH))
                self._write(draft.number, name, arguments, draft.changed)
        self.generation += 1

    def append(
        self, number: int | None, name: str, arguments: dict[str, Any], frame: int, records: Sequence[Record]
    ) -> int:
        """Write one frame's records as part of an action, new or the latest; its number."""
        with self._changing([frame]):
            begun = self._store.begin_action(_UNDO_DEPTH) if number is None else number
            self._store.put(records, begun)
            self._write(begun, name, arguments, {})
        if number is None:
            self.generation += 1
        return begun

    def _write(
        self, number: int | None, name: str, arguments: dict[str, Any], changed: dict[str, Any]
    ) -> None:
        if number is None:
            raise RuntimeError("the action was not begun")
        self._store.write_action(number, {"do": name, **arguments}, changed)

    @contextmanager
    def _changing(self, frames: Collection[int]) -> Iterator[None]:
        """Change records on `frames` and their labels together, or neither."""
        self.unsaved = True
        self.repaint()
        # The mark is on disk before the labels are touched, so that a kill cannot part them for long.
        self._store.mark_dirty(frames)
        try:
            with self._store.transaction():
                yield
                self.repaint()
        except BaseException:
            self._store.forget_changes()
            with suppress(StacksamError):
                self.repaint()
            raise

    def repaint(self) -> None:
        """Write the labels that may differ from their records."""
        dirty = self._store.dirty()
        _, height, width = self._labels.shape
        for frame, changed in dirty.items():
            for box in _blocks(changed or (0, 0, height, width)):
                labels = compose(self._store.on_frame(frame, box), box)
                store_frame(self._labels, frame, labels, box[:2])
            grow_label_store(self._labels, frame + 1)  # afterwards: nobody sees a frame that is half there
        self._store.clear_dirty(dirty)

    def next(self, *, undo: bool) -> str | None:
        """Name of the action that :meth:`exchange` would take back or do again."""
        entry = self._next(undo=undo)
        return None if entry is None else str(entry[1]["do"])

    def _next(self, *, undo: bool) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        entry = self._store.next_action(undone=not undo)
        if entry is None or (undo and entry[0] < self._store.oldest_kept()):
            return None
        return entry

    def exchange(self, *, undo: bool) -> str | None:
        """Undo or redo one action; its name, or None where there is none."""
        entry = self._next(undo=undo)
        if entry is None:
            return None
        number, value, changed = entry
        with self._changing(self._store.touched(number)):
            self._store.exchange(number)
            for key, (before, after) in changed.items():
                self._store.set_state(key, before if undo else after)
            self._store.set_undone(number, undo)
        self.generation += 1
        self._objects.load()
        return str(value["do"])


def _blocks(box: BBox) -> Iterator[BBox]:
    """A box in parts, each of them small enough to be composed in memory; none of an empty one."""
    y0, x0, y1, x1 = box
    for y in range(y0, y1, _BLOCK):
        for x in range(x0, x1, _BLOCK):
            yield y, x, min(y + _BLOCK, y1), min(x + _BLOCK, x1)

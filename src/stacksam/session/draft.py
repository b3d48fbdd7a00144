"""A draft of an action: prepared first, which may take long or fail, and then written in one go.

Answers to prompts are computed one after the other, and each may rest on those before. The draft shows them
as if they were on disk already, so that no transaction is open while a network computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from stacksam.session.actions import Said, Told
from stacksam.session.records import Record
from stacksam.session.results import ResultStore, Row

__all__ = ["Draft"]


class Draft:
    """What an action will write; reading it is like reading the store after that.

    Parameters
    ----------
    store : ResultStore
        Where it will be written. Nothing else may be written there meanwhile.
    told : Told
        What the user told until now.

    Attributes
    ----------
    told : Told
        What the user told with this action.
    changed : dict
        Entries of the store's state, each before and after, in JSON types; None is for none.
    frames : set of int
        Frames whose labels may change.
    number : int or None
        Of the action, once it is written.
    """

    def __init__(self, store: ResultStore, told: Told) -> None:
        self.told = told
        self.changed: dict[str, tuple[Any, Any]] = {}
        self.frames: set[int] = set()
        self.number: int | None = None
        self._store = store
        self._writes: list[Callable[[int], None]] = []
        self._records: dict[tuple[int, int], Record] = {}
        self._bases: dict[tuple[int, int], Record | None] = {}
        self._known: dict[int, dict[int, Row]] = {}  # of objects that were looked at

    def write(self, number: int) -> None:
        """Write all of it, as the action of that number; to be called in a transaction."""
        for write in self._writes:
            write(number)
        for key, (_, after) in self.changed.items():
            self._store.set_state(key, after)
        self.number = number

    # Reading

    def get(self, object_id: int, frame: int) -> Record | None:
        """The record of one object on one frame."""
        row = self._rows(object_id).get(frame)
        if row is None:
            return None
        record = self._records.get((object_id, frame)) or self._store.get(object_id, frame)
        return None if record is None else replace(record, locked=row.locked, stale=row.stale)

    def base(self, object_id: int, frame: int) -> Record | None:
        """What was known before the first prompt on this frame."""
        key = object_id, frame
        return self._bases[key] if key in self._bases else self._store.base(object_id, frame)

    def records(self, object_id: int) -> list[int]:
        """Frames of an object that have a record, in order."""
        return sorted(self._rows(object_id))

    def locked(self, object_id: int) -> list[int]:
        """Frames of an object that were approved."""
        return [frame for frame, row in self._rows(object_id).items() if row.locked]

    def settled(self, object_id: int) -> list[int]:
        """Frames of an object that only the user changes."""
        return [frame for frame, row in self._rows(object_id).items() if row.prompted or row.locked]

    def propagated(self, object_id: int, first: int, last: int) -> set[int]:
        """Frames from `first` to `last` on which an object has a valid propagated record."""
        rows = self._rows(object_id).items()
        return {f for f, row in rows if first <= f <= last and not row.prompted and not row.stale}

    def sources(self, object_id: int) -> dict[int, Sequence[int]]:
        """Of each propagated, unlocked frame of an object: which frames it came from."""
        written = self._store.sources(object_id)
        return {
            frame: self._records[object_id, frame].sources
            if (object_id, frame) in self._records
            else written[frame]
            for frame, row in self._rows(object_id).items()
            if not row.prompted and not row.locked
        }

    def _rows(self, object_id: int) -> dict[int, Row]:
        if object_id not in self._known:
            self._known[object_id] = self._store.rows(object_id)
        return self._known[object_id]

    # Writing

    def put(self, records: Sequence[Record]) -> None:
        """Write records."""
        for record in records:
            row = Row(record.prompted, record.locked, record.stale)
            self._rows(record.object_id)[record.frame] = row
            self._records[record.object_id, record.frame] = record
            self.frames.add(record.frame)
        self._writes.append(partial(self._store.put, records))

    def delete(self, object_id: int, frames: Iterable[int]) -> None:
        """Delete records."""
        gone = list(frames)
        for frame in gone:
            self._rows(object_id).pop(frame, None)
            self._records.pop((object_id, frame), None)
        self.frames.update(gone)
        self._writes.append(partial(self._store.delete, object_id, gone))

    def flag(
        self, object_id: int, frames: Sequence[int], *, stale: bool | None = None, locked: bool | None = None
    ) -> None:
        """Set `stale` or `locked` of records."""
        rows = self._rows(object_id)
        for frame in frames:
            if frame in rows:
                row = rows[frame]
                rows[frame] = Row(
                    row.prompted,
                    row.locked if locked is None else locked,
                    row.stale if stale is None else stale,
                )
        self._writes.append(partial(self._store.flag, object_id, frames, stale=stale, locked=locked))

    def set_base(self, object_id: int, frame: int) -> None:
        """Remember the present record as what was known before prompts."""
        self._bases[object_id, frame] = self.get(object_id, frame)
        self._writes.append(partial(self._store.set_base, object_id, frame))

    # What the user told

    def set_said(self, object_id: int, frame: int, said: Said | None) -> None:
        """What holds for an object on a frame; with None, nothing."""
        before = self.told.at(object_id, frame)
        self.told = self.told.with_said(object_id, frame, said)
        key = f"prompts:{object_id}:{frame}"
        self._change(key, before and before.to_json(), said and said.to_json())

    def set_name(self, object_id: int, name: str | None) -> None:
        """The name of an object; with None, it has none."""
        self._change(f"name:{object_id}", self.told.names.get(object_id), name)
        self.told = self.told.with_name(object_id, name)

    def set_removed(self, object_id: int, removed: bool) -> None:
        """Whether an id is not used again."""
        self._change(f"removed:{object_id}", object_id in self.told.removed or None, removed or None)
        ids = self.told.removed
        self.told = replace(self.told, removed=ids | {object_id} if removed else ids - {object_id})

    def _change(self, key: str, before: Any, after: Any) -> None:
        """Note a changed entry of the state."""
        first = self.changed[key][0] if key in self.changed else before
        if first == after:
            self.changed.pop(key, None)
        else:
            self.changed[key] = (first, after)

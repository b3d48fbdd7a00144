"""A draft of an action: prepared first, which may take long or fail, and then written in one go.

Answers to prompts are computed one after the other, and each may rest on those before. The draft shows them
as if they were on disk already, so that no transaction is open while a network computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from stacksam.session.actions import Said, Told
from stacksam.session.records import Record, on_own_side
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
        # Whose record and base on disk an object's are, on frames where they were given on, and cuts since.
        self._moved: dict[tuple[int, int], tuple[int | None, tuple[int, ...]]] = {}

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
        record = self._records.get((object_id, frame)) or self._own(self._store.get, object_id, frame)
        return None if record is None else replace(record, locked=row.locked, stale=row.stale)

    def _own(self, read: Callable[[int, int], Record | None], object_id: int, frame: int) -> Record | None:
        """What is on disk, perhaps as another object's."""
        origin, cuts = self._origin(object_id, frame)
        record = None if origin is None else read(origin, frame)
        if record is None:
            return None
        for cut in cuts:
            record = _given(record, object_id, cut)
        return record

    def _origin(self, object_id: int, frame: int) -> tuple[int | None, tuple[int, ...]]:
        return self._moved.get((object_id, frame), (object_id, ()))

    def base(self, object_id: int, frame: int) -> Record | None:
        """What was known before the first prompt on this frame."""
        key = object_id, frame
        return self._bases[key] if key in self._bases else self._own(self._store.base, object_id, frame)

    def records(self, object_id: int) -> list[int]:
        """Frames of an object that have a record, in order."""
        return sorted(self._rows(object_id))

    def locked(self, object_id: int) -> list[int]:
        """Frames of an object that were approved."""
        return [frame for frame, row in self._rows(object_id).items() if row.locked]

    def stale(self, object_id: int) -> list[int]:
        """Frames of an object whose record rests on something that has changed."""
        return [frame for frame, row in self._rows(object_id).items() if row.stale]

    def seen(self, object_id: int) -> list[int]:
        """Frames of an object whose mask is not empty, in order."""
        written: dict[int | None, set[int]] = {None: set()}

        def is_seen(frame: int) -> bool:
            record = self._records.get((object_id, frame))
            if record is not None:
                return bool(record.mask.any())
            origin, _ = self._origin(object_id, frame)
            if origin is not None and origin not in written:
                written[origin] = set(self._store.frames(origin, "seen"))
            return frame in written[origin]

        return [frame for frame in self.records(object_id) if is_seen(frame)]

    def settled(self, object_id: int) -> list[int]:
        """Frames of an object that only the user changes."""
        return [frame for frame, row in self._rows(object_id).items() if row.prompted or row.locked]

    def propagated(self, object_id: int, first: int, last: int) -> set[int]:
        """Frames from `first` to `last` on which an object has a valid propagated record."""
        rows = self._rows(object_id).items()
        return {f for f, row in rows if first <= f <= last and not row.prompted and not row.stale}

    def sources(self, object_id: int) -> dict[int, Sequence[int]]:
        """Of each propagated, unlocked frame of an object: which frames it came from."""
        written: dict[int | None, dict[int, list[int]]] = {None: {}}

        def of(frame: int) -> Sequence[int]:
            if (object_id, frame) in self._records:
                return self._records[object_id, frame].sources
            origin, cuts = self._origin(object_id, frame)
            if origin is not None and origin not in written:
                written[origin] = self._store.sources(origin)
            sources: Sequence[int] = written[origin][frame]
            for cut in cuts:
                sources = on_own_side(sources, frame, cut)
            return sources

        rows = self._rows(object_id).items()
        return {frame: of(frame) for frame, row in rows if not row.prompted and not row.locked}

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

    def renumber(self, ids: Mapping[int, int], first: int) -> None:
        """Give records and bases from a frame on to others; see :meth:`ResultStore.renumber`."""
        involved = {*ids, *ids.values()}
        giver = {to: i for i, to in ids.items()}
        rows = {i: dict(self._rows(i)) for i in involved}
        frames = {frame for i in involved for frame in (*rows[i], *self._store.base_frames(i))}
        frames |= {f for i, f in (*self._records, *self._bases, *self._moved) if i in involved}
        self.frames.update(f for own in rows.values() for f in own if f >= first)
        before = {(i, f): self._moved.get((i, f), (i, ())) for i in involved for f in frames}
        records = {key: self._records.pop(key) for key in before if key in self._records}
        bases = {key: self._bases.pop(key) for key in before if key in self._bases}
        for i, frame in before:
            source = (i, frame) if frame < first else (giver.get(i, 0), frame)  # 0 is nobody's id
            origin, cuts = before.get(source, (None, ()))
            self._moved[i, frame] = origin, (*cuts, first)
            if source in records:
                self._records[i, frame] = _given(records[source], i, first)
            if source in bases:
                base = bases[source]
                self._bases[i, frame] = None if base is None else _given(base, i, first)
        for i in involved:
            kept = {f: row for f, row in rows[i].items() if f < first}
            taken = {f: row for f, row in rows.get(giver.get(i, 0), {}).items() if f >= first}
            self._known[i] = dict(sorted((kept | taken).items()))
        self._writes.append(partial(self._store.renumber, dict(ids), first))

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

    def set_parent(self, object_id: int, parent: int | None) -> None:
        """The parent of an object; with None, it has none."""
        self._change(f"parent:{object_id}", self.told.parents.get(object_id), parent)
        self.told = self.told.with_parent(object_id, parent)

    def set_rejected(self, object_id: int, frame: int, rejected: bool) -> None:
        """Whether a division of an object on a frame was proposed and is none."""
        place, now = (object_id, frame), self.told.rejected
        self._change(f"rejected:{object_id}:{frame}", place in now or None, rejected or None)
        self.told = replace(self.told, rejected=now | {place} if rejected else now - {place})

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


def _given(record: Record, object_id: int, first: int) -> Record:
    """A record as that of another object, from one side of a cut."""
    sources = on_own_side(record.sources, record.frame, first)
    return replace(record, object_id=object_id, sources=sources)

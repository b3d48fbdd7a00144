"""What is known of every object on every frame, on disk.

A results folder holds ``results.sqlite``: one row for each object and frame, the prompts, and the actions
that led there. A frame is written in one transaction, so a killed program loses at most the frame in
progress. Rows that an action replaces are kept with it, which makes undo and redo the same thing: an
exchange of rows. SQLite rather than a chunked array, because rows are of many sizes, change singly, and must
change together.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import SessionFileError, StorageError
from stacksam.session.canvas import BBox, View

__all__ = ["FORMAT_VERSION", "Flags", "Record", "ResultStore"]

FORMAT_VERSION = 1
_COLUMNS = "object_id, frame, prompted, locked, stale, step, score, iou, sources, bbox, mask, view, logits, shape, pointer"
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS actions (id INTEGER PRIMARY KEY, undone INTEGER DEFAULT 0, value TEXT, changed TEXT);
CREATE TABLE IF NOT EXISTS records ({_COLUMNS}, PRIMARY KEY (object_id, frame)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bases ({_COLUMNS}, PRIMARY KEY (object_id, frame)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (action, present, {_COLUMNS}, PRIMARY KEY (action, object_id, frame)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dirty (frame INTEGER PRIMARY KEY);
CREATE INDEX IF NOT EXISTS records_by_frame ON records (frame);
"""
_PLACES = ", ".join("?" * len(_COLUMNS.split(", ")))


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One object on one frame.

    Attributes
    ----------
    object_id, frame : int
    view : View
        What the network looked at.
    logits : (h, w) float16
        Mask logits as the network gave them, in the view. Memories are made from these, so that a memory
        rebuilt from disk equals the one that was dropped.
    pointer : (C,) float32
        Object pointer.
    object_score : float
        Logit: is the object visible on this frame.
    predicted_iou : float
    bbox : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` of the mask in frame pixels.
    mask : bool array of the bounding box's shape
    prompted : bool
        A conditioning frame of the object.
    locked : bool
        Approved by the user: never recomputed.
    stale : bool
        Something that this result came from has changed since.
    step : int
        Direction it was propagated in; 0 where it was prompted.
    sources : tuple of int
        Frames whose memories or pointers it came from.
    """

    object_id: int
    frame: int
    view: View
    logits: NDArray[np.float16]
    pointer: NDArray[np.float32]
    object_score: float
    predicted_iou: float
    bbox: BBox
    mask: NDArray[np.bool_]
    prompted: bool = False
    locked: bool = False
    stale: bool = False
    step: int = 0
    sources: tuple[int, ...] = ()


class Flags(NamedTuple):
    """The state of a record."""

    settled: bool  # prompted or locked: only the user changes it
    stale: bool


class ResultStore:
    """Records, prompts and actions in one SQLite file; safe to use from several threads.

    Parameters
    ----------
    folder : Path
        Created if missing.

    Raises
    ------
    StorageError
        If the folder cannot be written, or the disk is full.
    SessionFileError
        If the file in it is damaged or was written by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "results.sqlite"
        self._lock = threading.RLock()
        self._depth = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"results folder {folder} cannot be written: {error}") from error
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            found = self.meta("format_version")
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error) or "malformed" in str(error):
                raise SessionFileError(f"{self.path} is no results file of stacksam: {error}") from error
            raise StorageError(f"results folder {self.folder} cannot be written: {error}") from error
        if found is None:
            with self.transaction():
                self.set_meta("format_version", FORMAT_VERSION)
        elif found > FORMAT_VERSION:
            raise SessionFileError(
                f"{self.path} has format {found}, this version reads up to {FORMAT_VERSION}; update stacksam"
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen together or not at all; may be nested."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._db.execute("BEGIN IMMEDIATE")
                yield
                if self._depth == 1:
                    self._db.execute("COMMIT")
            except BaseException as error:
                if self._depth == 1 and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StorageError(f"results in {self.folder} cannot be written: {error}") from error
                raise
            finally:
                self._depth -= 1

    def meta(self, key: str) -> Any:
        """Value of a setting, or None."""
        row = self._one("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else json.loads(row[0])

    def set_meta(self, key: str, value: Any) -> None:
        """Keep a setting, in JSON types."""
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, json.dumps(value))

    # Records

    def get(self, object_id: int, frame: int) -> Record | None:
        """The record of one object on one frame."""
        return self._read("records", object_id, frame)

    def base(self, object_id: int, frame: int) -> Record | None:
        """What was known before the first prompt on this frame."""
        return self._read("bases", object_id, frame)

    def set_base(self, object_id: int, frame: int) -> None:
        """Remember the present record as what was known before prompts."""
        self._run("DELETE FROM bases WHERE object_id = ? AND frame = ?", object_id, frame)
        self._run(
            f"INSERT INTO bases SELECT {_COLUMNS} FROM records WHERE object_id = ? AND frame = ?",
            object_id,
            frame,
        )

    def on_frame(self, frame: int) -> list[Record]:
        """Records of all objects on one frame."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM records WHERE frame = ? ORDER BY object_id", (frame,)
            ).fetchall()
        return [_from_row(row) for row in rows]

    def near(self, object_id: int, first: int, last: int) -> tuple[set[int], set[int]]:
        """Conditioning frames of an object, and its propagated frames from `first` to `last` that are valid."""
        with self._lock:
            rows = self._db.execute(
                "SELECT frame, prompted FROM records WHERE object_id = ? AND "
                "(prompted OR (NOT stale AND frame BETWEEN ? AND ?))",
                (object_id, first, last),
            ).fetchall()
        return {f for f, prompted in rows if prompted}, {f for f, prompted in rows if not prompted}

    def flags(self, frame: int) -> dict[int, Flags]:
        """What must be known of each object on one frame to decide whether it is computed."""
        with self._lock:
            rows = self._db.execute(
                "SELECT object_id, prompted OR locked, stale FROM records WHERE frame = ?", (frame,)
            ).fetchall()
        return {object_id: Flags(bool(settled), bool(stale)) for object_id, settled, stale in rows}

    def frames(self, object_id: int, where: str = "1") -> list[int]:
        """Frames of an object that have a record; `where` is one of the conditions named in this module."""
        condition = {
            "1": "1",
            "prompted": "prompted",
            "locked": "locked",
            "stale": "stale",
            "settled": "prompted OR locked OR NOT stale",
        }[where]
        with self._lock:
            rows = self._db.execute(
                f"SELECT frame FROM records WHERE object_id = ? AND ({condition}) ORDER BY frame",
                (object_id,),
            ).fetchall()
        return [int(row[0]) for row in rows]

    def sources(self, object_id: int) -> dict[int, tuple[int, ...]]:
        """Of each propagated, unlocked frame of an object: which frames it came from."""
        with self._lock:
            rows = self._db.execute(
                "SELECT frame, sources FROM records WHERE object_id = ? AND NOT prompted AND NOT locked",
                (object_id,),
            ).fetchall()
        return {frame: tuple(json.loads(text)) for frame, text in rows}

    def object_ids(self) -> list[int]:
        """Objects that have a record."""
        with self._lock:
            return [
                row[0]
                for row in self._db.execute("SELECT DISTINCT object_id FROM records ORDER BY object_id")
            ]

    def put(self, records: Iterable[Record], action: int) -> None:
        """Write records; what they replace is kept with `action`."""
        with self.transaction():
            for record in records:
                self._keep(record.object_id, record.frame, action)
                self._run(f"INSERT OR REPLACE INTO records VALUES ({_PLACES})", *_to_row(record))

    def delete(self, object_id: int, frames: Iterable[int], action: int) -> None:
        """Delete records; they are kept with `action`."""
        with self.transaction():
            for frame in frames:
                self._keep(object_id, frame, action)
                self._run("DELETE FROM records WHERE object_id = ? AND frame = ?", object_id, frame)

    def flag(self, object_id: int, frames: Iterable[int], action: int, **flags: bool) -> None:
        """Set `stale` or `locked` of records; what they were is kept with `action`."""
        with self.transaction():
            for frame in frames:
                record = self.get(object_id, frame)
                if record is not None:
                    self.put([replace(record, **flags)], action)  # type: ignore[arg-type]

    def exchange(self, action: int) -> list[int]:
        """Undo or redo: exchange the records that an action touched with what it kept; the frames it changed."""
        with self.transaction():
            rows = self._db.execute(
                f"SELECT present, {_COLUMNS} FROM history WHERE action = ?", (action,)
            ).fetchall()
            self._run("DELETE FROM history WHERE action = ?", action)
            for present, *row in rows:
                self._keep(row[0], row[1], action)
                self._run("DELETE FROM records WHERE object_id = ? AND frame = ?", row[0], row[1])
                if present:
                    self._run(f"INSERT INTO records VALUES ({_PLACES})", *row)
            frames = sorted({int(row[2]) for row in rows})
            self.mark_dirty(frames)
        return frames

    def forget_history(self, before: int) -> None:
        """Drop what actions before `before` kept."""
        self._run("DELETE FROM history WHERE action < ?", before)
        self.set_meta("oldest_kept", before)

    def oldest_kept(self) -> int:
        """Number of the oldest action that can still be undone."""
        return int(self.meta("oldest_kept") or 0)

    def _keep(self, object_id: int, frame: int, action: int) -> None:
        """Keep the present row, or its absence, with an action, unless the action already touched it."""
        known = self._one(
            "SELECT 1 FROM history WHERE action = ? AND object_id = ? AND frame = ?", action, object_id, frame
        )
        if known is not None:
            return
        copied = self._db.execute(
            f"INSERT INTO history SELECT ?, 1, {_COLUMNS} FROM records WHERE object_id = ? AND frame = ?",
            (action, object_id, frame),
        )
        if copied.rowcount == 0:
            self._run(
                "INSERT INTO history (action, present, object_id, frame) VALUES (?, 0, ?, ?)",
                action,
                object_id,
                frame,
            )

    # State of prompts, and actions

    def state(self) -> dict[str, Any]:
        """Everything the user said, by key."""
        with self._lock:
            return {k: json.loads(v) for k, v in self._db.execute("SELECT key, value FROM state")}

    def set_state(self, key: str, value: Any) -> None:
        """Set or, with None, remove one entry of the state."""
        if value is None:
            self._run("DELETE FROM state WHERE key = ?", key)
        else:
            self._run("INSERT OR REPLACE INTO state VALUES (?, ?)", key, json.dumps(value))

    def write_action(self, number: int, value: dict[str, Any], changed: dict[str, Any]) -> None:
        """Write an action: what was done, and each changed entry of the state before and after."""
        self._run(
            "INSERT OR REPLACE INTO actions VALUES (?, 0, ?, ?)",
            number,
            json.dumps(value),
            json.dumps(changed),
        )

    def actions(self, *, undone: bool = False) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
        """Actions that are in force, or those that were undone, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, value, changed FROM actions WHERE undone = ? ORDER BY id", (int(undone),)
            ).fetchall()
        return [(int(i), json.loads(value), json.loads(changed)) for i, value, changed in rows]

    def set_undone(self, number: int, undone: bool) -> None:
        """Mark an action as undone, or as in force again."""
        self._run("UPDATE actions SET undone = ? WHERE id = ?", int(undone), number)

    def drop_undone(self) -> None:
        """Forget undone actions: something else was done instead."""
        self._run("DELETE FROM history WHERE action IN (SELECT id FROM actions WHERE undone)")
        self._run("DELETE FROM actions WHERE undone")

    # Frames whose labels are behind their records

    def mark_dirty(self, frames: Iterable[int]) -> None:
        """Note that label frames must be written anew."""
        for frame in frames:
            self._run("INSERT OR IGNORE INTO dirty VALUES (?)", frame)

    def clear_dirty(self, frames: Iterable[int]) -> None:
        """Note that label frames were written."""
        for frame in frames:
            self._run("DELETE FROM dirty WHERE frame = ?", frame)

    def dirty(self) -> list[int]:
        """Frames whose labels must be written anew."""
        with self._lock:
            return [row[0] for row in self._db.execute("SELECT frame FROM dirty ORDER BY frame")]

    def _run(self, sql: str, *values: Any) -> None:
        with self._lock:
            try:
                self._db.execute(sql, values)
            except sqlite3.Error as error:
                raise StorageError(f"results in {self.folder} cannot be written: {error}") from error

    def _one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
            return row

    def _read(self, table: str, object_id: int, frame: int) -> Record | None:
        row = self._one(f"SELECT {_COLUMNS} FROM {table} WHERE object_id = ? AND frame = ?", object_id, frame)
        return None if row is None else _from_row(row)


def _to_row(record: Record) -> tuple[Any, ...]:
    return (
        record.object_id,
        record.frame,
        int(record.prompted),
        int(record.locked),
        int(record.stale),
        record.step,
        record.object_score,
        record.predicted_iou,
        json.dumps(record.sources),
        json.dumps(record.bbox),
        zlib.compress(np.packbits(record.mask).tobytes(), 1),
        json.dumps(record.view.to_json()),
        zlib.compress(record.logits.tobytes(), 1),
        json.dumps(record.logits.shape),
        record.pointer.tobytes(),
    )


def _from_row(row: Iterable[Any]) -> Record:
    (
        object_id,
        frame,
        prompted,
        locked,
        stale,
        step,
        score,
        iou,
        sources,
        box,
        mask,
        view,
        logits,
        shape,
        pointer,
    ) = row
    y0, x0, y1, x1 = json.loads(box)
    height, width = y1 - y0, x1 - x0
    bits = np.frombuffer(zlib.decompress(mask), np.uint8)
    return Record(
        object_id=object_id,
        frame=frame,
        view=View.from_json(json.loads(view)),
        logits=np.frombuffer(zlib.decompress(logits), np.float16).reshape(json.loads(shape)),
        pointer=np.frombuffer(pointer, np.float32),
        object_score=score,
        predicted_iou=iou,
        bbox=(y0, x0, y1, x1),
        mask=np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool),
        prompted=bool(prompted),
        locked=bool(locked),
        stale=bool(stale),
        step=step,
        sources=tuple(json.loads(sources)),
    )

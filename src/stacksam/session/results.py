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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stacksam.errors import InputError, SessionFileError, StorageError
from stacksam.session.boxes import BBox, union
from stacksam.session.records import COLUMNS, SCORED, Record, from_row, on_own_side, to_row

__all__ = ["FORMAT_VERSION", "Flags", "Record", "ResultStore", "Row"]

FORMAT_VERSION = 3  # 1: without windows on the canvas of a whole frame; 2: without lineages
_COLUMNS = ", ".join(COLUMNS)
_PLACES = ", ".join("?" * len(COLUMNS))
# `bases` holds what was known before the first prompt on a frame; `history` keeps rows of either kind.
# `records_without_masks` has all that scores are made of, so that they are read without a look at the rows.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS actions
    (id INTEGER PRIMARY KEY, undone INTEGER DEFAULT 0, value TEXT, changed TEXT);
CREATE TABLE IF NOT EXISTS records ({_COLUMNS}, PRIMARY KEY (object_id, frame)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bases ({_COLUMNS}, PRIMARY KEY (object_id, frame)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history
    (action, kind, present, {_COLUMNS}, PRIMARY KEY (action, kind, object_id, frame)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dirty (frame INTEGER PRIMARY KEY);
CREATE INDEX IF NOT EXISTS records_by_frame ON records (frame);
CREATE INDEX IF NOT EXISTS records_without_masks ON records ({", ".join(SCORED)}, prompted, locked, stale);
INSERT OR IGNORE INTO meta VALUES ('format_version', '{FORMAT_VERSION}');
COMMIT;
"""
# An older version may go on with what it wrote itself, until this is in it, which it does not know.
_NEWER = ("parent:", "rejected:")
_PLACE = "object_id = ? AND frame = ?"


class Flags(NamedTuple):
    """The state of a record."""

    settled: bool  # prompted or locked: only the user changes it
    stale: bool


class Row(NamedTuple):
    """What decides what may happen to a record."""

    prompted: bool
    locked: bool
    stale: bool


class ResultStore:
    """Records, prompts and actions in one SQLite file; safe to use from several threads.

    The file is locked while it is open: two sessions that write into one folder would ruin each other.

    Parameters
    ----------
    folder : Path
        Created if missing.

    Raises
    ------
    StorageError
        If the folder cannot be written, is in use, or the disk is full.
    SessionFileError
        If the file in it is damaged or was written by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "results.sqlite"
        self._lock = threading.RLock()
        self._depth = 0
        self._changed: dict[int, BBox] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=1, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"results folder {folder} cannot be written: {error}") from error
        try:
            with self._told():
                self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "meta" not in tables:
            raise SessionFileError(f"{self.path} is no results file of stacksam; use another folder")
        found = self.meta("format_version") if tables else None
        if found is not None and (not isinstance(found, int) or found > FORMAT_VERSION):
            raise SessionFileError(
                f"{self.path} has format {found}, this version reads up to {FORMAT_VERSION}; update stacksam"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what SQLite complains about in terms of the folder."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            if "closed" in str(error):
                raise InputError(f"the session in {self.folder} is closed; open it again") from error
            raise
        except sqlite3.Error as error:
            # By its code, and by its text where a wrapper drops the code.
            code = getattr(error, "sqlite_errorcode", None) or 0
            if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise SessionFileError(
                    f"{self.path} is damaged, or no results file of stacksam: {error}"
                ) from error
            if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StorageError(
                    f"results folder {self.folder} is in use by another session; close that one first"
                ) from error
            raise StorageError(f"results in {self.folder} cannot be written: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen together or not at all; may be nested."""
        with self._lock, self._told():
            self._depth += 1
            try:
                if self._depth == 1:
                    self._db.execute("BEGIN IMMEDIATE")
                yield
                if self._depth == 1:
                    self._db.execute("COMMIT")
            except BaseException:
                if self._depth == 1 and self._is_open() and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def _is_open(self) -> bool:
        try:
            return bool(self._db.total_changes >= 0)
        except sqlite3.ProgrammingError:
            return False

    def meta(self, key: str) -> Any:
        """Value of a setting, or None."""
        row = self._one("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else self._json(row[0])

    def set_meta(self, key: str, value: Any) -> None:
        """Keep a setting, in JSON types."""
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, json.dumps(value))

    # Records

    def get(self, object_id: int, frame: int) -> Record | None:
        """The record of one object on one frame."""
        row = self._one(f"SELECT {_COLUMNS} FROM records WHERE {_PLACE}", object_id, frame)
        return None if row is None else from_row(row)

    def base(self, object_id: int, frame: int) -> Record | None:
        """What was known before the first prompt on this frame."""
        row = self._one(f"SELECT {_COLUMNS} FROM bases WHERE {_PLACE}", object_id, frame)
        return None if row is None else from_row(row)

    def set_base(self, object_id: int, frame: int, action: int) -> None:
        """Remember the present record as what was known before prompts."""
        with self.transaction():
            self._keep("bases", object_id, frame, action)
            self._run(f"DELETE FROM bases WHERE {_PLACE}", object_id, frame)
            self._run(f"INSERT INTO bases SELECT {_COLUMNS} FROM records WHERE {_PLACE}", object_id, frame)

    def on_frame(self, frame: int, box: BBox | None = None) -> list[Record]:
        """Records of all objects on one frame, or of those whose bounding boxes meet a box."""
        where, values = "frame = ?", [frame]
        if box is not None:
            corners = [f"json_extract(bbox, '$[{i}]')" for i in range(4)]
            where += f" AND {corners[0]} < ? AND {corners[1]} < ? AND {corners[2]} > ? AND {corners[3]} > ?"
            values += [box[2], box[3], box[0], box[1]]
        rows = self._all(f"SELECT {_COLUMNS} FROM records WHERE {where} ORDER BY object_id", *values)
        return [from_row(row) for row in rows]

    def propagated(self, object_id: int, first: int, last: int) -> set[int]:
        """Frames from `first` to `last` on which an object has a valid propagated record."""
        rows = self._all(
            "SELECT frame FROM records WHERE object_id = ? AND NOT prompted AND NOT stale "
            "AND frame BETWEEN ? AND ?",
            object_id,
            first,
            last,
        )
        return {row[0] for row in rows}

    def flags(self, frame: int) -> dict[int, Flags]:
        """What must be known of each object on one frame to decide whether it is computed."""
        rows = self._all("SELECT object_id, prompted OR locked, stale FROM records WHERE frame = ?", frame)
        return {object_id: Flags(bool(settled), bool(stale)) for object_id, settled, stale in rows}

    def frames(self, object_id: int, where: str = "1") -> list[int]:
        """Frames of an object that have a record; `where` is one of the conditions named in this method."""
        condition = {
            "1": "1",
            "locked": "locked",
            "seen": "area > 0",
            "stale": "stale",
            "settled": "prompted OR locked",  # only the user changes it
            "done": "prompted OR locked OR NOT stale",
        }[where]
        rows = self._all(
            f"SELECT frame FROM records WHERE object_id = ? AND ({condition}) ORDER BY frame", object_id
        )
        return [row[0] for row in rows]

    def first_gap(self, object_id: int, start: int) -> int:
        """The first frame from `start` on without a valid record of an object."""
        done = "object_id = ? AND frame {} AND (prompted OR locked OR NOT stale)"
        if self._one(f"SELECT 1 FROM records WHERE {done.format('= ?')}", object_id, start) is None:
            return start
        after = self._one(
            f"SELECT frame + 1 FROM records AS r WHERE {done.format('>= ?')} AND NOT EXISTS "
            f"(SELECT 1 FROM records WHERE {done.format('= r.frame + 1')}) ORDER BY frame LIMIT 1",
            object_id,
            start,
            object_id,
        )
        return int(after[0]) if after else start

    def frames_with_results(self) -> list[int]:
        """Frames on which there is any record."""
        return [row[0] for row in self._all("SELECT DISTINCT frame FROM records ORDER BY frame")]

    def rows(self, object_id: int) -> dict[int, Row]:
        """The state of each of an object's records, by frame, in order."""
        rows = self._all(
            "SELECT frame, prompted, locked, stale FROM records WHERE object_id = ? ORDER BY frame", object_id
        )
        return {frame: Row(*map(bool, flags)) for frame, *flags in rows}

    def sources(self, object_id: int) -> dict[int, list[int]]:
        """Of each frame of an object: which frames its record came from."""
        rows = self._all("SELECT frame, sources FROM records WHERE object_id = ?", object_id)
        return {frame: self._json(text) for frame, text in rows}

    def scored(self, object_id: int | None = None) -> list[tuple[Any, ...]]:
        """`SCORED`, prompted, locked and stale of an object's records, or of all, by object and frame."""
        where, values = ("", ()) if object_id is None else ("WHERE object_id = ?", (object_id,))
        return self._all(
            f"SELECT {', '.join(SCORED)}, prompted, locked, stale FROM records {where} "
            "ORDER BY object_id, frame",
            *values,
        )

    def put(self, records: Iterable[Record], action: int) -> None:
        """Write records; what they replace is kept with `action`."""
        with self.transaction():
            for record in records:
                self._note(record.object_id, record.frame)
                self._keep("records", record.object_id, record.frame, action)
                self._run(f"INSERT OR REPLACE INTO records VALUES ({_PLACES})", *to_row(record))
                self._note(record.object_id, record.frame)

    def delete(self, object_id: int, frames: Iterable[int], action: int) -> None:
        """Delete records; they are kept with `action`."""
        with self.transaction():
            for frame in frames:
                self._note(object_id, frame)
                self._keep("records", object_id, frame, action)
                self._run(f"DELETE FROM records WHERE {_PLACE}", object_id, frame)

    def flag(
        self,
        object_id: int,
        frames: Iterable[int],
        action: int,
        *,
        stale: bool | None = None,
        locked: bool | None = None,
    ) -> None:
        """Set `stale` or `locked` of records; what they were is kept with `action`."""
        with self.transaction():
            for frame in frames:
                self._keep("records", object_id, frame, action)
                self._run(
                    "UPDATE records SET stale = coalesce(?, stale), locked = coalesce(?, locked) "
                    f"WHERE {_PLACE}",
                    stale,
                    locked,
                    object_id,
                    frame,
                )

    def renumber(self, ids: Mapping[int, int], first: int, action: int) -> None:
        """Give records and bases from a frame on to other objects; what they were is kept with `action`.

        What there is of those objects from that frame on goes elsewhere, too, or is deleted. No record counts
        as having come from across the cut any more.

        Parameters
        ----------
        ids : mapping of int to int
            Of each object that gives something away: to which one.
        """
        involved = sorted({*ids, *ids.values()})
        with self.transaction():
            for kind in ("records", "bases"):
                places = [(i, frame) for i in involved for frame in self._frames(kind, i)]
                for frame in sorted({frame for _, frame in places if frame >= first}):
                    rows = [(i, self._row(kind, i, frame)) for i in ids]
                    for i in involved:
                        self._note(i, frame)
                        self._keep(kind, i, frame, action)
                        self._run(f"DELETE FROM {kind} WHERE {_PLACE}", i, frame)
                    for i, row in rows:
                        if row is not None:
                            self._run(f"INSERT INTO {kind} VALUES ({_PLACES})", ids[i], *row[1:])
                    for i in involved:
                        self._note(i, frame)
                for i in involved:
                    for frame in self._frames(kind, i):
                        row = self._one(f"SELECT sources FROM {kind} WHERE {_PLACE}", i, frame)
                        before = self._json(row[0]) if row else []
                        after = on_own_side(before, frame, first)
                        if len(after) < len(before):
                            self._keep(kind, i, frame, action)
                            text = json.dumps(after)
                            self._run(f"UPDATE {kind} SET sources = ? WHERE {_PLACE}", text, i, frame)

    def base_frames(self, object_id: int) -> list[int]:
        """Frames on which something was known of an object before prompts."""
        return self._frames("bases", object_id)

    def span(self, object_id: int) -> tuple[int, int] | None:
        """First and last frame on which an object's mask is not empty."""
        sql = "SELECT min(frame), max(frame) FROM records WHERE object_id = ? AND area > 0"
        row = self._one(sql, object_id)
        return None if row is None or row[0] is None else (row[0], row[1])

    def _frames(self, kind: str, object_id: int) -> list[int]:
        rows = self._all(f"SELECT frame FROM {kind} WHERE object_id = ? ORDER BY frame", object_id)
        return [row[0] for row in rows]

    def _row(self, kind: str, object_id: int, frame: int) -> tuple[Any, ...] | None:
        return self._one(f"SELECT {_COLUMNS} FROM {kind} WHERE {_PLACE}", object_id, frame)

    # Undoing

    def touched(self, action: int) -> list[int]:
        """Frames whose records an action changed."""
        rows = self._all(
            "SELECT DISTINCT frame FROM history WHERE action = ? AND kind = 'records' ORDER BY frame", action
        )
        return [row[0] for row in rows]

    def exchange(self, action: int) -> None:
        """Undo or redo: exchange the rows that an action touched with those it kept."""
        with self.transaction():
            rows = self._all(f"SELECT kind, present, {_COLUMNS} FROM history WHERE action = ?", action)
            self._run("DELETE FROM history WHERE action = ?", action)
            for kind, present, *row in rows:
                self._note(row[0], row[1])
                self._keep(kind, row[0], row[1], action)
                self._run(f"DELETE FROM {kind} WHERE {_PLACE}", row[0], row[1])
                if present:
                    self._run(f"INSERT INTO {kind} VALUES ({_PLACES})", *row)
                self._note(row[0], row[1])

    def _keep(self, kind: str, object_id: int, frame: int, action: int) -> None:
        """Keep the present row, or its absence, with an action, unless the action already touched it."""
        known = self._one(
            f"SELECT 1 FROM history WHERE action = ? AND kind = ? AND {_PLACE}",
            action,
            kind,
            object_id,
            frame,
        )
        if known is not None:
            return
        self._run(
            f"INSERT INTO history SELECT ?, ?, 1, {_COLUMNS} FROM {kind} WHERE {_PLACE}",
            action,
            kind,
            object_id,
            frame,
        )
        self._run(
            "INSERT OR IGNORE INTO history (action, kind, present, object_id, frame) VALUES (?, ?, 0, ?, ?)",
            action,
            kind,
            object_id,
            frame,
        )

    # State of prompts, and actions

    def state(self) -> dict[str, Any]:
        """Everything the user said, by key."""
        return {key: self._json(value) for key, value in self._all("SELECT key, value FROM state")}

    def set_state(self, key: str, value: Any) -> None:
        """Set or, with None, remove one entry of the state."""
        if key.startswith(_NEWER):
            self._run("UPDATE meta SET value = ? WHERE key = 'format_version'", str(FORMAT_VERSION))
        if value is None:
            self._run("DELETE FROM state WHERE key = ?", key)
        else:
            self._run("INSERT OR REPLACE INTO state VALUES (?, ?)", key, json.dumps(value))

    def begin_action(self, depth: int) -> int:
        """Number of a new action. What was undone is forgotten, and what all but the last `depth` kept."""
        with self.transaction():
            self._run("DELETE FROM history WHERE action IN (SELECT id FROM actions WHERE undone)")
            self._run("DELETE FROM actions WHERE undone")
            oldest = self._one("SELECT id FROM actions ORDER BY id DESC LIMIT 1 OFFSET ?", depth - 2)
            if oldest is not None and oldest[0] > self.oldest_kept():
                self._run("DELETE FROM history WHERE action < ?", oldest[0])
                self.set_meta("oldest_kept", oldest[0])
            newest = self._one("SELECT coalesce(max(id), 0) FROM actions")
        return int(newest[0]) + 1 if newest else 1

    def oldest_kept(self) -> int:
        """Number of the oldest action that can still be undone."""
        return int(self.meta("oldest_kept") or 0)

    def write_action(self, number: int, value: dict[str, Any], changed: dict[str, Any]) -> None:
        """Write an action: what was done, and each changed entry of the state before and after."""
        self._run(
            "INSERT OR REPLACE INTO actions VALUES (?, 0, ?, ?)",
            number,
            json.dumps(value),
            json.dumps(changed),
        )

    def actions(self) -> list[dict[str, Any]]:
        """What was done and is in force, oldest first."""
        rows = self._all("SELECT value FROM actions WHERE NOT undone ORDER BY id")
        return [self._json(row[0]) for row in rows]

    def next_action(self, *, undone: bool) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """Number, value and changes of the action to undo next or, with `undone`, to redo next."""
        order = "id" if undone else "id DESC"
        row = self._one(
            f"SELECT id, value, changed FROM actions WHERE undone = ? ORDER BY {order} LIMIT 1", int(undone)
        )
        return None if row is None else (int(row[0]), self._json(row[1]), self._json(row[2]))

    def set_undone(self, number: int, undone: bool) -> None:
        """Mark an action as undone, or as in force again."""
        self._run("UPDATE actions SET undone = ? WHERE id = ?", int(undone), number)

    # Frames whose labels may differ from their records

    def mark_dirty(self, frames: Iterable[int]) -> None:
        """Note that label frames must be written anew."""
        with self.transaction():
            for frame in frames:
                self._run("INSERT OR IGNORE INTO dirty VALUES (?)", frame)

    def clear_dirty(self, frames: Iterable[int]) -> None:
        """Note that label frames were written."""
        with self.transaction():
            for frame in frames:
                self._run("DELETE FROM dirty WHERE frame = ?", frame)
        self._changed.clear()

    def dirty(self) -> dict[int, BBox | None]:
        """Frames whose labels must be written anew, and where; None is everywhere."""
        frames = [row[0] for row in self._all("SELECT frame FROM dirty ORDER BY frame")]
        return {frame: self._changed.get(frame) for frame in frames}

    def forget_changes(self) -> None:
        """Take frames that must be written anew to be different everywhere: changes were rolled back."""
        self._changed.clear()

    def _note(self, object_id: int, frame: int) -> None:
        """Note where the labels of a frame change, before a record is changed and after."""
        row = self._one(f"SELECT bbox FROM records WHERE {_PLACE}", object_id, frame)
        box: BBox = (0, 0, 0, 0) if row is None else tuple(self._json(row[0]))
        self._changed[frame] = union(self._changed.get(frame, (0, 0, 0, 0)), box)

    # SQL

    def _run(self, sql: str, *values: Any) -> None:
        with self._lock, self._told():
            self._db.execute(sql, values)

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, self._told():
            return self._db.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        with self._lock, self._told():
            row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
            return row

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (TypeError, ValueError) as error:
            raise SessionFileError(f"{self.path} is damaged: {error}") from error

"""A full disk, a broken folder or a killed program costs nothing that was there before."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from random_model import labels, random_model, rows, run, small_stack, state

from stacksam.errors import InputError, SessionFileError, StorageError
from stacksam.io.labels import store_frame
from stacksam.session.predictor import Settings
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.session import Session

MASK = np.zeros((24, 24), bool)
MASK[5:12, 5:12] = True
TWO = MASK | np.roll(MASK, 10, axis=1)
ACTIONS = {
    "add": lambda s: s.add(
        Point(0, 1, (20, 6)), Point(2, 1, (9, 9)), Mask(1, 2, MASK), Box(3, 4, (2, 2, 9, 9))
    ),
    "remove": lambda s: s.remove(Point(0, 1, (6, 16))),
    "remove the last": lambda s: s.remove(Point(1, 3, (16, 16))),
    "remove_object": lambda s: s.remove_object(1),
    "choose": lambda s: s.choose(1, 0, 2),
    "rename": lambda s: s.rename(1, "cell"),
    "merge": lambda s: s.merge(1, [2, 3]),
    "split": lambda s: s.split(4, 0),
    "clear": lambda s: s.clear(),
    "lock": lambda s: s.lock(1, [0, 1, 2]),
    "unlock": lambda s: s.unlock(2, [2]),
    "propagate": lambda s: run(s, "backward"),
    "restart": lambda s: run(s, "forward", restart=True),
    "undo": lambda s: s.undo(),
    "redo": lambda s: s.redo(),
}


def prepare(folder):
    session = Session(small_stack(4, 24), random_model(), folder)
    session.add(Point(0, 1, (6, 16)), Point(2, 2, (16, 6)), Point(1, 3, (16, 16)))
    session.add(Point(0, 1, (10, 16)))
    session.add(Mask(0, 4, TWO))
    run(session, "forward")
    session.lock(2, [2, 3])
    session.add(Point(1, 1, (8, 18)))
    session.add(Point(3, 3, (18, 8)))
    session.undo()
    return session


class FullDisk:
    """A database that fails from the given write on, until there is room again."""

    def __init__(self, db):
        self._db, self.writes_left = db, None

    def __getattr__(self, name):
        return getattr(self._db, name)

    def execute(self, sql, values=()):
        if self.writes_left is not None and sql.split()[0] in ("INSERT", "UPDATE", "DELETE", "COMMIT"):
            if self.writes_left == 0:
                raise sqlite3.OperationalError("database or disk is full")
            self.writes_left -= 1
        return self._db.execute(sql, values)


def seen(session):
    """As state(), but for the labels on disk, which cannot be written."""
    return (
        session.object_ids,
        session.prompts,
        session.names,
        session.history,
        {i: rows(session, i) for i in session.object_ids},
        [session.label_frame(i).tobytes() for i in range(session.stack.n_frames)],
    )


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_that_cannot_be_written_has_not_happened(discs, tmp_path, name):
    action = ACTIONS[name]
    with prepare(tmp_path / "good") as session:
        action(session)
        expected = state(session)
    with prepare(tmp_path / "full") as session:
        disk = session._store._db = FullDisk(session._store._db)
        for count in range(1000):
            before = seen(session)
            disk.writes_left = count
            try:
                action(session)
            except StorageError:
                if name not in ("propagate", "restart"):  # of these, whole frames may have been written
                    assert seen(session) == before
            else:
                break
            finally:
                disk.writes_left = None
        assert count > 3  # it did fail
        if name == "restart":
            run(session, "forward")
        assert state(session)[0:2] == expected[0:2]
        assert state(session)[3:] == expected[3:]


@pytest.mark.parametrize("name", ACTIONS)
def test_labels_that_cannot_be_written_undo_their_action(discs, tmp_path, monkeypatch, name):
    left = None

    def store(array, frame, image, origin):
        nonlocal left
        if left is not None:
            if left == 0:
                raise StorageError(f"frame {frame} was not stored: {os.strerror(errno.ENOSPC)}")
            left -= 1
        store_frame(array, frame, image, origin)

    monkeypatch.setattr("stacksam.session.journal.store_frame", store)
    action = ACTIONS[name]
    with prepare(tmp_path / "good") as session:
        action(session)
        expected = state(session)
    for again in (False, True):
        folder = tmp_path / f"full-{again}"
        session = prepare(folder)
        for count in range(100):
            before = seen(session)
            left = count
            try:
                action(session)
            except StorageError:
                if name not in ("propagate", "restart"):
                    assert seen(session) == before
            else:
                break
            finally:
                left = None
            if again:  # a program that ends here leaves labels that are put right later
                session.close()
                session = Session(small_stack(4, 24), random_model(), folder)
                labels(session)
        if name == "restart":
            run(session, "forward")
        assert state(session)[0:2] == expected[0:2]
        assert state(session)[3:] == expected[3:]
        session.close()


def test_a_failing_predictor_leaves_the_session_as_it_was(stack, monkeypatch):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (19, 19)))
        run(session, last=3)
        before = state(session)
        answer, calls = session._predictor.answer, []

        def failing(object_id, *arguments):
            if object_id == 3:
                raise RuntimeError("out of memory")
            calls.append(object_id)
            return answer(object_id, *arguments)

        monkeypatch.setattr(session._predictor, "answer", failing)
        prompts = Point(2, 1, (30, 30)), Point(3, 1, (31, 30)), Point(0, 3, (5, 5))
        with pytest.raises(RuntimeError, match="out of memory"):
            session.add(*prompts)
        assert calls == [1, 1]
        assert state(session) == before
        monkeypatch.setattr(session._predictor, "answer", answer)
        run(session)
        # What was remembered of the answers that were taken back is forgotten.
        with Session(stack, random_model()) as fresh:
            fresh.add(Point(0, 1, (19, 19)))
            run(fresh, last=3)
            run(fresh)
            assert rows(fresh, 1) == rows(session, 1)


def test_a_full_database_file(tmp_path):
    with Session(small_stack(20), random_model(), tmp_path) as session:
        session.add(Point(0, 1, (19, 19)))
        (pages,) = session._store._one("PRAGMA page_count")
        session._store._one(f"PRAGMA max_page_count = {pages + 2}")
        updates, given = session.propagate(), []
        with pytest.raises(StorageError, match="full"):
            given.extend(updates)
        assert session.frames_of(1) == (0, *(u.frame for u in given))
        assert 0 < len(given) < 19
        before = state(session)
        for k in range(100):
            try:
                session.add(Point(0, 1, (k % 60, 20)))
            except StorageError:
                break
            before = state(session)
        assert state(session) == before
        session._store._one("PRAGMA max_page_count = 1000000")
        run(session)
        assert session.work_left() == 0
        labels(session)


# A killed program

RUN = """
import sys
from random_model import random_model, small_stack
from stacksam.session.prompts import Point
from stacksam.session.session import Session
with Session(small_stack(16, 96), random_model(), sys.argv[1]) as session:
    if not session.object_ids:
        session.add(Point(9, 1, (30, 30)), Point(3, 2, (60, 50)))
    print("ready", flush=True)
    for update in session.propagate():
        print(update.frame, update.object_id, flush=True)
"""
SOURCES = f"{Path(__file__).parents[2] / 'src'}{os.pathsep}{Path(__file__).parent}"


def run_and_kill(folder, frames, delay):
    """Kill a program a moment after it told of so many updates; what it told."""
    program = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)],
        env=os.environ | {"PYTHONPATH": SOURCES},
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        told = [program.stdout.readline() for _ in range(frames + 1)]
        time.sleep(delay)
        program.send_signal(signal.SIGKILL)
        told += program.stdout.read().splitlines()  # what was on its way
    return [tuple(int(n) for n in line.split()) for line in told if len(line.split()) == 2]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here")
@pytest.mark.parametrize(
    "kills", [pytest.param(2, id="twice"), pytest.param(8, id="often", marks=pytest.mark.slow)]
)
def test_a_killed_run_loses_nothing_that_it_told_of(tmp_path, kills):
    stack = small_stack(16, 96)
    with Session(stack, random_model(), tmp_path / "whole") as whole:
        whole.add(Point(9, 1, (30, 30)), Point(3, 2, (60, 50)))
        assert len(run(whole)) == 30
        expected = labels(whole)

    chance = random.Random(kills)
    folder, told = tmp_path / "killed", []
    for _ in range(kills):
        told += run_and_kill(folder, chance.randint(0, 4), chance.random() * 0.05)
        with sqlite3.connect(folder / "results.sqlite") as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
        with Session(stack, random_model(), folder) as session:
            for frame, object_id in told:
                assert frame in session.frames_of(object_id)
            labels(session)
    with Session(stack, random_model(), folder) as session:
        run(session)
        assert session.history[0] == "add"
        assert np.array_equal(labels(session), expected)


# Folders that hold something else


@pytest.fixture
def done(stack, tmp_path):
    """A folder of results, and what was there."""
    with Session(stack, random_model(), tmp_path / "done") as session:
        session.add(Point(0, 1, (19, 19)))
        run(session)
    return tmp_path / "done"


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(folder, kind, match, stack=None, model=None, **options):
    before = files(folder)
    with pytest.raises(kind, match=match):
        Session(stack or small_stack(), model or random_model(), folder, **options)
    assert files(folder) == before


def test_results_of_something_else_are_refused_and_left_alone(done):
    refused(done, SessionFileError, "results of another stack \\(array\\)", small_stack(seed=1))
    refused(
        done,
        SessionFileError,
        "made with the model random, not with other",
        model=random_model(digest="x", name="other"),
    )
    refused(done, SessionFileError, "made with the model random", model=random_model(windowed=False))
    refused(done, SessionFileError, "made with the settings", settings=Settings(fill_holes=0))
    from dataclasses import replace

    from stacksam.session.stack import Intensity

    brighter = replace(small_stack(), intensity=Intensity((0.0,), (1.0,)))
    refused(done, SessionFileError, "made with the intensity mapping", brighter)


def test_results_of_a_newer_version_are_refused_and_left_alone(done):
    with sqlite3.connect(done / "results.sqlite") as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'format_version'")
    db.close()
    refused(done, SessionFileError, "format 99, this version reads up to 3; update stacksam")


def test_somebody_elses_database_is_refused_and_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        db.execute("CREATE TABLE thesis (chapter)")
    db.close()
    refused(tmp_path, SessionFileError, "no results file of stacksam")


@pytest.mark.parametrize("content", [b"\x00\xffgarbage" * 500, b"SQLite format 3\x00" + b"\x07" * 5000])
def test_a_damaged_database_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "results.sqlite").write_bytes(content)
    refused(tmp_path, SessionFileError, "is damaged, or no results file of stacksam")


def test_a_database_that_was_cut_off(done):
    path = done / "results.sqlite"
    path.write_bytes(path.read_bytes()[: 3 * 4096])

    def look():
        with Session(small_stack(), random_model(), done) as session:
            session.frames_of(1)
            session.label_frame(3)

    with pytest.raises(SessionFileError, match="damaged"):
        look()


def test_damaged_rows_are_told_of(done):
    for column, value in (
        ("mask", b"x"),
        ("bbox", "[0, 0, 1]"),
        ("logits", b""),
        ("sources", "{"),
        ("view", None),
    ):
        with sqlite3.connect(done / "results.sqlite") as db:
            (good,) = db.execute(f"SELECT {column} FROM records WHERE frame = 2").fetchone()
            db.execute(f"UPDATE records SET {column} = ? WHERE frame = 2", (value,))
        db.close()
        with Session(small_stack(), random_model(), done) as session:
            assert session.update(1, 1) is not None
            with pytest.raises(SessionFileError, match="the result of object 1 on frame 2 is damaged"):
                session.update(1, 2)
        with sqlite3.connect(done / "results.sqlite") as db:
            db.execute(f"UPDATE records SET {column} = ? WHERE frame = 2", (good,))
        db.close()


def test_labels_without_results_are_not_overwritten(done):
    (done / "results.sqlite").unlink()
    with pytest.raises(StorageError, match="exists already, but was not made by the session"):
        Session(small_stack(), random_model(), done)
    assert (done / "labels.ome.zarr" / "0" / "c").is_dir()


def test_labels_of_another_shape_are_not_written_into(done, tmp_path):
    with Session(small_stack(4, 32), random_model(), tmp_path / "other"):
        pass
    shutil.rmtree(done / "labels.ome.zarr")
    shutil.copytree(tmp_path / "other" / "labels.ome.zarr", done / "labels.ome.zarr")
    refused(done, StorageError, "has shape \\(4, 32, 32\\), the stack \\(6, 64, 64\\)")


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("text")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(StorageError, match=r"results folder .*file.* cannot be written"):
            Session(small_stack(), random_model(), folder)
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is read-only to this user")
def test_a_read_only_folder(done):
    for path in (done, done / "results.sqlite"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            Session(small_stack(), random_model(), done)
    finally:
        done.chmod(0o755)


def test_no_place_for_a_temporary_folder(monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(StorageError, match=r"no temporary folder can be made.*give the session a folder"):
        Session(small_stack(), random_model())


def test_a_folder_in_use_is_refused(done):
    with Session(small_stack(), random_model(), done) as session:
        with pytest.raises(StorageError, match="in use by another session"):
            Session(small_stack(), random_model(), done)
        session.add(Point(1, 1, (20, 20)))
    Session(small_stack(), random_model(), done).close()


def test_a_closed_session_says_so(stack):
    session = Session(stack, random_model())
    session.add(Point(0, 1, (19, 19)))
    session.close()
    for call in (
        lambda: session.add(Point(0, 1, (9, 9))),
        lambda: run(session),
        lambda: session.label_frame(0),
        session.undo,
        session.save,
    ):
        with pytest.raises(InputError, match="is closed"):
            call()


def test_a_session_file_that_cannot_be_written(done, tmp_path):
    with Session(small_stack(), random_model(), done) as session:
        target = session.save()
        assert target == done / "session.json"
        good = target.read_bytes()
        for place in (tmp_path / "missing" / "s.json", target / "s.json", done):
            with pytest.raises(StorageError, match=r"session file .* cannot be written"):
                session.save(place)
        assert target.read_bytes() == good
        assert json.loads(good)["format"] == "stacksam-session"
        assert not list(done.glob(".*part"))

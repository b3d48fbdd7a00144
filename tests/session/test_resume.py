"""A session goes on from its folder alone, and leaves a file there from which it can be replayed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from random_model import random_model, run, small_stack, state

import stacksam.session.session
from stacksam.errors import InputError, SessionFileError, StackError, StorageError
from stacksam.session.prompts import Point
from stacksam.session.replay import replay
from stacksam.session.resume import open_session
from stacksam.session.session import Session
from stacksam.session.stack import open_stack

A = Point(0, 1, (19, 19))


@pytest.fixture
def loads(monkeypatch):
    """What models were asked for; all are the random one."""
    asked = []

    def load(name, *, dtype, image_size):
        asked.append((name, dtype, image_size))
        return random_model()

    monkeypatch.setattr("stacksam.session.models.load_model", load)
    return asked


@pytest.fixture
def folder(tmp_path):
    """The folder of a session of a stack on disk."""
    frames = np.random.default_rng(0).integers(0, 4000, (3, 2, 32, 32), dtype=np.uint16)
    np.save(tmp_path / "cells.npy", frames)
    stack = open_stack(tmp_path / "cells.npy", axes="tcyx", channels=(1,), intensity=(0, 3000))
    with stack, Session(stack, random_model(), tmp_path / "s") as session:
        session.add(A)
        session.rename(1, "a")
        run(session, last=1)
        session.expected = state(session)
    return tmp_path / "s"


@pytest.mark.parametrize("name", ["", "session.json", "results.sqlite"])
def test_a_session_is_opened_from_its_folder(folder, loads, name):
    with open_session(folder / name) as session:
        assert loads == [("random", "float32", 64)]
        assert session.folder == folder
        assert session.stack.channels == (1,)
        assert session.names == {1: "a"}
        assert session.frames_of(1) == (0, 1)
        assert run(session) == [(2, 1)]
        assert session.undo() == "propagate"
        session.stack.close()


def test_a_session_of_a_killed_program_is_opened(folder, loads):
    (folder / "session.json").unlink()
    with open_session(str(folder)) as session:
        assert session.history == ("add", "rename", "propagate")
        session.stack.close()


def test_what_is_given_is_used(folder, loads, tmp_path):
    moved = (tmp_path / "cells.npy").rename(tmp_path / "moved.npy")
    with pytest.raises(
        StackError, match=r"cannot be opened where it was: .*; where it has moved, .*give the"
    ):
        open_session(folder)
    stack = open_stack(moved, axes="tcyx", channels=(1,), intensity=(0, 3000))
    with stack, open_session(folder, stack=stack, model=random_model()) as session:
        assert session.stack is stack
    assert loads == []
    with (
        open_stack(moved, axes="tcyx", channels=(0,), intensity=(0, 3000)) as other,
        pytest.raises(SessionFileError, match="holds results of another stack"),
    ):
        open_session(folder, stack=other)
    with stack, pytest.raises(SessionFileError, match="was made with the model random, not with other"):
        open_session(folder, stack=stack, model=random_model(digest="x", name="other"))


def test_an_array_must_be_given_again(stack, tmp_path, loads):
    with Session(stack, random_model(), tmp_path) as session:
        session.add(A)
        expected = state(session)
    with pytest.raises(StackError, match="came from the numpy array, which cannot be opened again; give the"):
        open_session(tmp_path)
    with open_session(tmp_path, stack=stack) as session:
        assert state(session) == expected


def test_a_stack_that_was_opened_in_vain_is_closed(folder, monkeypatch):
    opened = []

    def reopen(description):
        opened.append(Closing())
        return opened[-1]

    class Closing:
        closed = False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.closed = True

    def fail(*_, **__):
        raise RuntimeError("no memory")

    monkeypatch.setattr("stacksam.session.resume.reopen_stack", reopen)
    monkeypatch.setattr("stacksam.session.models.load_model", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        open_session(folder)
    assert opened[0].closed


def test_places_without_a_session_are_refused_and_left_alone(folder, tmp_path, loads):
    (tmp_path / "empty").mkdir()
    shutil.copy(folder / "session.json", tmp_path / "alone.json")
    for path, match in (
        (tmp_path / "nowhere", "there is no session at .*nowhere; give the folder of one"),
        (tmp_path / "empty", "there is no session in .*empty; give the folder that holds results.sqlite"),
        (tmp_path / "alone.json", "there are no results beside .*alone.json; use stacksam.replay"),
    ):
        with pytest.raises(SessionFileError, match=match):
            open_session(path)
    assert not list((tmp_path / "empty").iterdir())
    with (
        Session(small_stack(2), random_model(), tmp_path / "used"),
        pytest.raises(StorageError, match="in use by another session"),
    ):
        open_session(tmp_path / "used")


def test_a_damaged_description_is_told_of(folder, loads):
    import sqlite3

    with sqlite3.connect(folder / "results.sqlite") as db:
        db.execute("UPDATE meta SET value = '{}' WHERE key = 'session'")
    db.close()
    with pytest.raises(SessionFileError, match="is damaged"):
        open_session(folder)


# The file that close leaves


def test_a_closed_session_can_be_replayed(stack, tmp_path):
    model = random_model()
    with Session(stack, model, tmp_path / "s") as session:
        session.add(A)
        session.save()
        run(session)
        expected = state(session)
    with replay(tmp_path / "s" / "session.json", stack, model) as again:
        assert state(again) == expected


def test_a_propagation_that_goes_on_after_saving_is_saved_too(stack, tmp_path):
    with Session(stack, random_model(), tmp_path) as session:
        session.add(A)
        updates = session.propagate()
        next(updates)
        saved = session.save()
        next(updates)
    assert json.loads(saved.read_text())["actions"][-1]["steps"] == 2


def test_what_is_saved_already_is_not_written_again(stack, tmp_path, monkeypatch):
    session = Session(stack, random_model(), tmp_path)
    session.add(A)
    session.save()
    monkeypatch.setattr(stacksam.session.session, "write_json", lambda *_: pytest.fail("written again"))
    session.close()


def test_a_temporary_session_leaves_no_file(stack, monkeypatch):
    monkeypatch.setattr(stacksam.session.session, "write_json", lambda *_: pytest.fail("written"))
    with Session(stack, random_model()) as session:
        session.add(A)


def fail_inside(stack, folder):
    with Session(stack, random_model(), folder):
        raise KeyError("first")


def test_a_file_that_cannot_be_written_at_the_end_loses_nothing(stack, tmp_path, monkeypatch):
    def full(path, data):
        raise StorageError(f"session file {path} cannot be written: no space")

    session = Session(stack, random_model(), tmp_path)
    session.add(A)
    expected = state(session)
    with monkeypatch.context() as patch:
        patch.setattr(stacksam.session.session, "write_json", full)
        with pytest.raises(StorageError, match="no space"):
            session.close()
        session.close()  # it is closed
        with pytest.raises(InputError, match="is closed"):
            session.undo()
        with pytest.raises(KeyError, match="first") as caught:
            fail_inside(stack, tmp_path)
        assert "no space" in caught.value.__notes__[0]
    with Session(stack, random_model(), tmp_path) as session:
        assert state(session) == expected

"""A saved session, done again elsewhere, gives the same labels; what is no session is told of."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from random_model import labels, random_model, rows, run, small_stack

from stacksam.errors import SessionFileError, StackError
from stacksam.prompt_files import read_session_prompts
from stacksam.session.predictor import Settings
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.replay import replay
from stacksam.session.session import Session
from stacksam.session.stack import Intensity, open_stack, reopen_stack

MASK = np.zeros((64, 64), bool)
MASK[30:44, 30:41] = True
TWO = MASK | np.roll(MASK, 20, axis=1)


def work(session):
    """Whatever a user may do."""
    session.add(Point(1, 1, (19, 19)), Box(0, 2, (35, 30, 55, 50)))
    run(session)
    session.add(Point(3, 1, (25, 22), positive=False))  # corrections
    session.add(Point(3, 1, (28, 28)))
    session.choose(1, 3, 1)
    session.add(Point(2, 5, (9, 9)))
    session.remove_object(5)
    updates = session.propagate("forward")  # cancelled
    next(updates)
    updates.close()
    session.lock(1, [4])
    session.mark_absent(2, [3])
    session.add(Mask(2, 2, MASK))
    session.undo()
    session.add(Mask(2, 2, MASK), Point(2, 2, (50, 50)))
    session.remove(Point(2, 2, (50, 50)))
    session.choose(1, 3, 2)
    session.undo()
    run(session, objects=[2])
    session.unlock(1, [4])
    session.add(Point(5, 1, (30, 20)))
    updates = session.propagate()
    next(updates)
    session.replace(Point(5, 1, (30, 20)), Point(5, 1, (33, 22)))  # which ends it
    assert list(updates) == []
    run(session, restart=True, first=1)
    session.undo()
    session.redo()
    session.add(Point(4, 6, (9, 9)), Point(4, 7, (50, 9)), Mask(2, 8, TWO))
    session.rename(1, "mother")
    session.rename(7, "gone")
    session.merge(1, [6, 7])
    session.split(8, 2)
    run(session, "forward", steps=2)


def test_a_session_done_again_is_the_same(stack, model, tmp_path):
    with Session(stack, model, tmp_path / "s") as session:
        work(session)
        path = session.save(tmp_path / "session.json")
        seen = []
        with replay(path, stack, model, progress=seen.append) as again:
            assert again.prompts == session.prompts
            assert again.history == session.history
            assert again.names == session.names == {1: "mother"}
            assert again.object_ids == session.object_ids == (1, 2, 8, 9)
            assert np.array_equal(labels(again), labels(session))
            assert {i: rows(again, i) for i in (1, 2, 8, 9)} == {i: rows(session, i) for i in (1, 2, 8, 9)}
            assert {again.stale_frames(i) for i in (1, 2)} == {session.stale_frames(i) for i in (1, 2)}
            assert seen
            # And so on for ever: the copy can be saved and replayed.
            second = again.save(tmp_path / "again.json")
            assert json.loads(second.read_text()) == json.loads(path.read_text())


def test_a_session_that_was_resumed_is_replayed_whole(stack, tmp_path):
    model = random_model()
    for prompt in (Point(0, 1, (19, 19)), Point(2, 1, (30, 30))):
        with Session(stack, model, tmp_path / "s") as session:
            session.add(prompt)
            updates = session.propagate()
            next(updates)
            updates.close()
            before = labels(session)
            path = session.save()
    assert path == tmp_path / "s" / "session.json"
    with replay(path, stack, model, tmp_path / "again") as again:
        assert np.array_equal(labels(again), before)


def test_settings_are_replayed(stack, tmp_path):
    model = random_model()
    settings = Settings(max_conditioning=1, fill_holes=0)
    with Session(stack, model, settings=settings) as session:
        session.add(Point(0, 1, (19, 19)), Point(3, 1, (25, 22)))
        run(session)
        path = session.save(tmp_path / "s.json")
        with replay(path, stack, model) as again:
            assert (again.settings.max_conditioning, again.settings.fill_holes) == (1, 0)
            assert rows(again, 1) == rows(session, 1)


def test_the_file_is_for_people_too(stack, tmp_path):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (19.5, 19)))
        session.add(Point(0, 1, (3, 4)))
        session.remove(Point(0, 1, (3, 4)))
        run(session, last=2)
        data = json.loads(session.save(tmp_path / "s.json").read_text())
    assert data["actions"].pop(1)["do"] == "add"
    assert data["actions"] == [
        {"do": "add", "prompts": [{"frame": 0, "object_id": 1, "point": [19.5, 19.0], "positive": True}]},
        {"do": "remove", "prompts": [{"frame": 0, "object_id": 1, "point": [3.0, 4.0], "positive": True}]},
        {
            "do": "propagate", "direction": "both", "objects": [1], "first": 0, "last": 2, "restart": False,
            "steps": 2,
        },
    ]  # fmt: skip
    assert data["stack"]["n_frames"] == 6
    assert data["model"] == {
        "name": "random",
        "digest": "digest",
        "dtype": "float32",
        "windowed": True,
        "image_size": 64,
        "followed_iou": [1.0, 0.0, 0.0],
    }


def test_replay_needs_an_empty_folder(stack, tmp_path):
    model = random_model()
    with Session(stack, model, tmp_path / "s") as session:
        session.add(Point(0, 1, (19, 19)))
        path = session.save()
    with pytest.raises(SessionFileError, match="already holds a session; replay into an empty folder"):
        replay(path, stack, model, tmp_path / "s")
    with Session(stack, model, tmp_path / "s") as session:
        assert len(session.prompts) == 1


# Opening the stack again


def test_the_stack_is_opened_again_as_it_was_opened(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 4000, (3, 5, 2, 40, 48), dtype=np.uint16)  # z, t, c
    np.save(tmp_path / "odd.npy", frames)
    monkeypatch.chdir(tmp_path)
    options = {
        "axes": "ztcyx", "at": {"z": 2}, "channels": (1, 0),
        "intensity": Intensity((100.0, 0.0), (3000.0, 3500.0)),
        "spacing": (30.0, 0.5, 0.25), "units": ("s", "um", "um"),
    }  # fmt: skip
    with open_stack("odd.npy", **options) as stack, Session(stack, random_model()) as session:
        session.add(Point(1, 1, (19, 19)))
        run(session)
        path = session.save(tmp_path / "s.json")
        expected = labels(session)
        about = stack.describe()
        about = json.loads(json.dumps(about))
        monkeypatch.chdir(tmp_path.parent)  # paths are kept from the root on
        with reopen_stack(about) as again:
            found = json.loads(json.dumps(again.describe()))
            assert {**found, "source": about["source"]} == about
            np.testing.assert_array_equal(again.frame(3), stack.frame(3))
    with replay(path, model=random_model()) as again:
        assert np.array_equal(labels(again), expected)
        again.stack.close()
    (tmp_path / "odd.npy").rename(tmp_path / "moved.npy")
    with pytest.raises(StackError, match="there is no file"):
        replay(path, model=random_model())
    with reopen_stack(about, tmp_path / "moved.npy") as moved:
        assert moved.identity() == about["identity"]


def test_series_levels_and_lists_are_remembered(tmp_path):
    with tifffile.TiffWriter(tmp_path / "two.tif") as tif:
        tif.write(np.full((3, 32, 32), 1, np.uint8), metadata=None, photometric="minisblack")
        tif.write(np.full((4, 40, 40), 2, np.uint8), metadata=None, photometric="minisblack")
    opened = open_stack(tmp_path / "two.tif", series=1, axes="tyx")
    with opened as stack, reopen_stack(json.loads(json.dumps(stack.describe()))) as again:
        assert again.identity() == stack.identity()
        assert again.n_frames == 4
    names = []
    for i in (2, 0, 1):
        names.append(tmp_path / f"{i}.tif")
        tifffile.imwrite(names[-1], np.full((32, 32), i, np.uint8))
    with open_stack(names) as stack, reopen_stack(json.loads(json.dumps(stack.describe()))) as again:
        assert [int(again.raw(i).max()) for i in range(3)] == [2, 0, 1]


def test_an_array_must_be_given_again(stack, tmp_path):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (19, 19)))
        path = session.save(tmp_path / "s.json")
    with pytest.raises(
        StackError, match="came from the numpy array, which cannot be opened again; give the stack"
    ):
        replay(path, model=random_model())


# Files that are no session


@pytest.fixture
def saved(stack, tmp_path):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (19, 19)), Mask(1, 2, MASK))
        run(session, last=1)
        return session.save(tmp_path / "s.json")


def test_a_session_of_something_else_is_refused(saved, stack):
    with pytest.raises(SessionFileError, match="is a session of another stack \\(array\\), not of array"):
        replay(saved, small_stack(seed=3), random_model())
    with pytest.raises(
        SessionFileError, match="made with the model random \\(digest\\); other \\(x\\) has other"
    ):
        replay(saved, stack, random_model(digest="x", name="other"))
    with pytest.raises(SessionFileError, match="made with random looking at windows"):
        replay(saved, stack, random_model(windowed=False))
    from dataclasses import replace

    with pytest.raises(SessionFileError, match="was made with the intensity mapping"):
        replay(saved, replace(stack, intensity=Intensity((0.0,), (1.0,))), random_model())


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_truncated_file_is_refused(saved, stack, share):
    text = saved.read_text()
    saved.write_text(text[: int(share * len(text))])
    with pytest.raises(SessionFileError, match=r"session file .* cannot be read"):
        replay(saved, stack, random_model())


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\xff\xfe\x00binary", "cannot be read"),
        (b"points: 3", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[1, 2]", "is no session file of stacksam"),
        (b'{"format": "napari"}', "is no session file of stacksam"),
        (b'{"format": "stacksam-session"}', "is damaged: its version is None"),
        (b'{"format": "stacksam-session", "version": "1"}', "is damaged: its version is '1'"),
        (b'{"format": "stacksam-session", "version": 99}', "has version 99, this program reads up to 3"),
        (b'{"format": "stacksam-session", "version": 1, "stack": []}', "model, settings, stack missing"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_session_is_refused(tmp_path, stack, content, match):
    path = tmp_path / "s.json"
    path.write_bytes(content)
    with pytest.raises(SessionFileError, match=match):
        replay(path, stack, random_model())


def test_a_missing_file(tmp_path, stack):
    with pytest.raises(SessionFileError, match=r"session file .*s\.json cannot be read: .*No such file"):
        replay(tmp_path / "s.json", stack, random_model())


def without(key):
    return lambda data: data["stack"].pop(key)


DAMAGES = {
    "no identity": without("identity"),
    "no intensity": without("intensity"),
    "odd settings": lambda data: data["settings"].update(speed=3),
    "no digest": lambda data: data["model"].pop("digest"),
    "an action that is text": lambda data: data["actions"].append("add"),
    "an unknown action": lambda data: data["actions"].append({"do": "explode"}),
    "an action without a name": lambda data: data["actions"].append({}),
    "an action without arguments": lambda data: data["actions"].append({"do": "choose"}),
    "an odd argument": lambda data: data["actions"][-1].update(colour="red"),
    "an unknown object": lambda data: data["actions"][-1].update(objects=[7]),
    "a prompt without a frame": lambda data: data["actions"][0]["prompts"][0].pop("frame"),
    "a prompt outside": lambda data: data["actions"][0]["prompts"][0].update(frame=77),
    "a prompt without a place": lambda data: data["actions"][0]["prompts"][0].pop("point"),
    "a prompt with an odd place": lambda data: data["actions"][0]["prompts"][0].update(point="here"),
    "a mask that is none": lambda data: data["actions"][0]["prompts"][1].update(mask="!!"),
    "a mask of another size": lambda data: data["actions"][0]["prompts"][1].update(shape=[4, 4]),
    "a mask of absurd size": lambda data: data["actions"][0]["prompts"][1].update(shape=[10**9, 10**12]),
    "prompts that are none": lambda data: data["actions"][0].update(prompts=3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(saved, stack, damage, tmp_path):
    data = json.loads(saved.read_text())
    DAMAGES[damage](data)
    saved.write_text(json.dumps(data))
    with pytest.raises(SessionFileError, match=r"s\.json|prompt of object"):
        replay(saved, stack, random_model())


def test_the_dtype_is_replayed(saved, stack, monkeypatch):
    asked = []

    def load(name, *, dtype, image_size):
        asked.append((name, dtype, image_size))
        return random_model()

    monkeypatch.setattr("stacksam.session.models.load_model", load)
    replay(saved, stack).close()
    assert asked == [("random", "float32", 64)]


def test_a_saved_session_gives_the_prompts_that_hold_at_its_end(tmp_path):
    with Session(small_stack(), random_model(windowed=True), tmp_path / "session") as session:
        session.add(Point(0, 1, (5.0, 5.0)), Point(0, 1, (9.0, 9.0)), Box(2, 2, (3.0, 3.0, 20.0, 20.0)))
        session.add(Point(0, 3, (20.0, 20.0)))
        session.merge(1, [3])  # makes a mask of them
        session.replace(Box(2, 2, (3.0, 3.0, 20.0, 20.0)), Box(2, 2, (4.0, 4.0, 20.0, 20.0)))
        held = list(session.prompts)
        path = session.save()
    assert [given.prompt for given in read_session_prompts(path)] == held
    assert {type(prompt) for prompt in held} == {Box, Mask}

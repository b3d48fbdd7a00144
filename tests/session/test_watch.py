"""A stack that still grows is followed as its frames arrive, and whatever happens to it, nothing is lost."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from random_model import DiscPredictor, labels, random_model, rows, small_stack

from stacksam.errors import InputError, SessionFileError, StackError
from stacksam.session.prompts import Point
from stacksam.session.replay import replay
from stacksam.session.resume import open_session
from stacksam.session.session import Session
from stacksam.session.stack import open_stack
from stacksam.session.watch import await_stack, watch

A, B = Point(0, 1, (19, 19)), Point(0, 2, (45, 38))
POLL, IDLE = 0.02, 0.4


class Reader(DiscPredictor):
    """Paints discs, but looks at the frame first."""

    def follow(self, frame, requests, step):
        self.stack.frame(frame)
        return super().follow(frame, requests, step)


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.setattr("stacksam.session.session.Predictor", Reader)


def pictures(n, side=64):
    stack = small_stack(n, side)
    return (1000 * np.stack([stack.raw(i) for i in range(n)]) + 500).clip(0, 4000).astype(np.uint16)


def zarr_of(path, frames):
    array = zarr.create_array(path, shape=frames.shape, chunks=(1, *frames.shape[1:]), dtype="uint16")
    array[...] = frames
    return array


def append(array, frame):
    n = array.shape[0]
    array.resize((n + 1, *array.shape[1:]))
    array[n] = frame


def put(folder, number, frame):
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / f"f{number}.tif", frame)


@contextmanager
def writing(write, frames, every=0.02):
    """A thread that writes frames while the body runs."""

    def work():
        for number, frame in frames:
            time.sleep(every)
            write(number, frame)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def to_the_end(session, **how):
    """All updates as (frame, object id), what was told, and why it ended."""
    told = []
    found = []
    updates = watch(session, **{"poll": POLL, "timeout": IDLE, "tell": told.append, **how})
    while True:
        try:
            update = next(updates)
        except StopIteration as end:
            return found, told, end.value
        found.append((update.frame, update.object_id))


def test_frames_are_followed_as_they_arrive(tmp_path, discs):
    frames = pictures(12)
    array = zarr_of(tmp_path / "run.zarr", frames[:2])
    stack = open_stack(tmp_path / "run.zarr", live=True)
    with Session(stack, random_model(), tmp_path / "s") as session:
        session.add(A, B)
        with writing(lambda _, f: append(array, f), enumerate(frames[2:])):
            found, told, ended = to_the_end(session)
        assert found == [(f, i) for f in range(1, 12) for i in (1, 2)]
        assert ended == told[-1] == "stream stopped: no new frame for 0.4 s"
        assert session.history == ("add", "propagate")
        assert len(labels(session)) == 12


def test_labels_can_be_read_by_others_at_any_time(tmp_path, discs):
    frames = pictures(8)
    array = zarr_of(tmp_path / "run.zarr", frames[:2])
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(A)
        with writing(lambda _, f: append(array, f), enumerate(frames[2:])):
            for update in watch(session, poll=POLL, timeout=IDLE):
                seen = zarr.open_array(tmp_path / "s/labels.ome.zarr/0", mode="r")
                assert seen.shape[0] > update.frame
                assert all((seen[i] == 1).any() for i in range(update.frame + 1))


def test_a_folder_of_images_is_followed(tmp_path, reader):
    frames = pictures(8)
    put(tmp_path / "run", 0, frames[0])
    stack = open_stack(tmp_path / "run", live=True, settle=0.05)
    with Session(stack, random_model(), tmp_path / "s") as session:
        session.add(A)
        with writing(lambda i, f: put(tmp_path / "run", i, f), enumerate(frames[1:], 1)):
            found, _, _ = to_the_end(session)
        assert found == [(f, 1) for f in range(1, 8)]


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "live"])
def test_live_results_are_those_of_a_replay_on_the_finished_stack(tmp_path, finished):
    frames = pictures(7)  # fewer than there are pointers, whose number must not matter
    array = zarr_of(tmp_path / "run.zarr", frames[:2])
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(A)
        for frame in frames[2:5]:
            append(array, frame)
        to_the_end(session, timeout=0.05)
        session.add(B)
        for frame in frames[5:]:
            append(array, frame)
        to_the_end(session, timeout=0.05)
        expected, painted = rows(session, 1), labels(session)
        assert len(expected) == 7
    stack = open_stack(tmp_path / "run.zarr") if finished else None
    with replay(tmp_path / "s/session.json", stack, random_model()) as again:
        assert again.stack.live
        assert again.stack.n_frames == 7
        assert rows(again, 1) == expected
        np.testing.assert_array_equal(labels(again), painted)


def test_a_closed_watch_goes_on_where_it_was(tmp_path):
    frames = pictures(9)
    array = zarr_of(tmp_path / "run.zarr", frames[:2])
    model = random_model()

    def opened():
        return open_stack(tmp_path / "run.zarr", live=True)

    with Session(opened(), model, tmp_path / "s") as session:
        session.add(A)
        for frame in frames[2:7]:
            append(array, frame)
        updates = watch(session, poll=POLL)
        assert [next(updates).frame for _ in range(3)] == [1, 2, 3]
        updates.close()
    for frame in frames[7:]:
        append(array, frame)
    stack = opened()
    with Session(stack, model, tmp_path / "s") as session:
        assert session.stack.intensity != stack.intensity  # which would be that of more frames
        assert to_the_end(session, timeout=0.05)[0] == [(f, 1) for f in range(4, 9)]
        expected = rows(session, 1)
    with open_session(tmp_path / "s", stack=open_stack(tmp_path / "run.zarr"), model=model) as session:
        assert rows(session, 1) == expected
        assert list(session.propagate()) == []
        assert session.labels.shape[0] == 9
    frames = open_stack(tmp_path / "run.zarr", live=True, intensity=(0, 17))
    with pytest.raises(SessionFileError, match="intensity mapping"):
        Session(frames, model, tmp_path / "s")


def test_another_stack_is_refused(tmp_path, discs):
    zarr_of(tmp_path / "run.zarr", pictures(3))
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(A)
    shutil.rmtree(tmp_path / "run.zarr")
    zarr_of(tmp_path / "run.zarr", pictures(4) + 1)
    with pytest.raises(SessionFileError, match="another stack"):
        Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s")


# What may go wrong


def test_a_frame_that_cannot_be_decoded_yet_is_tried_again(tmp_path, reader):
    frames = pictures(6)
    folder = tmp_path / "run"
    for i in (0, 1, 2, 4, 5):
        put(folder, i, frames[i])
    (folder / "f3.tif").write_bytes((folder / "f2.tif").read_bytes()[:60])
    stack = open_stack(folder, live=True, settle=0.05)
    with Session(stack, random_model(), tmp_path / "s") as session:
        session.add(A)
        told = []

        def tell(line):
            told.append(line)
            if "frame 3 cannot be followed" in line:
                put(folder, 3, frames[3])

        found, _, _ = to_the_end(session, tell=tell, patience=5)
        assert found == [(f, 1) for f in range(1, 6)]
        assert [line.split(":")[0] for line in told[:2]] == [
            "frame 3 cannot be followed",
            "that is over; going on",
        ]


def test_a_frame_that_stays_broken_is_an_error_and_nothing_is_lost(tmp_path, reader):
    frames = pictures(5)
    folder = tmp_path / "run"
    for i in range(5):
        put(folder, i, frames[i])
    (folder / "f3.tif").write_bytes(b"no image")
    with Session(open_stack(folder, live=True, settle=0.05), random_model(), tmp_path / "s") as session:
        session.add(A)
        with pytest.raises(StackError, match=r"frame 3 cannot be followed: .*f3\.tif"):
            to_the_end(session, patience=0.1)
        assert session.frames_of(1) == (0, 1, 2)
        labels(session)
    put(folder, 3, frames[3])
    with Session(open_stack(folder, live=True, settle=0.05), random_model(), tmp_path / "s") as session:
        assert to_the_end(session)[0] == [(3, 1), (4, 1)]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda p: zarr.open_array(p).resize((2, 64, 64)), "has 2 frames, but had 4 before"),
        (shutil.rmtree, "is gone"),
    ],
)
def test_a_stack_that_shrinks_is_an_error_also_after_a_restart(tmp_path, discs, harm, words):
    zarr_of(tmp_path / "run.zarr", pictures(4))
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(A)
        told = []
        updates = watch(session, poll=POLL, patience=0.1, tell=told.append)
        assert [next(updates).frame for _ in range(3)] == [1, 2, 3]
        harm(tmp_path / "run.zarr")
        with pytest.raises(StackError, match=words):
            next(updates)
        assert "trying again for 0.1 s" in told[0]
        assert session.frames_of(1) == (0, 1, 2, 3)
    if harm is shutil.rmtree:
        return
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        with pytest.raises(StackError, match="has 2 frames, but 4 were followed before"):
            to_the_end(session, patience=0.1)
        for frame in pictures(5)[2:]:
            append(zarr.open_array(tmp_path / "run.zarr"), frame)
        assert to_the_end(session)[0] == [(4, 1)]


def test_trouble_that_passes_is_told_and_forgotten(tmp_path, discs):
    frames = pictures(4)
    array = zarr_of(tmp_path / "run.zarr", frames[:2])
    metadata = tmp_path / "run.zarr/zarr.json"
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(A)
        whole = metadata.read_bytes()
        metadata.write_bytes(whole[:50])

        def tell(line):
            told.append(line)
            if "trying again" in line:
                metadata.write_bytes(whole)
                append(array, frames[2])

        told = []
        assert to_the_end(session, tell=tell)[0] == [(1, 1), (2, 1)]
        assert "cannot read the metadata" in told[0]
        assert told[1:] == ["that is over; going on", "stream stopped: no new frame for 0.4 s"]


def test_frames_that_come_too_fast_are_all_followed_and_it_is_told(tmp_path, discs):
    frames = pictures(70, 16)
    array = zarr_of(tmp_path / "run.zarr", frames[:2])
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(Point(0, 1, (8, 8)))
        written = False

        def stop():
            nonlocal written
            if session.frames_of(1)[-1] == 1 and not written:
                looks.append(1)
                if len(looks) > 3:  # it has caught up
                    written = True
                    array.resize(frames.shape)
                    array[2:] = frames[2:]
            return False

        looks = []
        found, told, _ = to_the_end(session, stop=stop)
        assert len(found) == 69
        assert told[0] == "68 frames behind: they come faster than they are followed"


# What the user does meanwhile


def test_a_correction_is_followed_up_before_the_watch_goes_on(tmp_path, discs):
    frames = pictures(6)
    array = zarr_of(tmp_path / "run.zarr", frames[:4])
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(A)
        found = []
        for update in watch(session, poll=POLL, timeout=IDLE):
            found.append((update.frame, update.object_id))
            if found == [(1, 1), (2, 1), (3, 1)]:
                session.add(Point(1, 1, (30, 30)), Point(2, 2, (9, 9)))
                append(array, frames[4])
        assert found[3:] == [(2, 1), (3, 1), (3, 2), (4, 1), (4, 2)]
        assert session.stale_frames(1) == ()


def test_a_prompt_is_followed_up_while_no_frame_comes(tmp_path, discs):
    zarr_of(tmp_path / "run.zarr", pictures(3))
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(A)
        later = threading.Timer(0.2, lambda: session.add(B))
        later.start()
        found, _, _ = to_the_end(session, timeout=1)
        later.join()
        assert found == [(1, 1), (2, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize("kind", ["callable", "file"])
def test_it_stops_when_it_is_told_to(tmp_path, discs, kind):
    zarr_of(tmp_path / "run.zarr", pictures(9))
    mark = tmp_path / "stop"
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(A)
        updates = watch(session, poll=POLL, stop=mark if kind == "file" else mark.exists)
        for update in updates:
            if update.frame == 4:
                mark.touch()
        assert session.frames_of(1) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"poll": 0}, "poll is 0"),
        ({"poll": float("nan")}, "poll is nan"),
        ({"timeout": -1}, "timeout is -1"),
        ({"patience": -1}, "patience is -1"),
        ({"stop": 3}, "stop is a int"),
        ({"objects": [7]}, "there is no object 7"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path, discs, wrong, words):
    zarr_of(tmp_path / "run.zarr", pictures(3))
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model()) as session:
        with pytest.raises(InputError, match="there are no prompts"):
            watch(session)
        session.add(A)
        with pytest.raises(InputError, match=words):
            watch(session, **wrong)


def test_a_finished_stack_is_not_watched(discs):
    with Session(small_stack(), random_model()) as session:
        session.add(A)
        with pytest.raises(InputError, match="is not live"):
            watch(session)


# Waiting for the beginning


def test_the_first_frames_are_waited_for(tmp_path):
    frames = pictures(3)
    told = []
    with writing(lambda i, f: put(tmp_path / "run", i, f), enumerate(frames), every=0.1):
        stack = await_stack(
            tmp_path / "run", 3, poll=POLL, timeout=5, settle=0.05, tell=told.append, intensity=(0, 9)
        )
    assert stack.n_frames == 3
    assert "there is no folder" in told[0]
    assert any("of the 3 frames that the prompts are on" in line for line in told)


@pytest.mark.parametrize(
    ("how", "why"), [({"timeout": 0.1}, "stream stopped"), ({"stop": lambda: True}, "stopped")]
)
def test_frames_that_never_come_are_told(tmp_path, how, why):
    with pytest.raises(StackError, match=f"no folder .* yet; {why}"):
        await_stack(tmp_path / "run", poll=POLL, **how)


def test_a_stack_that_cannot_be_opened_is_not_waited_for(tmp_path):
    zarr.create_array(tmp_path / "run.zarr", shape=(1, 3, 8, 8), chunks=(1, 1, 8, 8), dtype="uint16")[...] = 1
    with pytest.raises(StackError, match="3 steps along z"):
        await_stack(tmp_path / "run.zarr", poll=POLL, patience=0.1)


# Days


@pytest.mark.slow
def test_memory_does_not_grow_with_frames(tmp_path, discs):
    """A record is some ten blocks of memory: one kept for each frame would be seen."""
    array = zarr.create_array(tmp_path / "run.zarr", shape=(270, 16, 16), chunks=(1, 16, 16), dtype="uint16")
    array[...] = np.random.default_rng(0).integers(1, 900, array.shape).astype(np.uint16)
    with Session(open_stack(tmp_path / "run.zarr", live=True), random_model(), tmp_path / "s") as session:
        session.add(Point(0, 1, (8, 8)))
        held = {}
        for update in watch(session, poll=POLL, timeout=0.05):
            if update.frame in (60, 260):
                gc.collect()
                held[update.frame] = sys.getallocatedblocks()
    assert held[260] - held[60] < 200 * 5


CHILD = """
import sys
sys.path[:0] = [{tests!r}, {source!r}]
from random_model import random_model
from stacksam.session.prompts import Point
from stacksam.session.session import Session
from stacksam.session.stack import open_stack
from stacksam.session.watch import watch
with Session(open_stack({stack!r}, live=True, intensity=(0, 2000)), random_model(), {folder!r}) as session:
    if not session.object_ids:
        session.add(Point(0, 1, (19, 19)))
    for update in watch(session, poll=0.02):
        print(update.frame, flush=True)
"""


@pytest.mark.slow
def test_a_killed_watch_goes_on_with_the_same_program(tmp_path):
    """Killed twice in the middle; in the end, results are those of one that was never killed."""
    frames = pictures(12)
    array = zarr_of(tmp_path / "run.zarr", frames[:3])
    tests = Path(__file__).parent
    program = CHILD.format(
        tests=str(tests),
        source=str(tests.parents[1] / "src"),
        stack=str(tmp_path / "run.zarr"),
        folder=str(tmp_path / "s"),
    )
    model = random_model()
    how = {"live": True, "intensity": (0, 2000)}
    with Session(open_stack(tmp_path / "run.zarr", **how), model, tmp_path / "one") as session:
        session.add(A)
    for new, until in ((frames[3:8], 6), (frames[8:], 9)):
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for frame in new:
            append(array, frame)
        for line in child.stdout:
            if int(line) >= until:
                break
        child.kill()
        child.wait()
        child.stdout.close()
    with Session(open_stack(tmp_path / "run.zarr", **how), model, tmp_path / "s") as session:
        left, _, _ = to_the_end(session)
        assert len(left) <= 2
        found, painted = rows(session, 1), labels(session)
    with Session(open_stack(tmp_path / "run.zarr", **how), model, tmp_path / "one") as session:
        to_the_end(session)
        assert rows(session, 1) == found
        np.testing.assert_array_equal(labels(session), painted)

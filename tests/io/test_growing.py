"""A frame of an image that is being written counts once it is complete, and never before."""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest
import tifffile
import zarr

from stacksam.errors import InputError, StackError
from stacksam.io import grow_label_store, open_label_store, store_frame
from stacksam.io._lazy import EmptyImageError
from stacksam.io.labels import create_label_store
from stacksam.session.stack import open_stack, reopen_stack

SETTLE = 0.15


def frame(number, dtype=np.uint16, shape=(16, 20)):
    return np.full(shape, 100 + number, dtype)


def write(folder, number, **kind):
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / f"f{number}.tif", frame(number, **kind))


def array_of(path, n=2, chunks=(1, 8, 20), shape=(16, 20), zarr_format=3, **more):
    made = zarr.create_array(
        path, shape=(n, *shape), chunks=chunks, dtype="uint16", zarr_format=zarr_format, **more
    )
    for i in range(n):
        made[i] = frame(i)
    return made


def append(array):
    n = array.shape[0]
    array.resize((n + 1, *array.shape[1:]))
    array[n] = frame(n)


def live(path, **how):
    return open_stack(path, live=True, settle=SETTLE, axes=how.pop("axes", None), **how)


def settled(stack):
    stack.refresh()
    time.sleep(SETTLE * 1.1)
    return stack.refresh()


def values(stack):
    return [int(stack.raw(i)[0, 0]) for i in range(stack.n_frames)]


# Folders


def test_files_arrive_in_natural_order_once_they_have_settled(tmp_path):
    folder = tmp_path / "run"
    for i in (0, 1, 10):
        write(folder, i)
    stack = live(folder)
    assert stack.live
    assert values(stack) == [100, 101, 110]
    write(folder, 11)
    assert stack.refresh() == 3
    assert settled(stack) == 4
    assert values(stack)[-1] == 111


def test_a_file_that_still_grows_holds_up_those_behind_it(tmp_path):
    folder = tmp_path / "run"
    write(folder, 0)
    stack = live(folder)
    whole = (folder / "f0.tif").read_bytes()
    write(folder, 2)
    for size in (40, 80, 200, len(whole)):
        (folder / "f1.tif").write_bytes(whole[:size])
        assert stack.refresh() == 1
        time.sleep(SETTLE * 1.1)
    assert stack.refresh() == 3


def test_other_files_and_half_named_ones_are_no_frames(tmp_path):
    folder = tmp_path / "run"
    write(folder, 0)
    stack = live(folder)
    (folder / "notes.txt").write_text("x")
    (folder / ".f1.tif").write_bytes(b"x")
    (folder / "f1.tif.part").write_bytes(b"x")
    assert settled(stack) == 1


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda f: (f / "f1.tif").unlink(), "1 of the 2 frames that were there are gone"),
        (lambda f: write(f, 0, dtype=np.uint8), "its first frame has changed"),
        (lambda f: (f / "f0a.tif").write_bytes(b"x"), "f0a.tif has come .* after later frames"),
        (lambda f: (f / "f2.png").write_bytes(b"x"), "mixes formats"),
        (shutil.rmtree, "cannot read"),
    ],
)
def test_a_folder_that_changes_is_told(tmp_path, harm, words):
    folder = tmp_path / "run"
    write(folder, 0)
    write(folder, 1)
    stack = live(folder)
    harm(folder)
    with pytest.raises(StackError, match=words):
        stack.refresh()
    assert stack.n_frames == 2


@pytest.mark.parametrize("kind", [{"dtype": np.uint8}, {"shape": (8, 20)}])
def test_a_frame_of_another_kind_is_told_when_it_is_read(tmp_path, kind):
    folder = tmp_path / "run"
    write(folder, 0)
    stack = live(folder)
    write(folder, 1, **kind)
    assert settled(stack) == 2
    with pytest.raises(StackError, match="frames must be alike"):
        stack.frame(1)


# Zarr


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_grows_by_whole_frames(tmp_path, zarr_format):
    array = array_of(tmp_path / "run.zarr", zarr_format=zarr_format)
    stack = open_stack(tmp_path / "run.zarr", live=True)
    assert stack.n_frames == 2
    array.resize((3, 16, 20))
    assert stack.refresh() == 2  # a writer resizes first
    array[2, :8] = 102
    assert stack.refresh() == 2  # half of its chunks
    array[2, 8:] = 102
    assert stack.refresh() == 3
    assert values(stack) == [100, 101, 102]


def test_a_zarr_made_at_its_full_size_counts_what_is_filled(tmp_path):
    array = zarr.create_array(tmp_path / "run.zarr", shape=(50, 16, 20), chunks=(1, 16, 20), dtype="uint16")
    with pytest.raises(EmptyImageError, match="no complete frame yet"):
        live(tmp_path / "run.zarr")
    array[0] = frame(0)
    array[1] = frame(1)
    stack = live(tmp_path / "run.zarr")
    assert stack.n_frames == 2
    assert len(stack) == 2
    with pytest.raises(InputError, match="there is no frame 2"):
        stack.raw(2)


def test_a_zarr_frame_that_is_empty_counts_when_the_writer_has_gone_past(tmp_path):
    array = array_of(tmp_path / "run.zarr")
    stack = live(tmp_path / "run.zarr")
    array.resize((4, 16, 20))
    array[2] = 0  # nothing is written
    assert settled(stack) == 2
    array[3] = frame(3)
    assert stack.refresh() == 2  # perhaps it still comes
    assert settled(stack) == 4
    assert values(stack) == [100, 101, 0, 103]


def test_empty_frames_are_not_waited_for_when_the_writer_is_far_ahead(tmp_path):
    array = zarr.create_array(tmp_path / "run.zarr", shape=(40, 16, 20), chunks=(1, 16, 20), dtype="uint16")
    array[0] = frame(0)
    stack = open_stack(tmp_path / "run.zarr", live=True)  # 5 seconds for what is lacking
    for i in range(2, 40, 2):
        array[i] = frame(i)
    assert stack.refresh() > 20


@pytest.mark.parametrize("sharded", [False, True])
def test_chunks_of_several_frames_count_up_to_what_is_written(tmp_path, sharded):
    how = {"shards": (4, 16, 20), "chunks": (1, 16, 20)} if sharded else {"chunks": (4, 16, 20)}
    array = zarr.create_array(tmp_path / "run.zarr", shape=(12, 16, 20), dtype="uint16", **how)
    for i in range(5):
        array[i] = frame(i)
    stack = live(tmp_path / "run.zarr")
    assert stack.n_frames == 5
    array[5] = frame(5)
    assert stack.refresh() == 5
    assert settled(stack) == 6
    for i in range(6, 9):
        array[i] = frame(i)
    stack.refresh()
    assert settled(stack) == 9
    assert values(stack) == [100 + i for i in range(9)]


def test_ome_zarr_channels_and_depths_that_are_not_looked_at_are_not_waited_for(tmp_path):
    axes = [{"name": n} for n in "tczyx"]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    group = zarr.open_group(tmp_path / "run.ome.zarr", mode="w", attributes={"ome": ome})
    array = group.create_array("0", shape=(1, 2, 3, 16, 20), chunks=(1, 1, 1, 16, 20), dtype="uint16")
    array[...] = 7
    stack = live(tmp_path / "run.ome.zarr", at={"z": 1}, channels=1)
    assert (stack.frame_axis, stack.n_frames, stack.frame_shape) == ("t", 1, (16, 20))
    array.resize((2, 2, 3, 16, 20))
    array[1, 0] = 8
    array[1, 1, 0] = 8
    assert settled(stack) == 1
    array[1, 1, 1] = 9
    assert settled(stack) == 2
    assert stack.raw(1).max() == 9


def replaced(path, **how):
    shutil.rmtree(path)
    array_of(path, **how)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda p: zarr.open_array(p).resize((1, 16, 20)), "has 1 frames, but had 2 before"),
        (lambda p: replaced(p, n=0, shape=(16, 24)), "has changed while it was followed"),
        (lambda p: replaced(p, chunks=(1, 16, 20)), "has changed while it was followed"),
        (lambda p: replaced(p, n=4, fill_value=3, attributes={"a": 1}), None),
        (lambda p: (p / "zarr.json").write_text("{"), "cannot read the metadata"),
        (shutil.rmtree, "is gone"),
    ],
)
def test_a_zarr_that_changes_is_told(tmp_path, harm, words):
    array_of(tmp_path / "run.zarr")
    stack = live(tmp_path / "run.zarr")
    harm(tmp_path / "run.zarr")
    if words is None:  # the same pixels, written again: nobody can tell, and nothing is lost
        assert settled(stack) == 4
        return
    with pytest.raises(StackError, match=words):
        stack.refresh()
    assert stack.n_frames == 2


def test_a_zarr_replaced_by_another_of_its_shape_is_told(tmp_path):
    array_of(tmp_path / "run.zarr")
    stack = live(tmp_path / "run.zarr")
    shutil.rmtree(tmp_path / "run.zarr")
    made = array_of(tmp_path / "run.zarr", n=3)
    made[0] = 9
    with pytest.raises(StackError, match="its first frame has changed"):
        stack.refresh()


# Opening


def test_what_is_not_there_yet_is_told_apart_from_what_never_grows(tmp_path):
    for place in ("none", "empty", "run.zarr"):
        if place != "none":
            (tmp_path / place).mkdir()
        with pytest.raises(EmptyImageError):
            live(tmp_path / place)
    zarr.create_array(tmp_path / "none.zarr", shape=(0, 16, 20), chunks=(1, 16, 20), dtype="uint16")
    with pytest.raises(EmptyImageError):
        live(tmp_path / "none.zarr")
    write(tmp_path, 0)
    for source in (tmp_path / "f0.tif", [tmp_path / "f0.tif"], frame(0)):
        with pytest.raises(StackError, match="not followed while it is written"):
            live(source)
    for settle in (-1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="settle is"):
            open_stack(tmp_path, live=True, settle=settle)
    with pytest.raises(InputError, match="settle is"):
        open_stack(tmp_path, settle=1)


def test_a_live_stack_is_the_same_however_long_it_is(tmp_path):
    array = array_of(tmp_path / "run.zarr")
    stack = open_stack(tmp_path / "run.zarr", live=True)
    before = stack.describe()
    append(array)
    stack.refresh()
    assert stack.describe()["identity"] == before["identity"]
    finished = open_stack(tmp_path / "run.zarr")
    assert finished.is_same(before["identity"])
    assert stack.is_same(finished.identity())
    assert finished.identity() != before["identity"]
    assert finished.refresh() == 3
    again = reopen_stack(before)
    assert (again.n_frames, again.live, again.intensity) == (3, True, stack.intensity)
    assert finished.intensity != stack.intensity
    assert finished.taken_as(before).intensity == stack.intensity
    array[0] = 5
    assert not open_stack(tmp_path / "run.zarr").is_same(before["identity"])


def test_a_live_stack_that_became_a_file_is_opened_as_one(tmp_path):
    write(tmp_path / "run", 0)
    write(tmp_path / "run", 1)
    stack = live(tmp_path / "run")
    tifffile.imwrite(
        tmp_path / "run.tif", np.stack([frame(0), frame(1)]), metadata={"axes": "TYX"}, imagej=True
    )
    moved = reopen_stack(stack.describe(), tmp_path / "run.tif")
    assert moved.live
    assert moved.is_same(stack.identity())


# Labels


def test_labels_grow_and_others_see_whole_frames_only(tmp_path):
    layout = ("tyx", (1, 1, 1), (None, None, None))
    labels = create_label_store(tmp_path / "labels.ome.zarr", (1, 16, 20), np.uint32, *layout)
    store_frame(labels, 2, np.full((16, 20), 5))
    assert zarr.open_array(tmp_path / "labels.ome.zarr/0").shape == (1, 16, 20)
    grow_label_store(labels, 3)
    seen = zarr.open_array(tmp_path / "labels.ome.zarr/0")
    assert seen.shape == labels.shape == (3, 16, 20)
    assert (seen[2] == 5).all()
    assert not seen[1].any()
    grow_label_store(labels, 2)
    assert labels.shape[0] == 3
    assert open_label_store(tmp_path / "labels.ome.zarr").shape == (3, 16, 20)

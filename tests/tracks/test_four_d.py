"""Following in four dimensions: what is made of masks, with a predictor that knows the truth."""

from __future__ import annotations

import contextlib
import json

import networkx as nx
import numpy as np
import pytest
from knowing import Oracle
from random_model import random_model

from stacksam.errors import InputError, SessionFileError, StackError, StorageError
from stacksam.io import read_labels
from stacksam.io.lineage import check_lineage, read_lineage
from stacksam.session.prompts import Box, Mask, Point
from stacksam.tracks import VolumeFollower, VolumePrompt, open_volumes

T, Z, SIDE = 4, 7, 48
BIRTH = 2  # of 2 and 3, the daughters of 1


def ball(volume, number, z, y, x, radius):
    """Planes are about twice as far apart as pixels."""
    planes, rows, columns = np.ogrid[:Z, :SIDE, :SIDE]
    volume[6 * (planes - z) ** 2 + (rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = number


def world():
    """A cell that divides, and one that wanders."""
    truth = np.zeros((T, Z, SIDE, SIDE), np.int32)
    for t in range(T):
        if t < BIRTH:
            ball(truth[t], 1, 3, 14, 24, 8)
        else:
            ball(truth[t], 2, 3, 14, 17 - t, 6)
            ball(truth[t], 3, 3, 14, 31 + t, 6)
        ball(truth[t], 4, 3 + t / 4, 34, 12 + 3 * t, 4)  # three planes, carried on one
    return truth


TRUTH = world()


@pytest.fixture
def follower(monkeypatch, tmp_path):
    """Makes followers through a truth."""
    monkeypatch.setattr("stacksam.session.session.Predictor", Oracle)
    monkeypatch.setattr(Oracle, "daughters", {1: (2, 3)})

    def make(prompts, truth=TRUTH, folder="run", **options):
        monkeypatch.setattr(Oracle, "truth", truth)
        images = (truth > 0).astype(np.float32)
        volumes = open_volumes(images, axes="tzyx", spacing=(2, 1, 1), intensity=(0, 1))
        return VolumeFollower(volumes, random_model(), prompts, tmp_path / folder, **options)

    return make


def masks(time, *ids, truth=TRUTH):
    """A mask prompt of each object on its middle plane."""
    found = []
    for number in ids:
        planes = np.flatnonzero((truth[time] == number).any(axis=(1, 2)))
        z = int(planes[len(planes) // 2])
        found.append(VolumePrompt(time, Mask(z, number, truth[time, z] == number)))
    return found


def told(updates):
    """Events that are not the common ones."""
    return [(u.time, u.object_id, u.event) for u in updates if u.event not in ("prompted", "carried")]


def test_objects_are_followed_in_depth_and_time_and_through_a_division(follower):
    run = follower(masks(0, 1, 4))
    updates = list(run.follow())
    labels = run.labels.array[...]
    names = {1: 1, 4: 4} | {int(labels[BIRTH][TRUTH[BIRTH] == i][0]): i for i in (2, 3)}
    assert sorted(names) == [1, 4, 5, 6]
    renamed = np.vectorize(lambda i: names.get(i, i))(labels)
    np.testing.assert_array_equal(renamed, TRUTH)
    assert set(run.lineage.edges) == {(1, 5), (1, 6)}
    spans = {
        i: (int(on.min()), int(on.max()))
        for i in names
        for on in [np.flatnonzero((labels == i).any((1, 2, 3)))]
    }
    check_lineage(run.lineage, spans)
    assert told(updates) == [(BIRTH, 5, "born"), (BIRTH, 6, "born")]
    for update in updates:  # they tell what is on disk
        z0, y0, x0, z1, y1, x1 = update.bbox
        shown = labels[update.time, z0:z1, y0:y1, x0:x1] == update.object_id
        np.testing.assert_array_equal(shown, update.mask)
        assert update.mask.sum() == (labels[update.time] == update.object_id).sum()
    summary = run.write_summary(seconds=1)  # what is read by others
    assert json.loads((run.folder / "summary.json").read_text()) == summary
    assert summary["complete"]
    assert summary["divisions"] == 1
    assert nx.utils.graphs_equal(read_lineage(run.folder / "lineage.txt"), run.lineage)
    with read_labels(run.folder / "labels.ome.zarr") as image:
        assert image.axes == "tzyx"
        assert [image.scale[axis] for axis in "tzyx"] == [1, 2, 1, 1]


def test_clicks_and_boxes_do_as_well_on_any_plane(follower):
    said = [VolumePrompt(1, Point(4, 4, (34.0, 15.0)))]
    run = follower(said, direction="both")
    list(run.follow())
    np.testing.assert_array_equal(run.labels.array[...] == 4, TRUTH == 4)


def test_a_run_that_was_stopped_is_gone_on_with(follower):
    steps = 1
    whole = follower(masks(0, 1, 4), folder="whole")
    expected = list(whole.follow())
    stopped = follower(masks(0, 1, 4))
    generator = stopped.follow()
    done = []
    for update in generator:
        done.append(update)
        if update.time == steps:
            generator.close()
            break
    with (stopped.folder / "time_points.jsonl").open("a") as log:
        log.write('{"time": 3, "ste')  # torn by a kill
    with contextlib.suppress(KeyboardInterrupt), stopped.labels.writing(steps + 1) as volume:
        volume[0, 0] = 99
        raise KeyboardInterrupt
    again = follower(masks(0, 1, 4))
    assert again.steps_left == T - 1 - steps
    rest = list(again.follow())
    assert {u.time for u in rest} == set(range(steps + 1, T))
    assert told(u for u in expected if u.time > steps) == told(rest)
    np.testing.assert_array_equal(again.labels.array[...], whole.labels.array[...])
    assert nx.utils.graphs_equal(again.lineage, whole.lineage)
    log = "time_points.jsonl"
    assert (again.folder / log).read_text() == (whole.folder / log).read_text()


def test_a_lost_object_is_told_and_returns(follower):
    truth = TRUTH.copy()
    truth[2][truth[2] == 4] = 0
    run = follower(masks(0, 4), truth=truth)
    updates = list(run.follow())
    assert told(updates) == [(2, 4, "lost"), (3, 4, "returned")]
    lost = next(u for u in updates if u.event == "lost")
    assert lost.mask.size == 0
    assert lost.score == 0
    np.testing.assert_array_equal(run.labels.array[...] == 4, truth == 4)
    [one] = run.summary()["objects"]
    assert one["lost_on"] == [2]
    assert one["seen_on"] == T - 1


def test_it_is_given_up_after_some_time_points(follower):
    truth = TRUTH.copy()
    truth[1:3][truth[1:3] == 4] = 0
    lost = [(1, 4, "lost"), (2, 4, "lost")]
    assert told(follower(masks(0, 4), truth=truth, patience=1, folder="a").follow()) == lost
    found = told(follower(masks(0, 4), truth=truth, patience=2, folder="b").follow())
    assert found == [*lost, (3, 4, "returned")]


def test_back_in_time_daughters_become_their_parent(follower):
    run = follower(masks(T - 1, 2, 3, 4))
    updates = list(run.follow())
    labels = run.labels.array[...]
    names = np.array([0, 5, 2, 3, 4])
    np.testing.assert_array_equal(labels, names[TRUTH])
    assert set(run.lineage.edges) == {(5, 2), (5, 3)}
    assert told(updates) == [(BIRTH - 1, 5, "born")]


def test_objects_of_the_other_direction_keep_their_voxels(follower):
    """One is followed from the first time point, the other back from the last: they are the same cell."""
    run = follower([*masks(0, 4), VolumePrompt(T - 1, Box(4, 9, (28.0, 18.0, 40.0, 30.0)))])
    list(run.follow())
    np.testing.assert_array_equal(run.labels.array[: T - 1] == 4, TRUTH[: T - 1] == 4)


def test_two_objects_that_claim_the_same_cell_do_not_share_it(follower):
    z = 3
    half = TRUTH[0, z] == 4
    upper = half & (np.arange(SIDE)[:, None] < 34)
    run = follower([VolumePrompt(0, Mask(z, 4, half & ~upper)), VolumePrompt(0, Mask(z, 5, upper))])
    updates = list(run.follow())
    events = told(updates)
    assert len({i for _, i, event in events if event == "lost"}) == 1
    assert min(t for t, _, _ in events) == 1


def test_a_prompt_at_a_later_time_point_corrects(follower):
    said = [*masks(0, 4), VolumePrompt(2, Point(3, 4, (14.0, 15.0)))]
    run = follower(said)
    list(run.follow())
    labels = run.labels.array[...]
    np.testing.assert_array_equal(labels[:2] == 4, TRUTH[:2] == 4)
    assert (labels[2] == 4)[TRUTH[2] == 2].all()


def test_divisions_can_be_left_out(follower):
    run = follower(masks(0, 1), threshold=2)
    list(run.follow())
    assert not run.lineage.edges
    np.testing.assert_array_equal(run.labels.array[...] == 1, np.isin(TRUTH, (1, 2, 3)))


def test_a_flicker_is_no_division(follower):
    truth = TRUTH.copy()
    for t in range(T):
        truth[t][np.isin(truth[t], (1, 2, 3))] = 0
        ball(truth[t], 1, 3, 14, 24, 8)
    truth[2][:, :, 23:26][truth[2][:, :, 23:26] == 1] = 0
    run = follower(masks(0, 1), truth=truth)
    list(run.follow())
    assert not run.lineage.edges
    np.testing.assert_array_equal(run.labels.array[...] == 1, truth == 1)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_direction_in_time(follower, direction):
    run = follower(masks(2, 4), direction=direction)
    list(run.follow())
    seen = np.flatnonzero((run.labels.array[...] == 4).any(axis=(1, 2, 3))).tolist()
    assert seen == {"forward": [2, 3], "backward": [0, 1, 2]}[direction]
    assert run.steps_left == 0


def test_one_time_point_is_a_volume(follower):
    run = follower(masks(0, 1, 4), truth=TRUTH[:1])
    list(run.follow())
    np.testing.assert_array_equal(run.labels.array[...], TRUTH[:1])


def test_another_run_in_the_same_folder_is_an_error(follower, tmp_path):
    list(follower(masks(0, 4)).follow())
    with pytest.raises(SessionFileError, match=r"other prompts; repeat that one"):
        follower(masks(0, 1))
    with pytest.raises(SessionFileError, match=r"other options"):
        follower(masks(0, 4), memory=1)
    (tmp_path / "other" / "labels.ome.zarr").mkdir(parents=True)
    with pytest.raises(StorageError, match="no run tells what it is"):
        follower(masks(0, 4), folder="other")
    log = tmp_path / "run" / "time_points.jsonl"
    log.write_text("nonsense\n" + log.read_text())
    with pytest.raises(SessionFileError, match="line 1 of"):
        follower(masks(0, 4))


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        (VolumePrompt(T, Point(0, 1, (1.0, 1.0))), "time 4 is outside the stack; time points are 0 to 3"),
        (VolumePrompt(0, Point(Z, 1, (1.0, 1.0))), "plane 7 is outside the stack; planes are 0 to 6"),
        (VolumePrompt(0, Point(0, 1, (1.0, 99.0))), r"point \(y=1, x=99\) lies outside the frame"),
        (VolumePrompt(0, Point(0, 0, (1.0, 1.0))), "object id 0 is not a label value"),
        (Point(0, 1, (1.0, 1.0)), "a prompt is a Point; use VolumePrompt"),
    ],
)
def test_prompts_that_cannot_be_used(follower, prompt, match, tmp_path):
    with pytest.raises(InputError, match=match):
        follower([prompt])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"direction": "up"}, "direction is 'up'"),
        ({"memory": 0}, "memory is 0"),
        ({"patience": -1}, "patience -1"),
        ({"threshold": float("nan")}, "threshold nan"),
    ],
)
def test_options_out_of_range(follower, options, match):
    with pytest.raises(InputError, match=match):
        follower(masks(0, 4), **options)


def test_no_prompts_are_an_error(follower):
    with pytest.raises(InputError, match="there are no prompts"):
        follower([])


def test_a_stack_without_time_or_depth_is_an_error():
    images = np.zeros((4, 32, 32), np.float32)
    with pytest.raises(StackError, match=r"no axis z \(depth\).*needs both"):
        open_volumes(images, axes="tyx")
    with pytest.raises(StackError, match=r"no axis t \(time\)"):
        open_volumes(images, axes="zyx")
    with pytest.raises(InputError, match=r"spacing is \(1, 2\)"):
        open_volumes(images[None], axes="tzyx", spacing=(1, 2))
    with pytest.raises(InputError, match=r"spacing names axes \['q'\]"):
        open_volumes(images[None], axes="tzyx", spacing={"q": 2})


@pytest.mark.parametrize(
    ("spacing", "told"), [(None, False), ((1, 1, 1), True), ({"z": 2}, True), ({"t": 30}, False)]
)
def test_volumes_know_whether_the_step_between_planes_was_told(spacing, told):
    with open_volumes(np.zeros((2, 3, 8, 8), np.uint8), intensity=(0, 255), spacing=spacing) as volumes:
        assert volumes.spacing_told is told
        assert volumes.z_stack(1).spacing_told is told

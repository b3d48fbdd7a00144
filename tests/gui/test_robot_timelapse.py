"""A person follows cells of the sample time-lapse, corrects one, accepts, comes back later, and exports."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from robot import SHIFT, Robot, deepest, iou

from stacksam import assets, replay
from stacksam.plugin.contributions import sample_timelapse
from stacksam.plugin.exporting import FileFormat
from stacksam.session.models import load_model
from stacksam.session.prompts import Point
from stacksam.session.session import Session
from stacksam.session.stack import open_stack

CELLS = {1: 1, 2: 3, 3: 7}  # object id -> label in the truth; a neighbour of the second one divides
OWN = 2  # the object that is corrected


@pytest.fixture(scope="module")
def truth():
    path = assets.sample("timelapse")
    return tifffile.imread(path.with_name("timelapse_labels.tif"))


def mean_iou(labels, truth) -> float:
    """Over objects and the frames that they are on."""
    return float(
        np.mean(
            [
                iou(labels[frame] == own, truth[frame] == label)
                for own, label in CELLS.items()
                for frame in range(len(labels))
                if (truth[frame] == label).any()
            ]
        )
    )


def click_cells(robot: Robot, labels: np.ndarray, cells: dict[int, int]) -> None:
    """Click cells of the frame that is shown, a new object each."""
    for object_id, label in cells.items():
        yx = deepest(labels == label)
        before = robot.color_at(yx)
        if object_id > 1:
            robot.press("N")
        assert robot.dock.controller.current == object_id
        robot.click(yx)
        robot.wait(lambda own=object_id: robot.seen(own).any())
        robot.settle()
        assert iou(robot.seen(object_id), labels == label) > 0.7
        robot.see_color(yx, object_id, before)


def counts(robot: Robot, of: str) -> dict[int, int]:
    return {row.object_id: getattr(row, of) for row in robot.dock.controller.state.objects}


def test_cells_are_clicked_and_followed(robot, truth):
    """What a first minute holds, on a part of the sample."""
    ((data, about, _),) = sample_timelapse()
    about.pop("metadata")  # which says that the layer is the whole file
    robot.viewer.add_image(data[:5], **about)
    robot.start()
    robot.show_frame(0)
    click_cells(robot, truth[0], {1: 1, 2: 7})
    assert robot.n_shown() == (2, 0)
    robot.follow()
    assert counts(robot, "n_frames") == {1: 5, 2: 5}
    robot.show_frame(4)
    for object_id, label in ((1, 1), (2, 7)):
        assert iou(robot.seen(object_id), truth[4] == label) > 0.8
        robot.see_color(deepest(truth[4] == label), object_id)
    robot.press("Control-Z")
    robot.wait_for_word("Undone: following")
    robot.settle()
    assert counts(robot, "n_frames") == {1: 1, 2: 1}  # the whole pass, whatever came between its steps
    assert not robot.seen(1).any()
    labels = robot.labels()
    robot.close_dock()
    assert [layer.name for layer in robot.viewer.layers] == ["timelapse"]
    robot.open_dock()
    robot.start()
    assert np.array_equal(robot.labels(), labels)
    assert robot.n_shown() == (2, 0)


@pytest.mark.slow
def test_a_person_works_through_the_sample(robot, truth, tmp_path):
    ((data, about, _),) = sample_timelapse()
    robot.viewer.add_image(data, **about)
    robot.start()
    robot.show_frame(0)
    click_cells(robot, truth[0], CELLS)
    stop_and_resume(robot)
    first = robot.labels()
    later = correct_a_cell(robot, truth)
    locked = accept_frames(robot, later)
    corrected = robot.labels()
    undo_and_redo(robot, first, corrected, len(locked))
    prompts, folder = robot.prompts, robot.session.folder
    come_back(robot, corrected, prompts, len(locked))
    exported = [
        export(robot, tmp_path / "tiff", FileFormat.TIFF),
        export(robot, tmp_path / "zarr", FileFormat.OME_ZARR),
    ]
    for labels in exported:
        assert np.array_equal(labels, corrected)
    robot.close_dock()
    with replay(folder / "session.json") as again:
        assert np.array_equal(again.labels[...], corrected)
        assert again.prompts == prompts
    found, alone = mean_iou(corrected, truth), mean_iou(headless(prompts), truth)
    assert found > 0.7
    assert found == pytest.approx(alone, abs=1e-3)


def stop_and_resume(robot: Robot) -> None:
    """Follow, press Escape half way, then Stop, then follow to the end: nothing is done twice."""
    done = dict.fromkeys(CELLS, 1)
    for stop in (lambda: robot.press("Escape"), lambda: robot.push(robot.dock.follow_part.stop)):
        robot.push(robot.dock.follow_part.go)
        robot.wait(lambda n=done[1] + 5: len(robot.session.frames_of(1)) >= n)
        stop()
        robot.wait_for_word("Stopped")
        robot.followed()
        before, done = done, counts(robot, "n_frames")
        assert all(before[own] < done[own] < 24 for own in CELLS)
    kept = robot.labels()
    robot.follow()
    assert counts(robot, "n_frames") == dict.fromkeys(CELLS, 24)
    for frame in range(min(done.values())):
        assert np.array_equal(robot.labels()[frame], kept[frame])


def correct_a_cell(robot: Robot, truth: np.ndarray) -> int:
    """Go to the worst frame of an object by the strip, and click where it is wrong; that frame."""
    label = CELLS[OWN]
    masks = robot.labels() == OWN
    later = min(range(1, 20), key=lambda f: iou(masks[f], truth[f] == label))
    others = [robot.labels() == other for other in CELLS if other != OWN]
    strip = robot.dock.review_part.strip.canvas
    robot.reach(strip)
    robot.click_in(strip, strip.frame_rect(OWN, later).center())
    assert robot.frame == later
    assert robot.dock.controller.current == OWN
    there, before = truth[later] == label, robot.seen(OWN)
    extra, missing = before & ~there, there & ~before
    positive = missing.sum() > extra.sum()
    wrong = deepest(missing if positive else extra)
    if not positive:
        robot.press("T")
    robot.click(wrong)
    robot.wait(lambda: len(robot.prompts) == 4)
    robot.settle()
    assert [p.positive for p in robot.prompts if p.frame == later] == [positive]
    assert robot.seen(OWN)[round(wrong[0]), round(wrong[1])] == positive
    if iou(before, there) < 0.8:
        assert iou(robot.seen(OWN), there) > iou(before, there) + 0.1
    stale = counts(robot, "n_stale")
    assert stale == {**dict.fromkeys(CELLS, 0), OWN: 23 - later}
    assert "Press <b>Follow</b>" in robot.dock.next_step.text()
    robot.follow()
    assert counts(robot, "n_stale") == dict.fromkeys(CELLS, 0)
    now = [robot.labels() == other for other in CELLS if other != OWN]
    # Others keep their results; only who is on top may change, where masks overlap.
    for mask, kept in zip(now, others, strict=True):
        assert iou(mask, kept) > 0.98
    return later


def accept_frames(robot: Robot, later: int) -> tuple[int, ...]:
    """Accept the frame that is shown by key, and a stretch by the button; the frames."""
    robot.press("K")
    robot.wait(lambda: robot.session.locked_frames(OWN) == (later,))
    strip = robot.dock.review_part.strip.canvas
    first = later + 1
    ends = [strip.frame_rect(OWN, frame).center() for frame in (first, first + 3)]
    robot.reach(strip)
    robot.drag_in(strip, ends, SHIFT)
    assert robot.dock.review_part.span() == (first, first + 3)
    robot.push(robot.dock.review_part.accept)
    locked = tuple(range(later, first + 4))
    robot.wait(lambda: robot.session.locked_frames(OWN) == locked)
    robot.settle()
    assert counts(robot, "n_locked") == {1: 0, OWN: len(locked), 3: 0}
    return locked


def undo_and_redo(robot: Robot, first: np.ndarray, corrected: np.ndarray, n_locked: int) -> None:
    """Back over two acceptances, a pass and a prompt, and forth again."""
    for name in ("acceptance", "acceptance", "following", "prompt"):
        robot.press("Control-Z")
        robot.wait_for_word(f"Undone: {name}")
    robot.settle()
    assert np.array_equal(robot.labels(), first)
    assert robot.n_shown() == (3, 0)
    assert counts(robot, "n_locked") == dict.fromkeys(CELLS, 0)
    for name in ("prompt", "following", "acceptance", "acceptance"):
        robot.press("Control-Shift-Z")
        robot.wait_for_word(f"Done again: {name}")
    robot.settle()
    assert np.array_equal(robot.labels(), corrected)
    assert robot.n_shown() == (4, 0)
    assert counts(robot, "n_locked") == {1: 0, OWN: n_locked, 3: 0}


def come_back(robot: Robot, labels: np.ndarray, prompts: tuple, n_locked: int) -> None:
    """Close the dock, open it again, and go on where it was left."""
    robot.close_dock()
    assert [layer.name for layer in robot.viewer.layers] == ["timelapse"]
    robot.open_dock()
    robot.start()
    robot.wait_for_word("Continued where it was left: 3 objects")
    assert np.array_equal(robot.labels(), labels)
    assert robot.prompts == prompts
    assert robot.n_shown() == (4, 0)
    assert counts(robot, "n_locked") == {1: 0, OWN: n_locked, 3: 0}


def export(robot: Robot, folder, file_format: FileFormat) -> np.ndarray:
    robot.export(folder, file_format)
    (written,) = folder.iterdir()
    if file_format == FileFormat.TIFF:
        return tifffile.imread(written)
    return np.asarray(zarr.open_group(written, mode="r")["0"])


def headless(prompts: tuple) -> np.ndarray:
    """Labels that a session without a window makes of the same prompts: first ones, then the correction."""
    with Session(open_stack(assets.sample("timelapse")), load_model()) as session:
        for now in (True, False):
            for prompt in prompts:
                assert isinstance(prompt, Point)
                if (prompt.frame == 0) == now:
                    session.add(prompt)
            for _ in session.propagate():
                pass
        return session.labels[...]

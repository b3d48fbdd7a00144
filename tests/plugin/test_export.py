"""What the export panel announces is what is written, and nothing is ever overwritten unasked."""

from __future__ import annotations

import csv
import html
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtWidgets import QMessageBox

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model

from random_model import DiscPredictor, random_model

from stacksam import Box, Point, Session, open_stack
from stacksam.errors import InputError, StorageError
from stacksam.io import open_image, read_labels
from stacksam.io.ctc import read_ctc
from stacksam.io.formats import FORMATS
from stacksam.plugin.export import ExportPanel
from stacksam.plugin.export_formats import Origin, offered, place_of_format, title
from stacksam.plugin.exporting import (
    ExportCancelledError,
    ExportFailedError,
    FileFormat,
    What,
    plan_export,
    run_export,
    size_text,
)

SHAPE = (5, 40, 48)


@pytest.fixture
def session(monkeypatch):
    """Three discs, two of them overlapping, on a stack with pixel size and time."""
    monkeypatch.setattr("stacksam.session.session.Predictor", DiscPredictor)
    stack = open_stack(
        np.random.default_rng(0).random(SHAPE, np.float32),
        axes="tyx",
        spacing=(5.0, 0.5, 0.5),
        units=("minute", "micrometer", "micrometer"),
    )
    with Session(stack, random_model()) as opened:
        opened.add(Point(1, 1, (12.0, 12.0)), Point(1, 2, (14.0, 17.0)), Point(2, 300, (26.0, 34.0)))
        for _ in opened.propagate("forward"):
            pass
        yield opened


def planned(session, folder, *what, object_ids=None, **options):
    return plan_export(
        stack_name="cells",
        n_frames=session.stack.n_frames,
        frame_shape=session.stack.frame_shape,
        object_ids=session.object_ids if object_ids is None else object_ids,
        what=what or (What.LABELS, What.MASKS, What.TRACKS),
        folder=folder,
        **options,
    )


def labels_of(session):
    return np.stack([session.label_frame(i) for i in range(session.stack.n_frames)])


def frames_in(path):
    with read_labels(path) as image:
        return np.stack([image.read(t=i) for i in range(SHAPE[0])])


def everything(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if ".ome.zarr/" not in str(p))


# Planning


def test_the_plan_names_every_file(session, tmp_path):
    plan = planned(session, tmp_path)
    names = [target.path.relative_to(tmp_path).as_posix() for target in plan.targets]
    masks = [f"cells-masks/mask_{i}.tif" for i in ("001", "002", "300")]
    assert names == ["cells-masks.tif", *masks, "cells-tracks.csv"]
    assert plan.nbytes >= 5 * 40 * 48 * (2 + 3)
    assert plan.describe()[0] == ("cells-masks.tif", "labels of 3 objects, 5 frames, 16-bit")
    assert len(plan.describe()) == 3
    assert everything(tmp_path) == [], "planning writes nothing"


@pytest.mark.parametrize(("largest", "bits"), [(65535, 16), (65536, 32)])
def test_labels_have_room_for_the_largest_id(session, tmp_path, largest, bits):
    assert planned(session, tmp_path, object_ids=[1, largest]).dtype.itemsize * 8 == bits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"object_ids": ()}, "no objects"),
        ({"object_ids": (0,)}, "ids are 1 and up"),
        ({"what": ()}, "nothing was chosen"),
        ({"folder": " "}, "no folder"),
        ({"n_frames": 0}, "0 frames"),
    ],
)
def test_a_plan_that_makes_no_sense_is_an_error(tmp_path, changes, message):
    given = {
        "stack_name": "a", "n_frames": 2, "frame_shape": (4, 4), "object_ids": (1,), "what": (What.LABELS,),
        "folder": tmp_path,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        plan_export(**{**given, **changes})


def test_stack_names_become_file_names(session, tmp_path):
    plan = plan_export(
        stack_name="a/b: c?",
        n_frames=1,
        frame_shape=(2, 2),
        object_ids=[1],
        what=[What.LABELS],
        folder=tmp_path,
    )
    assert plan.targets[0].path.parent == tmp_path
    assert plan.targets[0].path.name == "a_b_ c_-masks.tif"


@pytest.mark.parametrize(
    ("nbytes", "text"), [(12, "12 bytes"), (1500, "1.5 kB"), (31.4e6, "31 MB"), (2e9, "2.0 GB")]
)
def test_sizes_are_said_as_people_say_them(nbytes, text):
    assert size_text(nbytes) == text


# Writing


@pytest.mark.parametrize("file_format", list(FileFormat))
def test_files_hold_what_the_session_shows(session, tmp_path, file_format):
    plan = planned(session, tmp_path / "new" / "folder", file_format=file_format)
    steps = []
    files = run_export(plan, session, lambda done, total: steps.append((done, total)))

    assert files == [target.path for target in plan.targets]
    assert steps == [(i + 1, plan.steps) for i in range(plan.steps)]
    np.testing.assert_array_equal(frames_in(files[0]), labels_of(session))
    for path, object_id in zip(files[1:4], session.object_ids, strict=True):
        masks = np.stack([session.mask(object_id, i) for i in range(SHAPE[0])])
        assert masks.any()
        np.testing.assert_array_equal(frames_in(path), np.where(masks, 255, 0))
    for path in files[:4]:
        with open_image(path) as image:
            assert image.axes.lower() == "tyx"
            assert [image.scale[axis] for axis in "tyx"] == pytest.approx([5.0, 0.5, 0.5])
            assert [image.units[axis] for axis in "tyx"] == ["minute", "micrometer", "micrometer"]


def test_only_the_chosen_objects_are_written(session, tmp_path):
    labels = frames_in(run_export(planned(session, tmp_path, What.LABELS, object_ids=[2]), session)[0])
    np.testing.assert_array_equal(labels, np.where(labels_of(session) == 2, 2, 0))
    assert (labels == 2).any()


def test_ids_beyond_16_bits_survive(session, tmp_path):
    session.add(Box(0, 70001, (2.0, 2.0, 9.0, 9.0)))
    path = run_export(planned(session, tmp_path, What.LABELS), session)[0]
    labels = frames_in(path)
    assert labels.dtype.itemsize == 4
    np.testing.assert_array_equal(labels, labels_of(session))


def test_the_table_has_a_row_for_each_frame_that_shows_an_object(session, tmp_path):
    path = run_export(planned(session, tmp_path, What.TRACKS), session)[0]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["track_id", "frame", "y", "x", "area"]
    expected = [(i, f) for i in session.object_ids for f in session.frames_of(i) if session.mask(i, f).any()]
    assert [(int(r["track_id"]), int(r["frame"])) for r in rows] == expected
    for r in rows:
        mask = session.mask(int(r["track_id"]), int(r["frame"]))
        y, x = np.argwhere(mask).mean(0)
        assert (float(r["y"]), float(r["x"])) == pytest.approx((y, x), abs=1e-3)
        assert int(r["area"]) == mask.sum()
        assert float(r["t_minute"]) == 5 * int(r["frame"])
        assert float(r["x_micrometer"]) == pytest.approx(x / 2, rel=1e-4)
        assert float(r["area_micrometer2"]) == pytest.approx(mask.sum() / 4)


def test_nothing_is_written_where_one_file_exists(session, tmp_path):
    taken = tmp_path / "cells-tracks.csv"
    taken.write_text("mine")
    plan = planned(session, tmp_path)
    assert plan.existing() == (taken,)
    with pytest.raises(StorageError, match=r"cells-tracks\.csv exists already"):
        run_export(plan, session)
    assert everything(tmp_path) == ["cells-tracks.csv"]
    assert taken.read_text() == "mine"

    run_export(replace(plan, overwrite=True), session)
    assert taken.read_text().startswith("track_id")


def test_files_that_may_be_replaced_are(session, tmp_path):
    for file_format in FileFormat:
        first = run_export(planned(session, tmp_path, What.LABELS, file_format=file_format), session)
        again = planned(session, tmp_path, What.LABELS, file_format=file_format, overwrite=True)
        assert run_export(again, session) == first
        np.testing.assert_array_equal(frames_in(first[0]), labels_of(session))


@pytest.mark.parametrize("stop", [1, 7, 12, 22])
def test_cancelling_leaves_complete_files_only(session, tmp_path, stop):
    plan = planned(session, tmp_path)
    assert plan.steps == 5 * (1 + 3) + 3
    with pytest.raises(ExportCancelledError) as caught:
        run_export(plan, session, lambda done, total: done < stop)
    complete = caught.value.files
    assert len(complete) == min((stop - 1) // 5, 4)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(complete)


def test_a_folder_that_was_there_stays_when_nothing_was_written(session, tmp_path):
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", tmp_path / "new" / "below"):
        with pytest.raises(ExportCancelledError):
            run_export(planned(session, folder), session, lambda *_: False)
    assert everything(tmp_path) == ["mine"]


def test_who_fails_tells_what_was_written_before(session, tmp_path, panel):
    (tmp_path / "cells-tracks.csv").mkdir()
    with pytest.raises(ExportFailedError, match="cannot write") as caught:
        run_export(planned(session, tmp_path, overwrite=True), session)
    assert [path.exists() for path in caught.value.files] == [True] * 4
    panel.show()
    panel.failed(str(caught.value), caught.value.files)
    assert "4 files had been written and stay" in panel._result.text()
    assert panel._open.isVisible()


def test_a_folder_that_cannot_be_made_is_told(session, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot make the folder"):
        run_export(planned(session, tmp_path / "file" / "below"), session)


def test_a_table_that_cannot_be_written_leaves_nothing(session, tmp_path):
    (tmp_path / "cells-tracks.csv").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        run_export(planned(session, tmp_path, What.TRACKS, overwrite=True), session)
    assert everything(tmp_path) == ["cells-tracks.csv"]


def test_a_plan_that_the_session_has_left_behind_is_an_error(session, tmp_path):
    plan = planned(session, tmp_path)
    with pytest.raises(InputError, match="plan it anew"):
        run_export(replace(plan, n_frames=4), session)
    session.remove_object(2)
    with pytest.raises(InputError, match="object 2 is gone"):
        run_export(plan, session)
    assert everything(tmp_path) == []


# The panel


@pytest.fixture
def panel(qtbot, tmp_path):
    made = ExportPanel()
    qtbot.addWidget(made)
    made.resize(320, 480)
    made.show()
    made.set_context("cells", 60, (512, 512), (1, 2, 3), tmp_path)
    made.asked = []
    made.export_requested.connect(made.asked.append)
    return made


def said(panel):
    return panel._text.text().replace("&#8203;", "")


def choose(panel, *what):
    for kind, box in panel._what.items():
        box.setChecked(kind in what)


def test_the_panel_says_beforehand_what_it_will_write(panel, tmp_path):
    assert "labels of 3 objects, 60 frames, 16-bit" in said(panel)
    assert "cells-masks.tif" in said(panel)
    assert str(tmp_path) in said(panel)
    assert "up to 31 MB" in said(panel)
    choose(panel, What.LABELS, What.MASKS, What.TRACKS)
    panel._format.setCurrentIndex(1)
    assert "Writes 5 files" in said(panel)
    assert "cells-masks.ome.zarr" in said(panel)
    assert panel._go.text() == "Export 5 files"
    choose(panel, What.TRACKS)
    assert "cells-tracks.csv" in said(panel)
    assert not panel._format.isEnabled(), "a table has no image format"


def test_the_panel_gives_the_plan_that_it_showed(panel, qtbot, tmp_path):
    choose(panel, What.LABELS, What.TRACKS)
    panel.set_selected((3, 2, 99))
    panel._some.setChecked(True)
    panel._format.setCurrentIndex(1)
    qtbot.mouseClick(panel._go, Qt.MouseButton.LeftButton)
    (plan,) = panel.asked
    assert plan.object_ids == (2, 3)
    assert plan.file_format == FileFormat.OME_ZARR
    assert [t.path.name for t in plan.targets] == ["cells-masks.ome.zarr", "cells-tracks.csv"]
    assert not plan.overwrite


def test_the_selection_falls_back_to_all_objects(panel):
    panel.set_selected((2,))
    panel._some.setChecked(True)
    panel.set_selected(())
    assert panel._every.isChecked()
    assert panel.plan().object_ids == (1, 2, 3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (choose, "Choose what to export"),
        (lambda p: (p._folder.clear(), p._refresh()), "Choose a folder"),
        (lambda p: p.set_context("cells", 60, (8, 8), (), "x"), "no objects yet"),
        (lambda p: p.set_context("", 0, (0, 0), (), "x"), "Choose an image"),
    ],
)
def test_what_is_missing_is_said_in_place_of_the_button(panel, spoil, message):
    spoil(panel)
    assert message in said(panel)
    assert not panel._go.isEnabled()


@pytest.mark.parametrize("agreed", [True, False])
def test_replacing_files_is_asked_for(panel, qtbot, tmp_path, monkeypatch, agreed):
    (tmp_path / "cells-masks.tif").touch()
    panel._refresh()
    assert "1 file exists already" in said(panel)
    asked = []
    monkeypatch.setattr(panel, "_may_replace", lambda paths: asked.append(paths) or agreed)
    qtbot.mouseClick(panel._go, Qt.MouseButton.LeftButton)
    assert asked == [(tmp_path / "cells-masks.tif",)]
    assert [plan.overwrite for plan in panel.asked] == ([True] if agreed else [])


@pytest.mark.parametrize("answer", ["Replace", "Cancel"])
def test_the_question_names_the_files_and_takes_no_for_an_answer(panel, tmp_path, monkeypatch, answer):
    shown = []

    def press(box):
        shown.append(box.informativeText())
        next(b for b in box.buttons() if b.text().replace("&", "") == answer).click()

    monkeypatch.setattr(QMessageBox, "exec", press)
    assert panel._may_replace([tmp_path / f"{i}.tif" for i in range(7)]) is (answer == "Replace")
    assert shown == ["0.tif\n1.tif\n2.tif\n3.tif\n4.tif\nand 2 more\n\nReplace them?"]


def test_a_folder_that_the_user_chose_is_kept(panel, tmp_path):
    panel.set_context("other", 5, (8, 8), (1,), tmp_path / "a")
    assert panel.plan().folder == tmp_path / "a"
    panel._folder.setText(str(tmp_path / "mine"))
    panel.set_context("third", 5, (8, 8), (1,), tmp_path / "b")
    assert panel.plan().folder == tmp_path / "mine"


def test_typing_a_folder_changes_the_text(panel, qtbot, tmp_path):
    panel._folder.setText(str(tmp_path / "elsewhere"))
    qtbot.waitUntil(lambda: f"{tmp_path / 'elsewhere'} (a new folder)" in said(panel), timeout=2000)


def test_progress_and_end_of_an_export(panel, qtbot, tmp_path, monkeypatch):
    qtbot.mouseClick(panel._go, Qt.MouseButton.LeftButton)
    assert panel._bar.isVisible()
    assert not panel._go.isVisible()
    panel.set_progress(30, 60)
    assert (panel._bar.value(), panel._bar.maximum()) == (30, 60)
    with qtbot.waitSignal(panel.cancel_requested, timeout=1000):
        qtbot.mouseClick(panel._cancel, Qt.MouseButton.LeftButton)
    assert not panel._cancel.isEnabled()
    panel.cancelled([])
    assert "Nothing was written" in panel._result.text()
    assert panel._go.isVisible()

    panel.set_progress(1, 60)
    assert panel._cancel.isEnabled()
    panel.finished([tmp_path / "cells-masks.tif", tmp_path / "cells-masks" / "mask_001.tif"])
    assert "2 files written" in panel._result.text()
    opened = []
    monkeypatch.setattr("stacksam.plugin.export.QDesktopServices.openUrl", opened.append)
    qtbot.mouseClick(panel._open, Qt.MouseButton.LeftButton)
    assert os.path.samefile(opened[0].toLocalFile(), tmp_path)

    panel.set_progress(1, 60)
    panel.failed("cannot write <x>: the disk is full")
    assert "Cannot write &lt;x&gt;: the disk is full" in panel._result.text().replace("&#8203;", "")
    assert not panel._open.isVisible()


@pytest.mark.parametrize("width", [320, 400])
def test_nothing_is_cut_in_a_narrow_dock(panel, qtbot, width):
    long = "experiment_" * 12
    panel.set_context(long, 60, (512, 512), (1, 2, 70000), f"/{long}/{long}")
    choose(panel, *What)
    panel.failed(f"cannot write /{long}/{long}.tif: the disk is full")
    panel.resize(width, 900)
    assert panel.minimumSizeHint().width() <= width
    for label in (panel._text, panel._result):
        assert panel.rect().contains(QRect(label.mapTo(panel, QPoint(0, 0)), label.size()))
        assert label.heightForWidth(label.width()) <= label.height()


# Formats of other programs


def test_every_format_that_fits_is_offered():
    through_time = [one.name for one in offered(Origin("tyx"))]
    through_depth = [one.name for one in offered(Origin("zyx"))]
    assert {"ctc", "geff", "trackmate", "coco", "nifti", "nrrd", "csv", "parquet"} <= set(through_time)
    assert not {"ctc", "geff", "trackmate"} & set(through_depth)
    assert "image-labels" not in through_time
    assert {one for one in FORMATS if one not in through_time} == {"tiff", "ome-zarr", "image-labels"}
    assert len({title(one) for one in FORMATS.values()}) == len(FORMATS), "a title tells them apart"


def test_labels_go_into_an_image_that_can_hold_them(tmp_path):
    (tmp_path / "zarr.json").touch()
    origin = Origin(image=str(tmp_path))
    assert "image-labels" in [one.name for one in offered(origin)]
    place = place_of_format(FORMATS["image-labels"], tmp_path / "out", "cells", origin)
    assert (place.given, place.path) == (tmp_path, tmp_path / "labels" / "stacksam")


def linked(session):
    """The session, with object 300 as the daughter of 1."""
    session.mark_absent(1, [2, 3, 4])
    session.link(1, [300])
    return Origin("tyx", session.stack.spacing, session.stack.units, ((1, 300),))


def test_a_lineage_goes_where_it_is_kept_and_its_loss_is_told(session, tmp_path):
    origin = linked(session)
    plan = planned(session, tmp_path, What.LABELS, What.OTHER, other="ctc", origin=origin)
    assert plan.lost() == [
        ("TIFF", ["the lineage"]),
        ("Cell Tracking Challenge (ctc)", ["spacing and units"]),
    ]
    told = []
    files = run_export(plan, session, lambda *steps: told.append(steps))
    assert [path.name for path in files] == ["cells-masks.tif", "cells-ctc"]
    assert told[-1] == (plan.steps, plan.steps)
    assert told == sorted(told)
    back = read_ctc(files[1])
    assert set(back.lineage.edges) == {(1, 300)}
    for frame in range(SHAPE[0]):
        np.testing.assert_array_equal(back.labels.frame(frame), session.label_frame(frame))
    some = planned(session, tmp_path, What.OTHER, other="nrrd", origin=origin, object_ids=[1, 2])
    assert some.lost() == [], "a link to what is not exported is not lost"


@pytest.mark.parametrize("name", [one.name for one in offered(Origin("tyx"))])
def test_each_format_is_written_and_may_be_cancelled(session, tmp_path, name):
    origin = linked(session)
    plan = planned(session, tmp_path / "new", What.OTHER, other=name, origin=origin)
    with pytest.raises(ExportCancelledError):
        run_export(plan, session, lambda done, total: done < 7)
    assert not (tmp_path / "new").exists()
    (path,) = run_export(plan, session)
    assert path.name.startswith("cells-")
    assert path.exists()
    with pytest.raises(StorageError, match="exists already"):
        run_export(plan, session)


def test_the_table_of_tracks_names_parents(session, tmp_path):
    linked(session)
    (path,) = run_export(planned(session, tmp_path, What.TRACKS), session)
    with path.open(newline="") as file:
        parents = {row["track_id"]: row["parent_id"] for row in csv.DictReader(file)}
    assert parents == {"1": "", "2": "", "300": "1"}


def test_a_package_that_is_missing_is_told_with_how_to_get_it(panel, monkeypatch):
    choose(panel, What.OTHER)
    panel._other.setCurrentIndex(panel._other.findData("nifti"))
    assert panel._go.isEnabled()
    monkeypatch.setattr("stacksam.io.formats.find_spec", lambda _name: None)
    panel._refresh()
    assert 'pip install "napari-stacksam[formats]"' in html.unescape(said(panel))
    assert not panel._go.isEnabled()


def test_the_panel_tells_what_is_lost_and_offers_what_fits(panel, tmp_path):
    panel.set_context("cells", 5, (8, 8), (1, 2), tmp_path, Origin("tyx", links=((1, 2),)))
    choose(panel, What.LABELS)
    assert "TIFF does not keep the lineage" in said(panel)
    choose(panel, What.OTHER)
    panel._other.setCurrentIndex(panel._other.findData("geff"))
    assert "does not keep" not in said(panel)
    panel.set_context("cells", 5, (8, 8), (1, 2), tmp_path, Origin("zyx"))
    assert panel._other.findData("geff") < 0
    assert panel._other.findData("nrrd") >= 0

"""``stacksam segment4d``: what it takes, what it leaves, and what it says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent / "session"))  # for random_model
sys.path.insert(0, str(Path(__file__).parent / "tracks"))  # for knowing

from knowing import Oracle
from random_model import random_model

from stacksam import cli
from stacksam.errors import StorageError
from stacksam.io import read_labels
from stacksam.session.settings import Settings
from stacksam.tracks.four_d import VolumeFollower

T, Z, SIDE = 3, 3, 40


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A folder with two boxes in volumes through time; it is the current one. The model knows them."""
    truth = np.zeros((T, Z, SIDE, SIDE), np.uint16)
    for t in range(T):
        truth[t, :2, 5:15, 5 + t : 15 + t] = 1
        truth[t, 1:, 22:32, 20:30] = 2
    tifffile.imwrite(tmp_path / "cells.tif", truth * 100 + 50, imagej=True, metadata={"axes": "TZYX"})
    tifffile.imwrite(tmp_path / "first.tif", truth[0], imagej=True, metadata={"axes": "ZYX"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stacksam.session.session.Predictor", Oracle)
    monkeypatch.setattr(Oracle, "truth", truth)
    monkeypatch.setattr("stacksam.session.models.load_model", lambda *_, **__: random_model())
    return truth


def run(*arguments):
    return CliRunner().invoke(cli.app, ["segment4d", *map(str, arguments)])


def fails(status, words, *arguments):
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert re.search(words, " ".join(result.stderr.split())), result.stderr


def labels(folder="cells.stacksam4d"):
    with read_labels(Path(folder, "labels.ome.zarr")) as image:
        assert image.axes == "tzyx"
        return image.read()


def test_clicks_a_table_and_labels_say_the_same(cells):
    result = run("cells.tif", "--point", "0,0,1,10,10", "--box", "2,2,2,22,20,31,29")
    assert result.exit_code == 0, result.output
    assert "2 objects, 0 divisions, 3 time points" in result.stdout
    np.testing.assert_array_equal(labels(), cells)
    Path("table.csv").write_text("kind,time,frame,id,y,x,y1,x1\npoint,0,0,1,10,10,,\nbox,2,2,2,22,20,31,29\n")
    assert run("cells.tif", "--prompts", "table.csv", "-o", "b", "-q").stdout == ""
    np.testing.assert_array_equal(labels("b"), cells)
    result = run("cells.tif", "--labels", "first.tif", "-o", "c", "--json")
    np.testing.assert_array_equal(labels("c"), cells)
    summary = json.loads(result.stdout)
    assert [one["id"] for one in summary["objects"]] == [1, 2]
    assert summary["complete"]
    assert Path("c/lineage.txt").read_text() == "1 0 2 0\n2 0 2 0\n"


@pytest.mark.parametrize(("options", "finds"), [([], True), (["--ends"], True), (["--no-ends"], False)])
def test_ends_can_be_left_out(cells, monkeypatch, options, finds):
    given, begin = [], VolumeFollower.__init__

    def begun(self, *arguments, **how):
        given.append(how["settings"])
        begin(self, *arguments, **how)

    monkeypatch.setattr(VolumeFollower, "__init__", begun)
    result = run("cells.tif", "--point", "0,0,1,10,10", *options)
    assert result.exit_code == 0, result.output
    assert (given[0] or Settings()).find_ends is finds


def test_a_stopped_run_is_gone_on_with_and_a_finished_one_kept(cells, monkeypatch):
    point = ("cells.tif", "--point", "0,0,1,10,10")
    time_point = VolumeFollower._time_point

    def stop(self, time, step):
        if time == 1:
            raise KeyboardInterrupt
        yield from time_point(self, time, step)

    with monkeypatch.context() as patch:
        patch.setattr(VolumeFollower, "_time_point", stop)
        fails(130, "interrupted; complete time points are kept in .* goes on from there", *point)
    assert (labels()[0] == cells[0] * (cells[0] == 1)).all()
    assert not labels()[1:].any()
    assert run(*point).exit_code == 0
    np.testing.assert_array_equal(labels(), np.where(cells == 1, 1, 0))
    fails(4, "holds results already; .* --overwrite", *point)
    assert run("cells.tif", "-p", "0,1,2,25,25", "--overwrite").exit_code == 0
    np.testing.assert_array_equal(labels(), np.where(cells == 2, 2, 0))


def test_lost_objects_are_told(cells):
    Oracle.truth = Oracle.truth.copy()  # undone with the fixture
    Oracle.truth[1][Oracle.truth[1] == 1] = 0
    result = run("cells.tif", "-p", "0,0,1,10,10")
    assert "object 1 lost at time point 1" in result.stderr
    assert "object 1 returned at time point 2" in result.stderr


def test_a_full_disk_is_told(cells, monkeypatch):
    def full(*_):
        raise StorageError("cannot write: the disk is full")
        yield

    monkeypatch.setattr(VolumeFollower, "_time_point", full)
    fails(4, "stopped; complete .*error: cannot write: the disk is full", "cells.tif", "-p", "0,0,1,10,10")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there are no prompts"),
        (["-p", "0,0,1,10"], "--point 0,0,1,10: 4 values; give T,Z,ID,Y,X"),
        (["-p", "0,0.5,1,10,10"], "--point .*: Z is '0.5'; give a whole number"),
        (["-p", "3,0,1,10,10"], "--point 3,0,1,10,10: time 3 is outside the stack; time points are 0 to 2"),
        (["-p", "0,3,1,10,10"], "--point .*plane 3 is outside the stack; planes are 0 to 2"),
        (["-b", "0,0,1,9,9,5,5"], "--box .* is inverted"),
        (["--labels", "cells.tif"], r"give one volume of \(3, 40, 40\)"),
        (["--labels-time", "1"], "--labels-time is given without --labels"),
        (["--labels", "first.tif", "--labels-time", "9"], "object 1 of first.tif: time 9 is outside"),
        (["-p", "0,0,1,10,10", "--spacing", "1,1"], "--spacing 1,1: 2 values; give T,Z,Y,X"),
        (["-p", "0,0,1,10,10", "--memory", "0"], "memory is 0"),
        (["-p", "0,0,1,10,10", "--axes", "tcyx"], "no axis z"),
    ],
)
def test_what_is_wrong_is_told_before_work(cells, arguments, words):
    fails(2, words, "cells.tif", *arguments)
    assert not Path("cells.stacksam4d").exists()

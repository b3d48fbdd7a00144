"""Labels that are there go into other formats, from whatever holds them, or an error says why not."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from stacksam import Mask, Session, cli, load_model, open_session, open_stack
from stacksam.comparison import compare
from stacksam.console import quiet
from stacksam.errors import InputError, SessionFileError, StackError, StorageError
from stacksam.exports import export_results, open_results
from stacksam.io import (
    create_label_store,
    open_image,
    read_ctc,
    store_frame,
    write_ctc,
    write_labels_ome_zarr,
)
from stacksam.io.formats import FORMATS
from stacksam.io.label_stack import LabelStack
from stacksam.outputs import Outputs

CALIBRATION = {"scale": (60.0, 0.5, 0.5), "units": ("second", "micrometer", "micrometer")}


@pytest.fixture
def array():
    a = np.zeros((4, 20, 30), np.uint16)
    a[:2, 3:9, 4:12] = 1
    a[2:, 3:6, 4:12] = 2
    a[2:, 7:9, 4:12] = 3
    return a


@pytest.fixture
def folder(tmp_path, monkeypatch, array):
    """Labels, their image of two channels, and who is whose daughter; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_labels_ome_zarr("labels.ome.zarr", array, array.shape, "tyx", **CALIBRATION)
    image = np.stack([array * 10, array * 0 + 7], axis=1)
    tifffile.imwrite("image.tif", image, ome=True, metadata={"axes": "TCYX"}, photometric="minisblack")
    Path("lineage.csv").write_text("object_id,parent\n1,\n2,1\n3,1\n")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, ["export", *map(str, arguments)])


def fails(status, words, *arguments):
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert words in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_all_formats_of_a_time_lapse(folder, array):
    names = [one.name for one in FORMATS.values() if not one.inside]
    asked = [part for name in names for part in ("-f", name)]
    result = run("labels.ome.zarr", *asked, "--lineage", "lineage.csv", "--image", "image.tif", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert set(told["files"]) == set(names)
    assert told["not_kept"]["ctc"] == ["spacing and units"]
    assert "note: tiff does not keep the lineage" in result.stderr
    assert sorted(os.listdir("labels.export")) == sorted(FORMATS[name].file_name for name in names)
    table = pd.read_csv("labels.export/measurements.csv")
    assert table["intensity_mean_0"].tolist() == [10, 10, 20, 30, 20, 30]
    assert set(table["intensity_mean_1"]) == {7}
    assert table["parent"].tolist() == [0, 0, 1, 1, 1, 1]
    assert table["area"].iloc[0] == 48 * 0.25
    tracks = read_ctc("labels.export/ctc")
    np.testing.assert_array_equal(np.stack(list(tracks.labels.frames())), array)
    assert set(tracks.lineage.edges) == {(1, 2), (1, 3)}


def test_a_folder_of_the_challenge_brings_its_lineage(folder, array):
    write_ctc("01_RES", LabelStack.of(array), nx.DiGraph([(1, 2), (1, 3)]))
    result = run("01_RES", "-f", "csv", "-o", "out", "--spacing", "60,0.5,0.5", "--units", "s,um,um")
    assert result.exit_code == 0, result.stderr
    table = pd.read_csv("out/measurements.csv")
    assert table["generation"].tolist() == [0, 0, 1, 1, 1, 1]
    assert set(table["length_unit"]) == {"micrometer"}
    again = open_results(Path("labels.ome.zarr"), lineage=Path("01_RES/res_track.txt"))
    assert set(again.lineage.edges) == {(1, 2), (1, 3)}
    from_table = open_results(Path("labels.ome.zarr"), lineage=Path("out/measurements.csv"))
    assert set(from_table.lineage.edges) == {(1, 2), (1, 3)}


def make_session(path, array, dirty=()):
    """What a session's folder has of labels; its own tests make whole ones."""
    path.mkdir(parents=True)
    store = create_label_store(path / "labels.ome.zarr", array.shape, np.uint32, "tyx", *CALIBRATION.values())
    for number, frame in enumerate(array):
        store_frame(store, number, frame)
    with sqlite3.connect(path / "results.sqlite") as file:
        file.execute("CREATE TABLE dirty (frame INTEGER PRIMARY KEY)")
        file.execute("CREATE TABLE records (object_id, frame, iou)")
        file.execute("CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT)")
        file.executemany("INSERT INTO dirty VALUES (?)", [(frame,) for frame in dirty])
    file.close()


def test_sessions_and_results_folders(folder, array):
    make_session(folder / "cells.stacksam" / "session", array)
    fails(2, "is not complete; repeat the command", "cells.stacksam", "-f", "ome-tiff")
    (folder / "cells.stacksam" / "summary.json").write_text("{}")
    for source in ("cells.stacksam", "cells.stacksam/session"):
        results = open_results(Path(source))
        export_results(results, ["tiff"], folder / "out", overwrite=True)
        np.testing.assert_array_equal(tifffile.imread(folder / "out" / "labels.tif"), array)
    assert open_results(Path("cells.stacksam")).labels.name == "cells"
    make_session(folder / "torn", array, dirty=[2])
    with pytest.raises(SessionFileError, match=r"1 frames of .* are behind its results"):
        open_results(Path("torn"))


def test_parents_and_daughters_of_a_session_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = np.zeros((4, 40, 60), np.uint8)
    whole, left, right = np.zeros((3, 40, 60), bool)
    whole[10:30, 10:40], left[10:30, 8:22], right[10:30, 28:42] = True, True, True
    stack, model = open_stack(frames, axes="tyx", intensity=(0, 255)), load_model()
    with Session(stack, model, tmp_path / "r" / "session") as session:
        session.add(Mask(0, 4, whole), Mask(2, 5, left), Mask(2, 6, right), Mask(1, 9, left))
        session.remove_object(9)
        session.link(4, (5, 6))
        outputs = Outputs.named(tmp_path / "out", ["ctc"], picture=False)
        outputs.check()
        outputs.write(session, quiet)
    tables = [tmp_path / "out" / "ctc" / "res_track.txt"]
    export_results(open_results(Path("r/session")), ["ctc"], tmp_path / "again")
    # A results folder stands for its session wherever one is asked for.
    with open_session(tmp_path / "r", stack=stack, model=model) as session:
        assert session.object_ids == (4, 5, 6)
        labels = session.labels[:]
    assert compare(tmp_path / "r", labels, ctc=False).total.iou == 1
    tables.append(tmp_path / "again" / "ctc" / "res_track.txt")
    for table in tables:
        assert table.read_text().split("\n")[:3] == ["4 0 0 0", "5 2 2 4", "6 2 2 4"]


def test_a_session_in_use_is_left_alone(folder, array):
    make_session(folder / "s", array)
    file = sqlite3.connect(folder / "s" / "results.sqlite", isolation_level=None)
    file.execute("PRAGMA locking_mode = EXCLUSIVE")
    file.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(SessionFileError, match="if a program has the session open, close it"):
            open_results(Path("s"))
    finally:
        file.close()


def test_labels_go_into_their_image(folder, array):
    axes = [{"name": a, "type": "time" if a == "t" else "space"} for a in "tyx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    group = zarr.open_group("i.zarr", mode="w", attributes={"ome": ome})
    group.create_array("0", shape=array.shape, dtype="uint8", chunks=(1, 20, 30))
    asked = ("labels.ome.zarr", "-f", "image-labels", "-f", "csv", "--image", "i.zarr")
    result = run(*asked, "--name", "cells", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["files"]["image-labels"] == "i.zarr/labels/cells"
    with open_image("i.zarr/labels/cells") as image:
        np.testing.assert_array_equal(image.read(), array)
    fails(
        4, "exists already", "labels.ome.zarr", "-f", "image-labels", "--image", "i.zarr", "--name", "cells"
    )
    fails(2, "name its OME-Zarr with --image", "labels.ome.zarr", "-f", "image-labels")


def test_volumes_take_an_affine(folder, array):
    import nibabel

    affine = np.array([[0, 0, -0.5, 9], [0, -0.5, 0, 8], [2, 0, 0, 7], [0, 0, 0, 1.0]])
    np.savetxt("affine.txt", affine)
    result = run("labels.ome.zarr", "-f", "nifti", "--axes", "zyx", "--affine", "affine.txt", "-q")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    found = nibabel.load("labels.export/labels.nii.gz")
    np.testing.assert_allclose(found.affine[:, [2, 1, 0, 3]], affine)
    np.testing.assert_array_equal(np.asanyarray(found.dataobj).T, array)


def test_refusals_come_before_any_file(folder):
    fails(2, "say which with --format", "labels.ome.zarr")
    fails(2, "format 'xls' is not known", "labels.ome.zarr", "-f", "xls")
    fails(2, "is for tracks through time", "labels.ome.zarr", "-f", "tiff", "-f", "ctc", "--axes", "zyx")
    fails(2, "none.zarr", "none.zarr", "-f", "tiff")
    np.save("f.npy", np.ones((2, 3, 4)))
    fails(2, "holds float64 values", "f.npy", "-f", "tiff")
    Path("bad.csv").write_text("object_id,parent\n1,2\n")
    fails(2, "object 1 begins on frame 0", "labels.ome.zarr", "-f", "tiff", "--lineage", "bad.csv")
    np.save("big.npy", np.full((1, 3, 4), 70000))
    fails(2, "holds object ids up to 65535", "big.npy", "-f", "tiff", "-f", "ctc", "-o", "labels.export")
    tifffile.imwrite("small.tif", np.zeros((4, 20, 29), np.uint8), photometric="minisblack")
    fails(2, "must be the one that the labels are of", "labels.ome.zarr", "-f", "csv", "--image", "small.tif")
    np.save("deep.npy", np.zeros((4, 5, 20, 30), np.uint8))
    fails(2, "--at z=0", "labels.ome.zarr", "-f", "csv", "--image", "deep.npy")
    assert not Path("labels.export").exists()
    assert run("labels.ome.zarr", "-f", "tiff").exit_code == 0
    fails(4, "--overwrite", "labels.ome.zarr", "-f", "csv", "-f", "tiff")
    assert os.listdir("labels.export") == ["labels.tif"]
    assert run("labels.ome.zarr", "-f", "csv", "-f", "tiff", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,parent\n1,2\n", "has no column 'object_id'"),
        ("object_id,parent\n1,x\n", "line 2: object_id and parent are to be whole numbers"),
        ("object_id,parent\n3,1\n3,2\n", "line 3: object 3 has the parent 2 here and 1 before"),
    ],
)
def test_lineage_tables_that_are_none(folder, text, message):
    Path("bad.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        open_results(Path("labels.ome.zarr"), lineage=Path("bad.csv"))
    with pytest.raises(StackError, match="cannot read"):
        open_results(Path("labels.ome.zarr"), lineage=Path("none.csv"))
    with pytest.raises(StackError, match="it is 4 lines of 4 numbers"):
        open_results(Path("labels.ome.zarr"), affine=Path("bad.csv"))


def test_a_folder_that_cannot_be_made(folder):
    results = open_results(Path("labels.ome.zarr"))
    with pytest.raises(StorageError, match="cannot write to"):
        export_results(results, ["tiff"], folder / "lineage.csv" / "out")

"""The command line does what it says, and says what went wrong in a way that a script can use."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from typer.testing import CliRunner

import stacksam
from stacksam import cli
from stacksam.errors import DownloadError, ModelError, StorageError
from stacksam.io import read_labels
from stacksam.session.session import Session

COMMANDS = ["segment", "segment4d", "watch", "demo", "replay", "export", "info", "evaluate", "models"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A model of the embedded one's architecture whose weights are random: its masks mean nothing."""
    import torch
    from safetensors.torch import save_file

    from stacksam.network.config import PRESETS
    from stacksam.network.sam2 import Sam2

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    state = Sam2(PRESETS["nano"]).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A folder with a time-lapse of two bright squares and their labels; it is the current one."""
    rng = np.random.default_rng(3)
    labels = np.zeros((4, 48, 64), np.uint16)
    for f in range(4):
        labels[f, 10:24, 8 + f : 22 + f] = 1
        labels[f, 28:40, 40:54] = 2
    images = (300 * (labels > 0) + rng.integers(90, 120, labels.shape)).astype(np.uint16)
    metadata = {
        "axes": "TYX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": 60.0,
        "TimeIncrementUnit": "s",
    }
    tifffile.imwrite(tmp_path / "cells.tif", images, ome=True, metadata=metadata, photometric="minisblack")
    tifffile.imwrite(tmp_path / "truth.tif", labels, photometric="minisblack")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def fails(status, words, *arguments):
    result = run(*arguments)
    lines = result.stderr.splitlines()
    assert result.exit_code == status, result.stderr
    assert lines[-1].startswith("error: ")
    assert re.search(words, lines[-1]), lines[-1]
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return result


@pytest.fixture
def segment(checkpoint):
    """Run ``segment cells.tif`` with the random model."""

    def run_segment(*arguments, points=("0,1,16,14",)):
        given = [part for point in points for part in ("--point", point)]
        return run("segment", "cells.tif", *given, "--model", checkpoint, "--dtype", "float32", *arguments)

    return run_segment


def labels_of(path):
    with read_labels(path) as image:
        return np.asarray(image.read())


# --- help and usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS), ["models", "fetch"], ["models", "verify"]])
def test_every_command_has_help(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert result.stderr == ""


def test_without_a_command_there_is_help():
    result = run()
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.stdout


def test_version():
    assert run("--version").stdout == f"stacksam {stacksam.__version__}\n"


def test_help_is_quick_because_it_loads_little():
    code = (
        "import sys; sys.argv = ['stacksam', '--version']\n"
        "import stacksam.cli\n"
        "heavy = {'torch', 'numpy', 'scipy', 'skimage', 'zarr', 'PIL', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "stacksam.cli.main()\n"
    )
    environment = dict(os.environ, PYTHONPATH=str(Path(stacksam.__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment"], "Missing argument.*see .*segment --help"),
        (["segment", "a.tif", "--foo"], "No such option: --foo"),
        (["segment", "a.tif", "--direction", "up"], "'--direction': 'up' is not one of.*forward.*backward"),
        (["segment", "a.tif", "--first", "one"], "--first"),
        (["no-such"], "No such command"),
        (["models", "fetch"], "Missing argument"),
    ],
)
def test_usage_errors(arguments, words):
    fails(2, words, *arguments)


# --- what cannot be done is found before any work ----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.tif", "-p", "0,1,5,5"], r"nothing\.tif"),
        (["notes.txt", "-p", "0,1,5,5"], r"notes\.txt"),
        (["cells.tif"], "there are no prompts; .*--point.*--everything"),
        (["cells.tif", "-p", "0,1,5"], "--point 0,1,5: 3 values; give FRAME,ID,Y,X"),
        (["cells.tif", "-p", "0,1,5,64"], "--point 0,1,5,64: .* outside the frame"),
        (
            ["cells.tif", "-n", "4,1,5,5"],
            "--negative 4,1,5,5: frame 4 is outside the stack; frames are 0 to 3",
        ),
        (["cells.tif", "-b", "0,1,20,20,10,30"], "--box .* inverted"),
        (["cells.tif", "--prompts", "none.csv"], r"none\.csv"),
        (["cells.tif", "--labels", "none.tif"], r"none\.tif"),
        (["cells.tif", "--labels", "truth.tif", "--labels-frame", "4"], "frames are 0 to 3"),
        (["cells.tif", "-p", "0,1,5,5", "--labels-frame", "1"], "without --labels"),
        (["cells.tif", "--session", "none.json"], r"none\.json"),
        (["cells.tif", "-p", "0,1,5,5", "--other-stack"], "--other-stack is given without --session"),
        (["cells.tif", "-n", "0,1,5,5"], "object 1 has only negative clicks on frame 0"),
        (["cells.tif", "-p", "0,1,5,5", "--format", "png"], "'png' is not known; use one of tiff,"),
        (["cells.tif", "-p", "0,1,5,5", "--first", "3", "--last", "1"], "--first 3 is after --last 1"),
        (["cells.tif", "-p", "0,1,5,5", "--last", "4"], "--last 4 is outside"),
        (["cells.tif", "-p", "0,1,5,5", "--frame-axis", "z"], "no axis 'z'"),
        (["cells.tif", "-p", "0,1,5,5", "--at", "z"], "--at z: give an axis and an index"),
        (["cells.tif", "-p", "0,1,5,5", "--at", "z=one"], "--at one"),
        (["cells.tif", "-p", "0,1,5,5", "--channels", "red"], "--channels red"),
        (["cells.tif", "-p", "0,1,5,5", "--intensity", "5"], "--intensity 5: 1 values; give LOW,HIGH"),
        (["cells.tif", "-p", "0,1,5,5", "--intensity", "9,1"], "low not above high"),
        (["cells.tif", "-p", "0,1,5,5", "--spacing", "1,2"], "--spacing 1,2"),
        (["cells.tif", "-p", "0,1,5,5", "--level", "3"], "level 3"),
        (["cells.tif", "-p", "0,1,5,5", "--everything"], "--everything is given with other prompts"),
        (["cells.tif", "-p", "0,1,5,5", "--size", "14"], "--size is given without --everything"),
        (["cells.tif", "-p", "0,1,5,5", "--every", "2"], "--every is given without --everything"),
        (["cells.tif", "--everything", "--size", "1"], "--size is 1; give a diameter of 4 to 2048 pixels"),
        (["cells.tif", "--everything", "--every", "9"], "--every is 9; the stack has 4 frames"),
        (["cells.tif", "--everything", "--direction", "backward"], "follows forward"),
    ],
)
def test_bad_input_is_found_before_any_work(cells, monkeypatch, arguments, words):
    (cells / "notes.txt").write_text("no stack")
    monkeypatch.setattr(
        "stacksam.session.models.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    before = sorted(cells.iterdir())
    fails(2, words, "segment", *arguments)
    assert sorted(cells.iterdir()) == before


def test_output_that_cannot_be_written_is_found_before_any_work(cells, monkeypatch):
    monkeypatch.setattr(
        "stacksam.session.models.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    point = ["--point", "0,1,5,5"]
    fails(4, "cannot write to", "segment", "cells.tif", *point, "--out", cells / "truth.tif" / "results")
    (cells / "cells.stacksam").mkdir()
    (cells / "cells.stacksam" / "labels.tif").write_text("mine")
    fails(4, "labels.tif exists already; .* --overwrite", "segment", "cells.tif", *point)
    assert (cells / "cells.stacksam" / "labels.tif").read_text() == "mine"


@pytest.mark.parametrize(
    ("model", "words"), [("sam9", "sam9"), ("none.safetensors", "none"), ("truth.pt", "truth.pt")]
)
def test_models_that_cannot_be_used(cells, model, words):
    (cells / "truth.pt").write_bytes(b"no weights")
    fails(3, words, "segment", "cells.tif", "-p", "0,1,5,5", "--model", model)
    assert not (cells / "cells.stacksam").exists()


def test_a_device_that_is_not_here(cells, checkpoint):
    fails(2, "warp", "segment", "cells.tif", "-p", "0,1,5,5", "--model", checkpoint, "--device", "warp")


@pytest.mark.slow
def test_divisions_become_links(tmp_path, monkeypatch):
    """Two cells, one of which divides: the track table tells whose daughters the new ones are."""
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:96, :128]

    def cell(cx, size=8.0):
        return 1 / (1 + np.exp(2 * (np.hypot(y - 48, x - cx) - size)))

    frames = [cell(36) + cell(92) for _ in range(3)]
    frames += [cell(36) + np.maximum(cell(92 - 9 - d, 6), cell(92 + 9 + d, 6)) for d in range(4)]
    noise = np.random.default_rng(0).normal(0, 4, (7, 96, 128))
    tifffile.imwrite("cells.tif", (20 + 200 * np.stack(frames) + noise).clip(0, 255).astype(np.uint8))
    asked = ("--everything", "--divisions", "-f", "ctc", "-o", "out", "--no-overview")
    result = run("segment", "cells.tif", *asked)
    assert result.exit_code == 0, result.stderr
    rows = [list(map(int, line.split())) for line in Path("out/ctc/res_track.txt").read_text().splitlines()]
    daughters = [row for row in rows if row[3]]
    assert len(daughters) == 2
    assert {row[3] for row in daughters} < {1, 2}
    assert all(3 <= row[1] <= 4 and row[2] == 6 for row in daughters)


def test_divisions_are_for_time_lapses(cells, checkpoint):
    given = ("segment", "cells.tif", "-p", "0,1,5,5", "--model", checkpoint, "--divisions")
    fails(2, "--divisions follows forward", *given, "--direction", "backward")
    fails(2, "--divisions is for time-lapses", *given, "--axes", "zyx")


def test_scope_and_canvas_are_taken_or_told(cells, checkpoint, segment, monkeypatch):
    given = []

    def opened(*arguments, settings=None):
        given.append(settings and (settings.scope, settings.canvas))
        return Session(*arguments, settings=settings)

    monkeypatch.setattr("stacksam.session.session.Session", opened)
    for scope in ("full", "window"):
        assert segment("--scope", scope, "-o", scope, "--no-overview").exit_code == 0
    assert segment("-o", "none", "--no-overview").exit_code == 0
    assert segment("--canvas", "native", "-o", "native", "--no-overview").exit_code == 0
    assert given == [("full", "frame"), ("window", "frame"), None, ("full", "native")]
    fails(2, "scope.*some", "segment", "cells.tif", "-p", "0,1,5,5", "--model", checkpoint, "--scope", "some")


@pytest.mark.parametrize(
    ("error", "status"),
    [(DownloadError("no net"), 3), (StorageError("disk full"), 4), (ModelError("bad"), 3)],
)
def test_status_tells_the_kind_of_error(cells, monkeypatch, error, status):
    def load(*_, **__):
        raise error

    monkeypatch.setattr("stacksam.session.models.load_model", load)
    fails(status, str(error), "segment", "cells.tif", "-p", "0,1,5,5")


def test_an_unexpected_error_is_told_as_one_and_shown_on_request(cells, monkeypatch):
    def load(*_, **__):
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr("stacksam.session.models.load_model", load)
    fails(
        1, "unexpected ZeroDivisionError: deep inside.*--traceback", "segment", "cells.tif", "-p", "0,1,5,5"
    )
    result = run("--traceback", "segment", "cells.tif", "-p", "0,1,5,5")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


# --- segment -----------------------------------------------------------------------------------------------


def test_segment_writes_what_it_says(cells, segment):
    result = segment(
        "--box", "1,2,28,40,39,53", "--direction", "forward", "--format", "tiff", "-f", "ome-zarr", "--json"
    )
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert [o["id"] for o in summary["objects"]] == [1, 2]
    assert [o["frames"] for o in summary["objects"]] == [4, 3]
    assert all(o["seen_on"] <= o["frames"] for o in summary["objects"])
    assert summary["stack"]["source"] == str(cells / "cells.tif")
    assert summary["model"]["dtype"].endswith("float32")
    assert json.loads((cells / "cells.stacksam" / "summary.json").read_text()) == summary
    files = {kind: Path(path) for kind, path in summary["files"].items()}
    assert set(files) == {"tiff", "ome-zarr", "overview", "session"}
    with read_labels(files["tiff"]) as tiff, read_labels(files["ome-zarr"]) as zarr:
        assert tiff.shape == zarr.shape == (4, 48, 64)
        assert tiff.dtype == np.uint16
        assert tiff.scale["x"] == zarr.scale["x"] == 0.5
        assert np.array_equal(tiff.read(), zarr.read())
    with Image.open(files["overview"]) as picture:
        assert picture.width > 1000


def test_everything_is_found_and_followed(cells):
    command = ["segment", "cells.tif", "--everything", "--size", "14", "--every", "2", "--out", "all"]
    result = run(*command, "--dtype", "float32", "--format", "tiff", "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert [o["frames"] for o in summary["objects"]] == [4, 4]
    found, truth = labels_of(cells / "all" / "labels.tif"), tifffile.imread(cells / "truth.tif")
    for object_id in (1, 2):
        own = truth == object_id
        value = np.bincount(found[own]).argmax()
        assert ((found == value) & own).sum() / ((found == value) | own).sum() > 0.7

    again = run(*command, "--dtype", "float32", "--format", "ome-tiff", "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["objects"] == summary["objects"]


def test_where_nothing_is_found_that_is_told(cells):
    tifffile.imwrite("empty.tif", np.zeros((2, 48, 64), np.uint16), metadata={"axes": "TYX"}, ome=True)
    fails(2, "no object was found in .*--size", "segment", "empty.tif", "--everything", "--quiet")


def test_painted_objects_are_taken_as_they_are(cells, segment):
    result = segment("--labels", "truth.tif", "--labels-frame", "2", "--first", "2", "--last", "2", points=())
    assert result.exit_code == 0, result.stderr
    assert "2 objects followed, frame 2 of 4" in result.stdout
    labels = labels_of(cells / "cells.stacksam" / "labels.tif")
    assert np.array_equal(labels[2], tifffile.imread("truth.tif")[2])
    assert not labels[[0, 1, 3]].any()


def test_prompts_from_a_table_and_from_a_session_are_the_same(cells, segment):
    (cells / "p.csv").write_text("kind,frame,id,y,x\npoint,0,1,16,14\nnegative,0,1,34,46\npoint,1,2,34,46\n")
    first = segment("--prompts", "p.csv", "-o", "a", "--no-overview", "--quiet", points=())
    assert (first.exit_code, first.stdout, first.stderr) == (0, "", "")
    second = segment("--session", "a/session.json", "-o", "b", "--no-overview", points=())
    assert second.exit_code == 0, second.stderr
    assert not (cells / "a" / "overview.png").exists()
    assert np.array_equal(labels_of("a/labels.tif"), labels_of("b/labels.tif"))


def test_a_session_of_another_stack_is_taken_on_purpose_only(cells, segment):
    asked = ("--session", "a/session.json", "-o", "b", "--no-overview")
    assert segment("-o", "a", "--no-overview", "--last", "1").exit_code == 0
    brighter = 7 + tifffile.imread(cells / "cells.tif")
    tifffile.imwrite(cells / "cells.tif", brighter, photometric="minisblack")
    refused = segment(*asked, points=())
    assert refused.exit_code == 2
    assert re.search(r"session a/session\.json is of another stack", refused.stderr)
    assert not Path("b").exists()
    taken = segment(*asked, "--other-stack", "--json", points=())
    assert taken.exit_code == 0, taken.stderr
    assert [one["frames"] for one in json.loads(taken.stdout)["objects"]] == [4]


def test_the_summary_tells_how_far_and_how_sure(cells, segment):
    """Of the frames that were followed to; and which objects deserve a look."""
    result = segment("--last", "2", "-f", "csv", "--no-overview")
    assert result.exit_code == 0, result.stderr
    assert "1 object followed, frames 0 to 2 of 4" in result.stdout
    summary = json.loads(Path("cells.stacksam/summary.json").read_text())
    assert (summary["first"], summary["last"]) == (0, 2)
    with Path("cells.stacksam/measurements.csv").open() as file:
        rows = {int(row["frame"]): float(row["predicted_iou"]) for row in csv.DictReader(file)}
    told = summary["objects"][0]["predicted_iou"]
    followed = {frame: value for frame, value in rows.items() if frame != 0}
    assert told["min_frame"] == min(followed, key=followed.get)
    assert told["min"] == pytest.approx(min(followed.values()), abs=1e-4)
    assert told["mean"] == pytest.approx(sum(followed.values()) / len(followed), abs=1e-4)
    assert f"lowest {told['min']:.2f} of object 1 on frame {told['min_frame']}" in result.stdout
    assert ("note: look at object 1:" in result.stderr) == (told["mean"] < 0.3)


@pytest.mark.parametrize(("mean", "noted"), [(0.29, True), (0.31, False)])
def test_doubtful_objects_are_named(capsys, mean, noted):
    estimate = {"mean": mean, "min": 0.1, "min_frame": 7}
    objects = [{"id": 4, "predicted_iou": estimate}, {"id": 5}, {"id": 6, "predicted_iou": estimate}]
    summary = {"objects": objects, "stack": {"n_frames": 9}, "first": 8, "last": 8, "seconds": 1, "files": {}}
    cli._show_summary(summary, quiet=False, as_json=False)
    told = capsys.readouterr()
    assert "3 objects followed, frame 8 of 9" in told.out
    assert ("note: look at objects 4, 6: the predicted IoU is below 0.3" in told.err) == noted


def test_large_ids_need_larger_numbers(cells, segment):
    result = segment("-f", "ome-zarr", "--no-overview", points=("0,70000,16,14",))
    assert result.exit_code == 0, result.stderr
    with read_labels(cells / "cells.stacksam" / "labels.ome.zarr") as image:
        assert image.dtype == np.uint32


def test_another_format_is_added_without_computing_again(cells, segment, monkeypatch):
    assert segment("-f", "tiff").exit_code == 0
    monkeypatch.setattr(
        "stacksam.session.predictor.Predictor.follow", lambda *_: pytest.fail("a frame was computed again")
    )
    added = segment("-f", "ome-tiff", "-f", "ome-zarr-0.4")
    assert added.exit_code == 0, added.stderr
    folder = cells / "cells.stacksam"
    for name in ("labels.ome.tif", "labels-0.4.ome.zarr"):
        assert np.array_equal(labels_of(folder / name), labels_of(folder / "labels.tif"))


def test_results_in_formats_of_other_programs(cells, segment):
    """What a run writes, and what is made later of its folder, is the same; wrong ones cost no computing."""
    formats = ("-f", "ctc", "-f", "csv", "-f", "tiff")
    asked = ("--labels", "truth.tif", "--labels-frame", "2", "--first", "2", "--last", "2")
    first = segment(*asked, *formats, "--no-overview", "--json", points=())
    assert first.exit_code == 0, first.stderr
    assert (cells / "cells.stacksam" / "ctc" / "res_track.txt").read_text() == "1 2 2 0\n2 2 2 0\n"
    assert set(json.loads(first.stdout)["files"]) == {"ctc", "csv", "tiff", "session"}
    folder = cells / "cells.stacksam"
    later = run("export", folder, *formats, "-o", "later", "--image", "cells.tif", "-q")
    assert later.exit_code == 0, later.stderr
    for name in ("measurements.csv", "ctc/res_track.txt"):
        assert (folder / name).read_bytes() == (cells / "later" / name).read_bytes()
    assert np.array_equal(labels_of(folder / "labels.tif"), labels_of("later/labels.tif"))

    wrong = segment("-f", "ctc", "-o", "none", points=("0,70000,16,14",))
    assert wrong.exit_code == 2
    assert "ids up to 65535" in wrong.stderr
    inside = segment("-f", "image-labels", "-o", "none")
    assert "stacksam export" in inside.stderr
    assert not Path("none").exists()


def test_results_are_replaced_only_on_request(cells, segment):
    assert segment("--no-overview").exit_code == 0
    again = segment("--no-overview")
    assert again.exit_code == 4
    assert "--overwrite" in again.stderr
    other = segment("-f", "ome-tiff", points=("0,2,34,46",))
    assert other.exit_code == 2
    assert "results of other prompts" in other.stderr
    replaced = segment("--no-overview", "--overwrite", "--json", points=("0,2,34,46",))
    assert replaced.exit_code == 0, replaced.stderr
    assert [o["id"] for o in json.loads(replaced.stdout)["objects"]] == [2]


def test_a_replacement_that_was_stopped_goes_on_too(cells, segment, monkeypatch):
    from stacksam.session.session import Session

    def stopped(self, *arguments, **options):
        raise KeyboardInterrupt

    assert segment("--no-overview").exit_code == 0
    propagate = Session.propagate
    monkeypatch.setattr(Session, "propagate", stopped)
    assert segment("--no-overview", "--overwrite", points=("0,2,34,46",)).exit_code == 130
    monkeypatch.setattr(Session, "propagate", propagate)
    result = segment("--no-overview", "--json", points=("0,2,34,46",))
    assert result.exit_code == 0, result.stderr
    assert [o["id"] for o in json.loads(result.stdout)["objects"]] == [2]
    assert 1 not in labels_of("cells.stacksam/labels.tif")


def test_a_folder_of_other_things_is_never_overwritten(cells, segment):
    folder = cells / "cells.stacksam" / "session"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    result = segment("--overwrite")
    assert result.exit_code == 4
    assert "not made by stacksam" in result.stderr
    assert (folder / "thesis.tex").exists()


def test_an_interrupted_run_goes_on_where_it_stopped(cells, segment, monkeypatch):
    from stacksam.session.session import Session

    points = ("0,1,16,14", "1,2,34,46")
    assert segment("-o", "whole", "--no-overview", points=points).exit_code == 0
    propagate, computed = Session.propagate, []

    def stopped(self, *arguments, **options):
        for count, update in enumerate(propagate(self, *arguments, **options)):
            if count == 3:
                raise KeyboardInterrupt
            yield update

    def counted(self, *arguments, **options):
        for update in propagate(self, *arguments, **options):
            computed.append((update.object_id, update.frame))
            yield update

    monkeypatch.setattr(Session, "propagate", stopped)
    result = segment("-o", "parts", "--no-overview", points=points)
    assert result.exit_code == 130
    assert "what was computed is kept in parts" in result.stderr
    assert not (cells / "parts" / "labels.tif").exists()

    monkeypatch.setattr(Session, "propagate", counted)
    assert segment("-o", "parts", "--no-overview", points=points).exit_code == 0
    assert 0 < len(computed) < 6
    assert np.array_equal(labels_of("whole/labels.tif"), labels_of("parts/labels.tif"))


def test_nothing_is_lost_when_the_labels_cannot_be_written(cells, segment, monkeypatch):
    from stacksam.io.formats import FORMATS

    tiff = FORMATS["tiff"]

    def full(*_, **__):
        raise StorageError("the disk is full")

    monkeypatch.setitem(FORMATS, "tiff", dataclasses.replace(tiff, write=full))
    result = segment("-f", "ome-zarr", "-f", "tiff", "--no-overview")
    assert result.exit_code == 4
    assert "the disk is full" in result.stderr
    assert "what was computed is kept" in result.stderr
    assert (cells / "cells.stacksam" / "labels.ome.zarr").is_dir()

    monkeypatch.setitem(FORMATS, "tiff", tiff)
    monkeypatch.setattr(
        "stacksam.session.predictor.Predictor.follow", lambda *_: pytest.fail("a frame was computed again")
    )
    again = segment("-f", "ome-zarr", "-f", "tiff", "--no-overview")
    assert again.exit_code == 0, again.stderr


# --- the other commands ------------------------------------------------------------------------------------


def test_replay_makes_the_same_labels(cells, segment, tmp_path_factory, monkeypatch):
    assert segment("--no-overview", points=("1,1,16,14", "0,2,34,46")).exit_code == 0
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    session = cells / "cells.stacksam" / "session.json"
    result = run("replay", session, "--out", "again", "--dtype", "float32", "--no-overview", "--json")
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(labels_of("again/labels.tif"), labels_of(session.with_name("labels.tif")))
    fails(4, "exists already", "replay", session, "--out", "again", "-f", "ome-tiff")

    (cells / "cells.tif").rename(cells / "moved.tif")
    fails(2, "cells.tif", "replay", session, "--out", "third")
    moved = run("replay", session, "--stack", cells / "moved.tif", "-o", "third", "--dtype", "float32", "-q")
    assert moved.exit_code == 0, moved.stderr
    fails(2, "another stack", "replay", session, "--stack", cells / "truth.tif", "--out", "fourth")
    assert not Path("fourth").exists()


def test_replay_of_something_else(cells):
    (cells / "s.json").write_text("{}")
    fails(2, "s.json", "replay", cells / "s.json")
    fails(2, "gone.json", "replay", cells / "gone.json")


@pytest.mark.slow
def test_watch_follows_what_is_written_and_goes_on_when_there_is_more(cells, checkpoint):
    images = tifffile.imread(cells / "cells.tif")
    array = zarr.create_array(cells / "run.zarr", shape=(2, 48, 64), chunks=(1, 48, 64), dtype="uint16")
    array[...] = images[:2]
    command = ["watch", "run.zarr", "--labels", "truth0.tif", "--model", checkpoint, "--dtype", "float32"]
    command += ["--until-idle", 0.1, "--poll", 0.05, "--no-overview", "--format", "tiff", "--json"]
    tifffile.imwrite(cells / "truth0.tif", tifffile.imread(cells / "truth.tif")[0])

    first = run(*command)
    assert first.exit_code == 0, first.stderr
    assert "stream stopped: no new frame for 0.1 s" in first.stderr
    before = labels_of(cells / "run.stacksam/labels.tif")
    assert before.shape == (2, 48, 64)

    array.resize((4, 48, 64))
    array[2:] = images[2:]
    again = run(*command)
    assert again.exit_code == 0, again.stderr
    summary = json.loads(again.stdout)
    assert (summary["stack"]["n_frames"], summary["objects"][0]["frames"]) == (4, 4)
    assert summary["ended"] == "stream stopped: no new frame for 0.1 s"
    after = labels_of(cells / "run.stacksam/labels.tif")
    np.testing.assert_array_equal(after[:2], before)
    live = zarr.open_array(cells / "run.stacksam/session/labels.ome.zarr/0", mode="r")
    np.testing.assert_array_equal(live[...], after)
    other = [*command[:2], "--point", "0,1,5,5", *command[4:]]
    fails(2, "results of other prompts", *other)

    array.resize((3, 48, 64))
    result = run(*command, "--patience", 0.1)
    assert result.exit_code == 2
    assert "what was computed is kept" in result.stderr
    assert "has 3 frames, but 4 were followed before" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cells.tif"], "single file"),
        (["none.zarr", "--until-idle", 0.05, "--poll", 0.02], "no folder .* stream stopped"),
        (["none.zarr", "--poll", 0], "poll is 0"),
        (["none.zarr", "--settle", -1], "settle is -1"),
        (["none.zarr", "--labels-frame", 1], "without --labels"),
    ],
)
def test_what_cannot_be_watched_is_told(cells, arguments, words):
    result = run("watch", *arguments, "--point", "0,1,9,9")
    assert result.exit_code == 2
    assert re.search(f"error: .*{words}", result.stderr)


def test_info(cells):
    result = run("info", "cells.tif")
    assert result.exit_code == 0, result.stderr
    assert "4 frames of 48 × 64 along t" in result.stdout
    assert "step 0.5 micrometer" in result.stdout
    told = json.loads(run("info", "cells.tif", "--json").stdout)
    assert told["axes"] == "tyx"
    assert told["frames"]["n_frames"] == 4
    fails(2, "none.tif", "info", "none.tif")


def test_info_says_what_has_to_be_chosen(cells):
    np.save("many.npy", np.zeros((3, 5, 2, 16, 16), np.uint8))
    told = json.loads(run("info", "many.npy", "--axes", "tzcyx", "--json").stdout)
    assert told["frames"] is None
    assert "along z" in told["question"]
    assert "not clear yet" in run("info", "many.npy", "--axes", "tzcyx").stdout
    chosen = run("info", "many.npy", "--axes", "tzcyx", "--at", "z=2", "--channels", "1", "--json")
    assert json.loads(chosen.stdout)["frames"]["at"] == {"z": 2}
    assert json.loads(chosen.stdout)["frames"]["channels"] == [1]


def test_models_are_listed():
    assert "sam2.1-tiny" in run("models").stdout
    rows = json.loads(run("models", "list", "--json").stdout)
    assert {"name", "status", "path", "size", "url"} == set(rows[0])
    assert run("models", "path", "sam2.1-tiny").stdout.strip().endswith("sam2.1_hiera_tiny.pt")


def test_models_are_fetched_and_checked(monkeypatch, tmp_path):
    def fetch(name, *, progress):
        progress(5, 10)
        return tmp_path / name

    monkeypatch.setattr("stacksam.assets.fetch", fetch)
    assert run("models", "fetch", "sam2-tiny", "sam2-small").stdout.split() == [
        str(tmp_path / "sam2-tiny"),
        str(tmp_path / "sam2-small"),
    ]
    fails(2, "sam3", "models", "fetch", "sam2-tiny", "sam3")
    result = run("models", "verify", "sam2-tiny")
    assert result.exit_code == 3
    assert re.match(r"sam2-tiny +missing", result.stdout)
    assert "stacksam models fetch sam2-tiny" in result.stderr


def test_evaluate(monkeypatch):
    import stacksam.evaluate as evaluation
    from stacksam.evaluation_result import CurvePoint, EvaluationRow, ObjectScore

    asked = {}

    def run_evaluation(**options):
        asked.update(options)
        options["progress"]("half way")
        curve = (CurvePoint(0, 1.0, 2), CurvePoint(1, 0.5, 2))
        score = ObjectScore(1.0, 0.5, 1.0, float("nan"), 3, ((0, 1.0), (1, 0.5)), 0.8, "c", 7)
        means = (1.0, 0.5, 1.0, float("nan"), 0.75)
        return (EvaluationRow("s", "copy", 2, 3, *means, 0.1, curve, (score,)),)

    monkeypatch.setattr(evaluation, "run_evaluation", run_evaluation)
    result = run("evaluate", "--suite", "--set", "sample", "--prompt", "box", "--baselines-only", "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)
    assert row["iou_others"] == 0.5
    assert row["boundary_others"] is None
    assert row["dice_volume"] == 0.75
    assert row["curve"][1] == {"distance": 1, "iou": 0.5, "frames": 2}
    assert row["scores"][0] == {
        "iou_prompted": 1.0,
        "iou_others": 0.5,
        "boundary_prompted": 1.0,
        "boundary_others": None,
        "n_others": 3,
        "iou_by_distance": [[0, 1.0], [1, 0.5]],
        "dice_volume": 0.8,
        "clip": "c",
        "object_id": 7,
    }
    assert result.stderr == "half way\n"
    assert (asked["sets"], asked["prompts"], asked["model"]) == (["sample"], ["box"], None)
    table = run("evaluate", "--suite", "--choose", "largest").stdout
    assert (asked["prompts"], asked["choose"]) == (("click", "box", "mask", "click+1", "click+3"), "largest")
    assert ["s", "copy", "2", "1.000", "0.500", "1.000", "-", "0.750", "0.1"] in map(
        str.split, table.splitlines()
    )
    assert ["s", "copy", "1.000", "0.500", "-", "-", "-", "0.500", "1"] in map(str.split, table.splitlines())


def test_evaluate_with_an_unknown_set():
    fails(2, "'cells' is unknown", "evaluate", "--suite", "--set", "cells", "--baselines-only")

"""The demonstration follows the shipped samples, measures itself, and leaves files that can be opened."""

from __future__ import annotations

import json
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from stacksam import assets, cli
from stacksam.demo import _CASES, DemoObject, DemoResult, check_demo, format_demo, run_demo
from stacksam.errors import StorageError
from stacksam.io import read_labels
from stacksam.session.boxes import bbox_of
from stacksam.session.update import Update


@pytest.fixture
def perfect(monkeypatch):
    """A session that knows the truth, and a model that knows nothing."""

    class Session:
        def __init__(self, stack, model, folder, *, settings=None):
            folder.mkdir(exist_ok=True)
            self.stack, self.model, self.prompts = stack, model, ()
            self.truth = tifffile.imread(assets.sample(f"{stack.name}_labels"))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def add(self, *prompts):
            self.prompts += prompts

        @property
        def object_ids(self):
            return tuple(sorted({p.object_id for p in self.prompts}))

        def work_left(self, direction, first, last):
            return 1

        def propagate(self, direction, first, last):
            yield None

        def frames_of(self, object_id):
            return tuple(range(len(self.truth)))

        def label_frame(self, frame):
            return np.where(np.isin(self.truth[frame], self.object_ids), self.truth[frame], 0).astype(
                np.int32
            )

        def update(self, object_id, frame):
            mask = self.truth[frame] == object_id
            y0, x0, y1, x1 = box = bbox_of(mask)
            return Update(frame, object_id, box, mask[y0:y1, x0:x1], 8.0, 1.0, False)

        @property
        def lineage(self):
            return nx.DiGraph()

        def all_scores(self):
            return {}

        def save(self, path):
            path.write_text("{}")
            return path

    monkeypatch.setattr("stacksam.session.session.Session", Session)
    return SimpleNamespace(name="oracle", digest="0" * 64, device="cpu", dtype="float32")


def test_a_perfect_model_gets_perfect_figures(perfect, tmp_path):
    timelapse, zstack = run_demo(tmp_path / "demo", perfect)
    assert [o.object_id for o in timelapse.objects] == list(range(1, 11))
    assert [o.object_id for o in zstack.objects] == list(range(1, 10))
    for result in (timelapse, zstack):
        assert result.prompted == result.tracked == 1.0
        for kind in ("tiff", "ome-zarr"):
            with read_labels(result.files[kind]) as labels:
                assert labels.shape == (24, 256, 256)
        with Image.open(result.files["overview"]) as picture:
            assert picture.size == (1304, 772)
        summary = json.loads((tmp_path / "demo" / result.name / "summary.json").read_text())
        assert summary["model"]["name"] == "oracle"
    text = format_demo((timelapse, zstack))
    assert "one click each on frame 0, followed forwards through 24 frames" in text
    assert "mean                  1.00                1.00" in text
    assert "stacksam segment" in text
    assert "cell 1 divides on frame 13" in text
    assert text.count("the frames on which the truth or the result has the cell") == 2

    with pytest.raises(StorageError, match="--overwrite"):
        run_demo(tmp_path / "demo", perfect)
    (tmp_path / "demo" / "zstack" / "summary.json").unlink()  # stopped before it was complete
    check_demo(tmp_path / "demo")


def test_a_script_gets_the_figures(monkeypatch, tmp_path):
    result = DemoResult("zstack", "story", (DemoObject(1, 1.0, 0.5),), {"tiff": "a.tif"}, 1.0)
    monkeypatch.setattr("stacksam.session.models.load_model", lambda *_, **__: None)
    monkeypatch.setattr("stacksam.demo.run_demo", lambda *_, **__: (result,))
    arguments = ["demo", "--out", str(tmp_path / "demo")]
    told = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)[0]["tracked"] == 0.5
    assert "1                  1.00                0.50" in CliRunner().invoke(cli.app, arguments).stdout
    assert CliRunner().invoke(cli.app, [*arguments, "--quiet"]).stdout == ""


def test_all_prompts_lie_on_objects_that_show_well():
    for case in _CASES:
        truth = tifffile.imread(assets.sample(f"{case.name}_labels"))
        assert all(frame < len(truth) for frame in case.frames)


def test_places_are_checked_before_work(tmp_path):
    (tmp_path / "timelapse").write_text("in the way")
    with pytest.raises(StorageError, match="timelapse"):
        check_demo(tmp_path)


def test_a_lost_object_counts():
    result = DemoResult("s", "story", (DemoObject(1, 1.0, 0.0), DemoObject(2, 0.5, 1.0)), {}, 1.0)
    assert (result.prompted, result.tracked) == (0.75, 0.5)


@pytest.mark.slow
def test_the_embedded_model_follows_the_samples(tmp_path):
    from stacksam.session.models import load_model

    for result in run_demo(tmp_path / "demo", load_model("nano", device="cpu")):
        assert result.prompted > 0.7, format_demo((result,))
        assert result.tracked > 0.5, format_demo((result,))

"""The gallery shows the best, the median and the worst, and says where each picture is from."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from stacksam.evaldata import LOADERS, Clip
from stacksam.evaluate import score_object


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "docs" / "make_gallery.py"
    spec = importlib.util.spec_from_file_location("stacksam_gallery", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def case(gallery, n_frames: int, lost: int, object_id: int = 1):
    """A square that is followed on all frames but the last few."""
    labels = np.zeros((n_frames, 50, 60), np.uint8)
    for frame in range(n_frames):
        labels[frame, 10:20, 5 + 4 * frame : 15 + 4 * frame] = object_id
    clip = Clip("squares", 200 * (labels > 0).astype(np.uint8), labels)
    masks = {(object_id, f): labels[f] == object_id for f in range(n_frames - lost)}
    predicted = np.stack([masks.get((object_id, f), np.zeros((50, 60), bool)) for f in range(n_frames)])
    score = score_object(labels == object_id, predicted, 0)
    return gallery.Case(clip, replace(score, clip=clip.name, object_id=object_id), masks)


def test_best_median_and_worst_are_drawn(gallery, tmp_path):
    cases = [case(gallery, 9, lost) for lost in range(5)]
    rows = list(gallery.chosen(cases))
    assert [heading.split(":")[0] for heading, _ in rows] == ["best", "median", "worst"]
    assert [shown[0][0] for _, shown in rows] == [cases[0], cases[2], cases[4]]
    assert [frame for _, frame in rows[0][1]] == [0, 1, 3, 6, 8]
    picture = gallery.draw(cases)
    colours = {colour for _, colour in picture.getcolors(100_000)}
    assert {gallery.TRUTH, gallery.FOUND} <= colours
    gallery.save(picture, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as written:
        assert written.mode == "P"
    assert (tmp_path / "x.png").stat().st_size <= gallery.MOST_BYTES


def test_an_object_is_not_shown_twice(gallery):
    one, two = case(gallery, 3, 0), case(gallery, 3, 1)
    assert [heading.split(":")[0] for heading, _ in gallery.chosen([one])] == ["best"]
    assert [heading.split(":")[0] for heading, _ in gallery.chosen([one, two])] == ["best", "worst"]


def test_single_images_have_several_objects_in_a_row(gallery):
    cases = [case(gallery, 1, 0, object_id) for object_id in range(1, 21)]
    rows = {heading: [c.score.object_id for c, _ in shown] for heading, shown in gallery.chosen(cases)}
    assert rows == {"best": [1, 2, 3, 4, 5], "median": [8, 9, 10, 11, 12], "worst": [16, 17, 18, 19, 20]}


def test_the_page_names_the_origin_of_what_was_drawn(gallery):
    known = {name for part in gallery.PARTS.values() for name in part.sets}
    assert known == {name for name in LOADERS if not name.startswith("sample/")}
    text = gallery.page(kept("nano", "baby"))
    assert "images/gallery-baby.png" in text
    assert "MIT" in text
    assert "gallery-sct" not in text


def kept(name: str, *sets: str) -> dict:
    figures = {"prompt": "box", "objects": 3, "measure": "IoU", "mean": 0.5, "median": 0.5, "worst": 0.1}
    return {"model": {"name": name, "sha256": f"{name}-digest"}, "sets": dict.fromkeys(sets, figures)}


def test_the_page_names_its_model(gallery):
    own, other = (gallery.page(kept(name, "baby")) for name in ("nano", "sam2.1-tiny"))
    assert "`nano` (SHA-256 `nano-digest`) makes of the sets of the evaluation, which it was not" in own
    assert "`sam2.1-tiny`" in other
    assert "nano" not in other
    assert "trained" not in other
    assert "datasets --model sam2.1-tiny\n" in other


def test_the_page_is_of_one_model(gallery, tmp_path):
    path = tmp_path / "gallery.json"
    tiny = SimpleNamespace(name="tiny", digest="tiny-digest")
    assert gallery.begin(path, tiny, ["sct"]) == kept("tiny")
    path.write_text(json.dumps(kept("tiny")["sets"]))
    with pytest.raises(SystemExit, match="does not say of which model"):
        gallery.begin(path, tiny, ["sct"])
    path.write_text(json.dumps(kept("tiny", "baby", "sct")))
    assert gallery.begin(path, tiny, ["sct"]) == kept("tiny", "baby", "sct")
    for other in (
        SimpleNamespace(name="tiny", digest="new"),
        SimpleNamespace(name="b", digest="tiny-digest"),
    ):
        with pytest.raises(SystemExit, match=r"figures of tiny \(tiny-digest\) for baby, and"):
            gallery.begin(path, other, ["sct", "dsb2018"])
        anew = gallery.begin(path, other, ["sct", "baby"])
        assert anew == {"model": {"name": other.name, "sha256": other.digest}, "sets": {}}


def test_the_page_is_that_of_its_figures(gallery):
    told = json.loads((gallery.DOCS / "images" / "gallery.json").read_text(encoding="utf-8"))
    assert (gallery.DOCS / "gallery.md").read_text(encoding="utf-8") == gallery.page(told)
    for name in told["sets"]:
        assert (gallery.DOCS / "images" / f"gallery-{name}.png").is_file()

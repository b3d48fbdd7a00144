"""The protocol gives the figures it should for methods whose figures are known beforehand."""

from __future__ import annotations

import json
import math
import os
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stacksam import evaluate as evaluation
from stacksam.errors import InputError, StackError, StorageError
from stacksam.evalprompts import prompt_of
from stacksam.evaluate import (
    Clip,
    Dataset,
    available_sets,
    evaluate,
    load_dataset,
    run_evaluation,
    score_object,
    session_runner,
)
from stacksam.evaluation_report import format_report, format_table
from stacksam.evaluation_result import CurvePoint, EvaluationRow

REAL_DATA = Path(os.environ.get("STACKSAM_EVALDATA", Path(__file__).parents[2] / "shared" / "evaldata"))
needs_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the evaluation data sets are not there")


def moving_squares(n_frames=5, *, volume=False, name="squares"):
    """Three objects that move right: 1 stays, 2 ends after the middle, 3 is too small to be prompted."""
    labels = np.zeros((n_frames, 40, 60), np.uint16)
    for frame in range(n_frames):
        labels[frame, 4:14, 4 + 3 * frame : 14 + 3 * frame] = 1
        if frame <= n_frames // 2:
            labels[frame, 20:32, 8 + 2 * frame : 20 + 2 * frame] = 2
        labels[frame, 36:38, 2:6] = 3
    images = (labels > 0).astype(np.uint16) * 1000 + 100
    return Clip(name, images, labels, volume)


def perfect(clip):
    return lambda images, prompts, volume, corrections=None: {
        (p.object_id, frame): clip.labels[frame] == p.object_id
        for p in prompts
        for frame in range(len(images))
    }


def copying(images, prompts, volume):
    return {(p.object_id, frame): p.value for p in prompts for frame in range(len(images))}


def figures(row):
    return (row.iou_prompted, row.iou_others, row.boundary_prompted, row.boundary_others)


@pytest.mark.parametrize("volume", [False, True])
def test_a_perfect_method_scores_one(volume):
    clip = moving_squares(volume=volume)
    rows = evaluate([Dataset("squares", (clip,))], perfect(clip), baselines=False)
    assert [row.method for row in rows] == ["click", "box", "mask", "click+1", "click+3"]
    for row in rows:
        assert row.objects == 2
        assert row.frames == 4 + 2
        assert figures(row) == (1, 1, 1, 1)
        assert row.dice_volume == 1


@pytest.mark.parametrize("volume", [False, True])
def test_a_method_that_copies_scores_as_the_copy_baseline(volume):
    dataset = Dataset("squares", (moving_squares(volume=volume), moving_squares(7, volume=volume)))
    model, copy, _ = evaluate([dataset], copying, ["mask"])
    assert (model.method, copy.method) == ("mask", "copy")
    assert replace(model, method="copy", seconds=copy.seconds) == copy
    assert copy.iou_prompted == copy.boundary_prompted == 1
    assert copy.iou_others < 0.5


def test_thresholding_follows_bright_squares_to_the_pixel():
    _, linked = evaluate([Dataset("squares", (moving_squares(),))], None)
    assert linked.method == "otsu+watershed"
    assert figures(linked) == (1, 1, 1, 1)


def test_a_method_that_returns_nothing_scores_zero():
    (row,) = evaluate([Dataset("s", (moving_squares(),))], lambda *_: {}, ["box"], baselines=False)
    assert figures(row) == (0, 0, 0, 0)


def test_prompts_come_from_the_first_frame_or_the_middle_of_a_volume():
    seen = []

    def run(images, prompts, volume):
        seen.append((volume, *prompts))
        return {}

    datasets = [Dataset("s", (moving_squares(), moving_squares(volume=True)))]
    evaluate(datasets, run, ["click", "box", "mask"], baselines=False)
    assert len(seen) == 6
    for volume, first, second in seen:
        frame = 2 if volume else 0
        assert (first.frame, first.object_id, second.object_id) == (frame, 1, 2)
        if first.kind == "click":
            assert first.value == (8, 8 + 3 * frame)
        elif first.kind == "box":
            assert first.value == (4, 4 + 3 * frame, 13, 13 + 3 * frame)
        else:
            assert np.array_equal(first.value, moving_squares().labels[frame] == 1)
    assert [(volume, first.kind) for volume, first, _ in seen] == [
        (volume, kind) for kind in ("click", "box", "mask") for volume in (False, True)
    ]


def test_objects_are_thinned_evenly_and_small_ones_left_out():
    labels = np.repeat(np.repeat(np.arange(100, dtype=np.uint16).reshape(10, 10), 6, 0), 6, 1)[np.newaxis]
    labels[labels == 99] = 0
    labels[0, -1, -1] = 500
    clip = Clip("grid", labels, labels)
    prompted = []

    def run(images, prompts, volume):
        prompted.append([p.object_id for p in prompts])
        return {}

    for limit in (5, 0, 1000):
        evaluate([Dataset("grid", (clip,))], run, ["click"], max_objects=limit, baselines=False)
    assert prompted == [[1, 25, 49, 74, 98], list(range(1, 99)), list(range(1, 99))]


def sizes_clip(**options):
    """Objects 1 to 5; those that are large on the first frame are not large in all."""
    labels = np.zeros((3, 40, 60), np.uint16)
    labels[0, :9, :9] = 1
    for object_id in (2, 3, 4):
        labels[:object_id, 10 * (object_id - 1) :, :8][:, :8] = object_id
    labels[:, 30:, 30:38] = 5
    return Clip("sizes", labels, labels, **options)


def measured(clip, **options):
    (row,) = evaluate([Dataset("s", (clip,))], copying, ["mask"], baselines=False, **options)
    return [score.object_id for score in row.scores]


def test_the_largest_objects_can_be_chosen():
    clip = sizes_clip()
    assert measured(clip, max_objects=2, choose="spaced") == [1, 5]
    totals = {i: int((clip.labels == i).sum()) for i in range(1, 6)}
    largest = sorted(sorted(totals, key=totals.get)[-2:])
    assert largest != [1, 5]
    assert measured(clip, max_objects=2, choose="largest") == largest
    assert measured(clip, max_objects=0, choose="largest") == [1, 2, 3, 4, 5]


def test_a_clip_may_name_how_many_of_its_largest_the_protocol_takes():
    told = []
    clip = sizes_clip(largest=3)
    largest = measured(clip, progress=told.append)
    assert len(largest) == 3
    assert told[0].startswith("s, sizes: 3 frames, 3 objects")
    assert measured(clip, choose="spaced", max_objects=20) == largest
    assert len(measured(clip, max_objects=2)) == 2
    assert measured(clip, max_objects=0) == [1, 2, 3, 4, 5]


def test_corrective_clicks_are_placed_by_the_rule():
    """A runner that takes the click for a square of 6 px, and then paints what each correction points at."""
    clip = moving_squares()
    clicks = []

    def run(images, prompts, volume, corrections=None):
        masks = {}
        for prompt in prompts:
            y, x = prompt.value
            masks[prompt.object_id] = np.zeros((40, 60), bool)
            masks[prompt.object_id][y - 3 : y + 3, x - 3 : x + 3] = True
            masks[prompt.object_id][0:3, 50:60] = True  # and something far away
        for _ in range(corrections.rounds if corrections else 0):
            for object_id, mask in masks.items():
                click = corrections.next(object_id, mask)
                if click is None:
                    continue
                clicks.append((object_id, click.positive, click.value))
                if click.positive:
                    mask[clip.labels[click.frame] == object_id] = True
                else:
                    mask[0:3, 50:60] = False
        return {(object_id, 0): mask for object_id, mask in masks.items()}

    methods = ["click", "click+1", "click+3"]
    rows = evaluate([Dataset("s", (clip,))], run, methods, baselines=False)
    assert [row.method for row in rows] == methods
    first = [36 / (100 + 30), 36 / (144 + 30)]
    after_one = [100 / 130, 144 / 174]
    assert [row.iou_prompted for row in rows] == pytest.approx([np.mean(first), np.mean(after_one), 1])
    # The ring that was missed is larger than what is too much; and when all is right, no third click comes.
    once = [(object_id, positive) for object_id, positive, _ in clicks]
    assert once == [(1, True), (2, True), (1, True), (2, True), (1, False), (2, False)]
    for object_id, positive, (y, x) in clicks:
        assert (clip.labels[0, y, x] == object_id) == positive
    assert clicks[-1][2] == (1, 51)


def test_the_curve_goes_from_the_prompted_frame_to_the_last():
    """Object 1 is copied and so lost bit by bit; 2 ends after frame 2, and its copy does not."""
    clip = moving_squares()
    (row,) = evaluate([Dataset("s", (clip,))], copying, ["mask"], baselines=False)
    first = [(10 - 3 * d) / (10 + 3 * d) for d in range(5) if d < 4] + [0]
    second = [(12 - 2 * d) / (12 + 2 * d) for d in range(3)] + [0, 0]
    assert [point.distance for point in row.curve] == [0, 1, 2, 3, 4]
    assert [point.iou for point in row.curve] == pytest.approx(np.mean([first, second], axis=0))
    assert {point.frames for point in row.curve} == {2}


def test_the_curve_of_a_volume_is_of_both_ways():
    clip = moving_squares(volume=True)
    clip.labels[clip.labels == 2] = 0
    (row,) = evaluate([Dataset("s", (clip,))], copying, ["mask"], baselines=False)
    assert row.curve == (
        CurvePoint(0, 1.0, 1),
        CurvePoint(1, pytest.approx(7 / 13), 2),
        CurvePoint(2, 0.25, 2),
    )


def test_frames_empty_in_truth_and_prediction_are_skipped():
    truth = np.zeros((4, 8, 8), bool)
    truth[0, :4, :4] = truth[1, :4, :4] = True
    predicted = truth.copy()
    assert score_object(truth, predicted, 0).n_others == 1
    assert score_object(truth, predicted, 0).iou_others == 1
    predicted[3, 0, 0] = True  # imagined after the track ended
    assert score_object(truth, predicted, 0).n_others == 2
    assert score_object(truth, predicted, 0).iou_others == 0.5
    assert score_object(truth, predicted, 0).boundary_others == 0.5


def test_an_object_that_is_rightly_nowhere_else_counts_one():
    truth = np.zeros((3, 8, 8), bool)
    truth[0, :4, :4] = True
    score = score_object(truth, truth, 0)
    assert (score.iou_others, score.boundary_others, score.n_others) == (1, 1, 0)


def test_single_images_have_no_other_frames():
    clip = moving_squares(1)
    (row,) = evaluate([Dataset("single", (clip,))], perfect(clip), ["box"], baselines=False)
    assert (row.iou_prompted, row.boundary_prompted, row.frames) == (1, 1, 0)
    assert math.isnan(row.iou_others)
    assert math.isnan(row.boundary_others)
    assert math.isnan(row.dice_volume)


def test_dice_is_over_all_frames_at_once():
    """Large frames weigh more, and frames that only one of both has count against it."""
    truth = np.zeros((4, 8, 8), bool)
    truth[0, :4, :4] = truth[1, :2, :2] = True
    predicted = np.zeros_like(truth)
    predicted[0, :4, :2] = predicted[3, :2, :2] = True
    assert score_object(truth, predicted, 0).dice_volume == pytest.approx(2 * 8 / (20 + 12))


def test_a_row_holds_the_scores_of_its_objects():
    (row,) = evaluate([Dataset("s", (moving_squares(),))], copying, ["mask"], baselines=False)
    assert [(score.clip, score.object_id) for score in row.scores] == [("squares", 1), ("squares", 2)]
    assert row.dice_volume == pytest.approx(np.mean([score.dice_volume for score in row.scores]))
    assert 0 < row.dice_volume < 1


def test_means_are_over_objects_of_all_clips():
    """Two clips of two and of one object weigh two to one."""
    two, one = moving_squares(name="two"), moving_squares(name="one")
    one.labels[one.labels == 2] = 0

    def run(images, prompts, volume):
        return perfect(two)(images, prompts, volume) if len(prompts) == 2 else {}

    (row,) = evaluate([Dataset("s", (two, one))], run, ["mask"], baselines=False)
    assert row.objects == 3
    assert row.iou_prompted == pytest.approx(2 / 3)


def test_a_set_without_objects_gives_a_row_without_figures():
    clip = Clip("empty", np.zeros((2, 9, 9)), np.zeros((2, 9, 9), int))
    (row,) = evaluate([Dataset("empty", (clip,))], copying, ["mask"], baselines=False)
    assert row.objects == 0
    assert all(math.isnan(value) for value in figures(row))


def test_bad_arguments_are_told():
    dataset = Dataset("s", (moving_squares(),))
    with pytest.raises(InputError, match="'scribble' is unknown; choose from click, box, mask"):
        evaluate([dataset], copying, ["scribble"])
    for method in ("click+0", "click+x", "box+1", "click+"):
        with pytest.raises(InputError, match=r"choose from click, box, mask, click\+1, click\+3"):
            evaluate([dataset], copying, [method])
    with pytest.raises(InputError, match="'smallest' is unknown; choose from spaced, largest"):
        evaluate([dataset], copying, choose="smallest")
    with pytest.raises(InputError, match="max_objects is -1"):
        evaluate([dataset], copying, max_objects=-1)
    with pytest.raises(InputError, match=r"object 1 on frame 0 has shape \(3, 3\)"):
        evaluate([dataset], lambda *_: {(1, 0): np.ones((3, 3), bool)}, ["box"])
    with pytest.raises(StackError, match="same frames"):
        Clip("odd", np.zeros((2, 9, 9)), np.zeros((3, 9, 9), int))
    with pytest.raises(StackError, match="no frames"):
        Clip("none", np.zeros((0, 9, 9)), np.zeros((0, 9, 9), int))


def test_table():
    row = EvaluationRow("cells", "box", 3, 12, 0.91234, 0.5, 0.25, math.nan, 0.75, 1.26)
    markdown = format_table([row]).splitlines()
    assert len({len(line) for line in markdown}) == 1
    assert [cell.strip() for cell in markdown[2].strip("|").split("|")] == [
        *("cells", "box", "3", "0.912", "0.500", "0.250", "-", "0.750", "1.3")
    ]
    plain = format_table([row, row], "plain").splitlines()
    assert len(plain) == 3
    assert plain[1].split() == ["cells", "box", "3", "0.912", "0.500", "0.250", "-", "0.750", "1.3"]


def test_the_report_has_curves_of_what_has_other_frames():
    lapse, single = Dataset("lapse", (moving_squares(7),)), Dataset("single", (moving_squares(1),))
    rows = evaluate([lapse, single], copying, ["mask"], baselines=False)
    assert format_report(rows[1:]) == format_table(rows[1:])
    report = format_report(rows, "plain")
    assert report.startswith(format_table(rows, "plain"))
    heading, line = report.split("\n\n")[2].splitlines()
    assert heading.split()[:7] == ["set", "method", "0", "1", "2", "4", "8"]
    # 1 has moved by 18 of its 10 px at the end, 2 is gone
    assert line.split()[:4] == ["lapse", "mask", "1.000", f"{(7 / 13 + 10 / 14) / 2:.3f}"]
    assert line.split()[-3:] == ["-", "0.000", "6"]


@pytest.fixture
def fake_package(monkeypatch):
    """Stand-ins for the session API that record what they are asked; the object never moves."""
    calls = []

    class Session:
        def __init__(self, stack, model):
            calls.append(("session", stack, model))
            self.prompts = {}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            calls.append(("closed",))

        def add(self, *prompts):
            calls.append(("add", *prompts))
            self.prompts = {p.object_id: p for p in prompts}

        def propagate(self, direction="both"):
            calls.append(("propagate", direction))
            yield from ()

        def mask(self, object_id, frame):
            return getattr(self.prompts[object_id], "mask", np.zeros((40, 60), bool))

    stand_ins = {
        "Session": Session,
        "load_model": lambda name: f"model {name}",
        "open_stack": lambda images, axes, frame_axis, spacing: (images.shape, axes, frame_axis, spacing),
        **dict.fromkeys(("Point", "Box", "Mask"), types.SimpleNamespace),
    }
    for name, value in stand_ins.items():
        monkeypatch.setitem(vars(sys.modules["stacksam"]), name, value)
    return calls


@pytest.mark.parametrize(
    ("volume", "spacing", "n_frames", "propagated"),
    [
        (False, None, 5, [("propagate", "forward")]),
        (True, None, 5, [("propagate", "both")]),
        (True, (2.0, 0.5, 0.25), 5, [("propagate", "both")]),
        (False, None, 1, []),
    ],
)
def test_session_runner_prompts_all_objects_in_one_session(
    fake_package, volume, spacing, n_frames, propagated
):
    """A volume is opened with the spacing of its file: what is made in depth rests on it."""
    clip = replace(moving_squares(n_frames, volume=volume), spacing=spacing)
    (row,) = evaluate([Dataset("s", (clip,))], session_runner("nano"), ["mask"], baselines=False)
    assert row.objects == 2
    assert row.iou_prompted == 1
    (_, stack, model), (_, *prompts), *rest = fake_package
    assert stack == ((n_frames, 40, 60), "zyx" if volume else "tyx", "z" if volume else "t", spacing)
    assert model == "model nano"
    assert [(p.object_id, p.frame) for p in prompts] == [(1, clip.prompted_frame), (2, clip.prompted_frame)]
    assert rest == [*propagated, ("closed",)]


def test_session_runner_translates_every_kind_of_prompt(fake_package):
    clip = moving_squares(1)
    colour = replace(clip, images=np.repeat(clip.images[..., np.newaxis], 3, -1))
    prompts = [prompt_of(clip, 1, kind) for kind in ("mask", "click", "box")]
    for prompt in prompts:
        session_runner()(colour.images, [prompt], False)
    mask, click, box = (call[1] for call in fake_package if call[0] == "add")
    assert np.array_equal(mask.mask, clip.labels[0] == 1)
    assert click.yx == (8, 8)
    assert box.yxyx == (4, 4, 13, 13)
    assert fake_package[0][1] == ((1, 40, 60, 3), "tyxc", "t", None)


def test_session_runner_corrects_until_nothing_is_wrong(fake_package):
    """The stand-in finds nothing, whatever is said; so each round has a click for each object."""
    clip = moving_squares(1)
    evaluate([Dataset("s", (clip,))], session_runner("nano"), ["click+1", "click+3"], baselines=False)
    added = [[(p.object_id, p.yx, p.positive) for p in call[1:]] for call in fake_package if call[0] == "add"]
    clicks = [(1, (8, 8), True), (2, (25, 13), True)]
    assert added == [clicks] * (2 + 4)


@pytest.fixture
def data(tmp_path):
    """A folder with one time-lapse and one set of single images."""
    clip = moving_squares()
    lapse, single = tmp_path / "laptrack_nuclei_tracked", tmp_path / "dsb2018_nuclei_single"
    lapse.mkdir()
    tifffile.imwrite(lapse / "images.tif", clip.images)
    tifffile.imwrite(lapse / "labels.tif", clip.labels)
    single.mkdir()
    for name, frame in (("a", 0), ("b", 1)):
        tifffile.imwrite(single / f"{name}_image.tif", clip.images[frame])
        tifffile.imwrite(single / f"{name}_label.tif", clip.labels[frame])
    return tmp_path


@pytest.fixture
def no_samples(monkeypatch):
    """An installation whose samples are missing, as before they are made."""

    def missing(name):
        raise StorageError(f"sample {name} is missing")

    monkeypatch.setattr("stacksam.assets.sample", missing)


def test_sets_are_read_from_a_folder(data, monkeypatch, no_samples):
    assert available_sets(data)[:2] == ("laptrack_nuclei_tracked", "dsb2018_nuclei_single")
    single = load_dataset("dsb2018_nuclei_single", data)
    assert [(clip.name, clip.images.shape) for clip in single.clips] == [
        ("a", (1, 40, 60)),
        ("b", (1, 40, 60)),
    ]

    told = []
    rows = run_evaluation(data, None, progress=told.append)
    assert [(row.dataset, row.objects) for row in rows] == [
        *[("laptrack_nuclei_tracked", 2)] * 2,
        *[("dsb2018_nuclei_single", 4)] * 2,
    ]
    assert any(line.startswith("skipped plantseg_ovule3d: ") for line in told)
    assert "skipped sample/zstack: sample zstack is missing" in told

    monkeypatch.setenv("STACKSAM_EVALDATA", str(data))
    assert len(run_evaluation(None, None, ["dsb2018_nuclei_single"])) == 2


def test_nothing_to_read_is_an_error(tmp_path, no_samples):
    with pytest.raises(InputError, match="no data set could be read"):
        run_evaluation(tmp_path, None)


def test_a_named_set_that_cannot_be_read_is_an_error(data, monkeypatch):
    monkeypatch.delenv("STACKSAM_EVALDATA", raising=False)
    with pytest.raises(InputError, match=r"'usiigaci_phc_single' is not in .*should hold"):
        run_evaluation(data, None, ["usiigaci_phc_single"])
    with pytest.raises(InputError, match="give --data"):
        run_evaluation(None, None, ["usiigaci_phc_single"])
    with pytest.raises(InputError, match="'cells' is unknown; choose from laptrack"):
        run_evaluation(data, None, ["cells"])
    with pytest.raises(InputError, match="not a folder"):
        run_evaluation(data / "nowhere", None)
    (data / "laptrack_nuclei_tracked" / "images.tif").write_bytes(b"no picture")
    with pytest.raises(StackError, match=r"images\.tif cannot be read"):
        run_evaluation(data, None, ["laptrack_nuclei_tracked"])
    (data / "usiigaci_phc_single").mkdir()
    with pytest.raises(StackError, match="holds no image"):
        load_dataset("usiigaci_phc_single", data)


def test_nifti_without_nibabel_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "totalseg_small").mkdir()
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(StackError, match="pip install nibabel"):
        run_evaluation(tmp_path, None, ["totalseg_small"])


def test_frames_are_the_last_axis_of_a_nifti_volume(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    folder = tmp_path / "totalseg_small"
    folder.mkdir()
    voxels = np.linspace(-1000, 1000, 5 * 4 * 3).reshape(5, 4, 3).astype(np.int16)
    for name, array in (("image", voxels), ("seg", (voxels > 0).astype(np.uint8))):
        nibabel.save(
            nibabel.Nifti1Image(array, np.diag([0.5, 1.5, 3.0, 1.0])), folder / f"ct_3mm_{name}.nii.gz"
        )
    (clip,) = load_dataset("totalseg_small/ct", tmp_path).clips
    assert clip.volume
    assert clip.spacing == (3.0, 1.5, 0.5)
    assert np.array_equal(clip.images, np.clip(voxels, -160, 240).transpose(2, 1, 0))
    assert np.array_equal(clip.labels, (voxels > 0).transpose(2, 1, 0))


def test_command(data, capsys):
    status = evaluation.main(
        [f"--data={data}", "--baselines-only", "--sets", "dsb2018_nuclei_single", "--plain"]
    )
    out, err = capsys.readouterr()
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["copy", "otsu+watershed"]
    assert "b: copy" in err
    assert sorted(p.name for p in data.iterdir() if p.is_file()) == []

    figures_file = data / "figures.json"
    sets = ("--sets", "laptrack_nuclei_tracked", "--choose", "largest", "--max-objects", "1")
    assert evaluation.main([f"--data={data}", "--baselines-only", *sets, "--json", str(figures_file)]) == 0
    assert "IoU by distance" in capsys.readouterr().out
    copy, _ = json.loads(figures_file.read_text())
    assert (copy["method"], copy["objects"], copy["scores"][0]["object_id"]) == ("copy", 1, 1)
    assert [point["distance"] for point in copy["curve"]] == [0, 1, 2, 3, 4]
    assert evaluation.main(["--baselines-only", *sets, "--json", str(data / "nowhere" / "x.json")]) == 1
    assert "not a folder" in capsys.readouterr().err

    assert evaluation.main(["--baselines-only", f"--data={data}", "--sets", "cells"]) == 1
    assert "error: data set 'cells' is unknown" in capsys.readouterr().err


@needs_data
@pytest.mark.parametrize(
    ("name", "clips", "frames", "volume"),
    [
        ("laptrack_nuclei_tracked", 1, 6, False),
        ("baby_yeast_bf", 1, 5, False),
        ("stardist_nuclei3d", 1, 31, True),
        ("plantseg_ovule3d", 1, 32, True),
        ("totalseg_small/ct", 1, 30, True),
        ("totalseg_small/mr", 1, 20, True),
        ("sct_spinalcord/t1w", 1, 77, True),
        ("sct_spinalcord/t2", 1, 52, True),
        ("sct_spinalcord/t2s", 1, 11, True),
        ("dsb2018_nuclei_single", 16, 1, False),
        ("omnipose_bacteria_single", 7, 1, False),
        ("usiigaci_phc_single", 3, 1, False),
    ],
)
def test_real_sets_have_their_frames_first(name, clips, frames, volume):
    if name.startswith(("totalseg", "sct")):
        pytest.importorskip("nibabel")
    dataset = load_dataset(name, REAL_DATA)
    assert len(dataset.clips) == clips
    assert dataset.clips[0].n_frames == frames
    for clip in dataset.clips:
        assert clip.volume == volume
        chosen = evaluation._choose_objects(clip, 20, "spaced")
        assert chosen
        assert len(chosen) <= (10 if name.startswith("totalseg") else 20)


@needs_data
def test_copying_a_mask_does_not_follow_real_nuclei():
    copy, linked = run_evaluation(REAL_DATA, None, ["laptrack_nuclei_tracked"], max_objects=0)
    assert copy.objects == 38
    assert copy.iou_others == pytest.approx(0.068, abs=0.001)
    assert linked.iou_others == pytest.approx(0.194, abs=0.01)

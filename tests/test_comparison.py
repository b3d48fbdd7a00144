"""Any labels against any reference: figures of known cases, every kind of stack, and errors that tell."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace

import networkx as nx
import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from stacksam import cli
from stacksam.comparison import compare
from stacksam.comparison_files import open_planes
from stacksam.comparison_report import format_comparison, to_json, worst_cases
from stacksam.errors import InputError, StackError, StorageError
from stacksam.io import open_image
from stacksam.metrics import boundary_f, davis_statistics, iou


def lapse(n_frames=4):
    """1 divides into 2 and 3 after two frames, 4 moves right."""
    frames = np.zeros((n_frames, 40, 60), np.uint16)
    for t, frame in enumerate(frames):
        frame[22:36, 5 + 2 * t : 17 + 2 * t] = 4
        if t < 2:
            frame[4:14, 10:26] = 1
        else:
            frame[4:14, 8:17], frame[4:14, 19:28] = 2, 3
    return frames


LINEAGE = nx.DiGraph([(1, 2), (1, 3)])


def shifted(labels, by=1):
    return np.roll(labels, by, axis=-1)


def run(*arguments):
    return CliRunner().invoke(cli.app, ["evaluate", *map(str, arguments)])


def fails(status, words, *arguments):
    result = run(*arguments)
    assert result.exit_code == status, result.stderr
    assert result.stdout == ""
    assert re.search(words, result.stderr.splitlines()[-1]), result.stderr


STACKS = {
    "yx": lapse()[0],
    "tyx": lapse(),
    "zyx": lapse(),
    "tzyx": np.stack([lapse(), np.roll(lapse(), 3, axis=1)]),
}


@pytest.mark.parametrize("axes", STACKS)
def test_labels_are_like_themselves(axes):
    found = compare(STACKS[axes], STACKS[axes], axes=axes)
    assert (found.axes, found.shape, found.sequence) == (
        axes,
        STACKS[axes].shape,
        "z" if axes == "zyx" else "t",
    )
    assert found.extra == ()
    for each in (found.total, *found.objects):
        assert (each.jf, each.j.mean, each.j.recall, each.f.mean, each.iou, each.dice) == (1,) * 6
    assert found.mean_ap == found.panoptic.pq == found.ctc.det == found.ctc.seg == 1
    assert (found.tracking is None) == (axes in ("yx", "zyx"))
    if axes == "zyx":
        assert math.isnan(found.total.j.decay)
        assert found.detection[0].true_positives == 4, "a volume's objects count once, not once a plane"
    if axes == "tyx":
        assert found.detection[0].true_positives == 2 * 2 + 2 * 3


def test_figures_of_an_object_are_those_of_its_masks():
    reference = lapse()
    labels = shifted(np.where(reference == 4, 9, 0))
    labels[3] = 0
    (moving,) = (o for o in compare(labels, reference).objects if o.reference_id == 4)
    j = [iou(labels[t] == 9, reference[t] == 4) for t in range(4)]
    f = [boundary_f(labels[t] == 9, reference[t] == 4) for t in range(4)]
    assert moving.label_id == 9
    assert moving.frames == 4
    assert asdict(moving.j) == pytest.approx(asdict(davis_statistics(j)))
    assert asdict(moving.f) == pytest.approx(asdict(davis_statistics(f)))
    assert moving.jf == pytest.approx((np.mean(j) + np.mean(f)) / 2)
    assert moving.iou == pytest.approx(iou(labels == 9, reference == 4))
    assert moving.dice == pytest.approx(2 * moving.iou / (1 + moving.iou))
    assert (moving.worst_frame, moving.worst_j) == (3, 0)


def test_contours_in_a_crop_are_those_of_the_frame():
    """F is drawn around an object only, with the tolerance and the edges of the frame."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        y, x = rng.integers(0, 180, 2)
        reference, labels = np.zeros((2, 200, 200), np.uint8)
        reference[y : y + 25, x : x + 40] = 1
        labels[max(y - 3, 0) : y + 20, max(x - 4, 0) : x + 30] = 1
        (only,) = compare(labels, reference).objects
        assert only.f.mean == pytest.approx(boundary_f(labels, reference))


def test_frames_that_count():
    reference = np.zeros((6, 20, 20), np.uint8)
    reference[1:3, 4:12, 4:12] = 1
    labels = reference.copy()
    labels[2] = 0
    (present,) = compare(labels, reference).objects
    (davis,) = compare(labels, reference, counted="davis").objects
    assert (present.frames, present.j.mean) == (2, 0.5)
    assert (davis.frames, davis.j.mean) == (4, 0.75)
    assert present.worst_frame == davis.worst_frame == 2


def test_a_volume_at_each_time_point_is_measured_as_one():
    reference = STACKS["tzyx"]
    labels = reference.copy()
    labels[1, 0][labels[1, 0] == 4] = 0
    (each,) = (o for o in compare(labels, reference).objects if o.reference_id == 4)
    assert each.frames == 2
    assert each.j.mean == pytest.approx((1 + 3 / 4) / 2)
    assert each.f.mean == pytest.approx((1 + 3 / 4) / 2)


def test_matching_by_ids_or_by_overlap():
    reference = lapse()
    swapped = np.array([0, 1, 3, 2, 4], np.uint16)[reference]
    assert compare(swapped, reference).total.iou == 1
    by_id = {o.reference_id: o.iou for o in compare(swapped, reference, match="ids").objects}
    assert by_id == {1: 1, 2: 0, 3: 0, 4: 1}


def test_missed_and_extra_objects():
    reference = lapse()
    labels = np.where(reference == 4, 0, reference)
    labels[:, 38:40, 50:58] = 7
    found = compare(labels, reference)
    assert found.extra == (7,)
    assert (found.total.objects, found.total.matched, found.total.extra) == (4, 3, 1)
    assert found.total.iou == found.total.jf == 0.75
    missed = found.objects[-1]
    assert (missed.reference_id, missed.label_id, missed.label_pixels, missed.jf) == (4, None, 0, 0)


def test_some_objects_of_the_reference():
    """The others are background: nobody is blamed for not having followed them."""
    reference = lapse()
    followed = np.where(reference == 4, reference, 0)
    assert compare(followed, reference).total.jf == 0.25
    found = compare(followed, reference, objects=[4], reference_lineage=LINEAGE)
    assert (found.total.objects, found.total.jf, found.chosen, found.ctc.tra) == (1, 1.0, (4,), 1.0)
    assert ": 1 chosen object, 1 matched by overlap, 0 too many" in format_comparison(found)
    assert found.detection[0].false_negatives == 0
    more = compare(reference, reference, objects=(1, 2, 3), lineage=LINEAGE, reference_lineage=LINEAGE)
    assert (more.extra, more.tracking.divisions.f1) == ((4,), 1.0)
    with pytest.raises(InputError, match="has no object 8, 9; give ids that it has"):
        compare(followed, reference, objects=[4, 9, 8])
    with pytest.raises(InputError, match="give ids of the reference, from 1 on"):
        compare(followed, reference, objects=[0, 4])


def test_lineages_are_compared():
    found = compare(lapse(), lapse(), lineage=LINEAGE, reference_lineage=LINEAGE)
    assert found.tracking.divisions.f1 == found.ctc.tra == 1
    without = compare(lapse(), lapse(), reference_lineage=LINEAGE)
    assert without.tracking.divisions.recall == 0
    assert without.ctc.operations["EA"] == 2
    assert compare(lapse(), lapse(), lineage=LINEAGE).tracking.divisions is None
    assert compare(lapse(), lapse(), ctc=False).ctc is None


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([(2, 1)], "lineage of the labels: object 1 begins on frame 0, but its parent 2"),
        ([(1, 2), (2, 1)], "lineage of the labels"),
        ([(1, 77)], "object 77, which the labels do not show"),
    ],
)
def test_lineages_that_cannot_be(edges, words):
    with pytest.raises(InputError, match=words):
        compare(lapse(), lapse(), lineage=nx.DiGraph(edges))


@pytest.mark.parametrize(
    ("labels", "options", "error", "words"),
    [
        (lapse()[:, :30], {}, InputError, r"\(4, 30, 60\) \(tyx\) and the reference .* \(4, 40, 60\)"),
        (-lapse().astype(np.int32), {}, InputError, "labels on frame 0: an id is -4"),
        (lapse().astype(np.uint64) << 40, {}, InputError, "ids may be up to 4294967295"),
        (lapse() + 0.5, {}, StackError, "float64 values; labels are whole numbers"),
        (lapse(), {"match": "names"}, InputError, "choose from overlap, ids"),
        (lapse(), {"counted": "all"}, InputError, "choose from present, davis"),
        (np.stack([lapse()] * 2, 1), {"axes": "tcyx"}, InputError, "2 channels"),
    ],
)
def test_input_that_cannot_be_compared(labels, options, error, words):
    reference = lapse() if "axes" not in options else labels
    with pytest.raises(error, match=words):
        compare(labels, reference, **options)


def test_an_empty_reference_is_told_and_empty_labels_are_not_an_error():
    with pytest.raises(InputError, match="has no object: all its pixels are 0"):
        compare(lapse(), np.zeros_like(lapse()))
    nothing = compare(np.zeros_like(lapse()), lapse())
    assert nothing.total.jf == nothing.mean_ap == nothing.panoptic.pq == nothing.ctc.tra == 0
    assert "missed" not in format_comparison(nothing)
    assert worst_cases(nothing, open_planes(np.zeros_like(lapse())), open_planes(lapse())).any()


def test_time_and_depth_are_not_mixed_up():
    stack = open_image(lapse(), axes="zyx")
    with pytest.raises(
        InputError, match=r"axes zyx and the reference .* tyx, both .* --axes zyx or --axes tyx"
    ):
        compare(stack, lapse())


def test_no_more_than_a_frame_is_read_at_a_time():
    """Four planes of two time points, each twice, one after the other; and progress says so."""
    asked, told = [], []

    class Watched:
        shape, dtype = STACKS["tzyx"].shape, STACKS["tzyx"].dtype

        def __getitem__(self, key):
            part = STACKS["tzyx"][key]
            asked.append(part.shape)
            return part

    compare(Watched(), STACKS["tzyx"], progress=lambda done, total: told.append((done, total)))
    assert asked == [(40, 60)] * 16
    assert told == [(k, 16) for k in range(1, 17)]


# --- folders of the Cell Tracking Challenge ----------------------------------------------------------------


def ctc_folder(folder, frames, table, kind="res"):
    folder.mkdir(parents=True)
    name = "mask" if kind == "res" else "man_track"
    for t, frame in enumerate(frames):
        tifffile.imwrite(folder / f"{name}{t:03}.tif", frame.astype(np.uint16), photometric="minisblack")
    (folder / f"{kind}_track.txt").write_text(table, encoding="ascii")
    return folder


TABLE = "1 0 1 0\n2 2 3 1\n3 2 3 1\n4 0 3 0\n"


def volumes():
    return np.stack([lapse()] * 3, axis=1)


@pytest.mark.parametrize("frames", [lapse(), volumes()], ids=["2D+t", "3D+t"])
def test_challenge_folders(tmp_path, frames):
    result = ctc_folder(tmp_path / "01_RES", frames, TABLE)
    truth = ctc_folder(tmp_path / "01_GT" / "TRA", frames, TABLE, "man")
    for reference in (truth, truth.parent):
        found = compare(result, reference)
        assert found.axes == ("tyx" if frames.ndim == 3 else "tzyx")
        assert (found.ctc.det, found.ctc.tra, found.ctc.lnk, found.ctc.seg) == (1, 1, 1, 1)
        assert found.tracking.divisions.true_positives == 1


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_the_official_program(tmp_path, seed):
    """Its own reading and matching of folders of random tracks: merged, split, missed, gone and back."""
    from ctc_metrics import evaluate_sequence

    rng = np.random.default_rng(seed)
    truth = np.zeros((5, 24, 30), np.uint16)
    for object_id in range(1, 9):
        y, x = 6 * ((object_id - 1) % 4), 15 * ((object_id - 1) // 4)
        truth[:, y : y + 5, x : x + 9] = object_id
    labels = np.where(rng.random(truth.shape) < 0.15, 0, truth)
    for t in range(5):
        a, b = rng.choice(8, 2, replace=False) + 1
        labels[t][labels[t] == a] = rng.choice([0, b])
        labels[t, 20:23, 26:30] = 9
    folders = []
    for name, kind, frames in (("01_RES", "res", labels), ("01_GT/TRA", "man", truth)):
        unbroken, table = without_gaps(frames)
        folders.append(ctc_folder(tmp_path / name, unbroken, table, kind))
    seg = folders[1].parent / "SEG"
    seg.mkdir()
    for t, frame in enumerate(truth):
        tifffile.imwrite(seg / f"man_seg{t:03}.tif", frame)
    official = evaluate_sequence(str(folders[0]), str(seg.parent), ["DET", "SEG", "TRA", "LNK"], threads=1)
    ours = compare(folders[0], seg.parent).ctc
    assert 0.2 < ours.tra < 0.98
    for name in ("seg", "det", "tra", "lnk"):
        assert getattr(ours, name) == pytest.approx(official[name.upper()])
    for name, count in ours.operations.items():
        assert count == official[f"AOGM_{name}"]
    # The same from files whose tracks have gaps, which become what the folder has.
    again = compare(labels, truth).ctc
    assert again.seg == pytest.approx(ours.seg)
    assert replace(again, seg=ours.seg) == ours


def without_gaps(frames):
    """Frames and table of the challenge: after a gap a new number, whose parent is the one before."""
    frames, rows, following = frames.copy(), [], 20
    for object_id in np.unique(frames[frames > 0]).tolist():
        number, parent = object_id, 0
        shown = [t for t in range(len(frames)) if (frames[t] == object_id).any()]
        runs = np.split(shown, np.flatnonzero(np.diff(shown) > 1) + 1)
        for run in runs:
            for t in run:
                frames[t][frames[t] == object_id] = number
            rows.append(f"{number} {run[0]} {run[-1]} {parent}\n")
            number, parent, following = following, number, following + 1
    return frames, "".join(rows)


@pytest.mark.parametrize("deep", [False, True])
def test_segmentation_truth_of_the_challenge_is_used_for_seg(tmp_path, deep):
    """SEG holds a mask of one frame (or plane), which is twice what was found there."""
    frames = volumes() if deep else lapse()
    result = ctc_folder(tmp_path / "01_RES", frames, TABLE)
    truth = ctc_folder(tmp_path / "01_GT" / "TRA", frames, TABLE, "man")
    seg = truth.parent / "SEG"
    seg.mkdir()
    other = np.zeros((40, 60), np.uint16)
    other[4:14, 10:36] = 8  # 26 wide; object 1 covers 16 of them
    tifffile.imwrite(seg / ("man_seg_001_002.tif" if deep else "man_seg001.tif"), other)
    found = compare(result, truth.parent)
    assert found.ctc.seg == pytest.approx(16 / 26)
    assert found.ctc.tra == 1
    assert compare(result, truth).ctc.seg == 1


def test_bad_challenge_folders(tmp_path):
    good = ctc_folder(tmp_path / "good", lapse(), TABLE)
    gap = ctc_folder(tmp_path / "gap", lapse(), TABLE)
    (gap / "mask002.tif").unlink()
    with pytest.raises(StackError, match="no mask image of frame 2"):
        compare(gap, good)
    untold = ctc_folder(tmp_path / "untold", lapse(), "1 0 1 0\n2 2 3 1\n3 2 3 1\n")
    with pytest.raises(InputError, match="track 4 is in the mask of frame 0, where the table does not"):
        compare(untold, good)
    unseen = ctc_folder(tmp_path / "unseen", lapse(), TABLE + "5 0 3 0\n")
    with pytest.raises(InputError, match="track 5 is to be on frame 0"):
        compare(good, unseen)
    late = ctc_folder(tmp_path / "late", lapse(), TABLE.replace("4 0 3 0", "4 0 3 2"))
    with pytest.raises(InputError, match="object 4 begins on frame 0, but its parent 2"):
        compare(late, good)
    with pytest.raises(InputError, match="whose axes are known"):
        compare(good, good, axes="tyx")
    odd = ctc_folder(tmp_path / "odd", lapse(), TABLE)
    tifffile.imwrite(odd / "mask001.tif", lapse()[1, :20])
    with pytest.raises(StackError, match=r"mask001.tif has shape \(20, 60\), but mask000.tif has \(40, 60\)"):
        compare(odd, good)
    (odd / "mask001.tif").write_bytes(b"no picture")
    with pytest.raises(StackError, match=r"cannot read .*mask001\.tif"):
        compare(odd, good)
    (odd / "res_track.txt").unlink()
    with pytest.raises(StackError, match=r"it has no res_track\.txt"):
        compare(odd, good)


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name, stack in (("truth", lapse()), ("result", shifted(lapse())), ("image", lapse() * 100)):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, metadata={"axes": "TYX"}, photometric="minisblack")
    (tmp_path / "tracks.txt").write_text(TABLE, encoding="ascii")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_tables_json_and_a_picture(files):
    tracks = ("--lineage", "tracks.txt", "--reference-lineage", "tracks.txt")
    result = run("result.tif", "truth.tif", *tracks, "--out", "report", "--image", "image.tif")
    assert result.exit_code == 0, result.stderr
    for words in ("4 objects, 4 matched by overlap, 0 too many", "TRA ", "division F1", "id switches"):
        assert words in result.stdout
    report = json.loads((files / "report" / "evaluation.json").read_text("utf-8"))
    assert (report["format"], report["version"]) == ("stacksam-evaluation", 1)
    assert report["tracking"]["divisions"]["f1"] == 1
    assert len(report["objects"]) == 4
    table = (files / "report" / "evaluation.md").read_text("utf-8")
    assert table.count("\n| ") > 15
    picture = np.asarray(Image.open(files / "report" / "worst.png"))
    assert picture.shape[-1] == 3
    assert picture.std() > 10

    fails(
        4,
        "has evaluation.json, evaluation.md, worst.png already",
        "result.tif",
        "truth.tif",
        "--out",
        "report",
    )
    again = run("truth.tif", "truth.tif", "--out", "report", "--overwrite", "--json", "--quiet")
    assert json.loads(again.stdout) == json.loads((files / "report" / "evaluation.json").read_text("utf-8"))
    assert json.loads(again.stdout)["total"]["jf"] == 1


def test_json_has_a_null_for_what_is_not_there():
    plain = to_json(compare(lapse()[0], lapse()[0]))
    assert plain["ctc"]["tra"] is None
    assert plain["tracking"] is None
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_long_tables_list_the_worst_only():
    many = np.arange(900, dtype=np.uint16).reshape(30, 30).repeat(3, 0).repeat(3, 1)
    text = format_comparison(compare(many, many))
    assert "(the 20 objects of the lowest J&F; 879 more are not listed)" in text
    assert len(format_comparison(compare(many, many), most=None).splitlines()) > 899


def test_the_worst_cases_show_both_outlines():
    reference = np.zeros((40, 40), np.uint8)
    reference[10:30, 10:30] = 3
    labels = np.zeros_like(reference)
    labels[10:30, 10:20] = 1
    sheet = worst_cases(compare(labels, reference), open_planes(labels), open_planes(reference)).astype(int)
    tile = sheet[74 : 74 + 240, 28 : 28 + 240]
    white = (tile.min(-1) > 140) & (np.ptp(tile, axis=-1) < 30)
    coloured = np.ptp(tile, axis=-1) > 90
    assert white[:, 120:].sum() > 60, "the half that was missed has the outline of the reference only"
    assert coloured[:, :125].sum() > 200
    assert not coloured[:, 150:].any()


@pytest.mark.parametrize(
    ("status", "words", "arguments"),
    [
        (2, "give two stacks of labels", []),
        (2, "give two stacks of labels", ["result.tif"]),
        (2, "--set is an option of the suite; add --suite", ["result.tif", "truth.tif", "--set", "sample"]),
        (2, "--match does not go with --suite", ["--suite", "--match", "ids"]),
        (2, "LABELS does not go with --suite", ["--suite", "result.tif"]),
        (2, "--image is given without --out", ["result.tif", "truth.tif", "--image", "image.tif"]),
        (2, "--objects a: give ids: 1,5,8", ["result.tif", "truth.tif", "--objects", "a"]),
        (2, "has no object 77", ["result.tif", "truth.tif", "--objects", "77"]),
        (2, "nowhere.tif", ["nowhere.tif", "truth.tif"]),
        (2, "broken.tif holds no image", ["broken.tif", "truth.tif"]),
        (2, r"image .*small.tif has shape", ["result.tif", "truth.tif", "-o", "r", "--image", "small.tif"]),
        (2, r"line 1: 'one' is not four", ["result.tif", "truth.tif", "--lineage", "odd.txt"]),
        (4, "is a file", ["result.tif", "truth.tif", "--out", "truth.tif"]),
        (4, "cannot write to truth.tif/r", ["result.tif", "truth.tif", "--out", "truth.tif/r"]),
    ],
)
def test_what_goes_wrong_is_told(files, status, words, arguments):
    (files / "broken.tif").write_bytes(b"II*\0 no picture")
    (files / "odd.txt").write_text("one\n", encoding="ascii")
    tifffile.imwrite(files / "small.tif", lapse()[:, :9], metadata={"axes": "TYX"}, photometric="minisblack")
    fails(status, words, *arguments)


def test_a_folder_that_cannot_be_written(files, monkeypatch):
    from stacksam import comparison_report

    def refuse(*_, **__):
        raise StorageError("cannot write worst.png: the disk is full")

    monkeypatch.setattr(comparison_report, "save_overview", refuse)
    result = run("result.tif", "truth.tif", "--out", "report")
    assert result.exit_code == 4
    assert "the disk is full" in result.stderr

"""Folders of the Cell Tracking Challenge, read by `geff` and by plain means."""

from __future__ import annotations

import os

import geff
import geff.convert
import networkx as nx
import numpy as np
import pytest
import tifffile

from stacksam.errors import InputError, StackError, StorageError
from stacksam.io.ctc import read_ctc, write_ctc
from stacksam.io.label_stack import LabelStack


def pairs(edges):
    return {(int(a), int(b)) for a, b in edges}


def test_the_folder_is_what_the_challenge_asks_for(family, tmp_path):
    """Each track is in every mask from its first frame to its last, and nothing else is in the masks."""
    path = write_ctc(tmp_path / "01_RES", family.labels, family.lineage)
    table = np.loadtxt(path / "res_track.txt", dtype=int)
    masks = np.stack([tifffile.imread(path / f"mask{f:03}.tif") for f in range(8)])
    assert masks.dtype == np.uint16
    for label, begin, end, parent in table:
        assert np.flatnonzero((masks == label).any((1, 2))).tolist() == list(range(begin, end + 1))
        assert parent == 0 or table[table[:, 0] == parent, 2] < begin
    assert set(np.unique(masks)) == {0, *table[:, 0]}
    assert {tuple(row) for row in table.tolist()} == {
        (1, 0, 2, 0), (2, 3, 6, 1), (30, 3, 6, 1), (7, 1, 2, 0), (501, 5, 6, 7),
        (9, 4, 6, 0), (11, 0, 0, 0), (500, 4, 6, 0),
    }  # fmt: skip
    np.testing.assert_array_equal(np.where(masks == 501, 7, masks), family.array)


def test_geff_reads_it(family, tmp_path):
    path = write_ctc(tmp_path / "res", family.labels, family.lineage)
    geff.convert.from_ctc_to_geff(path, tmp_path / "out.geff")
    graph, _ = geff.read(tmp_path / "out.geff")
    nodes = dict(graph.nodes(data=True))
    assert len(nodes) == sum(len(np.unique(f)) - 1 for f in family.array)
    between = {
        (nodes[a]["tracklet_id"], nodes[b]["tracklet_id"])
        for a, b in graph.edges
        if nodes[a]["tracklet_id"] != nodes[b]["tracklet_id"]
    }
    assert pairs(between) == {(1, 2), (1, 30), (7, 501)}


def test_round_trip(family, tmp_path):
    path = write_ctc(tmp_path / "res", family.labels, family.lineage)
    apart, joined = read_ctc(path), read_ctc(path, join_gaps=True)
    assert pairs(apart.lineage.edges) == {(1, 2), (1, 30), (7, 501)}
    assert pairs(joined.lineage.edges) == pairs(family.lineage.edges)
    assert set(joined.lineage.nodes) == set(family.lineage.nodes)
    np.testing.assert_array_equal(np.stack(list(joined.labels.frames())), family.array)
    again = write_ctc(tmp_path / "again", apart.labels, apart.lineage)
    assert (again / "res_track.txt").read_text() == (path / "res_track.txt").read_text()


def test_a_daughter_of_a_split_track_hangs_on_its_last_part(tmp_path):
    a = np.zeros((6, 4, 4), np.uint8)
    a[[0, 2], 0] = 1
    a[3:, 1] = 2
    a[[3, 5], 2] = 3
    path = write_ctc(tmp_path / "r", LabelStack.of(a), nx.DiGraph([(1, 2), (1, 3)]))
    assert (path / "res_track.txt").read_text() == "1 0 0 0\n2 3 5 4\n3 3 3 4\n4 2 2 1\n5 5 5 3\n"
    back = read_ctc(path, join_gaps=True)
    assert pairs(back.lineage.edges) == {(1, 2), (1, 3)}
    np.testing.assert_array_equal(np.stack(list(back.labels.frames())), a)


def test_more_than_a_thousand_frames_sort_by_name(tmp_path):
    labels = LabelStack(lambda f: np.full((1, 1), 1, np.uint8), (1001, 1, 1))
    path = write_ctc(tmp_path / "r", labels)
    names = sorted(os.listdir(path))[:-1]
    assert names[0] == "mask0000.tif"
    assert names[-1] == "mask1000.tif"
    assert len(names) == 1001


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"gaps": "refuse"}, "object 7 is missing between frames 2 and 5"),
        ({}, {"gaps": "fill"}, "use 'split' or 'refuse'"),
        ({500: 65535}, {}, "needs the track number 65536; masks .* have 16 bits"),
        ({500: 70000}, {}, "needs the track number 70001"),
    ],
)
def test_what_the_format_cannot_hold(family, tmp_path, change, options, message):
    array = family.array.astype(np.uint32)
    for old, new in change.items():
        array[array == old] = new
    with pytest.raises(InputError, match=message):
        write_ctc(tmp_path / "r", LabelStack.of(array), **options)
    assert os.listdir(tmp_path) == []


def test_what_makes_no_tracks(family, volume, tmp_path):
    with pytest.raises(InputError, match="frames along z"):
        write_ctc(tmp_path / "r", volume.labels)
    with pytest.raises(InputError, match="object 1 begins on frame 0, but its parent 2"):
        write_ctc(tmp_path / "r", family.labels, nx.DiGraph([(2, 1)]))
    assert os.listdir(tmp_path) == []


def test_no_objects_are_no_tracks(tmp_path):
    path = write_ctc(tmp_path / "r", LabelStack.of(np.zeros((2, 3, 4), int)))
    assert (path / "res_track.txt").read_text() == ""
    assert not tifffile.imread(path / "mask001.tif").any()
    back = read_ctc(path, join_gaps=True)
    assert (back.labels.n_frames, len(back.lineage)) == (2, 0)


def test_only_such_a_folder_is_replaced(family, tmp_path):
    path = write_ctc(tmp_path / "r", family.labels)
    with pytest.raises(StorageError, match="exists already"):
        write_ctc(path, family.labels)
    write_ctc(path, family.labels, family.lineage, overwrite=True)
    assert "2 3 6 1" in (path / "res_track.txt").read_text()
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match="folder of other things"):
        write_ctc(path, family.labels, overwrite=True)
    assert (path / "thesis.txt").exists()


def test_a_frame_that_fails_leaves_nothing(family, tmp_path):
    reads = []

    def read(frame):
        reads.append(frame)
        if len(reads) > 12:
            raise StackError("the disk is gone")
        return family.array[frame]

    with pytest.raises(StackError, match="the disk is gone"):
        write_ctc(tmp_path / "r", LabelStack(read, family.array.shape))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("1 0 2\n", "line 1: '1 0 2' is not four whole numbers"),
        ("1 0 2 0.5\n", "not four whole numbers"),
        ("1 2 0 0\n", "is no track"),
        ("1 0 2 0\n1 0 2 0\n", "track 1 is there already"),
        ("1 0 2 8\n", "track 1 has the parent 8, which is not in the table"),
        ("1 0 2 2\n2 3 4 1\n", "circle|begins"),
        ("1 0 2 0\n2 1 4 1\n", "object 2 begins on frame 1, but its parent 1"),
        ("1 0 1 0\n", "on frames 0 to 2, but its table says 0 to 1"),
        ("1 0 2 0\n2 0 0 0\n", "track 2 of the table is on no mask"),
        ("2 0 2 0\n", "the masks show track 1 "),
    ],
)
def test_folders_that_do_not_hold_together(tmp_path, table, message):
    path = write_ctc(tmp_path / "r", LabelStack.of(np.ones((3, 4, 5), np.uint8)))
    (path / "res_track.txt").write_text(table)
    with pytest.raises(InputError, match=message):
        read_ctc(path)


def test_folders_that_are_none(family, tmp_path):
    with pytest.raises(StackError, match=r"no res_track\.txt or man_track\.txt"):
        read_ctc(tmp_path)
    path = write_ctc(tmp_path / "r", family.labels)
    (path / "mask003.tif").unlink()
    with pytest.raises(StackError, match="no mask image of frame 3"):
        read_ctc(path)
    for file in path.glob("mask*"):
        file.rename(file.with_name(file.name.replace("mask", "man_track")))
    (path / "man_track000.tif").write_bytes(b"II*\0")
    with pytest.raises(StackError, match="no mask image of frame 3"):
        read_ctc(path)

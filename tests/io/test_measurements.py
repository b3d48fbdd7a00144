"""Measurements are those of the pixels, in the stack's units, and the same in both files."""

from __future__ import annotations

import os
import sys

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from stacksam.errors import InputError, StackError, StorageError
from stacksam.io.label_stack import LabelStack
from stacksam.io.measurements import measure, write_measurements


@pytest.fixture
def raw(family):
    return np.random.default_rng(2).integers(0, 60_000, (*family.array.shape, 2)).astype(np.uint16)


def read(path):
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_every_object_on_every_frame(family, raw, tmp_path, name):
    table = read(write_measurements(tmp_path / name, family.labels, family.lineage, raw=raw.__getitem__))
    rows = {(r.object_id, r.frame): r for r in table.itertuples()}
    known = {(int(i), f) for f, frame in enumerate(family.array) for i in np.unique(frame) if i}
    assert set(rows) == known
    assert len(table) == len(known)
    for (i, f), row in rows.items():
        mask = family.array[f] == i
        ys, xs = np.nonzero(mask)
        assert row.time == 30 * f
        assert row.area == pytest.approx(mask.sum() * 0.125)
        assert (row.centroid_y, row.centroid_x) == pytest.approx((ys.mean() * 0.5, xs.mean() * 0.25))
        assert (row.bbox_y0, row.bbox_x0, row.bbox_y1, row.bbox_x1) == (
            ys.min(), xs.min(), ys.max() + 1, xs.max() + 1,
        )  # fmt: skip
        for c in range(2):
            values = raw[f, ..., c][mask].astype(float)
            for kind, value in (
                ("mean", values.mean()), ("min", values.min()), ("max", values.max()),
                ("std", values.std()), ("sum", values.sum()),
            ):  # fmt: skip
                assert getattr(row, f"intensity_{kind}_{c}") == pytest.approx(value)
        assert row.parent == {2: 1, 30: 1}.get(i, 0)
        assert row.generation == (1 if i in (2, 30) else 0)
        assert (row.track_first, row.track_last) == family.labels.spans[i]
        assert row.track_frames == family.labels.survey[i].frames
    assert set(table["length_unit"]) == {"micrometer"}
    assert set(table["time_unit"]) == {"second"}


def test_both_files_say_the_same(family, raw, tmp_path):
    first, second = (
        read(write_measurements(tmp_path / f"m{end}", family.labels, family.lineage, raw=raw.__getitem__))
        for end in (".csv", ".parquet")
    )
    pd.testing.assert_frame_equal(first, second, check_dtype=False)
    assert second.dtypes["object_id"] == second.dtypes["bbox_y0"] == np.int64


def test_motion_is_per_time_also_over_a_gap(tmp_path):
    a = np.zeros((6, 9, 30), np.uint8)
    for f, x in ((0, 2), (1, 6), (4, 18)):
        a[f, 4, x] = 3
    labels = LabelStack.of(a, scale=(2, 1, 0.5), units=("min", "um", "um"))
    table = pd.concat([pd.DataFrame(columns) for columns in measure(labels)])
    assert table["frame"].tolist() == [0, 1, 4]
    np.testing.assert_allclose(table["displacement"], [np.nan, 2, 6])
    np.testing.assert_allclose(table["speed"], [np.nan, 1, 1])  # micrometres a minute
    np.testing.assert_allclose(table["path_length"], [0, 2, 8])


def test_shape_is_physical(tmp_path):
    """A circle that the pixels' steps have squeezed is a circle."""
    y, x = np.mgrid[:81, :161] - np.array([40, 80])[:, None, None]
    disc = (y / 20.0) ** 2 + (x / 40.0) ** 2 <= 1
    (row,) = measure(LabelStack.of(disc[None].astype(int), scale=(1, 1, 0.5)))
    assert row["eccentricity"][0] < 0.1
    assert row["major_axis_length"][0] == pytest.approx(40, rel=0.01)
    assert row["minor_axis_length"][0] == pytest.approx(40, rel=0.01)
    assert row["area"][0] == pytest.approx(np.pi * 400, rel=0.01)
    assert row["solidity"][0] > 0.96
    assert np.isnan(row["perimeter"][0])  # of square pixels only
    (even,) = measure(LabelStack.of(disc[None].astype(int), scale=(1, 0.5, 0.5)))
    (ones,) = measure(LabelStack.of(disc[None].astype(int)))
    assert even["perimeter"][0] == pytest.approx(ones["perimeter"][0] / 2)
    assert even["eccentricity"][0] == pytest.approx(np.sqrt(1 - 0.25), abs=0.01)
    assert set(ones["length_unit"]) == {"pixel"}


def test_volumes_of_z_stacks(volume, tmp_path):
    table = read(write_measurements(tmp_path / "m.csv", volume.labels))
    assert "speed" not in table
    for i, rows in table.groupby("object_id"):
        np.testing.assert_allclose(rows["volume"], (volume.array == i).sum() * 3 * 0.5 * 0.25)
        np.testing.assert_allclose(rows["depth"], rows["frame"] * 3)
        assert rows["area"].sum() * 3 == pytest.approx(rows["volume"].iloc[0])


def test_large_ids_and_full_frames(tmp_path):
    a = np.full((1, 4, 5), 2**32 - 1, np.uint32)
    a[0, 0] = 7
    (columns,) = measure(LabelStack.of(a), raw=lambda _: np.arange(20.0).reshape(4, 5))
    assert columns["object_id"].tolist() == [7, 2**32 - 1]
    assert columns["intensity_sum_0"].tolist() == [10, 180]
    np.testing.assert_allclose(
        columns["centroid_y"], [ndimage.center_of_mass(a[0] == i)[0] for i in (7, 2**32 - 1)]
    )


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_no_objects_are_a_table_without_rows(tmp_path, name):
    labels = LabelStack.of(np.zeros((2, 3, 4), int))
    table = read(write_measurements(tmp_path / name, labels, raw=lambda _: np.zeros((3, 4))))
    assert len(table) == 0
    assert {"object_id", "area", "intensity_mean_0", "speed", "parent"} <= set(table)


def test_frames_are_read_one_at_a_time(tmp_path):
    """Twice each, for the survey and to be measured, in order; so memory holds one, not the stack."""
    reads = []

    def frame(number):
        reads.append(number)
        return np.ones((3, 4), np.uint8)

    write_measurements(tmp_path / "m.csv", LabelStack(frame, (5, 3, 4)))
    assert reads == [*range(5), *range(5)]


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_refusals(family, tmp_path, monkeypatch, name):
    with pytest.raises(InputError, match=r"frame 0 of the image has shape \(3, 4\)"):
        write_measurements(tmp_path / name, family.labels, raw=lambda _: np.zeros((3, 4)))
    with pytest.raises(InputError, match="object 1 begins"):
        write_measurements(tmp_path / name, family.labels, nx.DiGraph([(2, 1)]))
    with pytest.raises(InputError, match=r"end it with \.csv or \.parquet"):
        write_measurements(tmp_path / "m.xlsx", family.labels)
    odd = LabelStack.of(family.array, units=("s", "um", "nm"))
    with pytest.raises(InputError, match=r"rows of .* are in micrometer, columns in nanometer"):
        write_measurements(tmp_path / name, odd)
    deep = LabelStack.of(family.array, "zyx", units=("mm", "um", "um"))
    with pytest.raises(InputError, match="volumes need one unit"):
        write_measurements(tmp_path / name, deep)

    def fails(frame):
        if frame == 5:
            raise StackError("the disk is gone")
        return np.zeros((24, 37))

    with pytest.raises(StackError, match="is gone"):
        write_measurements(tmp_path / name, family.labels, raw=fails)
    assert os.listdir(tmp_path) == []
    write_measurements(tmp_path / name, family.labels)
    with pytest.raises(StorageError, match="exists already"):
        write_measurements(tmp_path / name, family.labels)
    if name.endswith("parquet"):
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(InputError, match=r"package pyarrow: .*\[formats\]"):
            write_measurements(tmp_path / "again.parquet", family.labels)

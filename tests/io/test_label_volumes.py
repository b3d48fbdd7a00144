"""Labels of volumes through time: a time point is there as a whole, or not."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from stacksam.errors import InputError, StorageError
from stacksam.io import read_labels
from stacksam.io.label_volumes import create_volume_labels, open_volume_labels

SHAPE = (3, 4, 20, 30)
SCALE, UNITS = (60.0, 2.0, 0.5, 0.5), ("s", "um", "um", "um")


@pytest.fixture
def labels(tmp_path):
    return create_volume_labels(tmp_path / "a.ome.zarr", SHAPE, SCALE, UNITS)


def write(labels, time, value, planes=range(4)):
    with labels.writing(time) as volume:
        for z in planes:
            volume[0, z] = np.full(SHAPE[2:], value, np.uint32)


def test_time_points_come_in_any_order_and_may_be_written_again(labels):
    write(labels, 2, 7)
    write(labels, 0, 70_000, planes=[1])
    write(labels, 2, 9, planes=[0, 3])
    expected = np.zeros(SHAPE, np.uint32)
    expected[2, [0, 3]] = 9
    expected[0, 1] = 70_000
    np.testing.assert_array_equal(labels.array[...], expected)
    np.testing.assert_array_equal(open_volume_labels(labels.path).array[...], expected)
    np.testing.assert_array_equal(labels.plane(0, 1), expected[0, 1])
    assert sorted(p.name for p in labels.path.iterdir()) == ["0", "zarr.json"]
    with read_labels(labels.path) as image:
        assert image.axes == "tzyx"
        np.testing.assert_array_equal(image.read(), expected)
        assert [image.scale[axis] for axis in "tzyx"] == list(SCALE)
        assert image.units == {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def test_one_that_is_broken_off_leaves_what_was_there(labels):
    write(labels, 1, 5)
    before = labels.array[...]
    with contextlib.suppress(KeyboardInterrupt), labels.writing(1) as volume:
        volume[0, 0] = 6
        np.testing.assert_array_equal(labels.array[...], before)
        raise KeyboardInterrupt
    np.testing.assert_array_equal(labels.array[...], before)
    write(labels, 1, 0, planes=[])  # nothing is seen there any more
    assert not labels.array[...].any()


def test_scratch_of_a_kill_is_no_hindrance(labels):
    scratch = labels.path / ".time-1.partial" / "0"
    scratch.mkdir(parents=True)
    (scratch / "zarr.json").write_text("{")
    write(labels, 1, 5)
    assert (labels.array[1] == 5).all()
    assert not scratch.parent.exists()


def test_a_full_disk_is_told(labels, monkeypatch):
    import errno
    from pathlib import Path

    write(labels, 1, 5)

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(StorageError, match=r"disk is full; time point 0 was not stored"):
        write(labels, 0, 5)
    monkeypatch.undo()
    assert (labels.array[1] == 5).all()
    assert not labels.array[0].any()


def test_what_cannot_be_made_or_opened(labels, tmp_path):
    with pytest.raises(StorageError, match="exists already"):
        create_volume_labels(labels.path, SHAPE, SCALE, UNITS)
    with pytest.raises(InputError, match=r"shape \(4, 20, 30\)"):
        create_volume_labels(tmp_path / "b", SHAPE[1:], SCALE, UNITS)
    with pytest.raises(InputError, match="four positive numbers"):
        create_volume_labels(tmp_path / "b", SHAPE, (0, *SCALE[1:]), UNITS)
    with pytest.raises(StorageError, match="there are no labels"):
        open_volume_labels(tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(StorageError, match="cannot open the labels"):
        open_volume_labels(tmp_path / "c")

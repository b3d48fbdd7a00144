"""A label stack is looked through once, frame by frame, and what is wrong with it is said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from stacksam.errors import InputError, StackError
from stacksam.io import read_labels, write_labels_ome_zarr, write_labels_tiff
from stacksam.io.label_stack import LabelStack, objects_on


def test_the_survey_knows_every_object_and_its_gaps(family):
    survey = family.labels.survey
    assert list(survey) == [1, 2, 7, 9, 11, 30, 500]
    assert survey[7].runs == ((1, 2), (5, 6))
    for object_id, seen in survey.items():
        frames = np.flatnonzero((family.array == object_id).any((1, 2)))
        assert (seen.first, seen.last, seen.frames) == (frames[0], frames[-1], len(frames))
        assert seen.pixels == (family.array == object_id).sum()
    assert family.labels.spans[7] == (1, 6)


def test_objects_of_a_frame_are_those_of_scipy(family):
    for frame in family.array:
        found = objects_on(frame)
        ids = np.unique(frame[frame > 0])
        np.testing.assert_array_equal(found.ids, ids)
        np.testing.assert_array_equal(found.pixels, [(frame == i).sum() for i in ids])
        for i, centroid, box in zip(ids, found.centroids, found.boxes, strict=True):
            np.testing.assert_allclose(centroid, ndimage.center_of_mass(frame == i))
            rows, columns = ndimage.find_objects((frame == i).astype(int))[0]
            assert tuple(box) == (rows.start, columns.start, rows.stop, columns.stop)


@pytest.mark.parametrize(
    ("top", "dtype"), [(1, np.uint16), (65535, np.uint16), (65536, np.uint32), (2**32 - 1, np.uint32)]
)
def test_the_type_grows_with_the_ids(top, dtype):
    labels = LabelStack.of(np.full((1, 2, 2), top, np.uint64))
    assert labels.dtype == dtype
    (frame,) = labels.frames()
    assert frame.dtype == dtype
    assert (frame == top).all()


def test_ids_that_no_file_holds():
    with pytest.raises(InputError, match="the id 4294967296; files hold ids below"):
        LabelStack.of(np.full((1, 2, 2), 2**32, np.uint64)).dtype  # noqa: B018


def test_files_tell_their_calibration(family, tmp_path):
    options = {"shape": family.array.shape, "axes": "tyx", "scale": (30, 0.5, 0.25)}
    units = ("second", "micrometer", "micrometer")
    for write, name in ((write_labels_tiff, "a.ome.tif"), (write_labels_ome_zarr, "a.ome.zarr")):
        path = write(tmp_path / name, family.array, units=units, **options)
        labels = LabelStack.of(path)
        assert (labels.axes, labels.units, labels.name) == ("tyx", units, "a")
        assert labels.scale == pytest.approx((30, 0.5, 0.25))
        np.testing.assert_array_equal(np.stack(list(labels.frames())), family.array)
        assert LabelStack.of(read_labels(path), "zyx", scale=(1, 2, 3)).scale == (1, 2, 3)


def test_axes_of_one_step_are_passed_over(tmp_path):
    deep = LabelStack.of(np.ones((1, 5, 3, 4), np.uint8))
    assert (deep.axes, deep.shape) == ("zyx", (5, 3, 4))
    flat = LabelStack.of(np.ones((3, 4), np.uint8))
    assert (flat.axes, flat.shape, flat.frame(0).tolist()) == ("tyx", (1, 3, 4), [[1] * 4] * 3)
    with pytest.raises(InputError, match=r"axes tzyx .* one image a frame"):
        LabelStack.of(np.ones((2, 5, 3, 4), np.uint8))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.full((3, 4), -2), "frame 1 of labels has the id -2"),
        (np.full((3, 4), 1.5), "float64 fractions; labels are whole numbers"),
        (np.full((3, 4), 1.0), "float64 values; labels are whole numbers"),
        (np.ones((4, 3), int), r"frame 1 of labels has shape \(4, 3\); all must have \(3, 4\)"),
    ],
)
def test_frames_that_are_no_labels(frame, message):
    frames = [np.ones((3, 4), int), frame]
    labels = LabelStack(frames.__getitem__, (2, 3, 4))
    with pytest.raises(InputError, match=message):
        labels.survey  # noqa: B018


def test_sources_that_are_no_labels():
    with pytest.raises(StackError, match="float64 values"):
        LabelStack.of(np.zeros((2, 3, 4)))
    with pytest.raises(InputError, match="three positive numbers"):
        LabelStack.of(np.zeros((2, 3, 4), int), scale=(0, 1, 1))
    with pytest.raises(InputError, match="rows of labels are in micrometer, columns in pixels"):
        LabelStack(lambda _: None, (1, 1, 1), units=(None, "um", None)).length_unit()

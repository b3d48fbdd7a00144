"""Volumes lie where the affine says, for nibabel, for ITK and for pynrrd."""

from __future__ import annotations

import gzip
import os
import sys

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stacksam.errors import InputError, StorageError
from stacksam.io.label_stack import LabelStack
from stacksam.io.volumes import write_nifti, write_nrrd

WRITERS = [(write_nifti, "v.nii.gz"), (write_nifti, "v.nii"), (write_nrrd, "v.nrrd")]
writers = pytest.mark.parametrize(("write", "name"), WRITERS, ids=[name for _, name in WRITERS])

# z to the head in steps of 3, rows (y) to the back, columns (x) to the left: an axial CT, turned by 0.3.
_TURN = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
AXIAL = np.eye(4)
AXIAL[:3, :3] = _TURN @ np.array([[0, 0, -0.5], [0, -0.6, 0], [3.0, 0, 0]])
AXIAL[:3, 3] = (90.5, 120, -700)


def in_ras(image, zyx):
    """Where ITK, which thinks in LPS, has a voxel, in RAS."""
    left, back, head = image.TransformIndexToPhysicalPoint([int(k) for k in zyx[::-1]])
    return -left, -back, head


@writers
def test_itk_finds_every_voxel_where_the_affine_says(volume, tmp_path, write, name):
    image = SimpleITK.ReadImage(str(write(tmp_path / name, volume.labels, affine=AXIAL)))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.array)
    for zyx in [(0, 0, 0), (7, 0, 0), (0, 23, 0), (0, 0, 36), (3, 11, 17)]:
        np.testing.assert_allclose(in_ras(image, zyx), (AXIAL @ [*zyx, 1])[:3], atol=1e-4)
    np.testing.assert_allclose(image.GetSpacing(), (0.5, 0.6, 3.0), rtol=1e-6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(values=st.lists(st.floats(-9, 9), min_size=12, max_size=12))
def test_nibabel_gives_the_affine_back(volume, tmp_path, values):
    """Sheared ones too, which only one of NIfTI's two ways can say."""
    affine = np.vstack([np.reshape(values, (3, 4)), (0, 0, 0, 1)])
    size = np.linalg.norm(affine[:3, :3], axis=0)
    if size.min() < 1e-2 or abs(np.linalg.det(affine[:3, :3] / size)) < 1e-2:
        return
    image = nibabel.load(write_nifti(tmp_path / "v.nii", volume.labels, affine=affine, overwrite=True))
    np.testing.assert_allclose(image.affine[:, [2, 1, 0, 3]], affine, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(image.header.get_zooms(), size[::-1], rtol=1e-5)
    if image.header["qform_code"]:
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-2)
    assert image.header.get_xyzt_units()[0] == "mm"
    write_nrrd(tmp_path / "v.nrrd", volume.labels, affine=affine, overwrite=True)
    header = nrrd.read_header(str(tmp_path / "v.nrrd"))
    assert header["space"] == "right-anterior-superior"
    np.testing.assert_allclose(header["space directions"].T[:, ::-1], affine[:3, :3])
    np.testing.assert_allclose(header["space origin"], affine[:3, 3])


def test_without_an_affine_steps_lie_on_the_diagonal(volume, tmp_path):
    image = nibabel.load(write_nifti(tmp_path / "v.nii.gz", volume.labels))
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), volume.array.T)
    np.testing.assert_allclose(image.affine, np.diag([0.25, 0.5, 3.0, 1]))
    assert image.header.get_xyzt_units()[0] == "micron"
    assert image.get_data_dtype() == np.uint16
    assert image.header.get_intent()[0] == "label"
    data, header = nrrd.read(str(write_nrrd(tmp_path / "v.nrrd", volume.labels)))
    np.testing.assert_array_equal(data, volume.array.T)
    np.testing.assert_array_equal(header["space directions"], np.diag([0.25, 0.5, 3.0]))
    assert header["space units"] == ["um"] * 3


def test_time_lapses(family, tmp_path):
    image = nibabel.load(write_nifti(tmp_path / "v.nii.gz", family.labels))
    np.testing.assert_array_equal(np.asanyarray(image.dataobj)[:, :, 0], family.array.transpose(2, 1, 0))
    np.testing.assert_allclose(image.header.get_zooms(), (0.25, 0.5, 1, 30))
    assert image.header.get_xyzt_units() == ("micron", "sec")
    data, header = nrrd.read(str(write_nrrd(tmp_path / "v.nrrd", family.labels)))
    np.testing.assert_array_equal(data, family.array.T)
    np.testing.assert_array_equal(header["spacings"], (0.25, 0.5, 30))
    assert header["kinds"] == ["domain", "domain", "time"]
    assert header["units"] == ["um", "um", "s"]
    itk = SimpleITK.ReadImage(str(tmp_path / "v.nrrd"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk), family.array)


@pytest.mark.parametrize(
    ("units", "scale", "spacing", "unit"),
    [
        ((None,) * 3, (3, 0.5, 0.25), (3, 0.5, 0.25), "unknown"),
        (("nm",) * 3, (300, 50, 25), (0.3, 0.05, 0.025), "micron"),
        (("mm", "um", "um"), (0.003, 0.5, 0.25), (3, 0.5, 0.25), "micron"),
        (("cm",) * 3, (0.3, 0.1, 0.2), (3, 1, 2), "mm"),
    ],
)
def test_units_that_nifti_does_not_have_are_converted(volume, tmp_path, units, scale, spacing, unit):
    labels = LabelStack.of(volume.array, "zyx", scale=scale, units=units)
    header = nibabel.load(write_nifti(tmp_path / "v.nii", labels)).header
    np.testing.assert_allclose(header.get_zooms()[::-1], spacing, rtol=1e-6)
    assert header.get_xyzt_units()[0] == unit


def test_minutes_become_seconds(family, tmp_path):
    labels = LabelStack.of(family.array, scale=(2, 1, 1), units=("min", "um", "um"))
    header = nibabel.load(write_nifti(tmp_path / "v.nii", labels)).header
    assert header.get_zooms()[3] == 120
    assert header.get_xyzt_units()[1] == "sec"


@writers
def test_large_ids(tmp_path, write, name):
    array = np.arange(24, dtype=np.uint32).reshape(2, 3, 4) * 4_000
    path = write(tmp_path / name, LabelStack.of(array, "zyx"))
    found = SimpleITK.ReadImage(str(path))
    assert found.GetPixelIDTypeAsString() == "32-bit unsigned integer"
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(found), array)


@writers
def test_equal_labels_make_equal_files(volume, tmp_path, write, name):
    first = write(tmp_path / name, volume.labels).read_bytes()
    assert write(tmp_path / name, volume.labels, overwrite=True).read_bytes() == first
    if name.endswith("gz"):
        assert len(gzip.decompress(first)) == 352 + volume.array.nbytes


@writers
@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), "4 × 4 finite numbers"),
        (np.diag([1, 1, np.nan, 1]), "4 × 4 finite numbers"),
        (np.ones((4, 4)), "the last row 0, 0, 0, 1"),
        (np.diag([1, 0, 1, 1]), "makes the volume flat"),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "makes the volume flat"),
    ],
)
def test_affines_that_place_nothing(volume, tmp_path, write, name, affine, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / name, volume.labels, affine=affine)
    assert os.listdir(tmp_path) == []


@writers
def test_refusals(family, volume, tmp_path, write, name):
    with pytest.raises(InputError, match="the frames of family lie along t"):
        write(tmp_path / name, family.labels, affine=np.eye(4))
    with pytest.raises(InputError, match="end it with"):
        write(tmp_path / "v.tif", volume.labels)
    mixed = LabelStack.of(volume.array, "zyx", units=("second", "um", "um"))
    with pytest.raises(InputError, match="a step in second beside others"):
        write(tmp_path / name, mixed)
    write(tmp_path / name, volume.labels)
    with pytest.raises(StorageError, match="exists already"):
        write(tmp_path / name, volume.labels)


def test_volumes_that_nifti_cannot_hold(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="40000 steps along an axis; NIfTI-1 holds up to 32767"):
        write_nifti(tmp_path / "v.nii", LabelStack.of(np.ones((1, 1, 40000), np.uint8)))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"napari-stacksam\[formats\]"):
        write_nifti(tmp_path / "v.nii", LabelStack.of(np.ones((1, 1, 4), np.uint8)))
    assert os.listdir(tmp_path) == []

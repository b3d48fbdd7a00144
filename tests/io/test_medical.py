"""Volumes of NIfTI, NRRD and DICOM: the same voxels at the same place in the body; bad files are named."""

from __future__ import annotations

import gzip
import sys

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless, generate_uid

from stacksam.errors import StackError
from stacksam.io._affine import checked_affine, from_xyz, shifted, spacing_of
from stacksam.io._turn import resampled, turned, unturned
from stacksam.io.images import open_image

SHAPE = (5, 6, 7)  # z, y, x


def voxels(shape=SHAPE, dtype=np.int16, seed=0):
    return np.random.default_rng(seed).integers(-900, 900, shape).astype(dtype)


def oblique(spacing=(0.75, 0.5, 2.5), flip=(1, 1, 1), degrees=20.0):
    """An affine of (x, y, z) as NIfTI has it, exact in single precision."""
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(a / 2), -np.sin(a / 2)], [0, np.sin(a / 2), np.cos(a / 2)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(np.array(spacing) * flip)
    affine[:3, 3] = (-90.25, 40.5, 12.125)
    return affine.astype(np.float32).astype(np.float64)


AFFINES = {
    "plain": np.diag([0.75, 0.5, 2.5, 1.0]),
    "flipped": np.diag([-0.75, -0.5, 2.5, 1.0]),
    "oblique": oblique(),
    "oblique and flipped": oblique(flip=(-1, 1, -1)),
    "sagittal": np.array([[0, 0, -2.5, 4], [0.75, 0, 0, 5], [0, 0.5, 0, 6], [0, 0, 0, 1.0]]),
}


def save_nifti(path, data, affine, **header):
    """Write our (t, z, y, x) order as NIfTI."""
    volume = nibabel.Nifti1Image(data.T, affine)
    volume.header.set_xyzt_units(**header or {"xyz": "mm", "t": "sec"})
    nibabel.save(volume, path)
    return path


def world(affine, index):
    return (affine @ [*index, 1.0])[:3]


# --- NIfTI --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_nifti_gives_voxels_and_where_they_lie(tmp_path, name, affine):
    data = voxels()
    path = save_nifti(tmp_path / name, data, affine)
    image = open_image(path)
    assert (image.axes, image.shape, image.dtype, image.name) == ("zyx", SHAPE, np.int16, "v")
    np.testing.assert_array_equal(image.read(), data)
    np.testing.assert_array_equal(image.read(z=3, y=slice(1, 6, 2), x=-1), data[3, 1:6:2, -1])
    x, y, z = (np.linalg.norm(affine[:3, k]) for k in range(3))
    assert image.scale == pytest.approx({"z": z, "y": y, "x": x}, rel=1e-6)
    assert set(image.units.values()) == {"millimeter"}
    # To the last bit, and in our order of indices.
    np.testing.assert_array_equal(from_xyz(image.affine), affine)
    np.testing.assert_array_equal(world(image.affine, (4, 2, 1)), world(affine, (1, 2, 4)))


def test_nifti_in_time(tmp_path):
    data = voxels((3, *SHAPE))
    image = open_image(save_nifti(tmp_path / "bold.nii", data, AFFINES["oblique"]))
    assert image.axes == "tzyx"
    np.testing.assert_array_equal(image.read(t=2, z=1), data[2, 1])
    volume = nibabel.load(tmp_path / "bold.nii")
    volume.header["pixdim"][4] = 2.5
    nibabel.save(volume, tmp_path / "slow.nii")
    slow = open_image(tmp_path / "slow.nii")
    assert (slow.scale["t"], slow.units["t"]) == (2.5, "second")


def test_nifti_is_scaled_and_counts_in_millimetres(tmp_path):
    volume = nibabel.Nifti1Image(voxels().T, np.diag([500.0, 500.0, 2000.0, 1.0]))
    volume.header.set_slope_inter(2.0, -1024.0)
    volume.header.set_xyzt_units("micron")
    nibabel.save(volume, tmp_path / "v.nii.gz")
    image = open_image(tmp_path / "v.nii.gz")
    stored = np.asarray(nibabel.load(tmp_path / "v.nii.gz").dataobj).T
    assert image.dtype == np.float32
    np.testing.assert_allclose(image.read(), stored)
    assert image.scale == {"z": 2.0, "y": 0.5, "x": 0.5}
    np.testing.assert_allclose(image.affine[:3, :3], np.fliplr(np.diag([0.5, 0.5, 2.0])))


def test_a_slice_of_a_plain_file_is_all_that_is_read(tmp_path, monkeypatch):
    data = voxels()
    image = open_image(save_nifti(tmp_path / "v.nii", data, np.eye(4)))
    image.read(z=0)
    # Only the first slice is left in the file, and it still reads.
    with (tmp_path / "v.nii").open("r+b") as file:
        file.truncate(352 + 2 * data[0].size)
    np.testing.assert_array_equal(image.read(z=0), data[0])
    with pytest.raises(StackError, match="z=3"):
        image.read(z=3)


def test_nifti_cut_short(tmp_path):
    whole = save_nifti(tmp_path / "v.nii", voxels((20, 30, 30)), np.eye(4)).read_bytes()
    (tmp_path / "short.nii").write_bytes(whole[:-10])
    with pytest.raises(StackError, match=r"short\.nii is cut short: it has \d+ bytes of \d+"):
        open_image(tmp_path / "short.nii")
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(whole)[:-2000])
    with pytest.raises(StackError, match=r"short\.nii\.gz is (damaged or )?cut short"):
        open_image(tmp_path / "short.nii.gz").read(z=0)
    (tmp_path / "no.nii").write_bytes(b"nothing of the kind" * 40)
    with pytest.raises(StackError, match=r"cannot read .*no\.nii as NIfTI"):
        open_image(tmp_path / "no.nii")
    (tmp_path / "no.nii.gz").write_bytes(b"nothing of the kind" * 40)
    with pytest.raises(StackError, match=r"cannot read .*no\.nii\.gz as NIfTI"):
        open_image(tmp_path / "no.nii.gz")


def test_nifti_without_spacing_or_depth(tmp_path):
    flat = np.diag([1.0, 1.0, 1.0, 1.0])
    flat[2, 2] = 0
    volume = nibabel.Nifti1Image(voxels().T, np.eye(4))
    volume.header.set_sform(flat, 1)
    with (tmp_path / "flat.nii").open("wb") as file:
        file.write(volume.header.binaryblock + bytes(4) + volume.dataobj.tobytes(order="F"))
    with pytest.raises(StackError, match=r"affine of .*flat\.nii is singular: the spacing along z is 0"):
        open_image(tmp_path / "flat.nii")
    volume.header.set_sform(None, 0)
    volume.header.set_qform(None, 0)
    volume.header["pixdim"][1:4] = (1, 0, 1)
    with (tmp_path / "zero.nii").open("wb") as file:
        file.write(volume.header.binaryblock + bytes(4) + volume.dataobj.tobytes(order="F"))
    with pytest.raises(StackError, match=r"spacing of .*zero\.nii along y is 0"):
        open_image(tmp_path / "zero.nii")


@pytest.mark.parametrize(
    ("affine", "match"),
    [
        (np.eye(3), "shape"),
        (np.full((4, 4), np.nan), "finite"),
        (np.diag([1, 1, 1, 2]), "last row"),
        (np.diag([0, 1, 1, 1]), "along z is 0"),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "one plane"),
        ("nonsense", "no matrix"),
    ],
)
def test_affines_that_cannot_be(affine, match):
    with pytest.raises(StackError, match=match):
        checked_affine(affine, "it")


def test_tiny_voxels_are_not_flat():
    assert spacing_of(checked_affine(np.diag([1e-5, 1e-6, 1e-6, 1]), "it"))["y"] == 1e-6


def test_a_part_of_a_volume_lies_where_it_lay():
    affine = checked_affine(from_xyz(AFFINES["oblique"]), "it")
    np.testing.assert_allclose(
        world(shifted(affine, (2, 0, 1)), (1, 1, 1)), world(affine, (3, 1, 2)), rtol=1e-12
    )


@pytest.mark.parametrize(("module", "name"), [("nibabel", "v.nii"), ("nrrd", "v.nrrd"), ("pydicom", "v.dcm")])
def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch, module, name):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StackError, match=r'pip install "napari-stacksam\[medical\]"'):
        open_image(tmp_path / name)


# --- NRRD ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize(
    ("space", "signs"), [("left-posterior-superior", (-1, -1, 1)), ("RAS", (1, 1, 1)), ("LAS", (-1, 1, 1))]
)
def test_nrrd_gives_voxels_and_where_they_lie(tmp_path, encoding, space, signs):
    data, affine = voxels(), oblique(flip=(1, -1, 1))
    header = {
        "space": space,
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "encoding": encoding,
    }
    nrrd.write(str(tmp_path / "v.nrrd"), data.T, header)
    image = open_image(tmp_path / "v.nrrd")
    assert (image.axes, image.dtype, image.units["z"]) == ("zyx", np.int16, "millimeter")
    np.testing.assert_array_equal(image.read(), data)
    np.testing.assert_array_equal(image.read(z=2, x=slice(0, 3)), data[2, :, :3])
    expected = np.diag([*signs, 1]) @ affine
    np.testing.assert_allclose(from_xyz(image.affine), expected, rtol=1e-12)


def test_nrrd_in_time_in_colour_and_without_a_space(tmp_path):
    movie = voxels((3, *SHAPE))
    directions = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 3], [np.nan] * 3])
    header = {
        "space": "left-posterior-superior",
        "space directions": directions,
        "kinds": ["domain", "domain", "domain", "list"],
    }
    nrrd.write(str(tmp_path / "movie.nrrd"), movie.T, header)
    image = open_image(tmp_path / "movie.nrrd")
    assert (image.axes, image.scale["z"]) == ("tzyx", 3.0)
    np.testing.assert_array_equal(image.read(t=1), movie[1])
    picture = voxels((6, 7, 3)).astype(np.uint8)
    nrrd.write(
        str(tmp_path / "rgb.nrrd"), picture.transpose(2, 1, 0), {"kinds": ["RGB-color", "domain", "domain"]}
    )
    image = open_image(tmp_path / "rgb.nrrd")
    assert (image.axes, image.rgb, image.affine) == ("cyx", True, None)
    np.testing.assert_array_equal(image.read(c=1), picture[..., 1])
    nrrd.write(str(tmp_path / "plain.nrrd"), voxels().T, {"spacings": [0.5, 0.5, 2.0], "units": ["um"] * 3})
    image = open_image(tmp_path / "plain.nrrd")
    assert (image.affine, image.scale["z"], image.units["z"]) == (None, 2.0, "micrometer")


def test_nrrd_that_cannot_be_read(tmp_path):
    nrrd.write(str(tmp_path / "v.nrrd"), voxels().T, {"encoding": "raw"})
    (tmp_path / "short.nrrd").write_bytes((tmp_path / "v.nrrd").read_bytes()[:-7])
    with pytest.raises(StackError, match="cut short"):
        open_image(tmp_path / "short.nrrd")
    nrrd.write(str(tmp_path / "z.nrrd"), voxels().T)
    (tmp_path / "short-z.nrrd").write_bytes((tmp_path / "z.nrrd").read_bytes()[:-100])
    with pytest.raises(StackError, match="cut short"):
        open_image(tmp_path / "short-z.nrrd").read(z=0)
    (tmp_path / "no.nrrd").write_bytes(b"no header")
    with pytest.raises(StackError, match="as NRRD"):
        open_image(tmp_path / "no.nrrd")
    nrrd.write(str(tmp_path / "zero.nrrd"), voxels().T, {"spacings": [1.0, 0.0, 1.0]})
    with pytest.raises(StackError, match="along y is 0"):
        open_image(tmp_path / "zero.nrrd")
    header = {"space": "LPS", "space directions": np.diag([1.0, 1.0, 0.0])}
    nrrd.write(str(tmp_path / "flat.nrrd"), voxels().T, header)
    with pytest.raises(StackError, match="along z is 0"):
        open_image(tmp_path / "flat.nrrd")


# --- DICOM --------------------------------------------------------------------------------------------

SERIES = generate_uid()


def save_slice(path, pixels, position, *, orientation=(1, 0, 0, 0, 1, 0), spacing=(0.5, 0.75), **tags):
    """A CT slice: int16 on disk, 1024 above its HU."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    one.SeriesInstanceUID, one.SeriesNumber, one.Modality = SERIES, 1, "CT"
    one.Rows, one.Columns = pixels.shape
    one.ImagePositionPatient, one.ImageOrientationPatient = list(position), list(orientation)
    one.PixelSpacing, one.SliceThickness = list(spacing), 2.0
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 1, 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    for name, value in tags.items():
        setattr(one, name, value)
    one.PixelData = (pixels + 1024).astype("<i2").tobytes()
    one.save_as(path, enforce_file_format=True)
    return one


def save_series(folder, data, *, start=0, step=(0.0, 0.0, 2.5), named="IM{:03d}.dcm", shuffled=True, **tags):
    """Slices whose names and numbers say nothing of their order."""
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(1).permutation(len(data)) if shuffled else range(len(data))
    for number, k in enumerate(order):
        position = np.array([-90.0, -80.0, 10.0]) + k * np.array(step)
        save_slice(folder / named.format(start + number), data[k], position, **tags)
    return folder


@pytest.mark.parametrize("named", ["IM{:03d}.dcm", "IM{:03d}"])
def test_dicom_series_is_ordered_by_place(tmp_path, named):
    data = voxels()
    folder = save_series(tmp_path / "ct", data, named=named)
    image = open_image(folder)
    assert (image.axes, image.shape, image.name) == ("zyx", SHAPE, "ct")
    np.testing.assert_array_equal(image.read(), data)  # in HU
    np.testing.assert_array_equal(image.read(z=slice(3, 0, -2), x=2), data[3:0:-2, :, 2])
    assert image.scale == {"z": 2.5, "y": 0.5, "x": 0.75}
    # DICOM's patient axes go to the left and to the back.
    np.testing.assert_allclose(world(image.affine, (0, 0, 0)), (90, 80, 10))
    np.testing.assert_allclose(world(image.affine, (2, 4, 3)), (90 - 3 * 0.75, 80 - 4 * 0.5, 10 + 2 * 2.5))


def test_dicom_oblique_and_tilted(tmp_path):
    """Every voxel lies where its own slice says, also where slices are shifted against each other."""
    data = voxels()
    a = np.deg2rad(30)
    rows, columns = (np.cos(a), np.sin(a), 0), (-np.sin(a), np.cos(a), 0)
    folder = save_series(tmp_path / "tilted", data, orientation=(*rows, *columns), step=(0.0, 1.0, 2.5))
    image = open_image(folder)
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        k = next(k for k in range(5) if np.array_equal(image.read(z=k), one.pixel_array - 1024))
        there = np.array(one.ImagePositionPatient) + 3 * 0.75 * np.array(rows) + 2 * 0.5 * np.array(columns)
        np.testing.assert_allclose(world(image.affine, (k, 2, 3)), there * (-1, -1, 1), atol=1e-6)


def test_dicom_slices_may_be_scaled_each_in_its_way(tmp_path):
    """As in PET. Compressed slices are read as well where pydicom alone can."""
    folder = tmp_path / "pet"
    folder.mkdir()
    data = voxels()
    for k in range(5):
        one = save_slice(
            folder / f"{k}.dcm", data[k], (0, 0, 2 * k), RescaleSlope=0.5 + k / 4, RescaleIntercept=3
        )
        one.compress(RLELossless, generate_instance_uid=False)
        one.save_as(folder / f"{k}.dcm")
    image = open_image(folder)
    assert image.dtype == np.float32
    expected = (data + 1024.0) * (0.5 + np.arange(5) / 4)[:, None, None] + 3
    np.testing.assert_allclose(image.read(), expected)


def test_dicom_of_several_series_asks_which(tmp_path):
    folder = save_series(tmp_path / "study", voxels(), SeriesDescription="THORAX", SeriesNumber=7)
    other = voxels((3, 6, 7), seed=2)
    save_series(folder, other, start=50, SeriesInstanceUID=generate_uid(), SeriesNumber=2, Modality="MR")
    with pytest.raises(
        StackError,
        match=r"2 series; choose one with series=. 0: MR '' \(number 2, 3 images of 6 × 7\); "
        r"1: CT 'THORAX' \(number 7, 5 images",
    ):
        open_image(folder)
    np.testing.assert_array_equal(open_image(folder, series=0).read(), other)
    np.testing.assert_array_equal(open_image(folder, series=1).read(), voxels())
    with pytest.raises(StackError, match="no series 2; it has 0: MR"):
        open_image(folder, series=2)


def test_dicom_list_and_single_file(tmp_path):
    folder = save_series(tmp_path / "ct", voxels(), shuffled=False)
    files = sorted(folder.iterdir())
    np.testing.assert_array_equal(open_image(files[:3][::-1]).read(), voxels()[:3])
    one = open_image(files[2])
    assert (one.shape, one.scale["z"]) == ((1, 6, 7), 2.0)
    with pytest.raises(StackError, match="axes are known"):
        open_image(folder, axes="tyx")


def bad_series(tmp_path, kind):
    folder, data = tmp_path / "ct", voxels((8, 6, 7))
    save_series(folder, data, shuffled=False)
    files = sorted(folder.iterdir())
    match kind:
        case "missing":
            files[2].unlink()
            files[5].unlink()
            files[6].unlink()
        case "uneven":
            save_slice(files[3], data[3], (-90, -80, 10 + 2.5 * 3 - 0.6))
            save_slice(files[4], data[4], (-90, -80, 10 + 2.5 * 4 - 0.6))
        case "twice":
            save_slice(folder / "echo2.dcm", data[3], (-90, -80, 10 + 2.5 * 3))
        case "beside":
            save_slice(files[3], data[3], (-60, -80, 10 + 2.5 * 3))
        case "orientation":
            save_slice(files[3], data[3], (0, 0, 0), orientation=(0, 1, 0, 0, 0, -1))
        case "sizes":
            save_slice(files[3], np.zeros((4, 4), np.int16), (-90, -80, 10 + 2.5 * 3))
        case "zero":
            for k, path in enumerate(files):
                save_slice(path, data[k], (0, 0, k), spacing=(0, 0.75))
        case "frames":
            save_slice(files[0], data[0], (0, 0, 0), NumberOfFrames=4)
        case "codec":
            one = pydicom.dcmread(files[0])
            one.file_meta.TransferSyntaxUID = JPEGLSLossless
            one.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7"])
            one["PixelData"].VR = "OB"
            one.save_as(files[0])
        case "video":
            one = pydicom.dcmread(files[0])
            one.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
            one.PixelData = pydicom.encaps.encapsulate([b"\x00\x00\x01\xb3"])
            one["PixelData"].VR = "OB"
            one.save_as(files[0])
        case "placeless":
            one = pydicom.dcmread(files[0])
            del one.ImagePositionPatient
            one.save_as(files[0])
        case "damaged":
            files[0].write_bytes(b"no DICOM at all" * 20)
        case "slope":
            save_slice(files[0], data[0], (-90, -80, 10), RescaleSlope=0)
    return folder


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("missing", r"lacks slices: 1 at 15\.0 mm, 2 at 22\.5 mm"),
        ("uneven", r"lacks slices: part of one|mm apart; a volume has one"),
        ("twice", "echo2"),
        ("beside", r"IM003\.dcm is .* mm beside it"),
        ("orientation", r"several orientations in one series \(7 of .*, 1 of"),
        ("sizes", r"several sizes in one series \(7 of 6 × 7, 1 of 4 × 4\)"),
        ("zero", r"pixel spacing of .* is 0 × 0\.75 mm"),
        ("frames", "multi-frame"),
        ("codec", r"JPEG-LS.*pip install"),
        ("video", r"MPEG2.*cannot be read"),
        ("placeless", "do not tell where they lie"),
        ("damaged", r"cannot read .*IM000\.dcm as DICOM"),
        ("slope", "slope of 0"),
    ],
)
def test_dicom_that_is_no_volume(tmp_path, kind, match):
    if kind == "codec" and pydicom.pixels.get_decoder(JPEGLSLossless).is_available:
        pytest.skip("this machine can decode it")
    with pytest.raises(StackError, match=match):
        open_image(bad_series(tmp_path, kind))


def test_dicom_pixels_cut_short(tmp_path):
    folder = save_series(tmp_path / "ct", voxels(), shuffled=False)
    path = folder / "IM001.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    image = open_image(folder)
    np.testing.assert_array_equal(image.read(z=0), voxels()[0])
    with pytest.raises(StackError, match=r"pixels of .*IM001\.dcm"):
        image.read(z=1)


# --- turned -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", "zyx")
def test_turned_volumes_show_the_same_voxels_at_the_same_place(tmp_path, axis):
    data = voxels()
    image = open_image(save_nifti(tmp_path / "v.nii", data, AFFINES["oblique"]))
    seen = turned(image, axis)
    whole = seen.read()
    np.testing.assert_array_equal(unturned(whole, axis), data)
    np.testing.assert_array_equal(seen.read(z=2, x=slice(1, 4)), whole[2, :, 1:4])
    index = dict(zip("zyx", (3, 2, 4), strict=True))
    there = [index[letter] for letter in {"z": "zyx", "y": "yzx", "x": "xzy"}[axis]]
    np.testing.assert_allclose(world(seen.affine, there), world(image.affine, (3, 2, 4)), rtol=1e-12)
    assert whole[tuple(there)] == data[3, 2, 4]
    assert spacing_of(seen.affine) == pytest.approx(seen.scale)


def test_resampling_covers_the_same_ground():
    ramp = np.arange(8.0)[None, :, None] * 3 + np.arange(6.0)[None, None, :] + np.zeros((2, 1, 1))
    image = resampled(open_image(ramp, axes="zyx"), (32, 6))
    out = image.read(z=1)
    assert (image.shape, image.scale["y"]) == ((2, 32, 6), 0.25)
    inner = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    np.testing.assert_allclose(out, inner[:, None] * 3 + np.arange(6.0), atol=1e-5)
    np.testing.assert_array_equal(image.read(z=0, y=slice(4, 20, 3), x=2), out[4:20:3, 2])

"""Stacks with ground truth: the public data sets of the evaluation, and the shipped samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from stacksam.errors import InputError, StackError, StacksamError

__all__ = ["LOADERS", "Clip", "Dataset", "available_sets", "load_all", "load_dataset", "named_sets"]


CT_SOFT_TISSUE = (-160, 240)
"""Window of CT numbers (HU) that abdominal organs are read in."""

LARGEST_STRUCTURES = 10
"""Structures of a CT or MR volume of many that are measured: the small ones are a few voxels wide at 3 mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One stack with ground truth.

    Attributes
    ----------
    name : str
    images : array, shape (T, Y, X) or (T, Y, X, C)
    labels : array of int, shape (T, Y, X)
        0 is background; an id is the same object on all frames.
    volume : bool
        Frames are planes of a volume: prompted in the middle, propagated both ways.
    note : str
        What a reader of the figures should know.
    largest : int, optional
        Objects of this clip that the protocol measures, those with the most voxels; None: the usual choice.
    spacing : (float, float, float), optional
        Distances of planes, rows and columns, all in one unit; None where the file does not tell.
    """

    name: str
    images: NDArray[Any]
    labels: NDArray[Any]
    volume: bool = False
    note: str = ""
    largest: int | None = None
    spacing: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.images.ndim not in (3, 4) or self.images.shape[:3] != self.labels.shape:
            raise StackError(
                f"{self.name}: images have shape {self.images.shape} and labels {self.labels.shape}; "
                "images must be (T, Y, X) or (T, Y, X, C) and labels (T, Y, X) of the same frames"
            )
        if not len(self.labels):
            raise StackError(f"{self.name}: the stack has no frames")

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.labels)

    @property
    def prompted_frame(self) -> int:
        """Frame whose truth the prompts are made from."""
        return self.n_frames // 2 if self.volume else 0


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Clips whose objects are pooled into one row of figures."""

    name: str
    clips: tuple[Clip, ...]


def available_sets(data: Path | None) -> tuple[str, ...]:
    """Names of the data sets that have their files in a folder, and of the shipped samples."""
    return tuple(
        name
        for name, (folder, _) in LOADERS.items()
        if folder is None or (data is not None and (data / folder).is_dir())
    )


def load_dataset(name: str, data: Path | None = None) -> Dataset:
    """Read one data set.

    Parameters
    ----------
    name : str
        One of :func:`available_sets`.
    data : Path, optional
        Folder of the data sets; the shipped samples need none.

    Raises
    ------
    InputError
        If the name is unknown or the set is not in the folder.
    StackError
        If its files cannot be read, or need nibabel and that is not installed.
    """
    if name not in LOADERS:
        raise InputError(f"data set {name!r} is unknown; choose from {', '.join(LOADERS)}")
    folder, load = LOADERS[name]
    if folder is None:
        return Dataset(name, load(Path()))
    if data is None:
        raise InputError(f"data set {name!r} needs a folder: give --data, or set STACKSAM_EVALDATA")
    if not (data / folder).is_dir():
        raise InputError(f"data set {name!r} is not in {data}; it should hold the folder {folder}")
    return Dataset(name, load(data / folder))


def named_sets(sets: Sequence[str]) -> tuple[str, ...]:
    """Full names of the sets asked for, in the order of the table of loaders."""
    for asked in sets:
        if not any(asked in (name, name.split("/")[0]) for name in LOADERS):
            raise InputError(f"data set {asked!r} is unknown; choose from {', '.join(LOADERS)}")
    return tuple(name for name in LOADERS if name in sets or name.split("/")[0] in sets)


def load_all(
    names: Sequence[str], data: Path | None, *, strict: bool, tell: Callable[[str], None]
) -> Iterator[Dataset]:
    """Read sets one after the other; unless strict, one that cannot be read is told of and passed over."""
    for name in names:
        try:
            dataset = load_dataset(name, data)
        except StacksamError as error:
            if strict:
                raise
            tell(f"skipped {name}: {error}")
            continue
        yield dataset


def _read_tiff(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(tifffile.imread(path))
    except (OSError, tifffile.TiffFileError) as error:
        raise StackError(f"{path} cannot be read: {error}") from error


def _stack_pair(folder: Path, *, volume: bool, note: str = "") -> tuple[Clip, ...]:
    """A folder with images.tif and labels.tif, frames first."""
    images, labels = _read_tiff(folder / "images.tif"), _read_tiff(folder / "labels.tif")
    return (Clip(folder.name, images, labels, volume, note),)


def _single_images(folder: Path) -> tuple[Clip, ...]:
    """A folder of NAME_image.tif and NAME_label.tif, each a stack of one frame."""
    paths = sorted(folder.glob("*_image.tif"))
    if not paths:
        raise StackError(
            f"{folder} holds no image; its files should be named NAME_image.tif and NAME_label.tif"
        )
    return tuple(
        Clip(
            path.name.removesuffix("_image.tif"),
            _read_tiff(path)[np.newaxis],
            _read_tiff(path.with_name(path.name.replace("_image.tif", "_label.tif")))[np.newaxis],
        )
        for path in paths
    )


def _read_nifti(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """A NIfTI volume and its spacing in mm, last axis first: in the sets used here that is between images."""
    nibabel = _nibabel()
    try:
        image = nibabel.load(path)
        voxels = np.asanyarray(image.dataobj)
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise StackError(f"{path} cannot be read: {error}") from error
    if voxels.ndim != 3:
        raise StackError(f"{path} has shape {voxels.shape}; a volume has three axes")
    x, y, z = (float(step) for step in image.header.get_zooms())
    return np.ascontiguousarray(voxels.T), (z, y, x)


def _nibabel() -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise StackError("NIfTI files need the package nibabel: pip install nibabel") from error
    return nibabel


def _totalsegmentator(modality: Literal["ct", "mr"]) -> Callable[[Path], tuple[Clip, ...]]:
    def load(folder: Path) -> tuple[Clip, ...]:
        images, spacing = _read_nifti(folder / f"{modality}_3mm_image.nii.gz")
        labels, _ = _read_nifti(folder / f"{modality}_3mm_seg.nii.gz")
        note = f"(its {LARGEST_STRUCTURES} largest structures unless all are asked for; truth made by a model"
        if modality == "ct":
            images = np.clip(images, *CT_SOFT_TISSUE)
            note += f"; CT numbers clipped to {CT_SOFT_TISSUE[0]}..{CT_SOFT_TISSUE[1]}"
        note += ")"
        return (Clip(modality, images, labels, True, note, LARGEST_STRUCTURES, spacing),)

    return load


def _spinal_cord(image: str, truth: str, note: str) -> Callable[[Path], tuple[Clip, ...]]:
    def load(folder: Path) -> tuple[Clip, ...]:
        images, spacing = _read_nifti(folder / f"{image}.nii.gz")
        labels, _ = _read_nifti(folder / f"{truth}.nii.gz")
        name = image.partition("_")[0]
        return (Clip(name, images, labels, True, note, spacing=spacing),)

    return load


def _sample(name: str) -> Callable[[Path], tuple[Clip, ...]]:
    def load(_: Path) -> tuple[Clip, ...]:
        from stacksam.assets import sample
        from stacksam.io import open_image

        images, labels = _read_tiff(sample(name)), _read_tiff(sample(f"{name}_labels"))
        if name == "timelapse":
            return (Clip(name, images, labels),)
        steps = open_image(sample(name)).scale
        return (Clip(name, images, labels, True, spacing=(steps["z"], steps["y"], steps["x"])),)

    return load


# Name -> its folder, None where it is shipped, and the reader of its clips.
LOADERS: dict[str, tuple[str | None, Callable[[Path], tuple[Clip, ...]]]] = {
    "laptrack_nuclei_tracked": (
        "laptrack_nuclei_tracked",
        lambda folder: _stack_pair(folder, volume=False),
    ),
    "baby_yeast_bf": (
        "baby_yeast_bf/evolve_testG",
        lambda folder: _stack_pair(folder, volume=False, note="(truth: outlines, filled)"),
    ),
    "stardist_nuclei3d": ("stardist_nuclei3d", lambda folder: _stack_pair(folder, volume=True)),
    "plantseg_ovule3d": ("plantseg_ovule3d", lambda folder: _stack_pair(folder, volume=True)),
    "totalseg_small/ct": ("totalseg_small", _totalsegmentator("ct")),
    "totalseg_small/mr": ("totalseg_small", _totalsegmentator("mr")),
    "sct_spinalcord/t1w": ("sct_spinalcord", _spinal_cord("t1w", "t1w_seg-manual", "(cord, axial)")),
    "sct_spinalcord/t2": ("sct_spinalcord", _spinal_cord("t2", "t2_seg-manual", "(cord, sagittal)")),
    "sct_spinalcord/t2s": (
        "sct_spinalcord",
        _spinal_cord("t2s_uncropped", "t2s_uncropped_gmseg_manual", "(grey matter, axial)"),
    ),
    "dsb2018_nuclei_single": ("dsb2018_nuclei_single", _single_images),
    "omnipose_bacteria_single": ("omnipose_bacteria_single", _single_images),
    "usiigaci_phc_single": ("usiigaci_phc_single", _single_images),
    "sample/timelapse": (None, _sample("timelapse")),
    "sample/zstack": (None, _sample("zstack")),
}

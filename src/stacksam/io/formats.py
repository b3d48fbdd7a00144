"""The one table of formats that results are saved in, for the command line, results folders and the docs.

A format is a name, the file that it makes, what it keeps, and a function that writes it. What a format cannot
keep is said by :meth:`ResultFormat.lost`, so that nobody finds out later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from stacksam.errors import InputError
from stacksam.io.coco import write_coco
from stacksam.io.ctc import write_ctc
from stacksam.io.geff import write_geff
from stacksam.io.label_stack import LabelStack
from stacksam.io.labels import write_labels_ome_zarr, write_labels_tiff
from stacksam.io.measurements import FrameEstimates, RawFrames, write_measurements
from stacksam.io.trackmate import write_trackmate
from stacksam.io.volumes import write_nifti, write_nrrd

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["FORMATS", "Keeps", "ResultFormat", "Results", "chosen_formats"]

Keeps = Literal["labels", "outlines", "lineage", "spacing", "place", "measures"]
"""What a file can hold: pixels of labels, their outlines only, who is whose daughter, size of a pixel and of
a step with their units, place and orientation in space, and measurements."""


@dataclass(frozen=True, eq=False)
class Results:
    """What there is to be saved.

    Attributes
    ----------
    labels : LabelStack
    lineage : networkx.DiGraph, optional
        Edges from parent to daughter.
    raw : callable, optional
        Gives the values of a frame, for intensities.
    image : path, optional
        Where the image is.
    affine : (4, 4) array, optional
        Of a volume, see :mod:`stacksam.io.volumes`.
    at : mapping of str to int
        Where the labels lie on other axes of the image.
    name : str
        Of the labels inside of an image.
    predicted_iou : callable, optional
        Gives what the network thought of its masks on a frame, by object id, for measurements.
    """

    labels: LabelStack
    lineage: nx.DiGraph | None = None
    raw: RawFrames | None = None
    image: str | os.PathLike[str] | None = None
    affine: ArrayLike | None = None
    at: Mapping[str, int] = field(default_factory=dict)
    name: str = "stacksam"
    predicted_iou: FrameEstimates | None = None


@dataclass(frozen=True, slots=True)
class ResultFormat:
    """One way to save results.

    Attributes
    ----------
    name : str
        As the command line knows it.
    file_name : str
        File or folder that it makes; with ``IMAGE`` in it, a folder inside of the image.
    about : str
        What it is, in a few words.
    keeps : tuple of str
        See :data:`Keeps`.
    axes : str
        Along what frames may lie: ``"tz"``, or ``"t"`` where only a time-lapse makes sense.
    write : callable
        ``write(path, results, overwrite)``.
    package : str, optional
        Module that must be there, of the extra ``formats``.
    limit : int
        Highest object id that fits.
    """

    name: str
    file_name: str
    about: str
    keeps: tuple[Keeps, ...]
    axes: str
    write: Callable[[Path, Results, bool], Path]
    package: str | None = None
    limit: int = 2**32 - 1

    @property
    def inside(self) -> bool:
        """Whether it is written into the image, and not into a folder of results."""
        return "IMAGE" in self.file_name

    def check(self, frame_axis: str, top_id: int = 0) -> None:
        """See that this format can be written here, before anything is computed.

        Parameters
        ----------
        frame_axis : {"t", "z"}
        top_id : int
            Highest object id.

        Raises
        ------
        InputError
            If a package is missing, frames lie along the wrong axis, or an id does not fit.
        """
        if self.package is not None and find_spec(self.package) is None:
            raise InputError(
                f'format {self.name} needs the package {self.package}: pip install "napari-stacksam[formats]"'
            )
        if frame_axis not in self.axes:
            raise InputError(
                f"format {self.name} is for tracks through time, but these frames lie along {frame_axis}"
            )
        if top_id > self.limit:
            raise InputError(
                f"format {self.name} holds object ids up to {self.limit}, and there is {top_id}; give the "
                "objects smaller ids, or use another format"
            )

    def lost(self, results: Results) -> list[str]:
        """What the results have and this format does not keep, in words."""
        has = {
            "lineage": results.lineage is not None and results.lineage.number_of_edges() > 0,
            "spacing": any(results.labels.units) or any(step != 1 for step in results.labels.scale),
            "place": results.affine is not None,
        }
        words = {"lineage": "the lineage", "spacing": "spacing and units", "place": "the place in space"}
        return [words[what] for what, there in has.items() if there and what not in self.keeps]


def chosen_formats(names: Iterable[str]) -> tuple[ResultFormat, ...]:
    """Formats by name, each once.

    Raises
    ------
    InputError
        If there is no format of that name.
    """
    chosen = {}
    for name in names:
        if name not in FORMATS:
            raise InputError(f"format {name!r} is not known; use one of {', '.join(FORMATS)}")
        chosen[name] = FORMATS[name]
    return tuple(chosen.values())


def _layout(results: Results, overwrite: bool) -> dict[str, Any]:
    labels = results.labels
    return {
        "frames": labels.frames(),
        "shape": labels.shape,
        "axes": labels.axes,
        "scale": labels.scale,
        "units": labels.units,
        "overwrite": overwrite,
        "dtype": labels.dtype,
    }


def _tiff(path: Path, results: Results, overwrite: bool) -> Path:
    return write_labels_tiff(path, **_layout(results, overwrite))


def _ome_zarr(version: Literal["0.4", "0.5"]) -> Callable[[Path, Results, bool], Path]:
    return lambda path, results, overwrite: write_labels_ome_zarr(
        path, version=version, **_layout(results, overwrite)
    )


def _image_labels(path: Path, results: Results, overwrite: bool) -> Path:
    from stacksam.io.image_labels import write_image_labels

    return write_image_labels(
        path, results.name, results.labels, results.lineage, at=results.at, overwrite=overwrite
    )


def _ctc(path: Path, results: Results, overwrite: bool) -> Path:
    return write_ctc(path, results.labels, results.lineage, overwrite=overwrite)


def _geff(path: Path, results: Results, overwrite: bool) -> Path:
    return write_geff(path, results.labels, results.lineage, overwrite=overwrite)


def _trackmate(path: Path, results: Results, overwrite: bool) -> Path:
    return write_trackmate(path, results.labels, results.lineage, image=results.image, overwrite=overwrite)


def _coco(path: Path, results: Results, overwrite: bool) -> Path:
    return write_coco(path, results.labels, results.lineage, image=results.image, overwrite=overwrite)


def _nifti(path: Path, results: Results, overwrite: bool) -> Path:
    return write_nifti(path, results.labels, affine=results.affine, overwrite=overwrite)


def _nrrd(path: Path, results: Results, overwrite: bool) -> Path:
    return write_nrrd(path, results.labels, affine=results.affine, overwrite=overwrite)


def _table(path: Path, results: Results, overwrite: bool) -> Path:
    return write_measurements(
        path,
        results.labels,
        results.lineage,
        raw=results.raw,
        predicted_iou=results.predicted_iou,
        overwrite=overwrite,
    )


_PIXELS: tuple[Keeps, ...] = ("labels", "spacing")
_TRACKS: tuple[Keeps, ...] = ("lineage", "spacing")
_MEASURES: tuple[Keeps, ...] = ("measures", "lineage", "spacing")

FORMATS: dict[str, ResultFormat] = {
    one.name: one
    for one in (
        ResultFormat("tiff", "labels.tif", "ImageJ hyperstack", _PIXELS, "tz", _tiff),
        ResultFormat("ome-tiff", "labels.ome.tif", "OME-TIFF", _PIXELS, "tz", _tiff),
        ResultFormat("ome-zarr", "labels.ome.zarr", "OME-Zarr 0.5", _PIXELS, "tz", _ome_zarr("0.5")),
        ResultFormat("ome-zarr-0.4", "labels-0.4.ome.zarr", "OME-Zarr 0.4", _PIXELS, "tz", _ome_zarr("0.4")),
        ResultFormat(
            "image-labels",
            "IMAGE/labels/NAME",
            "labels inside the OME-Zarr of their image",
            ("labels", "lineage", "spacing", "place"),
            "tz",
            _image_labels,
        ),
        ResultFormat(
            "ctc", "ctc", "Cell Tracking Challenge", ("labels", "lineage"), "t", _ctc, limit=2**16 - 1
        ),
        ResultFormat("geff", "tracks.geff", "Graph Exchange File Format", _TRACKS, "t", _geff, "geff"),
        ResultFormat("trackmate", "tracks.xml", "TrackMate 7", ("outlines", *_TRACKS), "t", _trackmate),
        ResultFormat("coco", "labels.coco.json", "COCO", ("labels", "lineage", "spacing"), "tz", _coco),
        ResultFormat("nifti", "labels.nii.gz", "NIfTI-1", (*_PIXELS, "place"), "tz", _nifti, "nibabel"),
        ResultFormat("nrrd", "labels.nrrd", "NRRD", (*_PIXELS, "place"), "tz", _nrrd),
        ResultFormat("csv", "measurements.csv", "table of measurements", _MEASURES, "tz", _table),
        ResultFormat(
            "parquet", "measurements.parquet", "table of measurements", _MEASURES, "tz", _table, "pyarrow"
        ),
    )
}
"""All formats, by name."""

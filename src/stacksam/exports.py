"""From labels that are there to formats of other programs, without a model and without computing anything."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stacksam.console import Reporter, quiet
from stacksam.errors import InputError, SessionFileError, StackError, StorageError
from stacksam.io.formats import ResultFormat, Results, chosen_formats
from stacksam.io.images import open_image
from stacksam.io.label_stack import LabelStack
from stacksam.io.lineage import read_lineage, seen_part

if TYPE_CHECKING:
    import networkx as nx

    from stacksam.io.measurements import FrameEstimates, RawFrames

__all__ = ["export_results", "open_results"]


def open_results(
    source: Path,
    *,
    lineage: Path | None = None,
    image: Path | None = None,
    at: Mapping[str, int] | None = None,
    affine: Path | None = None,
    name: str = "stacksam",
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    units: Sequence[str] | None = None,
) -> Results:
    """Open labels with all that belongs to them; frames are read when they are needed.

    Parameters
    ----------
    source : Path
        A results folder, a session's folder, a label stack, or a folder of the Cell Tracking Challenge.
    lineage : Path, optional
        Table, see :func:`stacksam.io.lineage.read_lineage`; by default that of the source, if it has one.
    image : Path, optional
        The stack that the labels are of.
    at : mapping of str to int, optional
        Where the labels lie on other axes of the image.
    affine : Path, optional
        Text file of 4 × 4 numbers; by default that of the image, if it is a medical volume.
    name : str
        Of labels inside the image.
    axes : {"tyx", "zyx"}, optional
        What the frames are, where the source does not tell or is wrong.
    spacing, units : sequence of 3, optional
        Step along frames, rows and columns, and its unit, where the source does not tell or is wrong.

    Returns
    -------
    Results

    Raises
    ------
    StackError, SessionFileError
        If something cannot be read.
    InputError
        If it does not go together.
    """
    options: dict[str, Any] = {}
    if spacing is not None:
        options["scale"] = tuple(spacing)
    if units is not None:
        options["units"] = tuple(units)
    labels, known, estimates = _open_labels(source, axes, options)
    place = dict(at or {})
    return Results(
        labels,
        known if lineage is None else read_lineage(lineage),
        None if image is None else _raw_frames(image, labels, place),
        image,
        _image_affine(image, labels) if affine is None else _read_affine(affine),
        place,
        name,
        estimates,
    )


def export_results(
    results: Results,
    formats: Iterable[str],
    folder: Path,
    *,
    overwrite: bool = False,
    report: Reporter = quiet,
) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Write results in several formats.

    Parameters
    ----------
    results : Results
    formats : iterable of str
        Names of :data:`stacksam.io.formats.FORMATS`.
    folder : Path
        Where to; made if missing.
    overwrite : bool
        Whether what is there may be replaced.
    report : Reporter

    Returns
    -------
    files : dict of str to Path
        What was written, by format.
    lost : dict of str to list of str
        What a format does not keep of these results, in words.

    Raises
    ------
    InputError
        If a format is not known, or cannot hold these results.
    StorageError
        If there is something already, or it cannot be written. Each file is complete or not there.
    """
    chosen = chosen_formats(formats)
    labels, step = _watched(results.labels)
    results = replace(results, labels=labels)
    for one in chosen:
        one.check(labels.frame_axis)
    targets = {one.name: _target(one, results, folder) for one in chosen}
    for path in targets.values():
        if os.path.lexists(path) and not overwrite:
            raise StorageError(
                f"{path} exists already; choose another folder with --out, or replace it with --overwrite"
            )
    with report("looking at the labels", labels.n_frames, "frames") as step[0]:
        labels.check(results.lineage)
    for one in chosen:
        one.check(labels.frame_axis, max(labels.survey, default=0))
    made = not folder.exists() and any(path.parent == folder for path in targets.values())
    try:
        if made:
            folder.mkdir(parents=True)
        for one in chosen:
            with report(f"writing {targets[one.name].name}", labels.n_frames, "frames") as step[0]:
                one.write(_written_to(one, results, targets), results, overwrite)
    except BaseException as error:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error
        raise
    return targets, {one.name: one.lost(results) for one in chosen if one.lost(results)}


def _target(one: ResultFormat, results: Results, folder: Path) -> Path:
    if not one.inside:
        return folder / one.file_name
    if results.image is None:
        raise InputError(f"format {one.name} is written into the image; name its OME-Zarr with --image")
    return Path(results.image) / "labels" / results.name


def _written_to(one: ResultFormat, results: Results, targets: Mapping[str, Path]) -> Path:
    return Path(results.image) if one.inside and results.image is not None else targets[one.name]


def _watched(labels: LabelStack) -> tuple[LabelStack, list[Any]]:
    """The same labels, and a place for the step that is told of each frame that is read."""
    step: list[Any] = [None]

    def read(frame: int) -> NDArray[Any]:
        found = labels.read(frame)
        if step[0] is not None:
            step[0].advance()
        return found

    return replace(labels, read=read), step


def _open_labels(
    source: Path, axes: str | None, options: dict[str, Any]
) -> tuple[LabelStack, nx.DiGraph | None, FrameEstimates | None]:
    if any((source / name).is_file() for name in ("res_track.txt", "man_track.txt")):
        from stacksam.io.ctc import read_ctc

        if axes not in (None, "tyx"):
            raise InputError(f"{source} is a time-lapse of the Cell Tracking Challenge, not {axes}")
        tracks = read_ctc(source)
        return replace(tracks.labels, **options), tracks.lineage, None
    session = source
    if (source / "session").is_dir():
        if not (source / "summary.json").is_file():
            raise SessionFileError(
                f"{source} is not complete; repeat the command that it was made with, which goes on there"
            )
        session = source / "session"
    if (session / "results.sqlite").is_file():
        lineage, estimates = _of_session(session)
        name = source.name.split(".")[0]
        labels = LabelStack.of(session / "labels.ome.zarr", axes, **({"name": name} | options))
        return labels, seen_part(lineage, labels.survey), lambda frame: estimates.get(frame, {})
    return LabelStack.of(source, axes, **options), None, None


def _of_session(session: Path) -> tuple[nx.DiGraph, dict[int, dict[int, float]]]:
    """Parents and daughters of a session, and predicted IoU by frame and object.

    Its labels must not be behind its results, as after a crash.
    """
    import networkx as nx

    path = session / "results.sqlite"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as file:
            behind = file.execute("SELECT COUNT(*) FROM dirty").fetchone()[0]
            links = file.execute("SELECT key, value FROM state WHERE key LIKE 'parent:%'").fetchall()
            scored = file.execute("SELECT frame, object_id, iou FROM records").fetchall()
    except sqlite3.Error as error:
        raise SessionFileError(
            f"cannot read {path}: {error}; if a program has the session open, close it there first"
        ) from error
    if behind:
        raise SessionFileError(
            f"{behind} frames of {session} have labels that are behind its results; open the session once, "
            "which writes them"
        )
    estimates: dict[int, dict[int, float]] = {}
    for frame, object_id, value in scored:
        estimates.setdefault(frame, {})[object_id] = value
    return nx.DiGraph([(int(parent), int(key.split(":")[1])) for key, parent in links]), estimates


def _raw_frames(path: Path, labels: LabelStack, at: Mapping[str, int]) -> RawFrames:
    """Values of the image's frames, all of its channels."""
    image = open_image(path)
    along = labels.frame_axis
    if along not in image.axes and labels.n_frames > 1:
        raise InputError(f"the image {path} has axes {image.axes}, but the labels lie along {along}")
    sizes = (image.sizes.get(along, 1), image.sizes["y"], image.sizes["x"])
    if sizes != labels.shape:
        raise InputError(
            f"the image {path} has {sizes} frames, rows and columns, the labels {labels.shape}; it must be "
            "the one that the labels are of"
        )
    fixed = {}
    for axis in image.axes:
        if axis in (along, "c", "y", "x"):
            continue
        if axis not in at and image.sizes[axis] > 1:
            raise InputError(
                f"the image {path} has {image.sizes[axis]} steps along {axis}; say where the labels lie with "
                f"--at {axis}=0"
            )
        fixed[axis] = at.get(axis, 0)

    def raw(frame: int) -> NDArray[Any]:
        values = image.read(**fixed, **({along: frame} if along in image.axes else {}))
        return np.moveaxis(values, 0, -1) if values.ndim == 3 else values

    return raw


def _image_affine(path: Path | None, labels: LabelStack) -> NDArray[np.float64] | None:
    """Where the labels of a volume lie, if its image tells."""
    if path is None or labels.frame_axis != "z":
        return None
    with open_image(path) as image:
        return image.affine


def _read_affine(path: Path) -> NDArray[np.float64]:
    try:
        return np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise StackError(f"cannot read the affine {path}: {error}; it is 4 lines of 4 numbers") from error

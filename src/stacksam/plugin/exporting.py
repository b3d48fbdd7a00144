"""Writing results where the user wants them: labels, a mask for each object, a table of tracks.

What will be written is planned first (`plan_export`), so that it can be shown before it is done; then done
frame by frame (`run_export`), so that memory stays flat and it can be cancelled. A file is complete or not
there.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, StacksamError, StorageError
from stacksam.io import write_labels_ome_zarr, write_labels_tiff
from stacksam.io.formats import FORMATS, chosen_formats
from stacksam.plugin.export_formats import Origin, Place, lost, place_of_format, title, write_format
from stacksam.plugin.tracks_table import write_tracks

if TYPE_CHECKING:
    from stacksam.session.session import Session

__all__ = [
    "ExportCancelledError",
    "ExportFailedError",
    "ExportPlan",
    "FileFormat",
    "Origin",
    "Report",
    "Target",
    "What",
    "plan_export",
    "run_export",
    "size_text",
]

Report = Callable[[int, int], object]
"""``report(done, total)`` is called after each step; that it returns False cancels the export."""

_ROW_BYTES = 40  # of the table, about
_READ_BY_OTHERS = 2  # times that formats of other programs look at a frame


class What(StrEnum):
    """Kinds of results."""

    LABELS = "labels"
    """One stack: each pixel tells the id of its object."""
    MASKS = "masks"
    """A stack for each object: 255 where it is, else 0. Unlike labels they may overlap."""
    TRACKS = "tracks"
    """A CSV table: a row for each object and frame that shows it."""
    OTHER = "other"
    """What another program reads, see :mod:`stacksam.plugin.export_formats`."""


class FileFormat(StrEnum):
    """Formats of labels and masks."""

    TIFF = "tiff"
    OME_ZARR = "ome-zarr"


_TITLES = {FileFormat.TIFF: "TIFF", FileFormat.OME_ZARR: "OME-Zarr"}
_SUFFIXES = {FileFormat.TIFF: ".tif", FileFormat.OME_ZARR: ".ome.zarr"}


class ExportCancelledError(StacksamError):
    """An export was cancelled.

    Attributes
    ----------
    files : tuple of Path
        What was complete by then; it stays.
    """

    def __init__(self, files: Collection[Path]) -> None:
        self.files = tuple(files)
        super().__init__(f"cancelled; {len(self.files)} files were complete and stay")


class ExportFailedError(StorageError):
    """A file of an export could not be written.

    Attributes
    ----------
    files : tuple of Path
        What was complete by then; it stays.
    """

    def __init__(self, message: str, files: Collection[Path]) -> None:
        self.files = tuple(files)
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Target:
    """A file to be written.

    Attributes
    ----------
    what : What
    path : Path
    object_id : int or None
        Whose mask it is; None for what shows all objects.
    place : Place or None
        Where another program's format is written.
    """

    what: What
    path: Path
    object_id: int | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What is to be written, where; made by `plan_export`.

    Attributes
    ----------
    folder : Path
        Made if it is missing.
    targets : tuple of Target
    object_ids : tuple of int
        Ascending.
    n_frames : int
    frame_shape : (int, int)
        Height and width in pixels.
    file_format : FileFormat
    overwrite : bool
        Whether files that are there may be replaced.
    other : str
        Name of the format of another program; empty for none.
    origin : Origin
    """

    folder: Path
    targets: tuple[Target, ...]
    object_ids: tuple[int, ...]
    n_frames: int
    frame_shape: tuple[int, int]
    file_format: FileFormat = FileFormat.TIFF
    overwrite: bool = False
    other: str = ""
    origin: Origin = Origin()  # noqa: RUF009  it is frozen

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the labels: 16 bits, or 32 where an id needs them."""
        return np.dtype(np.uint16 if max(self.object_ids, default=0) < 2**16 else np.uint32)

    @property
    def nbytes(self) -> int:
        """Bytes of all files at most: labels and masks are compressed, mostly to a small part of it."""
        return sum(self.nbytes_of(target) for target in self.targets)

    @property
    def steps(self) -> int:
        """Steps that `run_export` reports in all."""
        return sum(self.steps_of(target) for target in self.targets)

    def nbytes_of(self, target: Target) -> int:
        """Bytes of a file at most."""
        if target.what == What.TRACKS:
            return len(self.object_ids) * self.n_frames * _ROW_BYTES
        itemsize = 1 if target.what == What.MASKS else self.dtype.itemsize
        return self.n_frames * math.prod(self.frame_shape) * itemsize

    def steps_of(self, target: Target) -> int:
        """Steps of a file: frames, or objects of the table."""
        if target.what == What.TRACKS:
            return len(self.object_ids)
        return self.n_frames * (_READ_BY_OTHERS if target.what == What.OTHER else 1)

    def lost(self) -> list[tuple[str, list[str]]]:
        """Formats of the plan that do not keep all of the results, and what they do not, in words."""
        names = {}
        if What.LABELS in {target.what for target in self.targets}:
            names[_TITLES[self.file_format]] = self.file_format.value
        if self.other:
            names[title(FORMATS[self.other])] = self.other
        found = [(text, lost(name, self.origin, self.object_ids)) for text, name in names.items()]
        return [(text, words) for text, words in found if words]

    def existing(self) -> tuple[Path, ...]:
        """Files that are there already and would have to be replaced."""
        return tuple(target.path for target in self.targets if os.path.lexists(target.path))

    def describe(self) -> list[tuple[str, str]]:
        """The files by name, below the folder, and what is in them; masks as one entry."""
        lines: list[tuple[str, str]] = []
        count = len(self.object_ids)
        objects = f"{count} object{'s' if count != 1 else ''}"
        frames = f"{self.n_frames} frame{'s' if self.n_frames != 1 else ''}"
        masks = [target for target in self.targets if target.what == What.MASKS]
        for target in self.targets:
            inside = target.path.is_relative_to(self.folder)
            name = target.path.relative_to(self.folder).as_posix() if inside else str(target.path)
            if target.what == What.LABELS:
                lines.append((name, f"labels of {objects}, {frames}, {8 * self.dtype.itemsize}-bit"))
            elif target.what == What.TRACKS:
                lines.append((name, f"position and area of {objects}, a row for each frame"))
            elif target.what == What.OTHER:
                lines.append((name, f"{title(FORMATS[self.other])}: {objects}, {frames}"))
            elif target is masks[0]:
                last = f" … {masks[-1].path.name}" if len(masks) > 1 else ""
                text = f"{count} masks" if count > 1 else "a mask"
                lines.append((name + last, f"{text} of 0 and 255, {frames} each, 8-bit"))
        return lines


def plan_export(
    *,
    stack_name: str,
    n_frames: int,
    frame_shape: tuple[int, int],
    object_ids: Collection[int],
    what: Collection[What],
    folder: str | os.PathLike[str],
    file_format: FileFormat = FileFormat.TIFF,
    overwrite: bool = False,
    other: str = "",
    origin: Origin = Origin(),  # noqa: B008  it is frozen
) -> ExportPlan:
    """Plan what files are written: ``NAME-masks.tif``, ``NAME-masks/mask_ID.tif`` and ``NAME-tracks.csv``.

    No name ends in ``_labels``: so the truth, or another program's labels, often lie beside the image.

    Parameters
    ----------
    stack_name : str
        What the files are named after.
    n_frames : int
    frame_shape : (int, int)
        Height and width in pixels.
    object_ids : collection of int
        Objects to write.
    what : collection of What
    folder : path
        Made when the plan is carried out, if it is missing.
    file_format : FileFormat
        Of labels and masks.
    overwrite : bool
        Whether files that are there may be replaced.
    other : str
        With ``What.OTHER``: a name of :data:`stacksam.io.formats.FORMATS`.
    origin : Origin
        What the results are.

    Returns
    -------
    ExportPlan

    Raises
    ------
    InputError
        If there are no objects, no frames or nothing to write, the folder is not named, or the other format
        cannot be written here; if a package is missing, the message says how to install it.
    """
    ids = tuple(sorted(set(object_ids)))
    if not ids:
        raise InputError("there are no objects to export; make or select some first")
    if ids[0] < 1:
        raise InputError(f"object id {ids[0]} cannot be written; ids are 1 and up")
    if not what:
        raise InputError("nothing was chosen to export; choose labels, masks or tracks")
    if n_frames < 1 or min(frame_shape) < 1:
        raise InputError(f"a stack of {n_frames} frames of {frame_shape} pixels cannot be exported")
    if not os.fspath(folder).strip():
        raise InputError("no folder was given; choose where to write")
    place = Path(folder).expanduser()
    stem = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", stack_name).strip(" .") or "stack"
    suffix = _SUFFIXES[file_format]
    digits = max(3, len(str(ids[-1])))
    targets: list[Target] = []
    if What.LABELS in what:
        targets.append(Target(What.LABELS, place / f"{stem}-masks{suffix}"))
    if What.MASKS in what:
        targets += [
            Target(What.MASKS, place / f"{stem}-masks" / f"mask_{i:0{digits}d}{suffix}", i) for i in ids
        ]
    if What.TRACKS in what:
        targets.append(Target(What.TRACKS, place / f"{stem}-tracks.csv"))
    if What.OTHER in what:
        (one,) = chosen_formats([other])
        one.check(origin.axes[0], ids[-1])
        where = place_of_format(one, place, stem, origin)
        targets.append(Target(What.OTHER, where.path, place=where))
    height, width = frame_shape
    told = other if What.OTHER in what else ""
    return ExportPlan(
        place, tuple(targets), ids, n_frames, (height, width), file_format, overwrite, told, origin
    )


def run_export(plan: ExportPlan, session: Session, report: Report | None = None) -> list[Path]:
    """Write what was planned. Reads the session only.

    Labels are those of the session with other objects left out: where objects overlap, a pixel belongs to the
    more certain one, also if that is not exported. Pixel size and units of the stack are kept.

    Parameters
    ----------
    plan : ExportPlan
    session : Session
    report : callable, optional
        See `Report`.

    Returns
    -------
    list of Path
        The files, in order of the plan.

    Raises
    ------
    InputError
        If the session has other frames, or an object of the plan is gone.
    StorageError
        If a file exists and may not be replaced; none is written then.
    ExportFailedError
        If a file cannot be written, or its folder not be made.
    ExportCancelledError
        If `report` returned False.
    """
    _check(plan, session)
    written: list[Path] = []
    folders: list[Path] = []  # that were not there before
    total, done, end = plan.steps, 0, 0

    def advance() -> None:
        nonlocal done
        done = min(done + 1, end)  # other formats may look at frames more often than was thought
        if report is not None and report(done, total) is False:
            raise ExportCancelledError(written)

    try:
        for target in plan.targets:
            _check_free(plan, [target])  # again, since what came before may have taken long
            done, end = end, end + plan.steps_of(target)
            if target.place is not None:
                _make_folder(plan.folder, folders)
                own = FORMATS[plan.other], target.place
                write_format(*own, session, plan.object_ids, advance, plan.overwrite)
                written.append(target.path)
                continue
            _make_folder(target.path.parent, folders)
            if target.what == What.TRACKS:
                write_tracks(target.path, session, plan.object_ids, advance)
            else:
                _write_frames(target, plan, session, advance)
            written.append(target.path)
    except BaseException as error:
        for folder in reversed(folders):
            with suppress(OSError):  # it may hold files, which is as well
                folder.rmdir()
        if isinstance(error, StorageError):
            raise ExportFailedError(str(error), written) from error
        raise
    return written


def size_text(nbytes: float) -> str:
    """A number of bytes as a person says it: ``12 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}" if nbytes < 10 * size else f"{nbytes / size:.0f} {unit}"
    return f"{nbytes:.0f} bytes"


def _check(plan: ExportPlan, session: Session) -> None:
    stack = session.stack
    if (stack.n_frames, *stack.frame_shape) != (plan.n_frames, *plan.frame_shape):
        raise InputError(
            f"the export was planned for {plan.n_frames} frames of {plan.frame_shape} pixels, "
            f"the session has {stack.n_frames} of {stack.frame_shape}; plan it anew"
        )
    gone = sorted(set(plan.object_ids) - set(session.object_ids))
    if gone:
        raise InputError(f"object {gone[0]} is gone; choose the objects to export anew")
    _check_free(plan, plan.targets)


def _check_free(plan: ExportPlan, targets: Iterable[Target]) -> None:
    existing = [] if plan.overwrite else [t.path for t in targets if os.path.lexists(t.path)]
    if existing:
        more = f"and {len(existing) - 1} more files exist" if len(existing) > 1 else "exists"
        raise StorageError(
            f"{existing[0]} {more} already; choose another folder, or allow them to be replaced"
        )


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder, and put it and those above it that were missing into the list, outermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    made += reversed(missing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def _write_frames(target: Target, plan: ExportPlan, session: Session, advance: Callable[[], None]) -> None:
    """Write the labels, or the mask of one object."""
    stack = session.stack
    frames: Iterable[NDArray[Any]]
    if target.object_id is None:
        frames, dtype = _label_frames(plan, session), plan.dtype
    else:
        frames, dtype = _mask_frames(target.object_id, session), np.dtype(np.uint8)
    write = write_labels_tiff if plan.file_format == FileFormat.TIFF else write_labels_ome_zarr
    write(
        target.path,
        _counted(frames, advance),
        (plan.n_frames, *plan.frame_shape),
        stack.axes_out,
        stack.spacing,
        stack.units,
        plan.overwrite,
        dtype=dtype,
    )


def _label_frames(plan: ExportPlan, session: Session) -> Iterator[NDArray[Any]]:
    others = set(session.object_ids) - set(plan.object_ids)
    for frame in range(plan.n_frames):
        labels = session.label_frame(frame)
        if others:
            labels[~np.isin(labels, plan.object_ids)] = 0
        yield labels


def _mask_frames(object_id: int, session: Session) -> Iterator[NDArray[Any]]:
    for frame in range(session.stack.n_frames):
        yield session.mask(object_id, frame) * np.uint8(255)


def _counted(frames: Iterable[NDArray[Any]], advance: Callable[[], None]) -> Iterator[NDArray[Any]]:
    for frame in frames:
        yield frame
        advance()

"""The folder that a run leaves: labels in the formats asked for, a picture, a summary, and the session.

::

    NAME.stacksam/
        labels.tif, labels.ome.zarr, tracks.geff ...   what was asked for, see `stacksam.io.formats`
        overview.png                                   frames with outlines
        summary.json                                   written last: without it the run is not complete
        session.json                                   prompts and settings, for `stacksam replay`
        session/                                       results as they come: a stopped run goes on here

Nothing is computed before it is known that this folder can be written, and nothing that was computed is lost
when writing the labels fails: the session stays, and the same command goes on from it.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from stacksam.console import Reporter, Step
from stacksam.errors import InputError, StorageError
from stacksam.io._units import is_time, unit_symbol
from stacksam.io.formats import FORMATS, Results, chosen_formats
from stacksam.io.label_stack import LabelStack
from stacksam.io.lineage import seen_part
from stacksam.overview import Mark, choose_frames, overview, save_overview
from stacksam.session.prompts import Box, Point, Prompt
from stacksam.session.scores import estimates_by_frame
from stacksam.session.stack import Stack

if TYPE_CHECKING:
    from stacksam.io.measurements import FrameEstimates
    from stacksam.session.session import Session

__all__ = ["Outputs", "Written", "draw_overview", "frame_caption"]


_DEFAULT = ("tiff", "ome-zarr")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes
    ----------
    files : dict of str to Path
        By kind.
    seen : dict of int to int
        Object id -> how many frames of the labels show it.
    """

    files: dict[str, Path]
    seen: dict[int, int]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results of one stack go.

    Attributes
    ----------
    folder : Path
    formats : tuple of str
        Names of `stacksam.io.formats.FORMATS`.
    picture : bool
        Draw the overview.
    """

    folder: Path
    formats: tuple[str, ...] = _DEFAULT
    picture: bool = True

    @classmethod
    def named(cls, folder: Path, formats: Sequence[str] = (), *, picture: bool = True) -> Self:
        """Outputs in formats given by name; TIFF and OME-Zarr if none are.

        Raises
        ------
        InputError
            If there is no format of that name.
        """
        chosen = chosen_formats(formats)
        inside = [one.name for one in chosen if one.inside]
        if inside:
            raise InputError(
                f"format {inside[0]} is written into the image itself; write another one, and then use "
                "stacksam export"
            )
        return cls(folder, tuple(one.name for one in chosen) or _DEFAULT, picture)

    @property
    def session_folder(self) -> Path:
        """Where the session keeps results as they come."""
        return self.folder / "session"

    @property
    def labels(self) -> dict[str, Path]:
        """File or folder of each format."""
        return {name: self.folder / FORMATS[name].file_name for name in dict.fromkeys(self.formats)}

    @property
    def summary(self) -> Path:
        """The last file to be written."""
        return self.folder / "summary.json"

    def check(
        self,
        *,
        overwrite: bool = False,
        resume: bool = True,
        again: bool = False,
        frame_axis: str | None = None,
        top_id: int = 0,
    ) -> None:
        """See that the folder can be written and holds nothing that would be lost; it is made if missing.

        Parameters
        ----------
        overwrite : bool
            What is there may be replaced.
        resume : bool
            A run that was stopped may be gone on with, and its labels written again.
        again : bool
            So may one that was finished, for its stack may have grown.
        frame_axis : {"t", "z"}, optional
            Of the stack, to see that its results can be written in these formats.
        top_id : int
            Highest object id, for the same.

        Raises
        ------
        InputError
            If a format needs a package that is not there, or does not fit the stack.
        StorageError
            If labels are there already, or the folder cannot be written.
        """
        if frame_axis is not None:
            for name in self.formats:
                FORMATS[name].check(frame_axis, top_id)
        there = [path for path in self.labels.values() if os.path.lexists(path)]
        unfinished = self.session_folder.is_dir() and (again or not self.summary.exists())
        if not resume and self.session_folder.is_dir():
            there, unfinished = [self.session_folder, *there], False
        if there and not overwrite and not unfinished:
            raise StorageError(
                f"{there[0]} exists already; choose another folder with --out, or replace it with --overwrite"
            )
        probe = self.folder / f".{uuid.uuid4().hex[:8]}.probe"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            self.leave()
            raise StorageError(
                f"cannot write to {self.folder}: {error.strerror or error}; choose another folder with --out"
            ) from error

    def clear(self) -> None:
        """Forget the session that is there, so that everything is computed anew.

        Raises
        ------
        StorageError
            If there is a folder of that name that no session made, or it cannot be removed.
        """
        folder = self.session_folder
        if not os.path.lexists(folder):
            self._unfinish()
            return
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / "results.sqlite").is_file()):
            raise StorageError(
                f"{folder} was not made by stacksam and stays; choose another folder with --out"
            )
        self._unfinish()
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StorageError(f"cannot remove {folder}: {error.strerror or error}") from error

    def _unfinish(self) -> None:
        """Take back that all is complete, so that this run can be gone on with when it is stopped."""
        try:
            self.summary.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot replace {self.summary}: {error.strerror or error}") from error

    def leave(self) -> None:
        """Remove the folder if nothing was put into it."""
        with suppress(OSError):
            self.folder.rmdir()

    def write(
        self,
        session: Session,
        report: Reporter,
        **picture: Any,
    ) -> Written:
        """Write labels, overview and session file, replacing what is there.

        Parameters
        ----------
        session : Session
        report : Reporter
        **picture
            What the overview is to show besides, see `draw_overview`.

        Returns
        -------
        Written
        """
        self._unfinish()
        files = dict(self.labels)
        stack, step = session.stack, _Current()

        def read(frame: int) -> NDArray[Any]:
            labels = session.label_frame(frame)
            step.advance()
            return labels

        labels = LabelStack(
            read,
            (stack.n_frames, *stack.frame_shape),
            stack.axes_out,
            stack.spacing,
            stack.units,
            stack.name,
            top_id=max(session.object_ids, default=0),
        )
        image = stack.opened.get("source")  # a list of files is no image that labels could be put into
        results = Results(
            labels,
            raw=stack.raw,
            image=image if isinstance(image, str) else None,
            affine=stack.affine if stack.frame_axis == "z" else None,
            predicted_iou=_by_frame(session),
        )
        with step.of(report("looking at the labels", stack.n_frames, "frames")):
            seen = {object_id: one.frames for object_id, one in labels.survey.items()}
        results = replace(results, lineage=seen_part(session.lineage, seen))
        for name, path in self.labels.items():
            with step.of(report(f"writing {path.name}", stack.n_frames, "frames")):
                FORMATS[name].write(path, results, True)
        if self.picture:
            files["overview"] = self.folder / "overview.png"
            draw_overview(files["overview"], session, **picture)
        files["session"] = session.save(self.folder / "session.json")
        return Written(files, seen)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary, which says that all is complete."""
        part = self.summary.with_name(self.summary.name + ".part")
        try:
            part.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            os.replace(part, self.summary)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise StorageError(f"cannot write {self.summary}: {error.strerror or error}") from error


def draw_overview(
    path: Path,
    session: Session,
    *,
    title: str = "",
    subtitle: str = "",
    truth: Callable[[int], NDArray[Any]] | None = None,
    notes: Mapping[int, str] | None = None,
) -> None:
    """Draw some frames of a session with the outlines of its objects.

    Parameters
    ----------
    path : Path
        PNG file; replaced if it is there.
    session : Session
    title, subtitle : str
        By default they say what was followed, and with which model.
    truth : callable, optional
        Gives the true labels of a frame.
    notes : mapping of int to str, optional
        A short text for a frame, such as a figure.
    """
    stack, prompts = session.stack, session.prompts
    frames = choose_frames(stack.n_frames, include={prompt.frame for prompt in prompts})
    number = len(session.object_ids)
    picture = overview(
        [stack.frame(f) for f in frames],
        [session.label_frame(f) for f in frames],
        frames,
        captions=[frame_caption(stack, f) for f in frames],
        notes=notes,
        title=title or f"{stack.name} · {number} object{'s' if number != 1 else ''}, {stack.n_frames} frames",
        subtitle=subtitle or f"model {Path(session.model.name).name} · yellow: where it was prompted",
        marks=_marks(prompts),
        truth=None if truth is None else [truth(f) for f in frames],
        pixel_size=(stack.spacing[2], unit_symbol(stack.units[2])),
    )
    save_overview(path, picture)


def frame_caption(stack: Stack, frame: int) -> str:
    """Number of a frame with its time or depth, if the stack tells: ``frame 8 · 40 min``."""
    step, unit = stack.spacing[0], stack.units[0]
    symbol = unit_symbol(unit)
    if symbol is None:
        return f"frame {frame}"
    if not is_time(unit):
        return f"frame {frame} · {stack.frame_axis} = {frame * step:g} {symbol}"
    value = frame * step
    last = (stack.n_frames - 1) * step
    # One unit for all frames of a stack, the largest in which the last one is at least two.
    for small, large, factor in (("s", "min", 60), ("min", "h", 60), ("h", "d", 24)):
        if symbol == small and last >= 2 * factor:
            value, last, symbol = value / factor, last / factor, large
    return f"frame {frame} · {round(value, 1):g} {symbol}"


def _by_frame(session: Session) -> FrameEstimates:
    """Predicted IoU of the objects of a frame."""
    found = estimates_by_frame(session.all_scores())
    return lambda frame: found.get(frame, {})


class _Current:
    """The step under way; labels are read in several, one after the other."""

    def __init__(self) -> None:
        self._step: Step | None = None

    @contextmanager
    def of(self, begun: AbstractContextManager[Step]) -> Iterator[None]:
        with begun as self._step:
            yield
        self._step = None

    def advance(self) -> None:
        if self._step is not None:
            self._step.advance()


def _marks(prompts: Sequence[Prompt]) -> list[Mark]:
    """Clicks and boxes; a painted mask is seen by its outline."""
    marks = []
    for prompt in prompts:
        if isinstance(prompt, Point):
            marks.append(Mark(prompt.frame, prompt.object_id, prompt.yx, prompt.positive))
        elif isinstance(prompt, Box):
            marks.append(Mark(prompt.frame, prompt.object_id, prompt.yxyx))
    return marks

"""The demonstration: a small time-lapse and a small z-stack, from prompts to labels, with figures.

The prompts come from the known truth of one frame, one for each object and nothing more; the figures say how
well the objects were followed on the frames that were not prompted.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stacksam.assets import sample
from stacksam.console import Reporter, duration, quiet
from stacksam.metrics import box_of, click_of, iou
from stacksam.outputs import Outputs
from stacksam.prompt_files import Given, check_all
from stacksam.runs import follow
from stacksam.session.prompts import Box, Point
from stacksam.session.stack import open_stack

if TYPE_CHECKING:
    from stacksam.session.models import Model
    from stacksam.session.session import Session

__all__ = ["DemoObject", "DemoResult", "check_demo", "format_demo", "run_demo"]


@dataclass(frozen=True, slots=True)
class _Case:
    """What is done with one sample."""

    name: str
    kind: Literal["click", "box"]
    frames: tuple[int, ...]  # an object is prompted on the first of them that shows it well
    direction: Literal["forward", "backward", "both"]
    # The truth gives daughter cells new ids: their mother is scored up to the frame where she divides.
    until: Mapping[int, int] = field(default_factory=dict)
    note: str = ""


_SHOWN_WELL = 300  # pixels

_CASES = (
    _Case(
        "timelapse",
        "click",
        frames=(0,),
        direction="forward",
        until={1: 13},
        note="cell 1 divides on frame 13 and is counted up to frame 12; what is followed then are daughters",
    ),
    _Case("zstack", "box", frames=(11, 6, 18), direction="both"),
)


@dataclass(frozen=True, slots=True)
class DemoObject:
    """How well one object was followed.

    Attributes
    ----------
    object_id : int
    prompted : float
        IoU with the truth on the frame that was prompted.
    tracked : float
        Mean IoU on the other frames where the truth or the labels have the object.
    """

    object_id: int
    prompted: float
    tracked: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of one sample.

    Attributes
    ----------
    name, story : str
        Name of the sample, and what was done, in words.
    note : str
        What to know of the figures besides.
    objects : tuple of DemoObject
    files : dict of str to str
    seconds : float
    """

    name: str
    story: str
    objects: tuple[DemoObject, ...]
    files: dict[str, str]
    seconds: float
    note: str = ""

    @property
    def prompted(self) -> float:
        """Mean IoU on the prompted frame."""
        return float(np.mean([o.prompted for o in self.objects]))

    @property
    def tracked(self) -> float:
        """Mean IoU over objects, on the frames they were followed to."""
        return float(np.mean([o.tracked for o in self.objects]))

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON types."""
        return asdict(self) | {"prompted": self.prompted, "tracked": self.tracked}


def check_demo(out: Path, *, overwrite: bool = False) -> tuple[Outputs, ...]:
    """The folders the demo writes to, seen to be writable and free.

    Raises
    ------
    StorageError
        If they are not.
    """
    places = tuple(Outputs(out / case.name) for case in _CASES)
    stopped = any(not place.summary.exists() for place in places)
    for place in places:
        # A demo that was stopped in its second half finds its first half complete.
        place.check(overwrite=overwrite or (stopped and place.session_folder.is_dir()))
    return places


def run_demo(
    out: Path, model: Model, *, overwrite: bool = False, report: Reporter = quiet
) -> tuple[DemoResult, ...]:
    """Follow the objects of both samples, and write labels, pictures and sessions.

    Parameters
    ----------
    out : Path
        Gets the folders ``timelapse`` and ``zstack``.
    model : Model
    overwrite : bool
        Replace what an earlier demo left there.
    report : Reporter

    Returns
    -------
    tuple of DemoResult
        Of the time-lapse and the z-stack.
    """
    places = check_demo(out, overwrite=overwrite)
    if overwrite:
        for place in places:
            place.clear()
    return tuple(_run(case, place, model, report) for case, place in zip(_CASES, places, strict=True))


def format_demo(results: tuple[DemoResult, ...]) -> str:
    """The figures as tables, where the files are, and what to try next."""
    lines = []
    for result in results:
        lines += [f"{result.name}: {result.story} ({duration(result.seconds)})", ""]
        lines.append("  object   IoU, prompted frame   IoU, other frames")
        lines += [f"  {o.object_id:>6}   {o.prompted:>19.2f}   {o.tracked:>17.2f}" for o in result.objects]
        lines += [f"  {'mean':>6}   {result.prompted:>19.2f}   {result.tracked:>17.2f}", ""]
        lines.append("  IoU: mean over the frames on which the truth or the result has the cell")
        lines += [f"  {result.note}", ""] if result.note else [""]
        lines += [f"  {kind:<10} {path}" for kind, path in result.files.items()]
        lines.append("")
    lines += [
        "Look at the overview pictures first. Then try it with a click of your own:",
        f"  stacksam segment {shlex.quote(str(sample('timelapse')))} --point 0,1,60,176 --out my-first",
    ]
    return "\n".join(lines)


def _run(case: _Case, place: Outputs, model: Model, report: Reporter) -> DemoResult:
    objects: list[DemoObject] = []
    with open_stack(sample(case.name)) as stack, open_stack(sample(f"{case.name}_labels")) as known:
        truth = _Truth(np.stack([known.raw(f) for f in range(known.n_frames)]), case)
        prompts = check_all(truth.prompts(), stack)
        *most, end = (str(frame) for frame in sorted(set(truth.prompted.values())))
        where = f"frames {', '.join(most)} or {end}" if most else f"frame {end}"
        way = "both ways" if case.direction == "both" else f"{case.direction}s"
        story = (
            f"{len(prompts)} cells, one {case.kind} each on {where}, "
            f"followed {way} through {stack.n_frames} frames"
        )

        def inspect(session: Session) -> dict[str, Any]:
            found = np.stack([session.label_frame(f) for f in range(stack.n_frames)])
            objects.extend(truth.score(found))
            mean = np.mean([o.tracked for o in objects])
            return {
                "title": f"{case.name} · {len(prompts)} cells from one {case.kind} each",
                "subtitle": f"model {Path(model.name).name} · dashed white: the truth · "
                f"mean IoU {mean:.2f} on frames that were not prompted",
                "truth": truth.all.__getitem__,
                "notes": truth.notes(found),
            }

        summary = follow(
            stack, model, prompts, place, direction=case.direction, report=report, inspect=inspect
        )
    return DemoResult(case.name, story, tuple(objects), summary["files"], summary["seconds"], case.note)


class _Truth:
    """Known labels of the objects that are prompted, on the frames where they count."""

    def __init__(self, labels: NDArray[Any], case: _Case) -> None:
        self._case = case
        # Object id -> the frame it is prompted on.
        self.prompted: dict[int, int] = {}
        for frame in case.frames:
            ids, sizes = np.unique(labels[frame], return_counts=True)
            for object_id, size in zip(ids.tolist(), sizes.tolist(), strict=True):
                if object_id and size >= _SHOWN_WELL:
                    self.prompted.setdefault(object_id, frame)
        self.all = labels  # to be drawn: daughters, too, which nobody prompted
        self.labels = np.where(np.isin(labels, list(self.prompted)), labels, 0)

    def prompts(self) -> list[Given]:
        """One click or box for each object."""
        given = []
        for object_id, frame in self.prompted.items():
            mask = self.labels[frame] == object_id
            place: Point | Box
            if self._case.kind == "click":
                place = Point(frame, object_id, click_of(mask))
            else:
                place = Box(frame, object_id, box_of(mask))
            given.append(Given(f"sample {self._case.name}", place))
        return given

    def score(self, found: NDArray[Any]) -> list[DemoObject]:
        """Figures of each object."""
        scores = []
        for object_id, frame in sorted(self.prompted.items()):
            by_frame = self._by_frame(found, object_id)
            prompted = by_frame.pop(frame)
            scores.append(
                DemoObject(object_id, prompted, float(np.mean(list(by_frame.values()))) if by_frame else 1.0)
            )
        return scores

    def notes(self, found: NDArray[Any]) -> dict[int, str]:
        """Mean IoU of the objects of each frame."""
        by_object = [self._by_frame(found, object_id) for object_id in self.prompted]
        notes = {}
        for frame in range(len(found)):
            values = [values[frame] for values in by_object if frame in values]
            if values:
                notes[frame] = f"IoU {np.mean(values):.2f}"
        return notes

    def _by_frame(self, found: NDArray[Any], object_id: int) -> dict[int, float]:
        """IoU on each frame where the truth or the labels have the object."""
        until = self._case.until.get(object_id, len(found))
        pairs = {f: (self.labels[f] == object_id, found[f] == object_id) for f in range(until)}
        return {f: iou(*pair) for f, pair in pairs.items() if pair[0].any() or pair[1].any()}

"""Figures for a model on stacks with ground truth, each beside two baselines.

The protocol: every prompt comes from the ground truth of one frame, the first of a time-lapse or the middle
one of a volume, which is then propagated both ways. A *click* is the pixel farthest from the object's border,
a *box* its bounding box, a *mask* the object itself. *click+3* is a click and up to
three more, each where a person would correct the mask so far (:func:`stacksam.metrics.corrective_click`),
before the object is followed. Objects under 30 px in that frame are left out. Reported are means over
objects, pooled over the clips of a data set, of IoU and of the DAVIS boundary measure, on the prompted frame
and on the others, and of Dice over all frames of the clip at once, the prompted one among them.

The *other* frames of an object are all frames but the prompted one in which the truth or the prediction has
the object; where both are empty (a track that ended, and was seen to end) the frame is skipped. An object
that has no such frame although the clip has other frames was right everywhere, and counts 1.0: were it
dropped, a perfect method would be averaged over fewer objects than a bad one. A single image has no other
frames, and the figure is NaN; so is its Dice, which would only say what the IoU says.

The baselines depend on the true mask only, not on the kind of prompt, so each data set has one row of each:
``copy`` is the true mask of the prompted frame on every frame; ``otsu+watershed`` segments each frame alone,
starts from the segment that shares most pixels with the true mask, and links by largest overlap.

Run it with ``stacksam evaluate --suite`` or ``python -m stacksam.evaluate``.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, StacksamError, StorageError
from stacksam.evaldata import LOADERS, Clip, Dataset, available_sets, load_all, load_dataset, named_sets
from stacksam.evalprompts import (
    METHODS,
    Corrections,
    Masks,
    PromptKind,
    Runner,
    TruthPrompt,
    corrections_of,
    prompt_of,
    session_runner,
    split_method,
)
from stacksam.evaluation_report import format_report, save_json
from stacksam.evaluation_result import CurvePoint, EvaluationRow, ObjectScore
from stacksam.metrics import (
    boundary_f,
    copy_baseline,
    iou,
    link_by_overlap,
    otsu_watershed,
)

__all__ = [
    "CHOICES",
    "Choice",
    "Clip",
    "Corrections",
    "Dataset",
    "TruthPrompt",
    "available_sets",
    "evaluate",
    "load_dataset",
    "run_evaluation",
    "score_object",
    "session_runner",
]

Choice: TypeAlias = Literal["spaced", "largest"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
"""Which objects where there are more than are wanted: evenly spaced ids, or those with the most pixels."""

MIN_PIXELS = 30
"""Objects smaller than this in the prompted frame are left out."""

DATA_VARIABLE = "STACKSAM_EVALDATA"

Method: TypeAlias = Callable[[Clip, Sequence[int]], Masks]
"""What is evaluated: the masks of some objects of a clip, which may look at its truth."""


def evaluate(
    datasets: Iterable[Dataset],
    run: Runner | None,
    prompts: Sequence[str] = METHODS,
    *,
    max_objects: int = 20,
    choose: Choice = "spaced",
    baselines: bool = True,
    progress: Callable[[str], None] | None = None,
) -> tuple[EvaluationRow, ...]:
    """Run the protocol.

    Parameters
    ----------
    datasets : iterable of Dataset
        Taken one at a time, so a generator keeps only one in memory.
    run : callable, optional
        ``run(images, prompts, volume)`` -> masks by ``(object id, frame)``; called once for each clip and
        kind of prompt with all objects together. None: baselines only.
    prompts : sequence of {"click", "box", "mask", "click+1", "click+3" ...}
    max_objects : int
        Most objects of a clip; 0 takes all. Of clips that say so the protocol takes fewer, their largest.
    choose : {"spaced", "largest"}
        Which ones: evenly spaced in the sorted ids, or those with the most pixels on all frames together.
    baselines : bool
        Add the two rows of baselines.
    progress : callable, optional
        Told what is being done, a line at a time.

    Returns
    -------
    tuple of EvaluationRow
        For each data set the kinds of prompt in the given order, then the baselines.

    Raises
    ------
    InputError
        If a kind of prompt or choice is unknown, `max_objects` is negative, or a predicted mask has another
        shape than the frames.
    """
    wanted = {method: split_method(method) for method in prompts}
    if max_objects < 0:
        raise InputError(f"max_objects is {max_objects}; give a positive number, or 0 for all objects")
    if choose not in CHOICES:
        raise InputError(f"choice of objects {choose!r} is unknown; choose from {', '.join(CHOICES)}")

    methods: dict[str, Method] = {}
    if run is not None:
        methods |= {method: _prompted(run, kind, rounds) for method, (kind, rounds) in wanted.items()}
    if baselines:
        methods |= {"copy": _copied, "otsu+watershed": _linked}

    tell = progress or _silent
    rows = []
    for dataset in datasets:
        chosen = [(clip, _choose_objects(clip, max_objects, choose)) for clip in dataset.clips]
        for clip, ids in chosen:
            tell(f"{dataset.name}, {clip.name}: {clip.n_frames} frames, {len(ids)} objects {clip.note}")
        for method, segment in methods.items():
            scores, seconds = _measure(method, segment, chosen, tell)
            rows.append(_row(dataset.name, method, scores, seconds))
    return tuple(rows)


def score_object(truth: NDArray[Any], predicted: NDArray[Any], prompted_frame: int) -> ObjectScore:
    """Score one object.

    Parameters
    ----------
    truth, predicted : array of bool, shape (T, Y, X)
    prompted_frame : int
    """
    others = [
        frame
        for frame in range(len(truth))
        if frame != prompted_frame and (truth[frame].any() or predicted[frame].any())
    ]
    shown = (prompted_frame, *others)
    ious = {f: iou(truth[f], predicted[f]) for f in shown}
    boundaries = {f: boundary_f(truth[f], predicted[f]) for f in shown}
    # All frames skipped: right everywhere. No other frame at all: nothing to say.
    nothing = 1.0 if len(truth) > 1 else math.nan

    def mean(values: dict[int, float]) -> float:
        return float(np.mean([values[f] for f in others])) if others else nothing

    return ObjectScore(
        iou_prompted=ious[prompted_frame],
        iou_others=mean(ious),
        boundary_prompted=boundaries[prompted_frame],
        boundary_others=mean(boundaries),
        n_others=len(others),
        iou_by_distance=tuple((abs(frame - prompted_frame), value) for frame, value in ious.items()),
        dice_volume=_dice(truth, predicted) if len(truth) > 1 else math.nan,
    )


def run_evaluation(
    data: Path | None = None,
    model: str | Path | None = "nano",
    sets: Sequence[str] = (),
    prompts: Sequence[str] = METHODS,
    max_objects: int = 20,
    choose: Choice = "spaced",
    progress: Callable[[str], None] | None = None,
) -> tuple[EvaluationRow, ...]:
    """Evaluate a model on data sets in a folder; the work behind ``stacksam evaluate --suite``.

    Parameters
    ----------
    data : Path, optional
        Folder of the data sets; by default the environment variable ``STACKSAM_EVALDATA``. Without either,
        only the shipped samples are there.
    model : str or Path, optional
        Name or path of a checkpoint; None gives the baselines only.
    sets : sequence of str
        Names, or their part before the slash. Empty: every set that can be read; `progress` is told of the
        others.
    prompts, max_objects, choose, progress
        See :func:`evaluate`.

    Raises
    ------
    InputError
        If the folder or a named set does not exist, or nothing can be read.
    StackError
        If a named set cannot be read.
    """
    if data is None and os.environ.get(DATA_VARIABLE):
        data = Path(os.environ[DATA_VARIABLE])
    if data is not None and not data.is_dir():
        raise InputError(f"{data} is not a folder; give the folder that holds the evaluation data sets")
    names = named_sets(sets) if sets else tuple(LOADERS)
    run = None if model is None else session_runner(model)
    datasets = load_all(names, data, strict=bool(sets), tell=progress or _silent)
    rows = evaluate(datasets, run, prompts, max_objects=max_objects, choose=choose, progress=progress)
    if not rows:
        raise InputError(
            f"no data set could be read from {data or 'the package'}; give --data, or set {DATA_VARIABLE}, "
            "to a folder that holds some"
        )
    return rows


def _choose_objects(clip: Clip, limit: int, choose: Choice) -> list[int]:
    """Ids large enough to be prompted, sorted; those that are chosen where there are more than the limit."""
    ids, counts = np.unique(clip.labels[clip.prompted_frame], return_counts=True)
    ids = ids[(ids != 0) & (counts >= MIN_PIXELS)]
    if limit and clip.largest is not None:
        limit, choose = min(limit, clip.largest), "largest"
    if limit and len(ids) > limit:
        if choose == "largest":
            sizes = [np.count_nonzero(clip.labels == object_id) for object_id in ids]
            ids = np.sort(ids[np.argsort(sizes, kind="stable")[::-1][:limit]])
        else:
            ids = ids[np.linspace(0, len(ids) - 1, limit).round().astype(int)]
    return [int(object_id) for object_id in ids]


def _dice(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Dice of two stacks, not both empty, over all of their frames at once."""
    both = np.count_nonzero(truth & predicted)
    return 2 * both / (np.count_nonzero(truth) + np.count_nonzero(predicted))


def _measure(
    method: str,
    segment: Method,
    chosen: Iterable[tuple[Clip, Sequence[int]]],
    tell: Callable[[str], None],
) -> tuple[list[ObjectScore], float]:
    """Scores of all objects by one method, and the seconds it took to segment them."""
    scores: list[ObjectScore] = []
    seconds = 0.0
    for clip, object_ids in chosen:
        if not object_ids:
            continue
        tell(f"{clip.name}: {method}")
        started = time.perf_counter()
        masks = segment(clip, object_ids)
        seconds += time.perf_counter() - started
        scores += [_score(clip, object_id, masks) for object_id in object_ids]
    return scores, seconds


def _prompted(run: Runner, kind: PromptKind, rounds: int) -> Method:
    """The method that prompts the model with one kind of prompt, and then corrects."""

    def segment(clip: Clip, object_ids: Sequence[int]) -> Masks:
        prompts = [prompt_of(clip, object_id, kind) for object_id in object_ids]
        told: dict[str, Any] = {}
        if rounds:
            told["corrections"] = corrections_of(clip, rounds)
        if clip.volume and clip.spacing is not None:  # it matters in depth, where objects end
            told["spacing"] = clip.spacing
        return run(clip.images, prompts, clip.volume, **told)

    return segment


def _copied(clip: Clip, object_ids: Sequence[int]) -> Masks:
    """The baseline that copies the true mask."""
    return {
        (object_id, frame): mask
        for object_id in object_ids
        for frame, mask in enumerate(
            copy_baseline(clip.labels[clip.prompted_frame] == object_id, clip.n_frames)
        )
    }


def _linked(clip: Clip, object_ids: Sequence[int]) -> Masks:
    """The baseline that thresholds, splits and links."""
    segments = [otsu_watershed(image) for image in clip.images]
    start = clip.prompted_frame
    return {
        (object_id, frame): mask
        for object_id in object_ids
        for frame, mask in enumerate(link_by_overlap(segments, clip.labels[start] == object_id, start))
    }


def _score(clip: Clip, object_id: int, masks: Masks) -> ObjectScore:
    """Score one object of a clip; a mask that is missing is empty."""
    truth = clip.labels == object_id
    predicted = np.zeros_like(truth)
    for frame in range(clip.n_frames):
        mask = masks.get((object_id, frame))
        if mask is None:
            continue
        if mask.shape != truth[frame].shape:
            raise InputError(
                f"{clip.name}: the mask of object {object_id} on frame {frame} has shape {mask.shape}; "
                f"the frames have {truth[frame].shape}"
            )
        predicted[frame] = mask
    score = score_object(truth, predicted, clip.prompted_frame)
    return dataclasses.replace(score, clip=clip.name, object_id=object_id)


def _row(dataset: str, method: str, scores: Sequence[ObjectScore], seconds: float) -> EvaluationRow:
    def mean(values: Iterable[float]) -> float:
        there = [value for value in values if not math.isnan(value)]
        return float(np.mean(there)) if there else math.nan

    return EvaluationRow(
        dataset=dataset,
        method=method,
        objects=len(scores),
        frames=sum(score.n_others for score in scores),
        iou_prompted=mean(score.iou_prompted for score in scores),
        iou_others=mean(score.iou_others for score in scores),
        boundary_prompted=mean(score.boundary_prompted for score in scores),
        boundary_others=mean(score.boundary_others for score in scores),
        dice_volume=mean(score.dice_volume for score in scores),
        seconds=seconds,
        curve=_curve(scores),
        scores=tuple(scores),
    )


def _curve(scores: Iterable[ObjectScore]) -> tuple[CurvePoint, ...]:
    """Mean IoU by distance, over the frames of all objects."""
    found: dict[int, list[float]] = {}
    for score in scores:
        for distance, value in score.iou_by_distance:
            found.setdefault(distance, []).append(value)
    return tuple(
        CurvePoint(distance, float(np.mean(values)), len(values))
        for distance, values in sorted(found.items())
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m stacksam.evaluate``: ``stacksam evaluate --suite`` as Markdown; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m stacksam.evaluate", description="Evaluate a model on stacks with ground truth."
    )
    parser.add_argument("--data", type=Path, help=f"folder of the data sets (default: ${DATA_VARIABLE})")
    parser.add_argument("--model", default="nano", help="name or path of a checkpoint (default: nano)")
    parser.add_argument("--baselines-only", action="store_true", help="run no model")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("--set", "--sets", metavar="SET", help=f"of {', '.join(LOADERS)}", **several)
    parser.add_argument(
        *("--prompt", "--prompts"),
        metavar="PROMPT",
        help=f"of {', '.join(METHODS)} (default: all of them)",
        **several,
    )
    parser.add_argument(
        "--max-objects", type=int, default=20, help="most objects of a clip, 0: all (default: 20)"
    )
    parser.add_argument(
        "--choose", choices=CHOICES, default="spaced", help="which objects, if not all (default: spaced)"
    )
    parser.add_argument("--plain", action="store_true", help="align with spaces instead of Markdown")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures, those of single objects too, to a file"
    )
    options = parser.parse_args(arguments)
    try:
        if options.json and not options.json.parent.is_dir():  # told now, not after all the work
            raise StorageError(f"{options.json.parent} is not a folder; choose another place")
        rows = run_evaluation(
            data=options.data,
            model=None if options.baselines_only else options.model,
            sets=options.set,
            prompts=options.prompt or METHODS,
            max_objects=options.max_objects,
            choose=options.choose,
            progress=lambda line: _write(sys.stderr, line),
        )
        if options.json:
            save_json(rows, options.json)
    except StacksamError as error:
        _write(sys.stderr, f"error: {error}")
        return 1
    _write(sys.stdout, format_report(rows, "plain" if options.plain else "markdown"))
    return 0


def _silent(_: str) -> None:
    """Progress that nobody asked for."""


def _write(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


if __name__ == "__main__":
    raise SystemExit(main())

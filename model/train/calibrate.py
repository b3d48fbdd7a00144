"""Measure what the model's own figures are worth: predicted IoU and object score, on procedural clips.

``python model/train/calibrate.py [--clips 100] [--returning 300] [--seed 0] [--model nano]`` prints the
figures and draws them into ``docs/images``. Clips have seeds that neither training nor its checks draw.
``--fit model/nano.json --seed 1`` fits instead what the predicted IoU of followed masks is worth (see
``stacksam.session.judge.worth``), on clips of another seed, and writes the coefficients there.

*Predicted IoU*: objects of a clip are prompted by clicks or boxes on the first frame and followed by a real
session; every mask that is shown is compared with the truth. The calibration error is the expected one (Guo
et al., 2017) over ten bins: the gap between mean predicted and mean true IoU in a bin, weighted by its masks.

*Object score*: those objects are followed that the truth shows, then does not, then shows again; from a mask,
so that it is clear which object is meant. Their score on all later frames is to tell those that show them
from those that do not: the area under the ROC curve.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "src")]

import synth
from checks import CHECKED
from clips import LENGTH, SIZE
from stacksam import Box, Mask, Point, Session, load_model, open_stack
from stacksam.metrics import box_of, click_of, iou
from stacksam.session.judge import FITTED_DISTANCE, worth
from stacksam.session.models import Model

BINS = 10
OBJECTS = 4  # of a clip, at most
PROMPTED = 60  # pixels of an object that is prompted, at least
PRESENT = 10  # pixels from which on an object counts as shown; with fewer, but some, it is not asked
OWN_SEEDS = 2**20  # seeds of this program after CHECKED, beyond those of the checks of training
EACH_SEED = 2**16
FITTED = 30  # followed masks that a fit of three coefficients needs, at least

Floats = NDArray[np.float64]
Prompts = list[Point | Box | Mask]


@dataclass(frozen=True)
class Reliability:
    """Predicted against true IoU, by bins of the predicted one.

    Attributes
    ----------
    predicted, true
        Means of each bin that is not empty.
    masks
        How many each has.
    """

    predicted: Floats
    true: Floats
    masks: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error."""
        return float(np.abs(self.predicted - self.true) @ self.masks / self.masks.sum())


def reliability(predicted: Sequence[float], true: Sequence[float]) -> Reliability:
    """Bins of equal width over 0 to 1; what is predicted outside of that counts as its nearest end."""
    if not len(predicted):
        raise SystemExit("no mask was shown; give more clips")
    values, truth = np.clip(np.asarray(predicted, float), 0, 1), np.asarray(true, float)
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    masks = np.bincount(bins, minlength=BINS)
    there = masks > 0
    sums = [np.bincount(bins, weights=each, minlength=BINS)[there] for each in (values, truth)]
    return Reliability(sums[0] / masks[there], sums[1] / masks[there], masks[there])


def roc(scores: Sequence[float], present: Sequence[bool]) -> tuple[Floats, Floats, float]:
    """False and true positive rates from the strictest threshold to the loosest, and the area below."""
    values, there = np.asarray(scores, float), np.asarray(present, bool)
    positives, negatives = int(there.sum()), int((~there).sum())
    if not positives or not negatives:
        raise SystemExit("all objects are present, or none is; give more clips")
    order = np.argsort(-values, kind="stable")
    # Equal scores share a threshold.
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits, alarms = np.cumsum(there[order])[last], np.cumsum(~there[order])[last]
    ranks = rankdata(values)[there].sum()
    area = (ranks - positives * (positives + 1) / 2) / (positives * negatives)
    return np.append(0, alarms / negatives), np.append(0, hits / positives), float(area)


def areas_of(labels: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Pixels (T, N) of each id on each frame; none of the background."""
    most = int(labels.max()) + 1
    areas = np.stack([np.bincount(frame.ravel(), minlength=most) for frame in labels])
    areas[:, 0] = 0
    return areas


def returning(areas: NDArray[np.int64]) -> list[int]:
    """Ids that can be prompted on the first frame, are gone on a later one, and show again after that."""
    found = []
    for object_id in np.flatnonzero(areas[0] >= PROMPTED):
        gone = np.flatnonzero(areas[:, object_id] == 0)
        if len(gone) and (areas[gone[0] :, object_id] >= PRESENT).any():
            found.append(int(object_id))
    return found


def prompts_of(labels: NDArray[np.uint16], object_ids: Sequence[int], kind: str) -> Prompts:
    """Prompts from the truth of the first frame, by the rules of the evaluation."""
    made: Prompts = []
    for object_id in object_ids:
        mask = labels[0] == object_id
        if kind == "click":
            made.append(Point(frame=0, object_id=object_id, yx=click_of(mask)))
        elif kind == "box":
            made.append(Box(frame=0, object_id=object_id, yxyx=box_of(mask)))
        else:
            made.append(Mask(frame=0, object_id=object_id, mask=mask))
    return made


def answers(
    model: Model, clip: synth.Clip, object_ids: Sequence[int], kind: str
) -> Iterator[tuple[int, int, float, float, NDArray[np.bool_]]]:
    """Frame, object, object score, predicted IoU and mask of each answer of a session."""
    stack = open_stack(np.rint(clip.images * 255).astype(np.uint8), axes="tyx", intensity=(0, 255))
    with Session(stack, model) as session:
        session.add(*prompts_of(clip.labels, object_ids, kind))
        for _ in session.propagate("forward"):
            pass  # The session keeps what comes.
        for object_id in object_ids:
            for frame in range(len(clip.images)):
                update = session.update(object_id, frame)
                if update is not None:
                    shown = update.full_mask(clip.images.shape[1:])
                    yield frame, object_id, update.object_score, update.predicted_iou, shown


def measure_iou(model: Model, first: int, count: int) -> dict[str, tuple[list[float], ...]]:
    """Predicted and true IoU of shown masks, and frames since the prompt, by where they came from."""
    found: dict[str, tuple[list[float], ...]] = {k: ([], [], []) for k in ("click", "box", "followed")}
    for number in range(count):
        clip = synth.make_clip(first + number, SIZE, LENGTH)
        large = np.flatnonzero(areas_of(clip.labels)[0] >= PROMPTED)
        rng = np.random.Generator(np.random.PCG64([first + number]))
        chosen = [int(i) for i in rng.permutation(large)[:OBJECTS]]
        kind = ("click", "box")[number % 2]
        if not chosen:
            continue
        for frame, object_id, _, predicted, mask in answers(model, clip, chosen, kind):
            if mask.any():
                values = found["followed" if frame else kind]
                values[0].append(predicted)
                values[1].append(iou(clip.labels[frame] == object_id, mask))
                values[2].append(frame)
    return found


def fit_worth(predicted: Sequence[float], true: Sequence[float], distance: Sequence[float]) -> list[float]:
    """Coefficients of ``worth`` with the least squared error; none of too few masks."""
    if len(predicted) < FITTED:
        raise SystemExit(
            f"a fit needs {FITTED} followed masks, and there are {len(predicted)}; give more clips"
        )
    if max(distance) != FITTED_DISTANCE:
        raise SystemExit(
            f"masks were followed for up to {max(distance)} frames, and `worth` falls for {FITTED_DISTANCE}; "
            "change FITTED_DISTANCE in session/judge.py"
        )

    def error(coefficients: Floats) -> float:
        how = (float(coefficients[0]), float(coefficients[1]), float(coefficients[2]))
        pairs = zip(predicted, true, distance, strict=True)
        return float(np.mean([(worth(p, int(d), how) - t) ** 2 for p, t, d in pairs]))

    best = minimize(error, np.array([0.9, -0.1, 0.1]), method="Nelder-Mead")
    return [round(float(value), 4) for value in best.x]


def description_of(path: Path, model: Model) -> dict[str, Any]:
    """What a file tells of a model, which is to be this one: coefficients of another would be wrong there."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot read {path}: {error}; give the description of a model") from error
    if not isinstance(told, dict) or told.get("sha256") != model.digest:
        raise SystemExit(
            f"{path} does not describe {model.name}, whose weights have the SHA-256 {model.digest}; give the "
            "description of that model, with that digest"
        )
    return told


def measure_presence(model: Model, first: int, count: int) -> tuple[list[float], list[bool], int]:
    """Object scores and presence on all frames after the first, and how many objects left and returned."""
    scores: list[float] = []
    present: list[bool] = []
    objects = 0
    for number in range(first, first + count):
        clip = synth.make_clip(number, SIZE, LENGTH)
        areas = areas_of(clip.labels)
        chosen = returning(areas)[:OBJECTS]
        if not chosen:
            continue
        objects += len(chosen)
        for frame, object_id, score, _, _ in answers(model, clip, chosen, "mask"):
            area = areas[frame, object_id]
            if frame and (area == 0 or area >= PRESENT):
                scores.append(score)
                present.append(bool(area))
    return scores, present, objects


# ---------------------------------------------------------------------------------------------- pictures

SIDE, LEFT, TOP, BOTTOM = 300, 56, 34, 48  # of the square plot, and the margins, in pixels


def svg(
    title: str,
    axes: tuple[str, str],
    curve: tuple[Floats, Floats],
    *,
    marks: NDArray[np.float64] | None = None,
) -> str:
    """A curve in the unit square, beside its diagonal; with marks, a dot of that area for each point."""

    def x(value: float) -> str:
        return f"{LEFT + SIDE * value:.1f}"

    def y(value: float) -> str:
        return f"{TOP + SIDE * (1 - value):.1f}"

    middle = LEFT + SIDE / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + SIDE + 20}" height="{TOP + SIDE + BOTTOM}" '
        'font-family="sans-serif" font-size="12" fill="#222222">',
        f"<title>{title}</title>",
        f'<rect width="{LEFT + SIDE + 20}" height="{TOP + SIDE + BOTTOM}" fill="#ffffff"/>',
        f'<text x="{middle}" y="20" text-anchor="middle" font-weight="bold">{title}</text>',
    ]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        across, up = x(tick), y(tick)
        parts += [
            f'<path d="M{across} {y(0)}V{y(1)}M{x(0)} {up}H{x(1)}" stroke="#e0e0e0"/>',
            f'<text x="{across}" y="{TOP + SIDE + 16}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{LEFT - 6}" y="{float(up) + 4:.1f}" text-anchor="end">{tick:g}</text>',
        ]
    points = list(zip(*curve, strict=True))
    dots = [] if marks is None else zip(points, 2 + 10 * np.sqrt(marks), strict=True)
    line = " ".join(f"{x(a)},{y(b)}" for a, b in points)
    parts += [
        f'<path d="M{x(0)} {y(0)}L{x(1)} {y(1)}" stroke="#888888" stroke-dasharray="4 4"/>',
        f'<polyline points="{line}" fill="none" stroke="#0072b2" stroke-width="2"/>',
        *(
            f'<circle cx="{x(a)}" cy="{y(b)}" r="{radius:.1f}" fill="#0072b2" fill-opacity="0.6"/>'
            for (a, b), radius in dots
        ),
        f'<text x="{middle}" y="{TOP + SIDE + 36}" text-anchor="middle">{axes[0]}</text>',
        f'<text transform="translate(16 {TOP + SIDE / 2}) rotate(-90)" text-anchor="middle">{axes[1]}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=100, help="clips for the predicted IoU (default: 100)")
    parser.add_argument(
        "--returning", type=int, default=300, help="clips that are searched for objects that return"
    )
    parser.add_argument("--seed", type=int, default=0, help="another one sees other clips")
    parser.add_argument("--model", default="nano", help="name or path of a checkpoint")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    parser.add_argument("--fit", type=Path, metavar="FILE", help="fit, and write into this description")
    args = parser.parse_args(words)
    if args.clips < 1:
        parser.error(f"--clips {args.clips}: give at least 1")
    if args.fit and args.seed == 0:
        parser.error("--fit with seed 0 would be measured on what it was fitted on; give another --seed")
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    first = CHECKED + OWN_SEEDS + args.seed * EACH_SEED
    if args.fit:
        told = description_of(args.fit, model)
        neutral = replace(model, followed_iou=(1.0, 0.0, 0.0))
        coefficients = fit_worth(*measure_iou(neutral, first, args.clips)["followed"])
        told["followed_iou"] = coefficients
        args.fit.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        print(f"slope, offset and fall of followed masks: {coefficients}")
        return
    args.out.mkdir(parents=True, exist_ok=True)

    found = measure_iou(model, first, args.clips)
    found["all"] = tuple([v for values in found.values() for v in values[n]] for n in (0, 1))
    print("| masks from | masks | mean predicted IoU | mean true IoU | calibration error |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (predicted, true, *_) in found.items():
        if predicted:
            error = reliability(predicted, true).error
            means = f"{np.mean(predicted):.3f} | {np.mean(true):.3f}"
            print(f"| {name} | {len(predicted)} | {means} | {error:.3f} |")
    bins = reliability(*found["all"][:2])
    picture = svg(
        f"Predicted IoU: calibration error {bins.error:.3f}",
        ("predicted IoU, mean of a bin", "true IoU, mean of the bin"),
        (bins.predicted, bins.true),
        marks=bins.masks / bins.masks.max(),
    )
    (args.out / "calibration-iou.svg").write_text(picture, encoding="utf-8")

    scores, present, objects = measure_presence(model, first + args.clips, args.returning)
    alarms, hits, area = roc(scores, present)
    there = np.asarray(present)
    right = np.asarray(scores) > 0
    print(f"\nObjects that leave and return: {objects}, on {len(there)} frames; AUC {area:.3f}")
    print(f"At a score of 0: present and seen {right[there].mean():.3f}", end=", ")
    print(f"absent and seen to be {(~right[~there]).mean():.3f}")
    picture = svg(
        f"Object score: area below the curve {area:.3f}",
        ("absent, and taken to be present", "present, and taken to be"),
        (alarms, hits),
    )
    (args.out / "calibration-presence.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()

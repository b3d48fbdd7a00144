"""How well all objects of a frame are found, beside Otsu + watershed.

``python tests/benchmarks/bench_find.py --data path/to/datasets [--model nano] [--limit 20]``

Each still image, and the first frame of a time-lapse, is searched once without a hint and once with the
median diameter of the true objects as `size`. Proposals and true objects (of 30 pixels or more) are matched
one to one by IoU, those above 0.5 count. *F1* is pooled over the images of a set, *AP* is TP / (TP + FP + FN)
as in the data science bowl of 2018, pooled as well, and *IoU* the mean over matches.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

sys.path[:0] = [str(Path(__file__).parents[2] / "src")]

from stacksam import Session, find_objects, load_model, open_stack
from stacksam.evaldata import load_dataset
from stacksam.metrics import otsu_watershed

SETS = (
    "dsb2018_nuclei_single",
    "omnipose_bacteria_single",
    "usiigaci_phc_single",
    "laptrack_nuclei_tracked",
    "sample/timelapse",
)
LEAST = 30  # pixels of an object


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("STACKSAM_EVALDATA"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--set", nargs="+", default=SETS, dest="sets")
    parser.add_argument("--limit", type=int, default=1000, help="most images of a set")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    print("| set | method | objects | found | F1@0.5 | AP@0.5 | IoU | seconds a frame |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in args.sets:
        rows: dict[str, list[tuple[list[float], int, int, float]]] = {}
        for image, truth in frames(name, args.data, args.limit):
            sizes = np.bincount(truth.ravel())[1:]
            size = float(2 * np.sqrt(np.median(sizes[sizes >= LEAST]) / np.pi))
            for method, own in (("no hint", None), ("size given", min(max(size, 4), 2048))):
                start = time.perf_counter()
                found = proposed(image, model, own)
                taken = time.perf_counter() - start
                rows.setdefault(f"{args.model}, {method}", []).append((*matched(found, truth), taken))
            start = time.perf_counter()
            found = otsu_watershed(image)
            taken = time.perf_counter() - start
            rows.setdefault("otsu+watershed", []).append((*matched(found, truth), taken))
        for method, own in rows.items():
            ious = [iou for row in own for iou in row[0]]
            objects, proposals = sum(row[1] for row in own), sum(row[2] for row in own)
            f1 = 2 * len(ious) / max(1, objects + proposals)
            ap = len(ious) / max(1, objects + proposals - len(ious))
            iou = f"{np.mean(ious):.3f}" if ious else "-"
            seconds = np.mean([row[3] for row in own])
            cells = (name, method, objects, proposals, f"{f1:.3f}", f"{ap:.3f}", iou, f"{seconds:.1f}")
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def frames(name: str, data: Path | None, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """First frames of a set, and what is on them."""
    for clip in load_dataset(name, data).clips[:limit]:
        yield clip.images[0], clip.labels[0]


def proposed(image: np.ndarray, model: object, size: float | None) -> np.ndarray:
    """Proposals as labels."""
    stack = open_stack(image[None], axes="tyxc" if image.ndim == 3 else "tyx")
    labels = np.zeros(stack.frame_shape, np.int32)
    with Session(stack, model) as session:
        for number, proposal in enumerate(find_objects(session, 0, size=size), 1):
            y0, x0, y1, x1 = proposal.bbox
            labels[y0:y1, x0:x1][proposal.mask] = number
    return labels


def matched(found: np.ndarray, truth: np.ndarray) -> tuple[list[float], int, int]:
    """IoU of all matches above 0.5, how many true objects there are, and how many were found.

    What was found and lies mostly on true objects that are too small to count does not count either.
    """
    shared = np.zeros((int(truth.max()) + 1, int(found.max()) + 1))
    np.add.at(shared, (truth.ravel(), found.ravel()), 1)
    area_true, area_found = shared.sum(1, keepdims=True), shared.sum(0, keepdims=True)
    iou = shared / (area_true + area_found - shared)
    small = (area_true[:, 0] < LEAST) & (np.arange(len(area_true)) > 0)
    kept_true = [i for i in range(1, len(shared)) if area_true[i, 0] >= LEAST]
    on_small = shared[small].sum(0) > 0.5 * area_found[0]
    kept_found = [j for j in range(1, shared.shape[1]) if area_found[0, j] > 0 and not on_small[j]]
    pairs = iou[np.ix_(kept_true, kept_found)]
    rows, columns = linear_sum_assignment(-pairs)
    good = [float(v) for v in pairs[rows, columns] if v > 0.5]
    return good, len(kept_true), len(kept_found)


if __name__ == "__main__":
    main()

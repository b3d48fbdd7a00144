"""How well objects are followed through volumes: along one axis, and by the consensus of three.

python tests/benchmarks/bench_volumes.py --data path/to/datasets [--objects 10] [--model nano]

One click, box or mask on the middle slice of each object, from its truth; Dice of the whole volume. Beside it
the two baselines of the protocol: the true mask copied to all slices, and Otsu + watershed + link by overlap.
Prints Markdown, with seconds of processor time. A set whose folder is not there is left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stacksam import Box, Mask, Point, Session, load_model, open_stack
from stacksam.io import open_image
from stacksam.metrics import box_of, click_of, copy_baseline, link_by_overlap, otsu_watershed
from stacksam.session.models import Model
from stacksam.session.stack import Stack
from stacksam.tracks.consensus import consensus

SMALLEST = 30  # pixels of an object on the middle slice
KINDS = ("click", "box", "mask")


@dataclass(frozen=True)
class Volume:
    """An image, its truth, and how it is to be seen."""

    image: str
    truth: str
    intensity: str | None = None


SETS: dict[str, tuple[Volume, ...]] = {
    "stardist_nuclei3d": (Volume("images.tif", "labels.tif"),),
    "plantseg_ovule3d": (Volume("images.tif", "labels.tif"),),
    "totalseg_small/ct": (Volume("ct_3mm_image.nii.gz", "ct_3mm_seg.nii.gz", "ct-soft-tissue"),),
    "totalseg_small/mr": (Volume("mr_3mm_image.nii.gz", "mr_3mm_seg.nii.gz", "mr"),),
    "sct_spinalcord": (
        Volume("t1w.nii.gz", "t1w_seg-manual.nii.gz", "mr"),
        Volume("t2.nii.gz", "t2_seg-manual.nii.gz", "mr"),
        Volume("t2s_uncropped.nii.gz", "t2s_uncropped_gmseg_manual.nii.gz", "mr"),
    ),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--objects", type=int, default=10, help="most objects of a volume")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    options = parser.parse_args()
    model = load_model(options.model)
    print(
        "| set | method | objects | one axis | consensus | agreement | CPU s one axis | more for consensus |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.sets:
        folder = options.data / name.split("/")[0]
        if not folder.is_dir():
            print(f"{name} is not in {options.data}", file=sys.stderr)
            continue
        for line in rows(name, [load(folder, volume) for volume in SETS[name]], model, options.objects):
            print(line, flush=True)


def load(folder: Path, volume: Volume) -> tuple[Stack, NDArray[np.int64]]:
    """A stack along z, and its labels."""
    image, truth = open_image(folder / volume.image), open_image(folder / volume.truth)
    # Frames of a TIFF without a word are time; these are depth.
    stack = open_stack(
        image if "z" in image.axes else image.read(),
        axes=None if "z" in image.axes else "zyx",
        intensity=volume.intensity,
    )
    return stack, truth.read().astype(np.int64)


def rows(
    name: str, volumes: list[tuple[Stack, NDArray[np.int64]]], model: Model, limit: int
) -> Iterator[str]:
    """Lines of the table for one set."""
    chosen = [choose(truth, limit, largest=name.startswith("totalseg")) for _, truth in volumes]
    count = sum(map(len, chosen))
    for kind in KINDS:
        single, fused, agreed, first, more = [], [], [], 0.0, 0.0
        for (stack, truth), ids in zip(volumes, chosen, strict=True):
            one, three, agreement, times = follow(stack, truth, ids, kind, model)
            single += one
            fused += three
            agreed += agreement
            first, more = first + times[0], more + times[1]
            print(f"{name} {kind}: {times}", file=sys.stderr, flush=True)
        yield (
            f"| {name} | {kind} | {count} | {np.mean(single):.3f} | {np.mean(fused):.3f} | "
            f"{np.mean(agreed):.2f} | {first:.0f} | {more:.0f} |"
        )
    baselines: dict[str, Callable[..., list[float]]] = {"copy": copied, "otsu+watershed": linked}
    for method, segment in baselines.items():
        found = [
            dice
            for (stack, truth), ids in zip(volumes, chosen, strict=True)
            for dice in segment(stack, truth, ids)
        ]
        yield f"| {name} | {method} | {count} | {np.mean(found):.3f} | - | - | - | - |"


def choose(truth: NDArray[np.int64], limit: int, *, largest: bool) -> list[int]:
    """Objects that can be prompted on the middle slice: the largest of the volume, or evenly spaced by id."""
    ids, counts = np.unique(truth[len(truth) // 2], return_counts=True)
    ids = ids[(ids > 0) & (counts >= SMALLEST)]
    if largest:
        ids = np.sort(ids[np.argsort([-(truth == i).sum() for i in ids], kind="stable")][:limit])
    elif len(ids) > limit:
        ids = ids[np.linspace(0, len(ids) - 1, limit).round().astype(int)]
    return [int(i) for i in ids]


def follow(
    stack: Stack, truth: NDArray[np.int64], ids: list[int], kind: str, model: Model
) -> tuple[list[float], list[float], list[float], tuple[float, float]]:
    """Dice along z, Dice of the consensus, agreement of the axes, and the seconds of both."""
    middle = len(truth) // 2
    with Session(stack, model) as session:
        start = time.process_time()
        for object_id in ids:
            mask = truth[middle] == object_id
            if kind == "click":
                session.add(Point(middle, object_id, click_of(mask)))
            elif kind == "box":
                session.add(Box(middle, object_id, box_of(mask)))
            else:
                session.add(Mask(middle, object_id, mask))
        for _ in session.propagate():
            pass
        single = [dice(volume(session, i), truth == i) for i in ids]
        first = time.process_time() - start
        found = consensus(session)
        if found.masks:
            session.set_masks(*found.masks)
        fused = [dice(volume(session, i), truth == i) for i in ids]
        return single, fused, list(found.agreement.values()), (first, time.process_time() - start - first)


def volume(session: Session, object_id: int) -> NDArray[np.bool_]:
    """All masks of an object."""
    return np.stack([session.mask(object_id, frame) for frame in range(session.stack.n_frames)])


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Twice what two masks share, over what they have together."""
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def copied(stack: Stack, truth: NDArray[np.int64], ids: list[int]) -> list[float]:
    """The true mask of the middle slice on all slices."""
    middle = len(truth) // 2
    return [dice(copy_baseline(truth[middle] == i, len(truth)), truth == i) for i in ids]


def linked(stack: Stack, truth: NDArray[np.int64], ids: list[int]) -> list[float]:
    """Threshold, split, and link by overlap from the true mask; on what the model sees."""
    middle = len(truth) // 2
    segments = [otsu_watershed(stack.frame(frame)[..., 0]) for frame in range(len(truth))]
    return [dice(np.stack(link_by_overlap(segments, truth[middle] == i, middle)), truth == i) for i in ids]


if __name__ == "__main__":
    main()

"""How well cells are segmented and followed in four dimensions: made volumes of dividing cells through time.

``python tests/benchmarks/bench_four_d.py [--times 10] [--seed 0] [--model nano] [--threads 1]``

Each cell of the first time point is given once, on its middle plane: as its true mask there, or as a click on
it. All else is followed. Dice is over all time points and planes of a cell, which lives from its birth to its
division; an identity switch is a cell that gets another id than it had before. All figures are those of
``stacksam evaluate``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import Mask, Point, load_model
from stacksam.comparison import compare
from stacksam.dividing_volumes import DividingVolumes, dividing_volumes
from stacksam.metrics import click_of
from stacksam.tracks.four_d import VolumeFollower, VolumePrompt
from stacksam.tracks.volumes import open_volumes


def prompts_of(cells: DividingVolumes, kind: str) -> list[VolumePrompt]:
    """One for each cell of the first time point, on its middle plane."""
    found = []
    for number in np.unique(cells.labels[0]).tolist():
        if number:
            planes = np.flatnonzero((cells.labels[0] == number).any(axis=(1, 2)))
            z = int(planes[len(planes) // 2])
            mask = cells.labels[0, z] == number
            said = Mask(z, number, mask) if kind == "mask" else Point(z, number, click_of(mask))
            found.append(VolumePrompt(0, said))
    return found


def run(cells: DividingVolumes, model_name: str, kind: str, folder: Path) -> str:
    """One row of the table."""
    volumes = open_volumes(cells.images, axes="tzyx", spacing=cells.spacing)
    follower = VolumeFollower(
        volumes, load_model(model_name), prompts_of(cells, kind), folder, direction="forward"
    )
    start = time.perf_counter()
    process, time_point = psutil.Process(), -1
    for update in follower.follow():
        if update.time != time_point:
            time_point = update.time
            print(
                f"  time {time_point}: {process.memory_info().rss / 1e6:.0f} MB resident",
                file=sys.stderr,
                flush=True,
            )
        if update.event in ("born", "lost", "returned"):
            print(f"  time {update.time}: {update.object_id} {update.event}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    found = compare(
        np.asarray(follower.labels.array[...]).astype(np.int32),
        cells.labels,
        lineage=follower.lineage,
        reference_lineage=cells.lineage,
        axes="tzyx",
    )
    follower.write_summary(seconds=round(seconds, 1))
    dice = np.array([one.dice for one in found.objects])
    for one in found.objects:
        print(f"  cell {one.reference_id}: Dice {one.dice:.3f}", file=sys.stderr)
    identity, divisions = found.tracking.identity, found.tracking.divisions
    ctc = "- | -" if found.ctc is None else f"{found.ctc.seg:.3f} | {found.ctc.tra:.3f}"
    return (
        f"| {kind} | {dice.mean():.3f} | {dice.min():.3f} | {identity.id_switches} | {divisions.f1:.3f} | "
        f"{divisions.precision:.3f} | {divisions.recall:.3f} | {ctc} | {seconds:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompts", nargs="+", choices=["mask", "click"], default=["mask", "click"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cells = dividing_volumes(args.times, seed=args.seed)
    count = sum(1 for i in cells.lineage if cells.lineage.out_degree(i))
    shape = " x ".join(map(str, cells.images.shape))
    print(f"{shape}, {len(cells.lineage)} cells, {count} divisions\n")
    print("| prompt | Dice | worst | id switches | division F1 | precision | recall | SEG | TRA | seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in args.prompts:
        with tempfile.TemporaryDirectory() as folder:
            print(run(cells, args.model, kind, Path(folder, "run")), flush=True)


if __name__ == "__main__":
    main()

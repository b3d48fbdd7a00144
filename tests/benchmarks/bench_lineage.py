"""How well dividing cells are followed: division F1 of the made time-lapse, without a person and with one.

``python tests/benchmarks/bench_lineage.py [--frames 60] [--seed 0] [--model nano] [--threads 2]``

Where cells are *given*, those of the first frame are true masks, and those that enter later are true masks
where they enter: the figures are of following and of divisions alone. Where they are *found*, nothing is
given but the pictures. *Automatic* accepts proposals from a confidence of 0.5 on. *Answered* asks an oracle
of each proposal, as a person would be asked: it says yes where the truth has a division of this cell within
a frame, and no otherwise; it draws nothing. If py-ctcmetrics is installed, DET, SEG and TRA of the Cell
Tracking Challenge are printed as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import networkx as nx
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import Mask, Session, estimate_size, find_objects, load_model, open_stack
from stacksam.comparison import compare
from stacksam.dividing import DividingCells, dividing_cells
from stacksam.io.lineage import seen_part
from stacksam.tracks.divisions import Division, follow_with_divisions
from stacksam.tracks.scoring import division_scores

Finder = Callable[[Session, int], Iterable[np.ndarray]]


def first_frames(cells: DividingCells) -> dict[int, int]:
    """First frame of each cell."""
    found: dict[int, int] = {}
    for frame, labels in enumerate(cells.labels):
        for number in np.unique(labels).tolist():
            found.setdefault(number, frame)
    found.pop(0, None)
    return found


def entering(cells: DividingCells) -> Finder:
    """Masks of the cells that come in over a border, in place of a finder of newcomers."""
    begin = first_frames(cells)

    def find(session: Session, frame: int) -> list[np.ndarray]:
        new = [i for i in cells.lineage if begin[i] == frame > 0 and not cells.lineage.in_degree(i)]
        return [cells.labels[frame] == i for i in new]

    return find


def found(size: float | None) -> Finder:
    """All that is seen and not tracked."""

    def find(session: Session, frame: int) -> list[np.ndarray]:
        proposals = find_objects(session, frame, size=size)
        return [proposal.full_mask(session.stack.frame_shape) for proposal in proposals]

    return find


def oracle(session: Session, cells: DividingCells) -> Callable[[Division], bool]:
    """Whether a proposal is right: the truth has this cell divide within a frame of it."""
    begin = first_frames(cells)
    divides = {p: min(begin[d] for d in cells.lineage.successors(p)) for p, _ in cells.lineage.edges}

    def decide(division: Division) -> bool:
        mask = session.mask(division.parent, division.frame - 1)
        on = {f: cells.labels[f] for f in (division.frame - 2, division.frame - 1, division.frame) if f >= 0}
        seen = {int(np.bincount(labels[mask]).argmax()) for labels in on.values() if mask.any()}
        return any(abs(divides.get(i, -9) - division.frame) <= 1 for i in seen)

    return decide


def run(cells: DividingCells, name: str, *, given: bool, answered: bool) -> str:
    """One row of the table."""
    stack = open_stack(cells.images, axes="tyx")
    with Session(stack, load_model(name)) as session:
        start = time.perf_counter()
        if given:
            find = entering(cells)
            session.add(*(Mask(0, int(i), cells.labels[0] == i) for i in np.unique(cells.labels[0]) if i))
        else:
            size = estimate_size(session, 0)
            find = found(size)
            session.add_found(find_objects(session, 0, size=size))
        decide = oracle(session, cells) if answered else None
        for division in follow_with_divisions(session, newcomers=find, decide=decide):
            print(
                f"  frame {division.frame}: {division.parent} divides, {division.confidence:.2f}",
                file=sys.stderr,
            )
        seconds = time.perf_counter() - start
        labels, lineage = session.labels[...], session.lineage
    scores = division_scores(labels, lineage, cells.labels, cells.lineage)
    print(f"  missed {scores.missed}, wrong {scores.wrong}", file=sys.stderr)
    return (
        f"| {'given' if given else 'found'} | {'answered' if answered else 'automatic'} | {scores.f1:.3f} | "
        f"{scores.precision:.3f} | {scores.recall:.3f} | {ctc(labels, lineage, cells)} | {seconds:.0f} |"
    )


def ctc(labels: np.ndarray, lineage: nx.DiGraph, cells: DividingCells) -> str:
    """DET, SEG and TRA, where the package that computes them is installed."""
    part = seen_part(lineage, set(np.unique(labels).tolist()))
    found = compare(labels, cells.labels, lineage=part, reference_lineage=cells.lineage, axes="tyx").ctc
    if found is None:
        return "– | – | –"
    return " | ".join(f"{value:.3f}" for value in (found.det, found.seg, found.tra))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--cells", choices=["given", "found", "both"], default="both")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cells = dividing_cells(args.frames, seed=args.seed)
    count = sum(1 for i in cells.lineage if cells.lineage.out_degree(i))
    print(f"{len(cells.lineage)} cells on {args.frames} frames, {count} divisions\n")
    print("| cells | proposals | division F1 | precision | recall | DET | SEG | TRA | seconds |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for given in (True, False) if args.cells == "both" else (args.cells == "given",):
        for answered in (False, True):
            print(run(cells, args.model, given=given, answered=answered), flush=True)


if __name__ == "__main__":
    main()

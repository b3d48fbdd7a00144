"""Cells found and followed with nothing given, beside Otsu + watershed linked by laptrack.

``python tests/benchmarks/bench_tracks.py --data path/to/datasets [--threads 2]``

The sets of the protocol that were tracked, the shipped time-lapse, and the made time-lapse of dividing cells.
Ours finds all objects of the first frame, follows them, takes in newcomers and divisions; the other segments
each frame by itself and links the pieces by laptrack (Fukai and Kawaguchi, 2022) with gaps closed, splitting
on, and a reach of twice the median distance between neighbouring cells' borders, else its defaults. DET, SEG,
TRA and LNK are those of the Cell Tracking Challenge, by py-ctcmetrics. Needs both packages.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import networkx as nx
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import Session, estimate_size, find_objects, load_model, open_stack
from stacksam.comparison import compare
from stacksam.dividing import dividing_cells
from stacksam.evaldata import load_dataset
from stacksam.metrics import otsu_watershed
from stacksam.tracks.divisions import follow_with_divisions

SETS = ("laptrack_nuclei_tracked", "baby_yeast_bf", "sample/timelapse")
Tracks = tuple[np.ndarray, nx.DiGraph]


def ours(images: np.ndarray) -> Tracks:
    """Found, followed, and divided."""
    with Session(open_stack(images, axes="tyx"), load_model()) as session:
        size = estimate_size(session, 0)
        session.add_found(find_objects(session, 0, size=size))

        def newcomers(now: Session, frame: int) -> list[np.ndarray]:
            found = find_objects(now, frame, size=size) if frame else []
            return [proposal.full_mask(images.shape[1:]) for proposal in found]

        if session.object_ids:
            for _ in follow_with_divisions(session, newcomers=newcomers):
                pass
        return session.labels[...], session.lineage


def linked(images: np.ndarray) -> Tracks:
    """Otsu, watershed and laptrack."""
    from laptrack import LapTrack

    segments = [otsu_watershed(frame) for frame in images]
    spots = [
        np.array([[*np.argwhere(s == i).mean(0), i] for i in np.unique(s) if i]).reshape(-1, 3)
        for s in segments
    ]
    # What a user would give: how far a cell may go is guessed from how large cells are.
    sizes = [np.sqrt((s == i).sum()) for s in segments for i in np.unique(s) if i]
    reach = (1.5 * float(np.median(sizes))) ** 2 if sizes else 1.0
    tracker = LapTrack(cutoff=reach, gap_closing_cutoff=reach, splitting_cutoff=reach)
    tree = tracker.predict([s[:, :2] for s in spots])
    labels = np.zeros(images.shape, np.int32)
    lineage: nx.DiGraph = nx.DiGraph()
    of: dict[tuple[int, int], int] = {}
    number = 0
    for node in sorted(tree.nodes):
        before = list(tree.predecessors(node))
        alone = before and tree.out_degree(before[0]) == 1 and len(before) == 1
        if alone:
            of[node] = of[before[0]]
        else:
            number += 1
            of[node] = number
            lineage.add_node(number)
            lineage.add_edges_from((of[p], number) for p in before[:1])
        frame, index = node
        labels[frame][segments[frame] == int(spots[frame][index, 2])] = of[node]
    return labels, lineage


def row(name: str, method: str, tracks: Tracks, truth: Tracks, seconds: float) -> str:
    """One line of the table."""
    labels, lineage = tracks
    seen = set(np.unique(labels).tolist()) - {0}
    if not seen:
        return f"| {name} | {method} | 0 | 0 | 0 | 0 | – | {seconds:.0f} |"
    part = nx.DiGraph()
    part.add_nodes_from(seen)
    part.add_edges_from((a, b) for a, b in lineage.edges if {a, b} <= seen)
    found = compare(labels, truth[0], lineage=part, reference_lineage=truth[1], axes="tyx", ctc=True)
    ctc, divisions = found.ctc, found.tracking.divisions if found.tracking else None
    f1 = "–" if divisions is None or not truth[1].edges else f"{divisions.f1:.3f}"
    figures = " | ".join(f"{value:.3f}" for value in (ctc.det, ctc.seg, ctc.tra, ctc.lnk))
    return f"| {name} | {method} | {figures} | {f1} | {seconds:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-made", action="store_true", help="leave the long made time-lapse out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    stacks: list[tuple[str, np.ndarray, Tracks]] = []
    for name in SETS:
        for clip in load_dataset(name, args.data).clips:
            stacks.append((name, clip.images, (clip.labels, nx.DiGraph())))
    if not args.without_made:
        cells = dividing_cells()
        stacks.append(("made, dividing", cells.images, (cells.labels, cells.lineage)))
    print("| set | method | DET | SEG | TRA | LNK | division F1 | seconds |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name, images, truth in stacks:
        for method, run in (("nano", ours), ("Otsu + watershed + laptrack", linked)):
            start = time.perf_counter()
            tracks = run(np.asarray(images))
            print(row(name, method, tracks, truth, time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()

"""What a session says it needs of memory beside what it takes, each in a process of its own.

``python tests/benchmarks/bench_needs.py [--models nano tiny] [--threads 2]``

Follows discs through four frames with the embedded model, and with SAM 2.1 tiny at 1024 px with the random
weights of the parity tests. Printed are the parts that ``Session.needs`` tells, their sum, and the largest
resident set that the process had; the sum has to be the larger one.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "parity"), str(Path(__file__).parents[2] / "src")]

from stacksam import Box, Mask, Session, load_model, open_stack
from stacksam.session.settings import Settings

MB = 2**20
# model, side of a frame, objects, scope, ceiling in MB
CASES = (
    ("nano", 512, 1, "full", None),
    ("nano", 1024, 20, "full", None),
    ("nano", 1024, 100, "full", None),
    ("nano", 2048, 100, "full", None),
    ("nano", 1024, 100, "full", 820),
    ("tiny", 1024, 1, "full", None),
    ("tiny", 1024, 5, "full", None),
    ("tiny", 1024, 20, "window", None),
    ("tiny", 1024, 5, "full", 1190),
)


def measure(name: str, side: int, count: int, scope: str, ceiling: int | None, threads: int) -> None:
    """Follow objects, and print what was told and what was taken."""
    torch.set_num_threads(threads)
    if name == "nano":
        model = load_model()
    else:
        from golden_model import model as golden

        model = replace(golden("sam2.1_hiera_tiny"), dtype=torch.bfloat16)
    columns = int(np.ceil(np.sqrt(count)))
    homes = (np.stack(np.divmod(np.arange(count), columns), 1) + 0.5) * side / columns
    radius = min(20.0, side / columns / 3)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    frame = np.full((side, side), 60, np.uint8)
    for home in homes:
        frame[(y - home[0]) ** 2 + (x - home[1]) ** 2 < radius**2] = 210
    del y, x
    limit = None if ceiling is None else ceiling * MB
    settings = Settings(scope=scope, max_memory=limit)
    frames = np.broadcast_to(frame, (4, side, side))
    with Session(open_stack(frames, axes="tyx"), model, settings=settings) as session:
        for i, home in enumerate(homes):
            if name == "nano":
                corners = (*(home - radius), *(home + radius))
                session.add(Box(0, i + 1, tuple(float(v) for v in corners)))
            else:  # random weights find nothing small in a box
                rows, columns_ = np.ogrid[:side, :side]
                disc = (rows - home[0]) ** 2 + (columns_ - home[1]) ** 2 < radius**2
                session.add(Mask(0, i + 1, disc))
        needs = session.needs()
        for _ in session.propagate("forward"):
            pass
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**asdict(needs), "total": needs.total, "taken": taken}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["nano", "tiny"])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        measure(*json.loads(args.case), args.threads)
        return
    parts = ("program", "weights", "pictures", "features", "memories", "work")
    print(f"| model | frame | objects | scope | ceiling | {' | '.join(parts)} | told MB | taken MB |")
    print("| --- " + "| ---: " * (4 + len(parts) + 2) + "|")
    for case in CASES:
        if case[0] not in args.models:
            continue
        command = [sys.executable, __file__, "--threads", str(args.threads), "--case", json.dumps(case)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        name, side, count, scope, ceiling = case
        told = " | ".join(f"{found[part] / MB:.0f}" for part in parts)
        print(
            f"| {name} | {side} | {count} | {scope if name != 'nano' else '-'} | {ceiling or '-'} | {told} | "
            f"{found['total'] / MB:.0f} | {found['taken'] / MB:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

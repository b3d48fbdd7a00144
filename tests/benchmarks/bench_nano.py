"""Frames a second of the embedded model, and seconds from a click to its mask.

``python tests/benchmarks/bench_nano.py [--side 512] [--objects 1 20 100] [--frames 12] [--threads 2]``

Discs on a grid are followed; a frame counts from the session's call to its labels on disk, the median of all
but the first. Then cells are clicked on, each a new object, and each once more, a correction; what is timed
is the call until its answer, the median and the 95th percentile of all but the first.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]

from bench_edits import box, stack_of

from stacksam import Point, Session, load_model, open_stack

CLICKS = 20


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model()
    print(f"nano, {args.side} x {args.side}, {model.dtype}, {args.threads} threads\n")
    print("| objects | ms a frame | frames a second | ms an object |\n| ---: | ---: | ---: | ---: |")
    for count in args.objects:
        frames, homes = stack_of(count, args.frames, args.side)
        with Session(open_stack(frames, axes="tyx", intensity=(0, 255)), model) as session:
            session.add(*(box(i + 1, home) for i, home in enumerate(homes)))
            taken = []
            for frame in range(1, args.frames):
                start = time.perf_counter()
                for _ in session.propagate("forward", first=frame, last=frame):
                    pass
                taken.append(time.perf_counter() - start)
        median = float(np.median(taken[1:]))
        print(
            f"| {count} | {1000 * median:.0f} | {1 / median:.1f} | {1000 * median / count:.1f} |", flush=True
        )
    frames, homes = stack_of(CLICKS, 1, args.side)
    print("\n| click | median ms | 95th percentile |\n| --- | ---: | ---: |")
    with Session(open_stack(frames, axes="tyx", intensity=(0, 255)), model) as session:
        for text, shift in (("on a new object", 0.0), ("on the same again", 4.0)):
            taken = []
            for i, (y, x) in enumerate(homes):
                start = time.perf_counter()
                session.add(Point(0, i + 1, (float(y) + shift, float(x))))
                taken.append(1000 * (time.perf_counter() - start))
            print(f"| {text} | {np.median(taken[1:]):.0f} | {np.percentile(taken[1:], 95):.0f} |", flush=True)


if __name__ == "__main__":
    main()

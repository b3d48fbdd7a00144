"""Resident memory while objects are followed through a long zarr.

``python tests/benchmarks/bench_memory.py [--frames 1000] [--objects 5] [--side 512] [--every 100]``

Makes a 16-bit zarr of drifting discs in a temporary folder, one frame at a time, follows the discs with the
embedded model, and prints the resident set against the frame, the peak, and how much the resident set
changed from frame 50 on.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
import zarr

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import Point, Session, load_model, open_stack

SETTLED = 50  # frames after which the resident set should be flat


def places(count: int, frame: int, side: int) -> np.ndarray:
    """Centres (count, 2) of the discs on a frame; they circle slowly around the cells of a grid."""
    rows = int(np.ceil(np.sqrt(count)))
    pitch = side / rows
    number = np.arange(count)
    home = pitch * (np.stack((number // rows, number % rows), 1) + 0.5)
    angle = number * 2.4 + frame * 0.05
    return home + pitch / 6 * np.stack((np.sin(angle), np.cos(angle)), 1)


def write_stack(path: Path, frames: int, count: int, side: int) -> None:
    """Write the stack frame by frame."""
    array = zarr.create_array(path, shape=(frames, side, side), chunks=(1, side, side), dtype="uint16")
    rng = np.random.default_rng(0)
    # Noise is drawn once and rolled: a picture of its own for every frame, at no cost.
    noise = rng.normal(300, 30, (side, side))
    radius = min(20.0, side / np.ceil(np.sqrt(count)) / 5)
    reach = int(radius + 8)
    for t in range(frames):
        picture = np.roll(noise, (7 * t, 13 * t), axis=(0, 1))
        for cy, cx in places(count, t, side):
            y0, x0 = max(int(cy) - reach, 0), max(int(cx) - reach, 0)
            y, x = np.ogrid[y0 : min(y0 + 2 * reach, side), x0 : min(x0 + 2 * reach, side)]
            picture[y0 : y0 + 2 * reach, x0 : x0 + 2 * reach] += 800 / (
                1 + np.exp(np.hypot(y - cy, x - cx) - radius)
            )
        array[t] = picture.clip(0, 65535).astype(np.uint16)


def main() -> None:
    """Print the curve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        write_stack(Path(folder) / "stack.zarr", args.frames, args.objects, args.side)
        stack = open_stack(Path(folder) / "stack.zarr", axes="tyx")
        resident: dict[int, float] = {}
        with Session(stack, load_model(), Path(folder) / "results") as session:
            session.add(
                *(
                    Point(0, i + 1, (float(y), float(x)))
                    for i, (y, x) in enumerate(places(args.objects, 0, args.side))
                )
            )
            print(f"{args.objects} objects, {args.frames} frames of {args.side} x {args.side}\n")
            print("| frame | resident MB |\n| ---: | ---: |")
            start = time.perf_counter()
            for update in session.propagate("forward"):
                done = update.frame + 1
                if update.object_id == args.objects:
                    resident[done] = process.memory_info().rss / 2**20
                    if done % args.every == 0 or done == SETTLED:
                        print(f"| {done} | {resident[done]:.0f} |", flush=True)
            took = time.perf_counter() - start
            area = [int((session.labels[args.frames - 1] == i + 1).sum()) for i in range(args.objects)]
    settled = [value for frame, value in resident.items() if frame >= SETTLED]
    low, high = min(settled) / settled[0] - 1, max(settled) / settled[0] - 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"\nFrom frame {SETTLED} on, beside frame {SETTLED}: {low:+.1%} to {high:+.1%}; peak {peak:.0f} MB")
    print(f"{sum(a > 0 for a in area)} objects on the last frame; {args.frames / took:.2f} frames/s")


if __name__ == "__main__":
    main()

"""Resident memory while five objects are followed through a long zarr.

``python tests/benchmarks/bench_memory.py [--frames 1000] [--objects 5] [--every 100]``

Makes a 512 x 512 16-bit zarr of drifting discs in a temporary folder, one frame at a time, follows the discs
with the embedded model, and prints the resident set against the frame.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import torch
import zarr

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import Point, Session, load_model, open_stack

SIDE = 512


def places(count: int, frame: int) -> np.ndarray:
    """Centres (count, 2) of the discs on a frame; they circle slowly around fixed points."""
    angle = np.arange(count) * 2.4 + frame * 0.05
    home = 256 + 150 * np.stack(
        (np.sin(np.arange(count) * 2 * np.pi / count), np.cos(np.arange(count) * 2 * np.pi / count)), 1
    )
    return home + 20 * np.stack((np.sin(angle), np.cos(angle)), 1)


def write_stack(path: Path, frames: int, count: int) -> None:
    """Write the stack frame by frame."""
    array = zarr.create_array(path, shape=(frames, SIDE, SIDE), chunks=(1, SIDE, SIDE), dtype="uint16")
    y, x = np.mgrid[:SIDE, :SIDE]
    rng = np.random.default_rng(0)
    for t in range(frames):
        picture = rng.normal(300, 30, (SIDE, SIDE))
        for cy, cx in places(count, t):
            picture += 800 / (1 + np.exp(np.hypot(y - cy, x - cx) - 20))
        array[t] = picture.astype(np.uint16)


def main() -> None:
    """Print the curve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        write_stack(Path(folder) / "stack.zarr", args.frames, args.objects)
        stack = open_stack(Path(folder) / "stack.zarr", axes="tyx")
        resident: dict[int, float] = {}
        with Session(stack, load_model(), Path(folder) / "results") as session:
            for i, (y, x) in enumerate(places(args.objects, 0)):
                session.add(Point(0, i + 1, (float(y), float(x))))
            print("| frame | resident MB |\n| ---: | ---: |")
            for update in session.propagate("forward"):
                done = update.frame + 1
                if update.object_id == args.objects and done % args.every == 0:
                    resident[done] = process.memory_info().rss / 2**20
                    print(f"| {done} | {resident[done]:.0f} |", flush=True)
    first, last = min(resident), max(resident)
    print(f"\nGrowth from frame {first} to {last}: {resident[last] - resident[first]:.0f} MB")


if __name__ == "__main__":
    main()

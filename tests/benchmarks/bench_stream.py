"""A stack that is followed while it is written: delay, missed frames, memory.

``python tests/benchmarks/bench_stream.py [--seconds 600] [--every 1] [--objects 3] [--side 256]``

A process of its own appends a frame of drifting discs to a zarr, one a second, as a microscope's writer does:
it makes room first and writes after. The discs are followed with the embedded model by `stacksam.watch`. The
delay of a frame is the time from when it was all on disk until its labels are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
import zarr

sys.path[:0] = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parent)]

from bench_memory import places

from stacksam import Point, Session, load_model, open_stack, watch

FULL = 100  # frames after which the cache of encoded frames is full, which is bounded


def picture(frame: int, count: int, side: int, noise: np.ndarray) -> np.ndarray:
    """One frame of discs in noise, of 16 bits."""
    image = np.roll(noise, (7 * frame, 13 * frame), axis=(0, 1))
    radius = min(20.0, side / np.ceil(np.sqrt(count)) / 5)
    y, x = np.ogrid[:side, :side]
    for cy, cx in places(count, frame, side):
        image += 800 / (1 + np.exp(np.clip(np.hypot(y - cy, x - cx) - radius, -50, 50)))
    return image.clip(0, 65535).astype(np.uint16)


def write(path: Path, args: argparse.Namespace) -> None:
    """Append frames at their times, and note when each was complete."""
    noise = np.random.default_rng(0).normal(300, 30, (args.side, args.side))
    array = zarr.create_array(
        path, shape=(1, args.side, args.side), chunks=(1, args.side, args.side), dtype="uint16"
    )
    start = time.time()
    with path.with_suffix(".times").open("w") as times:
        for frame in range(round(args.seconds / args.every)):
            time.sleep(max(0.0, start + frame * args.every - time.time()))
            if frame:
                array.resize((frame + 1, args.side, args.side))
            array[frame] = picture(frame, args.objects, args.side, noise)
            times.write(json.dumps([frame, time.time()]) + "\n")
            times.flush()


def follow(path: Path, folder: Path, args: argparse.Namespace) -> None:
    """Follow, and print the table."""
    process = psutil.Process()
    while not (path / "c/0/0/0").exists():
        time.sleep(0.05)
    stack = open_stack(path, live=True)
    done: dict[int, float] = {}
    resident: list[float] = []
    with Session(stack, load_model(), folder) as session:
        begin = places(args.objects, 0, args.side)
        session.add(*(Point(0, i + 1, (float(y), float(x))) for i, (y, x) in enumerate(begin)))
        for update in watch(session, poll=args.poll, timeout=10 + 5 * args.every, tell=print):
            if update.object_id == args.objects:
                done[update.frame] = time.time()
                resident.append(process.memory_info().rss / 2**20)
        last = session.labels.shape[0] - 1
        seen = len(np.unique(session.labels[last])) - 1
    told = (json.loads(line) for line in path.with_suffix(".times").read_text().splitlines())
    times = {frame: when for frame, when in told if frame}
    # Frames of the first seconds wait for the program to start.
    begun = times[min(times)] + 10
    delays = np.array([done[f] - when for f, when in times.items() if f in done and when > begun])
    print(f"\n{args.objects} objects, {args.side} x {args.side}, a frame every {args.every:g} s, ", end="")
    print(f"{args.seconds:g} s, poll {args.poll:g} s, {args.threads} thread\n")
    print("| | |\n| --- | ---: |")
    print(f"| frames written | {len(times) + 1} |")
    print(f"| frames missed | {len(times) - sum(f in done for f in times)} |")
    for name, value in (
        ("median", np.median(delays)),
        ("p95", np.percentile(delays, 95)),
        ("max", delays.max()),
    ):
        print(f"| delay, {name} | {value:.2f} s |")
    print(f"| resident at the first frame | {resident[0]:.0f} MB |")
    if len(resident) > FULL:
        print(f"| resident at frame {FULL} | {resident[FULL]:.0f} MB |")
    print(f"| resident at the end | {resident[-1]:.0f} MB |")
    print(f"| objects on the last frame | {seen} |")


def main() -> None:
    """Write in a process of its own, and follow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--poll", type=float, default=0.25)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path, help="only write a stack there")
    args = parser.parse_args()
    if args.write is not None:
        write(args.write, args)
        return
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        writer = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--write", str(path)])
        try:
            follow(path, Path(folder) / "results", args)
        finally:
            writer.kill()
            writer.wait()


if __name__ == "__main__":
    main()

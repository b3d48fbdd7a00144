"""What an edit costs in a session of many objects, counted and timed.

``python tests/benchmarks/bench_edits.py [--objects 100] [--frames 12] [--side 1024] [--threads 2]``

The embedded model follows discs. Then one object is added and followed alone, beside the same in a session
that has no other; one object is corrected half way and followed again; and all is followed in the other
direction and anew with a cache on disk. Masks are the results that were computed, and frames (or windows) the
pictures that were encoded; for these an equal count is proof, where a time is only likely.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import Box, Point, Session, load_model, open_stack
from stacksam.session.settings import Settings

RADIUS = 16


def stack_of(count: int, frames: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Discs on a grid that drift by a pixel a frame, and their places on the first frame."""
    columns = int(np.ceil(np.sqrt(count)))
    homes = (np.stack(np.divmod(np.arange(count), columns), 1) + 0.5) * side / columns
    y, x = np.mgrid[:side, :side]
    rng = np.random.default_rng(0)
    stack = rng.normal(40, 5, (frames, side, side))
    for t in range(frames):
        for cy, cx in homes + t:
            part = (
                slice(max(int(cy) - 20, 0), int(cy) + 21),
                slice(max(int(cx) - 20, 0), int(cx) + 21),
            )
            stack[t][part] += 120 * (np.hypot(y[part] - cy, x[part] - cx) < RADIUS)
    return stack.clip(0, 255).astype(np.uint8), homes


def box(object_id: int, home: np.ndarray, frame: int = 0) -> Box:
    """A box around a disc."""
    y, x = map(float, home)
    return Box(frame, object_id, (max(y - RADIUS, 0), max(x - RADIUS, 0), y + RADIUS, x + RADIUS))


def counted(session: Session, work: Callable[[], int]) -> str:
    """Seconds, masks and encoded pictures of some work, as cells of a table."""
    before = session._predictor.features_encoded
    start = time.perf_counter()
    masks = work()
    seconds = time.perf_counter() - start
    return f"{seconds:.2f} | {masks} | {session._predictor.features_encoded - before}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    frames, homes = stack_of(args.objects + 1, args.frames, args.side)
    stack, model = open_stack(frames, axes="tyx", intensity=(0, 255)), load_model()
    count, middle = args.objects, args.frames // 2
    settings = Settings(disk_cache_bytes=4 * 2**30)
    print("| edit | seconds | masks computed | pictures encoded |\n| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        with Session(stack, model, Path(folder) / "alone") as alone:

            def one() -> int:
                alone.add(box(1, homes[-1]))
                return 1 + sum(1 for _ in alone.propagate())

            print(f"| an object in an empty session | {counted(alone, one)} |", flush=True)
        with Session(stack, model, Path(folder) / "many", settings=settings) as session:
            session.add(*(box(i + 1, homes[i] + middle, middle) for i in range(count)))

            def forward() -> int:
                return sum(1 for _ in session.propagate("forward"))

            print(
                f"| {count} objects forward from frame {middle} | {counted(session, forward)} |", flush=True
            )

            def backward() -> int:
                return sum(1 for _ in session.propagate("backward"))

            print(f"| {count} objects backward | {counted(session, backward)} |", flush=True)

            def another() -> int:
                session.add(box(count + 1, homes[-1]))
                return 1 + sum(1 for _ in session.propagate())

            print(f"| one more object beside {count} | {counted(session, another)} |", flush=True)

            def correction() -> int:
                y, x = map(float, homes[0] + middle + 2)
                session.add(Point(middle + 2, 1, (y, x)))
                return 1 + sum(1 for _ in session.propagate("forward"))

            text = f"one object corrected on frame {middle + 2} and followed forward"
            print(f"| {text} | {counted(session, correction)} |", flush=True)

            def again() -> int:
                return sum(1 for _ in session.propagate(restart=True))

            print(f"| all {count + 1} objects anew, both ways | {counted(session, again)} |", flush=True)


if __name__ == "__main__":
    main()

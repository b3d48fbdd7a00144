"""A single image of 20,000 x 20,000 pixels with ten prompts: seconds for each, and memory.

``python tests/benchmarks/bench_large.py [--side 20000] [--threads 2]``

Makes a 16-bit zarr of noise and cells of several sizes in a temporary folder, chunk by chunk, opens it,
clicks on five cells and boxes five others with the embedded model, and writes labels. Printed are the
seconds, how well each cell was found (IoU), and the largest resident set, in a process that did not make the
image.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zarr

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import Box, Point, Session, load_model, open_stack

CHUNK = 1000


def cells(side: int) -> list[tuple[float, float, float]]:
    """Row, column and radius of ten cells."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0.05, 0.95, (10, 2)) * side
    return [(y, x, radius) for (y, x), radius in zip(places, np.geomspace(8, 120, 10), strict=True)]


def write(path: Path, side: int) -> None:
    """Write the image chunk by chunk."""
    array = zarr.create_array(path, shape=(1, side, side), chunks=(1, CHUNK, CHUNK), dtype="uint16")
    rng = np.random.default_rng(1)
    noise = rng.normal(300, 30, (CHUNK, CHUNK))
    for row in range(0, side, CHUNK):
        for column in range(0, side, CHUNK):
            y, x = np.mgrid[row : min(row + CHUNK, side), column : min(column + CHUNK, side)]
            part = noise[: y.shape[0], : y.shape[1]].copy()
            for cy, cx, radius in cells(side):
                near = abs(cy - row - CHUNK / 2) < CHUNK and abs(cx - column - CHUNK / 2) < CHUNK
                if near:
                    part += 300 * (1 - np.tanh((np.hypot(y - cy, x - cx) - radius) / 4))
            array[0, y[0, 0] : y[-1, 0] + 1, x[0, 0] : x[0, -1] + 1] = part.astype(np.uint16)


def measure(path: Path, side: int) -> None:
    """Prompt the cells, and print the table."""
    start = time.perf_counter()
    stack, model = open_stack(path, axes="tyx"), load_model()
    with Session(stack, model, path.parent / "results") as session:
        print(f"opened in {time.perf_counter() - start:.1f} s\n")
        print("| prompt | radius | seconds | IoU |\n| --- | ---: | ---: | ---: |")
        for i, (y, x, radius) in enumerate(cells(side)):
            click = i % 2 == 0
            corners = tuple(float(v) for v in (y - radius, x - radius, y + radius, x + radius))
            start = time.perf_counter()
            session.add(Point(0, i + 1, (y, x)) if click else Box(0, i + 1, corners))
            seconds = time.perf_counter() - start
            y0, x0 = int(y - 2 * radius), int(x - 2 * radius)
            rows, columns = np.mgrid[max(y0, 0) : int(y + 2 * radius), max(x0, 0) : int(x + 2 * radius)]
            truth = np.hypot(rows - y, columns - x) < radius
            found = (
                session.labels[0, rows[0, 0] : rows[-1, 0] + 1, columns[0, 0] : columns[0, -1] + 1] == i + 1
            )
            iou = (found & truth).sum() / (found | truth).sum()
            print(f"| {'click' if click else 'box'} | {radius:.0f} | {seconds:.2f} | {iou:.2f} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"\nLargest resident set: {peak:.0f} MB")


def main() -> None:
    """Make the image, and measure in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.image is not None:
        measure(args.image, args.side)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.zarr"
        write(path, args.side)
        own = ["--side", str(args.side), "--threads", str(args.threads), "--image", str(path)]
        subprocess.run([sys.executable, __file__, *own], check=True)


if __name__ == "__main__":
    main()

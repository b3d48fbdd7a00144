"""Small objects on a large frame with an official model: the whole frame squeezed, and the native canvas.

``python tests/benchmarks/bench_native.py [--side 2048] [--diameter 20] [--objects 10 300] [--frames 4]``

SAM 2.1 tiny with the random weights of the parity tests. Random weights see random masks, so they are
replaced, after they were computed, by the discs that were prompted; what is timed is all that a user waits
for. Beside the seconds of a frame, the median of all but the first, stand the tiles that were encoded for it,
and how well a disc comes back from masks at the resolution that each canvas has: its IoU with itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "parity"), str(Path(__file__).parents[2] / "src")]

from golden_model import model

from stacksam.session.canvas import View
from stacksam.session.prompts import Mask
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.stack import open_stack

NAME = "sam2.1_hiera_tiny"


def disc(shape: tuple[int, int], centre: np.ndarray, radius: float) -> np.ndarray:
    """A disc (H, W)."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    found: np.ndarray = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    return found


def shown(view: View, centre: np.ndarray, radius: float) -> torch.Tensor:
    """Logits of a disc as a view shows it, falling off from its border."""
    top, left, height, width = view.span
    place = (np.arange(4 * view.tokens) + 0.5) / (4 * view.tokens)
    y, x = top + place * height - 0.5 - centre[0], left + place * width - 0.5 - centre[1]
    return torch.from_numpy(radius - np.hypot(y[:, None], x[None])).float()


def run(canvas: str, side: int, diameter: float, count: int, frames: int) -> tuple[float, float, float]:
    """Seconds a frame, tiles a frame, and mean IoU."""
    pixels = np.random.default_rng(0).integers(0, 255, (frames, side, side), np.uint8)
    columns = int(np.ceil(np.sqrt(count)))
    places = (np.stack(np.divmod(np.arange(count), columns), 1) + 0.5) * side / columns
    settings = Settings(canvas=canvas, scope="window")  # type: ignore[arg-type]
    stack = open_stack(pixels, axes="tyx", intensity=(0, 255))
    with Session(stack, replace(model(NAME), dtype=torch.bfloat16), settings=settings) as session:
        make = session._predictor._record

        def record(object_id, frame, view, masks, row, k, **how):
            logits, score = masks.logits.clone(), masks.object_score.clone()
            logits[row, k], score[row] = shown(view, places[object_id - 1], diameter / 2), 10.0
            return make(
                object_id, frame, view, masks._replace(logits=logits, object_score=score), row, k, **how
            )

        session._predictor._record = record
        masks = [Mask(0, i + 1, disc((side, side), at, diameter / 2)) for i, at in enumerate(places)]
        session.add(*masks)
        seconds, encoded = [], session._predictor.features_encoded
        for frame in range(1, frames):
            start = time.perf_counter()
            for _ in session.propagate("forward", first=frame, last=frame):
                pass
            seconds.append(time.perf_counter() - start)
        tiles = (session._predictor.features_encoded - encoded) / (frames - 1)
        last = session.label_frame(frames - 1)
        overlap = []
        for i, at in enumerate(places):
            true = disc((side, side), at, diameter / 2)
            overlap.append((true & (last == i + 1)).sum() / (true | (last == i + 1)).sum())
    return float(np.median(seconds[1:])), tiles, float(np.mean(overlap))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--diameter", type=float, default=20)
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 300])
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"SAM 2.1 tiny, {args.side} x {args.side}, objects of {args.diameter:g} px, {args.threads} threads\n"
    )
    print("| objects | canvas | s a frame | encoded a frame | IoU that the resolution allows |")
    print("| ---: | --- | ---: | ---: | ---: |", flush=True)
    for count in args.objects:
        for canvas in ("frame", "native"):
            seconds, tiles, overlap = run(canvas, args.side, args.diameter, count, args.frames)
            print(f"| {count} | {canvas} | {seconds:.1f} | {tiles:.0f} | {overlap:.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""Frames a second on a CUDA GPU, as the authors of SAM 2 measure them; says so where there is none.

``python tests/benchmarks/bench_gpu.py [--models tiny large] [--objects 1 20 100] [--frames 40]``

Random weights, 1024 pixels, bfloat16, objects of 48 pixels. ``full`` is the official predictor's way, for
which 91 (tiny) and 40 (large) frames a second are published on an A100 with one object; ``window`` sees each
object's surroundings only. With ``--compile`` the image encoder is compiled. The share is that of the rate at
which the GPU multiplies 8192 x 8192 bfloat16 matrices in the same run, for the products that the network is
known to need in full scope: those of its encoder, counted by torch, and 621 GFLOP an object.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import Mask, Session, open_stack
from stacksam.network.config import PRESETS
from stacksam.network.sam2 import Sam2
from stacksam.session.models import Model
from stacksam.session.settings import Settings

SIDE, RADIUS = 1024, 24
OBJECT_FLOP = 621e9


def matrix_rate(device: torch.device) -> float:
    """FLOP a second of a large product."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.perf_counter() - start)


def encoder_flop(network: Sam2, device: torch.device) -> float:
    """FLOP of one frame in the image encoder."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.encode_image(torch.rand(1, 3, SIDE, SIDE, device=device))
    return float(counter.get_total_flops())


def seconds_a_frame(model: Model, count: int, frames: int, scope: str) -> float:
    """Median of the frames after all memories are there; random masks give way to what was prompted."""
    columns = int(np.ceil(np.sqrt(count)))
    homes = (np.stack(np.divmod(np.arange(count), columns), 1) + 0.5) * SIDE / columns
    y, x = np.mgrid[:SIDE, :SIDE]
    stack = np.random.default_rng(0).integers(0, 255, (frames, SIDE, SIDE), np.uint8)
    taken = []
    settings = Settings(scope=scope, batch=64)
    with Session(open_stack(stack, axes="tyx", intensity=(0, 255)), model, settings=settings) as session:
        make = session._predictor._record

        def record(object_id, frame, view, masks, row, k, **how):
            logits, score = masks.logits.clone(), masks.object_score.clone()
            top, left, height, width = view.span
            cells = logits.shape[-1]
            rows = torch.arange(cells, device=logits.device) * height / cells + top
            across = torch.arange(cells, device=logits.device) * width / cells + left
            cy, cx = homes[object_id - 1]
            near = (rows[:, None] - cy) ** 2 + (across[None] - cx) ** 2 < RADIUS**2
            logits[row, k], score[row] = torch.where(near, 8.0, -8.0), 10.0
            return make(
                object_id, frame, view, masks._replace(logits=logits, object_score=score), row, k, **how
            )

        session._predictor._record = record
        for i, (cy, cx) in enumerate(homes):
            session.add(Mask(0, i + 1, (y - cy) ** 2 + (x - cx) ** 2 < RADIUS**2))
        for frame in range(1, frames):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in session.propagate("forward", first=frame, last=frame):
                pass
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return float(np.median(taken[min(16, len(taken) // 2) :]))


def main() -> None:
    """Print the table, or that there is no GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["tiny", "large"])
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("Not run: there is no CUDA GPU here.")
        return
    device = torch.device("cuda")
    rate = matrix_rate(device)
    print(f"{torch.cuda.get_device_name(device)}: {rate / 1e12:.0f} TFLOP a second in bfloat16\n")
    print("| model | scope | objects | frames a second | share of the matrix rate |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name in args.models:
        torch.manual_seed(0)
        network = Sam2(PRESETS[f"sam2.1-{name}"]).eval().requires_grad_(False).to(device)
        flop = encoder_flop(network, device)
        if args.compile:
            network.image_encoder = torch.compile(network.image_encoder)
        model = Model(network, f"random-{name}", "random", device, torch.bfloat16, windowed=False)
        for scope in ("full", "window"):
            for count in args.objects:
                seconds = seconds_a_frame(model, count, args.frames, scope)
                share = (flop + count * OBJECT_FLOP) / seconds / rate if scope == "full" else None
                told = "-" if share is None else f"{100 * share:.0f} %"
                print(f"| {name} | {scope} | {count} | {1 / seconds:.1f} | {told} |", flush=True)


if __name__ == "__main__":
    main()

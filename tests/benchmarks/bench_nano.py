"""What one window costs the embedded model, its frames a second, and seconds from a click to its mask.

``python tests/benchmarks/bench_nano.py [--windows-only] [--model nano] [--side 512] [--objects 1 20 100]
[--frames 12] [--threads 2]``

A window of one object that is followed is timed on one thread in bfloat16, the network alone: encoding the
picture, and all else that a frame asks for when as much is remembered as ever is (a prompted frame, six more,
and fifteen pointers). The session asks twice for masks, with and without the one of the frame before. It is
time of the processor, so what else a core does does not count.

Discs on a grid are followed; a frame counts from the session's call to its labels on disk, the median of all
but the first. Then cells are clicked on, each a new object, and each once more, a correction; what is timed
is the call until its answer, the median and the 95th percentile of all but the first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]

from bench_edits import box, stack_of

from stacksam import Point, Session, load_model, open_stack
from stacksam.assets import embedded_model
from stacksam.network.sam2 import Features, Masks, Memories
from stacksam.session.models import Model

_T = TypeVar("_T")
CLICKS = 20
WARM_UPS, ROUNDS = 10, 100
MEMORIES, POINTERS = 7, 15  # as many as an object can have with one prompted frame


def window_costs(model: Model) -> dict[str, list[float]]:
    """Milliseconds of each step of following one object in one window, a round each."""
    network, config = model.network, model.config
    side, width = config.image_size, config.width
    grid = side // config.stride
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    picture = torch.rand(1, 3, side, side, generator=generator).contiguous(memory_format=torch.channels_last)
    memories = Memories(
        noise(1, MEMORIES, config.memory_width, grid, grid).bfloat16(),
        torch.arange(MEMORIES)[None],
        noise(1, POINTERS, width),
        torch.arange(1, POINTERS + 1)[None],
        POINTERS,
    )
    before = 4 * noise(1, 1, 4 * grid, 4 * grid)
    taken: dict[str, list[float]] = {}

    def step(name: str, work: Callable[[], _T]) -> _T:
        start = time.process_time()
        result = work()
        taken.setdefault(name, []).append(1000 * (time.process_time() - start))
        return result

    def decode(features: Features, top: torch.Tensor) -> Masks:
        plain = network.decode_masks(features, top, candidates=True)
        return plain.beside(network.decode_masks(features, top, logits=before, candidates=True)).best()

    def remember(features: Features, masks: Masks) -> torch.Tensor:
        return network.encode_memory(features, masks.logits, masks.object_score, binarise=False)

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for _ in range(WARM_UPS + ROUNDS):
            features = step("encode", lambda: network.encode_image(picture))
            top = step("condition", lambda f=features: network.condition(f, memories))
            masks = step("decode", lambda f=features, t=top: decode(f, t))
            step("remember", lambda f=features, m=masks: remember(f, m))
    return {name: times[WARM_UPS:] for name, times in taken.items()}


def show_windows(model: Model) -> None:
    """Print what a window costs, and how large the weights are."""
    torch.set_num_threads(1)
    taken = window_costs(model)
    rest = [sum(times) for times in zip(*(taken[k] for k in taken if k != "encode"), strict=True)]
    side = model.config.image_size
    rows = {
        f"encode a window of {side} x {side}": taken["encode"],
        f"condition on {MEMORIES} memories and {POINTERS} pointers": taken["condition"],
        "decode, twice": taken["decode"],
        "remember": taken["remember"],
        "all but encoding": rest,
    }
    path = embedded_model()[1] if model.name == "nano" else Path(model.name)
    parameters = sum(p.numel() for p in model.network.parameters())
    print(f"{path.stat().st_size / 1e6:.1f} MB of weights, {parameters / 1e6:.2f} million parameters\n")
    print("| one object, one thread, bfloat16 | median ms | least | 95th percentile |")
    print("| --- | ---: | ---: | ---: |")
    for name, times in rows.items():
        print(f"| {name} | {np.median(times):.1f} | {min(times):.1f} | {np.percentile(times, 95):.1f} |")
    print(flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="nano", help="name or path of weights of this architecture")
    parser.add_argument("--windows-only", action="store_true", help="time windows of the network only")
    args = parser.parse_args()
    show_windows(load_model(args.model, device="cpu"))
    if args.windows_only:
        return
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
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

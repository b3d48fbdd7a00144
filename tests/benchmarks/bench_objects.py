"""Seconds a frame against the number of small objects: windows, whole frames, transformers' Sam2VideoModel.

``python tests/benchmarks/bench_objects.py [--objects 1 5 20 100] [--frames 9] [--dtype bfloat16]
[--threads 2] [--measured 20] [--without-peer]``

SAM 2.1 tiny at 1024 px with the random weights of the parity tests, the same on all sides. Objects of 48 px
are followed; frames count from the one on which all seven memories are there, and all counts that a user
waits for: the encoder, the network for all objects, results and labels on disk (transformers writes none).
Random weights see random masks, so ours are replaced, after they were computed, by the objects that were
prompted. All sides do a frame in turn, so that a change of the machine's speed meets all.

What would take long (whole frames and transformers with more than ``--measured`` objects) is extrapolated by
the cost of each further object between the two largest numbers that were measured, and marked with ``≈``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "parity"), str(Path(__file__).parents[2] / "src")]

from golden_model import inputs, model, network
from oracle import oracle_model

from stacksam.network.windows import Window
from stacksam.session.prompts import Mask
from stacksam.session.session import Session
from stacksam.session.settings import Scope, Settings
from stacksam.session.stack import open_stack

NAME = "sam2.1_hiera_tiny"
SIDE, RADIUS = 1024, 24  # pixels
MEMORIES = 7  # of the prompted frame and the last six

Times = dict[int, float]


def places(count: int) -> np.ndarray:
    """Centres (count, 2) of objects, on a grid as square as may be."""
    columns = int(np.ceil(np.sqrt(count)))
    pitch = SIDE / columns
    return (np.stack(np.divmod(np.arange(count), columns), 1) + 0.5) * pitch


class Side(Protocol):
    """One way to follow objects, frame by frame."""

    def step(self, frame: int) -> None:
        """Do one more frame."""

    def close(self) -> None:
        """Free what it holds."""


class Ours:
    """The session."""

    def __init__(self, frames: np.ndarray, count: int, dtype: torch.dtype, scope: Scope) -> None:
        self.session = Session(
            open_stack(frames, axes="tyxc"), replace(model(NAME), dtype=dtype), settings=Settings(scope=scope)
        )
        self.places = places(count)
        make = self.session._predictor._record

        def record(object_id, frame, view, masks, row, k, **how):
            logits, score = masks.logits.clone(), masks.object_score.clone()
            logits[row, k], score[row] = self.disc(object_id, view.window), 10.0
            shown = masks._replace(logits=logits, object_score=score)
            return make(object_id, frame, view, shown, row, k, **how)

        self.session._predictor._record = record
        y, x = np.mgrid[:SIDE, :SIDE]
        for i, (cy, cx) in enumerate(self.places):
            self.session.add(Mask(0, i + 1, (y - cy) ** 2 + (x - cx) ** 2 < RADIUS**2))

    def disc(self, object_id: int, window: Window | None) -> torch.Tensor:
        """Logits of an object as a window shows them."""
        row, column, side = window or Window(0, 0, SIDE // 16)
        pixels = (np.arange(4 * side) + 0.5) * 4 - 0.5
        y, x = self.places[object_id - 1] - (16 * row, 16 * column)
        far = (pixels[:, None] - y) ** 2 + (pixels[None] - x) ** 2 >= RADIUS**2
        return torch.from_numpy(np.where(far, -8.0, 8.0)).float()

    def step(self, frame: int) -> None:
        """Do one more frame."""
        for _ in self.session.propagate("forward", first=frame, last=frame):
            pass

    def close(self) -> None:
        """Remove its folder."""
        self.session.close()


class Peer:
    """transformers."""

    def __init__(self, frames: np.ndarray, count: int, dtype: torch.dtype) -> None:
        from transformers import Sam2VideoInferenceSession

        net = network(NAME)
        self.model = oracle_model(net.config, net.state_dict()).to(dtype)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (net.config.mean, net.config.std))
        video = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - mean) / std
        self.session = Sam2VideoInferenceSession(
            video=video.to(dtype), video_height=SIDE, video_width=SIDE, dtype=dtype
        )
        for i, (y, x) in enumerate(places(count)):
            index = self.session.obj_id_to_idx(i + 1)
            points = {
                "point_coords": torch.tensor([[[[x, y]]]], dtype=torch.float32),
                "point_labels": torch.tensor([[[1]]], dtype=torch.int32),
            }
            self.session.add_point_inputs(index, 0, points)
            self.session.remove_mask_inputs(index, 0)
        self.session.obj_with_new_inputs = list(self.session.obj_ids)
        self.step(0)

    def step(self, frame: int) -> None:
        """Do one more frame."""
        with torch.inference_mode():
            self.model(inference_session=self.session, frame_idx=frame)

    def close(self) -> None:
        """Nothing is held beyond the object itself."""


def measure(sides: dict[str, Side], frames: int) -> dict[str, float]:
    """Seconds of a frame of each side, the median of those with all memories."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for t in range(1, frames):
        for name, side in sides.items():
            start = time.perf_counter()
            side.step(t)
            seconds[name].append(time.perf_counter() - start)
    for side in sides.values():
        side.close()
    return {name: statistics.median(all_of[MEMORIES - 1 :]) for name, all_of in seconds.items()}


def slope(times: Times, count: int) -> float:
    """Seconds of each object from the next smaller number that was measured to this one."""
    smaller = max((n for n in times if n < count), default=0)
    return (times[count] - times[smaller]) / (count - smaller) if smaller else float("nan")


def estimate(times: Times, count: int) -> str:
    """Seconds with so many objects, extrapolated where they were not measured."""
    if count in times:
        return f"{times[count]:.2f}"
    found = extrapolated(times, count)
    return "-" if np.isnan(found) else f"≈ {found:.1f}"


def extrapolated(times: Times, count: int) -> float:
    """Seconds with so many objects."""
    if count in times or not times:
        return times.get(count, float("nan"))
    largest = max(times)
    return times[largest] + (count - largest) * slope(times, largest)


def row(times: dict[str, Times], count: int) -> str:
    """The line of the table for so many objects."""
    cells = [str(count), *(estimate(times[name], count) for name in ("full", "window", "peer"))]
    faster = [extrapolated(times[name], count) / times["window"][count] for name in ("peer", "full")]
    cells += ["-" if np.isnan(ratio) else f"{ratio:.1f}" for ratio in faster]
    further = 1000 * slope(times["window"], count)
    return f"| {' | '.join(cells)} | {'-' if np.isnan(further) else f'{further:.0f}'} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 5, 20, 100])
    parser.add_argument("--measured", type=int, default=20, help="most objects of the slow sides")
    parser.add_argument("--frames", type=int, default=MEMORIES + 2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-peer", action="store_true", help="leave transformers out")
    args = parser.parse_args()
    if args.frames <= MEMORIES:
        parser.error(f"--frames {args.frames}: give at least {MEMORIES + 1}, so that all memories are there")
    torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    frames = np.stack([inputs.frame(t) for t in range(args.frames)])
    print(f"SAM 2.1 tiny, {SIDE} px, objects of {2 * RADIUS} px, {args.dtype}, {args.threads} threads\n")
    print(
        "| objects | whole frames s | windows s | transformers s | windows times faster than transformers "
        "| than whole frames | ms per further object |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    times: dict[str, Times] = {"window": {}, "full": {}, "peer": {}}
    for count in sorted(args.objects):
        sides: dict[str, Side] = {"window": Ours(frames, count, dtype, "window")}
        if count <= args.measured:
            sides["full"] = Ours(frames, count, dtype, "full")
            if not args.without_peer:
                sides["peer"] = Peer(frames, count, dtype)
        for name, seconds in measure(sides, args.frames).items():
            times[name][count] = seconds
        print(row(times, count), flush=True)


if __name__ == "__main__":
    main()

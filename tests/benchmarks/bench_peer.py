"""Seconds a frame beside transformers' Sam2VideoModel: same weights, same clip, same run.

``python tests/benchmarks/bench_peer.py [--objects 1 4 16] [--frames 4] [--dtypes float32 bfloat16]``

SAM 2.1 tiny at 1024 px with the random weights of the parity tests. Each object gets a click on frame 0 and
is followed; what is timed is the last frame, encoder included, when every frame before it is remembered. Both
sides run in turn on the same frame, so that a change of the machine's speed meets both. The masks are
compared: in float32 as logits (largest difference as a share of the standard deviation), in bfloat16 as the
share of pixels of equal sign, which random weights put all over the picture.
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

from golden_model import inputs, model, network
from oracle import oracle_model

from stacksam.session.predictor import Settings
from stacksam.session.prompts import Point
from stacksam.session.session import Session
from stacksam.session.stack import open_stack

NAME = "sam2.1_hiera_tiny"


def clicks(count: int) -> list[tuple[int, int]]:
    """Places (y, x) of `count` clicks, spread over the frame."""
    rng = np.random.default_rng(0)
    return [(int(y), int(x)) for y, x in rng.integers(100, 924, (count, 2))]


class Ours:
    """The session, frame by frame."""

    def __init__(self, frames: np.ndarray, count: int, dtype: torch.dtype) -> None:
        self.session = Session(
            open_stack(frames, axes="tyxc"),
            replace(model(NAME), dtype=dtype),
            settings=Settings(fill_holes=0, scope="full"),
        )
        self.logits: dict[int, np.ndarray] = {}
        make = self.session._predictor._record

        def record(object_id, frame, view, masks, row, k, **how):
            self.logits[object_id] = masks.logits[row, k].numpy()
            return make(object_id, frame, view, masks, row, k, **how)

        self.session._predictor._record = record
        for i, yx in enumerate(clicks(count)):
            self.session.add(Point(0, i + 1, yx))

    def step(self, frame: int) -> np.ndarray:
        """Masks (objects, 256, 256) of one more frame."""
        list(self.session.propagate("forward", first=frame, last=frame))
        return np.stack([self.logits[i] for i in sorted(self.logits)])


class Peer:
    """transformers, frame by frame."""

    def __init__(self, frames: np.ndarray, count: int, dtype: torch.dtype) -> None:
        from transformers import Sam2VideoInferenceSession

        net = network(NAME)
        self.model = oracle_model(net.config, net.state_dict()).to(dtype)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (net.config.mean, net.config.std))
        video = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - mean) / std
        self.session = Sam2VideoInferenceSession(
            video=video.to(dtype), video_height=1024, video_width=1024, dtype=dtype
        )
        for i, (y, x) in enumerate(clicks(count)):
            index = self.session.obj_id_to_idx(i + 1)
            points = {
                "point_coords": torch.tensor([[[[x, y]]]], dtype=torch.float32),
                "point_labels": torch.tensor([[[1]]], dtype=torch.int32),
            }
            self.session.add_point_inputs(index, 0, points)
            self.session.remove_mask_inputs(index, 0)
        self.session.obj_with_new_inputs = list(self.session.obj_ids)
        self.model(inference_session=self.session, frame_idx=0)

    def step(self, frame: int) -> np.ndarray:
        """Masks (objects, 256, 256) of one more frame."""
        out = self.model(inference_session=self.session, frame_idx=frame)
        return out.pred_masks.float().numpy().reshape(-1, 256, 256)


def measure(count: int, dtype: torch.dtype, frames: np.ndarray) -> tuple[float, float, str]:
    """Seconds of the last frame of both, and how well they agree."""
    with torch.inference_mode():
        peer = Peer(frames, count, dtype)
    ours = Ours(frames, count, dtype)
    for t in range(1, len(frames)):
        start = time.perf_counter()
        mine = ours.step(t)
        middle = time.perf_counter()
        theirs = peer.step(t)
        end = time.perf_counter()
    ours.session.close()
    if dtype == torch.float32:
        agreement = f"{np.abs(mine - theirs).max() / theirs.std():.1e} of std"
    else:
        agreement = f"{100 * np.mean((mine > 0) == (theirs > 0)):.2f} % of pixels"
    return middle - start, end - middle, agreement


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    frames = np.stack([inputs.frame(t) for t in range(args.frames)])
    print(f"SAM 2.1 tiny, 1024 px, frame {args.frames - 1} of a clip, {args.threads} threads\n")
    print("| dtype | objects | stacksam s | transformers s | times faster | agreement |")
    print("| --- | ---: | ---: | ---: | ---: | --- |", flush=True)
    for name in args.dtypes:
        for count in args.objects:
            mine, theirs, agreement = measure(count, getattr(torch, name), frames)
            print(
                f"| {name} | {count} | {mine:.2f} | {theirs:.2f} | {theirs / mine:.2f} | {agreement} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""How well the embedded model follows through windows, beside itself on whole frames at its input size.

``python tests/benchmarks/bench_windows.py [--data FOLDER] [--max-objects 12] [--threads 2]``

The protocol of ``stacksam evaluate``, with the same weights: as it is, a window around each object at a scale
of the object's; and with the whole frame squeezed to 256 pixels, as SAM 2 looks at frames. Without ``--data``
only the shipped samples are there.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from stacksam import load_model
from stacksam.evaldata import LOADERS, load_all
from stacksam.evalprompts import PROMPT_KINDS
from stacksam.evaluate import evaluate, session_runner


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--max-objects", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model()
    runners = [session_runner(model), session_runner(replace(model, windowed=False))]
    print("| set | prompt | objects | windows: prompted | others | whole frames: prompted | others |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for dataset in load_all(tuple(LOADERS), args.data, strict=False, tell=lambda _: None):
        found = [
            evaluate([dataset], run, PROMPT_KINDS, max_objects=args.max_objects, baselines=False)
            for run in runners
        ]
        for window, whole in zip(*found, strict=True):
            figures = (window.iou_prompted, window.iou_others, whole.iou_prompted, whole.iou_others)
            cells = " | ".join("-" if math.isnan(f) else f"{f:.3f}" for f in figures)
            print(f"| {window.dataset} | {window.method} | {window.objects} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

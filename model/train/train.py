"""Train ``nano`` on procedural stacks.

``python model/train/train.py --run runs/nano --seconds 460`` trains for that long, or for what is left of it
where the folder holds a checkpoint, and writes the averaged weights there; ``--start`` begins with weights
instead of chance, and ``--export model/nano.safetensors`` puts the result in place. The rate falls by the
time that has passed, so a run ends well trained on any machine; with ``--steps`` it falls by steps.

The recipe is that of SAM 2 (Ravi et al., 2024, section 6): an object is prompted on the first frame by a
click, a box or a mask, corrected by clicks where the answer is wrong, and followed through a few frames, on
one of which it may be corrected again; losses are focal and dice on the best of three candidates, the error
of the predicted IoU, and whether the object is visible. Everything is seen as the session sees it, through a
window that follows one object (see ``clips.py``). Losses are in ``losses.py``, a step is in ``trainer.py``, a
run in ``running.py``, and its figures before and after in ``checks.py``.

Clips come from seeds, but which of them a step sees depends on how quickly they were made: two runs are
alike, not equal.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from clips import LENGTH
from peers import beside
from running import work
from trainer import Plan, Trainer, export


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says, and what follows from it."""
    gpu, cores = torch.cuda.is_available(), os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints, weights and the log")
    parser.add_argument("--seconds", type=float, default=math.inf, help="length of the run")
    parser.add_argument("--steps", type=int, default=10**9, help="length of the run")
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument(
        "--rate", type=float, help=f"peak of the learning rate (default: {Plan.rate}, less for small batches)"
    )
    parser.add_argument("--seed", type=int, default=Plan.seed, help="another one sees other clips")
    parser.add_argument("--frames", type=int, default=Plan.frames if gpu else 32, help="frames in a batch")
    parser.add_argument("--pool", type=int, default=2000, help="clips that are kept, a megabyte each")
    parser.add_argument(
        "--looks", type=float, default=4.0, help="windows that are drawn from a clip on average, at least"
    )
    parser.add_argument(
        "--processes",
        type=int,
        help=f"that train together, a core each, on a part of the batch of {LENGTH} frames or more",
    )
    parser.add_argument(
        "--workers", type=int, default=max(1, cores - 2) if gpu else 1, help="of each, which make clips"
    )
    parser.add_argument("--checked", type=int, default=128, help="clips to check with")
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--export", type=Path, help="write the averaged weights here and stop")
    parser.add_argument("--save-every", type=float, default=Plan.save_every, help="seconds to a checkpoint")
    args = parser.parse_args(words)
    if args.export:
        return args
    if math.isinf(args.seconds) and args.steps == 10**9:
        parser.error("give --seconds or --steps")
    if args.frames < LENGTH:
        parser.error(f"--frames {args.frames}: a clip alone has {LENGTH}; give that many or more")
    most = args.frames // LENGTH  # of whole clips: the batch is to be the one that the rate is for
    if args.processes is None:
        args.processes = 1 if gpu else min(cores, most)
    if not 1 <= args.processes <= most:
        parser.error(
            f"--processes {args.processes}: a batch of {args.frames} frames is enough for 1 to {most}, of "
            f"{LENGTH} frames each; give fewer processes, or more --frames"
        )
    if args.rate is None:  # the noise of small batches undoes what large ones have learned
        args.rate = Plan.rate * math.sqrt(min(args.frames / Plan.frames, 1.0))
    return args


def main() -> None:
    """Run from the command line."""
    args = options()
    if args.export:
        trainer = Trainer(Plan(), torch.device("cpu"))
        trainer.load(args.run / "last.pt")
        print("SHA-256", export(trainer.average, args.export))
        return
    args.run.mkdir(parents=True, exist_ok=True)
    (args.run / "meeting").unlink(missing_ok=True)
    with beside(partial(work, args), args.processes):
        work(args, 0)


if __name__ == "__main__":
    main()

"""A run of training: clips into the pool, steps, the log and checkpoints, and figures before and after."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from checks import check, checked_pool
from clips import LENGTH, Pool, Workers
from peers import Peers
from trainer import Plan, Trainer, export

log = logging.getLogger("train")


def supply(pool: Pool, workers: Workers, least: int, looks: float) -> Iterator[int]:
    """Fill the pool before each step: wait until there are `least` clips, then take what is ready.

    No more than one clip for `looks` windows that were drawn: what the workers need, a CPU that trains lacks.
    """
    missed = 0
    while missed < 300:
        waiting = len(pool) < least
        for _ in range(8):
            if not waiting and pool.made > least + pool.drawn / looks:
                break
            got = workers.take(wait=2.0 if waiting else 0.0)
            missed = 0 if got is not None or not waiting else missed + 1
            if got is None:
                break
            pool.add(*got)
        if len(pool) >= least:
            yield pool.made
    raise RuntimeError("no clips for ten minutes; see the warnings above for what the workers met")


def train(trainer: Trainer, workers: Workers, pool: Pool, run: Path, looks: float) -> None:
    """Train until the plan is done, writing the log, the averaged weights and checkpoints on the way."""
    began = time.perf_counter() - trainer.seconds
    saved, times = trainer.seconds, []
    with (run / "log.jsonl").open("a") as lines:
        for made in supply(pool, workers, min(256, pool.capacity), looks):
            if trainer.progress >= 1:  # by the clock of the first process, so that all end with the same step
                return
            started = time.perf_counter()
            trainer.seconds = started - began
            try:
                report = trainer.train_step(pool)
            except torch.OutOfMemoryError:
                trainer.frames = max(trainer.frames // 2, LENGTH)
                torch.cuda.empty_cache()
                log.warning("out of memory: %d frames in a batch from now on", trainer.frames)
                continue
            times.append(time.perf_counter() - started)
            if (
                len(times) == 24
                and (mean := float(np.mean(times[8:]))) > 0.4
                and trainer.device.type == "cuda"
            ):
                # Some 1,000 steps are needed at least, whatever the machine.
                trainer.frames = max(LENGTH, int(trainer.frames * 0.4 / mean) // LENGTH * LENGTH)
                log.info("%.2f s a step: %d frames in a batch from now on", mean, trainer.frames)
            if trainer.peers.rank:
                continue  # the first process keeps the books
            if trainer.step % 20 == 0:
                line = {k: round(float(v), 5) for k, v in report.items()}
                line |= {"step": trainer.step, "seconds": round(trainer.seconds, 1), "clips": made}
                lines.write(json.dumps(line) + "\n")
                lines.flush()
                if trainer.step % 100 == 0:
                    log.info("%s", line)
            if trainer.seconds - saved > trainer.plan.save_every:
                saved = trainer.seconds
                export(trainer.average, run / "average.safetensors")
                trainer.save(run / "last.pt")


def work(args: argparse.Namespace, rank: int) -> None:
    """Train as one of the processes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    frames = args.frames // args.processes
    plan = Plan(args.seconds, args.steps, args.seed, args.rate, frames=frames, save_every=args.save_every)
    device, checkpoint, run = torch.device(args.device), args.run / "last.pt", args.run
    record = run / "checked.json"
    torch.set_num_threads(1)  # of this process: the others need the cores
    done = torch.load(checkpoint, weights_only=True, map_location="cpu")["step"] if checkpoint.exists() else 0
    workers = Workers([plan.seed, done, rank], args.workers)  # before the GPU is touched
    try:
        trainer = Trainer(plan, device, args.start, Peers(rank, args.processes, run / "meeting"))
        if checkpoint.exists():
            trainer.load(checkpoint)
        if rank:
            train(trainer, workers, Pool(args.pool, device), run, args.looks)
            return
        checked = checked_pool(args.workers, args.checked, device)
        if checkpoint.exists() and record.exists():  # what goes on began with other weights
            figures = {"before": json.loads(record.read_text(encoding="utf-8"))["before"]}
        else:
            figures = {"before": check(trainer.net, checked, args.checked // 4)}
            record.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        log.info("%s", figures)
        train(trainer, workers, Pool(args.pool, device), run, args.looks)
        export(trainer.average, run / "average.safetensors")
        trainer.save(checkpoint)
        figures["last"] = check(trainer.net, checked, args.checked // 4)
        trainer.net.load_state_dict(trainer.average)
        figures["average"] = check(trainer.net, checked, args.checked // 4)
    finally:
        workers.close()
    log.info("%s", figures)
    record.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    log.info("%d steps, SHA-256 %s", trainer.step, export(trainer.average, run / "average.safetensors"))

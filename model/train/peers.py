"""Processes that train one network together, and what becomes of the others when one of them fails."""

from __future__ import annotations

import logging
import multiprocessing as mp
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import distributed, nn

log = logging.getLogger("train")

# That one process waits for another: longer than the first one's checks take, or the wait for first clips.
PATIENCE = timedelta(minutes=30)
LEAVING = 60.0  # seconds in which processes end that have nothing left to do


class Peers:
    """Processes that train one network together: each on clips of its own, all with the mean of gradients.

    Two processes of one thread each do nearly twice as much as one of two, whose threads wait for each other
    at every small operation.
    """

    def __init__(self, rank: int, count: int, meeting: Path) -> None:
        self.rank, self.count = rank, count
        if count > 1:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            where = f"file://{meeting.resolve()}"
            distributed.init_process_group(
                "gloo", init_method=where, rank=rank, world_size=count, timeout=PATIENCE
            )

    def average(self, parameters: list[nn.Parameter], seconds: float) -> float:
        """Put the mean of all processes in place of gradients; returns the seconds of the first process."""
        if self.count == 1:
            return seconds
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        told = grads[0].new_tensor([seconds * self.count if self.rank == 0 else 0.0])
        flat = torch.cat([*(g.flatten() for g in grads), told])
        distributed.all_reduce(flat)
        flat /= self.count
        for p, part in zip(parameters, flat[:-1].split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p)
        return float(flat[-1])


@contextmanager
def beside(work: Callable[[int], None], count: int) -> Iterator[None]:
    """Run ``work(rank)`` in `count` - 1 processes of their own, ranks from 1 on, beside the first.

    They end with it, whether it ends well or not: each waits for all others, so none can go on alone. When
    one of them fails, the first ends too, with status 1 and a word on which it was.

    Raises
    ------
    SystemExit
        If one has failed or does not end, although the first has done its work.
    """
    if count == 1:
        yield
        return
    context = mp.get_context("fork")
    others = [context.Process(target=work, args=(n,), name=f"process {n}") for n in range(1, count)]
    for other in others:
        other.start()
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(others, over), daemon=True)
    watcher.start()
    well = False
    try:
        yield
        well = True
    finally:
        over.set()
        watcher.join()
        if well:
            until = time.monotonic() + LEAVING
            for other in others:
                other.join(max(0.0, until - time.monotonic()))
        else:  # perhaps because another has failed, which is ending now
            wait([other.sentinel for other in others], timeout=1.0)
        failed = failures(others)
        late = [other.name for other in others if other.exitcode is None]
        end(others)
        if failed:
            log.error("%s", failed)
        if well and (failed or late):
            raise SystemExit(failed or f"{', '.join(late)} did not end within {LEAVING:.0f} s")


def failures(others: Sequence[BaseProcess]) -> str:
    """Which processes have ended otherwise than well; empty if none."""
    ended = [(other.name, other.exitcode) for other in others if other.exitcode]
    return ", ".join(f"{name} ended with exit code {code}" for name, code in ended)


def end(others: Sequence[BaseProcess]) -> None:
    """End processes, those that do not listen by force."""
    for other in others:
        other.terminate()
    for other in others:
        other.join(5.0)
        if other.exitcode is None:
            other.kill()
            other.join()


def _watch(others: Sequence[BaseProcess], over: threading.Event) -> None:
    """End the run when one of its processes fails: the first may wait for it, where no exception comes."""
    while not over.wait(0.5):
        if failed := failures(others):
            log.error("%s; the run ends, and goes on from its last checkpoint when begun again", failed)
            end(others)
            os._exit(1)

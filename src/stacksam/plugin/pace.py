"""What a machine makes of a model: measured once, on a blank picture."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from stacksam.plugin.panels import duration
from stacksam.session.models import Model
from stacksam.session.prompts import Point
from stacksam.session.session import Session
from stacksam.session.stack import open_stack

__all__ = ["seconds_per_mask", "told"]

_SIDE = 256
_FRAMES = 4


def seconds_per_mask(model: Model) -> Iterator[float | None]:
    """Seconds for one object on one further frame.

    Parameters
    ----------
    model : Model

    Yields
    ------
    float or None
        None after each part, so that other work may come between; at last the least of three, of a disc on a
        blank stack: kernels are chosen during the first.
    """
    y, x = np.mgrid[:_SIDE, :_SIDE]
    disc = (np.hypot(y - _SIDE / 2, x - _SIDE / 2) < _SIDE / 10).astype(np.uint8) * 200
    stack = open_stack(np.stack([disc] * _FRAMES), axes="tyx", intensity=(0, 255))
    seconds = []
    with Session(stack, model) as session:
        yield None
        session.add(Point(0, 1, (_SIDE / 2, _SIDE / 2)))
        yield None
        updates = session.propagate("forward")
        for _ in range(_FRAMES - 1):
            then = time.perf_counter()
            next(updates)
            seconds.append(time.perf_counter() - then)
            yield None
    yield min(seconds)


def told(seconds: float, n_frames: int, device: torch.device) -> str:
    """The same in words, with what it means for a stack."""
    one = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    return (
        f"On this machine ({device.type}): about {one} for each object and frame, "
        f"{duration(seconds * n_frames)} for one object through the stack."
    )

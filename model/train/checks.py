"""Figures on clips that are kept from training, prompted and followed as the session does it."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clips import LENGTH, Look, Pool, Samples, carry, draw, render
from losses import LOSS_SIDE, as_kept, encode, error_clicks, memories_of, overlaps, prompt, remember
from stacksam.network.sam2 import Features, Sam2

CHECKED = 2**41  # seeds from here on are kept for checking; training draws below 2**40


@torch.no_grad()
def check(net: Sam2, pool: Pool, count: int) -> dict[str, float]:
    """Figures on clips kept from training, prompted and followed as the session does it."""
    generator = torch.Generator(pool.device).manual_seed(5)
    net.eval()
    sums: dict[str, list[Tensor]] = {}

    def note(name: str, values: Tensor, chosen: Tensor) -> None:
        sums.setdefault(name, []).append(values[chosen > 0].float().cpu())

    for _ in range(4):
        for frames in (1, LENGTH):
            samples = draw(pool, count if frames > 1 else 2 * count, Look(frames, 0.1), generator)
            truth = samples.masks.flatten(0, 1)
            small = F.avg_pool2d(truth.flatten(0, 1)[:, None].float(), 2)[:, 0].unflatten(0, truth.shape[:2])
            asked = small[:, 0].flatten(1).sum(1) > 8
            with torch.autocast(pool.device.type, torch.bfloat16):
                per_frame, _ = encode(net, samples)
                if frames == 1:
                    check_still(
                        net, per_frame[0], truth[:, 0], small[:, 0], lambda n, v, a=asked: note(n, v, a)
                    )
                else:
                    check_clip(net, per_frame, samples, small, asked, note)
    net.train()
    return {name: round(float(torch.cat(values).mean()), 4) for name, values in sums.items()}


def check_still(
    net: Sam2, features: Features, truth: Tensor, small: Tensor, note: Callable[[str, Tensor], None]
) -> None:
    """A click, a box, and one and three clicks that correct the first."""
    top = net.unconditioned(features)
    for kind in ("box", "click"):
        points, labels = prompt(kind, truth, small, surely=True)
        answer = net.decode_masks(features, top, points, labels, candidates=kind == "click").best()
        found = overlaps(enlarge(answer.logits), small)[:, 0]
        note(kind, found)
        note(f"{kind}: error of predicted IoU", (found - answer.iou[:, 0]).abs())
    for n in range(3):
        new, sign = error_clicks(answer.logits, small, surely=True)
        points, labels = torch.cat((points, new), dim=1), torch.cat((labels, sign), dim=1)
        answer = net.decode_masks(features, top, points, labels, answer.logits, candidates=False)
        if n in (0, 2):
            note(f"click, corrected {n + 1} times", overlaps(enlarge(answer.logits), small)[:, 0])


def check_clip(
    net: Sam2,
    per_frame: list[Features],
    samples: Samples,
    small: Tensor,
    asked: Tensor,
    note: Callable[[str, Tensor, Tensor], None],
) -> None:
    """Follow from a mask, asking with and without the mask of the frame before."""
    count = samples.masks.shape[1]
    followed = torch.arange(len(small), device=small.device) % count == 0  # the window follows these
    asked = asked & followed
    answer = net.adopt_mask(per_frame[0], samples.masks.flatten(0, 1)[:, :1].float())
    bank = [(0, True, remember(net, per_frame[0], answer, True), answer.pointers)]
    rows = torch.arange(len(small), device=small.device)
    for t in range(1, LENGTH):
        now = per_frame[t]
        top = net.condition(now, memories_of(bank, t))
        before = carry(as_kept(answer), samples.places, t, count)
        plain = net.decode_masks(now, top, candidates=True)
        answers = plain.beside(net.decode_masks(now, top, logits=before, candidates=True))
        empty = (answers.logits > 0).flatten(2).sum(-1) == 0
        answer = answers.take(rows, (answers.iou - 10 * empty.float()).argmax(1))
        visible = small[:, t].flatten(1).sum(1) > 2
        shown = (answer.logits > 0).flatten(1).any(1)
        found = overlaps(enlarge(answer.logits), small[:, t])[:, 0]
        counted = asked & (visible | shown)
        note("followed", found, counted)
        if t == LENGTH - 1:
            note("followed, last frame", found, counted)
        note("absent, and seen to be", (~shown).float(), asked & ~visible)
        note("visible, and seen to be", shown.float(), asked & visible)
        if t == 3:
            new, sign = error_clicks(answer.logits, small[:, t], surely=True)
            better = net.decode_masks(now, top, new, sign, answer.logits, candidates=True).best()
            note(
                "followed, corrected once",
                overlaps(enlarge(better.logits), small[:, t])[:, 0],
                asked & visible,
            )
        bank.append((t, False, remember(net, now, answer, False), answer.pointers))


def enlarge(logits: Tensor) -> Tensor:
    """Logits at the resolution at which masks are compared."""
    return F.interpolate(logits.float(), size=(LOSS_SIDE, LOSS_SIDE), mode="bilinear")


def checked_pool(workers: int, count: int, device: torch.device) -> Pool:
    """Clips of seeds that training does not draw."""
    with mp.get_context("fork").Pool(workers) as processes:
        made = processes.map(render, range(CHECKED, CHECKED + count))
    pool = Pool(count, device)
    for start in range(0, count, 16):
        part = made[start : start + 16]
        pool.add(np.stack([m[0] for m in part]), np.stack([m[1] for m in part]))
    return pool

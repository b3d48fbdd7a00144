"""Train ``nano`` on procedural stacks.

``python model/train/train.py --run runs/nano --seconds 460`` trains for that long, or for what is left of it
where the folder holds a checkpoint, and writes the averaged weights there; ``--start`` begins with weights
instead of chance, and ``--export model/nano.safetensors`` puts the result in place. The rate falls by the
time that has passed, so a run ends well trained on any machine; with ``--steps`` it falls by steps.

The recipe is that of SAM 2 (Ravi et al., 2024, section 6): an object is prompted on the first frame by a
click, a box or a mask, corrected by clicks where the answer is wrong, and followed through a few frames, on
one of which it may be corrected again; losses are focal and dice on the best of three candidates, the error
of the predicted IoU, and whether the object is visible. Everything is seen as the session sees it, through a
window that follows one object (see ``clips.py``).

Clips come from seeds, but which of them a step sees depends on how quickly they were made: two runs are
alike, not equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import multiprocessing as mp
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from clips import LENGTH, SIZE, Look, Pool, Samples, Workers, carry, deep_point, draw, render
from peers import Peers, beside
from stacksam.network.config import PRESETS
from stacksam.network.sam2 import Features, Masks, Memories, Sam2

log = logging.getLogger("train")

LOSS_SIDE = 128  # masks are compared at this resolution
GONE = -32.0  # logits that the session keeps of an object that is not visible
CHECKED = 2**41  # seeds from here on are kept for checking; training draws below 2**40


@dataclass(frozen=True)
class Plan:
    """Length of the run and of its parts.

    Attributes
    ----------
    seconds, steps
        The run ends when either is reached; the rate falls by the nearer one.
    frames
        Frames in a batch; clips are as many as that gives.
    stills
        Share of batches that are single frames.
    save_every
        Seconds between checkpoints: what a run that is killed loses at most.
    """

    seconds: float = math.inf
    steps: int = 10**9
    seed: int = 1
    rate: float = 8e-4
    warm_up: int = 100
    frames: int = 384
    stills: float = 0.4
    save_every: float = 60.0


class Trainer:
    """The network, its optimiser and its running average, and one step of training."""

    def __init__(
        self, plan: Plan, device: torch.device, start: Path | None = None, peers: Peers | None = None
    ) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.device, self.frames = plan, device, plan.frames
        self.peers = peers or Peers(0, 1, Path())
        self.net = Sam2(PRESETS["nano"])
        if start is None:
            initialise(self.net)
        else:
            begin_with(self.net, start)
        self.net.to(device)
        self.average = {k: v.detach().clone().float() for k, v in self.net.state_dict().items()}
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            lr=plan.rate,
            betas=(0.9, 0.98),
            fused=device.type == "cuda",
        )
        self.step = 0
        self.seconds = 0.0  # of training so far, those of earlier parts of the run included

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        return max(self.seconds / self.plan.seconds, self.step / self.plan.steps)

    def rate(self) -> float:
        """Learning rate: warm-up, then half a cosine to zero."""
        fall = 0.5 + 0.5 * math.cos(math.pi * min(self.progress, 1.0))
        return self.plan.rate * min(1.0, (self.step + 1) / self.plan.warm_up) * max(fall, 0.002)

    def train_step(self, pool: Pool) -> dict[str, Tensor]:
        """One step; returns what is worth logging."""
        rate = self.rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        seed = self.plan.seed * 1_000_003 + self.step
        rng = np.random.Generator(np.random.PCG64([seed]))
        # The same kind of work for all processes, which wait for each other, but not the same windows.
        own = seed + 7_919 * self.peers.rank
        generator = torch.Generator(self.device).manual_seed(own)
        torch.manual_seed(own)
        self.step += 1
        still = rng.random() < self.plan.stills
        frames = 1 if still else int(rng.choice([4, 6, LENGTH]))
        kind = str(rng.choice(["click", "box", "mask"], p=[0.6, 0.4, 0] if still else [0.4, 0.25, 0.35]))
        count = max(1, self.frames * 2 // 5 if still else self.frames // frames)
        look = Look(frames, 0.35 if kind == "click" else 0.12, 0.4 if still and kind == "click" else 0.0)
        samples = draw(pool, count, look, generator)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, report = clip_loss(self.net, samples, kind, rng)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.seconds = self.peers.average(list(self.net.parameters()), self.seconds)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        if not bool(norm.isfinite()):
            log.warning("step %d: gradient is %s, passed over", self.step, float(norm))
            return report
        self.optimiser.step()
        keep = min(0.995, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            now = self.net.state_dict()
            pairs = [(self.average[k], v.float()) for k, v in now.items()]
            torch._foreach_lerp_([a for a, _ in pairs], [v for _, v in pairs], 1 - keep)
        return {"loss": loss.detach(), "norm": norm, "rate": torch.tensor(rate), **report}

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is whole."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "net": self.net.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.step, self.seconds = state["step"], state["seconds"]
        self.net.load_state_dict(state["net"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])


def begin_with(net: Sam2, start: Path) -> None:
    """Take weights over; parts that they lack, because they are newer, stay as they set themselves."""
    weights = {k: v.float() for k, v in load_file(start).items()}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    if unexpected:
        raise ValueError(
            f"{start} has weights that the network has no place for: {', '.join(unexpected[:5])}"
        )
    if missing:
        parts = sorted({".".join(name.split(".")[:3]) for name in missing})
        log.info("new parts, not in %s: %s", start, ", ".join(parts))


def initialise(net: Sam2) -> None:
    """Starting values that the modules do not set themselves."""
    for name, parameter in net.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.1)
        elif "tpos_enc" in name or name.startswith("no_"):
            nn.init.normal_(parameter, std=0.02)
    matrix = net.sam_prompt_encoder.pe_layer.get_buffer("positional_encoding_gaussian_matrix")
    nn.init.normal_(matrix, std=1.0)
    with torch.no_grad():
        net.mask_downsample.weight.fill_(1 / 16)
        net.mask_downsample.bias.zero_()


def clip_loss(
    net: Sam2, samples: Samples, kind: str, rng: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch: prompt the first frame, correct, follow, correct, follow."""
    count, frames = samples.masks.shape[1:3]
    per_frame, features = encode(net, samples)
    truth = samples.masks.flatten(0, 1)  # (N, T, H, W)
    small = F.avg_pool2d(truth.flatten(0, 1)[:, None].float(), SIZE // LOSS_SIDE)[:, 0]
    small = small.unflatten(0, truth.shape[:2])
    hidden = samples.hidden.flatten(0, 1) * LOSS_SIDE**2
    asked = (small[:, 0].flatten(1).sum(1) > 8).float()  # nothing can be asked where nothing shows
    reports: dict[str, Tensor] = {}
    total = 0.3 * dense_loss(net, features, samples.labels.flatten(0, 1))

    def learn(name: str, answers: Masks, t: int) -> Masks:
        nonlocal total
        loss, answer, reports[name] = mask_loss(answers, small[:, t], hidden[:, t], asked)
        total = total + loss
        return answer

    first, top = per_frame[0], net.unconditioned(per_frame[0])
    if kind == "mask":
        answer = net.adopt_mask(first, truth[:, :1].float())
    else:
        points, labels = prompt(kind, truth[:, 0], small[:, 0])
        answers = net.decode_masks(first, top, points, labels, candidates=kind == "click", hide_absent=False)
        answer = learn(kind, answers, 0)
        wrong = rng.random() < 0.2
        for n in range(int(rng.integers(0, 4)) if frames == 1 else int(rng.random() < 0.25)):
            before = mislead(answer.logits, count, rng) if wrong and n == 0 else answer.logits.detach()
            new, sign = error_clicks(before, small[:, 0])
            points, labels = torch.cat((points, new), dim=1), torch.cat((labels, sign), dim=1)
            answers = net.decode_masks(
                first, top, points, labels, before, candidates=False, hide_absent=False
            )
            answer = learn("corrected", answers, 0)

    bank = [(0, True, remember(net, first, answer, True), answer.pointers)]
    at = int(rng.integers(1, frames)) if frames > 1 and rng.random() < 0.5 else 0  # corrected there, too
    for t in range(1, frames):
        now = per_frame[t]
        top = net.condition(now, memories_of(bank, t))
        before = None
        if rng.random() < 0.65:  # not always, or nothing would be learned from memories
            before = carry(as_kept(answer).detach(), samples.places, t, count)
        answers = net.decode_masks(now, top, logits=before, candidates=True, hide_absent=False)
        answer = learn(f"track{t}", answers, t)
        if t == at:
            answer = correct(
                net, now, top, answer, small[:, t], count, rng, lambda a, t=t: learn("again", a, t)
            )
        bank.append((t, t == at, remember(net, now, answer, t == at), answer.pointers))
    return total / max(1, (1 + frames) / 2), reports


def encode(net: Sam2, samples: Samples) -> tuple[list[Features], Features]:
    """Features of each frame, a row an object; and those of all pictures."""
    clips, frames = samples.images.shape[:2]
    count = samples.masks.shape[1]
    pictures = samples.images.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
    features = net.encode_image(pictures.contiguous(memory_format=torch.channels_last))
    rows = [level.unflatten(0, (clips, frames)) for level in features]
    per_frame = [
        Features(*(level[:, t].repeat_interleave(count, 0) for level in rows)) for t in range(frames)
    ]
    return per_frame, features


def correct(
    net: Sam2,
    now: Features,
    top: Tensor,
    answer: Masks,
    truth: Tensor,
    count: int,
    rng: np.random.Generator,
    learn: Callable[[Masks], Masks],
) -> Masks:
    """Correct a followed frame by up to three clicks, as the session does: memories and last answer stay."""
    before = as_kept(answer).detach()
    if rng.random() < 0.35:
        before = mislead(before, count, rng)
    points = truth.new_zeros(len(truth), 0, 2)
    labels = torch.zeros(len(truth), 0, dtype=torch.long, device=truth.device)
    for n in range(int(rng.integers(1, 4))):
        new, sign = error_clicks(before, truth)
        points, labels = torch.cat((points, new), dim=1), torch.cat((labels, sign), dim=1)
        answers = net.decode_masks(now, top, points, labels, before, candidates=n == 0, hide_absent=False)
        answer = learn(answers)
        before = answer.logits.detach()
    return answer


def mislead(logits: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """The answer for another object, or one that is displaced: the large errors that are rare by now."""
    logits = logits.detach()
    if rng.random() < 0.5:
        other = logits.unflatten(0, (-1, count)).roll(1, 1).flatten(0, 1)
        return torch.maximum(logits, other) if rng.random() < 0.4 else other
    dy, dx = (int(v) for v in rng.integers(-14, 15, 2))
    return logits.roll((dy, dx), (-2, -1))


def as_kept(answer: Masks) -> Tensor:
    """Logits as the session keeps them: none of an object that is taken to be absent."""
    return torch.where(answer.object_score[..., None, None] > 0, answer.logits, GONE)


def remember(net: Sam2, features: Features, answer: Masks, binarise: bool) -> Tensor:
    return net.encode_memory(features, as_kept(answer), answer.object_score, binarise=binarise)


def memories_of(bank: list[tuple[int, bool, Tensor, Tensor]], now: int) -> Memories:
    """All of a short clip is remembered: conditioning frames without age, the others with theirs."""
    count = len(bank[0][2])
    device = bank[0][2].device
    ages = torch.tensor([[0 if prompted else now - t for t, prompted, _, _ in bank]], device=device)
    distances = torch.tensor([[now - t for t, _, _, _ in bank]], device=device)
    return Memories(
        torch.stack([m for _, _, m, _ in bank], dim=1),
        ages.expand(count, -1),
        torch.cat([p for _, _, _, p in bank], dim=1),
        distances.expand(count, -1),
        15,
    )


def prompt(kind: str, truth: Tensor, small: Tensor, *, surely: bool = False) -> tuple[Tensor, Tensor]:
    """Points (N, P, 2) and labels (N, P) that prompt masks (N, H, W); `surely` without any chance."""
    if kind == "box":
        corners = torch.tensor([[2, 3]], device=truth.device).expand(len(truth), 2)
        return boxes(truth, 0.0 if surely else 0.04), corners
    index = deep_point(small, surely=surely)
    return place_of(index, small.shape[-1]), torch.ones_like(index)[:, None]


def boxes(truth: Tensor, shake: float) -> Tensor:
    """Corners (N, 2, 2) in (x, y) of masks (N, H, W), shaken by a few percent of their size."""
    across = torch.arange(truth.shape[-1], device=truth.device, dtype=torch.float32)
    found = []
    for axis in (1, 2):  # rows gone: columns, x first
        there = truth.any(dim=axis)
        low = torch.where(there, across, math.inf).amin(1)
        high = torch.where(there, across, -math.inf).amax(1)
        found.append(torch.stack((low, high), dim=1))
    box = torch.stack(found, dim=-1).nan_to_num(posinf=0.0, neginf=1.0)  # (N, corner, xy)
    extent = (box[:, 1:] - box[:, :1]).abs()
    moved = (torch.randn_like(box) * shake * extent).clamp(-12, 12)
    return (box + moved).clamp(0, SIZE - 1)


def place_of(index: Tensor, side: int) -> Tensor:
    """Points (N, 1, 2) in (x, y) of the input of pixel indices (N,) of a smaller picture."""
    y, x = torch.div(index, side, rounding_mode="floor"), index % side
    scale = SIZE / side
    return torch.stack((x, y), dim=-1)[:, None].float() * scale + (scale - 1) / 2


def error_clicks(logits: Tensor, truth: Tensor, *, surely: bool = False) -> tuple[Tensor, Tensor]:
    """A click (N, 1, 2) where the answer is wrong, and its sign (N, 1)."""
    with torch.no_grad():
        answer = F.interpolate(logits.float(), size=truth.shape[-2:], mode="bilinear")[:, 0] > 0
        index = deep_point((answer != (truth > 0.5)).float(), surely=surely)
        sign = (truth.flatten(1).gather(1, index[:, None]) > 0.5).long()
        return place_of(index, truth.shape[-1]), sign


def mask_loss(answers: Masks, truth: Tensor, hidden: Tensor, asked: Tensor) -> tuple[Tensor, Masks, Tensor]:
    """Loss of candidates against truth (N, S, S), the candidate to go on with, and its mean IoU.

    `hidden` (N,) is the area of objects outside of the picture: the predicted IoU is that of the whole
    object, so that it tells which of several windows suits it. `asked` (N,) is 0 for objects that do not
    count.
    """
    logits = F.interpolate(answers.logits.float(), size=truth.shape[-2:], mode="bilinear")
    target = truth[:, None].expand_as(logits)
    visible = (truth.flatten(1).sum(1) > 2).float()
    probability = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    agreement = probability * target + (1 - probability) * (1 - target)
    focal = (cross * (1 - agreement) ** 2).flatten(2).mean(-1)
    overlap = (probability * target).flatten(2).sum(-1)
    dice = 1 - (2 * overlap + 1) / (probability.flatten(2).sum(-1) + target.flatten(2).sum(-1) + 1)
    iou = overlaps(logits, truth, hidden)
    # Per-class means keep small objects from drowning in background: without them, the first thing that is
    # learned is to answer nothing at all.
    inside = (cross * target).flatten(2).sum(-1) / target.flatten(2).sum(-1).clamp(min=1)
    around = (cross * (1 - target)).flatten(2).sum(-1) / (1 - target).flatten(2).sum(-1).clamp(min=1)
    cost = 5 * focal + dice + 0.5 * (inside + around)
    best = cost.argmin(dim=1)
    rows = torch.arange(len(best), device=best.device)
    share = visible * asked
    share = share / share.sum().clamp(min=1)
    loss = (cost[rows, best] * share).sum()
    loss = loss + 3 * ((answers.iou - iou).abs().mean(1) * share).sum()
    # Objects that have ended are few, and to go on with one that has spoils all frames that follow.
    weight = asked * torch.where(visible > 0, 1.0, 2.0)
    score = F.binary_cross_entropy_with_logits(answers.object_score[:, 0], visible, reduction="none")
    loss = loss + 2 * (score * weight).sum() / weight.sum().clamp(min=1)
    kept = answers.iou.argmax(dim=1)
    return loss, answers.take(rows, kept), (iou[rows, kept] * share).sum().detach()


def overlaps(logits: Tensor, truth: Tensor, hidden: Tensor | None = None) -> Tensor:
    """IoU (N, K) of logits (N, K, S, S) and truth (N, S, S), of which there is more that is `hidden` (N,)."""
    with torch.no_grad():
        hard, whole = logits > 0, truth[:, None] > 0.5
        union = (hard | whole).flatten(2).sum(-1)
        if hidden is not None:
            union = union + hidden[:, None]
        return ((hard & whole).flatten(2).sum(-1) + 1e-6) / (union + 1e-6)


def dense_loss(net: Sam2, features: Features, labels: Tensor) -> Tensor:
    """Foreground, boundary and offset to the centre of every object, on the grid of stride 4."""
    found = net.propose(features).float()
    ids = labels[:, 2::4, 2::4]
    inside = (ids > 0).float()
    edge = torch.zeros_like(inside)
    edge[:, 1:] = torch.maximum(edge[:, 1:], (ids[:, 1:] != ids[:, :-1]).float())
    edge[:, :, 1:] = torch.maximum(edge[:, :, 1:], (ids[:, :, 1:] != ids[:, :, :-1]).float())
    loss = F.binary_cross_entropy_with_logits(found[:, 0], inside)
    loss = loss + F.binary_cross_entropy_with_logits(found[:, 1], edge)
    batch, side = ids.shape[:2]
    flat = ids.flatten(1).long()
    place = torch.arange(side, device=ids.device, dtype=torch.float32)
    y, x = place[:, None].expand(side, side).flatten(), place[None].expand(side, side).flatten()
    most = int(flat.max()) + 1
    area = torch.zeros(batch, most, device=ids.device).scatter_add_(
        1, flat, torch.ones_like(flat, dtype=torch.float32)
    )
    offsets = []
    for axis in (y, x):
        total = torch.zeros_like(area).scatter_add_(1, flat, axis[None].expand(batch, -1))
        centre = (total / area.clamp(min=1)).gather(1, flat)
        offsets.append((centre - axis[None]) / 8)
    wanted = torch.stack(offsets, dim=1).unflatten(2, (side, side)).clamp(-4, 4)
    error = F.smooth_l1_loss(found[:, 2:], wanted, reduction="none").sum(1) * inside
    return loss + error.sum() / inside.sum().clamp(min=1)


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


def export(weights: dict[str, Tensor], path: Path) -> str:
    """Write weights in half precision; returns their SHA-256."""
    halves = {k: v.detach().half().contiguous().cpu() for k, v in weights.items()}
    save_file(halves, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
        figures = {"before": check(trainer.net, checked, args.checked // 4)}
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
    (run / "checked.json").write_text(json.dumps(figures, indent=1))
    log.info("%d steps, SHA-256 %s", trainer.step, export(trainer.average, run / "average.safetensors"))


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

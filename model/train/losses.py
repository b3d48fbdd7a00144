"""What the network is asked for in training, and how far its answers are from the truth.

An object is prompted on the first frame of a clip, corrected where the answer is wrong, and followed; on one
of the frames it may be corrected again. Logits are carried from window to window as in the session.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clips import SIZE, Samples, carry, deep_point
from stacksam.network.sam2 import Features, Masks, Memories, Sam2

LOSS_SIDE = 128  # masks are compared at this resolution
GONE = -32.0  # logits that the session keeps of an object that is not visible


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

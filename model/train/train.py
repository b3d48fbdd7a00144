"""Train ``nano`` on procedural stacks.

``python model/train/train.py --run runs/nano --steps 2400`` trains, or goes on where the last checkpoint of
that folder stands; ``--export model/nano.safetensors`` writes the averaged weights in half precision.
Every batch follows from the seed and the step alone, so a resumed run sees what an unbroken one would.

The recipe is that of SAM 2 (Ravi et al., 2024, section 6): an object is prompted on the first frame by a
click, a box or a mask, corrected by clicks where the answer is wrong, and followed through a few frames;
losses are focal and dice on the best of three candidates, the error of the predicted IoU, and whether the
object is visible. Most clips are seen as the session sees them: through a window that follows one object. At
the end, the head that tells whether an object is visible learns on objects that end.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent))
import synth

from stacksam.network.config import PRESETS
from stacksam.network.sam2 import Features, Masks, Memories, Sam2

log = logging.getLogger("train")

SIZE = 256
WINDOW = 4.5  # side of a window in object sizes, as the session chooses it
OBJECTS = 3  # objects of one clip that are prompted
LOSS_SIDE = 128  # masks are compared at this resolution


@dataclass(frozen=True)
class Plan:
    """Length of the run and of its parts."""

    steps: int
    seed: int = 1
    rate: float = 5e-4
    warm_up: int = 50
    cool_down: float = 0.35  # last share of the steps, in which the rate falls to zero
    stills: int = 8  # clips in a batch of single frames
    clips: int = 4  # clips in a batch of several frames
    frames: int = 4
    stills_first: int = 500  # steps before clips: following needs masks worth remembering


class Batches(Dataset[dict[str, Tensor]]):
    """Batch number i, made from nothing but the plan's seed and i."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        torch.set_num_threads(1)
        rng = np.random.Generator(np.random.PCG64([self.plan.seed, step]))
        still = step < self.plan.stills_first or step % 5 in (0, 2)
        count, frames = (self.plan.stills, 1) if still else (self.plan.clips, self.plan.frames)
        samples = []
        while len(samples) < count:
            made = make_sample(int(rng.integers(2**40)), frames, rng)
            if made is not None:
                samples.append(made)
        return {k: torch.stack([s[k] for s in samples]) for k in samples[0]}


def make_sample(seed: int, frames: int, rng: np.random.Generator) -> dict[str, Tensor] | None:
    """One clip with OBJECTS objects to prompt; None where the first frame shows nothing to click on."""
    ending = frames > 1 and rng.random() < 0.25
    if ending:  # a z-stack from its middle outwards, where objects come to their ends
        clip = synth.make_clip(seed, SIZE, 2 * frames, "zstack")
        images, labels = clip.images[frames:], clip.labels[frames:].astype(np.int32)
    else:
        clip = synth.make_clip(seed, SIZE, max(frames, 2))
        images, labels = clip.images[:frames], clip.labels[:frames].astype(np.int32)
    if not ending and rng.random() < 0.5:
        images, labels = images[::-1].copy(), labels[::-1].copy()
    origins = np.zeros((frames, 2), np.float32)
    k = int(rng.integers(4))
    images, labels = np.rot90(images, k, (1, 2)).copy(), np.rot90(labels, k, (1, 2)).copy()
    if rng.random() < 0.6:
        images, labels, origins = follow(images, labels, rng)
    ids, sizes = np.unique(labels[0], return_counts=True)
    ids = ids[(sizes >= 24) & (ids > 0)]
    if len(ids) == 0:
        return None
    chosen = rng.choice(ids, OBJECTS, replace=len(ids) < OBJECTS)
    masks = np.stack([labels == i for i in chosen])
    clicks = np.stack([pick_click(m[0], rng) for m in masks])
    image = np.ascontiguousarray(adjust(images, rng), dtype=np.float32)
    return {
        "images": torch.from_numpy(image),
        "labels": torch.from_numpy(np.ascontiguousarray(labels)),
        "masks": torch.from_numpy(masks),
        "clicks": torch.from_numpy(clicks),
        "origins": torch.from_numpy(origins),
    }


def adjust(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast as a user or a percentile might set it."""
    if rng.random() < 0.5:
        low, high = rng.uniform(-0.1, 0.15), rng.uniform(0.6, 1.3)
        images = np.clip((images - low) / (high - low), 0, 1) ** np.exp(rng.normal(0, 0.25))
    return images


def pick_click(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(x, y) of a click inside `mask`: mostly deep inside, sometimes anywhere."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    weight = mask.astype(np.float64) if rng.random() < 0.3 else np.maximum(depth, 0) ** 3
    if rng.random() < 0.35:
        weight = depth >= depth.max()
    weight = weight.ravel() / weight.sum()
    y, x = divmod(int(rng.choice(weight.size, p=weight)), mask.shape[1])
    return np.array([x, y], dtype=np.float32)


def follow(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See a clip through a window that follows one object, a frame late, as the session does.

    Also returns where the window stands on each frame, ``(x, y)`` in the window's own pixels.
    """
    ids, counts = np.unique(labels[0], return_counts=True)
    ids = ids[(counts >= 40) & (ids > 0)]
    if len(ids) == 0:
        return images, labels, np.zeros((len(images), 2), np.float32)
    target = int(rng.choice(ids))
    rows, columns = np.nonzero(labels[0] == target)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    size = max(float(np.sqrt(len(rows))), 0.6 * extent)
    side = float(np.clip(WINDOW * size * np.exp(rng.normal(0, 0.2)), 40, 1.2 * SIZE))
    centre = np.array([rows.mean(), columns.mean()])
    grids, origins = [], []
    # A window that is not quite where it was thought to be looks like an object that moves fast.
    jitter = side * (rng.uniform(0.04, 0.15) if rng.random() < 0.4 else 0.02)
    for frame in labels:
        shift = centre + rng.normal(0, jitter, 2)
        origins.append(centre[::-1] * SIZE / side)
        step = (torch.arange(SIZE) + 0.5) / SIZE * side - side / 2
        y, x = (((step + c + 0.5) / SIZE * 2 - 1).float() for c in shift)
        grids.append(torch.stack((x[None].expand(SIZE, SIZE), y[:, None].expand(SIZE, SIZE)), dim=-1))
        rows, columns = np.nonzero(frame == target)
        if len(rows) > 8:
            centre = np.array([rows.mean(), columns.mean()])
    grid = torch.stack(grids)
    picture = torch.from_numpy(np.ascontiguousarray(images))[:, None].float()
    padding = "zeros" if rng.random() < 0.6 else "border"
    seen = F.grid_sample(picture, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    ids_map = torch.from_numpy(np.ascontiguousarray(labels))[:, None].float()
    found = F.grid_sample(ids_map, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    moved = np.asarray(origins, np.float32)
    return seen[:, 0].numpy(), found[:, 0].numpy().astype(np.int32), moved


class Trainer:
    """The network, its optimiser and its running average, and one step of training."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.device = plan, device
        self.net = Sam2(PRESETS["nano"])
        initialise(self.net)
        self.net.to(device)
        self.average = {k: v.detach().clone().float() for k, v in self.net.state_dict().items()}
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            lr=plan.rate,
            betas=(0.9, 0.98),
        )
        self.step = 0

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One step; returns what is worth logging."""
        rate = self.rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(self.plan.seed * 1_000_003 + self.step)
        rng = np.random.Generator(np.random.PCG64([self.plan.seed, self.step, 7]))
        batch = {k: v.to(self.device) for k, v in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, report = clip_loss(self.net, batch, rng)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(0.99, 1 - 1 / (self.step + 1))
        with torch.no_grad():
            for k, v in self.net.state_dict().items():
                self.average[k].lerp_(v.float(), 1 - keep)
        return {"loss": float(loss.detach()), "norm": float(norm), "rate": rate, **report}

    def rate(self) -> float:
        """Learning rate: warm-up, plateau, linear fall."""
        plan = self.plan
        left = (plan.steps - self.step) / max(1.0, plan.cool_down * plan.steps)
        return plan.rate * min(1.0, (self.step + 1) / plan.warm_up, max(left, 0.02))

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is whole."""
        state = {
            "step": self.step,
            "net": self.net.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.step = state["step"]
        self.net.load_state_dict(state["net"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])


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
    net: Sam2, batch: dict[str, Tensor], rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch: prompt the first frame, correct, follow."""
    images, masks = batch["images"], batch["masks"]  # (B, T, H, W), (B, K, T, H, W)
    clips, frames = images.shape[:2]
    count = masks.shape[1]
    pictures = images.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
    features = net.encode_image(pictures.contiguous(memory_format=torch.channels_last))
    per_frame = [
        Features(
            *(level.unflatten(0, (clips, frames))[:, t].repeat_interleave(count, 0) for level in features)
        )
        for t in range(frames)
    ]
    truth = masks.flatten(0, 1).float()  # (N, T, H, W)
    small = F.avg_pool2d(truth, SIZE // LOSS_SIDE)
    total, reports = 0.3 * dense_loss(net, features, batch["labels"].flatten(0, 1)), {}

    kind = rng.choice(["click", "box", "mask"], p=[0.55, 0.25, 0.2] if frames > 1 else [0.55, 0.45, 0])
    first = per_frame[0]
    points, labels = (
        batch["clicks"].flatten(0, 1)[:, None],
        torch.ones_like(batch["clicks"].flatten(0, 1)[:, :1]),
    )
    if kind == "box":
        points, labels = boxes(truth[:, 0]), torch.tensor([[2, 3]], device=truth.device).expand(len(truth), 2)
    labels = labels.long()
    if kind == "mask":
        answer = net.adopt_mask(first, truth[:, :1])
        binarise = True
    else:
        top = net.unconditioned(first)
        answers = net.decode_masks(first, top, points, labels, candidates=kind == "click", hide_absent=False)
        loss, answer, iou = mask_loss(answers, small[:, 0])
        total, reports[f"{kind}"] = total + loss, iou
        binarise = True
        for _ in range(int(rng.integers(0, 3)) if frames == 1 else int(rng.random() < 0.3)):
            new, sign = error_clicks(answer.logits, small[:, 0])
            points, labels = torch.cat((points, new), dim=1), torch.cat((labels, sign), dim=1)
            previous = answer.logits.detach()
            answers = net.decode_masks(
                first, top, points, labels, previous, candidates=False, hide_absent=False
            )
            loss, answer, iou = mask_loss(answers, small[:, 0])
            total, reports["corrected"] = total + loss, iou

    bank = [(0, True, remember(net, first, answer, binarise), answer.pointers)]
    for t in range(1, frames):
        now = per_frame[t]
        top = net.condition(now, memories_of(bank, t))
        before = None
        if rng.random() < 0.75:  # not always, or nothing would be learned from memories
            before = carry(answer.logits.detach(), (batch["origins"][:, t] - batch["origins"][:, t - 1]))
        answers = net.decode_masks(now, top, logits=before, candidates=True, hide_absent=False)
        loss, answer, iou = mask_loss(answers, small[:, t])
        total, reports[f"track{t}"] = total + loss, iou
        prompted = False
        if rng.random() < 0.12:
            new, sign = error_clicks(answer.logits, small[:, t])
            previous = answer.logits.detach()
            answers = net.decode_masks(now, top, new, sign, previous, candidates=True, hide_absent=False)
            loss, answer, iou = mask_loss(answers, small[:, t])
            total, reports["corrected"], prompted = total + loss, iou, True
        bank.append((t, prompted, remember(net, now, answer, prompted), answer.pointers))
    return total / max(1, (1 + frames) / 2), reports


def remember(net: Sam2, features: Features, answer: Masks, binarise: bool) -> Tensor:
    return net.encode_memory(features, answer.logits, answer.object_score, binarise=binarise)


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


def carry(logits: Tensor, moved: Tensor) -> Tensor:
    """Logits (N, 1, h, w) of one frame as the next window shows them, moved by (B, 2) ``(x, y)`` pixels."""
    shift = moved.repeat_interleave(len(logits) // len(moved), 0) * 2 / SIZE
    theta = torch.zeros(len(logits), 2, 3, device=logits.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(logits.shape), align_corners=False)
    bounded = logits.float().clamp(-32, 32) + 10
    return F.grid_sample(bounded, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 10


def boxes(truth: Tensor) -> Tensor:
    """Corners (N, 2, 2) in (x, y) of masks (N, H, W), shaken by a few percent of their size."""
    out = torch.zeros(len(truth), 2, 2, device=truth.device)
    for i, mask in enumerate(truth > 0):
        y, x = torch.nonzero(mask, as_tuple=True)
        box = torch.stack((x.min(), y.min(), x.max(), y.max())).float()
        shake = torch.randn(4, device=truth.device) * 0.04 * (box[2:] - box[:2]).repeat(2)
        out[i] = (box + shake.clamp(-12, 12)).clamp(0, SIZE - 1).view(2, 2)
    return out


def error_clicks(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """A click (N, 1, 2) where the answer is wrong, and its sign (N, 1)."""
    with torch.no_grad():
        answer = F.interpolate(logits.float(), size=truth.shape[-2:], mode="bilinear")[:, 0] > 0
        wrong = (answer != (truth > 0.5)).float()
        inner = F.avg_pool2d(wrong[:, None], 5, 1, 2)[:, 0] * wrong  # away from mere outline errors
        weight = inner.flatten(1) ** 2 + 1e-6 * (truth.flatten(1) + 1e-3)
        index = torch.multinomial(weight, 1)
        side = truth.shape[-1]
        y, x = torch.div(index, side, rounding_mode="floor"), index % side
        sign = (truth.flatten(1).gather(1, index) > 0.5).long()
        scale = SIZE / side
        return torch.stack((x, y), dim=-1).float() * scale + (scale - 1) / 2, sign


def mask_loss(answers: Masks, truth: Tensor) -> tuple[Tensor, Masks, float]:
    """Loss of candidates against truth (N, S, S), the candidate to go on with, and its mean IoU."""
    logits = F.interpolate(answers.logits.float(), size=truth.shape[-2:], mode="bilinear")
    target = truth[:, None].expand_as(logits)
    visible = (truth.flatten(1).sum(1) > 2).float()
    probability = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    agreement = probability * target + (1 - probability) * (1 - target)
    focal = (cross * (1 - agreement) ** 2).flatten(2).mean(-1)
    overlap = (probability * target).flatten(2).sum(-1)
    dice = 1 - (2 * overlap + 1) / (probability.flatten(2).sum(-1) + target.flatten(2).sum(-1) + 1)
    with torch.no_grad():
        hard, whole = logits > 0, target > 0.5
        union = (hard | whole).flatten(2).sum(-1)
        iou = ((hard & whole).flatten(2).sum(-1) + 1e-6) / (union + 1e-6)
    # Per-class means keep small objects from drowning in background: without them, the first thing that is
    # learned is to answer nothing at all.
    inside = (cross * target).flatten(2).sum(-1) / target.flatten(2).sum(-1).clamp(min=1)
    around = (cross * (1 - target)).flatten(2).sum(-1) / (1 - target).flatten(2).sum(-1).clamp(min=1)
    cost = 5 * focal + dice + 0.5 * (inside + around)
    best = cost.argmin(dim=1)
    rows = torch.arange(len(best), device=best.device)
    share = visible / visible.sum().clamp(min=1)
    loss = (cost[rows, best] * share).sum()
    loss = loss + 3 * ((answers.iou - iou).abs().mean(1) * share).sum()
    loss = loss + F.binary_cross_entropy_with_logits(answers.object_score[:, 0], visible)
    kept = answers.iou.argmax(dim=1)
    mean = float((iou[rows, kept] * share).sum())
    return loss, answers.take(rows, kept), mean


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


def vanishing_batch(number: int, plan: Plan) -> dict[str, Tensor]:
    """Clips in which objects end: z-stacks from their middle outwards, and a few others for balance."""
    rng = np.random.Generator(np.random.PCG64([plan.seed, number, 99]))
    samples: list[dict[str, Tensor]] = []
    while len(samples) < plan.clips:
        mode = "zstack" if rng.random() < 0.6 else None
        clip = synth.make_clip(int(rng.integers(2**40)), SIZE, 2 * plan.frames, mode)
        images, labels = clip.images[plan.frames :], clip.labels[plan.frames :].astype(np.int32)
        origins = np.zeros((plan.frames, 2), np.float32)
        if rng.random() < 0.7:
            images, labels, origins = follow(images, labels, rng)
        ids, sizes = np.unique(labels[0], return_counts=True)
        ids = ids[(sizes >= 24) & (ids > 0)]
        if len(ids) == 0:
            continue
        chosen = rng.choice(ids, OBJECTS, replace=len(ids) < OBJECTS)
        masks = np.stack([labels == i for i in chosen])
        samples.append(
            {
                "images": torch.from_numpy(np.ascontiguousarray(images, np.float32)),
                "masks": torch.from_numpy(masks),
                "origins": torch.from_numpy(origins),
            }
        )
    return {k: torch.stack([s[k] for s in samples]) for k in samples[0]}


def learn_presence(net: Sam2, plan: Plan, steps: int) -> None:
    """Train the object-score head alone, on objects that end, with the rest of the network as it is."""
    net.requires_grad_(False)
    head = net.sam_mask_decoder.pred_obj_score_head.requires_grad_(True)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for number in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (1 - number / steps)
        batch = vanishing_batch(number, plan)
        with torch.autocast("cpu", torch.bfloat16):
            logits, visible = presence_logits(net, batch)
        weight = torch.where(visible > 0.5, 1.0, float(visible.mean() / (1 - visible.mean()).clamp(min=0.05)))
        loss = F.binary_cross_entropy_with_logits(logits, visible, weight=weight.clamp(max=6))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if number % 20 == 19:
            right = ((logits > 0) == (visible > 0.5)).float()
            log.info(
                "presence %d: loss %.3f, right %.2f, right where absent %.2f",
                number + 1,
                float(loss.detach()),
                float(right.mean()),
                float(right[visible < 0.5].mean()),
            )


def presence_logits(net: Sam2, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Object scores of followed objects, with and without the mask of the frame before, and the truth."""
    images, masks = batch["images"], batch["masks"]
    frames, count = images.shape[1], masks.shape[1]
    truth = masks.flatten(0, 1).float()
    scores, visible = [], []
    bank: list[tuple[int, bool, Tensor, Tensor]] = []
    answer: Masks | None = None
    for t in range(frames):
        with torch.no_grad():
            picture = images[:, t, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
            now = Features(*(level.repeat_interleave(count, 0) for level in net.encode_image(picture)))
        if answer is None:
            with torch.no_grad():
                answer = net.adopt_mask(now, truth[:, :1])
                bank.append((0, True, remember(net, now, answer, True), answer.pointers))
            continue
        with torch.no_grad():
            top = net.condition(now, memories_of(bank, t))
            before = carry(answer.logits, batch["origins"][:, t] - batch["origins"][:, t - 1])
        plain = net.decode_masks(now, top, candidates=True, hide_absent=False)
        carried = net.decode_masks(now, top, logits=before, candidates=True, hide_absent=False)
        seen = (truth[:, t].flatten(1).sum(1) > 8).float()
        scores += [plain.object_score[:, 0], carried.object_score[:, 0]]
        visible += [seen, seen]
        with torch.no_grad():
            answer = Masks(*(part.detach() for part in carried)).best()
            bank.append((t, False, remember(net, now, answer, False), answer.pointers))
    return torch.cat(scores), torch.cat(visible)


def batches(plan: Plan, start: int) -> Iterator[dict[str, Tensor]]:
    """Batches from number `start` on, made by a worker process."""
    loader = DataLoader(
        Batches(plan), batch_size=None, sampler=range(start, plan.steps), num_workers=1, prefetch_factor=4
    )
    yield from loader


def export(average: dict[str, Tensor], path: Path) -> None:
    """Write weights in half precision."""
    from safetensors.torch import save_file

    save_file({k: v.half().contiguous() for k, v in average.items()}, path)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints and the log")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--presence", type=int, default=240, help="steps of the object-score head at the end")
    parser.add_argument("--export", type=Path, help="write the averaged weights here and stop")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(Plan(args.steps), torch.device(args.device))
    checkpoint = args.run / "last.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    if args.export:
        trainer.net.load_state_dict(trainer.average)
        learn_presence(trainer.net, trainer.plan, args.presence)
        export(trainer.net.state_dict(), args.export)
        return
    log.info("%.2f M parameters", sum(p.numel() for p in trainer.net.parameters()) / 1e6)
    started = time.perf_counter()
    with (args.run / "log.jsonl").open("a") as lines:
        for batch in batches(trainer.plan, trainer.step):
            report = trainer.train_step(batch)
            report |= {"step": trainer.step, "seconds": round(time.perf_counter() - started, 1)}
            lines.write(json.dumps({k: round(v, 5) for k, v in report.items()}) + "\n")
            lines.flush()
            if trainer.step % 50 == 0 or trainer.step == trainer.plan.steps:
                trainer.save(checkpoint)
                log.info("%s", report)


if __name__ == "__main__":
    main()

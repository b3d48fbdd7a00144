"""Training samples: clips that worker processes render, and windows of them that follow an object.

Rendering a clip costs a core some 60 ms, and a training step on a GPU far less, so clips are kept in a `Pool`
on the device and looked at many times: each time another object is followed, forwards or backwards in time,
turned or mirrored, in another contrast, through a window of another side. Where a window stands and how it
moves mirrors what the session does (``stacksam.session.windows``).
"""

from __future__ import annotations

import logging
import math
import multiprocessing as mp
import os
import queue
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import synth

log = logging.getLogger("train")

SIZE = 256
LENGTH = 8  # frames of a clip
WINDOW = 4.5  # side of a window in object sizes, as the session chooses it
OBJECTS = 2  # objects of one window that are prompted: the one that is followed, and another
IDS = 256
_LEAST = 40  # pixels of an object that is followed
_BUNDLE = 8  # clips that a worker hands over at once


def render(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one clip, uint8 (LENGTH, SIZE, SIZE) both; ids beyond a byte are unlabelled."""
    clip = synth.make_clip(seed, SIZE, LENGTH)
    images = np.rint(clip.images * 255).astype(np.uint8)
    labels = np.where(clip.labels < IDS, clip.labels, 0).astype(np.uint8)
    return images, labels


def _work(seed: list[int], worker: int, out: Any, stop: Any, parent: int) -> None:
    """Render clips until told to stop; a seed that fails is reported and passed over."""
    torch.set_num_threads(1)
    os.nice(10)  # a step that waits for clips is rare, one that waits for a core is not
    rng = np.random.Generator(np.random.PCG64([*seed, worker]))
    made: list[tuple[np.ndarray, np.ndarray]] = []
    while not stop.is_set():
        number = int(rng.integers(2**40))
        try:
            made.append(render(number))
        except Exception as error:  # noqa: BLE001  one bad clip must not end a run
            _hand_over(f"clip {number}: {error!r}", out, stop, parent)
        if len(made) == _BUNDLE:
            _hand_over((np.stack([m[0] for m in made]), np.stack([m[1] for m in made])), out, stop, parent)
            made = []


def _hand_over(thing: Any, out: Any, stop: Any, parent: int) -> None:
    """Put a thing into the queue once there is room for it, unless nobody asks any more."""
    while not stop.is_set():
        if os.getppid() != parent:
            os._exit(0)  # killed, without a word to stop; leaving by return would wait for the queue
        try:
            out.put(thing, timeout=5.0)
            return
        except queue.Full:
            continue


class Workers:
    """Processes that render clips without end; of other seeds, others."""

    def __init__(self, seed: list[int], count: int) -> None:
        # Forked before the GPU is touched; a child that imports torch anew would take seconds.
        context = mp.get_context("fork")
        self._queue: Any = context.Queue(maxsize=2 * count + 2)
        self._stop = context.Event()
        self._processes = [
            context.Process(target=_work, args=(seed, i, self._queue, self._stop, os.getpid()), daemon=True)
            for i in range(count)
        ]
        for process in self._processes:
            process.start()

    def take(self, *, wait: float = 0.0) -> tuple[np.ndarray, np.ndarray] | None:
        """The next bundle of clips; None if there is none after `wait` seconds."""
        try:
            got = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(got, str):
            log.warning("%s", got)
            return None
        pair: tuple[np.ndarray, np.ndarray] = got
        return pair

    def close(self) -> None:
        """End the processes."""
        self._stop.set()
        for process in self._processes:
            process.terminate()


class Pool:
    """The clips that were rendered last, on the device, with the extent of every object on every frame."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        shape = (capacity, LENGTH, SIZE, SIZE)
        self.images = torch.empty(shape, dtype=torch.uint8, device=device)
        self.labels = torch.empty(shape, dtype=torch.uint8, device=device)
        # (clip, frame, id): pixels, first and last row, first and last column
        self.extents = torch.zeros(capacity, LENGTH, IDS, 5, dtype=torch.int32, device=device)
        self.made = 0  # clips that were put in
        self.drawn = 0  # windows that were taken out

    def __len__(self) -> int:
        return min(self.made, self.capacity)

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Put clips in, in place of the oldest ones where the pool is full."""
        at = (self.made + torch.arange(len(images), device=self.device)) % self.capacity
        found = torch.from_numpy(labels).to(self.device)
        self.images[at] = torch.from_numpy(images).to(self.device)
        self.labels[at] = found
        self.extents[at] = extents_of(found.flatten(0, 1)).unflatten(0, found.shape[:2])
        self.made += len(images)


def extents_of(labels: Tensor) -> Tensor:
    """Pixels, first and last row, first and last column (N, IDS, 5) of each id of label images (N, H, W)."""
    count, height, width = labels.shape
    flat = labels.flatten(1).long()
    place = torch.arange(height * width, device=labels.device, dtype=torch.int32)
    row, column = torch.div(place, width, rounding_mode="floor"), place % width
    out = torch.zeros(count, IDS, 5, dtype=torch.int32, device=labels.device)
    out[..., 0] = out[..., 0].scatter_add(1, flat, torch.ones_like(flat, dtype=torch.int32))
    for k, (values, how) in enumerate(((row, "amin"), (row, "amax"), (column, "amin"), (column, "amax"))):
        start = torch.full((count, IDS), height + width if how == "amin" else -1, device=labels.device)
        source = values[None].expand(count, -1)
        out[..., k + 1] = start.int().scatter_reduce(1, flat, source, how)
    out[..., 0, :] = 0  # background is no object
    return out


class Samples(NamedTuple):
    """B windows of T frames, K objects each."""

    images: Tensor  # (B, T, S, S) in 0..1
    labels: Tensor  # (B, T, S, S) ids of the clip
    masks: Tensor  # (B, K, T, S, S) bool
    places: Tensor  # (B, T, 3) middle (y, x) and side of each window, in clip pixels turned with the window
    hidden: Tensor  # (B, K, T) what the window cuts off from each object, in areas of the window


@dataclass(frozen=True)
class Look:
    """How windows are drawn.

    Attributes
    ----------
    frames : int
        Frames in a row, at most `LENGTH`.
    scatter : float
        Deviation of the logarithm of the first window's side. A click is looked at through windows of
        several sides, a factor of 1.6 apart; a box and a mask tell the size.
    strange : float
        Share of windows whose side has nothing to do with the object's size, as most of those have that a
        click is looked at through.
    """

    frames: int
    scatter: float = 0.15
    strange: float = 0.0


def draw(pool: Pool, count: int, look: Look, generator: torch.Generator) -> Samples:
    """Draw `count` windows from a pool."""
    device, frames = pool.device, look.frames
    pool.drawn += count

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator) * (high - low) + low

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=generator)

    clip = torch.randint(len(pool), (count,), device=device, generator=generator)
    # Frames: every one or every second, forwards or backwards.
    most = (LENGTH - 1) // max(frames - 1, 1)
    stride = torch.where(uniform(count) < 0.25, min(most, 2), 1)
    start = (uniform(count) * (LENGTH - (frames - 1) * stride)).long()
    order = start[:, None] + stride[:, None] * torch.arange(frames, device=device)
    order = torch.where(uniform(count, 1) < 0.5, order.flip(1), order)
    extents = pool.extents[clip[:, None], order].float()  # (B, T, IDS, 5)

    # The object to follow: any that is large enough, rather one that ends on the way.
    area = extents[..., 0]
    ends = (area[:, -1] < 1).float()
    weight = (area[:, 0] >= _LEAST) * (1 + 5 * ends * (uniform(count, 1) < 0.5))
    empty = weight.sum(1) == 0
    weight[:, 0] += empty  # an empty frame: a window somewhere, of which nothing is asked below
    target = torch.multinomial(weight, 1, generator=generator)[:, 0]
    own = extents.gather(2, target[:, None, None, None].expand(-1, frames, 1, 5))[:, :, 0]  # (B, T, 5)
    places = _follow(own, look, uniform, normal, empty)

    # Turn and mirror the clip: q is a place in the window, p = middle + side * turn @ q one in the clip.
    turn = _turns(device)[torch.randint(8, (count,), device=device, generator=generator)]
    cell = (torch.arange(SIZE, device=device) + 0.5) / SIZE - 0.5
    q = torch.stack(torch.meshgrid(cell, cell, indexing="ij"), dim=-1).flatten(0, 1)  # (S * S, 2) in (y, x)
    moved = torch.einsum("bij,nj->bni", turn, q)
    p = places[:, :, None, :2] + places[:, :, None, 2:] * moved[:, None]  # (B, T, S * S, 2)
    grid = (p.flip(-1) * 2 / SIZE - 1).unflatten(2, (SIZE, SIZE)).flatten(0, 1)
    raw = pool.images[clip[:, None], order].flatten(0, 1)[:, None].float() / 255
    seen = F.grid_sample(raw, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    ids = pool.labels[clip[:, None], order].flatten(0, 1)[:, None].float()
    found = F.grid_sample(ids, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    images = _filtered(seen[:, 0].unflatten(0, (count, frames)), uniform, normal)
    images = _contrast(images, uniform, normal)
    images = images * (grid.abs().amax(-1) <= 1).unflatten(0, (count, frames))  # black outside the frame
    labels = found[:, 0].unflatten(0, (count, frames)).round().to(torch.uint8)

    # The others that are asked for: any that shows on the first frame.
    shown = torch.zeros(count, IDS, device=device)
    first = labels[:, 0, ::2, ::2].flatten(1).long()
    shown.scatter_add_(1, first, torch.ones_like(first, dtype=torch.float32))
    weight = (shown >= 12).float()
    weight[:, 0] = 0
    weight += 1e-6 * F.one_hot(target, IDS)
    others = torch.multinomial(weight, OBJECTS - 1, replacement=True, generator=generator)
    asked = torch.cat((target[:, None], others), dim=1)
    masks = labels[:, None] == asked[:, :, None, None, None]
    masks &= (asked > 0)[:, :, None, None, None]
    hidden = _hidden(extents, asked, places, masks)
    own_places = torch.cat((torch.einsum("bji,btj->bti", turn, places[..., :2]), places[..., 2:]), dim=-1)
    return Samples(images, labels, masks, own_places, hidden)


def _hidden(extents: Tensor, asked: Tensor, places: Tensor, masks: Tensor) -> Tensor:
    """Area (B, K, T) of the objects `asked` (B, K) outside of the windows, in areas of the window."""
    frames = places.shape[1]
    own = extents.gather(2, asked[:, None, :, None].expand(-1, frames, -1, 5)).transpose(1, 2)  # (B, K, T, 5)
    side = places[:, None, :, 2]
    first = places[:, None, :, :2] - side[..., None] / 2
    inside = (own[..., (1, 3)] >= first) & (own[..., (2, 4)] + 1 <= first + side[..., None])
    missed = own[..., 0] / side**2 - masks.float().mean((-2, -1))
    # An object that is whole has only seemed to lose area: its pixels were sampled.
    return torch.where(inside.all(-1), 0.0, missed.clamp(min=0.0))


def _follow(own: Tensor, look: Look, uniform: Any, normal: Any, empty: Tensor) -> Tensor:
    """Middle (y, x) and side of the window on each frame (B, T, 3), for an object of extents (B, T, 5)."""
    count, frames = own.shape[:2]
    there = own[..., 0] > 0
    middle = torch.stack((own[..., 1] + own[..., 2] + 1, own[..., 3] + own[..., 4] + 1), dim=-1) / 2
    extent = torch.maximum(own[..., 2] - own[..., 1], own[..., 4] - own[..., 3]) + 1
    size = torch.maximum(own[..., 0].sqrt(), 0.6 * extent).clamp(min=4)
    middle = torch.where(empty[:, None, None], SIZE / 2, middle)
    size = torch.where(empty[:, None], 40.0, size)
    side = WINDOW * size[:, 0] * torch.exp(look.scatter * normal(count))
    any_side = torch.exp(uniform(count, low=math.log(32), high=math.log(1.25 * SIZE)))
    side = torch.where(uniform(count) < look.strange, any_side, side.clamp(32, 1.25 * SIZE))
    # A window that is not quite where it was thought to be looks like an object that moves fast.
    wide = uniform(count, low=0.03, high=0.15)
    jitter = torch.where(uniform(count) < 0.35, wide, torch.full_like(wide, 0.015))
    informed = uniform(count) < 0.5  # how far the object moved was found out from the picture
    inside = uniform(count) < 0.7  # windows stay within the frame, as they do in frames larger than them
    places, last, size_last = [], middle[:, 0], size[:, 0]
    for t in range(frames):
        known = informed & there[:, t]
        centre = torch.where((known | (t == 0))[:, None], middle[:, t], last)
        centre = centre + jitter[:, None] * side[:, None] * normal(count, 2)
        bound = (side / 2).clamp(max=SIZE / 2)[:, None]
        kept = torch.minimum(torch.maximum(centre, bound), SIZE - bound)
        places.append(torch.cat((torch.where(inside[:, None], kept, centre), side[:, None]), dim=-1))
        last = torch.where(there[:, t, None], middle[:, t], last)
        size_last = torch.where(there[:, t], size[:, t], size_last)
        # The session's rule: a side that follows slowly, and grows where nothing was found.
        follows = side * (WINDOW * size_last / side).clamp(0.8, 1.25).sqrt()
        side = torch.where(there[:, t], follows, 1.1 * side).clamp(32, 1.25 * SIZE)
    return torch.stack(places, dim=1)


def _turns(device: torch.device) -> Tensor:
    """The eight turns and mirrorings of a square (8, 2, 2)."""
    out = []
    for k in range(4):
        s, c = [(0, 1), (1, 0), (0, -1), (-1, 0)][k]
        out += [[[c, -s], [s, c]], [[c, s], [s, -c]]]
    return torch.tensor(out, device=device, dtype=torch.float32)


def _filtered(images: Tensor, uniform: Any, normal: Any) -> Tensor:
    """Some clips through a small random filter, one for all of its frames: optics that no look has."""
    count = len(images)
    reach = torch.arange(-2, 3, device=images.device) ** 2
    kernel = normal(count, 1, 5, 5) * torch.exp(-(reach[:, None] + reach[None]) / 4)
    wide = 1 + int(uniform(1) * 3)
    turned = F.conv2d(images.transpose(0, 1), kernel, padding=2 * wide, dilation=wide, groups=count)
    turned = turned.transpose(0, 1)
    every = (1, 2, 3)
    turned = (turned - turned.mean(every, keepdim=True)) / turned.std(every, keepdim=True).clamp(min=1e-4)
    turned = turned * images.std(every, keepdim=True) + images.mean(every, keepdim=True)
    share = torch.where(uniform(count) < 0.2, uniform(count), 0)[:, None, None, None]
    return torch.lerp(images, turned, share).clamp(0, 1)


def _contrast(images: Tensor, uniform: Any, normal: Any) -> Tensor:
    """Contrast as a user or a percentile might set it, some more noise, and 8-bit steps."""
    count = len(images)

    def each(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    on = uniform(count) < 0.6
    low = torch.where(on, uniform(count, low=-0.1, high=0.15), 0)
    high = torch.where(on, uniform(count, low=0.55, high=1.3), 1)
    power = torch.where(on, torch.exp(0.25 * normal(count)), 1)
    amount = torch.where(uniform(count) < 0.25, 0.06 * uniform(count) ** 2, 0)
    images = images + each(amount) * normal(*images.shape)
    images = ((images - each(low)) / each(high - low)).clamp(0, 1)
    images = images.clamp(min=1e-4) ** each(power)
    flipped = uniform(count) < 0.06
    images = torch.where(each(flipped), 1 - images, images)
    return (images * 255).round() / 255


def carry(logits: Tensor, places: Tensor, t: int, objects: int) -> Tensor:
    """Logits (B * K, 1, h, w) of frame t - 1 as the window of frame t shows them."""
    old, new = places[:, t - 1], places[:, t]
    scale = new[:, 2] / old[:, 2]
    shift = (new[:, :2] - old[:, :2]) / old[:, 2:] * 2
    theta = torch.zeros(len(places), 2, 3, device=logits.device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift.flip(-1)
    theta = theta.repeat_interleave(objects, 0)
    bounded = logits.float().clamp(-32, 32) + 10
    with torch.autocast(logits.device.type, enabled=False):  # bfloat16 would lose a quarter of a cell
        grid = F.affine_grid(theta, list(logits.shape), align_corners=False)
        moved = F.grid_sample(bounded, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved - 10


def deep_point(region: Tensor, generator: torch.Generator | None = None, *, surely: bool = False) -> Tensor:
    """Indices (N,) of a pixel inside each region (N, S, S) of weights in 0..1, rather deep inside than not.

    Means over growing squares stand in for the distance to the border: they cost nothing on a GPU.
    """
    depth = region[:, None]
    total = torch.zeros_like(depth)
    for width in (3, 7, 15, 31):
        rows = F.avg_pool2d(depth, (width, 1), 1, (width // 2, 0))
        total = total + F.avg_pool2d(rows, (1, width), 1, (0, width // 2))
    score = (total[:, 0] * region).flatten(1)
    score = score / score.amax(1, keepdim=True).clamp(min=1e-6)
    if surely:
        return score.argmax(1)
    power = torch.rand(len(region), 1, device=region.device, generator=generator)
    power = torch.where(power < 0.3, 0.3, torch.where(power < 0.6, 4.0, 40.0))
    weight = score.clamp(min=0) ** power * (region.flatten(1) > 0.25)
    weight = weight + 1e-8
    return torch.multinomial(weight, 1, generator=generator)[:, 0]

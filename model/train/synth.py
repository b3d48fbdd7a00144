"""Procedural image stacks with labels, the only data that the embedded model is trained on.

A clip is made in three steps. A *scene* holds where every object is on every frame: motion, turning,
growth, division, leaving and returning. It is *rasterised* into plain buffers (which object, distance to its
border, texture that sticks to it). A *look* turns the buffers into an image of one modality, and an imaging
step adds blur, uneven light, bleaching, noise and debris. Most stacks through depth have no scene: solids are
placed in three dimensions and cut by planes. Many clips are rendered on coarse pixels and magnified, because
that is what a small object looks like through a window.

Only numpy and scipy, one core, some 65 ms for 8 frames of 256 x 256 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Clip:
    """A labelled clip.

    Attributes
    ----------
    images : float32 (T, H, W)
        In 0..1, mapped by percentiles of the whole clip.
    labels : uint16 (T, H, W)
        Object ids, constant over frames; 0 is background. Daughters of a division have new ids.
    mode : str
        One of `MODES`.
    """

    images: Array
    labels: Array
    mode: str


def make_clip(seed: int, size: int = 256, n_frames: int = 6, mode: str | None = None) -> Clip:
    """Make one clip, a pure function of its arguments.

    Parameters
    ----------
    seed : int
        Not negative.
    size : int
        Side of the square frames in pixels, at least 64.
    n_frames : int
        At least 1.
    mode : str, optional
        One of `MODES`; drawn by `MODE_WEIGHTS` if not given.
    """
    if seed < 0 or size < 64 or n_frames < 1:
        raise ValueError(f"seed {seed}, size {size}, n_frames {n_frames}: at least 0, 64 and 1 are needed")
    if mode is not None and mode not in MODES:
        raise ValueError(f"mode is {mode!r}; use one of {', '.join(MODES)}")
    for attempt in range(20):
        rng = np.random.Generator(np.random.PCG64([seed, size, n_frames, attempt]))
        drawn = MODES[int(rng.choice(len(MODES), p=_WEIGHTS))]  # drawn always: a given mode shifts no stream
        chosen = mode or drawn
        images, labels = _render(rng, size, n_frames, chosen)
        seen = [_biggest(frame) >= 30 for frame in labels]
        # Clips that empty themselves are worth a few, not a tenth.
        if seen[0] and (np.mean(seen) > 0.6 or rng.random() < 0.15):
            return Clip(images, labels, chosen)
    raise RuntimeError(f"seed {seed}, mode {chosen}: no object in view after 20 attempts")


def _biggest(frame: Array) -> int:
    """Pixels of the largest object of a label frame."""
    return int(np.bincount(frame.ravel(), minlength=2)[1:].max())


# ---------------------------------------------------------------------------------------------- scene


@dataclass
class _Scene:
    """State of K objects on T frames, in pixels of the working grid of side `n`."""

    n: int
    y: Array  # (T, K)
    x: Array
    r: Array  # radius of the circle of equal area, (T, K)
    angle: Array  # (T, K)
    aspect: Array  # (T, K) length over width
    coef: Array  # complex (T, K, M): Fourier coefficients of the outline from order 2
    alive: Array  # bool (T, K)
    gain: Array  # (T, K) brightness
    ids: Array  # (K,), 0 for an object that is drawn and not labelled
    rod: bool = False
    bend: Array = field(default_factory=lambda: np.zeros(0))
    pinch: Array = field(default_factory=lambda: np.zeros(0))  # (T, K) waist of a dividing rod, 0..1
    painter: bool = True  # later objects on top, or the deeper pixel wins (touching without overlap)
    camera: Array = field(default_factory=lambda: np.zeros((0, 2)))  # (T, 2) shift of the field
    warp: tuple[Array, Array] | None = None
    depth: Array | None = None  # (T, K) way of a tiling cell's centre from the plane, in pixels


def _loguniform(rng: Rng, low: float, high: float, size: Any = None) -> Any:
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def _smooth_walk(rng: Rng, n_frames: int, count: int, smooth: float = 0.7) -> Array:
    """Zero at frame 0, unit-size steps that keep their direction; (T, K)."""
    steps = rng.standard_normal((n_frames, count))
    for t in range(1, n_frames):
        steps[t] = smooth * steps[t - 1] + np.sqrt(1 - smooth**2) * steps[t]
    walk = np.cumsum(steps, axis=0)
    return walk - walk[:1]


def _place(
    rng: Rng, count: int, radius: Array, side: float, margin: float, touch: float, gap: float
) -> Array:
    """Centres of `count` objects; a share `touch` is put against an object that is already there."""
    centres = np.empty((count, 2))
    centres[0] = rng.uniform(0.25, 0.75, 2) * side
    for k in range(1, count):
        tries = rng.uniform(-margin, side + margin, (12, 2))
        if rng.random() < touch:
            other = rng.integers(0, k, 12)
            away = (radius[other] + radius[k]) * gap * rng.uniform(0.95, 1.15, 12)
            turn = rng.uniform(0, 2 * np.pi, 12)
            tries = centres[other] + away[:, None] * np.stack([np.sin(turn), np.cos(turn)], 1)
        reach = (radius[:k] + radius[k]) * gap
        free = (np.hypot(*(tries[:, None] - centres[None, :k]).transpose(2, 0, 1)) - reach).min(1)
        outside = np.maximum(-tries - margin, tries - side - margin).max(1)
        good = np.flatnonzero((free > -0.05 * radius[k]) & (outside < 0))
        centres[k] = tries[good[0]] if good.size else tries[np.argmax(free - np.maximum(outside, 0))]
    return centres


def _push_apart(y: Array, x: Array, r: Array, alive: Array, gap: float) -> None:
    """Move overlapping neighbours apart, in place, frame by frame."""
    for t in range(len(y)):
        for _ in range(3):
            dy, dx = y[t][:, None] - y[t][None], x[t][:, None] - x[t][None]
            dist = np.hypot(dy, dx) + 1e-3
            lap = np.maximum((r[t][:, None] + r[t][None]) * gap - dist, 0)
            lap *= alive[t][:, None] & alive[t][None]
            np.fill_diagonal(lap, 0)
            y[t:] += (0.35 * lap * dy / dist).sum(1)
            x[t:] += (0.35 * lap * dx / dist).sum(1)


# Object diameters a frame.
_SPEEDS = ((0.0, 0.04), (0.04, 0.2), (0.2, 0.5), (0.5, 1.3))


def _scene(
    rng: Rng,
    n: int,
    n_frames: int,
    diameter: float,
    count: int,
    *,
    spread: float = 0.2,
    rough: float = 0.08,
    aspect: tuple[float, float] = (1.0, 1.5),
    rod: bool = False,
    overlap: float = 0.3,
    touch: float = 0.4,
    divide: float = 0.06,
    speed: float | None = None,
    turn: float | None = None,
    bend: float = 0.0,
) -> _Scene:
    """Draw a scene of `count` objects of about `diameter` pixels; the rest are amounts of variety."""
    t, k = n_frames, count
    size = 0.5 * diameter * np.exp(spread * rng.standard_normal(k)).clip(0.5, 2.0)
    long = _loguniform(rng, *aspect, k) if aspect[1] > aspect[0] else np.full(k, aspect[0])
    painter = bool(rng.random() < overlap)
    gap = rng.uniform(0.6, 0.9) if painter else rng.uniform(0.85, 1.05)
    if rod:
        gap *= 0.75
    margin = 0.4 * diameter
    centre = _place(rng, k, size, n, margin, touch if rng.random() < 0.8 else 0.0, gap)
    if speed is None:
        low, high = _SPEEDS[rng.choice(4, p=[0.25, 0.38, 0.26, 0.11])]
        speed = rng.uniform(low, high)
    step = speed * diameter
    heading = rng.uniform(0, 2 * np.pi)
    common = rng.choice([0.0, 0.3, 0.8], p=[0.5, 0.25, 0.25])
    drift = rng.standard_normal((2, k)) * 0.5
    times = np.arange(t)[:, None]
    y = centre[:, 0] + step * (
        common * np.sin(heading) * times
        + (1 - 0.7 * common) * (0.6 * drift[0] * times + 0.5 * _smooth_walk(rng, t, k))
    )
    x = centre[:, 1] + step * (
        common * np.cos(heading) * times
        + (1 - 0.7 * common) * (0.6 * drift[1] * times + 0.5 * _smooth_walk(rng, t, k))
    )
    camera = np.zeros((t, 2))
    if rng.random() < 0.3:  # stage drift, jitter, and sometimes a jump that takes objects out and back
        camera = _smooth_walk(rng, t, 2) * rng.uniform(0, 0.06) * n + rng.normal(0, 0.008 * n, (t, 2))
        if rng.random() < 0.3 and t > 2:
            camera[rng.integers(1, t - 1)] += rng.normal(0, 0.12 * n, 2)
        camera -= camera[0]
    spin = turn if turn is not None else rng.choice([0.03, 0.12, 0.35], p=[0.4, 0.4, 0.2])
    angle = rng.uniform(0, 2 * np.pi, k) + spin * _smooth_walk(rng, t, k)
    growth = np.exp(rng.normal(0, 0.02) * times + rng.choice([0.01, 0.04]) * _smooth_walk(rng, t, k))
    r = size * growth.clip(0.6, 1.7)
    orders = np.arange(2, 8)
    amp = rough * rng.uniform(0.3, 1.7, (1, k, 1)) * (2.0 / orders) ** rng.uniform(0.8, 1.6)
    phase = rng.uniform(0, 2 * np.pi, (1, k, 6)) + rng.choice([0.05, 0.25, 0.6]) * _smooth_walk(
        rng, t, k * 6
    ).reshape(t, k, 6)
    weight = np.abs(rng.standard_normal((1, k, 6)))
    coef = (amp * weight * np.exp(1j * phase)).astype(np.complex64)
    aspects = np.exp(np.log(long) + rng.choice([0.02, 0.08]) * _smooth_walk(rng, t, k)).clip(1.0, 12.0)
    alive = np.ones((t, k), bool)
    gain = _loguniform(rng, rng.choice([0.25, 0.5, 0.8]), 1.0, (1, k)) * np.exp(
        rng.choice([0.0, 0.05, 0.2], p=[0.5, 0.35, 0.15]) * rng.standard_normal((t, k))
    )
    gain[:, 0] = gain[:, 0].clip(0.45)
    for j in np.flatnonzero(rng.random(k) < (0.05 if rng.random() < 0.5 else 0.0)):
        if j and t > 2:  # gone for a while, then back
            start = rng.integers(1, t - 1)
            alive[start : start + rng.integers(1, 3), j] = False
    scene = _Scene(
        n,
        y,
        x,
        r,
        angle,
        aspects,
        coef,
        alive,
        gain,
        np.arange(1, k + 1),
        rod,
        rng.normal(0, bend, k),
        np.zeros((t, k)),
        painter,
        camera,
    )
    if t > 2 and divide and rng.random() < 0.5:
        _divide(rng, scene, np.flatnonzero(rng.random(k) < divide * 2)[:8])
    if not painter:
        _push_apart(scene.y, scene.x, scene.r, scene.alive, gap)
    scene.y += camera[:, :1]
    scene.x += camera[:, 1:]
    if rng.random() < 0.6:
        scene.warp = _warp(rng, n, diameter)
    return scene


def _warp(rng: Rng, n: int, diameter: float, strength: float = 1.0) -> tuple[Array, Array]:
    """A fixed elastic field: makes outlines other than star-shaped, and deforms what moves through it."""
    scale = diameter * rng.uniform(0.7, 1.6)
    amount = strength * diameter * rng.uniform(0.02, 0.09)
    return amount * _noise(rng, n, n, scale), amount * _noise(rng, n, n, scale)


def _divide(rng: Rng, scene: _Scene, parents: Array) -> None:
    """Let `parents` divide: each id ends, two new objects begin."""
    t = len(scene.y)
    bright = rng.random() < 0.5
    for j in parents:
        when = int(rng.integers(1, t))
        if not scene.alive[:, j].all():
            continue
        before = slice(max(when - 2, 0), when)
        ramp = np.linspace(0.4, 1.0, when - before.start)
        scene.aspect[before, j] *= 1 + (0.15 if scene.rod else 0.35) * ramp
        scene.pinch[before, j] = 0.7 * ramp if scene.rod else 0.0
        if bright:  # condensed chromosomes
            scene.gain[before, j] *= 1 + 0.8 * ramp
            scene.r[before, j] *= 1 - 0.2 * ramp
        scene.alive[when:, j] = False
        axis = scene.angle[when, j]
        later = np.arange(t - when)
        for sign in (-1.0, 1.0):
            radius = scene.r[:, j] * 0.72
            away = np.zeros(t)
            half = np.sqrt(scene.aspect[when, j]) * scene.r[when, j] * (0.52 if scene.rod else 0.62)
            away[when:] = sign * (half + 0.12 * radius[when:] * later)
            columns = {
                "y": scene.y[:, j] + away * np.sin(axis),
                "x": scene.x[:, j] + away * np.cos(axis),
                "r": radius,
                "angle": scene.angle[:, j] + 0.1 * rng.standard_normal(),
                "aspect": np.maximum(scene.aspect[when, j] * (0.5 if scene.rod else 0.75), 1.0) * np.ones(t),
                "gain": scene.gain[:, j],
                "alive": np.arange(t) >= when,
                "pinch": np.zeros(t),
            }
            for name, column in columns.items():
                setattr(scene, name, np.concatenate([getattr(scene, name), column[:, None]], axis=1))
            outline = scene.coef[:, j : j + 1] * rng.uniform(0.5, 1.2)
            scene.coef = np.concatenate([scene.coef, outline], axis=1)
            scene.ids = np.append(scene.ids, scene.ids.max() + 1)
            scene.bend = np.append(scene.bend, scene.bend[j])


# ------------------------------------------------------------------------------------------ rasteriser


@dataclass
class _Buffers:
    """What the looks draw from, each (T, n, n); `index` is a column of the scene, -1 outside objects."""

    index: Array
    depth: Array  # pixels to the border, positive inside, about -`reach` far outside
    rho: Array  # 0 in the middle of the object, 1 on its border, 2 far outside
    u: Array  # position along and across the object, in units of its radius
    v: Array
    tex: Array  # texture of mean 0, deviation 1 that moves with the object

    def gain(self, scene: _Scene) -> Array:
        return _look_up(scene.gain, self.index)

    def cover(self, soft: float = 1.0) -> Array:
        return np.clip(self.depth / soft + 0.5, 0, 1)


def _look_up(values: Array, index: Array) -> Array:
    """`values` (T, K) of the object on each pixel; an outside pixel takes 0."""
    padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1).astype(np.float32)
    return np.stack([row[i] for row, i in zip(padded, index, strict=True)])


def _rasterise(scene: _Scene, pool: Array, rng: Rng, reach: float = 2.0) -> _Buffers:
    t, k = scene.y.shape
    n = scene.n
    f32 = np.float32
    buf = _Buffers(
        np.full((t, n, n), -1, np.int32),
        np.full((t, n, n), -reach - 1, f32),
        np.full((t, n, n), 2, f32),
        *(np.zeros((t, n, n), f32) for _ in range(3)),
    )
    offset = rng.integers(0, pool.shape[-1], (k, 2))
    orders = np.arange(2, 2 + scene.coef.shape[2])
    turns = np.linspace(-np.pi, np.pi, 129)[:, None]
    waves = np.exp(1j * turns * orders).astype(np.complex64)
    outline = 1 + np.einsum("am,tkm->tka", waves, scene.coef).real.astype(f32)
    outline /= np.sqrt((outline[..., :-1] ** 2).mean(-1, keepdims=True))
    outline = outline.clip(0.35, 1.9)
    grid = np.arange(n, dtype=f32)
    order = np.r_[1:k, 0]  # the first object, which is surely in view, is drawn last
    for f in range(t):
        for j in order:
            if scene.alive[f, j]:
                _draw(scene, buf, f, int(j), grid, outline[f, j], pool, offset[j], reach)
    return buf


def _draw(
    scene: _Scene,
    buf: _Buffers,
    f: int,
    j: int,
    grid: Array,
    outline: Array,
    pool: Array,
    offset: Array,
    reach: float,
) -> None:
    """Draw object `j` on frame `f` inside its own box."""
    y, x, r, long = scene.y[f, j], scene.x[f, j], scene.r[f, j], scene.aspect[f, j]
    length, width = np.sqrt(long), 1 / np.sqrt(long)
    far = r * length * (1.1 if scene.rod else outline.max()) + reach + 1
    if scene.warp is not None:
        far += 0.1 * r + 2
    n = scene.n
    y0, y1 = max(int(y - far), 0), min(int(y + far) + 2, n)
    x0, x1 = max(int(x - far), 0), min(int(x + far) + 2, n)
    if y0 >= y1 or x0 >= x1:
        return
    box = (f, slice(y0, y1), slice(x0, x1))
    dy: Array = (grid[y0:y1] - np.float32(y))[:, None]
    dx: Array = (grid[x0:x1] - np.float32(x))[None, :]
    if scene.warp is not None:
        dy = dy + scene.warp[0][box[1:]]
        dx = dx + scene.warp[1][box[1:]]
    s, c = np.float32(np.sin(scene.angle[f, j]) / r), np.float32(np.cos(scene.angle[f, j]) / r)
    u, v = c * dx + s * dy, c * dy - s * dx
    if scene.rod:
        half = np.float32(length - width * 0.9)
        across = v + np.float32(scene.bend[j]) * (u * u - 0.3)
        waist = np.float32(width * 0.9)
        if scene.pinch[f, j] > 0:
            waist = waist * (1 - np.float32(0.6 * scene.pinch[f, j]) * np.exp(-((u / (0.25 * length)) ** 2)))
        inner = waist - np.hypot(np.maximum(np.abs(u) - half, 0), across)
        depth = inner * np.float32(r)
        rho = 1 - inner / np.float32(width * 0.9)
    else:
        a, b = u * np.float32(1 / length), v * np.float32(1 / width)
        rho = np.sqrt(a * a + b * b)
        at = (np.arctan2(b, a) * np.float32(64 / np.pi) + np.float32(64)).astype(np.int32)
        edge = outline[at]
        rho /= edge
        # The way to the border along the ray, corrected for the slope of an ellipse.
        depth = (
            (1 - rho)
            * edge
            * np.float32(r * width)
            * (
                1
                + np.float32(length / width - 1)
                * a
                * a
                / (a * a + b * b + np.float32(1e-6))
                * np.float32(0.5)
            )
        )
    old = buf.depth[box]
    win = depth > old if not scene.painter else (depth > 0) | (depth > old)
    np.copyto(old, depth, where=win)
    np.copyto(buf.rho[box], np.clip(rho, 0, 2), where=win)
    inside = win & (depth > 0)
    np.copyto(buf.index[box], np.int32(j), where=inside)
    np.copyto(buf.u[box], u, where=win)
    np.copyto(buf.v[box], v, where=win)
    m = pool.shape[-1] - 1
    rr = np.float32(r)
    iy, ix = (v * rr).astype(np.int32) + offset[0], (u * rr).astype(np.int32) + offset[1]
    np.copyto(buf.tex[box], pool[f, iy & m, ix & m], where=win)


def _tile(scene: _Scene, pool: Array, rng: Rng) -> _Buffers:
    """Cells that tile the plane: each pixel belongs to the nearest centre, `depth` is the way to the wall."""
    t, k = scene.y.shape
    n = scene.n
    f32 = np.float32
    index = np.full((t, n, n), -1, np.int32)
    first, second = np.full((t, n, n), 1e6, f32), np.full((t, n, n), 1e6, f32)
    offset = rng.integers(0, pool.shape[-1], (k, 2))
    grid = np.arange(n, dtype=f32)
    reach = 1.45
    for f in range(t):
        for j in range(k):
            if not scene.alive[f, j]:
                continue
            y, x, r = scene.y[f, j], scene.x[f, j], scene.r[f, j]
            away = 0.0 if scene.depth is None else float(scene.depth[f, j])
            if abs(away) >= reach * r:
                continue
            far = np.sqrt((reach * r) ** 2 - away**2) * np.sqrt(scene.aspect[f, j]) + 1
            y0, y1 = max(int(y - far), 0), min(int(y + far) + 2, n)
            x0, x1 = max(int(x - far), 0), min(int(x + far) + 2, n)
            if y0 >= y1 or x0 >= x1:
                continue
            box = (f, slice(y0, y1), slice(x0, x1))
            dy: Array = (grid[y0:y1] - f32(y))[:, None]
            dx: Array = (grid[x0:x1] - f32(x))[None, :]
            if scene.warp is not None:
                dy, dx = dy + scene.warp[0][box[1:]], dx + scene.warp[1][box[1:]]
            s, c = f32(np.sin(scene.angle[f, j])), f32(np.cos(scene.angle[f, j]))
            u, v = c * dx + s * dy, c * dy - s * dx
            q = f32(np.sqrt(scene.aspect[f, j]))
            d = np.sqrt((u / q) ** 2 + (v * q) ** 2 + f32(away**2)) - f32(r)
            near = d < first[box]
            second[box] = np.where(near, first[box], np.minimum(second[box], d))
            np.copyto(first[box], d, where=near)
            np.copyto(index[box], np.int32(j), where=near)
    mean = f32(scene.r.mean())
    edge = f32(reach - 1.15) * mean
    depth = np.minimum(0.5 * (second - first), edge - first)
    index[depth <= 0] = -1
    tex = np.empty((t, n, n), f32)
    m = pool.shape[-1] - 1
    rows, cols = np.indices((n, n), np.int32)
    for f in range(t):
        i = index[f]
        oy = (offset[:, 0] - np.rint(scene.y[f]).astype(int))[i]
        ox = (offset[:, 1] - np.rint(scene.x[f]).astype(int))[i]
        tex[f] = pool[f, (rows + oy) & m, (cols + ox) & m]
    rho = np.clip(1 + first / mean, 0, 2)
    return _Buffers(index, depth, rho, np.zeros_like(rho), np.zeros_like(rho), tex)


# --------------------------------------------------------------------------------- noise, blur, resize


@lru_cache(maxsize=256)
def _resampler(n_out: int, n_in: int, kind: str) -> Array:
    """Matrix (n_out, n_in) that resamples a line: "linear" or "cubic" (smooth B-spline), ends repeated."""
    at = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    d = at[:, None] - np.arange(-3, n_in + 3)[None]
    a = np.abs(d)
    if kind == "linear":
        w = np.maximum(1 - a, 0)
    else:
        w = np.where(a < 1, 2 / 3 - a**2 + a**3 / 2, np.maximum(2 - a, 0) ** 3 / 6)
    full = w[:, 3:-3].copy()
    full[:, 0] += w[:, :3].sum(1)
    full[:, -1] += w[:, -3:].sum(1)
    return (full / full.sum(1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=64)
def _blurrer(n: int, sigma: float) -> Array:
    d = np.arange(n)[:, None] - np.arange(n)[None]
    g = np.exp(-0.5 * (d / sigma) ** 2)
    return (g / g.sum(1, keepdims=True)).astype(np.float32)


def _blur(stack: Array, sigma: float) -> Array:
    """Gaussian blur of (..., H, W); one price for all widths."""
    if sigma < 0.2:
        return stack
    sigma = float(np.round(sigma, 1)) if sigma < 3 else float(np.round(sigma * 2) / 2)
    h, w = stack.shape[-2:]
    if sigma < 1.6:
        out = ndimage.gaussian_filter1d(stack, sigma, axis=-1, truncate=3.0, mode="nearest")
        return ndimage.gaussian_filter1d(out, sigma, axis=-2, truncate=3.0, mode="nearest")
    return _blurrer(h, sigma) @ stack.astype(np.float32, copy=False) @ _blurrer(w, sigma).T


def _noise(rng: Rng, h: int, w: int, scale: float, stretch: float = 1.0) -> Array:
    """Smooth field (h, w) of mean 0 and deviation about 1; `scale` is the size of its blobs in pixels."""
    gh, gw = max(int(h / scale) + 2, 3), max(int(w / (scale * stretch)) + 2, 3)
    gh, gw = min(gh, h), min(gw, w)
    grid = rng.standard_normal((gh, gw), dtype=np.float32)
    out = _resampler(h, gh, "cubic") @ grid @ _resampler(w, gw, "cubic").T
    return (out - out.mean()) / (out.std() + 1e-6)


def _fractal(rng: Rng, h: int, w: int, coarse: float, fine: float, fall: float = 0.6) -> Array:
    """Sum of octaves from `coarse` to `fine` pixels, deviation 1."""
    out, amount, scale = np.zeros((h, w), np.float32), 1.0, coarse
    while scale >= fine:
        out += amount * _noise(rng, h, w, scale)
        amount *= fall
        scale /= 2
    return out / (out.std() + 1e-6)


def _moving(scene: _Scene, make: Callable[[int], Array], change: float = 0.0) -> Array:
    """A background (T, n, n) that follows the camera, and slowly becomes another one by `change` a frame."""
    t, n = len(scene.camera), scene.n
    low = np.floor(scene.camera.min(0)).astype(int)
    pad = int(np.ceil((scene.camera.max(0) - low).max())) + 1
    pad = min(pad, n)
    fields = [make(n + pad)] + ([make(n + pad)] if change > 0 else [])
    out = np.empty((t, n, n), np.float32)
    for f in range(t):
        dy, dx = np.clip(np.rint(low + pad - scene.camera[f]).astype(int), 0, pad)
        cut = (slice(dy, dy + n), slice(dx, dx + n))
        if len(fields) == 1:
            out[f] = fields[0][cut]
        else:
            out[f] = np.cos(change * f) * fields[0][cut] + np.sin(change * f) * fields[1][cut]
    return out


def _pool(rng: Rng, grain: float, frames: int, change: float | None = None) -> Array:
    """Periodic textures (T, 128, 128) of blobs of `grain` pixels, mean 0 and deviation 1.

    From frame to frame the texture turns into another one by the angle `change`, as it does where a frame is
    another plane of the object.
    """
    side = 128
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.exp(-0.5 * (2 * np.pi * f * grain * 0.5) ** 2)
    if rng.random() < 0.4:
        spectrum *= np.minimum(f * grain * 3, 1)  # no coarse part: grains of one size
    if change is None:
        change = rng.choice([0.0, 0.08, 0.3], p=[0.5, 0.3, 0.2])
    kind = rng.integers(0, 4)
    count = 1 if change == 0 else 2
    out = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, side, side))) * spectrum, (side, side))
    out = ((out - out.mean()) / (out.std() + 1e-9)).astype(np.float32)
    if count == 2:
        angle = np.float32(change) * np.arange(frames, dtype=np.float32)[:, None, None]
        out = np.cos(angle) * out[:1] + np.sin(angle) * out[1:]
    if kind == 1:  # bright spots
        out = np.maximum(out - 0.8, 0)
    elif kind == 2:  # dark holes
        out = -np.maximum(out - 1.0, 0)
    elif kind == 3:  # network
        out = -np.abs(out)
    out = ((out - out.mean()) / (out.std() + np.float32(1e-9))).clip(-2.5, 4)
    return np.broadcast_to(out, (frames, side, side))


# ------------------------------------------------------------------------------------------------ looks
# Each look draws its scene and returns (image, labels as scene columns or -1, scene).

_Drawn = tuple[Array, Array, _Scene]


_FLAT = np.zeros((1 << 12, 1, 1), np.float32)  # a pool without texture, for any number of frames


def _depth_change(rng: Rng) -> float:
    """Change of texture between frames that are planes of a volume."""
    return float(rng.choice([0.05, 0.25, 0.7]))


def _diameter(rng: Rng, n: int, low: float = 8, high: float = 150) -> float:
    """Object size in working pixels; sizes are meant at 256 px, most are 40 to 95."""
    if n < 160:
        low = max(low, 6.5 * 256 / n)
    part = rng.random()
    a, b = (40.0, 95.0) if part < 0.62 else ((8.0, 40.0) if part < 0.82 else (95.0, 150.0))
    a, b = np.clip([a, b], low, high)
    return float(_loguniform(rng, a, max(b, a * 1.01)) * n / 256)


def _count(rng: Rng, n: int, diameter: float, low: float = 0.04, high: float = 0.6, most: int = 60) -> int:
    fill = rng.uniform(low, high)
    return int(np.clip(fill * ((n + 0.6 * diameter) / diameter) ** 2 * 1.2, 1 + (rng.random() < 0.8), most))


def _dome(buf: _Buffers, power: float) -> Array:
    return np.clip(1 - np.clip(buf.rho, 0, 1) ** 2, 0, 1) ** np.float32(power)


def _fluo(rng: Rng, n: int, t: int, small: bool = False) -> _Drawn:
    d = _diameter(rng, n, 8, 38) if small else _diameter(rng, n)
    count = _count(rng, n, d, 0.15 if small else 0.04, 0.7, 70 if small else 60)
    scene = _scene(
        rng, n, t, d, count, rough=rng.choice([0.02, 0.05, 0.1]), aspect=(1.0, rng.uniform(1.1, 2.2))
    )
    buf = _rasterise(scene, _pool(rng, max(d * rng.uniform(0.04, 0.25), 1.0), t), rng)
    return _glow(rng, scene, buf, d), buf.index, scene


def _glow(rng: Rng, scene: _Scene, buf: _Buffers, d: float) -> Array:
    """Fluorescent objects on a dark field."""
    n = scene.n
    body = buf.cover(rng.choice([1.0, 1.0, 2.0, 0.1 * d + 1])) * (
        1 + rng.choice([0.05, 0.2, 0.45]) * buf.tex
    ).clip(0.05)
    shape = rng.random()
    if shape < 0.45:
        body *= 0.25 + _dome(buf, rng.uniform(0.3, 1.0))
    elif shape < 0.6:  # stained rim
        body *= 0.3 + np.exp(-((buf.depth / max(0.1 * d, 1.2)) ** 2))
    scene.gain /= scene.gain.max()
    image = body * _spread_gain(buf.gain(scene), buf)
    haze = rng.choice([0.0, 0.15, 0.5], p=[0.4, 0.35, 0.25])
    if haze:
        image = image + haze * _blur(image, rng.uniform(0.15, 0.5) * d + 1)
    image += _loguniform(rng, 0.01, 0.25)
    if rng.random() < 0.5:
        image += rng.uniform(0, 0.12) * _moving(scene, lambda m: _fractal(rng, m, m, n / 3, n / 24))
    return image


def _spread_gain(gain: Array, buf: _Buffers) -> Array:
    """Give the half-covered pixels just outside an object its brightness."""
    rim = (buf.index < 0) & (buf.depth > -1)
    if not rim.any():
        return gain
    grown = ndimage.grey_dilation(gain, size=(1, 3, 3))
    return np.where(rim, grown, gain)


def _cyto(rng: Rng, n: int, t: int) -> _Drawn:
    d = _diameter(rng, n, 25, 150)
    scene = _scene(
        rng,
        n,
        t,
        d,
        _count(rng, n, d, 0.08, 0.7, 40),
        rough=rng.uniform(0.06, 0.24),
        aspect=(1.0, rng.uniform(1.2, 3.0)),
        overlap=0.25,
    )
    buf = _rasterise(scene, _pool(rng, max(d * rng.uniform(0.03, 0.12), 1.0), t), rng)
    body = buf.cover(rng.choice([1.0, 2.5])) * (1 + rng.uniform(0.1, 0.5) * buf.tex).clip(0.05)
    body *= rng.uniform(0.15, 0.6) + _dome(buf, rng.uniform(0.5, 1.5))
    core = np.hypot(buf.u, buf.v) < rng.uniform(0.25, 0.5)
    core_gain = rng.choice([0.35, 0.7, 1.5, 2.2])
    body *= np.where(core & (buf.index >= 0), core_gain, 1.0).astype(np.float32)
    image = body * _spread_gain(buf.gain(scene), buf)
    image += rng.uniform(0.02, 0.25) + rng.uniform(0, 0.3) * _blur(image, 0.3 * d + 1)
    if abs(np.log(core_gain)) > 0.7 and rng.random() < 0.35:  # the nucleus is the object here, not its cell
        return image, np.where(core, buf.index, -1), scene
    return image, buf.index, scene


def _zstack(rng: Rng, n: int, t: int) -> _Drawn:
    """Ellipsoids cut by planes: they grow and shrink, and glow when just out of the plane."""
    if rng.random() < 0.75:
        return _nuclei3(rng, n, t)
    d = _diameter(rng, n, 14, 110)
    scene = _scene(
        rng,
        n,
        t,
        d,
        _count(rng, n, d, 0.15, rng.choice([1.0, 2.2]), 80),
        rough=rng.choice([0.02, 0.06]),
        divide=0,
        speed=rng.choice([0.01, 0.05, 0.12]),
        turn=0.05,
        overlap=0.15,
    )
    k = scene.y.shape[1]
    reach = _loguniform(rng, 2.0, 14.0) * np.exp(0.2 * rng.standard_normal(k))  # half height in frames
    middle = rng.uniform(-0.5 * reach.mean(), t - 1 + 0.5 * reach.mean(), k)
    middle[0] = rng.uniform(-0.5, 0.5) * reach[0]
    q = np.abs(np.arange(t)[:, None] - middle) / reach
    full = scene.r.copy()
    scene.r = full * np.sqrt(np.clip(1 - q**2, 0, 1)) + 1e-3
    lean = rng.choice([0.0, 0.15, 0.4]) * rng.standard_normal((2, k)) * full[:1]  # not upright: sections move
    along = (np.arange(t)[:, None] - middle) / reach
    scene.y += along.clip(-1.5, 1.5) * lean[0]
    scene.x += along.clip(-1.5, 1.5) * lean[1]
    scene.alive &= (q < 0.97) & (scene.r > 1.5)
    buf = _rasterise(scene, _pool(rng, max(d * rng.uniform(0.05, 0.2), 1.0), t, _depth_change(rng)), rng)
    image = _glow(rng, scene, buf, d)
    ghost = _Scene(
        **{
            **{s: getattr(scene, s) for s in scene.__dataclass_fields__},
            "r": full * 0.8,
            "alive": (q >= 0.9) & (q < rng.uniform(1.2, 2.2)),
            "painter": False,
        }
    )
    if ghost.alive.any():
        out = _rasterise(ghost, _FLAT, rng)
        weak = ghost.gain * np.exp(-1.5 * np.maximum(q - 0.9, 0)) * rng.uniform(0.15, 0.6)
        image = image + _blur(out.cover() * _look_up(weak, out.index), d * rng.uniform(0.1, 0.25) + 1)
    fade = np.exp(-rng.choice([0.0, 0.05, 0.15]) * np.arange(t))[:: rng.choice([-1, 1])]
    return image * fade[:, None, None].astype(np.float32), buf.index, scene


def _histology(rng: Rng, n: int, t: int) -> _Drawn:
    d = _diameter(rng, n, 10, 110)
    scene = _scene(
        rng,
        n,
        t,
        d,
        _count(rng, n, d, 0.1, 0.7),
        rough=rng.choice([0.04, 0.1]),
        spread=0.3,
        aspect=(1.0, rng.uniform(1.3, 2.6)),
        divide=0,
        speed=rng.choice([0.0, 0.03, 0.1]),
    )
    buf = _rasterise(scene, _pool(rng, max(d * rng.uniform(0.05, 0.2), 1.0), t), rng)
    stretch = rng.uniform(1.0, 4.0)
    tissue = _moving(
        scene,
        lambda m: 0.6 * _noise(rng, m, m, d * 0.3 + 1, stretch) + _fractal(rng, m, m, 2 * d, 1.5, 0.75),
        rng.choice([0.0, 0.15]),
    )
    image = rng.uniform(0.6, 0.8) + rng.uniform(0.04, 0.12) * tissue
    if rng.random() < 0.5:  # lumen and fat: white holes
        holes = _moving(scene, lambda m: _noise(rng, m, m, rng.uniform(1.0, 2.5) * d))
        image = np.where(holes > rng.uniform(0.9, 1.6), np.float32(0.95), image)
    ink = rng.uniform(0.2, 0.55) * (1 - rng.choice([0.2, 0.6]) * (1 - np.clip(buf.gain(scene), 0, 1)))
    body = ink - rng.uniform(0.02, 0.15) * buf.tex
    body -= rng.uniform(0, 0.15) * np.exp(-((buf.depth / max(0.08 * d, 1)) ** 2))
    if rng.random() < 0.3:
        body += rng.uniform(0.1, 0.3) * _dome(buf, 1)  # pale, vesicular nuclei
    cover = (buf.cover(rng.choice([1.0, 2.0])) * (buf.index >= 0)).astype(np.float32)
    return image * (1 - cover) + cover * np.minimum(body, image + 0.1), buf.index, scene


def _phase(rng: Rng, n: int, t: int) -> _Drawn:
    """Phase contrast: flat or dark bodies with bright halos, shade-off inside."""
    if rng.random() < 0.75:
        return _adherent_phase(rng, n, t)
    d = _diameter(rng, n, 14, 150)
    scene = _scene(
        rng,
        n,
        t,
        d,
        _count(rng, n, d, 0.04, rng.choice([0.6, 1.0])),
        rough=rng.uniform(0.04, 0.3),
        aspect=(1.0, rng.uniform(1.2, 4.5)),
        overlap=0.15,
    )
    buf = _rasterise(scene, _pool(rng, max(d * rng.uniform(0.04, 0.12), 1.0), t), rng)
    cover = buf.cover()
    wide = max(d * rng.uniform(0.05, 0.15), 0.8)
    halo = _blur(cover, wide)
    weight = np.clip(0.4 + 0.6 * buf.gain(scene), 0, 1.3)
    image = np.full_like(cover, 0.5)
    flat = rng.random() < 0.35  # spread cells: hardly a halo, told by the grains around their nuclei
    image += (rng.uniform(0.0, 0.15) if flat else rng.uniform(0.1, 0.5)) * (halo * (1 - cover)) * 2
    image += (rng.uniform(-0.1, 0.1) if flat else rng.choice([-0.35, -0.2, -0.05, 0.08])) * cover * weight
    image -= rng.uniform(0, 0.15 if flat else 0.5) * np.clip(cover - halo, 0, 1)  # dark rim
    image += cover * rng.uniform(0.03, 0.16) * buf.tex * (0.4 + 1.2 * _dome(buf, 0.7) if flat else 1.0)
    if rng.random() < 0.5:
        core = np.exp(-((np.hypot(buf.u, buf.v) / rng.uniform(0.3, 0.5)) ** 4))
        image += core * cover * rng.uniform(-0.12, 0.12)
    if rng.random() < 0.35:  # some rounded, bright cells
        bright = _look_up((rng.random(scene.y.shape[1]) < 0.3)[None] * np.ones((t, 1)), buf.index)
        image += bright * cover * rng.uniform(0.2, 0.6) * _dome(buf, 0.7)
    image += rng.uniform(0.0, 0.04) * _moving(scene, lambda m: _fractal(rng, m, m, d, 2.0))
    return image, buf.index, scene


def _dic(rng: Rng, n: int, t: int) -> _Drawn:
    """Differential interference: the slope of a height map along one direction."""
    d = _diameter(rng, n, 14, 150)
    if rng.random() < 0.4:
        thick, ball, buf, scene = _adherent(rng, n, t, d)
        return (
            _slope(rng, scene, _blur(rng.uniform(1.5, 3.0) * thick + ball, rng.uniform(0.5, 1.2)), d),
            buf.index,
            scene,
        )
    scene = _scene(
        rng,
        n,
        t,
        d,
        _count(rng, n, d),
        rough=rng.uniform(0.03, 0.2),
        aspect=(1.0, rng.uniform(1.1, 2.5)),
        overlap=0.2,
    )
    buf = _rasterise(scene, _pool(rng, max(d * rng.uniform(0.04, 0.15), 1.2), t), rng)
    height = buf.cover() * (0.3 + _dome(buf, rng.uniform(0.4, 1.0))) * np.clip(buf.gain(scene), 0.4, 1)
    height += buf.cover() * rng.uniform(0.02, 0.12) * buf.tex
    core = np.exp(-((np.hypot(buf.u, buf.v) / rng.uniform(0.25, 0.45)) ** 4))
    height += rng.uniform(0, 0.3) * core * buf.cover()
    height = _blur(height, rng.uniform(0.5, 1.5))
    return _slope(rng, scene, height, d), buf.index, scene


def _slope(rng: Rng, scene: _Scene, height: Array, d: float) -> Array:
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.sin(turn) * np.gradient(height, axis=1) + np.cos(turn) * np.gradient(height, axis=2)
    image = slope * np.float32(min(d, 40) * 0.1) + rng.choice([0.0, 0.1]) * height
    image += rng.uniform(0.005, 0.05) * _moving(scene, lambda m: _fractal(rng, m, m, d, 1.5, 0.8))
    return image


def _yeast(rng: Rng, n: int, t: int) -> _Drawn:
    """Brightfield: rings whose sign and width depend on focus, little contrast inside."""
    d = _diameter(rng, n, 12, 110)
    scene = _scene(
        rng, n, t, d, _count(rng, n, d, 0.04, 0.7), rough=0.02, aspect=(1.0, 1.35), touch=0.8, overlap=0.1
    )
    ring = max(d * rng.uniform(0.03, 0.09), 0.8)
    grain = max(d * rng.uniform(0.08, 0.25), 1.0)
    buf = _rasterise(scene, _pool(rng, grain, t), rng, reach=min(3 * ring, 10))
    sign = rng.choice([-1, 1])
    where = buf.depth + rng.uniform(-0.5, 0.5) * ring
    image = sign * np.exp(-((where / ring) ** 2))
    image -= sign * rng.uniform(0.2, 0.9) * np.exp(-(((where - 2 * ring) / ring) ** 2))
    image -= sign * rng.uniform(0.0, 0.8) * np.exp(-(((where + 2 * ring) / ring) ** 2))
    inside = buf.cover()
    image += inside * (rng.uniform(-0.3, 0.3) + rng.uniform(0, 0.25) * buf.tex)
    if rng.random() < 0.5:  # vacuole
        place = rng.uniform(-0.35, 0.35, 2)
        inner = np.hypot(buf.u - place[0], buf.v - place[1]) - rng.uniform(0.2, 0.4)
        image += rng.uniform(-0.6, 0.6) * np.exp(-((inner * d * 0.5 / ring) ** 2)) * inside
    image += rng.uniform(0.02, 0.15) * _moving(scene, lambda m: _fractal(rng, m, m, d, 2.0))
    return image.astype(np.float32), buf.index, scene


def _limbs(
    scene: _Scene,
    joints: Array,
    width: Array,
    pool: Array,
    rng: Rng,
    *,
    star: bool = False,
    curve: float = 0.0,
    blend: float = 0.0,
    reach: float = 3.0,
) -> _Buffers:
    """Draw objects that are made of tapering segments.

    `joints` (T, K, P, 2) are points (y, x), `width` (T, K, P) the half widths there: 0 for a point that is
    not used, negative where a branch begins. Segments join neighbours in the row, or the first point with
    each other (`star`). `curve` draws the sides of a tapering segment in, `blend` (pixels) rounds the corner
    between segments.
    """
    t, k, parts, _ = joints.shape
    n = scene.n
    f32 = np.float32
    index = np.full((t, n, n), -1, np.int32)
    first, second = np.full((t, n, n), -1e3, f32), np.full((t, n, n), -1e3, f32)
    grid = np.arange(n, dtype=f32)
    order = np.r_[1:k, 0]
    half = np.abs(width)
    margin = reach + 2 + 0.65 * blend + 2 * (scene.warp is not None)  # blends swell the middle of a star
    low = (joints - half[..., None]).min(2) - margin
    high = (joints + half[..., None]).max(2) + margin + 1
    low = np.clip(low, 0, n).astype(int)
    high = np.clip(high, 0, n).astype(int)
    points, widths, boxes = joints.tolist(), width.tolist(), np.concatenate([low, high], 2).tolist()
    for f in range(t):
        for j in order:
            y0, x0, y1, x1 = boxes[f][j]
            if not scene.alive[f, j] or y0 >= y1 or x0 >= x1:
                continue
            # Distances are nearly linear between pixels, so large objects are made from every other one.
            step = 2 if min(y1 - y0, x1 - x0) > 40 and (star or max(widths[f][j]) > 8) else 1
            rows, cols = grid[y0:y1:step, None], grid[None, x0:x1:step]
            if scene.warp is not None:
                rows = rows + scene.warp[0][y0:y1:step, x0:x1:step]
                cols = cols + scene.warp[1][y0:y1:step, x0:x1:step]
            near = np.full((-(-(y1 - y0) // step), -(-(x1 - x0) // step)), -1e3, f32)
            for a in range(1, parts):
                b = 0 if star else a - 1
                if widths[f][j][a] <= 0:
                    continue
                ends, halves = (points[f][j][b], points[f][j][a]), (abs(widths[f][j][b]), widths[f][j][a])
                pinch = float(scene.pinch[f, j])
                if star or parts == 2 or scene.warp is not None:
                    made = _segment(rows, cols, ends, halves, pinch, curve)
                    if blend > 0 and a > 1:
                        soft = np.maximum(blend - np.abs(near - made), 0)
                        made = np.maximum(near, made) + soft * soft * f32(0.25 / blend)
                    np.maximum(near, made, out=near)
                else:  # a segment of a chain needs no more than its own box
                    wide = max(halves) + reach
                    r0, r1 = _span(ends[0][0], ends[1][0], wide, y0, step, near.shape[0])
                    c0, c1 = _span(ends[0][1], ends[1][1], wide, x0, step, near.shape[1])
                    if r0 < r1 and c0 < c1:
                        made = _segment(rows[r0:r1], cols[:, c0:c1], ends, halves, pinch, curve)
                        np.maximum(near[r0:r1, c0:c1], made, out=near[r0:r1, c0:c1])
            if step == 2:
                near = _double(near, y1 - y0, x1 - x0)
            box = (f, slice(y0, y1), slice(x0, x1))
            old = first[box]
            if scene.painter:
                win = (near > 0) | (near > old)
                np.copyto(old, near, where=win)
                np.copyto(index[box], np.int32(j), where=win & (near > 0))
            else:
                np.copyto(index[box], np.int32(j), where=near > np.maximum(old, 0))
                np.maximum(second[box], np.minimum(old, near), out=second[box])
                np.maximum(old, near, out=old)
    depth = first if scene.painter else np.minimum(first, np.maximum(0.5 * (first - second), 0.05))
    depth = np.where(index >= 0, depth, np.clip(first, -reach - 1, 0))
    m = pool.shape[-1] - 1
    offset = rng.integers(0, pool.shape[-1], (k, 2))
    size = width.max(2).mean(0)
    rho, (u, v, tex) = np.full((t, n, n), 2, f32), (np.zeros((t, n, n), f32) for _ in range(3))
    for f in range(t):  # only the pixels of objects, which are often few
        rows, cols = np.nonzero(index[f] >= 0)
        i = index[f][rows, cols]
        s, c = np.sin(scene.angle[f]).astype(f32)[i], np.cos(scene.angle[f]).astype(f32)[i]
        dy = rows.astype(f32) - scene.y[f].astype(f32)[i]
        dx = cols.astype(f32) - scene.x[f].astype(f32)[i]
        along, across = c * dx + s * dy, c * dy - s * dx
        shift = offset[i]
        iy, ix = across.astype(np.int32) + shift[:, 0], along.astype(np.int32) + shift[:, 1]
        tex[f, rows, cols] = pool[f, iy & m, ix & m]
        scale = (1 / size)[i]
        u[f, rows, cols], v[f, rows, cols] = along * scale, across * scale
        rho[f, rows, cols] = np.clip(1 - depth[f, rows, cols] * scale, 0, 1)
    return _Buffers(index, depth.astype(f32, copy=False), rho, u, v, tex)


def _span(a: float, b: float, margin: float, first: int, step: int, count: int) -> tuple[int, int]:
    """First and last of `count` lines, from `first` by `step`, that lie within `margin` of a..b."""
    low = int((min(a, b) - margin - first) // step)
    high = int((max(a, b) + margin - first) // step) + 2
    return min(max(low, 0), count), min(max(high, 0), count)


def _segment(
    rows: Array, cols: Array, ends: tuple[Any, Any], half: tuple[float, float], pinch: float, curve: float
) -> Array:
    """Pixels to the side of a tapering segment, positive inside."""
    f32 = np.float32
    (ay, ax), (by, bx) = ends
    vy, vx = by - ay, bx - ax
    squared = vy * vy + vx * vx + 1e-3
    dy, dx = rows - f32(ay), cols - f32(ax)
    h = dy * (vy / squared) + dx * (vx / squared)
    np.clip(h, 0, 1, out=h)
    gone = np.sqrt((dy - h * vy) ** 2 + (dx - h * vx) ** 2)
    ra, rb = half
    if pinch > 0:
        span = f32(np.sqrt(squared) / (1.1 * ra))
        return ra * (1 - pinch * np.exp(-(((h - 0.5) * span) ** 2))) - gone
    if ra == rb:
        return ra - gone
    h = 1 - h
    return rb + (ra - rb) * h * (1 - curve * (1 - h)) - gone


def _double(field: Array, h: int, w: int) -> Array:
    """`field`, taken on every other pixel of (h, w), on all of them."""
    tall = np.empty((h, field.shape[1]), np.float32)
    tall[::2] = field
    inner = tall[1:-1:2] if h % 2 else tall[1::2][: len(field) - 1]
    inner[:] = 0.5 * (field[:-1] + field[1:])
    if h % 2 == 0:
        tall[-1] = field[-1]
    out = np.empty((h, w), np.float32)
    out[:, ::2] = tall
    inner = out[:, 1:-1:2] if w % 2 else out[:, 1::2][:, : tall.shape[1] - 1]
    inner[:] = 0.5 * (tall[:, :-1] + tall[:, 1:])
    if w % 2 == 0:
        out[:, -1] = tall[:, -1]
    return out


def _chain(scene: _Scene, length: Array, heading: Array) -> Array:
    """Joints (T, K, P, 2) of curves of `length` (T, K) about the scene's places, by P - 1 headings each."""
    turned = scene.angle[..., None] + heading
    stride = length[..., None] / heading.shape[-1]
    steps = np.stack([np.sin(turned) * stride, np.cos(turned) * stride], -1)
    path = np.concatenate([np.zeros_like(steps[:, :, :1]), np.cumsum(steps, axis=2)], axis=2)
    path -= path.mean(2, keepdims=True)
    return path + np.stack([scene.y, scene.x], -1)[:, :, None]


@lru_cache(maxsize=64)
def _tailed(n: int, sigma: float) -> Array:
    """Low-pass matrix (n, n) with a long tail, as the ring of a phase-contrast condenser has."""
    return np.float32(0.65) * _blurrer(n, sigma) + np.float32(0.35) * _blurrer(n, 3 * sigma)


def _zernike(phase: Array, wide: float, pass_through: float) -> Array:
    """Phase-contrast image of a phase map in radians, 1 where it is empty.

    The ring holds back and shifts the light that went straight through, and with it the coarsest part of what
    the object bent, which is why bodies fade inside and have a bright halo around them of width `wide`.
    """
    wide = max(round(wide * 2) / 2, 0.5)
    real, imag = np.cos(phase), np.sin(phase)
    low = _tailed(phase.shape[-1], wide)
    straight, bent = low @ real @ low.T, low @ imag @ low.T
    a = np.float32(pass_through)
    image = (real - straight + a * bent) ** 2 + (imag - bent - a * straight) ** 2
    return image * np.float32(1 / pass_through**2)


def _slow(
    rng: Rng, n: int, t: int, d: float, count: int, centre: Array | None = None, overlap: float = 0.0
) -> _Scene:
    """A scene of `count` objects at `centre` that creep and turn a little; it has no outlines."""
    scene = _scene(
        rng,
        n,
        t,
        d,
        count,
        divide=0,
        overlap=overlap,
        spread=0.15,
        speed=rng.choice([0.0, 0.02, 0.06] if centre is not None else [0.02, 0.08, 0.25]),
        turn=rng.choice([0.0, 0.02]) if centre is not None else rng.choice([0.02, 0.06, 0.15]),
    )
    if centre is not None:
        scene.y += centre[:, 0] - scene.y[:1]
        scene.x += centre[:, 1] - scene.x[:1]
        scene.alive[:] = True
    return scene


def _colony(rng: Rng, n: int, t: int, wide: float, pool: Array) -> tuple[_Scene, _Buffers]:
    """Rods packed in patches of one direction each; patches meet at angles, as in a growing colony."""
    long = _loguniform(rng, 2.0, 8.0)
    tall = long * wide
    most = int(rng.integers(25, 130))
    radius = min(np.sqrt(most * wide * tall / np.pi), 0.85 * n)
    middle = n / 2 + rng.uniform(-0.3, 0.3, 2) * n
    patches = int(rng.integers(1, 3 + 2 * radius / tall))
    seeds = middle + 0.65 * radius * rng.standard_normal((patches, 2))
    if rng.random() < 0.4:  # herringbone
        turns = rng.uniform(0, np.pi) + rng.uniform(0.3, 0.8) * (-1.0) ** np.arange(patches)
    else:
        turns = rng.uniform(0, np.pi) + rng.choice([0.3, 1.0, 3.0]) * rng.standard_normal(patches)
    pitch = wide + rng.choice([0.0, 0.3, 1.0]) + rng.choice([0.0, 0.1]) * wide
    rows, cols = int(2 * radius / pitch) + 1, int(2 * radius / (0.6 * tall)) + 2
    vary = rng.uniform(0.05, 0.45)
    spans = tall * rng.uniform(1 - vary, 1 + vary, (patches, rows, cols))
    ends = np.cumsum(spans, 2) - radius - rng.uniform(0, tall, (patches, rows, 1))
    u = ends - 0.5 * spans
    v = (np.arange(rows) * pitch - radius)[None, :, None] + 0.05 * wide * rng.standard_normal(u.shape)
    angle = turns[:, None, None] + rng.choice([0.01, 0.05, 0.1]) * rng.standard_normal(u.shape)
    s, c = np.sin(turns)[:, None, None], np.cos(turns)[:, None, None]
    centre = np.stack([s * u + c * v, c * u - s * v], -1) + middle
    # What lies in another patch, or outside, is cut off.
    at = np.linspace(-0.5, 0.5, 13)
    way = np.stack([np.sin(angle), np.cos(angle)], -1)
    probe = centre[..., None, :] + (spans[..., None] * at)[..., None] * way[..., None, :]
    owner = ((probe[..., None, :] - seeds) ** 2).sum(-1).argmin(-1)
    away = probe - middle
    lobes = 1 + 0.12 * np.sin(np.arctan2(away[..., 0], away[..., 1]) * rng.integers(2, 5) + rng.uniform(0, 6))
    good = np.hypot(away[..., 0], away[..., 1]) < radius * lobes
    good &= owner == np.arange(patches)[:, None, None, None]
    begin = good.argmax(-1)
    run = good | (np.arange(13) < begin[..., None])
    finish = np.where(run.all(-1), 13, run.argmin(-1))
    span = spans * (finish - begin) / 13
    shift = spans * ((begin + finish - 1) / 24 - 0.5)
    centre = centre + shift[..., None] * way
    keep = good.any(-1) & (span > 1.35 * wide) & (rng.random(span.shape) < rng.choice([0.8, 0.95, 1.0]))
    keep &= (np.abs(centre - n / 2) < 0.5 * n + 0.5 * tall).all(-1)
    if not keep.any():
        keep.flat[np.argmin(np.abs(centre - n / 2).max(-1))] = True
        span = np.maximum(span, 2 * wide)
    centre, span, angle = centre[keep], span[keep], angle[keep]
    nearest = np.argsort(np.abs(centre - n / 2).max(1))[:150]
    centre, span, angle = centre[nearest], span[nearest], angle[nearest]
    k = len(centre)
    scene = _slow(rng, n, t, wide, k, centre)
    scene.painter = False
    scene.angle += angle - scene.angle[:1]
    times = np.arange(t)[:, None]
    growth = np.exp(rng.choice([0.0, 0.01, 0.03]) * times)
    scene.y = middle[0] + (scene.y - middle[0]) * growth
    scene.x = middle[1] + (scene.x - middle[1]) * growth
    scene.pinch = np.where(rng.random(k) < rng.choice([0.0, 0.15, 0.4]), rng.uniform(0.15, 0.6, k), 0.0)
    scene.pinch = (scene.pinch * (span > 2.2 * wide) * np.linspace(0.6, 1, t)[:, None]).clip(0, 0.7)
    scene.warp = _warp(rng, n, max(tall, 2.5 * wide), rng.uniform(0.3, 2.5))
    half = (
        0.5
        * wide
        * rng.choice([rng.uniform(0.86, 1.0), rng.uniform(1.0, 1.12)])
        * np.exp(0.04 * rng.standard_normal((1, k, 1)))
    )
    width = half * np.ones((t, k, 2))
    joints = _chain(scene, (span - wide) * growth, np.zeros((t, k, 1)))
    scene.r = 0.65 * wide * np.ones((t, k))
    return scene, _limbs(scene, joints, width, pool, rng, reach=1.5)


def _threads(rng: Rng, n: int, t: int, wide: float, pool: Array) -> tuple[_Scene, _Buffers]:
    """Curved cells: commas and crescents, or filaments that wind through the view and cross."""
    filament = rng.random() < 0.55
    if filament:
        long = _loguniform(rng, 9.0, 40.0)
        wide = min(wide, 14 * n / 256)
        length = min(long * wide, 1.6 * n)
        count = int(rng.integers(1, 4 + 4 * n / length))
    else:
        length = _loguniform(rng, 2.5, 9.0) * wide
        count = int(np.clip(rng.uniform(0.03, 0.35) * n * n / (wide * length), 1, 60))
    parts = 20 if filament else 6
    scene = _slow(rng, n, t, 0.6 * length, count, overlap=0.7 if filament else 0.3)
    if filament and count > 1 and rng.random() < 0.4:  # a bundle
        scene.angle += rng.uniform(0, 3) + 0.2 * rng.standard_normal(count) - scene.angle[:1]
    at = np.linspace(-1, 1, parts)
    arc = rng.uniform(0.0, 1.6, count) * rng.choice([-1, 1], count) * (rng.random() < 0.7 or not filament)
    heading = arc[:, None] * at
    heading = np.repeat(heading[None], t, 0)
    for order in (1, 2, 3) if filament else ():
        amount = rng.uniform(0.1, 1.0) * rng.standard_normal((1, count)) / order
        phase = rng.uniform(0, 6.3, count) + 0.1 * _smooth_walk(rng, t, count)
        heading = heading + amount[..., None] * np.sin(order * 2 * at + phase[..., None])
    lengths = (
        length
        * np.exp(0.2 * rng.standard_normal(count))
        * np.exp(rng.choice([0.0, 0.03]) * np.arange(t)[:, None])
    )
    joints = _chain(scene, lengths, heading)
    width = 0.5 * wide * np.exp(0.08 * rng.standard_normal((1, count, 1))) * np.ones(joints.shape[:3])
    if rng.random() < 0.3:  # pointed ends
        width[..., [0, -1]] *= rng.uniform(0.4, 0.8)
    if filament and rng.random() < 0.35:  # hyphae, which branch
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(2, parts - 2))
            away = scene.angle + heading[..., at] + rng.choice([-1, 1], count) * rng.uniform(0.6, 1.4)
            curl = rng.normal(0, 0.3, count)
            steps = np.arange(4)[:, None, None] * length * rng.uniform(0.04, 0.16)
            turned = away + curl * np.arange(4)[:, None, None]
            side = np.stack([np.sin(turned), np.cos(turned)], -1) * steps[..., None]
            branch = joints[:, :, at : at + 1] + side.transpose(1, 2, 0, 3)
            joints = np.concatenate([joints, branch], 2)
            sign = np.array([-1.0, 1.0, 1.0, 1.0]) * rng.uniform(0.7, 1.0)
            width = np.concatenate([width, sign * width[:, :, at : at + 1]], 2)
    if not filament and count < 25 and rng.random() < 0.35:  # stalks: seen, and no part of the cell
        scene = _with_stalks(rng, scene)
        tip, before = joints[:, :, -1:], joints[:, :, -2:-1]
        end = tip + (tip - before) * rng.uniform(0.5, 3.0, (1, count, 1, 1))
        stalk = np.concatenate([tip, end, np.repeat(end, joints.shape[2] - 2, 2)], 2)
        joints = np.concatenate([joints, stalk], 1)
        thin = np.zeros_like(width)
        thin[:, :, :2] = max(0.08 * wide, 0.5)
        width = np.concatenate([width, thin], 1)
    scene.warp = None
    scene.r = 0.65 * wide * np.ones_like(scene.r)
    return scene, _limbs(scene, joints, width, pool, rng)


def _with_stalks(rng: Rng, scene: _Scene) -> _Scene:
    """`scene` with a faint, unlabelled companion for each object, in the columns that follow."""
    both = {
        name: np.concatenate([getattr(scene, name)] * 2, axis=1)
        for name in ("y", "x", "r", "angle", "aspect", "coef", "alive", "gain", "pinch")
    }
    k = len(scene.ids)
    both["gain"][:, k:] = 0.05
    both["alive"][:, k:] &= rng.random(k) < 0.7
    return replace(scene, ids=np.append(scene.ids, np.zeros(k, int)), bend=np.tile(scene.bend, 2), **both)


def _bacteria(rng: Rng, n: int, t: int) -> _Drawn:
    wide = float(_loguniform(rng, 5, 24) * max(n / 256, 0.6))
    kind = rng.random()
    pool = _pool(rng, max(wide * rng.uniform(0.1, 0.5), 1.0), t)
    if kind < 0.55:
        scene, buf = _colony(rng, n, t, wide, pool)
    elif kind < 0.8:
        scene, buf = _threads(rng, n, t, wide, pool)
    else:
        long = rng.uniform(2.0, 6.0)
        d = wide * np.sqrt(long)
        scene = _scene(
            rng,
            n,
            t,
            d,
            _count(rng, n, d, 0.03, 0.5),
            aspect=(long * 0.7, long * 1.4),
            rod=True,
            touch=0.8,
            divide=0.15,
            bend=rng.choice([0.0, 0.08, 0.2]),
            overlap=0.2,
            spread=0.15,
            turn=rng.choice([0.02, 0.1, 0.3]),
        )
        buf = _rasterise(scene, pool, rng)
    if rng.random() < 0.25:
        return _glow(rng, scene, buf, wide), buf.index, scene
    inside = (buf.index >= 0).astype(np.float32)
    round_ = np.sqrt(np.clip(1 - np.clip(buf.rho, 0, 1) ** 2, 0, 1)) * inside
    if rng.random() < 0.3:  # flat-topped: a rod in a tight channel or under a pad
        round_ = np.minimum(round_ * 1.5, 1)
    weight = np.clip(0.6 + 0.4 * buf.gain(scene), 0, 1)
    phase = rng.choice([0.15, 0.35, 0.6, 0.9]) * rng.uniform(0.7, 1.3) * round_ * weight
    phase += round_ * rng.uniform(0, 0.08) * buf.tex
    soft = rng.uniform(0.04, 0.15) if rng.random() < 0.7 else rng.uniform(0.15, 0.27)  # closes the gaps
    phase = _blur(phase.astype(np.float32), soft * wide)
    if rng.random() < 0.15:  # brightfield, a little out of focus: the curvature of the bodies
        soft = _blur(phase, rng.uniform(0.15, 0.35) * wide + 0.3)
        image = 1 + rng.choice([-1, 1]) * rng.uniform(0.5, 1.5) * (phase - soft)
    else:
        passes = rng.uniform(0.5, 1.0)  # beyond that phase a body would turn bright
        image = _zernike(phase * np.float32(passes), wide * rng.uniform(0.5, 2.0), passes)
    floor = rng.uniform(0, 0.03 if rng.random() < 0.7 else 0.08)
    image += floor * _moving(scene, lambda m: _fractal(rng, m, m, 4 * wide, 2.0))
    return image.astype(np.float32), buf.index, scene


def _spread_cells(rng: Rng, n: int, t: int, d: float) -> tuple[_Scene, _Buffers, Array]:
    """Adherent cells: spindles, stars, fans and sheets with drawn-out corners; and which ones are round."""
    sheet = rng.random() < 0.35  # a lawn, which is dense or closed
    closed = sheet and rng.random() < 0.4
    reach = 0.5 * d
    if sheet:
        centre = _lattice(rng, n, d * rng.uniform(0.72, 0.78 if closed else 1.0))
        away = np.hypot(*(centre - n / 2).T)
        centre = centre[np.argsort(away * rng.uniform(0.85, 1.0, len(away)))[:80]]
        scene = _slow(rng, n, t, d, len(centre), centre)
        scene.painter = False
    else:
        count = _count(rng, n, d, 0.05, rng.choice([0.4, 0.9]), 40)
        scene = _slow(rng, n, t, d, count, overlap=0.35)
    k = scene.y.shape[1]
    kinds = rng.choice(4, k, p=rng.dirichlet([0.2, 0.1, 0.1, 0.9] if sheet else [0.7, 0.9, 0.6, 0.9]))
    if rng.random() < (0.35 if sheet else 0.15):  # fibroblasts, which lie along each other
        kinds[:] = 0
        scene.angle += rng.uniform(0, 6) + rng.choice([0.1, 0.4]) * rng.standard_normal(k) - scene.angle[:1]
    tips = 7
    core = np.empty(k)
    angle, far, thin = np.zeros((k, tips)), np.zeros((k, tips)), np.zeros((k, tips))
    for j, kind in enumerate(kinds):
        if kind == 0:  # spindle
            m = 2 + int(rng.random() < 0.3)
            core[j] = rng.uniform(0.3, 0.55)
            angle[j, :2] = [0, np.pi]
            angle[j, 2:m] = rng.uniform(0.8, 2.2)
            far[j, :m] = rng.uniform(1.1, 2.2, m)
        elif kind == 1:  # star
            m = int(rng.integers(3, 6))
            core[j] = rng.uniform(0.4, 0.7)
            angle[j, :m] = 2 * np.pi * np.cumsum(rng.dirichlet(np.full(m, 4.0)))
            far[j, :m] = _loguniform(rng, 0.75, 2.1, m)
        elif kind == 2:  # fan with a tail
            m = int(rng.integers(5, 8))
            core[j] = rng.uniform(0.35, 0.55)
            angle[j, 0] = np.pi
            angle[j, 1:m] = np.linspace(-1, 1, m - 1) * rng.uniform(0.4, 1.0)
            far[j, 0] = rng.uniform(1.0, 2.0)
            far[j, 1:m] = rng.uniform(0.7, 1.1) * rng.uniform(0.93, 1.07, m - 1)
        else:  # flat, with corners
            m = int(rng.integers(3, 7))
            core[j] = rng.uniform(0.6, 0.85)
            angle[j, :m] = 2 * np.pi * np.cumsum(rng.dirichlet(np.full(m, 8.0)))
            far[j, :m] = _loguniform(rng, 0.8, 1.5, m)
        thin[j, :m] = rng.uniform(0.02, 0.12, m) if kind < 2 else _loguniform(rng, 0.03, 0.3, m)
        if kind == 2:
            thin[j, 1:m] = rng.uniform(0.28, 0.4)
            thin[j, 0] = rng.uniform(0.02, 0.08)
    if closed:  # hardly any gap is left
        core *= 1.3
    round_ = rng.random(k) < rng.choice([0.0, 0.1, 0.3], p=[0.4, 0.4, 0.2])
    core[round_] = rng.uniform(0.5, 0.7)
    far[round_], thin[round_] = 0.0, 0.0
    thin[round_, 0] = core[round_]
    size = (scene.r / scene.r[:1].mean()) * reach
    wander = rng.choice([0.01, 0.03] if sheet else [0.01, 0.03, 0.07])
    change = np.exp(wander * _smooth_walk(rng, t, k * tips).reshape(t, k, tips)).clip(0.5, 1.6)
    swing = wander * _smooth_walk(rng, t, k * tips).reshape(t, k, tips)
    direction = scene.angle[..., None] + angle + swing
    out = size[..., None] * far * change
    joints = np.empty((t, k, tips + 1, 2))
    joints[:, :, 0, 0], joints[:, :, 0, 1] = scene.y, scene.x
    joints[:, :, 1:, 0] = scene.y[..., None] + out * np.sin(direction)
    joints[:, :, 1:, 1] = scene.x[..., None] + out * np.cos(direction)
    width = np.concatenate([(size * core)[..., None], size[..., None] * thin], -1)
    width[..., 1:] = np.where(thin > 0, np.maximum(width[..., 1:], 0.6), 0)
    scene.r = size * 0.9
    scene.warp = _warp(rng, n, d, rng.uniform(0.3, 1.5))
    pool = _pool(rng, max(d * rng.uniform(0.012, 0.035), 0.9), t)
    buf = _limbs(
        scene,
        joints,
        width,
        pool,
        rng,
        star=True,
        curve=float(rng.uniform(0, 0.9)),
        blend=float(rng.uniform(0.05, 0.3) * reach),
    )
    return scene, buf, round_


def _organelles(rng: Rng, buf: _Buffers, k: int) -> tuple[Array, Array]:
    """Nuclei (0..1, sharp) and nucleoli of cells of which `buf.u` and `buf.v` are in core radii."""
    place = rng.normal(0, 0.18, (k, 2)).astype(np.float32)
    big = rng.uniform(0.4, 0.62, k).astype(np.float32)
    spots = (rng.normal(0, 0.3, (k, 2)).astype(np.float32) for _ in range(int(rng.integers(1, 4))))
    squeeze = np.float32(rng.uniform(1.0, 1.6))
    at = np.nonzero((buf.index >= 0) & (np.abs(buf.u) < 1.4) & (np.abs(buf.v) < 1.4))
    i = buf.index[at]
    u, v = (buf.u[at] - place[i, 0]) / big[i], (buf.v[at] - place[i, 1]) * squeeze / big[i]
    oval = np.clip((1 - u * u - v * v) * 4 + 0.5, 0, 1)
    dots = np.zeros_like(oval)
    for spot in spots:
        away = (u - spot[i, 0]) ** 2 + (v - spot[i, 1]) ** 2
        dots = np.maximum(dots, np.exp(away * np.float32(-1 / 0.2**2)))
    nucleus, nucleoli = np.zeros_like(buf.u), np.zeros_like(buf.u)
    nucleus[at], nucleoli[at] = oval, dots * oval
    return nucleus, nucleoli


def _adherent(rng: Rng, n: int, t: int, d: float) -> tuple[Array, Array, _Buffers, _Scene]:
    """Phase in radians of cells spread on glass and of dirt between them; and the domes of rounded cells."""
    scene, buf, round_ = _spread_cells(rng, n, t, d)
    k = scene.y.shape[1]
    inside = buf.index >= 0
    depth = np.maximum(buf.depth, 0)
    edge = max(d * rng.uniform(0.01, 0.06), 0.6)
    lamella = 1 - np.exp(depth * np.float32(-1 / edge))
    body = np.exp((buf.u**2 + buf.v**2 * np.float32(1.5)) * np.float32(-rng.uniform(0.4, 1.2)))
    nucleus, spots = _organelles(rng, buf, k)
    ball = np.sqrt(np.clip(1 - np.clip(buf.rho, 0, 1) ** 2, 0, 1)) * inside
    thick = rng.uniform(0.08, 0.35) * lamella * np.clip(0.6 + 0.4 * buf.gain(scene), 0, 1)
    thick += rng.uniform(0.0, 0.4) * body * lamella
    if rng.random() < 0.5:  # pale or dark
        thick *= 1 - rng.uniform(0.2, 0.7) * nucleus
    else:
        thick += rng.uniform(0.05, 0.25) * nucleus
    thick += rng.uniform(0.15, 0.5) * spots
    amount = rng.uniform(0.01, 0.08) if rng.random() < 0.8 else 0.16
    grains = amount * buf.tex * lamella * (0.35 + body) * (1 - 0.7 * nucleus)
    thick += grains
    if round_.any():
        flag = np.append(round_, False)[buf.index]
        thick = np.where(flag, rng.uniform(0.3, 0.9) * ball + grains, thick)
        ball = ball * flag
    else:
        ball = ball * 0
    thick = thick * inside
    if rng.random() < 0.5:  # debris
        specks = np.zeros((n, n), np.float32)
        at = rng.integers(0, n, (int(rng.integers(2, 30)), 2))
        specks[at[:, 0], at[:, 1]] = rng.uniform(0.2, 1.2, len(at))
        sigma = max(rng.uniform(0.01, 0.03) * d, 0.7)
        thick = thick + _blur(specks, sigma) * np.float32(6.3 * sigma**2)
    return thick.astype(np.float32), ball.astype(np.float32), buf, scene


def _adherent_phase(rng: Rng, n: int, t: int) -> _Drawn:
    d = _diameter(rng, n, 24, 130)
    thick, ball, buf, scene = _adherent(rng, n, t, d)
    thick = _blur(thick, rng.uniform(0.4, 0.9) * max(n / 256, 0.6))
    passes = rng.uniform(0.45, 0.9)
    image = _zernike(thick * np.float32(passes), max(d * rng.uniform(0.03, 0.12), 1.0), passes)
    if ball.any():  # a round cell is a lens: it gathers light inside, and its halo is wide
        image += rng.uniform(0.2, 1.5) * ball ** rng.choice([0.5, 2.0])
        around = _blur((ball > 0).astype(np.float32), d * rng.uniform(0.03, 0.07))
        image += rng.uniform(0.2, 1.0) * around * (buf.index < 0)
        if rng.random() < 0.6:  # and a dark line goes between the two
            rim = np.exp(-((buf.depth / np.float32(max(0.02 * d, 0.8))) ** 2))
            image -= rng.uniform(0.3, 0.9) * rim * (ball > 0)
    image = np.minimum(image, rng.uniform(1.6, 3.5))
    if rng.random() < 0.35 and not scene.painter:  # ridges and clefts where cells meet
        line = np.exp(-((buf.depth / np.float32(max(0.012 * d, 0.8))) ** 2)) * (buf.index >= 0)
        image += rng.uniform(-0.25, 0.25) * line
    image += rng.uniform(0.0, 0.05) * _moving(scene, lambda m: _fractal(rng, m, m, d, 2.0))
    return image.astype(np.float32), buf.index, scene


def _membrane(rng: Rng, n: int, t: int, em: bool = False) -> _Drawn:
    """Cells that tile the plane or fill space, seen by their walls."""
    if rng.random() < 0.65:
        return _cells3(rng, n, t, em)
    d = max(_diameter(rng, n, 18, 120), n / 9)
    scene = _tiling_scene(rng, n, t, d, rng.choice([0.02, 0.1]), 1.5)
    buf = _tile(scene, _pool(rng, max(d * rng.uniform(0.03, 0.15), 1.0), t), rng)
    wide = max(d * rng.uniform(0.02, 0.08), 0.7)
    near = buf.depth if rng.random() < 0.5 else np.abs(buf.depth)
    wall = np.exp(-((near / wide) ** 2)) * (buf.depth > -2 * wide - 1)
    patchy = 1 + rng.choice([0.0, 0.25, 0.5]) * _moving(scene, lambda m: _noise(rng, m, m, d * 0.6), 0.1)
    inner = 0.15 * rng.random() + rng.uniform(0.0, 0.15) * buf.tex
    inner += rng.uniform(0, 0.4) * np.clip(buf.gain(scene), 0, 1)
    if em:
        image = 0.55 + 0.4 * (inner - 0.2) + 0.1 * _em_ground(rng, scene, d) - 0.45 * wall * patchy.clip(0.3)
    else:
        image = inner * (buf.index >= 0) + wall * patchy.clip(0.1)
        if rng.random() < 0.3:  # nuclei as well
            spot = np.clip(1 - buf.rho / rng.uniform(0.3, 0.6), 0, 1) > 0.05
            image += spot * rng.uniform(0.1, 0.5) * (buf.index >= 0)
        if rng.random() < 0.3:
            image = -image
    labels = buf.index if wide < 3 else np.where(buf.depth > wide / 3, buf.index, -1)
    return image.astype(np.float32), labels, scene


def _em_ground(rng: Rng, scene: _Scene, d: float) -> Array:
    """Cytoplasm of electron micrographs: grains, dark membranes, vesicles."""

    def make(m: int) -> Array:
        ground = 0.7 * _fractal(rng, m, m, max(d * 0.4, 3), 1.2, 0.9)
        for _ in range(rng.integers(1, 4)):
            lines = np.abs(_noise(rng, m, m, d * rng.uniform(0.4, 1.5)))
            ground -= rng.uniform(0.8, 2.2) * np.exp(-((lines / rng.uniform(0.06, 0.15)) ** 2))
        spots = _noise(rng, m, m, max(d * 0.12, 2.0))
        ground -= rng.uniform(0, 1.5) * np.clip(spots - 1.2, 0, 1)
        return ground

    return _moving(scene, make, rng.choice([0.0, 0.1, 0.25]))


def _em(rng: Rng, n: int, t: int) -> _Drawn:
    """Mitochondria-like dark bodies with inner folds; or cells by their dark membranes."""
    if rng.random() < 0.25:
        return _membrane(rng, n, t, em=True)
    d = _diameter(rng, n, 16, 130)
    long = rng.uniform(1.0, 3.0)
    scene = _scene(
        rng,
        n,
        t,
        d,
        _count(rng, n, d, 0.06, 0.4, 40),
        rough=rng.uniform(0.03, 0.12),
        spread=0.3,
        aspect=(1.0, max(long, 1.2)),
        rod=bool(rng.random() < 0.3),
        bend=0.15,
        divide=0,
        speed=rng.choice([0.01, 0.04, 0.1]),
        turn=0.06,
        touch=0.2,
    )
    if rng.random() < 0.4:
        _end_in_depth(rng, scene, t)
    buf = _rasterise(scene, _pool(rng, max(d * rng.uniform(0.03, 0.1), 1.0), t, _depth_change(rng)), rng)
    ground = 0.6 + rng.uniform(0.06, 0.12) * _em_ground(rng, scene, d)
    folds = np.sin(2 * np.pi * (buf.v * rng.uniform(1.5, 3.5) + 0.25 * buf.tex + 0.3 * np.sin(3 * buf.u)))
    body = rng.uniform(0.25, 0.5) + rng.uniform(0.0, 0.13) * folds + rng.uniform(0.02, 0.07) * buf.tex
    body -= rng.uniform(0.1, 0.25) * np.exp(-((buf.depth / max(0.035 * d, 0.8)) ** 2))
    if rng.random() < 0.5:  # other organelles, not labelled, of another look
        hide = rng.random(scene.y.shape[1]) < 0.3
        hide[0] = False
        scene.ids = np.where(hide, 0, scene.ids)
        other = _look_up(hide[None] * np.ones((t, 1)), buf.index)
        body = np.where(other > 0, rng.choice([0.15, 0.85]) + 0.03 * buf.tex, body)
    cover = buf.cover()
    return (ground * (1 - cover) + body * cover).astype(np.float32), buf.index, scene


def _organs(rng: Rng, n: int, t: int) -> _Drawn:
    """Slices of a body: regions of nearly even grey, one in another, changing from frame to frame."""
    part = rng.random()
    if part < 0.65:
        return _anatomy(rng, n, t)
    if part < 0.8:
        return _regions(rng, n, t)
    d = _diameter(rng, n, 18, 140)
    count = int(np.clip(_count(rng, n, d, 0.1, 0.5, 18), 2, 18))
    scene = _scene(
        rng,
        n,
        t,
        d,
        count,
        rough=rng.uniform(0.05, 0.2),
        spread=0.4,
        divide=0,
        overlap=0.7,
        aspect=(1.0, rng.uniform(1.3, 2.2)),
        speed=rng.choice([0.01, 0.05, 0.12]),
        turn=0.06,
    )
    for j in range(1, count):  # some organs lie inside others
        if rng.random() < 0.3:
            host = int(rng.integers(0, count))
            if scene.r[0, host] > 1.5 * scene.r[0, j] or host == 0:
                scene.r[:, j] = np.minimum(scene.r[:, j], 0.5 * scene.r[:, host])
                off = rng.uniform(-0.25, 0.25, 2) * scene.r[0, host]
                scene.y[:, j], scene.x[:, j] = scene.y[:, host] + off[0], scene.x[:, host] + off[1]
    swell = np.exp(rng.choice([0.03, 0.1, 0.2]) * _smooth_walk(rng, t, count))
    scene.r *= swell.clip(0.4, 1.6)
    if rng.random() < 0.6:
        _end_in_depth(rng, scene, t)
    return _slices(rng, scene, d, t)


def _end_in_depth(rng: Rng, scene: _Scene, t: int) -> None:
    """Let some objects taper off and be gone in the planes before or after."""
    k = scene.y.shape[1]
    reach = _loguniform(rng, 2.0, 3.0 * t, k)
    middle = rng.uniform(-0.3, 0.7, k) * reach * rng.choice([-1, 1], k) + rng.choice([0, t - 1], k)
    q = np.abs(np.arange(t)[:, None] - middle) / reach
    few = (rng.random(k) < 0.5) & (q.min(0) < 0.8)
    blunt = rng.choice([2.0, 4.0, 8.0])  # high: the section stays, then ends at once
    taper = np.sqrt(np.clip(1 - q**blunt, 0, 1))
    scene.r = np.where(few, scene.r * taper + 1e-3, scene.r)
    scene.alive &= ~few | ((q < 0.98) & (scene.r > 1.5))


def _grid(rng: Rng, n: int, d: float) -> Array:
    across = int(n / d + 2.5)
    rows, cols = np.meshgrid(np.arange(across), np.arange(across), indexing="ij")
    centre = np.stack([rows.ravel() + 0.0, cols.ravel() + 0.5 * (rows.ravel() % 2)], 1) - 0.5
    return (centre + rng.uniform(0.1, 0.3) * rng.standard_normal(centre.shape)) * d


def _layers(rng: Rng, n: int, d: float, t: int) -> tuple[Array, Array]:
    """Centres (K, 2) of cells that tile a volume, and their way (T, K) from each plane, both in pixels."""
    step = d * rng.uniform(0.06, 0.35)  # between planes
    count = int(np.clip(t * step / (0.85 * d), 0, 4)) + 2
    first = -0.85 * d * rng.uniform(0.3, 0.9)
    places = [(_grid(rng, n, d) + rng.uniform(-0.5, 0.5, 2) * d, first + 0.85 * d * i) for i in range(count)]
    centre = np.concatenate([c for c, _ in places])
    height = np.concatenate([np.full(len(c), z) for c, z in places])
    height += rng.uniform(0.05, 0.25) * d * rng.standard_normal(len(height))
    away = height[None] - step * np.arange(t)[:, None]
    # Ids are bytes in training, and what no plane meets is not drawn: keep the nearest.
    met = np.argsort(np.abs(away).min(0))[:240]
    centre, away = centre[met], away[:, met]
    order = np.argsort(np.abs(centre - n / 2).max(1) + np.abs(away[0]))
    return centre[order], away[:, order]


def _lattice(rng: Rng, n: int, d: float) -> Array:
    """Centres (K, 2) of cells that tile the plane, or a patch of it; the first is the most central."""
    centre = _grid(rng, n, d)
    if rng.random() < 0.35:
        inside = np.hypot(*(centre - rng.uniform(0.3, 0.7, 2) * n).T) < rng.uniform(0.3, 0.7) * n
        centre = centre[inside] if inside.any() else centre
    return centre[np.argsort(np.abs(centre - n / 2).max(1))]


def _tiling_scene(rng: Rng, n: int, t: int, d: float, spread: float, strength: float) -> _Scene:
    solid = rng.random() < 0.55  # cells of a volume, which begin and end, or columns through all planes
    centre, away = _layers(rng, n, d, t) if solid else (_lattice(rng, n, d), None)
    scene = _scene(
        rng,
        n,
        t,
        d,
        len(centre),
        spread=spread,
        aspect=(1.0, rng.uniform(1.05, 1.6)),
        divide=0,
        speed=rng.choice([0.0, 0.03, 0.08]),
        turn=0.03,
        overlap=1.0,
    )
    scene.y += centre[:, 0] - scene.y[:1]
    scene.x += centre[:, 1] - scene.x[:1]
    scene.alive[:] = True
    scene.depth = away
    scene.warp = _warp(rng, n, d, strength)
    return scene


def _regions(rng: Rng, n: int, t: int) -> _Drawn:
    """Organs that touch: a plane of regions of different grey, with no wall or a thin one."""
    d = max(_diameter(rng, n, 25, 150), n / 8)
    scene = _tiling_scene(rng, n, t, d, 0.3, rng.uniform(1.5, 3.0))
    k = scene.y.shape[1]
    scene.r *= np.exp(rng.choice([0.01, 0.05]) * _smooth_walk(rng, t, k))
    buf = _tile(scene, _pool(rng, max(d * rng.uniform(0.05, 0.2), 1.0), t, _depth_change(rng)), rng)
    level = rng.permutation(np.linspace(0.1, 1.0, k))
    gone = rng.random(k) < 0.25  # fat and muscle between the organs: grey as well, not labelled
    gone[0] = False
    level[gone] = rng.uniform(0.1, 0.6)
    scene.ids = np.where(gone, 0, scene.ids)
    image = _look_up(level[None] * np.ones((t, 1)), buf.index)
    image += rng.choice([0.01, 0.05, 0.12]) * buf.tex
    if rng.random() < 0.4:
        line = np.exp(-((buf.depth / max(0.03 * d, 0.8)) ** 2)) * (buf.index >= 0)
        image += rng.choice([-0.3, 0.3]) * line
    return _blur(image, rng.uniform(0.5, 1.5)).astype(np.float32), buf.index, scene


def _slices(rng: Rng, scene: _Scene, d: float, t: int) -> _Drawn:
    n, k = scene.n, scene.y.shape[1]
    # The body around the organs, drawn first and not labelled.
    body = rng.random() < 0.8
    if body:
        big = _scene(
            rng,
            n,
            t,
            n * rng.uniform(0.7, 1.3),
            1,
            rough=0.05,
            aspect=(1.0, 1.4),
            divide=0,
            speed=0.01,
            turn=0.01,
        )
        frame = _rasterise(big, _FLAT, rng)
    level = rng.permutation(np.linspace(0.12, 1.0, k) + rng.uniform(-0.04, 0.04, k))
    scene.ids = np.where(rng.random(k) < 0.85, scene.ids, 0)
    scene.ids[0] = 1
    tissue = rng.uniform(0.3, 0.6)
    if rng.random() < 0.4:  # soft tissue beside soft tissue, through a wide contrast
        level = tissue + rng.uniform(0.25, 0.7) * (level - tissue)
    level = np.where(np.abs(level - tissue) < 0.06, tissue + rng.choice([-0.12, 0.12]), level)
    buf = _rasterise(scene, _pool(rng, max(d * rng.uniform(0.05, 0.3), 1.0), t, _depth_change(rng)), rng)
    ground = np.full((t, n, n), tissue, np.float32)
    ground += rng.uniform(0.01, 0.09) * _moving(scene, lambda m: _fractal(rng, m, m, d, 2.5, 0.8), 0.15)
    if body:
        skin = np.exp(-((frame.depth / max(0.03 * n, 1)) ** 2)) * rng.choice([-0.25, 0.0, 0.4])
        cover = frame.cover()
        ground = (ground + skin) * cover + (1 - cover) * rng.choice([0.0, 0.02, 0.1])
    value = _look_up(level[None] * np.ones((t, 1)), buf.index)
    value = value + rng.choice([0.01, 0.04, 0.09]) * buf.tex
    if rng.random() < 0.4:  # capsule, cortex, vessel wall
        value = value + rng.choice([-0.25, 0.25, 0.4]) * np.exp(-((buf.depth / max(0.06 * d, 1)) ** 2))
    inside = (buf.index >= 0).astype(np.float32)
    image = ground * (1 - inside) + value * inside
    return _blur(image, rng.uniform(0.4, 1.4)).astype(np.float32), buf.index, scene


def _tube(rng: Rng, n: int, t: int) -> _Drawn:
    """Cross-sections of a cord in its canal beside a bony body; or of vessels and airways."""
    part = rng.random()
    if part < 0.7:
        return _spine_axial(rng, n, t) if part < 0.42 else _spine_sagittal(rng, n, t)
    d = _diameter(rng, n, 20, 110)
    if part < 0.85:
        count = _count(rng, n, d, 0.05, 0.3, 20)
        scene = _scene(
            rng,
            n,
            t,
            d,
            count,
            rough=0.04,
            spread=0.4,
            divide=0,
            overlap=0.2,
            speed=rng.choice([0.05, 0.15, 0.3]),
            aspect=(1.0, 1.6),
        )
        return _slices(rng, scene, d, t)
    parts = 4 + int(rng.integers(0, 4))
    scene = _scene(
        rng,
        n,
        t,
        d,
        parts,
        rough=0.06,
        divide=0,
        overlap=1.0,
        speed=rng.choice([0.02, 0.08]),
        aspect=(1.0, 1.5),
        turn=0.03,
    )
    scene.alive[:] = True
    # column 0 is drawn last, on top: the cord; 1 the bone, 2 the canal around the cord
    turn = rng.uniform(0, 2 * np.pi)
    size = 0.5 * d
    for j, (away, radius) in enumerate([(0.0, 0.5), (1.5, 1.25), (0.0, 0.85)]):
        scene.r[:, j] = size * radius * (scene.r[:, j] / scene.r[0, j])
        scene.y[:, j] = scene.y[:, 0] + away * size * np.sin(turn)
        scene.x[:, j] = scene.x[:, 0] + away * size * np.cos(turn)
    for j in range(3, parts):  # processes, ribs, muscles
        where = turn + np.pi + rng.uniform(-1.8, 1.8)
        scene.y[:, j] = scene.y[:, 0] + rng.uniform(1.1, 2.2) * size * np.sin(where)
        scene.x[:, j] = scene.x[:, 0] + rng.uniform(1.1, 2.2) * size * np.cos(where)
        scene.r[:, j] *= rng.uniform(0.4, 0.9)
    scene.aspect[:, 0] = scene.aspect[:, 0].clip(1.0, 1.6)
    swell = np.exp(rng.choice([0.03, 0.1]) * _smooth_walk(rng, t, 1))
    scene.r *= swell
    # Sections of what lies around change more than the cord does.
    scene.r[:, 1:] *= np.exp(rng.choice([0.0, 0.08]) * _smooth_walk(rng, t, parts - 1)).clip(0.6, 1.5)
    return _slices(rng, scene, d, t)


# ---------------------------------------------------------------------------------------------- volumes
# Solids in three dimensions, cut by planes: what ends, what takes over its place and what shines through
# from the next plane then agree with each other.


@dataclass
class _Solids:
    """K solids; lengths along z are in planes, the others in pixels."""

    centre: Array  # (K, 3) z, y, x
    radius: Array  # (K, 3) half axes
    turn: Array  # (K,) angle in the plane
    lean: Array  # (K, 2) pixels a plane that the axis moves along y and x
    blunt: Array  # (K,) 2 for an ellipsoid; high for sections that stay, then end at once
    over: Array  # bool (K,): cuts into the solids before it, instead of sharing the border with them

    def __len__(self) -> int:
        return len(self.centre)


def _solids(
    rng: Rng, centre: Array, radius: Array, *, aspect: float = 1.4, lean: float = 0.2, blunt: float = 2.0
) -> _Solids:
    """Solids at `centre` with half axes near `radius` (K, 2): height in planes, and size in pixels."""
    k = len(centre)
    long = np.sqrt(_loguniform(rng, 1.0, max(aspect, 1.001), k))
    half = np.stack([radius[:, 0], radius[:, 1] * long, radius[:, 1] / long], axis=1)
    way = lean * rng.standard_normal((k, 2)) * (radius[:, 1] / radius[:, 0])[:, None]
    way = way.clip(-0.3 * radius[:, 1:], 0.3 * radius[:, 1:])  # sections of one body overlap
    return _Solids(centre, half, rng.uniform(0, np.pi, k), way, np.full(k, blunt), np.zeros(k, bool))


@dataclass
class _Cut:
    """Planes through solids, each (P, n, n)."""

    index: Array  # the solid, -1 outside
    owner: Array  # the nearest solid, also a little outside of it
    depth: Array  # pixels to the surface, positive inside
    wall: Array  # pixels to the border with the next solid


def _cut(solids: _Solids, planes: Array, n: int, warp: tuple[Array, Array] | None, reach: float) -> _Cut:
    """Cut solids; each point goes to the nearest one of which it is within `reach` radii."""
    f32 = np.float32
    shape = (len(planes), n, n)
    owner = np.full(shape, -1, np.int32)
    first, second = np.full(shape, 1e3, f32), np.full(shape, 1e3, f32)
    grid = np.arange(n, dtype=f32)
    stray = 0.0 if warp is None else max(float(np.abs(w).max()) for w in warp)
    for k in range(len(solids)):
        (cz, cy, cx), (h, a, b) = solids.centre[k], solids.radius[k]
        z0, z1 = np.searchsorted(planes, [cz - reach * h, cz + reach * h])
        if z0 >= z1:
            continue
        dz = planes[z0:z1] - cz
        ys, xs = cy + solids.lean[k, 0] * dz, cx + solids.lean[k, 1] * dz
        far = reach * max(a, b) + stray
        y0, y1 = max(int(ys.min() - far), 0), min(int(ys.max() + far) + 2, n)
        x0, x1 = max(int(xs.min() - far), 0), min(int(xs.max() + far) + 2, n)
        if y0 >= y1 or x0 >= x1:
            continue
        box = (slice(z0, z1), slice(y0, y1), slice(x0, x1))
        dy: Array = grid[None, y0:y1, None] - ys.astype(f32)[:, None, None]
        dx: Array = grid[None, None, x0:x1] - xs.astype(f32)[:, None, None]
        if warp is not None:
            dy, dx = dy + warp[0][box], dx + warp[1][box]
        s, c = f32(np.sin(solids.turn[k])), f32(np.cos(solids.turn[k]))
        u, v = (c / f32(a)) * dx + (s / f32(a)) * dy, (c / f32(b)) * dy - (s / f32(b)) * dx
        away = (np.abs(dz / h) ** solids.blunt[k]).astype(f32)[:, None, None]
        d = (np.sqrt(u * u + v * v + away) - f32(1)) * f32(np.sqrt(a * b))
        near = d < (0 if solids.over[k] else first[box])
        second[box] = np.where(near, first[box], np.minimum(second[box], d))
        np.copyto(first[box], d, where=near)
        np.copyto(owner[box], np.int32(k), where=near)
    return _Cut(np.where(first < 0, owner, -1), owner, -first, 0.5 * (second - first))


def _noise3(rng: Rng, p: int, n: int, scale: float, deep: float) -> Array:
    """Smooth field (p, n, n) of deviation 1, of blobs of `scale` pixels and `deep` planes."""
    g, q = min(max(int(n / scale) + 2, 3), n), min(max(int(p / deep) + 2, 3), p + 2)
    a = _resampler(n, g, "cubic")
    out = a @ rng.standard_normal((q, g, g), dtype=np.float32) @ a.T
    out = np.tensordot(_resampler(p, q, "cubic"), out, 1)
    return (out - out.mean()) / (out.std() + np.float32(1e-6))


def _warp3(rng: Rng, p: int, n: int, d: float, deep: float, strength: float) -> tuple[Array, Array]:
    """Displacement of a volume along y and x: outlines other than ellipses, other ones on each plane."""
    scale, amount = d * rng.uniform(0.5, 1.4), np.float32(strength * d)
    return amount * _noise3(rng, p, n, scale, deep), amount * _noise3(rng, p, n, scale, deep)


def _grain3(rng: Rng, p: int, n: int, grain: float) -> Array:
    """Texture (p, n, n) of mean 0 and deviation 1 that changes from plane to plane."""
    pool = _pool(rng, max(grain, 1.0), p, _depth_change(rng))
    at = np.arange(n) & (pool.shape[-1] - 1)
    out: Array = pool[:, at][:, :, at]
    return out


def _packed(rng: Rng, count: int, box: Array) -> Array:
    """Places (K, 3) of `count` spheres of diameter 1 in a box, pushed apart until they hardly overlap."""
    place = rng.uniform(0, box, (count, 3)).astype(np.float32)
    for _ in range(7):
        way = place[:, None] - place[None]
        dist = np.sqrt((way**2).sum(-1)) + np.float32(1e-3)
        lap = np.maximum(1 - dist, 0) / dist
        np.fill_diagonal(lap, 0)
        place += 0.3 * np.einsum("ab,abc->ac", lap, way)
    return place


def _axial(volume: Array, pad: int, sigma: float, spread: float) -> Array:
    """Each plane with the light of `pad` planes on either side, which is out of focus by `spread` pixels."""
    t = len(volume) - 2 * pad
    weight = np.exp(-0.5 * (np.arange(-pad, pad + 1) / sigma) ** 2).astype(np.float32)
    weight /= weight.sum()
    soft = _blur(volume, spread)
    out = weight[pad] * volume[pad : pad + t]
    for s in range(2 * pad + 1):
        if s != pad and weight[s] > 0.003:
            out += weight[s] * soft[s : s + t]
    return np.asarray(out, np.float32)


def _still(n: int, t: int, radius: Array, labelled: Array | None = None) -> _Scene:
    """What of a volume the later steps ask: the sizes and the ids of its solids."""
    k = len(radius)
    zero = np.zeros((t, k))
    ids = np.arange(1, k + 1)
    if labelled is not None:
        ids = np.where(labelled, ids, 0)
    row = np.broadcast_to(np.asarray(radius, float), (t, k))
    return _Scene(
        n, zero, zero, row, zero, zero + 1, np.zeros((t, k, 6), np.complex64), zero == 0, zero + 1, ids,
        camera=np.zeros((t, 2)),
    )  # fmt: skip


def _sparse_diameter(rng: Rng, n: int, low: float, high: float, across: float) -> float:
    """An object size of which at most `across` fit side by side."""
    return max(_diameter(rng, n, low, high), n / across)


def _nuclei3(rng: Rng, n: int, t: int) -> _Drawn:
    """Fluorescent bodies packed in depth: each plane shows the next ones faintly."""
    d = _sparse_diameter(rng, n, 14, 110, 11.0)
    height = _loguniform(rng, 1.6, 13.0)  # half of it, in planes
    pad = 2 if height < 2.5 else 3
    box = np.array([(t + 2 * pad) / (2 * height) + 1.0, n / d + 1.0, n / d + 1.0])
    dense = rng.uniform(0.25, 1.15)
    count = int(np.clip(dense * box.prod(), 3, 240))
    place = _packed(rng, count, box)
    if rng.random() < 0.6:  # one right above the other
        upper = np.flatnonzero(rng.random(count) < 0.5)
        lower = rng.permutation(count)[: len(upper)]
        place[upper] = place[lower] + [1.0, 0, 0] + rng.normal(0, 0.2, (len(upper), 3))
    centre = (place - 0.5) * [2 * height, d, d]
    centre[:, 0] -= pad + 0.0
    size = np.exp(rng.choice([0.08, 0.2, 0.35]) * rng.standard_normal(count)).clip(0.5, 1.7)
    fill = rng.uniform(0.8, 1.1)  # above 1 they press on each other
    radius = np.stack([height * size * fill, 0.5 * d * size * fill], axis=1)
    radius[:, 0] = radius[:, 0].clip(0.7)
    solids = _solids(
        rng, centre, radius, aspect=rng.uniform(1.1, 2.2), lean=rng.choice([0.0, 0.15, 0.4]),
        blunt=rng.choice([2.0, 3.0]),
    )  # fmt: skip
    planes = np.arange(-pad, t + pad, dtype=float)
    warp = _warp3(rng, len(planes), n, d, max(height, 1.5), rng.choice([0.03, 0.08, 0.14]))
    cut = _cut(solids, planes, n, warp, 1.15)
    gain = _loguniform(rng, rng.choice([0.3, 0.6, 0.85]), 1.0, count).astype(np.float32)
    body = np.clip(cut.depth / rng.choice([1.0, 1.0, 2.0]) + 0.5, 0, 1)
    if rng.random() < 0.5:
        body *= np.float32(0.4) + np.clip(cut.depth / np.float32(0.5 * d), 0, 1) ** np.float32(0.6)
    if rng.random() < 0.5:  # a dark seam between those that touch; else they look like one
        body *= 1 - np.float32(rng.uniform(0.2, 0.9)) * np.exp(-((cut.wall / max(0.05 * d, 0.7)) ** 2))
    grain = _grain3(rng, len(planes), n, d * rng.uniform(0.05, 0.25))
    body *= (1 + np.float32(rng.choice([0.05, 0.2, 0.4])) * grain).clip(0.1)
    body *= gain[cut.owner]
    sigma = min(_loguniform(rng, 0.3, 1.6), 0.55 * height)
    image = _axial(body, pad, sigma, rng.uniform(0.04, 0.2) * d)
    haze = rng.choice([0.0, 0.2, 0.6], p=[0.4, 0.35, 0.25])
    if haze:
        image += np.float32(haze) * _blur(image, rng.uniform(0.2, 0.6) * d + 1)
    image += np.float32(_loguniform(rng, 0.01, 0.25))
    fade = np.exp(-rng.choice([0.0, 0.04, 0.12]) * np.arange(t))[:: rng.choice([-1, 1])]
    image *= fade[:, None, None].astype(np.float32)
    return image, cut.index[pad : pad + t], _still(n, t, radius[:, 1])


def _cells3(rng: Rng, n: int, t: int, em: bool = False) -> _Drawn:
    """Cells that fill space, with walls; a wall that lies flat in the plane is broad and faint."""
    d = _sparse_diameter(rng, n, 18, 120, 7.0)
    height = _loguniform(rng, 1.5, 16.0) if not em else _loguniform(rng, 4.0, 25.0)
    pad = 1 if height < 2 else 2
    filled = rng.random() < 0.65  # no background; else there are gaps between the cells
    apart = (1.5 if filled else 1.7) * height
    layers = int((t + 2 * pad) / apart) + 3
    rows = []
    for i in range(layers):
        flat = _grid(rng, n, d) + rng.uniform(-0.5, 0.5, 2) * d
        z = apart * (i - 1 + rng.normal(0, 0.2, len(flat))) + rng.uniform(-0.5, 0.5) * height - pad
        rows.append(np.column_stack([z, flat]))
    centre = np.concatenate(rows)
    # In view first, so that ids beyond a byte are those at the margin.
    far = np.abs(centre[:, 1:] - n / 2).max(1) / d + np.abs(centre[:, 0] - 0.5 * t) / (2 * height)
    centre = centre[np.argsort(far)][:230]
    k = len(centre)
    size = np.exp(rng.choice([0.03, 0.12, 0.25]) * rng.standard_normal(k)).clip(0.6, 1.6)
    radius = np.stack([height * size, 0.5 * d * size], axis=1)
    solids = _solids(rng, centre, radius, aspect=rng.uniform(1.05, 1.9), lean=rng.choice([0.0, 0.1, 0.3]))
    planes = np.arange(-pad, t + pad, dtype=float)
    warp = _warp3(rng, len(planes), n, d, max(height, 1.5), rng.choice([0.03, 0.08]))
    cut = _cut(solids, planes, n, warp, 1.7 if filled else 1.45)
    # Cells reach some way beyond their radius, and beyond that is no tissue.
    beyond = np.float32((0.35 if filled else rng.uniform(0.05, 0.2)) * d)
    inside = (cut.depth > -beyond) & (cut.owner >= 0)
    wall = np.minimum(cut.wall, cut.depth + beyond)
    wide = max(d * rng.uniform(0.02, 0.07), 0.6)
    line = np.exp(-((wall / wide) ** 2)) * inside
    patchy = 1 + np.float32(rng.choice([0.0, 0.25, 0.5])) * _noise3(rng, len(planes), n, 0.6 * d, 2.0)
    line *= patchy.clip(0.15)
    inner = np.float32(rng.uniform(0.0, 0.15)) * _grain3(rng, len(planes), n, d * rng.uniform(0.03, 0.15))
    inner += (rng.uniform(0, 0.3) * rng.random(k)).astype(np.float32)[cut.owner]
    inner += np.float32(rng.uniform(0.0, 0.15))
    if em:
        ground = _em_ground(rng, _still(n, len(planes), radius[:, 1]), d)
        body = 0.55 + 0.4 * (inner - 0.2) + 0.1 * ground - 0.45 * line
    else:
        body = inner * inside + line
    if not em and rng.random() < 0.25:  # nuclei as well
        body += np.float32(rng.uniform(0.1, 0.5)) * (cut.depth > rng.uniform(0.1, 0.25) * d)
    sigma = 0.3 if em else min(_loguniform(rng, 0.3, 1.3), 0.4 * height)
    image = _axial(body.astype(np.float32, copy=False), pad, sigma, rng.uniform(0.02, 0.1) * d)
    if not em and rng.random() < 0.3:
        image = image + np.float32(rng.uniform(0.1, 0.4)) * _blur(image, 0.5 * d)
    if not em and rng.random() < 0.25:
        image = -image
    labels = np.where(inside & ((wall > wide / 3) | (wide < 3)), cut.owner, -1)
    return image.astype(np.float32), labels[pad : pad + t], _still(n, t, radius[:, 1])


def _thick(volume: Array, t: int, fine: bool) -> Array:
    """Planes of some thickness, from planes half as far apart or as far: the partial volume of both sides."""
    if fine:
        middle = volume[2 : 2 + 2 * t : 2]
        return np.asarray(0.5 * middle + 0.25 * (volume[1 : 1 + 2 * t : 2] + volume[3 : 3 + 2 * t : 2]))
    return np.asarray(0.7 * volume[1 : 1 + t] + 0.15 * (volume[:t] + volume[2 : 2 + t]))


def _planes(t: int, n: int) -> tuple[Array, slice, bool]:
    """Planes to cut for `_thick`, which of them carry labels, and whether they are half as far apart."""
    if n < 120:
        return np.arange(-1, t + 0.75, 0.5), slice(2, 2 + 2 * t, 2), True
    return np.arange(-1.0, t + 1), slice(1, 1 + t), False


# Hounsfield units of what a trunk is made of.
_FAT, _MUSCLE, _BONE, _LUNG = -100.0, 50.0, 550.0, -830.0


def _anatomy(rng: Rng, n: int, t: int) -> _Drawn:
    """CT or MR of a trunk: organs that press on each other, bones, vessels, a row of vertebrae, lungs."""
    planes, shown, fine = _planes(t, n)
    p = len(planes)
    d = float(_loguniform(rng, max(7.0, n / 12), n / 3.2))
    middle = rng.uniform(0.35, 0.65, 2) * n
    wide = n * rng.uniform(0.35, 0.9)
    count = int(np.clip(_loguniform(rng, 0.6, 3.0) * (n / d) ** 2, 6, 90))
    size = (0.5 * d * np.exp(0.4 * rng.standard_normal(count))).clip(3.0, 0.3 * n)
    height = _loguniform(rng, 2.0, 4.0 * t, count) * np.sqrt(size / size.mean())
    where = middle + rng.uniform(-1, 1, (count, 2)) * wide * 0.8
    z = rng.uniform(-0.8 * height, t + 0.8 * height)
    # 0 parenchyma, 1 muscle, 2 bone, 3 vessel, 4 gut, 5 lung
    kind = rng.choice(6, count, p=[0.5, 0.14, 0.1, 0.13, 0.09, 0.04])
    vessel = kind == 3
    size[vessel] = (size[vessel] * 0.45).clip(2.0)
    size[kind == 5] = (size[kind == 5] * 2).clip(0, 0.3 * n)
    height[vessel] = np.maximum(height[vessel], 2.5)
    solids = _solids(
        rng, np.column_stack([z, where]), np.column_stack([height.clip(0.8), size]),
        aspect=rng.uniform(1.2, 2.6), lean=rng.choice([0.1, 0.3]),
    )  # fmt: skip
    solids.blunt = rng.choice([2.0, 3.0, 6.0], count)
    solids.lean[vessel] = rng.normal(0, 0.15 * d / 3, (int(vessel.sum()), 2))
    solids.over = vessel.copy()
    parts = [(solids, kind)]
    hosts = np.flatnonzero((kind == 0) & (rng.random(count) < 0.3) & (size > 5))
    if hosts.size:  # cysts, pelves, ventricles
        part = rng.uniform(0.25, 0.7, len(hosts))
        shift = rng.uniform(-0.35, 0.35, (len(hosts), 3)) * solids.radius[hosts]
        inner = _solids(
            rng, solids.centre[hosts] + shift,
            np.column_stack([height[hosts] * part, size[hosts] * part]).clip(0.8),
        )  # fmt: skip
        inner.over[:] = True
        parts.append((inner, np.zeros(len(hosts), int)))
    if rng.random() < 0.5:
        parts.append(_vertebrae(rng, middle + rng.uniform(-0.25, 0.25, 2) * n, d * rng.uniform(0.5, 1.1), t))
    whole = _Solids(
        *(
            np.concatenate([getattr(s, name) for s, _ in parts])
            for name in ("centre", "radius", "turn", "lean", "blunt", "over")
        )
    )
    kind = np.concatenate([k for _, k in parts])
    k = len(kind)
    warp = _warp3(rng, p, n, d, rng.uniform(2.0, 8.0) * (2 if fine else 1), rng.choice([0.04, 0.1, 0.16]))
    cut = _cut(whole, planes, n, warp, 1.1)
    inside = cut.index >= 0
    computed = rng.random() < 0.55  # tomography by X rays; else magnetic resonance
    grain = _grain3(rng, p, n, d * rng.uniform(0.05, 0.2))
    if computed:
        level = rng.uniform(*rng.choice([(40, 70), (20, 130), (0, 180)]), k)
        level[kind == 1] = _MUSCLE + rng.normal(0, 6, int((kind == 1).sum()))
        level[kind == 2] = rng.uniform(80, 260)
        level[kind == 3] = rng.choice([45.0, 130.0, 220.0]) + rng.normal(0, 15, int((kind == 3).sum()))
        level[kind == 4] = rng.choice([-900.0, 10.0, 40.0], int((kind == 4).sum()))
        level[kind == 5] = _LUNG
        ground, shell, air, unit = rng.choice([_FAT, _FAT, _MUSCLE]), _BONE, -1000.0, 8.0
    else:
        level = rng.uniform(0.25, 0.8) + rng.choice([0.06, 0.15, 0.3]) * rng.standard_normal(k)
        for j in (1, 2, 3, 4, 5):
            level[kind == j] = rng.uniform(0.05, 1.0) + rng.normal(0, 0.03, int((kind == j).sum()))
        ground, shell, air, unit = rng.uniform(0.2, 0.95), 0.05, 0.0, 0.02
    # What looks like its surroundings cannot be learned.
    least = 2.0 * unit if computed else 0.07
    level = np.where(np.abs(level - ground) < least, ground + rng.choice([-1, 1], k) * least, level)
    level = level.astype(np.float32)
    value = np.where(inside, level[cut.owner], np.float32(ground))
    value += np.float32(unit * rng.choice([0.5, 1.5, 3.0])) * grain
    of = np.where(inside, kind[cut.owner], -1)
    thick = max(0.05 * d, 0.9)
    value = np.where((of == 2) & (cut.depth < thick), np.float32(shell), value)
    if computed:
        value = np.where((of == 4) & (cut.depth < thick), np.float32(_MUSCLE), value)
    value = np.where((of == 5) & (grain > 1.6), np.float32(_MUSCLE if computed else 0.5), value)
    if rng.random() < 0.6:  # a line of fat, or a capsule, between organs
        line = np.exp(-((np.minimum(cut.wall, cut.depth.clip(0)) / rng.uniform(0.5, 1.0)) ** 2)) * (
            (of == 0) | (of == 1)
        )
        value += np.float32(rng.uniform(0.3, 0.9)) * line * (np.float32(ground) - value)
    rows = np.arange(n, dtype=np.float32)
    far = ((rows[:, None] - middle[0]) / (wide * rng.uniform(0.7, 1.0))) ** 2 + (
        (rows - middle[1]) / wide
    ) ** 2
    skin = (np.sqrt(far, dtype=np.float32) - 1) * np.float32(wide) + warp[0][p // 2]
    if rng.random() < 0.7:
        rim = rng.uniform(0.0, 0.12) * n
        value = np.where(skin > -rim, np.float32(_FAT if computed else rng.uniform(0.3, 1)), value)
        value = np.where(skin > 0, np.float32(air), value)
        seen = skin < -rim
    else:
        seen = np.ones((n, n), bool)
    image = _blur(_thick(value, t, fine).astype(np.float32), rng.uniform(0.4, 0.9))
    if computed:
        image += np.float32(_loguniform(rng, 2, 25)) * _speckle(rng, image.shape)
        centre, span = rng.choice(
            [(40.0, 400.0), (40.0, 400.0), (50.0, 250.0), (100.0, 1000.0), (-200.0, 1600.0)]
        )
        image = np.clip((image - centre) / span + 0.5, 0, 1)
    else:
        image = _magnetic(rng, image)
    labels = np.where(seen, cut.index, -1)[shown]
    if (kind == 5).any():  # nothing shows where one lung ends and another begins
        labels = np.where((labels >= 0) & (kind[labels] == 5), int(np.argmax(kind == 5)), labels)
    return image.astype(np.float32), labels, _still(n, t, whole.radius[:, 1], rng.random(k) < 0.88)


def _vertebrae(rng: Rng, where: Array, d: float, t: int) -> tuple[_Solids, Array]:
    """A row of bodies along z, each of which ends where a disc or the next one begins."""
    half = _loguniform(rng, 1.5, 5.0)
    gap = rng.uniform(0.1, 1.2)
    count = int((t + 6) / (2 * half + gap)) + 2
    z = -3 + rng.uniform(-1, 1) * half + (2 * half + gap) * np.arange(count)
    centre = np.column_stack([z, np.tile(where, (count, 1))])
    solids = _solids(rng, centre, np.tile([half, 0.5 * d], (count, 1)), aspect=1.0, lean=0.0)
    solids.radius[:, 1] *= rng.uniform(1.0, 1.35)
    solids.turn[:] = rng.choice([0.0, np.pi / 2])
    solids.blunt[:] = 8.0
    solids.over[:] = True
    return solids, np.full(count, 2)


def _speckle(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Noise of a reconstruction: correlated over about a pixel."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    return _blur(noise, 0.6) * np.float32(1.9) if rng.random() < 0.6 else noise


def _magnetic(rng: Rng, image: Array) -> Array:
    """Uneven sensitivity of the coils, and noise of a magnitude (Rician)."""
    n = image.shape[-1]
    bias = np.exp(np.float32(rng.choice([0.05, 0.2, 0.4])) * _noise(rng, n, n, n * rng.uniform(0.5, 1.2)))
    sigma = np.float32(_loguniform(rng, 0.006, 0.08))
    real = image * bias + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.hypot(real, sigma * rng.standard_normal(image.shape, dtype=np.float32))


@dataclass
class _Grey:
    """Brightness of the parts around a spinal cord in one kind of magnetic resonance."""

    cord: float
    core: float  # grey matter
    fluid: float
    bone: float
    disc: float
    flesh: float
    fat: float


def _contrast(rng: Rng) -> _Grey:
    if rng.random() < 0.5:  # T2: bright fluid
        cord = rng.uniform(0.3, 0.5)
        core, fluid, disc = cord + rng.uniform(0, 0.12), rng.uniform(0.7, 1.0), rng.uniform(0.2, 0.7)
        core += rng.choice([0.0, 0.12])  # as a gradient echo shows it
    else:  # T1: dark fluid
        cord = rng.uniform(0.45, 0.7)
        core, fluid, disc = cord - rng.uniform(0, 0.08), rng.uniform(0.1, 0.3), rng.uniform(0.25, 0.45)
    return _Grey(
        cord, core, fluid, rng.uniform(0.25, 0.7), disc, rng.uniform(0.15, 0.45), rng.uniform(0.5, 1)
    )


def _spine_axial(rng: Rng, n: int, t: int) -> _Drawn:
    """Cross-sections of a spinal cord in its fluid, with a vertebra in front and an arch behind."""
    planes, shown, fine = _planes(t, n)
    p = len(planes)
    f32 = np.float32
    d = float(_loguniform(rng, 7, max(0.24 * n, 12)))  # width of the cord
    grey = _contrast(rng)
    z = planes.astype(f32)[:, None, None]
    pace = rng.choice([0.01, 0.03, 0.08]) * d  # pixels a plane
    heading = rng.uniform(0, 2 * np.pi)
    place = rng.uniform(0.35, 0.65, 2) * n
    sway = rng.choice([0.0, 0.02]) * d * rng.standard_normal(p)  # the patient moved
    sway += 0.5 * pace * np.sin(planes * rng.uniform(0.3, 1.0) + rng.uniform(0, 6.3))
    cy = (place[0] + pace * np.sin(heading) * planes + sway).astype(f32)[:, None, None]
    cx = (place[1] + pace * np.cos(heading) * planes).astype(f32)[:, None, None]
    warp = _warp3(rng, p, n, d, rng.uniform(2, 6), rng.choice([0.02, 0.05]))
    grid = np.arange(n, dtype=f32)
    dy, dx = grid[None, :, None] - cy + warp[0], grid[None, None, :] - cx + warp[1]
    turn = rng.normal(0, 0.25) + rng.choice([0, np.pi / 2, np.pi, -np.pi / 2])
    v, u = (
        (np.cos(turn) * dy - np.sin(turn) * dx).astype(f32),
        (np.sin(turn) * dy + np.cos(turn) * dx).astype(f32),
    )
    swell = 1 + rng.choice([0.02, 0.06, 0.12]) * np.sin(planes * rng.uniform(0.15, 0.6) + rng.uniform(0, 6.3))
    a = f32(0.5 * d) * swell[:, None, None].astype(f32)
    b = a * f32(rng.uniform(0.6, 0.95))
    end = rng.uniform(0, t) if rng.random() < 0.12 else None  # the conus: the cord tapers and is gone
    if end is not None:
        left = np.sqrt(np.clip((end - z) / rng.uniform(2, 5), 0, 1)).astype(f32) + f32(1e-3)
        a, b = a * left, b * left
    cord = (np.hypot(u / a, v / b) - 1) * b
    room = f32(0.5 * d * rng.uniform(1.25, 1.9))
    off = f32(rng.uniform(-0.12, 0.12) * d)
    canal = np.hypot(u / f32(rng.uniform(1.0, 1.25)), v - off) - room
    large = f32(d * rng.uniform(0.8, 1.4))
    front = room + large * f32(rng.uniform(0.75, 0.9))
    body = np.hypot(u / f32(rng.uniform(1.0, 1.3)), v - front) - large
    period = rng.uniform(3, 14)
    phase = np.mod(planes / period + rng.random(), 1.0)
    disc = (phase < rng.uniform(0.15, 0.35))[:, None, None]
    arch = np.abs(np.hypot(u, v) - room - f32(0.25 * d)) - f32(0.12 * d)
    arch = np.maximum(arch, v - f32(0.2 * d))  # behind the canal only
    spike = np.maximum(np.abs(u) - f32(0.13 * d), np.abs(v + room + f32(0.8 * d)) - f32(0.6 * d))
    spike = np.where(phase[:, None, None] < 0.6, spike, f32(9.0))
    lumps = _noise3(rng, p, n, d * rng.uniform(0.6, 2.0), rng.uniform(2, 8))
    if rng.random() < 0.5:  # muscles, with little fat between them
        grey.fat = grey.flesh + rng.uniform(0.05, 0.2)
    value = grey.flesh + 0.05 * _noise3(rng, p, n, 0.25 * d, 2.0)
    value = np.where(lumps > rng.uniform(0.8, 1.4), f32(grey.fat), value)
    value = np.where(body < 0, np.where(disc, f32(grey.disc), f32(grey.bone)), value)
    value = np.where((np.abs(body) < max(0.05 * d, 0.5)) | (np.minimum(arch, spike) < 0), f32(0.08), value)
    ring = rng.choice([0.0, 0.06, 0.12]) * d
    value = np.where(canal < 0, f32(grey.fat if rng.random() < 0.4 else 0.1), value)
    value = np.where(canal < -ring, f32(grey.fluid), value)
    core = rng.random() < 0.5
    value = np.where(cord < 0, f32(grey.cord), value)
    if core:  # two horns on either side and a bridge
        w, q = np.abs(u) / a, v / b
        horns = (np.abs(w - f32(0.32) - f32(0.12) * np.abs(q)) < 0.13) & (np.abs(q) < 0.65)
        value = np.where(horns | ((np.abs(q) < 0.12) & (w < 0.35)), f32(grey.core), value)
    image = _magnetic(rng, _blur(_thick(value, t, fine).astype(f32), rng.uniform(0.5, 1.0)))
    index = np.full(value.shape, -1, np.int32)
    if rng.random() < 0.5:  # each vertebra and disc has its own label
        number = np.floor(planes / period + 1.0).astype(np.int32)[:, None, None]
        number = 2 + 2 * (number - number.min()) + disc
        index = np.where(body < 0, np.minimum(number, 40), index)
    if rng.random() < 0.35:
        index = np.where(canal < -ring, 1, index)
    index = np.where(cord < 0, 0, index)
    return image, index[shown], _still(n, t, np.full(41, 0.5 * d))


def _spine_sagittal(rng: Rng, n: int, t: int) -> _Drawn:
    """Lengthwise planes: the cord is a band through the frame that narrows and is gone to both sides."""
    planes, shown, fine = _planes(t, n)
    p = len(planes)
    f32 = np.float32
    d = float(_loguniform(rng, 5, max(0.1 * n, 8)))  # front to back
    grey = _contrast(rng)
    half = _loguniform(rng, 1.2, 6.0)  # planes from the middle of the cord to its side
    middle = rng.uniform(0.3, 0.7) * t
    if rng.random() < 0.65:  # in view on the first or the last plane
        middle = rng.uniform(-0.5, 0.8) * half
        middle = middle if rng.random() < 0.5 else t - 1 - middle
    grid = np.arange(n)
    rows, cols = grid / n, grid[None, None, :]
    curve = rng.uniform(0.35, 0.65) * n + rng.uniform(-0.12, 0.12) * n * np.sin(
        3 * rows + rng.uniform(0, 6.3)
    )
    curve = curve + rng.uniform(-0.2, 0.2) * n * (rows - 0.5)
    scoliosis = rng.choice([0.0, 0.5, 1.5]) * np.sin(3 * rows + rng.uniform(0, 6.3))
    z = (planes[:, None, None] - middle - scoliosis[None, :, None]).astype(f32)
    swell = 1 + 0.12 * np.sin(5 * rows + rng.uniform(0, 6.3))
    end = rng.uniform(0.5, 0.95) if rng.random() < 0.3 else 2.0  # conus
    swell = (swell * np.sqrt(np.clip((end - rows) / 0.12, 0, 1)))[None, :, None].astype(f32)
    v = (cols - curve[None, :, None]).astype(f32) + f32(0.12 * d) * _noise3(rng, p, n, 2 * d, 3.0)
    flat = np.sqrt(np.clip(1 - (z / f32(half)) ** 2, 0, 1))
    cord = np.abs(v) - f32(0.5 * d) * flat * swell
    cord = np.where(flat * swell > 0.15, cord, f32(9.0))
    room, broad = f32(0.5 * d * rng.uniform(1.4, 2.2)), f32(half * rng.uniform(1.2, 1.7))
    open_ = np.sqrt(np.clip(1 - (z / broad) ** 4, 0, 1))
    canal = np.where(open_ > 0.1, np.abs(v - f32(0.15 * d)) - room * open_, f32(9.0))
    period = rng.uniform(1.6, 3.2) * d
    tilt = (grid.astype(f32)[None, :, None] - f32(0.15) * v) / f32(period) + f32(rng.random())
    phase, number = np.mod(tilt, 1.0), np.floor(tilt).astype(np.int32)
    deep = f32(d * rng.uniform(1.8, 3.0))
    round_ = np.sqrt(np.clip(1 - (z / f32(half * rng.uniform(2, 4))) ** 4, 0, 1))
    front = np.abs(v - room - f32(0.5) * deep) - f32(0.5) * deep * round_
    gap = rng.uniform(0.12, 0.3)
    body = (front < 0) & (phase > gap)
    disc = (front < 0) & ~body
    back = (v < -room) & (v > -room - deep * f32(0.9)) & (np.mod(tilt + 0.3, 1.0) < 0.45) & (np.abs(z) < half)
    value = grey.flesh + 0.06 * _noise3(rng, p, n, d, 2.0) + 0.04 * _noise3(rng, p, n, 0.4 * d, 2.0)
    value = np.where(_noise3(rng, p, n, 2 * d, 3.0) > 1.0, f32(grey.fat), value)
    value = np.where(v > room + deep * 1.3, f32(rng.uniform(0.02, 0.3)), value)  # throat or aorta
    value = np.where(body, f32(grey.bone), np.where(disc, f32(grey.disc), value))
    value = np.where(back, f32(grey.bone * 0.9), value)
    value = np.where(np.abs(front) < 0.6, f32(0.1), value)
    value = np.where(canal < 0, f32(grey.fluid), value)
    value = np.where(cord < 0, f32(grey.cord), value)
    image = _magnetic(rng, _blur(_thick(value, t, fine).astype(f32), rng.uniform(0.5, 1.0)))
    index = np.full(value.shape, -1, np.int32)
    if rng.random() < 0.35:
        place = 2 + (number - number.min()) * 2
        index = np.where(body, place, np.where(disc, place + 1, -1))
    if rng.random() < 0.3:
        index = np.where(canal < 0, 1, index)
    index = np.where(cord < 0, 0, index)
    if rng.random() < 0.5:  # the spine lies along the rows
        image, index = image.transpose(0, 2, 1), index.transpose(0, 2, 1)
    return image, index[shown], _still(n, t, np.full(int(index.max()) + 2, 0.7 * d))


def _texture(rng: Rng, n: int, t: int) -> _Drawn:
    """Objects that differ from their surroundings in texture more than in brightness."""
    d = _diameter(rng, n, 30, 150)
    scene = _scene(
        rng,
        n,
        t,
        d,
        _count(rng, n, d, 0.04, 0.5, 25),
        rough=rng.uniform(0.03, 0.2),
        aspect=(1.0, rng.uniform(1.1, 2.2)),
    )
    grain = max(d * rng.uniform(0.03, 0.12), 1.0)
    buf = _rasterise(scene, _pool(rng, grain, t), rng)
    other = grain * rng.choice([0.4, 2.5])
    change = rng.choice([0.0, 0.1])
    ground = _moving(scene, lambda m: _fractal(rng, m, m, max(other * 2, 2.0), 1.0), change)
    amount = rng.uniform(0.3, 1.0)
    body = amount * buf.tex + rng.uniform(-0.8, 0.8)
    cover = buf.cover()
    image = body * cover + (1 - cover) * ground * rng.uniform(0.2, 0.8)
    if rng.random() < 0.4:
        rim = np.exp(-((buf.depth / max(0.03 * d, 0.9)) ** 2))
        image += rng.choice([-1, 1]) * rng.uniform(0.4, 1.2) * rim
    return image.astype(np.float32), buf.index, scene


def _small(rng: Rng, n: int, t: int) -> _Drawn:
    return _fluo(rng, n, t, small=True)


_LOOKS: dict[str, tuple[Callable[[Rng, int, int], _Drawn], float]] = {
    "fluo": (_fluo, 1.5),
    "small": (_small, 0.8),
    "cyto": (_cyto, 1.0),
    "zstack": (_zstack, 2.6),
    "histology": (_histology, 1.0),
    "phase": (_phase, 3.0),
    "dic": (_dic, 0.9),
    "yeast": (_yeast, 0.9),
    "bacteria": (_bacteria, 3.0),
    "membrane": (_membrane, 1.6),
    "em": (_em, 1.1),
    "organs": (_organs, 2.2),
    "tube": (_tube, 1.2),
    "texture": (_texture, 0.8),
}
MODES: tuple[str, ...] = tuple(_LOOKS)
MODE_WEIGHTS: tuple[float, ...] = tuple(weight for _, weight in _LOOKS.values())
_WEIGHTS = np.array(MODE_WEIGHTS) / sum(MODE_WEIGHTS)


# ---------------------------------------------------------------------------------------------- imaging


def _render(rng: Rng, size: int, n_frames: int, mode: str) -> tuple[Array, Array]:
    # Volumes have few pixels in a plane, as a plane costs time or dose.
    share = 0.75 if mode in ("zstack", "membrane", "organs", "tube") else 0.6 if mode == "bacteria" else 0.42
    coarse = rng.random() < share
    n = int(rng.integers(size // 4, int(size * 0.65))) if coarse else size
    if mode == "small":
        n = size if rng.random() < 0.7 else int(rng.integers(size // 2, size))
    image, index, scene = _LOOKS[mode][0](rng, n, n_frames)
    ids = np.append(scene.ids, 0).astype(np.uint16)
    labels = _drop_crumbs(ids[index], 4 if n < size // 2 else 9)
    image = _imaging(rng, image.astype(np.float32, copy=False), mode, 2 * float(np.median(scene.r[0])))
    low, high = np.percentile(image, [0.1, 99.9])
    span = max(high - low, 1e-6)
    if rng.random() < 0.25:  # the rest of the stack was brighter, or darker, than what is seen here
        high += span * rng.uniform(0, 1.2)
        low -= span * rng.uniform(0, 0.3)
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    if n != size:
        kind = _resampler(size, n, "linear")
        image = np.clip(kind @ image @ kind.T, 0, 1)
        at = np.minimum(((np.arange(size) + 0.5) * n / size).astype(int), n - 1)
        labels = labels[:, at][:, :, at]
    return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(labels, np.uint16)


def _drop_crumbs(labels: Array, least: int) -> Array:
    """Unlabel objects of which fewer than `least` pixels show on a frame."""
    out = labels.copy()
    for frame in out:
        area = np.bincount(frame.ravel())
        few = np.flatnonzero((area > 0) & (area < least))
        if few.size:
            frame[np.isin(frame, few)] = 0
    return out


def _imaging(rng: Rng, image: Array, mode: str, diameter: float) -> Array:
    """Optics and camera: blur, uneven light, bleaching, dirt, noise, gamma, inversion."""
    t, n, _ = image.shape
    glowing = mode in ("fluo", "small", "cyto", "zstack")
    span = float(np.percentile(image[:, ::2, ::2], 99.5) - np.percentile(image[:, ::2, ::2], 0.5)) + 1e-6
    image = (image - float(image.min())) / span
    psf = rng.choice([0.0, 0.6, 1.0, 1.8, 3.0], p=[0.2, 0.3, 0.27, 0.16, 0.07]) * max(n / 256, 0.5)
    widest = diameter * (0.05 if mode == "dic" else 0.12)  # beyond that nothing is left to be found
    psf = min(psf, widest)
    image = _blur(image, psf)
    if rng.random() < 0.3:  # focus drifts
        wave = 0.5 * (1 + np.sin(rng.uniform(0, 6.3) + rng.uniform(0.2, 1.0) * np.arange(t)))
        soft = _blur(image, min(rng.uniform(1.0, 3.0) * n / 256 + 0.3, widest))
        image = image + wave[:, None, None].astype(np.float32) * (soft - image)
    if rng.random() < 0.4:  # uneven light
        light = 1 + rng.uniform(0.05, 0.3) * _noise(rng, n, n, n * rng.uniform(0.4, 1.0))
        image = image * light.clip(0.3) if glowing or rng.random() < 0.5 else image + 0.6 * (light - 1)
    image = _dirt(rng, image, glowing)
    fade = rng.choice([0.0, 0.03, 0.1], p=[0.5, 0.3, 0.2]) if glowing else rng.choice([0.0, 0.01])
    flicker = rng.choice([0.0, 0.02, 0.08], p=[0.6, 0.3, 0.1]) * rng.standard_normal(t)
    image = image * np.exp(-fade * np.arange(t) + flicker)[:, None, None].astype(np.float32)
    if rng.random() < 0.08:  # saturated camera
        image = np.minimum(image, np.float32(np.percentile(image[:, ::2, ::2], rng.uniform(90, 99))))
    if rng.random() < 0.05:  # scan lines
        image = image + rng.uniform(0.01, 0.08) * rng.standard_normal((t, n, 1), dtype=np.float32)
    amount = _loguniform(rng, 0.004, 0.2 if rng.random() < 0.3 else 0.07)
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < 0.25:
        grain = _blur(grain, 0.6) * 1.8
    shot = rng.uniform(0.3, 1.0) if glowing else rng.uniform(0.0, 0.6)
    image = image + amount * grain * np.sqrt(1 - shot + shot * np.clip(image, 0, 2))
    if rng.random() < 0.3:
        low = float(image.min())
        image = (np.maximum(image - low, 0) / (1.5 - min(low, 0.4))) ** np.float32(rng.uniform(0.5, 1.6))
    if rng.random() < (0.08 if glowing else 0.2):
        image = -image
    return image


def _dirt(rng: Rng, image: Array, glowing: bool) -> Array:
    """Specks that stay or wander, and large blobs out of focus; none of them is labelled."""
    t, n, _ = image.shape
    if rng.random() < 0.3:
        count = int(rng.integers(1, 25))
        where = rng.uniform(0, n, (count, 2))
        walk = rng.choice([0.0, 0.01]) * n * rng.standard_normal((t, count, 2)).cumsum(0)
        spots = np.zeros_like(image)
        at = np.rint(where + walk).astype(int)
        good = ((at >= 0) & (at < n)).all(-1)
        frame, which = np.nonzero(good)
        power = _loguniform(rng, 0.3, 1.2, count) * (1 if glowing else rng.choice([-1, 1]))
        spots[frame, at[frame, which, 0], at[frame, which, 1]] = power[which]
        sigma = rng.uniform(0.6, 1.6) * max(n / 256, 0.5)
        image = image + _blur(spots, sigma) * np.float32(6.3 * max(sigma, 0.3) ** 2)
    if rng.random() < 0.2:
        rows = np.arange(n, dtype=np.float32)
        for _ in range(int(rng.integers(1, 4))):
            cy, cx = rng.uniform(0, n, 2)
            wide = rng.uniform(0.05, 0.2) * n
            blob = np.exp(-(((rows - cy) / wide) ** 2))[:, None] * np.exp(-(((rows - cx) / wide) ** 2))[None]
            image = image + np.float32(rng.uniform(0.1, 0.5) * (1 if glowing else rng.choice([-1, 1]))) * blob
    return image

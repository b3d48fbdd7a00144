"""Scenes: where every object is on every frame, how it moves, turns, grows, divides and leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from synth.fields import Array, Rng, loguniform, smooth_noise


@dataclass
class Scene:
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

    def begin_at(self, centre: Array) -> None:
        """Let the objects begin at `centre` (K, 2), each in view on all frames."""
        self.y += centre[:, 0] - self.y[:1]
        self.x += centre[:, 1] - self.x[:1]
        self.alive[:] = True


def smooth_walk(rng: Rng, n_frames: int, count: int, smooth: float = 0.7) -> Array:
    """Zero at frame 0, unit-size steps that keep their direction; (T, K)."""
    steps = rng.standard_normal((n_frames, count))
    for t in range(1, n_frames):
        steps[t] = smooth * steps[t - 1] + np.sqrt(1 - smooth**2) * steps[t]
    walk = np.cumsum(steps, axis=0)
    return walk - walk[:1]


def pick_diameter(rng: Rng, n: int, low: float = 8, high: float = 150, most_across: float = np.inf) -> float:
    """Object size in working pixels, of which at most `most_across` fit side by side.

    Sizes are meant at 256 px, most are 40 to 95.
    """
    if n < 160:
        low = max(low, 6.5 * 256 / n)
    part = rng.random()
    a, b = (40.0, 95.0) if part < 0.62 else ((8.0, 40.0) if part < 0.82 else (95.0, 150.0))
    a, b = np.clip([a, b], low, high)
    return max(float(loguniform(rng, a, max(b, a * 1.01)) * n / 256), n / most_across)


def pick_count(
    rng: Rng, n: int, diameter: float, low: float = 0.04, high: float = 0.6, most: int = 60
) -> int:
    """How many objects of `diameter` cover a share of the frame between `low` and `high`, up to `most`."""
    fill = rng.uniform(low, high)
    return int(np.clip(fill * ((n + 0.6 * diameter) / diameter) ** 2 * 1.2, 1 + (rng.random() < 0.8), most))


# Object diameters a frame.
_SPEEDS = ((0.0, 0.04), (0.04, 0.2), (0.2, 0.5), (0.5, 1.3))


def make_scene(
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
) -> Scene:
    """Draw a scene of `count` objects of about `diameter` pixels; the rest are amounts of variety."""
    t, k = n_frames, count
    size = 0.5 * diameter * np.exp(spread * rng.standard_normal(k)).clip(0.5, 2.0)
    long = loguniform(rng, *aspect, k) if aspect[1] > aspect[0] else np.full(k, aspect[0])
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
        + (1 - 0.7 * common) * (0.6 * drift[0] * times + 0.5 * smooth_walk(rng, t, k))
    )
    x = centre[:, 1] + step * (
        common * np.cos(heading) * times
        + (1 - 0.7 * common) * (0.6 * drift[1] * times + 0.5 * smooth_walk(rng, t, k))
    )
    camera = np.zeros((t, 2))
    if rng.random() < 0.3:  # stage drift, jitter, and sometimes a jump that takes objects out and back
        camera = smooth_walk(rng, t, 2) * rng.uniform(0, 0.06) * n + rng.normal(0, 0.008 * n, (t, 2))
        if rng.random() < 0.3 and t > 2:
            camera[rng.integers(1, t - 1)] += rng.normal(0, 0.12 * n, 2)
        camera -= camera[0]
    spin = turn if turn is not None else rng.choice([0.03, 0.12, 0.35], p=[0.4, 0.4, 0.2])
    angle = rng.uniform(0, 2 * np.pi, k) + spin * smooth_walk(rng, t, k)
    growth = np.exp(rng.normal(0, 0.02) * times + rng.choice([0.01, 0.04]) * smooth_walk(rng, t, k))
    r = size * growth.clip(0.6, 1.7)
    orders = np.arange(2, 8)
    amp = rough * rng.uniform(0.3, 1.7, (1, k, 1)) * (2.0 / orders) ** rng.uniform(0.8, 1.6)
    phase = rng.uniform(0, 2 * np.pi, (1, k, 6)) + rng.choice([0.05, 0.25, 0.6]) * smooth_walk(
        rng, t, k * 6
    ).reshape(t, k, 6)
    weight = np.abs(rng.standard_normal((1, k, 6)))
    coef = (amp * weight * np.exp(1j * phase)).astype(np.complex64)
    aspects = np.exp(np.log(long) + rng.choice([0.02, 0.08]) * smooth_walk(rng, t, k)).clip(1.0, 12.0)
    alive = np.ones((t, k), bool)
    gain = loguniform(rng, rng.choice([0.25, 0.5, 0.8]), 1.0, (1, k)) * np.exp(
        rng.choice([0.0, 0.05, 0.2], p=[0.5, 0.35, 0.15]) * rng.standard_normal((t, k))
    )
    gain[:, 0] = gain[:, 0].clip(0.45)
    for j in np.flatnonzero(rng.random(k) < (0.05 if rng.random() < 0.5 else 0.0)):
        if j and t > 2:  # gone for a while, then back
            start = rng.integers(1, t - 1)
            alive[start : start + rng.integers(1, 3), j] = False
    scene = Scene(
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
        scene.warp = elastic_warp(rng, n, diameter)
    return scene


def slow_scene(
    rng: Rng, n: int, t: int, d: float, count: int, centre: Array | None = None, overlap: float = 0.0
) -> Scene:
    """A scene of `count` objects at `centre` that creep and turn a little; it has no outlines."""
    scene = make_scene(
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
        scene.begin_at(centre)
    return scene


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


def _divide(rng: Rng, scene: Scene, parents: Array) -> None:
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


def end_in_depth(rng: Rng, scene: Scene) -> None:
    """Let some objects taper off and be gone in the planes before or after."""
    t, k = scene.y.shape
    reach = loguniform(rng, 2.0, 3.0 * t, k)
    middle = rng.uniform(-0.3, 0.7, k) * reach * rng.choice([-1, 1], k) + rng.choice([0, t - 1], k)
    q = np.abs(np.arange(t)[:, None] - middle) / reach
    few = (rng.random(k) < 0.5) & (q.min(0) < 0.8)
    blunt = rng.choice([2.0, 4.0, 8.0])  # high: the section stays, then ends at once
    taper = np.sqrt(np.clip(1 - q**blunt, 0, 1))
    scene.r = np.where(few, scene.r * taper + 1e-3, scene.r)
    scene.alive &= ~few | ((q < 0.98) & (scene.r > 1.5))


def elastic_warp(rng: Rng, n: int, diameter: float, strength: float = 1.0) -> tuple[Array, Array]:
    """A fixed elastic field: makes outlines other than star-shaped, and deforms what moves through it."""
    scale = diameter * rng.uniform(0.7, 1.6)
    amount = strength * diameter * rng.uniform(0.02, 0.09)
    return amount * smooth_noise(rng, n, n, scale), amount * smooth_noise(rng, n, n, scale)


def moving_background(scene: Scene, make: Callable[[int], Array], change: float = 0.0) -> Array:
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

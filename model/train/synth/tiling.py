"""Cells that tile the plane, or that fill a volume of which each frame is a plane."""

from __future__ import annotations

import numpy as np

from synth.fields import Array, Rng
from synth.raster import Buffers
from synth.scene import Scene, elastic_warp, make_scene


def staggered_grid(rng: Rng, n: int, d: float) -> Array:
    """Jittered places (K, 2), `d` apart, of which every other row is shifted by half a step."""
    across = int(n / d + 2.5)
    rows, cols = np.meshgrid(np.arange(across), np.arange(across), indexing="ij")
    centre = np.stack([rows.ravel() + 0.0, cols.ravel() + 0.5 * (rows.ravel() % 2)], 1) - 0.5
    return (centre + rng.uniform(0.1, 0.3) * rng.standard_normal(centre.shape)) * d


def cell_lattice(rng: Rng, n: int, d: float) -> Array:
    """Centres (K, 2) of cells that tile the plane, or a patch of it; the first is the most central."""
    centre = staggered_grid(rng, n, d)
    if rng.random() < 0.35:
        inside = np.hypot(*(centre - rng.uniform(0.3, 0.7, 2) * n).T) < rng.uniform(0.3, 0.7) * n
        centre = centre[inside] if inside.any() else centre
    return centre[np.argsort(np.abs(centre - n / 2).max(1))]


def _layers(rng: Rng, n: int, d: float, t: int) -> tuple[Array, Array]:
    """Centres (K, 2) of cells that tile a volume, and their way (T, K) from each plane, both in pixels."""
    step = d * rng.uniform(0.06, 0.35)  # between planes
    count = int(np.clip(t * step / (0.85 * d), 0, 4)) + 2
    first = -0.85 * d * rng.uniform(0.3, 0.9)
    places = [
        (staggered_grid(rng, n, d) + rng.uniform(-0.5, 0.5, 2) * d, first + 0.85 * d * i)
        for i in range(count)
    ]
    centre = np.concatenate([c for c, _ in places])
    height = np.concatenate([np.full(len(c), z) for c, z in places])
    height += rng.uniform(0.05, 0.25) * d * rng.standard_normal(len(height))
    away = height[None] - step * np.arange(t)[:, None]
    # Ids are bytes in training, and what no plane meets is not drawn: keep the nearest.
    met = np.argsort(np.abs(away).min(0))[:240]
    centre, away = centre[met], away[:, met]
    order = np.argsort(np.abs(centre - n / 2).max(1) + np.abs(away[0]))
    return centre[order], away[:, order]


def tiling_scene(rng: Rng, n: int, t: int, d: float, spread: float, strength: float) -> Scene:
    """A scene of cells for `tile`; `spread` is that of their sizes, `strength` bends the walls."""
    solid = rng.random() < 0.55  # cells of a volume, which begin and end, or columns through all planes
    centre, away = _layers(rng, n, d, t) if solid else (cell_lattice(rng, n, d), None)
    scene = make_scene(
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
    scene.begin_at(centre)
    scene.depth = away
    scene.warp = elastic_warp(rng, n, d, strength)
    return scene


def tile(scene: Scene, pool: Array, rng: Rng) -> Buffers:
    """Draw cells that tile the plane: a pixel goes to the nearest centre, `depth` is the way to the wall."""
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
    return Buffers(index, depth, rho, np.zeros_like(rho), np.zeros_like(rho), tex)

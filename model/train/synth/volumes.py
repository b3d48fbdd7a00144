"""Solids in three dimensions, cut by planes.

What ends, what takes over its place and what shines through from the next plane then agree with each
other.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from synth.fields import Array, Rng, blur, depth_pool, loguniform, volume_noise
from synth.scene import Scene


@dataclass
class Solids:
    """K solids; lengths along z are in planes, the others in pixels."""

    centre: Array  # (K, 3) z, y, x
    radius: Array  # (K, 3) half axes
    turn: Array  # (K,) angle in the plane
    lean: Array  # (K, 2) pixels a plane that the axis moves along y and x
    blunt: Array  # (K,) 2 for an ellipsoid; high for sections that stay, then end at once
    over: Array  # bool (K,): cuts into the solids before it, instead of sharing the border with them

    def __len__(self) -> int:
        return len(self.centre)

    @classmethod
    def joined(cls, parts: list[Solids]) -> Solids:
        """All solids of `parts`, in that order."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def make_solids(
    rng: Rng, centre: Array, radius: Array, *, aspect: float = 1.4, lean: float = 0.2, blunt: float = 2.0
) -> Solids:
    """Solids at `centre` with half axes near `radius` (K, 2): height in planes, and size in pixels."""
    k = len(centre)
    long = np.sqrt(loguniform(rng, 1.0, max(aspect, 1.001), k))
    half = np.stack([radius[:, 0], radius[:, 1] * long, radius[:, 1] / long], axis=1)
    way = lean * rng.standard_normal((k, 2)) * (radius[:, 1] / radius[:, 0])[:, None]
    way = way.clip(-0.3 * radius[:, 1:], 0.3 * radius[:, 1:])  # sections of one body overlap
    return Solids(centre, half, rng.uniform(0, np.pi, k), way, np.full(k, blunt), np.zeros(k, bool))


@dataclass
class Cut:
    """Planes through solids, each (P, n, n)."""

    index: Array  # the solid, -1 outside
    owner: Array  # the nearest solid, also a little outside of it
    depth: Array  # pixels to the surface, positive inside
    wall: Array  # pixels to the border with the next solid


def cut_solids(solids: Solids, planes: Array, n: int, warp: tuple[Array, Array] | None, reach: float) -> Cut:
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
    return Cut(np.where(first < 0, owner, -1), owner, -first, 0.5 * (second - first))


def volume_warp(rng: Rng, p: int, n: int, d: float, deep: float, strength: float) -> tuple[Array, Array]:
    """Displacement of a volume along y and x: outlines other than ellipses, other ones on each plane."""
    scale, amount = d * rng.uniform(0.5, 1.4), np.float32(strength * d)
    return amount * volume_noise(rng, p, n, scale, deep), amount * volume_noise(rng, p, n, scale, deep)


def volume_texture(rng: Rng, p: int, n: int, grain: float) -> Array:
    """Texture (p, n, n) of mean 0 and deviation 1 that changes from plane to plane."""
    pool = depth_pool(rng, max(grain, 1.0), p)
    at = np.arange(n) & (pool.shape[-1] - 1)
    out: Array = pool[:, at][:, :, at]
    return out


def packed_spheres(rng: Rng, count: int, box: Array) -> Array:
    """Places (K, 3) of `count` spheres of diameter 1 in a box, pushed apart until they hardly overlap."""
    place = rng.uniform(0, box, (count, 3)).astype(np.float32)
    for _ in range(7):
        way = place[:, None] - place[None]
        dist = np.sqrt((way**2).sum(-1)) + np.float32(1e-3)
        lap = np.maximum(1 - dist, 0) / dist
        np.fill_diagonal(lap, 0)
        place += 0.3 * np.einsum("ab,abc->ac", lap, way)
    return place


def axial_blur(volume: Array, pad: int, sigma: float, spread: float) -> Array:
    """Each plane with the light of `pad` planes on either side, which is out of focus by `spread` pixels."""
    t = len(volume) - 2 * pad
    weight = np.exp(-0.5 * (np.arange(-pad, pad + 1) / sigma) ** 2).astype(np.float32)
    weight /= weight.sum()
    soft = blur(volume, spread)
    out = weight[pad] * volume[pad : pad + t]
    for s in range(2 * pad + 1):
        if s != pad and weight[s] > 0.003:
            out += weight[s] * soft[s : s + t]
    return np.asarray(out, np.float32)


def plane_positions(t: int, n: int) -> tuple[Array, slice, bool]:
    """Planes to cut for `thick_planes`, those that carry labels, and whether they are half as far apart."""
    if n < 120:
        return np.arange(-1, t + 0.75, 0.5), slice(2, 2 + 2 * t, 2), True
    return np.arange(-1.0, t + 1), slice(1, 1 + t), False


def thick_planes(volume: Array, t: int, fine: bool) -> Array:
    """Planes of some thickness, from planes half as far apart or as far: the partial volume of both sides."""
    if fine:
        middle = volume[2 : 2 + 2 * t : 2]
        return np.asarray(0.5 * middle + 0.25 * (volume[1 : 1 + 2 * t : 2] + volume[3 : 3 + 2 * t : 2]))
    return np.asarray(0.7 * volume[1 : 1 + t] + 0.15 * (volume[:t] + volume[2 : 2 + t]))


def still_scene(n: int, t: int, radius: Array, labelled: Array | None = None) -> Scene:
    """What of a volume the later steps ask: the sizes and the ids of its solids."""
    k = len(radius)
    zero = np.zeros((t, k))
    ids = np.arange(1, k + 1)
    if labelled is not None:
        ids = np.where(labelled, ids, 0)
    row = np.broadcast_to(np.asarray(radius, float), (t, k))
    return Scene(
        n, zero, zero, row, zero, zero + 1, np.zeros((t, k, 6), np.complex64), zero == 0, zero + 1, ids,
        camera=np.zeros((t, 2)),
    )  # fmt: skip

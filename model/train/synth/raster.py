"""Scenes drawn into buffers: which object a pixel shows, how far its border is, and its texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.fields import Array, Rng
from synth.scene import Scene


@dataclass
class Buffers:
    """What the looks draw from, each (T, n, n); `index` is a column of the scene, -1 outside objects."""

    index: Array
    depth: Array  # pixels to the border, positive inside, about -`reach` far outside
    rho: Array  # 0 in the middle of the object, 1 on its border, 2 far outside
    u: Array  # position along and across the object, in units of its radius
    v: Array
    tex: Array  # texture of mean 0, deviation 1 that moves with the object

    def gain(self, scene: Scene) -> Array:
        """Brightness of the object on each pixel."""
        return look_up(scene.gain, self.index)

    def cover(self, soft: float = 1.0) -> Array:
        """1 inside objects and 0 outside, over an edge of `soft` pixels."""
        return np.clip(self.depth / soft + 0.5, 0, 1)

    def dome(self, power: float) -> Array:
        """1 in the middle of objects, falling to 0 at the border: the higher `power`, the sooner."""
        return np.clip(1 - np.clip(self.rho, 0, 1) ** 2, 0, 1) ** np.float32(power)

    def ball(self) -> Array:
        """Thickness of round bodies, 1 in the middle."""
        return np.sqrt(np.clip(1 - np.clip(self.rho, 0, 1) ** 2, 0, 1))

    def line(self, width: float) -> Array:
        """1 on the border, less by a Gaussian of `width` pixels to both sides."""
        return np.exp(-((self.depth / width) ** 2))


def look_up(values: Array, index: Array) -> Array:
    """`values` (T, K), or (K,) for all frames, of the object on each pixel; an outside pixel takes 0."""
    values = np.broadcast_to(values, (len(index), values.shape[-1]))
    padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1).astype(np.float32)
    return np.stack([row[i] for row, i in zip(padded, index, strict=True)])


def rasterise(scene: Scene, pool: Array, rng: Rng, reach: float = 2.0) -> Buffers:
    """Draw the outlines of a scene, with textures from `pool`; depth is told up to `reach` pixels outside."""
    t, k = scene.y.shape
    n = scene.n
    f32 = np.float32
    buf = Buffers(
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
    scene: Scene,
    buf: Buffers,
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

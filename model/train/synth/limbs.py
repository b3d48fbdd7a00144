"""Objects made of tapering segments: bent and branched rods, stars, cells with drawn-out corners."""

from __future__ import annotations

from typing import Any

import numpy as np

from synth.fields import Array, Rng
from synth.raster import Buffers
from synth.scene import Scene


def draw_limbs(
    scene: Scene,
    joints: Array,
    width: Array,
    pool: Array,
    rng: Rng,
    *,
    star: bool = False,
    curve: float = 0.0,
    blend: float = 0.0,
    reach: float = 3.0,
) -> Buffers:
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
    return Buffers(index, depth.astype(f32, copy=False), rho, u, v, tex)


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


def chain_joints(scene: Scene, length: Array, heading: Array) -> Array:
    """Joints (T, K, P, 2) of curves of `length` (T, K) about the scene's places, by P - 1 headings each."""
    turned = scene.angle[..., None] + heading
    stride = length[..., None] / heading.shape[-1]
    steps = np.stack([np.sin(turned) * stride, np.cos(turned) * stride], -1)
    path = np.concatenate([np.zeros_like(steps[:, :, :1]), np.cumsum(steps, axis=2)], axis=2)
    path -= path.mean(2, keepdims=True)
    return path + np.stack([scene.y, scene.x], -1)[:, :, None]

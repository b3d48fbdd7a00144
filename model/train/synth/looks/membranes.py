"""Cells seen by their membranes, and the inside of cells in electron micrographs."""

from __future__ import annotations

import numpy as np

from synth.fields import (
    Array,
    Rng,
    blur,
    depth_pool,
    fractal_noise,
    loguniform,
    smooth_noise,
    texture_pool,
    volume_noise,
)
from synth.looks import Drawn
from synth.raster import look_up, rasterise
from synth.scene import Scene, end_in_depth, make_scene, moving_background, pick_count, pick_diameter
from synth.tiling import staggered_grid, tile, tiling_scene
from synth.volumes import (
    axial_blur,
    cut_solids,
    make_solids,
    still_scene,
    volume_texture,
    volume_warp,
)


def membrane(rng: Rng, n: int, t: int, electrons: bool = False) -> Drawn:
    """Cells that tile the plane or fill space, seen by their walls."""
    if rng.random() < 0.65:
        return _packed_cells(rng, n, t, electrons)
    d = pick_diameter(rng, n, 18, 120, 9.0)
    scene = tiling_scene(rng, n, t, d, rng.choice([0.02, 0.1]), 1.5)
    buf = tile(scene, texture_pool(rng, max(d * rng.uniform(0.03, 0.15), 1.0), t), rng)
    wide = max(d * rng.uniform(0.02, 0.08), 0.7)
    near = buf.depth if rng.random() < 0.5 else np.abs(buf.depth)
    wall = np.exp(-((near / wide) ** 2)) * (buf.depth > -2 * wide - 1)
    patchy = 1 + rng.choice([0.0, 0.25, 0.5]) * moving_background(
        scene, lambda m: smooth_noise(rng, m, m, d * 0.6), 0.1
    )
    inner = 0.15 * rng.random() + rng.uniform(0.0, 0.15) * buf.tex
    inner += rng.uniform(0, 0.4) * np.clip(buf.gain(scene), 0, 1)
    if electrons:
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


def _packed_cells(rng: Rng, n: int, t: int, electrons: bool = False) -> Drawn:
    """Cells that fill space, with walls; a wall that lies flat in the plane is broad and faint."""
    d = pick_diameter(rng, n, 18, 120, 7.0)
    height = loguniform(rng, 1.5, 16.0) if not electrons else loguniform(rng, 4.0, 25.0)
    pad = 1 if height < 2 else 2
    filled = rng.random() < 0.65  # no background; else there are gaps between the cells
    apart = (1.5 if filled else 1.7) * height
    layers = int((t + 2 * pad) / apart) + 3
    rows = []
    for i in range(layers):
        flat = staggered_grid(rng, n, d) + rng.uniform(-0.5, 0.5, 2) * d
        z = apart * (i - 1 + rng.normal(0, 0.2, len(flat))) + rng.uniform(-0.5, 0.5) * height - pad
        rows.append(np.column_stack([z, flat]))
    centre = np.concatenate(rows)
    # In view first, so that ids beyond a byte are those at the margin.
    far = np.abs(centre[:, 1:] - n / 2).max(1) / d + np.abs(centre[:, 0] - 0.5 * t) / (2 * height)
    centre = centre[np.argsort(far)][:230]
    k = len(centre)
    size = np.exp(rng.choice([0.03, 0.12, 0.25]) * rng.standard_normal(k)).clip(0.6, 1.6)
    radius = np.stack([height * size, 0.5 * d * size], axis=1)
    solids = make_solids(rng, centre, radius, aspect=rng.uniform(1.05, 1.9), lean=rng.choice([0.0, 0.1, 0.3]))
    planes = np.arange(-pad, t + pad, dtype=float)
    warp = volume_warp(rng, len(planes), n, d, max(height, 1.5), rng.choice([0.03, 0.08]))
    cut = cut_solids(solids, planes, n, warp, 1.7 if filled else 1.45)
    # Cells reach some way beyond their radius, and beyond that is no tissue.
    beyond = np.float32((0.35 if filled else rng.uniform(0.05, 0.2)) * d)
    inside = (cut.depth > -beyond) & (cut.owner >= 0)
    wall = np.minimum(cut.wall, cut.depth + beyond)
    wide = max(d * rng.uniform(0.02, 0.07), 0.6)
    line = np.exp(-((wall / wide) ** 2)) * inside
    patchy = 1 + np.float32(rng.choice([0.0, 0.25, 0.5])) * volume_noise(rng, len(planes), n, 0.6 * d, 2.0)
    line *= patchy.clip(0.15)
    inner = np.float32(rng.uniform(0.0, 0.15)) * volume_texture(
        rng, len(planes), n, d * rng.uniform(0.03, 0.15)
    )
    inner += (rng.uniform(0, 0.3) * rng.random(k)).astype(np.float32)[cut.owner]
    inner += np.float32(rng.uniform(0.0, 0.15))
    if electrons:
        ground = _em_ground(rng, still_scene(n, len(planes), radius[:, 1]), d)
        body = 0.55 + 0.4 * (inner - 0.2) + 0.1 * ground - 0.45 * line
    else:
        body = inner * inside + line
    if not electrons and rng.random() < 0.25:  # nuclei as well
        body += np.float32(rng.uniform(0.1, 0.5)) * (cut.depth > rng.uniform(0.1, 0.25) * d)
    sigma = 0.3 if electrons else min(loguniform(rng, 0.3, 1.3), 0.4 * height)
    image = axial_blur(body.astype(np.float32, copy=False), pad, sigma, rng.uniform(0.02, 0.1) * d)
    if not electrons and rng.random() < 0.3:
        image = image + np.float32(rng.uniform(0.1, 0.4)) * blur(image, 0.5 * d)
    if not electrons and rng.random() < 0.25:
        image = -image
    labels = np.where(inside & ((wall > wide / 3) | (wide < 3)), cut.owner, -1)
    return image.astype(np.float32), labels[pad : pad + t], still_scene(n, t, radius[:, 1])


def em(rng: Rng, n: int, t: int) -> Drawn:
    """Mitochondria-like dark bodies with inner folds; or cells by their dark membranes."""
    if rng.random() < 0.25:
        return membrane(rng, n, t, electrons=True)
    d = pick_diameter(rng, n, 16, 130)
    long = rng.uniform(1.0, 3.0)
    scene = make_scene(
        rng,
        n,
        t,
        d,
        pick_count(rng, n, d, 0.06, 0.4, 40),
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
        end_in_depth(rng, scene)
    buf = rasterise(scene, depth_pool(rng, max(d * rng.uniform(0.03, 0.1), 1.0), t), rng)
    ground = 0.6 + rng.uniform(0.06, 0.12) * _em_ground(rng, scene, d)
    folds = np.sin(2 * np.pi * (buf.v * rng.uniform(1.5, 3.5) + 0.25 * buf.tex + 0.3 * np.sin(3 * buf.u)))
    body = rng.uniform(0.25, 0.5) + rng.uniform(0.0, 0.13) * folds + rng.uniform(0.02, 0.07) * buf.tex
    body -= rng.uniform(0.1, 0.25) * buf.line(max(0.035 * d, 0.8))
    if rng.random() < 0.5:  # other organelles, not labelled, of another look
        hide = rng.random(scene.y.shape[1]) < 0.3
        hide[0] = False
        scene.ids = np.where(hide, 0, scene.ids)
        other = look_up(hide, buf.index)
        body = np.where(other > 0, rng.choice([0.15, 0.85]) + 0.03 * buf.tex, body)
    cover = buf.cover()
    return (ground * (1 - cover) + body * cover).astype(np.float32), buf.index, scene


def _em_ground(rng: Rng, scene: Scene, d: float) -> Array:
    """Cytoplasm of electron micrographs: grains, dark membranes, vesicles."""

    def make(m: int) -> Array:
        ground = 0.7 * fractal_noise(rng, m, m, max(d * 0.4, 3), 1.2, 0.9)
        for _ in range(rng.integers(1, 4)):
            lines = np.abs(smooth_noise(rng, m, m, d * rng.uniform(0.4, 1.5)))
            ground -= rng.uniform(0.8, 2.2) * np.exp(-((lines / rng.uniform(0.06, 0.15)) ** 2))
        spots = smooth_noise(rng, m, m, max(d * 0.12, 2.0))
        ground -= rng.uniform(0, 1.5) * np.clip(spots - 1.2, 0, 1)
        return ground

    return moving_background(scene, make, rng.choice([0.0, 0.1, 0.25]))

"""Slices of a body in which organs are outlines that change from frame to frame."""

from __future__ import annotations

import numpy as np

from synth.fields import FLAT_POOL, Rng, blur, depth_pool, fractal_noise
from synth.looks import Drawn
from synth.looks.anatomy import anatomy
from synth.looks.spine import spine_axial, spine_sagittal
from synth.raster import look_up, rasterise
from synth.scene import (
    Scene,
    end_in_depth,
    make_scene,
    moving_background,
    pick_count,
    pick_diameter,
    smooth_walk,
)
from synth.tiling import tile, tiling_scene


def organs(rng: Rng, n: int, t: int) -> Drawn:
    """Slices of a body: regions of nearly even grey, one in another, changing from frame to frame."""
    part = rng.random()
    if part < 0.65:
        return anatomy(rng, n, t)
    if part < 0.8:
        return _regions(rng, n, t)
    d = pick_diameter(rng, n, 18, 140)
    count = int(np.clip(pick_count(rng, n, d, 0.1, 0.5, 18), 2, 18))
    scene = make_scene(
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
    swell = np.exp(rng.choice([0.03, 0.1, 0.2]) * smooth_walk(rng, t, count))
    scene.r *= swell.clip(0.4, 1.6)
    if rng.random() < 0.6:
        end_in_depth(rng, scene)
    return _slices(rng, scene, d, t)


def _regions(rng: Rng, n: int, t: int) -> Drawn:
    """Organs that touch: a plane of regions of different grey, with no wall or a thin one."""
    d = pick_diameter(rng, n, 25, 150, 8.0)
    scene = tiling_scene(rng, n, t, d, 0.3, rng.uniform(1.5, 3.0))
    k = scene.y.shape[1]
    scene.r *= np.exp(rng.choice([0.01, 0.05]) * smooth_walk(rng, t, k))
    buf = tile(scene, depth_pool(rng, max(d * rng.uniform(0.05, 0.2), 1.0), t), rng)
    level = rng.permutation(np.linspace(0.1, 1.0, k))
    gone = rng.random(k) < 0.25  # fat and muscle between the organs: grey as well, not labelled
    gone[0] = False
    level[gone] = rng.uniform(0.1, 0.6)
    scene.ids = np.where(gone, 0, scene.ids)
    image = look_up(level, buf.index)
    image += rng.choice([0.01, 0.05, 0.12]) * buf.tex
    if rng.random() < 0.4:
        line = buf.line(max(0.03 * d, 0.8)) * (buf.index >= 0)
        image += rng.choice([-0.3, 0.3]) * line
    return blur(image, rng.uniform(0.5, 1.5)).astype(np.float32), buf.index, scene


def tube(rng: Rng, n: int, t: int) -> Drawn:
    """Cross-sections of a cord in its canal beside a bony body; or of vessels and airways."""
    part = rng.random()
    if part < 0.7:
        return spine_axial(rng, n, t) if part < 0.42 else spine_sagittal(rng, n, t)
    d = pick_diameter(rng, n, 20, 110)
    if part < 0.85:
        count = pick_count(rng, n, d, 0.05, 0.3, 20)
        scene = make_scene(
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
    scene = make_scene(
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
    swell = np.exp(rng.choice([0.03, 0.1]) * smooth_walk(rng, t, 1))
    scene.r *= swell
    # Sections of what lies around change more than the cord does.
    scene.r[:, 1:] *= np.exp(rng.choice([0.0, 0.08]) * smooth_walk(rng, t, parts - 1)).clip(0.6, 1.5)
    return _slices(rng, scene, d, t)


def _slices(rng: Rng, scene: Scene, d: float, t: int) -> Drawn:
    """Organs of a scene, each of its own grey, in tissue and in the outline of a body."""
    n, k = scene.n, scene.y.shape[1]
    # The body around the organs, drawn first and not labelled.
    body = rng.random() < 0.8
    if body:
        big = make_scene(
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
        frame = rasterise(big, FLAT_POOL, rng)
    level = rng.permutation(np.linspace(0.12, 1.0, k) + rng.uniform(-0.04, 0.04, k))
    scene.ids = np.where(rng.random(k) < 0.85, scene.ids, 0)
    scene.ids[0] = 1
    tissue = rng.uniform(0.3, 0.6)
    if rng.random() < 0.4:  # soft tissue beside soft tissue, through a wide contrast
        level = tissue + rng.uniform(0.25, 0.7) * (level - tissue)
    level = np.where(np.abs(level - tissue) < 0.06, tissue + rng.choice([-0.12, 0.12]), level)
    buf = rasterise(scene, depth_pool(rng, max(d * rng.uniform(0.05, 0.3), 1.0), t), rng)
    ground = np.full((t, n, n), tissue, np.float32)
    ground += rng.uniform(0.01, 0.09) * moving_background(
        scene, lambda m: fractal_noise(rng, m, m, d, 2.5, 0.8), 0.15
    )
    if body:
        skin = frame.line(max(0.03 * n, 1)) * rng.choice([-0.25, 0.0, 0.4])
        cover = frame.cover()
        ground = (ground + skin) * cover + (1 - cover) * rng.choice([0.0, 0.02, 0.1])
    value = look_up(level, buf.index)
    value = value + rng.choice([0.01, 0.04, 0.09]) * buf.tex
    if rng.random() < 0.4:  # capsule, cortex, vessel wall
        value = value + rng.choice([-0.25, 0.25, 0.4]) * buf.line(max(0.06 * d, 1))
    inside = (buf.index >= 0).astype(np.float32)
    image = ground * (1 - inside) + value * inside
    return blur(image, rng.uniform(0.4, 1.4)).astype(np.float32), buf.index, scene

"""Bacteria: colonies of rods, curved cells, filaments and hyphae."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from synth.fields import Array, Rng, blur, fractal_noise, loguniform, texture_pool
from synth.imaging import zernike_contrast
from synth.limbs import chain_joints, draw_limbs
from synth.looks import Drawn
from synth.looks.fluorescence import glow
from synth.raster import Buffers, rasterise
from synth.scene import (
    Scene,
    elastic_warp,
    make_scene,
    moving_background,
    pick_count,
    slow_scene,
    smooth_walk,
)


def bacteria(rng: Rng, n: int, t: int) -> Drawn:
    """Bacteria in phase contrast, sometimes in fluorescence or bright field."""
    wide = float(loguniform(rng, 5, 24) * max(n / 256, 0.6))
    kind = rng.random()
    pool = texture_pool(rng, max(wide * rng.uniform(0.1, 0.5), 1.0), t)
    if kind < 0.55:
        scene, buf = _colony(rng, n, t, wide, pool)
    elif kind < 0.8:
        scene, buf = _threads(rng, n, t, wide, pool)
    else:
        long = rng.uniform(2.0, 6.0)
        d = wide * np.sqrt(long)
        scene = make_scene(
            rng,
            n,
            t,
            d,
            pick_count(rng, n, d, 0.03, 0.5),
            aspect=(long * 0.7, long * 1.4),
            rod=True,
            touch=0.8,
            divide=0.15,
            bend=rng.choice([0.0, 0.08, 0.2]),
            overlap=0.2,
            spread=0.15,
            turn=rng.choice([0.02, 0.1, 0.3]),
        )
        buf = rasterise(scene, pool, rng)
    if rng.random() < 0.25:
        return glow(rng, scene, buf, wide), buf.index, scene
    round_ = buf.ball()
    if rng.random() < 0.3:  # flat-topped: a rod in a tight channel or under a pad
        round_ = np.minimum(round_ * 1.5, 1)
    weight = np.clip(0.6 + 0.4 * buf.gain(scene), 0, 1)
    phase = rng.choice([0.15, 0.35, 0.6, 0.9]) * rng.uniform(0.7, 1.3) * round_ * weight
    phase += round_ * rng.uniform(0, 0.08) * buf.tex
    soft = rng.uniform(0.04, 0.15) if rng.random() < 0.7 else rng.uniform(0.15, 0.27)  # closes the gaps
    phase = blur(phase.astype(np.float32), soft * wide)
    if rng.random() < 0.15:  # brightfield, a little out of focus: the curvature of the bodies
        soft = blur(phase, rng.uniform(0.15, 0.35) * wide + 0.3)
        image = 1 + rng.choice([-1, 1]) * rng.uniform(0.5, 1.5) * (phase - soft)
    else:
        passes = rng.uniform(0.5, 1.0)  # beyond that phase a body would turn bright
        image = zernike_contrast(phase * np.float32(passes), wide * rng.uniform(0.5, 2.0), passes)
    floor = rng.uniform(0, 0.03 if rng.random() < 0.7 else 0.08)
    image += floor * moving_background(scene, lambda m: fractal_noise(rng, m, m, 4 * wide, 2.0))
    return image.astype(np.float32), buf.index, scene


def _colony(rng: Rng, n: int, t: int, wide: float, pool: Array) -> tuple[Scene, Buffers]:
    """Rods packed in patches of one direction each; patches meet at angles, as in a growing colony."""
    long = loguniform(rng, 2.0, 8.0)
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
    scene = slow_scene(rng, n, t, wide, k, centre)
    scene.painter = False
    scene.angle += angle - scene.angle[:1]
    times = np.arange(t)[:, None]
    growth = np.exp(rng.choice([0.0, 0.01, 0.03]) * times)
    scene.y = middle[0] + (scene.y - middle[0]) * growth
    scene.x = middle[1] + (scene.x - middle[1]) * growth
    scene.pinch = np.where(rng.random(k) < rng.choice([0.0, 0.15, 0.4]), rng.uniform(0.15, 0.6, k), 0.0)
    scene.pinch = (scene.pinch * (span > 2.2 * wide) * np.linspace(0.6, 1, t)[:, None]).clip(0, 0.7)
    scene.warp = elastic_warp(rng, n, max(tall, 2.5 * wide), rng.uniform(0.3, 2.5))
    half = (
        0.5
        * wide
        * rng.choice([rng.uniform(0.86, 1.0), rng.uniform(1.0, 1.12)])
        * np.exp(0.04 * rng.standard_normal((1, k, 1)))
    )
    width = half * np.ones((t, k, 2))
    joints = chain_joints(scene, (span - wide) * growth, np.zeros((t, k, 1)))
    scene.r = 0.65 * wide * np.ones((t, k))
    return scene, draw_limbs(scene, joints, width, pool, rng, reach=1.5)


def _threads(rng: Rng, n: int, t: int, wide: float, pool: Array) -> tuple[Scene, Buffers]:
    """Curved cells: commas and crescents, or filaments that wind through the view and cross."""
    filament = rng.random() < 0.55
    if filament:
        long = loguniform(rng, 9.0, 40.0)
        wide = min(wide, 14 * n / 256)
        length = min(long * wide, 1.6 * n)
        count = int(rng.integers(1, 4 + 4 * n / length))
    else:
        length = loguniform(rng, 2.5, 9.0) * wide
        count = int(np.clip(rng.uniform(0.03, 0.35) * n * n / (wide * length), 1, 60))
    parts = 20 if filament else 6
    scene = slow_scene(rng, n, t, 0.6 * length, count, overlap=0.7 if filament else 0.3)
    if filament and count > 1 and rng.random() < 0.4:  # a bundle
        scene.angle += rng.uniform(0, 3) + 0.2 * rng.standard_normal(count) - scene.angle[:1]
    at = np.linspace(-1, 1, parts)
    arc = rng.uniform(0.0, 1.6, count) * rng.choice([-1, 1], count) * (rng.random() < 0.7 or not filament)
    heading = arc[:, None] * at
    heading = np.repeat(heading[None], t, 0)
    for order in (1, 2, 3) if filament else ():
        amount = rng.uniform(0.1, 1.0) * rng.standard_normal((1, count)) / order
        phase = rng.uniform(0, 6.3, count) + 0.1 * smooth_walk(rng, t, count)
        heading = heading + amount[..., None] * np.sin(order * 2 * at + phase[..., None])
    lengths = (
        length
        * np.exp(0.2 * rng.standard_normal(count))
        * np.exp(rng.choice([0.0, 0.03]) * np.arange(t)[:, None])
    )
    joints = chain_joints(scene, lengths, heading)
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
    return scene, draw_limbs(scene, joints, width, pool, rng)


def _with_stalks(rng: Rng, scene: Scene) -> Scene:
    """`scene` with a faint, unlabelled companion for each object, in the columns that follow."""
    both = {
        name: np.concatenate([getattr(scene, name)] * 2, axis=1)
        for name in ("y", "x", "r", "angle", "aspect", "coef", "alive", "gain", "pinch")
    }
    k = len(scene.ids)
    both["gain"][:, k:] = 0.05
    both["alive"][:, k:] &= rng.random(k) < 0.7
    return replace(scene, ids=np.append(scene.ids, np.zeros(k, int)), bend=np.tile(scene.bend, 2), **both)

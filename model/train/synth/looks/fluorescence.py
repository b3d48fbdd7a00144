"""Fluorescence: bright nuclei and cells on a dark field, on one plane or packed in depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from synth.fields import FLAT_POOL, Array, Rng, blur, depth_pool, fractal_noise, loguniform, texture_pool
from synth.looks import Drawn
from synth.raster import Buffers, look_up, rasterise
from synth.scene import Scene, make_scene, moving_background, pick_count, pick_diameter
from synth.volumes import (
    axial_blur,
    cut_solids,
    make_solids,
    packed_spheres,
    still_scene,
    volume_texture,
    volume_warp,
)


def fluo(rng: Rng, n: int, t: int) -> Drawn:
    """Nuclei on one plane."""
    d = pick_diameter(rng, n)
    return _nuclei(rng, n, t, d, pick_count(rng, n, d, 0.04, 0.7))


def small(rng: Rng, n: int, t: int) -> Drawn:
    """Small nuclei, many of them."""
    d = pick_diameter(rng, n, 8, 38)
    return _nuclei(rng, n, t, d, pick_count(rng, n, d, 0.15, 0.7, 70))


def _nuclei(rng: Rng, n: int, t: int, d: float, count: int) -> Drawn:
    scene = make_scene(
        rng, n, t, d, count, rough=rng.choice([0.02, 0.05, 0.1]), aspect=(1.0, rng.uniform(1.1, 2.2))
    )
    buf = rasterise(scene, texture_pool(rng, max(d * rng.uniform(0.04, 0.25), 1.0), t), rng)
    return glow(rng, scene, buf, d), buf.index, scene


def cyto(rng: Rng, n: int, t: int) -> Drawn:
    """Cytoplasm around a nucleus that is darker or brighter."""
    d = pick_diameter(rng, n, 25, 150)
    scene = make_scene(
        rng,
        n,
        t,
        d,
        pick_count(rng, n, d, 0.08, 0.7, 40),
        rough=rng.uniform(0.06, 0.24),
        aspect=(1.0, rng.uniform(1.2, 3.0)),
        overlap=0.25,
    )
    buf = rasterise(scene, texture_pool(rng, max(d * rng.uniform(0.03, 0.12), 1.0), t), rng)
    body = buf.cover(rng.choice([1.0, 2.5])) * (1 + rng.uniform(0.1, 0.5) * buf.tex).clip(0.05)
    body *= rng.uniform(0.15, 0.6) + buf.dome(rng.uniform(0.5, 1.5))
    core = np.hypot(buf.u, buf.v) < rng.uniform(0.25, 0.5)
    core_gain = rng.choice([0.35, 0.7, 1.5, 2.2])
    body *= np.where(core & (buf.index >= 0), core_gain, 1.0).astype(np.float32)
    image = body * _spread_gain(buf.gain(scene), buf)
    image += rng.uniform(0.02, 0.25) + rng.uniform(0, 0.3) * blur(image, 0.3 * d + 1)
    if abs(np.log(core_gain)) > 0.7 and rng.random() < 0.35:  # the nucleus is the object here, not its cell
        return image, np.where(core, buf.index, -1), scene
    return image, buf.index, scene


def zstack(rng: Rng, n: int, t: int) -> Drawn:
    """Ellipsoids cut by planes: they grow and shrink, and glow when just out of the plane."""
    if rng.random() < 0.75:
        return _packed_nuclei(rng, n, t)
    d = pick_diameter(rng, n, 14, 110)
    scene = make_scene(
        rng,
        n,
        t,
        d,
        pick_count(rng, n, d, 0.15, rng.choice([1.0, 2.2]), 80),
        rough=rng.choice([0.02, 0.06]),
        divide=0,
        speed=rng.choice([0.01, 0.05, 0.12]),
        turn=0.05,
        overlap=0.15,
    )
    k = scene.y.shape[1]
    reach = loguniform(rng, 2.0, 14.0) * np.exp(0.2 * rng.standard_normal(k))  # half height in frames
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
    buf = rasterise(scene, depth_pool(rng, max(d * rng.uniform(0.05, 0.2), 1.0), t), rng)
    image = glow(rng, scene, buf, d)
    ghost = replace(scene, r=full * 0.8, alive=(q >= 0.9) & (q < rng.uniform(1.2, 2.2)), painter=False)
    if ghost.alive.any():
        out = rasterise(ghost, FLAT_POOL, rng)
        weak = ghost.gain * np.exp(-1.5 * np.maximum(q - 0.9, 0)) * rng.uniform(0.15, 0.6)
        image = image + blur(out.cover() * look_up(weak, out.index), d * rng.uniform(0.1, 0.25) + 1)
    fade = np.exp(-rng.choice([0.0, 0.05, 0.15]) * np.arange(t))[:: rng.choice([-1, 1])]
    return image * fade[:, None, None].astype(np.float32), buf.index, scene


def _packed_nuclei(rng: Rng, n: int, t: int) -> Drawn:
    """Fluorescent bodies packed in depth: each plane shows the next ones faintly."""
    d = pick_diameter(rng, n, 14, 110, 11.0)
    height = loguniform(rng, 1.6, 13.0)  # half of it, in planes
    pad = 2 if height < 2.5 else 3
    box = np.array([(t + 2 * pad) / (2 * height) + 1.0, n / d + 1.0, n / d + 1.0])
    dense = rng.uniform(0.25, 1.15)
    count = int(np.clip(dense * box.prod(), 3, 240))
    place = packed_spheres(rng, count, box)
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
    solids = make_solids(
        rng, centre, radius, aspect=rng.uniform(1.1, 2.2), lean=rng.choice([0.0, 0.15, 0.4]),
        blunt=rng.choice([2.0, 3.0]),
    )  # fmt: skip
    planes = np.arange(-pad, t + pad, dtype=float)
    warp = volume_warp(rng, len(planes), n, d, max(height, 1.5), rng.choice([0.03, 0.08, 0.14]))
    cut = cut_solids(solids, planes, n, warp, 1.15)
    gain = loguniform(rng, rng.choice([0.3, 0.6, 0.85]), 1.0, count).astype(np.float32)
    body = np.clip(cut.depth / rng.choice([1.0, 1.0, 2.0]) + 0.5, 0, 1)
    if rng.random() < 0.5:
        body *= np.float32(0.4) + np.clip(cut.depth / np.float32(0.5 * d), 0, 1) ** np.float32(0.6)
    if rng.random() < 0.5:  # a dark seam between those that touch; else they look like one
        body *= 1 - np.float32(rng.uniform(0.2, 0.9)) * np.exp(-((cut.wall / max(0.05 * d, 0.7)) ** 2))
    grain = volume_texture(rng, len(planes), n, d * rng.uniform(0.05, 0.25))
    body *= (1 + np.float32(rng.choice([0.05, 0.2, 0.4])) * grain).clip(0.1)
    body *= gain[cut.owner]
    sigma = min(loguniform(rng, 0.3, 1.6), 0.55 * height)
    image = axial_blur(body, pad, sigma, rng.uniform(0.04, 0.2) * d)
    haze = rng.choice([0.0, 0.2, 0.6], p=[0.4, 0.35, 0.25])
    if haze:
        image += np.float32(haze) * blur(image, rng.uniform(0.2, 0.6) * d + 1)
    image += np.float32(loguniform(rng, 0.01, 0.25))
    fade = np.exp(-rng.choice([0.0, 0.04, 0.12]) * np.arange(t))[:: rng.choice([-1, 1])]
    image *= fade[:, None, None].astype(np.float32)
    return image, cut.index[pad : pad + t], still_scene(n, t, radius[:, 1])


def glow(rng: Rng, scene: Scene, buf: Buffers, d: float) -> Array:
    """Fluorescent objects on a dark field."""
    n = scene.n
    body = buf.cover(rng.choice([1.0, 1.0, 2.0, 0.1 * d + 1])) * (
        1 + rng.choice([0.05, 0.2, 0.45]) * buf.tex
    ).clip(0.05)
    shape = rng.random()
    if shape < 0.45:
        body *= 0.25 + buf.dome(rng.uniform(0.3, 1.0))
    elif shape < 0.6:  # stained rim
        body *= 0.3 + buf.line(max(0.1 * d, 1.2))
    scene.gain /= scene.gain.max()
    image = body * _spread_gain(buf.gain(scene), buf)
    haze = rng.choice([0.0, 0.15, 0.5], p=[0.4, 0.35, 0.25])
    if haze:
        image = image + haze * blur(image, rng.uniform(0.15, 0.5) * d + 1)
    image += loguniform(rng, 0.01, 0.25)
    if rng.random() < 0.5:
        image += rng.uniform(0, 0.12) * moving_background(
            scene, lambda m: fractal_noise(rng, m, m, n / 3, n / 24)
        )
    return image


def _spread_gain(gain: Array, buf: Buffers) -> Array:
    """Give the half-covered pixels just outside an object its brightness."""
    rim = (buf.index < 0) & (buf.depth > -1)
    if not rim.any():
        return gain
    grown = ndimage.grey_dilation(gain, size=(1, 3, 3))
    return np.where(rim, grown, gain)

"""Transmitted light: stained tissue, differential interference, yeast in bright field."""

from __future__ import annotations

import numpy as np

from synth.fields import Array, Rng, blur, fractal_noise, smooth_noise, texture_pool
from synth.looks import Drawn
from synth.looks.phase import adherent_cells
from synth.raster import rasterise
from synth.scene import Scene, make_scene, moving_background, pick_count, pick_diameter


def histology(rng: Rng, n: int, t: int) -> Drawn:
    """Dark nuclei in stained tissue."""
    d = pick_diameter(rng, n, 10, 110)
    scene = make_scene(
        rng,
        n,
        t,
        d,
        pick_count(rng, n, d, 0.1, 0.7),
        rough=rng.choice([0.04, 0.1]),
        spread=0.3,
        aspect=(1.0, rng.uniform(1.3, 2.6)),
        divide=0,
        speed=rng.choice([0.0, 0.03, 0.1]),
    )
    buf = rasterise(scene, texture_pool(rng, max(d * rng.uniform(0.05, 0.2), 1.0), t), rng)
    stretch = rng.uniform(1.0, 4.0)
    tissue = moving_background(
        scene,
        lambda m: (
            0.6 * smooth_noise(rng, m, m, d * 0.3 + 1, stretch) + fractal_noise(rng, m, m, 2 * d, 1.5, 0.75)
        ),
        rng.choice([0.0, 0.15]),
    )
    image = rng.uniform(0.6, 0.8) + rng.uniform(0.04, 0.12) * tissue
    if rng.random() < 0.5:  # lumen and fat: white holes
        holes = moving_background(scene, lambda m: smooth_noise(rng, m, m, rng.uniform(1.0, 2.5) * d))
        image = np.where(holes > rng.uniform(0.9, 1.6), np.float32(0.95), image)
    ink = rng.uniform(0.2, 0.55) * (1 - rng.choice([0.2, 0.6]) * (1 - np.clip(buf.gain(scene), 0, 1)))
    body = ink - rng.uniform(0.02, 0.15) * buf.tex
    body -= rng.uniform(0, 0.15) * buf.line(max(0.08 * d, 1))
    if rng.random() < 0.3:
        body += rng.uniform(0.1, 0.3) * buf.dome(1)  # pale, vesicular nuclei
    cover = (buf.cover(rng.choice([1.0, 2.0])) * (buf.index >= 0)).astype(np.float32)
    return image * (1 - cover) + cover * np.minimum(body, image + 0.1), buf.index, scene


def dic(rng: Rng, n: int, t: int) -> Drawn:
    """Differential interference: the slope of a height map along one direction."""
    d = pick_diameter(rng, n, 14, 150)
    if rng.random() < 0.4:
        thick, ball, buf, scene = adherent_cells(rng, n, t, d)
        return (
            _slope(rng, scene, blur(rng.uniform(1.5, 3.0) * thick + ball, rng.uniform(0.5, 1.2)), d),
            buf.index,
            scene,
        )
    scene = make_scene(
        rng,
        n,
        t,
        d,
        pick_count(rng, n, d),
        rough=rng.uniform(0.03, 0.2),
        aspect=(1.0, rng.uniform(1.1, 2.5)),
        overlap=0.2,
    )
    buf = rasterise(scene, texture_pool(rng, max(d * rng.uniform(0.04, 0.15), 1.2), t), rng)
    height = buf.cover() * (0.3 + buf.dome(rng.uniform(0.4, 1.0))) * np.clip(buf.gain(scene), 0.4, 1)
    height += buf.cover() * rng.uniform(0.02, 0.12) * buf.tex
    core = np.exp(-((np.hypot(buf.u, buf.v) / rng.uniform(0.25, 0.45)) ** 4))
    height += rng.uniform(0, 0.3) * core * buf.cover()
    height = blur(height, rng.uniform(0.5, 1.5))
    return _slope(rng, scene, height, d), buf.index, scene


def _slope(rng: Rng, scene: Scene, height: Array, d: float) -> Array:
    """The image that differential interference makes of a height map."""
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.sin(turn) * np.gradient(height, axis=1) + np.cos(turn) * np.gradient(height, axis=2)
    image = slope * np.float32(min(d, 40) * 0.1) + rng.choice([0.0, 0.1]) * height
    image += rng.uniform(0.005, 0.05) * moving_background(
        scene, lambda m: fractal_noise(rng, m, m, d, 1.5, 0.8)
    )
    return image


def yeast(rng: Rng, n: int, t: int) -> Drawn:
    """Brightfield: rings whose sign and width depend on focus, little contrast inside."""
    d = pick_diameter(rng, n, 12, 110)
    scene = make_scene(
        rng, n, t, d, pick_count(rng, n, d, 0.04, 0.7), rough=0.02, aspect=(1.0, 1.35), touch=0.8, overlap=0.1
    )
    ring = max(d * rng.uniform(0.03, 0.09), 0.8)
    grain = max(d * rng.uniform(0.08, 0.25), 1.0)
    buf = rasterise(scene, texture_pool(rng, grain, t), rng, reach=min(3 * ring, 10))
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
    image += rng.uniform(0.02, 0.15) * moving_background(scene, lambda m: fractal_noise(rng, m, m, d, 2.0))
    return image.astype(np.float32), buf.index, scene

"""Objects told from their surroundings by texture."""

from __future__ import annotations

import numpy as np

from synth.fields import Rng, fractal_noise, texture_pool
from synth.looks import Drawn
from synth.raster import rasterise
from synth.scene import make_scene, moving_background, pick_count, pick_diameter


def texture(rng: Rng, n: int, t: int) -> Drawn:
    """Objects that differ from their surroundings in texture more than in brightness."""
    d = pick_diameter(rng, n, 30, 150)
    scene = make_scene(
        rng,
        n,
        t,
        d,
        pick_count(rng, n, d, 0.04, 0.5, 25),
        rough=rng.uniform(0.03, 0.2),
        aspect=(1.0, rng.uniform(1.1, 2.2)),
    )
    grain = max(d * rng.uniform(0.03, 0.12), 1.0)
    buf = rasterise(scene, texture_pool(rng, grain, t), rng)
    other = grain * rng.choice([0.4, 2.5])
    change = rng.choice([0.0, 0.1])
    ground = moving_background(scene, lambda m: fractal_noise(rng, m, m, max(other * 2, 2.0), 1.0), change)
    amount = rng.uniform(0.3, 1.0)
    body = amount * buf.tex + rng.uniform(-0.8, 0.8)
    cover = buf.cover()
    image = body * cover + (1 - cover) * ground * rng.uniform(0.2, 0.8)
    if rng.random() < 0.4:
        rim = buf.line(max(0.03 * d, 0.9))
        image += rng.choice([-1, 1]) * rng.uniform(0.4, 1.2) * rim
    return image.astype(np.float32), buf.index, scene

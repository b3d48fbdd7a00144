"""Phase contrast, and the cells on glass that are mostly seen by it."""

from __future__ import annotations

import numpy as np

from synth.fields import Array, Rng, blur, fractal_noise, loguniform, texture_pool
from synth.imaging import zernike_contrast
from synth.limbs import draw_limbs
from synth.looks import Drawn
from synth.raster import Buffers, look_up, rasterise
from synth.scene import (
    Scene,
    elastic_warp,
    make_scene,
    moving_background,
    pick_count,
    pick_diameter,
    slow_scene,
    smooth_walk,
)
from synth.tiling import cell_lattice


def phase(rng: Rng, n: int, t: int) -> Drawn:
    """Phase contrast: flat or dark bodies with bright halos, shade-off inside."""
    if rng.random() < 0.75:
        return _adherent_phase(rng, n, t)
    d = pick_diameter(rng, n, 14, 150)
    scene = make_scene(
        rng,
        n,
        t,
        d,
        pick_count(rng, n, d, 0.04, rng.choice([0.6, 1.0])),
        rough=rng.uniform(0.04, 0.3),
        aspect=(1.0, rng.uniform(1.2, 4.5)),
        overlap=0.15,
    )
    buf = rasterise(scene, texture_pool(rng, max(d * rng.uniform(0.04, 0.12), 1.0), t), rng)
    cover = buf.cover()
    wide = max(d * rng.uniform(0.05, 0.15), 0.8)
    halo = blur(cover, wide)
    weight = np.clip(0.4 + 0.6 * buf.gain(scene), 0, 1.3)
    image = np.full_like(cover, 0.5)
    flat = rng.random() < 0.35  # spread cells: hardly a halo, told by the grains around their nuclei
    image += (rng.uniform(0.0, 0.15) if flat else rng.uniform(0.1, 0.5)) * (halo * (1 - cover)) * 2
    image += (rng.uniform(-0.1, 0.1) if flat else rng.choice([-0.35, -0.2, -0.05, 0.08])) * cover * weight
    image -= rng.uniform(0, 0.15 if flat else 0.5) * np.clip(cover - halo, 0, 1)  # dark rim
    image += cover * rng.uniform(0.03, 0.16) * buf.tex * (0.4 + 1.2 * buf.dome(0.7) if flat else 1.0)
    if rng.random() < 0.5:
        core = np.exp(-((np.hypot(buf.u, buf.v) / rng.uniform(0.3, 0.5)) ** 4))
        image += core * cover * rng.uniform(-0.12, 0.12)
    if rng.random() < 0.35:  # some rounded, bright cells
        bright = look_up(rng.random(scene.y.shape[1]) < 0.3, buf.index)
        image += bright * cover * rng.uniform(0.2, 0.6) * buf.dome(0.7)
    image += rng.uniform(0.0, 0.04) * moving_background(scene, lambda m: fractal_noise(rng, m, m, d, 2.0))
    return image, buf.index, scene


def _adherent_phase(rng: Rng, n: int, t: int) -> Drawn:
    """Cells on glass as the optics of phase contrast show them."""
    d = pick_diameter(rng, n, 24, 130)
    thick, ball, buf, scene = adherent_cells(rng, n, t, d)
    thick = blur(thick, rng.uniform(0.4, 0.9) * max(n / 256, 0.6))
    passes = rng.uniform(0.45, 0.9)
    image = zernike_contrast(thick * np.float32(passes), max(d * rng.uniform(0.03, 0.12), 1.0), passes)
    if ball.any():  # a round cell is a lens: it gathers light inside, and its halo is wide
        image += rng.uniform(0.2, 1.5) * ball ** rng.choice([0.5, 2.0])
        around = blur((ball > 0).astype(np.float32), d * rng.uniform(0.03, 0.07))
        image += rng.uniform(0.2, 1.0) * around * (buf.index < 0)
        if rng.random() < 0.6:  # and a dark line goes between the two
            rim = buf.line(max(0.02 * d, 0.8))
            image -= rng.uniform(0.3, 0.9) * rim * (ball > 0)
    image = np.minimum(image, rng.uniform(1.6, 3.5))
    if rng.random() < 0.35 and not scene.painter:  # ridges and clefts where cells meet
        line = buf.line(max(0.012 * d, 0.8)) * (buf.index >= 0)
        image += rng.uniform(-0.25, 0.25) * line
    image += rng.uniform(0.0, 0.05) * moving_background(scene, lambda m: fractal_noise(rng, m, m, d, 2.0))
    return image.astype(np.float32), buf.index, scene


def adherent_cells(rng: Rng, n: int, t: int, d: float) -> tuple[Array, Array, Buffers, Scene]:
    """Phase in radians of cells spread on glass and of dirt between them; and the domes of rounded cells."""
    scene, buf, round_ = _spread_cells(rng, n, t, d)
    k = scene.y.shape[1]
    inside = buf.index >= 0
    depth = np.maximum(buf.depth, 0)
    edge = max(d * rng.uniform(0.01, 0.06), 0.6)
    lamella = 1 - np.exp(depth * np.float32(-1 / edge))
    body = np.exp((buf.u**2 + buf.v**2 * np.float32(1.5)) * np.float32(-rng.uniform(0.4, 1.2)))
    nucleus, spots = _organelles(rng, buf, k)
    ball = buf.ball()
    thick = rng.uniform(0.08, 0.35) * lamella * np.clip(0.6 + 0.4 * buf.gain(scene), 0, 1)
    thick += rng.uniform(0.0, 0.4) * body * lamella
    if rng.random() < 0.5:  # pale or dark
        thick *= 1 - rng.uniform(0.2, 0.7) * nucleus
    else:
        thick += rng.uniform(0.05, 0.25) * nucleus
    thick += rng.uniform(0.15, 0.5) * spots
    amount = rng.uniform(0.01, 0.08) if rng.random() < 0.8 else 0.16
    grains = amount * buf.tex * lamella * (0.35 + body) * (1 - 0.7 * nucleus)
    thick += grains
    if round_.any():
        flag = np.append(round_, False)[buf.index]
        thick = np.where(flag, rng.uniform(0.3, 0.9) * ball + grains, thick)
        ball = ball * flag
    else:
        ball = ball * 0
    thick = thick * inside
    if rng.random() < 0.5:  # debris
        specks = np.zeros((n, n), np.float32)
        at = rng.integers(0, n, (int(rng.integers(2, 30)), 2))
        specks[at[:, 0], at[:, 1]] = rng.uniform(0.2, 1.2, len(at))
        sigma = max(rng.uniform(0.01, 0.03) * d, 0.7)
        thick = thick + blur(specks, sigma) * np.float32(6.3 * sigma**2)
    return thick.astype(np.float32), ball.astype(np.float32), buf, scene


def _spread_cells(rng: Rng, n: int, t: int, d: float) -> tuple[Scene, Buffers, Array]:
    """Adherent cells: spindles, stars, fans and sheets with drawn-out corners; and which ones are round."""
    sheet = rng.random() < 0.35  # a lawn, which is dense or closed
    closed = sheet and rng.random() < 0.4
    reach = 0.5 * d
    if sheet:
        centre = cell_lattice(rng, n, d * rng.uniform(0.72, 0.78 if closed else 1.0))
        away = np.hypot(*(centre - n / 2).T)
        centre = centre[np.argsort(away * rng.uniform(0.85, 1.0, len(away)))[:80]]
        scene = slow_scene(rng, n, t, d, len(centre), centre)
        scene.painter = False
    else:
        count = pick_count(rng, n, d, 0.05, rng.choice([0.4, 0.9]), 40)
        scene = slow_scene(rng, n, t, d, count, overlap=0.35)
    k = scene.y.shape[1]
    kinds = rng.choice(4, k, p=rng.dirichlet([0.2, 0.1, 0.1, 0.9] if sheet else [0.7, 0.9, 0.6, 0.9]))
    if rng.random() < (0.35 if sheet else 0.15):  # fibroblasts, which lie along each other
        kinds[:] = 0
        scene.angle += rng.uniform(0, 6) + rng.choice([0.1, 0.4]) * rng.standard_normal(k) - scene.angle[:1]
    tips = 7
    core = np.empty(k)
    angle, far, thin = np.zeros((k, tips)), np.zeros((k, tips)), np.zeros((k, tips))
    for j, kind in enumerate(kinds):
        if kind == 0:  # spindle
            m = 2 + int(rng.random() < 0.3)
            core[j] = rng.uniform(0.3, 0.55)
            angle[j, :2] = [0, np.pi]
            angle[j, 2:m] = rng.uniform(0.8, 2.2)
            far[j, :m] = rng.uniform(1.1, 2.2, m)
        elif kind == 1:  # star
            m = int(rng.integers(3, 6))
            core[j] = rng.uniform(0.4, 0.7)
            angle[j, :m] = 2 * np.pi * np.cumsum(rng.dirichlet(np.full(m, 4.0)))
            far[j, :m] = loguniform(rng, 0.75, 2.1, m)
        elif kind == 2:  # fan with a tail
            m = int(rng.integers(5, 8))
            core[j] = rng.uniform(0.35, 0.55)
            angle[j, 0] = np.pi
            angle[j, 1:m] = np.linspace(-1, 1, m - 1) * rng.uniform(0.4, 1.0)
            far[j, 0] = rng.uniform(1.0, 2.0)
            far[j, 1:m] = rng.uniform(0.7, 1.1) * rng.uniform(0.93, 1.07, m - 1)
        else:  # flat, with corners
            m = int(rng.integers(3, 7))
            core[j] = rng.uniform(0.6, 0.85)
            angle[j, :m] = 2 * np.pi * np.cumsum(rng.dirichlet(np.full(m, 8.0)))
            far[j, :m] = loguniform(rng, 0.8, 1.5, m)
        thin[j, :m] = rng.uniform(0.02, 0.12, m) if kind < 2 else loguniform(rng, 0.03, 0.3, m)
        if kind == 2:
            thin[j, 1:m] = rng.uniform(0.28, 0.4)
            thin[j, 0] = rng.uniform(0.02, 0.08)
    if closed:  # hardly any gap is left
        core *= 1.3
    round_ = rng.random(k) < rng.choice([0.0, 0.1, 0.3], p=[0.4, 0.4, 0.2])
    core[round_] = rng.uniform(0.5, 0.7)
    far[round_], thin[round_] = 0.0, 0.0
    thin[round_, 0] = core[round_]
    size = (scene.r / scene.r[:1].mean()) * reach
    wander = rng.choice([0.01, 0.03] if sheet else [0.01, 0.03, 0.07])
    change = np.exp(wander * smooth_walk(rng, t, k * tips).reshape(t, k, tips)).clip(0.5, 1.6)
    swing = wander * smooth_walk(rng, t, k * tips).reshape(t, k, tips)
    direction = scene.angle[..., None] + angle + swing
    out = size[..., None] * far * change
    joints = np.empty((t, k, tips + 1, 2))
    joints[:, :, 0, 0], joints[:, :, 0, 1] = scene.y, scene.x
    joints[:, :, 1:, 0] = scene.y[..., None] + out * np.sin(direction)
    joints[:, :, 1:, 1] = scene.x[..., None] + out * np.cos(direction)
    width = np.concatenate([(size * core)[..., None], size[..., None] * thin], -1)
    width[..., 1:] = np.where(thin > 0, np.maximum(width[..., 1:], 0.6), 0)
    scene.r = size * 0.9
    scene.warp = elastic_warp(rng, n, d, rng.uniform(0.3, 1.5))
    pool = texture_pool(rng, max(d * rng.uniform(0.012, 0.035), 0.9), t)
    buf = draw_limbs(
        scene,
        joints,
        width,
        pool,
        rng,
        star=True,
        curve=float(rng.uniform(0, 0.9)),
        blend=float(rng.uniform(0.05, 0.3) * reach),
    )
    return scene, buf, round_


def _organelles(rng: Rng, buf: Buffers, k: int) -> tuple[Array, Array]:
    """Nuclei (0..1, sharp) and nucleoli of cells of which `buf.u` and `buf.v` are in core radii."""
    place = rng.normal(0, 0.18, (k, 2)).astype(np.float32)
    big = rng.uniform(0.4, 0.62, k).astype(np.float32)
    spots = (rng.normal(0, 0.3, (k, 2)).astype(np.float32) for _ in range(int(rng.integers(1, 4))))
    squeeze = np.float32(rng.uniform(1.0, 1.6))
    at = np.nonzero((buf.index >= 0) & (np.abs(buf.u) < 1.4) & (np.abs(buf.v) < 1.4))
    i = buf.index[at]
    u, v = (buf.u[at] - place[i, 0]) / big[i], (buf.v[at] - place[i, 1]) * squeeze / big[i]
    oval = np.clip((1 - u * u - v * v) * 4 + 0.5, 0, 1)
    dots = np.zeros_like(oval)
    for spot in spots:
        away = (u - spot[i, 0]) ** 2 + (v - spot[i, 1]) ** 2
        dots = np.maximum(dots, np.exp(away * np.float32(-1 / 0.2**2)))
    nucleus, nucleoli = np.zeros_like(buf.u), np.zeros_like(buf.u)
    nucleus[at], nucleoli[at] = oval, dots * oval
    return nucleus, nucleoli

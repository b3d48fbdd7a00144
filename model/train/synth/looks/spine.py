"""Magnetic resonance of a spinal cord in its canal, across it and along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.fields import Rng, blur, loguniform, volume_noise
from synth.looks import Drawn
from synth.looks.anatomy import magnetic_resonance
from synth.volumes import plane_positions, still_scene, thick_planes, volume_warp


@dataclass
class _Grey:
    """Brightness of the parts around a spinal cord in one kind of magnetic resonance."""

    cord: float
    core: float  # grey matter
    fluid: float
    bone: float
    disc: float
    flesh: float
    fat: float


def _contrast(rng: Rng) -> _Grey:
    """Draw a weighting by T1 or T2."""
    if rng.random() < 0.5:  # T2: bright fluid
        cord = rng.uniform(0.3, 0.5)
        core, fluid, disc = cord + rng.uniform(0, 0.12), rng.uniform(0.7, 1.0), rng.uniform(0.2, 0.7)
        core += rng.choice([0.0, 0.12])  # as a gradient echo shows it
    else:  # T1: dark fluid
        cord = rng.uniform(0.45, 0.7)
        core, fluid, disc = cord - rng.uniform(0, 0.08), rng.uniform(0.1, 0.3), rng.uniform(0.25, 0.45)
    return _Grey(
        cord, core, fluid, rng.uniform(0.25, 0.7), disc, rng.uniform(0.15, 0.45), rng.uniform(0.5, 1)
    )


def spine_axial(rng: Rng, n: int, t: int) -> Drawn:
    """Cross-sections of a spinal cord in its fluid, with a vertebra in front and an arch behind."""
    planes, shown, fine = plane_positions(t, n)
    p = len(planes)
    f32 = np.float32
    d = float(loguniform(rng, 7, max(0.24 * n, 12)))  # width of the cord
    grey = _contrast(rng)
    z = planes.astype(f32)[:, None, None]
    pace = rng.choice([0.01, 0.03, 0.08]) * d  # pixels a plane
    heading = rng.uniform(0, 2 * np.pi)
    place = rng.uniform(0.35, 0.65, 2) * n
    sway = rng.choice([0.0, 0.02]) * d * rng.standard_normal(p)  # the patient moved
    sway += 0.5 * pace * np.sin(planes * rng.uniform(0.3, 1.0) + rng.uniform(0, 6.3))
    cy = (place[0] + pace * np.sin(heading) * planes + sway).astype(f32)[:, None, None]
    cx = (place[1] + pace * np.cos(heading) * planes).astype(f32)[:, None, None]
    warp = volume_warp(rng, p, n, d, rng.uniform(2, 6), rng.choice([0.02, 0.05]))
    grid = np.arange(n, dtype=f32)
    dy, dx = grid[None, :, None] - cy + warp[0], grid[None, None, :] - cx + warp[1]
    turn = rng.normal(0, 0.25) + rng.choice([0, np.pi / 2, np.pi, -np.pi / 2])
    v, u = (
        (np.cos(turn) * dy - np.sin(turn) * dx).astype(f32),
        (np.sin(turn) * dy + np.cos(turn) * dx).astype(f32),
    )
    swell = 1 + rng.choice([0.02, 0.06, 0.12]) * np.sin(planes * rng.uniform(0.15, 0.6) + rng.uniform(0, 6.3))
    a = f32(0.5 * d) * swell[:, None, None].astype(f32)
    b = a * f32(rng.uniform(0.6, 0.95))
    end = rng.uniform(0, t) if rng.random() < 0.12 else None  # the conus: the cord tapers and is gone
    if end is not None:
        left = np.sqrt(np.clip((end - z) / rng.uniform(2, 5), 0, 1)).astype(f32) + f32(1e-3)
        a, b = a * left, b * left
    cord = (np.hypot(u / a, v / b) - 1) * b
    room = f32(0.5 * d * rng.uniform(1.25, 1.9))
    off = f32(rng.uniform(-0.12, 0.12) * d)
    canal = np.hypot(u / f32(rng.uniform(1.0, 1.25)), v - off) - room
    large = f32(d * rng.uniform(0.8, 1.4))
    front = room + large * f32(rng.uniform(0.75, 0.9))
    body = np.hypot(u / f32(rng.uniform(1.0, 1.3)), v - front) - large
    period = rng.uniform(3, 14)
    phase = np.mod(planes / period + rng.random(), 1.0)
    disc = (phase < rng.uniform(0.15, 0.35))[:, None, None]
    arch = np.abs(np.hypot(u, v) - room - f32(0.25 * d)) - f32(0.12 * d)
    arch = np.maximum(arch, v - f32(0.2 * d))  # behind the canal only
    spike = np.maximum(np.abs(u) - f32(0.13 * d), np.abs(v + room + f32(0.8 * d)) - f32(0.6 * d))
    spike = np.where(phase[:, None, None] < 0.6, spike, f32(9.0))
    lumps = volume_noise(rng, p, n, d * rng.uniform(0.6, 2.0), rng.uniform(2, 8))
    if rng.random() < 0.5:  # muscles, with little fat between them
        grey.fat = grey.flesh + rng.uniform(0.05, 0.2)
    value = grey.flesh + 0.05 * volume_noise(rng, p, n, 0.25 * d, 2.0)
    value = np.where(lumps > rng.uniform(0.8, 1.4), f32(grey.fat), value)
    value = np.where(body < 0, np.where(disc, f32(grey.disc), f32(grey.bone)), value)
    value = np.where((np.abs(body) < max(0.05 * d, 0.5)) | (np.minimum(arch, spike) < 0), f32(0.08), value)
    ring = rng.choice([0.0, 0.06, 0.12]) * d
    value = np.where(canal < 0, f32(grey.fat if rng.random() < 0.4 else 0.1), value)
    value = np.where(canal < -ring, f32(grey.fluid), value)
    core = rng.random() < 0.5
    value = np.where(cord < 0, f32(grey.cord), value)
    if core:  # two horns on either side and a bridge
        w, q = np.abs(u) / a, v / b
        horns = (np.abs(w - f32(0.32) - f32(0.12) * np.abs(q)) < 0.13) & (np.abs(q) < 0.65)
        value = np.where(horns | ((np.abs(q) < 0.12) & (w < 0.35)), f32(grey.core), value)
    image = magnetic_resonance(rng, blur(thick_planes(value, t, fine).astype(f32), rng.uniform(0.5, 1.0)))
    index = np.full(value.shape, -1, np.int32)
    if rng.random() < 0.5:  # each vertebra and disc has its own label
        number = np.floor(planes / period + 1.0).astype(np.int32)[:, None, None]
        number = 2 + 2 * (number - number.min()) + disc
        index = np.where(body < 0, np.minimum(number, 40), index)
    if rng.random() < 0.35:
        index = np.where(canal < -ring, 1, index)
    index = np.where(cord < 0, 0, index)
    return image, index[shown], still_scene(n, t, np.full(41, 0.5 * d))


def spine_sagittal(rng: Rng, n: int, t: int) -> Drawn:
    """Lengthwise planes: the cord is a band through the frame that narrows and is gone to both sides."""
    planes, shown, fine = plane_positions(t, n)
    p = len(planes)
    f32 = np.float32
    d = float(loguniform(rng, 5, max(0.1 * n, 8)))  # front to back
    grey = _contrast(rng)
    half = loguniform(rng, 1.2, 6.0)  # planes from the middle of the cord to its side
    middle = rng.uniform(0.3, 0.7) * t
    if rng.random() < 0.65:  # in view on the first or the last plane
        middle = rng.uniform(-0.5, 0.8) * half
        middle = middle if rng.random() < 0.5 else t - 1 - middle
    grid = np.arange(n)
    rows, cols = grid / n, grid[None, None, :]
    curve = rng.uniform(0.35, 0.65) * n + rng.uniform(-0.12, 0.12) * n * np.sin(
        3 * rows + rng.uniform(0, 6.3)
    )
    curve = curve + rng.uniform(-0.2, 0.2) * n * (rows - 0.5)
    scoliosis = rng.choice([0.0, 0.5, 1.5]) * np.sin(3 * rows + rng.uniform(0, 6.3))
    z = (planes[:, None, None] - middle - scoliosis[None, :, None]).astype(f32)
    swell = 1 + 0.12 * np.sin(5 * rows + rng.uniform(0, 6.3))
    end = rng.uniform(0.5, 0.95) if rng.random() < 0.3 else 2.0  # conus
    swell = (swell * np.sqrt(np.clip((end - rows) / 0.12, 0, 1)))[None, :, None].astype(f32)
    v = (cols - curve[None, :, None]).astype(f32) + f32(0.12 * d) * volume_noise(rng, p, n, 2 * d, 3.0)
    flat = np.sqrt(np.clip(1 - (z / f32(half)) ** 2, 0, 1))
    cord = np.abs(v) - f32(0.5 * d) * flat * swell
    cord = np.where(flat * swell > 0.15, cord, f32(9.0))
    room, broad = f32(0.5 * d * rng.uniform(1.4, 2.2)), f32(half * rng.uniform(1.2, 1.7))
    open_ = np.sqrt(np.clip(1 - (z / broad) ** 4, 0, 1))
    canal = np.where(open_ > 0.1, np.abs(v - f32(0.15 * d)) - room * open_, f32(9.0))
    period = rng.uniform(1.6, 3.2) * d
    tilt = (grid.astype(f32)[None, :, None] - f32(0.15) * v) / f32(period) + f32(rng.random())
    phase, number = np.mod(tilt, 1.0), np.floor(tilt).astype(np.int32)
    deep = f32(d * rng.uniform(1.8, 3.0))
    round_ = np.sqrt(np.clip(1 - (z / f32(half * rng.uniform(2, 4))) ** 4, 0, 1))
    front = np.abs(v - room - f32(0.5) * deep) - f32(0.5) * deep * round_
    gap = rng.uniform(0.12, 0.3)
    body = (front < 0) & (phase > gap)
    disc = (front < 0) & ~body
    back = (v < -room) & (v > -room - deep * f32(0.9)) & (np.mod(tilt + 0.3, 1.0) < 0.45) & (np.abs(z) < half)
    value = grey.flesh + 0.06 * volume_noise(rng, p, n, d, 2.0) + 0.04 * volume_noise(rng, p, n, 0.4 * d, 2.0)
    value = np.where(volume_noise(rng, p, n, 2 * d, 3.0) > 1.0, f32(grey.fat), value)
    value = np.where(v > room + deep * 1.3, f32(rng.uniform(0.02, 0.3)), value)  # throat or aorta
    value = np.where(body, f32(grey.bone), np.where(disc, f32(grey.disc), value))
    value = np.where(back, f32(grey.bone * 0.9), value)
    value = np.where(np.abs(front) < 0.6, f32(0.1), value)
    value = np.where(canal < 0, f32(grey.fluid), value)
    value = np.where(cord < 0, f32(grey.cord), value)
    image = magnetic_resonance(rng, blur(thick_planes(value, t, fine).astype(f32), rng.uniform(0.5, 1.0)))
    index = np.full(value.shape, -1, np.int32)
    if rng.random() < 0.35:
        place = 2 + (number - number.min()) * 2
        index = np.where(body, place, np.where(disc, place + 1, -1))
    if rng.random() < 0.3:
        index = np.where(canal < 0, 1, index)
    index = np.where(cord < 0, 0, index)
    if rng.random() < 0.5:  # the spine lies along the rows
        image, index = image.transpose(0, 2, 1), index.transpose(0, 2, 1)
    return image, index[shown], still_scene(n, t, np.full(int(index.max()) + 2, 0.7 * d))

"""Tomography of a trunk, by X rays or magnetic resonance, cut from solids."""

from __future__ import annotations

import numpy as np

from synth.fields import Array, Rng, blur, loguniform, smooth_noise
from synth.looks import Drawn
from synth.volumes import (
    Solids,
    cut_solids,
    make_solids,
    plane_positions,
    still_scene,
    thick_planes,
    volume_texture,
    volume_warp,
)

# What a body is made of, and what some of it measures in Hounsfield units.
_PARENCHYMA, _MUSCLE, _BONE, _VESSEL, _GUT, _LUNG = range(6)
_FAT_HU, _MUSCLE_HU, _BONE_HU, _LUNG_HU = -100.0, 50.0, 550.0, -830.0


def anatomy(rng: Rng, n: int, t: int) -> Drawn:
    """CT or MR of a trunk: organs that press on each other, bones, vessels, a row of vertebrae, lungs."""
    planes, shown, fine = plane_positions(t, n)
    p = len(planes)
    d = float(loguniform(rng, max(7.0, n / 12), n / 3.2))
    middle = rng.uniform(0.35, 0.65, 2) * n
    wide = n * rng.uniform(0.35, 0.9)
    count = int(np.clip(loguniform(rng, 0.6, 3.0) * (n / d) ** 2, 6, 90))
    size = (0.5 * d * np.exp(0.4 * rng.standard_normal(count))).clip(3.0, 0.3 * n)
    height = loguniform(rng, 2.0, 4.0 * t, count) * np.sqrt(size / size.mean())
    where = middle + rng.uniform(-1, 1, (count, 2)) * wide * 0.8
    z = rng.uniform(-0.8 * height, t + 0.8 * height)
    kind = rng.choice(6, count, p=[0.5, 0.14, 0.1, 0.13, 0.09, 0.04])
    vessel = kind == _VESSEL
    size[vessel] = (size[vessel] * 0.45).clip(2.0)
    size[kind == _LUNG] = (size[kind == _LUNG] * 2).clip(0, 0.3 * n)
    height[vessel] = np.maximum(height[vessel], 2.5)
    solids = make_solids(
        rng, np.column_stack([z, where]), np.column_stack([height.clip(0.8), size]),
        aspect=rng.uniform(1.2, 2.6), lean=rng.choice([0.1, 0.3]),
    )  # fmt: skip
    solids.blunt = rng.choice([2.0, 3.0, 6.0], count)
    solids.lean[vessel] = rng.normal(0, 0.15 * d / 3, (int(vessel.sum()), 2))
    solids.over = vessel.copy()
    parts = [(solids, kind)]
    hosts = np.flatnonzero((kind == _PARENCHYMA) & (rng.random(count) < 0.3) & (size > 5))
    if hosts.size:  # cysts, pelves, ventricles
        part = rng.uniform(0.25, 0.7, len(hosts))
        shift = rng.uniform(-0.35, 0.35, (len(hosts), 3)) * solids.radius[hosts]
        inner = make_solids(
            rng, solids.centre[hosts] + shift,
            np.column_stack([height[hosts] * part, size[hosts] * part]).clip(0.8),
        )  # fmt: skip
        inner.over[:] = True
        parts.append((inner, np.full(len(hosts), _PARENCHYMA)))
    if rng.random() < 0.5:
        parts.append(_vertebrae(rng, middle + rng.uniform(-0.25, 0.25, 2) * n, d * rng.uniform(0.5, 1.1), t))
    whole = Solids.joined([solids for solids, _ in parts])
    kind = np.concatenate([k for _, k in parts])
    k = len(kind)
    warp = volume_warp(
        rng, p, n, d, rng.uniform(2.0, 8.0) * (2 if fine else 1), rng.choice([0.04, 0.1, 0.16])
    )
    cut = cut_solids(whole, planes, n, warp, 1.1)
    inside = cut.index >= 0
    computed = rng.random() < 0.55  # tomography by X rays; else magnetic resonance
    grain = volume_texture(rng, p, n, d * rng.uniform(0.05, 0.2))
    if computed:
        level = rng.uniform(*rng.choice([(40, 70), (20, 130), (0, 180)]), k)
        level[kind == _MUSCLE] = _MUSCLE_HU + rng.normal(0, 6, int((kind == _MUSCLE).sum()))
        level[kind == _BONE] = rng.uniform(80, 260)
        level[kind == _VESSEL] = rng.choice([45.0, 130.0, 220.0]) + rng.normal(
            0, 15, int((kind == _VESSEL).sum())
        )
        level[kind == _GUT] = rng.choice([-900.0, 10.0, 40.0], int((kind == _GUT).sum()))
        level[kind == _LUNG] = _LUNG_HU
        ground, shell, air, unit = rng.choice([_FAT_HU, _FAT_HU, _MUSCLE_HU]), _BONE_HU, -1000.0, 8.0
    else:
        level = rng.uniform(0.25, 0.8) + rng.choice([0.06, 0.15, 0.3]) * rng.standard_normal(k)
        for j in (_MUSCLE, _BONE, _VESSEL, _GUT, _LUNG):
            level[kind == j] = rng.uniform(0.05, 1.0) + rng.normal(0, 0.03, int((kind == j).sum()))
        ground, shell, air, unit = rng.uniform(0.2, 0.95), 0.05, 0.0, 0.02
    # What looks like its surroundings cannot be learned.
    least = 2.0 * unit if computed else 0.07
    level = np.where(np.abs(level - ground) < least, ground + rng.choice([-1, 1], k) * least, level)
    level = level.astype(np.float32)
    value = np.where(inside, level[cut.owner], np.float32(ground))
    value += np.float32(unit * rng.choice([0.5, 1.5, 3.0])) * grain
    of = np.where(inside, kind[cut.owner], -1)
    thick = max(0.05 * d, 0.9)
    value = np.where((of == _BONE) & (cut.depth < thick), np.float32(shell), value)
    if computed:
        value = np.where((of == _GUT) & (cut.depth < thick), np.float32(_MUSCLE_HU), value)
    value = np.where((of == _LUNG) & (grain > 1.6), np.float32(_MUSCLE_HU if computed else 0.5), value)
    if rng.random() < 0.6:  # a line of fat, or a capsule, between organs
        line = np.exp(-((np.minimum(cut.wall, cut.depth.clip(0)) / rng.uniform(0.5, 1.0)) ** 2)) * (
            (of == _PARENCHYMA) | (of == _MUSCLE)
        )
        value += np.float32(rng.uniform(0.3, 0.9)) * line * (np.float32(ground) - value)
    rows = np.arange(n, dtype=np.float32)
    far = ((rows[:, None] - middle[0]) / (wide * rng.uniform(0.7, 1.0))) ** 2 + (
        (rows - middle[1]) / wide
    ) ** 2
    skin = (np.sqrt(far, dtype=np.float32) - 1) * np.float32(wide) + warp[0][p // 2]
    if rng.random() < 0.7:
        rim = rng.uniform(0.0, 0.12) * n
        value = np.where(skin > -rim, np.float32(_FAT_HU if computed else rng.uniform(0.3, 1)), value)
        value = np.where(skin > 0, np.float32(air), value)
        seen = skin < -rim
    else:
        seen = np.ones((n, n), bool)
    image = blur(thick_planes(value, t, fine).astype(np.float32), rng.uniform(0.4, 0.9))
    if computed:
        image += np.float32(loguniform(rng, 2, 25)) * _speckle(rng, image.shape)
        centre, span = rng.choice(
            [(40.0, 400.0), (40.0, 400.0), (50.0, 250.0), (100.0, 1000.0), (-200.0, 1600.0)]
        )
        image = np.clip((image - centre) / span + 0.5, 0, 1)
    else:
        image = magnetic_resonance(rng, image)
    labels = np.where(seen, cut.index, -1)[shown]
    if (kind == _LUNG).any():  # nothing shows where one lung ends and another begins
        labels = np.where((labels >= 0) & (kind[labels] == _LUNG), int(np.argmax(kind == _LUNG)), labels)
    return image.astype(np.float32), labels, still_scene(n, t, whole.radius[:, 1], rng.random(k) < 0.88)


def _vertebrae(rng: Rng, where: Array, d: float, t: int) -> tuple[Solids, Array]:
    """A row of bodies along z, each of which ends where a disc or the next one begins."""
    half = loguniform(rng, 1.5, 5.0)
    gap = rng.uniform(0.1, 1.2)
    count = int((t + 6) / (2 * half + gap)) + 2
    z = -3 + rng.uniform(-1, 1) * half + (2 * half + gap) * np.arange(count)
    centre = np.column_stack([z, np.tile(where, (count, 1))])
    solids = make_solids(rng, centre, np.tile([half, 0.5 * d], (count, 1)), aspect=1.0, lean=0.0)
    solids.radius[:, 1] *= rng.uniform(1.0, 1.35)
    solids.turn[:] = rng.choice([0.0, np.pi / 2])
    solids.blunt[:] = 8.0
    solids.over[:] = True
    return solids, np.full(count, _BONE)


def _speckle(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Noise of a reconstruction: correlated over about a pixel."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    return blur(noise, 0.6) * np.float32(1.9) if rng.random() < 0.6 else noise


def magnetic_resonance(rng: Rng, image: Array) -> Array:
    """Uneven sensitivity of the coils, and noise of a magnitude (Rician)."""
    n = image.shape[-1]
    bias = np.exp(
        np.float32(rng.choice([0.05, 0.2, 0.4])) * smooth_noise(rng, n, n, n * rng.uniform(0.5, 1.2))
    )
    sigma = np.float32(loguniform(rng, 0.006, 0.08))
    real = image * bias + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.hypot(real, sigma * rng.standard_normal(image.shape, dtype=np.float32))

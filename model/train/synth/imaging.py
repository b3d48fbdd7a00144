"""What optics and the camera do to an image: phase contrast, blur, uneven light, noise and dirt."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from synth.fields import Array, Rng, blur, blur_matrix, loguniform, smooth_noise


@lru_cache(maxsize=64)
def _tailed_matrix(n: int, sigma: float) -> Array:
    """Low-pass matrix (n, n) with a long tail, as the ring of a phase-contrast condenser has."""
    return np.float32(0.65) * blur_matrix(n, sigma) + np.float32(0.35) * blur_matrix(n, 3 * sigma)


def zernike_contrast(phase: Array, wide: float, pass_through: float) -> Array:
    """Phase-contrast image of a phase map in radians, 1 where it is empty.

    The ring holds back and shifts the light that went straight through, and with it the coarsest part of what
    the object bent, which is why bodies fade inside and have a bright halo around them of width `wide`.
    """
    wide = max(round(wide * 2) / 2, 0.5)
    real, imag = np.cos(phase), np.sin(phase)
    low = _tailed_matrix(phase.shape[-1], wide)
    straight, bent = low @ real @ low.T, low @ imag @ low.T
    a = np.float32(pass_through)
    image = (real - straight + a * bent) ** 2 + (imag - bent - a * straight) ** 2
    return image * np.float32(1 / pass_through**2)


def acquire(rng: Rng, image: Array, mode: str, diameter: float) -> Array:
    """Optics and camera: blur, uneven light, bleaching, dirt, noise, gamma, inversion."""
    t, n, _ = image.shape
    glowing = mode in ("fluo", "small", "cyto", "zstack")
    span = float(np.percentile(image[:, ::2, ::2], 99.5) - np.percentile(image[:, ::2, ::2], 0.5)) + 1e-6
    image = (image - float(image.min())) / span
    psf = rng.choice([0.0, 0.6, 1.0, 1.8, 3.0], p=[0.2, 0.3, 0.27, 0.16, 0.07]) * max(n / 256, 0.5)
    widest = diameter * (0.05 if mode == "dic" else 0.12)  # beyond that nothing is left to be found
    psf = min(psf, widest)
    image = blur(image, psf)
    if rng.random() < 0.3:  # focus drifts
        wave = 0.5 * (1 + np.sin(rng.uniform(0, 6.3) + rng.uniform(0.2, 1.0) * np.arange(t)))
        soft = blur(image, min(rng.uniform(1.0, 3.0) * n / 256 + 0.3, widest))
        image = image + wave[:, None, None].astype(np.float32) * (soft - image)
    if rng.random() < 0.4:  # uneven light
        light = 1 + rng.uniform(0.05, 0.3) * smooth_noise(rng, n, n, n * rng.uniform(0.4, 1.0))
        image = image * light.clip(0.3) if glowing or rng.random() < 0.5 else image + 0.6 * (light - 1)
    image = _dirt(rng, image, glowing)
    fade = rng.choice([0.0, 0.03, 0.1], p=[0.5, 0.3, 0.2]) if glowing else rng.choice([0.0, 0.01])
    flicker = rng.choice([0.0, 0.02, 0.08], p=[0.6, 0.3, 0.1]) * rng.standard_normal(t)
    image = image * np.exp(-fade * np.arange(t) + flicker)[:, None, None].astype(np.float32)
    if rng.random() < 0.08:  # saturated camera
        image = np.minimum(image, np.float32(np.percentile(image[:, ::2, ::2], rng.uniform(90, 99))))
    if rng.random() < 0.05:  # scan lines
        image = image + rng.uniform(0.01, 0.08) * rng.standard_normal((t, n, 1), dtype=np.float32)
    amount = loguniform(rng, 0.004, 0.2 if rng.random() < 0.3 else 0.07)
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < 0.25:
        grain = blur(grain, 0.6) * 1.8
    shot = rng.uniform(0.3, 1.0) if glowing else rng.uniform(0.0, 0.6)
    image = image + amount * grain * np.sqrt(1 - shot + shot * np.clip(image, 0, 2))
    if rng.random() < 0.3:
        low = float(image.min())
        image = (np.maximum(image - low, 0) / (1.5 - min(low, 0.4))) ** np.float32(rng.uniform(0.5, 1.6))
    if rng.random() < (0.08 if glowing else 0.2):
        image = -image
    return image


def _dirt(rng: Rng, image: Array, glowing: bool) -> Array:
    """Specks that stay or wander, and large blobs out of focus; none of them is labelled."""
    t, n, _ = image.shape
    if rng.random() < 0.3:
        count = int(rng.integers(1, 25))
        where = rng.uniform(0, n, (count, 2))
        walk = rng.choice([0.0, 0.01]) * n * rng.standard_normal((t, count, 2)).cumsum(0)
        spots = np.zeros_like(image)
        at = np.rint(where + walk).astype(int)
        good = ((at >= 0) & (at < n)).all(-1)
        frame, which = np.nonzero(good)
        power = loguniform(rng, 0.3, 1.2, count) * (1 if glowing else rng.choice([-1, 1]))
        spots[frame, at[frame, which, 0], at[frame, which, 1]] = power[which]
        sigma = rng.uniform(0.6, 1.6) * max(n / 256, 0.5)
        image = image + blur(spots, sigma) * np.float32(6.3 * max(sigma, 0.3) ** 2)
    if rng.random() < 0.2:
        rows = np.arange(n, dtype=np.float32)
        for _ in range(int(rng.integers(1, 4))):
            cy, cx = rng.uniform(0, n, 2)
            wide = rng.uniform(0.05, 0.2) * n
            blob = np.exp(-(((rows - cy) / wide) ** 2))[:, None] * np.exp(-(((rows - cx) / wide) ** 2))[None]
            image = image + np.float32(rng.uniform(0.1, 0.5) * (1 if glowing else rng.choice([-1, 1]))) * blob
    return image

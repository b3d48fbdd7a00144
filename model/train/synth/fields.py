"""Random fields: smooth noise, textures, and the blur and resampling that the other steps share."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
Rng = np.random.Generator


def loguniform(rng: Rng, low: float, high: float, size: Any = None) -> Any:
    """A draw that is even in the logarithm."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


@lru_cache(maxsize=256)
def resampling_matrix(n_out: int, n_in: int, kind: str) -> Array:
    """Matrix (n_out, n_in) that resamples a line: "linear" or "cubic" (smooth B-spline), ends repeated."""
    at = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    d = at[:, None] - np.arange(-3, n_in + 3)[None]
    a = np.abs(d)
    if kind == "linear":
        w = np.maximum(1 - a, 0)
    else:
        w = np.where(a < 1, 2 / 3 - a**2 + a**3 / 2, np.maximum(2 - a, 0) ** 3 / 6)
    full = w[:, 3:-3].copy()
    full[:, 0] += w[:, :3].sum(1)
    full[:, -1] += w[:, -3:].sum(1)
    return (full / full.sum(1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=64)
def blur_matrix(n: int, sigma: float) -> Array:
    """Matrix (n, n) that blurs a line with a Gaussian; what lies beyond the ends does not count."""
    d = np.arange(n)[:, None] - np.arange(n)[None]
    g = np.exp(-0.5 * (d / sigma) ** 2)
    return (g / g.sum(1, keepdims=True)).astype(np.float32)


def blur(stack: Array, sigma: float) -> Array:
    """Gaussian blur of (..., H, W); one price for all widths."""
    if sigma < 0.2:
        return stack
    sigma = float(np.round(sigma, 1)) if sigma < 3 else float(np.round(sigma * 2) / 2)
    h, w = stack.shape[-2:]
    if sigma < 1.6:
        out = ndimage.gaussian_filter1d(stack, sigma, axis=-1, truncate=3.0, mode="nearest")
        return ndimage.gaussian_filter1d(out, sigma, axis=-2, truncate=3.0, mode="nearest")
    return blur_matrix(h, sigma) @ stack.astype(np.float32, copy=False) @ blur_matrix(w, sigma).T


def smooth_noise(rng: Rng, h: int, w: int, scale: float, stretch: float = 1.0) -> Array:
    """Smooth field (h, w) of mean 0 and deviation about 1; `scale` is the size of its blobs in pixels."""
    gh, gw = max(int(h / scale) + 2, 3), max(int(w / (scale * stretch)) + 2, 3)
    gh, gw = min(gh, h), min(gw, w)
    grid = rng.standard_normal((gh, gw), dtype=np.float32)
    out = resampling_matrix(h, gh, "cubic") @ grid @ resampling_matrix(w, gw, "cubic").T
    return (out - out.mean()) / (out.std() + 1e-6)


def fractal_noise(rng: Rng, h: int, w: int, coarse: float, fine: float, fall: float = 0.6) -> Array:
    """Sum of octaves from `coarse` to `fine` pixels, deviation 1."""
    out, amount, scale = np.zeros((h, w), np.float32), 1.0, coarse
    while scale >= fine:
        out += amount * smooth_noise(rng, h, w, scale)
        amount *= fall
        scale /= 2
    return out / (out.std() + 1e-6)


def volume_noise(rng: Rng, p: int, n: int, scale: float, deep: float) -> Array:
    """Smooth field (p, n, n) of deviation 1, of blobs of `scale` pixels and `deep` planes."""
    g, q = min(max(int(n / scale) + 2, 3), n), min(max(int(p / deep) + 2, 3), p + 2)
    a = resampling_matrix(n, g, "cubic")
    out = a @ rng.standard_normal((q, g, g), dtype=np.float32) @ a.T
    out = np.tensordot(resampling_matrix(p, q, "cubic"), out, 1)
    return (out - out.mean()) / (out.std() + np.float32(1e-6))


FLAT_POOL = np.zeros((1 << 12, 1, 1), np.float32)  # a pool without texture, for any number of frames


def texture_pool(rng: Rng, grain: float, frames: int, change: float | None = None) -> Array:
    """Periodic textures (T, 128, 128) of blobs of `grain` pixels, mean 0 and deviation 1.

    From frame to frame the texture turns into another one by the angle `change`, as it does where a frame is
    another plane of the object.
    """
    side = 128
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.exp(-0.5 * (2 * np.pi * f * grain * 0.5) ** 2)
    if rng.random() < 0.4:
        spectrum *= np.minimum(f * grain * 3, 1)  # no coarse part: grains of one size
    if change is None:
        change = rng.choice([0.0, 0.08, 0.3], p=[0.5, 0.3, 0.2])
    kind = rng.integers(0, 4)
    count = 1 if change == 0 else 2
    out = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, side, side))) * spectrum, (side, side))
    out = ((out - out.mean()) / (out.std() + 1e-9)).astype(np.float32)
    if count == 2:
        angle = np.float32(change) * np.arange(frames, dtype=np.float32)[:, None, None]
        out = np.cos(angle) * out[:1] + np.sin(angle) * out[1:]
    if kind == 1:  # bright spots
        out = np.maximum(out - 0.8, 0)
    elif kind == 2:  # dark holes
        out = -np.maximum(out - 1.0, 0)
    elif kind == 3:  # network
        out = -np.abs(out)
    out = ((out - out.mean()) / (out.std() + np.float32(1e-9))).clip(-2.5, 4)
    return np.broadcast_to(out, (frames, side, side))


def depth_pool(rng: Rng, grain: float, planes: int) -> Array:
    """A `texture_pool` for frames that are planes of a volume."""
    return texture_pool(rng, grain, planes, float(rng.choice([0.05, 0.25, 0.7])))

"""Procedural image stacks with labels, the only data that the embedded model is trained on.

A clip is made in three steps. A *scene* holds where every object is on every frame: motion, turning, growth,
division, leaving and returning (`scene`). It is *rasterised* into plain buffers: which object, how far its
border is, texture that sticks to it (`raster`, `tiling`, `limbs`). A *look* turns the buffers into an image
of one modality (`looks`), and an imaging step adds blur, uneven light, bleaching, noise and debris
(`imaging`). Most stacks through depth have no scene: solids are placed in three dimensions and cut by planes
(`volumes`). Many clips are rendered on coarse pixels and magnified, because that is what a small object looks
like through a window.

Imports go one way: `fields <- scene <- raster, volumes <- tiling, limbs <- looks <- synth`; `imaging` needs
`fields` alone. Only numpy and scipy, one core, some 65 ms for 8 frames of 256 x 256 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synth.fields import Array, Rng, resampling_matrix
from synth.imaging import acquire
from synth.looks import Drawn, bacteria, fluorescence, membranes, organs, phase, texture, transmitted

__all__ = ["MODES", "MODE_WEIGHTS", "Clip", "make_clip"]


@dataclass(frozen=True, slots=True)
class Clip:
    """A labelled clip.

    Attributes
    ----------
    images : float32 (T, H, W)
        In 0..1, mapped by percentiles of the whole clip.
    labels : uint16 (T, H, W)
        Object ids, constant over frames; 0 is background. Daughters of a division have new ids.
    mode : str
        One of `MODES`.
    """

    images: Array
    labels: Array
    mode: str


def make_clip(seed: int, size: int = 256, n_frames: int = 6, mode: str | None = None) -> Clip:
    """Make one clip, a pure function of its arguments.

    Parameters
    ----------
    seed : int
        Not negative.
    size : int
        Side of the square frames in pixels, at least 64.
    n_frames : int
        At least 1.
    mode : str, optional
        One of `MODES`; drawn by `MODE_WEIGHTS` if not given.
    """
    if seed < 0 or size < 64 or n_frames < 1:
        raise ValueError(f"seed {seed}, size {size}, n_frames {n_frames}: at least 0, 64 and 1 are needed")
    if mode is not None and mode not in MODES:
        raise ValueError(f"mode is {mode!r}; use one of {', '.join(MODES)}")
    for attempt in range(20):
        rng = np.random.Generator(np.random.PCG64([seed, size, n_frames, attempt]))
        drawn = MODES[int(rng.choice(len(MODES), p=_WEIGHTS))]  # drawn always: a given mode shifts no stream
        chosen = mode or drawn
        images, labels = _render(rng, size, n_frames, chosen)
        seen = [_biggest(frame) >= 30 for frame in labels]
        # Clips that empty themselves are worth a few, not a tenth.
        if seen[0] and (np.mean(seen) > 0.6 or rng.random() < 0.15):
            return Clip(images, labels, chosen)
    raise RuntimeError(f"seed {seed}, mode {chosen}: no object in view after 20 attempts")


def _biggest(frame: Array) -> int:
    """Pixels of the largest object of a label frame."""
    return int(np.bincount(frame.ravel(), minlength=2)[1:].max())


_LOOKS: dict[str, tuple[Callable[[Rng, int, int], Drawn], float]] = {
    "fluo": (fluorescence.fluo, 1.5),
    "small": (fluorescence.small, 0.8),
    "cyto": (fluorescence.cyto, 1.0),
    "zstack": (fluorescence.zstack, 2.6),
    "histology": (transmitted.histology, 1.0),
    "phase": (phase.phase, 3.0),
    "dic": (transmitted.dic, 0.9),
    "yeast": (transmitted.yeast, 0.9),
    "bacteria": (bacteria.bacteria, 3.0),
    "membrane": (membranes.membrane, 1.6),
    "em": (membranes.em, 1.1),
    "organs": (organs.organs, 2.2),
    "tube": (organs.tube, 1.2),
    "texture": (texture.texture, 0.8),
}

MODES: tuple[str, ...] = tuple(_LOOKS)
MODE_WEIGHTS: tuple[float, ...] = tuple(weight for _, weight in _LOOKS.values())
_WEIGHTS = np.array(MODE_WEIGHTS) / sum(MODE_WEIGHTS)


def _render(rng: Rng, size: int, n_frames: int, mode: str) -> tuple[Array, Array]:
    """Images and labels of one attempt at a clip."""
    # Volumes have few pixels in a plane, as a plane costs time or dose.
    share = 0.75 if mode in ("zstack", "membrane", "organs", "tube") else 0.6 if mode == "bacteria" else 0.42
    coarse = rng.random() < share
    n = int(rng.integers(size // 4, int(size * 0.65))) if coarse else size
    if mode == "small":
        n = size if rng.random() < 0.7 else int(rng.integers(size // 2, size))
    image, index, scene = _LOOKS[mode][0](rng, n, n_frames)
    ids = np.append(scene.ids, 0).astype(np.uint16)
    labels = _drop_crumbs(ids[index], 4 if n < size // 2 else 9)
    image = acquire(rng, image.astype(np.float32, copy=False), mode, 2 * float(np.median(scene.r[0])))
    low, high = np.percentile(image, [0.1, 99.9])
    span = max(high - low, 1e-6)
    if rng.random() < 0.25:  # the rest of the stack was brighter, or darker, than what is seen here
        high += span * rng.uniform(0, 1.2)
        low -= span * rng.uniform(0, 0.3)
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    if n != size:
        kind = resampling_matrix(size, n, "linear")
        image = np.clip(kind @ image @ kind.T, 0, 1)
        at = np.minimum(((np.arange(size) + 0.5) * n / size).astype(int), n - 1)
        labels = labels[:, at][:, :, at]
    return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(labels, np.uint16)


def _drop_crumbs(labels: Array, least: int) -> Array:
    """Unlabel objects of which fewer than `least` pixels show on a frame."""
    out = labels.copy()
    for frame in out:
        area = np.bincount(frame.ravel())
        few = np.flatnonzero((area > 0) & (area < least))
        if few.size:
            frame[np.isin(frame, few)] = 0
    return out

"""How much memory a session will take, told before it starts, and choices that keep it under a ceiling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from stacksam.errors import DeviceMemoryError
from stacksam.network.config import NetworkConfig
from stacksam.session.models import Model
from stacksam.session.settings import Settings

__all__ = ["Needs", "fitting", "needs"]

# Bytes at work at the peak, by tests/benchmarks/bench_needs.py: of the encoder for each pixel of its input,
# of the rest for each token that an object sees, and of an interpreter with torch that has loaded nothing.
_ENCODER_BYTES = {"conv": 250, "hiera": 400}
_TOKEN_BYTES = {"conv": 70_000, "hiera": 45_000}
_PROGRAM = 450 * 2**20


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of memory that a session takes at its peak, on the device and in the program together.

    Attributes
    ----------
    program : int
        The interpreter, numpy, torch and the rest, before anything is loaded.
    weights : int
        The model.
    pictures : int
        Frames as the model sees them: the present one, the one before and the next.
    features : int
        Bound of the cache of encoded frames.
    memories : int
        What all objects remember, each with one prompted frame.
    work : int
        What is at work while frames are encoded and objects are followed.
    """

    program: int
    weights: int
    pictures: int
    features: int
    memories: int
    work: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.program + self.weights + self.pictures + self.features + self.memories + self.work


def needs(
    model: Model, frame_shape: tuple[int, int], objects: int, settings: Settings, looks: int = 1
) -> Needs:
    """What a session of so many objects takes; it does not depend on the number of frames.

    Parameters
    ----------
    model : Model
    frame_shape : (int, int)
    objects : int
    settings : Settings
    looks : int
        Windows of an object that may be looked at together, as where its ends are found in depth.
    """
    config = model.config
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    if model.dtype != torch.float32:
        weights += weights // 2  # copies in that precision
    pixels = min(frame_shape[0] * frame_shape[1], 2**24)
    tokens = (config.image_size // config.stride) ** 2
    remembered = (
        1 + config.recent_memories
    ) * tokens * config.memory_width + config.max_pointers * config.width
    return Needs(
        program=_PROGRAM,
        weights=weights,
        pictures=3 * pixels * 3 * 4 + 2 * pixels * 8,  # and what the mapping of one takes
        features=settings.cache_bytes,
        memories=4 * objects * remembered,
        work=_work(config, objects * looks, settings, windowed=model.windowed),
    )


def _work(config: NetworkConfig, objects: int, settings: Settings, *, windowed: bool) -> int:
    tokens = (config.image_size // config.stride) ** 2
    at_once = min(settings.batch if windowed else max(settings.batch // 8, 1), max(objects, 1))
    kind = "conv" if windowed else "hiera"
    encoded = at_once if windowed else 1
    encoding = _ENCODER_BYTES[kind] * encoded * config.image_size**2
    return max(encoding, _TOKEN_BYTES[kind] * at_once * tokens)


def fitting(
    model: Model,
    frame_shape: tuple[int, int],
    objects: int,
    settings: Settings,
    ceiling: int,
    looks: int = 1,
) -> Settings:
    """Settings under which a session stays below a ceiling; masks stay the same, it only takes longer.

    The cache of encoded frames goes first, then objects are computed fewer at once.

    Parameters
    ----------
    model, frame_shape, objects, settings, looks
        As for :func:`needs`.
    ceiling : int
        Bytes.

    Raises
    ------
    DeviceMemoryError
        If even one object at a time, without a cache, takes more.
    """
    over = needs(model, frame_shape, objects, settings, looks).total - ceiling
    if over > 0:
        settings = replace(settings, cache_bytes=max(0, settings.cache_bytes - over))
    while (
        wanted := needs(model, frame_shape, objects, settings, looks).total
    ) > ceiling and settings.batch > 1:
        settings = replace(settings, batch=settings.batch // 2)
    if wanted > ceiling:
        raise DeviceMemoryError(
            f"{objects} objects on frames of {frame_shape[0]} x {frame_shape[1]} pixels take "
            f"{wanted / 2**20:.0f} MB with {model.name}, but only {ceiling / 2**20:.0f} MB are allowed; "
            "allow more, take a smaller model, or follow fewer objects at a time"
        )
    return settings

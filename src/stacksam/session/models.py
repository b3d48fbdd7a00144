"""A model ready for use: a network, where it came from, and how it computes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stacksam import assets
from stacksam.errors import InputError, ModelError
from stacksam.network.config import NetworkConfig
from stacksam.network.sam2 import Sam2
from stacksam.network.weights import load_network

__all__ = ["Model", "default_device", "default_dtype", "load_model", "reload_model"]

_AS_IT_IS = 1.0, 0.0, 0.0
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded network.

    Attributes
    ----------
    network : Sam2
        In evaluation mode, on `device`.
    name : str
        Name in the registry, or the path it was loaded from.
    digest : str
        SHA-256 of the weights file: two sessions with equal digests use the same weights.
    device : torch.device
    dtype : torch.dtype
        What matrix products are computed in; everything else stays float32.
    windowed : bool
        Look at each object through its own window, rather than at the whole frame.
    followed_iou : (float, float, float)
        What the predicted IoU of a followed mask is worth; see :func:`stacksam.session.judge.worth`. By
        default it is taken as it is.
    """

    network: Sam2
    name: str
    digest: str
    device: torch.device
    dtype: torch.dtype
    windowed: bool
    followed_iou: tuple[float, float, float] = _AS_IT_IS

    @property
    def config(self) -> NetworkConfig:
        """The architecture."""
        return self.network.config


def load_model(
    name: str | Path = "nano",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    image_size: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Model:
    """Load a model by its registry name or from a file.

    Parameters
    ----------
    name : str or Path
        ``"nano"`` (embedded), ``"sam2.1-tiny"`` ... ``"sam2-large"`` (fetched once and verified), or the path
        of a ``.pt`` or ``.safetensors`` checkpoint of one of these architectures, fine-tuned or not. What
        predicted IoU of ``nano``'s kind is worth is read from a description beside it (same name, ``.json``)
        that tells the SHA-256 of just these weights, as ``model/nano.json`` does.
    device : str or torch.device, optional
        By default CUDA or Apple's GPU where there is one, else the CPU.
    dtype : {"float32", "bfloat16"} or torch.dtype, optional
        By default bfloat16 where the device is fast at it (see :func:`default_dtype`).
    image_size : int, optional
        Side of the square input in pixels, a multiple of 32; 1024 by default. Only for a checkpoint that was
        trained at another size (512, say): the file does not tell.
    progress : callable, optional
        Called with (bytes done, bytes in all or None) while a file is fetched.

    Raises
    ------
    ModelError
        If there is no such model, or the file is damaged, unsafe or of another architecture.
    DownloadError, StorageError
        If the weights cannot be fetched or stored.
    InputError
        If `device` or `dtype` cannot be used here, or `image_size` does not fit the model.
    """
    chosen = _device(device)
    kind = _dtype(dtype, chosen)
    size = image_size
    preset: str | None = None
    if size is not None and (size < 32 or size % 32):
        raise InputError(f"image_size is {size}; give a multiple of 32, such as 512 or 1024")
    if str(name) == "nano":
        description, path = assets.embedded_model()
        size = int(json.loads(description.read_text(encoding="utf-8"))["image_size"])
        if image_size not in (None, size):
            raise InputError(f"image_size is {image_size}, but nano looks at {size} pixels; leave it out")
        preset = "nano"
    elif str(name) in assets.MODELS:
        path = assets.fetch(str(name), progress=progress)
        preset = assets.model_file(str(name)).preset
    elif Path(name).suffix in (".pt", ".pth", ".safetensors"):
        path = Path(name)
    else:
        known = ", ".join(assets.MODELS)
        raise ModelError(
            f"model {str(name)!r} is not known; use one of {known}, or the path of a .pt or .safetensors file"
        )
    network, preset = load_network(path, preset, image_size=size)
    network.to(chosen)
    windowed = preset == "nano"
    digest = assets.sha256_of(path)
    followed = _fitted(path, digest) if windowed else _AS_IT_IS
    return Model(network, str(name), digest, chosen, kind, windowed, followed)


def reload_model(description: Mapping[str, Any]) -> Model:
    """Load the model that a session was made with, from what the session says of it.

    Coefficients of the predicted IoU are no part of the weights, and may have been fitted anew since. The
    session's own are taken, so that it tells the same scores again; older sessions do not tell theirs.

    Raises
    ------
    ModelError, DownloadError, StorageError, InputError
        As :func:`load_model`.
    """
    name = description["name"]
    size = None if name == "nano" else description["image_size"]
    model = load_model(name, dtype=description["dtype"], image_size=size)
    return replace(model, followed_iou=_coefficients(description.get("followed_iou", model.followed_iou)))


def default_device() -> torch.device:
    """CUDA, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """Bfloat16 on CUDA devices and on CPUs with AMX or AVX512-BF16, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return torch.bfloat16
    return torch.float32


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return default_device()
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {device!r} is not known; use cpu, cuda or mps") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' is not available on this machine; use cpu")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' is not available on this machine; use cpu")
    return chosen


def _fitted(path: Path, digest: str) -> tuple[float, float, float]:
    """What predicted IoU is worth, from a description of just these weights: theirs, or the embedded."""
    for description in (path.with_suffix(".json"), assets.embedded_model()[0]):
        try:
            told = json.loads(description.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there need be none, and a file of that name may be anything
            continue
        if isinstance(told, dict) and told.get("sha256") == digest and "followed_iou" in told:
            return _coefficients(told["followed_iou"])
    return _AS_IT_IS


def _coefficients(told: Any) -> tuple[float, float, float]:
    try:
        slope, offset, fall = (float(value) for value in told)
    except (TypeError, ValueError):
        raise InputError(f"followed_iou is {told!r}; three numbers are wanted") from None
    return slope, offset, fall


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return default_dtype(device)
    chosen = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in _DTYPES.values():
        raise InputError(f"dtype {dtype!r} cannot be used; use float32 or bfloat16")
    return chosen

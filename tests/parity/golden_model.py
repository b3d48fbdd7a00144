"""The networks, frames and stacks behind the golden arrays (see golden/README.md)."""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from stacksam.network.config import PRESETS
from stacksam.network.sam2 import Sam2
from stacksam.session.models import Model
from stacksam.session.stack import Stack, open_stack

FOLDER = Path(__file__).parent / "golden"
CHECKPOINTS = {
    f"sam2{version}_hiera_{size.replace('-', '_')}": f"sam2{version}-{size}"
    for version in (".1", "")
    for size in ("tiny", "small", "base-plus", "large")
}

_spec = importlib.util.spec_from_file_location("golden_inputs", FOLDER / "inputs.py")
inputs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(inputs)


@lru_cache(maxsize=2)
def network(name: str, present: bool = True) -> Sam2:
    """The network of one checkpoint with the golden weights."""
    keys = json.loads((FOLDER / f"{name}.keys.json").read_text())
    weights = {k: torch.from_numpy(np.asarray(inputs.weight(k, tuple(s), present))) for k, s in keys.items()}
    net = Sam2(PRESETS[CHECKPOINTS[name]]).eval().requires_grad_(False)
    net.load_state_dict(weights, strict=True)
    return net


def model(name: str, present: bool = True) -> Model:
    """As :func:`stacksam.load_model` would give it, in float32 on the CPU."""
    return Model(network(name, present), name, "golden", torch.device("cpu"), torch.float32, windowed=False)


@lru_cache(maxsize=2)
def clip(frames: int) -> Stack:
    """The golden clip as a stack."""
    return open_stack(np.stack([inputs.frame(t) for t in range(frames)]), axes="tyxc")


@lru_cache(maxsize=8)
def golden(name: str) -> dict[str, np.ndarray]:
    """All arrays of one checkpoint."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def error(value: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference as a share of the reference: of its deviation, or its size if it is one number."""
    spread = float(reference.std()) if reference.size > 1 else float(abs(reference).max())
    return float(np.abs(value - reference).max()) / spread

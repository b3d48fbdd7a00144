"""The network in training, one step of it, and the files that it is kept in."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from clips import LENGTH, Look, Pool, draw
from losses import clip_loss
from peers import Peers
from stacksam.network.config import PRESETS
from stacksam.network.sam2 import Sam2

log = logging.getLogger("train")


@dataclass(frozen=True)
class Plan:
    """Length of the run and of its parts.

    Attributes
    ----------
    seconds, steps
        The run ends when either is reached; the rate falls by the nearer one.
    seed
        Of starting values, and of what each step draws.
    rate
        Learning rate at its peak, for the batch of all processes together.
    warm_up
        Steps in which the rate rises to its peak.
    frames
        Frames in the batch of a process; clips are as many as that gives.
    stills
        Share of batches that are single frames.
    save_every
        Seconds between checkpoints: what a run that is killed loses at most.
    """

    seconds: float = math.inf
    steps: int = 10**9
    seed: int = 1
    rate: float = 8e-4
    warm_up: int = 100
    frames: int = 384
    stills: float = 0.4
    save_every: float = 60.0


class Trainer:
    """The network, its optimiser and its running average, and one step of training."""

    def __init__(
        self, plan: Plan, device: torch.device, start: Path | None = None, peers: Peers | None = None
    ) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.device, self.frames = plan, device, plan.frames
        self.peers = peers or Peers(0, 1, Path())
        self.net = Sam2(PRESETS["nano"])
        if start is None:
            initialise(self.net)
        else:
            begin_with(self.net, start)
        self.net.to(device)
        self.average = {k: v.detach().clone().float() for k, v in self.net.state_dict().items()}
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            lr=plan.rate,
            betas=(0.9, 0.98),
            fused=device.type == "cuda",
        )
        self.step = 0
        self.seconds = 0.0  # of training so far, those of earlier parts of the run included

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        return max(self.seconds / self.plan.seconds, self.step / self.plan.steps)

    def rate(self) -> float:
        """Learning rate: warm-up, then half a cosine to zero."""
        fall = 0.5 + 0.5 * math.cos(math.pi * min(self.progress, 1.0))
        return self.plan.rate * min(1.0, (self.step + 1) / self.plan.warm_up) * max(fall, 0.002)

    def train_step(self, pool: Pool) -> dict[str, Tensor]:
        """One step; returns what is worth logging."""
        rate = self.rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        seed = self.plan.seed * 1_000_003 + self.step
        rng = np.random.Generator(np.random.PCG64([seed]))
        # The same kind of work for all processes, which wait for each other, but not the same windows.
        own = seed + 7_919 * self.peers.rank
        generator = torch.Generator(self.device).manual_seed(own)
        torch.manual_seed(own)
        self.step += 1
        still = rng.random() < self.plan.stills
        frames = 1 if still else int(rng.choice([4, 6, LENGTH]))
        kind = str(rng.choice(["click", "box", "mask"], p=[0.6, 0.4, 0] if still else [0.4, 0.25, 0.35]))
        count = max(1, self.frames * 2 // 5 if still else self.frames // frames)
        look = Look(frames, 0.35 if kind == "click" else 0.12, 0.4 if still and kind == "click" else 0.0)
        samples = draw(pool, count, look, generator)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, report = clip_loss(self.net, samples, kind, rng)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.seconds = self.peers.average(list(self.net.parameters()), self.seconds)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        if not bool(norm.isfinite()):
            log.warning("step %d: gradient is %s, passed over", self.step, float(norm))
            return report
        self.optimiser.step()
        keep = min(0.995, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            now = self.net.state_dict()
            pairs = [(self.average[k], v.float()) for k, v in now.items()]
            torch._foreach_lerp_([a for a, _ in pairs], [v for _, v in pairs], 1 - keep)
        return {"loss": loss.detach(), "norm": norm, "rate": torch.tensor(rate), **report}

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is whole."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "net": self.net.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.step, self.seconds = state["step"], state["seconds"]
        self.net.load_state_dict(state["net"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])


def begin_with(net: Sam2, start: Path) -> None:
    """Take weights over; parts that they lack, because they are newer, stay as they set themselves."""
    weights = {k: v.float() for k, v in load_file(start).items()}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    if unexpected:
        raise ValueError(
            f"{start} has weights that the network has no place for: {', '.join(unexpected[:5])}"
        )
    if missing:
        parts = sorted({".".join(name.split(".")[:3]) for name in missing})
        log.info("new parts, not in %s: %s", start, ", ".join(parts))


def initialise(net: Sam2) -> None:
    """Starting values that the modules do not set themselves."""
    for name, parameter in net.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.1)
        elif "tpos_enc" in name or name.startswith("no_"):
            nn.init.normal_(parameter, std=0.02)
    matrix = net.sam_prompt_encoder.pe_layer.get_buffer("positional_encoding_gaussian_matrix")
    nn.init.normal_(matrix, std=1.0)
    with torch.no_grad():
        net.mask_downsample.weight.fill_(1 / 16)
        net.mask_downsample.bias.zero_()


def export(weights: dict[str, Tensor], path: Path) -> str:
    """Write weights in half precision; returns their SHA-256."""
    halves = {k: v.detach().half().contiguous().cpu() for k, v in weights.items()}
    data = save(halves)  # `save_file` would make a file that no one else may read
    path.with_suffix(".part").write_bytes(data)
    path.with_suffix(".part").replace(path)
    return hashlib.sha256(data).hexdigest()

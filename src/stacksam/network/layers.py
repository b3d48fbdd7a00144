"""Small parts that several modules share: norms, perceptrons, attention, positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "MLP",
    "Attention",
    "LayerNorm2d",
    "attend",
    "rope_table",
    "rotate",
    "sine_positions_1d",
    "sine_positions_2d",
]

_CHUNK = 2**22  # attention weights that are held at once


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) over C."""
        channels_last = x.permute(0, 2, 3, 1)
        y = F.layer_norm(channels_last, (x.shape[1],), self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class MLP(nn.Module):
    """Perceptron of equally wide hidden layers, with `activation` between them."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        depth: int,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * (depth - 1) + [outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class Attention(nn.Module):
    """Multi-head attention with separate projections of queries, keys and values.

    Parameters
    ----------
    width : int
        Channels of queries and of the output.
    heads : int
        Number of heads.
    inner : int, optional
        Channels inside; `width` by default.
    memory_width : int, optional
        Channels of keys and values before projection; `width` by default.
    """

    def __init__(
        self, width: int, heads: int, inner: int | None = None, memory_width: int | None = None
    ) -> None:
        super().__init__()
        inner = inner or width
        memory_width = memory_width or width
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(memory_width, inner)
        self.v_proj = nn.Linear(memory_width, inner)
        self.out_proj = nn.Linear(inner, width)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, heads * C) to (B, heads, N, C)."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q (B, N, width) to k and v (B, M, memory_width)."""
        y = _attend_heads(self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v)))
        out: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return out


def _attend_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (B, heads, N, C) of q (B, heads, N, C) to k and v (B, heads, M, C)."""
    few = q.shape[2] > k.shape[2]
    if not (few and q.device.type == "cpu" and q.dtype == torch.bfloat16) or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    # Many queries of few keys, as of a picture to its prompts: twice as fast as the fused kernel.
    with torch.autocast("cpu", enabled=False):
        weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(2, 3), dim=-1)
        return weights @ v


@lru_cache(maxsize=32)
def sine_positions_2d(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Sinusoidal positions (1, channels, height, width) of a token grid, y first (Carion et al., 2020)."""
    y = torch.arange(1, height + 1, dtype=torch.float32, device=device) / (height + 1e-6) * 2 * math.pi
    x = torch.arange(1, width + 1, dtype=torch.float32, device=device) / (width + 1e-6) * 2 * math.pi
    half = channels // 2
    wavelength = 10000 ** (2 * (torch.arange(half, device=device) // 2) / half)

    def encode(values: Tensor) -> Tensor:  # (n,) -> (n, half): sine on even, cosine on odd channels
        angle = values[:, None] / wavelength
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    rows = encode(y)[:, None].expand(height, width, half)
    columns = encode(x)[None].expand(height, width, half)
    return torch.cat((rows, columns), dim=2).permute(2, 0, 1)[None].contiguous()


def sine_positions_1d(values: Tensor, channels: int) -> Tensor:
    """Sinusoidal positions (..., channels) of `values` (...), sines first."""
    half = channels // 2
    wavelength = 10000 ** (2 * (torch.arange(half, device=values.device) // 2) / half)
    angle = values[..., None] / wavelength
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


@lru_cache(maxsize=32)
def rope_table(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Axial rotary positions (height * width, channels / 2), complex numbers of length one (Su et al., 2021).

    The first half of the pairs turns with x, the second with y, as in SAM 2.
    """
    rate = 1.0 / 10000 ** (torch.arange(0, channels, 4, device=device)[: channels // 4].float() / channels)
    token = torch.arange(height * width, device=device)
    x, y = (token % width).float(), torch.div(token, width, rounding_mode="floor").float()
    angle = torch.cat((torch.outer(x, rate), torch.outer(y, rate)), dim=1)
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring channel pairs of x (B, N, C).

    `table` is (N, C / 2) or one for each row, (B, N, C / 2); it is repeated along N where that is longer.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    turned = pairs.unflatten(-2, (-1, table.shape[-2])) * table[..., None, :, :]
    return torch.view_as_real(turned).flatten(-2).flatten(-3, -2).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Single-head attention (B, N, V) of q (B, N, C) to k (B, M, C) and v (B, M, V).

    On CPUs, two plain products in bounded chunks are faster than the fused kernel (1.4 times in float32,
    2.7 times in bfloat16 for 256 channels), the more so as values may be narrower than keys.
    """
    if q.device.type != "cpu" or (torch.is_grad_enabled() and q.requires_grad):
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    batch, queries, channels = q.shape
    out = q.new_empty(batch, queries, v.shape[-1], dtype=v.dtype)
    q, keys = q * channels**-0.5, k.transpose(1, 2)
    rows = max(64, _CHUNK // (k.shape[1] * batch))
    # Autocast would copy the weights to float32 and back for the softmax.
    with torch.autocast("cpu", enabled=False):
        for start in range(0, queries, rows):
            part = slice(start, start + rows)
            weights = torch.softmax(q[:, part] @ keys, dim=-1)
            out[:, part] = weights.to(v.dtype) @ v
    return out

"""Memories: how a mask is remembered, and how a frame attends to what is remembered.

Ravi et al. (2024), section 4 and appendix C.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stacksam.network.layers import Attention, LayerNorm2d, attend, rotate

__all__ = ["MemoryAttention", "MemoryEncoder"]


class MemoryEncoder(nn.Module):
    """Fuse a frame's features with a mask into a memory of few channels."""

    def __init__(self, width: int, memory_width: int) -> None:
        super().__init__()
        self.mask_downsampler = _MaskDownsampler(width)
        self.pix_feat_proj = nn.Conv2d(width, width, kernel_size=1)
        self.fuser = _Fuser(width)
        self.out_proj = nn.Conv2d(width, memory_width, kernel_size=1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Memory (B, memory_width, H, W) of features (B, C, H, W) and mask (B, 1, 16 H, 16 W)."""
        x = self.pix_feat_proj(features) + self.mask_downsampler(mask)
        out: Tensor = self.out_proj(self.fuser(x))
        return out


class _MaskDownsampler(nn.Module):
    """Four strided convolutions, each with four times the channels, then a projection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [1, 4, 16, 64, 256]
        layers: list[nn.Module] = []
        for a, b in pairwise(channels):
            layers += [nn.Conv2d(a, b, kernel_size=3, stride=2, padding=1), LayerNorm2d(b), nn.GELU()]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(256, width, kernel_size=1))

    def forward(self, mask: Tensor) -> Tensor:
        out: Tensor = self.encoder(mask)
        return out


class _Fuser(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_ConvNeXtBlock(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class _ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution and two pointwise layers (Liu et al., 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        out: Tensor = x + y.permute(0, 3, 1, 2)
        return out


class MemoryAttention(nn.Module):
    """Layers of self-attention over a frame and cross-attention to memories, with rotary positions."""

    def __init__(self, width: int, memory_width: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_MemoryLayer(width, memory_width, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        frame: Tensor,
        table: Tensor,
        memory: Tensor,
        memory_positions: Tensor,
        memory_table: Tensor,
        pointers: int,
    ) -> Tensor:
        """Condition frames on memories.

        Parameters
        ----------
        frame : (B or 1, N, C)
            Tokens of the frame, positions already added; one frame may be shared by all objects.
        table : (N, C / 2) or (B or 1, N, C / 2)
            Rotary positions of these tokens.
        memory, memory_positions : (B, T + pointers, memory_width)
            Tokens of memories first, then `pointers` tokens of object pointers.
        memory_table : (T / M, C / 2) or (B, T, C / 2)
            Rotary positions of the T tokens; a short one holds for each of M memories in turn.
        pointers : int
            Trailing memory tokens that have no place in the picture.

        Returns
        -------
        (B, N, C)
        """
        keys = memory + memory_positions
        x = frame
        for layer in cast(Iterable[_MemoryLayer], self.layers):
            # As long as the frame is shared, its self-attention is computed once for all objects.
            x = x + layer.look_around(x, table)
            x = x + layer.look_back(x, keys, memory, table, memory_table, pointers)
            x = x + layer.feed_forward(x)
        out: Tensor = self.norm(x)
        return out


class _MemoryLayer(nn.Module):
    def __init__(self, width: int, memory_width: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, 1)
        self.cross_attn_image = Attention(width, 1, memory_width=memory_width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def look_around(self, x: Tensor, table: Tensor) -> Tensor:
        """Self-attention of the frame's tokens."""
        y, attention = self.norm1(x), self.self_attn
        q = rotate(attention.q_proj(y), table)
        k = rotate(attention.k_proj(y), table)
        out: Tensor = attention.out_proj(attend(q, k, attention.v_proj(y)))
        return out

    def look_back(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        table: Tensor,
        memory_table: Tensor,
        pointers: int,
    ) -> Tensor:
        """Cross-attention to memories; object pointers at the end have no position to rotate by."""
        attention = self.cross_attn_image
        q = rotate(attention.q_proj(self.norm2(x)), table).expand(len(keys), -1, -1)
        k = attention.k_proj(keys)
        placed = k.shape[1] - pointers
        k = torch.cat((rotate(k[:, :placed], memory_table), k[:, placed:]), dim=1)
        # The weights of a query sum to one, so what was attended may be projected after, from fewer channels.
        out: Tensor = attention.out_proj(attention.v_proj(attend(q, k, values)))
        return out

    def feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear2(self.linear1(self.norm3(x)).relu_())
        return out

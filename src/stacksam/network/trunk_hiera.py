"""Hiera trunk of the official checkpoints (Ryali et al., 2023, as used in SAM 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stacksam.network.config import HieraConfig
from stacksam.network.layers import MLP

__all__ = ["Hiera"]


class Hiera(nn.Module):
    """Four stages of windowed attention at strides 4, 8, 16 and 32."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, *config.position_grid))
        side = config.windows[0]
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, side, side))
        self.blocks = nn.ModuleList()
        self.stage_ends: list[int] = []
        for stage, depth in enumerate(config.depths):
            for i in range(depth):
                first = stage > 0 and i == 0
                # The block that enters a stage still has the window of the stage before it.
                window = config.windows[stage - 1 if first else stage]
                self.blocks.append(
                    _Block(
                        config.width * 2 ** (stage - first),
                        config.width * 2**stage,
                        config.heads * 2**stage,
                        0 if len(self.blocks) in config.global_blocks else window,
                    )
                )
            self.stage_ends.append(len(self.blocks) - 1)
        self._positions: tuple[tuple[object, ...], Tensor] | None = None

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (B, C, H, W) at strides 4, 8, 16, 32 of normalised images (B, 3, S, S)."""
        x = self.patch_embed(images)
        x = x + self.positions(x.shape[1], x.shape[2])
        outputs = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.stage_ends:
                outputs.append(x.permute(0, 3, 1, 2))
        return outputs

    def positions(self, height: int, width: int) -> Tensor:
        """Positions (1, height, width, C): the stored ones interpolated, plus the window's own, tiled."""
        key = (height, width, self.pos_embed.device, self.pos_embed.dtype, self.pos_embed._version)
        if self._positions is not None and self._positions[0] == key and not torch.is_grad_enabled():
            return self._positions[1]
        smooth = F.interpolate(self.pos_embed.float(), size=(height, width), mode="bicubic")
        side = self.pos_embed_window.shape[-1]
        tiled = self.pos_embed_window.tile(1, 1, -(-height // side), -(-width // side))
        table = (smooth + tiled[..., :height, :width]).permute(0, 2, 3, 1).to(self.pos_embed.dtype)
        if not torch.is_grad_enabled():
            self._positions = (key, table)
        return table


class _PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=7, stride=4, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x).permute(0, 2, 3, 1)
        return out


class _Block(nn.Module):
    """Transformer block on (B, H, W, C); where the width grows, queries and shortcut are pooled by two."""

    def __init__(self, width_in: int, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.pools = width_in != width
        self.norm1 = nn.LayerNorm(width_in, eps=1e-6)
        self.attn = _WindowAttention(width_in, width, heads, self.pools)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, 4 * width, width, 2, F.gelu)
        if self.pools:
            self.proj = nn.Linear(width_in, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        shortcut = _pool(self.proj(y)) if self.pools else x
        if self.window:
            windows, grid = _partition(y, self.window)
            windows = self.attn(windows)
            y = _merge(windows, grid, shortcut.shape[1], shortcut.shape[2])
        else:
            y = self.attn(y)
        x = shortcut + y
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _WindowAttention(nn.Module):
    def __init__(self, width_in: int, width: int, heads: int, pools: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pools = pools
        self.qkv = nn.Linear(width_in, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pools:
            q = _pool(q)
            height, width = q.shape[1:3]

        def split(t: Tensor) -> Tensor:
            heads: Tensor = t.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            return heads

        y = F.scaled_dot_product_attention(split(q), split(k), split(v))
        out: Tensor = self.proj(y.transpose(1, 2).reshape(batch, height, width, -1))
        return out


def _pool(x: Tensor) -> Tensor:
    """Halve (B, H, W, C) by the maximum."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _partition(x: Tensor, side: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Cut (B, H, W, C) into (B * rows * columns, side, side, C), padded with zeros at the far edges."""
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    x = x.view(batch, rows, side, columns, side, channels).transpose(2, 3)
    return x.reshape(-1, side, side, channels), (batch, rows, columns)


def _merge(windows: Tensor, grid: tuple[int, int, int], height: int, width: int) -> Tensor:
    """Undo :func:`_partition`, also where pooling has shrunk the windows since."""
    batch, rows, columns = grid
    side = windows.shape[1]
    x = windows.view(batch, rows, columns, side, side, -1).transpose(2, 3)
    return x.reshape(batch, rows * side, columns * side, -1)[:, :height, :width]

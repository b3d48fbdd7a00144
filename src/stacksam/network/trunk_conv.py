"""Residual convolutional trunk of the embedded model."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from stacksam.network.config import ConvTrunkConfig

__all__ = ["ConvTrunk", "Residual"]


class ConvTrunk(nn.Module):
    """Stem and four stages of residual blocks at strides 4, 8, 16 and 32."""

    def __init__(self, config: ConvTrunkConfig) -> None:
        super().__init__()
        first = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.GroupNorm(config.groups, 32),
            nn.SiLU(),
            nn.Conv2d(32, first, 3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList()
        width_in = first
        for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            down = [nn.Conv2d(width_in, width, 2, stride=2)] if stage else []
            self.stages.append(nn.Sequential(*down, *(Residual(width, config.groups) for _ in range(depth))))
            width_in = width

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (B, C, H, W) at strides 4, 8, 16, 32 of normalised images (B, 3, S, S)."""
        x = self.stem(images)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class Residual(nn.Module):
    """Pre-activation block of two 3x3 convolutions (He et al., 2016) with group normalisation."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.conv2.parameters():  # each block starts as the identity
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W), corrected."""
        y = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.silu(self.norm2(y)))
        return out

"""Feature pyramid neck: the trunk's stages brought to one width."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ImageEncoder"]


class _Neck(nn.Module):
    """Lateral 1x1 convolutions; the coarsest stage is added to the one above it (Lin et al., 2017)."""

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        # Official checkpoints list the coarsest stage first and keep each convolution under "conv".
        self.convs = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(w, width, 1)}) for w in reversed(list(widths))
        )

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        levels = [level.get_submodule("conv") for level in reversed(self.convs)]
        lateral = [conv(x) for conv, x in zip(levels, stages, strict=True)]
        coarse = F.interpolate(lateral[3].float(), scale_factor=2.0, mode="nearest").to(lateral[2].dtype)
        return [lateral[0], lateral[1], lateral[2] + coarse]


class ImageEncoder(nn.Module):
    """Trunk and neck: images (B, 3, S, S) to features of one width at strides 4, 8 and 16."""

    def __init__(self, trunk: nn.Module, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = _Neck(widths, width)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (B, width, S/4, S/4), (B, width, S/8, S/8) and (B, width, S/16, S/16)."""
        out: list[Tensor] = self.neck(self.trunk(images))
        return out

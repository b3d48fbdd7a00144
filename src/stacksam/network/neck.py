"""Feature pyramid neck: the trunk's stages brought to one width."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ImageEncoder"]


class _Neck(nn.Module):
    """Lateral 1x1 convolutions; the coarsest stage is added to the one above it (Lin et al., 2017)."""

    def __init__(self, widths: Sequence[int], width: int, top_down: bool = False) -> None:
        super().__init__()
        # Official checkpoints list the coarsest stage first and keep each convolution under "conv".
        self.convs = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(w, width, 1)}) for w in reversed(list(widths))
        )
        self.top_down: nn.ModuleList | None = None
        if top_down:
            self.top_down = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
            for parameter in self.top_down.parameters():  # at first the levels are on their own
                nn.init.zeros_(parameter)

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        levels = [level.get_submodule("conv") for level in reversed(self.convs)]
        fine, middle, top, coarsest = [conv(x) for conv, x in zip(levels, stages, strict=True)]
        top = top + F.interpolate(coarsest.float(), scale_factor=2.0, mode="nearest").to(top.dtype)
        if self.top_down is not None:
            to_middle, to_fine = self.top_down
            middle = middle + F.interpolate(to_middle(F.silu(top)), scale_factor=2.0, mode="nearest")
            fine = fine + F.interpolate(to_fine(F.silu(middle)), scale_factor=2.0, mode="nearest")
        return [fine, middle, top]


class ImageEncoder(nn.Module):
    """Trunk and neck: images (B, 3, S, S) to features of one width at strides 4, 8 and 16."""

    def __init__(
        self, trunk: nn.Module, widths: Sequence[int], width: int, *, top_down: bool = False
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = _Neck(widths, width, top_down)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (B, width, S/4, S/4), (B, width, S/8, S/8) and (B, width, S/16, S/16)."""
        out: list[Tensor] = self.neck(self.trunk(images))
        return out

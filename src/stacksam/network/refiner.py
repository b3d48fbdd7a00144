"""Refinement of what the mask decoder draws, for small objects that touch.

The decoder of SAM 2 decides on a grid of stride 16 what is meant, and paints it with fine features that know
nothing of the prompt. A rod among rods is thinner than a token. Here a small U-Net (Ronneberger et al., 2015)
sees picture, prompts and the decoder's features together at stride 4, and corrects the latter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stacksam.network.trunk_conv import Residual

__all__ = ["MaskRefiner"]


class MaskRefiner(nn.Module):
    """Correction of the features that masks are painted with; none at first."""

    def __init__(self, width: int, prompts: int) -> None:
        super().__init__()
        painted, groups = width // 8, width // 16
        fine, middle, coarse = width // 4, 3 * width // 8, width // 2
        self.enter = nn.Conv2d(2 * painted + prompts, fine, 3, padding=1)
        self.to_middle = nn.Conv2d(fine, middle, 2, stride=2)
        self.see_middle = nn.Conv2d(width // 4, middle, 1)
        self.middle = Residual(middle, groups)
        self.to_coarse = nn.Conv2d(middle, coarse, 2, stride=2)
        self.see_coarse = nn.Conv2d(width, coarse, 1)
        self.coarse = Residual(coarse, groups)
        self.from_coarse = nn.ConvTranspose2d(coarse, middle, 2, stride=2)
        self.middle_again = Residual(middle, groups)
        self.from_middle = nn.ConvTranspose2d(middle, fine, 2, stride=2)
        self.fine_again = Residual(fine, groups)
        self.leave = nn.Sequential(
            nn.GroupNorm(groups, fine), nn.SiLU(), nn.Conv2d(fine, painted, 3, padding=1)
        )
        for parameter in self.leave[2].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, painted: Tensor, tokens: Tensor, fine: tuple[Tensor, Tensor], prompts: Tensor
    ) -> Tensor:
        """Correct `painted`: what to add to it.

        Parameters
        ----------
        painted : (B, C / 8, 4 H, 4 W)
            Upscaled features of the decoder.
        tokens : (B, C, H, W)
            Image tokens as the decoder left them.
        fine : ((B or 1, C / 8, 4 H, 4 W), (B or 1, C / 4, 2 H, 2 W))
            Fine features of the picture, projected.
        prompts : (B, K, 4 H, 4 W)
            Prompts as maps.
        """
        batch = len(painted)
        near, far = (level.expand(batch, -1, -1, -1) for level in fine)
        x4 = self.enter(torch.cat((painted, near, prompts.to(painted.dtype)), dim=1))
        x8 = self.middle(self.to_middle(x4) + self.see_middle(far))
        x16 = self.coarse(self.to_coarse(x8) + self.see_coarse(tokens))
        x8 = self.middle_again(x8 + self.from_coarse(x16))
        x4 = self.fine_again(x4 + self.from_middle(x8))
        out: Tensor = self.leave(x4)
        return out

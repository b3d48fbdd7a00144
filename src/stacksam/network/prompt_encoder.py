"""Points, boxes and masks as embeddings (Kirillov et al., 2023, section 3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stacksam.network.layers import LayerNorm2d

__all__ = ["BOX_FIRST", "BOX_SECOND", "NEGATIVE", "PADDING", "POSITIVE", "PromptEncoder", "prompt_maps"]

# Labels of points; a box is its two corners.
PADDING, NEGATIVE, POSITIVE, BOX_FIRST, BOX_SECOND = -1, 0, 1, 2, 3


class PromptEncoder(nn.Module):
    """Sparse embeddings of points and box corners, dense embeddings of masks or prompt maps."""

    def __init__(self, width: int, channels: int = 1) -> None:
        super().__init__()
        self.width = width
        self.pe_layer = _FourierPositions(width // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(channels, 4, kernel_size=2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, width, kernel_size=1),
        )
        self._positions: tuple[tuple[object, ...], Tensor] | None = None

    def sparse(self, points: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
        """Embed points.

        Parameters
        ----------
        points : (B, N, 2) float
            Official ``(x, y)`` pixels of the input.
        labels : (B, N) int
            -1 padding, 0 negative, 1 positive, 2 and 3 corners of a box.
        size : (int, int)
            Height and width of the input in pixels.

        Returns
        -------
        (B, N + 1, width)
            The last one is the padding point that the official predictors always add.
        """
        points = F.pad(points + 0.5, (0, 0, 0, 1))
        labels = F.pad(labels, (0, 1), value=PADDING)
        extent = torch.tensor((size[1], size[0]), dtype=points.dtype, device=points.device)
        embedded = self.pe_layer(points / extent)
        embedded = embedded * (labels != PADDING)[..., None]
        kinds = [self.not_a_point_embed, *self.point_embeddings]  # in the order of their labels
        table = torch.cat([kind.get_parameter("weight") for kind in kinds])
        out: Tensor = embedded + table[labels + 1]
        return out

    def dense(self, maps: Tensor | None, batch: int, grid: tuple[int, int]) -> Tensor:
        """Embed (B, channels, 4 * rows, 4 * columns) maps, or their absence, as (B, width, rows, columns)."""
        if maps is None:
            return self.no_mask_embed.weight.view(1, -1, 1, 1).expand(batch, -1, *grid)
        out: Tensor = self.mask_downscaling(maps)
        return out

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Positions (1, width, rows, columns) of the tokens themselves."""
        matrix = self.pe_layer.get_buffer("positional_encoding_gaussian_matrix")
        key = (*grid, matrix.device, matrix.dtype, matrix._version)
        if self._positions is not None and self._positions[0] == key and not torch.is_grad_enabled():
            return self._positions[1]
        rows, columns = grid
        y = (torch.arange(rows, device=matrix.device) + 0.5) / rows
        x = (torch.arange(columns, device=matrix.device) + 0.5) / columns
        xy = torch.stack((x[None].expand(grid), y[:, None].expand(grid)), dim=-1)
        out: Tensor = self.pe_layer(xy).permute(2, 0, 1)[None]
        if not torch.is_grad_enabled():
            self._positions = (key, out)
        return out


class _FourierPositions(nn.Module):
    """Random Fourier features of coordinates in 0..1 (Tancik et al., 2020)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, xy: Tensor) -> Tensor:
        matrix = self.get_buffer("positional_encoding_gaussian_matrix")
        with torch.autocast(xy.device.type, enabled=False):  # bf16 would lose a pixel in the phase
            angle = 2 * math.pi * ((2 * xy.float() - 1) @ matrix.float())
            return torch.cat((angle.sin(), angle.cos()), dim=-1)


def prompt_maps(points: Tensor, labels: Tensor, logits: Tensor | None, size: int, stride: int = 4) -> Tensor:
    """Prompts as maps, for networks that were trained with them (``nano``).

    Parameters
    ----------
    points, labels
        As for :meth:`PromptEncoder.sparse`.
    logits : (B, 1, size / stride, size / stride), optional
        Mask logits of the step before.
    size, stride : int
        Side of the input, and pixels a cell of the map.

    Returns
    -------
    (B, 4, size / stride, size / stride)
        Previous logits / 10, positive clicks, negative clicks (Gaussians of 2 cells), inside of the box.
    """
    cells = size // stride
    centre = torch.arange(cells, device=points.device) * stride + (stride - 1) / 2
    dx = (centre[None, None, :] - points[..., 0:1]) / (2 * stride)
    dy = (centre[None, None, :] - points[..., 1:2]) / (2 * stride)
    blob = torch.exp(-0.5 * dy[..., :, None] ** 2) * torch.exp(-0.5 * dx[..., None, :] ** 2)  # (B, N, c, c)

    def strongest(kind: int) -> Tensor:
        return (blob * (labels == kind)[..., None, None]).amax(dim=1)

    def corner(kind: int) -> tuple[Tensor, Tensor]:
        chosen = (labels == kind)[..., None]
        xy = (points * chosen).sum(dim=1)
        return xy, chosen.any(dim=1)[:, 0]

    (low, has_box), (high, _) = corner(BOX_FIRST), corner(BOX_SECOND)
    inside_x = (centre >= low[:, 0:1]) & (centre <= high[:, 0:1])
    inside_y = (centre >= low[:, 1:2]) & (centre <= high[:, 1:2])
    box = (inside_y[:, :, None] & inside_x[:, None, :] & has_box[:, None, None]).to(blob.dtype)
    previous = torch.zeros_like(box) if logits is None else logits[:, 0].to(blob.dtype).clamp(-32, 32) / 10
    return torch.stack((previous, strongest(POSITIVE), strongest(NEGATIVE), box), dim=1)

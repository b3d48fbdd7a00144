"""Masks from image features and prompts (Kirillov et al., 2023; Ravi et al., 2024, appendix C)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stacksam.network.layers import MLP, Attention, LayerNorm2d
from stacksam.network.refiner import MaskRefiner

__all__ = ["Decoded", "MaskDecoder", "stability"]


class Decoded(NamedTuple):
    """What the decoder says of each object: one single mask first, then three candidates."""

    masks: Tensor  # (B, 4, 4 * rows, 4 * columns) logits
    iou: Tensor  # (B, 4) predicted IoU
    tokens: Tensor  # (B, 4, width) output tokens of the masks
    object_score: Tensor  # (B, 1) logit: is the object visible


class MaskDecoder(nn.Module):
    """Two-way transformer between prompt tokens and image tokens, and heads for masks and scores."""

    def __init__(self, width: int, hidden: int, heads: int, refined_prompts: int = 0) -> None:
        super().__init__()
        self.transformer = _TwoWayTransformer(width, hidden, heads)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(4, width)
        self.obj_score_token = nn.Embedding(1, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(width, width // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(width, width // 4, kernel_size=1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, width, width // 8, 3) for _ in range(4))
        self.iou_prediction_head = MLP(width, 256, 4, 3)
        self.pred_obj_score_head = MLP(width, width, 1, 3)
        self.prompt_channels = refined_prompts
        self.refiner = MaskRefiner(width, refined_prompts) if refined_prompts else None

    def forward(
        self,
        image: Tensor,
        positions: Tensor,
        sparse: Tensor,
        dense: Tensor,
        fine: tuple[Tensor, Tensor],
        maps: Tensor | None = None,
    ) -> Decoded:
        """Decode.

        Parameters
        ----------
        image : (B, C, H, W)
            Features of each object's picture, conditioned on its memories.
        positions : (1, C, H, W)
        sparse : (B, N, C)
        dense : (B, C, H, W)
        fine : ((B or 1, C/8, 4H, 4W), (B or 1, C/4, 2H, 2W))
            Fine features, already projected.
        maps : (B, K, 4H, 4W), optional
            Prompts as maps, of networks that refine; none is as good as empty ones.
        """
        batch, _, rows, columns = image.shape
        own = torch.cat((self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight))
        tokens = torch.cat((own[None].expand(batch, -1, -1).to(sparse.dtype), sparse), dim=1)
        keys = (image + dense).flatten(2).transpose(1, 2)
        tokens, keys = self.transformer(tokens, keys, positions.flatten(2).transpose(1, 2).to(keys.dtype))
        tokens_left = keys.transpose(1, 2).unflatten(2, (rows, columns))
        up1, norm, act1, up2, act2 = self.output_upscaling
        picture = act1(norm(up1(tokens_left) + fine[1]))
        painted = act2(up2(picture) + fine[0])
        if self.refiner is not None:
            if maps is None:
                maps = painted.new_zeros(batch, self.prompt_channels, *painted.shape[2:])
            painted = painted + self.refiner(painted, tokens_left, fine, maps)
        mask_tokens = tokens[:, 2:6]
        kernels = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = (kernels @ painted.flatten(2)).unflatten(2, painted.shape[2:])
        iou = torch.sigmoid(self.iou_prediction_head(tokens[:, 1]))
        return Decoded(masks, iou, mask_tokens, self.pred_obj_score_head(tokens[:, 0]))


def stability(logits: Tensor, delta: float = 0.05) -> Tensor:
    """How little each mask (..., H, W) changes when its threshold moves by `delta`: a ratio of areas."""
    inner = (logits > delta).flatten(-2).sum(-1).float()
    outer = (logits > -delta).flatten(-2).sum(-1).float()
    return torch.where(outer > 0, inner / outer.clamp(min=1), torch.ones_like(inner))


class _TwoWayTransformer(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TwoWayBlock(width, hidden, heads, first=i == 0) for i in range(2))
        self.final_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, keys: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        prompts = tokens
        for layer in self.layers:
            tokens, keys = layer(tokens, keys, prompts, positions)
        tokens = tokens + self.final_attn_token_to_image(tokens + prompts, keys + positions, keys)
        return self.norm_final_attn(tokens), keys


class _TwoWayBlock(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, hidden, width, 2, F.relu)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, width // 2)

    def forward(
        self, tokens: Tensor, keys: Tensor, prompts: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:  # tokens are their own positions still, and have nothing to be added to
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + prompts
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        k = keys + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + prompts, k, keys))
        tokens = self.norm3(tokens + self.mlp(tokens))
        keys = self.norm4(keys + self.cross_attn_image_to_token(k, tokens + prompts, tokens))
        return tokens, keys

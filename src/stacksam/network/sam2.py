"""The assembled network: encode a frame, decode masks, encode memories, condition on memories.

Every method is a pure function of its tensors. What is remembered, and for how long, is the business of
:mod:`stacksam.session`. Points are official ``(x, y)`` pixels of the square input here.

Where a method takes `windows`, each object sees that part of the canvas only: a square of tokens, all of one
side, at their true places. None is the whole canvas, and a window that spans it is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stacksam.network.config import ConvTrunkConfig, HieraConfig, NetworkConfig
from stacksam.network.layers import MLP, rope_table, sine_positions_1d, sine_positions_2d
from stacksam.network.mask_decoder import MaskDecoder, stability
from stacksam.network.memory import MemoryAttention, MemoryEncoder
from stacksam.network.neck import ImageEncoder
from stacksam.network.prompt_encoder import PromptEncoder, prompt_maps
from stacksam.network.trunk_conv import ConvTrunk
from stacksam.network.trunk_hiera import Hiera
from stacksam.network.windows import Window, cut, places

__all__ = ["ABSENT_LOGIT", "Features", "Masks", "Memories", "Sam2"]

ABSENT_LOGIT = -1024.0  # mask logit where the object is not visible
_STABLE = 0.98  # a single mask less stable than this gives way to the best candidate
_MASK_SCALE, _MASK_BIAS = 20.0, -10.0  # how mask probabilities enter the memory encoder


class Features(NamedTuple):
    """Features of pictures at strides 4, 8 and 16; the fine ones as the mask decoder receives them."""

    fine: Tensor  # (B, C/8, S/4, S/4)
    middle: Tensor  # (B, C/4, S/8, S/8)
    top: Tensor  # (B, C, S/16, S/16)

    def cut(self, windows: Sequence[Window] | None) -> Features:
        """What windows show of one picture; see :func:`stacksam.network.windows.cut`."""
        return Features(cut(self.fine, windows, 4), cut(self.middle, windows, 2), cut(self.top, windows))


class Masks(NamedTuple):
    """One answer, or three candidates, for each object."""

    logits: Tensor  # (B, K, S/4, S/4); ABSENT_LOGIT everywhere where the object is not visible
    iou: Tensor  # (B, K) predicted IoU
    pointers: Tensor  # (B, K, C) object pointers
    object_score: Tensor  # (B, 1) logit

    def best(self) -> Masks:
        """The candidate of highest predicted IoU, K = 1."""
        rows = torch.arange(len(self.iou), device=self.iou.device)
        k = self.iou.argmax(dim=1)
        return self.take(rows, k)

    def beside(self, other: Masks) -> Masks:
        """Candidates of both, those of the other after these; the higher of the object scores."""
        return Masks(
            torch.cat((self.logits, other.logits), dim=1),
            torch.cat((self.iou, other.iou), dim=1),
            torch.cat((self.pointers, other.pointers), dim=1),
            torch.maximum(self.object_score, other.object_score),
        )

    def take(self, rows: Tensor, k: Tensor) -> Masks:
        """Candidate `k` (N,) of objects `rows` (N,)."""
        return Masks(
            self.logits[rows, k][:, None],
            self.iou[rows, k][:, None],
            self.pointers[rows, k][:, None],
            self.object_score[rows],
        )


class Memories(NamedTuple):
    """What B objects remember; each object has as many tokens and pointers as the others.

    Memories of whole canvases are stacked. Memories of windows, which may be of different sides, lie one
    after the other as tokens, and `windows` tells where they were.
    """

    spatial: Tensor  # (B, M, memory_width, H, W), or with `windows` (B, T, memory_width)
    ages: Tensor  # (B, M), or with `windows` (B, T): 0 for a conditioning frame, else how many frames ago
    pointers: Tensor  # (B, P, C)
    distances: Tensor  # (B, P) signed distances in frames, along the direction of propagation
    horizon: int  # the longest distance a pointer can have
    windows: tuple[tuple[Window, ...], ...] | None = None  # of each object, of each of its memories


class Sam2(nn.Module):
    """SAM 2 (Ravi et al., 2024) for one architecture; parameter names are the official ones."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, memory_width = config.width, config.memory_width
        trunk: nn.Module
        match config.trunk:
            case HieraConfig():
                trunk = Hiera(config.trunk)
            case ConvTrunkConfig():
                trunk = ConvTrunk(config.trunk)
        self.image_encoder = ImageEncoder(trunk, config.trunk.widths, width, top_down=config.top_down)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.memory_attention = MemoryAttention(
            width, memory_width, config.memory_hidden, config.memory_layers
        )
        self.memory_encoder = MemoryEncoder(width, memory_width)
        self.sam_prompt_encoder = PromptEncoder(width, config.prompt_channels)
        self.sam_mask_decoder = MaskDecoder(
            width, config.decoder_hidden, config.decoder_heads, config.prompt_channels if config.refine else 0
        )
        self.obj_ptr_proj = MLP(width, width, width, 3)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(config.recent_memories + 1, 1, 1, memory_width))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))  # stored, never used
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        if config.pointer_time:
            self.obj_ptr_tpos_proj = nn.Linear(width, memory_width)
        if config.spatial_no_object:
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, memory_width))
        if config.dense_head:
            self.dense_head = nn.Conv2d(width // 8, 4, kernel_size=1)  # foreground, boundary, offset y, x
        self.register_buffer("_mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def encode_image(self, images: Tensor) -> Features:
        """Encode pictures (B, 3, S, S) with values in 0..1; S is a multiple of 32."""
        x = (images - self.get_buffer("_mean")) / self.get_buffer("_std")
        fine, middle, top = self.image_encoder(x)
        decoder = self.sam_mask_decoder
        return Features(decoder.conv_s0(fine), decoder.conv_s1(middle), top)

    def unconditioned(self, features: Features) -> Tensor:
        """Top features (B, C, H, W) of a frame that has nothing to remember."""
        return features.top + self.no_mem_embed.view(1, -1, 1, 1).to(features.top.dtype)

    def condition(
        self,
        features: Features,
        memories: Memories,
        windows: Sequence[Window] | None = None,
        at: Sequence[Window] | None = None,
    ) -> Tensor:
        """Top features (B, C, H, W), conditioned on what each object remembers.

        Parameters
        ----------
        features : Features
            Of one picture for all objects, or of one for each; with `windows` of one for all.
        memories : Memories
        windows : sequence of Window, optional
            What the objects see of it.
        at : sequence of Window, optional
            Where that is taken to be, if not where it is; the places of `memories` are told on that grid.
        """
        top = features.top
        rows, columns = top.shape[-2:]
        at = windows if at is None else at
        positions = sine_positions_2d(rows, columns, top.shape[1], top.device)
        frame = cut(top, windows) + 0.1 * cut(positions.to(top.dtype), at)
        grid = (frame.shape[2], frame.shape[3])
        frame = frame.flatten(2).transpose(1, 2)
        table = rope_table(rows, columns, frame.shape[-1], frame.device)
        if at is not None:
            alike = len(set(at)) == 1
            own = places(at[:1] if alike else at, columns, frame.device)
            table = table[own].unflatten(0, (1 if alike else len(at), -1))
        out = self.memory_attention(
            frame, table, *self._memory_tokens(memories, (rows, columns), frame.dtype)
        )
        conditioned: Tensor = out.transpose(1, 2).unflatten(2, grid)
        return conditioned

    def _memory_tokens(
        self, memories: Memories, grid: tuple[int, int], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Tokens (B, T + 4 P ..., memory_width), their positions, rotations of the T, and how many are 4 P.

        `grid` is that of the canvas.
        """
        spatial = memories.spatial
        batch, device = len(spatial), spatial.device
        channels = spatial.shape[2]
        table = rope_table(*grid, self.config.width, device)
        positions = sine_positions_2d(*grid, channels, device)[0].flatten(1).T
        # Age 1 is stored first; conditioning frames have the last place.
        time = self.maskmem_tpos_enc[(memories.ages - 1) % len(self.maskmem_tpos_enc)][:, :, 0, 0]
        if memories.windows is None:
            tokens = spatial.flatten(3).transpose(2, 3).flatten(1, 2).to(dtype)
            place = (positions + time[:, :, None]).flatten(1, 2).to(dtype)
        else:
            own = places([window for each in memories.windows for window in each], grid[1], device)
            own = own.unflatten(0, (batch, -1))
            tokens, table = spatial.to(dtype), table[own]
            place = (positions[own] + time).to(dtype)
        pointers, when = self._pointer_tokens(memories, channels, dtype)
        return torch.cat((tokens, pointers), dim=1), torch.cat((place, when), dim=1), table, pointers.shape[1]

    def _pointer_tokens(self, memories: Memories, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Object pointers as tokens of a memory's channels, and their places in time."""
        split = self.config.width // channels
        pointers = memories.pointers.unflatten(2, (split, channels)).flatten(1, 2).to(dtype)
        if not self.config.pointer_time:
            return pointers, torch.zeros_like(pointers)
        time = sine_positions_1d(memories.distances.float() / memories.horizon, self.config.width)
        return pointers, self.obj_ptr_tpos_proj(time).to(dtype).repeat_interleave(split, dim=1)

    def decode_masks(
        self,
        features: Features,
        top: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        candidates: bool,
        hide_absent: bool = True,
        windows: Sequence[Window] | None = None,
    ) -> Masks:
        """Masks of B objects.

        Parameters
        ----------
        features : Features
            Of one picture for all objects or of one for each; gives the fine features.
        top : (B or 1, C, H, W)
            From :meth:`condition` or :meth:`unconditioned`.
        points, labels : (B, N, 2) and (B, N), optional
            Points ``(x, y)`` in pixels of the input, and their labels (see ``prompt_encoder``).
        logits : (B, 1, 4 H, 4 W), optional
            Mask logits to start from.
        candidates : bool
            Three candidates instead of one mask.
        hide_absent : bool
            Give ABSENT_LOGIT where the object score is negative, as the video predictor does.
        windows : sequence of Window, optional
            What `top` and `logits` are of; `features` is of the whole canvas, one for all. Networks that take
            prompts as maps have none.
        """
        decoded = self._decode(features, top, points, labels, logits, windows)
        masks, iou, tokens, score = decoded
        masks, iou, score = masks.float(), iou.float(), score.float()
        if candidates:
            masks, iou, tokens = masks[:, 1:], iou[:, 1:], tokens[:, 1:]
        else:
            masks, iou, tokens = *_stable_mask(masks, iou), tokens[:, :1]
        visible = score > 0
        if hide_absent:
            masks = torch.where(visible[..., None, None], masks, torch.full_like(masks, ABSENT_LOGIT))
        pointers = self._pointers(tokens, visible)
        return Masks(masks, iou, pointers, score)

    def _decode(
        self,
        features: Features,
        top: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        logits: Tensor | None,
        windows: Sequence[Window] | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch = max(len(top), 0 if points is None else len(points), 0 if logits is None else len(logits))
        grid = (features.top.shape[2], features.top.shape[3])
        size = grid[0] * self.config.stride
        encoder = self.sam_prompt_encoder
        if points is None or labels is None:
            points = top.new_zeros(batch, 1, 2, dtype=torch.float32)
            labels = torch.full((batch, 1), -1, device=top.device)
        maps = logits
        if self.config.dense_prompts and (logits is not None or bool((labels >= 0).any())):
            maps = prompt_maps(points, labels, logits, size)
        sparse = encoder.sparse(points, labels, (size, size)).to(top.dtype)
        seen = (top.shape[2], top.shape[3])
        dense = encoder.dense(None if maps is None else maps.to(top.dtype), batch, seen)
        positions = cut(encoder.positions(grid), windows)
        fine = cut(features.fine, windows, 4), cut(features.middle, windows, 2)
        decoded: tuple[Tensor, Tensor, Tensor, Tensor] = self.sam_mask_decoder(
            top.expand(batch, -1, -1, -1), positions, sparse, dense, fine, maps
        )
        return decoded

    def _pointers(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Object pointers (B, K, C) of mask tokens (B, K, C); visible is (B, 1) bool."""
        return torch.where(visible[..., None], self.obj_ptr_proj(tokens).float(), self.no_obj_ptr.float())

    def adopt_mask(self, features: Features, mask: Tensor) -> Masks:
        """Take a mask prompt (B, 1, S, S), 0 or 1, as the answer itself, without decoding one."""
        mask = mask.to(features.top.dtype)
        logits = mask.float() * _MASK_SCALE + _MASK_BIAS
        size = mask.shape[-1] // 4
        low = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        visible = (mask > 0).flatten(1).any(dim=1, keepdim=True)
        prompt = self.mask_downsample(mask)
        pointer = self.decode_masks(features, features.top, logits=prompt, candidates=False).pointers
        pointer = torch.where(visible[..., None], pointer, self.no_obj_ptr.float())
        score = visible.float() * _MASK_SCALE + _MASK_BIAS
        return Masks(low, torch.ones_like(score), pointer, score)

    def encode_memory(
        self,
        features: Features,
        logits: Tensor,
        object_score: Tensor,
        *,
        binarise: bool,
        windows: Sequence[Window] | None = None,
    ) -> Tensor:
        """Memory (B, memory_width, H, W) of a frame and its masks.

        Parameters
        ----------
        logits : (B, 1, 4 H, 4 W)
        object_score : (B, 1)
        binarise : bool
            Remember the mask rather than its probability, as is done on prompted frames.
        windows : sequence of Window, optional
            What `logits` are of; `features` is of the whole canvas, one for all.
        """
        top = cut(features.top, windows)
        size = (top.shape[2] * self.config.stride, top.shape[3] * self.config.stride)
        full = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
        mask = (full > 0).float() if binarise else full.sigmoid()
        memory = self.memory_encoder(top, (mask * _MASK_SCALE + _MASK_BIAS).to(top.dtype))
        if self.config.spatial_no_object:
            absent = (object_score <= 0).to(memory.dtype)[..., None, None]
            memory = memory + absent * self.no_obj_embed_spatial[..., None, None].to(memory.dtype)
        # The official predictor keeps memories in bfloat16, whatever it computes in.
        stored: Tensor = memory.to(torch.bfloat16)
        return stored

    def propose(self, features: Features) -> Tensor:
        """Dense head of ``nano``: (B, 4, S/4, S/4), foreground and boundary logits, offset (y, x)."""
        out: Tensor = self.dense_head(features.fine)
        return out


def _stable_mask(masks: Tensor, iou: Tensor) -> tuple[Tensor, Tensor]:
    """The single mask, or the best candidate where the single one is unstable: (B, 1, H, W), (B, 1)."""
    rows = torch.arange(len(masks), device=masks.device)
    best = iou[:, 1:].argmax(dim=1) + 1
    chosen = torch.where(stability(masks[:, 0]) >= _STABLE, torch.zeros_like(best), best)
    return masks[rows, chosen][:, None], iou[rows, chosen][:, None]

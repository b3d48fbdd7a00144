"""Architectures as frozen data: every official SAM 2 and SAM 2.1 checkpoint, and ``nano``.

The values are those of the public configuration files of SAM 2 (Ravi et al., 2024); names are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["PRESETS", "ConvTrunkConfig", "HieraConfig", "NetworkConfig"]


@dataclass(frozen=True, slots=True)
class HieraConfig:
    """Hiera trunk (Ryali et al., 2023): windowed transformer with pooled queries between stages."""

    width: int = 96  # channels of the first stage; each stage doubles them
    heads: int = 1  # attention heads of the first stage; each stage doubles them
    depths: tuple[int, ...] = (1, 2, 7, 2)  # blocks in each stage
    global_blocks: tuple[int, ...] = (5, 7, 9)  # blocks that attend to the whole picture
    windows: tuple[int, ...] = (8, 4, 14, 7)  # side of the attention window of each stage, in tokens
    position_grid: tuple[int, int] = (7, 7)  # stored size of the interpolated positions

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**i for i in range(len(self.depths)))


@dataclass(frozen=True, slots=True)
class ConvTrunkConfig:
    """Residual convolutional trunk of the embedded model: strides 4, 8, 16 and 32."""

    widths: tuple[int, ...] = (48, 96, 192, 256)  # channels of each stage
    depths: tuple[int, ...] = (2, 2, 3, 2)  # residual blocks in each stage
    groups: int = 8  # groups of the group normalisation


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Everything that fixes the shape of a network and how its outputs are read."""

    trunk: HieraConfig | ConvTrunkConfig = field(default_factory=HieraConfig)
    image_size: int = 1024  # side of the square input that the weights were trained for, in pixels
    width: int = 256  # channels of the features that prompts and memories meet
    memory_width: int = 64  # channels of a stored memory
    memory_layers: int = 4  # layers of memory attention
    memory_hidden: int = 2048  # hidden units of their feed-forward part
    decoder_hidden: int = 2048  # hidden units of the mask decoder's feed-forward part
    decoder_heads: int = 8  # attention heads of the mask decoder
    recent_memories: int = 6  # memories of propagated frames that a frame attends to
    max_pointers: int = 16  # object pointers: the conditioning frames' and 15 more
    pointer_time: bool = True  # 2.1: pointers carry their distance in time
    spatial_no_object: bool = True  # 2.1: memories of absent objects are marked
    dense_prompts: bool = False  # nano: prompts also as maps (previous logits, clicks, box)
    carry_mask: bool = False  # nano: the mask of the frame before is a prompt when an object is followed
    dense_head: bool = False  # nano: foreground, boundary and offset of every object
    top_down: bool = False  # nano: fine features are told what the coarse ones know
    refine: bool = False  # nano: convolutions at stride 4 see picture, prompts and object together
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of the input's three channels, 0..1
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def stride(self) -> int:
        """Pixels of the input a token covers."""
        return 16

    @property
    def prompt_channels(self) -> int:
        """Channels of the dense prompt input: the mask alone, or mask, positive, negative and box."""
        return 4 if self.dense_prompts else 1


_TINY = HieraConfig()
_SMALL = HieraConfig(depths=(1, 2, 11, 2), global_blocks=(7, 10, 13))
_BASE_PLUS = HieraConfig(
    width=112, heads=2, depths=(2, 3, 16, 3), global_blocks=(12, 16, 20), position_grid=(14, 14)
)
_LARGE = HieraConfig(
    width=144, heads=2, depths=(2, 6, 36, 4), global_blocks=(23, 33, 43), windows=(8, 4, 16, 8)
)
_TRUNKS = {"tiny": _TINY, "small": _SMALL, "base-plus": _BASE_PLUS, "large": _LARGE}

PRESETS: Mapping[str, NetworkConfig] = MappingProxyType(
    {f"sam2.1-{size}": NetworkConfig(trunk=trunk) for size, trunk in _TRUNKS.items()}
    | {
        f"sam2-{size}": NetworkConfig(trunk=trunk, pointer_time=False, spatial_no_object=False)
        for size, trunk in _TRUNKS.items()
    }
    | {
        "nano": NetworkConfig(
            trunk=ConvTrunkConfig(),
            image_size=256,
            width=128,
            memory_width=32,
            memory_layers=2,
            memory_hidden=512,
            decoder_hidden=512,
            dense_prompts=True,
            carry_mask=True,
            dense_head=True,
            top_down=True,
            refine=True,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        )
    }
)

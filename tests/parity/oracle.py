"""The SAM 2 of the transformers library with our weights: second oracle, and peer of the benchmarks."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from stacksam.network.config import HieraConfig, NetworkConfig

# Official names to the oracle's, in the order of their use.
MLP3 = [(r"\.layers\.0\.", ".proj_in."), (r"\.layers\.1\.", ".layers.0."), (r"\.layers\.2\.", ".proj_out.")]
MLP2 = [(r"mlp\.layers\.0\.", "mlp.proj_in."), (r"mlp\.layers\.1\.", "mlp.proj_out.")]
RENAMED: dict[str, list[tuple[str, str]]] = {
    "image_encoder.trunk.": [
        (r"^image_encoder\.trunk", "vision_encoder.backbone"),
        (r"patch_embed\.proj", "patch_embed.projection"),
        (r"\.norm([12])\.", r".layer_norm\1."),
        *MLP2,
    ],
    "image_encoder.neck.": [(r"^image_encoder", "vision_encoder"), (r"\.conv\.", ".")],
    "memory_attention.": [(r"\bnorm(\d?)\.", r"layer_norm\1."), (r"out_proj", "o_proj")],
    "memory_encoder.": [
        *((rf"encoder\.{3 * i}\.", f"layers.{i}.conv.") for i in range(4)),
        *((rf"encoder\.{3 * i + 1}\.", f"layers.{i}.layer_norm.") for i in range(4)),
        (r"mask_downsampler\.encoder\.12", "mask_downsampler.final_conv"),
        (r"pix_feat_proj", "feature_projection"),
        (r"fuser\.layers", "memory_fuser.layers"),
        (r"dwconv", "depthwise_conv"),
        (r"\.norm\.", ".layer_norm."),
        (r"pwconv", "pointwise_conv"),
        (r"gamma", "scale"),
        (r"encoder\.out_proj", "encoder.projection"),
    ],
    "sam_prompt_encoder.": [
        (r"^sam_", ""),
        (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
        (r"mask_downscaling\.0", "mask_embed.conv1"),
        (r"mask_downscaling\.1", "mask_embed.layer_norm1"),
        (r"mask_downscaling\.3", "mask_embed.conv2"),
        (r"mask_downscaling\.4", "mask_embed.layer_norm2"),
        (r"mask_downscaling\.6", "mask_embed.conv3"),
    ],
    "sam_mask_decoder.transformer.": [
        (r"^sam_", ""),
        (r"out_proj", "o_proj"),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"norm_final", "layer_norm_final"),
        *MLP2,
    ],
    "sam_mask_decoder.output_hypernetworks_mlps.": [(r"^sam_", ""), *MLP3],
    "sam_mask_decoder.iou_prediction_head.": [(r"^sam_", ""), *MLP3],
    "sam_mask_decoder.pred_obj_score_head.": [(r"^sam_", ""), *MLP3],
    "sam_mask_decoder.": [
        (r"^sam_", ""),
        (r"output_upscaling\.0", "upscale_conv1"),
        (r"output_upscaling\.1", "upscale_layer_norm"),
        (r"output_upscaling\.3", "upscale_conv2"),
    ],
    "obj_ptr_proj.": [(r"^obj_ptr_proj", "object_pointer_proj"), *MLP3],
    "obj_ptr_tpos_proj.": [(r"^obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer")],
    "maskmem_tpos_enc": [(r".*", "memory_temporal_positional_encoding")],
    "no_mem_embed": [(r".*", "no_memory_embedding")],
    "no_mem_pos_enc": [(r".*", "no_memory_positional_encoding")],
    "no_obj_ptr": [(r".*", "no_object_pointer")],
    "no_obj_embed_spatial": [(r".*", "occlusion_spatial_embedding_parameter")],
    "mask_downsample.": [],
}


def oracle_name(name: str) -> str:
    rules = next(rules for start, rules in RENAMED.items() if name.startswith(start))
    for pattern, to in rules:
        name = re.sub(pattern, to, name, count=1)
    return name


def oracle_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    points = [f"sam_prompt_encoder.point_embeddings.{i}.weight" for i in range(4)]
    renamed = {oracle_name(name): tensor for name, tensor in state.items() if name not in points}
    renamed["prompt_encoder.point_embed.weight"] = torch.cat([state[name] for name in points])
    matrix = renamed["prompt_encoder.shared_embedding.positional_embedding"]
    return {**renamed, "shared_image_embedding.positional_embedding": matrix}


def oracle_model(config: NetworkConfig, weights: dict[str, Tensor]) -> Any:
    """A ``Sam2VideoModel`` of one architecture, with weights under their official names."""
    import transformers

    size, width = config.image_size, config.width
    grid = size // config.stride
    trunk = config.trunk
    if not isinstance(trunk, HieraConfig):
        raise TypeError("the oracle knows the Hiera trunk only")
    widths = list(trunk.widths)
    theirs = transformers.Sam2VideoConfig(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=transformers.Sam2HieraDetConfig(
                hidden_size=trunk.width,
                image_size=[size, size],
                blocks_per_stage=list(trunk.depths),
                embed_dim_per_stage=widths,
                num_attention_heads_per_stage=[trunk.heads * 2**i for i in range(4)],
                window_size_per_stage=list(trunk.windows),
                global_attention_blocks=list(trunk.global_blocks),
                window_positional_embedding_background_size=list(trunk.position_grid),
            ),
            backbone_channel_list=widths[::-1],
            backbone_feature_sizes=[[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
            fpn_hidden_size=width,
        ),
        prompt_encoder_config={"hidden_size": width, "image_size": size},
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": config.decoder_hidden,
            "num_attention_heads": config.decoder_heads,
        },
        image_size=size,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=config.memory_layers,
        memory_attention_feed_forward_hidden_size=config.memory_hidden,
        memory_attention_rope_feat_sizes=[grid, grid],
        memory_encoder_hidden_size=width,
        memory_encoder_output_channels=config.memory_width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=4 * width,
    )
    model = transformers.Sam2VideoModel(theirs)
    model.load_state_dict(oracle_state(weights), strict=True)
    return model.eval().requires_grad_(False)

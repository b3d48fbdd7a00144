"""The automatic mask generator gives what the reference's rules give, with an independent network and rules.

The network is that of the transformers library with the golden weights; cropping, filtering and stability are
the functions of its SAM image processor, which are those of the reference. Its processor of SAM 2 needs a
library of image operations that this project does without, so suppression is written out here, box by box.
The weights are random: thresholds lie where some masks pass and some do not. Random masks are all over the
frame, so that suppression leaves one; those before it are compared, too.

Predicted IoU and masks differ by rounding only: masks are equal but for pixels whose logit is nearly zero.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_model import CHECKPOINTS, clip, model
from oracle import oracle_model

from stacksam.network.config import PRESETS
from stacksam.session.automatic_masks import AutomaticMasks, MaskGenerator, crop_boxes, point_grid
from stacksam.session.encoder import Encoder
from stacksam.session.settings import Settings

NAME = "sam2.1_hiera_tiny"
HOW = AutomaticMasks(points_per_side=4, pred_iou_thresh=0.35, stability_score_thresh=0.12)

pytestmark = pytest.mark.parity


def theirs():
    from transformers.models.sam import image_processing_pil_sam

    return image_processing_pil_sam


@pytest.mark.parametrize("shape", [(1000, 1400), (513, 300)])
def test_crops_and_points_are_those_of_the_reference(shape):
    boxes, layers = theirs()._generate_per_layer_crops(2, 512 / 1500, shape)
    ours = [((x0, y0, x1, y1), layer) for layer, (y0, x0, y1, x1) in crop_boxes(shape, 2, 512 / 1500)]
    assert ours == [(tuple(box), layer) for box, layer in zip(boxes, layers, strict=True)]
    np.testing.assert_allclose(point_grid(5)[:, ::-1], theirs()._build_point_grid(5), atol=1e-6)


def naive_nms(boxes, scores, threshold):
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            shared = max(0, min(boxes[i][2], boxes[j][2]) - max(boxes[i][0], boxes[j][0]))
            shared *= max(0, min(boxes[i][3], boxes[j][3]) - max(boxes[i][1], boxes[j][1]))
            both = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[i], boxes[j])) - shared
            if both > 0 and shared / both > threshold:
                break
        else:
            kept.append(i)
    return kept


@torch.no_grad()
def reference(own):
    """Masks (N, H, W), predicted IoU and boxes by the other library."""
    network = oracle_model(PRESETS[CHECKPOINTS[NAME]], dict(own.network.state_dict()))
    picture = torch.from_numpy(clip(3).frame(0)).permute(2, 0, 1)[None]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (own.config.mean, own.config.std))
    features = network.get_image_features((picture - mean) / std)
    *fine, top = [
        level.permute(1, 2, 0).unflatten(2, (side, side))
        for level, side in zip(features.fpn_hidden_states, (256, 128, 64), strict=True)
    ]
    top = top + network.no_memory_embedding.view(1, -1, 1, 1)
    points = torch.from_numpy(theirs()._build_point_grid(HOW.points_per_side) * 1024)
    masks, scores, boxes = [], [], []
    for start in range(0, len(points), 16):
        some = points[start : start + 16]
        sparse, dense = network.prompt_encoder(
            input_points=some[None, :, None].float(),
            input_labels=torch.ones(1, len(some), 1, dtype=torch.int64),
            input_boxes=None,
            input_masks=None,
        )
        low, iou, _, _ = network.mask_decoder(
            image_embeddings=top,
            image_positional_embeddings=network.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=fine,
        )
        full = torch.nn.functional.interpolate(low[0], size=(1024, 1024), mode="bilinear")
        full, iou = full.flatten(0, 1), iou[0].flatten()
        good = iou > HOW.pred_iou_thresh
        good[good.clone()] = (
            theirs()._compute_stability_score(full[good], 0.0, HOW.stability_score_offset)
            > HOW.stability_score_thresh
        )
        masks += list((full[good] > 0).numpy())
        scores += iou[good].tolist()
        boxes += theirs()._batched_mask_to_box(full[good] > 0).tolist()
    return masks, scores, boxes


@pytest.mark.slow
def test_masks_are_those_of_the_reference():
    own, stack = model(NAME), clip(3)
    generator = MaskGenerator(own, stack, Encoder(own, stack, Settings()), nullcontext)
    masks, scores, boxes = reference(own)
    found = generator.generate(0, replace(HOW, box_nms_thresh=1.0))  # a box is never worse than equal

    assert 10 <= len(masks) <= 40  # of 48
    assert len(found) == len(masks)
    left = list(range(len(masks)))
    for proposal in found:
        i = min(left, key=lambda i: abs(scores[i] - proposal.score))
        left.remove(i)
        assert proposal.score == pytest.approx(scores[i], abs=1e-4)
        y0, x0, y1, x1 = proposal.bbox
        assert np.abs(np.subtract(boxes[i], (x0, y0, x1 - 1, y1 - 1))).max() <= 1
        full = proposal.full_mask(stack.frame_shape)
        assert (full & masks[i]).sum() / (full | masks[i]).sum() > 0.999

    kept = naive_nms(boxes, np.array(scores), HOW.box_nms_thresh)
    found = generator.generate(0, HOW)
    assert [p.score for p in found] == pytest.approx([scores[i] for i in kept], abs=1e-4)

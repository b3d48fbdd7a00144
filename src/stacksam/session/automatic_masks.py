"""The automatic mask generator of SAM 2: a grid of clicks, and what survives of their answers.

The rules and defaults are those of ``SAM2AutomaticMaskGenerator`` (Ravi et al., 2024; Kirillov et al., 2023,
appendix B): three masks for each point of a grid, kept where predicted IoU and stability are high and the
mask does not end at a crop's own border; duplicates go by the IoU of their boxes. The last is repeated over
crops of the frame, if there are any, in favour of the smaller crop.

Three things are otherwise. The frame, or crop, is brought to the model's input as the video predictor does
it (bicubic, the image predictor's bilinear), so that what is encoded here serves for following, too.
Logits are enlarged in the bounding box of each mask only, which changes nothing but the time. And a second
pass with masks as prompts (``use_m2m``) is not offered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.errors import InputError
from stacksam.session.boxes import BBox, bbox_of
from stacksam.session.canvas import View
from stacksam.session.encoder import Encoder, quiet
from stacksam.session.models import Model
from stacksam.session.proposals import Proposal, box_nms
from stacksam.session.stack import Stack

__all__ = ["AutomaticMasks", "MaskGenerator", "crop_boxes", "point_grid"]

_NEAR = 20.0  # pixels from a crop's border within which a mask counts as cut off


@dataclass(frozen=True, slots=True)
class AutomaticMasks:
    """Choices of the automatic mask generator, with the defaults of the reference.

    Attributes
    ----------
    points_per_side : int
        Points of the grid along each side of the frame.
    points_per_batch : int
        Points that are decoded at once.
    pred_iou_thresh : float
        Masks of a lower predicted IoU go.
    stability_score_thresh, stability_score_offset : float
        Masks go whose IoU between thresholds of `offset` below and above zero is lower.
    box_nms_thresh : float
        IoU of boxes from which on the worse mask of one crop goes.
    crop_n_layers : int
        Layers of crops besides the whole frame; layer i has ``(2 ** i) ** 2`` of them.
    crop_nms_thresh : float
        IoU of boxes from which on the mask of the larger crop goes.
    crop_overlap_ratio : float
        By how much crops of the first layer overlap, as a share of the frame's shorter side.
    crop_n_points_downscale_factor : int
        In layer i the grid has ``points_per_side / factor ** i`` points along a side.
    min_mask_region_area : int
        Holes and pieces smaller than this, in pixels, are removed from masks; 0 for none.
    multimask_output : bool
        Three masks for each point instead of one.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.8
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    multimask_output: bool = True

    def __post_init__(self) -> None:
        for name, least in (
            ("points_per_side", 1),
            ("points_per_batch", 1),
            ("crop_n_layers", 0),
            ("crop_n_points_downscale_factor", 1),
            ("min_mask_region_area", 0),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not 0 <= self.crop_overlap_ratio < 1:
            raise InputError(f"crop_overlap_ratio is {self.crop_overlap_ratio:g}; give 0 to below 1")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A proposal, and the crop that it came from."""

    proposal: Proposal
    crop: BBox


class MaskGenerator:
    """Looks for all masks of a frame with any model, by a grid of clicks.

    Parameters
    ----------
    model : Model
    stack : Stack
    encoder : Encoder
    guard : callable
        Gives a context manager to be in while the encoder is used.
    """

    def __init__(
        self,
        model: Model,
        stack: Stack,
        encoder: Encoder,
        guard: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._model, self._stack, self._encoder, self._guard = model, stack, encoder, guard

    def generate(self, frame: int, how: AutomaticMasks, region: BBox | None = None) -> list[Proposal]:
        """All masks of one frame, best first in each crop; they may overlap.

        Parameters
        ----------
        frame : int
        how : AutomaticMasks
        region : (int, int, int, int), optional
            Points outside of this are left out.
        """
        found: list[_Candidate] = []
        for layer, crop in crop_boxes(self._stack.frame_shape, how.crop_n_layers, how.crop_overlap_ratio):
            count = max(1, int(how.points_per_side / how.crop_n_points_downscale_factor**layer))
            own = [c for some in self._crop(frame, crop, count, how, region) for c in some]
            kept = box_nms(_boxes(own), np.array([c.proposal.score for c in own]), how.box_nms_thresh)
            found += [own[i] for i in kept]
        if how.crop_n_layers:
            areas = np.array([(c.crop[2] - c.crop[0]) * (c.crop[3] - c.crop[1]) for c in found], np.float64)
            found = [found[i] for i in box_nms(_boxes(found), 1 / areas, how.crop_nms_thresh)]
        if how.min_mask_region_area:
            found = _tidied(found, how)
        return [candidate.proposal for candidate in found]

    def _crop(
        self, frame: int, crop: BBox, count: int, how: AutomaticMasks, region: BBox | None
    ) -> Iterator[list[_Candidate]]:
        """Masks of one crop, batch by batch."""
        y0, x0, y1, x1 = crop
        view = View(y0, x0, y1 - y0, x1 - x0, self._model.config.image_size, official=True)
        points = point_grid(count) * (y1 - y0, x1 - x0) + (y0, x0)
        if region is not None:
            inside = (points >= region[:2]) & (points < region[2:])
            points = points[inside.all(axis=1)]
        for start in range(0, len(points), how.points_per_batch):
            with self._guard():
                found = self._decode(frame, view, points[start : start + how.points_per_batch], how)
            yield [_Candidate(p, crop) for p in found if not self._cut_off(p.bbox, crop)]

    @quiet
    def _decode(
        self, frame: int, view: View, points: NDArray[np.float64], how: AutomaticMasks
    ) -> list[Proposal]:
        """Masks for points ``(y, x)`` in frame pixels, as they pass the thresholds."""
        network, device = self._model.network, self._model.device
        features = self._encoder.features(frame, [view])
        places = torch.from_numpy(view.points(points))[:, None].float().to(device)
        labels = torch.ones(len(points), 1, dtype=torch.long, device=device)
        with self._encoder.computing():
            masks = network.decode_masks(
                features,
                network.unconditioned(features),
                places,
                labels,
                candidates=how.multimask_output,
                hide_absent=False,  # as the image predictor, which knows of no object score
            )
        iou = masks.iou.float().cpu().numpy()
        found = []
        for row, k in np.argwhere(iou > how.pred_iou_thresh):
            logits = masks.logits[row, k].float().cpu().numpy()
            proposal = self._proposal(frame, view, logits, float(iou[row, k]), how.stability_score_offset)
            if proposal is not None and proposal.stability > how.stability_score_thresh:
                found.append(proposal)
        return found

    def _proposal(
        self, frame: int, view: View, logits: NDArray[np.float32], score: float, offset: float
    ) -> Proposal | None:
        """A mask in frame pixels with its stability there; None where it is empty."""
        lowered, wide = view.mask(logits + offset, self._stack.frame_shape)
        if not wide.any():
            return None
        fine = view.upsample(logits, lowered)
        mask = fine > 0
        own = bbox_of(mask)
        if own == (0, 0, 0, 0):
            return None
        stable = float((fine > offset).sum() / (fine > -offset).sum())
        y, x = lowered[:2]
        bbox = (y + own[0], x + own[1], y + own[2], x + own[3])
        return Proposal(
            frame, bbox, np.ascontiguousarray(mask[own[0] : own[2], own[1] : own[3]]), score, stable
        )

    def _cut_off(self, bbox: BBox, crop: BBox) -> bool:
        """Whether a mask ends at the border of a crop that is not the frame's."""
        box = (bbox[0], bbox[1], bbox[2] - 1, bbox[3] - 1)  # the last pixels, as the reference has it
        whole = (0, 0, *self._stack.frame_shape)
        return any(
            abs(at - border) <= _NEAR < abs(at - end)
            for at, border, end in zip(box, crop, whole, strict=True)
        )


def point_grid(count: int) -> NDArray[np.float64]:
    """Centres ``(y, x)`` of `count` x `count` equal parts of the unit square, row by row."""
    along = (np.arange(count) + 0.5) / count
    return np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)


def crop_boxes(frame_shape: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[int, BBox]]:
    """Layer and half-open box ``(y0, x0, y1, x1)`` of each crop; the whole frame is layer 0."""
    height, width = frame_shape
    found: list[tuple[int, BBox]] = [(0, (0, 0, height, width))]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(frame_shape) * (2 / count))
        tall, wide = (math.ceil((overlap * (count - 1) + extent) / count) for extent in frame_shape)
        found += [
            (layer, (y, x, min(y + tall, height), min(x + wide, width)))
            for x in (column * (wide - overlap) for column in range(count))
            for y in (row * (tall - overlap) for row in range(count))
        ]
    return found


def _boxes(candidates: Sequence[_Candidate]) -> NDArray[np.float64]:
    """Boxes (N, 4) by their first and last pixels, as the reference measures them."""
    boxes = np.array([c.proposal.bbox for c in candidates], np.float64).reshape(-1, 4)
    return boxes - (0, 0, 1, 1)


def _tidied(candidates: Sequence[_Candidate], how: AutomaticMasks) -> list[_Candidate]:
    """Masks without small holes and pieces; of duplicates that come of it, one that was not changed."""
    tidy, same = [], []
    for candidate in candidates:
        old = candidate.proposal
        mask = ~_without_small(~np.pad(old.mask, 1), how.min_mask_region_area, keep_one=False)
        mask = _without_small(mask, how.min_mask_region_area, keep_one=True)
        y0, x0, y1, x1 = bbox_of(mask)
        top, left = old.bbox[0] - 1, old.bbox[1] - 1
        bbox = (top + y0, left + x0, top + y1, left + x1)
        new = Proposal(old.frame, bbox, np.ascontiguousarray(mask[y0:y1, x0:x1]), old.score, old.stability)
        tidy.append(_Candidate(new, candidate.crop))
        same.append(float(old.bbox == bbox and np.array_equal(old.mask, new.mask)))
    threshold = max(how.box_nms_thresh, how.crop_nms_thresh)
    return [tidy[i] for i in box_nms(_boxes(tidy), np.array(same), threshold)]


def _without_small(mask: NDArray[np.bool_], least: int, *, keep_one: bool) -> NDArray[np.bool_]:
    """A mask without 8-connected pieces of fewer than `least` pixels; perhaps with the largest of them."""
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    large = sizes >= least
    if keep_one and not large.any():
        large[sizes.argmax()] = True
    kept: NDArray[np.bool_] = large[pieces]
    return kept

"""What a comparison of labels with a reference found."""

from __future__ import annotations

from dataclasses import dataclass

from stacksam.metrics import Ctc, Davis, Detection, Divisions, Identity, Panoptic

__all__ = ["Comparison", "ObjectComparison", "Totals", "Tracking"]


@dataclass(frozen=True, slots=True)
class ObjectComparison:
    """One object of the reference, and what the labels have for it.

    Attributes
    ----------
    reference_id : int
    label_id : int or None
        None if nothing matched.
    frames : int
        Frames of the sequence that count for J and F.
    reference_pixels, label_pixels : int
        Sizes over the whole stack.
    iou, dice : float
        Over the whole stack, all frames in one.
    j, f : Davis
        Region and contour: mean, recall and decay over the frames. In a volume there is no decay (NaN).
    jf : float
        Mean of the means of J and F.
    worst_frame : int
        Where J is lowest: an index along the sequence.
    worst_j : float
    """

    reference_id: int
    label_id: int | None
    frames: int
    reference_pixels: int
    label_pixels: int
    iou: float
    dice: float
    j: Davis
    f: Davis
    jf: float
    worst_frame: int
    worst_j: float


@dataclass(frozen=True, slots=True)
class Totals:
    """All objects together.

    Attributes
    ----------
    objects, matched, extra : int
        Objects of the reference, those with a partner, and objects of the labels without one.
    j, f : Davis
        Means over the objects of the reference.
    jf, iou, dice : float
        Means over the objects of the reference.
    foreground_iou, foreground_dice : float
        Of all pixels that belong to any object, whichever.
    """

    objects: int
    matched: int
    extra: int
    j: Davis
    f: Davis
    jf: float
    iou: float
    dice: float
    foreground_iou: float
    foreground_dice: float


@dataclass(frozen=True, slots=True)
class Tracking:
    """How objects were linked; of stacks of two time points and more.

    Attributes
    ----------
    identity : Identity
    divisions : Divisions or None
        None where the reference has no lineage.
    """

    identity: Identity
    divisions: Divisions | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What :func:`stacksam.comparison.compare` found.

    Attributes
    ----------
    labels, reference : str
        What was compared.
    axes : str
    shape : tuple of int
    sequence : {"t", "z"}
        The axis that frames of J and F lie along.
    match, counted : str
        As asked for.
    chosen : tuple of int or None
        Ids of the reference that were asked for; None for all.
    objects : tuple of ObjectComparison
        In order of the reference's ids.
    extra : tuple of int
        Ids of the labels without a partner.
    total : Totals
    detection : tuple of Detection
        One for each IoU threshold.
    mean_ap : float
        Mean of their AP.
    panoptic : Panoptic
    ctc : Ctc or None
        None if it was not asked for, or cannot be had; `ctc_note` says why.
    ctc_note : str
    tracking : Tracking or None
        None for a single time point.
    """

    labels: str
    reference: str
    axes: str
    shape: tuple[int, ...]
    sequence: str
    match: str
    counted: str
    chosen: tuple[int, ...] | None
    objects: tuple[ObjectComparison, ...]
    extra: tuple[int, ...]
    total: Totals
    detection: tuple[Detection, ...]
    mean_ap: float
    panoptic: Panoptic
    ctc: Ctc | None
    ctc_note: str
    tracking: Tracking | None

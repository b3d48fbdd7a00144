"""Compare labels with a reference: each object, how many were found, and how they were linked.

Both stacks are read twice, plane by plane. The first pass counts what objects share
(:mod:`stacksam.metrics.overlaps`), which is enough for all measures but one; the second draws contours, for
F. What is kept in memory is those counts: some numbers for each object on each frame.

A *time point* is a frame of a time-lapse, or a volume; objects are found and linked there. J and F are
measured along the *sequence*: time points, or the planes of a single volume.

Run it with ``stacksam evaluate LABELS REFERENCE``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.comparison_files import Planes, open_planes
from stacksam.comparison_result import Comparison, ObjectComparison, Totals, Tracking
from stacksam.errors import InputError
from stacksam.io.images import Source
from stacksam.io.lineage import check_lineage
from stacksam.metrics import (
    AP_THRESHOLDS,
    BOUNDARY_TOLERANCE,
    Ctc,
    Davis,
    Overlaps,
    add_up,
    boundary_f,
    count_overlaps,
    ctc_measures,
    davis_statistics,
    detection_measures,
    division_measures,
    identity_measures,
    match_objects,
    nan_mean,
    panoptic_quality,
    spans_of,
)
from stacksam.metrics.overlaps import MATCHES, Match

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["COUNTED", "Comparison", "Counted", "ObjectComparison", "Totals", "Tracking", "compare"]

Counted: TypeAlias = Literal["present", "davis"]
COUNTED: tuple[Counted, ...] = get_args(Counted)

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many planes are done, of how many."""

_Box: TypeAlias = tuple[slice, slice]


def compare(
    labels: Source | Planes,
    reference: Source | Planes,
    *,
    match: Match = "overlap",
    counted: Counted = "present",
    lineage: nx.DiGraph | None = None,
    reference_lineage: nx.DiGraph | None = None,
    ctc: bool | None = None,
    axes: str | None = None,
    objects: Collection[int] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare labels with a reference.

    Parameters
    ----------
    labels, reference : path, array, LazyImage or Planes
        Label stacks of one shape: (Y, X), (T, Y, X), (Z, Y, X) or (T, Z, Y, X); or folders of the Cell
        Tracking Challenge.
    match : {"overlap", "ids"}
        Which object is which for J, F, IoU and Dice: by overlap over the whole stack, or equal ids. See
        :func:`stacksam.metrics.match_objects`.
    counted : {"present", "davis"}
        Frames that count for J and F of an object: those that show it in the reference or in the labels; or,
        as the DAVIS benchmark has it, all but the first and the last, where 1 stands for "both empty".
    lineage, reference_lineage : networkx.DiGraph, optional
        Edges from parent to daughter. A folder of the Cell Tracking Challenge brings its own.
    ctc : bool, optional
        Whether to measure as the Cell Tracking Challenge does. By default, if its package is installed; with
        a lineage, it has to be.
    axes : str, optional
        Meaning of the dimensions of both, where the files do not tell or are wrong.
    objects : collection of int, optional
        Ids of the reference to compare with; its other objects count as background. All by default.
    progress : callable, optional
        ``progress(done, total)``, in planes; each is read twice.

    Raises
    ------
    InputError
        If shapes or axes differ, ids cannot be, a lineage does not fit its labels, the reference is empty or
        lacks an object that was asked for, or an option is unknown.
    StackError
        If something cannot be read, or holds no labels.
    """
    if match not in MATCHES:
        raise InputError(f"match is {match!r}; choose from {', '.join(MATCHES)}")
    if counted not in COUNTED:
        raise InputError(f"counted is {counted!r}; choose from {', '.join(COUNTED)}")
    computed, truth = open_planes(labels, axes), open_planes(reference, axes)
    _check_alike(computed, truth)
    if objects is not None:
        truth, reference_lineage = _only(truth, reference_lineage, objects)
    pair = _Pair(computed, truth, progress)
    times, sequence = pair.count()
    total = add_up(times)
    if objects is not None and (absent := sorted(set(objects) - set(total.reference.tolist()))):
        raise InputError(
            f"the reference {truth.name} has no object {', '.join(map(str, absent))}; give ids that it has"
        )
    if not total.reference.size:
        raise InputError(f"the reference {truth.name} has no object: all its pixels are 0")
    lineage = _checked_lineage(lineage, computed, [t.labels for t in times], "labels")
    reference_lineage = _checked_lineage(reference_lineage, truth, [t.reference for t in times], "reference")
    if ctc is None and not (lineage is None and reference_lineage is None):
        ctc = True
    found, note = _ctc(times, lineage, reference_lineage, ctc, pair.seg_counts())

    partners = match_objects(total, match)
    j = _j_values(sequence, total, partners)
    f = pair.boundaries(total.reference.tolist(), partners)
    compared = _objects(total, partners, j, f, counted, moving=pair.axis == "t")
    matched = set(partners.values())
    detected = tuple(detection_measures(times, threshold) for threshold in AP_THRESHOLDS)
    return Comparison(
        labels=computed.name,
        reference=truth.name,
        axes=computed.axes,
        shape=computed.shape,
        sequence=pair.axis,
        match=match,
        counted=counted,
        chosen=None if objects is None else tuple(sorted(set(objects))),
        objects=compared,
        extra=tuple(i for i in total.labels.tolist() if i not in matched),
        total=_totals(total, compared),
        detection=detected,
        mean_ap=nan_mean([each.ap for each in detected]),
        panoptic=panoptic_quality(times),
        ctc=found,
        ctc_note=note,
        tracking=_tracking(times, lineage, reference_lineage),
    )


# --- reading -----------------------------------------------------------------------------------------------


class _Pair:
    """Both stacks, walked through together."""

    def __init__(self, labels: Planes, reference: Planes, progress: Progress | None) -> None:
        self._labels, self._reference = labels, reference
        self.n_times, self.n_planes = labels.n_times, labels.n_planes
        self.axis = "z" if self.n_times == 1 and self.n_planes > 1 else "t"
        self._progress = progress
        self._done = 0
        self._tolerance = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*labels.plane_shape))

    def read(self, time: int, plane: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Labels and reference of a plane."""
        both = self._labels.read(time, plane), self._reference.read(time, plane)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, 2 * self.n_times * self.n_planes)
        return both

    def where(self, time: int, plane: int) -> str:
        """Words for errors."""
        at = ([f"frame {time}"] if self.n_times > 1 else []) + (
            [f"plane {plane}"] if self.n_planes > 1 else []
        )
        return f" on {', '.join(at)}" if at else ""

    def count(self) -> tuple[list[Overlaps], list[Overlaps]]:
        """Counts of each time point, and of each frame of the sequence."""
        times, planes = [], []
        for time in range(self.n_times):
            planes = [
                count_overlaps(*self.read(time, plane), where=self.where(time, plane))
                for plane in range(self.n_planes)
            ]
            times.append(add_up(planes) if len(planes) > 1 else planes[0])
        return times, (planes if self.axis == "z" else times)

    def seg_counts(self) -> list[Overlaps] | None:
        """Counts against the masks that the reference has for SEG; None if it has none of its own."""
        found = []
        for mask in self._reference.segmentation:
            planes = range(self.n_planes) if mask.plane is None else (mask.plane,)
            labels = np.stack([self._labels.read(mask.time, plane) for plane in planes])
            truth = mask.read()
            labels = labels[0] if truth.ndim == 2 and len(labels) == 1 else labels
            found.append(count_overlaps(labels, truth, where=f" (the latter being {mask.path})"))
        return found or None

    def boundaries(self, reference_ids: Sequence[int], partners: Mapping[int, int]) -> NDArray[np.float64]:
        """F of each object on each frame of the sequence, NaN where it is not shown.

        In a volume at each time point, it is the mean over the planes that show the object.
        """
        by_time: list[list[float]] = []
        for time in range(self.n_times):
            by_plane: list[NDArray[np.float64]] = []
            for plane in range(self.n_planes):
                labels, reference = self.read(time, plane)
                by_plane.append(self._plane_boundaries(labels, reference, reference_ids, partners))
            if self.axis == "z":
                return np.stack(by_plane, axis=1)
            by_time.append([nan_mean(values) for values in np.stack(by_plane, axis=1)])
        return np.array(by_time).T

    def _plane_boundaries(
        self,
        labels: NDArray[Any],
        reference: NDArray[Any],
        reference_ids: Sequence[int],
        partners: Mapping[int, int],
    ) -> NDArray[np.float64]:
        label_boxes, boxes = _boxes(labels), _boxes(reference)
        values = np.full(len(reference_ids), math.nan)
        for row, reference_id in enumerate(reference_ids):
            label_id = partners.get(reference_id)
            around = [b for b in (boxes.get(reference_id), label_boxes.get(label_id or 0)) if b is not None]
            if not around:
                continue
            crop = _joined(around, reference.shape)
            a = reference[crop] == reference_id
            b = np.zeros_like(a) if label_id is None else labels[crop] == label_id
            values[row] = 1.0 if np.array_equal(a, b) else boundary_f(a, b, self._tolerance)
        return values


def _check_alike(labels: Planes, reference: Planes) -> None:
    if labels.shape != reference.shape:
        raise InputError(
            f"the labels {labels.name} have shape {labels.shape} ({labels.axes}) and the reference "
            f"{reference.name} has {reference.shape} ({reference.axes}); they must be equal"
        )
    if labels.axes != reference.axes:
        raise InputError(
            f"the labels {labels.name} have axes {labels.axes} and the reference {reference.name} has "
            f"{reference.axes}, both of shape {labels.shape}; say which is meant, with --axes {labels.axes} "
            f"or --axes {reference.axes} (in Python axes=)"
        )


def _only(
    reference: Planes, lineage: nx.DiGraph | None, objects: Collection[int]
) -> tuple[Planes, nx.DiGraph | None]:
    """The reference with some of its objects, and what a lineage tells of them.

    Other masks for SEG have all objects, and are left out with the rest.
    """
    wanted = np.array(sorted(set(objects)), np.int64)
    if not wanted.size or wanted[0] < 1:
        raise InputError(f"objects are {wanted.tolist()}; give ids of the reference, from 1 on")

    def read(time: int, plane: int) -> NDArray[Any]:
        labels = reference.read(time, plane)
        return np.where(np.isin(labels, wanted), labels, 0)

    def part(graph: nx.DiGraph | None) -> nx.DiGraph | None:
        return None if graph is None else graph.subgraph(wanted.tolist())

    chosen = replace(reference, read=read, lineage=part(reference.lineage), check=None, segmentation=())
    return chosen, part(lineage)


def _boxes(plane: NDArray[Any]) -> dict[int, _Box]:
    """Bounding box of each object of a plane."""
    ids, compact = np.unique(plane, return_inverse=True)
    compact = compact.reshape(plane.shape)
    if ids.size and ids[0] != 0:
        ids, compact = np.insert(ids, 0, 0), compact + 1
    found = enumerate(ndimage.find_objects(compact), start=1)
    return {int(ids[k]): (box[0], box[1]) for k, box in found if box is not None}


def _joined(boxes: Sequence[_Box], shape: tuple[int, ...]) -> _Box:
    """One box around all, with a margin of a pixel where the contour lies."""
    rows, columns = (
        slice(
            max(min(box[k].start for box in boxes) - 1, 0),
            min(max(box[k].stop for box in boxes) + 1, shape[k]),
        )
        for k in (0, 1)
    )
    return rows, columns


# --- measuring ---------------------------------------------------------------------------------------------


def _checked_lineage(
    lineage: nx.DiGraph | None, planes: Planes, present: Sequence[NDArray[Any]], whose: str
) -> nx.DiGraph | None:
    """The lineage that is given, or the source's own, if it fits the labels."""
    if lineage is None:
        lineage = planes.lineage
        if planes.check is not None:
            planes.check(present)
    try:
        check_lineage(lineage, spans_of(present))
    except InputError as error:
        raise InputError(f"the lineage of the {whose}: {error}") from error
    return lineage


def _ctc(
    times: Sequence[Overlaps],
    lineage: nx.DiGraph | None,
    reference_lineage: nx.DiGraph | None,
    wanted: bool | None,
    seg_times: Sequence[Overlaps] | None,
) -> tuple[Ctc | None, str]:
    if wanted is False:
        return None, "not asked for"
    try:
        return ctc_measures(times, lineage, reference_lineage, seg_times=seg_times), ""
    except InputError as error:
        if wanted:
            raise
        return None, str(error)


def _j_values(
    sequence: Sequence[Overlaps], total: Overlaps, partners: Mapping[int, int]
) -> NDArray[np.float64]:
    """J of each object of the reference on each frame, NaN where neither side shows it."""
    ids = total.reference.tolist()
    shared, together = np.zeros((2, len(ids), len(sequence)), np.int64)
    row_of = {reference_id: row for row, reference_id in enumerate(ids)}
    row_of_label = {
        partners[reference_id]: row for reference_id, row in row_of.items() if reference_id in partners
    }
    for frame, counts in enumerate(sequence):
        for reference_id, pixels in zip(
            counts.reference.tolist(), counts.reference_pixels.tolist(), strict=True
        ):
            together[row_of[reference_id], frame] += pixels
        for label_id, pixels in zip(counts.labels.tolist(), counts.label_pixels.tolist(), strict=True):
            if label_id in row_of_label:
                together[row_of_label[label_id], frame] += pixels
        for (reference_id, label_id), pixels in counts.pairs().items():
            if partners.get(reference_id) == label_id:
                shared[row_of[reference_id], frame] = pixels
    union = together - shared
    j = np.full(union.shape, math.nan)
    np.divide(shared, union, out=j, where=union > 0)
    return j


def _objects(
    total: Overlaps,
    partners: Mapping[int, int],
    j: NDArray[np.float64],
    f: NDArray[np.float64],
    counted: Counted,
    *,
    moving: bool,
) -> tuple[ObjectComparison, ...]:
    label_pixels = dict(zip(total.labels.tolist(), total.label_pixels.tolist(), strict=True))
    pairs = total.pairs()
    found = []
    for row, (reference_id, pixels) in enumerate(
        zip(total.reference.tolist(), total.reference_pixels.tolist(), strict=True)
    ):
        label_id = partners.get(reference_id)
        other = 0 if label_id is None else label_pixels[label_id]
        shared = 0 if label_id is None else pairs.get((reference_id, label_id), 0)
        counting, about_j = _statistics(j[row], counted, moving)
        _, about_f = _statistics(f[row], counted, moving)
        worst = int(np.nanargmin(j[row]))
        found.append(
            ObjectComparison(
                reference_id=reference_id,
                label_id=label_id,
                frames=counting,
                reference_pixels=pixels,
                label_pixels=other,
                iou=shared / (pixels + other - shared),
                dice=2 * shared / (pixels + other),
                j=about_j,
                f=about_f,
                jf=(about_j.mean + about_f.mean) / 2,
                worst_frame=worst,
                worst_j=float(j[row, worst]),
            )
        )
    return tuple(found)


def _statistics(values: NDArray[np.float64], counted: Counted, moving: bool) -> tuple[int, Davis]:
    """How many frames count, and what they come to. Planes of a volume have no early and late."""
    if counted == "present":
        values = values[~np.isnan(values)]
    else:
        inner = values[1:-1] if len(values) > 2 else values
        values = np.where(np.isnan(inner), 1.0, inner)
    found = davis_statistics(values)
    return len(values), found if moving else Davis(found.mean, found.recall, math.nan)


def _totals(total: Overlaps, objects: Sequence[ObjectComparison]) -> Totals:
    def davis(which: str) -> Davis:
        each = [getattr(o, which) for o in objects]
        return Davis(*(nan_mean([getattr(d, name) for d in each]) for name in ("mean", "recall", "decay")))

    shared = int(total.shared.sum())
    both = int(total.label_pixels.sum() + total.reference_pixels.sum())
    matched = sum(o.label_id is not None for o in objects)
    return Totals(
        objects=len(objects),
        matched=matched,
        extra=len(total.labels) - matched,
        j=davis("j"),
        f=davis("f"),
        jf=nan_mean([o.jf for o in objects]),
        iou=nan_mean([o.iou for o in objects]),
        dice=nan_mean([o.dice for o in objects]),
        foreground_iou=shared / (both - shared),
        foreground_dice=2 * shared / both,
    )


def _tracking(
    times: Sequence[Overlaps], lineage: nx.DiGraph | None, reference_lineage: nx.DiGraph | None
) -> Tracking | None:
    if len(times) == 1:
        return None
    told = reference_lineage is not None  # without, a division that is right would count as wrong
    return Tracking(
        identity_measures(times),
        division_measures(times, lineage, reference_lineage) if told else None,
    )

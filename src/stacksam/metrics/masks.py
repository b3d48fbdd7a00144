"""How good a mask is, and what a method without learning would have got.

Everything here is a pure function of arrays: region overlap (:func:`iou`), contour accuracy
(:func:`boundary_f`), the prompts that an evaluation derives from ground truth (:func:`click_of`,
:func:`box_of`, :func:`corrective_click`), and two baselines that any tracker must
beat: the true mask copied to every frame (:func:`copy_baseline`), and threshold, watershed and linking
(:func:`otsu_watershed`, :func:`link_by_overlap`).

References
----------
.. [1] F. Perazzi, J. Pont-Tuset, B. McWilliams, L. Van Gool, M. Gross, A. Sorkine-Hornung,
   "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
.. [2] D. R. Martin, C. C. Fowlkes, J. Malik, "Learning to detect natural image boundaries using local
   brightness, color, and texture cues", IEEE TPAMI 26(5), 2004.
.. [3] N. Otsu, "A threshold selection method from gray-level histograms", IEEE TSMC 9(1), 1979.
.. [4] K. Sofiiuk, I. A. Petrov, A. Konushin, "Reviving Iterative Training with Mask Guidance for Interactive
   Segmentation", ICIP 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from stacksam.errors import InputError

__all__ = [
    "BOUNDARY_TOLERANCE",
    "boundary_f",
    "box_of",
    "click_of",
    "copy_baseline",
    "corrective_click",
    "iou",
    "link_by_overlap",
    "otsu_watershed",
]

BOUNDARY_TOLERANCE = 0.008
"""Distance up to which contour pixels match, as a share of the image diagonal [1]_."""

BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int32]


def iou(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Intersection over union of two masks, 1.0 when both are empty.

    Parameters
    ----------
    a, b : array
        Masks of equal shape; anything but zero is inside.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    a, b = _pair(a, b)
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def boundary_f(a: NDArray[Any], b: NDArray[Any], tolerance: float | None = None) -> float:
    """Boundary F-measure of two masks, as DAVIS defines it [1]_.

    Contour pixels of one mask match when a contour pixel of the other lies within `tolerance`, which
    approximates the bipartite matching of [2]_ as the benchmark does by dilating with a disk. The matched
    shares are precision and recall; the result is their harmonic mean. It is symmetric in `a` and `b`.

    Parameters
    ----------
    a, b : array, shape (H, W)
        Masks; anything but zero is inside.
    tolerance : float, optional
        In pixels; by default ``ceil(0.008 * diagonal)`` of the whole image.

    Returns
    -------
    float
        In 0..1. 1.0 when neither mask has a contour, 0.0 when only one has. As in the benchmark, the image's
        own edge is no contour, so a mask that fills the image has none.

    Raises
    ------
    InputError
        If the shapes differ or are not two-dimensional, or the tolerance is negative.
    """
    a, b = _pair(a, b)
    if a.ndim != 2:
        raise InputError(f"masks have {a.ndim} dimensions; the boundary measure needs frames, shape (H, W)")
    if tolerance is None:
        tolerance = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*a.shape))
    if not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance}; give a distance in pixels, 0 or more")

    # Distances matter at contour pixels only, and those lie within a pixel of a mask: no more is cropped.
    crop = _bounds(a | b, margin=1)
    if crop is None:
        return 1.0
    edge_a, edge_b = _contour(a[crop]), _contour(b[crop])
    if not edge_a.any() or not edge_b.any():
        return float(edge_a.any() == edge_b.any())
    precision = _matched(edge_a, edge_b, tolerance)
    recall = _matched(edge_b, edge_a, tolerance)
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def click_of(mask: NDArray[Any]) -> tuple[int, int]:
    """Pixel ``(y, x)`` of a mask that is farthest from its border; the image's edge is a border too.

    Among equally far pixels it is the first in reading order.

    Raises
    ------
    InputError
        If the mask is empty or not two-dimensional.
    """
    crop = _object_bounds(mask)
    distance = ndimage.distance_transform_edt(np.pad(np.asarray(mask)[crop] != 0, 1))
    y, x = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return int(y) - 1 + crop[0].start, int(x) - 1 + crop[1].start


def corrective_click(truth: NDArray[Any], predicted: NDArray[Any]) -> tuple[tuple[int, int], bool] | None:
    """The click that a person would correct a mask with, by the usual rule of interactive segmentation [4]_.

    It lies on the largest connected region (over edges and corners) that was missed or is too much, on the
    pixel farthest from the region's border.

    Parameters
    ----------
    truth, predicted : array, shape (H, W)
        Masks; anything but zero is inside.

    Returns
    -------
    ((int, int), bool) or None
        Pixel ``(y, x)``, and whether the click is positive (missed) or negative (too much); None where both
        masks are equal.

    Raises
    ------
    InputError
        If the shapes differ or are not two-dimensional.
    """
    truth, predicted = _pair(truth, predicted)
    if truth.ndim != 2:
        raise InputError(f"masks have {truth.ndim} dimensions; give one frame, shape (H, W)")
    largest: tuple[int, BoolArray, bool] | None = None
    for wrong, positive in ((truth & ~predicted, True), (predicted & ~truth, False)):
        regions, _ = ndimage.label(wrong, np.ones((3, 3)))
        sizes = np.bincount(regions.ravel())[1:]
        if sizes.size and (largest is None or sizes.max() > largest[0]):
            largest = int(sizes.max()), regions == int(np.argmax(sizes)) + 1, positive
    return None if largest is None else (click_of(largest[1]), largest[2])


def box_of(mask: NDArray[Any]) -> tuple[int, int, int, int]:
    """Bounding box ``(y0, x0, y1, x1)`` of a mask: its first and last rows and columns, both inclusive.

    Raises
    ------
    InputError
        If the mask is empty or not two-dimensional.
    """
    rows, columns = _object_bounds(mask)
    return rows.start, columns.start, rows.stop - 1, columns.stop - 1


def copy_baseline(mask: NDArray[Any], n_frames: int) -> BoolArray:
    """A mask repeated on every frame, as a read-only view of shape (n_frames, H, W)."""
    mask = np.asarray(mask) != 0
    return np.broadcast_to(mask, (n_frames, *mask.shape))


def otsu_watershed(frame: NDArray[Any], *, min_distance: int = 5) -> IntArray:
    """Segment bright objects: Otsu's threshold [3]_, then a watershed of the distance transform.

    Objects are taken to be brighter than their surroundings, whatever the image; on bright backgrounds
    (phase contrast, stained sections) this finds the background, and the figures show it.

    Parameters
    ----------
    frame : array, shape (H, W) or (H, W, C)
        Any real dtype; channels are averaged. Values that are not finite count as dark.
    min_distance : int
        Least distance in pixels between the seeds of two touching objects.

    Returns
    -------
    array of int32, shape (H, W)
        Segments numbered from 1, 0 where dark; all 0 for a constant frame.
    """
    grey = np.asarray(frame)
    if grey.ndim not in (2, 3):
        raise InputError(f"frame has {grey.ndim} dimensions; give (H, W) or (H, W, C)")
    if grey.ndim == 3:
        grey = grey.mean(axis=-1)
    if grey.dtype == bool:
        grey = grey.astype(np.uint8)
    if np.issubdtype(grey.dtype, np.floating):
        finite = np.isfinite(grey)
        grey = np.where(finite, grey, grey[finite].min() if finite.any() else 0)
    if grey.size == 0 or grey.min() == grey.max():
        return np.zeros(grey.shape, np.int32)

    # scikit-image calls itself typed and is not.
    bright = grey > threshold_otsu(grey)  # type: ignore[no-untyped-call]
    components, _ = ndimage.label(bright)
    distance = ndimage.distance_transform_edt(bright)
    # Peaks are sought within each component, so that none is left without a seed.
    seeds = peak_local_max(  # type: ignore[no-untyped-call]
        distance, min_distance=min_distance, labels=components, exclude_border=False
    )
    markers = np.zeros(grey.shape, np.int32)
    markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    segments: IntArray = watershed(-distance, markers, mask=bright)  # type: ignore[no-untyped-call]
    return segments.astype(np.int32, copy=False)


def link_by_overlap(segments: Sequence[IntArray] | IntArray, mask: NDArray[Any], frame: int) -> BoolArray:
    """Follow an object through frames that were segmented one by one.

    On the prompted frame it is the segment that shares most pixels with `mask`; from there, forwards and
    backwards, the segment that shares most with the one before. Once nothing overlaps it stays lost.

    Parameters
    ----------
    segments : sequence of array of int, shape (T, H, W)
        Label frames, 0 is background; labels need not correspond between frames.
    mask : array, shape (H, W)
        The object on the prompted frame.
    frame : int
        The prompted frame.

    Returns
    -------
    array of bool, shape (T, H, W)
    """
    n_frames = len(segments)
    if not 0 <= frame < n_frames:
        raise InputError(f"frame is {frame}; the stack has frames 0 to {n_frames - 1}")
    start = _largest_overlap(segments[frame], np.asarray(mask) != 0)
    linked = np.zeros((n_frames, *start.shape), bool)
    linked[frame] = start
    for frames in (range(frame + 1, n_frames), range(frame - 1, -1, -1)):
        current = start
        for index in frames:
            current = _largest_overlap(segments[index], current)
            if not current.any():
                break
            linked[index] = current
    return linked


def _pair(a: NDArray[Any], b: NDArray[Any]) -> tuple[BoolArray, BoolArray]:
    """Both masks as bool, checked to be of one shape."""
    a, b = np.asarray(a) != 0, np.asarray(b) != 0
    if a.shape != b.shape:
        raise InputError(f"masks have shapes {a.shape} and {b.shape}; they must be equal")
    return a, b


def _bounds(mask: BoolArray, margin: int = 0) -> tuple[slice, slice] | None:
    """Rows and columns that hold the mask, with a margin clipped to the image; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, mask.shape[0])),
        slice(max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, mask.shape[1])),
    )


def _object_bounds(mask: NDArray[Any]) -> tuple[slice, slice]:
    """Rows and columns of a mask that must hold something."""
    mask = np.asarray(mask) != 0
    if mask.ndim != 2:
        raise InputError(f"mask has {mask.ndim} dimensions; give one frame, shape (H, W)")
    bounds = _bounds(mask)
    if bounds is None:
        raise InputError("mask is empty; a prompt needs an object of one pixel or more")
    return bounds


def _contour(mask: BoolArray) -> BoolArray:
    """Pixels that differ from their right, lower or lower-right neighbour inside the image.

    This half-pixel contour, up and left of the border, is the one the DAVIS figures are made with.
    """
    ahead = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    contour: BoolArray = (mask ^ ahead[:-1, 1:]) | (mask ^ ahead[1:, :-1]) | (mask ^ ahead[1:, 1:])
    return contour


def _matched(edge: BoolArray, other: BoolArray, tolerance: float) -> float:
    """Share of contour pixels that lie within the tolerance of the other contour."""
    distance = ndimage.distance_transform_edt(~other)
    return float(np.count_nonzero(distance[edge] <= tolerance) / np.count_nonzero(edge))


def _largest_overlap(segments: IntArray, mask: BoolArray) -> BoolArray:
    """The segment that shares most pixels with a mask; empty if none shares any."""
    shared = np.bincount(segments[mask].ravel())
    shared[:1] = 0
    if not shared.any():
        return np.zeros(mask.shape, bool)
    found: BoolArray = segments == int(np.argmax(shared))
    return found

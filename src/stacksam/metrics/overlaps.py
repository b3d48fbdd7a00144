"""What two label images share, counted in pixels, and which object of one is which of the other.

Counts of single frames add up to those of a volume or of a whole stack, so a comparison needs one frame in
memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from stacksam.errors import InputError

__all__ = [
    "LARGEST_ID",
    "MATCHES",
    "Match",
    "Overlaps",
    "add_up",
    "assign",
    "count_overlaps",
    "match_objects",
]

LARGEST_ID = 2**32 - 1
"""Largest object id that is counted; files with labels hold no more than 32 bits either."""

Match: TypeAlias = Literal["overlap", "ids"]
MATCHES: tuple[Match, ...] = ("overlap", "ids")

Ints: TypeAlias = NDArray[np.int64]
_SHIFT = np.uint64(32)


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Pixels of the objects of two label images, and of what each pair of them shares.

    Attributes
    ----------
    labels, reference : (N,) and (M,) int64 array
        Ids that are there, ascending, without background.
    label_pixels, reference_pixels : (N,) and (M,) int64 array
        Their sizes.
    pair_label, pair_reference : (K,) int64 array
        Pairs that share a pixel or more, as positions in `labels` and `reference`.
    shared : (K,) int64 array
        Pixels that a pair shares.
    """

    labels: Ints
    reference: Ints
    label_pixels: Ints
    reference_pixels: Ints
    pair_label: Ints
    pair_reference: Ints
    shared: Ints
    _counts: tuple[NDArray[np.uint64], Ints] = field(repr=False)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair."""
        union = self.label_pixels[self.pair_label] + self.reference_pixels[self.pair_reference] - self.shared
        return self.shared / union

    def pairs(self) -> dict[tuple[int, int], int]:
        """Pixels shared, by ``(id in the reference, id in the labels)``."""
        reference, labels = self.reference[self.pair_reference], self.labels[self.pair_label]
        rows = zip(reference.tolist(), labels.tolist(), self.shared.tolist(), strict=True)
        return {(r, label): shared for r, label, shared in rows}


def count_overlaps(labels: NDArray[Any], reference: NDArray[Any], *, where: str = "") -> Overlaps:
    """Count what two label images share.

    Parameters
    ----------
    labels, reference : array of int
        Of one shape; 0 is background. The two sets of ids have nothing to do with each other.
    where : str
        Words for errors, such as ``" on frame 3"``.

    Raises
    ------
    InputError
        If the shapes differ, or values are no whole numbers from 0 to 4294967295.
    """
    labels, reference = _checked(labels, f"labels{where}"), _checked(reference, f"reference{where}")
    if labels.shape != reference.shape:
        raise InputError(
            f"labels have shape {labels.shape} and the reference {reference.shape}{where}; they must be equal"
        )
    inside = (labels != 0) | (reference != 0)
    keys = (labels[inside].astype(np.uint64) << _SHIFT) | reference[inside].astype(np.uint64)
    return _overlaps(*np.unique(keys, return_counts=True))


def add_up(counted: Iterable[Overlaps]) -> Overlaps:
    """Counts of several frames together; of none, nothing."""
    counts = [each._counts for each in counted]
    if not counts:
        return _overlaps(np.zeros(0, np.uint64), np.zeros(0, np.int64))
    keys, back = np.unique(np.concatenate([keys for keys, _ in counts]), return_inverse=True)
    pixels = np.zeros(len(keys), np.int64)
    np.add.at(pixels, back, np.concatenate([pixels for _, pixels in counts]))
    return _overlaps(keys, pixels)


def assign(rows: Ints, columns: Ints, weights: NDArray[Any]) -> Ints:
    """The one-to-one assignment of largest total weight; what gains nothing stays alone.

    Parameters
    ----------
    rows, columns : (K,) array of int, from 0
        Pairs that may be assigned, each pair once.
    weights : (K,) array
        What each is worth, above 0.

    Returns
    -------
    (L,) int64 array
        Positions of the chosen pairs, ascending.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    n_rows, n_columns = int(rows.max()) + 1, int(columns.max()) + 1
    worth = np.asarray(weights, np.float64)
    # Each row also has a column of its own, worth nothing: then all rows can be assigned, which the solver
    # wants. It also takes 0 for "no pair", so costs begin above.
    own = np.arange(n_rows)
    most = worth.max()
    costs = coo_array(
        (
            np.concatenate([2 * most - worth, np.full(n_rows, 2 * most)]),
            (np.concatenate([rows, own]), np.concatenate([columns, n_columns + own])),
        ),
        shape=(n_rows, n_columns + n_rows),
    ).tocsr()
    assigned_rows, assigned_columns = min_weight_full_bipartite_matching(costs)
    chosen = set(zip(assigned_rows.tolist(), assigned_columns.tolist(), strict=True))
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return np.array([k for k, pair in enumerate(pairs) if pair in chosen], np.int64)


def match_objects(total: Overlaps, match: Match = "overlap") -> dict[int, int]:
    """Which object of the labels is which of the reference.

    Parameters
    ----------
    total : Overlaps
        Of the whole stack.
    match : {"overlap", "ids"}
        ``"overlap"``: one-to-one, such that the pixels shared by matched pairs are most in all (the
        assignment problem of Kuhn and Munkres). ``"ids"``: equal ids are the same object.

    Returns
    -------
    dict of int to int
        Id in the labels by id in the reference; objects without a partner are not in it.

    Raises
    ------
    InputError
        If `match` is neither.
    """
    if match == "ids":
        return {object_id: object_id for object_id in np.intersect1d(total.labels, total.reference).tolist()}
    if match != "overlap":
        raise InputError(f"match is {match!r}; choose from {', '.join(MATCHES)}")
    chosen = assign(total.pair_reference, total.pair_label, total.shared)
    reference, labels = total.reference[total.pair_reference[chosen]], total.labels[total.pair_label[chosen]]
    return dict(zip(reference.tolist(), labels.tolist(), strict=True))


def _checked(array: NDArray[Any], what: str) -> NDArray[Any]:
    array = np.asarray(array)
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.floor(array)).all()):
            raise InputError(
                f"{what}: ids must be whole numbers, and some values are fractions or not finite"
            )
    elif array.dtype.kind not in "bui":
        raise InputError(f"{what}: values are {array.dtype}; labels are whole numbers, 0 for background")
    if array.size:
        low, high = array.min(), array.max()
        if low < 0:
            raise InputError(f"{what}: an id is {low}; ids are 0 for background, and above it for objects")
        if high > LARGEST_ID:
            raise InputError(f"{what}: an id is {high}; ids may be up to {LARGEST_ID}")
    return array


def _overlaps(keys: NDArray[np.uint64], pixels: Ints) -> Overlaps:
    """From sorted pairs of ids, that of the labels in the upper bits, and how often each is there."""
    label_ids = (keys >> _SHIFT).astype(np.int64)
    reference_ids = (keys & np.uint64(LARGEST_ID)).astype(np.int64)
    labels, label_at = np.unique(label_ids, return_inverse=True)
    reference, reference_at = np.unique(reference_ids, return_inverse=True)
    label_pixels, reference_pixels = np.zeros(len(labels), np.int64), np.zeros(len(reference), np.int64)
    np.add.at(label_pixels, label_at, pixels)
    np.add.at(reference_pixels, reference_at, pixels)
    # Background is no object; positions of those behind it move up by one.
    skip_label, skip_reference = (
        int(bool(labels.size and not labels[0])),
        int(bool(reference.size and not reference[0])),
    )
    both = (label_ids != 0) & (reference_ids != 0)
    return Overlaps(
        labels=labels[skip_label:],
        reference=reference[skip_reference:],
        label_pixels=label_pixels[skip_label:],
        reference_pixels=reference_pixels[skip_reference:],
        pair_label=label_at[both] - skip_label,
        pair_reference=reference_at[both] - skip_reference,
        shared=pixels[both].astype(np.int64),
        _counts=(keys, pixels.astype(np.int64)),
    )

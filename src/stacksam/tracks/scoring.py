"""How well divisions were found, against a truth of labels and links.

A true division is found if one was said within some frames of it, and its parent and daughters are the true
ones. Who is who is told by the overlap of masks: parents on the last frame before both divisions, daughters
on the first frame on which all are there. It is the branching correctness BC(i) of Ulman et al. ("An
objective comparison of cell-tracking algorithms", Nature Methods 2017), but with masks matched by their IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.tracks.evidence import Known, from_labels

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["DivisionScores", "division_scores"]

Labels = Sequence[NDArray[Any]] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class DivisionScores:
    """Divisions counted.

    Attributes
    ----------
    right : tuple of (int, int)
        Id of the true parent and of the one that was found, for each division that was found.
    missed, wrong : tuple of int
        Ids of true parents whose division was not found, and of parents that were said to divide and do not.
    """

    right: tuple[tuple[int, int], ...]
    missed: tuple[int, ...]
    wrong: tuple[int, ...]

    @property
    def precision(self) -> float:
        """Share of divisions that are right among those said; 1 where there are none."""
        said = len(self.right) + len(self.wrong)
        return len(self.right) / said if said else 1.0

    @property
    def recall(self) -> float:
        """Share of true divisions that were found; 1 where there are none."""
        true = len(self.right) + len(self.missed)
        return len(self.right) / true if true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where there is nothing to be found, or said."""
        total = 2 * len(self.right) + len(self.wrong) + len(self.missed)
        return 2 * len(self.right) / total if total else 1.0


def division_scores(
    labels: Labels,
    lineage: nx.DiGraph,
    true_labels: Labels,
    true_lineage: nx.DiGraph,
    *,
    tolerance: int = 1,
    iou: float = 0.5,
) -> DivisionScores:
    """Count the divisions that were found, missed, and said wrongly.

    Parameters
    ----------
    labels, true_labels : (T, H, W) int array, or sequence of (H, W) int array
        Object ids, 0 is background.
    lineage, true_lineage : networkx.DiGraph
        Edges from parent to daughter. A parent with two daughters or more divides, on the first frame of the
        first of them.
    tolerance : int
        Frames that a division may be early or late.
    iou : float
        Least intersection over union of masks that are of the same cell, above 0.

    Raises
    ------
    InputError
        If there are not as many frames of both, or a number is out of range.
    """
    if len(labels) != len(true_labels):
        raise InputError(
            f"there are {len(labels)} frames of labels and {len(true_labels)} true ones; give as many"
        )
    if tolerance < 0 or not 0 < iou <= 1:
        raise InputError(f"tolerance is {tolerance} and iou {iou}; use 0 or more, and above 0 up to 1")
    found, true = from_labels(labels, lineage), from_labels(true_labels, true_lineage)
    left, right, missed = _divisions(found, lineage), [], []
    for parent, (frame, daughters) in _divisions(true, true_lineage).items():
        for other, (when, said) in left.items():
            if abs(when - frame) <= tolerance and _same(
                true, found, (parent, *daughters), (other, *said), min(frame, when) - 1, iou
            ):
                right.append((parent, other))
                del left[other]
                break
        else:
            missed.append(parent)
    return DivisionScores(tuple(right), tuple(missed), tuple(left))


def _divisions(known: Known, lineage: nx.DiGraph) -> dict[int, tuple[int, list[int]]]:
    """Frame and daughters of each division, by parent."""
    found = {}
    for parent in lineage.nodes:
        daughters = [d for d in sorted(lineage.successors(parent)) if d in known.seen]
        if len(daughters) >= 2:
            found[parent] = min(known.seen[d][0] for d in daughters), daughters
    return found


def _same(
    true: Known, found: Known, one: tuple[int, ...], other: tuple[int, ...], before: int, iou: float
) -> bool:
    """Whether parents, which come first, and all daughters are the same cells."""
    seen = [f for f in true.seen.get(one[0], ()) if f <= before]
    if not seen or not _iou(true, found, one[0], other[0], seen[-1]) >= iou:
        return False
    begin = max(*(true.seen[d][0] for d in one[1:]), *(found.seen[d][0] for d in other[1:]))
    table = np.array([[_iou(true, found, a, b, begin) for b in other[1:]] for a in one[1:]]) >= iou
    return table.shape[0] == table.shape[1] and bool(table.any(axis=0).all() and table.any(axis=1).all())


def _iou(true: Known, found: Known, one: int, other: int, frame: int) -> float:
    a, b = true.part(one, frame), found.part(other, frame)
    if a is None or b is None:
        return 0.0
    shared = a.shared(b)
    return shared / (a.area + b.area - shared)

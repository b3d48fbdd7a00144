"""How well objects were linked through time: Cell Tracking Challenge, identities, divisions.

All of it rests on the detection test of the challenge [1]_: an object of the labels *is* an object of the
reference on a time point if it covers more than half of it. That also holds for references that are markers,
smaller than the cells.

References
----------
.. [1] P. Matula, M. Maška, D. V. Sorokin, P. Matula, C. Ortiz-de-Solórzano, M. Kozubek, "Cell Tracking
   Accuracy Measurement Based on Comparison of Acyclic Oriented Graphs", PLoS ONE 10(12), 2015.
.. [2] M. Maška, V. Ulman, P. Delgado-Rodriguez et al., "The Cell Tracking Challenge: 10 years of objective
   benchmarking", Nature Methods 20, 2023.
.. [3] E. Ristani, F. Solera, R. Zou, R. Cucchiara, C. Tomasi, "Performance Measures and a Data Set for
   Multi-Target, Multi-Camera Tracking", ECCV Workshops 2016.
.. [4] K. Bernardin, R. Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT
   Metrics", EURASIP Journal on Image and Video Processing, 2008.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.metrics.overlaps import Overlaps, assign

__all__ = [
    "Ctc",
    "Divisions",
    "Identity",
    "ctc_measures",
    "division_measures",
    "identity_measures",
    "spans_of",
]


@dataclass(frozen=True, slots=True)
class Ctc:
    """Measures of the Cell Tracking Challenge [2]_; NaN for what is not defined.

    Attributes
    ----------
    seg : float
        Mean IoU of the objects of the reference with what covers more than half of them, else 0.
    det, tra, lnk : float
        ``1 - min(cost, cost0) / cost0`` of the weighted operations that turn the computed graph into the
        reference's, and of those that make the latter from nothing: of vertices, of all, of edges. `tra` and
        `lnk` are NaN with a single time point, `lnk` also where the reference has no links.
    operations : dict of str to int
        Vertices to be split (NS), added (FN), deleted (FP), edges to be deleted (ED), added (EA), and altered
        in kind (EC).
    """

    seg: float
    det: float
    tra: float
    lnk: float
    operations: dict[str, int]


@dataclass(frozen=True, slots=True)
class Identity:
    """How long objects keep their ids.

    Attributes
    ----------
    id_switches : int
        Times that an object of the reference is found under another id than when it was last found [4]_.
    idf1, id_precision, id_recall : float
        Share of detections under the right id, ids matched one-to-one for the whole stack such that it is
        largest [3]_.
    """

    id_switches: int
    idf1: float
    id_precision: float
    id_recall: float


@dataclass(frozen=True, slots=True)
class Divisions:
    """Divisions found; see :func:`division_measures`. All shares are NaN where there is nothing to find."""

    true_positives: int
    false_positives: int
    false_negatives: int
    precision: float
    recall: float
    f1: float


def spans_of(present: Sequence[NDArray[Any]]) -> dict[int, tuple[int, int]]:
    """First and last time point of each object.

    Parameters
    ----------
    present : sequence of (N,) int array
        The ids of each time point.
    """
    spans: dict[int, tuple[int, int]] = {}
    for time, ids in enumerate(present):
        for object_id in ids.tolist():
            spans[object_id] = (spans.get(object_id, (time, time))[0], time)
    return spans


def ctc_measures(
    times: Sequence[Overlaps],
    lineage: nx.DiGraph | None = None,
    reference_lineage: nx.DiGraph | None = None,
    *,
    seg_times: Sequence[Overlaps] | None = None,
) -> Ctc:
    """SEG, DET, TRA and LNK, by the challenge's own ``py-ctcmetrics``.

    An object that is gone for some time points and comes back under its id is two tracks in the challenge's
    format, the second the daughter of the first; so it is here, in both graphs.

    Parameters
    ----------
    times : sequence of Overlaps
        One for each time point.
    lineage, reference_lineage : networkx.DiGraph, optional
        Checked against the labels (:func:`stacksam.io.lineage.check_lineage`); no links by default.
    seg_times : sequence of Overlaps, optional
        What SEG is computed from, where the reference has other masks for it.

    Raises
    ------
    InputError
        If ``py-ctcmetrics`` is not installed.
    """
    try:
        from ctc_metrics.metrics import det, lnk, seg, tra
        from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations
    except ImportError as error:
        raise InputError(
            "the measures of the Cell Tracking Challenge need the package py-ctcmetrics: "
            'pip install "napari-stacksam[evaluate]"'
        ) from error
    seg_covered = [_covered(time) for time in (times if seg_times is None else seg_times)]
    seg_value = seg(
        [time.reference.tolist() for time in (times if seg_times is None else seg_times)],
        [found.iou.tolist() for found in seg_covered],
    )
    n_reference = sum(len(time.reference) for time in times)
    if not n_reference:
        raise InputError("the reference has no object on any frame; there is nothing to compare with")
    tracks, labels, names = _tracks([time.labels for time in times], lineage)
    true_tracks, truth, true_names = _tracks([time.reference for time in times], reference_lineage)
    if not any(labels):  # which the package does not foresee
        edges = _n_edges(true_tracks, truth)
        operations = {"NS": 0, "FN": n_reference, "FP": 0, "ED": 0, "EA": edges, "EC": 0}
        many = len(times) > 1
        return Ctc(seg_value, 0.0, 0.0 if many else math.nan, 0.0 if edges else math.nan, operations)
    covered = [_covered(time) for time in times]
    counted = count_acyclic_graph_correction_operations(
        true_tracks if len(times) > 1 else None,
        tracks if len(times) > 1 else None,
        truth,
        labels,
        [[true_names[t][i] for i in found.reference.tolist()] for t, found in enumerate(covered)],
        [[names[t][i] for i in found.labels.tolist()] for t, found in enumerate(covered)],
    )
    return Ctc(
        seg=seg_value,
        det=det(**counted),
        tra=tra(**counted)[0] if len(times) > 1 else math.nan,
        lnk=lnk(**counted) if counted["num_edges"] else math.nan,
        operations={name: int(counted[name]) for name in ("NS", "FN", "FP", "ED", "EA", "EC")},
    )


def identity_measures(times: Sequence[Overlaps]) -> Identity:
    """Id switches, and detections under the right id.

    Parameters
    ----------
    times : sequence of Overlaps
        One for each time point.
    """
    switches = 0
    last: dict[int, int] = {}
    together: Counter[tuple[int, int]] = Counter()
    for time in times:
        found = _covered(time)
        for reference, label in zip(found.reference.tolist(), found.labels.tolist(), strict=True):
            switches += last.get(reference, label) != label
            last[reference] = label
            together[reference, label] += 1
    pairs = np.array(list(together), np.int64).reshape(-1, 2)
    counts = np.array(list(together.values()), np.int64)
    rows, columns = (np.unique(ids, return_inverse=True)[1] for ids in pairs.T)
    right = int(counts[assign(rows, columns, counts)].sum())
    n_labels = sum(len(time.labels) for time in times)
    n_reference = sum(len(time.reference) for time in times)
    return Identity(
        id_switches=switches,
        idf1=_share(2 * right, n_labels + n_reference),
        id_precision=_share(right, n_labels),
        id_recall=_share(right, n_reference),
    )


def division_measures(
    times: Sequence[Overlaps],
    lineage: nx.DiGraph | None,
    reference_lineage: nx.DiGraph | None,
    *,
    tolerance: int = 1,
) -> Divisions:
    """Which divisions were found.

    A division is an object with two daughters or more, and happens when the first daughter begins. One of the
    reference is found if there is one in the labels, at most `tolerance` time points away, where the parent
    covers the reference's parent on the last time point that has both of them, and as many daughters, each a
    different one, cover the reference's daughters on the first time point that has both. Each division of the
    labels counts once.

    Parameters
    ----------
    times : sequence of Overlaps
        One for each time point.
    lineage, reference_lineage : networkx.DiGraph or None
        Checked against the labels.
    tolerance : int
        In time points.
    """
    spans = spans_of([time.labels for time in times])
    true_spans = spans_of([time.reference for time in times])
    covers = []
    for time in times:
        found = _covered(time)
        covers.append(set(zip(found.reference.tolist(), found.labels.tolist(), strict=True)))
    computed, true = _dividing(lineage, spans), _dividing(reference_lineage, true_spans)
    pairs = [
        (i, j)
        for i, (true_parent, true_daughters, true_time) in enumerate(true)
        for j, (parent, daughters, time) in enumerate(computed)
        if abs(time - true_time) <= tolerance
        and (true_parent, parent) in covers[min(true_spans[true_parent][1], spans[parent][1])]
        and _same_daughters(true_daughters, daughters, true_spans, spans, covers)
    ]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    tp = len(assign(rows, columns, np.ones(len(rows))))
    fp, fn = len(computed) - tp, len(true) - tp
    return Divisions(tp, fp, fn, _share(tp, tp + fp), _share(tp, tp + fn), _share(2 * tp, 2 * tp + fp + fn))


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Objects of the reference that are covered, by which of the labels, and their IoU."""

    reference: NDArray[np.int64]
    labels: NDArray[np.int64]
    iou: NDArray[np.float64]


def _covered(time: Overlaps) -> _Found:
    """The detection test; no object can be covered by two."""
    over = np.flatnonzero(2 * time.shared > time.reference_pixels[time.pair_reference])
    return _Found(
        time.reference[time.pair_reference[over]], time.labels[time.pair_label[over]], time.iou[over]
    )


def _tracks(
    present: Sequence[NDArray[np.int64]], lineage: nx.DiGraph | None
) -> tuple[NDArray[np.int64], list[list[int]], list[dict[int, int]]]:
    """Tracks without gaps, as rows ``(track, first, last, parent)``; and tracks of each time point.

    The last is, for each time point, the track of each object id.
    """
    rows: list[list[int]] = []
    first: dict[int, int] = {}  # object id -> its first track, counted from 1
    latest: dict[int, int] = {}
    names: list[dict[int, int]] = []
    for time, ids in enumerate(present):
        here = {}
        for object_id in ids.tolist():
            track = latest.get(object_id, 0)
            if not track or rows[track - 1][2] != time - 1:
                rows.append([len(rows) + 1, time, time, track])
                track = len(rows)
                first.setdefault(object_id, track)
            rows[track - 1][2] = time
            latest[object_id] = here[object_id] = track
        names.append(here)
    for parent, daughter in () if lineage is None else lineage.edges:
        rows[first[daughter] - 1][3] = latest[parent]
    # Ascending, as a list of the ids of an image is.
    return np.array(rows, np.int64).reshape(-1, 4), [sorted(here.values()) for here in names], names


def _n_edges(tracks: NDArray[np.int64], present: Sequence[list[int]]) -> int:
    """Links of a graph: from each time point to the next, and from parents to daughters."""
    return sum(map(len, present)) - len(tracks) + int(np.count_nonzero(tracks[:, 3]))


def _dividing(
    lineage: nx.DiGraph | None, spans: Mapping[int, tuple[int, int]]
) -> list[tuple[int, list[int], int]]:
    """Parent, daughters and time point of each division."""
    found = []
    if lineage is None:
        return []
    for parent in lineage.nodes:
        daughters = sorted(int(daughter) for daughter in lineage.successors(parent))
        if len(daughters) > 1:
            found.append((int(parent), daughters, min(spans[daughter][0] for daughter in daughters)))
    return found


def _same_daughters(
    true: Sequence[int],
    daughters: Sequence[int],
    true_spans: Mapping[int, tuple[int, int]],
    spans: Mapping[int, tuple[int, int]],
    covers: Sequence[set[tuple[int, int]]],
) -> bool:
    """Whether each daughter of one division is one of the other's."""
    if len(true) != len(daughters):
        return False
    pairs = [
        (i, j)
        for i, expected in enumerate(true)
        for j, daughter in enumerate(daughters)
        if (expected, daughter) in covers[max(true_spans[expected][0], spans[daughter][0])]
    ]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return len(assign(rows, columns, np.ones(len(rows)))) == len(true)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan

"""Lineages: generations and descendants, when objects appear and leave, and what to draw of it.

A lineage is a :class:`networkx.DiGraph`: nodes are object ids, an edge goes from parent to daughter, and each
node has one parent at most. First and last frames are not in it; they follow from where objects are seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.io.lineage import Spans, check_lineage, parents
from stacksam.io.lineage import generations as _generations

if TYPE_CHECKING:
    import networkx as nx

    from stacksam.session.scores import FrameScores

__all__ = [
    "Event",
    "check_lineage",
    "descendants",
    "events",
    "generations",
    "roots",
    "seen_frames",
    "spans_of",
    "tracks_data",
]

EventKind = Literal["appears", "is born", "divides", "is lost", "returns", "leaves"]


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """Something that happens to an object.

    Attributes
    ----------
    frame : int
    object_id : int
    kind : {"appears", "is born", "divides", "is lost", "returns", "leaves"}
        Born objects have a parent, others appear. The frame is the first on which the object is seen, or seen
        again; for those that divide, the first frame of a daughter; and for those that are lost or leave, the
        first on which they are not seen any more. What is lost returns.
    """

    frame: int
    object_id: int
    kind: EventKind


def roots(lineage: nx.DiGraph) -> tuple[int, ...]:
    """Objects without a parent, in order."""
    return tuple(sorted(int(node) for node, degree in lineage.in_degree if degree == 0))


def generations(lineage: nx.DiGraph) -> dict[int, int]:
    """How many divisions lie before each object: 0 for those without a parent."""
    return _generations(lineage, {int(node): None for node in lineage.nodes})


def descendants(lineage: nx.DiGraph, object_id: int) -> tuple[int, ...]:
    """Daughters of an object, their daughters, and so on, in order.

    Raises
    ------
    InputError
        If the lineage does not have the object.
    """
    import networkx as nx

    if object_id not in lineage:
        raise InputError(f"there is no object {object_id!r} in the lineage")
    return tuple(sorted(int(node) for node in nx.descendants(lineage, object_id)))


def seen_frames(scores: Mapping[int, FrameScores]) -> dict[int, list[int]]:
    """Of each object: frames on which its mask is not empty; from :meth:`stacksam.Session.all_scores`."""
    return {i: [int(f) for f in own.frames[own.area > 0]] for i, own in scores.items()}


def spans_of(seen: Mapping[int, Iterable[int]]) -> dict[int, tuple[int, int]]:
    """First and last frame of each object that is seen on any."""
    frames = {object_id: sorted(own) for object_id, own in seen.items()}
    return {object_id: (own[0], own[-1]) for object_id, own in frames.items() if own}


def events(
    seen: Mapping[int, Iterable[int]], n_frames: int, lineage: nx.DiGraph | None = None
) -> list[Event]:
    """What happens to objects: when they come, go, divide, and are out of sight.

    Parameters
    ----------
    seen : mapping of int to iterable of int
        Of each object: frames on which it is seen, as from :func:`seen_frames`.
    n_frames : int
        Of the stack. What is there on the first frame has not appeared, and what is there on the last one has
        not left.
    lineage : networkx.DiGraph, optional

    Returns
    -------
    list of Event
        By frame and object.

    Raises
    ------
    InputError
        If an object is seen outside the stack, or the lineage does not fit.
    """
    spans = spans_of(seen)
    for object_id, (first, last) in spans.items():
        if first < 0 or last >= n_frames:
            raise InputError(
                f"object {object_id} is seen on frames {first} to {last}; the stack has 0 to {n_frames - 1}"
            )
    shown = None if lineage is None else lineage.subgraph(set(spans))
    check_lineage(shown, spans)
    above = parents(shown)
    first_born: dict[int, int] = {}
    for daughter, parent in above.items():
        first_born[parent] = min(first_born.get(parent, n_frames), spans[daughter][0])
    found = [Event(frame, parent, "divides") for parent, frame in first_born.items()]
    for object_id, (first, last) in spans.items():
        if object_id in above:
            found.append(Event(first, object_id, "is born"))
        elif first > 0:
            found.append(Event(first, object_id, "appears"))
        frames = np.array(sorted(set(seen[object_id])))
        for gap in np.flatnonzero(np.diff(frames) > 1):
            found.append(Event(int(frames[gap]) + 1, object_id, "is lost"))
            found.append(Event(int(frames[gap + 1]), object_id, "returns"))
        if last < n_frames - 1 and object_id not in first_born:
            found.append(Event(last + 1, object_id, "leaves"))
    return sorted(found)


def tracks_data(
    scores: Mapping[int, FrameScores], lineage: nx.DiGraph | None = None
) -> tuple[NDArray[np.float64], dict[int, list[int]]]:
    """What a Tracks layer of napari takes.

    Parameters
    ----------
    scores : mapping of int to FrameScores
        From :meth:`stacksam.Session.all_scores`.
    lineage : networkx.DiGraph, optional

    Returns
    -------
    data : (N, 4) float64 array
        ``id, frame, y, x`` of each mask's centroid in frame pixels, by id and frame. Where an object is not
        seen, there is no row.
    graph : dict of int to list of int
        Daughter -> its parent, for those of which both are seen.
    """
    rows: list[NDArray[np.float64]] = [np.zeros((0, 4))]
    for object_id in sorted(scores):
        own = scores[object_id]
        seen = own.area > 0
        ids = np.full(int(seen.sum()), float(object_id))
        rows.append(np.column_stack([ids, own.frames[seen], own.centroid[seen]]))
    data: NDArray[np.float64] = np.concatenate(rows)
    shown = set(data[:, 0].astype(int).tolist())
    links = parents(lineage)
    graph = {d: [links[d]] for d in sorted(links) if d in shown and links[d] in shown}
    return data, graph


def rows_of(lineage: nx.DiGraph | None, spans: Spans) -> tuple[dict[int, float], int]:
    """Where each object has its line in a tree: families one below the other, a parent amid its daughters.

    Returns
    -------
    dict of int to float
        Row of each object, from 0.
    int
        How many rows there are: as many as objects without daughters.
    """
    above, daughters = parents(lineage), dict[int, list[int]]()
    for daughter in sorted(above, key=lambda i: (spans[i][0], i)):
        daughters.setdefault(above[daughter], []).append(daughter)
    rows: dict[int, float] = {}
    count = 0
    # Families may be deeper than Python's stack of calls.
    todo: list[tuple[int, bool]] = [
        (i, False)
        for i in sorted(spans, key=lambda i: (i not in daughters, spans[i][0], i), reverse=True)
        if i not in above
    ]
    while todo:
        at, below_done = todo.pop()
        below = daughters.get(at, [])
        if below_done:
            rows[at] = (rows[below[0]] + rows[below[-1]]) / 2
        elif below:
            todo.append((at, True))
            todo += [(daughter, False) for daughter in reversed(below)]
        else:
            rows[at] = float(count)
            count += 1
    return rows, count

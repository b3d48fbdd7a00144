"""Lineages that a file can hold: who is whose daughter, checked against the frames where each was seen.

A lineage is a :class:`networkx.DiGraph`: nodes are object ids, an edge goes from parent to daughter. Where an
object begins and ends is not written in it; that follows from the labels and is given as spans.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stacksam.errors import InputError, StackError

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Spans", "check_lineage", "generations", "parents", "read_lineage", "seen_part"]

Spans = Mapping[int, tuple[int, int]]
"""Object id -> first and last frame where the labels show it, both included."""

_SHOWN = 5  # ids named in an error


def check_lineage(lineage: nx.DiGraph | None, spans: Spans) -> None:
    """See that a lineage is one, and fits the labels.

    Parameters
    ----------
    lineage : networkx.DiGraph or None
        Nodes are object ids, edges go from parent to daughter. None, or no edges, is a lineage without
        divisions. Objects that are not in it have no parent.
    spans : mapping of int to (int, int)
        First and last frame of each object of the labels, both included.

    Raises
    ------
    InputError
        If it is no directed graph; a node is no object id, or not in the labels; an object has two
        parents, or is its own ancestor; or a daughter does not begin after its parent was last there.
    """
    if lineage is None:
        return
    _check_graph(lineage)
    _check_nodes(lineage, spans)
    for daughter in lineage.nodes:
        above = sorted(lineage.predecessors(daughter))
        if len(above) > 1:
            raise InputError(
                f"object {daughter} has {len(above)} parents in the lineage ({_listed(above)}); "
                "an object has one at most: remove the wrong links"
            )
    _check_cycles(lineage)
    for parent, daughter in lineage.edges:
        last, first = spans[parent][1], spans[daughter][0]
        if first <= last:
            raise InputError(
                f"object {daughter} begins on frame {first}, but its parent {parent} is there until frame "
                f"{last}; a daughter begins after its parent was last seen: end the parent before it, give "
                "what comes later another id, or remove the link"
            )


def seen_part(lineage: nx.DiGraph | None, seen: Collection[int]) -> nx.DiGraph | None:
    """A lineage without objects that the labels never show; a copy, or None where no link is left."""
    if lineage is None:
        return None
    part = lineage.subgraph([node for node in lineage if node in seen]).copy()
    return part if part.number_of_edges() else None


def read_lineage(path: str | os.PathLike[str]) -> nx.DiGraph:
    """Read a lineage from a table.

    Parameters
    ----------
    path : path
        A CSV file whose header has ``object_id`` and ``parent`` (0 or nothing: none), as a table of
        measurements does; or a track table of the Cell Tracking Challenge, lines of ``L B E P``.

    Returns
    -------
    networkx.DiGraph
        All objects of the table, edges from parent to daughter.

    Raises
    ------
    StackError
        If it cannot be read.
    InputError
        If it is no such table, or an object has two parents in it.
    """
    import networkx as nx

    source = Path(path)
    lineage = nx.DiGraph()
    if source.suffix.lower() != ".csv":
        from stacksam.io.ctc import read_track_table

        for label, _, _, parent in read_track_table(source):
            lineage.add_node(label)
            if parent:
                lineage.add_edge(parent, label)
        return lineage
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StackError(f"cannot read {source}: {error}") from error
    above: dict[int, int] = {}
    for number, row in enumerate(rows, 2):
        try:
            object_id, parent = int(row["object_id"]), int(row["parent"] or 0)
        except KeyError as error:
            raise InputError(f"{source} has no column {error}; a lineage has object_id and parent") from None
        except (TypeError, ValueError):
            raise InputError(
                f"{source}, line {number}: object_id and parent are to be whole numbers"
            ) from None
        if above.setdefault(object_id, parent) != parent:
            raise InputError(
                f"{source}, line {number}: object {object_id} has the parent {parent} here and "
                f"{above[object_id]} before; an object has one at most"
            )
    lineage.add_nodes_from(above)
    lineage.add_edges_from((parent, object_id) for object_id, parent in above.items() if parent)
    return lineage


def parents(lineage: nx.DiGraph | None) -> dict[int, int]:
    """Daughter -> parent, for all that have one; of a lineage that was checked."""
    return {} if lineage is None else {int(daughter): int(parent) for parent, daughter in lineage.edges}


def generations(lineage: nx.DiGraph | None, ids: Mapping[int, object] | set[int]) -> dict[int, int]:
    """How many divisions lie before each object: 0 for those without a parent.

    Parameters
    ----------
    lineage : networkx.DiGraph or None
        One that was checked.
    ids : collection of int
        The objects wanted.
    """
    above = parents(lineage)
    found: dict[int, int] = {}
    for object_id in ids:
        line = []
        at: int | None = object_id
        while at is not None and at not in found:
            line.append(at)
            at = above.get(at)
        generation = -1 if at is None else found[at]
        for each in reversed(line):
            generation += 1
            found[each] = generation
    return {object_id: found[object_id] for object_id in ids}


def _check_graph(lineage: nx.DiGraph) -> None:
    is_directed = getattr(lineage, "is_directed", None)
    if is_directed is None or not is_directed():
        raise InputError(
            f"the lineage is a {type(lineage).__name__}; it must be a networkx.DiGraph with edges from "
            "parent to daughter"
        )
    if lineage.is_multigraph():
        raise InputError("the lineage is a multigraph; a networkx.DiGraph has one edge a pair")


def _check_nodes(lineage: nx.DiGraph, spans: Spans) -> None:
    # A bool is an int to Python, and no object id to anybody.
    odd = [
        n for n in lineage.nodes if isinstance(n, bool) or not hasattr(n, "__index__") or n.__index__() < 1
    ]
    if odd:
        raise InputError(
            f"the lineage has the node {odd[0]!r}; nodes are object ids: whole numbers from 1 on"
        )
    missing = sorted(n for n in lineage.nodes if n not in spans)
    if missing:
        raise InputError(
            f"the lineage names {_listed(missing)}, which the labels do not show on any frame; "
            "remove them from the lineage"
        )


def _check_cycles(lineage: nx.DiGraph) -> None:
    """With one parent each, following parents comes to an end or back to where it began."""
    above = parents(lineage)
    good: set[int] = set()
    for start in above:
        line: dict[int, None] = {}  # ordered, and quick to look in
        at: int | None = start
        while at is not None and at not in good:
            if at in line:
                ids = list(line)
                circle = [*ids[ids.index(at) :], at]
                raise InputError(
                    f"the lineage goes in a circle: {' -> '.join(map(str, reversed(circle)))}; "
                    "remove one of these links"
                )
            line[at] = None
            at = above.get(at)
        good.update(line)


def _listed(ids: list[int]) -> str:
    named = ", ".join(map(str, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
    return f"{'object' if len(ids) == 1 else 'objects'} {named}"

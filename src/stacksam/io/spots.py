"""Objects as points that are linked through time, which is how graph formats and TrackMate see tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.io.label_stack import LabelStack, Objects, objects_on
from stacksam.io.lineage import parents

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["SpotTable", "Spots"]


class Spots(NamedTuple):
    """One row for each object on each frame, in order of frames, then ids.

    Attributes
    ----------
    frames, ids, pixels : (n,) array of int
    yx : (n, 2) array of float
        Centroids in pixels.
    links : (m, 2) array of int
        Rows from and to: an object's own, from each frame that shows it to the next that does, and from a
        parent's last to its daughters' first.
    families : (n,) array of int
        The first ancestor of each object.
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    pixels: NDArray[np.int64]
    yx: NDArray[np.float64]
    links: NDArray[np.int64]
    families: NDArray[np.int64]


class SpotTable:
    """Gathers the spots of a time-lapse while its frames go by.

    Parameters
    ----------
    labels : LabelStack
    lineage : networkx.DiGraph, optional
    what : str
        The format, for errors.

    Raises
    ------
    InputError
        If frames lie along z, or the lineage does not fit.
    """

    def __init__(self, labels: LabelStack, lineage: nx.DiGraph | None, what: str) -> None:
        if labels.frame_axis != "t":
            raise InputError(f"{labels.name} has frames along z; {what} has tracks through time")
        labels.check(lineage)
        self._labels = labels
        self._parents = parents(lineage)
        self._frames: list[tuple[int, Objects]] = []

    def __len__(self) -> int:
        return sum(seen.frames for seen in self._labels.survey.values())

    def walk(self) -> Iterator[tuple[int, NDArray[Any], Objects]]:
        """Each frame: its number, labels and objects."""
        for number in range(self._labels.n_frames):
            frame = self._labels.frame(number)
            found = objects_on(frame)
            self._frames.append((number, found))
            yield number, frame, found

    def done(self) -> Spots:
        """The spots, when all frames went by."""
        counts = [len(found.ids) for _, found in self._frames]
        frames = np.repeat([number for number, _ in self._frames], counts).astype(np.int64)
        ids = np.concatenate([found.ids for _, found in self._frames])
        order = np.lexsort((frames, ids))
        starts = np.flatnonzero(np.diff(ids[order], prepend=-1))
        ends = np.append(starts[1:], len(order))[: len(starts)] - 1
        first = {int(ids[order[k]]): int(order[k]) for k in starts}
        last = {int(ids[order[k]]): int(order[k]) for k in ends}
        own = np.stack([order[:-1], order[1:]], axis=1)[ids[order[:-1]] == ids[order[1:]]]
        born = [(last[parent], first[daughter]) for daughter, parent in self._parents.items()]
        links = np.concatenate([own, np.array(born, np.int64).reshape(-1, 2)])
        return Spots(
            frames,
            ids,
            np.concatenate([found.pixels for _, found in self._frames]),
            np.concatenate([found.centroids for _, found in self._frames]),
            links[np.lexsort((links[:, 1], links[:, 0]))],
            self._families(ids),
        )

    def _families(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        root: dict[int, int] = {}
        for object_id in self._labels.survey:
            line = [object_id]
            while line[-1] not in root and line[-1] in self._parents:
                line.append(self._parents[line[-1]])
            top = root.get(line[-1], line[-1])
            root.update(dict.fromkeys(line, top))
        known, inverse = np.unique(ids, return_inverse=True)
        return np.array([root[i] for i in known.tolist()], np.int64)[inverse]

"""What is known of objects in four dimensions, in a log with a line for each time point that is complete.

A line is written after the labels of its time point. So the labels hold all that the log tells of, and what
was being computed when a run was stopped is computed again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stacksam.errors import SessionFileError
from stacksam.io._complete import storage_error

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Log", "Told", "Track"]


@dataclass(slots=True)
class Track:
    """One object.

    Attributes
    ----------
    seen : dict of int to (int, int)
        First and last plane at each time point at which it is seen.
    voxels : dict of int to int
        Its volume there.
    scores : dict of int to float
    lost : set of int
        Time points at which it was looked for and not found.
    parent : int or None
    daughters : tuple of int
    """

    seen: dict[int, tuple[int, int]] = field(default_factory=dict)
    voxels: dict[int, int] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    parent: int | None = None
    daughters: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What a step found at one time point.

    Attributes
    ----------
    time, step : int
        Step is 1 forward and -1 backward in time.
    objects : dict of int to dict
        ``extent``, ``voxels`` and ``score`` of those that are seen.
    lost : tuple of int
    links : tuple of (int, int)
        Parents and daughters, of divisions that were found.
    """

    time: int
    step: int
    objects: dict[int, dict[str, Any]]
    lost: tuple[int, ...] = ()
    links: tuple[tuple[int, int], ...] = ()

    def to_line(self) -> str:
        """As one line of JSON."""
        data = {
            "time": self.time,
            "step": self.step,
            "objects": self.objects,
            "lost": self.lost,
            "links": self.links,
        }
        return json.dumps(data) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Told:
        """Undo :meth:`to_line`."""
        data = json.loads(line)
        objects = {int(i): dict(one) for i, one in data["objects"].items()}
        links = tuple((int(parent), int(daughter)) for parent, daughter in data["links"])
        return cls(int(data["time"]), int(data["step"]), objects, tuple(map(int, data["lost"])), links)


class Log:
    """The log of a folder, and the tracks that follow from it.

    Raises
    ------
    SessionFileError
        If a line is damaged, other than the last one, which a kill may have torn.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tracks: dict[int, Track] = {}
        self.done: set[tuple[int, int]] = set()
        if not path.exists():
            return
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise SessionFileError(f"cannot read {path}: {error}") from error
        whole = [line for line in lines if line.endswith("\n")]
        for number, line in enumerate(whole, 1):
            try:
                self._take(Told.from_line(line))
            except (KeyError, TypeError, ValueError) as error:
                raise SessionFileError(
                    f"line {number} of {path} is damaged: {error!r}; remove the folder and start afresh"
                ) from error
        if len(whole) < len(lines):
            self._write("".join(whole))

    def append(self, told: Told) -> None:
        """Write a line.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(told.to_line())
        except OSError as error:
            raise storage_error(self.path, error, "time points before are kept") from error
        self._take(told)

    @property
    def next_id(self) -> int:
        """An id after all that were used."""
        return max(self.tracks, default=0) + 1

    @property
    def lineage(self) -> nx.DiGraph:
        """All objects that were seen, and edges from parents to daughters."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from(sorted(i for i, track in self.tracks.items() if track.seen))
        graph.add_edges_from((p, d) for p in sorted(self.tracks) for d in self.tracks[p].daughters)
        return graph

    def _take(self, told: Told) -> None:
        for object_id, one in told.objects.items():
            track = self.tracks.setdefault(object_id, Track())
            first, last = one["extent"]
            track.seen[told.time] = int(first), int(last)
            track.voxels[told.time] = int(one["voxels"])
            track.scores[told.time] = float(one["score"])
        for object_id in told.lost:
            self.tracks.setdefault(object_id, Track()).lost.add(told.time)
        for parent, daughter in told.links:
            self.tracks.setdefault(daughter, Track()).parent = parent
            mother = self.tracks.setdefault(parent, Track())
            mother.daughters = (*mother.daughters, daughter)
        self.done.add((told.time, told.step))

    def _write(self, text: str) -> None:
        part = self.path.with_name(self.path.name + ".part")
        try:
            part.write_text(text, encoding="utf-8")
            os.replace(part, self.path)
        except OSError as error:
            raise storage_error(self.path, error, "it stays as it was") from error

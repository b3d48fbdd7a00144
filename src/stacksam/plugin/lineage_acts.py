"""Changes of tracks and lineages in the menu of the objects table: which make sense, and what they do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QInputDialog

from stacksam.errors import InputError

if TYPE_CHECKING:
    from stacksam.plugin.state import State
    from stacksam.plugin.widget import StacksamWidget

__all__ = ["Entry", "LineageActs", "joinable", "lineage_entries", "parents_for"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the menu.

    Attributes
    ----------
    name : str
        What :meth:`LineageActs.do` calls it.
    text : str
    enabled : bool
    tip : str
        What it does, or why it cannot be done now.
    """

    name: str
    text: str
    enabled: bool
    tip: str


def lineage_entries(state: State, selected: Sequence[int], frame: int | None) -> list[Entry]:
    """What can be done with the selected objects on the frame that is shown, if one of the stack's is."""
    ids = tuple(sorted(selected))
    unseen = next((i for i in ids if i not in state.spans), None)
    if not ids or unseen is not None:
        why = "Select objects in the table first" if not ids else f"Object {unseen} is not seen on any frame"
        names = {
            "link": "Link to parent …",
            "unlink": "Unlink",
            "swap": "Swap from this frame …",
            "cut": "Cut track here",
            "join": "Join with …",
        }
        return [Entry(name, text, False, why) for name, text in names.items()]
    return [
        _link(state, ids),
        _unlink(state, ids),
        _swap(state, ids, frame),
        _cut(state, ids, frame),
        _join(state, ids),
    ]


def _link(state: State, ids: tuple[int, ...]) -> Entry:
    parent = _parent_among(state, ids)
    daughters = [i for i in ids if i != parent]
    text = "Link to parent …" if parent is None else f"Link {_listed(daughters)} to parent {parent}"
    taken = next((i for i in daughters if i in state.parents), None)
    if taken is not None:
        return Entry(
            "link", text, False, f"Object {taken} is a daughter of {state.parents[taken]}: unlink it first"
        )
    if parent is None and not parents_for(state, daughters):
        first = min(state.spans[i][0] for i in daughters)
        why = f"No other object ends before frame {first}, where {_listed(daughters)} begins"
        return Entry(
            "link", text, False, f"{why}. If the parent goes on as one of them, cut its track there first"
        )
    return Entry("link", text, True, "Say that it descends from an object that ends before it begins")


def _unlink(state: State, ids: tuple[int, ...]) -> Entry:
    linked = [i for i in ids if i in state.parents]
    if not linked:
        why = f"Object {ids[0]} has no parent" if len(ids) == 1 else "None of these has a parent"
        return Entry("unlink", "Unlink", False, why)
    above = sorted({state.parents[i] for i in linked})
    return Entry(
        "unlink", f"Unlink from parent {_listed(above)}", True, "Take the link away; masks stay as they are"
    )


def _swap(state: State, ids: tuple[int, ...], frame: int | None) -> Entry:
    if frame is None:
        return Entry("swap", "Swap from this frame …", False, "Show a frame of the image first")
    text = f"Swap from frame {frame} with …"
    if len(ids) == 2:
        text = f"Swap {ids[0]} and {ids[1]} from frame {frame}"
    if len(ids) > 2 or len(state.spans) < 2:
        return Entry("swap", "Swap from this frame …", False, "Two objects can be swapped: select one or two")
    if len(ids) == 2 and all(state.spans[i][1] < frame for i in ids):
        return Entry("swap", text, False, "Both have ended before this frame; go to where they were mixed up")
    return Entry("swap", text, True, "From this frame on each is the other: where two cells were mixed up")


def _cut(state: State, ids: tuple[int, ...], frame: int | None) -> Entry:
    if len(ids) != 1:
        return Entry("cut", "Cut track here", False, "Select one object")
    first, last = state.spans[ids[0]]
    if first == last:
        return Entry("cut", "Cut track here", False, f"Object {ids[0]} is seen on frame {first} only")
    if frame is None or not first < frame <= last:
        where = f"{first + 1}" + ("" if last == first + 1 else f" to {last}")
        return Entry(
            "cut", "Cut track here", False, f"Object {ids[0]} can be cut on frame {where}; go there first"
        )
    return Entry("cut", f"Cut track at frame {frame}", True, "From this frame on it is a new object")


def _join(state: State, ids: tuple[int, ...]) -> Entry:
    if len(ids) > 2:
        return Entry("join", "Join with …", False, "Two objects can be joined: select one or two")
    if len(ids) == 2:
        text = f"Join {ids[0]} and {ids[1]}"
        if ids[1] not in joinable(state, ids[0]):
            why = "They are seen at the same time; Merge makes one object of such"
            return Entry("join", text, False, why)
    elif not joinable(state, ids[0]):
        return Entry(
            "join", "Join with …", False, f"Every other object is there at the same time as {ids[0]}"
        )
    else:
        text = "Join with …"
    return Entry(
        "join",
        text,
        True,
        "Make one track of two, one after the other in time; the number of the first stays",
    )


def parents_for(state: State, daughters: Collection[int]) -> list[int]:
    """Objects that end before all of some others begin, those that are most likely their parent first."""
    first = min(state.spans[i][0] for i in daughters)
    found = [i for i, (_, last) in state.spans.items() if last < first and i not in daughters]
    near = min(daughters, key=lambda i: state.spans[i][0])
    return sorted(found, key=lambda i: (first - state.spans[i][1], _distance(state, i, near)))


def joinable(state: State, object_id: int) -> list[int]:
    """Objects that end before another one begins, or begin after it has ended, the nearest in time first."""
    first, last = state.spans[object_id]
    gaps = {i: max(first - own[1], own[0] - last) for i, own in state.spans.items() if i != object_id}
    return sorted((i for i, gap in gaps.items() if gap > 0), key=lambda i: (gaps[i], i))


def _distance(state: State, earlier: int, later: int) -> float:
    """Between where an object was last seen, and another one first."""
    one, other = state.scores[earlier], state.scores[later]
    apart = one.centroid[one.area > 0][-1] - other.centroid[other.area > 0][0]
    return float(np.hypot(*apart))


def _parent_among(state: State, ids: tuple[int, ...]) -> int | None:
    """The object that ends before all the others of a selection begin."""
    return next(
        (
            i
            for i in ids
            if len(ids) > 1 and all(state.spans[i][1] < state.spans[j][0] for j in ids if j != i)
        ),
        None,
    )


def _listed(ids: Sequence[int]) -> str:
    return " and ".join(", ".join(map(str, ids)).rsplit(", ", 1))


class LineageActs:
    """Does what the menu offers, and asks for the other object where one is needed.

    Parameters
    ----------
    dock : StacksamWidget
    """

    def __init__(self, dock: StacksamWidget) -> None:
        self.dock, self.controller = dock, dock.controller

    def do(self, name: str, ids: Sequence[int]) -> None:
        """Do something to some objects, by the name of an :class:`Entry`."""
        {
            "link": self._link,
            "unlink": self._unlink,
            "swap": self._swap,
            "cut": self._cut,
            "join": self._join,
        }[name](tuple(sorted(ids)))

    def _link(self, ids: tuple[int, ...]) -> None:
        state = self.controller.state
        parent = _parent_among(state, ids)
        if parent is None:
            parent = self._choose("Link to parent", f"Parent of {_listed(ids)}:", parents_for(state, ids))
        if parent is not None:
            self.controller.link(parent, [i for i in ids if i != parent])

    def _unlink(self, ids: tuple[int, ...]) -> None:
        self.controller.unlink([i for i in ids if i in self.controller.state.parents])

    def _swap(self, ids: tuple[int, ...]) -> None:
        frame, state = self.dock.frame(), self.controller.state
        other: int | None = ids[-1]
        if len(ids) == 1:
            own = ids[0]
            there = [i for i in state.spans if i != own and state.spans[i][1] >= frame]
            there = sorted(there or [i for i in state.spans if i != own])
            other = self._choose("Swap", f"Swap {own} from frame {frame} on with:", there)
        if other is not None:
            self.controller.swap(ids[0], other, frame)

    def _cut(self, ids: tuple[int, ...]) -> None:
        self.controller.cut_track(ids[0], self.dock.frame())

    def _join(self, ids: tuple[int, ...]) -> None:
        state = self.controller.state
        other: int | None = ids[-1]
        if len(ids) == 1:
            other = self._choose("Join", f"Join {ids[0]} with:", joinable(state, ids[0]))
        if other is not None:
            first, second = sorted((ids[0], other), key=lambda i: state.spans[i])
            self.controller.join(first, second)

    def _choose(self, title: str, question: str, among: Sequence[int]) -> int | None:
        """Ask for one of some objects; None where the user does not want to."""
        if not among:
            raise InputError(f"{title}: there is no object to choose from any more; look at the table")
        state = self.controller.state
        names = {row.object_id: row.name for row in state.objects}
        texts = []
        for i in among:
            first, last = state.spans[i]
            when = f"frame {first}" if first == last else f"frames {first} to {last}"
            texts.append(f"{i}" + (f" · {names[i]}" if names.get(i) else "") + f" · {when}")
        text, chosen = QInputDialog.getItem(self.dock, title, question, texts, 0, False)
        return among[texts.index(text)] if chosen else None

"""What the dock says of how things stand: one sentence on what to do now, and notes beside titles. No Qt."""

from __future__ import annotations

import re

import numpy as np

from stacksam.plugin.state import ObjectRow, State
from stacksam.tracks.review import FINE

__all__ = ["action_name", "in_the_dock", "lineage_note", "n_unsure", "next_step", "review_note"]

_ACTIONS = {
    "add": "prompt",
    "remove": "removal of a prompt",
    "replace": "move of a prompt",
    "choose": "another mask",
    "propagate": "following",
    "lock": "acceptance",
    "unlock": "taking acceptance back",
    "mark_absent": "not here",
    "remove_object": "removal of an object",
    "clear": "removal of all objects",
    "link": "link to a parent",
    "unlink": "removal of a link",
    "swap": "swap of two objects",
    "split_track": "cut of a track",
    "join": "joining of two tracks",
    "divide": "division",
    "reject_division": "rejection of a division",
    "set_masks": "masks by consensus",
}
# What messages of the session call by the names of its methods.
_METHODS = (
    (r"split_track\((\d+), (\d+)\)", r"Cut track at frame \2, in the menu of object \1"),
    (r"join\((\d+), (\d+)\)", r"Join \1 and \2, in the menu of the table,"),
    (r"merge\((\d+), \[(\d+)\]\)", r"Merge"),
    (r"\bmark_absent\b", "Not here"),
    (r"prompt and propagate along z first", "click one, and follow it, first"),
    (r"prompt or propagate it first", "click it, or follow it, first"),
    (r"\(object (\d+), frame (\d+)\)", r"object \1 on frame \2"),
)


def action_name(name: str) -> str:
    """An entry of :attr:`stacksam.Session.history` in the words of the dock."""
    return _ACTIONS.get(name, name.replace("_", " "))


def in_the_dock(message: str) -> str:
    """A message of the session with the names of its methods as the dock calls them."""
    for method, words in _METHODS:
        message = re.sub(method, words, message)
    return message


def lineage_note(state: State, n_open: int) -> str:
    """How many divisions are known, and how many are to be decided on; empty without any."""
    known = len(set(state.parents.values()))
    parts = [_count(known, "division")] if known else []
    return " · ".join([*parts, f"{n_open} to decide"] if n_open else parts)


def next_step(
    state: State,
    *,
    has_image: bool,
    opening: str,
    has_session: bool,
    following: bool,
    current: int,
    saved: bool = False,
    divisions: int = 0,
    asked: int = 0,
) -> str:
    """One sentence on what to do now, as HTML.

    Parameters
    ----------
    state : State
    has_image, has_session, following : bool
        Whether an image is chosen, a session is open on it, and objects are being followed.
    opening : str
        What is being done to open a session; empty for nothing.
    current : int
        The current object; it need not exist yet.
    saved : bool
        Whether there is a session on the image, which Start goes on with.
    divisions : int
        How many are proposed, and wait to be decided on.
    asked : int
        Parent of the one that is looked at; 0 for none.
    """
    if not has_image and not has_session:
        return "<b>Open an image</b> to begin."
    if not has_session and saved and not opening:
        return "Work on this image is saved. Press <b>Start</b> to go on with it."
    if not has_session:
        return opening or "Look how the image is read, then press <b>Start</b>."
    if following:
        return "Following … look around meanwhile; a click on a wrong mask corrects it."
    if not state.objects:
        return (
            "<b>Click an object</b> in the picture: its mask appears at once. Or <b>Find all objects</b>, in "
            "part 4."
        )
    if divisions and not any(row.n_stale for row in state.objects):
        if asked:
            return f"Does object {asked} divide here? <b>Y</b> yes, <b>Shift-Y</b> no, <b>D</b> next."
        return f"{_count(divisions, 'division')} to decide on: <b>D</b> goes to the next one."
    ask = "Click again to refine, or <b>N</b> and click the next object. Then "
    if current not in state.object_ids:
        ask = "Click another object, if one is missing. Then "
    if state.n_frames == 1:
        return f"{ask}open <b>Export</b>."
    if any(_is_new(row, state.n_frames) for row in state.objects):
        return f"{ask}press <b>Follow</b>."
    if any(row.n_stale for row in state.objects):
        return "Corrected. Press <b>Follow</b>: only what rests on the correction is done again."
    return _review_step(state, current)


def _is_new(row: ObjectRow, n_frames: int) -> bool:
    """Whether an object was prompted and not followed."""
    return row.n_frames <= len(row.prompted) < n_frames


def _review_step(state: State, current: int) -> str:
    unsure = [i for i in state.object_ids if n_unsure(state, i)]
    if current in unsure:
        frames = _count(n_unsure(state, current), "unsure frame")
        return f"Object {current} has {frames}: <b>W</b> goes there. Click to correct, <b>K</b> to accept."
    if unsure:
        names = ", ".join(map(str, unsure[:5])) + (" …" if len(unsure) > 5 else "")
        which, choose = ("object", "it") if len(unsure) == 1 else ("objects", "one")
        return f"Unsure frames are left in {which} {names}: choose {choose} in the table, then <b>W</b>."
    return "No mask is unsure. Look once through the frames, then open <b>Export</b>."


def n_unsure(state: State, object_id: int) -> int:
    """Number of frames of an object that are worth a look: neither prompted nor accepted, and not sure."""
    scores, values = state.scores.get(object_id), state.confidences.get(object_id)
    if scores is None or values is None:
        return 0
    return int(np.count_nonzero((values < FINE) & ~scores.locked & ~scores.prompted))


def review_note(state: State) -> str:
    """How many masks there are, and how many of them are worth a look; empty without any."""
    total = sum(row.n_frames for row in state.objects)
    if not total:
        return ""
    unsure = sum(n_unsure(state, i) for i in state.object_ids)
    accepted = sum(row.n_locked for row in state.objects)
    parts = [_count(total, "mask"), f"{unsure} unsure"] + ([f"{accepted} accepted"] if accepted else [])
    return " · ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

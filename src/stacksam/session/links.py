"""Which parent links fit the results: a daughter begins after its parent was last seen.

When an object begins and ends is not written down; it follows from the frames on which its mask is not empty.
So whatever gives an object results on other frames must look here whether its links still hold, and following
an object ends where its daughters begin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from stacksam.errors import InputError
from stacksam.session.actions import Told
from stacksam.session.draft import Draft
from stacksam.session.results import ResultStore

__all__ = ["check_links", "forget_links", "limits", "set_parent"]


def set_parent(draft: Draft, daughter: int, parent: int) -> None:
    """Make an object the daughter of another one.

    Raises
    ------
    InputError
        If it has another parent, is its own ancestor, or one of both is not seen on any frame.
    """
    known = draft.told.parents.get(daughter)
    if known is not None and known != parent:
        raise InputError(
            f"object {daughter} is the daughter of {known} already, and has one parent at most; "
            "unlink it first"
        )
    line: int | None = parent
    while line is not None:
        if line == daughter:
            what = "itself" if parent == daughter else f"its own descendant {parent}"
            raise InputError(
                f"object {daughter} cannot be the daughter of {what}; links go from parent to daughter"
            )
        line = draft.told.parents.get(line)
    for object_id in (parent, daughter):
        if not draft.seen(object_id):
            raise InputError(
                f"object {object_id} is not seen on any frame, so nothing tells when it begins and ends; "
                "prompt or propagate it first"
            )
    draft.set_parent(daughter, parent)


def check_links(draft: Draft, object_ids: Collection[int]) -> None:
    """See that all links of some objects fit the frames on which they and their relatives are seen.

    Raises
    ------
    InputError
        If a daughter would begin before its parent ends.
    """
    for daughter, parent in sorted(draft.told.parents.items()):
        if daughter not in object_ids and parent not in object_ids:
            continue
        above, below = draft.seen(parent), draft.seen(daughter)
        if above and below and below[0] <= above[-1]:
            first, last = below[0], above[-1]
            raise InputError(
                f"object {daughter} would begin on frame {first}, but its parent {parent} is seen until "
                f"frame {last}, and a daughter begins after that; give what comes later of the parent "
                f"another id (split_track({parent}, {first})), take wrong masks away (mark_absent), or "
                f"unlink {daughter}"
            )


def forget_links(draft: Draft, object_id: int) -> None:
    """Take away all links of an object, and what was said of its divisions."""
    for daughter in draft.told.daughters(object_id):
        draft.set_parent(daughter, None)
    draft.set_parent(object_id, None)
    for place in sorted(draft.told.rejected):
        if place[0] == object_id:
            draft.set_rejected(*place, False)


def limits(
    store: ResultStore, told: Told, object_ids: Iterable[int], n_frames: int
) -> dict[int, tuple[int, int]]:
    """First and last frame to which objects may be followed, for those with relatives.

    An object ends before its first daughter begins, and begins after its parent was last seen.
    """
    if not told.parents:
        return {}
    daughters: dict[int, list[int]] = {}
    for daughter, mother in told.parents.items():
        daughters.setdefault(mother, []).append(daughter)
    found = {}
    for object_id in object_ids:
        parent = store.span(told.parents[object_id]) if object_id in told.parents else None
        spans = (store.span(own) for own in daughters.get(object_id, ()))
        begins = [span[0] for span in spans if span is not None]
        if parent is not None or begins:
            low = 0 if parent is None else parent[1] + 1
            found[object_id] = low, min([n_frames, *begins]) - 1
    return found

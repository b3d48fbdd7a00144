"""Tracks and their descent, as the user tells of it: who divides into whom, and which track is whose.

:class:`Family` is the part of a session that has to do with this; what it does is an action like any other.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.session.identity import cut, divide, join, swap
from stacksam.session.journal import Journal
from stacksam.session.links import check_links, set_parent
from stacksam.session.objects import Objects
from stacksam.session.prompts import Mask, Prompt, check_frame, check_prompt, check_several, prompt_to_json
from stacksam.session.stack import Stack
from stacksam.session.update import Update

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Family"]


class Family:
    """What a :class:`stacksam.Session` knows of lineages. A base of that class, and of no use alone."""

    stack: Stack
    _lock: threading.RLock
    _journal: Journal
    _objects: Objects

    @property
    def lineage(self) -> nx.DiGraph:
        """Objects as nodes, links as edges from parent to daughter; a copy.

        A link lasts until it is taken away or one of both objects is removed. While it lasts, a parent is not
        followed to frames on which a daughter is seen, nor a daughter to frames on which the parent is.
        """
        import networkx as nx

        told, lineage = self._objects.told, nx.DiGraph()
        lineage.add_nodes_from(sorted(told.said))
        lineage.add_edges_from((parent, daughter) for daughter, parent in sorted(told.parents.items()))
        return lineage

    @property
    def rejected_divisions(self) -> tuple[tuple[int, int], ...]:
        """Object id and frame of each division that was rejected, in order."""
        return tuple(sorted(self._objects.told.rejected))

    def link(self, parent: int, daughters: Collection[int]) -> None:
        """Say that objects are the daughters of another one.

        Parameters
        ----------
        parent : int
        daughters : collection of int
            Those that it has stay; these come to them.

        Raises
        ------
        InputError
            If there is no such object or no daughter, a daughter has another parent, is an ancestor of its
            parent, or is seen on a frame on which the parent is still there; then no link has changed.
        StorageError
            If the change cannot be written; then no link has changed either.
        """
        with self._lock:
            parent = self._objects.known(parent)
            wanted = sorted({self._objects.known(i) for i in check_several(daughters, "daughters")})
            if not wanted:
                raise InputError(f"no daughter of object {parent} was given; give ids of other objects")
            if all(self._objects.told.parents.get(daughter) == parent for daughter in wanted):
                return  # nothing that could be undone
            with self._journal.action("link", {"parent": parent, "daughters": wanted}) as draft:
                for daughter in wanted:
                    set_parent(draft, daughter, parent)
                check_links(draft, (parent,))

    def unlink(self, daughter: int) -> None:
        """Take away the link of an object to its parent.

        Raises
        ------
        InputError
            If there is no such object, or it has no parent.
        StorageError
            If the change cannot be written; then the link is still there.
        """
        with self._lock:
            daughter = self._objects.known(daughter)
            if daughter not in self._objects.told.parents:
                raise InputError(f"object {daughter} has no parent; see Session.lineage for the links")
            with self._journal.action("unlink", {"daughter": daughter}) as draft:
                draft.set_parent(daughter, None)

    def swap(self, a: int, b: int, frame: int) -> None:
        """Exchange the results and prompts of two objects from a frame on: identities that were mixed up.

        Masks stay as they are, also for :meth:`propagate`: those at the cut become :class:`Mask` prompts,
        where there is no prompt yet. Names stay with the ids. Daughters go with the last
        frames of their parent.

        Raises
        ------
        InputError
            If there is no such object or frame, both are the same, none of them is seen from the frame on,
            nothing would be left of one, or a link would no longer hold; then both are as they were.
        StorageError
            If the change cannot be written; likewise.
        """
        frame = check_frame(frame, self.stack.n_frames)
        with self._lock:
            a, b = self._objects.known(a), self._objects.known(b)
            with self._journal.action("swap", {"a": a, "b": b, "frame": frame}) as draft:
                swap(self._objects, draft, a, b, frame, self.stack.frame_shape)

    def split_track(self, object_id: int, frame: int) -> int:
        """Give an object's results and prompts from a frame on, and its daughters, to a new object.

        In time, that is: :meth:`Session.split` makes objects of the pieces of one mask. Masks stay as they
        are, as with :meth:`swap`.

        Returns
        -------
        int
            Id of the new object.

        Raises
        ------
        InputError
            If there is no such object or frame, or the object is not seen both before it and from it on.
        StorageError
            If the change cannot be written; then the object is as it was.
        """
        frame = check_frame(frame, self.stack.n_frames)
        with self._lock:
            object_id = self._objects.known(object_id)
            (new,) = self._objects.free_ids(1)
            with self._journal.action("split_track", {"object_id": object_id, "frame": frame}) as draft:
                cut(self._objects, draft, object_id, frame, new, self.stack.frame_shape)
        return new

    def join(self, first: int, second: int) -> None:
        """Make one track of two that follow each other in time; the second's id is not used again.

        The object keeps the id and the name of the first. For objects that are there at the same time, use
        :meth:`Session.merge`.

        Raises
        ------
        InputError
            If there is no such object, both are the same, they are seen at the same time or in the other
            order, or a link says that they are two; then both are as they were.
        StorageError
            If the change cannot be written; likewise.
        """
        with self._lock:
            first, second = self._objects.known(first), self._objects.known(second)
            with self._journal.action("join", {"first": first, "second": second}) as draft:
                join(self._objects, draft, first, second)

    def divide(
        self, object_id: int, frame: int, daughters: Sequence[int | NDArray[np.bool_]]
    ) -> tuple[int, ...]:
        """End an object before a frame, on which its daughters begin, and link them, as one action.

        Parameters
        ----------
        object_id : int
            The parent.
        frame : int
            The first frame of a daughter.
        daughters : sequence of int or (H, W) bool array
            At least two, each of them the mask of a daughter on the frame, which becomes a new object by a
            :class:`Mask` prompt; the id of an object that is there; or the parent's own id for its results
            from the frame on, which become a new object.

        Returns
        -------
        tuple of int
            Ids of the daughters, in the same order.

        Raises
        ------
        InputError
            If there is no such object or frame; the parent is not seen before it, has daughters, or has
            prompts from it on that would be lost; there are fewer than two daughters, a mask is empty or of
            another shape, or an object has another parent or prompts on a frame on which the parent is there.
        StorageError
            If the change cannot be written. After an error all is as it was.
        """
        frame = check_frame(frame, self.stack.n_frames)
        with self._lock:
            object_id = self._objects.known(object_id)
            wanted = [self._daughter(d, frame) for d in self._several(daughters)]
            ids = [d for d in wanted if isinstance(d, int)]
            if len(wanted) < 2 or len(set(ids)) < len(ids):
                raise InputError(
                    f"object {object_id} divides into at least two daughters, and each counts once; "
                    f"{len(wanted)} given"
                )
            count = sum(1 for d in wanted if isinstance(d, Mask) or d == object_id)
            fresh = self._objects.free_ids(count) if count else []
            said: list[int | dict[str, Any]] = [
                d if isinstance(d, int) else prompt_to_json(d) for d in wanted
            ]
            arguments = {"object_id": object_id, "frame": frame, "daughters": said}
            with self._journal.action("divide", arguments) as draft:
                return divide(self._objects, draft, object_id, frame, wanted, fresh, self.stack.frame_shape)

    @staticmethod
    def _several(daughters: Sequence[int | NDArray[np.bool_]]) -> tuple[int | NDArray[np.bool_], ...]:
        try:
            return tuple(daughters)
        except TypeError:
            raise InputError(f"daughters is {daughters!r}; give several masks or object ids") from None

    def _daughter(self, daughter: int | NDArray[np.bool_], frame: int) -> int | Mask:
        if not isinstance(daughter, np.ndarray):
            return self._objects.known(daughter)
        mask = check_prompt(Mask(frame, 1, daughter), self.stack.n_frames, self.stack.frame_shape)
        if not isinstance(mask, Mask):
            raise RuntimeError("a mask is a mask")
        return mask

    def reject_division(self, object_id: int, frame: int) -> None:
        """Say that an object does not divide about a frame, so that it is not proposed again.

        Raises
        ------
        InputError
            If there is no such object or frame.
        StorageError
            If the change cannot be written.
        """
        frame = check_frame(frame, self.stack.n_frames)
        with self._lock:
            object_id = self._objects.known(object_id)
            if (object_id, frame) not in self._objects.told.rejected:
                arguments = {"object_id": object_id, "frame": frame}
                with self._journal.action("reject_division", arguments) as draft:
                    draft.set_rejected(object_id, frame, True)

    def preview(self, *prompts: Prompt) -> Update:
        """The mask that a new object would get from prompts, without making it.

        Parameters
        ----------
        *prompts : Point, Box or Mask
            On one frame; what object they are for does not matter.

        Raises
        ------
        InputError
            If there is none, they are on several frames, or one cannot be used.
        """
        if not prompts:
            raise InputError("no prompt was given; give a Point, a Box or a Mask")
        checked = [check_prompt(p, self.stack.n_frames, self.stack.frame_shape) for p in prompts]
        frames = sorted({p.frame for p in checked})
        if len(frames) > 1:
            raise InputError(f"the prompts are on frames {frames}; give prompts on one frame")
        with self._lock:
            (number,) = self._objects.free_ids(1)
            return Update.of(self._objects.preview(number, frames[0], checked))

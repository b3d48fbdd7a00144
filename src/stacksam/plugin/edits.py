"""What a person does to objects that are there, as actions of the controller: each can be undone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import Signal

from stacksam.errors import InputError
from stacksam.plugin.engine import Deliver, Engine
from stacksam.plugin.words import action_name
from stacksam.session.session import Session

if TYPE_CHECKING:
    from stacksam.tracks.divisions import Division

__all__ = ["Edits"]

_NO_CORRECTIONS = (None, "rename", "lock", "unlock", "link", "unlink", "reject_division")
"""Actions after which the masks are the same."""
_GONE = ("remove_object", "merge", "join")  # of which a redo may take the current object


class Edits:
    """What a :class:`Controller` does to objects and tracks. A base of that class, and of no use alone."""

    noted: ClassVar[Signal]
    current: int
    changed: dict[int, set[int]]
    _deliver: Deliver
    _engine: Engine
    _open_session: Callable[[], Session]
    _submit: Callable[..., None]
    _touched: Callable[..., None]
    _forget_change: Callable[[int, Collection[int]], None]
    _forget_changes: Callable[[Collection[int]], None]
    set_current: Callable[[int], None]
    new_object: Callable[[], int]

    # Objects and results

    def remove_objects(self, object_ids: Collection[int]) -> None:
        """Remove objects with all that is known of them."""

        def work(session: Session) -> None:
            session.remove_object(*object_ids)
            self._forget_changes(object_ids)

        self._act("Removing objects", work)
        if self.current in object_ids:  # its id is not given again
            self.new_object()

    def rename(self, object_id: int, name: str) -> None:
        """Give an object a name."""
        self._act("Renaming", lambda s: s.rename(object_id, name), [object_id])

    def merge(self, into: int, others: Collection[int]) -> None:
        """Make several objects one."""

        def work(session: Session) -> None:
            session.merge(into, others)
            self._forget_changes({into, *others})

        self._act("Merging", work)
        if self.current in others:
            self.set_current(into)

    def split(self, object_id: int, frame: int) -> None:
        """Make each separate part of an object's mask an object."""
        self._act("Splitting", lambda s: s.split(object_id, frame))

    def accept(self, object_id: int, frames: Collection[int], locked: bool = True) -> None:
        """Lock frames of an object, or unlock them."""

        def work(session: Session) -> None:
            present = set(session.frames_of(object_id))
            known = sorted(present.intersection(frames))
            if not known:
                raise InputError(f"object {object_id} has no mask here yet; follow it first")
            (session.lock if locked else session.unlock)(object_id, known)
            self._forget_change(object_id, known)

        self._act("Accepting" if locked else "Taking acceptance back", work, [object_id])

    def mark_absent(self, object_id: int, frames: Collection[int]) -> None:
        """Say that an object is not on some frames, of which those without a mask are left out."""

        def work(session: Session) -> None:
            known = sorted(set(session.frames_of(object_id)).intersection(frames))
            if not known:
                raise InputError(f"object {object_id} has no mask here yet; follow it first")
            session.mark_absent(object_id, known)
            self._forget_change(object_id, known)

        self._act("Not here", work)  # what lay under it is judged anew, too

    # Tracks and lineage

    def link(self, parent: int, daughters: Collection[int]) -> None:
        """Say that objects are the daughters of another one."""
        self._act("Linking", lambda s: s.link(parent, daughters), ())

    def unlink(self, daughters: Sequence[int]) -> None:
        """Take away the links of objects to their parents."""

        def work(session: Session) -> None:
            for daughter in daughters:
                session.unlink(daughter)

        self._act("Unlinking", work, ())

    def swap(self, one: int, other: int, frame: int) -> None:
        """Exchange two objects from a frame on."""

        def work(session: Session) -> None:
            session.swap(one, other, frame)
            self._forget_changes({one, other})

        self._act("Swapping", work)

    def cut_track(self, object_id: int, frame: int) -> None:
        """Make what an object is from a frame on another object."""

        def work(session: Session) -> None:
            new = session.split_track(object_id, frame)
            self._forget_changes({object_id})
            self._deliver(lambda: self.noted.emit(f"From frame {frame} on it is object {new}"))

        self._act("Cutting a track", work)

    def join(self, first: int, second: int) -> None:
        """Make one track of two that follow each other."""

        def work(session: Session) -> None:
            session.join(first, second)
            self._forget_changes({first, second})

        self._act("Joining", work)
        if self.current == second:
            self.set_current(first)

    def accept_division(self, division: Division) -> None:
        """End a parent where its daughters begin, which become objects where they are none."""

        def work(session: Session) -> None:
            from stacksam.tracks import accept

            one, other = accept(session, division)
            self._forget_changes({division.parent, one, other})
            text = f"Object {division.parent} divides into {one} and {other} on frame {division.frame}"
            self._deliver(lambda: self.noted.emit(text))

        self._act("Division", work)

    def reject_division(self, division: Division) -> None:
        """Say that an object does not divide there."""

        def work(session: Session) -> None:
            from stacksam.tracks import reject

            reject(session, division)

        self._act("Not a division", work, ())

    # Back and forth

    def undo(self) -> None:
        """Take back the last action; a pass that runs ends."""
        self._exchange(Session.undo, "Undone", "Nothing to undo")

    def redo(self) -> None:
        """Do again what was undone."""
        self._exchange(Session.redo, "Done again", "Nothing to redo")

    def _exchange(self, act: Callable[[Session], str | None], past: str, nothing: str) -> None:
        session = self._open_session()
        self._engine.cancel()
        exchanged: list[str | None] = []

        def work() -> None:
            name = act(session)
            exchanged.append(name)
            self._touched(None)
            if name not in _NO_CORRECTIONS:
                self.changed.clear()
            text = nothing if name is None else f"{past}: {action_name(name)}"
            self._deliver(lambda: self.noted.emit(text))

        def done() -> None:
            gone = self.current not in session.object_ids
            if gone and act is Session.redo and exchanged[0] in _GONE:
                self.new_object()

        self._submit(session, work, past, done)

    def _act(self, title: str, act: Callable[[Session], Any], objects: Collection[int] | None = None) -> None:
        """Do something to some objects; None stands for any, which takes longer to show."""
        session = self._open_session()

        def work() -> Collection[int] | None:
            act(session)
            self._touched(None)
            return objects

        self._submit(session, work, title)

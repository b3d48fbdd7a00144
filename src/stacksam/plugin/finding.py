"""What the dock does about finding at one go: all objects of a frame, and what three axes say of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stacksam.errors import InputError
from stacksam.plugin.keys import key_of
from stacksam.plugin.parts import guarded
from stacksam.plugin.searches import Found, Vote
from stacksam.session.finding import SIZES, usual_score

if TYPE_CHECKING:
    from stacksam.plugin.state import State
    from stacksam.plugin.widget import StacksamWidget
    from stacksam.session.session import Session

__all__ = ["Finding"]

_DOUBTFUL = 0.7  # mean Dice of the axes below which an object is named


class Finding:
    """The buttons for all objects, and for a consensus.

    Parameters
    ----------
    dock : StacksamWidget
    """

    def __init__(self, dock: StacksamWidget) -> None:
        self.dock, self.controller = dock, dock.controller
        self.panel, self.axes = dock.find_part, dock.vote_part
        self._next: int | None = None  # the object that was made the next one after something was found
        c = self.controller
        c.searching.connect(self.panel.show_search)
        c.searching.connect(self.axes.show_search)
        c.closed.connect(self._closed)
        c.state_changed.connect(self._state_changed)
        c.followed.connect(self._followed)
        for signal, act in (
            (self.panel.find_requested, self.find),
            (self.axes.vote_requested, self.vote),
            (self.panel.stop_requested, c.stop_search),
            (self.axes.stop_requested, c.stop_search),
        ):
            signal.connect(guarded(act, dock.fail))

    def opened(self, session: Session) -> None:
        """A session was opened."""
        _, y, x = session.stack.spacing
        unit = session.stack.units[2]
        known = unit is not None and session.stack.units[1] == unit
        self.panel.begin(usual_score(session.model), ((y * x) ** 0.5, _short(unit or "")) if known else None)
        self.axes.tell("")
        self.axes.setVisible(session.stack.frame_axis == "z" and session.stack.n_frames > 1)
        self._next = None

    def find(self) -> None:
        """Find all objects on the frame that is shown."""
        size = self.panel.size.value()
        if 0 < size < SIZES[0]:
            raise InputError(f"size {size} px is too small; give {SIZES[0]} or more, or 0 for an estimate")
        self.panel.tell("")
        self.controller.find_all(
            self.dock.frame(), self._found, size=size or None, min_score=self.panel.score.value()
        )

    def vote(self) -> None:
        """Have rows and columns say what they see of the objects."""
        state = self.controller.state
        if not any(row.n_frames > len(row.prompted) for row in state.objects):
            raise InputError("nothing was followed yet; press Follow first, then other axes can be compared")
        self.axes.tell("")
        self.controller.vote(self._voted)

    def _found(self, found: Found) -> None:
        n = len(found.objects)
        if not n:
            self.panel.tell(self._none(found))
            self.panel.fold.setChecked(True)
            return
        self._next = self.controller.new_object()  # a click on what was missed begins another one
        size = ""
        if found.size is not None and not self.panel.size.value():
            unit = self.panel.in_unit(found.size)
            size = f" of about {found.size:.0f} px" + (f" ({unit})" if unit else "")
        back = f"{key_of('undo')} takes {'it' if n == 1 else 'them'} back"
        self.panel.tell(f"{n} object{'' if n == 1 else 's'}{size} found on frame {found.frame}; {back}.")

    def _none(self, found: Found) -> str:
        rows = self.controller.state.objects
        further = "further " if any(found.frame in row.prompted for row in rows) else ""
        tried = "" if found.size is None else f" of about {found.size:.0f} px"
        return (
            f"No {further}object{tried} found on frame {found.frame}. If there are some, give their typical "
            "size, or a lower confidence."
        )

    def _voted(self, vote: Vote) -> None:
        low = sorted(i for i, dice in vote.agreement.items() if dice < _DOUBTFUL)
        mean = sum(vote.agreement.values()) / len(vote.agreement)
        n = vote.n_changed
        changed = "No mask" if not n else f"{n} mask{'' if n == 1 else 's'}"
        text = f"{changed} changed; the axes agree to {mean:.0%} (Dice)."
        if low:
            named = ", ".join(map(str, low[:5])) + (" …" if len(low) > 5 else "")
            text += f" Look at object{'' if len(low) == 1 else 's'} {named}: there they disagree."
        if n:
            text += f" {key_of('undo')} takes it back."
        self.axes.tell(text)

    def _state_changed(self, state: State) -> None:
        """What was found may have been taken back, and its numbers are free again."""
        c = self.controller
        if self._next is None or c.session is None:
            return
        if c.current != self._next or c.current in state.object_ids:
            self._next = None
        elif c.next_id < self._next:
            self._next = None
            self.panel.tell("")
            c.new_object()

    def _followed(self) -> None:
        """What is reviewed is an object that is there."""
        c = self.controller
        if self._next is not None and c.current == self._next and c.state.object_ids:
            c.set_current(c.state.object_ids[0])
        self._next = None

    def _closed(self) -> None:
        self.panel.show_search(None)
        self.axes.show_search(None)


def _short(unit: str) -> str:
    """A unit as people write it."""
    return {"micrometer": "µm", "millimeter": "mm", "nanometer": "nm"}.get(unit, unit)

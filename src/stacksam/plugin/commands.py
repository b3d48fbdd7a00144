"""What keys and buttons do."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtWidgets import QInputDialog

from stacksam.errors import InputError
from stacksam.plugin.controller import Span
from stacksam.plugin.coords import shown_index
from stacksam.session.plan import Direction
from stacksam.session.prompts import Mask, compact
from stacksam.tracks.review import FINE, worst

if TYPE_CHECKING:
    from stacksam.plugin.widget import StacksamWidget

__all__ = ["Commands"]


class Commands:
    """One method for each thing a person can ask for; errors are raised, and shown by who calls.

    Parameters
    ----------
    dock : StacksamWidget
    """

    def __init__(self, dock: StacksamWidget) -> None:
        self.dock = dock
        self.controller = dock.controller

    def toggle_sign(self) -> None:
        """The next point says the opposite."""
        self.controller.set_sign(not self.controller.positive)
        if self.dock.layers is not None and self.dock.layers.tool != "point":
            self.use("point")

    def new_object(self) -> None:
        """The next prompt starts another object."""
        self.controller.new_object()

    def use(self, tool: str | None) -> None:
        """Take a tool in hand."""
        if self.dock.layers is not None:
            self.dock.layers.use(tool)
            self.dock.prompt_part.set_tool(tool)
            if tool == "paint":
                self.dock.load_paint()

    def tool_point(self) -> None:
        """Click."""
        self.use("point")

    def tool_box(self) -> None:
        """Drag a box."""
        self.use("box")

    def tool_lasso(self) -> None:
        """Draw an outline."""
        self.use("lasso")

    def tool_paint(self) -> None:
        """Paint."""
        self.use("paint")

    def next_candidate(self) -> None:
        """Show another reading of the newest prompt."""
        self.controller.next_candidate(self.dock.frame())

    def take_labels(self) -> None:
        """Make every label on this frame of a Labels layer an object."""
        ours = () if self.dock.layers is None else self.dock.layers.all
        found = [
            layer for layer in self.dock.viewer.layers if isinstance(layer, Labels) and layer not in ours
        ]
        if not found:
            raise InputError("there is no other Labels layer; add one, or drop a label image into the window")
        name = found[0].name
        if len(found) > 1:
            name, chosen = QInputDialog.getItem(
                self.dock, "Take objects", "From which labels?", [layer.name for layer in found], 0, False
            )
            if not chosen:
                return
        self.take_labels_of(next(layer for layer in found if layer.name == name))

    def take_labels_of(self, layer: Labels) -> None:
        """Make every label on this frame of a layer an object, under its own id if no such id was used."""
        frame, session = self.dock.frame(), self.controller.session
        if session is None:
            raise InputError("no image is being worked on; choose one and press Start")
        labels = _labels_on_frame(layer, self.dock.viewer, session.stack.frame_shape)
        ids = [int(i) for i in np.unique(labels) if i > 0]
        if not ids:
            raise InputError(f"the layer {layer.name!r} has no labels on this frame; show one that has")
        # Of the ids up to the last that was used some may have been removed, which takes them for good.
        unused = self.controller.next_id
        others = itertools.count(max(unused, max(ids) + 1))
        numbers = {i: i if i >= unused else next(others) for i in ids}
        self.controller.add(*(compact(Mask(frame, numbers[i], labels == i)) for i in ids))

    def find_all(self) -> None:
        """Make an object of everything on this frame that looks like one."""
        self.dock.finding.find()

    def follow(self) -> None:
        """Follow as the panel says."""
        which, reach = self.dock.follow_part.which.currentData(), self.dock.follow_part.reach_name()
        objects: tuple[int, ...] | None = None
        if which == "current":
            objects = (self.controller.current,)
        elif which == "selected":
            objects = self.dock.objects_part.selected()
            if not objects:
                raise InputError("no object is selected in the table; select some, or follow all")
        direction, first, last = self.dock.follow_part.direction, None, None
        if reach == "to here":
            self.controller.follow_spans(self._spans_to_here(direction, objects))
            return
        if reach == "to the next accepted frame":
            first, last = self._span_to_accepted(objects)
        anew = reach == "all anew"
        self.controller.follow(direction, objects=objects, first=first, last=last, restart=anew)
        if anew:  # once: what is left of it after a stop is not begun anew
            self.dock.follow_part.set_reach("all")

    def _spans_to_here(self, direction: Direction, objects: tuple[int, ...] | None) -> list[Span]:
        """From the nearest prompted frame of each object to the frame that is shown."""
        here = self.dock.frame()
        prompted: dict[int, set[int]] = {}
        for prompt in self.controller.prompts:
            if objects is None or prompt.object_id in objects:
                prompted.setdefault(prompt.object_id, set()).add(prompt.frame)
        nearest = {i: min(frames, key=lambda f: abs(f - here)) for i, frames in prompted.items()}
        before = {i: frame for i, frame in nearest.items() if frame < here}
        after = {i: frame for i, frame in nearest.items() if frame > here}
        spans = []
        if before and direction != "backward":
            spans.append(Span("forward", tuple(before), min(before.values()), here))
        if after and direction != "forward":
            spans.append(Span("backward", tuple(after), here, max(after.values())))
        return spans or [Span(direction, objects, here, here)]

    def _span_to_accepted(self, objects: tuple[int, ...] | None) -> tuple[int | None, int | None]:
        """Between the accepted frames that are nearest to the one that is shown."""
        here = self.dock.frame()
        locked: set[int] = set()
        for object_id, scores in self.controller.state.scores.items():
            if objects is None or object_id in objects:
                locked.update(scores.frames[scores.locked].tolist())
        if not locked:
            raise InputError("no frame is accepted yet; accept one (K), or follow through the whole stack")
        return max((f for f in locked if f < here), default=None), min(
            (f for f in locked if f > here), default=None
        )

    def cancel(self) -> None:
        """End what takes long."""
        self.controller.cancel()

    def accept(self) -> None:
        """Accept the frame that is shown, or the range that is selected, of the current object."""
        self.set_accepted(self._take_span())

    def take_back(self) -> None:
        """Take acceptance back of the frame that is shown, or the range that is selected."""
        self.set_accepted(self._take_span(), False)

    def accept_all(self) -> None:
        """Accept all frames of the current object."""
        self.set_accepted(range(self.controller.state.n_frames))

    def set_accepted(self, frames: range, locked: bool = True) -> None:
        """Accept frames of the current object, or take that back."""
        self.controller.accept(self.controller.current, frames, locked)

    def mark_absent(self) -> None:
        """Say that the current object is not on the frame shown, or on the selected frames."""
        self.controller.mark_absent(self.controller.current, self._take_span())

    def _take_span(self) -> range:
        """The frames that are selected in the strip, once, or the one that is shown."""
        span = self.dock.review_part.take_span()
        first, last = (self.dock.frame(),) * 2 if span is None else span
        return range(first, last + 1)

    def lock_object(self, object_id: int, locked: bool) -> None:
        """Accept all frames of an object, or take that back."""
        self.controller.accept(object_id, range(self.controller.state.n_frames), locked)

    def next_worst(self) -> None:
        """Go to the frame of the current object that most needs a look, then to the next one.

        Where the object has none, to that of the next object that has one.
        """
        current = self.controller.current
        order = self._unsure(current)
        if order:
            here = None if self.dock.layers is None else self.dock.layers.frame
            place = order.index(here) + 1 if here in order else 0
            self.dock.go_to(0, order[place % len(order)])
            return
        for other in sorted(self.controller.state.object_ids, key=lambda i: (i < current, i)):
            if found := self._unsure(other):
                self.dock.go_to(other, found[0])
                return
        raise InputError("no frame is unsure; look once through all of them")

    def _unsure(self, object_id: int) -> list[int]:
        """Frames of an object that need a look, worst first."""
        state = self.controller.state
        scores = state.scores.get(object_id)
        return [] if scores is None else list(worst(scores, state.overlaps.get(object_id), at_most=FINE))

    def next_division(self) -> None:
        """Go to the next division that is proposed."""
        self.dock.lineage.next()

    def accept_division(self) -> None:
        """The division that is looked at is one."""
        self.dock.lineage.accept()

    def reject_division(self) -> None:
        """The division that is looked at is none."""
        self.dock.lineage.reject()

    def previous_prompted(self) -> None:
        """Go to the previous frame with a prompt of the current object."""
        self._go_prompted(-1)

    def next_prompted(self) -> None:
        """Go to the next frame with a prompt of the current object."""
        self._go_prompted(1)

    def _go_prompted(self, step: int) -> None:
        here = self.dock.frame()
        rows = {row.object_id: row for row in self.controller.state.objects}
        row = rows.get(self.controller.current)
        frames = [f for f in (row.prompted if row else ()) if (f - here) * step > 0]
        if frames:
            self.dock.go_to(0, min(frames, key=lambda f: abs(f - here)))

    def previous_object(self) -> None:
        """Make the previous object current."""
        self._step_object(-1)

    def next_object(self) -> None:
        """Make the next object current."""
        self._step_object(1)

    def _step_object(self, step: int) -> None:
        ids = self.controller.state.object_ids
        further = [i for i in ids if (i - self.controller.current) * step > 0]
        if further:
            self.controller.set_current(min(further, key=lambda i: abs(i - self.controller.current)))

    def undo(self) -> None:
        """Take back the last action."""
        self.controller.undo()

    def redo(self) -> None:
        """Do again what was undone."""
        self.controller.redo()


def _labels_on_frame(layer: Labels, viewer: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """Labels (H, W) of a layer where the sliders stand."""
    data = layer.data[0] if layer.multiscale else layer.data
    index = shown_index(layer, viewer.dims.point, viewer.dims.units)[:-2]
    inside = all(0 <= i < n for i, n in zip(index, data.shape, strict=False))
    if data.shape[-2:] != shape or not inside:
        raise InputError(
            f"the layer {layer.name!r} has shape {tuple(data.shape)}; its frames must be {shape} as the "
            "image's, and one of them must be shown"
        )
    return np.asarray(data[index])

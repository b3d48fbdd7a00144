"""What the dock does about cells that divide: proposals, outlines and tracks in the picture, and the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Layer

from stacksam.errors import InputError
from stacksam.plugin.divisions import Divisions
from stacksam.plugin.dock import LINEAGE
from stacksam.plugin.keys import bind_keys
from stacksam.plugin.lineage_acts import LineageActs
from stacksam.plugin.lineage_layers import LineageLayers, Part, lineage_of
from stacksam.plugin.parts import guarded
from stacksam.plugin.sight import look_at
from stacksam.plugin.tree_window import TreeWindow
from stacksam.plugin.words import lineage_note

if TYPE_CHECKING:
    from stacksam.plugin.state import State
    from stacksam.plugin.widget import StacksamWidget
    from stacksam.session.session import Session
    from stacksam.tracks.divisions import Division

__all__ = ["LineageView"]

_NO_TRACKS = "Tracks need frames along the first dimension of the image, and more than one"


class LineageView:
    """The part of the dock that is about lineages.

    Parameters
    ----------
    dock : StacksamWidget

    Attributes
    ----------
    divisions : Divisions
    acts : LineageActs
    tree : TreeWindow or None
        Made when it is first asked for.
    """

    def __init__(self, dock: StacksamWidget) -> None:
        self.dock, self.controller = dock, dock.controller
        self.panel = dock.lineage_part
        self.divisions = Divisions(self.controller)
        self.acts = LineageActs(dock)
        self.layers = LineageLayers(self._bind)
        self.tree: TreeWindow | None = None
        self._told = False  # of proposals in this session, by unfolding the part
        self._shown: Division | None = None
        self._wanted = False  # whether tracks are to be shown
        c, panel = self.controller, self.panel
        c.state_changed.connect(self._state_changed)
        c.followed.connect(self._followed)
        c.closed.connect(self._closed)
        c.current_changed.connect(self._current_changed)
        self.divisions.changed.connect(self._show_divisions)
        for signal, act in (
            (panel.look_requested, self.look),
            (panel.chosen, self.go_to),
            (panel.accept_requested, self.accept),
            (panel.reject_requested, self.reject),
            (panel.next_requested, self.next),
            (panel.tree_requested, self.show_tree),
            (panel.tracks_toggled, self.set_tracks),
            (dock.objects_part.lineage_requested, self.acts.do),
        ):
            signal.connect(guarded(act, dock.fail))

    # What a person asks for

    def look(self) -> None:
        """Look for divisions."""
        if not any(row.n_frames > len(row.prompted) for row in self.controller.state.objects):
            raise InputError("nothing was followed yet; press Follow first, then divisions can be seen")
        self.divisions.look()

    def go_to(self, division: Division) -> None:
        """Show a proposal in the picture."""
        self.divisions.choose(division)
        self.dock.go_to(division.parent, division.frame)
        if self.dock.layers is not None:
            boxes = [daughter.bbox for daughter in division.daughters]
            y = sum(box[0] + box[2] - 1 for box in boxes) / 2 / len(boxes)
            x = sum(box[1] + box[3] - 1 for box in boxes) / 2 / len(boxes)
            look_at(self.dock.viewer, self.dock.layers.placement, division.frame, y, x)

    def next(self) -> None:
        """Go to the next proposal."""
        found = self.divisions.next()
        if found is None:
            raise InputError(
                "no division is proposed; follow the objects first"
                if not self.divisions.looked
                else "there is no division to decide on"
            )
        self.dock.sections[LINEAGE].set_folded(False)
        self.go_to(found)

    def accept(self) -> None:
        """The proposal that is looked at is a division."""
        self.controller.accept_division(self._chosen())

    def reject(self) -> None:
        """The proposal that is looked at is none."""
        self.controller.reject_division(self._chosen())

    def _chosen(self) -> Division:
        if self.divisions.chosen is None:
            how = "press D, or choose one in the list" if self.divisions.open else "none is proposed now"
            raise InputError(f"no division is looked at; {how}")
        return self.divisions.chosen

    def set_tracks(self, shown: bool) -> None:
        """Show the ways of all objects in the picture, or not."""
        self._wanted = shown
        if not shown:
            self.layers.hide_tracks(self.dock.layers)
        self._show_tracks()

    def show_tree(self) -> None:
        """Show who descends from whom."""
        if self.tree is None:
            self.tree = TreeWindow(self.dock)
            self.tree.clicked.connect(guarded(self.dock.go_to, self.dock.fail))
        session = self.controller.session
        self.tree.setWindowTitle("Lineage" + ("" if session is None else f" of {session.stack.name}"))
        self._show_tree(force=True)
        self.tree.show()
        self.tree.raise_()
        self.tree.activateWindow()

    # What comes to pass

    def opened(self, session: Session) -> None:
        """A session was opened, and its layers are there."""
        self._told = False
        possible = self.divisions.possible()
        section = self.dock.sections[LINEAGE]
        section.setEnabled(session.stack.n_frames > 1)
        self.panel.look.setVisible(possible)
        layout = None if self.dock.layers is None else self.dock.layers.placement.layout
        fits = layout is not None and layout.frame == 0 and session.stack.n_frames > 1
        self.panel.set_tracks(self._wanted and fits, "" if fits else _NO_TRACKS)
        self._wanted = self._wanted and fits

    def frame_moved(self, frame: int | None) -> None:
        """Another frame is shown."""
        if self.tree is not None:
            self.tree.set_frame(frame)

    def _closed(self) -> None:
        self.layers.forget()
        self._shown = None
        if self.tree is not None:
            self.tree.close()

    def _followed(self) -> None:
        self.divisions.look()

    def _state_changed(self, state: State) -> None:
        if not self.controller.following:
            self._show_tracks()
            self._show_tree()
        self._note(state)

    def _current_changed(self, object_id: int) -> None:
        if self.tree is not None:
            self.tree.set_chosen(object_id)

    def _note(self, state: State) -> None:
        self.dock.sections[LINEAGE].set_note(lineage_note(state, len(self.divisions.open)))

    def _show_divisions(self) -> None:
        d = self.divisions
        self.panel.set_divisions(d.open, d.chosen, looking=d.looking, looked=d.looked)
        if d.open and not self._told:
            self._told = True  # once: the user may fold it again
            self.dock.sections[LINEAGE].set_folded(False)
        self._note(self.controller.state)
        if d.chosen is not self._shown:
            self._shown = d.chosen
            if d.chosen is None:
                self.layers.hide_division(self.dock.layers)
            else:
                self._outline(d.chosen)

    def _outline(self, division: Division) -> None:
        def work(session: Session) -> tuple[Part | None, int]:
            before = session.update(division.parent, division.frame - 1)
            return (None if before is None else (before.mask, before.bbox[:2])), session.next_id

        def done(found: tuple[Part | None, int]) -> None:
            if self.divisions.chosen is division and self.dock.layers is not None:
                self.layers.show_division(self.dock.layers, division, *found)

        self.controller.ask(work, done, "Division", key="outline")

    def _show_tracks(self) -> None:
        layers, state = self.dock.layers, self.controller.state
        if layers is None or not self._wanted:
            return
        if self.layers.lost(layers):  # the user has removed them
            self._wanted = False
            self.panel.set_tracks(False)
        else:
            self.layers.show_tracks(layers, state)

    def _show_tree(self, *, force: bool = False) -> None:
        if self.tree is None or not (force or self.tree.isVisible()):
            return
        state = self.controller.state
        self.tree.set_lineage(lineage_of(state), state.spans, max(state.n_frames, 1))
        self.tree.set_chosen(self.controller.current)
        self.tree.set_frame(None if self.dock.layers is None else self.dock.layers.frame)

    def _bind(self, layer: Layer) -> None:
        acts: dict[str, Any] = self.dock.acts
        bind_keys(layer, acts)

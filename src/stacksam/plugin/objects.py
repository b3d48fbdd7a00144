"""The table of objects: what there is, how far each was followed, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import (
    QEvent,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QMenu,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from stacksam.plugin.icons import icon
from stacksam.plugin.keys import hint
from stacksam.plugin.lineage_acts import lineage_entries
from stacksam.plugin.objects_model import ROW_ROLE, Column, ObjectsModel
from stacksam.plugin.objects_table import ObjectsTable
from stacksam.plugin.state import EMPTY

if TYPE_CHECKING:
    from stacksam.plugin.state import ObjectRow, State

__all__ = ["ObjectsPanel"]

_EMPTY = "<b>No objects yet</b><br><br>Click a cell in the picture to start one."
_BUTTONS = {
    "add": ("Add", "Start a new object: the next click in the picture is its first"),
    "remove": ("Remove", "Remove the selected objects from all frames"),
    "merge": ("Merge", "Make the selected objects one"),
    "split": (
        "Split",
        "Split the selected object: parts that lie apart here become objects",
    ),
    "rename": ("Rename", "Name the selected object"),
}
_KEYS = {"add": hint("new_object"), "remove": " (Delete)", "rename": " (F2)"}


class ObjectsPanel(QWidget):
    """Objects of a session, to look at, choose from and change.

    It changes nothing itself but what it shows: every wish is a signal, and the next state brings what came
    of it. ``Delete``, ``F2`` (rename) and ``Space`` (show or hide) work in the table.

    Parameters
    ----------
    parent : QWidget, optional

    Attributes
    ----------
    current_changed : Signal(int)
        The user made another object current; 0 for none.
    selection_changed : Signal(tuple)
        Ids of the selected objects, ascending.
    add_requested : Signal()
    remove_requested : Signal(tuple)
        Ids.
    merge_requested : Signal(int, tuple)
        The id that stays, and the ids that become part of it.
    split_requested : Signal(int)
    rename_requested : Signal(int, str)
    visibility_changed : Signal(int, bool)
    lock_requested : Signal(int, bool)
        Accept all frames of an object that have a result, or take that back.
    lineage_requested : Signal(str, tuple)
        Name of an `Entry` of :func:`stacksam.plugin.lineage_acts.lineage_entries`, and ids.
    """

    current_changed = Signal(int)
    selection_changed = Signal(tuple)
    add_requested = Signal()
    remove_requested = Signal(tuple)
    merge_requested = Signal(int, tuple)
    split_requested = Signal(int)
    rename_requested = Signal(int, str)
    visibility_changed = Signal(int, bool)
    lock_requested = Signal(int, bool)
    lineage_requested = Signal(str, tuple)

    def __init__(self, parent: QWidget | None = None) -> None:
        self._made = False
        super().__init__(parent)
        self._telling = False  # of a new current object
        self._quiet = False
        self._awaited: int | None = None  # asked for by set_current before the state knew it
        self._told: tuple[int, tuple[int, ...]] = (0, ())
        self._state = EMPTY
        self._frame: int | None = None

        self._model = ObjectsModel(self)
        self._table = ObjectsTable(self._model, self)
        empty = QLabel(_EMPTY)
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        empty.setWordWrap(True)
        empty.setMargin(16)
        self._pages = QStackedWidget()
        self._pages.addWidget(empty)
        self._pages.addWidget(self._table)
        self._count = QLabel()
        self._buttons = {name: self._button(name) for name in _BUTTONS}
        row = QHBoxLayout()
        row.setSpacing(2)
        for button in self._buttons.values():
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._pages, 1)
        layout.addWidget(self._count)
        layout.addLayout(row)

        self._model.renamed.connect(self.rename_requested)
        self._table.toggled.connect(self._toggle)
        self._table.keyed.connect(self._key)
        self._table.customContextMenuRequested.connect(self._show_menu)
        selection = self._table.selectionModel()
        selection.currentRowChanged.connect(self._tell)
        selection.selectionChanged.connect(self._tell)
        self._made = True
        self._draw_icons()
        self._refresh()

    def _button(self, name: str) -> QToolButton:
        button = QToolButton()
        button.setObjectName(name)
        button.setText(_BUTTONS[name][0])
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        button.setIconSize(QSize(16, 16))
        button.setAutoRaise(True)
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: self._ask(name))
        return button

    # What the controller calls

    def set_state(self, state: State) -> None:
        """Show another state; selection, scroll position and a name being typed stay.

        If the current object or selected ones are gone, that is told by the signals.
        """
        self._state = state
        with self._silently():
            current = self.current()
            self._model.set_state(state)
            if current and self._model.place(current) is None:
                self._make_current(None)
            if self._awaited is not None and self._model.place(self._awaited) is not None:
                self._make_current(self._awaited)
        self._table.fit()
        self._tell()

    def set_current(self, object_id: int | None) -> None:
        """Make an object current without telling; the only one selected, unless it is already.

        Parameters
        ----------
        object_id : int or None
            None or 0: none. One that the state does not know yet is taken up as soon as it does.
        """
        if self._telling and (object_id or 0) == self.current():
            return  # Qt is about to change the selection that made it current
        with self._silently():
            self._make_current(object_id or None)
        self._told = (self.current(), self.selected())
        self._refresh()

    def set_frame(self, frame: int | None) -> None:
        """The frame that is shown; None where it is none of the stack's."""
        self._frame = frame

    def current(self) -> int:
        """Id of the current object; 0 for none."""
        return self._id_at(self._table.currentIndex())

    def selected(self) -> tuple[int, ...]:
        """Ids of the selected objects, ascending."""
        return tuple(sorted(self._id_at(index) for index in self._table.selectionModel().selectedRows()))

    def hidden(self) -> frozenset[int]:
        """Ids of the objects that the user does not want to see."""
        return self._model.hidden

    # What the user does

    def _ask(self, name: str) -> None:
        """Do what a button says."""
        ids = self.selected()
        if name == "add":
            self.add_requested.emit()
        elif name == "remove":
            self.remove_requested.emit(ids)
        elif name == "merge":
            into = self._into(ids)
            self.merge_requested.emit(into, tuple(i for i in ids if i != into))
        elif name == "split":
            self.split_requested.emit(ids[0])
        else:
            place = self._index_of(ids[0])
            self._table.setCurrentIndex(place)
            self._table.edit(place.siblingAtColumn(Column.NAME))

    def _key(self, name: str) -> None:
        """Do what a key in the table says."""
        if name == "show":
            ids = self.selected()
            if ids:
                self._set_visible(ids, not set(ids).isdisjoint(self.hidden()))
        elif self._buttons[name].isEnabled():
            self._ask(name)

    def _toggle(self, index: QModelIndex) -> None:
        """Turn what was clicked: an eye or a lock."""
        row: ObjectRow = index.data(ROW_ROLE)
        if index.column() == Column.VISIBLE:
            self._set_visible([row.object_id], row.object_id in self.hidden())
        elif row.n_frames:
            self.lock_requested.emit(row.object_id, row.n_locked < row.n_frames)

    def _set_visible(self, object_ids: Collection[int], visible: bool) -> None:
        for object_id in self._model.set_visible(object_ids, visible):
            self.visibility_changed.emit(object_id, visible)

    def _show_only(self, object_ids: Collection[int]) -> None:
        self._set_visible(object_ids, True)
        self._set_visible(set(self._model.object_ids) - set(object_ids), False)

    def _lock(self, rows: Collection[ObjectRow], locked: bool) -> None:
        for row in rows:
            self.lock_requested.emit(row.object_id, locked)

    def _show_menu(self, position: QPoint) -> None:
        menu = self._menu()
        menu.exec(self._table.viewport().mapToGlobal(position))
        menu.deleteLater()

    def _menu(self) -> QMenu:
        """What can be done with the selected objects."""
        menu = QMenu(self)
        ids = self.selected()
        rows = self._model.rows(ids)

        menu.setToolTipsVisible(True)

        def offer(text: str, enabled: bool, does: Callable[[], None], tip: str = "") -> None:
            action = menu.addAction(text)
            action.setEnabled(enabled)
            action.setToolTip(tip)
            action.triggered.connect(lambda _checked: does())

        for name in ("rename", "merge", "split", "remove"):
            key = _KEYS.get(name, "").strip(" ()")
            text = f"{_BUTTONS[name][0]}\t{key}"
            offer(text, self._buttons[name].isEnabled(), partial(self._ask, name))
        menu.addSeparator()
        to_lock = [row for row in rows if row.n_locked < row.n_frames]
        to_free = [row for row in rows if row.n_locked]
        offer("Accept all frames", bool(to_lock), lambda: self._lock(to_lock, True))
        offer("Take acceptance back", bool(to_free), lambda: self._lock(to_free, False))
        menu.addSeparator()
        for entry in lineage_entries(self._state, ids, self._frame):
            asks = partial(self.lineage_requested.emit, entry.name, ids)
            offer(entry.text, entry.enabled, asks, entry.tip)
        menu.addSeparator()
        only = "Show only these" if len(ids) > 1 else "Show only this"
        offer(only, bool(ids), lambda: self._show_only(ids))
        offer("Show all", bool(self.hidden()), lambda: self._set_visible(self.hidden(), True))
        return menu

    # Keeping things in step

    @contextmanager
    def _silently(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _tell(self, *_: object) -> None:
        """Tell of the current object and the selection, if they are not what was told last."""
        if self._quiet:
            return
        before, self._told = self._told, (self.current(), self.selected())
        self._refresh()
        if self._told[0] != before[0]:
            self._awaited = None
            self._telling = True
            try:
                self.current_changed.emit(self._told[0])
            finally:
                self._telling = False
        if self._told[1] != before[1]:
            self.selection_changed.emit(self._told[1])

    def _make_current(self, object_id: int | None) -> None:
        selection = self._table.selectionModel()
        flag = QItemSelectionModel.SelectionFlag
        index = QModelIndex() if object_id is None else self._index_of(object_id)
        self._awaited = None if index.isValid() else object_id
        if not index.isValid():
            selection.clear()
        elif selection.isSelected(index):
            selection.setCurrentIndex(index, flag.NoUpdate)
        else:
            selection.setCurrentIndex(index, flag.ClearAndSelect | flag.Rows)
            self._table.scrollTo(index)

    def _refresh(self) -> None:
        """Bring buttons, counts and marks in step with the selection."""
        ids = self.selected()
        can = {
            "add": True,
            "remove": bool(ids),
            "merge": len(ids) > 1,
            "split": len(ids) == 1 and any(row.n_frames for row in self._model.rows(ids)),
            "rename": len(ids) == 1,
        }
        for name, button in self._buttons.items():
            button.setEnabled(can[name])
            button.setToolTip(self._tooltip(name, ids))
        total = len(self._model.object_ids)
        chosen = f" · {len(ids)} selected" if len(ids) > 1 else ""
        self._count.setText(f"{total} object{'s' if total != 1 else ''}{chosen}")
        self._count.setVisible(total > 0)
        self._pages.setCurrentIndex(1 if total else 0)
        self._table.delegate.current = self.current()
        self._table.viewport().update()

    def _tooltip(self, name: str, ids: tuple[int, ...]) -> str:
        text = _BUTTONS[name][1]
        if name == "merge":
            into = f"; all become object {self._into(ids)}" if len(ids) > 1 else "; select two or more first"
            text += into
        elif name != "add" and not ids:
            text += "; select one first"
        return text + _KEYS.get(name, "")

    def _into(self, ids: tuple[int, ...]) -> int:
        """The object that a merge leaves: the current one if it is among them, else the first."""
        return self.current() if self.current() in ids else ids[0]

    def _index_of(self, object_id: int) -> QModelIndex:
        place = self._model.place(object_id)
        if place is None:
            return QModelIndex()
        return self._table.sorted.mapFromSource(self._model.index(place, Column.NAME))

    def _id_at(self, index: QModelIndex) -> int:
        return int(index.data(ROW_ROLE).object_id) if index.isValid() else 0

    # Looks

    def _draw_icons(self) -> None:
        color = self.palette().color(QPalette.ColorRole.WindowText)
        for name, button in self._buttons.items():
            button.setIcon(icon(name, color))

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the theme."""
        super().changeEvent(event)
        looks = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange)
        # Such events also come while the widget is being made.
        if event.type() in looks and self._made:
            self._draw_icons()

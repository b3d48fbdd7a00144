"""The objects of a session as a Qt table: what each cell says, and which cells changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QIcon

from stacksam.tracks.review import FINE, POOR, in_words

if TYPE_CHECKING:
    from stacksam.plugin.state import ObjectRow, State

__all__ = ["ROW_ROLE", "SORT_ROLE", "Column", "ObjectsModel", "confidence_word"]

SORT_ROLE = int(Qt.ItemDataRole.UserRole) + 1
ROW_ROLE = int(Qt.ItemDataRole.UserRole) + 2
"""Role under which a cell gives its whole `ObjectRow`."""


class Column(IntEnum):
    """Columns of the table, from the left."""

    COLOR = 0
    ID = 1
    NAME = 2
    FRAMES = 3
    CONFIDENCE = 4
    VISIBLE = 5
    LOCKED = 6


_HEADERS = {
    Column.COLOR: ("", "Colour of the object in the picture"),
    Column.ID: ("ID", "Number of the object: its value in the labels"),
    Column.NAME: ("Name", "Double-click a name to change it"),
    Column.FRAMES: ("Frames", "Frames on which the object is, of all; the bar shows how many were looked at"),
    Column.CONFIDENCE: ("Confidence", "How sure the results are, on average: look at low ones first"),
    Column.VISIBLE: ("", "Shown in the picture"),
    Column.LOCKED: ("", "Frames that you accepted: they stay as they are"),
}


def confidence_word(value: float | None) -> str:
    """What a confidence of 0 to 1 is called where there is little room; empty for None."""
    if value is None:
        return ""
    return "sure" if value >= FINE else "unsure" if value >= POOR else "wrong?"


class ObjectsModel(QAbstractTableModel):
    """Rows by object id. It changes as little as it can, so that selection and open editors last.

    Attributes
    ----------
    renamed : Signal(int, str)
        The user gave an object a name.
    n_frames : int
        Frames of the stack.
    """

    renamed = Signal(int, str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.n_frames = 0
        self._rows: list[ObjectRow] = []
        self._hidden: set[int] = set()
        self._compact = 0
        self._icons: dict[Column, QIcon] = {}

    # What Qt asks

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of objects."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(Column)

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """What can be done with a cell."""
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if index.column() == Column.NAME:
            flags |= Qt.ItemFlag.ItemIsEditable
        return flags

    def headerData(  # noqa: N802
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Title and explanation of a column."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        title, explanation = _HEADERS[Column(section)]
        if role == Qt.ItemDataRole.DisplayRole:
            return "Conf." if self._compact and section == Column.CONFIDENCE else title
        if role == Qt.ItemDataRole.DecorationRole:
            return self._icons.get(Column(section))
        return explanation if role == Qt.ItemDataRole.ToolTipRole else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell shows, explains or is sorted by."""
        if not index.isValid():
            return None
        row, column = self._rows[index.row()], Column(index.column())
        if role == ROW_ROLE:
            return row
        if role == SORT_ROLE:
            return self._sort_key(row, column)
        if role == Qt.ItemDataRole.EditRole:
            return row.name if column == Column.NAME else None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tooltip(row, column)
        return None

    def setData(  # noqa: N802
        self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole
    ) -> bool:
        """Take a name that the user typed; the session is told by `renamed`."""
        if not index.isValid() or role != Qt.ItemDataRole.EditRole or index.column() != Column.NAME:
            return False
        row, name = self._rows[index.row()], str(value).strip()
        if name == row.name:
            return False
        # Shown at once; the next state tells whether the session took it.
        self._rows[index.row()] = replace(row, name=name)
        self.dataChanged.emit(index, index)
        self.renamed.emit(row.object_id, name)
        return True

    # What the panel asks

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, in order of the rows."""
        return tuple(row.object_id for row in self._rows)

    @property
    def hidden(self) -> frozenset[int]:
        """Ids of the objects that are not shown in the picture."""
        return frozenset(self._hidden)

    def place(self, object_id: int) -> int | None:
        """The row of an object, or None."""
        return next((i for i, row in enumerate(self._rows) if row.object_id == object_id), None)

    def rows(self, object_ids: Collection[int]) -> list[ObjectRow]:
        """What is known of some objects."""
        return [row for row in self._rows if row.object_id in object_ids]

    def set_state(self, state: State) -> None:
        """Show another state: rows that are gone, new or different are told of, and no others."""
        rows = sorted(state.objects, key=lambda row: row.object_id)
        wanted = {row.object_id for row in rows}
        self._hidden &= wanted
        for first, last in reversed(
            _runs(i for i, row in enumerate(self._rows) if row.object_id not in wanted)
        ):
            self.beginRemoveRows(QModelIndex(), first, last)
            del self._rows[first : last + 1]
            self.endRemoveRows()
        known = {row.object_id for row in self._rows}
        for first, last in _runs(i for i, row in enumerate(rows) if row.object_id not in known):
            self.beginInsertRows(QModelIndex(), first, last)
            self._rows[first:first] = rows[first : last + 1]
            self.endInsertRows()
        before, self._rows = self._rows, rows
        if state.n_frames != self.n_frames:
            self.n_frames = state.n_frames
            self._tell(range(len(rows)), Column.FRAMES, Column.LOCKED)
            return
        # A name that is being typed must not be overwritten by that of the last state.
        changed = [i for i, row in enumerate(rows) if replace(before[i], name=row.name) != row]
        self._tell(changed, Column.FRAMES, Column.LOCKED)
        self._tell((i for i, row in enumerate(rows) if before[i].name != row.name), Column.NAME, Column.NAME)

    def set_visible(self, object_ids: Collection[int], visible: bool) -> list[int]:
        """Show or hide objects; the ids of those that were not so before."""
        known = set(object_ids) & set(self.object_ids)
        changed = sorted(known & self._hidden if visible else known - self._hidden)
        if visible:
            self._hidden.difference_update(changed)
        else:
            self._hidden.update(changed)
        places = (i for i, row in enumerate(self._rows) if row.object_id in set(changed))
        self._tell(places, Column.COLOR, Column.VISIBLE)
        return changed

    def set_compact(self, compact: int) -> None:
        """Say less for want of room: 1 shortens a title, 2 leaves out numbers of frames, too."""
        if compact != self._compact:
            self._compact = compact
            self.headerDataChanged.emit(Qt.Orientation.Horizontal, Column.CONFIDENCE, Column.CONFIDENCE)
            self._tell(range(len(self._rows)), Column.FRAMES, Column.LOCKED)

    def set_header_icons(self, icons: dict[Column, QIcon]) -> None:
        """Give columns an icon as a title."""
        self._icons = icons
        self.headerDataChanged.emit(Qt.Orientation.Horizontal, Column.COLOR, Column.LOCKED)

    def _tell(self, places: Iterable[int], left: Column, right: Column) -> None:
        for first, last in _runs(places):
            self.dataChanged.emit(self.index(first, left), self.index(last, right))

    # What cells say

    def _text(self, row: ObjectRow, column: Column) -> str:
        if column == Column.ID:
            return str(row.object_id)
        if column == Column.NAME:
            return row.name
        if column == Column.FRAMES:
            seen = row.n_frames - row.n_empty
            return str(seen) if self._compact == 2 else f"{seen} / {self.n_frames}"
        if column == Column.CONFIDENCE:
            return confidence_word(row.confidence)
        if column == Column.LOCKED and 0 < row.n_locked < row.n_frames and self._compact < 2:
            return str(row.n_locked)
        return ""

    def _tooltip(self, row: ObjectRow, column: Column) -> str:
        if column == Column.NAME:
            return row.name or "Double-click to give this object a name"
        if column == Column.FRAMES:
            where = ", ".join(str(frame) for frame in row.prompted[:8])
            where += ", …" if len(row.prompted) > 8 else ""
            text = f"{row.n_frames} of {self.n_frames} frames have a result; prompted on frame {where or '–'}"
            if row.n_empty:
                text += f"\nThe object is not on {row.n_empty} of them."
            if row.n_stale:
                text += f"\n{row.n_stale} of them are out of date: a prompt has changed. Follow again."
            return text
        if column == Column.CONFIDENCE:
            if row.confidence is None:
                return "No results yet: follow this object"
            return (
                f"{row.confidence:.0%} on average: {in_words(row.confidence)}. Low frames are worth a look."
            )
        if column == Column.VISIBLE:
            return "Hidden: click to show" if row.object_id in self._hidden else "Shown: click to hide"
        if column == Column.LOCKED:
            if not row.n_frames:
                return "Nothing to accept yet: follow this object"
            does = "take that back" if row.n_locked == row.n_frames else "accept all"
            return f"{row.n_locked} of {row.n_frames} frames accepted. Click to {does}."
        return f"Object {row.object_id}"

    def _sort_key(self, row: ObjectRow, column: Column) -> Any:
        if column == Column.NAME:
            # Numbers in names count as numbers, and names come before none.
            natural = re.sub(r"\d+", lambda digits: digits.group().zfill(12), row.name.casefold())
            return natural or "\U0010ffff"
        if column == Column.FRAMES:
            return row.n_frames - row.n_empty
        if column == Column.CONFIDENCE:
            return -1.0 if row.confidence is None else row.confidence
        if column == Column.VISIBLE:
            return int(row.object_id in self._hidden)
        if column == Column.LOCKED:
            return row.n_locked
        return row.object_id


def _runs(places: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, last) of their unbroken runs."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs

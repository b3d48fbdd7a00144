"""The view of the objects table: columns that fit, keys, and eyes and locks to click."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QItemSelectionModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPalette, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from stacksam.plugin.icons import icon
from stacksam.plugin.objects_cells import CellDelegate
from stacksam.plugin.objects_model import SORT_ROLE, Column, ObjectsModel

__all__ = ["ObjectsTable"]

_WISHES = {
    Qt.Key.Key_Delete: "remove",
    Qt.Key.Key_Backspace: "remove",
    Qt.Key.Key_F2: "rename",
    Qt.Key.Key_Space: "show",
}
_NAME_WIDTH = 70  # pixels that the name is given before other columns say less
_BOLD = 1.12  # how much wider bold text is, about


class ObjectsTable(QTableView):
    """A table whose eyes and locks can be clicked without changing the selection.

    Parameters
    ----------
    model : ObjectsModel
    parent : QWidget

    Attributes
    ----------
    delegate : CellDelegate
    sorted : QSortFilterProxyModel
        The model as it is shown.
    toggled : Signal(QModelIndex)
        The cell of the eye or lock.
    keyed : Signal(str)
        What a key wishes for: ``"remove"``, ``"rename"`` or ``"show"``.
    """

    toggled = Signal(QModelIndex)
    keyed = Signal(str)

    def __init__(self, model: ObjectsModel, parent: QWidget) -> None:
        self._made = False
        super().__init__(parent)
        self._model = model
        self.sorted = QSortFilterProxyModel(self)
        self.sorted.setSourceModel(model)
        self.sorted.setSortRole(SORT_ROLE)
        self.setModel(self.sorted)
        self.delegate = CellDelegate(model, self)
        self.setItemDelegate(self.delegate)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setAccessibleName("Objects")
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setMinimumSectionSize(16)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(Column.NAME, QHeaderView.ResizeMode.Stretch)
        self.setSortingEnabled(True)
        self.sortByColumn(Column.ID, Qt.SortOrder.AscendingOrder)
        self._made = True
        self._draw_icons()
        self.fit()

    def fit(self) -> None:
        """Make columns as wide as their widest text; where that leaves no room for the name, say less."""
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 9)
        for compact in (0, 1, 2):
            widths = self._widths(compact)
            if self.viewport().width() - sum(widths.values()) >= _NAME_WIDTH:
                break
        self._model.set_compact(compact)
        header = self.horizontalHeader()
        for column, width in widths.items():
            if header.sectionSize(column) != width:
                header.resizeSection(column, width)

    def _widths(self, compact: int) -> dict[Column, int]:
        def width(text: str, room: int, least: int) -> int:
            return max(int(self.fontMetrics().horizontalAdvance(text) * _BOLD) + room, least)

        digits = "0" * len(str(max(self._model.object_ids, default=0)))
        frames = "0" * len(str(self._model.n_frames))
        return {
            Column.COLOR: 20,
            Column.ID: width(digits, 10, 34),
            Column.FRAMES: width(
                frames if compact == 2 else f"{frames} / {frames}", 8, width("Frames", 10, 0)
            ),
            Column.CONFIDENCE: width("unsure", 21, 0) if compact else width("Confidence", 8, 0),
            Column.VISIBLE: 26,
            Column.LOCKED: width("" if compact == 2 else frames, 8, 26),
        }

    def _draw_icons(self) -> None:
        color = self.palette().color(QPalette.ColorRole.Text)
        self._model.set_header_icons({Column.VISIBLE: icon("eye", color), Column.LOCKED: icon("lock", color)})

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Fit the columns."""
        super().resizeEvent(event)
        self.fit()

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        """Take the focus without making the first row current, as Qt does where none is."""
        had = self.currentIndex().isValid()
        selection = self.selectionModel()
        blocked = selection.blockSignals(True)
        super().focusInEvent(event)
        if not had:
            selection.setCurrentIndex(QModelIndex(), QItemSelectionModel.SelectionFlag.NoUpdate)
        selection.blockSignals(blocked)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the theme."""
        super().changeEvent(event)
        looks = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.FontChange)
        # Such events also come while the widget is being made.
        if event.type() in looks and self._made:
            self._draw_icons()
            self.fit()

    def _switch(self, event: QMouseEvent) -> QModelIndex | None:
        index = self.indexAt(event.position().toPoint())
        return index if index.isValid() and index.column() >= Column.VISIBLE else None

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Take a click on an eye or a lock."""
        index = self._switch(event) if event.button() == Qt.MouseButton.LeftButton else None
        if index is None:
            super().mousePressEvent(event)
        else:
            self.toggled.emit(index)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Count a double click on an eye or a lock as two clicks."""
        index = self._switch(event) if event.button() == Qt.MouseButton.LeftButton else None
        if index is None:
            super().mouseDoubleClickEvent(event)
        else:
            self.toggled.emit(index)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Take the keys of the table."""
        wish = _WISHES.get(event.key())
        if wish is None:
            super().keyPressEvent(event)
        else:
            self.keyed.emit(wish)

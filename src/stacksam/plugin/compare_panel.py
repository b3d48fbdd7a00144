"""A small part of the dock that compares the labels with those of another layer."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from stacksam.plugin.find_panel import Running, fold_button
from stacksam.plugin.panels import fill
from stacksam.plugin.searches import Search

__all__ = ["ComparePanel"]


class ComparePanel(QWidget):
    """Which labels to compare with, and what came of it.

    Attributes
    ----------
    compare_requested : Signal(object)
        With the layer that is the reference.
    stop_requested : Signal()
    """

    compare_requested = Signal(object)
    stop_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.content = QWidget()
        self.fold = fold_button(
            "Compare with labels …",
            "How well the masks agree with labels that are right, of another Labels layer",
            self.content,
        )
        self.reference = QComboBox()
        self.reference.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.reference.setToolTip("The Labels layer that counts as right")
        self.go = QPushButton("Compare")
        self.go.clicked.connect(lambda *_: self.compare_requested.emit(self.reference.currentData()))
        self.running = Running()
        self.running.stop_requested.connect(self.stop_requested)
        self.table = QTableWidget(0, 2)
        self.table.setAccessibleName("Comparison")
        self.table.horizontalHeader().hide()
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.reference, 1)
        row.addWidget(self.go)
        inner = QVBoxLayout(self.content)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(4)
        inner.addLayout(row)
        for widget in (self.running, self.table, self.note):
            inner.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.fold)
        layout.addWidget(self.content)
        self._busy = False
        self.set_layers(())
        self.set_rows(())

    def set_layers(self, layers: Sequence[tuple[str, object]]) -> None:
        """Offer layers with their names."""
        fill(self.reference, layers or [("no other Labels layer is open", None)])
        self.reference.setEnabled(bool(layers))
        self._show_go()

    def show_search(self, search: Search | None) -> None:
        """Show how far it is; None for not under way."""
        self._busy = search is not None
        self.running.show_search(search if search is not None and search.kind == "compare" else None)
        self._show_go()

    def set_rows(self, rows: Sequence[tuple[str, str, str]], note: str = "") -> None:
        """Show measures, their values and what they mean; and what is to be said beside them."""
        self.table.setRowCount(len(rows))
        for place, (name, value, tip) in enumerate(rows):
            for column, text in enumerate((name, value)):
                item = QTableWidgetItem(text)
                item.setToolTip(tip)
                self.table.setItem(place, column, item)
            self.table.item(place, 1).setTextAlignment(
                int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            )
        self.table.resizeRowsToContents()
        self.table.setFixedHeight(sum(self.table.rowHeight(r) for r in range(len(rows))) + 4)
        self.table.setVisible(bool(rows))
        self.note.setText(note)
        self.note.setVisible(bool(note))

    def _show_go(self) -> None:
        self.go.setEnabled(self.reference.currentData() is not None and not self._busy)

"""How the cells of the objects table look: colour, bar of frames, confidence, eye and lock."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPalette
from qtpy.QtWidgets import QLineEdit, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from stacksam.plugin.colors import color_of
from stacksam.plugin.icons import draw_symbol
from stacksam.plugin.objects_model import ROW_ROLE, Column, ObjectsModel, confidence_word

if TYPE_CHECKING:
    from stacksam.plugin.state import ObjectRow

__all__ = ["CONFIDENCE_COLORS", "CellDelegate"]

# Told apart in dark and light themes, and by those who do not see red and green: they differ in lightness.
CONFIDENCE_COLORS = {"sure": "#2fa36b", "unsure": "#e3a21a", "wrong?": "#d8463c"}
_STALE = "#e3a21a"
_FAINT = 0.35  # opacity of what is there but off


@lru_cache(maxsize=4096)
def _swatch(object_id: int) -> QColor:
    return QColor.fromRgbF(*color_of(object_id))


class CellDelegate(QStyledItemDelegate):
    """Paints the cells of the objects table and edits names.

    Parameters
    ----------
    model : ObjectsModel
        Knows what is hidden and how many frames there are.
    parent : QWidget

    Attributes
    ----------
    current : int
        Id of the object that prompts go to; 0 for none.
    """

    def __init__(self, model: ObjectsModel, parent: QWidget) -> None:
        super().__init__(parent)
        self._model = model
        self.current = 0

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802, ARG002
        """Room for text and bar; the view asks for the height of one row only."""
        return QSize(20, option.fontMetrics.height() + 9)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Paint one cell."""
        row: ObjectRow = index.data(ROW_ROLE)
        column = Column(index.column())
        cell = QStyleOptionViewItem(option)
        self.initStyleOption(cell, index)
        text, cell.text = cell.text, ""
        cell.state &= ~QStyle.StateFlag.State_HasFocus  # the row is what is current, not a cell of it
        style = cell.widget.style()
        style.drawControl(QStyle.ControlElement.CE_ItemViewItem, cell, painter, cell.widget)
        selected = bool(cell.state & QStyle.StateFlag.State_Selected)
        role = QPalette.ColorRole.HighlightedText if selected else QPalette.ColorRole.Text
        ink = cell.palette.color(role)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self._font(cell, row))
        area = QRectF(cell.rect).adjusted(4, 0, -4, 0)
        if column == Column.COLOR:
            self._paint_color(painter, area, row, ink)
        elif column == Column.FRAMES:
            self._paint_frames(painter, area, row, ink, text)
        elif column == Column.CONFIDENCE:
            _paint_confidence(painter, area, row, ink, selected)
        elif column == Column.VISIBLE:
            hidden = row.object_id in self._model.hidden
            name = "eye_off" if hidden else "eye"
            draw_symbol(painter, name, _middle(area, 15), _faded(ink, 0.6 if hidden else 1.0))
        elif column == Column.LOCKED:
            _paint_lock(painter, area, row, ink, text)
        else:
            self._paint_text(painter, area, row, ink, text, column)
        painter.restore()

    def createEditor(  # noqa: N802
        self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget | None:
        """A line for the name."""
        editor = super().createEditor(parent, option, index)
        if isinstance(editor, QLineEdit):
            editor.setPlaceholderText("Name of the object")
            editor.setMaxLength(200)
            editor.setStyleSheet("min-height: 0px; padding: 0px 2px;")
        return editor

    def _font(self, cell: QStyleOptionViewItem, row: ObjectRow) -> QFont:
        font = QFont(cell.font)
        font.setBold(row.object_id == self.current)
        return font

    def _paint_text(
        self, painter: QPainter, area: QRectF, row: ObjectRow, ink: QColor, text: str, column: Column
    ) -> None:
        align = Qt.AlignmentFlag.AlignVCenter
        align |= Qt.AlignmentFlag.AlignRight if column == Column.ID else Qt.AlignmentFlag.AlignLeft
        if column == Column.NAME and not text and row.object_id == self.current:
            text, ink = "name…", _faded(ink, 0.5)
        painter.setPen(ink)
        short = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, int(area.width()))
        painter.drawText(area, int(align), short)

    def _paint_color(self, painter: QPainter, area: QRectF, row: ObjectRow, ink: QColor) -> None:
        square = _middle(area, 12)
        color = _swatch(row.object_id)
        if row.object_id in self._model.hidden:
            painter.setPen(color)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            square.adjust(0.5, 0.5, -0.5, -0.5)
        else:
            painter.setPen(ink if row.object_id == self.current else Qt.PenStyle.NoPen)
            painter.setBrush(color)
        painter.drawRoundedRect(square, 3, 3)

    def _paint_frames(self, painter: QPainter, area: QRectF, row: ObjectRow, ink: QColor, text: str) -> None:
        bar = QRectF(area.left(), area.bottom() - 5, area.width(), 3)
        painter.setPen(ink)
        painter.drawText(area.adjusted(0, 0, 0, -4), int(Qt.AlignmentFlag.AlignCenter), text)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(_faded(ink, 0.2))
        painter.drawRoundedRect(bar, 1.5, 1.5)
        if self._model.n_frames and row.n_frames:
            share = bar.width() / self._model.n_frames
            painter.setBrush(_faded(ink, 0.75))
            bar.setWidth(max(3.0, share * row.n_frames))
            painter.drawRoundedRect(bar, 1.5, 1.5)
            if row.n_stale:
                painter.setBrush(QColor(_STALE))
                bar.setLeft(bar.right() - max(3.0, share * row.n_stale))
                painter.drawRoundedRect(bar, 1.5, 1.5)


def _paint_confidence(painter: QPainter, area: QRectF, row: ObjectRow, ink: QColor, selected: bool) -> None:
    word = confidence_word(row.confidence)
    if not word:
        return
    dot = QRectF(area.left(), area.center().y() - 4, 8, 8)
    painter.setPen(ink if selected else Qt.PenStyle.NoPen)  # seen on any colour of selection
    painter.setBrush(QColor(CONFIDENCE_COLORS[word]))
    painter.drawEllipse(dot)
    painter.setPen(ink)
    align = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
    painter.drawText(area.adjusted(13, 0, 0, 0), int(align), word)


def _paint_lock(painter: QPainter, area: QRectF, row: ObjectRow, ink: QColor, text: str) -> None:
    """A closed lock where all frames are accepted, their number where some are, else a faint open one.

    Without room for the number, a paler closed lock stands for it.
    """
    if text:
        painter.setPen(ink)
        painter.drawText(area, int(Qt.AlignmentFlag.AlignCenter), text)
    elif row.n_frames:
        name = "lock" if row.n_locked else "unlock"
        opacity = 1.0 if row.n_locked == row.n_frames else 0.55 if row.n_locked else _FAINT
        draw_symbol(painter, name, _middle(area, 14), _faded(ink, opacity))


def _middle(area: QRectF, side: float) -> QRectF:
    """A square in the middle of a cell."""
    square = QRectF(0, 0, side, side)
    square.moveCenter(area.center())
    return square


def _faded(color: QColor, opacity: float) -> QColor:
    faded = QColor(color)
    faded.setAlphaF(opacity * color.alphaF())
    return faded

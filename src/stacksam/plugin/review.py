"""The review strip: frames of each object in a row, coloured by confidence, to see where to look and go.

It knows nothing of sessions or layers: it is fed with :class:`StripRow`, and signals what the user wants.
"""

# ruff: noqa: N802  Qt's names of events

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QEvent, QPoint, QPointF, QRect, QSize, Qt, Signal
from qtpy.QtGui import (
    QHelpEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QGridLayout, QScrollBar, QSizePolicy, QToolTip, QWidget

from stacksam.plugin.drawing import color, image_of, theme_of
from stacksam.plugin.gallery import Gallery, Thumb, thumbnail
from stacksam.plugin.strip_image import StripRow, Theme, describe, first_x, frame_at, row_pixels
from stacksam.plugin.strip_parts import Legend, draw_axis, draw_prompt

__all__ = ["Gallery", "ReviewStrip", "StripRow", "Thumb", "thumbnail"]

_ROW = 18  # pixels from one row to the next
_STRIP = 14  # of which are drawn
_AXIS = 18  # height of the frame numbers above the rows
_BELOW = 4  # room below the rows
_SWATCH = 19  # width of the colour left of id and name
_NAMES = (40, 140)  # least and most width of all three
_PAGE = 10  # frames that Page Up and Page Down go
_ROWS_SHOWN = 6  # rows that the strip asks room for
_MIDDLE = Qt.AlignmentFlag.AlignVCenter
_Selection = tuple[int, int, int]  # object id, first and last frame


class ReviewStrip(QWidget):
    """Frames of one or more objects as rows of colour, with a scroll bar and a legend.

    Click or drag to go to a frame; Shift and drag to select a range of frames. Left, Right, Page Up, Page
    Down, Home and End move along the frames, with Shift they select; Up and Down change the object.

    Attributes
    ----------
    frame_clicked : Signal(int, int)
        Object id and frame that the user wants to see.
    range_selected : Signal(int, int, int)
        Object id, first and last frame (included) that the user has selected.
    canvas : Rows
        The part that shows the rows.
    """

    frame_clicked = Signal(int, int)
    range_selected = Signal(int, int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bar = QScrollBar(Qt.Orientation.Vertical, self)
        self._bar.setAccessibleName("Scroll the objects")
        self.canvas = Rows(self._bar, self)
        self.legend = Legend(self)
        self.legend.setVisible(False)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(4)
        layout.setHorizontalSpacing(2)
        layout.addWidget(self.canvas, 0, 0)
        layout.addWidget(self._bar, 0, 1)
        layout.addWidget(self.legend, 1, 0, 1, 2)
        # The rows take what room there is up to their number; the rest stays empty below.
        layout.setRowStretch(0, 1000)
        layout.setRowStretch(2, 1)
        self.setFocusProxy(self.canvas)
        self.canvas.frame_clicked.connect(self.frame_clicked)
        self.canvas.range_selected.connect(self.range_selected)

    @property
    def selection(self) -> _Selection | None:
        """Object id, first and last frame of the selected range; None without one."""
        return self.canvas.selection

    def set_rows(self, rows: Sequence[StripRow]) -> None:
        """Show these objects, in this order.

        Parameters
        ----------
        rows : sequence of StripRow
            Only those that look different from before are drawn anew.
        """
        self.canvas.set_rows(rows)
        self.legend.setVisible(bool(rows))

    def set_frame(self, frame: int) -> None:
        """Move the cursor to a frame; no signal is sent."""
        self.canvas.set_frame(frame)

    def set_current(self, object_id: int) -> None:
        """Highlight an object and scroll to it; no signal is sent."""
        self.canvas.set_current(object_id)

    def clear_selection(self) -> None:
        """Forget the selected range."""
        self.canvas.select(None)


class Rows(QWidget):
    """Axis, names and rows; draws only the rows in view, each from an image that is kept."""

    frame_clicked = Signal(int, int)
    range_selected = Signal(int, int, int)

    def __init__(self, bar: QScrollBar, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bar = bar
        self._rows: tuple[StripRow, ...] = ()
        self._index: dict[int, int] = {}
        self._n_frames = 0
        self._wanted = 0  # width that the longest name asks for
        self._frame = 0
        self._current: int | None = None
        self._selecting = False
        self._anchor = 0
        self.selection: _Selection | None = None
        self._images: dict[int, tuple[StripRow, QImage]] = {}
        self._drawn_for: tuple[int, float, Theme] | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(_NAMES[0] + 80, _AXIS + _ROW)
        self.setAccessibleName("Review strip")
        self.setAccessibleDescription(
            "Left and right move along the frames, up and down change the object, shift selects a range"
        )
        bar.valueChanged.connect(self.update)
        bar.setSingleStep(_ROW)

    # What is shown

    def set_rows(self, rows: Sequence[StripRow]) -> None:
        """See :meth:`ReviewStrip.set_rows`."""
        before = len(self._rows)
        self._rows = tuple(rows)
        self._index = {row.object_id: i for i, row in enumerate(self._rows)}
        self._n_frames = max((row.n_frames for row in self._rows), default=0)
        measure = self.fontMetrics().horizontalAdvance
        # Room for bold, in which the current object is written.
        self._wanted = _SWATCH + 8 + round(1.15 * max((measure(row.title) for row in self._rows), default=0))
        self._images = {i: kept for i, kept in self._images.items() if i in self._index}
        if self._current not in self._index:
            self._current = self._rows[0].object_id if self._rows else None
        if self.selection is not None and self.selection[0] not in self._index:
            self.selection = None
        self._fit_bar()
        if len(self._rows) != before:
            self.setMaximumHeight(_AXIS + _ROW * max(len(self._rows), 2) + _BELOW)
            self.updateGeometry()
        self.update()

    def set_frame(self, frame: int) -> None:
        """See :meth:`ReviewStrip.set_frame`."""
        if frame != self._frame:
            self._frame = frame
            self.update()

    def set_current(self, object_id: int) -> None:
        """See :meth:`ReviewStrip.set_current`."""
        self._current = object_id
        if object_id in self._index:
            top = self._index[object_id] * _ROW
            room = self._room()
            if top < self._bar.value() or top + _ROW > self._bar.value() + room:
                self._bar.setValue(top - (room - _ROW) // 2)
        self.update()

    def select(self, selection: _Selection | None) -> None:
        """Show a range as selected; no signal is sent."""
        self.selection = selection
        self.update()

    # Where things are

    def frame_rect(self, object_id: int, frame: int) -> QRect:
        """Where a frame of an object is drawn, in pixels of this widget; it may lie out of view."""
        width = self._width()
        x, end = (first_x(f, width, self._n_frames) for f in (frame, frame + 1))
        y = _AXIS + self._index[object_id] * _ROW - self._bar.value() + (_ROW - _STRIP) // 2
        return QRect(self._left() + x, y, max(end - x, 1), _STRIP)

    def _row(self, object_id: int) -> StripRow:
        return self._rows[self._index[object_id]]

    def _left(self) -> int:
        """Where the strips begin, right of the names, which get no more than a third."""
        least, most = _NAMES
        return max(min(self._wanted, most, int(self.width()) // 3), least)

    def _width(self) -> int:
        return max(int(self.width()) - self._left() - 2, 1)

    def _room(self) -> int:
        return max(int(self.height()) - _AXIS, _ROW)

    def _frame_at(self, x: float) -> int:
        return frame_at(int(x) - self._left(), self._width(), self._n_frames)

    def _object_at(self, y: float) -> int | None:
        i = int(y - _AXIS + self._bar.value()) // _ROW
        return self._rows[i].object_id if y >= _AXIS and 0 <= i < len(self._rows) else None

    def _fit_bar(self) -> None:
        self._bar.setPageStep(self._room())
        self._bar.setRange(0, max(len(self._rows) * _ROW - self._room(), 0))
        self._bar.setVisible(self._bar.maximum() > 0)

    # Qt's questions and events

    def sizeHint(self) -> QSize:
        """Room for a few rows."""
        return QSize(420, _AXIS + _ROW * min(max(len(self._rows), 2), _ROWS_SHOWN) + _BELOW)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the scroll bar right."""
        super().resizeEvent(event)
        self._fit_bar()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll the objects."""
        self._bar.setValue(self._bar.value() - round(event.angleDelta().y() / 120 * 3 * _ROW))
        event.accept()

    def event(self, event: QEvent) -> bool:
        """Tell what is under the pointer when it rests."""
        if event.type() == QEvent.Type.ToolTip:
            self._tell(event)
            return True
        return bool(super().event(event))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to a frame, or begin a range."""
        if event.button() != Qt.MouseButton.LeftButton or not self._rows:
            return
        place = event.position()
        object_id = self._object_at(place.y())
        if object_id is None:
            if place.y() >= _AXIS:
                return
            object_id = self._current if self._current is not None else self._rows[0].object_id
        self._current = object_id
        self._selecting = (
            bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier) and place.x() >= self._left()
        )
        if self._selecting:
            self._anchor = self._frame_at(place.x())
            self.select((object_id, self._anchor, self._anchor))
            return
        self.select(None)
        # On the names the object is chosen, and the frame stays.
        self._go(self._frame_at(place.x()) if place.x() >= self._left() else self._frame)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag the cursor, or the end of a range."""
        if not event.buttons() & Qt.MouseButton.LeftButton or self._current is None:
            return
        frame = self._frame_at(event.position().x())
        if self._selecting:
            self.select((self._current, min(self._anchor, frame), max(self._anchor, frame)))
        elif frame != self._frame and event.position().x() >= self._left():
            self._go(frame)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End a range."""
        if event.button() == Qt.MouseButton.LeftButton and self._selecting:
            self._selecting = False
            if self.selection is not None:
                self.range_selected.emit(*self.selection)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move along the frames and objects, or select."""
        key, keys = event.key(), Qt.Key
        steps = {keys.Key_Left: -1, keys.Key_Right: 1, keys.Key_PageUp: -_PAGE, keys.Key_PageDown: _PAGE}
        steps |= {keys.Key_Home: -self._n_frames, keys.Key_End: self._n_frames}
        if (
            self._current is None
            or self._current not in self._index
            or key
            not in {
                *steps,
                keys.Key_Up,
                keys.Key_Down,
                keys.Key_Escape,
            }
        ):
            super().keyPressEvent(event)
        elif key == keys.Key_Escape:
            self.select(None)
        elif key in steps:
            frame = min(max(self._frame + steps[key], 0), self._n_frames - 1)
            self._extend(frame) if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else self._go(frame)
        else:
            i = self._index[self._current] + (1 if key == keys.Key_Down else -1)
            self.set_current(self._rows[min(max(i, 0), len(self._rows) - 1)].object_id)
            self._go(self._frame)

    def _go(self, frame: int) -> None:
        self.set_frame(frame)
        self.update()
        self.frame_clicked.emit(self._current, frame)

    def _extend(self, frame: int) -> None:
        """Select from where Shift was first pressed to a frame, and go there."""
        if self._current is None:
            return
        if self.selection is None or self.selection[0] != self._current:
            self._anchor = self._frame
        self.selection = (self._current, min(self._anchor, frame), max(self._anchor, frame))
        self._go(frame)
        self.range_selected.emit(*self.selection)

    def _tell(self, event: QHelpEvent) -> None:
        object_id = self._object_at(event.pos().y())
        if object_id is None:
            QToolTip.hideText()
            return
        row = self._row(object_id)
        frame = self._frame_at(event.pos().x()) if event.pos().x() >= self._left() else self._frame
        QToolTip.showText(event.globalPos(), describe(row, frame), self)

    # Drawing

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw the rows in view, the axis over them, and the cursor over all."""
        theme = theme_of(self)
        painter = QPainter(self)
        painter.fillRect(self.rect(), color(theme.background))
        if not self._rows:
            painter.setPen(color(theme.mix(0.6)))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "No objects yet")
            return
        drawn_for = (self._width(), self.devicePixelRatioF(), theme)
        if drawn_for != self._drawn_for:
            self._images.clear()
            self._drawn_for = drawn_for
        first = self._bar.value() // _ROW
        painter.setClipRect(QRect(0, _AXIS, self.width(), self._room()))
        for row in self._rows[first : first + self._room() // _ROW + 2]:
            self._draw_row(painter, row, theme)
        painter.setClipping(False)
        draw_axis(painter, QRect(self._left(), 0, self._width(), _AXIS), self._n_frames, self._frame, theme)
        self._draw_cursor(painter, theme)
        if self.hasFocus():
            painter.setPen(QPen(color(theme.mix(0.6)), 1, Qt.PenStyle.DotLine))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))

    def _image(self, row: StripRow, theme: Theme) -> QImage:
        kept = self._images.get(row.object_id)
        if kept is None or not kept[0].looks_like(row):
            ratio = self.devicePixelRatioF()
            pixels = row_pixels(row, round(self._width() * ratio), round(_STRIP * ratio), theme)
            kept = self._images[row.object_id] = (row, image_of(pixels, ratio))
        return kept[1]

    def _draw_row(self, painter: QPainter, row: StripRow, theme: Theme) -> None:
        place = self.frame_rect(row.object_id, 0)
        line = QRect(0, place.y() - (_ROW - _STRIP) // 2, self.width(), _ROW)
        current = row.object_id == self._current
        if current:
            painter.fillRect(line, color(theme.mix(0.2)))
        painter.fillRect(QRect(4, place.y() + 2, 10, _STRIP - 4), color(row.color))
        font = self.font()
        font.setBold(current)
        painter.setFont(font)
        painter.setPen(color(theme.foreground if current else theme.mix(0.8)))
        room = self._left() - _SWATCH - 4
        text = painter.fontMetrics().elidedText(row.title, Qt.TextElideMode.ElideRight, room)
        painter.drawText(QRect(_SWATCH, line.y(), room, _ROW), _MIDDLE, text)
        painter.setFont(self.font())
        painter.drawImage(QPoint(self._left(), place.y()), self._image(row, theme))
        for frame in row.frames[row.prompted]:
            cell = self.frame_rect(row.object_id, int(frame))
            draw_prompt(painter, cell.x() + cell.width() / 2, place.y() + _STRIP / 2, theme)
        if self.selection is not None and self.selection[0] == row.object_id:
            ends = [self.frame_rect(row.object_id, frame) for frame in self.selection[1:]]
            painter.setPen(QPen(color(theme.foreground), 2, Qt.PenStyle.DashLine))
            painter.drawRect(ends[0].united(ends[1]).adjusted(0, -1, 0, 1))

    def _draw_cursor(self, painter: QPainter, theme: Theme) -> None:
        if not 0 <= self._frame < self._n_frames:
            return
        cell = self.frame_rect(self._rows[0].object_id, self._frame)
        bottom = min(_AXIS + len(self._rows) * _ROW, self.height())
        x = cell.x() + cell.width() / 2
        # A line with a halo is seen on every colour of the scale.
        for pen in (QPen(color(theme.background), 4), QPen(color(theme.foreground), 2)):
            painter.setPen(pen)
            painter.drawLine(QPointF(x, _AXIS - 2), QPointF(x, bottom))

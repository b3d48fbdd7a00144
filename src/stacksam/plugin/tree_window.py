"""A lineage as a picture in a window of its own, with the chosen object and the frame that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPixmap, QResizeEvent
from qtpy.QtWidgets import QLabel, QScrollArea, QToolTip, QVBoxLayout, QWidget

from stacksam.plugin.colors import color_of
from stacksam.plugin.drawing import image_of
from stacksam.plugin.parts import timer
from stacksam.tracks.tree import TreeLayout, lineage_tree, tree_layout

if TYPE_CHECKING:
    import networkx as nx

    from stacksam.io.lineage import Spans

__all__ = ["TreeWindow"]

_SIZE = QSize(720, 420)
_LEAST = 240  # pixels of the picture's width
_RESIZE_MS = 80
_EMPTY = "There is nothing to show yet: click objects and follow them."
_HINT = "Time goes to the right. Click a line to choose the object and go to that frame."


class TreeWindow(QWidget):
    """The window.

    Parameters
    ----------
    parent : QWidget
        It lies over that one's window, and goes with it.

    Attributes
    ----------
    clicked : Signal(int, int)
        Object and frame at a place that was clicked.
    """

    clicked = Signal(int, int)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.resize(_SIZE)
        self.picture = _Picture()
        self.picture.clicked.connect(self.clicked)
        self._scroll = QScrollArea()
        self._scroll.setWidget(self.picture)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self._scroll.setStyleSheet("QScrollArea { background: rgb(18, 20, 26); border: none; }")
        self.message = QLabel(_HINT)
        self.message.setWordWrap(True)
        self.message.setMargin(6)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(self.message)
        self._lineage: nx.DiGraph | None = None
        self._spans: Spans = {}
        self._n_frames = 1
        self._key: tuple[object, ...] | None = None
        self._again = timer(self, _RESIZE_MS, self._draw)

    def set_lineage(self, lineage: nx.DiGraph | None, spans: Spans, n_frames: int) -> None:
        """Show another lineage; see :func:`stacksam.tracks.lineage_tree`."""
        edges = () if lineage is None else tuple(sorted(lineage.edges))
        key = edges, tuple(sorted(spans.items())), n_frames
        if key == self._key:
            return
        self._key = key
        self._lineage, self._spans, self._n_frames = lineage, dict(spans), n_frames
        self._draw()

    def set_chosen(self, object_id: int) -> None:
        """Mark an object, and scroll to it."""
        if object_id == self.picture.chosen:
            return
        self.picture.chosen = object_id
        self._show_chosen()
        self.picture.update()

    def set_frame(self, frame: int | None) -> None:
        """Mark the frame that is shown."""
        self.picture.frame = frame
        self.picture.update()

    def _show_chosen(self) -> None:
        at = self.picture.layout_
        if at is not None and self.picture.chosen in at.rows:
            place = round(at.y(self.picture.chosen))
            self._scroll.ensureVisible(0, place, 0, 2 * at.step)

    def _draw(self) -> None:
        self._again.stop()
        if not self._spans:
            self.picture.show_picture(None, None)
            self.message.setText(_EMPTY)
            return
        width = max(_LEAST, self._scroll.viewport().width())
        options = {"n_frames": self._n_frames, "width": width}
        drawn = lineage_tree(self._lineage, self._spans, colours=_rgb, **options)
        self.picture.show_picture(drawn, tree_layout(self._lineage, self._spans, **options))
        self.message.setText(_HINT)
        self._show_chosen()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Draw it as wide as the window."""
        super().resizeEvent(event)
        self._again.start()


class _Picture(QWidget):
    """The picture, and over it what changes often."""

    clicked = Signal(int, int)

    def __init__(self) -> None:
        super().__init__()
        self.chosen = 0
        self.frame: int | None = None
        self.layout_: TreeLayout | None = None
        self._pixels: QPixmap | None = None
        self.setMouseTracking(True)

    def show_picture(self, drawn: NDArray[np.uint8] | None, layout: TreeLayout | None) -> None:
        self.layout_ = layout
        if drawn is None:
            self._pixels = None
        else:
            self._pixels = QPixmap.fromImage(image_of(drawn))
            self.setFixedSize(drawn.shape[1], drawn.shape[0])
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802
        at, pixels = self.layout_, self._pixels
        if at is None or pixels is None:
            return
        painter = QPainter(self)
        painter.drawPixmap(0, 0, pixels)
        if self.frame is not None:
            left, right = at.x(self.frame), at.x(self.frame + 1)
            painter.fillRect(
                QRectF(left, at.top, max(1.0, right - left), at.bottom - at.top), QColor(255, 255, 255, 26)
            )
        if self.chosen in at.rows:
            first, last = at.spans[self.chosen]
            left = at.x(first) - (26 if at.named else 4)
            place = QRectF(left, at.y(self.chosen) - at.step / 2, at.x(last + 1) + 4 - left, at.step)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QColor(255, 255, 255))
            painter.drawRoundedRect(place.adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)

    def _at(self, place: QPoint) -> int | None:
        return None if self.layout_ is None else self.layout_.object_at(place.x(), place.y())

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        found = self._at(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and found is not None and self.layout_ is not None:
            first, last = self.layout_.spans[found]
            frame = self.layout_.frame_at(event.position().x())
            self.clicked.emit(found, min(max(frame, first), last))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        found = self._at(event.position().toPoint())
        self.setCursor(Qt.CursorShape.ArrowCursor if found is None else Qt.CursorShape.PointingHandCursor)
        if found is None or self.layout_ is None:
            QToolTip.hideText()
            return
        first, last = self.layout_.spans[found]
        QToolTip.showText(event.globalPosition().toPoint(), f"Object {found}, frames {first} to {last}", self)


def _rgb(object_id: int) -> tuple[int, int, int]:
    red, green, blue, _ = (round(255 * value) for value in color_of(object_id))
    return red, green, blue

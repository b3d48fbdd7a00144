"""Small symbols for buttons and tables, drawn in the colour of the text beside them.

Drawn rather than loaded: they follow the theme, dark or light, at any size and screen density.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

__all__ = ["SYMBOLS", "draw_symbol", "icon"]

_SIDE = 16.0  # symbols are drawn in a square of this side
_DENSITY = 3  # pixels of an icon for one of the screen, so that it stays sharp on dense ones

Line = list[tuple[float, float]]

_LINES: dict[str, list[Line]] = {
    "add": [[(8, 3), (8, 13)], [(3, 8), (13, 8)]],
    "remove": [
        [(2.5, 4.5), (13.5, 4.5)],
        [(6, 4.5), (6, 2.5), (10, 2.5), (10, 4.5)],
        [(4, 4.5), (4.8, 13.5), (11.2, 13.5), (12, 4.5)],
        [(6.8, 7), (6.8, 11)],
        [(9.2, 7), (9.2, 11)],
    ],
    "merge": [[(2, 3), (7, 8), (14, 8)], [(2, 13), (7, 8)], [(11, 5), (14, 8), (11, 11)]],
    "split": [
        [(2, 8), (7, 8), (13, 3)],
        [(7, 8), (13, 13)],
        [(9.4, 2.8), (13.2, 2.8), (12.6, 6.4)],
        [(9.4, 13.2), (13.2, 13.2), (12.6, 9.6)],
    ],
    "rename": [[(2.8, 13.2), (3.6, 9.8), (10.8, 2.6), (13.4, 5.2), (6.2, 12.4), (2.8, 13.2)]],
    "check": [[(3, 8.5), (6.5, 12), (13, 4.5)]],
    "folder": [[(2, 13), (2, 3.5), (6, 3.5), (7.5, 5.5), (14, 5.5), (14, 13), (2, 13)]],
    "export": [
        [(8, 2), (8, 10)],
        [(5, 7), (8, 10), (11, 7)],
        [(2.5, 10), (2.5, 13.5), (13.5, 13.5), (13.5, 10)],
    ],
    "warning": [
        [(8, 2.5), (14.2, 13.5), (1.8, 13.5), (8, 2.5)],
        [(8, 6.5), (8, 9.5)],
        [(8, 11.4), (8, 11.6)],
    ],
}


def _eye(painter: QPainter) -> None:
    lids = QPainterPath(QPointF(1, 8))
    lids.quadTo(QPointF(8, 0.5), QPointF(15, 8))
    lids.quadTo(QPointF(8, 15.5), QPointF(1, 8))
    painter.drawPath(lids)
    painter.setBrush(painter.pen().color())
    painter.drawEllipse(QPointF(8, 8), 1.6, 1.6)


def _eye_off(painter: QPainter) -> None:
    lid = QPainterPath(QPointF(1, 7.5))
    lid.quadTo(QPointF(8, 14), QPointF(15, 7.5))
    painter.drawPath(lid)
    for angle in (40, 90, 140):
        out = QPointF(math.cos(math.radians(angle)), math.sin(math.radians(angle)))
        painter.drawLine(QPointF(8, 4.2) + out * 7, QPointF(8, 4.2) + out * 9.4)


def _lock(painter: QPainter, lift: float = 0.0) -> None:
    shackle = QPainterPath(QPointF(5, 7))
    shackle.lineTo(5, 5.2 - lift)
    shackle.arcTo(QRectF(5, 2.2 - lift, 6, 6), 180, -180)
    shackle.lineTo(11, 7 - 1.6 * lift)
    painter.drawPath(shackle)
    if not lift:
        painter.setBrush(painter.pen().color())
    painter.drawRoundedRect(QRectF(3.2, 7, 9.6, 6.8), 1.2, 1.2)


_DRAWN: dict[str, Callable[[QPainter], None]] = {
    "eye": _eye,
    "eye_off": _eye_off,
    "lock": _lock,
    "unlock": lambda painter: _lock(painter, lift=1.2),
}

SYMBOLS = (*_LINES, *_DRAWN)
"""Names of all symbols."""


def draw_symbol(painter: QPainter, name: str, rect: QRectF, color: QColor) -> None:
    """Draw a symbol into the middle of a rectangle.

    Parameters
    ----------
    painter : QPainter
        Left as it was.
    name : str
        One of `SYMBOLS`.
    rect : QRectF
        In pixels of the painter; the symbol is as large as fits.
    color : QColor
    """
    scale = min(rect.width(), rect.height()) / _SIDE
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(rect.center() - QPointF(1, 1) * (_SIDE * scale / 2))
    painter.scale(scale, scale)
    pen = QPen(color, 1.4)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    if name in _DRAWN:
        _DRAWN[name](painter)
    else:
        for line in _LINES[name]:
            painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in line]))
    painter.restore()


def icon(name: str, color: QColor, side: int = 16) -> QIcon:
    """A symbol as an icon, `side` pixels wide and high, with a paler one for disabled buttons."""
    made = QIcon()
    pale = QColor(color)
    pale.setAlphaF(0.35)
    for mode, shade in ((QIcon.Mode.Normal, color), (QIcon.Mode.Disabled, pale)):
        pixmap = QPixmap(side * _DENSITY, side * _DENSITY)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        draw_symbol(painter, name, QRectF(0, 0, side * _DENSITY, side * _DENSITY), shade)
        painter.end()
        pixmap.setDevicePixelRatio(_DENSITY)
        made.addPixmap(pixmap, mode)
    return made

"""Parts of the review strip: its axis, the mark of prompts, and the legend that says it all in words."""

# ruff: noqa: N802  Qt's names of events

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QPointF, QRect, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPen, QPolygonF, QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from stacksam.plugin.drawing import color, image_of, theme_of
from stacksam.plugin.strip_image import StripRow, Theme, confidence_rgb, first_x, row_pixels

__all__ = ["Legend", "draw_axis", "draw_prompt"]

_SAMPLE = 20  # width of a sample
_HIGH = 12
_SCALE = 72  # width of the colour scale
_LINE = 18
_SPACE = 12  # between two entries

# Word, flags of the one frame that shows it, and the longer word for the pointer that rests there.
_ENTRIES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("no result", (), "Not followed to this frame yet"),
    ("prompted", ("prompted",), "You clicked, boxed or painted the object here"),
    ("accepted", ("locked",), "You accepted it: it is never recomputed"),
    ("changed", ("changed",), "Changed by your last correction, until you accept it"),
    ("out of date", ("stale",), "What it came from has changed: propagate again"),
)


def draw_prompt(painter: QPainter, x: float, y: float, theme: Theme, radius: float = 4.5) -> None:
    """A diamond: the user said something here."""
    diamond = QPolygonF(
        [QPointF(x, y - radius), QPointF(x + radius, y), QPointF(x, y + radius), QPointF(x - radius, y)]
    )
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(color(theme.background), 1.5))
    painter.setBrush(color(theme.foreground))
    painter.drawPolygon(diamond)
    painter.restore()


def draw_axis(painter: QPainter, place: QRect, n_frames: int, frame: int, theme: Theme) -> None:
    """Frame numbers above the rows, at round steps, and the current one in a box."""
    measure = painter.fontMetrics().horizontalAdvance
    label = measure("0" * len(str(n_frames))) + 12
    most = max(place.width() // label, 1)
    step = next(s for s in _round_steps() if n_frames / s <= most)

    def middle(f: int) -> int:
        ends = [first_x(f + i, place.width(), n_frames) for i in (0, 1)]
        return int(place.x()) + sum(ends) // 2

    def box(f: int) -> QRect:
        x = min(max(middle(f) - label // 2, place.x() - label // 2), place.right() - label + 3)
        return QRect(x, place.y(), label, place.height() - 3)

    painter.setPen(color(theme.mix(0.65)))
    taken = box(frame) if 0 <= frame < n_frames else QRect()
    for f in range(0, n_frames, step):
        painter.drawLine(middle(f), place.bottom() - 2, middle(f), place.bottom())
        if not box(f).intersects(taken):
            painter.drawText(box(f), Qt.AlignmentFlag.AlignCenter, str(f))
    if not taken.isNull():
        painter.fillRect(taken, color(theme.foreground))
        painter.setPen(color(theme.background))
        painter.drawText(taken, Qt.AlignmentFlag.AlignCenter, str(frame))


def _round_steps() -> Sequence[int]:
    """1, 2, 5, 10, 20, 50 and so on."""
    return [m * 10**e for e in range(9) for m in (1, 2, 5)]


class Legend(QWidget):
    """Colour scale and marks with their words, on as many lines as the width asks for."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Legend of the review strip")
        self.setToolTip("\n".join(f"{word}: {meaning}" for word, _, meaning in _ENTRIES))
        self._arrange(400)

    def sizeHint(self) -> QSize:
        """As high as its lines."""
        return QSize(300, self.minimumHeight())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Arrange the entries in the new width."""
        super().resizeEvent(event)
        self._arrange(self.width())

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw scale, samples and words."""
        theme = theme_of(self)
        painter = QPainter(self)
        painter.setPen(color(theme.mix(0.85)))
        for (word, _, _), place in zip((("", (), ""), *_ENTRIES), self._places, strict=True):
            if word:
                self._draw_entry(painter, word, place, theme)
            else:
                self._draw_scale(painter, place)
        painter.end()

    def _draw_scale(self, painter: QPainter, place: QRect) -> None:
        left, right = "likely wrong", "sure"
        start = place.x() + self.fontMetrics().horizontalAdvance(left) + 5
        ratio = self.devicePixelRatioF()
        shades = confidence_rgb(np.linspace(0, 1, round(_SCALE * ratio)))
        image = image_of(np.repeat(shades[None], round(_HIGH * ratio), axis=0), ratio)
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(place, middle, left)
        painter.drawImage(QPointF(start, place.y() + (_LINE - _HIGH) / 2), image)
        painter.drawText(place.adjusted(start + _SCALE + 5 - place.x(), 0, 0, 0), middle, right)
        painter.save()
        # Dark on the light middle of the scale, in either theme.
        painter.setPen(color((40, 40, 40)))
        font = painter.font()
        font.setPixelSize(10)
        painter.setFont(font)
        box = QRect(start, place.y(), _SCALE, _LINE)
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, "unsure")
        painter.restore()

    def _draw_entry(self, painter: QPainter, word: str, place: QRect, theme: Theme) -> None:
        flags = next(flags for entry, flags, _ in _ENTRIES if entry == word)
        top = place.y() + (_LINE - _HIGH) // 2
        ratio = self.devicePixelRatioF()
        pixels = row_pixels(
            _sample(flags, known=word != "no result"), round(_SAMPLE * ratio), round(_HIGH * ratio), theme
        )
        painter.drawImage(QPointF(place.x(), top), image_of(pixels, ratio))
        if "prompted" in flags:
            draw_prompt(painter, place.x() + _SAMPLE / 2, top + _HIGH / 2, theme)
        text = place.adjusted(_SAMPLE + 5, 0, 0, 0)
        painter.drawText(text, Qt.AlignmentFlag.AlignVCenter, word)

    def _arrange(self, width: int) -> None:
        measure = self.fontMetrics().horizontalAdvance
        widths = [measure("likely wrong") + _SCALE + measure("sure") + 12]
        widths += [_SAMPLE + 7 + measure(word) for word, _, _ in _ENTRIES]
        self._places: list[QRect] = []
        x = y = 0
        for wide in widths:
            if x and x + wide > width:
                x, y = 0, y + _LINE
            self._places.append(QRect(x, y, wide, _LINE))
            x += wide + _SPACE
        self.setFixedHeight(y + _LINE)


def _sample(flags: tuple[str, ...], *, known: bool) -> StripRow:
    """A row of one frame that carries the flags; without a result if not known."""
    n = int(known)
    prompted, locked, stale, changed = (
        np.full(n, name in flags) for name in ("prompted", "locked", "stale", "changed")
    )
    frames, sure = np.zeros(n, np.int64), np.ones(n)
    return StripRow(0, "", (0.0, 0.0, 0.0, 0.0), 1, frames, sure, prompted, locked, stale, changed, ())

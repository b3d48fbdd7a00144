"""The gallery: small pictures of one object along the frames, to see at a glance where it went wrong."""

# ruff: noqa: N802  Qt's names of events

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QEvent, QPoint, QRect, QSize, Qt, Signal
from qtpy.QtGui import QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent, QWheelEvent
from qtpy.QtWidgets import QScrollBar, QSizePolicy, QToolTip, QVBoxLayout, QWidget

from stacksam.errors import InputError
from stacksam.plugin.drawing import color, image_of, theme_of
from stacksam.plugin.strip_image import confidence_rgb
from stacksam.tracks.review import in_words

__all__ = ["Gallery", "Thumb", "thumbnail"]

Rgba = tuple[float, float, float, float]

_MARGIN = 0.35  # of the object's size, on each side
_LEAST = 16.0  # pixels of the frame that a picture shows at least
_GAP = 4
_FOOT = 20  # frame number and bar of confidence below a picture
_BORDER = 3


@dataclass(frozen=True, slots=True, eq=False)
class Thumb:
    """A picture of an object on one frame.

    Attributes
    ----------
    frame : int
    image : (h, w) or (h, w, 3) uint8 array
    mask : (h, w) bool array
        All False where the object is not seen.
    confidence : float
        0 to 1.

    Raises
    ------
    InputError
        If image and mask do not fit each other.
    """

    frame: int
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    confidence: float

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.dtype != np.uint8 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
            raise InputError(
                f"a picture is {self.image.dtype} of shape {shape}; give uint8 (h, w) or (h, w, 3)"
            )
        if self.mask.shape != shape[:2]:
            raise InputError(f"a mask of {self.mask.shape} does not fit a picture of {shape[:2]}")


def thumbnail(
    frame_rgb: NDArray[np.floating], bbox: Sequence[int], mask: NDArray[np.bool_], side: int = 64
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut a square picture about an object.

    Parameters
    ----------
    frame_rgb : (H, W, 3) float array
        The frame as the model sees it, 0 to 1.
    bbox : (y0, x0, y1, x1)
        Half-open box that the mask fills, in frame pixels; also where to look when the mask is empty.
    mask : bool array of the box's shape
    side : int
        Side of the picture in pixels.

    Returns
    -------
    image : (side, side, 3) uint8 array
        Black beyond the frame.
    mask : (side, side) bool array

    Raises
    ------
    InputError
        If the box is empty, the mask is of another shape, or the frame has no three channels.
    """
    y0, x0, y1, x1 = (int(v) for v in bbox)
    if frame_rgb.ndim != 3 or frame_rgb.shape[2] != 3:
        raise InputError(f"a frame of shape {frame_rgb.shape}; give (H, W, 3)")
    if y1 <= y0 or x1 <= x0 or side < 1:
        raise InputError(f"box {(y0, x0, y1, x1)} and side {side}; neither may be empty")
    if mask.shape != (y1 - y0, x1 - x0):
        raise InputError(f"a mask of {mask.shape} does not fill its box of {(y1 - y0, x1 - x0)}")

    reach = max(max(y1 - y0, x1 - x0) * (1 + 2 * _MARGIN), _LEAST)
    size = int(np.ceil(reach))
    top, left = round((y0 + y1 - size) / 2), round((x0 + x1 - size) / 2)
    cut = np.zeros((size, size, 3), np.uint8)
    ys, xs = (
        slice(max(a, 0), max(min(a + size, n), 0)) for a, n in zip((top, left), frame_rgb.shape, strict=False)
    )
    inside = np.clip(frame_rgb[ys, xs], 0.0, 1.0) * 255
    cut[
        ys.start - top : ys.start - top + inside.shape[0], xs.start - left : xs.start - left + inside.shape[1]
    ] = np.rint(inside).astype(np.uint8)
    full = np.zeros((size, size), np.uint8)
    full[y0 - top : y1 - top, x0 - left : x1 - left] = mask * np.uint8(255)
    resample = Image.Resampling.BILINEAR
    image = np.asarray(Image.fromarray(cut).resize((side, side), resample))
    return image, np.asarray(Image.fromarray(full).resize((side, side), resample)) > 127


class Gallery(QWidget):
    """Pictures of the current object along the frames, to scroll through and click.

    Attributes
    ----------
    clicked : Signal(int)
        The frame that the user wants to see.
    canvas : Pictures
        The part that shows the pictures.
    """

    clicked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        bar = QScrollBar(Qt.Orientation.Horizontal, self)
        bar.setAccessibleName("Scroll the pictures")
        self.canvas = Pictures(bar, self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.canvas)
        layout.addWidget(bar)
        self.setFocusProxy(self.canvas)
        self.canvas.clicked.connect(self.clicked)

    def set_items(self, items: Sequence[Thumb]) -> None:
        """Show these pictures, in this order.

        Parameters
        ----------
        items : sequence of Thumb
            All of the same size; pictures that are the very ones shown before are not drawn anew.
        """
        self.canvas.set_items(items)

    def set_color(self, rgba: Rgba) -> None:
        """Draw outlines in this colour (0 to 1), that of the object."""
        self.canvas.set_color(rgba)

    def set_frame(self, frame: int) -> None:
        """Highlight the picture of a frame and scroll to it; no signal is sent."""
        self.canvas.set_frame(frame)


class Pictures(QWidget):
    """The pictures themselves; draws only those in view."""

    clicked = Signal(int)

    def __init__(self, bar: QScrollBar, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bar = bar
        self._items: tuple[Thumb, ...] = ()
        self._color: Rgba = (1.0, 1.0, 0.0, 1.0)
        self._frame = -1
        self._side = 64
        self._images: dict[int, tuple[Thumb, QImage]] = {}
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Gallery of the current object")
        bar.valueChanged.connect(self.update)
        self._fit()

    def set_color(self, rgba: Rgba) -> None:
        """See :meth:`Gallery.set_color`."""
        if rgba != self._color:
            self._color = rgba
            self._images.clear()
            self.update()

    def set_items(self, items: Sequence[Thumb]) -> None:
        """See :meth:`Gallery.set_items`."""
        self._items = tuple(items)
        shown = {item.frame: item for item in self._items}
        self._images = {frame: kept for frame, kept in self._images.items() if shown.get(frame) is kept[0]}
        if self._items:
            self._side = max(self._items[0].image.shape[:2])
        self._fit()
        self.set_frame(self._frame)

    def set_frame(self, frame: int) -> None:
        """See :meth:`Gallery.set_frame`."""
        self._frame = frame
        i = self._at(frame)
        if i is not None:
            left = i * self._step()
            if left < self._bar.value() or left + self._step() > self._bar.value() + self.width():
                self._bar.setValue(left - (self.width() - self._step()) // 2)
        self.update()

    def item_rect(self, index: int) -> QRect:
        """Where a picture is drawn, in pixels of this widget; it may lie out of view."""
        return QRect(index * self._step() - self._bar.value() + _BORDER, _BORDER, self._side, self._side)

    def _at(self, frame: int) -> int | None:
        return next((i for i, item in enumerate(self._items) if item.frame == frame), None)

    def _step(self) -> int:
        return self._side + 2 * _BORDER + _GAP

    def _fit(self) -> None:
        self.setFixedHeight(self._side + 2 * _BORDER + _FOOT)
        self._bar.setPageStep(self.width())
        self._bar.setSingleStep(self._step())
        self._bar.setRange(0, max(len(self._items) * self._step() - _GAP - self.width(), 0))

    def sizeHint(self) -> QSize:
        """Room for a few pictures."""
        return QSize(5 * self._step(), self.minimumHeight())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the scroll bar right."""
        super().resizeEvent(event)
        self._fit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll along the frames."""
        turn = event.angleDelta()
        self._bar.setValue(self._bar.value() - round((turn.y() or turn.x()) / 120 * self._step()))
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the frame of a picture."""
        item = self._under(event.position().x())
        if event.button() == Qt.MouseButton.LeftButton and item is not None:
            self._go(item.frame)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Left and Right go to the picture before and after."""
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(event.key())
        i = self._at(self._frame)
        if step is None or i is None:
            super().keyPressEvent(event)
        elif 0 <= i + step < len(self._items):
            self._go(self._items[i + step].frame)

    def event(self, event: QEvent) -> bool:
        """Tell about the picture under the pointer when it rests."""
        if event.type() == QEvent.Type.ToolTip:
            item = self._under(event.pos().x())
            text = f"Frame {item.frame}: {in_words(item.confidence)} ({item.confidence:.2f})" if item else ""
            QToolTip.showText(event.globalPos(), text, self)
            return True
        return bool(super().event(event))

    def _go(self, frame: int) -> None:
        self.set_frame(frame)
        self.clicked.emit(frame)

    def _under(self, x: float) -> Thumb | None:
        i = int(x + self._bar.value()) // self._step()
        return self._items[i] if 0 <= i < len(self._items) else None

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw the pictures in view."""
        theme = theme_of(self)
        painter = QPainter(self)
        painter.fillRect(self.rect(), color(theme.background))
        if not self._items:
            painter.setPen(color(theme.mix(0.6)))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "No pictures yet")
            return
        first = self._bar.value() // self._step()
        for i in range(first, min(first + self.width() // self._step() + 2, len(self._items))):
            item, place = self._items[i], self.item_rect(i)
            current = item.frame == self._frame
            painter.drawImage(QPoint(place.x(), place.y()), self._image(item))
            if current:
                painter.setPen(QPen(color(theme.foreground), 2))
                painter.drawRect(place.adjusted(-1, -1, 1, 1))
            bar = QRect(place.x(), place.bottom() + _BORDER, self._side, 3)
            painter.fillRect(bar, color(confidence_rgb(np.asarray(item.confidence)).tolist()))
            foot = QRect(place.x(), bar.bottom() + 2, self._side, _FOOT - 6)
            if current:
                painter.fillRect(foot, color(theme.foreground))
            painter.setPen(color(theme.background if current else theme.mix(0.8)))
            painter.drawText(foot, Qt.AlignmentFlag.AlignCenter, str(item.frame))

    def _image(self, item: Thumb) -> QImage:
        kept = self._images.get(item.frame)
        if kept is None or kept[0] is not item:
            kept = self._images[item.frame] = (item, image_of(_outlined(item, self._color)))
        return kept[1]


def _outlined(item: Thumb, rgba: Rgba) -> NDArray[np.uint8]:
    """The picture with the outline of the mask drawn on it: (h, w, 3)."""
    image = item.image if item.image.ndim == 3 else np.repeat(item.image[..., None], 3, axis=2)
    padded = np.pad(item.mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outlined = image.copy()
    outlined[item.mask & ~inner] = np.rint(np.asarray(rgba[:3]) * 255).astype(np.uint8)
    return outlined

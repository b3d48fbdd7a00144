"""From arrays and colours to what Qt draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtGui import QColor, QImage, QPalette
from qtpy.QtWidgets import QWidget

from stacksam.plugin.strip_image import Rgb, Theme

__all__ = ["color", "image_of", "theme_of"]


def color(rgb: Rgb | Sequence[float]) -> QColor:
    """A colour of integers 0 to 255 (r, g, b), or of an object: floats 0 to 1 (r, g, b, a)."""
    return QColor.fromRgbF(*rgb) if len(rgb) == 4 else QColor(*rgb)


def image_of(pixels: NDArray[np.uint8], ratio: float = 1.0) -> QImage:
    """An image that owns its memory.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 array
    ratio : float
        Pixels of the array for one of the widget.
    """
    height, width = pixels.shape[:2]
    data = np.full((height, width, 4), 255, np.uint8)
    data[:, :, :3] = pixels
    image = QImage(data.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888).copy()
    image.setDevicePixelRatio(ratio)
    return image


def theme_of(widget: QWidget) -> Theme:
    """Background and text colour that a widget has from palette or style sheet."""
    widget.ensurePolished()
    palette = widget.palette()
    roles = (QPalette.ColorRole.Window, QPalette.ColorRole.WindowText)
    back, fore = (palette.color(role) for role in roles)
    return Theme((back.red(), back.green(), back.blue()), (fore.red(), fore.green(), fore.blue()))

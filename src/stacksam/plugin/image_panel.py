"""The first part of the dock: which image, along which axis, and what the model sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from stacksam.errors import InputError
from stacksam.plugin.choice import AxisChoice, LayerChoice, default_choice, layer_axes
from stacksam.plugin.panels import fill
from stacksam.session.presets import preset_names, read_preset

__all__ = ["ImagePanel"]

_WINDOWS = {
    "ct-lung": "CT lung",
    "ct-bone": "CT bone",
    "ct-soft-tissue": "CT soft tissue",
    "ct-brain": "CT brain",
    "ct-liver": "CT liver",
    "mr": "MR",
}
_PREVIEW = 132
_KINDS = {"t": "time", "z": "depth"}


class ImagePanel(QWidget):
    """Choice of an image layer and of what is seen of it; tells nothing of sessions."""

    layer_chosen = Signal()
    choice_changed = Signal()
    start_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.layer_box = QComboBox()
        self.frames = QComboBox()
        self.frames.setToolTip("The axis along which objects are followed")
        self.channels = [QComboBox() for _ in range(3)]
        self.others: dict[int, QSpinBox] = {}
        self.intensity = QComboBox()
        self.intensity.setToolTip("One mapping for the whole stack, so that bleaching stays what it is")
        self.window = QComboBox()
        self.window.setToolTip("For CT in Hounsfield units, as radiology has its windows; for MR percentiles")
        for name in preset_names():
            self.window.addItem(_window_title(name), name)
        for box in (self.layer_box, self.frames, self.intensity, self.window, *self.channels):
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # long names are cut
            box.setMinimumWidth(60)
        self.low, self.high = QLineEdit(), QLineEdit()
        for edit, text in ((self.low, "darkest"), (self.high, "brightest")):
            edit.setPlaceholderText(text)
            edit.editingFinished.connect(self.choice_changed)
        self.preview = QLabel()
        self.preview.setMinimumHeight(_PREVIEW)
        self.preview.setToolTip("What the model sees of the frame that is shown")
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.found = QLabel()
        self.found.setWordWrap(True)
        self.found.setToolTip("The layer does not tell; it is placed so when you press Start")
        self.start = QPushButton("Start")
        self.start.setToolTip("Make the layers to click in; what was done on this image before comes back")
        self.start.setEnabled(False)  # whether it may be pressed is not for this part to say
        self.start.clicked.connect(self.start_requested)
        self._channel_row = _row(*self.channels)
        self._range_row = _row(self.low, self.high)
        self._choices = QWidget()
        self._form = QFormLayout(self._choices)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setVerticalSpacing(4)
        self._form.addRow("Image", self.layer_box)
        self._form.addRow("Frames along", self.frames)
        self._form.addRow("", self.found)
        self._form.addRow("Channels", self._channel_row)
        self._others_row = QWidget()
        self._others_form = QFormLayout(self._others_row)
        self._others_form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow(self._others_row)
        self._form.addRow("Brightness", self.intensity)
        self._form.addRow("", self._range_row)
        self._form.addRow("Window", self.window)
        self._form.addRow("Model sees", self.preview)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.message)
        layout.addWidget(self._choices)
        layout.addWidget(self.start)
        self._axes: tuple[AxisChoice, ...] = ()
        self._base = LayerChoice()
        self._rgb = False
        self.layer_box.currentIndexChanged.connect(self.layer_chosen)
        self.frames.currentIndexChanged.connect(self._frames_chosen)
        self.intensity.currentIndexChanged.connect(self._intensity_chosen)
        self.window.currentIndexChanged.connect(self.choice_changed)
        for box in self.channels:
            box.currentIndexChanged.connect(self.choice_changed)
        self._form.setRowVisible(self.found, False)
        self.set_layers([], None)

    # Layers

    def set_layers(self, layers: Sequence[Image], active: Image | None) -> None:
        """Offer image layers; the one chosen before stays, else the active one, else the last."""
        before = self.layer()
        fill(self.layer_box, [(layer.name, layer) for layer in layers])
        if before not in layers and layers:
            chosen = active if active in layers else layers[-1]
            blocked = self.layer_box.blockSignals(True)
            self.layer_box.setCurrentIndex(list(layers).index(chosen))
            self.layer_box.blockSignals(blocked)
        some = bool(layers)
        self._choices.setVisible(some)
        self.start.setVisible(some)
        if not some:
            self.set_message(
                "Drop a file into the window, or take one of <i>File ▸ Open Sample ▸ stacksam</i>."
            )
        if self.layer() is not before:
            self.layer_chosen.emit()

    def layer(self) -> Image | None:
        """The chosen layer."""
        layer: Image | None = self.layer_box.currentData()
        return layer

    def choose(self, layer: Image) -> None:
        """Choose a layer that is in the list."""
        for i in range(self.layer_box.count()):
            if self.layer_box.itemData(i) is layer:
                self.layer_box.setCurrentIndex(i)

    # What is seen of it

    def describe(
        self, layer: Image, axis_labels: Sequence[str], shown: Sequence[int], found: str = ""
    ) -> None:
        """Offer what a layer has, and the likeliest choice; `found` tells what its file says of it."""
        self.found.setText(f"From the file: {found}")
        self._form.setRowVisible(self.found, bool(found))
        self._axes = layer_axes(layer, axis_labels)
        self._base = default_choice(layer, axis_labels, shown)
        # Any dimension but rows and columns may be time or depth; the guess comes first.
        items: list[tuple[str, object]] = []
        for axis in self._axes:
            if axis.role not in ("y", "x") and axis.size > 1:
                label = f"“{axis.label}”" if axis.label else f"axis {axis.dim}"
                for kind in ("t", "z"):
                    text = f"{_KINDS[kind]}  ({label}, {axis.size} frames)"
                    items.append((text, (axis.dim, kind)))
        fill(self.frames, items or [("a single frame", None)])
        wanted = (self._base.frame_dim, self._base.kind)
        self._select(self.frames, next((i for i, (_, v) in enumerate(items) if v == wanted), 0))
        self._rgb = layer.rgb
        self._frames_chosen()

    def _offer_brightness(self) -> None:
        """Offer what fits: windows of CT and MR only where frames lie along z."""
        brightness: list[tuple[str, object]] = [("automatic (0.1 to 99.9 %)", "auto")]
        if not self._rgb:
            brightness.append(("as displayed", "contrast"))
        frame = self.frames.currentData()
        if not self._rgb and frame is not None and frame[1] == "z":
            brightness.append(("a window for CT or MR", "window"))
        brightness.append(("from … to …", "range"))
        fill(self.intensity, brightness)

    def choice(self) -> LayerChoice:
        """What the user chose.

        Raises
        ------
        InputError
            If the brightest value is not above the darkest, or one of them is no number.
        """
        frame = self.frames.currentData()
        dim: int | None
        kind: Literal["t", "z"]
        dim, kind = frame if frame is not None else (None, "t")
        channel = self._channel_dim(dim)
        chosen = [box.currentData() for box in self.channels]
        channels = tuple(c for c in chosen if c is not None) if channel is not None else ()
        at = {d: box.value() for d, box in self.others.items()}
        return replace(
            self._base,
            frame_dim=dim,
            kind=kind,
            channel_dim=channel,
            channels=channels,
            at=at,
            intensity=self._intensity(),
        )

    def _intensity(self) -> str | tuple[float, float]:
        value = self.intensity.currentData()
        if value == "window":
            return str(self.window.currentData())
        if value != "range":
            return str(value or "auto")
        try:
            low, high = float(self.low.text()), float(self.high.text())
        except ValueError:
            raise InputError(
                f"brightness is from {self.low.text()!r} to {self.high.text()!r}; give two numbers"
            ) from None
        if high <= low:
            raise InputError(f"brightness is from {low:g} to {high:g}; the second must be the larger one")
        return low, high

    def _channel_dim(self, frame_dim: int | None) -> int | None:
        found = self._base.channel_dim
        return None if found == frame_dim else found

    def _frames_chosen(self) -> None:
        frame = self.frames.currentData()
        dim = None if frame is None else frame[0]
        channel = self._channel_dim(dim)
        self._form.setRowVisible(self._channel_row, channel is not None)
        if channel is not None:
            count = self._axes[channel].size
            for place, box in enumerate(self.channels):
                numbers: list[tuple[str, object]] = [(str(c), c) for c in range(count)]
                fill(box, numbers if place == 0 else [("none", None), *numbers])
        self._offer_others({dim, channel})
        self._offer_brightness()
        self._intensity_chosen()

    def _offer_others(self, taken: set[int | None]) -> None:
        while self._others_form.rowCount():
            self._others_form.removeRow(0)
        self.others = {}
        for axis in self._axes:
            if axis.dim in taken or axis.role in ("y", "x"):
                continue
            box = QSpinBox()
            box.setRange(0, axis.size - 1)
            box.setValue(self._base.at.get(axis.dim, axis.size // 2))
            box.valueChanged.connect(self.choice_changed)
            self.others[axis.dim] = box
            name = axis.label or _KINDS.get(axis.role, f"axis {axis.dim}")
            self._others_form.addRow(f"At {name} (of {axis.size})", box)
        self._form.setRowVisible(self._others_row, bool(self.others))

    def _intensity_chosen(self) -> None:
        self._form.setRowVisible(self._range_row, self.intensity.currentData() == "range")
        self._form.setRowVisible(self.window, self.intensity.currentData() == "window")
        self.choice_changed.emit()

    def show_preview(self, picture: NDArray[np.float32] | None) -> None:
        """Show a frame (H, W, 3) in 0..1 as the model sees it; None where there is none."""
        if picture is None:
            self.preview.clear()
            return
        step = max(1, min(picture.shape[:2]) // (2 * _PREVIEW))
        small = np.ascontiguousarray((picture[::step, ::step] * 255).astype(np.uint8))
        height, width, _ = small.shape
        image = QImage(small.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
        self.preview.setPixmap(
            QPixmap.fromImage(image).scaled(
                2 * _PREVIEW,
                _PREVIEW,
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        )

    def set_message(self, text: str) -> None:
        """Say what is wrong or to be done; empty for nothing."""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def set_running(self, name: str | None) -> None:
        """Say that a session is open on an image."""
        self.start.setText("Start" if name is None else "Start again with these choices")

    def _select(self, box: QComboBox, place: int) -> None:
        blocked = box.blockSignals(True)
        box.setCurrentIndex(place)
        box.blockSignals(blocked)


def _row(*widgets: Any) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return row


def _window_title(name: str) -> str:
    """What a preset is called, and which values it shows."""
    preset = read_preset(name)
    title = _WINDOWS.get(name, name)
    if preset.window is not None:
        low, high = (f"{value:g}".replace("-", "−") for value in preset.window)
        return f"{title} ({low} … {high} HU)"
    if preset.percentiles is not None:
        return f"{title} ({preset.percentiles[0]:g} to {preset.percentiles[1]:g} % above 0)"
    return title

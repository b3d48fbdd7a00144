"""A person at mouse and keyboard: what they see and press, and nothing else.

Presses are given to the window, as the windowing system does, so that whatever lies on top gets them; keys to
the picture. Where a place is in the picture follows from camera and layer.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from napari.utils.notifications import notification_manager
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QPushButton, QScrollArea, QWidget

from stacksam.plugin.parts import Section
from stacksam.plugin.widget import StacksamWidget
from stacksam.session.prompts import Prompt
from stacksam.session.session import Session

__all__ = ["SECONDS", "Robot", "iou", "threads"]

SECONDS = 60.0
"""Until something that was to happen counts as not happening; the machine may be slow and busy."""
_LEFT = Qt.MouseButton.LeftButton
_NONE = Qt.KeyboardModifier.NoModifier
_MODIFIERS = {
    "Shift": Qt.KeyboardModifier.ShiftModifier,
    "Control": Qt.KeyboardModifier.ControlModifier,
    "Alt": Qt.KeyboardModifier.AltModifier,
}


class Robot:
    """Works in one viewer with one dock, which is opened at once.

    Parameters
    ----------
    qtbot : pytestqt.qtbot.QtBot
    viewer : napari.Viewer
        That is shown.
    """

    def __init__(self, qtbot: Any, viewer: Any) -> None:
        self.qtbot, self.viewer = qtbot, viewer
        self.told: list[str] = []
        notification_manager.notification_ready.connect(self._hear)
        self.open_dock()

    def _hear(self, notification: Any) -> None:
        self.told.append(f"{notification.severity}: {notification.message}")

    # Opening and closing

    def open_dock(self) -> StacksamWidget:
        """Open the dock."""
        self.dock = StacksamWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="stacksam")
        self.dock.window().activateWindow()
        self.wait(lambda: self.dock.isVisible() and self.canvas.isVisible())
        return self.dock

    def close_dock(self) -> None:
        """Press the cross in its title."""
        self.push(self.dock.parent().findChild(QPushButton, "QTitleBarCloseButton"))
        self.dock = None
        self.wait(lambda: not threads())

    def leave(self) -> None:
        """Close what is open."""
        notification_manager.notification_ready.disconnect(self._hear)
        if self.dock is not None:
            self.close_dock()
        # Qt deletes what it was told to delete later only in a loop of events, which ends with the test.
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()

    def start(self) -> Session:
        """Press Start, and wait for the session."""
        before = self.dock.controller.session
        self.wait(self.dock.image_part.start.isEnabled)
        self.push(self.dock.image_part.start)
        self.wait(lambda: self.dock.controller.session not in (before, None) and self.dock.layers is not None)
        self.settle()
        return self.session

    @property
    def session(self) -> Session:
        """The session of the dock."""
        return self.dock.controller.session

    # Waiting and listening

    def wait(self, condition: Callable[[], Any], seconds: float = SECONDS) -> None:
        """Let the window work until something is so."""
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=round(1000 * seconds))

    def wait_for_word(self, words: str) -> str:
        """Wait for a notification that holds some words; what was told until then is forgotten."""
        self.wait(lambda: any(words in text for text in self.told))
        found = next(text for text in self.told if words in text)
        self.told.clear()
        return found

    def settle(self) -> None:
        """Wait until all that was asked for is answered and shown."""
        answered = []
        self.dock.controller.run(lambda: None, answered.append, "Waiting")
        self.wait(lambda: answered and not self.dock.controller.following)

    def followed(self) -> None:
        """Wait until no object is being followed."""
        self.wait(lambda: not self.dock.controller.following and not self.dock.follow_part.stop.isEnabled())
        self.settle()

    # The picture

    @property
    def canvas(self) -> QWidget:
        """What the picture is drawn in."""
        top = self.dock.window()
        return next(
            w
            for w in QApplication.allWidgets()
            if type(w).__name__ == "CanvasBackendDesktop" and w.window() is top
        )

    @property
    def image(self) -> Any:
        """The image layer, which is the first."""
        return self.viewer.layers[0]

    @property
    def frame(self) -> int:
        """The frame that is shown."""
        return int(self.viewer.dims.current_step[0])

    def at(self, yx: tuple[float, float]) -> QPoint:
        """Where a pixel of the frame is in the canvas."""
        world = np.asarray(self.image.data_to_world((*[0] * (self.image.ndim - 2), *yx)))[-2:]
        camera = self.viewer.scene.camera
        y, x = (world - np.asarray(camera.center)[-2:]) * camera.zoom
        return QPoint(round(self.canvas.width() / 2 + x), round(self.canvas.height() / 2 + y))

    def click(self, yx: tuple[float, float], keys: Any = _NONE) -> None:
        """Click a pixel of the frame."""
        self.uncover(self.at(yx))
        self._mouse("Move", self.canvas, self.at(yx))
        self._mouse("Press", self.canvas, self.at(yx), keys)
        self._mouse("Release", self.canvas, self.at(yx), keys)

    def drag(self, *path: tuple[float, float], keys: Any = _NONE, steps: int = 4) -> None:
        """Press at the first pixel, move through the others, and release at the last."""
        places = [self.at(yx) for yx in path]
        for place in places:
            self.uncover(place)
        self.drag_in(self.canvas, places, keys, steps)

    def drag_in(self, widget: QWidget, places: list[QPoint], keys: Any = _NONE, steps: int = 4) -> None:
        """The same in any widget."""
        self._mouse("Move", widget, places[0])
        self._mouse("Press", widget, places[0], keys)
        for one, other in zip(places, places[1:], strict=False):
            for step in range(1, steps + 1):
                way = (other - one) * (step / steps)
                self._mouse("Move", widget, one + way)
                QApplication.processEvents()
        self._mouse("Release", widget, places[-1], keys)

    def uncover(self, place: QPoint) -> None:
        """Close notifications that lie over a place in the canvas."""
        top, canvas = self.dock.window(), self.canvas
        while True:
            found = top.childAt(canvas.mapTo(top, place))
            if found is canvas:
                return
            while found is not None and type(found).__name__ != "NapariQtNotification":
                found = found.parentWidget()
            assert found is not None, f"{place} in the picture cannot be reached"
            found.findChild(QPushButton, "close_button").click()
            self.wait(lambda cover=found: top.childAt(canvas.mapTo(top, place)) is not cover)

    def press(self, keys: str) -> None:
        """Press a key over the picture, named as napari names it: "N", "Control-Z"."""
        *held, name = keys.split("-")
        modifiers = _NONE
        for one in held:
            modifiers |= _MODIFIERS[one]
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{name}"), modifiers)

    def show_frame(self, frame: int) -> None:
        """Move the slider to a frame with the arrow keys."""
        while self.frame != frame:
            before = self.frame
            self.press("Right" if self.frame < frame else "Left")
            self.wait(lambda now=before: self.frame != now)

    # The dock

    def reach(self, widget: QWidget) -> None:
        """Unfold and scroll to what holds a widget."""
        parent = widget.parentWidget()
        while parent is not None:
            if isinstance(parent, Section) and not parent.head.isChecked():
                self.push(parent.head)
            if isinstance(parent, QScrollArea):
                QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
                parent.ensureWidgetVisible(widget)
            parent = parent.parentWidget()
        self.wait(widget.isVisible)

    def push(self, button: QWidget, place: QPoint | None = None) -> None:
        """Click a button."""
        self.reach(button)
        assert button.isEnabled(), f"{button.text()!r} cannot be pressed now"
        point = button.rect().center() if place is None else place
        top = button.window()
        self.wait(lambda: top.childAt(button.mapTo(top, point)) is button)
        self._mouse("Press", button, point)
        self._mouse("Release", button, point)

    def choose(self, box: QComboBox, value: object) -> None:
        """Choose an entry of a list by its data, with the arrow keys."""
        self.reach(box)
        place = box.findData(value)
        assert place >= 0, f"there is no {value!r} in the list"
        while box.currentIndex() != place:
            QTest.keyClick(box, Qt.Key.Key_Down if box.currentIndex() < place else Qt.Key.Key_Up)

    def _mouse(self, what: str, widget: QWidget, place: QPoint, keys: Any = _NONE) -> None:
        top = widget.window()
        there = widget.mapTo(top, place)
        if what == "Move":
            QTest.mouseMove(top.windowHandle(), there)
        else:
            getattr(QTest, f"mouse{what}")(top.windowHandle(), _LEFT, keys, there)

    # What is seen

    def seen(self, object_id: int) -> NDArray[np.bool_]:
        """The mask (H, W) of an object in the layer of results, on the frame that is shown."""
        layer = self.dock.layers.result
        return np.asarray(layer.data[self.frame]) == object_id

    def picture(self) -> NDArray[np.uint8]:
        """The canvas as it is drawn (H, W, 4)."""
        return np.asarray(self.viewer.screenshot(canvas_only=True, flash=False))

    def color_at(self, yx: tuple[float, float]) -> NDArray[np.int64]:
        """The colour (r, g, b) that is drawn at a pixel of the frame."""
        picture, place = self.picture(), self.at(yx)
        ratio = picture.shape[0] / self.canvas.height()
        return picture[round(place.y() * ratio), round(place.x() * ratio), :3].astype(int)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts as the dock knows them."""
        return self.dock.controller.state.prompts

    def n_shown(self) -> tuple[int, int]:
        """How many points and boxes the layers show."""
        return len(self.dock.layers.points.data), len(self.dock.layers.boxes.data)

    def labels(self) -> NDArray[np.int64]:
        """The layer of results (T, H, W)."""
        return np.asarray(self.dock.layers.result.data)


def iou(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Intersection over union of two masks."""
    one, other = np.asarray(one, bool), np.asarray(other, bool)
    return float((one & other).sum() / max(1, (one | other).sum()))


def threads() -> list[threading.Thread]:
    """Threads of the plugin that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("stacksam")]

"""A person at mouse and keyboard: what they see and press, and nothing else.

Presses are given to the window, as the windowing system does, so that whatever lies on top gets them; keys to
the picture. Where a place is in the picture follows from camera and layer.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import notification_manager
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QLabel, QLineEdit, QPushButton, QScrollArea, QWidget
from scipy.ndimage import distance_transform_edt

from stacksam.plugin.colors import color_of
from stacksam.plugin.exporting import FileFormat
from stacksam.plugin.parts import Section
from stacksam.plugin.widget import StacksamWidget
from stacksam.session.prompts import Prompt
from stacksam.session.session import Session

__all__ = ["SECONDS", "SHIFT", "Robot", "deepest", "iou", "threads"]

SECONDS = 60.0
"""Until something that was to happen counts as not happening; the machine may be slow and busy."""
SHIFT = Qt.KeyboardModifier.ShiftModifier
_LEFT = Qt.MouseButton.LeftButton
_NONE = Qt.KeyboardModifier.NoModifier
_MODIFIERS = {
    "Shift": SHIFT,
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
        self._crashes: list[BaseException] = []
        self._hook = sys.excepthook
        sys.excepthook = self._crashed
        self.open_dock()

    def _crashed(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        self._crashes.append(error)
        self._hook(kind, error, trace)

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
        sys.excepthook = self._hook
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

        def so() -> bool:
            if self._crashes:  # nothing will come of it
                raise self._crashes[0]
            return bool(condition())

        self.qtbot.waitUntil(so, timeout=round(1000 * seconds))

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
        self._pointer = self.at(yx)
        self._mouse("Press", self.canvas, self.at(yx), keys)
        self._mouse("Release", self.canvas, self.at(yx), keys)

    def hover(self, yx: tuple[float, float], steps: int = 6) -> None:
        """Move to a pixel of the frame with no button held."""
        end = self.at(yx)
        start = getattr(self, "_pointer", end)
        for step in range(1, steps + 1):
            self._mouse("Move", self.canvas, start + (end - start) * (step / steps))
            QApplication.processEvents()
        self._pointer = end

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
        for one, other in pairwise(places):
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

    def follow(self) -> None:
        """Press Follow, and wait for the end."""
        self.push(self.dock.follow_part.go)
        self.wait_for_word("Followed to the end")
        self.followed()

    # The dock

    def reach(self, widget: QWidget) -> None:
        """Unfold and scroll to what holds a widget."""
        parent = widget.parentWidget()
        while parent is not None:
            if isinstance(parent, Section) and widget is not parent.head and not parent.head.isChecked():
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
        self.click_in(button, point)

    def click_in(self, widget: QWidget, place: QPoint, keys: Any = _NONE) -> None:
        """Click a place in a widget, which is in view."""
        self._mouse("Press", widget, place, keys)
        self._mouse("Release", widget, place, keys)

    def type(self, line: QLineEdit, text: str) -> None:
        """Put a text in place of what stands in a line."""
        self.reach(line)
        line.selectAll()
        QTest.keyClicks(line, text)
        QTest.keyClick(line, Qt.Key.Key_Return)

    def export(self, folder: Path, file_format: FileFormat, outcome: str = "written.") -> None:
        """Export labels by the panel, and wait until it tells the outcome."""
        panel = self.dock.export_part
        box = next(box for box in panel.findChildren(QComboBox) if box.findData(file_format) >= 0)
        self.choose(box, file_format)
        self.type(panel.findChild(QLineEdit), str(folder))
        self.wait(lambda: panel.plan().folder == folder)
        go = next(button for button in panel.findChildren(QPushButton) if button.text() == "Export")
        self.wait(go.isEnabled)
        self.push(go)
        self.wait(
            lambda: (
                go.isVisible()
                and any(label.isVisible() and outcome in label.text() for label in panel.findChildren(QLabel))
            ),
            180,  # a busy machine that draws in 3D by software takes long
        )

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

    def see_color(self, yx: tuple[float, float], object_id: int, before: Any = None) -> None:
        """Wait until a pixel of the frame is drawn with an object's colour over it."""
        color = np.array(color_of(object_id)[:3])

        def tinted() -> bool:
            # The prompt itself may lie over the pixel, in the same colour.
            drawn = self.color_at(yx)
            changed = before is None or np.abs(drawn - before).max() > 20
            return changed and int(np.argmax(drawn)) == int(np.argmax(color)) and np.ptp(drawn) > 20

        self.wait(tinted)

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


def deepest(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The pixel (y, x) of a mask that is farthest from its border."""
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(depth), mask.shape)
    return float(y), float(x)


def threads() -> list[threading.Thread]:
    """Threads of the plugin and of its sessions that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("stacksam")]


def workers() -> list[threading.Thread]:
    """Those of them that compute: a session has another one that reads ahead, while it is open."""
    readers = [thread for thread in threads() if thread.name.startswith("stacksam-read")]
    return [thread for thread in threads() if thread not in readers[:1]]

"""Make the pictures of the plugin for the tutorial: a real window, driven through every state.

In the root of a clone with the plugin installed, on any display; a virtual one gives the same sizes everywhere::

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py

Pictures go to ``docs/images``, or to the folder that is named. Sessions and settings go to a temporary folder, so
that nothing of the user's is read or changed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_HOME = tempfile.TemporaryDirectory(prefix="stacksam-pictures-")
os.environ["STACKSAM_HOME"] = str(Path(_HOME.name) / "home")
os.environ["NAPARI_CONFIG"] = str(Path(_HOME.name) / "napari.yaml")

import napari
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel, QLineEdit, QMenu, QMessageBox, QWidget

from stacksam.io import read_labels
from stacksam.assets import sample
from stacksam.plugin.contributions import sample_timelapse, sample_zstack
from stacksam.plugin.controller import Progress
from stacksam.plugin.widget import StacksamWidget
from stacksam.session.prompts import Box, Point

SIZE = (1400, 900)
SECONDS = 120.0
"""Until something that was to happen counts as not happening."""
MOST_BYTES = 200_000

# Places (y, x) on frame 0 of the time-lapse.
CELLS = ((58.0, 60.0), (84.0, 92.0), (60.0, 175.0))
BOXED = (176.0, 172.0, 216.0, 219.0)


class Studio:
    """A window with the dock, and a camera.

    Parameters
    ----------
    folder : Path
        Where pictures go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.viewer: Any = napari.Viewer(show=True)
        self.viewer.window.resize(*SIZE)
        self.dock = StacksamWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="stacksam")
        self.wait(lambda: self.dock.isVisible() and self.dock.window().width() == SIZE[0])

    # Waiting

    def wait(self, condition: Callable[[], Any], seconds: float = SECONDS) -> None:
        """Let the window work until something is so."""
        end = time.monotonic() + seconds
        while True:
            QTest.qWait(10)
            if condition():
                return
            if time.monotonic() > end:
                raise SystemExit(f"waited {seconds:.0f} seconds in vain, line {sys._getframe(1).f_lineno}")

    def settle(self) -> None:
        """Wait until everything that was asked for is done and shown."""
        for _ in range(2):  # what is shown may ask for more, such as thumbnails
            QTest.qWait(200)  # timers of the dock that wait for a pause
            answered: list[None] = []
            self.dock.controller.run(lambda: None, answered.append, "Waiting")
            self.wait(lambda: bool(answered) and not self.dock.controller.following)

    def quiet(self) -> None:
        """Close notifications."""
        for note in self.notes():
            note.close()
        self.wait(lambda: not self.notes())

    def notes(self) -> list[QWidget]:
        """Notifications in the window."""
        window = self.dock.window()
        found = window.findChildren(QWidget) if window is not None else []
        return [w for w in found if type(w).__name__ == "NapariQtNotification" and w.isVisible()]

    # Pictures

    def shoot(self, name: str, *, notes: bool = False) -> None:
        """Take a picture of the whole window."""
        self.settle()
        if notes:
            self.wait(lambda: self.notes() and all(note.windowOpacity() > 0.85 for note in self.notes()), 5)
        else:
            self.quiet()
        self._save(name)

    def shoot_now(self, name: str) -> None:
        """Take a picture while something runs."""
        QApplication.processEvents()
        self._save(name)

    def _save(self, name: str) -> None:
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        self._write(name, np.asarray(pixels)[..., :3])

    def shoot_screen(self, name: str) -> None:
        """Take a picture with what lies over the window: menus and dialogs."""
        QTest.qWait(300)  # to be drawn
        window = self.dock.window()
        place = window.frameGeometry()
        image = window.screen().grabWindow(0, place.x(), place.y(), place.width(), place.height()).toImage()
        image = image.convertToFormat(image.Format.Format_RGB888)
        data = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
        rows = data.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()]
        self._write(name, rows.reshape(image.height(), image.width(), 3))

    def _write(self, name: str, pixels: Any) -> None:
        path = self.folder / f"tutorial-{name}.png"
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        for colors in (256, 128, 64, 32):
            small = picture.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            small.save(path, optimize=True)
            if path.stat().st_size <= MOST_BYTES:
                break
        print(f"{path}  {picture.width} x {picture.height}  {path.stat().st_size / 1e3:.0f} kB")

    # Doing

    def open(self, layers: list[Any]) -> None:
        """Open a sample and start on it."""
        for data, arguments, _kind in layers:
            self.viewer.add_image(data, **arguments)
        self.wait(self.dock.image_part.start.isEnabled)

    def start(self) -> None:
        """Press Start."""
        self.dock.image_part.start.click()
        self.wait(lambda: self.dock.layers is not None)
        self.settle()

    def click(self, frame: int, yx: tuple[float, float]) -> None:
        """Click a place in the picture for the current object."""
        layers = self.dock.layers
        layers.points.add(layers.placement.to_data(frame, *yx))
        self.settle()

    def box(self, frame: int, yxyx: tuple[float, float, float, float]) -> None:
        """Drag a box."""
        y0, x0, y1, x1 = yxyx
        layers = self.dock.layers
        corners = [layers.placement.to_data(frame, y, x) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))]
        layers.boxes.add_rectangles([np.array(corners)])
        self.settle()

    def new(self) -> None:
        """Begin another object."""
        self.dock.commands.new_object()

    def follow(self) -> None:
        """Press Follow, and wait for the end."""
        self.dock.follow_part.go.click()
        self.wait(lambda: not self.dock.controller.following and not self.dock.follow_part.stop.isEnabled())
        self.settle()

    def close(self) -> None:
        """Close the window."""
        self.viewer.close()
        QTest.qWait(100)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    studio = Studio(folder)
    begin(studio)
    prompts(studio)
    follow(studio)
    studio.close()
    volume(Studio(folder))


def begin(studio: Studio) -> None:
    dock = studio.dock
    studio.shoot("empty")
    studio.open(sample_timelapse())
    studio.viewer.dims.set_current_step(0, 0)
    studio.wait(lambda: not dock.image_part.preview.pixmap().isNull())
    studio.shoot("image")
    dock.model_part.choose("sam2.1-tiny")
    dock.controller.busy.emit("Preparing the stack and the model …")
    dock.controller.downloading.emit(Progress(62_000_000, 155_906_050))
    studio.shoot("model")
    dock.controller.downloading.emit(None)
    dock.controller.busy.emit("")
    dock.model_part.choose("nano")
    studio.start()
    studio.shoot("started")


def prompts(studio: Studio) -> None:
    dock = studio.dock
    studio.click(0, CELLS[0])
    studio.shoot("click")
    for cell in CELLS[1:]:
        studio.new()
        studio.click(0, cell)
    studio.shoot("objects")
    studio.new()
    dock.commands.tool_box()
    studio.box(0, BOXED)
    studio.shoot("box")
    dock.commands.tool_paint()
    studio.settle()
    studio.shoot("brush")
    dock.commands.tool_point()


def follow(studio: Studio) -> None:
    dock = studio.dock
    dock.follow_part.go.click()
    studio.wait(lambda: dock.follow_part.bar.value() > 30)
    studio.shoot_now("follow")
    studio.wait(lambda: not dock.controller.following)
    studio.settle()
    for row in dock.controller.state.objects:
        print(row, dock.controller.state.confidences[row.object_id].round(2))
    dock.commands.next_worst()
    studio.shoot("review")


def volume(studio: Studio) -> None:
    studio.open(sample_zstack())
    studio.viewer.dims.set_current_step(0, 12)
    studio.start()
    studio.shoot("zstack")
    studio.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")

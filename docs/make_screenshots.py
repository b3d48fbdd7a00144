"""Make the pictures of the plugin for the tutorial: a real window, driven through every state.

In the root of a clone, with the plugin installed. On a virtual display sizes are the same everywhere::

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py

Pictures go to ``docs/images``, or to the folder that is named. Sessions, settings and exports go to a
temporary folder, so that nothing of the user's is read or changed. It takes a minute or two.
"""

# ruff: noqa: E402  napari reads where its settings are when it is imported

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_TEMPORARY = tempfile.TemporaryDirectory(prefix="stacksam-pictures-", ignore_cleanup_errors=True)
os.environ["STACKSAM_HOME"] = str(Path(_TEMPORARY.name) / "home")
os.environ["NAPARI_CONFIG"] = str(Path(_TEMPORARY.name) / "napari.yaml")

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QCheckBox, QLineEdit, QMenu, QPushButton, QScrollArea, QWidget
from scipy.ndimage import distance_transform_edt
from skimage.measure import find_contours

from stacksam.assets import sample
from stacksam.io import read_labels
from stacksam.plugin.contributions import sample_timelapse, sample_zstack
from stacksam.plugin.dock import LINEAGE
from stacksam.plugin.progress import Progress
from stacksam.plugin.widget import StacksamWidget
from stacksam.plugin.words import n_unsure

SIZE = (1400, 900)
SECONDS = 120.0
"""Until something that was to happen counts as not happening."""
MOST_BYTES = 200_000
CELLS = {1: 7, 2: 10, 3: 3, 4: 2}
"""Objects of the pictures, and what they are in the truth of the time-lapse."""
DIVIDES = 1
"""The cell of the truth that divides."""
GOOD = 0.9
"""IoU below which the pictures call a mask wrong."""
_LEFT, _SHIFT = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier
Place = tuple[float, float]  # (y, x) in pixels of a frame
BoxOf = tuple[float, float, float, float]  # (y0, x0, y1, x1)


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
        self.wait(lambda: self.dock.isVisible() and self.window.width() == SIZE[0])

    @property
    def window(self) -> Any:
        """The window that the dock is in."""
        return self.dock.window()

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
            QTest.qWait(200)  # longer than the dock waits for a pause of the user
            answered: list[None] = []
            self.dock.controller.run(lambda: None, answered.append, "Waiting")
            self.wait(lambda known=answered: bool(known) and not self.dock.controller.following)

    def notes(self) -> list[QWidget]:
        """Notifications in the window."""
        found = self.window.findChildren(QWidget)
        return [w for w in found if type(w).__name__ == "NapariQtNotification" and w.isVisible()]

    def quiet(self) -> None:
        """Close notifications."""
        for note in self.notes():
            note.findChild(QPushButton, "close_button").click()
        self.wait(lambda: not self.notes())

    # Pictures

    def shoot(self, name: str, *, notes: bool = False) -> None:
        """Take a picture of the window as it is when all is done."""
        self.settle()
        if notes:
            self.wait(self.notes)
            QTest.qWait(600)  # notifications fade in
        else:
            self.quiet()
        self.shoot_now(name)

    def shoot_now(self, name: str) -> None:
        """Take a picture of the window while something runs."""
        QApplication.processEvents()
        save(np.asarray(self.viewer.screenshot(canvas_only=False, flash=False))[..., :3], self.folder, name)

    def shoot_screen(self, name: str) -> None:
        """Take a picture with what lies over the window: menus and dialogs."""
        QTest.qWait(300)  # the display draws in its own time
        place = self.window.frameGeometry()
        image = self.window.screen().grabWindow(0, place.x(), place.y(), *SIZE).toImage()
        image = image.convertToFormat(image.Format.Format_RGB888)
        data = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
        rows = data.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()]
        save(rows.reshape(image.height(), image.width(), 3), self.folder, name)

    # Doing

    def open(self, layers: Sequence[Any], frame: int) -> None:
        """Open a sample, and show a frame."""
        for data, arguments, _kind in layers:
            self.viewer.add_image(data, **arguments)
        self.viewer.dims.set_current_step(0, frame)
        self.wait(self.dock.image_part.start.isEnabled)
        self.wait(lambda: not self.dock.image_part.preview.pixmap().isNull())

    def start(self) -> None:
        """Press Start."""
        self.dock.image_part.start.click()
        self.wait(lambda: self.dock.layers is not None)
        self.settle()

    def click(self, frame: int, yx: Place) -> None:
        """Click a place in the picture for the current object."""
        layers = self.dock.layers
        layers.points.add(layers.placement.to_data(frame, *yx))
        self.settle()

    def box(self, frame: int, yxyx: BoxOf) -> None:
        """Drag a box for the current object."""
        y0, x0, y1, x1 = yxyx
        place = self.dock.layers.placement
        corners = [place.to_data(frame, y, x) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))]
        self.dock.layers.boxes.add_rectangles([np.array(corners)])
        self.settle()

    def lasso(self, frame: int, mask: Any) -> None:
        """Draw around a mask for the current object."""
        outline = max(find_contours(np.pad(mask, 1).astype(float), 0.5), key=len)[:-1:2] - 1
        layers = self.dock.layers
        layers.boxes.add_polygons([np.array([layers.placement.to_data(frame, y, x) for y, x in outline])])
        self.settle()

    def follow(self) -> None:
        """Press Follow, and wait for the end."""
        self.dock.follow_part.go.click()
        self.wait(lambda: not self.dock.controller.following)
        self.settle()

    def unfold(self, section: int) -> None:
        """Click the title of a part of the dock, and scroll to its end."""
        part = self.dock.sections[section]
        if part.content.isHidden():
            part.head.click()
        QTest.qWait(50)  # to be laid out
        bar = self.dock.findChild(QScrollArea).verticalScrollBar()
        bar.setValue(bar.maximum())

    def show_part(self, section: int) -> None:
        """Unfold a part of the dock, and scroll until all of it is seen."""
        part = self.dock.sections[section]
        part.set_folded(False)
        QTest.qWait(50)  # to be laid out
        self.dock.findChild(QScrollArea).ensureWidgetVisible(part)

    def select(self, object_id: int, first: int, last: int) -> None:
        """Shift-drag over frames of an object in the review strip."""
        canvas = self.dock.review_part.strip.canvas
        ends = [canvas.frame_rect(object_id, frame).center() for frame in (first, last)]
        QTest.mousePress(canvas, _LEFT, _SHIFT, ends[0])
        QTest.mouseMove(canvas, ends[1])
        QTest.mouseRelease(canvas, _LEFT, _SHIFT, ends[1])
        self.wait(lambda: self.dock.review_part.span() == (first, last))

    def close(self) -> None:
        """Close the window."""
        self.viewer.close()
        QTest.qWait(100)


def save(pixels: Any, folder: Path, name: str) -> None:
    """Write a picture with as many colours as its size allows."""
    path = folder / f"tutorial-{name}.png"
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    for colors in (256, 192, 128, 64):
        picture.quantize(colors, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path}  {picture.width} x {picture.height}  {path.stat().st_size / 1e3:.0f} kB")


def bounds(mask: Any) -> BoxOf:
    """The box about a mask."""
    y, x = np.nonzero(mask)
    return float(y.min()), float(x.min()), float(y.max()), float(x.max())


def iou(one: Any, other: Any) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def inside(mask: Any) -> Place:
    """The place of a mask that is farthest from its border."""
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(y), float(x)


# What is shown


def begin(studio: Studio) -> None:
    """Until there is a session."""
    dock = studio.dock
    studio.shoot("empty")
    menu(studio)
    studio.open(sample_timelapse(), 0)
    studio.shoot("image")
    dock.model_part.choose("sam2.1-tiny")
    dock.image_part.start.setEnabled(False)
    dock.controller.busy.emit("Preparing the stack and the model …")
    dock.controller.downloading.emit(Progress(62_000_000, 155_906_050))
    studio.shoot_now("model")
    dock.controller.downloading.emit(None)
    dock.controller.busy.emit("")
    dock.image_part.start.setEnabled(True)
    dock.model_part.choose("nano")
    studio.start()


def menu(studio: Studio) -> None:
    """The samples in the File menu."""
    file = find_menu(studio.window.menuBar(), "File")
    samples = find_menu(file, "Open Sample")
    ours = find_menu(samples, "stacksam")
    place = studio.window.menuBar().mapToGlobal(QPoint(4, studio.window.menuBar().height()))
    for one, other in ((file, samples), (samples, ours), (ours, None)):
        one.popup(place)
        studio.wait(one.isVisible)
        if other is not None:
            one.setActiveAction(other.menuAction())
            place = one.mapToGlobal(one.actionGeometry(other.menuAction()).topRight())
    studio.shoot_screen("samples")
    for one in (ours, samples, file):
        one.hide()


def find_menu(parent: Any, title: str) -> QMenu:
    """A menu by its title."""
    for action in parent.actions():
        if action.menu() is not None and title in action.text().replace("&", ""):
            return action.menu()
    titles = [action.text() for action in parent.actions()]
    raise SystemExit(f"there is no menu {title!r} among {titles}; is the plugin installed?")


def find(studio: Studio) -> None:
    """All cells of the first frame at once, which are taken back."""
    dock = studio.dock
    dock.find_part.fold.setChecked(True)
    dock.find_part.find.click()
    studio.wait(dock.find_part.outcome.isVisible)
    studio.shoot("find")
    dock.commands.undo()
    studio.settle()
    dock.find_part.fold.setChecked(False)


def prompts(studio: Studio, truth: Any) -> None:
    """Objects of the first frame."""
    dock = studio.dock
    studio.click(0, inside(truth[0] == CELLS[1]))
    studio.shoot("click")
    for cell in (CELLS[2], CELLS[3]):
        dock.commands.new_object()
        studio.click(0, inside(truth[0] == cell))
    studio.shoot("objects")
    dock.commands.new_object()
    dock.commands.tool_box()
    studio.box(0, bounds(truth[0] == CELLS[4]))
    studio.shoot("box")
    dock.commands.tool_paint()
    studio.shoot("brush")
    dock.commands.tool_point()


def follow(studio: Studio) -> None:
    """While objects are followed."""
    dock = studio.dock
    dock.follow_part.go.click()
    studio.wait(lambda: dock.follow_part.bar.value() > 30 and "left" in dock.follow_part.left.text())
    studio.viewer.dims.set_current_step(0, 6)
    QTest.qWait(100)
    studio.shoot_now("follow")
    studio.wait(lambda: not dock.controller.following)


def review(studio: Studio, truth: Any) -> None:
    """Unsure frames, a correction and what comes of it, and a range that is accepted."""
    dock = studio.dock
    studio.settle()
    session = dock.controller.session

    def quality(object_id: int) -> list[float]:
        own = truth == CELLS[object_id]
        return [iou(session.mask(object_id, f), own[f]) for f in range(len(own))]

    unsure = max(CELLS, key=lambda i: n_unsure(dock.controller.state, i))
    dock.controller.set_current(unsure)
    if n_unsure(dock.controller.state, unsure):
        dock.commands.next_worst()
    studio.shoot("review")
    current = min(CELLS, key=lambda i: np.mean(quality(i)))
    own = truth == CELLS[current]
    frame = next((f for f, value in enumerate(quality(current)) if value < GOOD), 0)  # where it began
    dock.go_to(current, frame)
    studio.shoot("wrong")
    dock.commands.tool_lasso()
    studio.lasso(frame, own[frame])
    studio.shoot("correct")
    dock.commands.tool_point()
    studio.follow()
    studio.shoot("changed")
    studio.select(current, frame, len(truth) - 1)
    dock.review_part.accept.click()
    studio.shoot("accept")


def divide(studio: Studio, truth: Any) -> None:
    """A cell that divides: it is asked about, accepted, and seen in the tree."""
    dock = studio.dock
    divisions = dock.lineage.divisions
    studio.viewer.dims.set_current_step(0, 0)
    dock.commands.new_object()
    mother = dock.controller.current
    studio.click(0, inside(truth[0] == DIVIDES))
    studio.follow()
    studio.wait(lambda: not divisions.looking)
    while divisions.asked != mother:
        dock.commands.next_division()
    studio.settle()
    studio.show_part(LINEAGE)
    studio.shoot("division")
    dock.commands.accept_division()
    studio.settle()
    studio.follow()
    studio.wait(lambda: not divisions.looking)
    dock.lineage_part.tracks.click()
    dock.go_to(0, len(truth) - 6)
    dock.lineage.show_tree()
    tree = dock.lineage.tree
    tree.resize(560, 250)
    tree.move(studio.window.geometry().topLeft() + QPoint(350, 580))
    studio.settle()
    studio.quiet()
    studio.show_part(LINEAGE)
    studio.shoot_screen("tree")
    tree.close()
    dock.lineage_part.tracks.click()


def export(studio: Studio) -> None:
    """What would be written, and what was."""
    dock = studio.dock
    dock.export_part.findChild(QLineEdit).setText("cells")  # in the folder that the script works in
    for box in dock.export_part.findChildren(QCheckBox):
        box.setChecked(box.text().startswith(("Labels", "Tracks")))
    for section in (2, 3):
        dock.sections[section].set_folded(True)
    studio.unfold(LINEAGE + 1)
    studio.shoot("export")
    next(b for b in dock.export_part.findChildren(QPushButton) if b.text().startswith("Export")).click()
    opens = next(b for b in dock.export_part.findChildren(QPushButton) if b.text() == "Open folder")
    studio.wait(opens.isVisible)
    studio.unfold(LINEAGE + 1)
    studio.shoot("exported")
    for section in (2, 3):
        dock.sections[section].set_folded(False)


def words(studio: Studio) -> None:
    """The help, and an error."""
    dock = studio.dock
    dock.findChild(QScrollArea).verticalScrollBar().setValue(0)

    def look() -> None:
        dialog = QApplication.activeModalWidget()
        if dialog is None or not dialog.isVisible():
            QTimer.singleShot(50, look)
            return
        dialog.move(studio.window.geometry().center() - dialog.rect().center())
        studio.shoot_screen("keys")
        dialog.close()

    QTimer.singleShot(50, look)
    dock.help_button.click()
    dock.prompt_part.from_labels.click()
    studio.shoot("error", notes=True)
    studio.quiet()


def volume(studio: Studio) -> None:
    """A z-stack, along its depth, and in three dimensions."""
    truth, frame = read_labels(sample("zstack_labels")).data[:], 12
    studio.open(sample_zstack(), frame)
    studio.start()
    studio.dock.commands.tool_box()
    for number, cell in enumerate((1, 2, 4, 5), start=1):
        studio.dock.controller.set_current(number)
        studio.box(frame, bounds(truth[frame] == cell))
    studio.shoot("zstack")
    studio.follow()
    studio.dock.commands.tool_point()
    studio.viewer.dims.ndisplay = 3
    for layer in studio.viewer.layers:
        layer.visible = layer is studio.dock.layers.result
    studio.viewer.scene.camera.angles = (20, 35, 60)
    studio.shoot("3d")


def main(folder: Path) -> None:
    """Make all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.absolute()
    os.chdir(_TEMPORARY.name)  # what is exported goes there
    truth = read_labels(sample("timelapse_labels")).data[:]
    studio = Studio(folder)
    begin(studio)
    find(studio)
    prompts(studio, truth)
    follow(studio)
    review(studio, truth)
    divide(studio, truth)
    export(studio)
    words(studio)
    studio.close()
    studio = Studio(folder)
    volume(studio)
    studio.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")

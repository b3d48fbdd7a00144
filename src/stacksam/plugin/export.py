"""The panel that asks what to export where, and says beforehand what will be written."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import QEvent, Qt, QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QPalette
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QRadioButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from stacksam.errors import InputError
from stacksam.plugin.export_formats import kept, offered
from stacksam.plugin.export_formats import title as title_of
from stacksam.plugin.exporting import ExportPlan, FileFormat, Origin, What, plan_export, size_text
from stacksam.plugin.icons import icon
from stacksam.plugin.panels import fill

__all__ = ["ExportPanel"]

_WHAT = {
    What.LABELS: (
        "Labels: one stack, all objects",
        "Every pixel holds the number of its object",
    ),
    What.MASKS: (
        "Masks: one stack per object",
        "Black and white; masks may overlap",
    ),
    What.TRACKS: ("Tracks: a CSV table", "For Excel, R or Python: track id, frame, y, x, area, parent"),
    What.OTHER: ("Other:", "What another program reads"),
}
_FORMATS = {
    FileFormat.TIFF: ("TIFF", "Opens in Fiji and most other programs"),
    FileFormat.OME_ZARR: ("OME-Zarr", "A folder of small files, for large data"),
}
_DELAY = 150  # ms that typing pauses before the disk is looked at


class ExportPanel(QWidget):
    """What to export, of which objects, and where to.

    It writes nothing itself: `export_requested` gives the plan to whoever does, and asks before that whether
    files that are there may be replaced.

    Parameters
    ----------
    parent : QWidget, optional

    Attributes
    ----------
    export_requested : Signal(object)
        An `ExportPlan`.
    cancel_requested : Signal()
    concluded : Signal(QWidget)
        An export has ended; the widget tells how.
    """

    export_requested = Signal(object)
    cancel_requested = Signal()
    concluded = Signal(QWidget)

    def __init__(self, parent: QWidget | None = None) -> None:
        self._made = False
        super().__init__(parent)
        self._stack_name, self._n_frames, self._frame_shape = "", 0, (0, 0)
        self._context: tuple[object, ...] = ()
        self._origin = Origin()
        self._all: tuple[int, ...] = ()
        self._selected: tuple[int, ...] = ()
        self._wanted: frozenset[int] = frozenset()
        self._running = False
        self._told_folder: Path | None = None  # that of the last context; what the user typed is kept
        self._result_folder: Path | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY)
        self._timer.timeout.connect(self._refresh)
        self._make_choices()
        self._make_outcome()
        self._lay_out()
        self._made = True
        self._draw_icons()
        self._refresh()

    def _make_choices(self) -> None:
        self._what = {what: QCheckBox(title) for what, (title, _) in _WHAT.items()}
        for what, box in self._what.items():
            box.setToolTip(_WHAT[what][1])
            box.setChecked(what == What.LABELS)
            box.toggled.connect(self._refresh)
        self._other = QComboBox()
        self._other.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._other.currentIndexChanged.connect(self._refresh)
        self._other.activated.connect(lambda *_: self._what[What.OTHER].setChecked(True))
        self._fill_other()
        self._every, self._some = QRadioButton("All"), QRadioButton("Selected")
        group = QButtonGroup(self)
        for button in (self._every, self._some):
            group.addButton(button)
        self._every.setChecked(True)
        self._every.toggled.connect(self._refresh)
        self._some.setToolTip("Only the objects that are selected in the table")
        self._format = QComboBox()
        for file_format, (title, explanation) in _FORMATS.items():
            self._format.addItem(title, file_format)
            self._format.setItemData(self._format.count() - 1, explanation, Qt.ItemDataRole.ToolTipRole)
        self._format.currentIndexChanged.connect(self._refresh)
        self._folder = QLineEdit()
        self._folder.setPlaceholderText("Folder to write to")
        self._folder.textChanged.connect(self._timer.start)
        self._browse = QPushButton("Browse…")
        self._browse.clicked.connect(self._choose_folder)

    def _make_outcome(self) -> None:
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextFormat(Qt.TextFormat.RichText)
        self._text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._go = QPushButton("Export")
        self._go.clicked.connect(self._ask)
        self._bar = QProgressBar()
        self._cancel = QPushButton("Cancel")
        self._cancel.clicked.connect(self._stop)
        self._result = QLabel()
        self._result.setWordWrap(True)
        self._result.setTextFormat(Qt.TextFormat.RichText)
        self._open = QPushButton("Open folder")
        self._open.clicked.connect(self._open_folder)
        for widget in (self._bar, self._cancel, self._result, self._open):
            widget.hide()

    def _lay_out(self) -> None:
        form = QGridLayout()
        form.setHorizontalSpacing(10)
        form.setVerticalSpacing(6)
        form.setColumnStretch(1, 1)
        what = QVBoxLayout()
        what.setSpacing(3)
        for kind, box in self._what.items():
            if kind != What.OTHER:
                what.addWidget(box)
        other = QHBoxLayout()
        other.setSpacing(6)
        other.addWidget(self._what[What.OTHER])
        other.addWidget(self._other, 1)
        what.addLayout(other)
        objects = QHBoxLayout()
        objects.setSpacing(12)
        objects.addWidget(self._every)
        objects.addWidget(self._some)
        objects.addStretch(1)
        where = QHBoxLayout()
        where.setSpacing(6)
        where.addWidget(self._folder, 1)
        where.addWidget(self._browse)
        for row, (title, part) in enumerate(
            (("What", what), ("Objects", objects), ("Format", self._format), ("Folder", where))
        ):
            top = Qt.AlignmentFlag.AlignTop if part is what else Qt.AlignmentFlag.AlignVCenter
            form.addWidget(QLabel(title), row, 0, top)
            if isinstance(part, QWidget):
                form.addWidget(part, row, 1)
            else:
                form.addLayout(part, row, 1)
        run = QHBoxLayout()
        self._go.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for button in (self._go, self._bar, self._cancel):
            run.addWidget(button)
        end = QHBoxLayout()
        end.addWidget(self._result, 1)
        end.addWidget(self._open, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for part in (form, run, end):
            if part is run:
                layout.addWidget(self._text)
            layout.addLayout(part)
        layout.addStretch(1)

    # What the controller calls

    def set_context(
        self,
        stack_name: str,
        n_frames: int,
        frame_shape: tuple[int, int],
        object_ids: Collection[int],
        folder: str | os.PathLike[str],
        origin: Origin = Origin(),  # noqa: B008  it is frozen
    ) -> None:
        """Say what there is to export.

        Parameters
        ----------
        stack_name : str
            What the files are named after.
        n_frames : int
        frame_shape : (int, int)
            Height and width in pixels.
        object_ids : collection of int
        folder : path
            Where to write, unless the user has chosen another folder; "" for none.
        origin : Origin
            What the results are, and the links between objects.
        """
        context = (stack_name, n_frames, frame_shape, tuple(sorted(object_ids)), os.fspath(folder), origin)
        if context == self._context:
            return  # called for every state of the session, and most have the same objects
        self._context = context
        self._stack_name, self._n_frames, self._frame_shape = stack_name, n_frames, frame_shape
        self._all = tuple(sorted(object_ids))
        self._origin = origin
        self._fill_other()
        self._selected = self._known_of(self._wanted)
        place = Path(folder) if os.fspath(folder) else None
        typed = self._folder.text().strip()
        if place is not None and (not typed or typed == str(self._told_folder)):
            self._folder.setText(str(place))
        self._told_folder = place
        self._refresh()

    def set_selected(self, object_ids: Collection[int]) -> None:
        """Say which objects are selected in the table."""
        self._wanted = frozenset(object_ids)  # also those that the state does not know yet
        self._selected = self._known_of(self._wanted)
        self._refresh()

    def _known_of(self, object_ids: Collection[int]) -> tuple[int, ...]:
        return tuple(sorted(set(object_ids) & set(self._all)))

    def set_progress(self, done: int, total: int) -> None:
        """Show how far the export has come; the first call shows that it runs."""
        self._run(True)
        self._bar.setRange(0, max(total, 0))
        self._bar.setValue(done)

    def finished(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """Show that all files were written."""
        self._conclude("✓", f"{_files(len(paths))} written.", paths)

    def cancelled(self, paths: Sequence[str | os.PathLike[str]] = ()) -> None:
        """Show that the export was cancelled, and the files that were complete by then."""
        self._conclude("⚠", f"Cancelled. {_kept(paths) or 'Nothing was written.'}", paths)

    def failed(self, message: str, paths: Sequence[str | os.PathLike[str]] = ()) -> None:
        """Show why the export failed, and the files that were complete by then."""
        self._conclude("⚠", f"{message}. {_kept(paths)}" if paths else message, paths)

    def plan(self) -> ExportPlan:
        """What would be exported now.

        Raises
        ------
        InputError
            If something is missing; the message says what.
        """
        if not self._n_frames:
            raise InputError("Choose an image first.")
        if not self._all:
            raise InputError("There are no objects yet. Click a cell in the picture to start one.")
        if not any(box.isChecked() for box in self._what.values()):
            raise InputError("Choose what to export.")
        if not self._folder.text().strip():
            raise InputError("Choose a folder to write to.")
        return plan_export(
            stack_name=self._stack_name,
            n_frames=self._n_frames,
            frame_shape=self._frame_shape,
            object_ids=self._selected if self._some.isChecked() else self._all,
            what=[what for what, box in self._what.items() if box.isChecked()],
            folder=self._folder.text().strip(),
            file_format=FileFormat(self._format.currentData()),
            other=str(self._other.currentData() or ""),
            origin=self._origin,
        )

    def _fill_other(self) -> None:
        """Offer the formats that fit what there is."""
        formats = offered(self._origin)
        if [one.name for one in formats] == [self._other.itemData(i) for i in range(self._other.count())]:
            return
        fill(self._other, [(title_of(one), one.name) for one in formats])
        for i, one in enumerate(formats):
            self._other.setItemData(i, kept(one), Qt.ItemDataRole.ToolTipRole)

    # What the user does

    def _ask(self) -> None:
        """Ask for an export, once it is clear what becomes of files that are there."""
        try:
            plan = self.plan()
        except InputError:
            self._refresh()
            return
        existing = plan.existing()
        if existing:
            if not self._may_replace(existing):
                return
            plan = replace(plan, overwrite=True)
        self._run(True)
        self._bar.setRange(0, plan.steps)
        self._bar.setValue(0)
        self.export_requested.emit(plan)

    def _may_replace(self, existing: Sequence[Path]) -> bool:
        one = len(existing) == 1
        names = "\n".join(path.name for path in existing[:5])
        names += f"\nand {len(existing) - 5} more" if len(existing) > 5 else ""
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("Replace files?")
        box.setText("This file exists already:" if one else "These files exist already:")
        box.setInformativeText(f"{names}\n\nReplace {'it' if one else 'them'}?")
        yes = box.addButton("Replace", QMessageBox.ButtonRole.AcceptRole)
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        box.exec()
        return bool(box.clickedButton() is yes)

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder to write to", self._folder.text())
        if chosen:
            self._folder.setText(chosen)

    def _stop(self) -> None:
        self._cancel.setEnabled(False)
        self._cancel.setText("Stopping…")
        self.cancel_requested.emit()

    def _open_folder(self) -> None:
        if self._result_folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._result_folder)))

    # Keeping things in step

    def _run(self, running: bool) -> None:
        """Show that an export runs, or that none does."""
        if running == self._running:
            return
        self._running = running
        self._go.setVisible(not running)
        self._bar.setVisible(running)
        self._cancel.setVisible(running)
        self._cancel.setEnabled(True)
        self._cancel.setText("Cancel")
        for widget in (*self._what.values(), self._other, self._every, self._folder, self._browse):
            widget.setEnabled(not running)
        if running:
            self._result.hide()
            self._open.hide()
        self._refresh()

    def _conclude(self, mark: str, message: str, paths: Sequence[str | os.PathLike[str]]) -> None:
        self._run(False)
        self._result.setText(f"<b>{mark}</b>&nbsp;{_breakable(message[:1].upper() + message[1:])}")
        self._result.show()
        self._result_folder = Path(os.path.commonpath([Path(p).parent for p in paths])) if paths else None
        self._open.setVisible(bool(paths))
        self._refresh()
        self.concluded.emit(self._result)

    def _refresh(self) -> None:
        """Say what would be written now."""
        count = len(self._selected)
        self._every.setText(f"All ({len(self._all)})" if self._all else "All")
        self._some.setText(f"Selected ({count})" if count else "Selected")
        self._some.setEnabled(bool(count) and not self._running)
        if not count and self._some.isChecked():
            self._every.setChecked(True)
        images = any(self._what[what].isChecked() for what in (What.LABELS, What.MASKS))
        self._format.setEnabled(images and not self._running)
        self._format.setToolTip(_FORMATS[FileFormat(self._format.currentData())][1])
        self._other.setToolTip(str(self._other.currentData(Qt.ItemDataRole.ToolTipRole) or ""))
        self._folder.setToolTip(self._folder.text())
        try:
            plan = self.plan()
        except InputError as error:
            self._go.setEnabled(False)
            self._text.setText(f"<i>{_breakable(str(error))}</i>")
            return
        self._go.setEnabled(True)
        self._go.setText("Export" if len(plan.targets) == 1 else f"Export {_files(len(plan.targets))}")
        self._text.setText(_told(plan))

    def _draw_icons(self) -> None:
        color = self.palette().color(QPalette.ColorRole.WindowText)
        self._go.setIcon(icon("export", color))
        self._browse.setIcon(icon("folder", color))
        self._open.setIcon(icon("folder", color))

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the theme."""
        super().changeEvent(event)
        # Such events also come while the widget is being made.
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange) and self._made:
            self._draw_icons()


def _told(plan: ExportPlan) -> str:
    """What a plan writes, as HTML."""
    existing = len(plan.existing())
    new = "" if plan.folder.is_dir() else " (a new folder)"
    parts = [
        f"Writes {_files(len(plan.targets))}, up to {size_text(plan.nbytes)}, to<br>"
        f"{_breakable(str(plan.folder))}{new}:"
    ]
    parts += [f"<b>{_breakable(name)}</b><br>{html.escape(content)}" for name, content in plan.describe()]
    parts += [f"⚠ {html.escape(name)} does not keep {' and '.join(words)}." for name, words in plan.lost()]
    if existing:
        verb = "exists" if existing == 1 else "exist"
        parts.append(f"⚠ {_files(existing)} {verb} already: you will be asked before any is replaced.")
    return "".join(f"<p style='margin: 0 0 5px 0'>{part}</p>" for part in parts)


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"


def _kept(paths: Sequence[object]) -> str:
    return f"{_files(len(paths))} had been written and stay{'' if len(paths) > 1 else 's'}." if paths else ""


def _breakable(text: str) -> str:
    """Text as HTML that may break within paths, which would be cut in a narrow dock."""
    return re.sub(r"([/\\_.\-])", "\\1&#8203;", html.escape(text))

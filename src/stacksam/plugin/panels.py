"""The smaller parts of the dock: a model, a prompt, following. They know no session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from stacksam import assets
from stacksam.plugin.colors import color_of
from stacksam.plugin.controller import Reach
from stacksam.plugin.keys import hint
from stacksam.plugin.parts import Elided
from stacksam.plugin.progress import Progress
from stacksam.session.plan import Direction

__all__ = ["FollowPanel", "ModelPanel", "PromptPanel", "duration"]

_TOOLS = (
    ("point", "Point", "tool_point", "Click an object; one click is often enough"),
    ("box", "Box", "tool_box", "Drag a rectangle around an object"),
    ("lasso", "Lasso", "tool_lasso", "Draw around an object: the outline is taken as it is"),
    ("paint", "Brush", "tool_paint", "Paint or erase the mask of the current object by hand"),
)
_NAME = 24  # characters of an object's name where there is little room
_LEAST = 110  # width of what may be cut in a narrow dock
_WHERE = {
    assets.Status.EMBEDDED: "built in",
    assets.Status.VERIFIED: "downloaded",
    assets.Status.UNCHECKED: "downloaded",
}
_SIGNS = (
    (True, "+ part of it", "The next click is on the object"),
    (False, "− not part of it", "The next click is beside the object, where its mask has spilled to"),
)
_DIRECTIONS: tuple[tuple[Direction, str, str], ...] = (
    ("backward", "◀", "Backward: from its prompts to earlier frames"),
    ("both", "◀ ▶", "Both ways: from its prompts to the first and the last frame"),
    ("forward", "▶", "Forward: from its prompts to later frames"),
)


def duration(seconds: float) -> str:
    """Seconds in words that are as exact as a guess can be."""
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class ModelPanel(QWidget):
    """Which model, on which device, and what to expect of it."""

    cancel_requested = Signal()
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pace = ("", "")  # the model it is of, and in words
        self.model = QComboBox()
        self.model.setToolTip("nano comes with stacksam and is quick; SAM 2.1 models are larger and slower")
        self.device = QComboBox()
        devices = _devices()
        self.device.addItem(f"automatic  ({devices[-1]})", None)
        for name in devices:
            self.device.addItem(name, name)
        for box in (self.model, self.device):
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            box.setMinimumWidth(_LEAST)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.bar = QProgressBar()
        self.cancel = QPushButton("Cancel")
        self.cancel.clicked.connect(self.cancel_requested)
        self._download = QWidget()
        row = QHBoxLayout(self._download)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel)
        self._download.hide()
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Model", self.model)
        form.addRow("Device", self.device)
        form.addRow(self.about)
        form.addRow(self._download)
        self.refresh()
        self.model.currentIndexChanged.connect(self._describe)
        self.model.currentIndexChanged.connect(self.changed)
        self.device.currentIndexChanged.connect(self.changed)
        self._describe()

    def refresh(self) -> None:
        """Look again at which models are here."""
        chosen = self.name()
        blocked = self.model.blockSignals(True)
        self.model.clear()
        for row in assets.status_table():
            size = f"{row.model.size / 1e6:.0f} MB" if row.model.size else "size unknown"
            where = _WHERE.get(row.status, f"download, {size}")
            self.model.addItem(f"{row.model.name}  ({where})", row.model.name)
        self.choose(chosen or "nano")
        self.model.blockSignals(blocked)

    def name(self) -> str:
        """Registry name, or path, of the chosen model."""
        return str(self.model.currentData() or "")

    def choose(self, name: str) -> None:
        """Choose a model; one that is not in the list is a path."""
        place = self.model.findData(name)
        if place < 0:
            self.model.addItem(name, name)
            place = self.model.count() - 1
        self.model.setCurrentIndex(place)

    def device_name(self) -> str | None:
        """The chosen device, or None for the best."""
        value = self.device.currentData()
        return None if value is None else str(value)

    def _describe(self) -> None:
        name = self.name()
        if name == "nano":
            self.about.setText("Small and quick; comes with stacksam and works offline.")
        elif name in assets.MODELS:
            model = assets.model_file(name)
            size = f"{model.size / 1e6:.0f} MB " if model.size else ""
            self.about.setText(f"Official SAM 2 model; {size}are fetched once, when you press Start.")
        else:
            self.about.setText(f"Checkpoint {name}")
        if name == self._pace[0]:
            self.about.setText(f"{self.about.text()} {self._pace[1]}".rstrip())

    def set_pace(self, name: str, text: str) -> None:
        """Say what this machine makes of a model, while that is chosen."""
        self._pace = (name, text)
        self._describe()

    def set_download(self, progress: Progress | None) -> None:
        """Show how far a download has come; None for none."""
        self._download.setVisible(progress is not None)
        if progress is not None:
            # Qt counts in 32 bits; the largest model has more bytes than that allows.
            self.bar.setRange(0, progress.total // 1024)
            self.bar.setValue(progress.done // 1024)
            self.bar.setFormat(f"{progress.done / 1e6:.0f} of {progress.total / 1e6:.0f} MB")


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


class PromptPanel(QWidget):
    """Which tool, for which object."""

    tool_requested = Signal(str)
    sign_toggled = Signal()
    new_requested = Signal()
    next_candidate_requested = Signal()
    from_labels_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.current = QLabel()
        self.current.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.new = QPushButton("New object")
        self.new.setToolTip("The next prompt starts another object" + hint("new_object"))
        self.new.clicked.connect(self.new_requested)
        self.tools: dict[str, QPushButton] = {}
        row = QHBoxLayout()
        row.setSpacing(4)
        self._group = QButtonGroup(self)
        for name, text, action, tip in _TOOLS:
            button = _tool(text, tip + hint(action), checkable=True)
            button.clicked.connect(_sender(self.tool_requested, name))
            self._group.addButton(button)
            self.tools[name] = button
            row.addWidget(button)
        self.signs: dict[bool, QPushButton] = {}
        signs = QButtonGroup(self)
        for positive, text, tip in _SIGNS:
            button = _tool(text, tip + hint("toggle_sign"), checkable=True)
            button.clicked.connect(_caller(self._ask_sign, positive))
            signs.addButton(button)
            self.signs[positive] = button
        self.another = _tool(
            "Another mask",
            "A click can mean the nucleus, the cell or the cluster: take the next one"
            + hint("next_candidate"),
        )
        self.another.clicked.connect(self.next_candidate_requested)
        self.from_labels = QPushButton("Take labels …")
        self.from_labels.setToolTip(
            "Every label on this frame of a Labels layer (Cellpose, StarDist, by hand) becomes an object",
        )
        self.from_labels.clicked.connect(self.from_labels_requested)
        self.busy = QLabel()  # the dock shows it where it is never folded away
        top = QHBoxLayout()
        top.setSpacing(4)
        top.addWidget(self.current, 1)
        top.addWidget(self.new)
        top.addWidget(self.from_labels)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addLayout(row)
        further = QHBoxLayout()
        further.setSpacing(4)
        for button in (*self.signs.values(), self.another):
            further.addWidget(button)
        layout.addLayout(further)
        self.set_sign(True)
        self.set_current(888, "", False)
        self.current.setWordWrap(False)
        self.current.setMinimumWidth(self.current.sizeHint().width())
        self.current.setWordWrap(True)  # a name may take a second line
        self.set_current(1, "", False)
        self.set_busy("")

    def set_tool(self, name: str | None) -> None:
        """Show which tool is in use; None for none."""
        self._group.setExclusive(False)
        for own, button in self.tools.items():
            button.setChecked(own == name)
        self._group.setExclusive(name is not None)

    def set_sign(self, positive: bool) -> None:
        """Show what the next point says."""
        self._positive = positive
        self.signs[positive].setChecked(True)

    def _ask_sign(self, positive: bool) -> None:
        if positive != self._positive:
            self.sign_toggled.emit()

    def set_current(self, object_id: int, name: str, known: bool) -> None:
        """Show which object the next prompt is for."""
        red, green, blue, _ = (round(255 * v) for v in color_of(object_id))
        called = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
        title = f"object {object_id}" + (f" · {escape(called)}" if name else "") + ("" if known else " (new)")
        self.current.setToolTip(name)
        self.current.setText(
            f"<span style='background:rgb({red},{green},{blue})'>&nbsp;&nbsp;&nbsp;</span>&nbsp; "
            f"For <b>{title}</b>"
        )

    def set_busy(self, text: str) -> None:
        """Say what is being worked out; empty for nothing."""
        self.busy.setText(text)


class FollowPanel(QWidget):
    """Which objects, where to, and how far it has come."""

    follow_requested = Signal()
    cancel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.which = QComboBox()
        for text, value in (
            ("all objects", "all"),
            ("this object", "current"),
            ("selected objects", "selected"),
        ):
            self.which.addItem(text, value)
        self.reach = QComboBox()
        for reach, text in (
            ("all", "whole stack"),
            ("to here", "up to this frame"),
            ("to the next accepted frame", "to the next accepted"),
            ("all anew", "whole stack, anew"),
        ):
            self.reach.addItem(text, reach)
        self.reach.setToolTip(
            "How far: through the stack, to the frame shown, or to the next accepted frame. Anew: once more "
            "also where there are masks, but for accepted frames; so an object comes back on frames on which "
            "it was not, once that is taken back"
        )
        self.direction: Direction = "both"
        self._buttons: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        for name, text, tip in _DIRECTIONS:
            button = _tool(text, tip, checkable=True)
            button.clicked.connect(_caller(self.set_direction, name))
            group.addButton(button)
            self._buttons[name] = button
        self.go = QPushButton("Follow")
        self.go.setToolTip("Carry the objects to the frames that have no valid mask yet" + hint("follow"))
        self.go.clicked.connect(self.follow_requested)
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("End after the frame in progress; everything found is kept" + hint("cancel"))
        self.stop.clicked.connect(self.cancel_requested)
        self.bar = QProgressBar()
        self.bar.setFormat("%v of %m masks")
        self.left = Elided()
        choices = QHBoxLayout()
        buttons = QHBoxLayout()
        progress = QHBoxLayout()
        for line, widgets in (
            (choices, ((self.which, 2), (self.reach, 3))),
            (buttons, (*((button, 2) for button in self._buttons.values()), (self.go, 5), (self.stop, 3))),
            (progress, ((self.bar, 1), (self.left, 1))),
        ):
            line.setSpacing(4)
            for widget, share in widgets:
                cut = isinstance(widget, QProgressBar | QLabel)  # their words may be, those of controls not
                policy = QSizePolicy.Policy.Ignored if cut else QSizePolicy.Policy.Preferred
                widget.setSizePolicy(policy, QSizePolicy.Policy.Fixed)
                line.addWidget(widget, share)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for line in (choices, buttons, progress):
            layout.addLayout(line)
        self.set_direction("both")
        self.set_progress(None)

    def set_direction(self, name: Direction) -> None:
        """Choose a direction."""
        self.direction = name
        self._buttons[name].setChecked(True)

    def reach_name(self) -> Reach:
        """How far to follow."""
        value: Reach = self.reach.currentData()
        return value

    def set_reach(self, reach: Reach) -> None:
        """Choose how far to follow."""
        self.reach.setCurrentIndex(self.reach.findData(reach))

    def begin(self) -> None:
        """Choose what most want first: all objects, through the whole stack, both ways."""
        self.which.setCurrentIndex(0)
        self.set_reach("all")
        self.set_direction("both")

    def set_progress(self, progress: Progress | None) -> None:
        """Show how far a pass has come; None where none runs."""
        running = progress is not None
        self.go.setEnabled(not running)
        self.stop.setEnabled(running)
        self.bar.setVisible(running)
        self.left.setVisible(running)
        if progress is not None:
            self.bar.setRange(0, progress.total)
            self.bar.setValue(progress.done)
            parts = [] if progress.frame is None else [f"frame {progress.frame}"]
            if progress.seconds_left is not None:
                parts.append(f"about {duration(progress.seconds_left)} left")
            self.left.setText(" · ".join(parts) or "starting …")


def _tool(text: str, tip: str, *, checkable: bool = False) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setCheckable(checkable)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return button


def _sender(signal: Signal, value: str) -> Callable[[], None]:
    return lambda *_: signal.emit(value)


def _caller(function: Callable[[Any], None], value: object) -> Callable[[], None]:
    return lambda *_: function(value)


def fill(combo: QComboBox, items: Sequence[tuple[str, object]]) -> None:
    """Replace the items of a combo box and keep what was chosen, without a signal."""
    chosen = combo.currentData()
    blocked = combo.blockSignals(True)
    combo.clear()
    for text, value in items:
        combo.addItem(text, value)
    place = next((i for i, (_, value) in enumerate(items) if value == chosen), -1)
    if place >= 0:
        combo.setCurrentIndex(place)
    combo.blockSignals(blocked)

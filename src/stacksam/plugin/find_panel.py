"""Small parts of the dock for what is found at one go: all objects of a frame, and a vote of three axes."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from stacksam.plugin.keys import hint
from stacksam.plugin.searches import Search
from stacksam.session.finding import SIZES

__all__ = ["FindPanel", "Running", "VotePanel", "fold_button"]

_FIRST_SIZE = 16  # pixels, with the first press of the arrow


class Running(QWidget):
    """A bar and a button to stop; hidden while nothing runs.

    Attributes
    ----------
    stop_requested : Signal()
    """

    stop_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.bar = QProgressBar()
        self.bar.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.stop = QPushButton("Cancel")
        self.stop.setToolTip("End it; everything stays as it was" + hint("cancel"))
        self.stop.clicked.connect(lambda *_: self.stop_requested.emit())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.bar, 1)
        row.addWidget(self.stop)
        self.show_search(None)

    def show_search(self, search: Search | None) -> None:
        """Show how far a search is; None for none."""
        self.setVisible(search is not None)
        if search is not None:
            self.bar.setRange(0, search.total)  # without a total the bar runs to and fro
            self.bar.setValue(search.done)
            self.bar.setFormat("%v of %m masks" if search.kind == "vote" else "%p%" if search.total else "")


class _Size(QSpinBox):
    """A diameter in pixels, or 0; the arrow goes from 0 to what is likely."""

    def stepBy(self, steps: int) -> None:  # noqa: N802
        """Leave out what no object can have."""
        if steps > 0 and self.value() == 0:
            self.setValue(_FIRST_SIZE)
        elif steps < 0 and self.value() <= SIZES[0]:
            self.setValue(0)
        else:
            super().stepBy(steps)


class FindPanel(QWidget):
    """A button that finds all objects of a frame, and what to look for.

    Attributes
    ----------
    find_requested, stop_requested : Signal()
    """

    find_requested = Signal()
    stop_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.find = QPushButton("Find all objects")
        self.find.setToolTip(
            "Make an object of everything on this frame that looks like one; what is an object already is "
            "not found twice" + hint("find_all")
        )
        self.find.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.find.clicked.connect(lambda *_: self.find_requested.emit())
        self.size = _Size()
        self.size.setRange(0, SIZES[1])
        self.size.setSuffix(" px")
        self.size.setSpecialValueText("estimated")
        self.size.setToolTip("Typical diameter of the objects in pixels; 0 has it estimated")
        self.in_units = QLabel()
        self.in_units.setEnabled(False)  # pale in any theme
        self.score = QDoubleSpinBox()
        self.score.setRange(0.0, 1.0)
        self.score.setSingleStep(0.05)
        self.score.setToolTip(
            "Masks that the model believes in less are left out: lower it if objects are missed, raise it if "
            "too much is found"
        )
        self.how = QWidget()
        self.fold = fold_button("Options", "What to look for: size and confidence", self.how)
        self.running = Running()
        self.running.stop_requested.connect(self.stop_requested)
        self.outcome = QLabel()
        self.outcome.setWordWrap(True)
        self.outcome.hide()
        self._pixel: tuple[float, str] | None = None
        self._lay_out()
        self.size.valueChanged.connect(self._tell_size)

    def _lay_out(self) -> None:
        size = QHBoxLayout()
        size.addWidget(self.size)
        size.addWidget(self.in_units, 1)
        form = QFormLayout(self.how)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.addRow("Typical size", size)
        score = QHBoxLayout()
        score.addWidget(self.score)
        score.addStretch(1)
        form.addRow("Least confidence", score)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.find, 1)
        row.addWidget(self.fold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        for widget in (self.how, self.running, self.outcome):
            layout.addWidget(widget)

    def begin(self, score: float, pixel: tuple[float, str] | None) -> None:
        """Choose what most want first.

        Parameters
        ----------
        score : float
            Confidence from which on masks are taken.
        pixel : (float, str), optional
            Side of a pixel and its unit, where that is known.
        """
        self._pixel = pixel
        self.size.setValue(0)
        self.score.setValue(score)
        self.tell("")
        self._tell_size()

    def show_search(self, search: Search | None) -> None:
        """Show how far a search is; None for none."""
        self.running.show_search(search if search is not None and search.kind == "find" else None)
        for widget in (self.find, self.how):
            widget.setEnabled(search is None)

    def tell(self, text: str) -> None:
        """Say what was found; empty for nothing."""
        self.outcome.setText(text)
        self.outcome.setVisible(bool(text))

    def _tell_size(self) -> None:
        known = self._pixel is not None and self.size.value() > 0
        self.in_units.setText(f"= {self.in_unit(self.size.value())}" if known else "")

    def in_unit(self, pixels: float) -> str:
        """A length in the image's unit; empty where that is not known."""
        return "" if self._pixel is None else f"{pixels * self._pixel[0]:.3g} {self._pixel[1]}"


class VotePanel(QWidget):
    """A button for what two of three axes of a volume say; nothing where there is no volume.

    Attributes
    ----------
    vote_requested, stop_requested : Signal()
    """

    vote_requested = Signal()
    stop_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.vote = QPushButton("Consensus of three axes")
        self.vote.setToolTip(
            "Follow the objects along rows and columns, too, and keep the voxels that two of the three "
            "directions agree on; masks that change are accepted. It takes several times as long as Follow"
        )
        self.vote.clicked.connect(lambda *_: self.vote_requested.emit())
        self.running = Running()
        self.running.stop_requested.connect(self.stop_requested)
        self.outcome = QLabel()
        self.outcome.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        for widget in (self.vote, self.running, self.outcome):
            layout.addWidget(widget)
        self.tell("")
        self.hide()

    def show_search(self, search: Search | None) -> None:
        """Show how far a search is; None for none."""
        self.running.show_search(search if search is not None and search.kind == "vote" else None)
        self.vote.setEnabled(search is None)

    def tell(self, text: str) -> None:
        """Say what came of it; empty for nothing."""
        self.outcome.setText(text)
        self.outcome.setVisible(bool(text))


def fold_button(text: str, tip: str, content: QWidget) -> QToolButton:
    """A button with an arrow that folds a widget out, which is folded away at first."""
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setCheckable(True)
    button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    button.setArrowType(Qt.ArrowType.RightArrow)

    def fold(unfolded: bool) -> None:
        content.setVisible(unfolded)
        button.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)

    button.toggled.connect(fold)
    content.setVisible(False)
    return button

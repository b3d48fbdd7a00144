"""Small things that the parts of the dock are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from qtpy.QtCore import QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOption,
    QStyleOptionButton,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

__all__ = [
    "Elided",
    "Section",
    "SteadyButton",
    "Trouble",
    "fit_rows",
    "guarded",
    "small_button",
    "tells",
    "timer",
]

_TROUBLE_MS = 20_000


class Elided(QLabel):
    """A line of plain text of which the middle is left out where it is too long; the tooltip has it all."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def shown(self) -> str:
        """What there is room for."""
        width = self.contentsRect().width()
        return str(self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideMiddle, width))

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802
        """Draw it."""
        option = QStyleOption()
        option.initFrom(self)
        self.style().drawItemText(
            QPainter(self),
            self.contentsRect(),
            int(self.alignment()),
            option.palette,
            self.isEnabled(),
            self.shown(),
            self.foregroundRole(),
        )


class Section(QWidget):
    """A titled part that folds away; a note beside the title says how things stand, folded or not.

    Parameters
    ----------
    number : int
        Its place in the order of work.
    title : str
    content : QWidget

    Attributes
    ----------
    opened : Signal(QWidget)
        The user unfolded it; the content, once it is laid out.
    """

    opened = Signal(QWidget)

    def __init__(self, number: int, title: str, content: QWidget) -> None:
        super().__init__()
        self.content = content
        self.head = QToolButton()
        self.head.setText(f" {number}  {title}")
        self.head.setCheckable(True)
        self.head.setAutoRaise(True)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        font = self.head.font()
        font.setBold(True)
        self.head.setFont(font)
        self.head.toggled.connect(self._fold)
        self._laid_out = timer(self, 0, lambda: self.opened.emit(self.content))
        self.head.clicked.connect(lambda unfolded: self._laid_out.start() if unfolded else None)
        self.note = Elided()
        self.note.setEnabled(False)  # pale in any theme
        self.note.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row = QHBoxLayout()
        row.addWidget(self.head)
        row.addWidget(self.note, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 3)
        layout.setSpacing(2)
        layout.addLayout(row)
        layout.addWidget(content)
        self.set_folded(False)

    def set_folded(self, folded: bool) -> None:
        """Fold away, or unfold."""
        self.head.setChecked(not folded)
        self._fold(not folded)

    def set_note(self, text: str) -> None:
        """Say beside the title how things stand; empty for nothing."""
        self.note.setText(text)
        self.note.setToolTip(text)

    def _fold(self, unfolded: bool) -> None:
        self.head.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self.content.setVisible(unfolded)


def small_button(text: str, tip: str) -> QPushButton:
    """A button of one line."""
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


class SteadyButton(QPushButton):
    """A button whose words change; it is wide enough for the longest, so that nothing moves or is cut.

    Parameters
    ----------
    longest : str
    """

    def __init__(self, longest: str) -> None:
        super().__init__(longest)
        self._longest = longest

    def sizeHint(self) -> QSize:  # noqa: N802
        """As for the longest words."""
        self.ensurePolished()
        option = QStyleOptionButton()
        self.initStyleOption(option)
        option.text = self._longest
        words = self.fontMetrics().size(int(Qt.TextFlag.TextShowMnemonic), self._longest)
        kind = QStyle.ContentsType.CT_PushButton
        needed: QSize = self.style().sizeFromContents(kind, option, words, self)
        return needed.expandedTo(super().sizeHint())

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """No less."""
        return self.sizeHint()


class Trouble(QLabel):
    """The last error or warning in full, for a while: napari's notifications show its beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setStyleSheet("border-left: 3px solid #d8463c; padding-left: 6px;")
        self.hide()
        self._end = timer(self, _TROUBLE_MS, self.hide)

    def tell(self, text: str) -> None:
        """Show a text."""
        self.setText(text[:1].upper() + text[1:])
        self.show()
        self._end.start()


def fit_rows(table: QTableView, frame: QWidget, least: int, most: int) -> None:
    """Keep what holds a table as high as its rows, between `least` and `most` of them."""

    def fit(*_: object) -> None:
        rows = min(max(table.model().rowCount(), least), most)
        head = table.horizontalHeader().sizeHint().height()
        frame.setFixedHeight(head + rows * table.verticalHeader().defaultSectionSize() + 4)

    table.model().rowsInserted.connect(fit)
    table.model().rowsRemoved.connect(fit)
    fit()


def timer(parent: QObject, milliseconds: int, act: Callable[[], None]) -> QTimer:
    """A timer that fires once, a while after it was last started."""
    made = QTimer(parent)
    made.setSingleShot(True)
    made.setInterval(milliseconds)
    made.timeout.connect(act)
    return made


def guarded(act: Callable[..., Any], failed: Callable[[Exception], None]) -> Callable[..., None]:
    """`act`, with errors told instead of raised: nothing may escape into Qt, which would end the program."""

    @wraps(act)
    def run(*args: Any) -> None:
        try:
            act(*args)
        except Exception as error:  # noqa: BLE001 - the user is told
            failed(error)

    return run


def tells(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a method tell of errors by the method `name` of its object instead of raising them.

    For what is connected to napari's events: an exception there goes up into whatever napari was doing, and
    leaves that half done. A bound method stays one, of which napari holds no strong reference.
    """

    def decorate(act: Callable[..., None]) -> Callable[..., None]:
        @wraps(act)
        def run(self: Any, *args: Any) -> None:
            try:
                act(self, *args)
            except Exception as error:  # noqa: BLE001 - the user is told
                getattr(self, name)(error)

        return run

    return decorate

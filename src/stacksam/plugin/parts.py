"""Small things that the parts of the dock are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QPushButton, QToolButton, QVBoxLayout, QWidget

__all__ = ["Section", "guarded", "small_button", "timer"]


class Section(QWidget):
    """A titled part that folds away.

    Parameters
    ----------
    number : int
        Its place in the order of work.
    title : str
    content : QWidget
    """

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
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 2)
        layout.setSpacing(2)
        layout.addWidget(self.head)
        layout.addWidget(content)
        self.set_folded(False)

    def set_folded(self, folded: bool) -> None:
        """Fold away, or unfold."""
        self.head.setChecked(not folded)
        self._fold(not folded)

    def _fold(self, unfolded: bool) -> None:
        self.head.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self.content.setVisible(unfolded)


def small_button(text: str, tip: str, act: Callable[[], None]) -> QPushButton:
    """A button of one line."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(lambda *_: act())
    return button


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

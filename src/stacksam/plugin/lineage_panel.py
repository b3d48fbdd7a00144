"""The part of the dock for cells that divide: proposals to decide on, and ways to look at a lineage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from stacksam.plugin.colors import color_of
from stacksam.plugin.divisions import doubts, likelihood
from stacksam.plugin.keys import hint

if TYPE_CHECKING:
    from stacksam.tracks.divisions import Division

__all__ = ["LineagePanel"]

_ROWS = 5  # of the list, before it scrolls


class LineagePanel(QWidget):
    """Divisions that may have happened, and what there is to see of who descends from whom.

    Attributes
    ----------
    look_requested, accept_requested, reject_requested, next_requested, tree_requested : Signal()
    chosen : Signal(object)
        The user has chosen a proposal, a `Division`.
    tracks_toggled : Signal(bool)
    """

    look_requested = Signal()
    accept_requested = Signal()
    reject_requested = Signal()
    next_requested = Signal()
    tree_requested = Signal()
    chosen = Signal(object)
    tracks_toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.look = QPushButton("Look for divisions")
        self.look.setToolTip(
            "Look through all masks for cells that divide; that is also done whenever Follow has ended"
        )
        self.tree = QPushButton("Tree …")
        self.tree.setToolTip("Who descends from whom, as a picture in a window of its own")
        self.tracks = QCheckBox("Tracks")
        self.tracks.setToolTip(
            "Show the ways of all objects in the picture, with links from parents to daughters"
        )
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setEnabled(False)  # pale in any theme
        self.list = QListWidget()
        self.list.setAccessibleName("Divisions")
        self.list.setUniformItemSizes(True)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.accept = QPushButton("Accept")
        self.accept.setToolTip(
            "So it is: the parent ends here, its daughters begin and are linked to it"
            + hint("accept_division")
        )
        self.reject = QPushButton("Not a division")
        self.reject.setToolTip("It is none, and is not proposed again" + hint("reject_division"))
        self.next = QPushButton("Next")
        self.next.setToolTip("Go to the next one" + hint("next_division"))
        self._decide = QWidget()
        self._divisions: tuple[Division, ...] = ()
        self._lay_out()
        self.look.clicked.connect(lambda *_: self.look_requested.emit())
        self.tree.clicked.connect(lambda *_: self.tree_requested.emit())
        self.accept.clicked.connect(lambda *_: self.accept_requested.emit())
        self.reject.clicked.connect(lambda *_: self.reject_requested.emit())
        self.next.clicked.connect(lambda *_: self.next_requested.emit())
        self.tracks.toggled.connect(self.tracks_toggled)
        self.list.currentRowChanged.connect(self._row_chosen)
        # A click on the one that is chosen goes there again.
        self.list.itemClicked.connect(lambda item: self._row_chosen(self.list.row(item)))
        self.set_divisions((), None, looking=False, looked=False)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(4)
        for widget, share in ((self.look, 5), (self.tree, 2), (self.tracks, 0)):
            widget.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
            top.addWidget(widget, share)
        row = QHBoxLayout(self._decide)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for button, share in ((self.accept, 5), (self.reject, 5), (self.next, 3)):
            button.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
            row.addWidget(button, share)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addWidget(self.message)
        layout.addWidget(self.list)
        layout.addWidget(self._decide)

    def set_divisions(
        self, divisions: Sequence[Division], chosen: Division | None, *, looking: bool, looked: bool
    ) -> None:
        """Show proposals, and which of them is looked at.

        Parameters
        ----------
        divisions : sequence of Division
        chosen : Division or None
        looking, looked : bool
            Whether they are being looked for, and whether that was done.
        """
        if tuple(divisions) != self._divisions:
            self._divisions = tuple(divisions)
            self._fill()
        blocked = self.list.blockSignals(True)
        self.list.setCurrentRow(self._divisions.index(chosen) if chosen in self._divisions else -1)
        self.list.blockSignals(blocked)
        self.look.setEnabled(not looking)
        self.list.setVisible(bool(divisions))
        self._decide.setVisible(bool(divisions))
        self.accept.setEnabled(chosen is not None)
        self.reject.setEnabled(chosen is not None)
        text = ""
        if looking:
            text = "Looking …"
        elif divisions and chosen is None:
            text = "Choose one to see it in the picture."
        elif chosen is not None:
            against = doubts(chosen)
            text = "White: the parent, before. In colour: the daughters."
            text += f" What speaks against it: {against}." if against else ""
        elif looked:
            text = "There is no division to decide on."
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def set_tracks(self, shown: bool, why_not: str = "") -> None:
        """Say whether tracks are shown; `why_not` where they cannot be."""
        blocked = self.tracks.blockSignals(True)
        self.tracks.setChecked(shown)
        self.tracks.blockSignals(blocked)
        self.tracks.setEnabled(not why_not)
        if why_not:
            self.tracks.setToolTip(why_not)

    def _fill(self) -> None:
        blocked = self.list.blockSignals(True)
        self.list.clear()
        for division in self._divisions:
            item = QListWidgetItem(_line(division))
            item.setData(Qt.ItemDataRole.DecorationRole, QColor.fromRgbF(*color_of(division.parent)))
            against = doubts(division)
            about = f"Confidence {division.confidence:.0%}" + (f": {against}" if against else "")
            item.setToolTip(about)
            item.setSizeHint(QSize(0, self.list.fontMetrics().height() + 8))
            self.list.addItem(item)
        rows = min(max(len(self._divisions), 1), _ROWS)
        self.list.setFixedHeight(rows * (self.list.fontMetrics().height() + 8) + 6)
        self.list.blockSignals(blocked)

    def _row_chosen(self, row: int) -> None:
        if 0 <= row < len(self._divisions):
            self.chosen.emit(self._divisions[row])


def _line(division: Division) -> str:
    """A proposal in a line."""
    known = [d.object_id for d in division.daughters if d.object_id not in (None, division.parent)]
    new = len(division.daughters) - len(known)
    names = [*map(str, known), *(["a new one"] if new == 1 else ["two new ones"] if new else [])]
    return (
        f"frame {division.frame}:  {division.parent} → {' and '.join(names)}  ·  "
        f"{likelihood(division.confidence)}"
    )

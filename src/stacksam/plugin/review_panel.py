"""The review part of the dock: strips over frames, thumbnails, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from stacksam.plugin.colors import color_of
from stacksam.plugin.keys import hint
from stacksam.plugin.parts import SteadyButton
from stacksam.plugin.review import Gallery, ReviewStrip, StripRow, Thumb
from stacksam.plugin.state import State

__all__ = ["ReviewPanel"]

_ALL_AT_MOST = 400  # rows; more are not looked at by a person


class ReviewPanel(QWidget):
    """What was found, frame by frame, and buttons to accept or mend it."""

    frame_clicked = Signal(int, int)
    accept_requested = Signal()  # for what `take_span` gives
    absent_requested = Signal()
    unlock_requested = Signal()
    worst_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.strip = ReviewStrip()
        self.gallery = Gallery()
        self.everyone = QCheckBox("all objects")
        self.everyone.setToolTip("A row for each object; else only for the current one")
        self.everyone.setChecked(True)
        self.worst = QPushButton("Next unsure")
        self.worst.setToolTip("Go to the frame that most needs a look" + hint("next_worst"))
        self.accept = SteadyButton("Accept 888 to 888")
        self.accept.setToolTip(
            "Lock the selected frames, or this one: they stay as they are, whatever is corrected elsewhere"
            + hint("accept")
        )
        self.absent = QPushButton("Not here")
        self.absent.setToolTip(
            "The object is not on the selected frames, or this one: its masks there are emptied and accepted"
            + hint("mark_absent")
        )
        self.unlock = QPushButton("Take back")
        self.unlock.setToolTip("Unlock the selected frames, or this one")
        self.selected = QLabel("Shift-drag: select frames")
        self.selected.setEnabled(False)  # pale in any theme
        self.selected.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        top = QHBoxLayout()
        top.addWidget(self.everyone)
        top.addWidget(self.selected, 1)
        row = QHBoxLayout()
        row.setSpacing(4)
        for button, share in ((self.worst, 5), (self.accept, 6), (self.absent, 4), (self.unlock, 4)):
            button.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
            row.addWidget(button, share)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addWidget(self.strip)
        layout.addLayout(row)
        layout.addWidget(self.gallery)
        self._state: State | None = None
        self._changed: Mapping[int, set[int]] = {}
        self._current = 0
        self._frame: int | None = None
        self.strip.frame_clicked.connect(self.frame_clicked)
        self.strip.frame_clicked.connect(lambda *_: self._tell())  # a plain click ends a selection
        self.strip.canvas.installEventFilter(self)
        self.strip.range_selected.connect(self._select)
        self.gallery.clicked.connect(lambda frame: self.frame_clicked.emit(self._current, frame))
        self.everyone.toggled.connect(self._fill)
        self.worst.clicked.connect(self.worst_requested)
        self.accept.clicked.connect(self.accept_requested)
        self.absent.clicked.connect(self.absent_requested)
        self.unlock.clicked.connect(self.unlock_requested)
        self._tell()

    def set_state(self, state: State, changed: Mapping[int, set[int]]) -> None:
        """Show what is known; `changed` holds frames that came out differently since a correction."""
        self._state, self._changed = state, changed
        self._fill()

    def set_current(self, object_id: int) -> None:
        """The object that buttons and thumbnails are for."""
        if object_id != self._current:
            self.gallery.set_items(())
        self._current = object_id
        if self.everyone.isChecked():
            self.strip.set_current(object_id)
        else:
            self._fill()
        self._tell()

    def set_frame(self, frame: int | None) -> None:
        """The frame that is shown; None where it is none of the stack's."""
        self._frame = frame
        if frame is not None:
            self.strip.set_frame(frame)
            self.gallery.set_frame(frame)
        self._tell()

    def set_thumbs(self, object_id: int, thumbs: Sequence[Thumb]) -> None:
        """Thumbnails of an object; if it is not the current one any more, they are not shown."""
        if object_id == self._current:
            self.gallery.set_color(color_of(object_id))
            self.gallery.set_items(thumbs)

    def span(self) -> tuple[int, int] | None:
        """First and last frame that keys and buttons are for: those selected in the strip, or the one shown.

        None where no frame of the stack is shown.
        """
        selection = self.strip.selection
        if selection is not None and selection[0] == self._current:
            return selection[1], selection[2]
        return None if self._frame is None else (self._frame, self._frame)

    def take_span(self) -> tuple[int, int] | None:
        """:meth:`span`, and end the selection: what is asked for next is for the frame that is shown then."""
        span = self.span()
        self.strip.clear_selection()
        self._tell()
        return span

    def _select(self, object_id: int, first: int, _last: int) -> None:
        if object_id != self._current:
            self.frame_clicked.emit(object_id, first)
        self._tell()

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """See keys in the strip, of which Escape ends a selection."""
        if event.type() == QEvent.Type.KeyRelease:
            self._tell()
        return False

    def _tell(self) -> None:
        span = self.span()
        if span is None:
            self.accept.setText("Accept")
        else:
            first, last = span
            self.accept.setText(f"Accept frame {first}" if first == last else f"Accept {first} to {last}")

    def _fill(self) -> None:
        state = self._state
        if state is None:
            return
        rows = [row for row in state.objects if self.everyone.isChecked() or row.object_id == self._current]
        strips = []
        for row in rows[:_ALL_AT_MOST]:
            scores = state.scores.get(row.object_id)
            if scores is None:
                continue
            changed = np.isin(scores.frames, list(self._changed.get(row.object_id, ())))
            strips.append(
                StripRow(
                    object_id=row.object_id,
                    name=row.name,
                    color=color_of(row.object_id),
                    n_frames=state.n_frames,
                    frames=scores.frames,
                    confidence=state.confidences[row.object_id],
                    prompted=scores.prompted,
                    locked=scores.locked,
                    stale=scores.stale,
                    changed=changed,
                    reasons=state.reasons[row.object_id],
                )
            )
        self.strip.set_rows(strips)
        # Up to its six rows it is not squeezed when the dock is too low for all: that scrolls.
        self.strip.canvas.setMinimumHeight(self.strip.canvas.sizeHint().height())
        self.strip.set_current(self._current)
        if self._frame is not None:
            self.strip.set_frame(self._frame)

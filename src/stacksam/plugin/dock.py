"""The parts of the dock and how they are laid out, in the order in which a person works."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QStackedWidget,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from stacksam.plugin.compare_panel import ComparePanel
from stacksam.plugin.export import ExportPanel
from stacksam.plugin.find_panel import FindPanel, VotePanel
from stacksam.plugin.image_panel import ImagePanel
from stacksam.plugin.keys import hint
from stacksam.plugin.lineage_panel import LineagePanel
from stacksam.plugin.objects import ObjectsPanel
from stacksam.plugin.panels import FollowPanel, ModelPanel, PromptPanel
from stacksam.plugin.parts import Section, Trouble, fit_rows, small_button, timer
from stacksam.plugin.review_panel import ReviewPanel

__all__ = ["FOLLOW", "LINEAGE", "REVIEW", "Dock"]

_SIZE = QSize(400, 700)
FOLLOW, REVIEW, LINEAGE = 4, 5, 6
"""Places among the sections."""


class Dock(QWidget):
    """Sections that fold, below one sentence on what to do next. Nothing in here does anything by itself.

    Attributes
    ----------
    sections : list of Section
    reviewable : bool
        Whether there was something to review since a session was opened.
    """

    def __init__(self) -> None:
        super().__init__()
        self._make_parts()
        self._lay_out()

    def _make_parts(self) -> None:
        self.image_part = ImagePanel()
        self.model_part = ModelPanel()
        self.objects_part = ObjectsPanel()
        self.prompt_part = PromptPanel()
        self.follow_part = FollowPanel()
        self.review_part = ReviewPanel()
        self.lineage_part = LineagePanel()
        self.export_part = ExportPanel()
        self.find_part, self.vote_part, self.compare_part = FindPanel(), VotePanel(), ComparePanel()
        for part, further in (
            (self.prompt_part, self.find_part),
            (self.follow_part, self.vote_part),
            (self.review_part, self.compare_part),
        ):
            part.layout().addWidget(further)
        self.next_step = QLabel()
        self.next_step.setWordWrap(True)
        self.next_step.setAlignment(Qt.AlignmentFlag.AlignVCenter)
        # Two lines at once, so that nothing below moves when the sentence grows.
        self.next_step.setMinimumHeight(2 * self.next_step.fontMetrics().lineSpacing() + 6)
        self.next_step.setStyleSheet("border-left: 3px solid palette(highlight); padding-left: 6px;")
        self.trouble = Trouble()
        self.undo_button = small_button("↶ Undo", hint("undo"))
        self.redo_button = small_button("↷ Redo", hint("redo"))
        self.help_button = small_button("? Keys", "What every key does")

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self.undo_button)
        top.addWidget(self.redo_button)
        top.addWidget(self.prompt_part.busy, 1)
        top.addWidget(self.help_button)
        find = self.objects_part.findChild
        fit_rows(find(QTableView), find(QStackedWidget), 3, 6)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(2, 2, 2, 2)
        column.setSpacing(0)
        self.sections = [
            Section(number, title, part)
            for number, (title, part) in enumerate(
                (
                    ("Image", self.image_part),
                    ("Model", self.model_part),
                    ("Objects", self.objects_part),
                    ("Prompt", self.prompt_part),
                    ("Follow", self.follow_part),
                    ("Review", self.review_part),
                    ("Lineage", self.lineage_part),
                    ("Export", self.export_part),
                ),
                start=1,
            )
        ]
        scroll = QScrollArea()
        for section in self.sections:
            column.addWidget(section)
            section.opened.connect(scroll.ensureWidgetVisible)
        column.addStretch(1)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 4, 2, 4)
        layout.addWidget(self.next_step)
        layout.addWidget(self.trouble)
        layout.addLayout(top)
        layout.addWidget(scroll, 1)
        self._scroll = scroll
        self._told = timer(self, 0, self._show_outcome)  # once it is laid out
        self.export_part.concluded.connect(lambda *_: self._told.start())
        self.set_open(False)

    def _show_outcome(self) -> None:
        """Scroll to how an export has ended, below which nothing is."""
        self._scroll.widget().layout().activate()
        bar = self._scroll.verticalScrollBar()
        bar.setValue(bar.maximum())

    def set_open(self, is_open: bool) -> None:
        """Fold the parts as they are of use with a session, or without one."""
        for section in self.sections[:2]:
            section.set_folded(is_open)
        for section in self.sections[2:]:
            section.set_folded(not is_open or section in self.sections[REVIEW:])
            section.setEnabled(is_open)
            section.set_note("")
        self.reviewable = False
        for button in (self.undo_button, self.redo_button):
            button.setEnabled(False)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Ask for the width of the widest part: nothing scrolls sideways, so it would be cut."""
        super().showEvent(event)
        for widget in self.findChildren(QWidget):
            widget.ensurePolished()  # what is folded away has not been given its font and margins yet
        for section in self.sections:
            layout = section.content.layout()
            if layout is not None:
                layout.invalidate()
                layout.activate()  # only this looks anew at layouts within
        widest = max(section.content.minimumSizeHint().width() for section in self.sections)
        self.setMinimumWidth(widest + self._scroll.verticalScrollBar().sizeHint().width() + 10)

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as buttons and words need."""
        return _SIZE

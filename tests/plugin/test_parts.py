"""Small parts of the dock: what folds, what is told, and which frames the buttons of the review are for."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.events import EmitterGroup
from qtpy.QtCore import QPoint, QRect, QStringListModel, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QComboBox, QFrame, QLabel, QTableView

from stacksam.plugin.dock import Dock
from stacksam.plugin.gallery import Thumb
from stacksam.plugin.panels import ModelPanel, PromptPanel
from stacksam.plugin.parts import Section, SteadyButton, Trouble, fit_rows, tells
from stacksam.plugin.review_panel import ReviewPanel
from stacksam.plugin.state import ObjectRow, State
from stacksam.session.scores import FrameScores

N = 12
SHIFT = Qt.KeyboardModifier.ShiftModifier


def scores(object_id: int) -> FrameScores:
    no = np.zeros(N, bool)
    return FrameScores(
        object_id=object_id,
        frames=np.arange(N),
        object_score=np.full(N, 5.0),
        predicted_iou=np.full(N, 0.9),
        area=np.full(N, 100),
        centroid=np.zeros((N, 2)),
        bbox=np.zeros((N, 4), np.int64),
        prompted=no,
        locked=no,
        stale=no,
    )


@pytest.fixture
def panel(qtbot):
    """A review of objects 1 and 2, at frame 3 of object 1."""
    made = ReviewPanel()
    qtbot.addWidget(made)
    made.resize(400, 400)
    ids = (1, 2)
    state = State(
        N,
        tuple(ObjectRow(i, "", N, 1.0, 0, 0, (0,)) for i in ids),
        scores={i: scores(i) for i in ids},
        confidences={i: np.ones(N) for i in ids},
        reasons=dict.fromkeys(ids, ("",) * N),
    )
    made.set_state(state, {})
    made.set_current(1)
    made.set_frame(3)
    made.frame_clicked.connect(lambda object_id, frame: (made.set_current(object_id), made.set_frame(frame)))
    made.show()
    return made


def place(panel: ReviewPanel, object_id: int, frame: int) -> QPoint:
    return panel.strip.canvas.frame_rect(object_id, frame).center()


def select(panel: ReviewPanel, object_id: int, first: int, last: int) -> None:
    canvas = panel.strip.canvas
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, SHIFT, place(panel, object_id, first))
    QTest.mouseMove(canvas, place(panel, object_id, last))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, SHIFT, place(panel, object_id, last))


def test_without_a_selection_the_buttons_are_for_the_frame_shown(panel):
    assert panel.span() == (3, 3)
    panel.set_frame(7)
    assert (panel.span(), panel.accept.text()) == ((7, 7), "Accept frame 7")


def test_a_frame_that_is_not_shown_is_not_accepted(panel):
    panel.set_frame(None)
    assert (panel.span(), panel.accept.text()) == (None, "Accept")


@pytest.mark.parametrize("object_id", [1, 2])
def test_a_selection_is_what_is_accepted_once(panel, qtbot, object_id):
    select(panel, object_id, 4, 9)
    assert (panel.span(), panel.accept.text()) == ((4, 9), "Accept 4 to 9")
    with qtbot.waitSignal(panel.accept_requested):
        panel.accept.click()
    assert panel.take_span() == (4, 9)
    assert panel.span() == (panel._frame, panel._frame)
    assert panel.strip.selection is None


def test_a_selection_lasts_while_frames_are_looked_at(panel):
    select(panel, 1, 4, 9)
    panel.set_frame(6)
    assert panel.span() == (4, 9)


def test_a_plain_click_ends_a_selection(panel):
    select(panel, 1, 4, 9)
    QTest.mouseClick(
        panel.strip.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place(panel, 1, 10)
    )
    assert (panel.span(), panel.accept.text()) == ((10, 10), "Accept frame 10")


def test_escape_ends_a_selection(panel):
    select(panel, 1, 4, 9)
    QTest.keyClick(panel.strip.canvas, Qt.Key.Key_Escape)
    assert (panel.span(), panel.accept.text()) == ((3, 3), "Accept frame 3")


def test_a_selection_is_not_for_another_object(panel):
    select(panel, 1, 4, 9)
    panel.set_current(2)
    assert (panel.span(), panel.accept.text()) == ((3, 3), "Accept frame 3")


def thumb(frame: int) -> Thumb:
    return Thumb(frame, np.zeros((8, 8), np.uint8), np.ones((8, 8), bool), 1.0)


def test_pictures_are_those_of_the_current_object(panel):
    shown = panel.gallery.canvas
    panel.set_thumbs(1, [thumb(0), thumb(1)])
    assert len(shown._items) == 2
    panel.set_current(1)
    assert len(shown._items) == 2
    panel.set_current(2)
    assert shown._items == ()
    panel.set_thumbs(1, [thumb(0)])  # they were asked for before
    assert shown._items == ()
    panel.set_thumbs(2, [thumb(5)])
    assert [item.frame for item in shown._items] == [5]


def test_the_pace_of_a_model_is_told_while_that_is_chosen(qtbot):
    panel = ModelPanel()
    qtbot.addWidget(panel)
    panel.set_pace("nano", "On this machine: 5 ms.")
    assert panel.about.text().endswith("5 ms.")
    panel.choose("sam2.1-tiny")
    assert "5 ms" not in panel.about.text()
    panel.choose("nano")
    assert panel.about.text().endswith("5 ms.")
    panel.set_pace("", "")
    assert "5 ms" not in panel.about.text()


def test_a_part_tells_that_it_was_opened_by_hand_only(qtbot):
    part = Section(1, "Image", QLabel("here"))
    qtbot.addWidget(part)
    part.show()
    opened = []
    part.opened.connect(opened.append)
    part.set_folded(True)
    part.set_folded(False)
    QTest.qWait(20)
    assert not opened
    part.head.click()
    assert part.content.isHidden()
    with qtbot.waitSignal(part.opened):
        part.head.click()
    assert opened == [part.content]


def test_a_long_note_is_cut_in_its_middle(qtbot):
    part = Section(1, "Image", QLabel())
    qtbot.addWidget(part)
    part.resize(200, 60)
    part.show()
    part.set_note("a" * 40 + "b" * 40)
    shown = part.note.shown()
    assert shown.startswith("aa")
    assert shown.endswith("bb")
    assert "…" in shown
    assert part.note.toolTip() == "a" * 40 + "b" * 40
    assert not part.grab().isNull()
    part.resize(2000, 60)
    assert part.note.shown() == part.note.text()


def test_nothing_that_can_be_pressed_is_cut_at_the_least_width(qtbot):
    dock = Dock()
    qtbot.addWidget(dock)
    dock.set_open(True)
    for section in dock.sections:
        section.set_folded(False)
    dock.review_part.set_frame(123)
    dock.prompt_part.set_current(123, "", False)
    dock.show()
    dock.resize(dock.minimumWidth(), 900)
    found = [*dock.findChildren(QAbstractButton), dock.follow_part.which, dock.follow_part.reach]
    seen = [widget for widget in found if widget.isVisible()]
    assert len([widget for widget in seen if isinstance(widget, QComboBox)]) == 2
    assert len(seen) > 20
    assert [w for w in seen if w.width() < w.minimumSizeHint().width()] == []
    assert dock.prompt_part.current.width() >= dock.prompt_part.current.minimumWidth()
    assert dock.minimumWidth() < 460  # the font of the machine has its say


def test_the_end_of_an_export_is_scrolled_to(qtbot, tmp_path):
    dock = Dock()
    qtbot.addWidget(dock)
    dock.set_open(True)
    dock.sections[-1].set_folded(False)
    dock.resize(420, 300)
    dock.show()
    part = dock.export_part
    part.finished([tmp_path / "a.tif", tmp_path / "b.csv"])
    label = next(label for label in part.findChildren(QLabel) if "2 files written" in label.text())

    def in_view() -> bool:
        return dock.rect().contains(QRect(label.mapTo(dock, QPoint(0, 0)), label.size()))

    qtbot.waitUntil(in_view, timeout=2000)


def test_a_button_is_as_wide_as_its_longest_words(qtbot):
    button = SteadyButton("Accept 888 to 888")
    qtbot.addWidget(button)
    width = button.sizeHint().width()
    button.setText("Accept")
    assert button.sizeHint().width() == button.minimumSizeHint().width() == width


def test_a_long_name_is_cut_and_told_in_full(qtbot):
    panel = PromptPanel()
    qtbot.addWidget(panel)
    panel.set_current(3, "a name <that> goes on for a while", True)
    assert "a name &lt;that&gt; goes on f…" in panel.current.text()
    assert panel.current.toolTip() == "a name <that> goes on for a while"


def test_trouble_is_told_in_full(qtbot):
    trouble = Trouble()
    qtbot.addWidget(trouble)
    assert trouble.isHidden()
    trouble.tell("there is <b>no</b> image; open one")
    assert not trouble.isHidden()
    assert trouble.text() == "There is <b>no</b> image; open one"
    assert trouble.textFormat() == Qt.TextFormat.PlainText


def test_a_table_is_as_high_as_its_rows_between_bounds(qtbot):
    frame, table, model = QFrame(), QTableView(), QStringListModel()
    qtbot.addWidget(frame)
    qtbot.addWidget(table)
    table.setModel(model)
    fit_rows(table, frame, 2, 4)
    heights = [frame.height()]
    for count in range(1, 7):
        model.insertRows(0, 1)
        assert model.rowCount() == count
        heights.append(frame.height())
    row = table.verticalHeader().defaultSectionSize()
    assert np.diff(heights).tolist() == [0, 0, row, row, 0, 0]
    model.removeRows(0, 6)
    assert frame.height() == heights[0]


class Watcher:
    """Something that fails at every event."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def fail(self, error: Exception) -> None:
        self.told.append(str(error))

    @tells("fail")
    def moved(self, event=None) -> None:
        raise ValueError(f"cannot follow to {event.value}")


def test_errors_at_an_event_of_napari_are_told_and_go_no_further():
    watcher, events = Watcher(), EmitterGroup(moved=None)
    events.moved.connect(watcher.moved)
    events.moved(value=3)
    assert watcher.told == ["cannot follow to 3"]
    del watcher
    events.moved(value=4)  # nothing was kept alive by being connected
    assert len(events.moved.callbacks) == 0

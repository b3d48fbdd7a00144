"""The objects table shows a state, tells what the user wants, and never answers its own echo."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtCore import QItemSelectionModel, QPoint, QRect, Qt
from qtpy.QtGui import QColor, QImage
from qtpy.QtWidgets import QLineEdit

from stacksam.plugin.colors import color_of
from stacksam.plugin.icons import SYMBOLS, icon
from stacksam.plugin.objects import ObjectsPanel
from stacksam.plugin.objects_cells import _STALE
from stacksam.plugin.objects_model import Column
from stacksam.plugin.state import ObjectRow, State

N_FRAMES = 60
BUTTONS = ("add", "remove", "merge", "split", "rename")
SIGNALS = (
    "current_changed",
    "selection_changed",
    "add_requested",
    "remove_requested",
    "merge_requested",
    "split_requested",
    "rename_requested",
    "visibility_changed",
    "lock_requested",
)


def row(object_id, **changes):
    base = ObjectRow(object_id, "", 10, 0.9, 0, 0, (0,))
    return replace(base, **changes)


def state(*rows, n_frames=N_FRAMES):
    return State(n_frames, tuple(rows))


@pytest.fixture
def empty(qtbot):
    """A panel that knows of no state; the fixture keeps it alive until the last event is done."""
    made = ObjectsPanel()
    qtbot.addWidget(made)
    return made


@pytest.fixture
def panel(empty):
    made = empty
    made.resize(400, 400)
    made.show()
    made.set_state(state(row(1, name="mother"), row(2, n_frames=0, confidence=None), row(5, n_locked=10)))
    made.heard = []
    for name in SIGNALS:
        getattr(made, name).connect(lambda *values, name=name: made.heard.append((name, *values)))
    return made


@pytest.fixture
def table(panel):
    return panel._table


def index(panel, object_id, column=Column.ID):
    return panel._index_of(object_id).siblingAtColumn(column)


def text(panel, object_id, column):
    return index(panel, object_id, column).data()


def click(qtbot, panel, object_id, column=Column.ID, modifier=Qt.KeyboardModifier.NoModifier):
    view = panel._table
    place = view.visualRect(index(panel, object_id, column)).center()
    qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, modifier, place)


def button(panel, name):
    return panel._buttons[name]


def enabled(panel):
    return {name for name in BUTTONS if button(panel, name).isEnabled()}


def ids_shown(panel):
    model = panel._table.model()
    return [int(model.index(i, Column.ID).data()) for i in range(model.rowCount())]


# What is shown


def test_without_objects_a_text_says_how_to_begin(empty):
    panel = empty
    panel.show()
    assert not panel._table.isVisible()
    assert "Click a cell" in panel._pages.currentWidget().text()
    assert enabled(panel) == {"add"}
    panel.set_state(state(row(1)))
    assert panel._table.isVisible()
    panel.set_state(state())
    assert not panel._table.isVisible()


def test_rows_say_how_far_and_how_sure(panel):
    assert text(panel, 1, Column.NAME) == "mother"
    assert text(panel, 1, Column.FRAMES) == "10 / 60"
    assert text(panel, 1, Column.CONFIDENCE) == "sure"
    assert text(panel, 2, Column.CONFIDENCE) == ""
    panel.set_state(state(row(1, confidence=0.5, n_locked=3, n_stale=4)))
    assert text(panel, 1, Column.CONFIDENCE) == "unsure"
    assert text(panel, 1, Column.LOCKED) == "3"
    tip = index(panel, 1, Column.FRAMES).data(Qt.ItemDataRole.ToolTipRole)
    assert "4 of them are out of date" in tip


@pytest.mark.parametrize("width", [320, 400])
@pytest.mark.parametrize("n_frames", [6, 60, 5000])
def test_columns_and_buttons_fit_a_narrow_dock(empty, width, n_frames):
    panel = empty
    panel.set_state(state(*(row(i, n_frames=n_frames) for i in range(1, 301)), n_frames=n_frames))
    panel.resize(width, 300)
    panel.show()
    assert panel.minimumSizeHint().width() <= width
    view = panel._table
    header = view.horizontalHeader()
    assert header.length() <= view.viewport().width()
    assert header.sectionSize(Column.NAME) >= 40
    for column in (Column.ID, Column.FRAMES, Column.CONFIDENCE):
        needed = view.fontMetrics().horizontalAdvance(text(panel, 300, column))
        assert needed <= header.sectionSize(column)
    for item in panel._buttons.values():
        assert panel.rect().contains(QRect(item.mapTo(panel, QPoint(0, 0)), item.size()))


@pytest.mark.parametrize("name", SYMBOLS)
def test_symbols_are_drawn_in_the_colour_asked_for(qtbot, name):
    image = icon(name, QColor("#12ab34")).pixmap(16, 16).toImage()
    colors = {image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())}
    assert "#12ab34" in colors


def drawn(panel, object_id, color):
    """How many pixels of an object's row are of a colour."""
    view = panel._table
    cells = (view.visualRect(index(panel, object_id, column)) for column in Column)
    image, wanted = QImage(view.viewport().size(), QImage.Format.Format_RGB32), QColor(color).rgb()
    view.viewport().render(image)  # the screen may have fewer colours
    return sum(
        image.pixel(x, y) == wanted
        for cell in cells
        for x in range(cell.left(), cell.right() + 1)
        for y in range(cell.top(), cell.bottom() + 1)
    )


def test_a_row_is_painted_as_it_stands(panel):
    color = QColor.fromRgbF(*color_of(1))
    whole = drawn(panel, 1, color)
    assert whole > 100  # a square, but for its round corners
    assert drawn(panel, 2, color) == 0
    panel._model.set_visible([1], False)
    assert 0 < drawn(panel, 1, color) < whole / 4  # its edge alone
    panel._model.set_visible([1], True)
    assert drawn(panel, 1, color) == whole
    assert drawn(panel, 1, _STALE) == 0
    panel.set_state(state(row(1, n_frames=30), row(2), row(5, n_stale=9)))
    few = drawn(panel, 5, _STALE)
    assert few > 0
    panel.set_state(state(row(1, n_frames=30), row(2), row(5, n_frames=60, n_stale=40)))
    assert drawn(panel, 5, _STALE) > 2 * few
    assert drawn(panel, 1, _STALE) == 0


# States


def test_only_cells_that_changed_are_told_of(panel, qtbot):
    rows = [row(i) for i in range(1, 301)]
    panel.set_state(state(*rows))
    changes = []
    panel._model.dataChanged.connect(
        lambda first, last, *_: changes.append((first.row(), last.row(), first.column()))
    )
    panel.set_state(state(*rows))
    assert changes == []
    rows[7] = replace(rows[7], n_frames=11)
    rows[8] = replace(rows[8], n_stale=1)
    rows[99] = replace(rows[99], name="bud")
    panel.set_state(state(*rows))
    assert changes == [(7, 8, Column.FRAMES), (99, 99, Column.NAME)]
    changes.clear()
    panel.set_state(state(*(replace(r, n_frames=20) for r in rows)))
    assert changes == [(0, 299, Column.FRAMES)], "a step of propagation is one change for all rows"


def test_selection_scroll_and_order_last_over_states(panel, table):
    rows = [row(i) for i in range(1, 301)]
    panel.set_state(state(*rows))
    panel.set_current(150)
    table.verticalScrollBar().setValue(table.verticalScrollBar().maximum() // 2)
    before = table.verticalScrollBar().value()
    assert before > 0
    panel.heard.clear()
    panel.set_state(state(*(replace(r, n_frames=20) for r in rows), row(400)))
    assert (panel.current(), panel.selected()) == (150, (150,))
    assert table.verticalScrollBar().value() == before
    assert ids_shown(panel) == [*range(1, 301), 400]
    assert panel.heard == []


def test_a_name_being_typed_lasts_over_states(panel, table, qtbot):
    panel.set_current(1)
    button(panel, "rename").click()
    editor = table.findChild(QLineEdit)
    editor.setText("half a na")
    panel.set_state(state(row(1, name="mother", n_frames=11), row(2, n_frames=1), row(5, n_locked=9), row(9)))
    assert editor.text() == "half a na"
    qtbot.keyClicks(editor, "me")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: ("rename_requested", 1, "half a name") in panel.heard, timeout=2000)
    assert text(panel, 1, Column.NAME) == "half a name"


def test_a_name_that_the_session_did_not_take_goes_back(panel, table):
    table.model().setData(index(panel, 1, Column.NAME), "  ")
    assert panel.heard == [("rename_requested", 1, "")]
    assert text(panel, 1, Column.NAME) == ""
    panel.set_state(state(row(1, name="mother"), row(2), row(5)))
    assert text(panel, 1, Column.NAME) == "mother"


def test_a_current_object_that_is_gone_is_told(panel):
    panel.set_current(2)
    panel.set_state(state(row(1), row(5)))
    assert panel.heard == [("current_changed", 0), ("selection_changed", ())]
    assert (panel.current(), panel.selected()) == (0, ())


def test_rows_come_and_go_anywhere(panel):
    for ids in ([1, 2, 5], [2], [1, 2, 3, 9], [4, 8], [], [7, 1]):
        panel.set_state(state(*(row(i) for i in ids)))
        assert ids_shown(panel) == sorted(ids)
        assert panel._model.object_ids == tuple(sorted(ids))


# Current and selected


def test_set_current_has_no_echo(panel):
    for wanted, expected in ((2, 2), (5, 5), (None, 0), (1, 1), (0, 0)):
        panel.set_current(wanted)
        assert panel.current() == expected
        assert panel.selected() == ((expected,) if expected else ())
    assert panel.heard == []


def test_rows_are_added_to_a_selection_while_the_current_object_is_told_back(panel, qtbot):
    panel.current_changed.connect(panel.set_current)  # as the dock does
    click(qtbot, panel, 1)
    click(qtbot, panel, 5, modifier=Qt.KeyboardModifier.ControlModifier)
    assert (panel.current(), panel.selected()) == (5, (1, 5))
    click(qtbot, panel, 1, modifier=Qt.KeyboardModifier.ControlModifier)
    assert panel.selected() == (5,)


def test_set_current_keeps_a_selection_that_it_is_part_of(panel, qtbot):
    click(qtbot, panel, 1)
    click(qtbot, panel, 5, modifier=Qt.KeyboardModifier.ControlModifier)
    panel.set_current(1)
    assert (panel.current(), panel.selected()) == (1, (1, 5))
    panel.set_current(2)
    assert (panel.current(), panel.selected()) == (2, (2,))


def test_an_object_that_does_not_exist_yet_becomes_current_when_it_does(panel):
    panel.set_current(7)
    assert panel.current() == 0
    panel.set_state(state(row(1), row(7)))
    assert (panel.current(), panel.selected()) == (7, (7,))


def test_clicks_tell_once_of_current_and_selection(panel, qtbot):
    click(qtbot, panel, 5)
    assert panel.heard == [("current_changed", 5), ("selection_changed", (5,))]
    panel.heard.clear()
    click(qtbot, panel, 1, modifier=Qt.KeyboardModifier.ControlModifier)
    assert panel.heard == [("current_changed", 1), ("selection_changed", (1, 5))]
    panel.heard.clear()
    click(qtbot, panel, 1)
    assert panel.heard == [("selection_changed", (1,))]


def test_headers_sort_and_numbers_in_names_count(panel, table, qtbot):
    panel.set_state(
        state(
            row(1, name="cell 10", confidence=0.2),
            row(2, name="", confidence=None),
            row(3, name="cell 9", confidence=0.8),
        )
    )
    assert ids_shown(panel) == [1, 2, 3]
    for column, order in ((Column.NAME, [3, 1, 2]), (Column.CONFIDENCE, [2, 1, 3])):
        header = table.horizontalHeader()
        place = QPoint(header.sectionViewportPosition(column) + 5, header.height() // 2)
        qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)
        assert ids_shown(panel) == order
    panel.set_current(1)
    assert panel.selected() == (1,)


# Wishes


def test_buttons_offer_what_can_be_done(panel, qtbot):
    assert enabled(panel) == {"add"}
    panel.set_current(1)
    assert enabled(panel) == {"add", "remove", "split", "rename"}
    panel.set_current(2)
    assert enabled(panel) == {"add", "remove", "rename"}, "without results there is nothing to split"
    click(qtbot, panel, 5, modifier=Qt.KeyboardModifier.ControlModifier)
    assert enabled(panel) == {"add", "remove", "merge"}


def test_buttons_ask(panel, table):
    button(panel, "add").click()
    panel.set_current(1)
    button(panel, "split").click()
    button(panel, "remove").click()
    table.selectAll()
    panel.heard.remove(("selection_changed", (1, 2, 5)))
    button(panel, "remove").click()
    assert panel.heard == [
        ("add_requested",),
        ("split_requested", 1),
        ("remove_requested", (1,)),
        ("remove_requested", (1, 2, 5)),
    ]


def test_merging_keeps_the_current_object(panel, table, qtbot):
    click(qtbot, panel, 1)
    click(qtbot, panel, 2, modifier=Qt.KeyboardModifier.ControlModifier)
    click(qtbot, panel, 5, modifier=Qt.KeyboardModifier.ControlModifier)
    assert "become object 5" in button(panel, "merge").toolTip()
    button(panel, "merge").click()
    assert panel.heard[-1] == ("merge_requested", 5, (1, 2))


def test_keys_of_the_table(panel, table, qtbot):
    panel.set_current(1)
    qtbot.keyClick(table, Qt.Key.Key_Space)
    qtbot.keyClick(table, Qt.Key.Key_Space)
    qtbot.keyClick(table, Qt.Key.Key_Delete)
    assert panel.heard == [
        ("visibility_changed", 1, False),
        ("visibility_changed", 1, True),
        ("remove_requested", (1,)),
    ]


def test_eyes_and_locks_leave_the_selection_alone(panel, qtbot):
    panel.set_current(2)
    click(qtbot, panel, 1, Column.VISIBLE)
    assert panel.hidden() == {1}
    click(qtbot, panel, 1, Column.LOCKED)
    click(qtbot, panel, 5, Column.LOCKED)
    click(qtbot, panel, 2, Column.LOCKED)  # without results: nothing to accept
    click(qtbot, panel, 1, Column.VISIBLE)
    assert panel.hidden() == set()
    assert panel.heard == [
        ("visibility_changed", 1, False),
        ("lock_requested", 1, True),
        ("lock_requested", 5, False),
        ("visibility_changed", 1, True),
    ]
    assert panel.selected() == (2,)


def test_the_menu_shows_only_some_and_accepts(panel, qtbot):
    flag = QItemSelectionModel.SelectionFlag
    panel._table.selectionModel().select(index(panel, 1), flag.ClearAndSelect | flag.Rows)
    panel.heard.clear()
    actions = {action.text().split("\t")[0]: action for action in panel._menu().actions()}
    actions["Show only this"].trigger()
    assert panel.hidden() == {2, 5}
    actions = {action.text().split("\t")[0]: action for action in panel._menu().actions()}
    actions["Show all"].trigger()
    actions["Accept all frames"].trigger()
    assert not actions["Take acceptance back"].isEnabled()
    assert panel.hidden() == set()
    assert panel.heard[-1] == ("lock_requested", 1, True)


def test_what_is_hidden_is_forgotten_with_its_object(panel):
    panel._model.set_visible([1, 5, 99], False)
    assert panel.hidden() == {1, 5}
    panel.set_state(state(row(1)))
    panel.set_state(state(row(1), row(5)))
    assert panel.hidden() == {1}
    assert panel.heard == []


def test_frames_that_the_object_has_left_are_not_counted(panel):
    panel.set_state(state(row(1, n_empty=4)))
    index = panel._model.index(0, Column.FRAMES)
    assert index.data() == f"6 / {N_FRAMES}"
    assert "10 of " in index.data(Qt.ItemDataRole.ToolTipRole)
    assert "not on 4 of them" in index.data(Qt.ItemDataRole.ToolTipRole)

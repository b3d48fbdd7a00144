"""The review strip shows what it is told, where it says it does, and a click there tells the right frame."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QColor, QHelpEvent, QMouseEvent, QPalette, QWheelEvent
from qtpy.QtWidgets import QApplication, QToolTip

from stacksam.errors import InputError
from stacksam.plugin import review
from stacksam.plugin.review import Gallery, ReviewStrip, StripRow, Thumb, thumbnail
from stacksam.plugin.strip_image import (
    CHANGED,
    Theme,
    confidence_rgb,
    describe,
    first_x,
    frame_at,
    row_pixels,
)

DARK = Theme((38, 41, 48), (240, 241, 242))
LIGHT = Theme((235, 231, 230), (30, 30, 33))
LEFT, SHIFT, NONE = (
    Qt.MouseButton.LeftButton,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.NoModifier,
)


def row(object_id=1, n_frames=20, value=1.0, name="", *, reasons=(), **flags) -> StripRow:
    """A row with a result on every frame; flags are frames."""
    marks = {
        kind: np.isin(np.arange(n_frames), list(flags.get(kind, ())))
        for kind in ("prompted", "locked", "stale", "changed")
    }
    return StripRow(
        object_id,
        name,
        (0.0, 1.0, 0.0, 1.0),
        n_frames,
        np.arange(n_frames),
        np.broadcast_to(np.asarray(value, float), n_frames).copy(),
        reasons=reasons,
        **marks,
    )


@pytest.fixture
def strip(qtbot) -> ReviewStrip:
    """Three objects on twenty frames, at frame 5."""
    widget = ReviewStrip()
    qtbot.addWidget(widget)
    widget.set_rows([row(7), row(3), row(12)])
    widget.set_frame(5)
    widget.resize(500, 150)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def middle(strip, object_id, frame) -> QPoint:
    return strip.canvas.frame_rect(object_id, frame).center()


def drag(qtbot, strip, object_id, first, last, modifier=NONE):
    """Press, move and release; QTest's moves carry no buttons, so that one is sent by hand."""
    canvas, end = strip.canvas, QPointF(middle(strip, object_id, last))
    qtbot.mousePress(canvas, LEFT, modifier, middle(strip, object_id, first))
    where = QPointF(canvas.mapToGlobal(end.toPoint()))
    move = QMouseEvent(QEvent.Type.MouseMove, end, where, Qt.MouseButton.NoButton, LEFT, modifier)
    QApplication.sendEvent(canvas, move)
    qtbot.mouseRelease(canvas, LEFT, modifier, end.toPoint())


def seen(widget, place: QPoint) -> tuple[int, int, int]:
    """The colour of a pixel on the screen."""
    image = widget.grab().toImage()
    ratio = image.devicePixelRatio()
    color = image.pixelColor(round(place.x() * ratio), round(place.y() * ratio))
    return color.red(), color.green(), color.blue()


# Pixels


@given(n=st.integers(1, 700), width=st.integers(1, 900))
def test_frames_and_columns_agree(n, width):
    columns = [frame_at(x, width, n) for x in range(width)]
    assert columns == sorted(columns)
    assert (frame_at(-5, width, n), frame_at(width + 5, width, n)) == (0, n - 1)
    for frame in range(n):
        first, end = first_x(frame, width, n), first_x(frame + 1, width, n)
        assert all(columns[x] == frame for x in range(first, end))


@given(n=st.integers(1, 700), width=st.integers(1, 300), data=st.data())
def test_a_bad_frame_never_hides(n, width, data):
    bad = data.draw(st.integers(0, n - 1))
    pixels = row_pixels(row(n_frames=n, value=np.where(np.arange(n) == bad, 0.0, 1.0)), width, 8, DARK)
    shown = (pixels == confidence_rgb(np.zeros(1))).all(axis=2).any(axis=0)
    assert shown.any()
    # It is found at its own place.
    assert all(abs(x - bad * width / n) <= max(width / n, 1) for x in np.flatnonzero(shown))


def luminance(rgb) -> float:
    return float(np.dot(np.asarray(rgb, float), (0.2126, 0.7152, 0.0722)))


def test_the_scale_is_told_apart_without_telling_red_from_green():
    low, middling, high = confidence_rgb(np.array([0.1, 0.6, 1.0])).astype(int)
    assert low[0] - low[2] > 100
    assert high[2] - high[0] > 100
    assert luminance(middling) - max(luminance(low), luminance(high)) > 60


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_every_mark_is_drawn_and_looks_like_no_other(theme):
    plain = row_pixels(row(n_frames=1), 20, 14, theme)
    kinds = {
        kind: row_pixels(row(n_frames=1, **{kind: [0]}), 20, 14, theme)
        for kind in ("locked", "stale", "changed")
    }
    empty = replace(
        row(n_frames=1), **{k: np.zeros(0, getattr(row(), k).dtype) for k in (
            "frames", "confidence", "prompted", "locked", "stale", "changed")}
    )  # fmt: skip
    kinds["no result"] = row_pixels(empty, 20, 14, theme)
    images = [plain, *kinds.values()]
    for i, image in enumerate(images):
        for other in images[:i]:
            assert np.abs(image.astype(int) - other.astype(int)).sum(axis=2).mean() > 20

    # A bar below for accepted, an outline for changed; the colour of the confidence stays between.
    assert (kinds["locked"][-3:, :-1] == theme.foreground).all()
    assert (kinds["locked"][:8] == plain[:8]).all()
    assert (kinds["changed"][[0, 1, -1, -2]] == CHANGED).all()
    assert (kinds["changed"][4:-4, 4:-4] == plain[4:-4, 4:-4]).all()
    # Neither hatch has the colour of a confidence: no result is grey, out of date is dimmed.
    grey = kinds["no result"][:, :-1].astype(int)
    assert (grey.max(axis=2) - grey.min(axis=2)).max() < 20


def test_accepting_ends_the_outline_of_a_change():
    changed = row_pixels(row(changed=range(5)), 200, 14, DARK)
    accepted = row_pixels(row(changed=range(5), locked=range(5)), 200, 14, DARK)
    assert (changed == CHANGED).all(axis=2).any()
    assert not (accepted == CHANGED).all(axis=2).any()


def test_a_pixel_of_many_frames_is_accepted_only_if_all_are():
    most = row_pixels(row(n_frames=100, locked=range(99)), 10, 14, DARK)
    assert (most[-1, :9] == DARK.foreground).all()
    assert (most[-1, 9] != DARK.foreground).all()


def test_rows_that_do_not_fit_are_told():
    with pytest.raises(InputError, match="object 1: 20 frames, but columns of"):
        replace(row(), confidence=np.zeros(3))
    with pytest.raises(InputError, match="ascend"):
        replace(row(), frames=np.arange(20)[::-1])
    with pytest.raises(InputError, match="less than 19"):
        replace(row(), n_frames=19)


def test_what_is_told_of_a_frame_is_in_words():
    shown = row(
        4, value=0.4, name="mother", prompted=[1], locked=[2], stale=[3], changed=[2, 5],
        reasons=["the outline is uncertain"] * 20,
    )  # fmt: skip
    assert describe(shown, 0) == "Object 4 “mother”, frame 0\nUnsure (0.40): the outline is uncertain"
    assert "Prompted" in describe(shown, 1)
    assert "Accepted" in describe(shown, 2)
    assert "Changed" not in describe(shown, 2)
    assert "Out of date" in describe(shown, 3)
    assert "Changed by your last correction" in describe(shown, 5)
    assert "No result yet" in describe(replace(shown, n_frames=30), 25)
    assert "Sure (1.00)" in describe(row(), 0)


# The strip


@pytest.mark.parametrize("frame", [0, 1, 9, 19])
@pytest.mark.parametrize("object_id", [7, 3, 12])
def test_a_click_goes_to_the_frame_and_object_under_it(strip, qtbot, object_id, frame):
    with qtbot.waitSignal(strip.frame_clicked) as told:
        qtbot.mouseClick(strip.canvas, LEFT, NONE, middle(strip, object_id, frame))
    assert told.args == [object_id, frame]


def test_dragging_goes_along_the_frames_of_one_object(strip, qtbot):
    told = []
    strip.frame_clicked.connect(lambda *args: told.append(args))
    drag(qtbot, strip, 3, 2, 11)
    assert told == [(3, 2), (3, 11)]


def test_a_click_on_a_name_chooses_the_object_and_keeps_the_frame(strip, qtbot):
    with qtbot.waitSignal(strip.frame_clicked) as told:
        qtbot.mouseClick(strip.canvas, LEFT, NONE, QPoint(8, middle(strip, 12, 0).y()))
    assert told.args == [12, 5]


def test_a_click_on_the_axis_moves_along_the_current_object(strip, qtbot):
    strip.set_current(3)
    with qtbot.waitSignal(strip.frame_clicked) as told:
        qtbot.mouseClick(strip.canvas, LEFT, NONE, QPoint(middle(strip, 3, 15).x(), 5))
    assert told.args == [3, 15]


def test_a_click_below_the_rows_does_nothing(strip, qtbot):
    with qtbot.assertNotEmitted(strip.frame_clicked):
        qtbot.mouseClick(strip.canvas, LEFT, NONE, middle(strip, 12, 3) + QPoint(0, 11))


@pytest.mark.parametrize(("first", "last"), [(3, 8), (8, 3), (4, 4)])
def test_shift_and_drag_select_a_range_and_leave_the_frame(strip, qtbot, first, last):
    with qtbot.assertNotEmitted(strip.frame_clicked), qtbot.waitSignal(strip.range_selected) as told:
        drag(qtbot, strip, 3, first, last, SHIFT)
    assert told.args == [3, min(first, last), max(first, last)]
    assert strip.selection == tuple(told.args)
    strip.clear_selection()
    assert strip.selection is None


def test_keys_move_select_and_change_the_object(strip, qtbot):
    told, ranges = [], []
    strip.set_current(7)
    strip.frame_clicked.connect(lambda *args: told.append(args))
    strip.range_selected.connect(lambda *args: ranges.append(args))
    press = qtbot.keyClick
    keys = Qt.Key
    for key in (
        keys.Key_Right,
        keys.Key_Left,
        keys.Key_PageDown,
        keys.Key_End,
        keys.Key_Right,
        keys.Key_Home,
    ):
        press(strip.canvas, key)
    press(strip.canvas, keys.Key_Down)
    assert told == [(7, 6), (7, 5), (7, 15), (7, 19), (7, 19), (7, 0), (3, 0)]
    press(strip.canvas, keys.Key_Right, SHIFT)
    press(strip.canvas, keys.Key_Right, SHIFT)
    assert ranges == [(3, 0, 1), (3, 0, 2)]
    press(strip.canvas, keys.Key_Escape)
    assert strip.selection is None


def test_setting_frame_and_object_tells_nobody(strip, qtbot):
    with qtbot.assertNotEmitted(strip.frame_clicked):
        strip.set_frame(9)
        strip.set_current(12)


def test_confidence_is_on_the_screen_where_the_frames_are(strip):
    values = np.linspace(0, 1, 20)
    strip.set_rows([row(7, value=values), row(3, value=values[::-1])])
    strip.set_frame(0)
    image = strip.canvas.grab().toImage()
    for object_id, shown in ((7, values), (3, values[::-1])):
        for frame in range(1, 20):
            place = middle(strip, object_id, frame)
            color = image.pixelColor(place)
            expected = confidence_rgb(shown[frame : frame + 1])[0]
            assert (color.red(), color.green(), color.blue()) == tuple(expected)


def test_prompts_swatch_cursor_and_selection_are_on_the_screen(strip):
    strip.set_rows([row(7, prompted=[10])])
    fore = strip.palette().color(QPalette.ColorRole.WindowText)
    text = (fore.red(), fore.green(), fore.blue())
    assert seen(strip.canvas, middle(strip, 7, 10)) == text
    assert seen(strip.canvas, QPoint(8, middle(strip, 7, 0).y())) == (0, 255, 0)
    assert seen(strip.canvas, middle(strip, 7, 5)) == text
    strip.set_frame(6)
    assert seen(strip.canvas, middle(strip, 7, 5)) == tuple(confidence_rgb(np.ones(1))[0])
    before = strip.canvas.grab().toImage()
    strip.canvas.select((7, 12, 14))
    assert strip.canvas.grab().toImage() != before


def test_the_strip_follows_the_palette_and_style_sheets(strip):
    below = QPoint(300, strip.canvas.height() - 2)
    palette = strip.palette()
    palette.setColor(QPalette.ColorRole.Window, QColor(10, 20, 30))
    strip.setPalette(palette)
    assert seen(strip.canvas, below) == (10, 20, 30)
    strip.setStyleSheet("QWidget { background-color: rgb(200, 210, 220); color: black }")
    assert seen(strip.canvas, below) == (200, 210, 220)


def test_the_pointer_at_rest_is_told(strip, monkeypatch):
    told = []
    monkeypatch.setattr(QToolTip, "showText", lambda place, text, widget: told.append(text))
    strip.set_rows([row(7, value=0.1, reasons=["the area jumps"] * 20)])
    place = middle(strip, 7, 13)
    QApplication.sendEvent(
        strip.canvas, QHelpEvent(QEvent.Type.ToolTip, place, strip.canvas.mapToGlobal(place))
    )
    assert told == ["Object 7, frame 13\nLikely wrong (0.10): the area jumps"]


@pytest.fixture
def drawn(monkeypatch) -> list[int]:
    """Ids of objects whose rows were made into pixels."""
    made: list[int] = []

    def counted(shown, *args):
        made.append(shown.object_id)
        return row_pixels(shown, *args)

    monkeypatch.setattr(review, "row_pixels", counted)
    return made


def test_of_many_rows_only_those_in_view_are_drawn_and_only_once(strip, drawn):
    rng = np.random.default_rng(0)
    many = [row(i, 500, rng.random(500), prompted=[i], locked=range(i)) for i in range(300)]
    drawn.clear()
    start = time.process_time()
    strip.set_rows(many)
    strip.canvas.grab()
    assert time.process_time() - start < 2
    in_view = strip.canvas.height() // 18 + 2
    assert 0 < len(drawn) <= in_view
    assert max(drawn) <= in_view

    drawn.clear()
    strip.set_frame(123)
    strip.canvas.grab()
    assert drawn == []

    strip.set_current(200)
    strip.canvas.grab()
    assert 200 in drawn
    assert len(drawn) <= in_view
    rect = strip.canvas.frame_rect(200, 0)
    assert strip.canvas.rect().contains(rect.center())


def test_rows_that_look_the_same_are_not_drawn_again(strip, drawn):
    strip.canvas.grab()
    drawn.clear()
    strip.set_rows([row(7), row(3, value=0.3), row(12, prompted=[4])])
    strip.canvas.grab()
    assert drawn == [3]
    strip.resize(700, 150)
    strip.canvas.grab()
    assert drawn == [3, 7, 3, 12]


def test_a_click_after_scrolling_tells_what_is_seen_there(strip, qtbot):
    strip.set_rows([row(i) for i in range(100)])
    strip.canvas.grab()
    place = middle(strip, 2, 4)
    turn = QWheelEvent(
        QPointF(place), QPointF(strip.canvas.mapToGlobal(place)), QPoint(), QPoint(0, -120),
        Qt.MouseButton.NoButton, NONE, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(strip.canvas, turn)
    with qtbot.waitSignal(strip.frame_clicked) as told:
        qtbot.mouseClick(strip.canvas, LEFT, NONE, place)
    assert told.args == [5, 4]
    assert middle(strip, 5, 4) == place


def test_a_strip_without_objects_is_quiet(strip, qtbot):
    strip.canvas.select((7, 1, 2))
    strip.set_rows([])
    strip.canvas.grab()
    assert strip.selection is None
    assert not strip.legend.isVisible()
    with qtbot.assertNotEmitted(strip.frame_clicked):
        qtbot.mouseClick(strip.canvas, LEFT, NONE, QPoint(200, 30))
        qtbot.keyClick(strip.canvas, Qt.Key.Key_Right)


@pytest.mark.parametrize("width", [180, 300, 900])
def test_the_legend_fits_the_width(strip, width):
    strip.resize(width, 250)
    QApplication.processEvents()
    places = strip.legend._places
    assert all(place.right() <= max(strip.legend.width(), place.width()) for place in places)
    assert places[-1].bottom() < strip.legend.height()


def test_room_is_for_rows_and_no_more_than_they_need(strip):
    for n in (3, 12, 300):
        strip.set_rows([row(i) for i in range(n)])
        strip.resize(500, 330)
        QApplication.processEvents()
        last = strip.canvas.frame_rect(n - 1, 0).bottom()
        if n < 300:
            assert last < strip.canvas.height() <= last + 12
        assert strip.legend.y() + strip.legend.height() <= 330


# The gallery


def disc(side=64, radius=20) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side // 2
    return y**2 + x**2 <= radius**2


def thumbs(n=12, side=64) -> list[Thumb]:
    return [Thumb(3 * i, np.full((side, side), 90, np.uint8), disc(side, side // 3), i / n) for i in range(n)]


@pytest.fixture
def gallery(qtbot) -> Gallery:
    widget = Gallery()
    qtbot.addWidget(widget)
    widget.resize(400, 120)
    widget.set_color((1.0, 0.0, 1.0, 1.0))
    widget.set_items(thumbs())
    widget.show()
    qtbot.waitExposed(widget)
    return widget


@pytest.mark.parametrize("index", [0, 2, 4])
def test_a_click_on_a_picture_tells_its_frame(gallery, qtbot, index):
    with qtbot.waitSignal(gallery.clicked) as told:
        qtbot.mouseClick(gallery.canvas, LEFT, NONE, gallery.canvas.item_rect(index).center())
    assert told.args == [3 * index]


def test_the_outline_has_the_colour_of_the_object_and_the_inside_stays(gallery):
    image = gallery.canvas.grab().toImage()
    place = gallery.canvas.item_rect(1)
    shown = np.array([
        [image.pixelColor(place.x() + x, place.y() + y).getRgb()[:3] for x in range(64)] for y in range(64)
    ])  # fmt: skip
    outline = (shown == (255, 0, 255)).all(axis=2)
    mask = disc(64, 21)
    assert outline.any()
    assert mask[outline].all()
    assert (shown[disc(64, 18)] == 90).all()
    gallery.set_color((0.0, 1.0, 0.0, 1.0))
    y, x = np.argwhere(outline)[0]
    assert seen(gallery.canvas, QPoint(place.x() + int(x), place.y() + int(y))) == (0, 255, 0)


def test_the_current_frame_is_scrolled_to_and_highlighted(gallery, qtbot):
    before = gallery.canvas.grab().toImage()
    with qtbot.assertNotEmitted(gallery.clicked):
        gallery.set_frame(30)
    place = gallery.canvas.item_rect(10)
    assert gallery.canvas.rect().contains(place)
    assert gallery.canvas.grab().toImage() != before
    fore = gallery.palette().color(QPalette.ColorRole.WindowText)
    edge = QPoint(place.center().x(), place.y() - 1)
    assert seen(gallery.canvas, edge) == (fore.red(), fore.green(), fore.blue())
    with qtbot.waitSignal(gallery.clicked) as told:
        qtbot.keyClick(gallery.canvas, Qt.Key.Key_Left)
    assert told.args == [27]


def test_a_gallery_without_pictures_is_quiet(gallery, qtbot):
    gallery.set_items([])
    gallery.canvas.grab()
    with qtbot.assertNotEmitted(gallery.clicked):
        qtbot.mouseClick(gallery.canvas, LEFT, NONE, QPoint(30, 30))


def test_pictures_that_do_not_fit_their_masks_are_told():
    with pytest.raises(InputError, match="uint8"):
        Thumb(0, np.zeros((4, 4)), np.zeros((4, 4), bool), 1.0)
    with pytest.raises(InputError, match="does not fit"):
        Thumb(0, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), bool), 1.0)


# Thumbnails


@given(
    y=st.integers(0, 90), x=st.integers(0, 110), height=st.integers(1, 60), width=st.integers(1, 60),
    side=st.sampled_from([16, 64]),
)  # fmt: skip
def test_a_thumbnail_shows_the_object_whole_and_in_the_middle(y, x, height, width, side):
    frame = np.full((100, 120, 3), 0.2)
    bbox = (y, x, min(y + height, 100), min(x + width, 120))
    inside = np.s_[bbox[0] : bbox[2], bbox[1] : bbox[3]]
    frame[inside] = (1.0, 0.5, 0.0)
    image, mask = thumbnail(frame, bbox, np.ones((bbox[2] - y, bbox[3] - x), bool), side)

    assert image.shape == (side, side, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (side, side)
    if mask.any():
        centre = np.argwhere(mask).mean(axis=0)
        assert np.abs(centre - (side - 1) / 2).max() <= side / 16 + 1
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()
    # The picture and the mask are cut alike.
    bright = image[..., 0] > 170
    assert (bright != mask).mean() < 0.1


def test_a_thumbnail_is_clipped_to_what_can_be_shown():
    frame = np.full((50, 50, 3), 7.0)
    image, mask = thumbnail(frame, (10, 10, 20, 20), np.zeros((10, 10), bool), 32)
    assert (image == 255).all()
    assert not mask.any()


def test_a_thumbnail_of_nothing_is_told():
    frame = np.zeros((50, 50, 3))
    with pytest.raises(InputError, match="neither may be empty"):
        thumbnail(frame, (0, 0, 0, 0), np.zeros((0, 0), bool))
    with pytest.raises(InputError, match="does not fill its box"):
        thumbnail(frame, (0, 0, 5, 5), np.zeros((4, 5), bool))
    with pytest.raises(InputError, match="give \\(H, W, 3\\)"):
        thumbnail(frame[..., 0], (0, 0, 5, 5), np.zeros((5, 5), bool))

"""Proposals come after following, hold as long as what they rest on, and are decided on by key or button."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Tracks, Vectors
from qtpy.QtCore import QPoint, Qt

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for dividing_world

from dividing_world import DIVIDES, MOTHER, STILL, TRUTH, Seeing, images
from random_model import random_model

from stacksam import Mask, Point
from stacksam.plugin.colors import color_of
from stacksam.plugin.divisions import doubts, likelihood
from stacksam.plugin.widget import StacksamWidget
from stacksam.tracks import Division


@pytest.fixture
def cells(monkeypatch, qtbot):
    """The dock with two cells that were clicked, of which one divides."""
    monkeypatch.setattr("stacksam.session.session.Predictor", Seeing)
    monkeypatch.setattr("stacksam.plugin.controller.load_model", lambda *_, **__: random_model())
    viewer = ViewerModel()
    dock = StacksamWidget(viewer)
    qtbot.addWidget(dock)
    viewer.add_image(images(), name="cells")
    dock.start_chosen()
    qtbot.waitUntil(lambda: dock.layers is not None, timeout=30_000)
    dock.layers.go_to(0)
    dock.controller.add(Point(0, 1, MOTHER), Point(0, 2, STILL))
    settle(dock, qtbot)
    yield dock
    assert dock.controller.shut_down(30)


def settle(dock, qtbot):
    """Wait until all that was asked for is answered."""
    for _ in range(2):  # what is shown may ask for more
        answered = []
        dock.controller.run(lambda: None, answered.append, "Waiting")
        qtbot.waitUntil(lambda known=answered: bool(known) and not dock.controller.following, timeout=30_000)


def follow(dock, qtbot):
    settle(dock, qtbot)
    dock.commands.follow()
    qtbot.waitUntil(lambda: not dock.controller.following and not d(dock).looking, timeout=30_000)
    settle(dock, qtbot)


def d(dock):
    return dock.lineage.divisions


@pytest.fixture
def proposed(cells, qtbot):
    """The same, followed: a division is proposed."""
    follow(cells, qtbot)
    qtbot.waitUntil(lambda: d(cells).looked, timeout=30_000)
    return cells


def test_without_proposals_nothing_is_in_the_way(cells):
    panel, section = cells.lineage_part, cells.sections[6]
    assert section.content.isHidden()
    assert panel.list.isHidden()
    assert panel.accept.parentWidget().isHidden()
    cells.acts["next_division"]()
    assert "follow the objects first" in cells.trouble.text()


def test_following_ends_with_what_divides(proposed):
    (found,) = d(proposed).open
    assert (found.frame, found.parent) == (DIVIDES, 1)
    assert not proposed.sections[6].content.isHidden()
    assert proposed.sections[6].note.text() == "1 to decide"
    assert proposed.lineage_part.list.item(0).text() == "frame 4:  1 → two new ones  ·  likely"
    assert "<b>D</b> goes to the next" in proposed.next_step.text()
    assert not proposed.lineage_part.accept.isEnabled(), "none is looked at yet"


def outlines(dock):
    return next((layer for layer in dock.viewer.layers if isinstance(layer, Vectors)), None)


def test_the_one_that_is_looked_at_is_shown(proposed, qtbot):
    before = proposed.viewer.layers.selection.active
    proposed.acts["next_division"]()
    qtbot.waitUntil(lambda: outlines(proposed) is not None, timeout=30_000)
    assert proposed.frame() == DIVIDES
    assert proposed.controller.current == 1
    assert proposed.viewer.layers.selection.active is before, "keys go on working"
    lines = outlines(proposed)
    assert set(np.unique(lines.data[:, 0, 0])) == {DIVIDES - 1, DIVIDES}
    at = lines.data[:, 0, 0] == DIVIDES
    white = (lines.edge_color == 1).all(axis=1)
    for side, label in ((lines.data[:, 0, 2] < MOTHER[1], 2), (lines.data[:, 0, 2] > MOTHER[1], 3)):
        ys, xs = np.nonzero(TRUTH[DIVIDES] == label)
        own = lines.data[at & ~white & side, 0, 1:]
        assert own.min(axis=0) == pytest.approx([ys.min() - 0.5, xs.min() - 0.5])
        assert own.max(axis=0) == pytest.approx([ys.max() + 0.5, xs.max() + 0.5])
    assert "Does object 1 divide here?" in proposed.next_step.text()


def test_accepting_makes_daughters_and_can_be_undone(proposed, qtbot):
    controller = proposed.controller
    before = controller.session.labels[...]
    proposed.acts["next_division"]()
    proposed.acts["accept_division"]()
    settle(proposed, qtbot)
    assert controller.state.parents == {3: 1, 4: 1}
    assert controller.state.spans[1] == (0, DIVIDES - 1)
    assert d(proposed).open == ()
    assert not outlines(proposed).visible
    assert "press <b>Follow</b>" in proposed.next_step.text()
    follow(proposed, qtbot)
    assert controller.state.spans[3] == controller.state.spans[4] == (DIVIDES, 7)
    assert proposed.sections[6].note.text() == "1 division"
    for _ in range(2):
        proposed.acts["undo"]()
    settle(proposed, qtbot)
    assert controller.state.parents == {}
    assert np.array_equal(controller.session.labels[...], before)


def test_what_is_undone_is_proposed_again_and_what_is_rejected_is_not(proposed, qtbot):
    (found,) = d(proposed).open
    proposed.acts["next_division"]()
    proposed.acts["accept_division"]()
    settle(proposed, qtbot)
    proposed.acts["undo"]()
    settle(proposed, qtbot)
    assert d(proposed).open == (found,)
    proposed.layers.go_to(0)
    proposed.lineage_part.list.setCurrentRow(0)
    assert proposed.frame() == DIVIDES
    qtbot.waitUntil(lambda: outlines(proposed).visible, timeout=30_000)
    assert len(outlines(proposed).edge_color) == len(outlines(proposed).data)
    proposed.lineage_part.reject.click()
    settle(proposed, qtbot)
    assert d(proposed).open == ()
    proposed.lineage_part.look.click()
    qtbot.waitUntil(lambda: not d(proposed).looking, timeout=30_000)
    assert d(proposed).open == ()
    assert proposed.lineage_part.message.text() == "There is no division to decide on."
    assert proposed.undo_button.toolTip().startswith("Undo: rejection of a division")


def test_a_correction_takes_away_what_rests_on_it(proposed, qtbot):
    mask = TRUTH[DIVIDES] == 2
    proposed.controller.add(Mask(DIVIDES, 1, mask))
    settle(proposed, qtbot)
    assert d(proposed).open == ()
    proposed.acts["undo"]()
    settle(proposed, qtbot)
    assert len(d(proposed).open) == 1


def test_yes_without_a_question_is_an_error(proposed):
    for action in ("accept_division", "reject_division"):
        proposed.acts[action]()
        assert "no division is looked at; press D" in proposed.trouble.text().lower().replace(
            "press d", "press D"
        )
    assert proposed.controller.state.parents == {}


def test_tracks_come_and_go_with_links(proposed, qtbot):
    proposed.acts["next_division"]()
    proposed.acts["accept_division"]()
    follow(proposed, qtbot)
    box = proposed.lineage_part.tracks
    box.click()
    (layer,) = [layer for layer in proposed.viewer.layers if isinstance(layer, Tracks)]
    assert layer.graph == {3: [1], 4: [1]}
    for object_id in (1, 2, 3, 4):
        own = layer.track_colors[layer.data[:, 0] == object_id]
        assert own == pytest.approx(np.tile(color_of(object_id), (len(own), 1)), abs=0.01)
    assert len(layer.data) == DIVIDES + 8 + 2 * (8 - DIVIDES)
    proposed.acts["undo"]()
    settle(proposed, qtbot)
    (layer,) = [layer for layer in proposed.viewer.layers if isinstance(layer, Tracks)]
    assert len(layer.data) == DIVIDES + 8 + 2
    proposed.viewer.layers.remove(layer)  # as a person does
    proposed.acts["redo"]()
    settle(proposed, qtbot)
    assert not box.isChecked()
    box.click()
    box.click()
    assert not any(isinstance(layer, Tracks) for layer in proposed.viewer.layers)


def test_the_tree_marks_the_object_and_goes_where_it_is_clicked(proposed, qtbot):
    proposed.acts["next_division"]()
    proposed.acts["accept_division"]()
    follow(proposed, qtbot)
    proposed.lineage_part.tree.click()
    tree = proposed.lineage.tree
    qtbot.waitUntil(tree.isVisible, timeout=5000)
    at = tree.picture.layout_
    assert set(at.rows) == {1, 2, 3, 4}
    assert tree.picture.chosen == proposed.controller.current == 1
    place = QPoint(round(at.x(6.5)), round(at.y(4)))
    qtbot.mouseClick(tree.picture, Qt.MouseButton.LeftButton, pos=place)
    assert (proposed.controller.current, proposed.frame()) == (4, 6)
    assert (tree.picture.chosen, tree.picture.frame) == (4, 6)
    picture = tree.picture.grab().toImage()
    line = picture.pixelColor(round(at.x(5.2)), round(at.y(4)))
    assert max(line.red(), line.green(), line.blue()) > 100
    qtbot.mouseClick(tree.picture, Qt.MouseButton.LeftButton, pos=QPoint(round(at.x(1)), at.bottom + 5))
    assert proposed.controller.current == 4, "nothing is there"
    proposed.controller.close_session()
    assert not tree.isVisible()


def test_looking_in_portions_finds_the_same(proposed, qtbot, monkeypatch):
    (found,) = d(proposed).open
    for portion in (2, 6):
        monkeypatch.setattr("stacksam.plugin.divisions._MASKS", portion)
        monkeypatch.setattr("stacksam.plugin.divisions._FRAMES", portion // 2)
        proposed.lineage.look()
        qtbot.waitUntil(lambda: not d(proposed).looking, timeout=30_000)
        assert [(one.frame, one.parent) for one in d(proposed).open] == [(found.frame, found.parent)]


@pytest.mark.parametrize(("confidence", "word"), [(0.9, "likely"), (0.5, "perhaps"), (0.2, "doubtful")])
def test_confidence_and_doubts_in_words(confidence, word):
    assert likelihood(confidence) == word
    division = Division(3, 1, (), confidence, {"balance": confidence, "size": 1.0})
    assert ("unlike size" in doubts(division)) == (confidence < 0.9)

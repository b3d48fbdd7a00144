"""Frames are accepted, and objects said to be absent, by keys and buttons."""

from __future__ import annotations

HERE = (20.0, 20.0)


def test_an_object_is_said_to_be_absent(started):
    robot = started
    robot.click(HERE)
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()
    robot.follow()
    robot.show_frame(3)
    assert robot.seen(1).any()
    robot.press("Shift-X")
    robot.wait(lambda: not robot.seen(1).any())
    robot.settle()
    (row,) = robot.dock.controller.state.objects
    assert (row.n_locked, row.n_stale) == (1, 4)
    panel = robot.dock.review_part
    panel.strip.canvas.setFocus()
    robot.show_frame(0)
    robot.push(panel.absent)
    robot.wait_for_word("has prompts on frames [0]")  # the click there says that it is
    assert robot.seen(1).any()
    robot.show_frame(3)
    robot.press("Control-Z")
    robot.wait_for_word("Undone: not here")
    robot.settle()
    assert robot.seen(1).any()
    assert robot.dock.controller.state.objects[0].n_stale == 0

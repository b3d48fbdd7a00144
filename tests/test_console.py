"""Progress says how much is left, and only where it should be said."""

from __future__ import annotations

import io
import sys

import pytest

from stacksam.console import _Lines, duration, quiet, terminal


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (-1, "0 s")],
)
def test_durations_read_naturally(seconds, text):
    assert duration(seconds) == text


def test_a_log_gets_a_line_now_and_then():
    now, out = [0.0], io.StringIO()
    step = _Lines(out, "following 2 objects", 100, "masks", clock=lambda: now[0])
    for _ in range(50):
        now[0] += 1.0
        step.advance()
    lines = out.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == "following 2 objects: 10 of 100 masks, 1 min 30 s left"


def test_sizes_are_in_megabytes_and_the_total_may_be_unknown():
    now, out = [0.0], io.StringIO()
    step = _Lines(out, "fetching", None, "B", clock=lambda: now[0])
    for total in (None, 156_000_000):
        now[0] += 11
        step.reach(5_000_000, total)
    assert out.getvalue().splitlines() == [
        "fetching: 5.0 MB",
        "fetching: 5.0 of 156.0 MB, 11 min 4 s left",
    ]


def test_one_is_singular():
    now, out = [0.0], io.StringIO()
    step = _Lines(out, "finding", None, "frames", clock=lambda: now[0])
    for done, total in ((1, None), (1, 4), (1, 1)):
        now[0] += 11
        step.reach(done, total)
    assert [line.split(",")[0] for line in out.getvalue().splitlines()] == [
        "finding: 1 frame",
        "finding: 1 of 4 frames",
        "finding: 1 of 1 frame",
    ]


def test_quick_work_says_nothing(capsys):
    for report in (quiet, terminal):
        with report("writing", 3, "frames") as step:
            step.advance()
            step.reach(3, 3)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("stacksam.console._BAR_AFTER", -1.0)
    with terminal("following 2 objects", 10, "masks") as step:
        for _ in range(10):
            step.advance()
    assert "following 2 objects" in stream.getvalue()
    assert "10 of 10 masks" in stream.getvalue()


def test_a_quick_step_shows_no_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with terminal("following", 10, "masks") as step:
        step.advance(10)
    assert stream.getvalue().strip() == ""

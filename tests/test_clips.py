"""Clips of the training recipe come from workers that never outlive their run."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def clips(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("clips")


class Full:
    """A queue that nobody reads."""

    def put(self, thing: object, timeout: float | None = None) -> None:
        if timeout is None:
            pytest.fail("waits for ever")
        raise queue.Full


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(os, "nice", lambda _: 0)


def test_a_worker_leaves_when_its_run_was_killed(clips, leaving, monkeypatch):
    """Be it at a bundle of clips or at the word on one that failed."""
    gone = os.getppid() + 1
    with pytest.raises(SystemExit):
        clips._work([1], 0, Full(), threading.Event(), gone)

    def broken(seed: int) -> None:
        raise ValueError(seed)

    monkeypatch.setattr(clips, "render", broken)
    with pytest.raises(SystemExit):
        clips._work([1], 0, Full(), threading.Event(), gone)


def test_a_worker_that_only_fails_stops_when_told(clips, leaving, monkeypatch):
    stop, said = threading.Event(), []

    class Heard:
        def put(self, thing: object, timeout: float | None = None) -> None:
            said.append(thing)
            if len(said) == 3:
                stop.set()

    def broken(seed: int) -> None:
        raise ValueError("no clip")

    monkeypatch.setattr(clips, "render", broken)
    clips._work([1], 0, Heard(), stop, os.getppid())
    assert len(said) == 3
    assert all("no clip" in word for word in said)


def test_a_full_queue_is_tried_again(clips, leaving):
    found: queue.Queue[str] = queue.Queue(maxsize=1)

    class Busy:
        tries = 0

        def put(self, thing: str, timeout: float | None = None) -> None:
            self.tries += 1
            if self.tries < 3:
                raise queue.Full
            found.put(thing)

    clips._hand_over("a clip", Busy(), threading.Event(), os.getppid())
    assert found.get_nowait() == "a clip"

"""A controller with a list in place of an event loop."""

from __future__ import annotations

import queue
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model

from random_model import small_stack

from stacksam.plugin.controller import Controller, Opening

__all__ = ["Desk", "hold_thread"]


class Desk:
    """A controller with an inbox in place of an event loop, and all that it signals."""

    def __init__(self) -> None:
        self.inbox: queue.Queue = queue.Queue()
        self.controller = Controller(self.inbox.put)
        self.failed: list[tuple[str, Exception]] = []
        self.noted: list[str] = []
        self.painted: list[frozenset[int] | None] = []
        self.progress: list = []
        self.busy: list[str] = []
        c = self.controller
        c.failed.connect(lambda title, error: self.failed.append((title, error)))
        c.noted.connect(self.noted.append)
        c.painted.connect(self.painted.append)
        c.progress.connect(self.progress.append)
        c.busy.connect(self.busy.append)

    def turn(self, until, seconds: float = 30.0) -> None:
        """Take turns of the event loop until something holds."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, "it did not happen"
            try:
                self.inbox.get(timeout=0.05)()
            except queue.Empty:
                continue

    def open(self, n_frames: int = 6, folder: Path | None = None) -> None:
        stack = small_stack(n_frames)
        place = None if folder is None else (lambda *_: folder)
        self.controller.open(Opening(lambda: stack, folder=place))
        self.turn(lambda: self.controller.session is not None)

    def objects(self) -> tuple[int, ...]:
        return self.controller.state.object_ids

    def add(self, *prompts) -> None:
        before = self.controller.state
        self.controller.add(*prompts)
        self.turn(lambda: self.controller.state is not before)


def hold_thread(desk) -> threading.Event:
    """Keep the thread busy until the event is set."""
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert go_on.wait(30)

    desk.controller.run(work, lambda _: None, "Waiting")
    assert begun.wait(30)
    return go_on

"""Workers of the training recipe never outlive their run, and windows of clips are what they say."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def clips(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("clips")


class Full:
    """A queue that nobody reads."""

    tries = 0

    def put(self, thing: object, timeout: float | None = None) -> None:
        self.tries += 1
        if timeout is None or self.tries > 1:
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

    def work() -> None:
        parents = iter([7, 1])  # killed while the worker waits for room
        monkeypatch.setattr(os, "getppid", lambda: next(parents))
        clips._work([1], 0, Full(), threading.Event(), 7)

    with pytest.raises(SystemExit):
        work()

    def broken(seed: int) -> None:
        raise ValueError(seed)

    monkeypatch.setattr(clips, "render", broken)
    with pytest.raises(SystemExit):
        work()


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


SIDE = 64  # of the window, in pixels of the clip
SMALL, CUT, PAST = (
    10 * 10,
    20 * 20,
    20 * 40,
)  # pixels of what lies in the window, is cut by it, and lies outside


@pytest.fixture
def still_pool(clips: ModuleType) -> object:
    """A small object that stays, and a wide one: half inside of the window on even frames, else outside."""
    labels = np.zeros((1, clips.LENGTH, clips.SIZE, clips.SIZE), np.uint8)
    labels[0, :, 100:110, 100:110] = 1
    labels[0, ::2, 110:130, 140:180] = 2
    labels[0, 1::2, 110:130, 170:210] = 2
    pool = clips.Pool(1, torch.device("cpu"))
    pool.add(80 * labels, labels)
    return pool


def test_what_a_window_cuts_off_is_hidden(clips, still_pool, monkeypatch):
    middle = clips.SIZE / 2
    place = torch.tensor([middle, middle, SIDE])
    monkeypatch.setattr(clips, "_follow", lambda own, *_: place.expand(*own.shape[:2], 3))
    samples = clips.draw(still_pool, 12, clips.Look(2), torch.Generator().manual_seed(0))
    assert samples.hidden.shape == samples.masks.shape[:3] == (12, clips.OBJECTS, 2)
    hidden_of = {SMALL: 0, CUT: PAST - CUT, 0: PAST}  # by pixels that show
    shown = (samples.masks.float().mean((-2, -1)) * SIDE**2).round().int().flatten().tolist()
    assert set(shown) == set(hidden_of)
    found = (samples.hidden * SIDE**2).flatten().tolist()
    assert found == pytest.approx([hidden_of[pixels] for pixels in shown], abs=0.01)


def test_strange_windows_are_of_all_sides_whatever_the_object_is(clips):
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    own = torch.tensor([400.0, 100, 119, 100, 119]).expand(1000, 1, 5)  # a square of 20 pixels
    nowhere = torch.zeros(1000, dtype=torch.bool)
    wanted, least, most = clips.WINDOW * 20, 32, 1.25 * clips.SIZE
    for share in (0.0, 0.4, 1.0):
        places = clips._follow(own, clips.Look(1, 0.0, share), uniform, normal, nowhere)
        sides = places[:, 0, 2]
        strange = sides[(sides - wanted).abs() > 1e-3]
        assert len(strange) / 1000 == pytest.approx(share, abs=0.05)
        if share:
            assert least <= strange.min() < 1.05 * least
            assert 0.95 * most < strange.max() <= most
            # As many octaves below the middle as above.
            assert float((strange < (least * most) ** 0.5).float().mean()) == pytest.approx(0.5, abs=0.07)

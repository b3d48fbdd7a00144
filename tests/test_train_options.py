"""The batch of a training run is the one that its rate is for, on however many cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def train(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("train")


@pytest.fixture(autouse=True)
def many_cores(train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(train.torch.cuda, "is_available", lambda: False)


LEAST = ["--run", "run", "--steps", "1"]


@pytest.mark.parametrize(("frames", "processes"), [(8, 1), (32, 4), (100, 12), (1000, 64)])
def test_no_more_processes_than_the_batch_has_clips(train, frames, processes):
    assert train.options([*LEAST, "--frames", str(frames)]).processes == processes


def test_the_rate_suits_the_batch(train):
    small, large = (train.options([*LEAST, "--frames", n]) for n in ("96", "384"))
    assert large.rate == train.Plan.rate
    assert small.rate == pytest.approx(train.Plan.rate / 2)
    assert train.options([*LEAST, "--rate", "0.5"]).rate == 0.5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--frames", "32", "--processes", "5"], "--processes 5: a batch of 32 frames is enough for 1 to 4"),
        (["--processes", "0"], "--processes 0"),
        (["--frames", "7"], "--frames 7: a clip alone has 8"),
    ],
)
def test_processes_without_a_clip_each_are_refused(train, capsys, words, told):
    with pytest.raises(SystemExit):
        train.options([*LEAST, *words])
    assert told in capsys.readouterr().err

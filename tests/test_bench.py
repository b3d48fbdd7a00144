"""This machine is measured in the time that is given, and what was not measured is marked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent / "session"))

from random_model import random_model

from stacksam.bench import Pace, format_paces, measure
from stacksam.cli import app
from stacksam.errors import InputError


def test_what_takes_too_long_is_extrapolated(monkeypatch):
    times = {1: 1.0, 5: 3.0, 20: 99.0}
    monkeypatch.setattr("stacksam.bench._seconds", lambda model, scope, side, count: times[count])
    paces = list(measure(random_model(), budget=5.0))
    assert paces == [Pace(1, 1.0, True), Pace(5, 3.0, True), Pace(20, 10.5, False), Pace(100, 50.5, False)]
    assert format_paces("nano", paces[1:3]).split() == ["nano", "0.333", "≈0.0952"]


@pytest.mark.parametrize("windowed", [True, False])
def test_objects_are_really_followed(windowed):
    paces = list(measure(random_model(windowed=windowed), side=64, counts=(1, 3), budget=0))
    assert [p.objects for p in paces] == [1, 3]
    assert all(p.measured and p.seconds > 0 for p in paces)


@pytest.mark.parametrize("counts", [(), (0, 1), (5, 1), (1, 1)])
def test_numbers_of_objects_rise_from_one(counts):
    with pytest.raises(InputError, match="give numbers of objects from 1, in rising order"):
        list(measure(random_model(), counts=counts))


def test_the_command_tells_each_model(monkeypatch):
    monkeypatch.setattr("stacksam.bench._seconds", lambda model, scope, side, count: 0.5 * count)
    monkeypatch.setattr("stacksam.cli._load", lambda *args, **kwargs: random_model())
    told = CliRunner().invoke(app, ["bench", "--model", "nano", "--model", "sam2.1-tiny", "--side", "64"])
    assert told.exit_code == 0, told.output
    assert [line.split()[0] for line in told.stdout.splitlines()[2:]] == [
        "nano",
        "sam2.1-tiny",
        "sam2.1-tiny",
    ]
    assert "(window)" in told.stdout
    rows = CliRunner().invoke(app, ["bench", "--model", "nano", "--json"])
    assert json.loads(rows.stdout)["nano"][0] == {"objects": 1, "seconds": 0.5, "measured": True}


@pytest.mark.parametrize("arguments", [["--side", "9"], ["--seconds", "0"], ["--model", "none"]])
def test_bad_input_is_named(arguments):
    assert CliRunner().invoke(app, ["bench", *arguments]).exit_code != 0

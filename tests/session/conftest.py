"""Sessions on small stacks, with a network of random weights: what a session does is tested, not how well."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for random_model, which a killed process imports, too

from random_model import DiscPredictor, random_model, small_stack

from stacksam.session.session import Session


@pytest.fixture(params=[True, False], ids=["windowed", "whole"])
def model(request):
    return random_model(windowed=request.param)


@pytest.fixture
def stack():
    return small_stack()


@pytest.fixture
def session(stack, model):
    with Session(stack, model) as opened:
        yield opened


@pytest.fixture
def discs(monkeypatch):
    """Sessions whose predictor paints discs, for what has nothing to do with pictures."""
    monkeypatch.setattr("stacksam.session.session.Predictor", DiscPredictor)

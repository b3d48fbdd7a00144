"""Keys: one table, said the same in napari, in the help and in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Points

from stacksam.plugin.commands import Commands
from stacksam.plugin.keys import KEYS, bind_keys, help_text, hint

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "plugin.md"


def test_every_action_is_a_command_and_has_one_key():
    assert all(callable(getattr(Commands, key.action)) for key in KEYS)
    assert len({key.action for key in KEYS}) == len({key.key for key in KEYS}) == len(KEYS)


def test_the_reference_lists_the_keys_as_they_are():
    text = REFERENCE.read_text("utf-8")
    section = text[text.index("\n## Keys\n") :]
    section = section[: section.index("\n## ", 4)]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.M)
    assert rows[0] == ("key", "what it does")
    assert rows[2:] == [(key.key, key.what) for key in KEYS]


def test_the_help_and_the_tooltips_name_every_key():
    assert all(f"<b>{key.key}</b>" in help_text() and key.what in help_text() for key in KEYS)
    assert all(hint(key.action) == f" ({key.key})" for key in KEYS)
    assert not hint("something else")


@pytest.mark.parametrize("make", [lambda: Image(np.zeros((4, 4))), lambda: Points(ndim=2)])
def test_bound_keys_call_their_action(make):
    layer, called = make(), []
    bind_keys(layer, {key.action: lambda name=key.action: called.append(name) for key in KEYS})
    for press in layer.keymap.values():
        press(layer)
    assert sorted(called) == sorted(key.action for key in KEYS)


def test_keys_that_are_bound_twice_call_the_latest():
    """A layer that is worked on again gets the actions of the new dock."""
    layer, called = Image(np.zeros((4, 4))), []
    for which in ("old", "new"):
        bind_keys(layer, {key.action: lambda which=which: called.append(which) for key in KEYS})
    for press in layer.keymap.values():
        press(layer)
    assert called == ["new"] * len(KEYS)

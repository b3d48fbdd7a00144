"""The one table of keys: what the layers bind, what the tooltips say, what the help lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["KEYS", "Key", "bind_keys", "help_text", "hint", "key_of"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes
    ----------
    key : str
        As ``layer.bind_key`` takes it.
    action : str
        Name of the method of the widget's actions that it calls.
    what : str
        What it does, for the help.
    """

    key: str
    action: str
    what: str


KEYS: tuple[Key, ...] = (
    Key("T", "toggle_sign", "point tool, next click: part of it / not part of it"),
    Key("N", "new_object", "start a new object"),
    Key("Shift-W", "tool_point", "point tool"),
    Key("Shift-R", "tool_box", "box tool"),
    Key("Shift-S", "tool_lasso", "lasso tool"),
    Key("Shift-B", "tool_paint", "brush: edit the mask of the current object"),
    Key("C", "next_candidate", "another mask for the last click"),
    Key("Shift-F", "find_all", "find all objects on this frame"),
    Key("Alt-F", "follow", "follow, as set in the panel"),
    Key("Escape", "cancel", "stop following, or looking for objects"),
    Key("K", "accept", "accept this frame, or the selected frames"),
    Key("Shift-K", "accept_all", "accept all frames of the current object"),
    Key("Shift-X", "mark_absent", "the object is not on this frame, or the selected frames"),
    Key("W", "next_worst", "go to the next unsure frame of the object"),
    Key("D", "next_division", "go to the next division that is proposed"),
    Key("Y", "accept_division", "yes, it divides: accept the division that is looked at"),
    Key("Shift-Y", "reject_division", "no, it does not divide: reject it"),
    Key("Alt-Left", "previous_prompted", "previous frame with a prompt of the object"),
    Key("Alt-Right", "next_prompted", "next frame with a prompt of the object"),
    Key("Alt-Up", "previous_object", "previous object"),
    Key("Alt-Down", "next_object", "next object"),
    Key("Control-Z", "undo", "undo, whatever it was"),
    Key("Control-Shift-Z", "redo", "redo"),
)


def hint(action: str) -> str:
    """The key of an action in brackets, for a tooltip; empty if it has none."""
    return next((f" ({key.key})" for key in KEYS if key.action == action), "")


def key_of(action: str) -> str:
    """The key of an action as it is written on keyboards; empty if it has none."""
    return next((key.key.replace("Control", "Ctrl") for key in KEYS if key.action == action), "")


def help_text() -> str:
    """All keys as an HTML table."""
    key_style, what_style = "white-space:nowrap; padding-right:12px", "white-space:nowrap"
    rows = "".join(
        f"<tr><td style='{key_style}'><b>{key.key}</b></td><td style='{what_style}'>{key.what}</td></tr>"
        for key in KEYS
    )
    return f"<table>{rows}</table>"


def bind_keys(layer: Any, actions: Mapping[str, Any]) -> None:
    """Bind every key on a layer; `actions` maps names of actions to functions without arguments."""
    for key in KEYS:

        def press(_layer: Any, act: Any = actions[key.action]) -> None:
            act()

        layer.bind_key(key.key, press, overwrite=True)

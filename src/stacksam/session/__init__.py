"""The session: prompts, objects and results of one stack, and the predictor that answers; no Qt.

As in :mod:`stacksam`, the names load their modules on first use: prompts, for one, need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stacksam.session.prompts import Box, Mask, Point, Prompt
    from stacksam.session.resume import open_session
    from stacksam.session.scores import FrameScores
    from stacksam.session.session import Session
    from stacksam.session.settings import Settings
    from stacksam.session.update import Update

__all__ = [
    "Box",
    "FrameScores",
    "Mask",
    "Point",
    "Prompt",
    "Session",
    "Settings",
    "Update",
    "open_session",
]

# Public name -> the module that defines it.
_HOMES = {
    "Box": "prompts",
    "FrameScores": "scores",
    "Mask": "prompts",
    "Point": "prompts",
    "Prompt": "prompts",
    "Session": "session",
    "Settings": "settings",
    "Update": "update",
    "open_session": "resume",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module and keep it (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'stacksam.session' has no attribute {name!r}")
    value: object = getattr(import_module(f"stacksam.session.{home}"), name)
    globals()[name] = value
    return value

"""SAM 2 for image stacks: prompt an object on one frame, follow it through time or depth.

The public names load their modules on first use, so that ``import stacksam`` stays quick and needs neither
torch nor numpy: a command line that prints its help, or a plugin that is only being listed, pays for nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stacksam.errors import (
        DeviceMemoryError,
        DownloadError,
        InputError,
        ModelError,
        SessionFileError,
        StackError,
        StacksamError,
        StorageError,
    )
    from stacksam.session.automatic_masks import AutomaticMasks
    from stacksam.session.finding import estimate_size, find_and_follow, find_objects
    from stacksam.session.models import load_model
    from stacksam.session.prompts import Box, Mask, Point
    from stacksam.session.proposals import Proposal
    from stacksam.session.replay import replay
    from stacksam.session.resume import open_session
    from stacksam.session.scores import FrameScores
    from stacksam.session.session import Session, Update
    from stacksam.session.stack import Intensity, Stack, open_stack
    from stacksam.session.watch import watch

__version__ = "0.1.0"

__all__ = [
    "AutomaticMasks",
    "Box",
    "DeviceMemoryError",
    "DownloadError",
    "FrameScores",
    "InputError",
    "Intensity",
    "Mask",
    "ModelError",
    "Point",
    "Proposal",
    "Session",
    "SessionFileError",
    "Stack",
    "StackError",
    "StacksamError",
    "StorageError",
    "Update",
    "__version__",
    "estimate_size",
    "find_and_follow",
    "find_objects",
    "load_model",
    "open_session",
    "open_stack",
    "replay",
    "watch",
]

# Public name -> the module that defines it.
_HOMES = {
    "AutomaticMasks": "stacksam.session.automatic_masks",
    "Box": "stacksam.session.prompts",
    "DeviceMemoryError": "stacksam.errors",
    "DownloadError": "stacksam.errors",
    "FrameScores": "stacksam.session.scores",
    "InputError": "stacksam.errors",
    "Intensity": "stacksam.session.stack",
    "Mask": "stacksam.session.prompts",
    "ModelError": "stacksam.errors",
    "Point": "stacksam.session.prompts",
    "Proposal": "stacksam.session.proposals",
    "Session": "stacksam.session.session",
    "SessionFileError": "stacksam.errors",
    "Stack": "stacksam.session.stack",
    "StackError": "stacksam.errors",
    "StacksamError": "stacksam.errors",
    "StorageError": "stacksam.errors",
    "Update": "stacksam.session.session",
    "estimate_size": "stacksam.session.finding",
    "find_and_follow": "stacksam.session.finding",
    "find_objects": "stacksam.session.finding",
    "load_model": "stacksam.session.models",
    "open_session": "stacksam.session.resume",
    "open_stack": "stacksam.session.stack",
    "replay": "stacksam.session.replay",
    "watch": "stacksam.session.watch",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module and keep it (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'stacksam' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not, beside what is here already."""
    return sorted(set(globals()) | set(__all__))

"""Packages that only some formats need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from stacksam.errors import InputError


def needed(module: str, package: str, extra: str) -> Any:
    """Import a module, or say what to install.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f'this format needs the package {package}: pip install "napari-stacksam[{extra}]"'
        ) from error

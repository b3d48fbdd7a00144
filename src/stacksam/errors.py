"""Errors that stacksam raises on purpose.

Each is a :class:`StacksamError`, so that one ``except`` catches all of them, and a builtin kind, so that
code that knows nothing of stacksam treats it rightly. Messages name the input, what was wrong with it,
and what would be right.
"""

from __future__ import annotations

__all__ = [
    "DeviceMemoryError",
    "DownloadError",
    "InputError",
    "ModelError",
    "SessionFileError",
    "StackError",
    "StacksamError",
    "StorageError",
]


class StacksamError(Exception):
    """Base of all errors that stacksam raises on purpose."""


class InputError(StacksamError, ValueError):
    """A prompt or an argument that cannot be used."""


class StackError(StacksamError, ValueError):
    """An image stack that cannot be read or has no usable frames."""


class ModelError(StacksamError, ValueError):
    """A checkpoint that is foreign, damaged, unsafe or of another architecture."""


class DownloadError(StacksamError, OSError):
    """A file that could not be fetched or did not arrive intact."""


class StorageError(StacksamError, OSError):
    """An output place that is missing, read-only, full or already taken."""


class SessionFileError(StacksamError, ValueError):
    """A session file that is damaged, newer than this version, or belongs to another stack."""


class DeviceMemoryError(StacksamError, MemoryError):
    """A device without room for even one object, or a ceiling of memory that nothing fits under."""

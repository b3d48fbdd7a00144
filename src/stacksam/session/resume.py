"""Going on with a session from its folder alone."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stacksam.errors import InputError, SessionFileError, StackError
from stacksam.session.models import Model, reload_model
from stacksam.session.results import ResultStore
from stacksam.session.session import Session
from stacksam.session.stack import Stack, reopen_stack

__all__ = ["open_session"]


def open_session(
    path: str | os.PathLike[str], *, stack: Stack | None = None, model: Model | None = None
) -> Session:
    """Go on with a session from its folder.

    Parameters
    ----------
    path : path
        The session's folder, or the ``session.json`` in it.
    stack : Stack, optional
        By default opened from where the session found it, as it was opened then. The caller closes it
        (``session.stack.close()``).
    model : Model, optional
        By default loaded by the name that the session used, to compute as it did.

    Returns
    -------
    Session
        With all results and the history. The caller closes it.

    Raises
    ------
    SessionFileError
        If there is no session, it is damaged or of a newer version, or of another stack or model.
    StackError
        If the stack is no longer where it was, or came from an array.
    ModelError, DownloadError
        If the model cannot be loaded.
    StorageError
        If the folder cannot be written, or is in use by another session.
    """
    folder = _folder(Path(path))
    with ExitStack() as closing:
        try:
            about = _about(folder)
            if stack is None:
                stack = closing.enter_context(_stack(about["stack"], folder))
            if model is None:
                model = reload_model(about["model"])
        except (AttributeError, KeyError, TypeError) as error:
            raise SessionFileError(f"the session in {folder} is damaged: {error!r}") from error
        session = Session(stack, model, folder)
        closing.pop_all()
    return session


def _folder(path: Path) -> Path:
    if path.is_file() and path.name == "results.sqlite":
        return path.parent
    folder = path.parent if path.is_file() else path
    for place in (folder, folder / "session"):  # a results folder has its session inside
        if (place / "results.sqlite").is_file():
            return place
    if not path.exists():
        raise SessionFileError(f"there is no session at {path}; give the folder of one")
    if path.is_file():
        raise SessionFileError(
            f"there are no results beside {path}; use stacksam.replay to do again what it tells of"
        )
    raise SessionFileError(f"there is no session in {folder}; give the folder that holds results.sqlite")


def _about(folder: Path) -> dict[str, Any]:
    """What the session is of."""
    store = ResultStore(folder)
    try:
        about: dict[str, Any] = store.meta("session")
    finally:
        store.close()
    return about


def _stack(description: dict[str, Any], folder: Path) -> Stack:
    if not description["opened"]:
        raise StackError(
            f"the session in {folder} is of a stack that came from {description['source']}, which cannot be "
            "opened again; give the stack"
        )
    try:
        return reopen_stack(description)
    except (InputError, StackError) as error:
        raise StackError(
            f"the stack of the session in {folder} cannot be opened where it was: {error}; "
            "where it has moved, open it and give the stack"
        ) from error

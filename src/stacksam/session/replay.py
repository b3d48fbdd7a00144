"""Doing again, without a window, what a saved session did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stacksam.errors import SessionFileError
from stacksam.session.models import Model, load_model
from stacksam.session.predictor import Settings
from stacksam.session.prompts import prompt_from_json
from stacksam.session.results import FORMAT_VERSION
from stacksam.session.session import Session, Update
from stacksam.session.stack import Intensity, Stack, open_stack

__all__ = ["replay"]


def replay(
    path: str | os.PathLike[str],
    stack: Stack | None = None,
    model: Model | None = None,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[Update], object] | None = None,
) -> Session:
    """Do everything again that a saved session did.

    Parameters
    ----------
    path : path
        A file written by :meth:`Session.save`.
    stack : Stack, optional
        By default opened from where the session found it.
    model : Model, optional
        By default loaded by the name that the session used.
    folder : path, optional
        For the results; must not hold a session yet. By default temporary.
    progress : callable, optional
        Called with every update.

    Returns
    -------
    Session
        With the same prompts and labels. The caller closes it.

    Raises
    ------
    SessionFileError
        If the file is damaged, of a newer version, or of another stack or model.
    """
    data = _read_session(Path(path))
    if stack is None:
        about = data["stack"]
        stack = open_stack(
            about["source"],
            frame_axis=about["frame_axis"],
            at=about["at"],
            channels=about["channels"],
            intensity=Intensity.from_json(about["intensity"]),
            level=about.get("level", 0),
        )
    if stack.identity() != data["stack"]["identity"]:
        raise SessionFileError(
            f"{path} is a session of another stack ({data['stack']['name']}), not of {stack.name}"
        )
    model = model or load_model(data["model"]["name"])
    if model.digest != data["model"]["digest"]:
        raise SessionFileError(
            f"{path} was made with the model {data['model']['name']} ({data['model']['digest'][:12]}); "
            f"{model.name} ({model.digest[:12]}) has other weights"
        )
    session = Session(stack, model, folder, settings=Settings(**data["settings"]))
    try:
        if session.object_ids:
            raise SessionFileError(f"{session.folder} already holds a session; replay into an empty folder")
        for action in data["actions"]:
            _do(session, dict(action), progress)
    except BaseException:
        session.close()
        raise
    return session


def _read_session(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SessionFileError(f"session file {path} cannot be read: {error}") from error
    if not isinstance(data, dict) or data.get("format") != "stacksam-session":
        raise SessionFileError(f"{path} is no session file of stacksam")
    if data.get("version", 0) > FORMAT_VERSION:
        raise SessionFileError(
            f"{path} has version {data['version']}, this program reads up to {FORMAT_VERSION}; update stacksam"
        )
    missing = {"stack", "model", "settings", "actions"} - set(data)
    if missing:
        raise SessionFileError(f"{path} is damaged: {', '.join(sorted(missing))} missing")
    return data


def _do(session: Session, action: dict[str, Any], progress: Callable[[Update], object] | None) -> None:
    """Do one saved action."""
    name = action.pop("do", None)
    try:
        match name:
            case "add":
                session.add(*(prompt_from_json(p, p["frame"], p["object_id"]) for p in action["prompts"]))
            case "remove":
                frame, object_id = action["frame"], action["object_id"]
                session.remove(prompt_from_json(action["prompt"], frame, object_id))
            case "propagate":
                _propagate_again(session, action, progress)
            case "remove_object" | "choose" | "lock" | "unlock":
                getattr(session, name)(**action)
            case _:
                raise SessionFileError(
                    f"the session holds an action {name!r} that this version does not know"
                )
    except (KeyError, TypeError) as error:
        raise SessionFileError(f"an action {name!r} of the session cannot be read: {error!r}") from error


def _propagate_again(
    session: Session, action: dict[str, Any], progress: Callable[[Update], object] | None
) -> None:
    """Propagate as far as the saved session did."""
    steps = action.pop("steps")
    for update in session.propagate(**action, steps=steps):
        if progress is not None:
            progress(update)

"""Doing again, without a window, what a saved session did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, SessionFileError
from stacksam.session.actions import prompts_from_json
from stacksam.session.models import Model, reload_model
from stacksam.session.prompts import Mask, prompt_from_json
from stacksam.session.results import FORMAT_VERSION
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.stack import Stack, reopen_stack
from stacksam.session.update import Update

__all__ = ["read_session", "replay"]


def replay(
    path: str | os.PathLike[str],
    stack: Stack | None = None,
    model: Model | None = None,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[Update], object] | None = None,
) -> Session:
    """Do everything again that a saved session did, except what was undone.

    Parameters
    ----------
    path : path
        A file written by :meth:`Session.save`.
    stack : Stack, optional
        By default opened from where the session found it, as it was opened then.
    model : Model, optional
        By default loaded by the name that the session used, to compute as it did.
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
        If the file is damaged, of a newer version, of another stack or model; or the folder holds a session.
    StackError
        If the stack is no longer where it was.
    StorageError
        If the results cannot be written. What was done until then stays in the folder.
    """
    data = read_session(Path(path))
    try:
        settings = Settings.from_json(data["settings"])
        if stack is None:
            stack = reopen_stack(data["stack"])
        if not stack.is_same(data["stack"]["identity"]):
            raise SessionFileError(
                f"{path} is a session of another stack ({data['stack']['name']}), not of {stack.name}"
            )
        stack = stack.taken_as(data["stack"])
        if model is None:
            model = reload_model(data["model"])
        _check_same(data, stack, model, Path(path))
    except (AttributeError, InputError, KeyError, TypeError) as error:
        raise SessionFileError(f"{path} is damaged, or does not fit its stack any more: {error!r}") from error
    with ExitStack() as closing:
        session = closing.enter_context(Session(stack, model, folder, settings=settings))
        if session.history:
            raise SessionFileError(f"{session.folder} already holds a session; replay into an empty folder")
        for action in data["actions"]:
            _do(session, action, Path(path), progress)
        closing.pop_all()  # it went well, so the caller closes it
    return session


def _check_same(data: dict[str, Any], stack: Stack, model: Model, path: Path) -> None:
    about, then = data["stack"], data["model"]
    if stack.intensity.to_json() != about["intensity"]:
        raise SessionFileError(
            f"{path} was made with the intensity mapping {about['intensity']}; open the stack with it"
        )
    if model.digest != then["digest"]:
        raise SessionFileError(
            f"{path} was made with the model {then['name']} ({then['digest'][:12]}); "
            f"{model.name} ({model.digest[:12]}) has other weights"
        )
    if model.config.image_size != then["image_size"]:
        raise SessionFileError(
            f"{path} was made with {then['name']} at {then['image_size']} pixels, not at "
            f"{model.config.image_size}; load it with image_size={then['image_size']}"
        )
    if model.windowed != then["windowed"]:
        how = "windows" if then["windowed"] else "whole frames"
        raise SessionFileError(f"{path} was made with {then['name']} looking at {how}; load it so")


def read_session(path: Path) -> dict[str, Any]:
    """What a file written by :meth:`Session.save` holds.

    Raises
    ------
    SessionFileError
        If it is no session file, damaged, or of a newer version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SessionFileError(
            f"session file {path} cannot be read: {error.strerror or error}; give the session.json of a "
            "results folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SessionFileError(f"session file {path} cannot be read: {error}") from error
    if not isinstance(data, dict) or data.get("format") != "stacksam-session":
        raise SessionFileError(f"{path} is no session file of stacksam")
    version = data.get("version")
    if not isinstance(version, int):
        raise SessionFileError(f"{path} is damaged: its version is {version!r}")
    if version > FORMAT_VERSION:
        raise SessionFileError(
            f"{path} has version {version}, this program reads up to {FORMAT_VERSION}; update stacksam"
        )
    kinds = {"stack": dict, "model": dict, "settings": dict, "actions": list}
    wrong = sorted(key for key, kind in kinds.items() if not isinstance(data.get(key), kind))
    if wrong:
        raise SessionFileError(f"{path} is damaged: {', '.join(wrong)} missing")
    return data


def _do(
    session: Session, action: dict[str, Any], path: Path, progress: Callable[[Update], object] | None
) -> None:
    """Do one saved action."""
    name: object = action
    try:
        name = action.get("do")
        arguments = {key: value for key, value in action.items() if key != "do"}
        match name:
            case "add":
                session.add(*prompts_from_json(arguments["prompts"]))
            case "remove":
                session.remove(*prompts_from_json(arguments["prompts"]))
            case "set_masks":
                masks = [p for p in prompts_from_json(arguments["masks"]) if isinstance(p, Mask)]
                session.set_masks(*masks)
            case "remove_object":
                session.remove_object(*arguments["object_ids"])
            case "replace":
                session.replace(*prompts_from_json([*arguments["old"], *arguments["new"]]))
            case "propagate":
                # As far as the saved session did.
                for update in session.propagate(**arguments):
                    if progress is not None:
                        progress(update)
            case "divide":
                daughters = [_daughter(daughter, arguments["frame"]) for daughter in arguments["daughters"]]
                session.divide(arguments["object_id"], arguments["frame"], daughters)
            case (
                "choose" | "clear" | "join" | "link" | "lock" | "mark_absent" | "merge" | "reject_division"
                | "rename" | "split" | "split_track" | "swap" | "unlink" | "unlock"
            ):  # fmt: skip
                getattr(session, str(name))(**arguments)
            case _:
                raise SessionFileError(f"{path} holds an action {name!r} that this version does not know")
    except (AttributeError, InputError, KeyError, TypeError) as error:
        raise SessionFileError(f"an action {name!r} of {path} cannot be done: {error!r}") from error


def _daughter(data: int | dict[str, Any], frame: int) -> int | NDArray[np.bool_]:
    """An object, or the mask of one to come."""
    if isinstance(data, int):
        return data
    prompt = prompt_from_json(data, frame, 1)
    if not isinstance(prompt, Mask):
        raise TypeError("a daughter is neither an object nor a mask")
    return prompt.mask

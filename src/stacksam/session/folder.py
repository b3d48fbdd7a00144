"""The results folder of a session: whose it is, and the labels in it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from stacksam.errors import InputError, SessionFileError, StorageError
from stacksam.io.labels import create_label_store, grow_label_store, open_label_store
from stacksam.session.models import Model
from stacksam.session.results import ResultStore
from stacksam.session.settings import Settings
from stacksam.session.stack import Stack

__all__ = ["claim", "open_labels", "write_json"]


def claim(
    store: ResultStore, stack: Stack, model: Model, settings: Settings | None
) -> tuple[Stack, Settings]:
    """Write down what a session is of, or check that the folder's session is of the same.

    Returns
    -------
    Stack
        As the folder's session sees it: see `Stack.taken_as`.
    Settings
        Those given; or, where none are, those that the folder's session has.

    Raises
    ------
    SessionFileError
        If the folder holds a session of something else.
    """
    then = store.meta("session")
    if then is None:
        settings = settings or Settings()
        store.set_meta("session", _description(stack, model, settings))
        return stack, settings
    try:
        _check_stack(then["stack"], stack, store.folder)
        stack = stack.taken_as(then["stack"])
        kept = Settings.from_json(then["settings"])
        if settings is None:
            settings = kept
        then = {**then, "settings": kept.to_json(windowed=then["model"]["windowed"])}
        _check_same(then, _description(stack, model, settings), store.folder)
    except (InputError, KeyError, TypeError) as error:
        raise SessionFileError(f"{store.path} is damaged: {error!r}") from error
    return stack, settings


def _description(stack: Stack, model: Model, settings: Settings) -> dict[str, Any]:
    return {
        "stack": stack.describe(),
        "model": {
            "name": model.name,
            "digest": model.digest,
            "dtype": str(model.dtype).removeprefix("torch."),
            "windowed": model.windowed,
            "image_size": model.config.image_size,
            "followed_iou": list(model.followed_iou),
        },
        # Those that change results; the others are how they are come by.
        "settings": settings.to_json(windowed=model.windowed),
    }


def _check_stack(then: dict[str, Any], stack: Stack, folder: Path) -> None:
    if not stack.is_same(then["identity"]):
        raise SessionFileError(
            f"{folder} holds results of another stack ({then['name']}), not of {stack.name}; use another "
            "folder"
        )


def _check_same(then: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    if then["stack"]["intensity"] != now["stack"]["intensity"]:
        raise SessionFileError(
            f"{folder} was made with the intensity mapping {then['stack']['intensity']}; open the stack "
            "with the same one, or use another folder"
        )
    if any(then["model"][key] != now["model"][key] for key in ("digest", "windowed", "image_size")):
        raise SessionFileError(
            f"{folder} was made with the model {then['model']['name']}, not with {now['model']['name']} "
            "(or with other weights of that name); use that model, or another folder"
        )
    if then["settings"] != now["settings"]:
        raise SessionFileError(
            f"{folder} was made with the settings {then['settings']}, not with {now['settings']}; "
            "use those, or another folder"
        )


def open_labels(folder: Path, stack: Stack, store: ResultStore) -> zarr.Array[Any]:
    """Open the live labels, or make them; where they were lost, note that they must be written anew.

    Raises
    ------
    StorageError
        If they cannot be opened, or belong to something else.
    """
    path = folder / "labels.ome.zarr"
    shape = (stack.n_frames, *stack.frame_shape)
    if path.exists():
        if store.meta("labels") is None:
            raise StorageError(
                f"{path} exists already, but was not made by the session in {folder}; use another folder"
            )
        labels = open_label_store(path)
        if stack.live and labels.shape[1:] == shape[1:]:
            # It may be longer, too: frames that were followed before need to settle again.
            grow_label_store(labels, stack.n_frames)
        elif labels.shape != shape:
            raise StorageError(
                f"{path} has shape {labels.shape}, the stack {shape}; delete it to have it made anew"
            )
        return labels
    store.mark_dirty(store.frames_with_results())
    store.set_meta("labels", path.name)  # first, so that a kill in between leaves nothing unaccounted for
    return create_label_store(path, shape, np.uint32, stack.axes_out, stack.spacing, stack.units)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a readable file, or leave what is there.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StorageError(f"session file {path} cannot be written: {error}") from error

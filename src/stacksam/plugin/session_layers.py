"""A saved session as layers: the image as it was opened, and its labels."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from stacksam.errors import InputError, SessionFileError, StackError, StorageError
from stacksam.io import read_labels
from stacksam.plugin.layer_data import LayerTuple, about, is_session_folder, lazy, one_path
from stacksam.session import replay
from stacksam.session.stack import Stack, reopen_stack

__all__ = ["read_session"]


def read_session(path: str | Sequence[str]) -> list[LayerTuple]:
    """The image of a session as it was opened, and its labels; both lazily.

    Parameters
    ----------
    path : str or list of str
        See :func:`stacksam.plugin.contributions.get_reader`.

    Returns
    -------
    list of layer data tuples
        One image layer (T, Y, X) or (Z, Y, X), one for each channel where there are several, and the labels
        layer of the same shape, read-only. The labels are left out where the JSON file does not lie in its
        session's folder. The image is left out, with a warning, where it is not found any more.

    Raises
    ------
    SessionFileError
        If the session is damaged, of a newer version, or there is neither image nor labels.
    StorageError
        If the session is open in a program, or the labels are gone.
    StackError
        If the labels cannot be read.
    """
    place = one_path(path)
    if place is None:
        raise InputError(f"{path} are several; open one session at a time")
    file: Path | None = None
    folder: Path | None = None
    if place.suffix.lower() == ".json":
        file = place
        stack = replay.read_session(place)["stack"]
        if is_session_folder(place.parent) and _same(_described(place.parent), stack):
            folder = place.parent
    else:
        folder = place if place.is_dir() else place.parent
        stack = _described(folder)
        file = folder / "session.json" if (folder / "session.json").is_file() else None
    try:
        return _session_layers(stack, folder, file)
    except (AttributeError, KeyError, TypeError) as error:
        raise SessionFileError(f"{place} is damaged: {error!r}") from error


def _session_layers(stack: dict[str, Any], folder: Path | None, file: Path | None) -> list[LayerTuple]:
    origin = {
        "source": stack["opened"].get("source"),
        "stack": stack,
        "folder": None if folder is None else str(folder.absolute()),
        "session": None if file is None else str(file.absolute()),
    }
    axes = stack["frame_axis"] + "yx"
    layers: list[LayerTuple] = []
    lost: StackError | InputError | None = None
    try:
        opened = reopen_stack(stack)
        if opened.identity() != stack["identity"]:
            opened.close()
            raise StackError(f"{opened.source} is not the image any more that the session was made of")
        layers += _image_layers(opened, about(stack["name"], axes, stack["spacing"], stack["units"], origin))
    except (InputError, StackError) as error:
        lost = error
    if folder is not None:
        labels = read_labels(folder / "labels.ome.zarr")
        name = f"{stack['name']} labels"
        layers.append((labels.data, about(name, axes, stack["spacing"], stack["units"], origin), "labels"))
    if lost is not None:
        if not layers:
            raise SessionFileError(f"there is nothing to show of the session {file}: {lost}") from lost
        from napari.utils.notifications import show_warning

        show_warning(f"only the labels are shown: {lost}")
    return layers


def _image_layers(stack: Stack, arguments: dict[str, Any]) -> list[LayerTuple]:
    """The frames of a stack, with the intensities between which the model sees them."""
    image = stack.image
    data = lazy(image)
    other = "z" if stack.frame_axis == "t" else "t"
    left = list(image.axes)
    if other in left:
        data = np.take(data, stack.at.get(other, 0), axis=left.index(other))
        left.remove(other)
    if stack.frame_axis not in left:
        data = data[None]
        left.insert(0, stack.frame_axis)
    limits = [[low, high] for low, high in zip(stack.intensity.low, stack.intensity.high, strict=True)]
    if "c" not in left:
        return [(data, arguments | _limits(limits[0]), "image")]
    if image.rgb:
        return [(np.moveaxis(data, left.index("c"), -1), arguments | {"rgb": True}, "image")]
    layers = []
    for channel in range(image.sizes["c"]):
        own = dict(arguments)
        if image.sizes["c"] > 1:
            own |= {"name": f"{arguments['name']} channel {channel}", "blending": "additive"}
        if channel in stack.channels:
            own |= _limits(limits[stack.channels.index(channel) if len(limits) > 1 else 0])
        layers.append((np.take(data, channel, axis=left.index("c")), own, "image"))
    return layers


def _limits(pair: list[float]) -> dict[str, Any]:
    return {"contrast_limits": pair} if pair[0] < pair[1] else {}


def _same(stack: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two descriptions are of one stack."""
    return bool(stack.get("identity") == other.get("identity"))


def _described(folder: Path) -> dict[str, Any]:
    """What the session of a folder says of its stack; nothing is written there."""
    path = folder / "results.sqlite"
    try:
        # Not through the session itself, which would make the folder its own.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            row = database.execute("SELECT value FROM meta WHERE key = 'session'").fetchone()
        found = json.loads(row[0])["stack"]
        if not isinstance(found, dict):
            raise TypeError(f"its stack is a {type(found).__name__}")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StorageError(f"the session in {folder} is open in a program; close it first") from error
        raise SessionFileError(f"{path} is no results file of stacksam, or unreadable: {error}") from error
    except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
        raise SessionFileError(f"{path} is damaged, or no results file of stacksam: {error}") from error
    return found

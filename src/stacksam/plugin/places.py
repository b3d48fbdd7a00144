"""Where the plugin keeps its sessions: a folder for each image, way to read it, and model."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from qtpy.QtCore import QStandardPaths

from stacksam import assets
from stacksam.session.stack import Stack

__all__ = ["data_dir", "digest_of", "place_of", "saved_at"]

_LONGEST = 60  # characters of an image's name


def data_dir() -> Path:
    """Folder of the user's own work: ``$STACKSAM_HOME``, or else the system's data folder for stacksam."""
    home = os.environ.get("STACKSAM_HOME")
    if home:
        return Path(home).expanduser()
    data = QStandardPaths.StandardLocation.GenericDataLocation
    return Path(QStandardPaths.writableLocation(data)) / "stacksam"


def place_of(stack: Stack, digest: str, sight: str = "full") -> Path:
    """Folder of the session on a stack: where it is, or is to be made.

    Parameters
    ----------
    stack : Stack
    digest : str
        Of the model.
    sight : str
        How much of a frame an object sees, and as what; "full" for models that have no choice.

    Returns
    -------
    Path
        Named after the image and after what results hold for. A session of the same is found under another
        name, too: the image may have been renamed. First versions kept sessions in the cache folder.
    """
    return saved_at(stack, digest, sight) or _folder() / f"{_plain(stack.name)}-{_key(stack, digest, sight)}"


def saved_at(stack: Stack, digest: str, sight: str = "full") -> Path | None:
    """Folder of the session on a stack; None if there is none yet. Parameters as for `place_of`."""
    key = _key(stack, digest, sight)
    for folder in (_folder(), assets.cache_dir() / "sessions"):
        try:
            found = sorted(
                place
                for place in folder.iterdir()
                if place.name.endswith(key) and (place / "results.sqlite").is_file()
            )
        except OSError:
            continue  # there is none, or it cannot be read, which is told when a session is made there
        if found:
            return found[0]
    return None


def digest_of(model: str) -> str | None:
    """Digest of a model by name, without loading it; None where that is not known."""
    if model not in assets.MODELS:
        return None
    published = assets.model_file(model)
    return assets.sha256_of(assets.embedded_model()[1]) if published.embedded else published.sha256


def _folder() -> Path:
    return data_dir() / "sessions"


def _key(stack: Stack, digest: str, sight: str) -> str:
    """What tells a session from others: results hold for one image, as one model sees it."""
    seen = json.dumps(stack.describe()["intensity"], sort_keys=True)
    if sight != "full":
        seen += sight
    return f"{stack.identity()}-{digest[:8]}-{hashlib.sha256(seen.encode()).hexdigest()[:6]}"


def _plain(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.")[:_LONGEST] or "image"

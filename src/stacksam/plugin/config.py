"""The plugin's settings: napari keeps them, and shows them in its preferences.

They are declared in ``napari.yaml`` (``configurations``); napari makes the form, the file
(``napari-stacksam.yaml`` beside its own settings) and the names in the environment
(``NAPARI_STACKSAM_DEVICE`` ...) of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from stacksam.assets import MODELS
from stacksam.errors import InputError

if TYPE_CHECKING:
    from stacksam.session.settings import Canvas, Scope, Settings

__all__ = ["DEVICES", "SCOPES", "Config", "read_config"]

DEVICES = ("auto", "cpu", "cuda", "mps")
SCOPES = ("full", "auto", "window")
CANVASES = ("frame", "native")

_PLUGIN = "napari-stacksam"


@dataclass(frozen=True, slots=True)
class Config:
    """What the user chose once for all sessions.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
        What the model computes on.
    model : str
        Name of one of :data:`stacksam.assets.MODELS`.
    cache_size_mb : int
        Bound of the cache of encoded frames, in units of 2**20 bytes.
    memory_ceiling_mb : int
        Memory to get by with beside napari's own, in units of 2**20 bytes; 0 for no ceiling.
    scope : {"full", "auto", "window"}
        How much of a frame an object sees with an official model; see :class:`stacksam.session.Settings`.
    canvas : {"frame", "native"}
        What an official model sees a frame as; see there, too.
    find_ends : bool
        Whether ``nano`` looks in depth where an object ends; see there, too.

    Raises
    ------
    InputError
        If a value is none of these.
    """

    device: str = "auto"
    model: str = "nano"
    cache_size_mb: int = 64
    memory_ceiling_mb: int = 0
    scope: str = "full"
    canvas: str = "frame"
    find_ends: bool = True

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InputError(f"the setting device is {self.device!r}; use one of {', '.join(DEVICES)}")
        if self.model not in MODELS:
            raise InputError(f"the setting model is {self.model!r}; use one of {', '.join(MODELS)}")
        if self.scope not in SCOPES:
            raise InputError(f"the setting scope is {self.scope!r}; use one of {', '.join(SCOPES)}")
        if self.canvas not in CANVASES:
            raise InputError(f"the setting canvas is {self.canvas!r}; use one of {', '.join(CANVASES)}")
        if not isinstance(self.find_ends, bool):
            raise InputError(f"the setting find_ends is {self.find_ends!r}; use true or false")
        for name in ("cache_size_mb", "memory_ceiling_mb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"the setting {name} is {value!r}; give a whole number of megabytes, from 0")

    def settings(self) -> Settings:
        """What a session takes of this.

        Under a ceiling the cache gets smaller and fewer objects are computed at once, where that is needed
        (:func:`stacksam.session.needs.fitting`); napari itself and its layers are not counted.
        """
        from stacksam.session.settings import Settings

        return Settings(
            cache_bytes=self.cache_size_mb * 2**20,
            max_memory=self.memory_ceiling_mb * 2**20 or None,
            scope=cast("Scope", self.scope),
            canvas=cast("Canvas", self.canvas),
            find_ends=self.find_ends,
        )

    def sight(self, *, windowed: bool) -> str:
        """What results depend on beside the model, in a word: another choice is another session.

        Parameters
        ----------
        windowed : bool
            With ``nano``, which has windows of its own kind.
        """
        if windowed:
            return "full" if self.find_ends else "full endless"
        return self.scope if self.canvas == "frame" else f"{self.scope} {self.canvas}"

    @property
    def torch_device(self) -> str | None:
        """What :func:`stacksam.load_model` takes: None stands for its own choice."""
        return None if self.device == "auto" else self.device


def read_config() -> Config:
    """The settings as they are now.

    Returns
    -------
    Config
        The defaults where napari does not list stacksam among its plugins: it is switched off, or used
        from a folder without being installed.

    Raises
    ------
    InputError
        If a stored value cannot be used. Values of the wrong kind never get here: napari puts the default
        in their place, and says so in its log.
    """
    stored = _stored()
    if stored is None:
        return Config()
    return Config(**{name: getattr(stored, name) for name in Config.__dataclass_fields__})


def _stored() -> Any:
    """Napari's own object of these settings, or None."""
    from napari.settings import get_plugin_settings

    plugin = get_plugin_settings().get(_PLUGIN)
    return None if plugin is None else plugin.stacksam

"""What ``napari.yaml`` points to, besides the widget: menu commands, samples, the reader, the writers.

Napari imports this module to ask whether a file is for us, so what is slow to import waits until it is
needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from stacksam import assets
from stacksam.errors import InputError
from stacksam.io import open_image
from stacksam.plugin.layer_data import LayerTuple, about, is_session_folder, lazy, one_path
from stacksam.plugin.writers import write_labels, write_prompts

__all__ = [
    "get_reader",
    "sample_gowt1",
    "sample_timelapse",
    "sample_u373",
    "sample_zstack",
    "segment_layer",
    "track_layer",
    "write_labels",
    "write_prompts",
]

_HEAD = re.compile(rb'\A\s*\{\s*"format"\s*:\s*"stacksam-session"')
_HEAD_BYTES = 256


# --- menu --------------------------------------------------------------------------------------------------


def segment_layer() -> None:
    """Open the widget and segment objects of the active image layer, frame by frame.

    Raises
    ------
    InputError
        If there is no viewer, or the active layer is no image.
    """
    _start("segment")


def track_layer() -> None:
    """Open the widget and follow objects of the active image layer.

    Raises
    ------
    InputError
        If there is no viewer, or the active layer is no image.
    """
    _start("track")


def _start(task: str) -> None:
    import napari
    from napari.layers import Image

    viewer = napari.current_viewer()
    if viewer is None:
        raise InputError("there is no napari window to open stacksam in")
    layer = viewer.layers.selection.active
    if not isinstance(layer, Image):
        raise InputError("select the image layer that stacksam should work on, one only")
    _widget(viewer).start(layer, task)


def _widget(viewer: Any) -> Any:
    """The widget of a viewer, made if there is none, and shown."""
    from napari.plugins import menu_item_template

    from stacksam.plugin.widget import StacksamWidget

    docked = viewer.window.dock_widgets
    widget = next((found for found in docked.values() if isinstance(found, StacksamWidget)), None)
    if widget is None:
        # Under the name that the Plugins menu gives it, so that the menu finds it and makes no second one;
        # `add_plugin_dock_widget` has another, of the package.
        widget = StacksamWidget(viewer)
        viewer.window.add_dock_widget(widget, name=menu_item_template.format("stacksam", "stacksam"))
    dock = widget.parent()
    dock.show()
    dock.raise_()
    return widget


# --- samples -----------------------------------------------------------------------------------------------


def sample_timelapse() -> list[LayerTuple]:
    """The time-lapse of made nuclei that comes with the package."""
    return _shipped("timelapse")


def sample_zstack() -> list[LayerTuple]:
    """The z-stack of made cells that comes with the package."""
    return _shipped("zstack")


def sample_gowt1() -> list[LayerTuple]:
    """Sequence 01 of Fluo-N2DH-GOWT1: 92 frames of 1024 × 1024 pixels, fetched once.

    The archive is checked against a published SHA-256 (:data:`stacksam.assets.TIME_LAPSES`).

    Raises
    ------
    DownloadError, StorageError
        If it cannot be fetched or kept, or the user cancels.
    """
    return _published("Fluo-N2DH-GOWT1")


def sample_u373() -> list[LayerTuple]:
    """Sequence 01 of PhC-C2DH-U373: 115 frames of 520 × 696 pixels, fetched once.

    The archive is checked against a published SHA-256 (:data:`stacksam.assets.TIME_LAPSES`).

    Raises
    ------
    DownloadError, StorageError
        If it cannot be fetched or kept, or the user cancels.
    """
    return _published("PhC-C2DH-U373")


def _shipped(name: str) -> list[LayerTuple]:
    path = assets.sample(name)
    with open_image(path) as image:
        data = image.read()  # 3 MB
        scale = [image.scale[axis] for axis in image.axes]
        units = [image.units[axis] for axis in image.axes]
        return [(data, about(name, image.axes, scale, units, {"source": str(path)}), "image")]


def _published(name: str) -> list[LayerTuple]:
    from stacksam.plugin.waiting import wait_for

    folder = wait_for(lambda progress: assets.fetch_time_lapse(name, progress=progress), name)
    image = open_image(folder)
    # The files hold no sizes, or wrong ones.
    scale, units = assets.TIME_LAPSES[name].spacing, ("second", "micrometer", "micrometer")
    return [(lazy(image), about(name, image.axes, scale, units, {"source": str(folder)}), "image")]


# --- sessions ----------------------------------------------------------------------------------------------


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerTuple]] | None:
    """A reader of saved sessions, if the path is one; little more than the file's head is looked at.

    Parameters
    ----------
    path : str or list of str
        A session's JSON file as stacksam wrote it, the ``results.sqlite`` of a session folder, or the folder.

    Returns
    -------
    callable or None
        :func:`stacksam.plugin.session_layers.read_session`; None for anything else.
    """
    place = one_path(path)
    if place is None:
        return None
    try:
        if place.is_dir() or place.name == "results.sqlite":
            ours = is_session_folder(place if place.is_dir() else place.parent)
        else:
            with place.open("rb") as file:
                ours = place.suffix.lower() == ".json" and _HEAD.match(file.read(_HEAD_BYTES)) is not None
    except OSError:
        return None  # napari tells that nobody can read it
    return _read_session if ours else None


def _read_session(path: str | Sequence[str]) -> list[LayerTuple]:
    from stacksam.plugin.session_layers import read_session

    return read_session(path)

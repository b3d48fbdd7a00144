"""Which dimensions of an image layer are frames, channels, rows and columns: what the user chooses.

A napari layer has dimensions without meaning, unless someone named them. :func:`layer_axes` says what they
may be, :func:`default_choice` makes the most likely choice, and :class:`LayerChoice` is what the user made of
it. Colours of an RGB layer are no dimension here, as in napari.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from napari.layers import Image

from stacksam.errors import InputError
from stacksam.io._units import is_space, is_time, normalise_unit

__all__ = [
    "AxisChoice",
    "LayerChoice",
    "Layout",
    "check_layer",
    "choice_dims",
    "default_choice",
    "layer_axes",
    "level_shape",
]

Role = Literal["t", "z", "c", "y", "x", "?"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("t", "time", "times", "timepoint", "timepoints", "frame", "frames"), "t"),
    **dict.fromkeys(("z", "depth", "plane", "planes", "slice", "slices", "section", "sections"), "z"),
    **dict.fromkeys(("c", "ch", "channel", "channels", "wavelength", "lambda"), "c"),
    **dict.fromkeys(("y", "row", "rows"), "y"),
    **dict.fromkeys(("x", "column", "columns", "col"), "x"),
}
_MOST_CHANNELS = 6
"""More steps than this are not taken as channels, unless the label says so."""


@dataclass(frozen=True, slots=True)
class AxisChoice:
    """One dimension of a layer.

    Attributes
    ----------
    dim : int
        Which dimension, from 0.
    size : int
        Number of steps.
    label : str
        Its name, as the layer or the viewer tells it; empty where nobody named it.
    role : {"t", "z", "c", "y", "x", "?"}
        The best guess of what it is.
    """

    dim: int
    size: int
    label: str
    role: Role


@dataclass(frozen=True)
class LayerChoice:
    """What is to be seen of an image layer. All dimensions are counted from 0 in the layer.

    Attributes
    ----------
    frame_dim : int or None
        Dimension along which the frames lie; None for a single frame.
    kind : {"t", "z"}
        What the frames are: time points or depths.
    channel_dim : int or None
        Dimension of the channels, where there is one. Never set for RGB layers.
    channels : tuple of int
        Channels that the model sees, one to three; by default the first, or the colours.
    at : dict of int to int
        Index along each dimension that is none of the above, nor rows and columns; at `level`.
    level : int
        Resolution level of a multiscale layer; 0 is the full size.
    intensity : {"auto", "contrast"}, (low, high) or str
        Mapping to what the model sees: percentiles, the contrast limits of the layer, given values, or a
        preset (:func:`stacksam.session.presets.read_preset`).
        RGB layers have no contrast limits: there, "contrast" is "auto".
    """

    frame_dim: int | None = None
    kind: Literal["t", "z"] = "t"
    channel_dim: int | None = None
    channels: tuple[int, ...] = ()
    at: dict[int, int] = field(default_factory=dict, hash=False)
    level: int = 0
    intensity: str | tuple[float, float] = "auto"


@dataclass(frozen=True)
class Layout:
    """How frames lie in the dimensions of the layers that are made for an image.

    Attributes
    ----------
    shape : tuple of int
        Size of each dimension.
    y, x : int
        Dimensions of rows and columns; y comes first.
    frame : int or None
        Dimension of the frames; None for a single frame.
    at : dict of int to int
        The one index, along each further dimension, at which the frames lie.
    channel : int or None
        Dimension along which everything is the same.
    """

    shape: tuple[int, ...]
    y: int
    x: int
    frame: int | None = None
    at: dict[int, int] = field(default_factory=dict, hash=False)
    channel: int | None = None

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return 1 if self.frame is None else self.shape[self.frame]

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.shape[self.y], self.shape[self.x]


def check_layer(layer: Any) -> None:
    """Say what is wrong with a layer that cannot be a stack.

    Raises
    ------
    InputError
        If it is no image layer, holds other values than integers, floats or bools, or is empty.
    """
    name = getattr(layer, "name", layer)
    if not isinstance(layer, Image):
        raise InputError(f"{name!r} is a {type(layer).__name__}, not an image layer; choose an image layer")
    dtype = np.dtype(layer.dtype)
    if dtype.kind == "c":
        raise InputError(
            f"the layer {name!r} holds complex numbers ({dtype}); "
            "show their absolute value, real part or phase"
        )
    if dtype.kind not in "buif":
        raise InputError(f"the layer {name!r} holds {dtype} values; choose one of integers, floats or bools")
    # In a layer that was not drawn yet the shape is all that can be relied on.
    shape = tuple(int(size) for size in layer.data.shape)
    if layer.ndim < 2 or 0 in shape:
        raise InputError(f"the layer {name!r} has shape {shape}; choose one with pixels along y and x")


def level_shape(layer: Any, level: int) -> tuple[int, ...]:
    """Size of each dimension of a layer (colours left out) at a resolution level.

    Raises
    ------
    InputError
        If there is no such level.
    """
    if not layer.multiscale:
        if level:
            raise InputError(f"the layer {layer.name!r} has no level {level}, only 0")
        shape = layer.data.shape
    elif 0 <= level < len(layer.data):
        shape = layer.data[level].shape
    else:
        raise InputError(f"the layer {layer.name!r} has no level {level}, only 0 to {len(layer.data) - 1}")
    return tuple(int(size) for size in shape[: layer.ndim])


def choice_dims(layer: Any, choice: LayerChoice) -> tuple[int, int]:
    """Check a choice against a layer, and return the dimensions of rows and columns.

    Returns
    -------
    tuple of int
        The two dimensions that are left, in their order.

    Raises
    ------
    InputError
        If the layer cannot be a stack, or the choice does not fit it.
    """
    check_layer(layer)
    shape = level_shape(layer, choice.level)
    name = f"the layer {layer.name!r} of shape {shape}"
    if choice.kind not in ("t", "z"):
        raise InputError(f"kind is {choice.kind!r}; use 't' or 'z'")
    if layer.rgb and choice.channel_dim is not None:
        raise InputError(f"{name} holds colours; it has no dimension of channels beside them")
    special = [dim for dim in (choice.frame_dim, choice.channel_dim) if dim is not None]
    taken = [*special, *choice.at]
    if len(set(taken)) < len(taken) or not all(0 <= dim < len(shape) for dim in taken):
        raise InputError(f"{name} has dimensions 0 to {len(shape) - 1}; {choice} uses one twice, or another")
    left = [dim for dim in range(len(shape)) if dim not in taken]
    if len(left) != 2:
        raise InputError(
            f"{name} needs two dimensions for rows and columns, but {choice} leaves {left}; "
            "choose an index along each other dimension"
        )
    for dim, index in choice.at.items():
        if not 0 <= index < shape[dim]:
            raise InputError(f"index {index} is outside dimension {dim} of {name}")
    return left[0], left[1]


def layer_axes(layer: Any, viewer_axis_labels: Sequence[str] | None = None) -> tuple[AxisChoice, ...]:
    """Guess what the dimensions of an image layer are.

    Labels tell, of the layer first and then of the viewer; else units (seconds are time, micrometers depth),
    and a step that is not 1 (depth, where it is all there is to go by). The last two are rows and columns. Of
    what is not known then the first is time, the second depth; of three, the smaller of the last two is
    channels.

    Parameters
    ----------
    layer : napari.layers.Image
    viewer_axis_labels : sequence of str, optional
        ``viewer.dims.axis_labels``.

    Returns
    -------
    tuple of AxisChoice
        One for each dimension.

    Raises
    ------
    InputError
        If the layer cannot be a stack.
    """
    check_layer(layer)
    shape = level_shape(layer, 0)
    labels = _labels(layer, viewer_axis_labels)
    roles: list[Role] = []
    for label in labels:
        role = _ROLES.get(label.casefold(), "?")
        roles.append("?" if role in roles or (role == "c" and layer.rgb) else role)
    if not {"y", "x"} <= set(roles):
        roles = ["?" if role in ("y", "x") else role for role in roles]
        free = [dim for dim, role in enumerate(roles) if role == "?"]
        rows, columns = (free if len(free) >= 2 else range(layer.ndim))[-2:]
        roles[rows], roles[columns] = "y", "x"
    unknown = [dim for dim, role in enumerate(roles) if role == "?"]
    _guess_by_units(layer, roles, unknown)
    _guess_by_order(shape, roles, unknown, colours=layer.rgb)
    return tuple(
        AxisChoice(dim, size, label, role)
        for dim, (size, label, role) in enumerate(zip(shape, labels, roles, strict=True))
    )


def default_choice(
    layer: Any,
    viewer_axis_labels: Sequence[str] | None = None,
    shown: Sequence[int] | None = None,
) -> LayerChoice:
    """The most likely choice for an image layer.

    Parameters
    ----------
    layer : napari.layers.Image
    viewer_axis_labels : sequence of str, optional
        ``viewer.dims.axis_labels``.
    shown : sequence of int, optional
        Index along each dimension of the layer that is being looked at, from
        :func:`stacksam.plugin.coords.shown_index`. Dimensions that have to be fixed are fixed there; by
        default in the middle.

    Returns
    -------
    LayerChoice
        Frames along t if that has more than one step, else along z. For a single frame `frame_dim` is None
        if there is neither.

    Raises
    ------
    InputError
        If the layer cannot be a stack.
    """
    axes = layer_axes(layer, viewer_axis_labels)
    by_role = {axis.role: axis for axis in reversed(axes) if axis.role != "?"}
    candidates = [by_role[role] for role in ("t", "z") if role in by_role]
    frame = next((axis for axis in candidates if axis.size > 1), candidates[0] if candidates else None)
    channel = by_role.get("c")
    special = {axis.dim for axis in (frame, channel, by_role["y"], by_role["x"]) if axis is not None}
    steps = [size // 2 for size in level_shape(layer, 0)] if shown is None else list(shown)
    return LayerChoice(
        frame_dim=None if frame is None else frame.dim,
        kind="z" if frame is not None and frame.role == "z" else "t",
        channel_dim=None if channel is None else channel.dim,
        channels=() if channel is None else (0,),
        at={a.dim: min(max(int(steps[a.dim]), 0), a.size - 1) for a in axes if a.dim not in special},
    )


def _labels(layer: Any, viewer_axis_labels: Sequence[str] | None) -> list[str]:
    """Names of the dimensions; empty where there is but napari's default, such as "-3"."""
    labels = ["" if re.fullmatch(r"-?\d+", label) else label.strip() for label in layer.axis_labels]
    outer = list(viewer_axis_labels or ())[-layer.ndim :]  # napari aligns dimensions from the last one
    for dim, label in enumerate(outer, start=layer.ndim - len(outer)):
        labels[dim] = labels[dim] or ("" if re.fullmatch(r"-?\d+", label) else label.strip())
    return labels


def _guess_by_units(layer: Any, roles: list[Role], unknown: list[int]) -> None:
    """Dimensions counted in seconds are time, those counted in micrometers, or not in steps of 1, depth."""
    for dim in list(unknown):
        unit = normalise_unit(str(layer.units[dim]))
        role: Role = "?"
        if is_time(unit):
            role = "t"
        elif is_space(unit) or (len(unknown) == 1 and not np.isclose(abs(layer.scale[dim]), 1.0)):
            role = "z"
        if role != "?" and role not in roles:
            roles[dim] = role
            unknown.remove(dim)


def _guess_by_order(shape: tuple[int, ...], roles: list[Role], unknown: list[int], *, colours: bool) -> None:
    """What is left is time, depth and channels in the usual order."""
    if len(unknown) == 3 and "c" not in roles and not colours:
        small = min(unknown[1:], key=lambda dim: shape[dim])
        if shape[small] <= _MOST_CHANNELS:
            roles[small] = "c"
            unknown.remove(small)
    free: list[Role] = [role for role in ("t", "z") if role not in roles]
    for dim, role in zip(unknown, free, strict=False):
        roles[dim] = role

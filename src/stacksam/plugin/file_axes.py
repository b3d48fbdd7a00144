"""What a file says of an image layer that says nothing itself.

napari's own reader gives TIFF files steps of 1, in pixels, along axes without a name, also where the file
knows better. Then depth passes for time, and bodies are flat.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stacksam.errors import StackError
from stacksam.io._units import is_space, is_time, unit_symbol
from stacksam.io.images import open_image
from stacksam.plugin.choice import level_shape

__all__ = ["FileAxes", "axes_of_file", "place_like", "says_nothing"]

_FRAMES = {"t": "time points", "z": "planes"}


@dataclass(frozen=True, slots=True)
class FileAxes:
    """Axes of a file, one for each dimension of a layer.

    Attributes
    ----------
    labels : tuple of str
        ``"t"``, ``"z"``, ``"c"``, ``"y"``, ``"x"``; empty for a dimension that the file does not have.
    sizes : tuple of int
    scale : tuple of float
    units : tuple of str
        As napari takes them.
    """

    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    scale: tuple[float, ...]
    units: tuple[str, ...]

    def words(self) -> str:
        """What was read, for people; empty if that is no more than names of axes."""
        parts = []
        for label, size, step, unit in zip(self.labels, self.sizes, self.scale, self.units, strict=True):
            if label in _FRAMES and size > 1:
                each = "" if unit == "pixel" else f", {step:g} {unit_symbol(unit)} apart"
                parts.append(f"{size} {_FRAMES[label]}{each}")
            elif label == "x" and unit != "pixel":
                parts.append(f"pixels of {step:g} {unit_symbol(unit)}")
        return " · ".join(parts)

    def with_frames(self, dim: int | None, kind: str) -> FileAxes:
        """The same where the user says what the frames are; steps of another kind then mean nothing."""
        if dim is None or self.labels[dim] in ("", kind):
            return self

        def changed(values: tuple[Any, ...], value: object) -> tuple[Any, ...]:
            return (*values[:dim], value, *values[dim + 1 :])

        return replace(
            self,
            labels=changed(tuple("" if label == kind else label for label in self.labels), kind),
            scale=changed(self.scale, 1.0),
            units=changed(self.units, "pixel"),
        )

    def place(self, layer: Any) -> None:
        """Give a layer the steps, units and names of the file."""
        layer.scale = self.scale
        layer.units = self.units
        named = zip(self.labels, layer.axis_labels, strict=True)
        layer.axis_labels = tuple(label or old for label, old in named)


def says_nothing(layer: Any) -> bool:
    """Whether a layer has but napari's defaults: nobody has said where it lies, and in what units."""
    return (
        all(re.fullmatch(r"-?\d+", label) for label in layer.axis_labels)
        and all(str(unit) in ("pixel", "dimensionless") for unit in layer.units)
        and np.allclose(layer.data_to_world(np.zeros(layer.ndim)), 0.0)
        and np.allclose(layer.data_to_world(np.ones(layer.ndim)), 1.0)
    )


def axes_of_file(layer: Any) -> FileAxes | None:
    """What the file that a layer came from says of its axes.

    Parameters
    ----------
    layer : napari.layers.Image

    Returns
    -------
    FileAxes or None
        None if the layer tells by itself, came from no single file that `stacksam.open_stack` reads, or the
        file has other axes than it. Only the file's header is read.
    """
    path = layer.source.path
    if not path or not says_nothing(layer):
        return None
    try:
        with open_image(path) as image:
            sizes, scale, units = image.sizes, image.scale, image.units
            axes = [axis for axis in image.axes if not (image.rgb and axis == "c")]
    except StackError:
        return None  # of a format that napari reads by other means, or gone
    shape = level_shape(layer, 0)
    own = [dim for dim, size in enumerate(shape) if size > 1]
    long = [axis for axis in axes if sizes[axis] > 1]
    # Readers drop or add dimensions of size 1.
    if [sizes[axis] for axis in long] != [shape[dim] for dim in own] or long[-2:] != ["y", "x"]:
        return None
    outer = [sizes[axis] for axis in long[:-2]]
    if len(set(outer)) < len(outer):
        return None  # which is which depends on the order, in which readers differ
    found = dict(zip(own, long, strict=True))

    def unit(axis: str) -> str:
        name = units.get(axis)
        return name if name and (is_time(name) if axis == "t" else is_space(name)) else "pixel"

    dims = range(len(shape))
    return FileAxes(
        labels=tuple(found.get(dim, "") for dim in dims),
        sizes=shape,
        scale=tuple(scale.get(found[dim], 1.0) if dim in found else 1.0 for dim in dims),
        units=tuple(unit(found[dim]) if dim in found else "pixel" for dim in dims),
    )


def place_like(layer: Any, image: Any) -> bool:
    """Put a layer where an image of its shape lies, if nobody has said where it lies; whether that was done.

    Labels of an image, which few programs write with units, so stay on it.
    """
    if layer is image or says_nothing(image) or not says_nothing(layer):
        return False
    if tuple(layer.data.shape) != level_shape(image, 0):
        return False
    layer.scale, layer.translate, layer.affine = image.scale, image.translate, image.affine
    layer.units, layer.axis_labels = image.units, image.axis_labels
    return True

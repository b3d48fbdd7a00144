"""From an image layer to a stack.

Where the layer came from a file that the package reads itself, and what that gives is the same, the stack is
opened from the file, so that a saved session can be replayed without a window. Else it reads from the layer's
own array, frame by frame, and ``stack.opened`` is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import StackError
from stacksam.io._lazy import LazyImage, _full_key, lazy_image
from stacksam.io.images import open_image
from stacksam.plugin.choice import AxisChoice, LayerChoice, default_choice, layer_axes
from stacksam.plugin.coords import Placement
from stacksam.session.presets import read_preset
from stacksam.session.stack import Stack, open_stack

__all__ = ["AxisChoice", "LayerChoice", "default_choice", "layer_axes", "opener_of", "stack_of"]

_SAME_SPACING = 0.02
"""Steps are taken as those of the file up to this share: levels are not of exactly half the size."""


def stack_of(layer: Any, choice: LayerChoice) -> Stack:
    """Open what was chosen of an image layer.

    Parameters
    ----------
    layer : napari.layers.Image
    choice : LayerChoice

    Returns
    -------
    Stack
        Its ``opened`` is empty if it reads from the layer's array, else it says how it was opened from the
        file. Reads a few frames for the intensity mapping and to compare, never all.

    Raises
    ------
    InputError
        If the layer cannot be a stack, or the choice does not fit it.
    StackError
        If it cannot be read, or is NaN throughout.
    """
    return opener_of(layer, choice)()


def opener_of(layer: Any, choice: LayerChoice) -> Callable[[], Stack]:
    """What :func:`stack_of` does, in two steps.

    All that has to be asked of the layer is asked at once, on the main thread; what is returned reads pixels
    and may be called on any other.

    Raises
    ------
    InputError
        If the layer cannot be a stack, or the choice does not fit it. The rest is raised by the opener.
    """
    opening = _read_layer(layer, choice)

    def opened() -> Stack:
        found = _in_file(opening)
        if found is not None:
            return found
        return open_stack(
            opening.image,
            frame_axis=opening.frame_axis,
            at=opening.at,
            channels=opening.channels,
            intensity=opening.intensity,
            spacing=opening.spacing if opening.told else None,
            units=opening.units if opening.told else None,
        )

    return opened


@dataclass(frozen=True, eq=False)
class _Opening:
    """What is known of a layer and a choice, for :func:`stacksam.open_stack`."""

    image: LazyImage
    kind: str
    frame_axis: str | None  # None without a dimension of frames
    at: dict[str, int]
    channels: tuple[int, ...] | None
    intensity: tuple[float, float] | str | None
    spacing: dict[str, float]
    units: dict[str, str | None]
    told: bool  # whether spacing and units are more than napari's defaults
    path: str | list[str] | None  # where the pixels may lie in a file
    level: int


def _source_of(layer: Any) -> str | list[str] | None:
    """Where the layer's pixels may lie: a session's layers and samples say so themselves."""
    source: str | list[str] | None = layer.metadata.get("stacksam", {}).get("source") or layer.source.path
    return source


def _read_layer(layer: Any, choice: LayerChoice) -> _Opening:
    placement = Placement(layer, choice)
    name = f"the layer {layer.name!r}"
    data = layer.data[choice.level] if layer.multiscale else layer.data
    # A stack knows one further axis, t or z; where there are more, all but one are fixed here.
    other = "z" if choice.kind == "t" else "t"
    named = next((dim for dim in sorted(choice.at) if data.shape[dim] > 1), None)
    if choice.frame_dim is None:
        named = None
    fixed = {dim: index for dim, index in choice.at.items() if dim != named}
    letters = {choice.frame_dim: choice.kind, choice.channel_dim: "c", named: other}
    rows_columns = iter("yx")
    axes = "".join(
        letters.get(dim) or next(rows_columns) for dim in range(layer.ndim) if dim not in fixed
    ) + ("s" if layer.rgb else "")
    image = lazy_image(
        _LayerArray(data, np.dtype(layer.dtype), fixed), axes, name=layer.name, source=name, rgb=layer.rgb
    )
    intensity = choice.intensity
    pair: tuple[float, float] | str | None
    if intensity == "auto" or (intensity == "contrast" and layer.rgb):
        pair = None
    elif intensity == "contrast":
        pair = (float(layer.contrast_limits[0]), float(layer.contrast_limits[1]))
    elif isinstance(intensity, str):
        pair = read_preset(intensity).name
    else:
        pair = (float(intensity[0]), float(intensity[1]))
    keys = (choice.kind, "y", "x")
    spacing = dict(zip(keys, placement.spacing, strict=True))
    units = dict(zip(keys, placement.units, strict=True))
    return _Opening(
        image=image,
        kind=choice.kind,
        frame_axis=None if choice.frame_dim is None else choice.kind,
        at={} if named is None else {other: int(choice.at[named])},
        channels=choice.channels or None,
        intensity=pair,
        spacing=spacing,
        units=units,
        told=any(units.values()) or not np.allclose(np.abs(layer.scale), 1.0),
        path=None if fixed and any(data.shape[dim] > 1 for dim in fixed) else _source_of(layer),
        level=choice.level,
    )


class _LayerArray:
    """The array of a layer, at one index of some dimensions; only what is asked for is read."""

    def __init__(self, data: Any, dtype: np.dtype[Any], fixed: dict[int, int]) -> None:
        self._data = data
        self._fixed = fixed
        shape = tuple(int(size) for size in data.shape)
        self.shape = tuple(size for dim, size in enumerate(shape) if dim not in fixed)
        self.dtype = dtype
        self._ndim = len(shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = iter(_full_key(key, self.shape))
        full = tuple(self._fixed[dim] if dim in self._fixed else next(keys) for dim in range(self._ndim))
        return np.asarray(self._data[full])


def _in_file(opening: _Opening) -> Stack | None:
    """The stack from the file that the layer came from; None if it is not to be found there."""
    if opening.path is None:
        return None
    try:
        with open_image(opening.path, level=opening.level) as image:
            axes = image.axes
    except StackError:
        return None  # of a format that napari reads by other means, or gone
    # A file may call depth what is time to the user, and know it no better.
    swapped = axes.translate(str.maketrans("tz", "zt"))
    for given in (None, swapped) if swapped != axes else (None,):
        try:
            with open_image(opening.path, level=opening.level, axes=given) as image:
                channels = _channels_in(image, opening)
                if channels is None:
                    continue
                known = _spacing_known(image, opening)
            return open_stack(
                opening.path,
                frame_axis=opening.frame_axis if opening.kind in image.axes else None,
                at={axis: index for axis, index in opening.at.items() if axis in image.axes},
                channels=channels or None,
                intensity=opening.intensity,
                axes=given,
                spacing=None if known else opening.spacing,
                units=None if known else opening.units,
                level=opening.level,
            )
        except StackError:
            continue  # axes that do not fit the file, or pixels that cannot be read from it
    return None


def _channels_in(image: LazyImage, opening: _Opening) -> tuple[int, ...] | None:
    """Channels of a file that are those of the layer; None if it holds something else."""
    sizes, wanted = image.sizes, opening.image.sizes
    same = all(sizes.get(axis, 1) == wanted.get(axis, 1) for axis in "tzyx")
    same = same and (opening.kind in sizes or not opening.at)  # else the other axis would be that of frames
    if not same or image.dtype != opening.image.dtype or image.rgb != opening.image.rgb:
        return None
    if sizes.get("c", 1) == wanted.get("c", 1):
        return (opening.channels or ()) if _equal(image, opening, None) else None
    if "c" in wanted:
        return None
    # Readers make a layer of each channel; which one it is only the pixels tell.
    found = [channel for channel in range(sizes["c"]) if _equal(image, opening, channel)]
    return (found[0],) if len(found) == 1 else None


def _equal(image: LazyImage, opening: _Opening, channel: int | None) -> bool:
    """Whether the first and the last frame are the same in a file and in the layer."""
    last = opening.image.sizes.get(opening.kind, 1) - 1

    def plane(one: LazyImage, frame: int, channel: int | None) -> NDArray[Any]:
        key = {"t": 0, "z": 0, **opening.at, opening.kind: frame}
        if channel is not None or one.sizes.get("c") == 1:
            key["c"] = channel or 0
        return one.read(**{axis: index for axis, index in key.items() if axis in one.axes})

    return all(
        np.array_equal(
            plane(image, frame, channel),
            plane(opening.image, frame, None),
            equal_nan=image.dtype.kind == "f",
        )
        for frame in sorted({0, last})
    )


def _spacing_known(image: LazyImage, opening: _Opening) -> bool:
    """Whether the file tells as much of spacing and units as the layer."""
    if not opening.told:
        return True
    close = all(
        np.isclose(image.scale.get(axis, 1.0), step, rtol=_SAME_SPACING)
        for axis, step in opening.spacing.items()
    )
    return close and not any(opening.units.values())

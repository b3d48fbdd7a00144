"""Where things lie: the only module that knows world coordinates.

Four systems meet here. The *world* is the viewer's: what the cursor and the sliders say, in the viewer's
units, with as many dimensions as the largest layer. The *image layer* has data coordinates of its own, at
full resolution. The *frame* has ``(frame, y, x)`` in pixels of the chosen level: what sessions speak. And the
*layers made for an image* (points, boxes, labels, tracks) have data coordinates whose dimensions
:class:`~stacksam.plugin.choice.Layout` describes; :meth:`Placement.layer_kwargs` puts them where the image
is.

napari aligns layers by their last dimensions. A channel dimension that comes first is therefore left out of
the layers made for an image; one further in has to stay, and what they show is the same on all channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.utils.transforms import Affine
from numpy.typing import ArrayLike, NDArray

from stacksam.errors import InputError
from stacksam.io._units import is_time, normalise_unit
from stacksam.plugin.choice import LayerChoice, Layout, choice_dims, level_shape

__all__ = ["Layout", "Placement", "shown_index"]


class Placement:
    """Conversions between the world, an image layer, its frames, and the layers made for it.

    Nothing is kept but what was chosen: a layer that is moved or scaled is followed. For the main thread.

    Parameters
    ----------
    layer : napari.layers.Image
    choice : LayerChoice

    Attributes
    ----------
    layer, choice
        As given.
    layout : Layout
        Of the layers made for the image, at the chosen level.

    Raises
    ------
    InputError
        If the layer cannot be a stack, or the choice does not fit it.

    Notes
    -----
    `units` below are those of a position in the world, ``viewer.dims.units``: where layers differ in them,
    the viewer's are not the layer's. None stands for the layer's own. Where one is of another kind, such as
    seconds for a layer in micrometers, its numbers are taken as they are, as napari draws them.

    Pixels of a coarser level cover those of the full size, as napari draws them: the first one at level 1 has
    its centre at 0.5, not at 0.
    """

    def __init__(self, layer: Any, choice: LayerChoice) -> None:
        self._y, self._x = choice_dims(layer, choice)
        self.layer = layer
        self.choice = choice
        shape = level_shape(layer, choice.level)
        full = level_shape(layer, 0)
        # The size of a pixel of the level, in pixels of the full size.
        self._factors = np.divide(full, shape)
        self._dims = [dim for dim in range(layer.ndim) if not (dim == 0 == choice.channel_dim)]
        new = {dim: number for number, dim in enumerate(self._dims)}
        self.layout = Layout(
            shape=tuple(shape[dim] for dim in self._dims),
            y=new[self._y],
            x=new[self._x],
            frame=None if choice.frame_dim is None else new[choice.frame_dim],
            at={new[dim]: int(index) for dim, index in choice.at.items()},
            channel=None if choice.channel_dim is None else new.get(choice.channel_dim),
        )

    # World and frame

    def to_world(
        self, frame: int, y: float, x: float, units: Sequence[Any] | None = None
    ) -> NDArray[np.float64]:
        """Position in the world of a place on a frame.

        Parameters
        ----------
        frame : int
        y, x : float
            In pixels.
        units : sequence of pint.Unit, optional
            Those wanted.

        Returns
        -------
        (layer.ndim,) array
            Along the last dimensions of the world.
        """
        full = np.zeros(self.layer.ndim)
        full[self._dims] = self.to_data(frame, y, x)
        full = (full + 0.5) * self._factors - 0.5
        return np.asarray(self.layer.data_to_world(tuple(full))) / _unit_factors(self.layer, units)

    def frame_of(self, point: ArrayLike, units: Sequence[Any] | None = None) -> int | None:
        """Frame at which the sliders stand.

        Parameters
        ----------
        point : (N,) array
            ``viewer.dims.point``.
        units : sequence of pint.Unit, optional

        Returns
        -------
        int or None
            None if the sliders have left the stack. Other dimensions do not matter.
        """
        if self.choice.frame_dim is None:
            return 0
        frame = _nearest(self._at_level(point, units)[self.choice.frame_dim])
        return frame if 0 <= frame < self.layout.n_frames else None

    def nearest_frame(self, point: ArrayLike, units: Sequence[Any] | None = None) -> int:
        """The frame of the stack that is nearest to where the sliders stand.

        Parameters
        ----------
        point : (N,) array
            ``viewer.dims.point``.
        units : sequence of pint.Unit, optional
        """
        if self.choice.frame_dim is None:
            return 0
        frame = _nearest(self._at_level(point, units)[self.choice.frame_dim])
        return min(max(frame, 0), self.layout.n_frames - 1)

    def steps_of(
        self, frame: int, viewer_ndim: int | None = None, units: Sequence[Any] | None = None
    ) -> dict[int, float]:
        """Where the sliders have to stand to see a frame.

        Parameters
        ----------
        frame : int
        viewer_ndim : int, optional
            ``viewer.dims.ndim``; by default that of the layer.
        units : sequence of pint.Unit, optional

        Returns
        -------
        dict of int to float
            World coordinate by dimension of the viewer: of the frame, and of the indices that were chosen
            along other dimensions. For ``viewer.dims.set_point(list(steps), list(steps.values()))``.
        """
        height, width = self.layout.frame_shape
        world = self.to_world(frame, (height - 1) / 2, (width - 1) / 2, units)
        offset = (viewer_ndim or self.layer.ndim) - self.layer.ndim
        own = [dim for dim in (self.choice.frame_dim, *sorted(self.choice.at)) if dim is not None]
        return {dim + offset: float(world[dim]) for dim in own}

    # Frame and layers made for the image

    def to_data(self, frame: ArrayLike, y: ArrayLike, x: ArrayLike, channel: int = 0) -> NDArray[np.float64]:
        """Data coordinates, in a layer made for the image, of places on frames.

        Parameters
        ----------
        frame, y, x : float or array
            Of one shape, or shapes that broadcast.
        channel : int
            Where the layer has a channel dimension: the one to put them on.

        Returns
        -------
        (..., layout.ndim) array
        """
        layout = self.layout
        frame, y, x = np.broadcast_arrays(frame, y, x)
        data = np.zeros((*y.shape, layout.ndim))
        data[..., layout.y], data[..., layout.x] = y, x
        if layout.frame is not None:
            data[..., layout.frame] = frame
        for dim, index in layout.at.items():
            data[..., dim] = index
        if layout.channel is not None:
            data[..., layout.channel] = channel
        return data

    def from_data(self, data: ArrayLike) -> tuple[int, float, float] | None:
        """Frame and place of a point of a layer made for the image.

        Parameters
        ----------
        data : (layout.ndim,) array
            Data coordinates.

        Returns
        -------
        tuple of (int, float, float), or None
            ``(frame, y, x)`` in pixels; None where that is outside the image, or at another index than the
            chosen one along one of the other dimensions.

        Raises
        ------
        InputError
            If `data` has another number of coordinates.
        """
        layout = self.layout
        point = np.asarray(data, np.float64)
        if point.shape != (layout.ndim,):
            raise InputError(f"a point has shape {point.shape}; it has {layout.ndim} coordinates here")
        if not np.isfinite(point).all():
            return None
        frame = 0 if layout.frame is None else _nearest(point[layout.frame])
        fixed = all(_nearest(point[dim]) == index for dim, index in layout.at.items())
        height, width = layout.frame_shape
        y, x = float(point[layout.y]), float(point[layout.x])
        inside = -0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5
        return (frame, y, x) if fixed and inside and 0 <= frame < layout.n_frames else None

    def layer_kwargs(self) -> dict[str, Any]:
        """Arguments that put a new layer where the image is; also to be set on it when the image moves.

        Returns
        -------
        dict
            ``scale``, ``translate``, ``rotate``, ``shear``, ``affine``, ``units``, ``axis_labels``, all for
            :attr:`layout`. The parts are those of the image; only if they cannot be taken apart without the
            channels does ``affine`` hold all of the transform.
        """
        dims, factors = self._dims, self._factors[self._dims]
        world, offset = _matrix(self.layer)
        linear = world[np.ix_(dims, dims)]
        wanted = np.eye(len(dims) + 1)
        wanted[:-1, :-1] = linear * factors
        wanted[:-1, -1] = offset[dims] + linear @ ((factors - 1) / 2)

        parts = self._parts()
        made = (
            np.asarray(parts["affine"])
            @ Affine(
                **{name: parts[name] for name in ("scale", "translate", "rotate", "shear")}
            ).affine_matrix
        )
        if not np.allclose(made, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max()):
            size = len(dims)
            parts = {
                "scale": np.ones(size),
                "translate": np.zeros(size),
                "rotate": np.eye(size),
                "shear": np.eye(size),
                "affine": wanted,
            }
        names = {
            name: tuple(getattr(self.layer, name)[dim] for dim in dims) for name in ("units", "axis_labels")
        }
        return parts | names

    def _parts(self) -> dict[str, NDArray[np.float64]]:
        """The transform of the image in napari's parts, of the dimensions in use and at the level."""
        layer, dims = self.layer, self._dims
        within = np.ix_(dims, dims)
        affine = np.asarray(layer.affine)
        physical = np.linalg.inv(affine[:-1, :-1]) @ _matrix(layer)[0]
        # napari gives shear as a vector or a matrix, by its kind; this is the matrix in any case.
        shear = np.asarray(layer.rotate).T @ physical / np.asarray(layer.scale)
        shear[np.abs(shear) < 1e-12] = 0.0
        kept = [*dims, layer.ndim]
        factors = self._factors[dims]
        return {
            "scale": np.asarray(layer.scale)[dims] * factors,
            "translate": np.asarray(layer.translate)[dims] + physical[within] @ ((factors - 1) / 2),
            "rotate": np.asarray(layer.rotate)[within],
            "shear": shear[within],
            "affine": affine[np.ix_(kept, kept)],
        }

    # What the stack has to know

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a step between frames, along y and along x, in the layer's units."""
        steps = np.linalg.norm(_matrix(self.layer)[0], axis=0) * self._factors
        dim = self.choice.frame_dim
        return (1.0 if dim is None else float(steps[dim])), float(steps[self._y]), float(steps[self._x])

    @property
    def units(self) -> tuple[str | None, str | None, str | None]:
        """Units of :attr:`spacing` by long name; None for pixels and frames, and where they make no sense."""

        def name(dim: int | None, time: bool) -> str | None:
            text = None if dim is None else str(self.layer.units[dim])
            unit = None if text == "dimensionless" else normalise_unit(text)
            return unit if unit is None or is_time(unit) == time else None

        return (
            name(self.choice.frame_dim, self.choice.kind == "t"),
            name(self._y, False),
            name(self._x, False),
        )

    @property
    def tilted(self) -> bool:
        """Whether frames do not lie in the planes that the sliders cut; napari shows them approximately."""
        inverse = np.linalg.inv(_matrix(self.layer)[0])
        plane = [self._y, self._x]
        other = [dim for dim in range(self.layer.ndim) if dim not in plane]
        size = np.abs(inverse).max()
        return bool(np.abs(inverse[np.ix_(other, plane)]).max(initial=0.0) > 1e-8 * size) or bool(
            np.abs(inverse[np.ix_(plane, other)]).max(initial=0.0) > 1e-8 * size
        )

    def _at_level(self, position: ArrayLike, units: Sequence[Any] | None) -> NDArray[np.float64]:
        """Data coordinates in the image layer, all dimensions, in pixels of the chosen level."""
        full = _layer_point(self.layer, position, units)
        return (full + 0.5) / self._factors - 0.5


def shown_index(layer: Any, point: ArrayLike, units: Sequence[Any] | None = None) -> tuple[int, ...]:
    """Index along each dimension of a layer at which the sliders stand.

    Parameters
    ----------
    layer : napari.layers.Image
    point : (N,) array
        ``viewer.dims.point``.
    units : sequence of pint.Unit, optional
        ``viewer.dims.units``.

    Returns
    -------
    tuple of int
        At full resolution; may lie outside the layer.
    """
    return tuple(_nearest(value) for value in _layer_point(layer, point, units))


def _layer_point(layer: Any, position: ArrayLike, units: Sequence[Any] | None) -> NDArray[np.float64]:
    """Data coordinates in a layer of a position in the world."""
    world = np.asarray(position, np.float64)
    if world.ndim != 1 or len(world) < layer.ndim:
        raise InputError(
            f"a position of shape {world.shape} is none in the world of {layer.name!r}, which has "
            f"{layer.ndim} dimensions"
        )
    return np.asarray(layer.world_to_data(world[-layer.ndim :] * _unit_factors(layer, units)))


def _unit_factors(layer: Any, units: Sequence[Any] | None) -> NDArray[np.float64]:
    """What a number in the viewer's units has to be multiplied with to be in those of the layer."""
    if units is None or len(units) < layer.ndim:
        return np.ones(layer.ndim)
    pairs = zip(tuple(units)[-layer.ndim :], layer.units, strict=True)
    return np.array(
        [
            # Units of two kinds meet while layers come and go.
            1.0 if world == own or not world.is_compatible_with(own) else (1.0 * world).to(own).magnitude
            for world, own in pairs
        ]
    )


def _matrix(layer: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The transform from data to world as a matrix and an offset."""
    offset = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    columns = [np.asarray(layer.data_to_world(unit)) - offset for unit in np.eye(layer.ndim)]
    return np.stack(columns, axis=1), offset


def _nearest(value: float) -> int:
    return int(np.floor(value + 0.5))

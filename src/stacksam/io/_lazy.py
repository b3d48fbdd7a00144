"""An image that is read only where it is asked for, with its axes in one order.

Readers hand over any array-like (zarr array, memory map, dask array, page reader); :func:`lazy_image`
checks it and puts a view before it that shows the axes in the order t, z, c, y, x.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, StackError
from stacksam.io._affine import checked_affine

AXES = "tzcyx"
# Letters of tifffile and habits of people; q and i are sequences of unknown meaning.
_ALIASES = {"s": "c", "q": "t", "i": "t"}

READ_ERRORS = (
    OSError,
    ValueError,
    AttributeError,  # on metadata of another shape than the format has
    LookupError,
    RuntimeError,
    TypeError,
    NotImplementedError,
    EOFError,
    SyntaxError,  # what Pillow raises on a broken PNG
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What the libraries below raise on files that are damaged or of a kind they do not know."""


class EmptyImageError(StackError):
    """An image that has no frame, or none yet."""


class ArrayLike(Protocol):
    """What a reader must offer: shape, dtype, and basic slicing that reads only what is asked."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


class AxesView:
    """A lazy view of `base`, whose dimensions are `axes`, in the order `wanted`; it grows with `base`.

    Dimensions that are not wanted have size 1 and are dropped. Slicing returns numpy arrays in the
    machine's own byte order.
    """

    def __init__(self, base: ArrayLike, axes: str, wanted: str) -> None:
        self.base, self.axes, self.wanted = base, axes, wanted
        self.dtype = np.dtype(base.dtype).newbyteorder("=")

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each wanted dimension."""
        sizes = dict(zip(self.axes, self.base.shape, strict=True))
        return tuple(int(sizes[axis]) for axis in self.wanted)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.wanted)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        by_axis = dict(zip(self.wanted, _full_key(key, self.shape), strict=True))
        part = np.asarray(self.base[tuple(by_axis.get(axis, 0) for axis in self.axes)])
        left = [axis for axis in self.axes if isinstance(by_axis.get(axis, 0), slice)]
        order = [left.index(axis) for axis in self.wanted if axis in left]
        return part.transpose(order).astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self[...]
        return whole if dtype is None else whole.astype(dtype)

    def close(self) -> None:
        """Close the file below, if there is one."""
        close = getattr(self.base, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True, eq=False)
class LazyImage:
    """An image with named axes, not yet read.

    Attributes
    ----------
    data : array-like
        Has ``shape``, ``dtype`` and basic slicing, which reads only what is asked.
    axes : str
        One letter a dimension, in the order t, z, c, y, x; y and x are always there. Colours are on c.
    scale : dict of str to float
        Size of a step along each axis; 1.0 where the file does not tell.
    units : dict of str to (str or None)
        Unit of each scale, by its long name (``"micrometer"``); None for pixels or frames.
    name, source : str
        Short name, and where the image came from.
    rgb : bool
        Whether c holds red, green, blue (and alpha).
    affine : (4, 4) float64 array, optional
        Takes ``(z, y, x, 1)`` of our voxels to right, anterior, superior in mm; see `stacksam.io._affine`.
        None where the file does not tell where in the body it lies.
    coarser : tuple of (int, LazyImage)
        The same image with fewer rows and columns, where the file has it: by which factor, and what is left.
        Factors are powers of two, in order.
    """

    data: ArrayLike
    axes: str
    scale: dict[str, float] = field(default_factory=dict)
    units: dict[str, str | None] = field(default_factory=dict)
    name: str = "image"
    source: str = "array"
    rgb: bool = False
    affine: NDArray[np.float64] | None = None
    coarser: tuple[tuple[int, LazyImage], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        return tuple(int(size) for size in self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each axis, by its letter."""
        return dict(zip(self.axes, self.shape, strict=True))

    def read(self, **index: int | slice) -> NDArray[Any]:
        """Read a part: an index or a slice for some axes, all of the others.

        Parameters
        ----------
        **index : int or slice
            By axis letter, as in ``image.read(t=3, c=0)``.

        Returns
        -------
        ndarray
            Axes given by an int are gone, the others in the order of `axes`. Not to be written to.

        Raises
        ------
        InputError
            If there is no such axis or index.
        StackError
            If the file is damaged or gone.
        """
        for axis, at in index.items():
            if axis not in self.axes:
                raise InputError(f"{self.name} has no axis {axis!r}; its axes are {self.axes!r}")
            if not isinstance(at, slice) and not -self.sizes[axis] <= at < self.sizes[axis]:
                raise InputError(
                    f"{self.name} has {self.sizes[axis]} steps along {axis}; there is no index {at}"
                )
        key = tuple(index.get(axis, slice(None)) for axis in self.axes)
        try:
            return np.asarray(self.data[key])
        except StackError:
            raise
        except READ_ERRORS as error:
            at_text = ", ".join(f"{axis}={at}" for axis, at in index.items())
            raise StackError(
                f"cannot read {at_text or 'the data'} of {self.source}: {_told(error)}"
            ) from error

    def shrunk(self, *places: int) -> tuple[int, LazyImage]:
        """The coarsest level that has pixels at all these rows and columns, and its factor."""
        step = math.gcd(*places)
        fitting = [(factor, image) for factor, image in self.coarser if step % factor == 0]
        return fitting[-1] if fitting else (1, self)

    def close(self) -> None:
        """Close the file; it is also closed when nothing refers to the image any more."""
        close = getattr(self.data, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lazy_image(
    data: ArrayLike,
    axes: str,
    *,
    scale: Mapping[str, float] | None = None,
    units: Mapping[str, str | None] | None = None,
    name: str = "image",
    source: str = "array",
    rgb: bool = False,
    affine: Any = None,
) -> LazyImage:
    """Check an array and name its axes.

    Parameters
    ----------
    data : array-like
        See :class:`ArrayLike`.
    axes : str
        One letter a dimension of `data`, in any order and case: t, z, c, y, x, or s for colour samples, or
        q or i for a sequence, which is taken as t. Any other axis must have size 1 and is dropped.
    scale, units : mapping, optional
        By axis letter; values that are not positive and finite are taken as unknown.
    name, source : str
        Short name, and where the data came from.
    rgb : bool
        Whether c holds colours.
    affine : (4, 4) array-like, optional
        Of (z, y, x, 1), to RAS+ mm.

    Raises
    ------
    StackError
        If the axes do not fit, one has size zero, the values are no plain numbers, or the affine is singular.
    """
    shape = tuple(int(size) for size in data.shape)
    dtype = np.dtype(data.dtype)
    _check_values(shape, dtype, source)
    axes = _resolve_axes(axes, shape, source)
    wanted = "".join(axis for axis in AXES if axis in axes)
    scale, units = scale or {}, units or {}
    known = {axis: s for axis, s in scale.items() if math.isfinite(s) and s > 0}
    view = data if axes == wanted and dtype.isnative else AxesView(data, axes, wanted)
    return LazyImage(
        data=view,
        axes=wanted,
        scale={axis: float(known.get(axis, 1.0)) for axis in wanted},
        units={axis: units.get(axis) if axis in known else None for axis in wanted},
        name=name,
        source=source,
        rgb=rgb and "c" in wanted and dict(zip(axes, shape, strict=True))["c"] in (3, 4),
        affine=None if affine is None else checked_affine(affine, source),
    )


def guess_axes(shape: tuple[int, ...], dtype: np.dtype[Any], source: str) -> str:
    """Axes of a bare array: ``yx``, ``tyx`` or ``tzyx``; bytes with 3 or 4 on the last axis are colours."""
    colours = dtype == np.uint8 and len(shape) in (3, 4) and shape[-1] in (3, 4)
    if colours:
        return "yxs" if len(shape) == 3 else "tyxs"
    if len(shape) in (2, 3, 4):
        return {2: "yx", 3: "tyx", 4: "tzyx"}[len(shape)]
    raise StackError(
        f"{source} has {len(shape)} dimensions {shape} without names; say what they are, such as "
        f"axes={AXES!r}"
    )


def _check_values(shape: tuple[int, ...], dtype: np.dtype[Any], source: str) -> None:
    if dtype.kind == "c":
        raise StackError(
            f"{source} holds complex numbers ({dtype}); give their absolute value, real part or phase"
        )
    if dtype.kind not in "buif":
        raise StackError(f"{source} holds {dtype} values; a stack holds integers, floats or bools")
    if len(shape) < 2:
        raise StackError(f"{source} has shape {shape}; a stack needs at least the axes y and x")
    if 0 in shape:
        raise EmptyImageError(f"{source} is empty: its shape is {shape}")


def _resolve_axes(axes: str, shape: tuple[int, ...], source: str) -> str:
    """Lower-case letters with aliases put in place; axes of size 1 that are to be dropped become digits."""
    if len(axes) != len(shape):
        raise StackError(f"axes {axes!r} do not fit {source}: its shape {shape} has {len(shape)} dimensions")
    how = f"name them with axes=, with letters of {AXES!r} (and s for colours)"
    meant = [_ALIASES.get(letter, letter) for letter in axes.lower()]
    resolved = [chr(ord("0") + number) for number in range(len(axes))]
    for axis, size in zip(meant, shape, strict=True):
        if axis not in AXES and size > 1:
            raise StackError(f"{source} has an axis {axis!r} of size {size}, which is not known; {how}")
    for axis in AXES:
        same = [number for number, other in enumerate(meant) if other == axis]
        # A channel axis of size 1 beside colour samples, a sequence beside one time point: the larger counts.
        if sum(shape[number] > 1 for number in same) > 1:
            raise StackError(f"{source} has two axes for {axis!r} ({axes!r}, shape {shape}); {how}")
        if same:
            resolved[max(same, key=lambda number: shape[number])] = axis
        elif axis in "yx":
            raise StackError(f"{source} has axes {axes!r} and shape {shape}: {axis} is missing; {how}")
    return "".join(resolved)


def _full_key(key: Any, shape: tuple[int, ...]) -> list[int | slice]:
    """One int (not negative) or slice for each axis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(k is Ellipsis for k in keys):
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    keys += [slice(None)] * (len(shape) - len(keys))
    if len(keys) != len(shape):
        raise IndexError(f"{len(keys)} indices for {len(shape)} axes")
    full: list[int | slice] = []
    for k, size in zip(keys, shape, strict=True):
        if isinstance(k, slice):
            full.append(k)
            continue
        at = int(k)
        if not -size <= at < size:
            raise IndexError(f"index {at} is outside 0 to {size - 1}")
        full.append(at % size)
    return full


def _told(error: BaseException) -> str:
    """What an error says, on one line."""
    text = " ".join(str(error).split())
    return text or type(error).__name__

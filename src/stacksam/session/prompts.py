"""Prompts: what a person says about one object on one frame.

Coordinates are ``(y, x)`` in frame pixels, pixel centres at integers.
"""

from __future__ import annotations

import base64
import math
import operator
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, SessionFileError
from stacksam.session.boxes import BBox, bbox_of

__all__ = [
    "Box",
    "Mask",
    "Point",
    "Prompt",
    "check_frame",
    "check_integer",
    "check_mask",
    "check_name",
    "check_object_id",
    "check_prompt",
    "check_several",
    "compact",
    "mask_within",
    "prompt_from_json",
    "prompt_to_json",
]

LARGEST_ID = 2**31 - 1  # label frames are int32
LONGEST_NAME = 80
_LARGE = 2**24  # pixels of a frame, above which masks are written down in their bounding box


@dataclass(frozen=True, slots=True)
class Point:
    """A click on an object, or on what does not belong to it.

    Attributes
    ----------
    frame : int
        Frame of the stack, from 0.
    object_id : int
        Label value of the object, from 1.
    yx : tuple of float
        Place ``(y, x)`` in frame pixels.
    positive : bool
        False says that this place is not part of the object.
    """

    frame: int
    object_id: int
    yx: tuple[float, float]
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle around an object.

    Attributes
    ----------
    frame, object_id : int
    yxyx : tuple of float
        ``(y0, x0, y1, x1)``: the centres of the first and the last pixel inside, with y0 < y1 and x0 < x1.
    """

    frame: int
    object_id: int
    yxyx: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The whole object, painted. It is taken as it is, and replaces all other prompts of its frame.

    Attributes
    ----------
    frame, object_id : int
    mask : (H, W) bool
    """

    frame: int
    object_id: int
    mask: NDArray[np.bool_]

    def __eq__(self, other: object) -> bool:
        """Equal place and equal pixels."""
        if not isinstance(other, Mask):
            return NotImplemented
        return (self.frame, self.object_id) == (other.frame, other.object_id) and np.array_equal(
            self.mask, other.mask
        )

    def __hash__(self) -> int:
        return hash((self.frame, self.object_id, self.mask.shape))

    @property
    def bbox(self) -> BBox:
        """Half-open bounding box of the mask."""
        return bbox_of(self.mask)

    @property
    def painted(self) -> NDArray[np.bool_]:
        """The mask in its bounding box."""
        y0, x0, y1, x1 = self.bbox
        return self.mask[y0:y1, x0:x1]

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of the whole mask."""
        return self.mask.shape


Prompt: TypeAlias = Point | Box | Mask


class _Part(Mask):
    """A mask of which only its bounding box is held: hundreds of frames would fill the memory."""

    __slots__ = ("_box", "_painted", "_shape")
    _box: BBox
    _painted: NDArray[np.bool_]
    _shape: tuple[int, ...]

    def __init__(self, frame: int, object_id: int, mask: NDArray[np.bool_]) -> None:
        y0, x0, y1, x1 = box = bbox_of(mask)
        self._set(frame, object_id, box, mask[y0:y1, x0:x1].copy(), mask.shape)

    @classmethod
    def cut(
        cls, frame: int, object_id: int, box: BBox, painted: NDArray[np.bool_], shape: tuple[int, ...]
    ) -> _Part:
        """From a mask in its bounding box."""
        part: _Part = object.__new__(cls)
        part._set(frame, object_id, box, painted, shape)
        return part

    def _set(
        self, frame: int, object_id: int, box: BBox, painted: NDArray[np.bool_], shape: tuple[int, ...]
    ) -> None:
        own = object.__setattr__  # as dataclasses do that are frozen
        own(self, "frame", frame)
        own(self, "object_id", object_id)
        own(self, "_box", box)
        own(self, "_painted", painted)
        own(self, "_shape", shape)

    @property
    def mask(self) -> NDArray[np.bool_]:
        y0, x0, y1, x1 = self._box
        whole = np.zeros(self._shape, bool)
        whole[y0:y1, x0:x1] = self._painted
        whole.flags.writeable = False  # it is what the session answers from, also later
        return whole

    @property
    def bbox(self) -> BBox:
        return self._box

    @property
    def painted(self) -> NDArray[np.bool_]:
        return self._painted

    @property
    def frame_shape(self) -> tuple[int, ...]:
        return self._shape

    def __hash__(self) -> int:
        return hash((self.frame, self.object_id, self._shape))


def compact(mask: Mask) -> Mask:
    """An equal prompt that takes as much memory as its bounding box.

    Parameters
    ----------
    mask : Mask
        Of bool.
    """
    return _Part(mask.frame, mask.object_id, mask.mask)


def mask_within(
    frame: int,
    object_id: int,
    bbox: BBox,
    painted: NDArray[np.bool_],
    frame_shape: tuple[int, int],
) -> Mask:
    """A prompt from a mask cut to its bounding box; the frame is never made.

    Parameters
    ----------
    frame, object_id : int
    bbox : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` in frame pixels.
    painted : bool array of the bounding box's shape
    frame_shape : (int, int)

    Raises
    ------
    InputError
        If the box does not lie in the frame, is not of the mask's shape, or the mask is empty.
    """
    y0, x0, y1, x1 = bbox
    inside = 0 <= y0 < y1 <= frame_shape[0] and 0 <= x0 < x1 <= frame_shape[1]
    if not inside or painted.shape != (y1 - y0, x1 - x0):
        raise InputError(
            f"mask of object {object_id} has shape {painted.shape} and bounding box {bbox}; give a half-open "
            f"(y0, x0, y1, x1) of that shape inside frames of {frame_shape} (y, x)"
        )
    own = bbox_of(painted)
    if own == (0, 0, 0, 0):
        raise InputError(f"mask of object {object_id} on frame {frame} is empty; paint at least one pixel")
    box = (y0 + own[0], x0 + own[1], y0 + own[2], x0 + own[3])
    return _Part.cut(frame, object_id, box, painted[own[0] : own[2], own[1] : own[3]].copy(), frame_shape)


def check_prompt(prompt: Prompt, n_frames: int, frame_shape: tuple[int, int]) -> Prompt:
    """Return `prompt` with plain Python numbers and a bool mask, or say what is wrong with it.

    Raises
    ------
    InputError
        If a frame, an object id or coordinates are of the wrong kind or outside the stack, a box has no
        area, or a mask has another shape or is empty.
    """
    if not isinstance(prompt, Point | Box | Mask):
        raise InputError(f"a prompt is a {type(prompt).__name__}; use Point, Box or Mask")
    frame = check_frame(prompt.frame, n_frames)
    object_id = check_object_id(prompt.object_id)
    height, width = frame_shape
    match prompt:
        case Point():
            y, x = _numbers(prompt.yx, 2, "Point.yx", "(y, x)")
            if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
                raise InputError(
                    f"point (y={y:g}, x={x:g}) lies outside the frame; "
                    f"y is 0 to {height - 1}, x is 0 to {width - 1}"
                )
            return Point(frame, object_id, (y, x), bool(prompt.positive))
        case Box():
            y0, x0, y1, x1 = _numbers(prompt.yxyx, 4, "Box.yxyx", "(y0, x0, y1, x1)")
            if y1 < y0 or x1 < x0:
                raise InputError(
                    f"box {(y0, x0, y1, x1)} is inverted; give (y0, x0, y1, x1) with y0 < y1, x0 < x1"
                )
            if y1 == y0 or x1 == x0:
                raise InputError(
                    f"box {(y0, x0, y1, x1)} has no area; give (y0, x0, y1, x1) with y0 < y1, x0 < x1"
                )
            if y1 <= 0 or x1 <= 0 or y0 >= height - 1 or x0 >= width - 1:
                raise InputError(
                    f"box {(y0, x0, y1, x1)} lies outside the frame; "
                    f"y is 0 to {height - 1}, x is 0 to {width - 1}"
                )
            clipped = (max(y0, 0.0), max(x0, 0.0), min(y1, height - 1.0), min(x1, width - 1.0))
            return Box(frame, object_id, clipped)
        case Mask():
            if isinstance(prompt, _Part) and prompt.frame_shape == frame_shape:
                return _Part.cut(frame, object_id, prompt.bbox, prompt.painted, frame_shape)
            checked = check_mask(prompt, n_frames, frame_shape)
            if not checked.painted.size:
                raise InputError(
                    f"mask of object {object_id} on frame {frame} is empty; paint at least one pixel"
                )
            return checked


def check_mask(prompt: Mask, n_frames: int, frame_shape: tuple[int, int]) -> Mask:
    """Return a mask, which may be empty, with plain Python numbers and of bool, or say what is wrong with it.

    Raises
    ------
    InputError
        If it is no mask, or its frame, object id, shape or dtype does not fit.
    """
    if not isinstance(prompt, Mask):
        raise InputError(f"a mask is a {type(prompt).__name__}; use Mask(frame, object_id, mask)")
    frame, object_id = check_frame(prompt.frame, n_frames), check_object_id(prompt.object_id)
    mask = np.asarray(prompt.mask)
    if mask.shape != frame_shape:
        raise InputError(f"mask has shape {mask.shape}; the frames are {frame_shape} (y, x)")
    if mask.dtype.kind not in "bui":
        raise InputError(f"mask has dtype {mask.dtype}; give bool, or integers where 0 is background")
    return compact(Mask(frame, object_id, mask.astype(bool)))


def check_frame(frame: object, n_frames: int) -> int:
    """Return `frame` as int, or raise InputError where it is none of the stack's."""
    number = check_integer(frame, "frame")
    if not 0 <= number < n_frames:
        raise InputError(f"frame {number} is outside the stack; frames are 0 to {n_frames - 1}")
    return number


def check_object_id(object_id: object) -> int:
    """Return `object_id` as int, or raise InputError where it is no label value."""
    number = check_integer(object_id, "object id")
    if not 1 <= number <= LARGEST_ID:
        raise InputError(f"object id {number} is not a label value; use 1 to {LARGEST_ID}")
    return number


def check_integer(value: object, name: str) -> int:
    """Return `value` as int, or raise InputError where it is none; a bool is none."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"{name} is {value!r}; use an integer") from None


def check_several(values: Iterable[int], name: str) -> tuple[int, ...]:
    """Return `values` as a tuple, or raise InputError where there are not several."""
    try:
        return tuple(values)
    except TypeError:
        raise InputError(f"{name} is {values!r}; give several integers, such as [1, 2]") from None


def check_name(name: object) -> str:
    """Return `name`, or raise InputError where it cannot be the name of an object."""
    if not isinstance(name, str):
        raise InputError(f"name is {name!r}; give text, or '' for none")
    if len(name) > LONGEST_NAME:
        raise InputError(f"name has {len(name)} characters; give {LONGEST_NAME} at most")
    if len(name.splitlines()) > 1 or name != "".join(name.splitlines()):
        raise InputError(f"name {name!r} has more than one line; leave out the line break")
    return name


def _numbers(values: object, count: int, name: str, form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in values)  # type: ignore[attr-defined]
    except (OverflowError, TypeError, ValueError):
        raise InputError(f"{name} is {values!r}; give {form} as numbers") from None
    if len(numbers) != count or not all(math.isfinite(v) for v in numbers):
        raise InputError(f"{name} is {values!r}; give {form} as {count} finite numbers")
    return numbers


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """The prompt in JSON types; masks are packed bits, deflated, in base64, those of large frames cut out."""
    match prompt:
        case Point():
            return {"point": list(prompt.yx), "positive": prompt.positive}
        case Box():
            return {"box": list(prompt.yxyx)}
        case Mask():
            shape = list(prompt.frame_shape)
            if math.prod(shape) <= _LARGE:
                return {"mask": _packed(prompt.mask), "shape": shape}
            return {"mask": _packed(prompt.painted), "shape": shape, "box": list(prompt.bbox)}


def _packed(mask: NDArray[np.bool_]) -> str:
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def prompt_from_json(data: dict[str, Any], frame: int, object_id: int) -> Prompt:
    """Undo :func:`prompt_to_json`.

    Raises
    ------
    SessionFileError
        If `data` describes no prompt.
    """
    try:
        if "point" in data:
            y, x = data["point"]
            return Point(frame, object_id, (float(y), float(x)), bool(data["positive"]))
        if "box" in data and "mask" not in data:
            y0, x0, y1, x1 = data["box"]
            return Box(frame, object_id, (float(y0), float(x0), float(y1), float(x1)))
        frame_shape = height, width = tuple(data["shape"])
        y0, x0, y1, x1 = (int(v) for v in data.get("box", (0, 0, height, width)))
        height, width = y1 - y0, x1 - x0
        packed = (height * width + 7) // 8
        unpacker = zlib.decompressobj()
        bits = np.frombuffer(unpacker.decompress(base64.b64decode(data["mask"]), packed + 1), np.uint8)
        if not 0 < packed == len(bits):
            raise ValueError(f"{len(bits)} bytes do not make a mask of {height} x {width} pixels")
        mask = np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
        if "box" in data:
            return mask_within(frame, object_id, (y0, x0, y1, x1), mask, frame_shape)
        return compact(Mask(frame, object_id, mask))
    except (KeyError, OverflowError, TypeError, ValueError, zlib.error) as error:
        raise SessionFileError(
            f"a prompt of object {object_id} on frame {frame} cannot be read: {error}"
        ) from error

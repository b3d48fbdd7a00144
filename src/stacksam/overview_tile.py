"""One frame of an overview: the picture, outlines, prompts and numbers of its objects; and its text."""

from __future__ import annotations

import colorsys
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.measure import find_contours

__all__ = ["ACCENT", "BRIGHT", "DIM", "Mark", "Rgb", "Tile", "colour_of", "text_width", "write"]

Rgb: TypeAlias = tuple[int, int, int]
Line: TypeAlias = NDArray[np.float64]  # (N, 2) points (y, x)
_Object: TypeAlias = tuple[int, NDArray[np.bool_], tuple[int, int]]  # id, mask, place of its corner

BRIGHT: Rgb = (236, 239, 244)
DIM: Rgb = (150, 158, 170)
ACCENT: Rgb = (255, 209, 102)
_FINE = 3  # outlines are drawn this much larger and shrunk, which smooths them
_CROWD = 25  # objects of a frame from which on numbers are small, and left out where they hide something
_PLAIN = str.maketrans({"μ": "µ", "×": "x", "−": "-", "–": "-", "—": "-"})


@dataclass(frozen=True, slots=True)
class Mark:
    """A click or a box to be shown on its frame.

    Attributes
    ----------
    frame, object_id : int
    place : tuple of float
        ``(y, x)`` of a click or ``(y0, x0, y1, x1)`` of a box, in frame pixels.
    positive : bool
        False for a click on what does not belong to the object.
    """

    frame: int
    object_id: int
    place: tuple[float, ...]
    positive: bool = True


def colour_of(object_id: int) -> Rgb:
    """Bright colour of an object: neighbouring ids are far apart on the colour circle."""
    hue = (0.53 + object_id * 0.61803398875) % 1.0
    # Three shades tell apart ids that come round to nearly the same hue.
    saturation, value = ((0.72, 1.0), (0.48, 1.0), (0.85, 0.88))[object_id % 3]
    r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
    lift = max(0.0, 0.55 - (0.3 * r + 0.59 * g + 0.11 * b))  # blue and violet are dark to the eye
    return _rgb(min(1.0, c + lift) for c in (r, g, b))


class Tile:
    """One frame, enlarged. Lines go to a finer layer, which is shrunk over the picture at the end."""

    def __init__(self, picture: NDArray[np.uint8], size: tuple[int, int], origin: tuple[int, int]) -> None:
        self._zoom = size[0] / picture.shape[1], size[1] / picture.shape[0]
        self._origin = origin
        self._picture = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        # Transparent lines get their colour from below, so the layer starts out as the picture itself.
        self._layer = self._picture.resize((size[0] * _FINE, size[1] * _FINE), Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self._layer, "RGBA")
        self._labels: NDArray[Any] = np.zeros(picture.shape[:2], int)
        self._objects: list[_Object] = []
        self._marked: list[tuple[float, float]] = []  # (x, y) of clicks, in pixels of the picture

    def draw_objects(self, labels: NDArray[Any]) -> None:
        """A faint fill and a crisp outline for each object."""
        self._labels, self._objects = labels, _objects(labels)
        for object_id, mask, corner in self._objects:
            colour = colour_of(object_id)
            for line in _outlines(mask, corner):
                points = self._at(line)
                self._draw.polygon(points, fill=(*colour, 34))
                self._draw.line([*points, points[0]], fill=(*colour, 255), width=2 * _FINE, joint="curve")

    def draw_truth(self, labels: NDArray[Any]) -> None:
        """Dashed white outlines."""
        for _, mask, corner in _objects(labels):
            for line in _outlines(mask, corner):
                for dash in _dashes(np.array(self._at(line)), 4.0 * _FINE):
                    self._draw.line(dash, fill=(255, 255, 255, 205), width=round(1.2 * _FINE))

    def draw_marks(self, marks: Sequence[Mark]) -> None:
        """A cross for a click (a bar for a negative one), a dotted rectangle for a box."""
        arm, dark = 6 * _FINE, (10, 10, 14, 230)
        for mark in marks:
            place = np.array(mark.place, float).reshape(-1, 2) - self._origin
            if len(place) == 2:
                (y0, x0), (y1, x1) = place[0] - 0.5, place[1] + 0.5
                ring = np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0), (y0, x0)])
                for dash in _dashes(np.array(self._at(ring)), 3.0 * _FINE):
                    self._draw.line(dash, fill=(*ACCENT, 255), width=round(1.5 * _FINE))
                continue
            ((x, y),) = self._at(place)
            self._marked.append((x / _FINE, y / _FINE))
            for width, colour in ((4 * _FINE, dark), (2 * _FINE, (*ACCENT, 255))):
                over = (width - 2 * _FINE) // 2
                self._draw.line((x - arm - over, y, x + arm + over, y), fill=colour, width=width)
                if mark.positive:
                    self._draw.line((x, y - arm - over, x, y + arm + over), fill=colour, width=width)

    def finished(self) -> Image.Image:
        """The picture with all lines."""
        return self._layer.resize(self._picture.size, Image.Resampling.BOX)

    def write_ids(self, picture: Image.Image) -> None:
        """The number of each object, in its colour: on it if it fits there and hides no click.

        Else it is beside it, where it may seem to be the neighbour's; among many only where there is room.
        """
        draw = ImageDraw.Draw(picture, "RGBA")
        crowded = len(self._objects) > _CROWD
        points = 11 if crowded else 14
        taken: list[tuple[float, float, float, float]] = []
        for object_id, mask, corner in self._objects:
            text = str(object_id)
            size = text_width(text, points) + 4, points + 2
            places = self._inside(mask, corner, size, object_id) + self._beside(
                mask, corner, size, picture.size
            )
            free = [place for place in places if self._is_free(place, object_id, taken)]
            if not free and crowded:
                continue
            left, top, right, bottom = place = free[0] if free else places[0]
            taken.append(place)
            draw.rounded_rectangle((left, top, right - 1, bottom - 1), 4, fill=(14, 15, 20, 150))
            write(draw, (left + 2, top - 1), text, points, colour_of(object_id))

    def _inside(
        self, mask: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int], object_id: int
    ) -> list[tuple[int, int, int, int]]:
        """The box for a number where the object is widest, if all of it lies there and none on a click."""
        zoom_x, zoom_y = self._zoom
        deep = ndimage.distance_transform_edt(mask)
        row, column = np.unravel_index(int(deep.argmax()), mask.shape)
        (width, height), x = size, (column + 0.5 + corner[1]) * zoom_x
        left, top = round(x - width / 2), round((row + 0.5 + corner[0]) * zoom_y - height / 2)
        right, bottom = left + width, top + height
        rows = slice(max(math.floor(top / zoom_y), 0), math.ceil(bottom / zoom_y))
        columns = slice(max(math.floor(left / zoom_x), 0), math.ceil(right / zoom_x))
        under = self._labels[rows, columns]
        arm = 8  # of a click's cross
        clear = all(
            x + arm < left or right < x - arm or y + arm < top or bottom < y - arm for x, y in self._marked
        )
        return [(left, top, right, bottom)] if clear and (under == object_id).all() else []

    def _beside(
        self, mask: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int], room: tuple[int, int]
    ) -> list[tuple[int, int, int, int]]:
        """Boxes for a number: above an object, below it, right and left of it; all inside the picture."""
        zoom_x, zoom_y = self._zoom
        rows, columns = np.nonzero(mask)
        y0, y1 = (rows.min() + corner[0]) * zoom_y, (rows.max() + 1 + corner[0]) * zoom_y
        x0, x1 = (columns.min() + corner[1]) * zoom_x, (columns.max() + 1 + corner[1]) * zoom_x
        top = (columns[rows == rows.min()].mean() + 0.5 + corner[1]) * zoom_x
        foot = (columns[rows == rows.max()].mean() + 0.5 + corner[1]) * zoom_x
        width, height = size
        corners = (
            (top - width / 2, y0 - height - 2),
            (foot - width / 2, y1 + 2),
            (x1 + 3, (y0 + y1 - height) / 2),
            (x0 - width - 3, (y0 + y1 - height) / 2),
        )
        boxes = []
        for x, y in corners:
            left, upper = (
                round(min(max(v, 1), limit - s - 1)) for v, s, limit in zip((x, y), size, room, strict=True)
            )
            boxes.append((left, upper, left + width, upper + height))
        return boxes

    def _is_free(
        self,
        place: tuple[int, int, int, int],
        object_id: int,
        taken: Sequence[tuple[float, float, float, float]],
    ) -> bool:
        """Whether a number there hides neither another one nor another object."""
        left, top, right, bottom = place
        if any(left < x1 and x0 < right and top < y1 and y0 < bottom for x0, y0, x1, y1 in taken):
            return False
        zoom_x, zoom_y = self._zoom
        under = self._labels[
            int(top / zoom_y) : math.ceil(bottom / zoom_y), int(left / zoom_x) : math.ceil(right / zoom_x)
        ]
        return not ((under != 0) & (under != object_id)).any()

    def _at(self, places: NDArray[Any]) -> list[tuple[float, float]]:
        """Places ``(y, x)`` in pixels of the cropped frame as ``(x, y)`` on the fine layer."""
        zoom_x, zoom_y = self._zoom
        return [((x + 0.5) * zoom_x * _FINE, (y + 0.5) * zoom_y * _FINE) for y, x in places]


def _objects(labels: NDArray[Any]) -> list[_Object]:
    """Id, mask with a border of two pixels, and place of the mask's corner, for each object of a frame."""
    ids, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape)
    if ids.size and ids[0] != 0:
        ids, compact = np.insert(ids, 0, 0), compact + 1
    found = []
    for index, box in enumerate(ndimage.find_objects(compact), start=1):
        if box is not None:
            mask = np.pad(compact[box] == index, 2)
            found.append((int(ids[index]), mask, (box[0].start - 2, box[1].start - 2)))
    return found


def _outlines(mask: NDArray[np.bool_], corner: tuple[int, int]) -> list[Line]:
    """Closed outlines of a mask, its pixel steps smoothed as far as it is large enough."""
    smooth = ndimage.gaussian_filter(mask.astype(np.float64), 0.9)
    if smooth.max() < 0.75:
        smooth = mask.astype(np.float64)
    lines = find_contours(smooth, 0.5)  # type: ignore[no-untyped-call]
    return [np.asarray(line[:-1], float) + corner for line in lines if len(line) > 3]


def _dashes(points: NDArray[Any], length: float) -> list[list[tuple[float, float]]]:
    """Every other piece of a closed line, as pieces of about `length`."""
    points = np.vstack([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    count = 2 * max(2, round(along[-1] / (2 * length)))
    ends = np.linspace(0, along[-1], count + 1)
    dashes = []
    for start, stop in zip(ends[::2], ends[1::2], strict=False):
        at = np.concatenate([[start], along[(along > start) & (along < stop)], [stop]])
        x, y = (np.interp(at, along, points[:, k]) for k in (0, 1))
        dashes.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return dashes


@cache
def _font(points: int) -> Any:
    return ImageFont.load_default(points)


def _drawable(text: str) -> str:
    """Text in the letters that Pillow's own font has, which are few beyond ASCII."""
    plain = text.translate(_PLAIN)
    kept = (
        c if c in "µ·°" else unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
        for c in plain
    )
    return "".join(kept)


def text_width(text: str, points: int) -> int:
    """Width of a line of text, in pixels."""
    length: float = _font(points).getlength(_drawable(text).replace("µ", "u"))
    return math.ceil(length)


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    points: int,
    colour: Rgb,
    room: int | None = None,
) -> None:
    """Write one line, shortened to the room there is."""
    font, text = _font(points), _drawable(text)
    while room is not None and len(text) > 1 and text_width(text, points) > room:
        text = text[:-4] + "..."
        if text == "...":
            break
    x, y = at
    for k, piece in enumerate(text.split("µ")):
        if k:  # the font has no µ: a u with a foot
            box = font.getbbox("u")
            stem = max(1, round(points / 12))
            left, foot = round(x + box[0]), y + box[3]
            draw.rectangle((left, foot - 2, left + stem - 1, foot + round(points * 0.22)), fill=colour)
            draw.text((x, y), "u", fill=colour, font=font)
            x += font.getlength("u")
        draw.text((x, y), piece, fill=colour, font=font)
        x += font.getlength(piece)


def _rgb(values: Any) -> Rgb:
    r, g, b = (round(255 * value) for value in values)
    return r, g, b

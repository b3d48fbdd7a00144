"""A contact sheet of a segmented stack: a few frames with the outlines of their objects.

A person should see at a glance whether objects were followed. So frames are shown large, cropped to where the
objects are, each object keeps one colour and one number on all of them, and what was clicked is marked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stacksam.errors import InputError, StorageError
from stacksam.overview_tile import ACCENT, BRIGHT, DIM, Mark, Rgb, Tile, colour_of, text_width, write

__all__ = ["Mark", "choose_frames", "colour_of", "overview", "save_overview"]

TILE = 300  # longer side of a tile, in pixels
COLUMNS = 4
_MARGIN, _GAP, _CAPTION, _HEADER = 28, 16, 26, 62
_BACKGROUND: Rgb = (18, 20, 26)


def choose_frames(n_frames: int, count: int = 8, include: Collection[int] = ()) -> tuple[int, ...]:
    """Evenly spaced frames, first and last among them.

    Frames to `include` take the place of their nearest ones, half of all at most.
    """
    spaced: list[int] = np.linspace(0, n_frames - 1, min(count, n_frames)).round().astype(int).tolist()
    wanted = sorted(set(include))[: max(1, count // 2)]
    for frame in wanted:
        if frame not in spaced:
            free = [k for k, other in enumerate(spaced) if other not in wanted]
            spaced[min(free, key=lambda k: abs(spaced[k] - frame))] = frame
    return tuple(sorted(spaced))


def overview(
    images: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[Any]],
    frames: Sequence[int],
    *,
    captions: Sequence[str] = (),
    notes: Mapping[int, str] | None = None,
    title: str = "",
    subtitle: str = "",
    marks: Sequence[Mark] = (),
    truth: Sequence[NDArray[Any]] | None = None,
    pixel_size: tuple[float, str | None] = (1.0, None),
) -> NDArray[np.uint8]:
    """Draw a contact sheet.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, C) array
        The chosen frames. 8-bit colours are shown as they are; anything else is stretched, by one mapping for
        all frames.
    labels : sequence of (H, W) int array
        Object ids on the same frames, 0 is background.
    frames : sequence of int
        Their numbers.
    captions : sequence of str
        Text under each frame; ``frame 8`` by default.
    notes : mapping of int to str, optional
        By frame number, a short text at the right of the caption.
    title, subtitle : str
    marks : sequence of Mark
        Prompts; those on frames that are not shown are left out.
    truth : sequence of (H, W) int array, optional
        True ids, drawn as dashed white outlines.
    pixel_size : tuple of float and (str or None)
        Side of a pixel and its unit (``"µm"``), for the scale bar; no bar without a unit.

    Returns
    -------
    (H, W, 3) uint8 array

    Raises
    ------
    InputError
        If there are no frames, or not as many images, labels, captions or true labels as frames.
    """
    _check(images, labels, frames, captions, truth)
    window = _window([np.asarray(label) for label in labels] + [np.asarray(t) for t in truth or ()])
    pictures = _stretched([np.asarray(image)[window] for image in images])
    height, width = pictures[0].shape[:2]
    zoom = TILE / max(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    rows = math.ceil(len(frames) / COLUMNS)
    columns = math.ceil(len(frames) / rows)
    sheet_size = (
        max(2 * _MARGIN + columns * (size[0] + _GAP) - _GAP, 560),
        _HEADER + _MARGIN + rows * (size[1] + _CAPTION + _GAP) - _GAP + _MARGIN // 2,
    )
    sheet = Image.new("RGB", sheet_size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    bar = _scale_bar(draw, (sheet_size[0] - _MARGIN, _HEADER + 8), pixel_size, zoom)
    room = sheet_size[0] - 2 * _MARGIN - bar - 24
    write(draw, (_MARGIN, 20), title, 24, BRIGHT, room=room)
    write(draw, (_MARGIN, 52), subtitle, 15, DIM, room=room)

    for k, frame in enumerate(frames):
        here = [mark for mark in marks if mark.frame == frame]
        tile = Tile(pictures[k], size, (window[0].start, window[1].start))
        tile.draw_objects(np.asarray(labels[k])[window])
        if truth is not None:
            tile.draw_truth(np.asarray(truth[k])[window])
        tile.draw_marks(here)
        picture = tile.finished()
        tile.write_ids(picture)
        x = _MARGIN + (k % columns) * (size[0] + _GAP)
        y = _HEADER + _MARGIN + (k // columns) * (size[1] + _CAPTION + _GAP)
        sheet.paste(picture, (x, y))
        frame_colour = ACCENT if here else (44, 48, 58)
        draw.rectangle((x - 1, y - 1, x + size[0], y + size[1]), outline=frame_colour)
        caption = captions[k] if captions else f"frame {frame}"
        note = (notes or {}).get(frame, "")
        note_width = text_width(note, 14)
        write(draw, (x, y + size[1] + 6), caption, 14, ACCENT if here else DIM, room=size[0] - note_width - 8)
        write(draw, (x + size[0] - note_width, y + size[1] + 6), note, 14, BRIGHT)
    return np.asarray(sheet)


def save_overview(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as PNG, whole or not at all.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        Image.fromarray(picture).save(part, format="PNG")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; choose another folder"
        ) from error


# --- the sheet ---------------------------------------------------------------------------------------------


def _check(
    images: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[Any]],
    frames: Sequence[int],
    captions: Sequence[str],
    truth: Sequence[NDArray[Any]] | None,
) -> None:
    if not len(frames):
        raise InputError("an overview needs at least one frame")
    given = {"images": images, "labels": labels, "truth": truth, "captions": captions or None}
    for name, values in given.items():
        if values is not None and len(values) != len(frames):
            raise InputError(f"there are {len(values)} {name} for {len(frames)} frames; give one for each")
    for image, label in zip(images, labels, strict=True):
        if np.shape(image)[:2] != np.shape(label):
            raise InputError(
                f"an image has shape {np.shape(image)} and its labels {np.shape(label)}; both must be (H, W)"
            )


def _window(labels: Sequence[NDArray[Any]]) -> tuple[slice, slice]:
    """The part of the frames to show: all of it, unless the objects fill little of it."""
    used = np.logical_or.reduce([label != 0 for label in labels])
    whole = slice(0, used.shape[0]), slice(0, used.shape[1])
    if not used.any():
        return whole
    spans = []
    for axis, size in enumerate(used.shape):
        at = np.flatnonzero(used.any(axis=1 - axis))
        margin = max(8, round(0.15 * (at[-1] + 1 - at[0])))
        spans.append((max(int(at[0]) - margin, 0), min(int(at[-1]) + 1 + margin, size)))
    # Never narrower than half as wide as high, nor smaller than what can be seen at all.
    least = max(24, max(stop - start for start, stop in spans) // 2)
    spans = [_widened(span, least, size) for span, size in zip(spans, used.shape, strict=True)]
    share = math.prod(stop - start for start, stop in spans) / used.size
    return whole if share > 0.6 else (slice(*spans[0]), slice(*spans[1]))


def _widened(span: tuple[int, int], least: int, size: int) -> tuple[int, int]:
    """A span grown about its middle to a least length, as far as `size` allows."""
    length = min(max(span[1] - span[0], least), size)
    start = min(max((span[0] + span[1] - length) // 2, 0), size - length)
    return start, start + length


def _stretched(images: Sequence[NDArray[Any]]) -> list[NDArray[np.uint8]]:
    """All frames as RGB, with one mapping of values to brightness."""
    colours = all(image.ndim == 3 and image.shape[-1] in (3, 4) for image in images)
    if colours and all(image.dtype == np.uint8 for image in images):
        return [np.ascontiguousarray(image[..., :3]) for image in images]
    grey = [_three_channels(image) for image in images]
    sample = np.concatenate([image[::2, ::2].ravel() for image in grey])
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, (0.5, 99.8)) if sample.size else (0.0, 1.0)
    span = (high - low) or 1.0
    stretched = [np.clip(np.nan_to_num((image - low) / span, nan=0.0), 0, 1) ** 0.85 for image in grey]
    return [(image * 235).round().astype(np.uint8) for image in stretched]


def _three_channels(image: NDArray[Any]) -> NDArray[np.float32]:
    """A frame as float RGB: one channel thrice, two as magenta and green, more than three cut."""
    image = image.astype(np.float32)
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.shape[-1] == 1:
        return np.repeat(image, 3, axis=-1)
    if image.shape[-1] == 2:
        return image[..., [0, 1, 0]]
    return image[..., :3]


def _scale_bar(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], pixel_size: tuple[float, str | None], zoom: float
) -> int:
    """A bar of a round length under its text, left of `corner`, where it hides no object; its width."""
    side, unit = pixel_size
    if unit is None or not side > 0:
        return 0
    goal = 0.3 * TILE * side / zoom
    step = 10.0 ** math.floor(math.log10(goal))
    length = max(m * step for m in (1, 2, 5) if m * step <= goal * 1.0001)
    bar, text = max(2, round(length / side * zoom)), f"{length:g} {unit}"
    width = max(bar, text_width(text, 14))
    right, bottom = corner
    left = right - width
    write(draw, (left + (width - text_width(text, 14)) // 2, bottom - 22), text, 14, BRIGHT)
    start = left + (width - bar) // 2
    draw.rectangle((start, bottom - 2, start + bar - 1, bottom), fill=BRIGHT)
    return width

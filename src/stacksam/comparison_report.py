"""A comparison as text, as JSON, and as a picture of its worst cases."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stacksam.comparison_result import Comparison, Totals
from stacksam.errors import InputError, StorageError
from stacksam.overview import save_overview
from stacksam.overview_tile import ACCENT, BRIGHT, DIM, Rgb, Tile, write
from stacksam.tables import Style, figure, text_table

if TYPE_CHECKING:
    from stacksam.comparison_files import Planes
    from stacksam.io import LazyImage

__all__ = [
    "FILES",
    "SCHEMA_VERSION",
    "check_folder",
    "format_comparison",
    "to_json",
    "worst_cases",
    "write_report",
]

SCHEMA_VERSION = 1
"""Of the JSON; goes up when a field changes its meaning or goes away, not when one comes."""

FILES = ("evaluation.json", "evaluation.md", "worst.png")

_TILE, _COLUMNS, _MOST = 240, 4, 12
_MARGIN, _GAP, _CAPTION, _HEADER = 28, 16, 46, 74
_BACKGROUND: Rgb = (18, 20, 26)

_Window: TypeAlias = tuple[slice, slice]


def to_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain values, by the schema of docs/evaluate.md; None for what is not there."""
    found: dict[str, Any] = {"format": "stacksam-evaluation", "version": SCHEMA_VERSION}
    found |= dataclasses.asdict(comparison)
    plain: dict[str, Any] = _plain(found)
    return plain


def format_comparison(comparison: Comparison, style: Style = "plain", *, most: int | None = 20) -> str:
    """A comparison as tables, to be read.

    Parameters
    ----------
    comparison : Comparison
    style : {"markdown", "plain"}
    most : int, optional
        Objects that are listed, those of the lowest J&F; None lists all.
    """
    parts = [_head(comparison), _object_table(comparison, style, most)]
    parts.append(_detection_table(comparison, style))
    tracking = _tracking_rows(comparison)
    if tracking:
        parts.append(text_table(("tracking", "value"), tracking, style))
    if comparison.ctc_note:
        parts.append(f"No SEG, DET, TRA, LNK: {comparison.ctc_note}.")
    return "\n\n".join(parts)


def write_report(
    folder: Path,
    comparison: Comparison,
    picture: NDArray[np.uint8] | None,
) -> dict[str, Path]:
    """Write the files of a report; see :data:`FILES`.

    Returns
    -------
    dict of str to Path
        By kind: ``json``, ``table``, ``worst``.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    paths = dict(zip(("json", "table", "worst"), (folder / name for name in FILES), strict=True))
    try:
        text = json.dumps(to_json(comparison), indent=2, allow_nan=False)
        paths["json"].write_text(text + "\n", encoding="utf-8")
        paths["table"].write_text(
            format_comparison(comparison, "markdown", most=None) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise _no_place(folder, error) from error
    if picture is None:
        del paths["worst"]
    else:
        save_overview(paths["worst"], picture)
    return paths


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Make the folder of a report, and see that it can go there, before work is done for it.

    Raises
    ------
    StorageError
        If it is a file, cannot be made or written to, or has a report that may not be overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file; give a folder for the report")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_place(folder, error) from error
    if not os.access(folder, os.W_OK):
        raise StorageError(f"cannot write to {folder}: no permission; choose another folder")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise StorageError(
            f"{folder} has {', '.join(there)} already; choose another folder, or add --overwrite"
        )


def worst_cases(
    comparison: Comparison,
    labels: Planes,
    reference: Planes,
    image: LazyImage | None = None,
) -> NDArray[np.uint8]:
    """Draw the objects that match worst, each where it is worst.

    Outlines of the labels are coloured, with their ids; those of the reference are dashed and white. Behind
    is the image, or nothing.

    Parameters
    ----------
    comparison : Comparison
    labels, reference : Planes
        What was compared.
    image : LazyImage, optional
        With the axes and the shape of the labels, and possibly channels.

    Returns
    -------
    (H, W, 3) uint8 array

    Raises
    ------
    InputError
        If the image has another shape.
    """
    if image is not None:
        check_image(image, labels)
    objects = sorted(comparison.objects, key=lambda o: (o.worst_j, o.jf))[:_MOST]
    columns = min(_COLUMNS, len(objects))
    rows = math.ceil(len(objects) / columns)
    size = (
        max(2 * _MARGIN + columns * (_TILE + _GAP) - _GAP, 640),
        _HEADER + rows * (_TILE + _CAPTION) + _MARGIN // 2,
    )
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    room = size[0] - 2 * _MARGIN
    write(draw, (_MARGIN, 16), f"Worst cases of {_short(comparison.labels)}", 22, BRIGHT, room=room)
    write(draw, (_MARGIN, 46), "colour: labels, dashed white: reference", 15, DIM, room=room)
    for k, each in enumerate(objects):
        time, plane = _worst_plane(
            comparison, labels, reference, each.reference_id, each.label_id, each.worst_frame
        )
        found, truth = labels.read(time, plane), reference.read(time, plane)
        window = _window((truth == each.reference_id) | _is(found, each.label_id))
        tile = Tile(_behind(image, time, plane, window), (_TILE, _TILE), (window[0].start, window[1].start))
        tile.draw_objects(found[window])
        tile.draw_truth(truth[window])
        picture = tile.finished()
        tile.write_ids(picture)
        x, y = _MARGIN + (k % columns) * (_TILE + _GAP), _HEADER + (k // columns) * (_TILE + _CAPTION)
        sheet.paste(picture, (x, y))
        draw.rectangle((x - 1, y - 1, x + _TILE, y + _TILE), outline=(44, 48, 58))
        partner = "missed" if each.label_id is None else f"found as {each.label_id}"
        write(draw, (x, y + _TILE + 4), f"object {each.reference_id}, {partner}", 14, BRIGHT, room=_TILE)
        where = [f"frame {time}"] * (labels.n_times > 1) + [f"plane {plane}"] * (labels.n_planes > 1)
        text = ", ".join([*where, f"J {each.worst_j:.2f}, mean {each.j.mean:.2f}"])
        write(draw, (x, y + _TILE + 22), text, 14, ACCENT if each.worst_j < 0.5 else DIM, room=_TILE)
    return np.asarray(sheet)


def check_image(image: LazyImage, labels: Planes) -> None:
    """See that an image belongs to labels.

    Raises
    ------
    InputError
        If its shape, channels aside, is another.
    """
    sizes = tuple(image.sizes[axis] for axis in image.axes if axis != "c")
    axes = "".join(axis for axis in image.axes if axis != "c")
    if (axes, sizes) != (labels.axes, labels.shape):
        raise InputError(
            f"the image {image.source} has shape {sizes} ({axes}) and the labels {labels.name} have "
            f"{labels.shape} ({labels.axes}); they must be equal"
        )


def _no_place(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write to {folder}: {error.strerror or error}; choose another folder")


# --- text --------------------------------------------------------------------------------------------------


def _head(c: Comparison) -> str:
    total = c.total
    shape = " × ".join(map(str, c.shape))
    how = "overlap" if c.match == "overlap" else "equal ids"
    number = (
        f"{total.objects} {'' if c.chosen is None else 'chosen '}object{'s' if total.objects != 1 else ''}"
    )
    return (
        f"{c.labels} against {c.reference}, {c.axes} {shape}: {number}, {total.matched} matched by {how}, "
        f"{total.extra} too many"
    )


def _object_table(c: Comparison, style: Style, most: int | None) -> str:
    measures = ("J&F", "J", "J recall", "J decay", "F", "F recall", "F decay", "IoU", "Dice")
    header = ("object", "found as", "frames", *measures, "worst at")

    def row(each: Any, *cells: str, last: str) -> tuple[str, ...]:
        j, f = each.j, each.f
        values = (each.jf, j.mean, j.recall, j.decay, f.mean, f.recall, f.decay, each.iou, each.dice)
        return (*cells, *map(figure, values), last)

    listed = sorted(c.objects, key=lambda o: o.jf)[:most] if most is not None else list(c.objects)
    body = [
        row(
            o,
            str(o.reference_id),
            "-" if o.label_id is None else str(o.label_id),
            str(o.frames),
            last=str(o.worst_frame),
        )
        for o in listed
    ]
    total: Totals = c.total
    body.append(row(total, "mean", "", str(sum(o.frames for o in c.objects)), last=""))
    table = text_table(header, body, style)
    left = len(c.objects) - len(listed)
    return (
        table
        if not left
        else f"{table}\n\n(the {len(listed)} objects of the lowest J&F; {left} more are not listed)"
    )


def _detection_table(c: Comparison, style: Style) -> str:
    header = ("IoU from", "TP", "FP", "FN", "precision", "recall", "F1", "AP", "matched IoU")
    body = [
        (
            f"{d.threshold:.2f}",
            *map(str, (d.true_positives, d.false_positives, d.false_negatives)),
            *map(figure, (d.precision, d.recall, d.f1, d.ap, d.mean_matched_iou)),
        )
        for d in c.detection
    ]
    quality = (
        f"AP is TP / (TP + FP + FN); its mean over 0.50 to 0.95 is {figure(c.mean_ap)}. "
        f"Panoptic quality {figure(c.panoptic.pq)} (SQ {figure(c.panoptic.sq)}, RQ {figure(c.panoptic.rq)}). "
        f"All objects as one: IoU {figure(c.total.foreground_iou)}, Dice {figure(c.total.foreground_dice)}."
    )
    return f"{text_table(header, body, style)}\n\n{quality}"


def _tracking_rows(c: Comparison) -> list[tuple[str, str]]:
    rows = []
    if c.ctc is not None:
        rows += [(name.upper(), figure(getattr(c.ctc, name))) for name in ("seg", "det", "tra", "lnk")]
        wrong = ", ".join(f"{name} {count}" for name, count in c.ctc.operations.items() if count)
        rows.append(("to correct", wrong or "nothing"))
    if c.tracking is not None:
        identity, divisions = c.tracking.identity, c.tracking.divisions
        rows += [("id switches", str(identity.id_switches)), ("IDF1", figure(identity.idf1))]
        if divisions is not None:
            counts = divisions.true_positives, divisions.false_positives, divisions.false_negatives
            rows.append(("division F1", figure(divisions.f1)))
            rows.append(("divisions", "{} found, {} wrong, {} missed".format(*counts)))
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# --- the picture -------------------------------------------------------------------------------------------


def _short(name: str) -> str:
    return Path(name).name or name


def _is(plane: NDArray[Any], object_id: int | None) -> NDArray[np.bool_]:
    return np.zeros(plane.shape, bool) if object_id is None else plane == object_id


def _worst_plane(
    comparison: Comparison,
    labels: Planes,
    reference: Planes,
    reference_id: int,
    label_id: int | None,
    frame: int,
) -> tuple[int, int]:
    """Time point and plane to show: of a volume at a time point, the plane with the most wrong pixels."""
    if comparison.sequence == "z":
        return 0, frame
    wrong = [
        np.count_nonzero((reference.read(frame, p) == reference_id) ^ _is(labels.read(frame, p), label_id))
        for p in range(labels.n_planes)
    ]
    return frame, int(np.argmax(wrong))


def _window(mask: NDArray[np.bool_]) -> _Window:
    """A square around an object with some surroundings, inside the frame where that is large enough."""
    spans = [np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1)]
    side = max(24, math.ceil(1.6 * max(int(at[-1]) + 1 - int(at[0]) for at in spans)))
    side = min(side, *mask.shape)
    starts = [
        min(max((int(at[0]) + int(at[-1]) + 1 - side) // 2, 0), size - side)
        for at, size in zip(spans, mask.shape, strict=True)
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _behind(image: LazyImage | None, time: int, plane: int, window: _Window) -> NDArray[np.uint8]:
    """The picture below the outlines, shape (H, W, 3)."""
    side = window[0].stop - window[0].start, window[1].stop - window[1].start
    if image is None:
        return np.full((*side, 3), 34, np.uint8)
    at: dict[str, int | slice] = {"t": time, "z": plane, "y": window[0], "x": window[1]}
    crop = image.read(**{axis: at[axis] for axis in image.axes if axis != "c"})
    if "c" in image.axes:  # which comes before y and x
        crop = crop[:3].transpose(1, 2, 0) if image.rgb else crop[0]
    if image.rgb and crop.dtype == np.uint8:
        return np.ascontiguousarray(crop)
    grey = np.nan_to_num(crop.astype(np.float32))
    low, high = np.percentile(grey, (0.5, 99.8))
    bright = np.clip((grey - low) / ((high - low) or 1.0), 0, 1) ** 0.85 * 235
    picture = bright.round().astype(np.uint8)
    return picture if picture.ndim == 3 else np.repeat(picture[..., np.newaxis], 3, axis=-1)

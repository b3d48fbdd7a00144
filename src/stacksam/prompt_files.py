"""Prompts as people write them down: text on a command line, tables, JSON, label images, saved sessions.

Everything is read and checked before any work begins, and an error names the option, or the file and its
line. A table (CSV) or JSON list has these columns or keys::

    kind,frame,id,y,x,y1,x1
    point,0,1,120,96,,
    negative,0,1,140,100,,
    box,0,2,30,40,62,80

Frames are counted from 0; ``(y, x)`` are pixels from the upper left, 0 is the centre of the first one. A box
goes from ``(y, x)`` to ``(y1, x1)``, both inside.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stacksam.errors import InputError, SessionFileError
from stacksam.metrics import box_of, click_of
from stacksam.session.prompts import Box, Mask, Point, Prompt, check_prompt, compact, prompt_from_json
from stacksam.session.stack import Stack

__all__ = [
    "Given",
    "box_from_text",
    "check_all",
    "check_session_stack",
    "number_from",
    "numbers_from_text",
    "point_from_text",
    "prompt_from_row",
    "prompts_from_labels",
    "read_prompts",
    "read_rows",
    "read_session_prompts",
]

LABEL_KINDS = ("mask", "box", "point")
"""What an object of a label image can become."""

_FIELDS = {"point": ("y", "x"), "negative": ("y", "x"), "box": ("y", "x", "y1", "x1")}


@dataclass(frozen=True, slots=True)
class Given:
    """A prompt and where it was written, for errors.

    Attributes
    ----------
    origin : str
        Such as ``--point 0,1,120,96`` or ``prompts.csv, line 3``.
    prompt : Point, Box or Mask
    """

    origin: str
    prompt: Prompt


def point_from_text(text: str, *, positive: bool = True) -> Given:
    """Read ``FRAME,ID,Y,X``."""
    origin = f"--{'point' if positive else 'negative'} {text}"
    frame, object_id, *yx = numbers_from_text(text, "FRAME,ID,Y,X", origin)
    return Given(origin, Point(frame, object_id, (yx[0], yx[1]), positive))


def box_from_text(text: str) -> Given:
    """Read ``FRAME,ID,Y0,X0,Y1,X1``."""
    origin = f"--box {text}"
    frame, object_id, *corners = numbers_from_text(text, "FRAME,ID,Y0,X0,Y1,X1", origin)
    return Given(origin, Box(frame, object_id, (corners[0], corners[1], corners[2], corners[3])))


def read_prompts(path: Path) -> list[Given]:
    """Read a table (``.csv``) or a list (``.json``) of prompts.

    Raises
    ------
    InputError
        If the file is missing, of another kind, or a row is not a prompt.
    """
    return [prompt_from_row(row, origin) for origin, row in read_rows(path)]


def read_rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Rows of a table or list of prompts, each with where it was written.

    Raises
    ------
    InputError
        If the file is missing, of another kind, lacks a column, or has no rows.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"{path} is neither .csv nor .json; prompts are read from these")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)
    except OSError as error:
        raise InputError(f"cannot read prompts from {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise InputError(f"cannot read prompts from {path}: {error}") from error
    if not rows:
        raise InputError(f"{path} holds no prompts")
    return rows


def read_session_prompts(path: Path) -> list[Given]:
    """Take the prompts that hold at the end of a saved session.

    Raises
    ------
    SessionFileError
        If the file is no session, or cannot be read.
    """
    from stacksam.session.replay import read_session

    data = read_session(path)
    try:
        held = [prompt_from_json(row, row["frame"], row["object_id"]) for row in data["prompts"]]
    except (KeyError, TypeError) as error:
        raise SessionFileError(f"the prompts of the session {path} cannot be read: {error!r}") from error
    return [Given(f"session {path}", prompt) for prompt in held]


def check_session_stack(path: Path, stack: Stack) -> None:
    """See that a saved session is of this stack: its places and frames mean nothing on another one.

    Parameters
    ----------
    path : Path
        The session file.
    stack : Stack
        As it is to be segmented; another format or place of the same pixels is the same stack.

    Raises
    ------
    InputError
        If the session is of another stack, or of other channels or another place of this one.
    SessionFileError
        If the file is no session, cannot be read, or does not say which stack it is of.
    """
    from stacksam.session.replay import read_session

    about = read_session(path)["stack"]
    try:
        identity, name = str(about["identity"]), str(about["name"])
    except KeyError as error:
        raise SessionFileError(f"{path} is damaged: it does not say which stack it is of") from error
    if not stack.is_same(identity):
        raise InputError(
            f"the session {path} is of another stack ({name}), or of another channel or place of it, than "
            f"{stack.name} as it is opened here; give the stack that it is of, or add --other-stack to take "
            "its prompts over all the same"
        )


def prompts_from_labels(path: Path, stack: Stack, frame: int | None, kind: str = "mask") -> list[Given]:
    """Make a prompt of every object of one frame of a label image.

    Parameters
    ----------
    path : Path
        A single label image, or a label stack of as many frames as the stack.
    stack : Stack
    frame : int, optional
        The frame of the stack that the labels are for; 0 by default.
    kind : {"mask", "box", "point"}
        What the objects become.

    Raises
    ------
    InputError
        If the labels do not fit the stack, or that frame has none.
    """
    from stacksam.io import read_labels

    at = 0 if frame is None else frame
    if not 0 <= at < stack.n_frames:
        raise InputError(f"--labels-frame {at} is outside the stack; frames are 0 to {stack.n_frames - 1}")
    if kind not in LABEL_KINDS:
        raise InputError(
            f"objects of a label image cannot become a {kind!r}; use one of {', '.join(LABEL_KINDS)}"
        )
    with read_labels(path) as image:
        sizes = {axis: size for axis, size in image.sizes.items() if axis not in "yx" and size > 1}
        if (image.sizes["y"], image.sizes["x"]) != stack.frame_shape:
            raise InputError(
                f"labels {path} are {image.sizes['y']} × {image.sizes['x']} pixels; "
                f"the frames of the stack are {stack.frame_shape[0]} × {stack.frame_shape[1]}"
            )
        if len(sizes) > 1 or (sizes and next(iter(sizes.values())) != stack.n_frames):
            raise InputError(
                f"labels {path} have shape {image.shape} ({image.axes}); give one image, or a stack of "
                f"{stack.n_frames} frames"
            )
        index = {axis: at if axis in sizes else 0 for axis in image.axes if axis not in "yx"}
        labels = image.read(**index)
    ids = np.unique(labels)
    given = [_from_label(path, at, int(i), labels == i, kind) for i in ids if i > 0]
    if not given:
        raise InputError(f"labels {path} are empty on frame {at}; choose another with --labels-frame")
    return given


def check_all(given: Iterable[Given], stack: Stack, *, or_everything: bool = False) -> tuple[Prompt, ...]:
    """The prompts, checked against the stack and in the form that a session keeps them.

    Parameters
    ----------
    given : iterable of Given
    stack : Stack
    or_everything : bool
        Whether the command could also find everything, which is said where there are no prompts.

    Raises
    ------
    InputError
        If there are none, one does not fit the stack, or an object has only negative clicks on its first
        prompted frame; the message says where it was written.
    """
    checked: list[Prompt] = []
    for one in given:
        try:
            checked.append(check_prompt(one.prompt, stack.n_frames, stack.frame_shape))
        except InputError as error:
            raise InputError(f"{one.origin}: {error}") from error
    if not checked:
        raise InputError(
            "there are no prompts; say which objects to follow with --point, --box, --prompts, --labels "
            "or --session" + (", or find all of them with --everything" if or_everything else "")
        )
    _check_begun(checked)
    return tuple(dict.fromkeys(checked))


def _check_begun(prompts: Iterable[Prompt]) -> None:
    """See that each object is said to be somewhere on the first frame that tells of it, where it begins."""
    first: dict[int, list[Prompt]] = {}
    for prompt in sorted(prompts, key=lambda one: one.frame):
        own = first.setdefault(prompt.object_id, [prompt])
        if own[0].frame == prompt.frame and own[0] is not prompt:
            own.append(prompt)
    for object_id, own in first.items():
        if all(isinstance(prompt, Point) and not prompt.positive for prompt in own):
            raise InputError(
                f"object {object_id} has only negative clicks on frame {own[0].frame}, the first with a "
                "prompt for it, and nothing to follow; say there what it is, with --point, --box or --labels"
            )


def numbers_from_text(text: str, form: str, origin: str, whole: int = 2) -> list[Any]:
    """Read numbers with commas between them: the first `whole` ones as int, the rest as float.

    Raises
    ------
    InputError
        If they are not as many as in `form`, or one is no number.
    """
    parts = text.split(",")
    if len(parts) != len(form.split(",")):
        raise InputError(f"{origin}: {len(parts)} values; give {form}, {len(form.split(','))} numbers")
    return [
        number_from(part, name, origin, whole=k < whole)
        for k, (part, name) in enumerate(zip(parts, form.split(","), strict=True))
    ]


def number_from(value: Any, name: str, origin: str, *, whole: bool) -> int | float:
    """A value of a table as int or float; InputError where it is none."""
    try:
        if isinstance(value, bool) or (whole and isinstance(value, float) and not value.is_integer()):
            raise ValueError
        return int(value) if whole else float(value)
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{origin}: {name} is {value!r}; give {kind}") from None


def _csv_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    missing = [name for name in ("kind", "frame", "id", "y", "x") if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}; its first line should be kind,frame,id,y,x,y1,x1"
        )
    return [(f"{path}, line {reader.line_num}", row) for row in reader]


def _json_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    rows = json.loads(text)
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(
            f"{path} is not a list of prompts such as "
            '[{"kind": "point", "frame": 0, "id": 1, "y": 120, "x": 96}]'
        )
    return [(f"{path}, prompt {number}", row) for number, row in enumerate(rows, start=1)]


def prompt_from_row(row: Mapping[str, Any], origin: str) -> Given:
    """The prompt of a row.

    Raises
    ------
    InputError
        If it is none; the message begins with `origin`.
    """
    kind = str(row.get("kind") or "").strip().lower()
    if kind not in _FIELDS:
        raise InputError(f"{origin}: kind is {kind!r}; use one of {', '.join(_FIELDS)}")
    frame, object_id = (int(number_from(row.get(name), name, origin, whole=True)) for name in ("frame", "id"))
    at = [float(number_from(row.get(name), name, origin, whole=False)) for name in _FIELDS[kind]]
    if kind == "box":
        return Given(origin, Box(frame, object_id, (at[0], at[1], at[2], at[3])))
    return Given(origin, Point(frame, object_id, (at[0], at[1]), kind == "point"))


def _from_label(path: Path, frame: int, object_id: int, mask: Any, kind: str) -> Given:
    origin = f"object {object_id} of {path}"
    if kind == "mask":
        return Given(origin, compact(Mask(frame, object_id, mask)))
    if kind == "box":
        y0, x0, y1, x1 = box_of(mask)
        # A box spans from pixel centre to pixel centre, and needs an area also where the object is a line.
        return Given(origin, Box(frame, object_id, (y0, x0, max(y1, y0 + 1), max(x1, x0 + 1))))
    y, x = click_of(mask)
    return Given(origin, Point(frame, object_id, (y, x)))

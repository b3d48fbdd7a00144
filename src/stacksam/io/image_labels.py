"""Labels inside the OME-Zarr of the image that they are of: ``image.ome.zarr/labels/NAME``.

The image's arrays and its metadata are read and never written; only the folder ``labels`` is. A label image
has the image's axes but for the channel, and its levels: so viewers lay one over the other. Levels are made
by nearest neighbour, for a mean of two ids is a third object.
"""

from __future__ import annotations

import colorsys
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from stacksam.errors import InputError, StackError, StorageError
from stacksam.io._complete import (
    atomic_store,
    complete_or_nothing,
    remove,
    replace_file,
    storage_error,
)
from stacksam.io._lazy import READ_ERRORS, _told
from stacksam.io._zarr import axis_letters
from stacksam.io.label_stack import LabelStack
from stacksam.io.labels import MAX_CHUNK
from stacksam.io.lineage import parents

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["write_image_labels"]

_GOLDEN = 0.618033988749895  # of the circle of hues, so that ids in a row look unlike


@dataclass(frozen=True, slots=True)
class _Level:
    path: str
    shape: tuple[int, ...]
    transforms: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Image:
    """What is to be known of the image; all without its channels."""

    version: str
    letters: str
    axes: list[Any]
    levels: list[_Level]
    transforms: list[dict[str, Any]]

    @property
    def zarr_format(self) -> int:
        return 3 if self.version == "0.5" else 2


def write_image_labels(
    image: str | os.PathLike[str],
    name: str,
    labels: LabelStack,
    lineage: nx.DiGraph | None = None,
    *,
    at: Mapping[str, int] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write labels into the OME-Zarr of their image, 0.4 or 0.5 as the image is.

    Parameters
    ----------
    image : path
        Folder of an OME-Zarr image.
    name : str
        Of the label image: letters, digits, ``_``, ``-`` and ``.``.
    labels : LabelStack
        Of as many frames, rows and columns as the image's full size. Their place is the image's, also where
        the stack's spacing was given otherwise.
    lineage : networkx.DiGraph, optional
        Kept as ``parent`` among each object's properties.
    at : mapping of str to int, optional
        Where the labels lie on another axis of the image that has more than one step: ``{"z": 3}``.
    overwrite : bool
        Whether labels of that name may be replaced.

    Returns
    -------
    Path
        The folder of the labels.

    Raises
    ------
    StackError
        If the image is no OME-Zarr 0.4 or 0.5, or is damaged.
    InputError
        If labels and image do not go together, or the lineage does not fit.
    StorageError
        If there are labels of that name, or they cannot be written. Everything stays as it was.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise InputError(f"{name!r} is no name of labels; use letters, digits, '_', '-' and '.'")
    folder = Path(image)
    about = _read_image(folder)
    place = _place(about, labels, dict(at or {}), folder)
    labels.check(lineage)
    home = folder / "labels"
    target = home / name
    attributes = _attributes(about, name, labels, lineage)
    if not home.exists():
        with complete_or_nothing(home, overwrite=False) as new:
            new.mkdir()
            _list_name(new, about, name)
            _write(new / name, about, labels, place, attributes)
        with _undone(folder, about, home):
            _consolidate(folder, about)
        return target
    _listed(home, about)
    had = target.exists()
    with complete_or_nothing(target, overwrite) as new:
        _write(new, about, labels, place, attributes)
    with _undone(home, about, None if had else target), _undone(folder, about):
        _list_name(home, about, name)
        _consolidate(folder, about)
    return target


def _read_image(folder: Path) -> _Image:
    try:
        group = zarr.open_group(str(folder), mode="r")
        attributes: dict[str, Any] = group.attrs.asdict()
        version = "0.5" if group.metadata.zarr_format == 3 else "0.4"
        found = attributes.get("ome", {}) if version == "0.5" else attributes
        if "multiscales" not in found:
            raise StackError(
                f"{folder} is no OME-Zarr image of version 0.4 or 0.5; name the folder that has its "
                "multiscales, such as image.ome.zarr or plate.ome.zarr/A/1/0"
            )
        image = found["multiscales"][0]
        if version == "0.4" and image.get("version") != "0.4":
            raise StackError(f"{folder} is OME-Zarr {image.get('version')}; labels are added to 0.4 and 0.5")
        letters = axis_letters(image["axes"], str(folder))
        keep = [k for k, letter in enumerate(letters) if letter != "c"]
        levels = []
        for dataset in image["datasets"]:
            shape = group[dataset["path"]].shape  # type: ignore[union-attr]
            transforms = [_kept(one, keep) for one in dataset["coordinateTransformations"]]
            levels.append(_Level(str(dataset["path"]), tuple(shape[k] for k in keep), transforms))
        return _Image(
            version,
            "".join(letters[k] for k in keep),
            [image["axes"][k] for k in keep],
            levels,
            [_kept(one, keep) for one in image.get("coordinateTransformations", ())],
        )
    except StackError:
        raise
    except READ_ERRORS as error:
        raise StackError(f"cannot read {folder} as an OME-Zarr image: {_told(error)}") from error


def _kept(transform: Mapping[str, Any], keep: list[int]) -> dict[str, Any]:
    """A transformation without the channel; the spec has scale and translation."""
    return {
        key: [value[k] for k in keep] if key in ("scale", "translation") else value
        for key, value in transform.items()
    }


def _place(about: _Image, labels: LabelStack, at: dict[str, int], folder: Path) -> dict[str, int]:
    """Index of the labels on each axis of the image that they do not have."""
    sizes = dict(zip(about.letters, about.levels[0].shape, strict=True))
    own = dict(zip(labels.axes, labels.shape, strict=True))
    if labels.frame_axis not in sizes and labels.n_frames == 1:
        del own[labels.frame_axis]
    if any(sizes.get(axis) != size for axis, size in own.items()):
        raise InputError(
            f"{labels.name} has {own}, but the image {folder} has {sizes}; labels of an image have its "
            "frames, rows and columns"
        )
    place = {}
    for axis, size in sizes.items():
        if axis in own:
            continue
        place[axis] = at.pop(axis, 0 if size == 1 else -1)
        if not 0 <= place[axis] < size:
            raise InputError(
                f"the image {folder} has {size} steps along {axis}; say on which one the labels lie with at, "
                f"0 to {size - 1}"
            )
    if at:
        raise InputError(f"at names {', '.join(at)}, which is none of the axes that the labels do not have")
    return place


def _attributes(about: _Image, name: str, labels: LabelStack, lineage: nx.DiGraph | None) -> dict[str, Any]:
    above = parents(lineage)
    colors, properties = [], []
    for object_id, seen in labels.survey.items():
        rgb = colorsys.hsv_to_rgb(object_id * _GOLDEN % 1.0, 0.75, 1.0)
        colors.append({"label-value": object_id, "rgba": [round(255 * c) for c in rgb] + [255]})
        one = {"label-value": object_id, "first_frame": seen.first, "last_frame": seen.last}
        properties.append(one | ({"parent": above[object_id]} if object_id in above else {}))
    of_labels: dict[str, Any] = {"source": {"image": "../../"}}
    if colors:
        of_labels |= {"colors": colors, "properties": properties}
    multiscales: dict[str, Any] = {
        "name": name,
        "axes": about.axes,
        "datasets": [{"path": one.path, "coordinateTransformations": one.transforms} for one in about.levels],
        "type": "nearest",
    }
    if about.transforms:
        multiscales["coordinateTransformations"] = about.transforms
    if about.version == "0.5":
        return {"ome": {"version": "0.5", "multiscales": [multiscales], "image-label": of_labels}}
    return {
        "multiscales": [{"version": "0.4", **multiscales}],
        "image-label": {"version": "0.4", **of_labels},
    }


def _write(
    folder: Path, about: _Image, labels: LabelStack, place: Mapping[str, int], attributes: dict[str, Any]
) -> None:
    """The group of a label image with all its levels; each frame is read once."""
    folder.mkdir()
    group = zarr.open_group(str(folder), mode="a", zarr_format=about.zarr_format, attributes=attributes)  # type: ignore[arg-type]
    full = about.levels[0].shape
    arrays = []
    for level in about.levels:
        chunks = tuple(
            min(size, MAX_CHUNK) if letter in "yx" else 1
            for letter, size in zip(about.letters, level.shape, strict=True)
        )
        options: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        if about.version == "0.5":
            options = {
                "compressors": ZstdCodec(level=3, checksum=True),
                "dimension_names": list(about.letters),
            }
        array = group.create_array(
            level.path, shape=level.shape, chunks=chunks, dtype=labels.dtype, fill_value=0, **options
        )
        nearest = {
            letter: _nearest(here, there)
            for letter, here, there in zip(about.letters, level.shape, full, strict=True)
        }
        fixed = {
            axis: index * len(nearest[axis]) // full[about.letters.index(axis)]
            for axis, index in place.items()
        }
        arrays.append((array, nearest, fixed))
    for number, frame in enumerate(labels.frames()):
        for array, nearest, fixed in arrays:
            small = frame[nearest["y"]][:, nearest["x"]]
            along = nearest.get(labels.frame_axis, np.zeros(1, int))
            for k in np.flatnonzero(along == number).tolist():
                at: dict[str, Any] = {"y": slice(None), "x": slice(None), labels.frame_axis: k, **fixed}
                array[tuple(at[letter] for letter in about.letters)] = small


def _nearest(here: int, there: int) -> NDArray[np.int64]:
    """Index at full size, of `there` steps, that is nearest to each of `here` steps of a level."""
    return np.minimum(((np.arange(here) + 0.5) * there / here).astype(np.int64), there - 1)


# Metadata files are changed as they are, so that nothing in them is lost that zarr does not know.


def _files(folder: Path, about: _Image) -> tuple[Path, ...]:
    if about.version == "0.5":
        return (folder / "zarr.json",)
    return folder / ".zattrs", folder / ".zgroup", folder / ".zmetadata"


@contextmanager
def _undone(folder: Path, about: _Image, new: Path | None = None) -> Iterator[None]:
    """Take back changes to the metadata of `folder`, and the folder `new`, if something fails."""
    before = {path: path.read_bytes() for path in _files(folder, about) if path.exists()}
    try:
        yield
    except BaseException as error:
        for path in _files(folder, about):
            if path not in before:
                remove(path)
            elif path.read_bytes() != before[path]:
                replace_file(path, before[path])
        if new is not None:
            remove(new)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise storage_error(folder, error, "everything stays as it was") from error
        raise


def _listed(home: Path, about: _Image) -> tuple[dict[str, Any], list[str]]:
    """Metadata of the folder ``labels``, and the names in it."""
    path = _files(home, about)[0]
    try:
        whole = json.loads(path.read_text("utf-8")) if path.exists() or about.version == "0.5" else {}
        inner = whole.get("attributes", {}).get("ome", {}) if about.version == "0.5" else whole
        names = inner.get("labels", [])
        if not isinstance(names, list):
            raise TypeError(f"its labels are {names!r:.60}")
    except READ_ERRORS as error:
        raise StackError(f"cannot read the list of labels in {home}: {_told(error)}") from error
    return whole, names


def _list_name(home: Path, about: _Image, name: str) -> None:
    """Add a name to the labels of an image."""
    path = _files(home, about)[0]
    new = not path.exists() and not (home / ".zgroup").exists()
    if about.version == "0.5":
        whole, names = ({}, []) if new else _listed(home, about)
        whole = whole or {"zarr_format": 3, "node_type": "group"}
        ome = whole.setdefault("attributes", {}).setdefault("ome", {"version": "0.5"})
        ome["labels"] = [*names, *([] if name in names else [name])]
    else:
        whole, names = ({}, []) if new else _listed(home, about)
        whole["labels"] = [*names, *([] if name in names else [name])]
        if not (home / ".zgroup").exists():
            replace_file(home / ".zgroup", b'{"zarr_format": 2}')
    replace_file(path, json.dumps(whole, indent=2).encode("utf-8"))


def _consolidate(folder: Path, about: _Image) -> None:
    """Where all metadata of an image are gathered in one place, readers look nowhere else."""
    gathered = folder / ".zmetadata"
    if about.version == "0.5":
        gathered = folder / "zarr.json"
        if not json.loads(gathered.read_text("utf-8")).get("consolidated_metadata"):
            return
    if not gathered.exists():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is no part of zarr 3 yet; whoever did it first knew
        zarr.consolidate_metadata(atomic_store(folder), zarr_format=about.zarr_format)  # type: ignore[arg-type]

"""OME-Zarr (0.4 and 0.5, and the older 0.1 to 0.3) and plain zarr, chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import zarr

from stacksam.errors import StackError
from stacksam.io._lazy import READ_ERRORS, LazyImage, _told, guess_axes, lazy_image
from stacksam.io._units import normalise_unit

_AXIS_NAMES = {"time": "t", "channel": "c", "t": "t", "z": "z", "c": "c", "y": "y", "x": "x"}


def looks_like_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group or array."""
    return any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"))


def read_zarr(path: Path, level: int = 0, series: int | None = None, axes: str | None = None) -> LazyImage:
    """Open a zarr folder or zip file lazily; see :func:`read_zarr_node`."""
    source = str(path)
    try:
        if path.is_dir():
            node = zarr.open(str(path), mode="r")
        else:
            node = zarr.open(zarr.storage.ZipStore(path, mode="r"), mode="r")
    except READ_ERRORS as error:
        raise StackError(f"cannot read {source} as zarr: {_told(error)}") from error
    return read_zarr_node(node, path.name.split(".")[0], source, level, series, axes)


def read_zarr_node(
    node: Any, name: str, source: str, level: int = 0, series: int | None = None, axes: str | None = None
) -> LazyImage:
    """Open a zarr array or group lazily.

    Parameters
    ----------
    node : zarr.Array or zarr.Group
        An array, a group with OME-Zarr metadata (an image or image labels), or a group with one array.
    name, source : str
        Short name, and where the node came from.
    level : int
        Resolution level of a multiscale image.
    series : int, optional
        Which image of a group with several.
    axes : str, optional
        Letters of the dimensions, where the file does not tell or is wrong.
    """
    try:
        if isinstance(node, zarr.Array):
            return _read_array(node, name, source, level, axes)
        attributes = node.attrs.asdict()
        ome = attributes.get("ome", attributes)
        if not isinstance(ome, Mapping):
            raise StackError(f"{source} is not OME-Zarr: its attribute 'ome' is a {type(ome).__name__}")
        if "multiscales" in ome:
            return _read_multiscales(node, ome["multiscales"], name, source, level, series, axes)
        if "plate" in ome or "well" in ome:
            raise StackError(
                f"{source} is a plate or well; open one field of it, such as {_example_field(ome, source)}"
            )
        return _read_group(node, ome, name, source, level, series, axes)
    except StackError:
        raise
    except READ_ERRORS as error:
        raise StackError(f"cannot read {source} as zarr: {_told(error)}") from error


def _read_array(array: Any, name: str, source: str, level: int, axes: str | None) -> LazyImage:
    _refuse_pickle(array, source)
    if level:
        raise StackError(f"{source} is a single array: it has no level {level}, only 0")
    if axes is None:
        named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
        letters = [_AXIS_NAMES.get(str(n).lower()) for n in named or ()]
        if letters and None not in letters and len(set(letters)) == len(letters):
            axes = "".join(letter for letter in letters if letter)
        else:
            axes = guess_axes(array.shape, array.dtype, source)
    return lazy_image(array, axes, name=name, source=source, rgb="s" in axes.lower())


def _refuse_pickle(array: Any, source: str) -> None:
    """A pickled chunk runs whatever code its writer put in; older numcodecs unpickle it on the first read."""
    metadata = array.metadata.to_dict()
    coders = [metadata.get("compressor"), *(metadata.get("filters") or ()), *(metadata.get("codecs") or ())]
    for coder in coders:
        name = coder.get("id") or coder.get("name") if isinstance(coder, Mapping) else coder
        name = str(getattr(name, "codec_id", name))
        if "pickle" in name.lower():
            raise StackError(
                f"{source} holds pickled chunks, which could run any code; convert it to plain numbers"
            )


def _read_group(
    group: Any,
    ome: Mapping[str, Any],
    name: str,
    source: str,
    level: int,
    series: int | None,
    axes: str | None,
) -> LazyImage:
    arrays, groups = sorted(group.array_keys()), sorted(group.group_keys())
    if "bioformats2raw.layout" in ome or "labels" in ome:
        images = [str(n) for n in ome.get("labels", ())] or [n for n in groups if n != "OME"]
        images.sort(key=lambda n: (len(n), n))
        if series is None and len(images) != 1:
            raise StackError(
                f"{source} holds {len(images)} images {images[:20]}; choose one with series= or its path"
            )
        if not 0 <= (series or 0) < len(images):
            raise StackError(f"{source} has no series {series}; it has {len(images)}, counted from 0")
        chosen = images[series or 0]
        return read_zarr_node(group[chosen], f"{name}-{chosen}", f"{source}/{chosen}", level, None, axes)
    if len(arrays) == 1:
        return _read_array(group[arrays[0]], name, f"{source}/{arrays[0]}", level, axes)
    if not arrays and not groups:
        raise StackError(f"{source} is an empty zarr group")
    inside = ", ".join((arrays + groups)[:20])
    raise StackError(f"{source} is a zarr group without OME metadata; open one of the arrays in it: {inside}")


def _read_multiscales(
    group: Any, multiscales: Any, name: str, source: str, level: int, series: int | None, axes: str | None
) -> LazyImage:
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], Mapping):
        raise StackError(f"{source} has no usable OME-Zarr metadata: 'multiscales' is {multiscales!r:.60}")
    if series is None and len(multiscales) > 1:
        raise StackError(
            f"{source} holds {len(multiscales)} images; choose one with series=0 to {len(multiscales) - 1}"
        )
    if not 0 <= (series or 0) < len(multiscales):
        raise StackError(f"{source} has no series {series}; it has {len(multiscales)}, counted from 0")
    image = multiscales[series or 0]
    datasets = image.get("datasets")
    if not datasets:
        raise StackError(f"{source} has no usable OME-Zarr metadata: 'datasets' is missing or empty")
    if not 0 <= level < len(datasets):
        raise StackError(f"{source} has no level {level}; its levels are 0 to {len(datasets) - 1}")
    path = datasets[level]["path"]
    array = group[path]
    if not isinstance(array, zarr.Array):
        raise StackError(
            f"{source} has no usable OME-Zarr metadata: its level {path!r} is a group, not an array"
        )
    _refuse_pickle(array, source)
    letters, units = _axes(image.get("axes"), array.ndim, source)
    steps = [1.0] * array.ndim
    for transformations in (
        datasets[level].get("coordinateTransformations"),
        image.get("coordinateTransformations"),
    ):
        for one in transformations or ():
            if one.get("type") == "scale":
                steps = [a * float(b) for a, b in zip(steps, one["scale"], strict=True)]
    if axes is not None and len(axes) == len(letters):
        letters = axes.lower()
    found = lazy_image(
        array,
        axes or letters,
        scale=dict(zip(letters, steps, strict=True)),
        units=dict(zip(letters, units, strict=True)),
        name=name,
        source=source,
    )
    return replace(found, coarser=_coarser(group, datasets[level + 1 :], found, axes or letters))


def _coarser(group: Any, datasets: Any, full: LazyImage, axes: str) -> tuple[tuple[int, LazyImage], ...]:
    """Levels that are the full image at half, a quarter ... of its rows and columns; others are of no use."""
    found: list[tuple[int, LazyImage]] = []
    for dataset in datasets:
        array = group.get(dataset.get("path"))
        if not isinstance(array, zarr.Array) or array.ndim != len(axes) or array.dtype != full.dtype:
            continue
        _refuse_pickle(array, full.source)
        image = lazy_image(array, axes, name=full.name, source=f"{full.source}/{dataset['path']}")
        if image.axes != full.axes:
            continue
        factor = max(1, round(full.sizes["y"] / image.sizes["y"]))
        wanted = {a: size // factor if a in "yx" else size for a, size in full.sizes.items()}
        known = found[-1][0] if found else 1
        # Some programs round up where the sides are no multiples of the factor.
        alike = all(0 <= image.sizes[a] - size <= (a in "yx") for a, size in wanted.items())
        if alike and factor > known and factor & (factor - 1) == 0:
            found.append((factor, image))
    return tuple(found)


def axis_letters(axes: Any, source: str) -> str:
    """Letters of the axes that OME-Zarr metadata names; one that is not known is an error."""
    letters, _ = _axes(axes, len(axes), source)
    if "?" in letters or len(set(letters)) < len(letters):
        raise StackError(f"{source} has axes that are not known: {axes}")
    return letters


def _axes(axes: Any, ndim: int, source: str) -> tuple[str, list[str | None]]:
    """Letters and units of the axes that OME-Zarr metadata names."""
    if axes is None:  # 0.1 and 0.2 have all five, always
        return "tczyx"[-ndim:], [None] * ndim
    if len(axes) != ndim:
        raise StackError(f"{source} names {len(axes)} axes, but its array has {ndim}")
    letters, units = "", []
    for axis in axes:
        axis = {"name": axis} if isinstance(axis, str) else axis  # 0.3 has names only  # noqa: PLW2901
        letter = _AXIS_NAMES.get(str(axis.get("name")).lower()) or _AXIS_NAMES.get(
            str(axis.get("type")).lower()
        )
        letters += letter or "?"
        units.append(normalise_unit(axis.get("unit")))
    return letters, units


def _example_field(ome: Mapping[str, Any], source: str) -> str:
    try:
        if "plate" in ome:
            return f"{source}/{ome['plate']['wells'][0]['path']}/0"
        return f"{source}/{ome['well']['images'][0]['path']}"
    except READ_ERRORS:
        return f"{source}/A/1/0"

"""Tracks as a graph in the Graph Exchange File Format (GEFF), with the format's own package.

A node is an object on a frame; an edge leads to the next frame that shows the object, or to the first of a
daughter.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stacksam.errors import InputError
from stacksam.io._complete import complete_or_nothing
from stacksam.io._extras import needed
from stacksam.io._units import is_space, is_time
from stacksam.io.label_stack import LabelStack
from stacksam.io.spots import Spots, SpotTable

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["write_geff"]


def write_geff(
    path: str | os.PathLike[str],
    labels: LabelStack,
    lineage: nx.DiGraph | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write tracks as GEFF: a zarr group of nodes and edges.

    Nodes have ``t`` (frame) and ``y``, ``x`` (centroid in pixels), whose axes carry step and unit as
    ``scale`` and ``scaled_unit``; ``object_id``, the value in the labels; ``area`` in pixels; and
    ``lineage_id``, the id of the first ancestor. Where no object has a single daughter, objects are tracklets
    in the sense of GEFF, and are declared as such.

    Parameters
    ----------
    path : path
        Folder to be made.
    labels : LabelStack
        Of a time-lapse.
    lineage : networkx.DiGraph, optional
        Edges from parent to daughter.
    overwrite : bool
        Whether such a folder may be replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the package is not installed, frames lie along z, or the lineage does not
        fit.
    StorageError
        If the folder exists or cannot be written. Nothing is left behind.
    """
    core = needed("geff.core_io", "geff", "formats")
    spec = needed("geff_spec", "geff", "formats")
    target = Path(path)
    table = SpotTable(labels, lineage, "GEFF")
    with complete_or_nothing(target, overwrite, _is_geff) as temporary:
        for _ in table.walk():
            pass
        spots = table.done()
        try:
            core.write_arrays(
                str(temporary),
                node_ids=np.arange(len(spots.ids), dtype=np.uint64),
                node_props=_properties(spots),
                edge_ids=spots.links.astype(np.uint64),
                edge_props={},
                metadata=_metadata(spec, labels, lineage),
                zarr_format=2,  # what all versions of the format's readers know
            )
        except ValueError as error:
            raise InputError(f"{labels.name} makes no GEFF: {error}") from error
    return target


def _is_geff(folder: Path) -> bool:
    """Whether a folder is a graph, and not an image, which is zarr, too."""
    files = (folder / ".zattrs", folder / "zarr.json")
    return any('"geff"' in file.read_text("utf-8", "replace") for file in files if file.is_file())


def _properties(spots: Spots) -> dict[str, dict[str, Any]]:
    values = {
        "t": spots.frames,
        "y": spots.yx[:, 0],
        "x": spots.yx[:, 1],
        "object_id": spots.ids,
        "lineage_id": spots.families,
        "area": spots.pixels,
    }
    return {
        name: {"values": np.ascontiguousarray(column), "missing": None} for name, column in values.items()
    }


def _metadata(spec: Any, labels: LabelStack, lineage: nx.DiGraph | None) -> Any:
    axes = []
    for name, step, unit in zip("tyx", labels.scale, labels.units, strict=True):
        fits = is_time(unit) if name == "t" else is_space(unit)
        scaled = {"scale": step, "scaled_unit": unit} if fits else {"scale": step}
        kind, pixels = ("time", "frame") if name == "t" else ("space", "pixel")
        axes.append(spec.Axis(name=name, type=kind, unit=pixels, **scaled))
    tracks = {"lineage": "lineage_id"}
    if lineage is None or all(count != 1 for _, count in lineage.out_degree()):
        tracks["tracklet"] = "object_id"
    return spec.GeffMetadata(
        directed=True, axes=axes, node_props_metadata={}, edge_props_metadata={}, track_node_props=tracks
    )

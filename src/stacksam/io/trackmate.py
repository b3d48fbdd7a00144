"""Tracks as an XML file of TrackMate (Ershov et al., 2022), the tracker of Fiji.

A *spot* is an object on a frame, with its outline; an *edge* links two spots; a *track* is all that is
linked, so a whole family: TrackMate has divisions inside of a track. Places and times are physical, pixel
centres at integers. The object's id is in each spot's name and in its feature ``OBJECT_ID``. The file is
written as TrackMate's reader (``fiji.plugin.trackmate.io.TmXmlReader``, version 7) takes it apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from stacksam.io._complete import complete_or_nothing
from stacksam.io._units import imagej_unit
from stacksam.io.label_stack import LabelStack
from stacksam.io.spots import Spots, SpotTable

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["write_trackmate"]

# Feature: name, short name, dimension, whether whole numbers.
_FEATURES: dict[str, dict[str, tuple[str, str, str, bool]]] = {
    "SpotFeatures": {
        "QUALITY": ("Quality", "Quality", "QUALITY", False),
        "POSITION_X": ("X", "X", "POSITION", False),
        "POSITION_Y": ("Y", "Y", "POSITION", False),
        "POSITION_Z": ("Z", "Z", "POSITION", False),
        "POSITION_T": ("T", "T", "TIME", False),
        "FRAME": ("Frame", "Frame", "NONE", True),
        "RADIUS": ("Radius", "R", "LENGTH", False),
        "VISIBILITY": ("Visibility", "Visibility", "NONE", True),
        "OBJECT_ID": ("Object id", "Object", "NONE", True),
        "AREA": ("Area", "Area", "AREA", False),
    },
    "EdgeFeatures": {
        "SPOT_SOURCE_ID": ("Source spot ID", "Source ID", "NONE", True),
        "SPOT_TARGET_ID": ("Target spot ID", "Target ID", "NONE", True),
        "LINK_COST": ("Edge cost", "Cost", "COST", False),
        "EDGE_TIME": ("Edge time", "Edge T", "TIME", False),
        "DISPLACEMENT": ("Displacement", "Disp.", "LENGTH", False),
        "SPEED": ("Speed", "Speed", "VELOCITY", False),
    },
    "TrackFeatures": {
        "TRACK_INDEX": ("Track index", "Index", "NONE", True),
        "TRACK_ID": ("Track ID", "ID", "NONE", True),
        "NUMBER_SPOTS": ("Number of spots in track", "N spots", "NONE", True),
        "NUMBER_SPLITS": ("Number of split events", "N splits", "NONE", True),
        "TRACK_START": ("Track start", "Start", "TIME", False),
        "TRACK_STOP": ("Track stop", "Stop", "TIME", False),
    },
}


def write_trackmate(
    path: str | os.PathLike[str],
    labels: LabelStack,
    lineage: nx.DiGraph | None = None,
    *,
    image: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write tracks as TrackMate XML.

    Outlines are those of the largest piece of an object, without holes; the labels themselves are not in the
    file.

    Parameters
    ----------
    path : path
        File to write; its folder must exist.
    labels : LabelStack
        Of a time-lapse.
    lineage : networkx.DiGraph, optional
        Edges from parent to daughter.
    image : path, optional
        The image that TrackMate is to open with it.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If frames lie along z, rows and columns have different units, or the lineage
        does not fit.
    StorageError
        If the file exists or cannot be written. Nothing is left behind.
    """
    target = Path(path)
    unit = labels.length_unit()
    table = SpotTable(labels, lineage, "TrackMate")
    with complete_or_nothing(target, overwrite) as temporary, temporary.open("x", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n<TrackMate version="7.11.1">\n')
        file.write("  <Log>Written by stacksam.</Log>\n")
        units = {"spatialunits": imagej_unit(unit), "timeunits": imagej_unit(labels.units[0], "frame")}
        file.write(f"  <Model{_attributes(units)}>\n")
        _write_features(file)
        _write_spots(file, table, labels)
        _write_tracks(file, table.done(), labels)
        file.write("  </Model>\n")
        _write_settings(file, labels, None if image is None else Path(image).absolute())
        file.write('  <GUIState state="ConfigureViews" />\n</TrackMate>\n')
    return target


def _write_features(file: TextIO) -> None:
    file.write("    <FeatureDeclarations>\n")
    for kind, features in _FEATURES.items():
        file.write(f"      <{kind}>\n")
        for feature, (name, short, dimension, whole) in features.items():
            about = {"feature": feature, "name": name, "shortname": short, "dimension": dimension}
            file.write(f"        <Feature{_attributes(about | {'isint': whole})} />\n")
        file.write(f"      </{kind}>\n")
    file.write("    </FeatureDeclarations>\n")


def _write_spots(file: TextIO, table: SpotTable, labels: LabelStack) -> None:
    dt, dy, dx = labels.scale
    file.write(f"    <AllSpots{_attributes({'nspots': len(table)})}>\n")
    number = 0
    for frame, image, found in table.walk():
        file.write(f"      <SpotsInFrame{_attributes({'frame': frame})}>\n")
        for object_id, pixels, (y, x), box in zip(
            found.ids.tolist(), found.pixels.tolist(), found.centroids.tolist(), found.boxes, strict=True
        ):
            area = pixels * dy * dx
            outline = (_outline(image, object_id, box) - (y, x)) * (dy, dx)
            features = {
                "ID": number,
                "name": str(object_id),
                "QUALITY": 1.0,
                "POSITION_X": x * dx,
                "POSITION_Y": y * dy,
                "POSITION_Z": 0.0,
                "POSITION_T": frame * dt,
                "FRAME": frame,
                "RADIUS": (area / np.pi) ** 0.5,
                "VISIBILITY": 1,
                "OBJECT_ID": object_id,
                "AREA": area,
                "ROI_N_POINTS": len(outline),
            }
            points = " ".join(f"{value:.7g}" for point in outline for value in point[::-1])
            file.write(f"        <Spot{_attributes(features)}>{points}</Spot>\n")
            number += 1
        file.write("      </SpotsInFrame>\n")
    file.write("    </AllSpots>\n")


def _outline(image: NDArray[Any], object_id: int, box: NDArray[np.int64]) -> NDArray[np.float64]:
    """Corners (y, x) of the longest outline of an object, in pixels of the frame."""
    from skimage.measure import find_contours

    y0, x0, y1, x1 = box
    mask = np.pad(image[y0:y1, x0:x1] == object_id, 1).astype(float)
    longest: NDArray[np.float64] = max(find_contours(mask, 0.5), key=len)[:-1]  # type: ignore[no-untyped-call]
    # Points on a straight line between their neighbours say nothing.
    before, after = longest - np.roll(longest, 1, 0), np.roll(longest, -1, 0) - longest
    corners = longest[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    moved: NDArray[np.float64] = corners + np.array([y0 - 1, x0 - 1])
    return moved


def _write_tracks(file: TextIO, spots: Spots, labels: LabelStack) -> None:
    links = spots.links[np.argsort(spots.families[spots.links[:, 0]], kind="stable")]
    families = spots.families[links[:, 0]] if len(links) else np.empty(0, np.int64)
    ids, starts = np.unique(families, return_index=True)
    file.write("    <AllTracks>\n")
    for index, edges in enumerate(np.split(links, starts[1:]) if len(ids) else []):
        members = np.unique(edges)
        _, daughters = np.unique(edges[:, 0], return_counts=True)
        about = {
            "name": f"Track_{index}",
            "TRACK_INDEX": index,
            "TRACK_ID": index,
            "NUMBER_SPOTS": len(members),
            "NUMBER_SPLITS": int((daughters > 1).sum()),
            "TRACK_START": spots.frames[members].min() * labels.scale[0],
            "TRACK_STOP": spots.frames[members].max() * labels.scale[0],
        }
        file.write(f"      <Track{_attributes(about)}>\n")
        for edge in _edges(edges, spots, labels):
            file.write(f"        <Edge{_attributes(edge)} />\n")
        file.write("      </Track>\n")
    file.write("    </AllTracks>\n    <FilteredTracks>\n")
    for index in range(len(ids)):
        file.write(f"      <TrackID{_attributes({'TRACK_ID': index})} />\n")
    file.write("    </FilteredTracks>\n")


def _edges(edges: NDArray[np.int64], spots: Spots, labels: LabelStack) -> Iterator[dict[str, Any]]:
    source, target = edges.T
    length = np.linalg.norm((spots.yx[target] - spots.yx[source]) * labels.scale[1:], axis=1)
    times = np.stack([spots.frames[source], spots.frames[target]]) * labels.scale[0]
    for k in range(len(edges)):
        yield {
            "SPOT_SOURCE_ID": source[k],
            "SPOT_TARGET_ID": target[k],
            "LINK_COST": -1.0,  # as of links that no tracker made
            "EDGE_TIME": times[:, k].mean(),
            "DISPLACEMENT": length[k],
            "SPEED": length[k] / (times[1, k] - times[0, k]),
        }


def _write_settings(file: TextIO, labels: LabelStack, image: Path | None) -> None:
    frames, height, width = labels.shape
    dt, dy, dx = labels.scale
    data = {
        "filename": "" if image is None else image.name,
        "folder": "" if image is None else f"{image.parent}{os.sep}",
        "width": width,
        "height": height,
        "nslices": 1,
        "nframes": frames,
        "pixelwidth": dx,
        "pixelheight": dy,
        "voxeldepth": 1.0,
        "timeinterval": dt,
    }
    crop = {"xstart": 0, "xend": width - 1, "ystart": 0, "yend": height - 1}
    crop |= {"zstart": 0, "zend": 0, "tstart": 0, "tend": frames - 1}
    detector = {"DETECTOR_NAME": "MANUAL_DETECTOR", "RADIUS": 1.0}
    filters = {"feature": "QUALITY", "value": 0.0, "isabove": True}
    file.write(
        "  <Settings>\n"
        f"    <ImageData{_attributes(data)} />\n"
        f"    <BasicSettings{_attributes(crop)} />\n"
        f"    <DetectorSettings{_attributes(detector)} />\n"
        f"    <InitialSpotFilter{_attributes(filters)} />\n"
        "    <SpotFilterCollection />\n"
        '    <TrackerSettings TRACKER_NAME="MANUAL_TRACKER" />\n'
        "    <TrackFilterCollection />\n"
        "    <AnalyzerCollection>\n"
        "      <SpotAnalyzers />\n      <EdgeAnalyzers />\n      <TrackAnalyzers />\n"
        "    </AnalyzerCollection>\n"
        "  </Settings>\n"
    )


def _attributes(values: dict[str, Any]) -> str:
    return "".join(f" {name}={quoteattr(_text(value))}" for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)

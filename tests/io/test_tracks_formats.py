"""GEFF, TrackMate and COCO, each read back by a reader that is not ours."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import sys
import warnings
from xml.etree import ElementTree

import geff
import geff.convert
import networkx as nx
import numpy as np
import pytest
import pytrackmate
import zarr
from geff.validate.tracks import validate_lineages, validate_tracklets
from pycocotools.coco import COCO

from stacksam.errors import InputError, StackError, StorageError
from stacksam.io.coco import _compressed, _counts, write_coco
from stacksam.io.geff import write_geff
from stacksam.io.label_stack import LabelStack
from stacksam.io.trackmate import write_trackmate

WRITERS = [(write_geff, "t.geff"), (write_trackmate, "t.xml"), (write_coco, "c.json")]
writers = pytest.mark.parametrize(("write", "name"), WRITERS, ids=[name for _, name in WRITERS])


def pairs(edges):
    return {(int(a), int(b)) for a, b in edges}


def expected_links(array, lineage):
    """(frame, id) -> (frame, id): to the next frame that shows the object, and from a last to a first."""
    found = set()
    frames = {int(i): np.flatnonzero((array == i).any((1, 2))).tolist() for i in np.unique(array) if i}
    for i, seen in frames.items():
        found |= {((a, i), (b, i)) for a, b in itertools.pairwise(seen)}
    return found | {((frames[p][-1], p), (frames[d][0], d)) for p, d in lineage.edges}


def centroids(array):
    return {
        (f, int(i)): np.argwhere(frame == i).mean(0)
        for f, frame in enumerate(array)
        for i in np.unique(frame)
        if i
    }


# --- GEFF ----------------------------------------------------------------------------------------------


def test_geff_round_trip(family, tmp_path):
    path = write_geff(tmp_path / "t.geff", family.labels, family.lineage)
    graph, metadata = geff.read(path, structure_validation=True)
    nodes = {n: (int(d["t"]), int(d["object_id"])) for n, d in graph.nodes(data=True)}
    assert {(nodes[a], nodes[b]) for a, b in graph.edges} == expected_links(family.array, family.lineage)
    places = centroids(family.array)
    assert set(nodes.values()) == set(places)
    for node, data in graph.nodes(data=True):
        np.testing.assert_allclose((data["y"], data["x"]), places[nodes[node]])
        assert data["area"] == (family.array[nodes[node][0]] == nodes[node][1]).sum()
    assert [(a.name, a.type, a.unit, a.scale, a.scaled_unit) for a in metadata.axes] == [
        ("t", "time", "frame", 30.0, "second"),
        ("y", "space", "pixel", 0.5, "micrometer"),
        ("x", "space", "pixel", 0.25, "micrometer"),
    ]
    ids = list(graph.nodes)
    assert metadata.track_node_props == {"lineage": "lineage_id", "tracklet": "object_id"}
    assert validate_lineages(ids, list(graph.edges), [graph.nodes[n]["lineage_id"] for n in ids])[0]
    assert validate_tracklets(ids, list(graph.edges), [graph.nodes[n]["object_id"] for n in ids])[0]


def test_geff_by_plain_zarr(family, tmp_path):
    group = zarr.open_group(write_geff(tmp_path / "t.geff", family.labels, family.lineage), mode="r")
    assert group.attrs["geff"]["directed"] is True
    ids, props = group["nodes/ids"][:], group["nodes/props"]
    assert len(set(ids.tolist())) == len(ids) == len(centroids(family.array))
    assert set(props["object_id/values"][:].tolist()) == set(family.labels.survey)
    assert set(np.unique(group["edges/ids"][:])) <= set(ids.tolist())


def test_objects_with_one_daughter_are_no_tracklets_of_geff(tmp_path):
    a = np.zeros((4, 3, 3), np.uint8)
    a[:2], a[2:] = 1, 2
    path = write_geff(tmp_path / "t.geff", LabelStack.of(a), nx.DiGraph([(1, 2)]))
    assert geff.read(path)[1].track_node_props == {"lineage": "lineage_id"}


# --- TrackMate -----------------------------------------------------------------------------------------


def test_trackmate_by_pytrackmate(family, tmp_path):
    path = write_trackmate(tmp_path / "t.xml", family.labels, family.lineage)
    spots = pytrackmate.trackmate_peak_import(path, get_tracks=True)
    places = centroids(family.array)
    assert len(spots) == len(places)
    found = {(round(t), round(y, 4), round(x, 4)) for t, y, x in spots[["t_stamp", "y", "x"]].to_numpy()}
    assert found == {(f, round(y * 0.5, 4), round(x * 0.25, 4)) for (f, _), (y, x) in places.items()}
    np.testing.assert_allclose(spots["t"], spots["t_stamp"] * 30)
    # One label a family: 1 with its daughters, 7, 9, 500, and 11, which is alone on one frame.
    assert spots["label"].nunique() == 5


def test_trackmate_by_geff(family, tmp_path):
    path = write_trackmate(tmp_path / "t.xml", family.labels, family.lineage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no image is named, and units are as ImageJ spells them
        geff.convert.from_trackmate_xml_to_geff(path, tmp_path / "t.geff")
        graph, metadata = geff.read(tmp_path / "t.geff")
    nodes = {n: (int(d["FRAME"]), int(d["OBJECT_ID"])) for n, d in graph.nodes(data=True)}
    assert {(nodes[a], nodes[b]) for a, b in graph.edges} == expected_links(family.array, family.lineage)
    units = {axis.name: axis.unit for axis in metadata.axes}
    assert units["POSITION_X"] == "micron"
    assert units["POSITION_T"] == "sec"


def test_trackmate_has_what_its_reader_wants(family, tmp_path):
    """The elements that `TmXmlReader` looks for, and outlines in its order: x before y, from the centre."""
    path = write_trackmate(tmp_path / "t.xml", family.labels, family.lineage, image=tmp_path / "a&b.tif")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "TrackMate"
    model, settings = root.find("Model"), root.find("Settings")
    assert model.attrib == {"spatialunits": "micron", "timeunits": "sec"}
    spots = list(model.iter("Spot"))
    assert int(model.find("AllSpots").get("nspots")) == len(spots)
    for kind, element in (("SpotFeatures", spots), ("EdgeFeatures", model.iter("Edge"))):
        declared = {f.get("feature") for f in model.find("FeatureDeclarations").find(kind)}
        assert all(set(e.attrib) - declared <= {"ID", "name", "ROI_N_POINTS"} for e in element)
    tracks = [t.get("TRACK_ID") for t in model.find("AllTracks")]
    assert tracks == [t.get("TRACK_ID") for t in model.find("FilteredTracks")]
    image = settings.find("ImageData").attrib
    assert (image["filename"], image["folder"]) == ("a&b.tif", f"{tmp_path}{os.sep}")
    assert [float(image[k]) for k in ("width", "height", "nframes")] == [37, 24, 8]
    assert [float(image[k]) for k in ("pixelwidth", "pixelheight", "timeinterval")] == [0.25, 0.5, 30]
    assert settings.find("InitialSpotFilter").get("isabove") == "true"
    first = next(s for s in spots if s.get("OBJECT_ID") == "1")
    outline = np.array(first.text.split(), float).reshape(-1, 2)
    assert len(outline) == int(first.get("ROI_N_POINTS"))
    # Rows 2 to 8, columns 3 to 10, with their pixels' outer borders.
    np.testing.assert_allclose(np.abs(outline).max(0), (4 * 0.25, 3.5 * 0.5))
    assert float(first.get("AREA")) == pytest.approx(56 * 0.125)
    for spot in spots:
        assert len(spot.text.split()) == 2 * int(spot.get("ROI_N_POINTS")) > 4


# --- COCO ----------------------------------------------------------------------------------------------


def coco(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("axes", ["tyx", "zyx"])
def test_coco_round_trip(family, volume, tmp_path, axes):
    known = family if axes == "tyx" else volume
    lineage = family.lineage if axes == "tyx" else None
    found = coco(write_coco(tmp_path / "c.json", known.labels, lineage, image="cells.tif"))
    back = np.zeros_like(family.array)
    for note in found.loadAnns(found.getAnnIds()):
        mask = found.annToMask(note).astype(bool)
        frame = found.loadImgs(note["image_id"])[0]["frame"]
        back[frame][mask] = note["track_id"]
        rows, columns = np.nonzero(mask)
        x, y, width, height = note["bbox"]
        assert (x, y, x + width, y + height) == (
            *np.array([columns, rows]).min(1),
            *np.array([columns, rows]).max(1) + 1,
        )
        assert note["area"] == mask.sum()
    np.testing.assert_array_equal(back, family.array)
    assert [image["file_name"] for image in found.loadImgs(found.getImgIds())] == ["cells.tif"] * 8
    tracks = {track["id"]: track["parent_id"] for track in found.dataset["tracks"]}
    assert set(tracks) == set(family.labels.survey)
    assert {(p, d) for d, p in tracks.items() if p} == (pairs(lineage.edges) if lineage else set())
    assert found.dataset["info"]["units"] == list(known.labels.units)


def test_run_lengths_are_those_of_coco():
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(5)
    for height, width, share in [
        (1, 1, 1),
        (7, 5, 0.5),
        (5, 7, 0.9),
        (300, 200, 0.001),
        (3, 4, 0),
        (64, 3, 1),
    ]:
        mask = rng.random((height, width)) < share
        mask[0, 0] = mask[0, 0] or share == 0.9
        theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert _compressed(_counts(mask, 0, width)) == theirs


def test_an_empty_stack_is_an_empty_coco(tmp_path):
    path = write_coco(tmp_path / "c.json", LabelStack.of(np.zeros((2, 3, 4), int)))
    assert json.loads(path.read_text())["annotations"] == []
    assert len(coco(path).getImgIds()) == 2


def test_an_empty_stack_has_no_tracks(tmp_path):
    labels = LabelStack.of(np.zeros((2, 3, 4), int))
    assert len(geff.read(write_geff(tmp_path / "t.geff", labels))[0]) == 0
    assert len(pytrackmate.trackmate_peak_import(write_trackmate(tmp_path / "t.xml", labels))) == 0


# --- refusals ------------------------------------------------------------------------------------------


@writers
def test_what_exists_stays_until_the_new_one_is_complete(family, tmp_path, write, name):
    path = write(tmp_path / name, family.labels)
    with pytest.raises(StorageError, match="exists already"):
        write(path, family.labels)
    stamp = sorted((p.name, p.stat().st_mtime_ns) for p in [path, *path.rglob("*")])
    reads = []

    def read(frame):
        reads.append(frame)
        if len(reads) > 12:  # in the second look, which writes
            raise StackError("the disk is gone")
        return family.array[frame]

    with pytest.raises(StackError, match="the disk is gone"):
        write(path, LabelStack(read, family.array.shape), overwrite=True)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in [path, *path.rglob("*")]) == stamp
    write(path, family.labels, family.lineage, overwrite=True)
    assert os.listdir(tmp_path) == [name]


@writers
def test_lineages_that_do_not_fit(family, tmp_path, write, name):
    for edges in ([(2, 1)], [(1, 2), (30, 2)], [(1, 77)], [(2, 30), (30, 2)]):
        with pytest.raises(InputError, match=r"object|circle"):
            write(tmp_path / name, family.labels, nx.DiGraph(edges))
    with pytest.raises(StorageError, match="there is no folder"):
        write(tmp_path / "none" / name, family.labels)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("write", "name"), WRITERS[:2])
def test_tracks_go_through_time(volume, tmp_path, write, name):
    with pytest.raises(InputError, match="has frames along z"):
        write(tmp_path / name, volume.labels)


def test_geff_never_replaces_an_image(family, tmp_path):
    zarr.open_group(str(tmp_path / "image.zarr"), mode="w").create_array("0", shape=(2,), dtype="u1")
    with pytest.raises(StorageError, match="folder of other things"):
        write_geff(tmp_path / "image.zarr", family.labels, overwrite=True)
    assert (tmp_path / "image.zarr" / "0").is_dir()


def test_geff_says_what_to_install(family, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "geff.core_io", None)
    with pytest.raises(InputError, match=r'package geff: pip install "napari-stacksam\[formats\]"'):
        write_geff(tmp_path / "t.geff", family.labels)

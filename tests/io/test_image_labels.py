"""Labels lie in the image's OME-Zarr as the specification says, and the image stays as it was."""

from __future__ import annotations

import hashlib
import json
import os

import networkx as nx
import numpy as np
import ome_zarr_models.v04.image_label
import ome_zarr_models.v04.labels
import ome_zarr_models.v05.image_label
import ome_zarr_models.v05.labels
import pytest
import zarr

from stacksam.errors import InputError, StackError, StorageError
from stacksam.io import image_labels, open_image, read_labels
from stacksam.io.image_labels import write_image_labels
from stacksam.io.label_stack import LabelStack

MODELS = {"0.4": ome_zarr_models.v04, "0.5": ome_zarr_models.v05}
versions = pytest.mark.parametrize("version", MODELS)


def make_image(path, version, letters="tczyx", shape=(8, 2, 3, 24, 37), levels=3):
    """An image as other programs write it, with levels that are not all halves."""
    kinds = {"t": ("time", "second"), "c": ("channel", None), "z": ("space", "micrometer")}
    axes = []
    for letter in letters:
        kind, unit = kinds.get(letter, ("space", "micrometer"))
        axes.append({"name": letter, "type": kind} | ({"unit": unit} if unit else {}))
    steps = {"t": 30.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}
    datasets, shapes = [], []
    for k in range(levels):
        small = {"y": 2**k, "x": 2**k}
        shapes.append(tuple(n // small.get(a, 1) for a, n in zip(letters, shape, strict=True)))
        scale = [steps[a] * small.get(a, 1) for a in letters]
        shift = [0.0 if a not in small else steps[a] * (2**k - 1) / 2 for a in letters]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": f"s{k}", "coordinateTransformations": transforms})
    image = {"name": "image", "axes": axes, "datasets": datasets}
    mine = {"omero": {"channels": []}, "something": "of another program"}
    if version == "0.5":
        attributes = {"ome": {"version": "0.5", "multiscales": [image], **mine}}
    else:
        attributes = {"multiscales": [{"version": "0.4", **image}], **mine}
    group = zarr.open_group(
        str(path), mode="w", zarr_format=3 if version == "0.5" else 2, attributes=attributes
    )
    for dataset, size in zip(datasets, shapes, strict=True):
        array = group.create_array(
            dataset["path"], shape=size, dtype="uint8", chunks=(1,) * (len(size) - 2) + size[-2:]
        )
        array[...] = np.arange(np.prod(size)).reshape(size) % 251
    return path


def files(path):
    """Digest of every file of the image itself."""
    return {
        str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.relative_to(path).parts[0] != "labels"
    }


def described(path, version):
    """Metadata of a label image and of the list of labels, checked by ome-zarr-models."""
    model, group = MODELS[version], zarr.open_group(str(path), mode="r")
    inner = (lambda a: a["ome"]) if version == "0.5" else (lambda a: a)
    names = model.labels.LabelsAttrs.model_validate(inner(group["labels"].attrs.asdict())).labels
    attributes = inner(group[f"labels/{names[0]}"].attrs.asdict())
    return model.image_label.ImageLabelAttrs.model_validate(attributes), names, group


@versions
def test_labels_of_an_image(family, tmp_path, version):
    image = make_image(tmp_path / "i.zarr", version)
    before = files(image)
    path = write_image_labels(image, "cells", family.labels, family.lineage, at={"z": 1})
    assert files(image) == before
    assert path == image / "labels" / "cells"
    about, names, group = described(image, version)
    assert names == ["cells"]
    own, of_image = about.multiscales[0], open_image(image)
    assert [axis.name for axis in own.axes] == ["t", "z", "y", "x"]
    assert [axis.unit for axis in own.axes] == ["second", *["micrometer"] * 3]
    assert [d.path for d in own.datasets] == ["s0", "s1", "s2"]
    assert own.datasets[2].coordinateTransformations[0].scale == [30, 2, 2, 1]
    assert own.datasets[2].coordinateTransformations[1].translation == [0, 0, 0.75, 0.375]
    full = group["labels/cells/s0"]
    assert full.dtype == np.uint16
    np.testing.assert_array_equal(full[:, 1], family.array)
    assert not full[:, [0, 2]].any()
    for k in (1, 2):
        level = group[f"labels/cells/s{k}"]
        assert level.shape == (8, 3, 24 >> k, 37 >> k)
        assert set(np.unique(level[:])) <= set(np.unique(family.array))
        big = family.array == 1
        assert (level[0, 1] == 1).sum() * 4**k == pytest.approx(big[0].sum(), rel=0.5)
    assert read_labels(path).scale == {a: of_image.scale[a] for a in "tzyx"}
    label = about.image_label
    assert label.source.image == "../../"
    assert [c.label_value for c in label.colors] == list(family.labels.survey)
    assert len({c.rgba for c in label.colors}) == 7
    properties = {p.label_value: p.model_dump() for p in label.properties}
    assert properties[2]["parent"] == properties[30]["parent"] == 1
    assert "parent" not in properties[7]
    assert (properties[7]["first_frame"], properties[7]["last_frame"]) == (1, 6)


@versions
def test_nearest_is_the_middle_of_each_pixel(tmp_path, version):
    image = make_image(tmp_path / "i.zarr", version, "tyx", (2, 12, 9), levels=2)
    array = np.arange(2 * 12 * 9).reshape(2, 12, 9)
    path = write_image_labels(image, "n", LabelStack.of(array))
    small = zarr.open_array(str(path / "s1"), mode="r")[:]
    np.testing.assert_array_equal(small, array[:, 1::2][:, :, [1, 3, 5, 7]])


@versions
def test_other_labels_stay(family, volume, tmp_path, version):
    image = make_image(tmp_path / "i.zarr", version)
    first = write_image_labels(image, "cells", family.labels, at={"z": 0})
    kept = {p: p.read_bytes() for p in first.rglob("*") if p.is_file()}
    write_image_labels(image, "more", family.labels, at={"z": 2})
    _, names, group = described(image, version)
    assert names == ["cells", "more"]
    assert all(path.read_bytes() == content for path, content in kept.items())
    with pytest.raises(StorageError, match="exists already"):
        write_image_labels(image, "more", family.labels, at={"z": 1})
    write_image_labels(image, "more", family.labels, at={"z": 1}, overwrite=True)
    assert described(image, version)[1] == ["cells", "more"]
    assert group["labels/more/s0"][4, 1].any()


def test_z_stacks_at_a_time(volume, tmp_path):
    image = make_image(tmp_path / "i.zarr", "0.5", "tczyx", (4, 1, 8, 24, 37))
    path = write_image_labels(image, "organs", volume.labels, at={"t": 3})
    np.testing.assert_array_equal(zarr.open_array(str(path / "s0"), mode="r")[3], volume.array)


@versions
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_gathered_metadata_know_the_labels(family, tmp_path, version):
    """Readers that find all metadata in one place look nowhere else."""
    image = make_image(tmp_path / "i.zarr", version)
    zarr.consolidate_metadata(str(image))
    attributes = zarr.open_group(str(image), mode="r").attrs.asdict()
    write_image_labels(image, "cells", family.labels, at={"z": 1})
    group = zarr.open_consolidated(str(image), mode="r")
    np.testing.assert_array_equal(group["labels/cells/s0"][:, 1], family.array)
    assert group.attrs.asdict() == attributes


@versions
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("had", [False, True])
def test_whatever_fails_everything_stays(family, tmp_path, monkeypatch, version, had):
    image = make_image(tmp_path / "i.zarr", version)
    if had:
        write_image_labels(image, "first", family.labels, at={"z": 0})
    zarr.consolidate_metadata(str(image))

    def everything():
        return {str(p): p.read_bytes() for p in sorted(image.rglob("*")) if p.is_file()}

    def broken(*_, **__):
        raise OSError(28, os.strerror(28))

    before = everything()
    for name in ("_consolidate", "_list_name", "_write"):
        with monkeypatch.context() as patch:
            patch.setattr(image_labels, name, broken)
            with pytest.raises(StorageError, match="the disk is full"):
                write_image_labels(image, "cells", family.labels, family.lineage, at={"z": 1})
        assert everything() == before
        assert (image / "labels").exists() == had


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "has 3 steps along z; say on which one the labels lie with at, 0 to 2"),
        ({"at": {"z": 3}}, "has 3 steps along z"),
        ({"at": {"z": 1, "q": 0}}, "at names q"),
        ({"at": {"z": 1}, "name": "../../home"}, "is no name of labels"),
        ({"at": {"z": 1}, "name": ""}, "is no name of labels"),
        ({"at": {"z": 1}, "lineage": nx.DiGraph([(2, 1)])}, "object 1 begins on frame 0"),
    ],
)
def test_what_does_not_go_together(family, tmp_path, options, message):
    image = make_image(tmp_path / "i.zarr", "0.5")
    name = options.pop("name", "cells")
    with pytest.raises(InputError, match=message):
        write_image_labels(image, name, family.labels, **options)
    assert not (image / "labels").exists()
    with pytest.raises(InputError, match="labels of an image have its frames"):
        write_image_labels(image, "cells", LabelStack.of(family.array[:5]), at={"z": 1})


def test_what_is_no_image(family, tmp_path):
    with pytest.raises(StackError, match="cannot read"):
        write_image_labels(tmp_path / "none.zarr", "cells", family.labels)
    zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    with pytest.raises(StackError, match="is no OME-Zarr image"):
        write_image_labels(tmp_path / "g.zarr", "cells", family.labels)
    old = make_image(tmp_path / "old.zarr", "0.4")
    attributes = json.loads((old / ".zattrs").read_text())
    attributes["multiscales"][0]["version"] = "0.2"
    (old / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(StackError, match=r"is OME-Zarr 0\.2"):
        write_image_labels(old, "cells", family.labels)

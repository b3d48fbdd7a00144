"""The table of formats is complete, and its words hold."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from importlib.util import find_spec

import numpy as np
import pytest

import stacksam.io
from stacksam.cli_options import FormatOption
from stacksam.errors import InputError
from stacksam.io import formats as formats_module
from stacksam.io.formats import FORMATS, Results, chosen_formats
from stacksam.io.label_stack import LabelStack

ORDINARY = [one for one in FORMATS.values() if not one.inside]
every = pytest.mark.parametrize("one", ORDINARY, ids=[one.name for one in ORDINARY])


@every
@pytest.mark.parametrize("axis", ["t", "z"])
def test_each_writes_its_file_and_nothing_else(family, volume, tmp_path, one, axis):
    known = family if axis == "t" else volume
    if axis not in one.axes:
        with pytest.raises(InputError, match="tracks through time"):
            one.check(axis)
        return
    one.check(axis, 500)
    results = Results(
        known.labels, family.lineage if axis == "t" else None, affine=np.eye(4) if axis == "z" else None
    )
    path = one.write(tmp_path / one.file_name, results, False)
    assert path == tmp_path / one.file_name
    assert os.listdir(tmp_path) == [one.file_name]
    one.write(path, results, True)
    assert os.listdir(tmp_path) == [one.file_name]


def test_names_and_files_are_unlike():
    assert len({one.file_name for one in FORMATS.values()}) == len(FORMATS)
    assert all(name == one.name for name, one in FORMATS.items())
    assert [one.name for one in chosen_formats(["ctc", "tiff", "ctc"])] == ["ctc", "tiff"]
    with pytest.raises(InputError, match=r"format 'xls' is not known; use one of tiff, ome-tiff"):
        chosen_formats(["xls"])


def test_packages_are_in_the_extra_that_is_named(repo_root):
    project = tomllib.loads((repo_root / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[<>=]", need)[0] for need in project["optional-dependencies"]["formats"]}
    assert {one.package for one in FORMATS.values() if one.package} == declared


def test_a_missing_package_is_told_before_anything_is_done(monkeypatch):
    monkeypatch.setattr(formats_module, "find_spec", lambda name: None if name == "geff" else find_spec(name))
    with pytest.raises(InputError, match=r'needs the package geff: pip install "napari-stacksam\[formats\]"'):
        FORMATS["geff"].check("t")
    FORMATS["ctc"].check("t")


def test_ids_that_do_not_fit():
    with pytest.raises(InputError, match="format ctc holds object ids up to 65535, and there is 65536"):
        FORMATS["ctc"].check("t", 65536)
    FORMATS["tiff"].check("t", 65536)


def test_what_is_lost_is_told(family, volume):
    tracks = Results(family.labels, family.lineage)
    assert FORMATS["tiff"].lost(tracks) == ["the lineage"]
    assert FORMATS["ctc"].lost(tracks) == ["spacing and units"]
    assert FORMATS["geff"].lost(tracks) == []
    placed = Results(volume.labels, affine=np.eye(4))
    assert FORMATS["tiff"].lost(placed) == ["the place in space"]
    assert FORMATS["nifti"].lost(placed) == []
    plain = Results(LabelStack.of(np.ones((1, 2, 3), int)))
    assert all(one.lost(plain) == [] for one in FORMATS.values())


def test_the_option_and_the_docs_name_all(repo_root):
    help_text = FormatOption.__metadata__[0].help
    for name in FORMATS:
        assert re.search(rf"(^|[ ,]){re.escape(name)}[ ,;(]", help_text), name
    page = (repo_root / "docs" / "formats.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9.-]+)`(?: \(default\))? \| `([^`]+)` \|", page, re.M))
    assert rows == {one.name: one.file_name for one in FORMATS.values()}


def test_lazy_names_of_the_package():
    for name in stacksam.io.__all__:
        assert getattr(stacksam.io, name).__name__ == name
    assert set(stacksam.io._HOMES) < set(stacksam.io.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = stacksam.io.no_such_name


def test_formats_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FORMATS["tiff"].name = "other"

"""Sessions lie in the user's data folder under the image's name, and are found again."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model

from random_model import small_stack

from stacksam import assets, load_model
from stacksam.plugin.places import data_dir, digest_of, place_of, saved_at

DIGEST = "0123456789abcdef"


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """The folders of work and of what was fetched."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    monkeypatch.setattr("stacksam.plugin.places.data_dir", lambda: data)
    monkeypatch.setattr(assets, "cache_dir", lambda: cache)
    return data / "sessions", cache / "sessions"


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.sqlite").touch()
    return folder


def test_a_folder_tells_its_image(folders):
    stack = small_stack(3)
    stack = replace(stack, image=replace(stack.image, name="Plate 3: well/A1.tif"))
    place = place_of(stack, DIGEST)
    assert place.parent == folders[0]
    assert place.name.startswith(f"Plate_3_well_A1.tif-{stack.identity()}-01234567-")
    assert saved_at(stack, DIGEST) is None


def test_what_results_hold_for_has_a_folder_of_its_own(folders):
    stack = small_stack(3)
    names = {
        place_of(*arguments).name
        for arguments in (
            (stack, DIGEST),
            (stack, "f" * 16),
            (stack, DIGEST, "auto"),
            (small_stack(4), DIGEST),
        )
    }
    assert len(names) == 4


def test_sessions_are_found_under_another_name_and_at_the_old_place(folders):
    data, cache = folders
    stack = small_stack(3)
    key = place_of(stack, DIGEST).name.removeprefix(f"{stack.name}-")
    old = make(cache / key)
    assert place_of(stack, DIGEST) == saved_at(stack, DIGEST) == old
    renamed = make(data / f"before-{key}")
    assert place_of(stack, DIGEST) == renamed
    (renamed / "results.sqlite").unlink()  # nothing was kept there
    assert place_of(stack, DIGEST) == old


def test_digests_are_those_of_models_that_are_loaded():
    assert digest_of("nano") == load_model("nano").digest
    assert digest_of("sam2.1-tiny") == assets.model_file("sam2.1-tiny").sha256
    assert digest_of("/some/checkpoint.pt") is None


def test_the_data_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("STACKSAM_HOME", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.delenv("STACKSAM_HOME")
    assert data_dir().name == "stacksam"
    assert data_dir() != assets.cache_dir()

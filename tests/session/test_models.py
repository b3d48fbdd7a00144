"""Input sizes of checkpoints, and loading again the model that a session was made with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from stacksam import load_model
from stacksam.assets import embedded_model, sha256_of
from stacksam.errors import InputError
from stacksam.session import models
from stacksam.session.folder import _description
from stacksam.session.predictor import Settings


@pytest.mark.parametrize("size", [0, -32, 100, 1000])
def test_sizes_that_no_network_can_take(size):
    with pytest.raises(InputError, match="multiple of 32"):
        load_model("whatever.pt", image_size=size)


def test_nano_has_one_size():
    assert load_model("nano", device="cpu", image_size=256).config.image_size == 256
    with pytest.raises(InputError, match="nano looks at 256 pixels"):
        load_model("nano", device="cpu", image_size=512)


def test_a_session_tells_how_to_load_its_model_again(stack, model, monkeypatch):
    asked = {}

    def loading(name, **how):
        asked.update(how, name=name)
        return model

    monkeypatch.setattr(models, "load_model", loading)
    about = _description(stack, model, Settings())["model"]
    models.reload_model(about)
    assert asked == {"name": "random", "dtype": "float32", "image_size": 64}
    models.reload_model({**about, "name": "nano"})
    assert asked["image_size"] is None


def test_a_session_keeps_its_coefficients_of_predicted_iou(stack, model, monkeypatch):
    """They are no part of the weights, so the digest does not tell that they have been fitted anew."""
    then = replace(model, followed_iou=(0.5, -0.25, 0.125))
    about = json.loads(json.dumps(_description(stack, then, Settings())["model"]))
    now = replace(model, followed_iou=(0.9, -0.4, 0.2))
    monkeypatch.setattr(models, "load_model", lambda name, **how: now)
    assert models.reload_model(about).followed_iou == then.followed_iou
    with pytest.raises(InputError, match=r"followed_iou is \[1, 2\]; three numbers are wanted"):
        models.reload_model({**about, "followed_iou": [1, 2]})
    del about["followed_iou"]  # as sessions were before
    assert models.reload_model(about).followed_iou == now.followed_iou


def test_a_copy_of_the_weights_predicts_as_the_embedded_ones_do(tmp_path):
    """By the digest; and weights of one's own by the description beside them, if it is of just these."""
    _, weights = embedded_model()
    copy = tmp_path / "copy.safetensors"
    shutil.copy(weights, copy)
    assert load_model(copy).followed_iou == load_model("nano").followed_iou != (1.0, 0.0, 0.0)
    own = copy.with_suffix(".json")
    told = {"sha256": sha256_of(copy), "followed_iou": [0.5, -0.25, 0.125]}
    own.write_text(json.dumps(told))
    assert load_model(copy).followed_iou == (0.5, -0.25, 0.125)
    own.write_text(json.dumps({**told, "followed_iou": ["a"]}))
    with pytest.raises(InputError, match="followed_iou"):
        load_model(copy)
    own.write_text(json.dumps({**told, "sha256": "of other weights"}))
    assert load_model(copy).followed_iou == load_model("nano").followed_iou

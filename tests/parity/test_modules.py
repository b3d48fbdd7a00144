"""Still images: features and masks equal those of the reference implementation, for all official checkpoints.

The goldens (see ``golden/README.md``) hold what the reference returns for weights and pictures that
``golden/inputs.py`` rebuilds. The tolerance is 1e-4 of an array's standard deviation; the reference repeats
its own numbers to 1e-5 of it. An array of a single value has no deviation: there it is 1e-4 of the value, or
of 1e-3 if the value is smaller.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stacksam.network.config import PRESETS
from stacksam.network.sam2 import Masks, Sam2

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).resolve().parent / "golden"
TOLERANCE = 1e-4

QUICK = "sam2.1-tiny"
CHECKPOINTS = [
    name if name == QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in PRESETS
    if name != "nano"
]

CLICK = ((256, 307),)
BOX = ((430, 480), (700, 750))
ARRAYS = [
    "image/level0",
    "image/level1",
    "image/level2",
    *(
        f"image/{prompt}/{kind}"
        for prompt in ("point", "point_single", "box", "box_and_negative", "refine")
        for kind in ("low_res", "iou")
    ),
]

Arrays = dict[str, NDArray[np.float32]]


def _inputs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_inputs", GOLDEN / "inputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def file_stem(name: str) -> str:
    """``sam2.1-base-plus`` is ``sam2.1_hiera_base_plus`` to its authors."""
    version, size = name.split("-", 1)
    return f"{version}_hiera_{size.replace('-', '_')}"


def golden_network(name: str) -> Sam2:
    """The network with the goldens' weights."""
    inputs = _inputs()
    shapes = json.loads((GOLDEN / f"{file_stem(name)}.keys.json").read_text())
    state = {key: torch.from_numpy(np.asarray(inputs.weight(key, tuple(s)))) for key, s in shapes.items()}
    network = Sam2(PRESETS[name]).eval()
    network.load_state_dict(state, strict=True)
    return network


def answers(network: Sam2) -> Arrays:
    """What our network says of frame 0, thinned out as the goldens are."""
    frame = torch.from_numpy(_inputs().frame(0)).permute(2, 0, 1)[None].float() / 255
    features = network.encode_image(frame)
    top = network.unconditioned(features)
    found: Arrays = {
        "image/level0": features.fine[0, :4, ::16, ::16].numpy(),
        "image/level1": features.middle[0, :4, ::8, ::8].numpy(),
        "image/level2": features.top[0, :4, ::4, ::4].numpy(),
    }

    def decode(
        prompt: str,
        points: tuple[tuple[int, int], ...],
        labels: tuple[int, ...],
        logits: torch.Tensor | None = None,
        candidates: bool = False,
    ) -> Masks:
        masks = network.decode_masks(
            features,
            top,
            torch.tensor([points], dtype=torch.float32),
            torch.tensor([labels]),
            logits,
            candidates=candidates,
            hide_absent=False,  # the image predictor shows masks of low object scores, too
        )
        found[f"image/{prompt}/low_res"] = masks.logits[0, :, 3::8, 3::8].numpy()
        found[f"image/{prompt}/iou"] = masks.iou[0].numpy()
        return masks

    first = decode("point", CLICK, (1,), candidates=True)
    decode("point_single", CLICK, (1,))
    decode("box", BOX, (2, 3))
    decode("box_and_negative", (*BOX, (450, 500)), (2, 3, 0))
    decode("refine", (*CLICK, (300, 330)), (1, 0), logits=first.logits[:, :1])
    return found


@pytest.fixture(scope="module", params=CHECKPOINTS)
def compared(request: pytest.FixtureRequest) -> tuple[Arrays, Arrays]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            found = answers(golden_network(request.param))
    finally:
        torch.set_num_threads(threads)
    with np.load(GOLDEN / f"{file_stem(request.param)}.npz") as file:
        expected = {key: file[key] for key in file.files if key.startswith("image/")}
    return found, expected


def test_every_golden_array_is_compared(compared: tuple[Arrays, Arrays]) -> None:
    found, expected = compared
    assert set(found) == set(expected) == set(ARRAYS)


@pytest.mark.parametrize("array", ARRAYS)
def test_image_goldens(compared: tuple[Arrays, Arrays], array: str) -> None:
    found, expected = (arrays[array] for arrays in compared)
    assert found.shape == expected.shape
    scale = expected.std() if expected.size > 1 else max(abs(float(expected[0])), 1e-3)
    assert np.abs(found - expected).max() <= TOLERANCE * scale

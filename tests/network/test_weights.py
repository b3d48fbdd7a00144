"""Checkpoints load under any wrapping, strictly, and a bad file is refused with a reason and without harm."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from stacksam.errors import ModelError
from stacksam.network.config import PRESETS, HieraConfig, NetworkConfig
from stacksam.network.sam2 import Sam2
from stacksam.network.weights import (
    load_network,
    match_preset,
    mismatch_report,
    read_state,
    state_shapes,
)

GOLDEN = Path(__file__).resolve().parents[1] / "parity" / "golden"
OFFICIAL = [name for name in PRESETS if name != "nano"]

# A Hiera network of a few kilobytes; it has no preset.
SMALL = NetworkConfig(
    trunk=HieraConfig(width=8, depths=(1, 1, 1, 1), global_blocks=(2,), windows=(4, 4, 4, 2)),
    image_size=64,
    width=32,
    memory_width=16,
    memory_layers=1,
    memory_hidden=16,
    decoder_hidden=16,
    decoder_heads=2,
)

State = dict[str, Tensor]


def random_state(config: NetworkConfig, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in state_shapes(config).items()}


@pytest.fixture(scope="module")
def state() -> State:
    return random_state(SMALL)


@pytest.fixture(scope="module")
def nano() -> State:
    return random_state(PRESETS["nano"])


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# --- official names ----------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("name", OFFICIAL)
def test_names_and_shapes_are_those_of_the_official_checkpoint(name: str) -> None:
    file = GOLDEN / f"{name.replace('-', '_hiera_', 1).replace('-', '_')}.keys.json"
    official = {key: tuple(shape) for key, shape in json.loads(file.read_text()).items()}
    assert dict(state_shapes(PRESETS[name])) == official


@pytest.mark.parametrize("name", PRESETS)
def test_the_preset_is_found_by_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        state = Sam2(PRESETS[name]).state_dict()
    assert match_preset(state) == name
    assert not mismatch_report(state, PRESETS[name])
    others = [other for other in PRESETS if other != name]
    assert all(mismatch_report(state, PRESETS[other]).closest == name for other in others)


# --- wrappings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state},
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": state, "epoch": 3, "loss": 0.5},
        lambda state: {"checkpoint": {"model": state}},
        lambda state: {"epoch": 3, **state},
        lambda state: {
            "model": state,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []},
        },
        lambda state: {"ema": {k: v + 1 for k, v in state.items()}, "model": state},
    ],
    ids=["bare", "model", "state_dict", "model_state_dict", "twice", "with numbers", "optimizer", "ema"],
)
def test_nested_weights_are_found(tmp_path: Path, state: State, wrap: Callable[[State], object]) -> None:
    assert_same(read_state(saved(tmp_path / "a.pt", wrap(state))), state)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "sam2.", "sam2_model.", "net.sam2_model.", "_orig_mod.", "module._orig_mod.model."],
)
def test_prefixes_are_cut_off(tmp_path: Path, state: State, prefix: str) -> None:
    content = {"model": {prefix + name: tensor for name, tensor in state.items()}}
    assert_same(read_state(saved(tmp_path / "a.pt", content)), state)


def test_wrappers_inside_of_names_are_cut_out(tmp_path: Path, state: State) -> None:
    content = {
        name.replace("image_encoder.", "image_encoder._orig_mod."): value for name, value in state.items()
    }
    assert_same(read_state(saved(tmp_path / "a.pt", content)), state)


def test_computed_tables_and_counters_are_left_out_and_nothing_else(tmp_path: Path, state: State) -> None:
    harmless = {
        "memory_attention.layers.0.self_attn.freqs_cis": torch.ones(4),
        "total_ops": torch.ones(1),
        "image_encoder.trunk.total_params": torch.ones(1),
    }
    assert_same(read_state(saved(tmp_path / "a.pt", {**state, **harmless})), state)
    more = {**state, "adapter.weight": torch.ones(1)}
    with pytest.raises(ModelError, match=r"1 unexpected \(adapter.weight\)"):
        load_network(saved(tmp_path / "b.pt", more), SMALL)


@pytest.mark.parametrize(
    "content",
    [
        lambda state: {"teacher": state, "student": state},
        lambda state: {f"{who}.{k}": v for who in ("teacher", "student") for k, v in state.items()},
        lambda state: {**state, "module.no_mem_embed": state["no_mem_embed"]},
    ],
    ids=["nested", "prefixed", "one name twice"],
)
def test_several_networks_in_one_file_are_refused(
    tmp_path: Path, state: State, content: Callable[[State], object]
) -> None:
    with pytest.raises(ModelError, match=r"by itself|to be used"):
        read_state(saved(tmp_path / "a.pt", content(state)))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PT"])
def test_suffixes_of_torch(tmp_path: Path, state: State, suffix: str) -> None:
    assert_same(read_state(saved(tmp_path / f"a{suffix}", state)), state)


def test_files_of_old_torch_versions(tmp_path: Path, state: State) -> None:
    torch.save({"model": state}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert_same(read_state(tmp_path / "a.pt"), state)


def test_safetensors(tmp_path: Path, state: State) -> None:
    save_file({f"model.{name}": tensor for name, tensor in state.items()}, tmp_path / "a.safetensors")
    assert_same(read_state(tmp_path / "a.safetensors"), state)


# --- loading -----------------------------------------------------------------------------------------------


def test_a_loaded_network_is_ready_and_equal_to_the_plain_one(tmp_path: Path, nano: State) -> None:
    path = saved(tmp_path / "a.pt", {"model": nano})
    with torch.inference_mode():  # must not leak into the parameters
        network, name = load_network(path)
    assert name == "nano"
    assert not network.training
    assert not any(p.requires_grad or p.is_inference() for p in network.parameters())
    assert all(t.device.type == "cpu" for t in [*network.parameters(), *network.buffers()])
    assert_same(network.state_dict(), nano)

    plain = Sam2(PRESETS["nano"]).eval()
    plain.load_state_dict(nano)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pairs = zip(network.encode_image(images), plain.encode_image(images), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path: Path, state: State, dtype: torch.dtype) -> None:
    path = tmp_path / "a.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in state.items()}, path)
    network, name = load_network(path, SMALL)
    assert name == "custom"
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert_same(network.state_dict(), {name: tensor.to(dtype).float() for name, tensor in state.items()})


def test_the_file_may_change_after_loading(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "a.pt", state)
    network, _ = load_network(path, SMALL)
    path.write_bytes(bytes(path.stat().st_size))
    assert_same(network.state_dict(), state)


def test_the_image_size_can_be_another_one(tmp_path: Path, nano: State) -> None:
    path = saved(tmp_path / "a.pt", nano)
    network, name = load_network(path, "nano", image_size=512)
    assert (name, network.config) == ("nano", replace(PRESETS["nano"], image_size=512))
    with pytest.raises(ModelError, match="multiple of 32"):
        load_network(path, image_size=500)


def test_an_unknown_preset_is_an_error_that_guesses(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"did you mean 'sam2.1-tiny'"):
        load_network(tmp_path / "a.pt", "sam2.1_tiny")


# --- weights that do not fit -------------------------------------------------------------------------------


def test_the_report_lists_what_differs(state: State) -> None:
    names = list(state)
    changed = {name: tensor for name, tensor in state.items() if name not in names[:10]}
    changed |= {names[20]: torch.ones(7, 7), "extra": torch.ones(1)}
    report = mismatch_report(changed, SMALL)
    assert report
    assert report.missing == tuple(names[:10])
    assert report.unexpected == ("extra",)
    assert report.misshaped == ((names[20], (7, 7), tuple(state[names[20]].shape)),)
    text = str(report)
    assert f"10 missing ({', '.join(names[:8])} and 2 more)" in text
    assert "1 unexpected (extra)" in text
    assert f"1 of another shape ({names[20]} is (7, 7), not" in text
    assert "No known model comes near" in text


def test_the_wrong_preset_is_refused_and_the_right_one_named(tmp_path: Path, nano: State) -> None:
    path = saved(tmp_path / "a.pt", nano)
    with pytest.raises(ModelError, match=r"does not fit the 'sam2-tiny' network(?s:.*)fit 'nano' exactly"):
        load_network(path, "sam2-tiny")


def test_incomplete_weights_are_refused_and_the_nearest_model_named(tmp_path: Path, nano: State) -> None:
    path = saved(tmp_path / "a.pt", {k: v for k, v in nano.items() if not k.startswith("memory_encoder.")})
    for preset in (None, "nano"):
        with pytest.raises(
            ModelError, match=r"missing \(memory_encoder(?s:.*)nearest known model is 'nano'"
        ) as e:
            load_network(path, preset)
        assert str(path) in str(e.value)


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        ({"layer1.0.conv1.weight": torch.ones(1)}, "Its entries are layer1.0"),
        ({"image_encoder.blocks.0.norm1.weight": torch.ones(1)}, "the first SAM"),
        ({"vision_encoder.backbone.pos_embed": torch.ones(1)}, "transformers library"),
        ({"model": {"detector.backbone.x": torch.ones(1)}}, "SAM 3"),
        ([torch.ones(1)], "It is a list"),
        ({}, "It holds nothing"),
    ],
)
def test_other_networks_are_told_apart(tmp_path: Path, content: object, guess: str) -> None:
    with pytest.raises(ModelError, match=f"holds no SAM 2 weights.*{guess}"):
        read_state(saved(tmp_path / "a.pt", content))


def test_weights_of_the_transformers_library_are_told_apart(tmp_path: Path) -> None:
    # Some of its names are the official ones, so that it is only refused when it is compared.
    content = {
        "vision_encoder.backbone.pos_embed": torch.ones(1),
        "mask_downsample.weight": torch.ones(1, 1, 4, 4),
    }
    with pytest.raises(ModelError, match=r"transformers library; use the original checkpoint"):
        load_network(saved(tmp_path / "a.pt", content))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, state: State, value: float) -> None:
    broken = state["no_mem_embed"].clone()
    broken[0, 0, 3] = value
    with pytest.raises(ModelError, match=r"1 entries \(no_mem_embed\)"):
        load_network(saved(tmp_path / "a.pt", {**state, "no_mem_embed": broken}), SMALL)


@pytest.mark.parametrize(
    "change", [lambda t: t.to(torch.int8), lambda t: t.to_sparse(), lambda t: t.to("meta")], ids=str
)
def test_weights_that_are_not_plain_numbers_are_refused(
    tmp_path: Path, state: State, change: Callable[[Tensor], Tensor]
) -> None:
    content = {**state, "no_mem_embed": change(state["no_mem_embed"])}
    with pytest.raises(ModelError, match=r"not plain floating-point numbers \(no_mem_embed is"):
        load_network(saved(tmp_path / "a.pt", content), SMALL)


# --- files that are not right ------------------------------------------------------------------------------


def test_paths_that_are_no_checkpoint_files(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    (tmp_path / "page.pt").write_text("<html>Please log in</html>")
    (tmp_path / "page.safetensors").write_text("<html>Please log in</html>")
    (tmp_path / "weights.onnx").write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("sam2/readme.txt", "hello")
    for name, reason in {
        "nowhere.pt": "there is no checkpoint",
        ".": "is a folder",
        "empty.pt": "is an empty file",
        "page.pt": "damaged or no torch checkpoint",
        "page.safetensors": "not a complete safetensors file",
        "weights.onnx": r"ends in '.onnx'; use one of .pt, .pth, .safetensors",
        "zip.pt": "zip archive, but not a torch checkpoint",
    }.items():
        with pytest.raises(ModelError, match=reason) as e:
            read_state(tmp_path / name)
        assert str(tmp_path / name) in str(e.value)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "a.pt", state)
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be opened"):
        read_state(path)


def test_programs_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:  # as torch.jit.save lays it out
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data.pkl", b"")
    with pytest.raises(ModelError, match=r"TorchScript program.*nothing in it was run"):
        read_state(tmp_path / "a.pt")


class _Payload:
    """Unpickles by running a shell command."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch '{marker}'"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_the_payload_would_work(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(_Payload(tmp_path / "pwned")))  # noqa: S301 - the test's own bytes
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", ["torch", "old torch", "pickle", "beside the weights"])
def test_harmful_pickles_are_refused_and_not_run(tmp_path: Path, state: State, kind: str) -> None:
    marker, path = tmp_path / "pwned", tmp_path / "a.pt"
    payload = _Payload(marker)
    match kind:
        case "torch":
            torch.save({"model": payload}, path)
        case "old torch":
            torch.save({"model": payload}, path, _use_new_zipfile_serialization=False)
        case "pickle":
            path.write_bytes(pickle.dumps({"model": payload}, protocol=2))
        case "beside the weights":
            torch.save({"model": state, "settings": [payload]}, path)
    with pytest.raises(ModelError, match=r"[Nn]othing in it was run") as e:
        load_network(path)
    assert not marker.exists()
    assert "weights_only" not in str(e.value)  # torch's advice how to run it anyway
    if kind != "pickle":
        assert "would call posix.system" in str(e.value) or os.name == "nt"


# Three small entries, enough for a file to count as a checkpoint.
FEW = {name: torch.arange(8.0) for name in ("no_mem_embed", "no_mem_pos_enc", "no_obj_ptr")}


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("small")
    torch.save({"model": FEW}, folder / "a.pt")
    torch.save({"model": FEW}, folder / "b.pt", _use_new_zipfile_serialization=False)
    save_file(FEW, folder / "a.safetensors")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(name=st.sampled_from(["a.pt", "b.pt", "a.safetensors"]), share=st.floats(0, 1, exclude_max=True))
def test_files_that_were_cut_short_are_refused(
    tmp_path_factory: pytest.TempPathFactory, small_files: dict[str, bytes], name: str, share: float
) -> None:
    content = small_files[name]
    path = tmp_path_factory.getbasetemp() / f"cut_{name}"
    path.unlink(missing_ok=True)
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError):
        read_state(path)


@given(
    name=st.sampled_from(["a.pt", "b.pt", "a.safetensors"]), where=st.floats(0, 1), byte=st.integers(0, 255)
)
def test_damaged_files_give_tensors_or_a_model_error(
    tmp_path_factory: pytest.TempPathFactory,
    small_files: dict[str, bytes],
    name: str,
    where: float,
    byte: int,
) -> None:
    content = bytearray(small_files[name])
    content[int(where * (len(content) - 1))] = byte
    path = tmp_path_factory.getbasetemp() / f"damaged_{name}"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        state = read_state(path)
    except ModelError:
        return
    assert all(isinstance(tensor, Tensor) and tensor.sum() is not None for tensor in state.values())

"""Weights from files: safe formats only, strict loading, and a clear report of what does not fit.

A checkpoint is data from strangers. ``.safetensors`` can hold nothing but tensors; ``.pt`` and ``.pth``
files are read by torch's restricted unpickler, which runs nothing that is stored in them. What is read has to
fit an architecture entry by entry, or it is refused with a list of what is missing, unexpected or of another
shape.
"""

from __future__ import annotations

import difflib
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stacksam.errors import ModelError
from stacksam.network.config import PRESETS, NetworkConfig
from stacksam.network.sam2 import Sam2

__all__ = ["Mismatch", "load_network", "match_preset", "mismatch_report", "read_state", "state_shapes"]

Shape = tuple[int, ...]
Place = tuple[str, ...]  # keys that lead to a nested dictionary

_PICKLES = (".pt", ".pth")
_SUFFIXES = (*_PICKLES, ".safetensors")
_ZIP_MAGIC = b"PK\x03\x04"

# Where training scripts keep the weights inside of a checkpoint, the most trusted first: a smoothed copy, for
# one, is used only where there is nothing else.
_NESTS = ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "module", "weights")
_MAX_NESTING = 4

# Parts of a name that wrappers of parallel and compiled training add; no official name has them.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})

# Entries that may be left out, by the last part of their name. Everything else has to fit.
_HARMLESS = frozenset(
    {
        "freqs_cis",  # rotary tables, which some forks store; they follow from the architecture
        "freqs_cis_real",
        "freqs_cis_imag",
        "total_ops",  # counters that the profiler thop leaves behind
        "total_params",
    }
)

_FOREIGN = (
    (
        "vision_encoder.backbone.",
        "They are SAM 2 weights under the names of the transformers library; use the original checkpoint "
        "(sam2.1_hiera_tiny.pt or a sibling), which its model pages offer too",
    ),
    ("image_encoder.blocks.", "They look like the first SAM, whose network is another one"),
    ("detector.", "They look like SAM 3, whose network is another one"),
)

_LISTED = 8  # entries that a message names before it only counts
_CLOSE = 0.5  # share of fitting entries from which a preset is worth suggesting


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How weights differ from an architecture; falsy if they fit.

    Attributes
    ----------
    missing : tuple of str
        Entries that the architecture has and the weights lack.
    unexpected : tuple of str
        Entries that the weights have and the architecture lacks.
    misshaped : tuple of (str, shape, shape)
        Entry, its shape in the weights, and its shape in the architecture.
    closest : str or None
        The preset that fits best, if at least half of its entries fit.
    share : float
        Share of entries that fit `closest`; 1 if all do.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[tuple[str, Shape, Shape], ...]
    closest: str | None
    share: float

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped)

    def __str__(self) -> str:
        shapes = [f"{name} is {found}, not {right}" for name, found, right in self.misshaped]
        kinds = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", shapes),
        )
        parts = [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds if names]
        if not parts:
            return "all entries fit"
        return f"{'; '.join(parts)}. {self._suggestion()}"

    def _suggestion(self) -> str:
        if self.closest is None:
            return _foreign(self.unexpected) or f"No known model comes near; known are {', '.join(PRESETS)}"
        if self.share == 1:
            return f"They fit {self.closest!r} exactly: load them as that"
        return f"The nearest known model is {self.closest!r}, which {self.share:.0%} of the entries fit"


@lru_cache(maxsize=32)
def state_shapes(config: NetworkConfig) -> Mapping[str, Shape]:
    """Official names and shapes of everything that a checkpoint of this architecture holds."""
    with torch.device("meta"):  # nothing is allocated
        state = Sam2(config).state_dict()
    return MappingProxyType({name: tuple(tensor.shape) for name, tensor in state.items()})


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the weights of a checkpoint under their official names.

    The weights may lie in nested dictionaries, as training scripts save them, and under names that wrappers
    have lengthened (``module.``, ``model.``, ``sam2_model.``, ``_orig_mod.`` ...): the prefix is the one that
    turns most names into official ones. Values that are not tensors (epoch, settings) are no weights and are
    passed over, and so are computed tables and counters that some forks store (``freqs_cis``, ``total_ops``).

    Parameters
    ----------
    path : path-like
        A ``.pt``, ``.pth`` or ``.safetensors`` file.

    Returns
    -------
    dict of str to Tensor
        On the CPU, in the file's own precision; they may be mapped from the file, so copy what has to last.

    Raises
    ------
    ModelError
        If there is no such file, or it is damaged, unsafe, or holds no SAM 2 weights.
    """
    path = Path(path)
    kind = path.suffix.lower()
    head = _head(path)
    if kind not in _SUFFIXES:
        raise ModelError(
            f"{path} cannot be read as a checkpoint: its name ends in {path.suffix!r}; "
            f"use one of {', '.join(_SUFFIXES)}"
        )
    if not head:
        raise ModelError(f"{path} is an empty file; fetch or copy the checkpoint again")
    content = _read_pickle(path, head) if kind in _PICKLES else _read_safetensors(path)
    return _official(path, _innermost(path, content))


def match_preset(state: Mapping[str, Tensor]) -> str:
    """Name of the preset that the weights fit exactly, by names and shapes.

    Raises
    ------
    ModelError
        If they fit none.
    """
    shapes = _shapes(state)
    name, _ = _closest(shapes)
    mismatch = _compare(shapes, PRESETS[name])
    if mismatch:
        raise ModelError(f"the weights fit no known model; compared with {name!r}: {mismatch}")
    return name


def mismatch_report(state: Mapping[str, Tensor], config: NetworkConfig) -> Mismatch:
    """Compare weights with an architecture: falsy if they fit, else a text that says what to do."""
    return _compare(_shapes(state), config)


def load_network(
    path: str | os.PathLike[str],
    preset: str | NetworkConfig | None = None,
    image_size: int | None = None,
) -> tuple[Sam2, str]:
    """Build a network and load its weights, strictly.

    Parameters
    ----------
    path : path-like
        A ``.pt``, ``.pth`` or ``.safetensors`` file, see :func:`read_state`.
    preset : str or NetworkConfig, optional
        The architecture; found out from the weights by default.
    image_size : int, optional
        Side of the square input in pixels, a multiple of 32, for weights that were trained at another size
        than the preset's.

    Returns
    -------
    network : Sam2
        On the CPU in float32, in evaluation mode, without gradients.
    name : str
        Of its preset; "custom" if `preset` is an architecture that has no name.

    Raises
    ------
    ModelError
        If the file cannot be used, or does not fit.
    """
    path = Path(path)
    config = _known_config(preset)
    if image_size is not None and (image_size < 32 or image_size % 32):
        raise ModelError(f"image_size is {image_size}; use a multiple of 32, such as 512 or 1024")
    state = read_state(path)
    if config is None:
        try:
            config = PRESETS[match_preset(state)]
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
    name = next((name for name, known in PRESETS.items() if known == config), "custom")
    mismatch = mismatch_report(state, config)
    if mismatch:
        raise ModelError(f"{path} does not fit the {name!r} network: {mismatch}")
    _require_numbers(path, state)
    if image_size is not None:
        config = replace(config, image_size=image_size)
    with torch.inference_mode(False):  # parameters made in that mode could never be used outside of it
        network = _bare_network(config)
        network.load_state_dict(state, strict=True)
    _require_finite(path, network)
    return network.eval().requires_grad_(False), name


# --- reading -----------------------------------------------------------------------------------------------


def _head(path: Path) -> bytes:
    """First bytes of a file; none if it is empty."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder; name the checkpoint file inside of it")
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP_MAGIC))
    except FileNotFoundError:
        raise ModelError(f"there is no checkpoint {path}; look at the path for a typing error") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be opened: {error.strerror or error}") from error


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path} is not a complete safetensors file: {error}. Fetch or copy it again"
        ) from error


def _read_pickle(path: Path, head: bytes) -> object:
    """Content of a ``.pt`` file; nothing that is stored in it gets to run."""
    zipped = head == _ZIP_MAGIC
    if zipped:
        _require_checkpoint_zip(path)
    try:
        # Files from before torch 1.6 are no zip archives, and cannot be mapped.
        content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # noqa: BLE001 - a damaged or hostile pickle may raise anything
        # Torch's own message is left out: it recommends to let the file run what it likes.
        raise ModelError(_refusal(path, str(error))) from None
    return content


def _require_checkpoint_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"{path} is damaged or was cut short: {error}. Nothing in it was run. Fetch or copy it again"
        ) from error
    files = {name.partition("/")[2] for name in names}
    if "constants.pkl" in files:
        raise ModelError(
            f"{path} is a TorchScript program, not weights; nothing in it was run. "
            "Use the checkpoint that it was made from"
        )
    if "data.pkl" not in files:
        raise ModelError(
            f"{path} is a zip archive, but not a torch checkpoint; nothing in it was run. "
            "If the checkpoint is packed inside, unpack it first"
        )


def _refusal(path: Path, reason: str) -> str:
    """Why torch would not read a file, in words that advise nothing dangerous."""
    found = re.search(r"GLOBAL\s+([\w.]+)", reason)
    if found:
        return (
            f"{path} holds more than weights: opening it in full would call {found[1]}, which a harmful file "
            "could misuse. Nothing in it was run. Use a file that holds the weights alone: .safetensors, or "
            "what torch.save(model.state_dict(), ...) writes"
        )
    return (
        f"{path} is damaged or no torch checkpoint; nothing in it was run. Fetch or copy it again, or use a "
        ".pt, .pth or .safetensors file of SAM 2"
    )


# --- names -------------------------------------------------------------------------------------------------


@cache
def _known_names() -> frozenset[str]:
    return frozenset().union(*(state_shapes(config) for config in PRESETS.values()))


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _prefixes(names: Iterable[str]) -> Counter[str]:
    """How many of the names would be official ones, if what is before were cut off, by what is before."""
    known = _known_names()
    votes: Counter[str] = Counter()
    for name in names:
        parts = _unwrapped(name).split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in known:
                votes["".join(f"{part}." for part in parts[:start])] += 1
                break
    return votes


def _tensors(mapping: Mapping[object, object]) -> dict[str, Tensor]:
    return {k: v.detach() for k, v in mapping.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _nests(content: object, where: Place = ()) -> Iterator[tuple[Place, dict[str, Tensor]]]:
    """Dictionaries inside of a checkpoint that hold tensors with official names, and where they are."""
    if not isinstance(content, Mapping):
        return
    tensors = _tensors(content)
    if _prefixes(tensors):
        yield where, tensors
    elif len(where) < _MAX_NESTING:
        for key, value in content.items():
            yield from _nests(value, (*where, str(key)))


def _innermost(path: Path, content: object) -> dict[str, Tensor]:
    """The dictionary of weights inside of what a checkpoint holds."""
    nests = list(_nests(content))
    if not nests:
        raise ModelError(f"{path} holds no SAM 2 weights. {_origin(content)}")
    if len(nests) == 1:
        return nests[0][1]

    def rank(where: Place) -> int:
        return _NESTS.index(where[-1]) if where[-1] in _NESTS else len(_NESTS)

    best = min(rank(where) for where, _ in nests)
    chosen = [tensors for where, tensors in nests if rank(where) == best]
    if len(chosen) > 1:
        places = ", ".join("/".join(where) for where, _ in nests)
        raise ModelError(f"{path} holds several networks: {places}. Save the one to be used by itself")
    return chosen[0]


def _origin(content: object) -> str:
    """A guess at what a file without SAM 2 weights is."""
    if not isinstance(content, Mapping):
        return f"It is a {type(content).__name__}, not a dictionary of tensors"
    names = [str(key) for key in content]
    if not names:
        return "It holds nothing at all"
    for value in content.values():
        names += [str(key) for key in value] if isinstance(value, Mapping) else []
    usual = f"Its entries are {_some(names)}; SAM 2 has image_encoder.trunk.*, memory_attention.* ..."
    return _foreign(names) or usual


def _foreign(names: Iterable[str]) -> str | None:
    """A related network that the names are known from."""
    every = tuple(names)
    return next((guess for sign, guess in _FOREIGN if any(sign in name for name in every)), None)


def _official(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under official names, without what may be left out."""
    votes = _prefixes(tensors).most_common(2)
    prefix, count = votes[0]
    if len(votes) > 1 and votes[1][1] == count:
        raise ModelError(
            f"{path} holds two networks, under {prefix!r} and {votes[1][0]!r}. "
            "Save the one to be used by itself"
        )
    state: dict[str, Tensor] = {}
    for original, tensor in tensors.items():
        name = _unwrapped(original).removeprefix(prefix)
        if name.rpartition(".")[2] in _HARMLESS:
            continue
        if name in state:
            raise ModelError(f"{path} holds {name!r} twice. Save the network to be used by itself")
        state[name] = tensor
    return state


# --- fitting -----------------------------------------------------------------------------------------------


def _known_config(preset: str | NetworkConfig | None) -> NetworkConfig | None:
    if not isinstance(preset, str):
        return preset
    if preset not in PRESETS:
        close = difflib.get_close_matches(preset, PRESETS, n=1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        raise ModelError(f"no preset is called {preset!r}{guess}; known are {', '.join(PRESETS)}")
    return PRESETS[preset]


def _shapes(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _closest(shapes: Mapping[str, Shape]) -> tuple[str, float]:
    """The preset that most entries fit, and the share of entries that do."""

    def share(name: str) -> float:
        right = state_shapes(PRESETS[name])
        fitting = sum(right.get(entry) == shape for entry, shape in shapes.items())
        return fitting / len(shapes.keys() | right.keys())

    best = max(PRESETS, key=share)
    return best, share(best)


def _compare(shapes: Mapping[str, Shape], config: NetworkConfig) -> Mismatch:
    right = state_shapes(config)
    closest, share = _closest(shapes)
    return Mismatch(
        missing=tuple(name for name in right if name not in shapes),
        unexpected=tuple(name for name in shapes if name not in right),
        misshaped=tuple(
            (name, shape, right[name])
            for name, shape in shapes.items()
            if name in right and shape != right[name]
        ),
        closest=closest if share >= _CLOSE else None,
        share=share,
    )


def _require_numbers(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise unless every tensor is an ordinary one of floating-point numbers."""
    odd = [
        f"{name} is {str(tensor.dtype).removeprefix('torch.')}, {tensor.layout}, on {tensor.device}"
        for name, tensor in state.items()
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta
    ]
    if odd:
        raise ModelError(
            f"{path} holds weights that are not plain floating-point numbers ({_some(odd)}). "
            "Save them as float32, float16 or bfloat16"
        )


def _require_finite(path: Path, network: Sam2) -> None:
    broken = [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ModelError(
            f"{path} holds numbers that are infinite or not numbers at all, in {len(broken)} entries "
            f"({_some(broken)}): its training diverged or the file is damaged. Use another checkpoint"
        )


def _bare_network(config: NetworkConfig) -> Sam2:
    """A network whose parameters are allocated but not filled: random values would take seconds."""
    with torch.device("meta"):
        network = Sam2(config)
    network.to_empty(device="cpu")
    # These are not in any checkpoint, and have lost their values on the way.
    for name, values in (("_mean", config.mean), ("_std", config.std)):
        network.get_buffer(name).copy_(torch.tensor(values).view(1, 3, 1, 1))
    return network


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")

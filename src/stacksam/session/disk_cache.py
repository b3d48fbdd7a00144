"""Encoded frames on disk, for what is looked at again after memory has forgotten it."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor

from stacksam.network.sam2 import Features
from stacksam.session.canvas import View

__all__ = ["DiskCache"]


class DiskCache:
    """Features of views in a zarr group, bounded in bytes; those written first go first.

    It lies in the folder of a session, and so belongs to one stack, intensity mapping and model; what
    remains is told by the frame and the view. It may be deleted whenever no session uses it. A disk that
    refuses makes it forgetful, not the session fail: everything can be computed again.

    Parameters
    ----------
    folder : Path
        Made when something is kept.
    max_bytes : int
        Largest size in all; with 0 nothing is kept.
    dtype : torch.dtype
        What the model computes in; what was computed in another one is not taken.
    """

    def __init__(self, folder: Path, max_bytes: int, dtype: torch.dtype) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.bytes = 0
        self._dtype = str(dtype).removeprefix("torch.")
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        if max_bytes and folder.is_dir():
            self._take_stock()

    def _take_stock(self) -> None:
        """Count what an earlier session left; what it did not finish is removed."""
        found = [path for path in self.folder.iterdir() if path.is_dir()]
        for path in sorted(found, key=lambda path: path.stat().st_mtime):
            size = _read(path, "bytes")
            if size is None:
                shutil.rmtree(path, ignore_errors=True)
            else:
                self._sizes[path.name] = int(size)
                self.bytes += int(size)
        self._shrink()

    def get(self, frame: int, view: View, device: torch.device) -> Features | None:
        """What is kept of a view, or None."""
        name = self._name(frame, view)
        if name not in self._sizes:
            return None
        try:
            group = zarr.open_group(self.folder / name, mode="r")
            kinds = str(group.attrs["dtypes"]).split()
            levels = [
                _tensor(np.asarray(group[level]), kind)
                for level, kind in zip(Features._fields, kinds, strict=True)
            ]
        except (OSError, KeyError, ValueError):
            self._drop(name)
            return None
        return Features(*(level.to(device) for level in levels))

    def put(self, frame: int, view: View, features: Features) -> None:
        """Keep features, and drop the oldest until all fit."""
        size = sum(level.element_size() * level.nelement() for level in features)
        name = self._name(frame, view)
        if size > self.max_bytes or name in self._sizes:
            return
        path = self.folder / name
        try:
            group = zarr.open_group(path, mode="w", zarr_format=3)
            for key, level in zip(Features._fields, features, strict=True):
                raw = _numbers(level)
                # Features hardly shrink; packing them would only take time.
                array = group.create_array(
                    key, shape=raw.shape, dtype=raw.dtype, chunks=raw.shape, compressors=None
                )
                array[...] = raw
            kinds = [str(level.dtype).removeprefix("torch.") for level in features]
            # Last: without these an entry is not taken for whole.
            group.attrs.update({"dtypes": " ".join(kinds), "bytes": size})
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            return
        with self._lock:
            self._sizes[name] = size
            self.bytes += size
        self._shrink()

    def _shrink(self) -> None:
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._sizes)))

    def _drop(self, name: str) -> None:
        with self._lock:
            self.bytes -= self._sizes.pop(name, 0)
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _name(self, frame: int, view: View) -> str:
        told = json.dumps([self._dtype, *view.canvas.to_json()])
        return f"{frame}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _numbers(level: Tensor) -> np.ndarray[Any, Any]:
    """A tensor as numpy takes it; halves as whole numbers of the same bits, for numpy has no bfloat16."""
    plain = level.detach().cpu().contiguous()
    return plain.view(torch.int16).numpy() if plain.element_size() == 2 else plain.numpy()


def _tensor(raw: np.ndarray[Any, Any], dtype: str) -> Tensor:
    found = torch.from_numpy(raw)
    return found.view(getattr(torch, dtype)) if raw.dtype == np.int16 else found


def _read(path: Path, key: str) -> Any:
    """An attribute of a group, or None."""
    with suppress(OSError, ValueError):
        return json.loads((path / "zarr.json").read_text(encoding="utf-8")).get("attributes", {}).get(key)
    return None

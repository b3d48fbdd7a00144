"""A zarr array that is still being written: which of its frames have arrived; see `stacksam.io.growing`."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import StackError
from stacksam.io._lazy import READ_ERRORS, _told

__all__ = ["First", "ZarrArrivals", "file_state"]

_LACKING = 5.0  # seconds without a change, after which chunks that are not there are taken for empty
_FAR = 8  # chunks ahead that have begun, from which on nothing is waited for
_AHEAD = 16  # chunks ahead that are looked at
_DIGESTED = 2**24  # bytes


class First:
    """The first file of an image, which must stay what it is."""

    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source
        self._state, self._digest = self._look()

    def _look(self) -> tuple[tuple[int, ...] | None, str]:
        try:
            state = file_state(self._path)
            with self._path.open("rb") as file:
                return state, hashlib.sha256(file.read(_DIGESTED)).hexdigest()
        except OSError as error:
            raise StackError(f"cannot read {self._path}: {_told(error)}") from error

    def check(self) -> None:
        """StackError if it is another one."""
        if file_state(self._path) == self._state:
            return
        state, digest = self._look()
        if digest != self._digest:
            raise StackError(
                f"{self._source} is another one than before: its first frame has changed; follow it anew, "
                "with another results folder"
            )
        self._state = state


class ZarrArrivals:
    """A zarr array as far as its frames have arrived; also the array-like that reads them.

    Parameters
    ----------
    array : zarr.Array
        In a folder.
    axis : int
        The dimension that grows.
    fixed : mapping of int to sequence of int
        Other dimensions of which only some indices count.
    settle : float, optional
    source : str
    """

    def __init__(
        self, array: Any, axis: int, fixed: Mapping[int, Sequence[int]], settle: float | None, source: str
    ) -> None:
        self.count = 0
        self._source, self._axis, self._fixed = source, axis, fixed
        self._settle = 0.0 if settle is None else settle
        self.patience = _LACKING if settle is None else settle
        root = getattr(array.store_path.store, "root", None)
        if root is None:
            raise StackError(f"{source} is no zarr folder; only folders are followed while they are written")
        self._root, self._inside = Path(root), str(array.store_path.path)
        self._place = self._root / self._inside
        self._since: dict[int, tuple[tuple[int, int, bool], float]] = {}
        self._first: First | None = None
        self._array = array
        self._kind = self._told_apart(array)
        files = getattr(array, "shards", None) or array.chunks
        self._depth = int(files[axis])
        places = []
        for dimension, (size, side) in enumerate(zip(array.shape, files, strict=True)):
            chosen = fixed.get(dimension, range(size))
            places.append([0] if dimension == axis else sorted({int(i) // int(side) for i in chosen}))
        self._places = places

    # As an array

    @property
    def shape(self) -> tuple[int, ...]:
        shape = list(self._array.shape)
        shape[self._axis] = self.count
        return tuple(shape)

    @property
    def dtype(self) -> Any:
        return self._array.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._array[key])

    # Arrivals

    @property
    def pending(self) -> bool:
        return any(present for (present, _, _), _ in self._since.values())

    def refresh(self) -> int:
        self._reload()
        length = int(self._array.shape[self._axis])
        if length < self.count:
            raise StackError(
                f"{self._source} has {length} frames, but had {self.count} before; a stack that is followed "
                "must not shrink"
            )
        if self._first is not None:
            self._first.check()
        now = time.monotonic()
        while self.count < length:
            found = self._up_to(length, now)
            if found <= self.count:
                break
            self.count = found
        group = self.count // self._depth
        self._since = {g: seen for g, seen in self._since.items() if g >= group}
        if self._first is None and group:
            present = [path for path in self._files(0) if path.exists()]
            self._first = First(present[0], self._source) if present else None
        return self.count

    def _reload(self) -> None:
        """Take the array as its metadata say that it is now."""
        import zarr

        if not any((self._place / name).exists() for name in ("zarr.json", ".zarray")):
            raise StackError(f"{self._source} is gone, or has no zarr metadata any more")
        try:
            array = zarr.open_array(str(self._root), path=self._inside, mode="r")
        except READ_ERRORS as error:
            raise StackError(f"cannot read the metadata of {self._source}: {_told(error)}") from error
        kind = self._told_apart(array)
        if kind != self._kind:
            (was, before), (now, after) = self._kind[:2], kind[:2]
            raise StackError(
                f"{self._source} has changed while it was followed: it was {was} of shape {before} with "
                f"chunks {self._kind[2]}, and is {now} of shape {after} with chunks {kind[2]}"
            )
        self._array = array

    def _told_apart(self, array: Any) -> tuple[Any, ...]:
        """What must stay the same."""
        shape: list[Any] = list(array.shape)
        shape[self._axis] = ...
        files = getattr(array, "shards", None) or array.chunks
        return str(array.dtype), f"({', '.join('...' if n is ... else str(n) for n in shape)})", tuple(files)

    def _up_to(self, length: int, now: float) -> int:
        """How many frames have arrived with the chunk of the next one; no more than before if it has not."""
        group = self.count // self._depth
        end = min((group + 1) * self._depth, length)
        present, whole, _ = self._look(group)
        if self._depth == 1 and whole and not self._settle:
            return end
        last = -(-length // self._depth)
        window = [self._look(g) for g in range(group, min(group + _AHEAD + 1, last))]
        for ahead, (some, _, state) in enumerate(window):
            passed = any(later[0] for later in window[ahead + 1 :])
            seen = (some, state, passed)
            if self._since.get(group + ahead, (None,))[0] != seen:
                self._since[group + ahead] = (seen, now)
        if any(later[0] for later in window[_FAR:]):
            return end
        quiet = now - self._since[group][1]
        passed = self._since[group][0][2]
        if whole and (passed or self._depth == 1):
            return end if quiet >= self._settle else self.count
        if quiet < self.patience:
            return self.count
        if passed:
            return end
        return self._written(end) if present and self._depth > 1 else self.count

    def _look(self, group: int) -> tuple[int, bool, int]:
        """How many chunk files there are, whether all, and a number that changes with them."""
        states = [file_state(path) for path in self._files(group)]
        present = sum(state is not None for state in states)
        return present, present == len(states), hash(tuple(states))

    def _files(self, group: int) -> list[Path]:
        places = [[group] if d == self._axis else own for d, own in enumerate(self._places)]
        encode = self._array.metadata.encode_chunk_key
        return [self._place / encode(coordinates) for coordinates in itertools.product(*places)]

    def _written(self, end: int) -> int:
        """Frames up to the last one that is not empty, in a chunk that the writer has left."""
        fill = self._array.metadata.fill_value
        for frame in reversed(range(self.count, end)):
            key: list[Any] = [slice(None)] * len(self._places)
            for dimension, chosen in self._fixed.items():
                key[dimension] = slice(min(chosen), max(chosen) + 1)
            key[self._axis] = frame
            try:
                if np.any(np.asarray(self._array[tuple(key)]) != (0 if fill is None else fill)):
                    return frame + 1
            except READ_ERRORS as error:
                raise StackError(f"cannot read frame {frame} of {self._source}: {_told(error)}") from error
        return self.count


def file_state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written; None if there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns, about.st_ino

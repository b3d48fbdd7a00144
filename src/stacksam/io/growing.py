"""Images that are still being written: which of their frames are complete.

A folder of images gets files; a zarr array grows along its frame axis, or is made at its full size and filled.
A frame *arrives* when it is complete, and frames arrive in order: one that is not there yet holds up those
behind it. Nobody says when a frame is complete, so it is told from files:

- in a folder, when the file has not changed for `settle` seconds (1 by default);
- in a zarr array, when all of its chunks are there, and have not changed for `settle` seconds (0 by default).
  Zarr leaves out chunks in which all is empty. So a frame that lacks some arrives as well, once a later one
  has begun and nothing has changed for 5 seconds (or `settle`), or the 16th after it has begun;
- where a chunk or shard holds several frames, when the next one has begun; those of the last one when nothing
  has changed for 5 seconds (or `settle`), up to the last frame that is not empty.

What has arrived stays: an image that has fewer frames than before, that has changed in shape or type, or
whose first frame is another one, is an error.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import StackError
from stacksam.io._lazy import READ_ERRORS, AxesView, EmptyImageError, LazyImage, _told
from stacksam.io._zarr import looks_like_zarr
from stacksam.io.images import _KIND, _Files, _is_image, _open_files, _suffix, natural_key, open_image

__all__ = ["Arrivals", "can_grow", "grow", "open_growing"]

_FOLDER_SETTLE = 1.0
_LACKING = 5.0  # seconds without a change, after which chunks that are not there are taken for empty
_FAR = 16  # chunks ahead that have begun, from which on nothing is waited for
_STEP = 0.05  # seconds


class Arrivals(Protocol):
    """Which frames of an image have arrived."""

    @property
    def pending(self) -> bool:
        """Whether there is something that will count as a frame if it stays as it is."""

    def refresh(self) -> int:
        """Look again; the number of frames now.

        Raises
        ------
        StackError
            If the image has shrunk or changed, or cannot be read at the moment.
        """


def can_grow(source: object) -> bool:
    """Whether a source is of a kind that is followed while it is written: a folder."""
    return isinstance(source, str | os.PathLike) and Path(source).expanduser().is_dir()


def open_growing(
    source: object,
    *,
    level: int = 0,
    series: int | None = None,
    axes: str | None = None,
    settle: float | None = None,
) -> LazyImage:
    """Open an image that is being written, to be given to :func:`grow` once its frame axis is known.

    Parameters
    ----------
    source : path
        A folder of images, or a zarr folder.
    level, series, axes
        As for :func:`stacksam.io.open_image`.
    settle : float, optional
        Seconds; see above.

    Raises
    ------
    EmptyImageError
        If there is no complete frame yet.
    StackError
        If it cannot be read, or is nothing that grows.
    """
    if not isinstance(source, str | os.PathLike):
        raise StackError(
            f"a {type(source).__name__} is not followed while it is written; give the path of a folder of "
            "images, or of a zarr folder"
        )
    path = Path(source).expanduser()
    if not path.exists():
        raise EmptyImageError(f"there is no folder {path} yet")
    if not path.is_dir():
        raise StackError(
            f"{path} is a single file, which is not followed while it is written; give a folder of images, "
            "or a zarr folder"
        )
    if looks_like_zarr(path):
        return open_image(path, level=level, series=series, axes=axes)
    if path.suffix.lower() == ".zarr":
        raise EmptyImageError(f"{path} has no zarr metadata yet")
    if level or series:
        raise StackError(f"{path} is a folder of images: it has neither level {level} nor series {series}")
    arrivals = _FolderArrivals(path, _FOLDER_SETTLE if settle is None else settle)
    _look_twice(arrivals)
    if not arrivals.names:
        raise EmptyImageError(f"the folder {path} holds no complete image yet")
    return _open_files(arrivals, axes, path.name, str(path))


def grow(
    image: LazyImage,
    frame_axis: str,
    at: Mapping[str, int],
    channels: Sequence[int],
    settle: float | None = None,
) -> tuple[LazyImage, Arrivals]:
    """The image as far as its frames have arrived, and what looks for more.

    Parameters
    ----------
    image : LazyImage
        From :func:`open_growing`.
    frame_axis : str
        The axis that grows.
    at : mapping of str to int
        Index along other axes, of which nothing else needs to be complete.
    channels : sequence of int
        Likewise; all of them if empty.
    settle : float, optional

    Returns
    -------
    LazyImage
        Its size along the frame axis is the number of frames that have arrived. It has no coarser levels,
        which may be written later.
    Arrivals

    Raises
    ------
    EmptyImageError
        If there is no complete frame yet.
    StackError
        If the frames lie along another axis.
    """
    base, letters = (image.data.base, image.data.axes) if isinstance(image.data, AxesView) else (
        image.data,
        image.axes,
    )  # fmt: skip
    if isinstance(base, _Files):
        if not isinstance(base.files, _FolderArrivals):
            raise TypeError("the folder was not opened by open_growing")
        if letters[0] != frame_axis:
            raise StackError(
                f"the files of {image.source} lie along {letters[0]}, so frames along {frame_axis} do not "
                "grow; each file must be a frame"
            )
        return image, base.files
    if frame_axis not in letters:
        raise StackError(f"{image.source} has axes {image.axes!r}: it cannot grow along {frame_axis}")
    fixed: dict[int, Sequence[int]] = {letters.index(a): [i] for a, i in at.items() if a in letters}
    if channels and "c" in letters:
        fixed[letters.index("c")] = channels
    growing = _ZarrArrivals(base, letters.index(frame_axis), fixed, settle, image.source)
    _look_twice(growing)
    if not growing.count:
        raise EmptyImageError(f"{image.source} has no complete frame yet")
    view = growing if letters == image.axes else AxesView(growing, letters, image.axes)
    return replace(image, data=view, coarser=()), growing


def _look_twice(arrivals: _FolderArrivals | _ZarrArrivals) -> None:
    """Look, and again after what was there by then had time to settle."""
    arrivals.refresh()
    end = time.monotonic() + arrivals.patience
    while arrivals.pending and time.monotonic() < end + _STEP:
        time.sleep(_STEP)
        arrivals.refresh()


class _First:
    """The first file of an image, which must stay what it is."""

    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source
        self._state, self._digest = self._look()

    def _look(self) -> tuple[tuple[int, ...] | None, str]:
        try:
            state = _state(self._path)
            return state, hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError as error:
            raise StackError(f"cannot read {self._path}: {_told(error)}") from error

    def check(self) -> None:
        """StackError if it is another one."""
        if _state(self._path) == self._state:
            return
        state, digest = self._look()
        if digest != self._digest:
            raise StackError(
                f"{self._source} is another one than before: its first frame has changed; follow it anew, "
                "with another results folder"
            )
        self._state = state


class _FolderArrivals(Sequence[Path]):
    """Image files of a folder in natural order, as far as they have arrived.

    Names are kept, not paths: they are all that grows in memory with the number of frames.
    """

    def __init__(self, folder: Path, settle: float) -> None:
        self.folder, self.patience = folder, settle
        self.names: list[str] = []
        self._known: set[str] = set()
        self._last = natural_key("")
        self._pending: dict[str, tuple[tuple[int, ...] | None, float]] = {}
        self._first: _First | None = None

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self.folder / name for name in self.names[index]]
        return self.folder / self.names[index]

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def refresh(self) -> int:
        try:
            found = os.listdir(self.folder)
        except OSError as error:
            raise StackError(f"cannot read {self.folder}: {_told(error)}") from error
        new = [name for name in found if name not in self._known]
        gone = len(self.names) - (len(found) - len(new))
        if gone:
            raise StackError(
                f"{gone} of the {len(self.names)} frames that were there are gone from {self.folder}; put "
                "them back to go on"
            )
        if self._first is not None:
            self._first.check()
        self._take(sorted((n for n in new if _is_image(self.folder / n)), key=natural_key))
        return len(self.names)

    def _take(self, new: list[str]) -> None:
        """Take new files, in order, as far as they have settled."""
        if not new:
            self._pending = {}
            return
        self._check(new)
        now = time.monotonic()
        before, self._pending = self._pending, {}
        for name in new:
            state = _state(self.folder / name)
            known = before.get(name)
            same = known is not None and state is not None and known[0] == state
            self._pending[name] = known if known is not None and same else (state, now)
        for name in new:
            if now - self._pending[name][1] < self.patience:
                break
            del self._pending[name]
            self.names.append(name)
            self._known.add(name)
            self._last = natural_key(name)
        if self._first is None and self.names:
            self._first = _First(self[0], str(self.folder))

    def _check(self, new: list[str]) -> None:
        if self.names and natural_key(new[0]) < self._last:
            raise StackError(
                f"{new[0]} has come to {self.folder} after later frames, the last of which is "
                f"{self.names[-1]}; frames must come in natural order of their names, so take it away"
            )
        kinds = Counter(_KIND.get(s, s) for s in map(_suffix, map(Path, [*self.names[:1], *new])))
        if len(kinds) > 1:
            raise StackError(
                f"the folder {self.folder} mixes formats ({', '.join(sorted(kinds))}); frames must be alike"
            )


class _ZarrArrivals:
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
        self._first: _First | None = None
        self._metadata: tuple[int, ...] | None = None
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
            self._first = _First(present[0], self._source) if present else None
        return self.count

    def _reload(self) -> None:
        """Take the array as its metadata say that it is now."""
        import zarr

        files = [self._place / name for name in ("zarr.json", ".zarray")]
        state = next((s for s in map(_state, files) if s is not None), None)
        if state is None:
            raise StackError(f"{self._source} is gone, or has no zarr metadata any more")
        if state == self._metadata:
            return
        try:
            array = zarr.open_array(str(self._root), path=self._inside, mode="r")
        except READ_ERRORS as error:
            raise StackError(f"cannot read the metadata of {self._source}: {_told(error)}") from error
        kind = self._told_apart(array)
        if kind != self._kind:
            (was, before), (now, after) = self._kind[:2], kind[:2]
            raise StackError(
                f"{self._source} has changed while it was followed: it was {was} of shape {before} with "
                f"chunks {self._kind[2]}, and is {now} of shape {after} with chunks {kind[2]} (... are frames)"
            )
        self._array, self._metadata = array, state

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
        window = [self._look(g) for g in range(group, min(group + _FAR + 1, last))]
        for ahead, (some, _, state) in enumerate(window):
            passed = any(later[0] for later in window[ahead + 1 :])
            seen = (some, state, passed)
            if self._since.get(group + ahead, (None,))[0] != seen:
                self._since[group + ahead] = (seen, now)
        if len(window) > _FAR and window[_FAR][0]:
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
        states = [_state(path) for path in self._files(group)]
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


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written; None if there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns, about.st_ino

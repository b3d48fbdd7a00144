"""Images that are still being written: which of their frames are complete.

A folder of images gets files; a zarr array grows along its frame axis, or is made at its full size and is
filled. A frame *arrives* when it is complete, and frames arrive in order: one that is not there yet holds up
those behind it. Nobody says when a frame is complete, so it is told from files:

- in a folder, when the file has not changed for `settle` seconds (1 by default);
- in a zarr array, when all of its chunks are there, and have not changed for `settle` seconds (0 by default).
  Zarr leaves out chunks in which all is empty. So a frame that lacks some arrives as well, once a later one
  has begun and nothing has changed for 5 seconds (or `settle`), or the 8th to 16th after it has begun;
- where a chunk or shard holds several frames, when the next one has begun; those of the last one when nothing
  has changed for 5 seconds (or `settle`), up to the last frame that is not empty.

What has arrived stays: an image that has fewer frames than before, that has changed in shape or type, or
whose first frame is another one, is an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, overload

from stacksam.errors import StackError
from stacksam.io._growing_zarr import First, ZarrArrivals, file_state
from stacksam.io._lazy import AxesView, EmptyImageError, LazyImage, _told
from stacksam.io._zarr import looks_like_zarr
from stacksam.io.images import _KIND, _Files, _is_image, _open_files, natural_key, open_image

__all__ = ["Arrivals", "can_grow", "grow", "open_growing"]

_FOLDER_SETTLE = 1.0
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
    data = image.data
    base, letters = (data.base, data.axes) if isinstance(data, AxesView) else (data, image.axes)
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
    growing = ZarrArrivals(base, letters.index(frame_axis), fixed, settle, image.source)
    _look_twice(growing)
    if not growing.count:
        raise EmptyImageError(f"{image.source} has no complete frame yet")
    view = growing if letters == image.axes else AxesView(growing, letters, image.axes)
    return replace(image, data=view, coarser=()), growing


def _look_twice(arrivals: _FolderArrivals | ZarrArrivals) -> None:
    """Look, and again after what was there by then had time to settle."""
    arrivals.refresh()
    end = time.monotonic() + arrivals.patience
    while arrivals.pending and time.monotonic() < end + _STEP:
        time.sleep(_STEP)
        arrivals.refresh()


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
        self._first: First | None = None

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
            state = file_state(self.folder / name)
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
            self._first = First(self[0], str(self.folder))

    def _check(self, new: list[str]) -> None:
        if self.names and natural_key(new[0]) < self._last:
            raise StackError(
                f"{new[0]} has come to {self.folder} after later frames, the last of which is "
                f"{self.names[-1]}; frames must come in natural order of their names, so take it away"
            )
        suffixes = {os.path.splitext(name)[1].lower() for name in [*self.names[:1], *new]}
        kinds = {_KIND.get(suffix, suffix) for suffix in suffixes}
        if len(kinds) > 1:
            raise StackError(
                f"the folder {self.folder} mixes formats ({', '.join(sorted(kinds))}); frames must be alike"
            )

"""Encoded frames: what the network sees of a stack, kept as long as there is room."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stacksam.errors import DeviceMemoryError
from stacksam.network.sam2 import Features
from stacksam.network.windows import Window
from stacksam.session.canvas import View
from stacksam.session.disk_cache import DiskCache
from stacksam.session.feature_cache import FeatureCache
from stacksam.session.models import Model
from stacksam.session.settings import Settings
from stacksam.session.stack import Stack

__all__ = ["LARGE", "Encoder", "quiet"]

LARGE = 2**24  # pixels of a frame, above which it is read in parts
_OVERSAMPLED = 4  # pixels along a pixel of the input that are read at most of a large frame

_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S")
_T = TypeVar("_T")


def quiet(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run without gradients."""

    @wraps(method)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.no_grad():
            return method(*args, **kwargs)

    return run


class Encoder:
    """A model looking at a stack, frame by frame.

    Parameters
    ----------
    model : Model
    stack : Stack
    settings : Settings
    folder : Path, optional
        Where encoded frames are kept on disk, if the settings say so.

    Attributes
    ----------
    cache : FeatureCache
    count : int
        Views, and other pictures, that were encoded until now.
    """

    def __init__(self, model: Model, stack: Stack, settings: Settings, folder: Path | None = None) -> None:
        self.cache = FeatureCache(settings.cache_bytes)
        self.count = 0
        self._model, self._stack, self._batch = model, stack, settings.batch
        self._share = 1.0  # of the batch, where a device has little memory
        self._disk: DiskCache | None = None
        if folder is not None and settings.disk_cache_bytes:
            self._disk = DiskCache(folder, settings.disk_cache_bytes, model.dtype)
        self._pictures: dict[int, NDArray[np.float32]] = {}
        self._reader: ThreadPoolExecutor | None = None
        self._ahead: dict[int, Future[NDArray[np.float32]]] = {}

    def limit(self, settings: Settings) -> None:
        """Take other bounds of the cache and of what is computed at once."""
        self._batch = settings.batch
        self.cache.limit(settings.cache_bytes)

    def close(self) -> None:
        """End the thread that reads ahead, and forget what was encoded."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)
        self._reader, self._ahead = None, {}
        # A session is a ring of references, which Python collects late: programs that make many would swell.
        self.cache.clear()
        self._pictures.clear()

    @quiet
    def features(self, frame: int, views: Sequence[View]) -> Features:
        """Features of what views show of one frame, one row a view.

        Views are encoded without their windows, and equal ones once. Where all are equal, there is one row.
        Models with windows of their own kind get what lies in the windows, the others whole canvases.
        """
        own = self._model.windowed
        wanted = list(views) if own else [view.canvas for view in views]
        if len(set(wanted)) == 1:
            wanted = wanted[:1]  # so that one row serves every object
        found = self._encoded(frame, {view.canvas for view in wanted})
        rows = [found[view.canvas].cut(self._window(view) if own else None) for view in wanted]
        if len(rows) == 1:
            return rows[0]
        return Features(*(torch.cat(level) for level in zip(*rows, strict=True)))

    @staticmethod
    def _window(view: View) -> list[Window] | None:
        return None if view.window is None else [view.window]

    def _encoded(self, frame: int, canvases: Iterable[View]) -> dict[View, Features]:
        """Features of canvases, from the cache or computed."""
        found: dict[View, Features] = {}
        missing: dict[int, list[View]] = defaultdict(list)
        for view in canvases:
            features = self.cache.get((frame, view))
            if features is None and self._disk is not None:
                features = self._disk.get(frame, view, self._model.device)
                if features is not None:
                    self.cache.put((frame, view), features)
            if features is None:
                missing[view.size].append(view)
            else:
                found[view] = features
        for alike in missing.values():
            encoded = self.in_chunks(alike, alike[0], lambda chunk: self._encode(frame, chunk))
            found |= dict(zip(alike, encoded, strict=True))
        return found

    def _encode(self, frame: int, canvases: Sequence[View]) -> list[Features]:
        """Encode canvases of one size."""
        encoded = self.encoded(torch.stack([self.cut(frame, view) for view in canvases]))
        found = []
        for i, view in enumerate(canvases):
            # A copy, or each view would keep the whole batch alive.
            own = Features(*(level[i : i + 1].clone() if len(canvases) > 1 else level for level in encoded))
            self.cache.put((frame, view), own)
            if self._disk is not None:
                self._disk.put(frame, view, own)
            found.append(own)
        return found

    def encoded(self, pictures: Tensor) -> Features:
        """Features of pictures (B, 3, size, size), which are counted and not kept."""
        pictures = pictures.to(self._model.device)
        if self._model.windowed:  # convolutions are faster so
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        with self.computing():
            features = self._model.network.encode_image(pictures)
        self.count += len(pictures)
        return features

    def cut(self, frame: int, view: View) -> Tensor:
        """What a view shows of a frame, as the network's input (3, size, size)."""
        shape = self._stack.frame_shape
        if shape[0] * shape[1] <= LARGE:
            return view.cut(self._picture(frame))
        # Never all of a large frame: what the view shows, and no more pixels of that than are of use.
        step = max(1, min(view.height, view.width) // (_OVERSAMPLED * view.size))
        step = 1 << (step.bit_length() - 1)  # as the levels of multiscale images
        coarse = view.coarser(step)
        y0, x0, y1, x1 = coarse.inside((shape[0] // step, shape[1] // step))
        box = (y0 * step, x0 * step, y1 * step, x1 * step)
        if y0 == y1 or x0 == x1:
            return torch.zeros(3, view.size, view.size)
        return coarse.cut(self._stack.frame(frame, box, step), (y0, x0))

    def _picture(self, frame: int) -> NDArray[np.float32]:
        """The pixels (H, W, 3) of a frame, 0 to 1."""
        if frame not in self._pictures:
            ahead = self._ahead.pop(frame, None)
            found = self._stack.frame(frame) if ahead is None else ahead.result()
            if len(self._pictures) > 1:  # the one in progress and the one before
                del self._pictures[next(iter(self._pictures))]
            self._pictures[frame] = found
        return self._pictures[frame]

    def read_ahead(self, frame: int) -> None:
        """Begin to read a frame that will be asked for soon; one at a time, and no large one."""
        shape = self._stack.frame_shape
        known = frame in self._pictures or frame in self._ahead
        if known or not 0 <= frame < self._stack.n_frames or shape[0] * shape[1] > LARGE:
            return
        if len(self._ahead) > 1:  # the older one was not asked for after all
            self._ahead.pop(next(iter(self._ahead))).cancel()
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, "stacksam-read")
        self._ahead[frame] = self._reader.submit(self._stack.frame, frame)

    def windows(self, views: Sequence[View]) -> list[Window] | None:
        """The windows of canvases that the network is to look at: all views have one, or none.

        None for models with windows of their own kind, whose features are of the windows already.
        """
        windows = [view.window for view in views if view.window is not None]
        return windows if windows and not self._model.windowed else None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute in the model's precision."""
        dtype = self._model.dtype
        with torch.autocast(self._model.device.type, dtype, enabled=dtype != torch.float32):
            yield

    def in_chunks(
        self, items: Sequence[_T], view: View, work: Callable[[Sequence[_T]], Iterable[_S]]
    ) -> list[_S]:
        """Work on as many objects at once as there is room for; on fewer from then on where there was not.

        Parameters
        ----------
        items : sequence
            One for each object.
        view : View
            What each of them sees as much as.
        work : callable
            Gives the results of a chunk.

        Returns
        -------
        list
            All results, in order.

        Raises
        ------
        DeviceMemoryError
            If there is no room even for one.
        """
        found: list[_S] = []
        start = 0
        while start < len(items):
            size = max(1, int(self._share * self._at_once(view)))
            chunk = items[start : start + size]
            try:
                found += work(chunk)
            except (RuntimeError, MemoryError) as error:
                if not _ran_out(error):
                    raise
                self._take_less(len(chunk), error)
            else:
                start += size
        return found

    def _at_once(self, view: View) -> float:
        """How many objects are worked on at once, each of which sees as much as `view` shows."""
        if self._model.windowed:
            alone = view.canvas.size if view.window is None else self._model.config.image_size
            return self._batch * self._model.config.image_size**2 / alone**2
        # Half the batch for windows of 16 x 16: what is at work then fits the cache of a processor.
        return self._batch / 8 if view.window is None else self._batch * 128 / view.tokens**2

    def _take_less(self, size: int, error: BaseException) -> None:
        """Work on half of what was too much from now on."""
        device = self._model.device.type
        if size == 1:
            raise DeviceMemoryError(
                f"{device} ran out of memory on a single object; close other programs that use it, take a "
                "smaller model, or compute on the CPU"
            ) from error
        self._share *= (size // 2) / size
        self.cache.clear()
        warnings.warn(
            f"{device} ran out of memory on {size} objects at once; going on with {size // 2}",
            RuntimeWarning,
            stacklevel=2,
        )


def _ran_out(error: BaseException) -> bool:
    """Whether an error tells that memory ran out: each kind of device has its own way to say so."""
    told = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in told for words in ("out of memory", "can't allocate memory", "not enough memory")
    )

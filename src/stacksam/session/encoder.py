"""Encoded frames: what the network sees of a stack, kept as long as there is room."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stacksam.network.sam2 import Features
from stacksam.network.windows import Window
from stacksam.session.canvas import View
from stacksam.session.feature_cache import FeatureCache
from stacksam.session.models import Model
from stacksam.session.settings import Settings
from stacksam.session.stack import Stack

__all__ = ["Encoder", "quiet"]

_LARGE = 2**24  # pixels of a frame, above which it is read in parts
_OVERSAMPLED = 4  # pixels along a pixel of the input that are read at most of a large frame

_P = ParamSpec("_P")
_R = TypeVar("_R")
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

    Attributes
    ----------
    cache : FeatureCache
    count : int
        Views that were encoded until now.
    """

    def __init__(self, model: Model, stack: Stack, settings: Settings) -> None:
        self.cache = FeatureCache(settings.cache_bytes)
        self.count = 0
        self._model, self._stack, self._batch = model, stack, settings.batch
        self._pictures: dict[int, NDArray[np.float32]] = {}

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
            if features is None:
                missing[view.size].append(view)
            else:
                found[view] = features
        for size, alike in missing.items():
            batch = max(1, self._batch * self._model.config.image_size**2 // size**2)
            for start in range(0, len(alike), batch):
                found |= self._encode(frame, alike[start : start + batch])
        return found

    def _encode(self, frame: int, canvases: Sequence[View]) -> dict[View, Features]:
        """Encode canvases of one size."""
        pictures = torch.stack([self.cut(frame, view) for view in canvases]).to(self._model.device)
        if self._model.windowed:  # convolutions are faster so
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        with self.computing():
            encoded = self._model.network.encode_image(pictures)
        self.count += len(canvases)
        found = {}
        for i, view in enumerate(canvases):
            # A copy, or each view would keep the whole batch alive.
            own = Features(*(level[i : i + 1].clone() if len(canvases) > 1 else level for level in encoded))
            self.cache.put((frame, view), own)
            found[view] = own
        return found

    def cut(self, frame: int, view: View) -> Tensor:
        """What a view shows of a frame, as the network's input (3, size, size)."""
        shape = self._stack.frame_shape
        if shape[0] * shape[1] <= _LARGE:
            return view.cut(self._picture(frame))
        # Never all of a large frame: what the view shows, and no more pixels of that than are of use.
        step = max(1, min(view.height, view.width) // (_OVERSAMPLED * view.size))
        coarse = view.coarser(step)
        y0, x0, y1, x1 = coarse.inside((shape[0] // step, shape[1] // step))
        box = (y0 * step, x0 * step, y1 * step, x1 * step)
        if y0 == y1 or x0 == x1:
            return torch.zeros(3, view.size, view.size)
        return coarse.cut(self._stack.frame(frame, box, step), (y0, x0))

    def _picture(self, frame: int) -> NDArray[np.float32]:
        """The pixels (H, W, 3) of a frame, 0 to 1."""
        if frame not in self._pictures:
            if len(self._pictures) > 1:  # the one in progress and the one before
                del self._pictures[next(iter(self._pictures))]
            self._pictures[frame] = self._stack.frame(frame)
        return self._pictures[frame]

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

    def chunks(self, items: Sequence[_T], view: View) -> Iterator[Sequence[_T]]:
        """As many objects at once as there is room for, each of which sees as much as `view` shows."""
        size = self._batch
        if not self._model.windowed:
            # Half the batch for windows of 16 x 16: what is at work then fits the cache of a processor.
            size = self._batch // 8 if view.window is None else self._batch * 128 // view.tokens**2
        for start in range(0, len(items), max(size, 1)):
            yield items[start : start + max(size, 1)]

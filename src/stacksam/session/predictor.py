"""From prompts and records to new records: the only place where the network meets the stack.

The predictor keeps nothing that cannot be rebuilt: encoded frames in a bounded cache, memories in a bank. A
record is a pure function of the frame, the prompts and the records it came from.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stacksam.network.prompt_encoder import BOX_FIRST, BOX_SECOND, NEGATIVE, POSITIVE
from stacksam.network.sam2 import Features, Masks, Memories
from stacksam.session.canvas import WINDOW_SIDE, View, bbox_of, object_size, whole_view, window_view
from stacksam.session.compose import fill_small_holes
from stacksam.session.feature_cache import FeatureCache
from stacksam.session.memory_bank import Memory, MemoryBank, MemoryChoice
from stacksam.session.models import Model
from stacksam.session.prompts import Box, Mask, Point, Prompt
from stacksam.session.results import Record
from stacksam.session.stack import Stack

__all__ = ["Predictor", "Request", "Settings"]

_LOGIT_LIMIT = 32.0  # the official predictor's bound on logits that are fed back
_CLICK_SIDES = 1.6  # ratio of neighbouring window sides that are tried for a click
_SETTLED = 1.15  # a window within this ratio of the wanted side is not chosen again

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices that change results or resources of a session.

    Attributes
    ----------
    max_conditioning : int, optional
        How many of the nearest conditioning frames a frame attends to; all, as the official predictor, by
        default.
    fill_holes : int
        Enclosed holes of up to this many of the network's mask pixels are filled in what is shown and saved;
        the official predictor's 8 by default, 0 for none.
    cache_bytes : int
        Bound of the cache of encoded frames.
    batch : int
        Objects that are computed at once.
    """

    max_conditioning: int | None = None
    fill_holes: int = 8
    cache_bytes: int = 128 * 2**20
    batch: int = 16


@dataclass(frozen=True, slots=True)
class Request:
    """One object to be followed to a frame: which memories it uses, and the record it comes from."""

    object_id: int
    choice: MemoryChoice
    previous: Record


def _quiet(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run without gradients."""

    @wraps(method)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.no_grad():
            return method(*args, **kwargs)

    return run


class Predictor:
    """A model looking at a stack.

    Parameters
    ----------
    model : Model
    stack : Stack
    settings : Settings
    recall : callable
        Gives the record of (object id, frame), for memories that must be rebuilt.
    """

    def __init__(
        self, model: Model, stack: Stack, settings: Settings, recall: Callable[[int, int], Record | None]
    ) -> None:
        self.model, self.stack, self.settings, self.recall = model, stack, settings, recall
        config = model.config
        self.max_pointers = min(stack.n_frames, config.max_pointers)
        self.bank = MemoryBank(config.recent_memories, self.max_pointers)
        self.features_encoded = 0
        self._features = FeatureCache(settings.cache_bytes)
        self._frame: tuple[int, NDArray[np.float32]] | None = None
        self._lock = threading.RLock()

    # Pictures

    @_quiet
    def features(self, frame: int, views: Sequence[View]) -> Features:
        """Features of views of one frame, one row a view; equal views are encoded once."""
        found = {view: self._features.get((frame, view)) for view in views}
        missing = [view for view, features in found.items() if features is None]
        for start in range(0, len(missing), self.settings.batch):
            chunk = missing[start : start + self.settings.batch]
            pictures = torch.stack([view.cut(self._read(frame)) for view in chunk]).to(self.model.device)
            with self._computing():
                encoded = self.model.network.encode_image(
                    pictures.contiguous(memory_format=torch.channels_last)
                    if self.model.windowed
                    else pictures
                )
            self.features_encoded += len(chunk)
            for i, view in enumerate(chunk):
                # A copy, or each view would keep the whole batch alive.
                own = Features(*(level[i : i + 1].clone() if len(chunk) > 1 else level for level in encoded))
                self._features.put((frame, view), own)
                found[view] = own
        rows = [f for f in (found[view] for view in views) if f is not None]
        if len(rows) == 1:
            return rows[0]
        return Features(*(torch.cat(level) for level in zip(*rows, strict=True)))

    def _read(self, frame: int) -> NDArray[np.float32]:
        if self._frame is None or self._frame[0] != frame:
            self._frame = (frame, self.stack.frame(frame))
        return self._frame[1]

    @contextmanager
    def _computing(self) -> Iterator[None]:
        dtype = self.model.dtype
        with torch.autocast(self.model.device.type, dtype, enabled=dtype != torch.float32):
            yield

    # Memories

    def memories(self, requests: Sequence[Request]) -> Memories:
        """Stack the memories of objects that use equally many."""
        device = self.model.device
        spatial, ages, pointers, distances = [], [], [], []
        for request in requests:
            choice = request.choice
            placed = [(f, 0) for f in choice.conditioning] + list(choice.recent)
            own = [self._memory(request.object_id, f).spatial for f, _ in placed]
            spatial.append(torch.stack([m for m in own if m is not None]))
            ages.append([age for _, age in placed])
            pointed = [self._memory(request.object_id, f, spatial=False).pointer for f, _ in choice.pointers]
            pointers.append(
                torch.stack(pointed) if pointed else torch.zeros(0, self.model.config.width, device=device)
            )
            distances.append([distance for _, distance in choice.pointers])
        return Memories(
            torch.stack(spatial),
            torch.tensor(ages, device=device),
            torch.stack(pointers),
            torch.tensor(distances, dtype=torch.float32, device=device).view(len(requests), -1),
            max(self.max_pointers - 1, 1),
        )

    def _memory(self, object_id: int, frame: int, *, spatial: bool = True) -> Memory:
        memory = self.bank.get(object_id, frame)
        if memory is None or (spatial and memory.spatial is None):
            record = self.recall(object_id, frame)
            if record is None:  # the caller chose from existing records
                raise RuntimeError(f"object {object_id} has no record on frame {frame} to remember")
            if spatial:
                self.remember([record])
            else:
                self.bank.put(object_id, frame, Memory(None, self._pointer(record)))
            memory = self._memory(object_id, frame, spatial=spatial)
        return memory

    def _pointer(self, record: Record) -> Tensor:
        return torch.from_numpy(record.pointer.copy()).to(self.model.device)

    @_quiet
    def remember(self, records: Sequence[Record]) -> None:
        """Make memories from records of one frame and keep them in the bank."""
        network, device = self.model.network, self.model.device
        for prompted in (False, True):
            chosen = [r for r in records if r.prompted == prompted]
            for start in range(0, len(chosen), self.settings.batch):
                chunk = chosen[start : start + self.settings.batch]
                features = self.features(chunk[0].frame, self._shared([r.view for r in chunk]))
                logits = torch.from_numpy(np.stack([r.logits for r in chunk])[:, None].astype(np.float32))
                score = torch.tensor([[r.object_score] for r in chunk], device=device)
                with self._computing():
                    memory = network.encode_memory(features, logits.to(device), score, binarise=prompted)
                for i, record in enumerate(chunk):
                    own = memory[i].clone() if len(chunk) > 1 else memory[i]
                    self.bank.put(record.object_id, record.frame, Memory(own, self._pointer(record)))

    @staticmethod
    def _shared(views: list[View]) -> list[View]:
        """One view for all where they are equal, so that one row of features serves every object."""
        return views[:1] if len(set(views)) == 1 else views

    # Following

    @_quiet
    def follow(self, frame: int, requests: Sequence[Request], step: int) -> list[Record]:
        """Propagate objects to a frame."""
        groups: dict[tuple[int, int], list[Request]] = defaultdict(list)
        for request in requests:
            choice = request.choice
            groups[len(choice.conditioning) + len(choice.recent), len(choice.pointers)].append(request)
        records: list[Record] = []
        for group in groups.values():
            for start in range(0, len(group), self._chunk):
                records += self._follow(frame, group[start : start + self._chunk], step)
        return records

    @property
    def _chunk(self) -> int:
        """Whole frames need far more memory an object than windows do."""
        return self.settings.batch if self.model.windowed else max(1, self.settings.batch // 8)

    def _follow(self, frame: int, requests: Sequence[Request], step: int) -> list[Record]:
        network = self.model.network
        views = [self._next_view(request.previous) for request in requests]
        features = self.features(frame, self._shared(views))
        with self._computing():
            top = network.condition(features, self.memories(requests))
            masks = network.decode_masks(
                features, top, logits=self._carried(requests, views), candidates=True
            ).best()
        records = []
        for i, request in enumerate(requests):
            choice = request.choice
            sources = set(choice.conditioning)
            sources |= {f for f, _ in choice.recent} | {f for f, _ in choice.pointers}
            record = self._record(request.object_id, frame, views[i], masks, i, 0)
            records.append(replace(record, step=step, sources=tuple(sorted(sources))))
        return records

    def _carried(self, requests: Sequence[Request], views: Sequence[View]) -> Tensor | None:
        """Masks of the frame before (B, 1, h, w), moved to where the windows stand now."""
        if not self.model.config.carry_mask:
            return None
        moved = [
            request.previous.view.carry(request.previous.logits.astype(np.float32), view)
            for request, view in zip(requests, views, strict=True)
        ]
        return torch.from_numpy(np.stack(moved)[:, None]).to(self.model.device)

    def _next_view(self, previous: Record) -> View:
        """Where to look for an object that was last seen in `previous`."""
        old, shape = previous.view, self.stack.frame_shape
        if not self.model.windowed:
            return old
        middle = (old.y + (old.height - 1) / 2, old.x + (old.width - 1) / 2)
        if not previous.mask.any():
            return window_view(middle, old.height * 1.1, shape, old.size)
        wanted = WINDOW_SIDE * object_size(previous.mask)
        # A side that follows slowly: memories were seen at the scale before.
        side = old.height * float(np.clip(wanted / old.height, 0.8, 1.25)) ** 0.5
        return window_view(_centre(previous), side, shape, old.size)

    # Answering

    @_quiet
    def answer(
        self,
        object_id: int,
        frame: int,
        prompts: Sequence[Prompt],
        previous: Record | None,
        choice: MemoryChoice | None,
        candidate: int | None,
        near: Record | None,
    ) -> Record:
        """The record of a prompted frame.

        Parameters
        ----------
        prompts : sequence of Prompt
            All that hold on this frame; a Mask comes first and alone, or with points that refine it.
        previous : Record, optional
            The answer that the newest prompts correct.
        choice : MemoryChoice, optional
            Memories to use, where the object was followed to this frame before.
        candidate : int, optional
            Which of three candidates to take; the best one by default.
        near : Record, optional
            The object on another frame, to guess its size from.
        """
        found = self.candidates(
            object_id, frame, prompts, previous, choice, near, all_three=candidate is not None
        )
        return found[candidate or 0]

    @_quiet
    def candidates(
        self,
        object_id: int,
        frame: int,
        prompts: Sequence[Prompt],
        previous: Record | None,
        choice: MemoryChoice | None,
        near: Record | None,
        *,
        all_three: bool,
    ) -> list[Record]:
        """As :meth:`answer`: the one record to take, or all three candidates."""
        last = prompts[-1]
        if isinstance(last, Mask):
            view = self._mask_view(last.mask)
            features = self.features(frame, [view])
            mask = view.cut_mask(last.mask)[None].to(self.model.device)
            with self._computing():
                masks = self.model.network.adopt_mask(features, mask)
            record = replace(self._record(object_id, frame, view, masks, 0, 0), prompted=True)
            own = bbox_of(last.mask)
            # What the user painted is what the user gets, not its image at the network's resolution.
            return [replace(record, bbox=own, mask=last.mask[own[0] : own[2], own[1] : own[3]])] * (
                3 if all_three else 1
            )
        said = [p for p in prompts if not isinstance(p, Mask)]
        view = self._prompt_view(frame, said, previous, near)
        masks = self._decode(frame, view, said, previous, choice, object_id, all_three=all_three)
        count = masks.logits.shape[1]
        return [
            replace(self._record(object_id, frame, view, masks, 0, k), prompted=True) for k in range(count)
        ]

    def _decode(
        self,
        frame: int,
        view: View,
        prompts: Sequence[Point | Box],
        previous: Record | None,
        choice: MemoryChoice | None,
        object_id: int,
        *,
        all_three: bool,
    ) -> Masks:
        network, device = self.model.network, self.model.device
        features = self.features(frame, [view])
        points, labels = _as_points(view, prompts)
        logits = None
        if previous is not None:
            carried = previous.view.carry(previous.logits.astype(np.float32), view)
            logits = torch.from_numpy(carried)[None, None].to(device)
        # One click may mean the part, the object or the group; more, or a box, say which.
        ambiguous = labels.shape[1] <= 1
        with self._computing():
            if choice is None:
                top = network.unconditioned(features)
            else:
                request = [Request(object_id, choice, previous)] if previous is not None else []
                top = network.condition(features, self.memories(request))
            masks = network.decode_masks(
                features, top, points.to(device), labels.to(device), logits, candidates=ambiguous or all_three
            )
        return masks if all_three else masks.best()

    def _mask_view(self, mask: NDArray[np.bool_]) -> View:
        if not self.model.windowed:
            return whole_view(self.stack.frame_shape, self.model.config.image_size)
        y0, x0, y1, x1 = bbox_of(mask)
        return self._window(((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2), WINDOW_SIDE * object_size(mask))

    def _window(self, centre: tuple[float, float], side: float) -> View:
        return window_view(centre, side, self.stack.frame_shape, self.model.config.image_size)

    def _prompt_view(
        self, frame: int, prompts: Sequence[Point | Box], previous: Record | None, near: Record | None
    ) -> View:
        """Where to look for the object that prompts describe."""
        if not self.model.windowed:
            return whole_view(self.stack.frame_shape, self.model.config.image_size)
        if previous is not None:
            if all(previous.view.contains(yx) for p in prompts for yx in _corners(p)):
                return previous.view
            return self._view_around(prompts, previous)
        boxes = [p.yxyx for p in prompts if isinstance(p, Box)]
        if boxes:
            y0, x0, y1, x1 = boxes[-1]
            height, width = y1 - y0 + 1, x1 - x0 + 1
            size = max(0.87 * float(np.sqrt(height * width)), 0.6 * max(height, width))
            return self._window(((y0 + y1) / 2, (x0 + x1) / 2), WINDOW_SIDE * size)
        return self._search_view(frame, prompts, near)

    def _view_around(self, prompts: Sequence[Point | Box], previous: Record) -> View:
        """A window over the present mask and prompts that fell outside the present window."""
        corners = [yx for p in prompts for yx in _corners(p)]
        y0, x0, y1, x1 = previous.bbox
        if previous.mask.any():
            corners += [(float(y0), float(x0)), (y1 - 1.0, x1 - 1.0)]
        ys, xs = [c[0] for c in corners], [c[1] for c in corners]
        extent = max(max(ys) - min(ys), max(xs) - min(xs)) + 1
        side = max(previous.view.height if previous.mask.any() else 0, 1.6 * extent)
        return self._window(((min(ys) + max(ys)) / 2, (min(xs) + max(xs)) / 2), side)

    def _search_view(self, frame: int, prompts: Sequence[Point | Box], near: Record | None) -> View:
        """The window that suits what was clicked on: try a ladder of sides, keep the one that agrees best.

        A window agrees with its answer where the network believes in it, and where its side is near
        `WINDOW_SIDE` times the size of what was found.
        """
        corners = [yx for p in prompts for yx in _corners(p)]
        middle = (float(np.mean([c[0] for c in corners])), float(np.mean([c[1] for c in corners])))
        largest = float(max(self.stack.frame_shape))
        if near is not None and near.mask.any():
            sides = [
                near.view.height / _CLICK_SIDES,
                float(near.view.height),
                near.view.height * _CLICK_SIDES,
            ]
        else:
            count = max(1, int(np.ceil(np.log(max(largest / 40, 1)) / np.log(_CLICK_SIDES))) + 1)
            sides = [min(40 * _CLICK_SIDES**k, largest) for k in range(count)]
        views = list(dict.fromkeys(self._window(middle, side) for side in sides))
        best, score = views[0], -np.inf
        for view, (record, own) in zip(views, self._try_views(frame, views, prompts), strict=True):
            if own > score:
                best, score = self._recentre(record, view, middle), own
        if best not in views:  # one look from the better place, to settle the side
            record, _ = self._try_views(frame, [best], prompts)[0]
            best = self._recentre(record, best, middle)
        return best

    def _recentre(self, record: Record, view: View, middle: tuple[float, float]) -> View:
        if not record.mask.any():
            return view
        side = WINDOW_SIDE * object_size(record.mask)
        moved = np.abs(np.subtract(_centre(record), _middle(view))).max() > 0.1 * view.height
        if not moved and 1 / _SETTLED < side / view.height < _SETTLED:
            return view
        fresh = self._window(_centre(record), side)
        return fresh if fresh.contains(middle) else view

    def _try_views(
        self, frame: int, views: Sequence[View], prompts: Sequence[Point | Box]
    ) -> list[tuple[Record, float]]:
        """What the network sees in each view, and how well view and answer agree."""
        network = self.model.network
        features = self.features(frame, views)
        pairs = [_as_points(view, prompts) for view in views]
        points = torch.cat([p for p, _ in pairs]).to(self.model.device)
        labels = torch.cat([kinds for _, kinds in pairs]).to(self.model.device)
        with self._computing():
            masks = network.decode_masks(
                features, network.unconditioned(features), points, labels, candidates=labels.shape[1] <= 1
            ).best()
        tried = []
        for i, view in enumerate(views):
            record = self._record(0, frame, view, masks, i, 0)
            if not record.mask.any():
                tried.append((record, -1.0))
                continue
            ratio = abs(np.log(view.height / (WINDOW_SIDE * object_size(record.mask))))
            tried.append((record, record.predicted_iou - 0.35 * float(ratio)))
        return tried

    def _record(self, object_id: int, frame: int, view: View, masks: Masks, row: int, k: int) -> Record:
        logits = (
            masks.logits[row, k].float().clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).cpu().numpy().astype(np.float16)
        )
        bbox, mask = view.mask(logits.astype(np.float32), self.stack.frame_shape)
        cell = (view.height / logits.shape[0]) * (view.width / logits.shape[1])
        return Record(
            object_id=object_id,
            frame=frame,
            view=view,
            logits=logits,
            pointer=masks.pointers[row, k].float().cpu().numpy(),
            object_score=float(masks.object_score[row, 0]),
            predicted_iou=float(masks.iou[row, k]),
            bbox=bbox,
            mask=fill_small_holes(mask, self.settings.fill_holes * cell),
        )


def _centre(record: Record) -> tuple[float, float]:
    y0, x0, y1, x1 = record.bbox
    return (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2


def _middle(view: View) -> tuple[float, float]:
    return view.y + (view.height - 1) / 2, view.x + (view.width - 1) / 2


def _corners(prompt: Point | Box) -> list[tuple[float, float]]:
    if isinstance(prompt, Point):
        return [prompt.yx]
    y0, x0, y1, x1 = prompt.yxyx
    return [(y0, x0), (y1, x1)]


def _as_points(view: View, prompts: Sequence[Point | Box]) -> tuple[Tensor, Tensor]:
    """Points (1, N, 2) and labels (1, N) of prompts; the newest box comes first, as in training."""
    places: list[tuple[float, float]] = []
    labels: list[int] = []
    boxes = [p for p in prompts if isinstance(p, Box)]
    if boxes:
        places += _corners(boxes[-1])
        labels += [BOX_FIRST, BOX_SECOND]
    for prompt in prompts:
        if isinstance(prompt, Point):
            places.append(prompt.yx)
            labels.append(POSITIVE if prompt.positive else NEGATIVE)
    points = view.points(np.array(places, np.float64).reshape(-1, 2))
    return torch.from_numpy(points)[None].float(), torch.tensor([labels])

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

from stacksam.network.sam2 import Features, Masks, Memories
from stacksam.session.canvas import View, bbox_of, whole_view
from stacksam.session.compose import fill_small_holes
from stacksam.session.feature_cache import FeatureCache
from stacksam.session.judge import LOGIT_LIMIT, gone, likeness, obedience, overlap, trust
from stacksam.session.memory_bank import Memory, MemoryBank, MemoryChoice
from stacksam.session.models import Model
from stacksam.session.prompts import Box, Mask, Point, Prompt
from stacksam.session.results import Record
from stacksam.session.stack import Stack
from stacksam.session.windows import Windows, as_points, corners, displacement

__all__ = ["Predictor", "Request", "Settings"]

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
    cache_bytes: int = 64 * 2**20
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
        self._windows = Windows(stack.frame_shape, config.image_size)
        self._whole = whole_view(stack.frame_shape, config.image_size)
        self._features = FeatureCache(settings.cache_bytes)
        self._frames: dict[int, NDArray[np.float32]] = {}
        self._lock = threading.RLock()

    def absent(self, record: Record) -> Record:
        """The record as it is where the user says that the object is not there."""
        none = self.model.network.no_obj_ptr[0].detach().float().cpu().numpy()
        return replace(gone(record), pointer=none)

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
        if frame not in self._frames:
            if len(self._frames) > 1:  # the one in progress and the one before
                del self._frames[next(iter(self._frames))]
            self._frames[frame] = self.stack.frame(frame)
        return self._frames[frame]

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
        moves = [self._motion(frame, request.previous) for request in requests]
        views = [
            self._windows.after(r.previous, move) if self.model.windowed else r.previous.view
            for r, move in zip(requests, moves, strict=True)
        ]
        features = self.features(frame, self._shared(views))
        with self._computing():
            top = network.condition(features, self.memories(requests))
            masks = network.decode_masks(features, top, candidates=True)
            if self.model.config.carry_mask:
                # A slow object is found by where it was, a fast one by what it looks like: ask for both.
                before = self._carried(requests, views, moves)
                masks = masks.beside(network.decode_masks(features, top, logits=before, candidates=True))
        if not self.model.windowed:
            masks = masks.best()
        records = []
        for i, request in enumerate(requests):
            choice = request.choice
            sources = set(choice.conditioning)
            sources |= {f for f, _ in choice.recent} | {f for f, _ in choice.pointers}
            found = [
                self._record(request.object_id, frame, views[i], masks, i, k)
                for k in range(masks.iou.shape[1])
            ]
            record = (
                max(found, key=lambda one: likeness(one, request.previous)) if len(found) > 1 else found[0]
            )
            in_depth = self.model.windowed and self.stack.frame_axis == "z"
            if in_depth and not request.previous.mask.any():
                record = gone(record)  # what has ended in depth does not come back
            records.append(replace(record, step=step, sources=tuple(sorted(sources))))
        return records

    def _motion(self, frame: int, previous: Record) -> tuple[int, int]:
        """How far (y, x) the object seems to have moved since `previous`, in frame pixels."""
        if not self.model.windowed or not previous.mask.any():
            return 0, 0
        cells = previous.logits.shape[0]
        view = replace(previous.view, size=cells)
        before, now = (view.cut(self._read(f)).mean(dim=0).numpy() for f in (previous.frame, frame))
        dy, dx = displacement(np.asarray(previous.logits > 0), before, now)
        scale = view.height / cells
        return round(dy * scale), round(dx * scale)

    def _carried(
        self, requests: Sequence[Request], views: Sequence[View], moves: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Masks of the frame before (B, 1, h, w), moved with the objects, as the windows show them now."""
        moved = []
        for request, view, (dy, dx) in zip(requests, views, moves, strict=True):
            old = request.previous.view
            old = replace(old, y=old.y + dy, x=old.x + dx)
            moved.append(old.carry(request.previous.logits.astype(np.float32), view))
        return torch.from_numpy(np.stack(moved)[:, None]).to(self.model.device)

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
            view = self._windows.of_mask(last.mask) if self.model.windowed else self._whole
            features = self.features(frame, [view])
            mask = view.cut_mask(last.mask)[None].to(self.model.device)
            with self._computing():
                masks = self.model.network.adopt_mask(features, mask)
            record = self._record(object_id, frame, view, masks, 0, 0, prompted=True)
            own = bbox_of(last.mask)
            # What the user painted is what the user gets, not its image at the network's resolution.
            return [replace(record, bbox=own, mask=last.mask[own[0] : own[2], own[1] : own[3]])] * (
                3 if all_three else 1
            )
        said = [p for p in prompts if not isinstance(p, Mask)]
        if self._is_searched(said, previous):
            view, guess, answers = self._search(object_id, frame, said, near)
        else:
            view, guess, answers = self._prompt_view(said, previous), None, []
        if not answers:
            several = all_three or guess is not None
            masks = self._decode(frame, view, said, previous, choice, object_id, all_three=several)
            answers = [
                self._record(object_id, frame, view, masks, 0, k, prompted=True)
                for k in range(masks.iou.shape[1])
            ]
        if choice is not None and previous is not None and self.model.windowed:
            answers.sort(key=lambda one: obedience(one, previous, said), reverse=True)
            return answers[: 3 if all_three else 1]
        if guess is not None and not all_three:  # of the readings of a click, the one that the search found
            return [max(answers, key=lambda one: overlap(one, guess))]
        return answers

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
        points, labels = as_points(view, prompts)
        logits = None
        if previous is not None:
            carried = previous.view.carry(previous.logits.astype(np.float32), view)
            logits = torch.from_numpy(carried)[None, None].to(device)
        # One click may mean the part, the object or the group; more, or a box, say which.
        ambiguous = labels.shape[1] <= 1
        points, labels, several = points.to(device), labels.to(device), ambiguous or all_three

        def decode(top: Tensor) -> Masks:
            return network.decode_masks(features, top, points, labels, logits, candidates=several)

        with self._computing():
            if choice is None or previous is None:
                masks = decode(network.unconditioned(features))
            else:
                top = network.condition(features, self.memories([Request(object_id, choice, previous)]))
                masks = decode(top)
                if self.model.windowed:
                    # Memories can outweigh what the user says now; ask without them, too.
                    return masks.beside(decode(network.unconditioned(features)))
        return masks if all_three else masks.best()

    def _is_searched(self, prompts: Sequence[Point | Box], previous: Record | None) -> bool:
        """Whether clicks are all that tells where, and how large, the object is."""
        return self.model.windowed and previous is None and not any(isinstance(p, Box) for p in prompts)

    def _prompt_view(self, prompts: Sequence[Point | Box], previous: Record | None) -> View:
        """Where to look for the object that prompts describe."""
        if not self.model.windowed:
            return self._whole
        if previous is None:
            return self._windows.of_box([p for p in prompts if isinstance(p, Box)][-1])
        if all(previous.view.contains(yx) for p in prompts for yx in corners(p)):
            return previous.view
        return self._windows.around(prompts, previous)

    def _search(
        self, object_id: int, frame: int, prompts: Sequence[Point | Box], near: Record | None
    ) -> tuple[View, Record | None, list[Record]]:
        """The window that suits what was clicked on, the object in it, and all answers that it gave.

        It tries a ladder of sides. An answer is trusted where other windows find the same object, where its
        mask is stable and the network believes in it, and where the window's side is near `WINDOW_SIDE` times
        the object's size. There are no answers where the window that suits was not tried.
        """
        places = [yx for p in prompts for yx in corners(p)]
        middle = (float(np.mean([y for y, _ in places])), float(np.mean([x for _, x in places])))
        views = self._windows.ladder(middle, near)
        tried = self._try_views(object_id, frame, views, prompts)
        found = [record for record in tried if record.mask.any()]
        if not found:
            return views[-1], None, []
        guess = max(found, key=lambda record: trust(record, found))
        view = self._windows.recentred(guess, middle)
        if view not in views:  # one look from the better place, to settle the side
            closer = self._try_views(object_id, frame, [view], prompts)
            guess = max(closer, key=lambda record: overlap(record, guess))
            view = self._windows.recentred(guess, middle)
            tried += closer
        return view, guess, [record for record in tried if record.view == view]

    def _try_views(
        self, object_id: int, frame: int, views: Sequence[View], prompts: Sequence[Point | Box]
    ) -> list[Record]:
        """What the network answers in each view, three candidates each."""
        network = self.model.network
        features = self.features(frame, views)
        pairs = [as_points(view, prompts) for view in views]
        points = torch.cat([p for p, _ in pairs]).to(self.model.device)
        labels = torch.cat([kinds for _, kinds in pairs]).to(self.model.device)
        with self._computing():
            masks = network.decode_masks(
                features, network.unconditioned(features), points, labels, candidates=True
            )
        return [
            self._record(object_id, frame, view, masks, i, k, prompted=True)
            for i, view in enumerate(views)
            for k in range(3)
        ]

    def _record(
        self,
        object_id: int,
        frame: int,
        view: View,
        masks: Masks,
        row: int,
        k: int,
        *,
        prompted: bool = False,
    ) -> Record:
        logits = masks.logits[row, k].float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT).cpu().numpy()
        if not prompted:
            # Half the disk for the many; the few that users make are binarised, where a rounded logit of
            # nearly zero could flip a pixel of what is remembered.
            logits = logits.astype(np.float16)
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
            prompted=prompted,
            bbox=bbox,
            mask=fill_small_holes(mask, self.settings.fill_holes * cell),
        )

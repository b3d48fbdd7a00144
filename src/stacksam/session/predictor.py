"""From prompts and records to new records: the only place where the network meets the stack.

The predictor keeps nothing that cannot be rebuilt: encoded frames in a bounded cache, memories in a bank. A
record is a pure function of the frame, the prompts and the records it came from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stacksam.network.sam2 import Masks
from stacksam.network.windows import Window
from stacksam.session.answers import Answers, Sight, places_of
from stacksam.session.canvas import View, whole_view
from stacksam.session.compose import fill_small_holes
from stacksam.session.encoder import Encoder, quiet
from stacksam.session.ends import AT_ONCE, Ends
from stacksam.session.judge import (
    LOGIT_LIMIT,
    gone,
    likeliest,
    worth,
)
from stacksam.session.memory_bank import MemoryBank
from stacksam.session.models import Model
from stacksam.session.native import NativeCanvas
from stacksam.session.needs import fitting
from stacksam.session.prompts import Mask
from stacksam.session.recollection import Recollection, Request
from stacksam.session.records import Record
from stacksam.session.settings import Settings
from stacksam.session.stack import Stack
from stacksam.session.tiles import shared
from stacksam.session.token_windows import TokenWindows, searched, seen
from stacksam.session.windows import Windows, displacement

__all__ = ["Predictor", "Request", "Settings"]

_F = TypeVar("_F", np.float16, np.float32)

_PAINTED = 10.0  # logit inside a mask that is given, as that of a mask prompt


@dataclass(frozen=True, slots=True)
class _Look:
    """Where one object is looked for on a frame.

    Attributes
    ----------
    request : Request
    view : View
    home : Window, optional
        Where an object that is searched for on the whole canvas is taken to be if it is not found.
    move : (int, int)
        How far (y, x) it seems to have moved, in frame pixels; told of windows of their own kind only.
    """

    request: Request
    view: View
    home: Window | None = None
    move: tuple[int, int] = (0, 0)


class Predictor:
    """A model looking at a stack.

    Parameters
    ----------
    model : Model
    stack : Stack
    settings : Settings
    recall : callable
        Gives the record of (object id, frame), for memories that must be rebuilt.
    folder : Path, optional
        Where encoded frames are kept on disk, if the settings say so.

    Attributes
    ----------
    answer, candidates, painted : callable
        What is made of prompts; see :class:`~stacksam.session.answers.Answers`.
    """

    def __init__(
        self,
        model: Model,
        stack: Stack,
        settings: Settings,
        recall: Callable[[int, int], Record | None],
        folder: Path | None = None,
    ) -> None:
        self.model, self.stack, self.settings, self.recall = model, stack, settings, recall
        config = model.config
        # The official rule; where the number of frames is not known yet, results must not depend on it.
        frames = config.max_pointers if stack.live else stack.n_frames
        self.max_pointers = min(frames, config.max_pointers)
        self.bank = MemoryBank(config.recent_memories, self.max_pointers)
        # Prompts as maps are maps of the whole input.
        maps = model.windowed or config.dense_prompts
        self._sight = Sight(
            whole_view(stack.frame_shape, config.image_size),
            Windows(stack.frame_shape, config.image_size),
            TokenWindows.of("full" if maps else settings.scope, config.image_size // config.stride),
            NativeCanvas(stack.frame_shape, config.image_size)
            if settings.canvas == "native" and not maps
            else None,
        )
        self._encoder = Encoder(model, stack, settings, folder)
        self._memories = Recollection(model, self._encoder, self.bank, recall)

        def make(*given: Any, **said: Any) -> Record:  # by name: what observes a predictor may replace it
            return self._record(*given, **said)

        self._answers = Answers(model, stack, self._encoder, self._memories, self._sight, make)
        self.answer = self._answers.answer
        self.candidates = self._answers.candidates
        self.painted = self._answers.painted
        self._in_depth = model.windowed and stack.frame_axis == "z"
        looked_for = self.finds_ends and not stack.live  # planes that will come could change what is found
        self._ends = Ends(model, stack, self._encoder) if looked_for else None

    @property
    def looks(self) -> int:
        """Windows of an object that may be looked at together."""
        return 1 if self._ends is None else AT_ONCE

    @property
    def finds_ends(self) -> bool:
        """Whether an object that is followed in depth may be taken to have ended where it was not looked for.

        False also by sessions of before, whose invalidation is replayed as it was.
        """
        return self._in_depth and self.settings.find_ends

    def absent(self, record: Record) -> Record:
        """The record as it is where the user says that the object is not there."""
        none = self.model.network.no_obj_ptr[0].detach().float().cpu().numpy()
        return replace(gone(record), pointer=none)

    def with_mask(self, record: Record, mask: Mask) -> Record:
        """The record as it is with another mask, which did not come from the network.

        Its logits say the mask, as those of a painted prompt do; pointer and scores stay what they were, but
        an object that is there is visible.
        """
        if not mask.painted.size:
            return self.absent(record)
        (view,) = self._answers.views_of_masks([mask])
        cut = view.cut_mask(mask.painted, mask.bbox[:2])
        shown = torch.nn.functional.avg_pool2d(cut[None], 4)[0, 0].numpy()
        logits = np.asarray((2 * shown - 1) * _PAINTED, np.float32)
        if not self.model.windowed:
            tokens = self._sight.tokens_on(view)
            window = tokens.around(logits) if (logits > 0).any() else None
            view, logits = replace(view, window=window), _part(logits, window)
        kept = logits if record.prompted else logits.astype(np.float16)
        score = max(record.object_score, 1.0)
        return replace(record, view=view, logits=kept, bbox=mask.bbox, mask=mask.painted, object_score=score)

    def prepare(self, objects: int) -> None:
        """Keep to the ceiling of memory with so many objects, or raise DeviceMemoryError."""
        ceiling = self.settings.max_memory
        if ceiling is not None:
            shape = self.stack.frame_shape
            self._encoder.limit(fitting(self.model, shape, objects, self.settings, ceiling, self.looks))

    @property
    def encoder(self) -> Encoder:
        """What encodes frames."""
        return self._encoder

    def close(self) -> None:
        """End what runs in the background."""
        self._encoder.close()

    @property
    def features_encoded(self) -> int:
        """How often a frame, a window of its own kind or a section across frames was encoded until now."""
        return self._encoder.count

    def remember(self, records: Sequence[Record]) -> None:
        """Make memories from records of one frame and keep them in the bank."""
        self._memories.remember(records)

    # Following

    @quiet
    def follow(self, frame: int, requests: Sequence[Request], step: int) -> list[Record]:
        """Propagate objects to a frame."""
        self._encoder.read_ahead(frame + step)
        known = {}
        if self._ends is not None:
            known = {r.object_id: self._conditioning(r) for r in requests if r.previous.mask.any()}
            self._ends.learn(frame, known.values())
        ended = {
            request.object_id: self._ended(frame, request, step, known.get(request.object_id, ()))
            for request in requests
        }
        going_on = [request for request in requests if ended[request.object_id] is None]
        found = self._follow_all(frame, going_on, step) if going_on else {}
        return [ended[request.object_id] or found[request.object_id] for request in requests]

    def _ended(
        self, frame: int, request: Request, step: int, conditioning: Sequence[Record]
    ) -> Record | None:
        """The record of an object that has ended in depth; None of one that may be there."""
        if not self._in_depth:
            return None
        previous, choice = request.previous, request.choice
        # What has ended in depth does not come back.
        if previous.mask.any() and (self._ends is None or self._ends.allow(frame, conditioning)):
            return None
        sources = {*choice.conditioning, *(f for f, _ in choice.recent), *(f for f, _ in choice.pointers)}
        fresh = self.absent(previous)
        return replace(
            fresh,
            frame=frame,
            logits=fresh.logits.astype(np.float16),
            predicted_iou=1.0,
            prompted=False,
            locked=False,
            stale=False,
            step=step,
            sources=tuple(sorted(sources)),
        )

    def _conditioning(self, request: Request) -> list[Record]:
        """Records of the conditioning frames that are remembered."""
        known = (self.recall(request.object_id, f) for f in request.choice.conditioning)
        return [record for record in known if record is not None]

    def _follow_all(self, frame: int, requests: Sequence[Request], step: int) -> dict[int, Record]:
        """Look for objects that may be on a frame; their records by id."""
        looks = [self._look(frame, request, step) for request in requests]
        if self.model.windowed:
            views = shared([look.view for look in looks], self.stack.frame_shape)
            looks = [replace(look, view=view) for look, view in zip(looks, views, strict=True)]
            return self._see(frame, looks, step)
        if self._sight.native is not None:
            views = self._sight.native.cover([look.view for look in looks])
            looks = [replace(look, view=view) for look, view in zip(looks, views, strict=True)]
        on_canvas: dict[View, list[_Look]] = defaultdict(list)
        for look in looks:
            on_canvas[look.view.canvas].append(look)
        found: dict[int, Record] = {}
        for several in on_canvas.values():
            own = self._see_or_search(frame, several, step)
            if len(on_canvas) > 1:
                self._memories.remember(list(own.values()), ahead=True)  # as long as the tile is at hand
            found |= own
        return found

    def _see_or_search(self, frame: int, looks: Sequence[_Look], step: int) -> dict[int, Record]:
        """Look for objects; those that have just been lost from their windows everywhere on the canvas."""
        found = self._see(frame, looks, step)
        lost = [
            replace(look, view=look.view.canvas, home=look.view.window)
            for look in looks
            if look.view.window is not None
            and seen(look.request.previous)
            and not seen(found[look.request.object_id])
        ]
        for object_id, record in self._see(frame, lost, step).items():
            if seen(record):
                found[object_id] = record
        return found

    def _look(self, frame: int, request: Request, step: int) -> _Look:
        """Where to look for an object."""
        previous = request.previous
        if self.model.windowed:
            move = self._motion(frame, previous)
            return _Look(request, self._sight.windows.after(previous, move), move=move)
        # Nothing may be known but by what the object's record will be said to come from.
        known = {*request.choice.conditioning, *(f for f, _ in request.choice.recent)}
        earlier = previous.frame - step
        moves = self._sight.tokens.sides or self._sight.native is not None
        before = self.recall(request.object_id, earlier) if moves and earlier in known else None
        if self._sight.native is not None and previous.view.canvas != self._sight.whole:
            view = self._sight.native.after(previous, before) or self._sight.whole
        else:
            view = replace(self._sight.whole, window=self._sight.tokens.after(previous, before))
        if (
            view.window is not None
            and not seen(previous)
            and searched(frame, request.object_id, self._unseen(request))
        ):
            return _Look(request, view.canvas, home=view.window)
        return _Look(request, view)

    def _unseen(self, request: Request) -> int:
        """On how many of the last frames, of those that are remembered, the object was not seen."""
        count = 0
        for frame, _ in reversed(request.choice.recent):
            record = self.recall(request.object_id, frame)
            if record is None or seen(record):
                break
            count += 1
        return count

    def _see(self, frame: int, looks: Sequence[_Look], step: int) -> dict[int, Record]:
        """Look for objects; their records by id."""
        groups: dict[tuple[int, ...], list[_Look]] = defaultdict(list)
        for look in looks:
            remembered = self._memories.tokens(look.request), len(look.request.choice.pointers)
            groups[look.view.tokens, *remembered].append(look)
        found: dict[int, Record] = {}
        for group in groups.values():
            records = self._encoder.in_chunks(
                group, group[0].view, lambda chunk: self._follow(frame, chunk, step)
            )
            found |= {record.object_id: record for record in records}
        return found

    def _follow(self, frame: int, looks: Sequence[_Look], step: int) -> list[Record]:
        network = self.model.network
        requests, views = [look.request for look in looks], [look.view for look in looks]
        features, windows = self._encoder.features(frame, views), self._encoder.windows(views)
        with self._encoder.computing():
            memories = self._memories.stacked(requests, views)
            top = network.condition(
                features, memories, windows, places_of(views, windowed=self.model.windowed)
            )
            masks = network.decode_masks(features, top, candidates=True, windows=windows)
            if self.model.config.carry_mask:
                # A slow object is found by where it was, a fast one by what it looks like: ask for both.
                before = self._carried(looks)
                masks = masks.beside(network.decode_masks(features, top, logits=before, candidates=True))
        if not self.model.windowed:
            masks = masks.best()
        logits, iou = masks.logits.float().cpu().numpy(), masks.iou.float().cpu().numpy()
        records = []
        for i, look in enumerate(looks):
            request, choice = look.request, look.request.choice
            sources = set(choice.conditioning)
            sources |= {f for f, _ in choice.recent} | {f for f, _ in choice.pointers}
            cell = look.view.span[2] / masks.logits.shape[2]
            k = likeliest(logits[i], iou[i], cell, request.previous) if self.model.windowed else 0
            record = self._record(request.object_id, frame, look.view, masks, i, k, home=look.home)
            distance = min(abs(frame - f) for f in choice.conditioning) if choice.conditioning else 0
            believed = worth(record.predicted_iou, distance, self.model.followed_iou)
            records.append(replace(record, predicted_iou=believed, step=step, sources=tuple(sorted(sources))))
        return records

    def _motion(self, frame: int, previous: Record) -> tuple[int, int]:
        """How far (y, x) the object seems to have moved since `previous`, in frame pixels."""
        if not previous.mask.any():
            return 0, 0
        cells = previous.logits.shape[0]
        view = replace(previous.view.alone, size=cells)
        before, now = (self._encoder.cut(f, view).mean(dim=0).numpy() for f in (previous.frame, frame))
        dy, dx = displacement(np.asarray(previous.logits > 0), before, now)
        scale = view.height / cells
        return round(dy * scale), round(dx * scale)

    def _carried(self, looks: Sequence[_Look]) -> Tensor:
        """Masks of the frame before (B, 1, h, w), moved with the objects, as the windows show them now."""
        moved = []
        for look in looks:
            previous = look.request.previous
            old = previous.view.alone
            old = replace(old, y=old.y + look.move[0], x=old.x + look.move[1])
            moved.append(old.carry(previous.logits.astype(np.float32), look.view))
        return torch.from_numpy(np.stack(moved)[:, None]).to(self.model.device)

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
        home: Window | None = None,
    ) -> Record:
        """The record of a mask; one found on all of a canvas is kept in a window around it, or in `home`."""
        logits = masks.logits[row, k].float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT).cpu().numpy()
        if not prompted:
            # Half the disk for the many; the few that users make are binarised, where a rounded logit of
            # nearly zero could flip a pixel of what is remembered.
            logits = logits.astype(np.float16)
        if view.window is None and not self.model.windowed:
            tokens = self._sight.tokens_on(view)
            window = tokens.around(logits) if (logits > 0).any() else home
            view, logits = replace(view, window=window), _part(logits, window)
        bbox, mask = view.mask(logits.astype(np.float32), self.stack.frame_shape)
        _, _, height, width = view.span
        cell = (height / logits.shape[0]) * (width / logits.shape[1])
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


def _part(logits: NDArray[_F], window: Window | None) -> NDArray[_F]:
    """Logits of the whole canvas, in a window."""
    if window is None:
        return logits
    row, column, side = (4 * tokens for tokens in window)
    return np.ascontiguousarray(logits[row : row + side, column : column + side])

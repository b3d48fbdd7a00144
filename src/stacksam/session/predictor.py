"""From prompts and records to new records: the only place where the network meets the stack.

The predictor keeps nothing that cannot be rebuilt: encoded frames in a bounded cache, memories in a bank. A
record is a pure function of the frame, the prompts and the records it came from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stacksam.network.sam2 import Masks
from stacksam.network.windows import Window
from stacksam.session.canvas import View, object_size, whole_view
from stacksam.session.compose import fill_small_holes
from stacksam.session.encoder import Encoder, quiet
from stacksam.session.ends import AT_ONCE, Ends
from stacksam.session.judge import (
    LOGIT_LIMIT,
    belief,
    gone,
    heed,
    likeliest,
    obedience,
    overlap,
    trust,
    worth,
)
from stacksam.session.memory_bank import MemoryBank, MemoryChoice
from stacksam.session.models import Model
from stacksam.session.native import SIDES, NativeCanvas, centred
from stacksam.session.needs import fitting
from stacksam.session.prompts import Box, Mask, Point, Prompt
from stacksam.session.recollection import Recollection, Request
from stacksam.session.records import Record
from stacksam.session.settings import Settings
from stacksam.session.stack import Stack
from stacksam.session.tiles import shared
from stacksam.session.token_windows import TokenWindows, searched, seen
from stacksam.session.windows import Windows, as_points, box_size, corners, displacement

__all__ = ["Predictor", "Request", "Settings"]

_F = TypeVar("_F", np.float16, np.float32)

_PAINTED = 10.0  # logit inside a mask that is given, as that of a mask prompt
_CLOSE = 3.2  # side of the window of a closer look, in object sizes
_ANEW = 0.3  # how much better an answer from anew has to be than a corrected one
_LOOKS = 3  # at most, for the scale of an object that was clicked on
_PROMPT_MARGIN = 0.125  # share of a window; a prompt nearer to its border is read on the whole canvas


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
        self._windows = Windows(stack.frame_shape, config.image_size)
        self._whole = whole_view(stack.frame_shape, config.image_size)
        # Prompts as maps are maps of the whole input.
        scope = "full" if model.windowed or config.dense_prompts else settings.scope
        self._tokens = TokenWindows.of(scope, config.image_size // config.stride)
        self._native: NativeCanvas | None = None
        if settings.canvas == "native" and not (model.windowed or config.dense_prompts):
            self._native = NativeCanvas(stack.frame_shape, config.image_size)
        self._encoder = Encoder(model, stack, settings, folder)
        self._memories = Recollection(model, self._encoder, self.bank, recall)
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
        (view,) = self._views_of_masks([mask])
        cut = view.cut_mask(mask.painted, mask.bbox[:2])
        shown = torch.nn.functional.avg_pool2d(cut[None], 4)[0, 0].numpy()
        logits = np.asarray((2 * shown - 1) * _PAINTED, np.float32)
        if not self.model.windowed:
            tokens = self._tokens if view == self._whole or self._native is None else self._native.tokens
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
        if self._native is not None:
            views = self._native.cover([look.view for look in looks])
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
            return _Look(request, self._windows.after(previous, move), move=move)
        # Nothing may be known but by what the object's record will be said to come from.
        known = {*request.choice.conditioning, *(f for f, _ in request.choice.recent)}
        earlier = previous.frame - step
        moves = self._tokens.sides or self._native is not None
        before = self.recall(request.object_id, earlier) if moves and earlier in known else None
        if self._native is not None and previous.view.canvas != self._whole:
            view = self._native.after(previous, before) or self._whole
        else:
            view = replace(self._whole, window=self._tokens.after(previous, before))
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
            top = network.condition(features, memories, windows, self._places(views))
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

    def _places(self, views: Sequence[View]) -> list[Window] | None:
        """Where memory attention takes windows to be, if not where they are."""
        found = [] if self.model.windowed else [w for w in map(centred, views) if w is not None]
        return found or None

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

    # Answering

    @quiet
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

    @quiet
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
            return self.painted(frame, [last]) * (3 if all_three else 1)
        said = [p for p in prompts if not isinstance(p, Mask)]
        if self._is_searched(said, previous):
            view, guess, answers = self._search(object_id, frame, said, near)
        else:
            guess, answers = None, []
            view = self._prompt_view(object_id, frame, said, previous, near, followed=choice is not None)
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
            answers = [max(answers, key=lambda one: overlap(one, guess))]
        if not self.model.windowed:
            return answers
        if previous is not None and not all_three and self._is_searched(prompts, None):
            answers = [self._or_anew(answers[0], said, near)]
        sized = len(said) > 1 or isinstance(last, Box)
        return [self._closer(one, said) for one in answers] if sized else answers

    def _or_anew(self, corrected: Record, prompts: Sequence[Point | Box], near: Record | None) -> Record:
        """A corrected answer, or one to all clicks anew where that heeds more of them or is believed more.

        What a first click was taken for may be of quite another size than the object; a correction of that
        stays in its window.
        """
        object_id, frame = corrected.object_id, corrected.frame
        view, guess, answers = self._search(object_id, frame, prompts, near)
        if guess is None:
            return corrected
        if not answers:
            masks = self._decode(frame, view, prompts, None, None, object_id, all_three=True)
            answers = [self._record(object_id, frame, view, masks, 0, k, prompted=True) for k in range(3)]
        anew = max(answers, key=lambda one: overlap(one, guess))
        heeded = heed(anew, prompts) - heed(corrected, prompts)
        better = heeded > 0 or (heeded == 0 and belief(anew) > belief(corrected) + _ANEW)
        return anew if better else corrected

    def _closer(self, record: Record, prompts: Sequence[Point | Box]) -> Record:
        """The mask of a prompted object in finer pixels, from a window that it fills more of.

        View and pointer stay those of the window that the object is
        followed in, and so do logits, which memories are made of.
        """
        if not record.mask.any():
            return record
        y0, x0, y1, x1 = record.bbox
        view = self._windows.at(((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2), _CLOSE * object_size(record.mask))
        if not all(view.contains(yx) for p in prompts for yx in corners(p)):
            return record
        masks = self._decode(record.frame, view, prompts, record, None, record.object_id, all_three=False)
        closer = self._record(record.object_id, record.frame, view, masks, 0, 0, prompted=True)
        if heed(closer, prompts) < heed(record, prompts) or self._is_cut(closer):
            return record
        if closer.predicted_iou < record.predicted_iou or not closer.mask.any():
            return record
        logits = view.carry(closer.logits.astype(np.float32), record.view)
        return replace(
            record, mask=closer.mask, bbox=closer.bbox, logits=logits, predicted_iou=closer.predicted_iou
        )

    def _is_cut(self, record: Record) -> bool:
        """Whether a mask reaches a border of its window that is none of the frame."""
        y, x, height, width = record.view.span
        top, left, bottom, right = record.bbox
        rows, columns = self.stack.frame_shape
        return 0 < top <= y or 0 < left <= x or y + height <= bottom < rows or x + width <= right < columns

    @quiet
    def painted(self, frame: int, masks: Sequence[Mask]) -> list[Record]:
        """The records of painted masks of one frame, in order; several are computed at once.

        What the user painted is what the user gets, not its image at the network's resolution.
        """
        if not masks:
            return []
        looks = list(zip(masks, self._views_of_masks(masks), strict=True))
        return self._encoder.in_chunks(looks, looks[0][1], lambda some: self._adopt(frame, some))

    def _adopt(self, frame: int, looks: Sequence[tuple[Mask, View]]) -> list[Record]:
        features = self._encoder.features(frame, [view for _, view in looks])
        pictures = torch.stack([view.cut_mask(mask.painted, mask.bbox[:2]) for mask, view in looks])
        with self._encoder.computing():
            masks = self.model.network.adopt_mask(features, pictures.to(self.model.device))
        records = [
            self._record(mask.object_id, frame, view, masks, row, 0, prompted=True)
            for row, (mask, view) in enumerate(looks)
        ]
        return [
            replace(record, bbox=mask.bbox, mask=mask.painted)
            for record, (mask, _) in zip(records, looks, strict=True)
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
        features, windows = self._encoder.features(frame, [view]), self._encoder.windows([view])
        points, labels = as_points(view, prompts)
        logits = None
        if previous is not None:
            carried = previous.view.carry(previous.logits.astype(np.float32), view)
            logits = torch.from_numpy(carried)[None, None].to(device)
        # One click may mean the part, the object or the group; more, or a box, say which.
        ambiguous = labels.shape[1] <= 1
        points, labels, several = points.to(device), labels.to(device), ambiguous or all_three

        def decode(top: Tensor) -> Masks:
            return network.decode_masks(
                features, top, points, labels, logits, candidates=several, windows=windows
            )

        with self._encoder.computing():
            if choice is None or previous is None:
                masks = decode(network.unconditioned(features))
            else:
                request = Request(object_id, choice, previous)
                memories = self._memories.stacked([request], [view])
                top = network.condition(features, memories, windows, self._places([view]))
                masks = decode(top)
                if self.model.windowed:
                    # Memories can outweigh what the user says now; ask without them, too.
                    return masks.beside(decode(network.unconditioned(features)))
        return masks if all_three else masks.best()

    def _is_searched(self, prompts: Sequence[Prompt], previous: Record | None) -> bool:
        """Whether clicks are all that tells where, and how large, the object is."""
        return self.model.windowed and previous is None and all(isinstance(p, Point) for p in prompts)

    def _prompt_view(
        self,
        object_id: int,
        frame: int,
        prompts: Sequence[Point | Box],
        previous: Record | None,
        near: Record | None,
        *,
        followed: bool,
    ) -> View:
        """Where to look for the object that prompts describe."""
        places = [yx for p in prompts for yx in corners(p)]
        if self.model.windowed:
            if previous is None:
                return self._windows.of_box([p for p in prompts if isinstance(p, Box)][-1])
            if all(previous.view.contains(yx) for yx in places):
                return previous.view.alone
            return self._windows.around(prompts, previous)
        if previous is None:
            return self._whole if self._native is None else self._zoom(object_id, frame, prompts, near)
        # With memories a look at the whole canvas takes long, and a correction is seldom far away.
        if followed and all(previous.view.contains(yx, _PROMPT_MARGIN) for yx in places):
            return previous.view
        canvas = previous.view.canvas
        return canvas if all(canvas.contains(yx) for yx in places) else self._whole

    def _views_of_masks(self, masks: Sequence[Mask]) -> list[View]:
        """Where to look at objects that were painted on one frame."""
        if self.model.windowed:
            return [self._windows.of_mask(mask) for mask in masks]
        if self._native is None:
            return [self._whole] * len(masks)
        found = []
        for mask in masks:
            pitch = self._native.pitch(object_size(mask.painted))
            y0, x0, y1, x1 = mask.bbox
            centre = (y0 + y1) / 2, (x0 + x1) / 2
            found.append(self._whole if pitch is None else self._native.window(centre, SIDES[0], pitch))
        return [view.canvas for view in self._native.cover(found)]

    def _zoom(self, object_id: int, frame: int, prompts: Sequence[Point | Box], near: Record | None) -> View:
        """The tile that suits an object, or the whole frame.

        Its scale is that of the object on the frame nearest by. Else a box tells it, or what a click finds:
        first on the whole frame, then closer, until the scale is that of what was found.
        """
        native, view = self._native, self._whole
        if native is None:
            return view
        places = np.array([yx for p in prompts for yx in corners(p)])
        middle = (float(places[:, 0].mean()), float(places[:, 1].mean()))
        boxes = [p for p in prompts if isinstance(p, Box)]
        if near is not None and near.mask.any():
            pitch = near.view.height // native.grid if near.view.canvas != self._whole else None
        elif boxes:
            pitch = native.pitch(box_size(boxes[-1]))
        else:
            pitch = None
            for _ in range(_LOOKS):
                masks = self._decode(frame, view, prompts, None, None, object_id, all_three=False)
                found = self._record(object_id, frame, view, masks, 0, 0, prompted=True)
                if not found.mask.any():
                    break
                pitch = native.pitch(object_size(found.mask))
                fresh = self._whole if pitch is None else native.look(middle, pitch)
                if fresh == view:
                    break
                view = fresh
            return view
        tile = self._whole if pitch is None else native.look(middle, pitch)
        return tile if all(tile.contains((y, x)) for y, x in places) else self._whole

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
        features = self._encoder.features(frame, views)
        pairs = [as_points(view, prompts) for view in views]
        points = torch.cat([p for p, _ in pairs]).to(self.model.device)
        labels = torch.cat([kinds for _, kinds in pairs]).to(self.model.device)
        with self._encoder.computing():
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
        home: Window | None = None,
    ) -> Record:
        """The record of a mask; one found on all of a canvas is kept in a window around it, or in `home`."""
        logits = masks.logits[row, k].float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT).cpu().numpy()
        if not prompted:
            # Half the disk for the many; the few that users make are binarised, where a rounded logit of
            # nearly zero could flip a pixel of what is remembered.
            logits = logits.astype(np.float16)
        if view.window is None and not self.model.windowed:
            tokens = self._tokens if view == self._whole or self._native is None else self._native.tokens
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

"""What the network answers to prompts on a frame: where to look, what is meant, and how that is settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stacksam.network.prompt_encoder import BOX_FIRST
from stacksam.network.sam2 import Masks
from stacksam.network.windows import Window
from stacksam.session.canvas import View, object_size
from stacksam.session.encoder import Encoder, quiet
from stacksam.session.judge import belief, heed, obedience, overlap, trust
from stacksam.session.memory_bank import MemoryChoice
from stacksam.session.models import Model
from stacksam.session.native import SIDES, NativeCanvas, centred
from stacksam.session.prompts import Box, Mask, Point, Prompt
from stacksam.session.recollection import Recollection, Request
from stacksam.session.records import Record
from stacksam.session.stack import Stack
from stacksam.session.token_windows import TokenWindows
from stacksam.session.windows import Windows, as_points, box_size, corners

__all__ = ["Answers", "Sight", "places_of"]

_CLOSE = 3.2  # side of the window of a closer look, in object sizes
_ANEW = 0.3  # how much better an answer from anew has to be than a corrected one
_MIRRORS: tuple[tuple[int, ...], ...] = (), (-1,), (-2,), (-2, -1)  # axes along which a picture is turned
_LOOKS = 3  # at most, for the scale of an object that was clicked on
_PROMPT_MARGIN = 0.125  # share of a window; a prompt nearer to its border is read on the whole canvas


class Sight(NamedTuple):
    """Through what a model sees the frames of a stack.

    Attributes
    ----------
    whole : View
        The whole frame.
    windows : Windows
        Those of a model with windows of its own kind.
    tokens : TokenWindows
        Windows on the canvas of a whole frame.
    native : NativeCanvas, optional
        Where small objects are seen at a scale that suits them.
    """

    whole: View
    windows: Windows
    tokens: TokenWindows
    native: NativeCanvas | None

    def tokens_on(self, view: View) -> TokenWindows:
        """Windows on the canvas that a view is of."""
        return self.tokens if view == self.whole or self.native is None else self.native.tokens


class Answers:
    """Answers prompts; keeps nothing.

    Parameters
    ----------
    model : Model
    stack : Stack
    encoder : Encoder
    memories : Recollection
    sight : Sight
    make : callable
        Makes a record of one of the masks that the network gave.
    """

    def __init__(
        self,
        model: Model,
        stack: Stack,
        encoder: Encoder,
        memories: Recollection,
        sight: Sight,
        make: Callable[..., Record],
    ) -> None:
        self._model, self._stack, self._encoder = model, stack, encoder
        self._memories, self._sight, self._make = memories, sight, make

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
                self._make(object_id, frame, view, masks, 0, k, prompted=True)
                for k in range(masks.iou.shape[1])
            ]
        if choice is not None and previous is not None and self._model.windowed:
            answers.sort(key=lambda one: obedience(one, previous, said), reverse=True)
            return answers[: 3 if all_three else 1]
        if guess is not None and not all_three:  # of the readings of a click, the one that the search found
            answers = [max(answers, key=lambda one: overlap(one, guess))]
        if not self._model.windowed:
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
            answers = [self._make(object_id, frame, view, masks, 0, k, prompted=True) for k in range(3)]
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
        view = self._sight.windows.at(
            ((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2), _CLOSE * object_size(record.mask)
        )
        if not all(view.contains(yx) for p in prompts for yx in corners(p)):
            return record
        masks = self._mirrored(record, view, prompts)
        closer = self._make(record.object_id, record.frame, view, masks, 0, 0, prompted=True)
        if heed(closer, prompts) < heed(record, prompts) or self._is_cut(closer):
            return record
        if closer.predicted_iou < record.predicted_iou or not closer.mask.any():
            return record
        logits = view.carry(closer.logits.astype(np.float32), record.view)
        return replace(
            record, mask=closer.mask, bbox=closer.bbox, logits=logits, predicted_iou=closer.predicted_iou
        )

    def _mirrored(self, record: Record, view: View, prompts: Sequence[Point | Box]) -> Masks:
        """What the network answers to prompts and a mask, on the average of four mirrored pictures.

        A network of convolutions is no mirror of itself, and its errors along a border differ from one
        picture to the next.
        """
        network, device = self._model.network, self._model.device
        picture = self._encoder.cut(record.frame, view)
        carried = torch.from_numpy(record.view.carry(record.logits.astype(np.float32), view))[None]
        points, labels = as_points(view, prompts)
        features = self._encoder.encoded(torch.stack([picture.flip(axes) for axes in _MIRRORS]))
        with self._encoder.computing():
            masks = network.decode_masks(
                features,
                network.unconditioned(features),
                torch.cat([mirrored(points, labels, axes, view.size) for axes in _MIRRORS]).to(device),
                labels.expand(len(_MIRRORS), -1).to(device),
                torch.stack([carried.flip(axes) for axes in _MIRRORS]).to(device),
                candidates=False,
            )
        turned = [logits.flip(axes) for logits, axes in zip(masks.logits.float(), _MIRRORS, strict=True)]
        return Masks(
            torch.stack(turned).mean(0, keepdim=True),
            masks.iou.float().mean(0, keepdim=True),
            masks.pointers[:1],
            masks.object_score.float().mean(0, keepdim=True),
        )

    def _is_cut(self, record: Record) -> bool:
        """Whether a mask reaches a border of its window that is none of the frame."""
        y, x, height, width = record.view.span
        top, left, bottom, right = record.bbox
        rows, columns = self._stack.frame_shape
        return 0 < top <= y or 0 < left <= x or y + height <= bottom < rows or x + width <= right < columns

    @quiet
    def painted(self, frame: int, masks: Sequence[Mask]) -> list[Record]:
        """The records of painted masks of one frame, in order; several are computed at once.

        What the user painted is what the user gets, not its image at the network's resolution.
        """
        if not masks:
            return []
        looks = list(zip(masks, self.views_of_masks(masks), strict=True))
        return self._encoder.in_chunks(looks, looks[0][1], lambda some: self._adopt(frame, some))

    def _adopt(self, frame: int, looks: Sequence[tuple[Mask, View]]) -> list[Record]:
        features = self._encoder.features(frame, [view for _, view in looks])
        pictures = torch.stack([view.cut_mask(mask.painted, mask.bbox[:2]) for mask, view in looks])
        with self._encoder.computing():
            masks = self._model.network.adopt_mask(features, pictures.to(self._model.device))
        records = [
            self._make(mask.object_id, frame, view, masks, row, 0, prompted=True)
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
        network, device = self._model.network, self._model.device
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
                top = network.condition(
                    features, memories, windows, places_of([view], windowed=self._model.windowed)
                )
                masks = decode(top)
                if self._model.windowed:
                    # Memories can outweigh what the user says now; ask without them, too.
                    return masks.beside(decode(network.unconditioned(features)))
        return masks if all_three else masks.best()

    def _is_searched(self, prompts: Sequence[Prompt], previous: Record | None) -> bool:
        """Whether clicks are all that tells where, and how large, the object is."""
        return self._model.windowed and previous is None and all(isinstance(p, Point) for p in prompts)

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
        if self._model.windowed:
            if previous is None:
                return self._sight.windows.of_box([p for p in prompts if isinstance(p, Box)][-1])
            if all(previous.view.contains(yx) for yx in places):
                return previous.view.alone
            return self._sight.windows.around(prompts, previous)
        if previous is None:
            return (
                self._sight.whole
                if self._sight.native is None
                else self._zoom(object_id, frame, prompts, near)
            )
        # With memories a look at the whole canvas takes long, and a correction is seldom far away.
        if followed and all(previous.view.contains(yx, _PROMPT_MARGIN) for yx in places):
            return previous.view
        canvas = previous.view.canvas
        return canvas if all(canvas.contains(yx) for yx in places) else self._sight.whole

    def views_of_masks(self, masks: Sequence[Mask]) -> list[View]:
        """Where to look at objects that were painted on one frame."""
        if self._model.windowed:
            return [self._sight.windows.of_mask(mask) for mask in masks]
        if self._sight.native is None:
            return [self._sight.whole] * len(masks)
        found = []
        for mask in masks:
            pitch = self._sight.native.pitch(object_size(mask.painted))
            y0, x0, y1, x1 = mask.bbox
            centre = (y0 + y1) / 2, (x0 + x1) / 2
            found.append(
                self._sight.whole if pitch is None else self._sight.native.window(centre, SIDES[0], pitch)
            )
        return [view.canvas for view in self._sight.native.cover(found)]

    def _zoom(self, object_id: int, frame: int, prompts: Sequence[Point | Box], near: Record | None) -> View:
        """The tile that suits an object, or the whole frame.

        Its scale is that of the object on the frame nearest by. Else a box tells it, or what a click finds:
        first on the whole frame, then closer, until the scale is that of what was found.
        """
        native, view = self._sight.native, self._sight.whole
        if native is None:
            return view
        places = np.array([yx for p in prompts for yx in corners(p)])
        middle = (float(places[:, 0].mean()), float(places[:, 1].mean()))
        boxes = [p for p in prompts if isinstance(p, Box)]
        if near is not None and near.mask.any():
            pitch = near.view.height // native.grid if near.view.canvas != self._sight.whole else None
        elif boxes:
            pitch = native.pitch(box_size(boxes[-1]))
        else:
            pitch = None
            for _ in range(_LOOKS):
                masks = self._decode(frame, view, prompts, None, None, object_id, all_three=False)
                found = self._make(object_id, frame, view, masks, 0, 0, prompted=True)
                if not found.mask.any():
                    break
                pitch = native.pitch(object_size(found.mask))
                fresh = self._sight.whole if pitch is None else native.look(middle, pitch)
                if fresh == view:
                    break
                view = fresh
            return view
        tile = self._sight.whole if pitch is None else native.look(middle, pitch)
        return tile if all(tile.contains((y, x)) for y, x in places) else self._sight.whole

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
        views = self._sight.windows.ladder(middle, near)
        tried = self._try_views(object_id, frame, views, prompts)
        found = [record for record in tried if record.mask.any()]
        if not found:
            return views[-1], None, []
        guess = max(found, key=lambda record: trust(record, found))
        view = self._sight.windows.recentred(guess, middle)
        if view not in views:  # one look from the better place, to settle the side
            closer = self._try_views(object_id, frame, [view], prompts)
            guess = max(closer, key=lambda record: overlap(record, guess))
            view = self._sight.windows.recentred(guess, middle)
            tried += closer
        return view, guess, [record for record in tried if record.view == view]

    def _try_views(
        self, object_id: int, frame: int, views: Sequence[View], prompts: Sequence[Point | Box]
    ) -> list[Record]:
        """What the network answers in each view, three candidates each."""
        network = self._model.network
        features = self._encoder.features(frame, views)
        pairs = [as_points(view, prompts) for view in views]
        points = torch.cat([p for p, _ in pairs]).to(self._model.device)
        labels = torch.cat([kinds for _, kinds in pairs]).to(self._model.device)
        with self._encoder.computing():
            masks = network.decode_masks(
                features, network.unconditioned(features), points, labels, candidates=True
            )
        return [
            self._make(object_id, frame, view, masks, i, k, prompted=True)
            for i, view in enumerate(views)
            for k in range(3)
        ]


def mirrored(points: Tensor, labels: Tensor, axes: Sequence[int], size: int) -> Tensor:
    """Points (1, N, 2) in (x, y) of a picture of `size` pixels, mirrored along axes -1 (x) or -2 (y)."""
    turned = points.clone()
    for axis in axes:
        turned[..., -1 - axis] = size - 1 - turned[..., -1 - axis]
    if (
        labels.shape[1] and labels[0, 0] == BOX_FIRST
    ):  # of a box, the first corner is that of the least values
        turned[:, :2] = torch.stack((turned[:, :2].amin(1), turned[:, :2].amax(1)), dim=1)
    return turned


def places_of(views: Sequence[View], *, windowed: bool) -> list[Window] | None:
    """Where memory attention takes windows to be, if not where they are."""
    found = [] if windowed else [w for w in map(centred, views) if w is not None]
    return found or None

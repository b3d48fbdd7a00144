"""Memories of objects: made from records, kept in a bank, and stacked for the network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stacksam.network.sam2 import Memories
from stacksam.network.windows import Window
from stacksam.session.canvas import View
from stacksam.session.encoder import Encoder, quiet
from stacksam.session.memory_bank import Memory, MemoryBank, MemoryChoice
from stacksam.session.models import Model
from stacksam.session.native import placed
from stacksam.session.records import Record

__all__ = ["Recollection", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """One object to be followed to a frame: which memories it uses, and the record it comes from."""

    object_id: int
    choice: MemoryChoice
    previous: Record


class Recollection:
    """What objects remember.

    Parameters
    ----------
    model : Model
    encoder : Encoder
    bank : MemoryBank
        Memories that are at hand.
    recall : callable
        Gives the record of (object id, frame), for memories that must be rebuilt.
    """

    def __init__(
        self,
        model: Model,
        encoder: Encoder,
        bank: MemoryBank,
        recall: Callable[[int, int], Record | None],
    ) -> None:
        self._model, self._encoder, self._bank, self._recall = model, encoder, bank, recall
        self._ahead: list[Record] = []

    def tokens(self, request: Request) -> int:
        """How many tokens of memories an object attends to, pointers aside."""
        return sum(memory.tokens for memory, _ in self._spatial(request))

    def stacked(self, requests: Sequence[Request], views: Sequence[View]) -> Memories:
        """Memories of objects that use equally many tokens and pointers, and see these views of a canvas."""
        remembered = [self._spatial(request) for request in requests]
        spatial, ages, windows = self._tokens(remembered, views)
        pointers = [
            [self._at(r.object_id, f, spatial=False).pointer for f, _ in r.choice.pointers] for r in requests
        ]
        device = self._model.device
        none = torch.zeros(0, self._model.config.width, device=device)
        distances = [[distance for _, distance in r.choice.pointers] for r in requests]
        return Memories(
            spatial,
            ages,
            torch.stack([torch.stack(own) if own else none for own in pointers]),
            torch.tensor(distances, dtype=torch.float32, device=device).view(len(requests), -1),
            max(self._bank.max_pointers - 1, 1),
            windows,
        )

    def _tokens(
        self, remembered: Sequence[Sequence[tuple[Memory, int]]], views: Sequence[View]
    ) -> tuple[Tensor, Tensor, tuple[tuple[Window, ...], ...] | None]:
        """The first two and the last field of `Memories`."""
        device = self._model.device
        maps = [[m.spatial for m, _ in own if m.spatial is not None] for own in remembered]
        ages = torch.tensor([age for own in remembered for _, age in own])
        canvas = views[0].canvas
        if all(m.view is None or m.view == canvas for own in remembered for m, _ in own):
            spatial = torch.stack([torch.stack(own) for own in maps])
            return spatial, ages.view(spatial.shape[:2]).to(device), None
        sizes = torch.tensor([m.tokens for own in remembered for m, _ in own])
        tokens = torch.stack([torch.cat([m.flatten(1).T for m in own]) for own in maps])
        windows = tuple(
            tuple(placed(m.view, view) for m, _ in own if m.view is not None)
            for own, view in zip(remembered, views, strict=True)
        )
        each = ages.repeat_interleave(sizes).view(tokens.shape[:2])
        return tokens, each.to(device), windows

    def _spatial(self, request: Request) -> list[tuple[Memory, int]]:
        """The memories that an object attends to, with their ages."""
        choice = request.choice
        placed = [(f, 0) for f in choice.conditioning] + list(choice.recent)
        return [(self._at(request.object_id, f), age) for f, age in placed]

    def _at(self, object_id: int, frame: int, *, spatial: bool = True) -> Memory:
        memory = self._bank.get(object_id, frame)
        if memory is None or (spatial and memory.spatial is None):
            record = self._recall(object_id, frame)
            if record is None:  # the caller chose from existing records
                raise RuntimeError(f"object {object_id} has no record on frame {frame} to remember")
            if spatial:
                self.remember([record])
            else:
                self._bank.put(object_id, frame, Memory(None, self._pointer(record)))
            memory = self._at(object_id, frame, spatial=spatial)
        return memory

    def _pointer(self, record: Record) -> Tensor:
        return torch.from_numpy(record.pointer.copy()).to(self._model.device)

    @quiet
    def remember(self, records: Sequence[Record], *, ahead: bool = False) -> None:
        """Make memories from records of one frame and keep them in the bank.

        With `ahead` of records that will be given again once they are written, while the features that they
        need are at hand: next time there is nothing to do for them.
        """
        if ahead:
            self._ahead += records
        else:
            known = {id(record) for record in self._ahead}
            records = [record for record in records if id(record) not in known]
            self._ahead = []
        groups: dict[tuple[bool, int, View | None], list[Record]] = defaultdict(list)
        for record in records:
            canvas = None if self._model.windowed else record.view.canvas
            groups[record.prompted, record.view.tokens, canvas].append(record)
        for group in groups.values():
            memories = self._encoder.in_chunks(group, group[0].view, self._encode)
            for record, memory in zip(group, memories, strict=True):
                own = memory.clone() if len(group) > 1 else memory  # or each would keep all alive
                view = None if self._model.windowed else record.view
                kept = Memory(own, self._pointer(record), view)
                self._bank.put(record.object_id, record.frame, kept)

    def _encode(self, records: Sequence[Record]) -> Tensor:
        """Memories (B, memory_width, H, W) of records of one frame, alike in kind."""
        views, device = [record.view for record in records], self._model.device
        features = self._encoder.features(records[0].frame, views)
        logits = torch.from_numpy(np.stack([r.logits for r in records])[:, None].astype(np.float32))
        score = torch.tensor([[r.object_score] for r in records], device=device)
        with self._encoder.computing():
            return self._model.network.encode_memory(
                features,
                logits.to(device),
                score,
                binarise=records[0].prompted,
                windows=self._encoder.windows(views),
            )

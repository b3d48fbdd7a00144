"""The objects of a session: what the user said of each, and the answers.

Methods that change something are called inside an action, which writes all of it or nothing; see
:class:`stacksam.session.session.Session`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from stacksam.errors import InputError, SessionFileError
from stacksam.session.actions import Action, Group, Said, grouped
from stacksam.session.memory_bank import MemoryBank, MemoryChoice, choose_memories
from stacksam.session.plan import Scope, behind, depending, reaches
from stacksam.session.predictor import Predictor, Request
from stacksam.session.prompts import Prompt, check_object_id
from stacksam.session.records import Record
from stacksam.session.results import ResultStore

__all__ = ["Objects"]


class Objects:
    """What the user said of each object on each frame, and how it is answered.

    Parameters
    ----------
    store : ResultStore
        Where results are read and written.
    predictor : Predictor
        What gives them.

    Notes
    -----
    What was said is replaced, never changed, so that it may be read from any thread.
    """

    def __init__(self, store: ResultStore, predictor: Predictor) -> None:
        self._store = store
        self._predictor = predictor
        self._said: Mapping[int, Mapping[int, Said]] = {}
        self._removed: frozenset[int] = frozenset()
        self.load()

    def load(self) -> None:
        """Take everything from disk, and forget all memories: something else may have happened there."""
        said: dict[int, dict[int, Said]] = {}
        removed = set()
        for key, value in self._store.state().items():
            kind, *numbers = key.split(":")
            try:
                if kind == "prompts":
                    object_id, frame = (int(n) for n in numbers)
                    said.setdefault(object_id, {})[frame] = Said.from_json(value, frame, object_id)
                else:
                    removed.add(int(numbers[0]))
            except (IndexError, ValueError) as error:
                raise SessionFileError(f"{self._store.path} is damaged: {key!r}, {error}") from error
        self._said, self._removed = said, frozenset(removed)
        bank = self._predictor.bank
        self._predictor.bank = MemoryBank(bank.max_recent, bank.max_pointers)

    # What there is

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of all objects, in order."""
        return tuple(sorted(self._said))

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts in force, by object and frame."""
        said = self._said
        return tuple(p for i in sorted(said) for frame in sorted(said[i]) for p in said[i][frame].prompts())

    def conditioning(self, object_id: int) -> tuple[int, ...]:
        """Frames on which the object has prompts, in order."""
        return tuple(sorted(self._said.get(object_id, ())))

    def said(self, object_id: int, frame: int) -> Said | None:
        """What was said of an object on a frame."""
        return self._said.get(object_id, {}).get(frame)

    def known(self, object_id: object) -> int:
        """The id of an object, or InputError."""
        number = check_object_id(object_id)
        if number not in self._said:
            known = ", ".join(map(str, self.ids)) or "none"
            raise InputError(f"there is no object {number}; objects: {known}")
        return number

    def check_new(self, object_id: int) -> None:
        """InputError for the id of an object that was removed."""
        if object_id in self._removed:
            free = max([*self._removed, *self._said]) + 1
            raise InputError(
                f"object {object_id} was removed; undo that, or use a new id (next free: {free})"
            )

    def without(self, prompt: Prompt) -> Said:
        """What is left on a prompt's frame when it is taken back; InputError if it is not there."""
        said = self.said(prompt.object_id, prompt.frame)
        left = said.without(prompt) if said else None
        if left is None:
            raise InputError(
                f"object {prompt.object_id} has no such prompt on frame {prompt.frame}; see Session.prompts"
            )
        return left

    # Changing

    def say(self, object_id: int, frame: int, prompts: Sequence[Prompt], action: Action) -> Record:
        """Answer new prompts."""
        before = self.said(object_id, frame)
        if before is None:
            self._store.set_base(object_id, frame, action.number)
        groups = before.groups if before else ()
        record = self._store.get(object_id, frame)
        for group in grouped(prompts):
            groups += (group,)
            record = self._answer(object_id, frame, Said(groups), record)
        return self._settle(record, Said(groups), action)

    def unsay(self, prompt: Prompt, action: Action) -> Record | None:
        """Take back one prompt, and answer the others anew; None where nothing is left on its frame."""
        object_id, frame = prompt.object_id, prompt.frame
        left = self.without(prompt)
        if not left.groups:
            return self._release(object_id, frame, action)
        return self._settle(self._retrace(object_id, frame, left), left, action)

    def choose(self, record: Record, candidate: int, action: Action) -> Record:
        """Take a record that :meth:`candidates` gave."""
        groups = self._prompted(record.object_id, record.frame).groups
        chosen = Said((*groups[:-1], Group(groups[-1].prompts, candidate)))
        return self._settle(record, chosen, action)

    def remove(self, object_id: int, action: Action) -> None:
        """Remove an object with its prompts and results; its id is not used again."""
        for frame in self.conditioning(object_id):
            self._set_said(object_id, frame, None, action)
        self._store.delete(object_id, self._store.frames(object_id), action.number)
        self._removed |= {object_id}
        action.change(f"removed:{object_id}", None, True)
        self._predictor.bank.forget(object_id)

    def restart(self, scope: Scope, action: Action) -> None:
        """Mark as stale what can be computed anew, and what came from that."""
        for object_id in scope.objects:
            reached = set(scope.reached(self.conditioning(object_id)))
            present, settled = self._store.frames(object_id), self._store.frames(object_id, "settled")
            self._invalidate(object_id, reached & set(present) - set(settled), action, themselves=True)

    def _invalidate(
        self, object_id: int, changed: Collection[int], action: Action, *, themselves: bool = False
    ) -> None:
        """Mark as stale what came from the changed frames, and perhaps these themselves."""
        locked = self._store.frames(object_id, "locked")
        stale = set(depending(changed, self._store.sources(object_id), locked))
        if themselves:
            stale |= set(changed)
        self._store.flag(object_id, sorted(stale), action.number, stale=True)
        self._predictor.bank.forget(object_id, stale)

    def _set_said(self, object_id: int, frame: int, said: Said | None, action: Action) -> None:
        own = dict(self._said.get(object_id, {}))
        before = own.pop(frame, None)
        if said is not None:
            own[frame] = said
        others = {i: frames for i, frames in self._said.items() if i != object_id}
        self._said = {**others, object_id: own} if own else others
        action.change(f"prompts:{object_id}:{frame}", before and before.to_json(), said and said.to_json())

    def _settle(self, record: Record | None, said: Said, action: Action) -> Record:
        """Write a prompted frame's new record, and mark what came from the old one."""
        if record is None:  # there is at least one group of prompts
            raise RuntimeError("no prompt was answered")
        object_id, frame = record.object_id, record.frame
        self._store.put([record], action.number)
        self._set_said(object_id, frame, said, action)
        self._predictor.bank.forget(object_id, [frame])
        self._invalidate(object_id, [frame], action)
        return record

    def _release(self, object_id: int, frame: int, action: Action) -> Record | None:
        """Make a frame unprompted again; its earlier propagated result, if any, returns as stale."""
        self._set_said(object_id, frame, None, action)
        self._predictor.bank.forget(object_id)
        if not self.conditioning(object_id):  # nothing left to be followed from
            self._store.delete(object_id, self._store.frames(object_id), action.number)
            return None
        self._invalidate(object_id, [frame], action)
        base = self._store.base(object_id, frame)
        if base is None:
            self._store.delete(object_id, [frame], action.number)
            return None
        base = replace(base, stale=not base.locked)
        self._store.put([base], action.number)
        return base

    # Answering

    def candidates(self, object_id: int, frame: int) -> list[tuple[int, Record]]:
        """Number and record of each answer to the newest prompts, best first."""
        said = self._prompted(object_id, frame)
        earlier = self._retrace(object_id, frame, Said(said.groups[:-1]))
        found = self._predictor.candidates(
            object_id,
            frame,
            said.prompts(),
            earlier,
            self._choice_for_prompt(object_id, frame),
            self._nearest(object_id, frame),
            all_three=True,
        )
        return sorted(enumerate(found), key=lambda pair: -pair[1].predicted_iou)

    def _prompted(self, object_id: int, frame: int) -> Said:
        said = self.said(object_id, frame)
        if said is None:
            raise InputError(f"object {object_id} has no prompt on frame {frame}; add one first")
        return said

    def _retrace(self, object_id: int, frame: int, said: Said) -> Record | None:
        """Answer all groups of a frame anew, from what was known before the first."""
        record = self._store.base(object_id, frame)
        for count in range(1, len(said.groups) + 1):
            record = self._answer(object_id, frame, Said(said.groups[:count]), record)
        return record

    def _answer(self, object_id: int, frame: int, said: Said, previous: Record | None) -> Record:
        """Answer the last group of prompts, given the answer to those before."""
        return self._predictor.answer(
            object_id,
            frame,
            said.prompts(),
            previous,
            self._choice_for_prompt(object_id, frame),
            said.groups[-1].choice,
            self._nearest(object_id, frame),
        )

    def _choice_for_prompt(self, object_id: int, frame: int) -> MemoryChoice | None:
        """Memories for a frame that the object was followed to before the user corrected it there."""
        base = self._store.base(object_id, frame)
        others = [f for f in self.conditioning(object_id) if f != frame]
        if base is None or base.step == 0 or not others:
            return None
        return self._choose(object_id, frame, base.step, others)

    def _nearest(self, object_id: int, frame: int) -> Record | None:
        """The object's record on the nearest other frame, for a guess of its size."""
        frames = [f for f in self._store.frames(object_id) if f != frame]
        if not frames:
            return None
        return self._store.get(object_id, min(frames, key=lambda f: abs(f - frame)))

    # Following

    def waiting(self, object_ids: Iterable[int], frame: int, step: int) -> list[int]:
        """Objects that can be followed to a frame and have no valid result there."""
        present = self._store.flags(frame)
        wanted = []
        for object_id in object_ids:
            flags = present.get(object_id)
            missing = flags is None or (flags.stale and not flags.settled)
            if missing and reaches(self.conditioning(object_id), frame, step):
                wanted.append(object_id)
        return wanted

    def request(self, object_id: int, frame: int, step: int) -> Request:
        """What the predictor needs to follow an object to a frame."""
        choice = self._choose(object_id, frame, step, self.conditioning(object_id))
        previous = self._store.get(object_id, behind(choice, frame, step))
        if previous is None:
            raise RuntimeError(f"object {object_id} has no record to be followed from on frame {frame}")
        return Request(object_id, choice, previous)

    def _choose(self, object_id: int, frame: int, step: int, conditioning: Sequence[int]) -> MemoryChoice:
        reach = self._predictor.max_pointers
        propagated = self._store.propagated(object_id, frame - reach, frame + reach)
        return choose_memories(
            frame,
            conditioning,
            propagated - {frame},
            step=step,
            max_conditioning=self._predictor.settings.max_conditioning,
            max_recent=self._predictor.bank.max_recent,
            max_pointers=reach,
        )

    def remember(self, records: Sequence[Record]) -> None:
        """Make memories of one frame's propagated records, and drop those that are no longer near."""
        self._predictor.remember(records)
        for record in records:
            self._predictor.bank.prune(record.object_id, record.frame, self.conditioning(record.object_id))

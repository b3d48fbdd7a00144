"""The objects of a session: what the user said of each, and the answers.

Methods that change something write into the draft of an action; see :class:`stacksam.session.draft.Draft`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from stacksam.errors import InputError
from stacksam.session.actions import Group, Said, Told, grouped
from stacksam.session.draft import Draft
from stacksam.session.links import forget_links, limits
from stacksam.session.memory_bank import MemoryChoice, choose_memories
from stacksam.session.plan import Direction, Scope, behind, depending, reaches, unparted
from stacksam.session.predictor import Predictor, Request
from stacksam.session.prompts import Mask, Prompt, check_frame, check_object_id, check_several
from stacksam.session.records import Record
from stacksam.session.results import ResultStore

__all__ = ["Objects"]


class Objects:
    """What the user said of each object on each frame, and how it is answered.

    Parameters
    ----------
    store : ResultStore
        Where results are read.
    predictor : Predictor
        What gives them. It recalls records by :meth:`recall`.

    Attributes
    ----------
    told : Told
        All that the user told, as it is on disk.
    """

    def __init__(self, store: ResultStore, predictor: Predictor) -> None:
        self.told = Told()
        self._store = store
        self._predictor = predictor
        self._draft: Draft | None = None
        self.load()

    def load(self) -> None:
        """Take everything from disk, where something else may have happened, and forget all memories."""
        self.told = Told.from_state(self._store.state())
        self._predictor.bank.clear()

    @contextmanager
    def drafting(self) -> Iterator[Draft]:
        """The draft of an action, to be prepared and written inside; if that fails, nothing has changed."""
        draft = self._draft = Draft(self._store, self.told)
        try:
            yield draft
        except BaseException:
            self._predictor.bank.clear()  # memories of answers that were never written
            raise
        finally:
            self._draft = None
        self.told = draft.told

    def recall(self, object_id: int, frame: int) -> Record | None:
        """A record, also one of the draft in progress."""
        return (self._draft or self._store).get(object_id, frame)

    # What there is

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of all objects, in order."""
        return tuple(sorted(self.told.said))

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts in force, by object and frame."""
        said = self.told.said
        return tuple(p for i in sorted(said) for frame in sorted(said[i]) for p in said[i][frame].prompts())

    def conditioning(self, object_id: int) -> tuple[int, ...]:
        """Frames on which the object has prompts, in order."""
        return self.told.conditioning(object_id)

    def known(self, object_id: object) -> int:
        """The id of an object, or InputError."""
        number = check_object_id(object_id)
        if number not in self.told.said:
            known = ", ".join(map(str, self.ids)) or "none"
            raise InputError(f"there is no object {number}; objects: {known}")
        return number

    def free_ids(self, count: int) -> list[int]:
        """Ids for new objects: those after all that were used."""
        first = max([0, *self.told.removed, *self.told.said]) + 1
        check_object_id(first + count - 1)
        return list(range(first, first + count))

    def check_new(self, object_id: int) -> None:
        """InputError for the id of an object that was removed."""
        if object_id in self.told.removed:
            free = max([*self.told.removed, *self.told.said]) + 1
            raise InputError(
                f"object {object_id} was removed; undo that, or use a new id (next free: {free})"
            )

    def without(self, prompt: Prompt) -> Said:
        """What is left on a prompt's frame when it is taken back; InputError if it is not there."""
        said = (self._draft or self).told.at(prompt.object_id, prompt.frame)
        left = said.without(prompt) if said else None
        if left is None:
            raise InputError(
                f"object {prompt.object_id} has no such prompt on frame {prompt.frame}; see Session.prompts"
            )
        return left

    # Changing

    def say_all(
        self, places: Mapping[tuple[int, int], Sequence[Prompt]], draft: Draft
    ) -> dict[tuple[int, int], Record]:
        """Answer new prompts of several objects and frames; masks of one frame are computed together.

        Parameters
        ----------
        places : mapping of (object id, frame) to sequence of Prompt
        draft : Draft
        """
        masks: dict[int, list[Mask]] = defaultdict(list)
        for prompts in places.values():
            if len(prompts) == 1 and isinstance(prompts[0], Mask):
                masks[prompts[0].frame].append(prompts[0])
        painted = {
            (record.object_id, frame): record
            for frame, own in masks.items()
            for record in self._predictor.painted(frame, own)
        }
        return {
            place: self.say(*place, prompts, draft, painted.get(place)) for place, prompts in places.items()
        }

    def say(
        self,
        object_id: int,
        frame: int,
        prompts: Sequence[Prompt],
        draft: Draft,
        answer: Record | None = None,
    ) -> Record:
        """Answer new prompts, or take an answer that there is already."""
        before = draft.told.at(object_id, frame)
        if before is None:
            draft.set_base(object_id, frame)
        groups = before.groups if before else ()
        if answer is not None:
            return self._settle(answer, Said((*groups, *grouped(prompts))), draft)
        record = draft.get(object_id, frame)
        for group in grouped(prompts):
            groups += (group,)
            record = self._answer(object_id, frame, Said(groups), record, draft)
        return self._settle(record, Said(groups), draft)

    def unsay(self, prompt: Prompt, draft: Draft) -> Record | None:
        """Take back one prompt, and answer the others anew; None where nothing is left on its frame."""
        object_id, frame = prompt.object_id, prompt.frame
        left = self.without(prompt)
        if not left.groups:
            return self._release(object_id, frame, draft)
        return self._settle(self._retrace(object_id, frame, left, draft), left, draft)

    def replace(self, old: Prompt, new: Prompt, draft: Draft) -> Record:
        """Take back one prompt and answer another instead."""
        place = new.object_id, new.frame
        if (old.object_id, old.frame) != place:
            # The new one first: an object that loses its last prompt loses its results.
            record = self.say(*place, [new], draft)
            self.unsay(old, draft)
            return record
        said = Said((*self.without(old).groups, *grouped([new])))
        return self._settle(self._retrace(*place, said, draft), said, draft)

    def choose(self, record: Record, candidate: int, draft: Draft) -> Record:
        """Take a record that :meth:`candidates` gave."""
        groups = self._prompted(record.object_id, record.frame, draft).groups
        chosen = Said((*groups[:-1], Group(groups[-1].prompts, candidate)))
        return self._settle(record, chosen, draft)

    def mark_absent(self, object_id: int, frames: Sequence[int], draft: Draft) -> None:
        """Empty the object's masks on frames, and lock them."""
        records = [self.recall(object_id, frame) for frame in frames]
        draft.put(
            [replace(self._predictor.absent(r), locked=True, stale=False) for r in records if r is not None]
        )
        self._predictor.bank.forget(object_id, frames)
        self._invalidate(object_id, frames, draft)

    def set_masks(self, masks: Sequence[Mask], draft: Draft) -> list[Record]:
        """Put masks in place of the present ones, and lock them."""
        changed: dict[int, list[Record]] = {}
        for mask in masks:
            record = self.recall(mask.object_id, mask.frame)
            if record is None:
                raise InputError(
                    f"object {mask.object_id} has no result on frame {mask.frame}; propagate it there first"
                )
            painted = replace(self._predictor.with_mask(record, mask), locked=True, stale=False)
            changed.setdefault(mask.object_id, []).append(painted)
        for object_id, records in changed.items():
            frames = [record.frame for record in records]
            draft.put(records)
            self._predictor.bank.forget(object_id, frames)
            self._invalidate(object_id, frames, draft)
        return [record for records in changed.values() for record in records]

    def remove(self, object_id: int, draft: Draft) -> None:
        """Remove an object with its prompts, name and results; its id is not used again."""
        for frame in draft.told.conditioning(object_id):
            draft.set_said(object_id, frame, None)
        draft.set_name(object_id, None)
        forget_links(draft, object_id)
        draft.set_removed(object_id, True)
        draft.delete(object_id, draft.records(object_id))
        self._predictor.bank.forget(object_id)

    def clear(self, draft: Draft) -> None:
        """Remove all objects; every id may be used again."""
        for object_id in self.ids:
            self.remove(object_id, draft)
        for object_id in draft.told.removed:
            draft.set_removed(object_id, False)

    def forget(self, object_id: int) -> None:
        """Drop all memories of an object: its records are others now."""
        self._predictor.bank.forget(object_id)

    def restart(self, scope: Scope, draft: Draft) -> None:
        """Mark as stale what can be computed anew, and what came from that."""
        for object_id, frames in self._reached(scope).items():
            reached = set(frames)
            present, settled = draft.records(object_id), draft.settled(object_id)
            self._invalidate(object_id, reached & set(present) - set(settled), draft, themselves=True)

    def _invalidate(
        self, object_id: int, changed: Collection[int], draft: Draft, *, themselves: bool = False
    ) -> None:
        """Mark as stale what came from the changed frames, and perhaps these themselves."""
        stale = set(depending(changed, draft.sources(object_id), draft.locked(object_id)))
        if themselves:
            stale |= set(changed)
        draft.flag(object_id, sorted(stale), stale=True)
        self._predictor.bank.forget(object_id, stale)

    def _settle(self, record: Record | None, said: Said, draft: Draft) -> Record:
        """Write a prompted frame's new record, and mark what came from the old one."""
        if record is None:  # there is at least one group of prompts
            raise RuntimeError("no prompt was answered")
        object_id, frame = record.object_id, record.frame
        fresh = draft.told.at(object_id, frame) is None
        draft.put([record])
        draft.set_said(object_id, frame, said)
        self._predictor.bank.forget(object_id, [frame])
        self._invalidate(object_id, [frame], draft)
        if fresh and self._predictor.finds_ends:
            self._reopen(object_id, frame, draft)
        return record

    def _reopen(self, object_id: int, frame: int, draft: Draft) -> None:
        """Mark as stale where an object was found to have ended before it was prompted on this frame, too.

        Such records did not come from the new prompt, but from there being none.
        """
        known = {*draft.settled(object_id), *draft.stale(object_id), *draft.seen(object_id)}
        ended = unparted(frame, set(draft.records(object_id)) - known, draft.locked(object_id))
        self._invalidate(object_id, ended, draft, themselves=True)

    def _release(self, object_id: int, frame: int, draft: Draft) -> Record | None:
        """Make a frame unprompted again; its earlier propagated result, if any, returns as stale."""
        draft.set_said(object_id, frame, None)
        self._predictor.bank.forget(object_id)
        if not draft.told.conditioning(object_id):  # nothing left to be followed from
            draft.set_name(object_id, None)
            forget_links(draft, object_id)
            draft.delete(object_id, draft.records(object_id))
            return None
        self._invalidate(object_id, [frame], draft)
        base = draft.base(object_id, frame)
        if base is None:
            draft.delete(object_id, [frame])
            return None
        base = replace(base, stale=not base.locked)
        draft.put([base])
        return base

    # Answering

    def candidates(self, object_id: int, frame: int) -> list[tuple[int, Record]]:
        """Number and record of each answer to the newest prompts, best first."""
        now = Draft(self._store, self.told)  # nothing is written into it
        said = self._prompted(object_id, frame, now)
        earlier = self._retrace(object_id, frame, Said(said.groups[:-1]), now)
        found = self._predictor.candidates(
            object_id,
            frame,
            said.prompts(),
            earlier,
            self._choice_for_prompt(object_id, frame, now),
            self._nearest(object_id, frame, now),
            all_three=True,
        )
        return sorted(enumerate(found), key=lambda pair: -pair[1].predicted_iou)

    def preview(self, object_id: int, frame: int, prompts: Sequence[Prompt]) -> Record:
        """The answer that prompts for a new object would get; nothing is written."""
        now = Draft(self._store, self.told)
        said, record = Said(grouped(prompts)), None
        for count in range(1, len(said.groups) + 1):
            record = self._answer(object_id, frame, Said(said.groups[:count]), record, now)
        if record is None:
            raise RuntimeError("no prompt was answered")
        return record

    def _prompted(self, object_id: int, frame: int, draft: Draft) -> Said:
        said = draft.told.at(object_id, frame)
        if said is None:
            raise InputError(f"object {object_id} has no prompt on frame {frame}; add one first")
        return said

    def _retrace(self, object_id: int, frame: int, said: Said, draft: Draft) -> Record | None:
        """Answer all groups of a frame anew, from what was known before the first."""
        record = draft.base(object_id, frame)
        for count in range(1, len(said.groups) + 1):
            record = self._answer(object_id, frame, Said(said.groups[:count]), record, draft)
        return record

    def _answer(
        self, object_id: int, frame: int, said: Said, previous: Record | None, draft: Draft
    ) -> Record:
        """Answer the last group of prompts, given the answer to those before."""
        return self._predictor.answer(
            object_id,
            frame,
            said.prompts(),
            previous,
            self._choice_for_prompt(object_id, frame, draft),
            said.groups[-1].choice,
            self._nearest(object_id, frame, draft),
        )

    def _choice_for_prompt(self, object_id: int, frame: int, draft: Draft) -> MemoryChoice | None:
        """Memories for a frame that the object was followed to before the user corrected it there."""
        base = draft.base(object_id, frame)
        others = [f for f in draft.told.conditioning(object_id) if f != frame]
        if base is None or base.step == 0 or not others:
            return None
        return self._choose(draft, object_id, frame, base.step, others)

    @staticmethod
    def _nearest(object_id: int, frame: int, draft: Draft) -> Record | None:
        """The object's record on the nearest other frame, for a guess of its size."""
        frames = [f for f in draft.records(object_id) if f != frame]
        if not frames:
            return None
        return draft.get(object_id, min(frames, key=lambda f: abs(f - frame)))

    # Following

    def scope(
        self,
        direction: Direction,
        objects: Iterable[int] | None,
        first: int | None,
        last: int | None,
        n_frames: int,
    ) -> Scope:
        """What is to be followed where to; all objects and all frames by default. Else InputError."""
        known = self.ids
        if not known:
            raise InputError("there are no prompts; add a point, a box or a mask before propagating")
        wanted = known if objects is None else check_several(objects, "objects")
        ids = tuple(sorted({self.known(i) for i in wanted}))
        low = 0 if first is None else check_frame(first, n_frames)
        high = n_frames - 1 if last is None else check_frame(last, n_frames)
        return Scope(direction, ids, low, high)

    def work_left(self, scope: Scope, *, restart: bool) -> int:
        """How many results are missing or, with `restart`, would be computed anew as well."""
        count = 0
        for object_id, frames in self._reached(scope).items():
            done = set(self._store.frames(object_id, "settled" if restart else "done"))
            count += sum(1 for f in frames if f not in done)
        return count

    def _reached(self, scope: Scope) -> dict[int, list[int]]:
        """Frames that each object is followed to: none on which its parent or its daughters are."""
        ends = limits(self._store, self.told, scope.objects, scope.last + 1)
        found = {}
        for object_id in scope.objects:
            low, high = ends.get(object_id, (scope.first, scope.last))
            reached = scope.reached(self.conditioning(object_id))
            found[object_id] = [frame for frame in reached if low <= frame <= high]
        return found

    def first_missing(self, scope: Scope) -> int:
        """The first frame to which objects can be followed forward, and are not; perhaps beyond the last."""
        return min(
            self._store.first_gap(object_id, min(self.conditioning(object_id)) + 1)
            for object_id in scope.objects
        )

    def waiting(self, object_ids: Sequence[int], frame: int, step: int) -> list[int]:
        """Objects that can be followed to a frame and have no valid result there."""
        present = self._store.flags(frame)
        ends = limits(self._store, self.told, object_ids, frame + 1)
        wanted = []
        for object_id in object_ids:
            low, high = ends.get(object_id, (frame, frame))
            if not low <= frame <= high:
                continue
            flags = present.get(object_id)
            missing = flags is None or (flags.stale and not flags.settled)
            if missing and reaches(self.conditioning(object_id), frame, step):
                wanted.append(object_id)
        return wanted

    def request(self, object_id: int, frame: int, step: int) -> Request:
        """What the predictor needs to follow an object to a frame."""
        choice = self._choose(self._store, object_id, frame, step, self.conditioning(object_id))
        previous = self._store.get(object_id, behind(choice, frame, step))
        if previous is None:
            raise RuntimeError(f"object {object_id} has no record to be followed from on frame {frame}")
        return Request(object_id, choice, previous)

    def _choose(
        self, known: ResultStore | Draft, object_id: int, frame: int, step: int, conditioning: Sequence[int]
    ) -> MemoryChoice:
        reach = self._predictor.max_pointers
        propagated = known.propagated(object_id, frame - reach, frame + reach)
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

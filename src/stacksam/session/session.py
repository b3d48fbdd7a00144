"""The session: one object that owns prompts, results and their history, without any window.

What the user says arrives through :meth:`Session.add` and its siblings; every such call is an *action*, which
is written down with what it changed, so that it can be undone, and done again elsewhere by
:func:`stacksam.session.replay.replay`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from stacksam.errors import InputError, SessionFileError, StorageError
from stacksam.io.labels import create_label_store, open_label_store, store_frame
from stacksam.session.actions import Action, Said, grouped
from stacksam.session.canvas import BBox
from stacksam.session.compose import compose
from stacksam.session.memory_bank import MemoryChoice, choose_memories
from stacksam.session.models import Model
from stacksam.session.predictor import Predictor, Request, Settings
from stacksam.session.prompts import (
    Prompt,
    check_frame,
    check_object_id,
    check_prompt,
    prompt_to_json,
)
from stacksam.session.results import FORMAT_VERSION, Record, ResultStore
from stacksam.session.stack import Stack

__all__ = ["Direction", "Session", "Update"]

Direction = Literal["forward", "backward", "both"]
_STEPS: dict[str, tuple[int, ...]] = {"forward": (1,), "backward": (-1,), "both": (1, -1)}
_UNDO_DEPTH = 50  # actions whose replaced results are kept


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The mask of one object on one frame, new or changed.

    Attributes
    ----------
    frame, object_id : int
    bbox : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` in frame pixels; empty where the object is not seen.
    mask : bool array of the bounding box's shape
    object_score : float
        Logit: is the object visible on this frame.
    predicted_iou : float
        The network's own estimate of its mask, 0 to 1.
    prompted : bool
        Whether the user said something about this object on this frame.
    """

    frame: int
    object_id: int
    bbox: BBox
    mask: NDArray[np.bool_]
    object_score: float
    predicted_iou: float
    prompted: bool

    def full_mask(self, frame_shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask at the size of the frame."""
        full = np.zeros(frame_shape, bool)
        y0, x0, y1, x1 = self.bbox
        full[y0:y1, x0:x1] = self.mask
        return full


class Session:
    """Prompt objects on any frame of a stack and follow them through it.

    Parameters
    ----------
    stack : Stack
        From :func:`stacksam.open_stack`.
    model : Model
        From :func:`stacksam.load_model`.
    folder : path, optional
        Where results are kept as they come: ``results.sqlite`` and ``labels.ome.zarr``. If the folder holds an
        earlier session of the same stack and model, it goes on from there. By default a temporary folder that
        is removed by :meth:`close`.
    settings : Settings, optional

    Raises
    ------
    StorageError
        If the folder cannot be written.
    SessionFileError
        If the folder holds a session of another stack or model, or of a newer version.

    Examples
    --------
    >>> stack = open_stack("cells.ome.zarr")  # doctest: +SKIP
    >>> with Session(stack, load_model(), folder="cells.stacksam") as session:  # doctest: +SKIP
    ...     session.add(Point(frame=0, object_id=1, yx=(120.0, 96.0)))
    ...     for update in session.propagate():
    ...         print(update.frame, update.predicted_iou)
    """

    def __init__(
        self,
        stack: Stack,
        model: Model,
        folder: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
    ) -> None:
        self.stack = stack
        self.model = model
        self.settings = settings or Settings()
        self._temporary = folder is None
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="stacksam-") if folder is None else folder)
        except OSError as error:
            raise StorageError(
                f"no temporary folder can be made: {error}; give the session a folder"
            ) from error
        self._lock = threading.RLock()
        self._store = ResultStore(self.folder)
        try:
            self._check_identity()
            self.labels: zarr.Array[Any] = self._open_labels()
            self._predictor = Predictor(model, stack, self.settings, self._store.get)
            self._said: dict[tuple[int, int], Said] = {}
            self._removed: set[int] = set()
            self._load_state()
            self._refresh_labels(self._store.dirty())
        except BaseException:
            self._store.close()
            raise
        self._generation = 0

    # Opening and closing

    def _check_identity(self) -> None:
        """Write down what this session is of, or check that the folder's session is of the same."""
        now = {
            "stack": self.stack.describe(),
            "model": {"name": self.model.name, "digest": self.model.digest},
            "settings": {
                "max_conditioning": self.settings.max_conditioning,
                "fill_holes": self.settings.fill_holes,
            },
        }
        then = self._store.meta("session")
        if then is None:
            self._store.set_meta("session", now)
            return
        if then["stack"]["identity"] != now["stack"]["identity"]:
            raise SessionFileError(
                f"{self.folder} holds results of another stack ({then['stack']['name']}), not of "
                f"{self.stack.name}; use another folder"
            )
        if then["stack"]["intensity"] != now["stack"]["intensity"]:
            raise SessionFileError(
                f"{self.folder} was made with the intensity mapping {then['stack']['intensity']}; open the stack "
                "with the same one, or use another folder"
            )
        if then["model"]["digest"] != now["model"]["digest"]:
            raise SessionFileError(
                f"{self.folder} was made with the model {then['model']['name']}, not with {self.model.name} "
                "(or with other weights of that name); use that model, or another folder"
            )

    def _open_labels(self) -> zarr.Array[Any]:
        path = self.folder / "labels.ome.zarr"
        if path.exists():
            return open_label_store(path)
        shape = (self.stack.n_frames, *self.stack.frame_shape)
        return create_label_store(
            path, shape, np.uint32, self.stack.axes_out, self.stack.spacing, self.stack.units
        )

    def _load_state(self) -> None:
        self._said.clear()
        self._removed.clear()
        for key, value in self._store.state().items():
            kind, *numbers = key.split(":")
            if kind == "prompts":
                object_id, frame = (int(n) for n in numbers)
                self._said[object_id, frame] = Said.from_json(value, frame, object_id)
            else:
                self._removed.add(int(numbers[0]))

    def close(self) -> None:
        """Close files; a temporary folder is removed."""
        with self._lock:
            self._generation += 1
            self._store.close()
            if self._temporary:
                shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Session:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What there is

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, in order."""
        return tuple(sorted({object_id for object_id, _ in self._said}))

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts in force, by object and frame."""
        return tuple(p for key in sorted(self._said) for p in self._said[key].prompts())

    def frames_of(self, object_id: int) -> tuple[int, ...]:
        """Frames on which there is a result for the object."""
        return tuple(self._store.frames(check_object_id(object_id)))

    def stale_frames(self, object_id: int) -> tuple[int, ...]:
        """Frames whose result rests on something that has changed since."""
        return tuple(self._store.frames(check_object_id(object_id), "stale"))

    def locked_frames(self, object_id: int) -> tuple[int, ...]:
        """Frames of the object that were approved."""
        return tuple(self._store.frames(check_object_id(object_id), "locked"))

    def update(self, object_id: int, frame: int) -> Update | None:
        """The result of one object on one frame, or None."""
        record = self._store.get(check_object_id(object_id), check_frame(frame, self.stack.n_frames))
        return None if record is None else _update(record)

    def mask(self, object_id: int, frame: int) -> NDArray[np.bool_]:
        """The mask (H, W) of one object on one frame; all False where there is no result."""
        update = self.update(object_id, frame)
        if update is None:
            return np.zeros(self.stack.frame_shape, bool)
        return update.full_mask(self.stack.frame_shape)

    def label_frame(self, frame: int) -> NDArray[np.int32]:
        """Labels (H, W) of one frame; where masks overlap, the more certain one."""
        return compose(self._store.on_frame(check_frame(frame, self.stack.n_frames)), self.stack.frame_shape)

    # What the user says

    def add(self, *prompts: Prompt) -> Update:
        """Add prompts; those for one object on one frame count as said together.

        Parameters
        ----------
        *prompts : Point, Box or Mask
            For any objects, on any frames. An id that is new makes a new object.

        Returns
        -------
        Update
            Mask of the last prompt's object on its frame.

        Raises
        ------
        InputError
            If there is none, or one cannot be used; then none was added.
        """
        if not prompts:
            raise InputError("no prompt was given; give a Point, a Box or a Mask")
        checked = [check_prompt(p, self.stack.n_frames, self.stack.frame_shape) for p in prompts]
        for prompt in checked:
            if prompt.object_id in self._removed:
                free = max([*self._removed, *self.object_ids]) + 1
                raise InputError(
                    f"object {prompt.object_id} was removed; undo that, or use a new id (next free: {free})"
                )
        places = list(dict.fromkeys((p.object_id, p.frame) for p in checked))
        with self._lock, self._action("add", grouped(checked)) as action:
            record: Record | None = None
            for object_id, frame in places:
                group = tuple(p for p in checked if (p.object_id, p.frame) == (object_id, frame))
                record = self._say(object_id, frame, group, action)
        if record is None:  # cannot be: places holds at least one
            raise RuntimeError("no prompt was answered")
        return _update(record)

    def _say(self, object_id: int, frame: int, group: tuple[Prompt, ...], action: Action) -> Record:
        said = self._said.get((object_id, frame))
        groups = (said.groups if said else ()) + (group,)
        previous = self._store.get(object_id, frame)
        if said is None:
            self._store.set_base(object_id, frame)
        fresh = Said(groups)
        record = self._answer(
            object_id, frame, fresh, previous, tracked=previous is not None and said is None
        )
        action.change(self._key(object_id, frame), said and said.to_json(), fresh.to_json())
        self._said[object_id, frame] = fresh
        self._settle(record, action)
        return record

    def _answer(
        self, object_id: int, frame: int, said: Said, previous: Record | None, *, tracked: bool
    ) -> Record:
        """Answer the last group of prompts, given the answer to those before."""
        base = previous if tracked else self._store.base(object_id, frame)
        choice = None if base is None else self._choice_for_prompt(object_id, frame, base)
        near = self._nearest(object_id, frame)
        return self._predictor.answer(object_id, frame, said.prompts(), previous, choice, said.choice, near)

    def _choice_for_prompt(self, object_id: int, frame: int, base: Record) -> MemoryChoice | None:
        """Memories for a frame the object was followed to before the user corrected it there."""
        if base.step == 0:
            return None
        others = {f for f in self._conditioning(object_id) if f != frame}
        if not others:
            return None
        return self._choose(object_id, frame, base.step, others)

    def _choose(self, object_id: int, frame: int, step: int, conditioning: Collection[int]) -> MemoryChoice:
        reach = self._predictor.max_pointers
        _, propagated = self._store.near(object_id, frame - reach, frame + reach)
        return choose_memories(
            frame,
            conditioning,
            propagated - {frame},
            step=step,
            max_conditioning=self.settings.max_conditioning,
            max_recent=self.model.config.recent_memories,
            max_pointers=reach,
        )

    def _conditioning(self, object_id: int) -> list[int]:
        return sorted(frame for other, frame in self._said if other == object_id)

    def _nearest(self, object_id: int, frame: int) -> Record | None:
        """The object's record on the nearest other frame, for a guess of its size."""
        frames = [f for f in self._store.frames(object_id) if f != frame]
        if not frames:
            return None
        return self._store.get(object_id, min(frames, key=lambda f: abs(f - frame)))

    def _settle(self, record: Record, action: Action) -> None:
        """Write a prompted frame's new record, and mark what came from the old one."""
        self._store.put([record], action.number)
        self._predictor.bank.forget(record.object_id, [record.frame])
        stale = self._depending(record.object_id, record.frame)
        self._store.flag(record.object_id, stale, action.number, stale=True)
        self._predictor.bank.forget(record.object_id, stale)
        action.frames.add(record.frame)

    def _depending(self, object_id: int, frame: int) -> list[int]:
        """Propagated frames that rest on `frame`, directly or through others, up to the next locked frames."""
        locked = self._store.frames(object_id, "locked")
        low = max((f for f in locked if f < frame), default=-1)
        high = min((f for f in locked if f > frame), default=self.stack.n_frames)
        sources = self._store.sources(object_id)
        touched, found = {frame}, True
        while found:
            new = {
                f
                for f, used in sources.items()
                if low < f < high and f not in touched and touched & set(used)
            }
            touched |= new
            found = bool(new)
        return sorted(touched - {frame})

    def remove(self, prompt: Prompt) -> Update | None:
        """Take back one prompt; what was said before and after it on that frame still holds.

        Returns
        -------
        Update or None
            The object on that frame, or None where nothing is left of it there.

        Raises
        ------
        InputError
            If there is no such prompt.
        """
        prompt = check_prompt(prompt, self.stack.n_frames, self.stack.frame_shape)
        key = (prompt.object_id, prompt.frame)
        said = self._said.get(key)
        if said is None or not any(prompt in group for group in said.groups):
            raise InputError(f"object {key[0]} has no such prompt on frame {key[1]}; see Session.prompts")
        groups = [list(group) for group in said.groups]
        next(group for group in reversed(groups) if prompt in group).remove(prompt)
        left = Said(tuple(tuple(group) for group in groups if group))
        arguments = {"object_id": key[0], "frame": key[1], "prompt": prompt_to_json(prompt)}
        with self._lock, self._action("remove", arguments) as action:
            if left.groups:
                return _update(self._say_again(*key, left, action))
            record = self._unsay(*key, action)
            return None if record is None else _update(record)

    def _say_again(self, object_id: int, frame: int, said: Said, action: Action) -> Record:
        """Answer all groups of a frame anew, from what was known before the first."""
        before = self._said.get((object_id, frame))
        record = self._store.base(object_id, frame)
        for i in range(1, len(said.groups) + 1):
            choice = said.choice if i == len(said.groups) else None
            record = self._answer(object_id, frame, Said(said.groups[:i], choice), record, tracked=False)
        if record is None:  # the caller gives at least one group
            raise RuntimeError("no prompt was answered")
        action.change(self._key(object_id, frame), before and before.to_json(), said.to_json())
        self._said[object_id, frame] = said
        self._settle(record, action)
        return record

    def _unsay(self, object_id: int, frame: int, action: Action) -> Record | None:
        """Make a frame unprompted again; its earlier propagated result, if any, returns as stale."""
        said = self._said.pop((object_id, frame))
        action.change(self._key(object_id, frame), said.to_json(), None)
        base = self._store.base(object_id, frame)
        stale = self._depending(object_id, frame)
        action.frames |= {frame, *stale}
        self._predictor.bank.forget(object_id)
        if not self._conditioning(object_id):  # nothing left to be followed from
            frames = self._store.frames(object_id)
            action.frames |= set(frames)
            self._store.delete(object_id, frames, action.number)
            return None
        self._store.flag(object_id, stale, action.number, stale=True)
        if base is None:
            self._store.delete(object_id, [frame], action.number)
            return None
        base = replace(base, stale=True, prompted=False)
        self._store.put([base], action.number)
        return base

    def remove_object(self, object_id: int) -> None:
        """Remove an object with its prompts and results; its id is not used again.

        Raises
        ------
        InputError
            If there is no such object.
        """
        object_id = self._known(object_id)
        with self._lock, self._action("remove_object", {"object_id": object_id}) as action:
            frames = self._store.frames(object_id)
            action.frames |= set(frames)
            self._store.delete(object_id, frames, action.number)
            for frame in self._conditioning(object_id):
                said = self._said.pop((object_id, frame))
                action.change(self._key(object_id, frame), said.to_json(), None)
            self._removed.add(object_id)
            action.change(f"removed:{object_id}", None, True)
            self._predictor.bank.forget(object_id)

    def candidates(self, object_id: int, frame: int) -> tuple[Update, ...]:
        """Three readings of an ambiguous prompt, as the network gives them, best first by predicted IoU.

        The object's mask stays as it is until :meth:`choose` is called.

        Raises
        ------
        InputError
            If the object has no prompt on this frame.
        """
        with self._lock:
            return tuple(_update(record) for _, record in self._candidates(object_id, frame))

    def _candidates(self, object_id: int, frame: int) -> list[tuple[int, Record]]:
        object_id, frame = self._prompted(object_id, frame)
        said = self._said[object_id, frame]
        previous = self._store.base(object_id, frame)
        for i in range(1, len(said.groups)):
            previous = self._answer(object_id, frame, Said(said.groups[:i]), previous, tracked=False)
        base = self._store.base(object_id, frame)
        found = self._predictor.candidates(
            object_id,
            frame,
            said.prompts(),
            previous,
            None if base is None else self._choice_for_prompt(object_id, frame, base),
            self._nearest(object_id, frame),
            all_three=True,
        )
        return sorted(enumerate(found), key=lambda pair: -pair[1].predicted_iou)

    def choose(self, object_id: int, frame: int, index: int) -> Update:
        """Take one of :meth:`candidates` as the object's mask on this frame.

        Parameters
        ----------
        index : int
            Place in the tuple that :meth:`candidates` returned, 0 to 2.

        Raises
        ------
        InputError
            If the object has no prompt on this frame, or there is no such candidate.
        """
        with self._lock:
            found = self._candidates(object_id, frame)
            if isinstance(index, bool) or index not in range(len(found)):
                raise InputError(f"candidate {index!r} does not exist; use 0 to {len(found) - 1}")
            candidate, record = found[index]
            before = self._said[object_id, frame]
            arguments = {"object_id": record.object_id, "frame": record.frame, "index": int(index)}
            with self._action("choose", arguments) as action:
                chosen = Said(before.groups, candidate)
                action.change(self._key(record.object_id, record.frame), before.to_json(), chosen.to_json())
                self._said[record.object_id, record.frame] = chosen
                self._settle(record, action)
            return _update(record)

    def lock(self, object_id: int, frames: Iterable[int]) -> None:
        """Approve frames of an object: they stay as they are, and shield what lies behind them.

        Raises
        ------
        InputError
            If there is no such object, or it has no result on one of the frames.
        """
        self._set_locked("lock", object_id, frames, True)

    def unlock(self, object_id: int, frames: Iterable[int]) -> None:
        """Undo :meth:`lock`."""
        self._set_locked("unlock", object_id, frames, False)

    def _set_locked(self, name: str, object_id: int, frames: Iterable[int], locked: bool) -> None:
        object_id = self._known(object_id)
        wanted = [check_frame(f, self.stack.n_frames) for f in frames]
        missing = sorted(set(wanted) - set(self._store.frames(object_id)))
        if missing:
            raise InputError(
                f"object {object_id} has no result on frames {missing}; propagate it there first"
            )
        with self._lock, self._action(name, {"object_id": object_id, "frames": wanted}) as action:
            self._store.flag(
                object_id, wanted, action.number, locked=locked, **({"stale": False} if locked else {})
            )

    # Following

    def propagate(
        self,
        direction: Direction = "both",
        *,
        objects: Collection[int] | None = None,
        first: int | None = None,
        last: int | None = None,
        restart: bool = False,
        steps: int | None = None,
    ) -> Iterator[Update]:
        """Follow objects from their prompted frames through the stack.

        Only frames that have no valid result are computed: after a correction those that rest on it, after an
        interruption those that are missing. An object is followed to frames that lie beyond one of its own
        prompted frames in the direction of propagation. Close the generator to cancel; what it has given
        stays. A prompt that is added meanwhile ends it.

        Parameters
        ----------
        direction : {"both", "forward", "backward"}
            Both is forward, then backward.
        objects : collection of int, optional
            Ids of the objects to follow; all by default.
        first, last : int, optional
            Frames between which to work, both included; the whole stack by default.
        restart : bool
            Compute valid frames anew as well, except locked ones.
        steps : int, optional
            Stop after this many frames, counted over both directions.

        Yields
        ------
        Update
            One for each object and frame that was computed, as soon as its frame is on disk.

        Raises
        ------
        InputError
            If there are no prompts, or an argument does not fit the stack. It is raised by the call, not by
            the first step.
        StorageError
            If a result cannot be written; what was given before is safe.
        """
        plan = self._plan(direction, objects, first, last)
        return self._propagate(direction, *plan, restart=restart, steps=steps)

    def work_left(
        self,
        direction: Direction = "both",
        *,
        objects: Collection[int] | None = None,
        first: int | None = None,
        last: int | None = None,
    ) -> int:
        """How many updates :meth:`propagate` would give with these arguments."""
        ids, low, high = self._plan(direction, objects, first, last)
        count = 0
        for object_id in ids:
            conditioning = self._conditioning(object_id)
            start = max(low, conditioning[0]) if direction == "forward" else low
            stop = min(high, conditioning[-1]) if direction == "backward" else high
            settled = set(self._store.frames(object_id, "settled"))
            count += sum(1 for f in range(start, stop + 1) if f not in settled)
        return count

    def _plan(
        self, direction: str, objects: Collection[int] | None, first: int | None, last: int | None
    ) -> tuple[list[int], int, int]:
        if direction not in _STEPS:
            raise InputError(f"direction is {direction!r}; use 'forward', 'backward' or 'both'")
        if not self._said:
            raise InputError("there are no prompts; add a point, a box or a mask before propagating")
        ids = self.object_ids if objects is None else [self._known(i) for i in objects]
        low = 0 if first is None else check_frame(first, self.stack.n_frames)
        high = self.stack.n_frames - 1 if last is None else check_frame(last, self.stack.n_frames)
        if low > high:
            raise InputError(f"first frame {low} lies after last frame {high}; give first <= last")
        return sorted(ids), low, high

    def _propagate(
        self,
        direction: Direction,
        ids: Sequence[int],
        low: int,
        high: int,
        *,
        restart: bool,
        steps: int | None,
    ) -> Iterator[Update]:
        """As :meth:`propagate`, at most `steps` frames in all."""
        arguments = {
            "direction": direction, "objects": list(ids), "first": low, "last": high, "restart": restart, "steps": 0
        }  # fmt: skip
        action: Action | None = None
        generation = self._generation
        for step in _STEPS[direction]:
            for frame in range(low, high + 1) if step > 0 else range(high, low - 1, -1):
                with self._lock:
                    if self._generation != generation or arguments["steps"] == steps:
                        return
                    todo = self._todo(ids, frame, step, restart)
                    if not todo:
                        continue
                    records = self._predictor.follow(
                        frame, [self._request(i, frame, step) for i in todo], step
                    )
                    with self._store.transaction():
                        if action is None:
                            action = self._begin("propagate", arguments)
                            generation = self._generation
                        arguments["steps"] += 1
                        self._store.put(records, action.number)
                        self._store.write_action(action.number, {"do": "propagate", **arguments}, {})
                        self._store.mark_dirty([frame])
                    self._refresh_labels([frame])
                    self._predictor.remember(records)
                    for record in records:
                        self._predictor.bank.prune(
                            record.object_id, frame, self._conditioning(record.object_id)
                        )
                    updates = [_update(record) for record in records]
                yield from updates

    def _todo(self, ids: Sequence[int], frame: int, step: int, restart: bool) -> list[int]:
        """Objects that need computing on a frame."""
        present = self._store.flags(frame)
        wanted = []
        for object_id in ids:
            if not any(step * (frame - c) > 0 for c in self._conditioning(object_id)):
                continue
            known = present.get(object_id)
            if known is None or (not known.settled and (known.stale or restart)):
                wanted.append(object_id)
        return wanted

    def _request(self, object_id: int, frame: int, step: int) -> Request:
        choice = self._choose(object_id, frame, step, self._conditioning(object_id))
        previous = self._store.get(object_id, self._behind(choice, frame, step))
        if previous is None:
            raise RuntimeError(f"object {object_id} has no record to be followed from on frame {frame}")
        return Request(object_id, choice, previous)

    @staticmethod
    def _behind(choice: MemoryChoice, frame: int, step: int) -> int:
        """The nearest frame behind that is remembered."""
        frames = [f for f in choice.conditioning if step * (frame - f) > 0]
        frames += [f for f, _ in choice.recent] + [f for f, distance in choice.pointers if distance > 0]
        return min(frames, key=lambda f: abs(frame - f))

    def _refresh_labels(self, frames: Iterable[int]) -> None:
        """Write the label frames that are behind their records."""
        done = []
        for frame in frames:
            store_frame(self.labels, frame, self.label_frame(frame))
            done.append(frame)
        with self._store.transaction():
            self._store.clear_dirty(done)

    # Actions

    def _action(self, name: str, arguments: dict[str, Any]) -> Action:
        return Action(self, name, arguments)

    def _begin(self, name: str, arguments: dict[str, Any]) -> Action:
        """Number a new action; whatever was undone can no longer be redone."""
        self._generation += 1
        self._store.drop_undone()
        numbers = [number for number, _, _ in self._store.actions()]
        number = max(numbers, default=0) + 1
        if len(numbers) >= _UNDO_DEPTH:
            self._store.forget_history(numbers[1 - _UNDO_DEPTH])
        return Action(self, name, arguments, number)

    @staticmethod
    def _key(object_id: int, frame: int) -> str:
        return f"prompts:{object_id}:{frame}"

    def undo(self) -> str | None:
        """Take back the last action, with all that it changed; its name, or None where there is none."""
        with self._lock:
            done = self._store.actions()
            if not done or done[-1][0] < self._store.oldest_kept():
                return None
            return self._exchange(done[-1], undo=True)

    def redo(self) -> str | None:
        """Do again what was undone last; its name, or None where there is nothing."""
        with self._lock:
            undone = self._store.actions(undone=True)
            return self._exchange(undone[0], undo=False) if undone else None

    def _exchange(self, entry: tuple[int, dict[str, Any], dict[str, Any]], *, undo: bool) -> str:
        number, value, changed = entry
        self._generation += 1
        with self._store.transaction():
            frames = self._store.exchange(number)
            for key, (before, after) in changed.items():
                self._store.set_state(key, before if undo else after)
            self._store.set_undone(number, undo)
        self._load_state()
        self._predictor.bank = type(self._predictor.bank)(
            self.model.config.recent_memories, self._predictor.max_pointers
        )
        self._refresh_labels(frames)
        name: str = value["do"]
        return name

    def _known(self, object_id: int) -> int:
        number = check_object_id(object_id)
        if number not in self.object_ids:
            known = ", ".join(map(str, self.object_ids)) or "none"
            raise InputError(f"there is no object {number}; objects: {known}")
        return number

    def _prompted(self, object_id: int, frame: int) -> tuple[int, int]:
        key = self._known(object_id), check_frame(frame, self.stack.n_frames)
        if key not in self._said:
            raise InputError(f"object {key[0]} has no prompt on frame {key[1]}; add one first")
        return key

    # Saving

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the session as one readable JSON file, from which :func:`stacksam.replay` makes the same labels.

        Parameters
        ----------
        path : path, optional
            By default ``session.json`` in the session's folder.

        Raises
        ------
        StorageError
            If it cannot be written; an older file stays as it was.
        """
        target = Path(path) if path is not None else self.folder / "session.json"
        data = {
            "format": "stacksam-session",
            "version": FORMAT_VERSION,
            **self._store.meta("session"),
            "actions": [value for _, value, _ in self._store.actions()],
        }
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise StorageError(f"session file {target} cannot be written: {error}") from error
        return target


def _update(record: Record) -> Update:
    return Update(
        record.frame,
        record.object_id,
        record.bbox,
        record.mask,
        record.object_score,
        record.predicted_iou,
        record.prompted,
    )

"""The session: one object that owns prompts, results and their history, without any window.

What the user says arrives through :meth:`Session.add` and its siblings; every such call is an *action*, which
is written down with what it changed, so that it can be undone, and done again elsewhere by
:func:`stacksam.session.replay.replay`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from stacksam.errors import InputError, StacksamError, StorageError
from stacksam.io.labels import store_frame
from stacksam.session.actions import Action, prompts_to_json
from stacksam.session.compose import compose
from stacksam.session.folder import claim, open_labels, write_json
from stacksam.session.models import Model
from stacksam.session.objects import Objects
from stacksam.session.plan import Direction, Scope
from stacksam.session.predictor import Predictor, Settings
from stacksam.session.prompts import (
    Prompt,
    check_frame,
    check_integer,
    check_object_id,
    check_prompt,
    prompt_to_json,
)
from stacksam.session.records import Record
from stacksam.session.results import FORMAT_VERSION, ResultStore
from stacksam.session.stack import Stack
from stacksam.session.update import Update

__all__ = ["Direction", "Session", "Update"]

_UNDO_DEPTH = 50  # actions whose replaced results are kept


class Session:
    """Prompt objects on any frame of a stack and follow them through it.

    Parameters
    ----------
    stack : Stack
        From :func:`stacksam.open_stack`.
    model : Model
        From :func:`stacksam.load_model`.
    folder : path, optional
        Where results are kept as they come: ``results.sqlite`` and ``labels.ome.zarr``. If the folder holds
        an earlier session of the same stack and model, it goes on from there. By default a temporary folder
        that is removed by :meth:`close`.
    settings : Settings, optional
        By default those of the earlier session, if there is one.

    Attributes
    ----------
    labels : zarr.Array
        Labels (T, Y, X) as they are on disk, always up to date; see :meth:`label_frame`.

    Raises
    ------
    StorageError
        If the folder cannot be written, or is in use by another session.
    SessionFileError
        If the folder holds a session of another stack, model or settings, or of a newer version.

    Notes
    -----
    Methods may be called from any thread; those that change something wait for each other. One that fails,
    for whatever reason, has changed nothing.

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
        self._lock = threading.RLock()
        self._generation = 0  # grows with every action; a propagation that finds a newer one ends
        self._temporary = folder is None
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="stacksam-") if folder is None else folder)
        except OSError as error:
            raise StorageError(
                f"no temporary folder can be made: {error}; give the session a folder"
            ) from error
        try:
            self._store = ResultStore(self.folder)
            try:
                self.settings = claim(self._store, stack, model, settings)
                self.labels: zarr.Array[Any] = open_labels(self.folder, stack, self._store)
                self._predictor = Predictor(model, stack, self.settings, self._store.get)
                self._objects = Objects(self._store, self._predictor)
                self._repaint()
            except BaseException:
                self._store.close()
                raise
        except BaseException:
            self._clean()
            raise

    def close(self) -> None:
        """Close files; a temporary folder is removed."""
        with self._lock:
            self._generation += 1
            self._store.close()
            self._clean()

    def _clean(self) -> None:
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
        return self._objects.ids

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts in force, by object and frame."""
        return self._objects.prompts

    @property
    def history(self) -> tuple[str, ...]:
        """Names of the actions in force, oldest first; :meth:`undo` takes back the last."""
        return tuple(str(action["do"]) for action in self._store.actions())

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
        return None if record is None else Update.of(record)

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
        StorageError
            If the answers cannot be written; then none was added either.
        """
        if not prompts:
            raise InputError("no prompt was given; give a Point, a Box or a Mask")
        checked = [check_prompt(p, self.stack.n_frames, self.stack.frame_shape) for p in prompts]
        places: dict[tuple[int, int], list[Prompt]] = {}
        for prompt in checked:
            places.setdefault((prompt.object_id, prompt.frame), []).append(prompt)
        with self._lock:
            for object_id, _ in places:
                self._objects.check_new(object_id)
            arguments = {"prompts": prompts_to_json(checked)}
            with self._action("add", arguments, {frame for _, frame in places}) as action:
                answers = {place: self._objects.say(*place, group, action) for place, group in places.items()}
        return Update.of(answers[checked[-1].object_id, checked[-1].frame])

    def remove(self, prompt: Prompt) -> Update | None:
        """Take back one prompt; what was said before and after it on that frame still holds.

        With its last prompt an object vanishes; unlike that of a removed object, its id may be used again.

        Returns
        -------
        Update or None
            The object on that frame, or None where nothing is left of it there.

        Raises
        ------
        InputError
            If there is no such prompt.
        StorageError
            If the change cannot be written; then the prompt is still there.
        """
        prompt = check_prompt(prompt, self.stack.n_frames, self.stack.frame_shape)
        key = {"object_id": prompt.object_id, "frame": prompt.frame}
        with self._lock:
            last = not self._objects.without(prompt).groups
            last = last and len(self._objects.conditioning(prompt.object_id)) == 1
            frames = self.frames_of(prompt.object_id) if last else (prompt.frame,)
            with self._action("remove", {**key, "prompt": prompt_to_json(prompt)}, frames) as action:
                record = self._objects.unsay(prompt, action)
        return None if record is None else Update.of(record)

    def remove_object(self, object_id: int) -> None:
        """Remove an object with its prompts and results; its id is not used again.

        Raises
        ------
        InputError
            If there is no such object.
        StorageError
            If the change cannot be written; then the object is still there.
        """
        with self._lock:
            object_id = self._objects.known(object_id)
            frames = self.frames_of(object_id)
            with self._action("remove_object", {"object_id": object_id}, frames) as action:
                self._objects.remove(object_id, action)

    def candidates(self, object_id: int, frame: int) -> tuple[Update, ...]:
        """Three readings of an ambiguous prompt, as the network gives them, best first by predicted IoU.

        The object's mask stays as it is until :meth:`choose` is called.

        Raises
        ------
        InputError
            If the object has no prompt on this frame.
        """
        with self._lock:
            return tuple(Update.of(record) for _, record in self._candidates(object_id, frame))

    def _candidates(self, object_id: int, frame: int) -> list[tuple[int, Record]]:
        return self._objects.candidates(
            self._objects.known(object_id), check_frame(frame, self.stack.n_frames)
        )

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
        StorageError
            If the change cannot be written; then the mask is what it was.
        """
        with self._lock:
            found = self._candidates(object_id, frame)
            place = check_integer(index, "candidate")
            if not 0 <= place < len(found):
                raise InputError(f"candidate {index!r} does not exist; use 0 to {len(found) - 1}")
            candidate, record = found[place]
            arguments = {"object_id": record.object_id, "frame": record.frame, "index": place}
            with self._action("choose", arguments, [record.frame]) as action:
                return Update.of(self._objects.choose(record, candidate, action))

    def lock(self, object_id: int, frames: Iterable[int]) -> None:
        """Approve frames of an object: they stay as they are, and shield what lies behind them.

        Only a prompt on such a frame changes it; it is an approved frame no longer then.

        Raises
        ------
        InputError
            If there is no such object, or it has no result on one of the frames.
        """
        self._set_locked("lock", object_id, frames, True)

    def unlock(self, object_id: int, frames: Iterable[int]) -> None:
        """Undo :meth:`lock`. The frames count as valid until something changes that they came from."""
        self._set_locked("unlock", object_id, frames, False)

    def _set_locked(self, name: str, object_id: int, frames: Iterable[int], locked: bool) -> None:
        wanted = sorted({check_frame(f, self.stack.n_frames) for f in _collection(frames, "frames")})
        with self._lock:
            object_id = self._objects.known(object_id)
            missing = sorted(set(wanted) - set(self._store.frames(object_id)))
            if missing:
                raise InputError(
                    f"object {object_id} has no result on frames {missing}; propagate it there first"
                )
            with self._action(name, {"object_id": object_id, "frames": wanted}, ()) as action:
                stale = False if locked else None
                self._store.flag(object_id, wanted, action.number, locked=locked, stale=stale)

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
        stays, and so does the whole frame of the last update. A prompt, or any other action, that comes
        meanwhile ends it.

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
        scope = self._scope(direction, objects, first, last)
        if steps is not None and check_integer(steps, "steps") < 0:
            raise InputError(f"steps is {steps}; give 0 or more")
        return self._propagate(scope, restart=restart, steps=steps)

    def work_left(
        self,
        direction: Direction = "both",
        *,
        objects: Collection[int] | None = None,
        first: int | None = None,
        last: int | None = None,
        restart: bool = False,
    ) -> int:
        """How many updates :meth:`propagate` would give with these arguments."""
        scope = self._scope(direction, objects, first, last)
        count = 0
        for object_id in scope.objects:
            done = set(self._store.frames(object_id, "settled" if restart else "done"))
            count += sum(1 for f in scope.reached(self._objects.conditioning(object_id)) if f not in done)
        return count

    def _scope(
        self, direction: Direction, objects: Collection[int] | None, first: int | None, last: int | None
    ) -> Scope:
        known = self._objects.ids
        if not known:
            raise InputError("there are no prompts; add a point, a box or a mask before propagating")
        wanted = known if objects is None else _collection(objects, "objects")
        ids = tuple(sorted({self._objects.known(i) for i in wanted}))
        low = 0 if first is None else check_frame(first, self.stack.n_frames)
        high = self.stack.n_frames - 1 if last is None else check_frame(last, self.stack.n_frames)
        return Scope(direction, ids, low, high)

    def _propagate(self, scope: Scope, *, restart: bool, steps: int | None) -> Iterator[Update]:
        arguments: dict[str, Any] = {
            "direction": scope.direction, "objects": list(scope.objects), "first": scope.first,
            "last": scope.last, "restart": restart, "steps": 0,
        }  # fmt: skip
        number: int | None = None
        with self._lock:
            generation = self._generation
            if restart:
                with self._action("propagate", arguments, ()) as action:
                    number = action.number
                    self._objects.restart(scope, action)
                generation = self._generation
        for step, frame in scope.order():
            with self._lock:
                if self._generation != generation or arguments["steps"] == steps:
                    return
                todo = self._objects.waiting(scope.objects, frame, step)
                if not todo:
                    continue
                requests = [self._objects.request(object_id, frame, step) for object_id in todo]
                records = self._predictor.follow(frame, requests, step)
                with self._changing([frame]):
                    begins = number is None
                    number = self._store.begin_action(_UNDO_DEPTH) if number is None else number
                    self._store.put(records, number)
                    done = {**arguments, "steps": arguments["steps"] + 1}
                    self._store.write_action(number, {"do": "propagate", **done}, {})
                arguments = done
                if begins:
                    self._generation += 1
                    generation = self._generation
                self._objects.remember(records)
                updates = [Update.of(record) for record in records]
            yield from updates

    # Actions

    @contextmanager
    def _action(self, name: str, arguments: dict[str, Any], frames: Collection[int]) -> Iterator[Action]:
        """Do one thing that changes labels on `frames`, all of it or nothing, and write it down."""
        try:
            with self._changing(frames):
                action = Action(self._store.begin_action(_UNDO_DEPTH))
                yield action
                for key, (_, after) in action.changed.items():
                    self._store.set_state(key, after)
                self._store.write_action(action.number, {"do": name, **arguments}, action.changed)
        except BaseException:
            self._objects.load()
            raise
        self._generation += 1

    @contextmanager
    def _changing(self, frames: Collection[int]) -> Iterator[None]:
        """Change records on `frames` and their labels together, or neither."""
        self._repaint()
        # The mark is on disk before the labels are touched, so that a kill cannot part them for long.
        self._store.mark_dirty(frames)
        try:
            with self._store.transaction():
                yield
                self._repaint()
        except BaseException:
            with suppress(StacksamError):
                self._repaint()
            raise

    def _repaint(self) -> None:
        """Write the label frames that may differ from their records."""
        frames = self._store.dirty()
        for frame in frames:
            store_frame(self.labels, frame, self.label_frame(frame))
        self._store.clear_dirty(frames)

    def undo(self) -> str | None:
        """Take back the last action, with all that it changed; its name, or None where there is none.

        The results of some fifty actions are kept; earlier ones cannot be undone.
        """
        return self._exchange(undo=True)

    def redo(self) -> str | None:
        """Do again what was undone last; its name, or None where there is nothing."""
        return self._exchange(undo=False)

    def _exchange(self, *, undo: bool) -> str | None:
        with self._lock:
            entry = self._store.next_action(undone=not undo)
            if entry is None or (undo and entry[0] < self._store.oldest_kept()):
                return None
            number, value, changed = entry
            with self._changing(self._store.touched(number)):
                self._store.exchange(number)
                for key, (before, after) in changed.items():
                    self._store.set_state(key, before if undo else after)
                self._store.set_undone(number, undo)
            self._generation += 1
            self._objects.load()
            return str(value["do"])

    # Saving

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the session as readable JSON, from which :func:`stacksam.replay` makes the same labels.

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
            "actions": self._store.actions(),
        }
        write_json(target, data)
        return target


def _collection(values: Iterable[int], name: str) -> tuple[int, ...]:
    try:
        return tuple(values)
    except TypeError:
        raise InputError(f"{name} is {values!r}; give several integers, such as [1, 2]") from None

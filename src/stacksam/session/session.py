"""The session: one object that owns prompts, results and their history, without any window.

What the user says arrives through :meth:`Session.add` and its siblings; every such call is an *action*, which
is written down with what it changed, so that it can be undone, and done again elsewhere by
:func:`stacksam.session.replay.replay`.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from stacksam.errors import InputError, StacksamError, StorageError
from stacksam.session.actions import prompts_to_json
from stacksam.session.boxes import BBox, intersection
from stacksam.session.compose import compose
from stacksam.session.encoder import Encoder
from stacksam.session.family import Family
from stacksam.session.folder import claim, open_labels, write_json
from stacksam.session.journal import Journal
from stacksam.session.links import check_links
from stacksam.session.models import Model
from stacksam.session.needs import Needs, needs
from stacksam.session.objects import Objects
from stacksam.session.plan import Direction, Scope
from stacksam.session.predictor import Predictor
from stacksam.session.prompts import (
    Mask,
    Prompt,
    check_frame,
    check_integer,
    check_mask,
    check_name,
    check_object_id,
    check_prompt,
    check_several,
    mask_within,
)
from stacksam.session.proposals import Proposal
from stacksam.session.records import Record
from stacksam.session.regroup import merge, split
from stacksam.session.results import FORMAT_VERSION, ResultStore
from stacksam.session.scores import FrameScores, frame_scores, scores_of
from stacksam.session.settings import Settings
from stacksam.session.stack import Stack
from stacksam.session.update import Update

__all__ = ["Direction", "Session", "Update"]


class Session(Family):
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
    stack : Stack
        The one given; one that is live has the intensity mapping that the folder's session began with, unless
        one was chosen when it was opened.
    labels : zarr.Array
        Labels (T, Y, X) as they are on disk, always up to date; see :meth:`label_frame`. Those of a live
        stack grow with it.

    Raises
    ------
    StorageError
        If the folder cannot be written, or is in use by another session.
    SessionFileError
        If the folder holds a session of another stack, model or settings, or of a newer version.

    Notes
    -----
    Methods may be called from any thread. Those that change something wait for each other; those that only
    tell what there is are answered also while another thread computes. One that fails, for whatever reason,
    has changed nothing.

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
        self.model = model
        self._lock = threading.RLock()
        self._closed = False
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
                self.stack, self.settings = claim(self._store, stack, model, settings)
                self.labels: zarr.Array[Any] = open_labels(self.folder, self.stack, self._store)
                self._predictor = Predictor(
                    model, self.stack, self.settings, self._recall, self.folder / "features.zarr"
                )
                self._objects = Objects(self._store, self._predictor)
                self._journal = Journal(self._store, self._objects, self.labels)
            except BaseException:
                self._store.close()
                raise
        except BaseException:
            self._clean()
            raise

    def _recall(self, object_id: int, frame: int) -> Record | None:
        return self._objects.recall(object_id, frame)

    def close(self) -> None:
        """Bring ``session.json`` up to date (see :meth:`save`) and close files.

        A temporary folder is removed instead.

        Raises
        ------
        StorageError
            If ``session.json`` cannot be written. The session is closed then, too, and its results are safe.
        """
        self._close(None)

    def _close(self, pending: BaseException | None) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._journal.generation += 1
            try:
                if not self._temporary and self._journal.unsaved:
                    self.save()
            except StacksamError as error:
                if pending is None:
                    raise
                pending.add_note(str(error))  # what went wrong first is what matters
            finally:
                self._predictor.close()
                self._store.close()
                self._clean()

    def _clean(self) -> None:
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Session:
        """Use as a context manager."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._close(error)

    # For what looks at frames beside the prompts

    @property
    def encoder(self) -> Encoder:
        """What encodes frames; to be used inside of :meth:`guard` only."""
        return self._predictor.encoder

    def guard(self) -> AbstractContextManager[object]:
        """Keep other threads from changing anything, or computing, while inside."""
        return self._lock

    # What there is

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects, in order."""
        return self._objects.ids

    @property
    def next_id(self) -> int:
        """An id for a new object: the one after all that were used."""
        return self._objects.free_ids(1)[0]

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts in force, by object and frame."""
        return self._objects.prompts

    @property
    def names(self) -> dict[int, str]:
        """Names of the objects that were given one, by object id."""
        return dict(self._objects.told.names)

    @property
    def history(self) -> tuple[str, ...]:
        """Names of the actions in force, oldest first; :meth:`undo` takes back the last."""
        return tuple(str(action["do"]) for action in self._store.actions())

    @property
    def generation(self) -> int:
        """A number that changes with every action; it is not kept with the session."""
        return self._journal.generation

    @property
    def undoable(self) -> str | None:
        """Name of the action that :meth:`undo` would take back."""
        return self._journal.next(undo=True)

    @property
    def redoable(self) -> str | None:
        """Name of the action that :meth:`redo` would do again."""
        return self._journal.next(undo=False)

    def needs(self, objects: int | None = None) -> Needs:
        """How much memory the session takes at its peak, however many frames there are.

        Parameters
        ----------
        objects : int, optional
            With so many objects; those that there are by default.

        Raises
        ------
        InputError
            If the number is no whole number from 0.
        """
        count = len(self.object_ids) if objects is None else check_integer(objects, "objects")
        if count < 0:
            raise InputError(f"objects is {count}; give 0 or more")
        return needs(self.model, self.stack.frame_shape, count, self.settings, self._predictor.looks)

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
        """The mask (H, W) of one object on one frame; all False without a result, as for an unknown id."""
        update = self.update(object_id, frame)
        if update is None:
            return np.zeros(self.stack.frame_shape, bool)
        return update.full_mask(self.stack.frame_shape)

    def probability(self, object_id: int, frame: int, box: BBox | None = None) -> NDArray[np.float32]:
        """How likely each pixel of a frame belongs to an object, by the network's logits.

        Parameters
        ----------
        object_id, frame : int
        box : (int, int, int, int), optional
            Half-open ``(y0, x0, y1, x1)`` of a part of the frame; by default all.

        Returns
        -------
        (h, w) float32
            In 0..1; 0 where there is no result, and outside of what the network looked at. It is interpolated
            from the network's resolution, and knows nothing of holes that were filled.
        """
        part = box or (0, 0, *self.stack.frame_shape)
        out = np.zeros((part[2] - part[0], part[3] - part[1]), np.float32)
        record = self._store.get(check_object_id(object_id), check_frame(frame, self.stack.n_frames))
        if record is None:
            return out
        top, left, height, width = record.view.span
        shown = (math.ceil(top), math.ceil(left), math.floor(top + height), math.floor(left + width))
        seen = intersection(part, shown)
        if seen is not None:
            logits = record.view.upsample(record.logits.astype(np.float32), seen)
            y, x = part[:2]
            out[seen[0] - y : seen[2] - y, seen[1] - x : seen[3] - x] = 1 / (1 + np.exp(-logits))
        return out

    def on_frame(self, frame: int) -> tuple[Update, ...]:
        """All results of one frame, by object id."""
        records = self._store.on_frame(check_frame(frame, self.stack.n_frames))
        return tuple(Update.of(record) for record in sorted(records, key=lambda r: r.object_id))

    def label_frame(self, frame: int) -> NDArray[np.int32]:
        """Labels (H, W) of one frame; where masks overlap, the more certain one."""
        records = self._store.on_frame(check_frame(frame, self.stack.n_frames))
        return compose(records, (0, 0, *self.stack.frame_shape))

    def scores(self, object_id: int) -> FrameScores:
        """Figures of the object on every frame with a result, without a look at the masks.

        An id that no object has is not an error, as for `frames_of` and `mask`: there are no frames then.
        """
        number = check_object_id(object_id)
        return frame_scores(number, self._store.scored(number))

    def all_scores(self) -> dict[int, FrameScores]:
        """:meth:`scores` of all objects, by object id, as they are at one moment."""
        return scores_of(self._store.scored())

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
            If there is none, one cannot be used, or the object would be seen on a frame of its parent or of
            its daughters; then none was added.
        StorageError
            If the answers cannot be written; then none was added either.

        Notes
        -----
        What came from an earlier result on one of the frames becomes stale. Where ends are found in depth
        (see :class:`~stacksam.session.settings.Settings`), the first prompt on a frame also makes stale where
        its object had ended before.
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
            with self._journal.action("add", {"prompts": prompts_to_json(checked)}) as draft:
                answers = self._objects.say_all(places, draft)
                check_links(draft, {object_id for object_id, _ in places})
        return Update.of(answers[checked[-1].object_id, checked[-1].frame])

    def add_found(self, proposals: Sequence[Proposal]) -> tuple[Update, ...]:
        """Make an object of each proposal, by a :class:`Mask` prompt, as one action.

        Parameters
        ----------
        proposals : sequence of Proposal
            From :func:`stacksam.find_objects`; where there is none, nothing happens.

        Returns
        -------
        tuple of Update
            The new objects on their frames, in the order of the proposals.

        Raises
        ------
        InputError
            If one does not fit the stack; then no object is new.
        StorageError
            If the answers cannot be written; then none is new either.
        """
        if not proposals:
            return ()
        with self._lock:
            ids = self._objects.free_ids(len(proposals))
            shape = self.stack.frame_shape
            masks = [
                mask_within(p.frame, i, p.bbox, p.mask, shape) for i, p in zip(ids, proposals, strict=True)
            ]
            self.add(*masks)
            found = [self._store.get(mask.object_id, mask.frame) for mask in masks]
        return tuple(Update.of(record) for record in found if record is not None)

    def remove(self, *prompts: Prompt) -> Update | None:
        """Take back prompts, as one action; what was said before and after them still holds.

        With its last prompt an object vanishes; unlike that of a removed object, its id may be used again.

        Returns
        -------
        Update or None
            The last prompt's object on its frame, or None where nothing is left of it there.

        Raises
        ------
        InputError
            If none is given, or there is no such prompt; then all are still there.
        StorageError
            If the change cannot be written; then all are still there.
        """
        if not prompts:
            raise InputError("no prompt was given; give those to take back")
        checked = [check_prompt(p, self.stack.n_frames, self.stack.frame_shape) for p in prompts]
        record = None
        with self._lock:
            for prompt in checked:
                self._objects.without(prompt)
            with self._journal.action("remove", {"prompts": prompts_to_json(checked)}) as draft:
                for prompt in checked:
                    record = self._objects.unsay(prompt, draft)
                check_links(draft, {prompt.object_id for prompt in checked})
        return None if record is None else Update.of(record)

    def replace(self, old: Prompt, new: Prompt) -> Update:
        """Take back one prompt and say another instead, as one action: a prompt that was moved.

        Unlike :meth:`remove` followed by :meth:`add`, this keeps the results of an object that has no other
        prompt.

        Parameters
        ----------
        old : Prompt
            In force now.
        new : Prompt
            For any object, on any frame; it counts as said after all others.

        Returns
        -------
        Update
            The new prompt's object on its frame.

        Raises
        ------
        InputError
            If there is no such prompt, or the new one cannot be used.
        StorageError
            If the change cannot be written; then the old prompt still holds.
        """
        old, new = (check_prompt(p, self.stack.n_frames, self.stack.frame_shape) for p in (old, new))
        with self._lock:
            self._objects.without(old)
            self._objects.check_new(new.object_id)
            told = {"old": prompts_to_json([old]), "new": prompts_to_json([new])}
            with self._journal.action("replace", told) as draft:
                record = self._objects.replace(old, new, draft)
                check_links(draft, (old.object_id, new.object_id))
        return Update.of(record)

    def remove_object(self, *object_ids: int) -> None:
        """Remove objects with their prompts and results, as one action; their ids are not used again.

        Raises
        ------
        InputError
            If none is given, or there is no such object; then all are still there.
        StorageError
            If the change cannot be written; then all are still there.
        """
        if not object_ids:
            raise InputError("no object was given; give ids of those to remove")
        with self._lock:
            wanted = sorted({self._objects.known(object_id) for object_id in object_ids})
            with self._journal.action("remove_object", {"object_ids": wanted}) as draft:
                for object_id in wanted:
                    self._objects.remove(object_id, draft)

    def clear(self) -> None:
        """Remove all objects, as one action; every id may be used again, also those removed before.

        Raises
        ------
        StorageError
            If the change cannot be written; then all objects are still there.
        """
        with self._lock:
            if self._objects.told.said or self._objects.told.removed:
                with self._journal.action("clear", {}) as draft:
                    self._objects.clear(draft)

    def rename(self, object_id: int, name: str) -> None:
        """Name an object; it keeps its id. The name is lost with the object.

        Parameters
        ----------
        name : str
            One line of at most 80 characters; "" removes the name.

        Raises
        ------
        InputError
            If there is no such object, or this cannot be a name.
        StorageError
            If the change cannot be written; then the name is what it was.
        """
        name = check_name(name)
        with self._lock:
            object_id = self._objects.known(object_id)
            if name != self.names.get(object_id, ""):
                with self._journal.action("rename", {"object_id": object_id, "name": name}) as draft:
                    draft.set_name(object_id, name or None)

    def merge(self, into: int, others: Collection[int]) -> tuple[Update, ...]:
        """Make other objects part of one, which keeps its id and name.

        On every frame on which any of them has a prompt and one of the others is seen, their masks together
        become a :class:`Mask` prompt of `into`, and what came from its old result there becomes stale. The
        others are removed; their ids are not used again.

        Parameters
        ----------
        into : int
        others : collection of int
            Ids of the objects that become part of it.

        Returns
        -------
        tuple of Update
            The object on the frames on which it changed, in order.

        Raises
        ------
        InputError
            If there is no such object, no other one, or `into` is among the others.
        StorageError
            If the change cannot be written; then all objects are as they were.
        """
        with self._lock:
            into = self._objects.known(into)
            wanted = sorted({self._objects.known(i) for i in check_several(others, "others")})
            if not wanted:
                raise InputError(f"there is nothing to merge into object {into}; give ids of other objects")
            if into in wanted:
                raise InputError(f"object {into} cannot be merged into itself; give ids of other objects")
            with self._journal.action("merge", {"into": into, "others": wanted}) as draft:
                records = merge(self._objects, draft, into, wanted, self.stack.frame_shape)
                check_links(draft, (into,))
        return tuple(Update.of(record) for record in records)

    def split(self, object_id: int, frame: int) -> tuple[int, ...]:
        """Make objects of the pieces of an object's mask on one frame, by :class:`Mask` prompts there.

        The largest piece stays the object. Pixels that touch by a corner are one piece; less than four pixels
        or two percent of the mask are none, and go with the nearest one.

        Returns
        -------
        tuple of int
            Ids of the new objects, by falling size.

        Raises
        ------
        InputError
            If there is no such object, or its mask on this frame is empty or in one piece.
        StorageError
            If the change cannot be written; then the object is as it was.
        """
        frame = check_frame(frame, self.stack.n_frames)
        with self._lock:
            object_id = self._objects.known(object_id)
            with self._journal.action("split", {"object_id": object_id, "frame": frame}) as draft:
                return split(self._objects, draft, object_id, frame, self.stack.frame_shape)

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
            with self._journal.action("choose", arguments) as draft:
                chosen = self._objects.choose(record, candidate, draft)
                check_links(draft, (record.object_id,))
            return Update.of(chosen)

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

    def mark_absent(self, object_id: int, frames: Iterable[int]) -> None:
        """Say that an object is not on some frames: its masks there are emptied, and the frames approved.

        What came from those masks becomes stale; when it is propagated again, the object is remembered as
        absent there. :meth:`unlock` and propagating with `restart`, or a prompt, brings it back.

        Raises
        ------
        InputError
            If there is no such object, it has no result on one of the frames, or has a prompt there.
        StorageError
            If the change cannot be written; then the masks are as they were.
        """
        with self._lock:
            object_id, wanted = self._with_results(object_id, frames)
            prompted = sorted(set(wanted) & set(self._objects.conditioning(object_id)))
            if prompted:
                raise InputError(
                    f"object {object_id} has prompts on frames {prompted}, which say that it is there; take "
                    "them back first"
                )
            with self._journal.action("mark_absent", {"object_id": object_id, "frames": wanted}) as draft:
                self._objects.mark_absent(object_id, wanted, draft)

    def set_masks(self, *masks: Mask) -> tuple[Update, ...]:
        """Put masks that came from elsewhere in place of results, as one action; the frames are approved.

        This is for what is computed from results, such as a shape between two others or the vote of several
        runs (:mod:`stacksam.tracks.volume`, :mod:`stacksam.tracks.consensus`). Unlike a :class:`Mask` prompt,
        such a mask is not what the user says: it makes no conditioning frame, and :meth:`unlock` and
        propagating with `restart` bring the model's own back. What came from the masks before becomes stale.

        Parameters
        ----------
        *masks : Mask
            On frames where their objects have results; an empty one says that the object is not there. The
            last of several for one object on one frame counts.

        Returns
        -------
        tuple of Update
            By object and frame.

        Raises
        ------
        InputError
            If none is given, one has another shape than the frames, or there is no such object or no result
            of it on that frame; then nothing has changed.
        StorageError
            If the change cannot be written; then the masks are as they were.
        """
        if not masks:
            raise InputError("no mask was given; give those to put in place of results")
        shape = self.stack.n_frames, self.stack.frame_shape
        checked = {(m.object_id, m.frame): m for m in (check_mask(m, *shape) for m in masks)}
        wanted = [checked[place] for place in sorted(checked)]
        with self._lock:
            for object_id in sorted({mask.object_id for mask in wanted}):
                self._objects.known(object_id)
            with self._journal.action("set_masks", {"masks": prompts_to_json(wanted)}) as draft:
                records = self._objects.set_masks(wanted, draft)
        return tuple(Update.of(record) for record in records)

    def _with_results(self, object_id: int, frames: Iterable[int]) -> tuple[int, list[int]]:
        """An object and frames on which it has results, checked."""
        wanted = sorted({check_frame(f, self.stack.n_frames) for f in check_several(frames, "frames")})
        object_id = self._objects.known(object_id)
        missing = sorted(set(wanted) - set(self._store.frames(object_id)))
        if missing:
            raise InputError(
                f"object {object_id} has no result on frames {missing}; propagate it there first"
            )
        return object_id, wanted

    def _set_locked(self, name: str, object_id: int, frames: Iterable[int], locked: bool) -> None:
        with self._lock:
            object_id, wanted = self._with_results(object_id, frames)
            with self._journal.action(name, {"object_id": object_id, "frames": wanted}) as draft:
                draft.flag(object_id, wanted, locked=locked, stale=False if locked else None)

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
        DeviceMemoryError
            If the objects cannot be followed within the settings' ceiling of memory, likewise.
        StorageError
            If a result cannot be written; what was given before is safe.
        """
        scope = self._scope(direction, objects, first, last)
        self._predictor.prepare(len(self.object_ids))
        if steps is not None and check_integer(steps, "steps") < 0:
            raise InputError(f"steps is {steps}; give 0 or more")
        return self._propagate(scope, restart=restart, steps=steps)

    def follow(self, frames: Iterable[int], *, objects: Collection[int] | None = None) -> Iterator[Update]:
        """Follow objects forward to frames that are told one by one; see :func:`stacksam.watch`.

        As :meth:`propagate`, it computes only what is missing, and ends when any other action comes
        meanwhile; all of it is one action, too.

        Parameters
        ----------
        frames : iterable of int
            Rising numbers of frames. The next one is asked for when the one before is on disk, so that it may
            wait for a frame to arrive; the session is free meanwhile.
        objects : collection of int, optional
            Ids of the objects to follow; all by default.

        Yields
        ------
        Update

        Raises
        ------
        InputError, DeviceMemoryError, StorageError
            As :meth:`propagate`.
        StackError
            If a frame cannot be read.
        """
        scope = self._scope("forward", objects, None, None)
        self._predictor.prepare(len(self.object_ids))
        return self._propagate(scope, restart=False, steps=None, frames=frames)

    def first_missing(self, objects: Collection[int] | None = None) -> int:
        """The first frame to which objects can be followed forward, and are not.

        It may be the one after the stack's last.

        Raises
        ------
        InputError
            If there are no prompts, or no such object.
        """
        return self._objects.first_missing(self._scope("forward", objects, None, None))

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
        return self._objects.work_left(scope, restart=restart)

    def _scope(
        self, direction: Direction, objects: Collection[int] | None, first: int | None, last: int | None
    ) -> Scope:
        return self._objects.scope(direction, objects, first, last, self.stack.n_frames)

    def _propagate(
        self, scope: Scope, *, restart: bool, steps: int | None, frames: Iterable[int] | None = None
    ) -> Iterator[Update]:
        arguments: dict[str, Any] = {
            "direction": scope.direction, "objects": list(scope.objects), "first": scope.first,
            "last": scope.last, "restart": restart, "steps": 0,
        }  # fmt: skip
        number: int | None = None
        with self._lock:
            if restart:
                with self._journal.action("propagate", arguments) as draft:
                    self._objects.restart(scope, draft)
                number = draft.number
            generation = self._journal.generation
        for step, frame in scope.order() if frames is None else ((1, frame) for frame in frames):
            with self._lock:
                if self._journal.generation != generation or arguments["steps"] == steps:
                    return
                todo = self._objects.waiting(scope.objects, frame, step)
                if not todo:
                    continue
                requests = [self._objects.request(object_id, frame, step) for object_id in todo]
                former = {i: self._store.get(i, frame) for i in todo}
                records = self._predictor.follow(frame, requests, step)
                done = {**arguments, "steps": arguments["steps"] + 1, "last": max(frame, arguments["last"])}
                number = self._journal.append(number, "propagate", done, frame, records)
                arguments = done
                generation = self._journal.generation
                self._objects.remember(records)
                updates = [Update.of(record, former[record.object_id]) for record in records]
            yield from updates

    # Going back

    def undo(self) -> str | None:
        """Take back the last action, with all that it changed; its name, or None where there is none.

        The results of some fifty actions are kept; earlier ones cannot be undone.
        """
        with self._lock:
            return self._journal.exchange(undo=True)

    def redo(self) -> str | None:
        """Do again what was undone last; its name, or None where there is nothing."""
        with self._lock:
            return self._journal.exchange(undo=False)

    # Saving

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the session as readable JSON, from which :func:`stacksam.replay` makes the same labels.

        Besides the actions, which are replayed, it lists the prompts that hold at the end. :meth:`close` does
        so as well, unless the session's folder is temporary.

        Parameters
        ----------
        path : path, optional
            By default ``session.json`` in the session's folder.

        Raises
        ------
        StorageError
            If it cannot be written; an older file stays as it was.
        """
        default = self.folder / "session.json"
        target = Path(path) if path is not None else default
        if target == default:
            self._journal.unsaved = False  # before reading: what is done meanwhile counts as unsaved
        try:
            data = {"format": "stacksam-session", "version": FORMAT_VERSION, **self._store.meta("session")}
            if self.stack.live:
                data["stack"]["n_frames"] = self.stack.n_frames
            told = {"prompts": prompts_to_json(self.prompts), "actions": self._store.actions()}
            write_json(target, data | told)
        except BaseException:
            self._journal.unsaved = True
            raise
        return target

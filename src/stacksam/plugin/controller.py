"""What a person does, turned into what the session does; no widget, no layer.

Methods are called on the main thread and return at once. What comes of them arrives there as signals.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from stacksam.errors import InputError
from stacksam.plugin.edits import Edits
from stacksam.plugin.engine import Deliver, Engine, Stream, wait_for_closed
from stacksam.plugin.progress import Meter, News, Progress
from stacksam.plugin.searches import Searches
from stacksam.plugin.state import EMPTY, Snapshots, State
from stacksam.session.models import Model, load_model
from stacksam.session.plan import Direction
from stacksam.session.predictor import Settings
from stacksam.session.prompts import Box, Mask, Prompt, check_prompt
from stacksam.session.session import Session
from stacksam.session.stack import Stack
from stacksam.session.update import Update

__all__ = ["Controller", "Opening", "Reach", "Span"]

Reach = Literal["all", "to here", "to the next accepted frame", "all anew"]
_SNAPSHOT_SECONDS = 0.4  # between snapshots while a pass runs
_SNAPSHOT_SHARE = 8  # at most this part of the time goes into them
_PROGRESS_SECONDS = 0.25  # between two tellings; a progress bar that moves has the whole window painted
_CLOSING_SECONDS = 30.0
_SAME = 0.98  # IoU from which on a mask that was computed anew counts as unchanged


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session is to be made of.

    Attributes
    ----------
    stack : callable
        Gives the stack; called on the engine's thread.
    model : str
        Registry name or path.
    device : str, optional
        By default the best there is.
    folder : callable, optional
        Gives the folder of results for a stack and a model; without it a temporary one.
    settings : Settings, optional
        By default those of the session that is continued, if one is.
    """

    stack: Callable[[], Stack]
    model: str = "nano"
    device: str | None = None
    folder: Callable[[Stack, Model], Path] | None = None
    settings: Settings | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Which objects are to be followed where; see :meth:`Session.propagate`.

    Attributes
    ----------
    direction : {"both", "forward", "backward"}
    objects : tuple of int, optional
        All by default.
    first, last : int, optional
        Both included; the whole stack by default.
    """

    direction: Direction = "both"
    objects: tuple[int, ...] | None = None
    first: int | None = None
    last: int | None = None


class Controller(Edits, Searches):
    """The state behind the windows: one session, one current object, one thread that computes.

    Parameters
    ----------
    deliver : callable
        Has a function called on the main thread.
    """

    opened: ClassVar[Signal] = Signal(object)  # Session
    closed: ClassVar[Signal] = Signal()
    state_changed: ClassVar[Signal] = Signal(object)  # State
    painted: ClassVar[Signal] = Signal(object)  # frozenset of frames whose labels changed
    busy: ClassVar[Signal] = Signal(str)  # what is being done; empty for nothing
    progress: ClassVar[Signal] = Signal(object)  # Progress of a pass, or None at its end
    downloading: ClassVar[Signal] = Signal(object)  # Progress of a download, or None
    failed: ClassVar[Signal] = Signal(str, object)  # what was being done, and the error
    noted: ClassVar[Signal] = Signal(str)
    followed: ClassVar[Signal] = Signal()  # a pass has ended, by itself or because it was stopped
    current_changed: ClassVar[Signal] = Signal(int)
    sign_changed: ClassVar[Signal] = Signal(bool)

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._engine = Engine(deliver)
        self.session: Session | None = None
        self.state: State = EMPTY
        self.current: int = 1
        self.positive = True
        self.changed: dict[int, set[int]] = {}  # frames that came out differently after the last correction
        self._model: Model | None = None
        self._snapshots = Snapshots()
        self._batch: list[Prompt] = []  # prompts that wait, since something else was asked
        self._batch_number = 0
        self._strokes: list[tuple[Mask, NDArray[np.bool_]]] = []  # that wait, and what each was painted on
        self._strokes_on: tuple[int, int] | None = None  # object and frame that they are for
        self._in_flight: list[Prompt] = []
        self._seen: set[int] = set()  # frames that were looked at
        self._pending_lock = threading.Lock()
        self._snapshot_due = 0.0
        self._progress_due = 0.0
        self._news: News | None = None
        self._news_lock = threading.Lock()
        self._stop_download = threading.Event()
        self._wanted = 0  # grows when what is being opened is no longer wanted
        self._made: Session | None = None  # the newest; the engine's thread closes it at the end
        self._pass: Stream | None = None
        self.following = False
        self.opening = False

    # Opening and closing

    def open(self, opening: Opening) -> None:
        """Make a session; one that is open is closed first."""
        self.close_session()
        token = self._wanted
        self.opening = True
        self._stop_download.clear()
        self.busy.emit("Preparing the stack and the model …")
        snapshots = self._snapshots = Snapshots()
        self._seen.clear()

        def work() -> tuple[Session, State]:
            self._close_made()  # also one that was not shown yet when another was asked for
            stack = opening.stack()
            model = self._load(opening.model, opening.device)
            folder = None if opening.folder is None else opening.folder(stack, model)
            wait_for_closed(_CLOSING_SECONDS)  # another dock may have worked in this folder
            session = self._made = Session(stack, model, folder, settings=opening.settings)
            try:
                return session, snapshots.take(session)
            except BaseException:
                session.close()
                raise

        def done(made: tuple[Session, State]) -> None:
            session, state = made
            if token != self._wanted:  # something else was asked for meanwhile
                self._engine.submit(session.close, failed=self._fail("Closing"))
                return
            self.opening = False
            self.session, self.changed = session, {}
            if state.object_ids:
                self.set_current(min(state.object_ids))
            else:
                self.new_object()
            self.opened.emit(session)
            self.busy.emit("")
            if self.session is not session:  # who was told has closed it
                return
            self._show(state)
            if state.objects:
                count = len(state.objects)
                self.noted.emit(
                    f"Continued where it was left: {count} {'object' if count == 1 else 'objects'}"
                )

        def failed(error: Exception) -> None:
            if token == self._wanted:
                self.opening = False
                self._fail("Opening")(error)

        self._engine.submit(work, done, failed=failed, key="open", passing=True)

    def _load(self, name: str, device: str | None) -> Model:
        wanted = (name, device)
        if self._model is None or self._model_key != wanted:
            self._model = None
            self._model = load_model(name, device=device, progress=self._downloaded)
            self._model_key: tuple[str, str | None] = wanted
            self._deliver(lambda: self.downloading.emit(None))
        return self._model

    def _downloaded(self, done: int, total: int | None) -> None:
        if self._stop_download.is_set():
            raise InputError("the download was cancelled; nothing was kept of it")
        progress = Progress(done, total or 0)
        self._deliver(lambda: self.downloading.emit(progress))

    def cancel_download(self) -> None:
        """End a download that is under way."""
        self._stop_download.set()

    def close_session(self) -> None:
        """Close the session; what it has found is on disk."""
        self._wanted += 1
        self.opening = False
        self._engine.cancel()
        session, self.session = self.session, None
        if session is None:
            return
        self._next_batch()
        self._in_flight.clear()
        self.state, self.changed = EMPTY, {}
        self._engine.submit(session.close, failed=self._fail("Closing"))
        self.busy.emit("")
        self.closed.emit()
        if self.session is None:  # or who was told has begun another
            self._show(EMPTY)

    def shut_down(self, timeout: float = 0.0) -> bool:
        """Close the session and end the thread, after all that was asked for; whether it ended in time."""
        self._stop_download.set()
        self.session = None
        return self._engine.close(timeout, last=self._close_made)

    def _close_made(self) -> None:
        if self._made is not None:
            self._made.close()

    # Choosing

    def set_current(self, object_id: int) -> None:
        """The object that prompts are for; it need not exist yet."""
        if object_id >= 1 and object_id != self.current:
            self.current = object_id
            self.current_changed.emit(object_id)
        self.set_sign(True)

    @property
    def next_id(self) -> int:
        """An id for a new object: the one after all that were used, or are asked for."""
        used = 0 if self.session is None else self.session.next_id - 1
        return max([used, *(p.object_id for p in self._in_flight)]) + 1

    def new_object(self) -> int:
        """Make the next free id current."""
        self.set_current(self.next_id)
        return self.current

    def set_sign(self, positive: bool) -> None:
        """Whether the next point is on the object or beside it."""
        if positive != self.positive:
            self.positive = positive
            self.sign_changed.emit(positive)

    # Prompts

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts in force, and those that are being answered."""
        return (*self.state.prompts, *self._in_flight)

    def add(self, *prompts: Prompt) -> None:
        """Answer prompts; those that wait already are answered together with them."""
        session = self._open_session()
        checked = [check_prompt(p, session.stack.n_frames, session.stack.frame_shape) for p in prompts]
        checked = [self._of_its_own(p) for p in checked]
        if self._strokes_on is not None:
            self._next_batch()
        batch = self._batch
        with self._pending_lock:
            batch += checked

        def say(taken: list[Prompt]) -> None:
            with self._pending_lock:
                taken += batch
                batch.clear()
            if taken:
                session.add(*taken)

        self._say(session, checked, say, f"add {self._batch_number}")

    def paint(self, painted: Mask, before: NDArray[np.bool_]) -> None:
        """Change the mask of an object as one that was shown was changed with the brush.

        What is being answered meanwhile, clicks as well as strokes, holds too.

        Parameters
        ----------
        painted : Mask
            What the brush left.
        before : (H, W) bool array
            What was there before the stroke.
        """
        session = self._open_session()
        place = painted.object_id, painted.frame
        if self._strokes_on != place:
            self._next_batch()
            self._strokes_on = place
        strokes = self._strokes
        with self._pending_lock:
            strokes.append((painted, before))

        def say(taken: list[Prompt]) -> None:
            with self._pending_lock:
                made = list(strokes)
                strokes.clear()
            taken += [after for after, _ in made]
            mask = session.mask(*place)
            for after, former in made:
                mask = (mask & (after.mask | ~former)) | (after.mask & ~former)
            if made:
                session.add(replace(painted, mask=mask))

        self._say(session, [painted], say, f"paint {self._batch_number}")

    def mask(self, object_id: int, frame: int) -> NDArray[np.bool_]:
        """The mask (H, W) of an object on a frame as it was painted last, be it answered or not."""
        painted = [
            p for p in self._in_flight if isinstance(p, Mask) and (p.object_id, p.frame) == (object_id, frame)
        ]
        return painted[-1].mask if painted else self._open_session().mask(object_id, frame)

    def _say(
        self, session: Session, prompts: list[Prompt], say: Callable[[list[Prompt]], None], key: str
    ) -> None:
        """Have prompts answered by `say`, which puts those that it answers into the list that it is given."""
        self._in_flight += prompts
        self.busy.emit(self._looking(session, {p.frame for p in prompts}))
        taken: list[Prompt] = []

        def work() -> set[int]:
            say(taken)
            self._touched({p.frame for p in taken})
            self._forget_changes({p.object_id for p in taken})
            return {p.object_id for p in taken}

        def arrived() -> None:
            for prompt in taken:
                if prompt in self._in_flight:
                    self._in_flight.remove(prompt)
            self._seen.update(p.frame for p in taken)
            self.busy.emit(self._looking(session, {p.frame for p in self._in_flight}))

        def failed(error: Exception) -> None:
            arrived()
            self._fail("Prompt")(error)

        self._submit(session, work, "Prompt", arrived, failed=failed, key=key)

    def _of_its_own(self, prompt: Prompt) -> Prompt:
        """A box that lies apart from the object's box on the frame is one around another object.

        An object has one box on a frame; the new one would take the place of the first, and its mask with it.
        """
        if not isinstance(prompt, Box):
            return prompt
        others = [
            p
            for p in self.prompts
            if isinstance(p, Box) and (p.frame, p.object_id) == (prompt.frame, prompt.object_id)
        ]
        if not others or any(_overlap(prompt, other) for other in others):
            return prompt
        free = self.new_object()
        self.noted.emit(
            f"This box lies apart from that of object {prompt.object_id}, so it begins object {free}; "
            "undo (Ctrl+Z) takes it back"
        )
        return replace(prompt, object_id=free)

    def _looking(self, session: Session, frames: set[int]) -> str:
        """What is being waited for: a whole frame takes its time when it is encoded."""
        new = [] if session.model.windowed else sorted(frames - self._seen)
        if new:
            return f"Encoding frame {new[0]} for the first click on it …"
        return "Looking …" if frames else ""

    def remove(self, *prompts: Prompt) -> None:
        """Take prompts back."""
        session = self._open_session()

        def work() -> set[int]:
            there = [prompt for prompt in prompts if prompt in session.prompts]
            if there:
                session.remove(*there)
            self._touched(None)
            self._forget_changes({p.object_id for p in prompts})
            return {p.object_id for p in prompts}

        self._submit(session, work, "Removing a prompt")

    def replace(self, old: Prompt, new: Prompt) -> None:
        """Move a prompt."""
        session = self._open_session()
        check_prompt(new, session.stack.n_frames, session.stack.frame_shape)

        def work() -> set[int]:
            if old in session.prompts:
                session.replace(old, new)
            self._touched(None)
            self._forget_changes({old.object_id, new.object_id})
            return {old.object_id, new.object_id}

        self._submit(session, work, "Moving a prompt")

    def next_candidate(self, frame: int) -> None:
        """Take the next reading of the newest prompts of the current object on a frame."""
        session, object_id = self._open_session(), self.current

        def work() -> set[int]:
            found = session.candidates(object_id, frame)
            now = session.update(object_id, frame)
            places = [i for i, one in enumerate(found) if now is not None and _equal(one, now)]
            index = (places[0] + 1 if places else 0) % len(found)
            chosen = session.choose(object_id, frame, index)
            self._touched({frame})
            self._forget_changes({object_id})
            text = f"Reading {index + 1} of {len(found)}, predicted IoU {chosen.predicted_iou:.2f}"
            self._deliver(lambda: self.noted.emit(text))
            return {object_id}

        self._submit(session, work, "Next reading")

    # Following

    def follow(
        self,
        direction: Direction = "both",
        *,
        objects: Collection[int] | None = None,
        first: int | None = None,
        last: int | None = None,
        restart: bool = False,
    ) -> None:
        """Carry objects from their prompted frames to others; see :meth:`Session.propagate`."""
        ids = None if objects is None else tuple(objects)
        self.follow_spans([Span(direction, ids, first, last)], restart=restart)

    def follow_spans(self, spans: Collection[Span], *, restart: bool = False) -> None:
        """Do the same for several spans, one after the other."""
        session = self._open_session()
        known = sorted({*self.state.object_ids, *(p.object_id for p in self._in_flight)})
        ids = sorted({i for span in spans for i in (known if span.objects is None else span.objects)})
        unknown = [i for i in ids if i not in known]
        if not ids or unknown:
            raise InputError(
                "there is nothing to follow yet; click an object in the picture first"
                if not unknown
                else f"object {unknown[0]} has no prompt yet; click it in the picture first"
            )
        anew = [restart]
        meter = Meter()

        def begin() -> Iterator[Update]:
            again, anew[0] = anew[0], False
            there = set(ids).intersection(session.object_ids)
            wanted = []
            for span in spans:
                alive = tuple(sorted(there if span.objects is None else there.intersection(span.objects)))
                if alive:
                    ends = {"first": span.first, "last": span.last}
                    scope: dict[str, Any] = {"objects": alive, "restart": again, **ends}
                    wanted.append((span.direction, scope))
            meter.left(sum(session.work_left(direction, **scope) for direction, scope in wanted))
            return _one_by_one(session, wanted)

        def each(update: Update) -> None:
            if update.kept is not None and update.kept < _SAME:
                self.changed.setdefault(update.object_id, set()).add(update.frame)
            else:
                self._forget_change(update.object_id, [update.frame])
            self._touched({update.frame}, meter.step(update.frame))
            self._snapshot(session, ids)

        def over() -> bool:
            """Whether this pass was the one that runs, which it no longer is."""
            if self._pass is not stream:
                return False
            self._pass, self.following = None, False
            self.progress.emit(None)
            return self.session is session

        def ended(complete: bool) -> None:
            if over():
                self._submit(session, lambda: None, "Following")
                self.noted.emit("Followed to the end" if complete else "Stopped; what was found is kept")
                self.followed.emit()

        def failed(error: Exception) -> None:
            if over():
                self._fail("Following")(error)

        stream = Stream(begin, each, ended, failed)
        self._pass, self.following = stream, True
        self.progress.emit(Progress(0, 0))
        self._engine.start(stream)

    def cancel(self) -> None:
        """End the pass after the frame in progress, and a search."""
        self._engine.cancel()
        self.stop_search()

    # Other work for the thread

    def ask(
        self,
        work: Callable[[Session], Any],
        done: Callable[[Any], None],
        title: str,
        *,
        key: str | None = None,
        failed: Callable[[Exception], None] | None = None,
        always: bool = False,
    ) -> None:
        """Have something worked out from the session that changes nothing in it.

        `done` is not called if the session was closed by then, unless `always` is true. What has a key is
        dropped when the controller is shut down.
        """
        session = self._open_session()

        def shown(result: Any) -> None:
            if always or self.session is session:
                done(result)

        failed = failed or self._fail(title)
        self._engine.submit(lambda: work(session), shown, failed=failed, key=key, passing=key is not None)

    def run(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        title: str,
        *,
        key: str | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Have something worked out that needs no session; what has a key, only until the end."""
        failed = failed or self._fail(title)
        self._engine.submit(work, done, failed=failed, key=key, passing=key is not None)

    def aside(self, steps: Iterator[Any], each: Callable[[Any], None], title: str) -> None:
        """Go through some steps whenever nothing else is to be done; a pass ends it.

        Parameters
        ----------
        steps : iterator
            Closed at the end.
        each : callable
            Called on the engine's thread with what each step gives.
        """
        self._engine.start(Stream(lambda: steps, each, lambda _complete: None, self._fail(title)))

    # Inside

    def _open_session(self) -> Session:
        if self.session is None:
            raise InputError("no image is being worked on; choose one and press Start")
        return self.session

    def _submit(
        self,
        session: Session,
        work: Callable[[], Collection[int] | None],
        title: str,
        done: Callable[[], None] | None = None,
        *,
        failed: Callable[[Exception], None] | None = None,
        key: str | None = None,
    ) -> None:
        """Do `work`, which gives the objects that it touched (None for any), and show how things stand."""
        if key is None:
            self._next_batch()
        snapshots = self._snapshots

        def both() -> State:
            return snapshots.take(session, work())

        def shown(state: State) -> None:
            if self.session is session:
                if done is not None:
                    done()
                self._show(state)

        self._engine.submit(both, shown, failed=failed or self._fail(title), key=key)

    def _next_batch(self) -> None:
        """Prompts from here on are not said together with those before; what was asked comes between."""
        self._batch, self._batch_number = [], self._batch_number + 1
        self._strokes, self._strokes_on = [], None

    def _show(self, state: State) -> None:
        self.state = state
        self.state_changed.emit(state)

    def _touched(self, frames: Collection[int] | None, progress: Progress | None = None) -> None:
        """Say which frames have new labels, None for any; what is not told yet is told in one go."""
        with self._news_lock:
            waiting, self._news = self._news, News.of(frames, progress).after(self._news)
        if waiting is None:
            self._deliver(self._tell)

    def _tell(self) -> None:
        with self._news_lock:
            news, self._news = self._news, None
        if news is not None:
            self.painted.emit(news.frames)
            now = time.perf_counter()
            if news.progress is not None and self.following and now >= self._progress_due:
                self._progress_due = now + _PROGRESS_SECONDS
                self.progress.emit(news.progress)

    def _snapshot(self, session: Session, touched: Collection[int]) -> None:
        """Show how things stand while a pass runs, now and then."""
        now = time.perf_counter()
        if now < self._snapshot_due:
            return
        state = self._snapshots.take(session, touched)
        cost = time.perf_counter() - now
        self._snapshot_due = now + max(_SNAPSHOT_SECONDS, _SNAPSHOT_SHARE * cost)
        self._deliver(lambda: self._show(state) if self.session is session else None)

    def _forget_change(self, object_id: int, frames: Collection[int]) -> None:
        self.changed.get(object_id, set()).difference_update(frames)

    def _forget_changes(self, object_ids: Collection[int]) -> None:
        """Forget what former corrections of objects changed: they are corrected anew, or gone."""
        for object_id in object_ids:
            self.changed.pop(object_id, None)

    def _fail(self, title: str) -> Callable[[Exception], None]:
        def failed(error: Exception) -> None:
            self.busy.emit("")
            self.downloading.emit(None)
            self.failed.emit(title, error)
            self.state_changed.emit(self.state)  # a prompt that was refused must not stay in its layer

        return failed


def _one_by_one(session: Session, wanted: Sequence[tuple[Direction, dict[str, Any]]]) -> Iterator[Update]:
    for direction, scope in wanted:
        yield from session.propagate(direction, **scope)


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have a place in common."""
    y0, x0, y1, x1 = one.yxyx
    top, left, bottom, right = other.yxyx
    return y0 <= bottom and top <= y1 and x0 <= right and left <= x1


def _equal(one: Update, other: Update) -> bool:
    return one.bbox == other.bbox and np.array_equal(one.mask, other.mask)

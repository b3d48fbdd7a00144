"""One stack from prompts to label files, without anybody watching.

The same function serves the command line, the demo and batches. It goes on where an earlier run into the same
folder was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stacksam.console import Reporter, quiet
from stacksam.errors import InputError, SessionFileError
from stacksam.outputs import Outputs
from stacksam.session.prompts import Prompt
from stacksam.session.stack import Stack, reopen_stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stacksam.session.models import Model
    from stacksam.session.proposals import Proposal
    from stacksam.session.scores import FrameScores
    from stacksam.session.session import Direction, Session
    from stacksam.session.settings import Settings

__all__ = [
    "Inspect",
    "check_everything",
    "check_span",
    "follow",
    "follow_everything",
    "follow_live",
    "open_session_stack",
    "replay_session",
]

_TOGETHER = 16  # prompted objects

Inspect = Callable[["Session"], Mapping[str, Any]]
"""Looks at the session when all frames are done; returns what the overview is to show besides."""


def follow(  # noqa: PLR0913 - what a command can ask for
    stack: Stack,
    model: Model,
    prompts: Iterable[Prompt],
    outputs: Outputs,
    *,
    direction: Direction = "both",
    first: int | None = None,
    last: int | None = None,
    settings: Settings | None = None,
    consensus: bool = False,
    divisions: bool = False,
    report: Reporter = quiet,
    inspect: Inspect | None = None,
) -> dict[str, Any]:
    """Follow objects from their prompts, and write labels, overview and summary.

    Parameters
    ----------
    stack : Stack
    model : Model
    prompts : iterable of Point, Box or Mask
        Checked already, see `stacksam.prompt_files.check_all`.
    outputs : Outputs
        Checked already, see `Outputs.check`.
    direction : {"forward", "backward", "both"}
    first, last : int, optional
        Frames to follow to, both included.
    settings : Settings, optional
        By default those of the folder's session, if there is one.
    divisions : bool
        Look for divisions forward, and go on with the daughters of those that are likely; see
        `stacksam.tracks.divisions`.
    consensus : bool
        Also follow the objects of a volume along its other two axes, and keep what most axes agree on; see
        `stacksam.tracks.consensus`.
    report : Reporter
    inspect : callable, optional

    Returns
    -------
    dict
        The summary, as JSON types.

    Raises
    ------
    SessionFileError
        If the folder holds a session of other prompts, another stack, model or scope.
    StorageError
        If the results cannot be written. What was computed stays there.
    """
    from stacksam.session.session import Session

    start = time.monotonic()
    with Session(stack, model, outputs.session_folder, settings=settings) as session:
        _give(session, prompts, outputs, report)
        if divisions:
            _divide(session, first, last, report)
        _propagate(session, direction, first, last, report)
        agreement = _agree(session, report) if consensus else {}
        return _finish(session, outputs, report, start, inspect, agreement)


def follow_everything(  # noqa: PLR0913 - what a command can ask for
    stack: Stack,
    model: Model,
    outputs: Outputs,
    *,
    size: float | None = None,
    every: int = 1,
    divisions: bool = False,
    first: int | None = None,
    last: int | None = None,
    settings: Settings | None = None,
    report: Reporter = quiet,
    inspect: Inspect | None = None,
) -> dict[str, Any]:
    """Find all objects, follow them, find newcomers, and write labels, overview and summary.

    Parameters
    ----------
    stack : Stack
    model : Model
    outputs : Outputs
        Checked already, see `Outputs.check`. Objects that its session has already are followed as well.
    size : float, optional
        Typical diameter of the objects in pixels; estimated by default.
    every : int
        Newcomers are looked for on every so many frames; 0 for never.
    divisions : bool
        As for `follow`. Objects are sought on the first frame then, and newcomers after it.
    first, last : int, optional
        Frames between which to work, both included.
    settings, report, inspect
        As for `follow`.

    Returns
    -------
    dict
        The summary, as `follow` gives it.

    Raises
    ------
    InputError
        If no object is found on any frame that was searched.
    SessionFileError
        If the folder holds a session of another stack, model or scope.
    StorageError
        If the results cannot be written. What was computed stays there.
    """
    from stacksam.session.finding import find_and_follow
    from stacksam.session.session import Session

    start = time.monotonic()
    with Session(stack, model, outputs.session_folder, settings=settings) as session:
        begin = 0 if first is None else first
        end = stack.n_frames - 1 if last is None else last
        if divisions:
            _find_and_divide(session, begin, end, size, every, report)
        else:
            reached = begin - 1
            with report("finding and following", end - begin + 1, "frames") as step:
                for update in find_and_follow(session, every, first=first, last=last, size=size):
                    if update.frame > reached:
                        step.advance(update.frame - reached)
                        reached = update.frame
        if not session.object_ids:
            raise InputError(
                f"no object was found in {stack.name}; give --size, the typical diameter in pixels, or say "
                "where objects are"
            )
        return _finish(session, outputs, report, start, inspect)


def follow_live(
    stack: Stack,
    model: Model,
    prompts: Iterable[Prompt],
    outputs: Outputs,
    *,
    settings: Settings | None = None,
    report: Reporter = quiet,
    tell: Callable[[str], object] | None = None,
    **waiting: Any,
) -> dict[str, Any]:
    """Follow objects forward through a stack that is being written, until it stops.

    Parameters
    ----------
    stack, model, prompts, outputs, settings, report
        As for `follow`.
    tell : callable, optional
        Called with what a person may want to know.
    **waiting
        How long to wait for what, as for `stacksam.watch`.

    Returns
    -------
    dict
        The summary, with why it ended.

    Raises
    ------
    SessionFileError, StorageError
        As `follow`.
    StackError
        If the stack shrinks, changes or cannot be read any more. What was followed stays.
    """
    from stacksam.session.session import Session
    from stacksam.session.watch import watch

    start = time.monotonic()
    with Session(stack, model, outputs.session_folder, settings=settings) as session:
        _give(session, prompts, outputs, report)
        number = len(session.object_ids)
        updates, ended = watch(session, tell=tell, **waiting), "stopped"
        with report(f"following {number} object{'s' if number != 1 else ''}", None, "masks") as step:
            while True:
                try:
                    next(updates)
                except StopIteration as stop:
                    ended = stop.value
                    break
                step.advance()
        return _finish(session, outputs, report, start, extra={"ended": ended})


def _find_and_divide(
    session: Session, begin: int, end: int, size: float | None, every: int, report: Reporter
) -> None:
    """Find objects and newcomers, and follow them and their daughters."""
    from stacksam.session.finding import estimate_size, find_objects

    guess = size is None and session.model.config.dense_head
    with report("finding", None, "frames") as step:
        for start in range(begin, end + 1, every) if every else (begin,):
            size = estimate_size(session, start) if guess else size
            if size is not None or not guess:
                session.add_found(find_objects(session, start, size=size))
            step.advance()
            if session.object_ids:
                break
        else:
            return

    def newcomers(frame: int) -> Sequence[Proposal]:
        due = every and frame > start and (frame - start) % every == 0
        return find_objects(session, frame, size=size) if due else ()

    _divide(session, start, end, report, newcomers)


def open_session_stack(path: Path, source: Path | None = None) -> Stack:
    """Open the stack of a saved session as the session saw it.

    Parameters
    ----------
    path : Path
        The session file.
    source : Path, optional
        Where the stack is now.
    """
    from stacksam.session.replay import read_session

    return reopen_stack(read_session(path)["stack"], source)


def session_model(path: Path) -> tuple[str, int | None]:
    """Name or path of the model that a saved session used, and its input size where that is to be told."""
    from stacksam.session.replay import read_session

    model = read_session(path)["model"]
    return str(model["name"]), None if model["name"] == "nano" else int(model["image_size"])


def replay_session(
    path: Path, stack: Stack, model: Model, outputs: Outputs, *, report: Reporter = quiet
) -> dict[str, Any]:
    """Do again what a saved session did, and write labels, overview and summary.

    Parameters
    ----------
    path : Path
        The session file.
    stack, model
        Of the session.
    outputs : Outputs
        Checked already; must hold no session.
    report : Reporter

    Returns
    -------
    dict
        The summary, as `follow` gives it.
    """
    from stacksam.session.replay import read_session, replay

    start = time.monotonic()
    actions = read_session(path)["actions"]
    todo = sum(len(a["objects"]) * a["steps"] for a in actions if a.get("do") == "propagate")
    with report(f"replaying {path.name}", todo, "masks") as step:
        session = replay(path, stack, model, outputs.session_folder, progress=lambda _: step.advance())
    with session:
        return _finish(session, outputs, report, start)


def _give(session: Session, prompts: Iterable[Prompt], outputs: Outputs, report: Reporter) -> None:
    """Add the prompts that a session does not have yet."""
    wanted = tuple(prompts)
    known = set(session.prompts)
    if known - set(wanted):
        raise SessionFileError(
            f"{outputs.folder} holds results of other prompts; repeat the command they were made with to go "
            "on, choose another folder with --out, or start afresh with --overwrite"
        )
    # What is said of one object on one frame stays together, and a few such answers are written at a time.
    places: dict[tuple[int, int], list[Prompt]] = {}
    for prompt in wanted:
        if prompt not in known:
            places.setdefault((prompt.frame, prompt.object_id), []).append(prompt)
    ordered = [places[key] for key in sorted(places)]
    with report("looking at the prompts", len(ordered), "prompts") as step:
        for start in range(0, len(ordered), _TOGETHER):
            group = ordered[start : start + _TOGETHER]
            session.add(*(prompt for place in group for prompt in place))
            step.advance(len(group))


def _propagate(
    session: Session, direction: Direction, first: int | None, last: int | None, report: Reporter
) -> None:
    """Follow all objects of a session."""
    number = len(session.object_ids)
    todo = session.work_left(direction, first=first, last=last)
    with report(f"following {number} object{'s' if number != 1 else ''}", todo, "masks") as step:
        for _ in session.propagate(direction, first=first, last=last):
            step.advance()


def _divide(
    session: Session,
    first: int | None,
    last: int | None,
    report: Reporter,
    newcomers: Callable[[int], Sequence[Proposal]] | None = None,
) -> None:
    """Follow all objects forward, and go on with daughters where they divide."""
    from stacksam.tracks.divisions import follow_with_divisions

    begin = 0 if first is None else first
    end = session.stack.n_frames - 1 if last is None else last
    with report("following and looking for divisions", end - begin + 1, "frames") as step:

        def new(_: Session, frame: int) -> list[NDArray[np.bool_]]:
            step.advance()
            found = newcomers(frame) if newcomers is not None else ()
            return [proposal.full_mask(session.stack.frame_shape) for proposal in found]

        for _ in follow_with_divisions(session, first=first, last=last, newcomers=new):
            pass


def _agree(session: Session, report: Reporter) -> dict[int, float]:
    """Take over what most axes agree on; how far they do, by object id. Not twice."""
    from stacksam.tracks.consensus import consensus

    if "set_masks" in session.history:  # an earlier run was stopped while it wrote its files
        return {}
    with report("following along the other axes", None, "masks") as step:
        found = consensus(session, progress=lambda _done, _total: step.advance())
    if found.masks:
        session.set_masks(*found.masks)
    return found.agreement


def _finish(
    session: Session,
    outputs: Outputs,
    report: Reporter,
    start: float,
    inspect: Inspect | None = None,
    agreement: Mapping[int, float] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write what a session has, and the summary, with what there is to tell besides."""
    shown = dict(inspect(session)) if inspect else {}
    written = outputs.write(session, report, **shown)
    model, scores = session.model, session.all_scores()
    reached = [one.frames for one in scores.values() if len(one)]
    summary = {
        "stack": session.stack.describe(),
        "model": {
            "name": model.name,
            "sha256": model.digest,
            "device": str(model.device),
            "dtype": str(model.dtype),
        },
        "first": min((int(frames[0]) for frames in reached), default=None),
        "last": max((int(frames[-1]) for frames in reached), default=None),
        "objects": [
            {"id": i, "frames": len(session.frames_of(i)), "seen_on": written.seen.get(i, 0)}
            | _estimate(scores.get(i))
            | ({"agreement": round(agreement[i], 4)} if agreement and i in agreement else {})
            | _evenness(session, i)
            for i in session.object_ids
        ],
        "divisions": sum(1 for _, count in session.lineage.out_degree() if count),
        "files": {kind: str(path) for kind, path in written.files.items()},
        "seconds": round(time.monotonic() - start, 2),
        **(extra or {}),
    }
    outputs.write_summary(summary)
    return summary


def _estimate(scores: FrameScores | None) -> dict[str, Any]:
    """The model's own estimate of an object's masks, where it was followed to and is seen."""
    if scores is None:
        return {}
    followed = np.flatnonzero(~scores.prompted & (scores.area > 0))
    if not followed.size:
        return {}
    values = scores.predicted_iou[followed]
    worst = int(values.argmin())
    told = {"mean": round(float(values.mean()), 4), "min": round(float(values[worst]), 4)}
    return {"predicted_iou": told | {"min_frame": int(scores.frames[followed[worst]])}}


def _evenness(session: Session, object_id: int) -> dict[str, Any]:
    """How evenly an object of a volume changes from slice to slice."""
    from stacksam.tracks.volume import smoothness

    if session.stack.frame_axis != "z":
        return {}
    found = smoothness(session, object_id)
    if not found.pairs:
        return {}
    figures = {"dice_mean": found.dice_mean, "dice_min": found.dice_min, "area_jump": found.area_jump}
    told = {name: round(value, 4) for name, value in figures.items()}
    return {"smoothness": told | {"worst_frame": found.worst, "gaps": found.gaps}}


def check_everything(
    stack: Stack, size: float | None, every: int | None, direction: Direction, *, asked: bool
) -> None:
    """See that options of finding everything are given with it, and can be used.

    Raises
    ------
    InputError
        If they are not.
    """
    from stacksam.session.finding import SIZES

    if not asked:
        for name, value in (("size", size), ("every", every)):
            if value is not None:
                raise InputError(f"--{name} is given without --everything; add that, or leave it out")
        return
    if direction == "backward":
        raise InputError("--everything follows forward; leave out --direction backward")
    if size is not None and not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"--size is {size:g}; give a diameter of {SIZES[0]} to {SIZES[1]} pixels")
    if every is not None and not 0 <= every <= stack.n_frames:
        raise InputError(f"--every is {every}; the stack has {stack.n_frames} frames, and 0 is for never")


def check_span(stack: Stack, first: int | None, last: int | None) -> None:
    """See that the frames to follow to are frames of the stack, in order.

    Raises
    ------
    InputError
        If they are not.
    """
    for name, frame in (("first", first), ("last", last)):
        if frame is not None and not 0 <= frame < stack.n_frames:
            raise InputError(f"--{name} {frame} is outside the stack; frames are 0 to {stack.n_frames - 1}")
    if first is not None and last is not None and first > last:
        raise InputError(f"--first {first} is after --last {last}; exchange them")

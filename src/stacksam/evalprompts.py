"""What a model is asked in an evaluation: prompts from the truth, clicks that correct, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.evaldata import Clip
from stacksam.metrics import BoolArray, box_of, click_of, corrective_click

if TYPE_CHECKING:
    from stacksam.session.models import Model

__all__ = [
    "CORRECTED",
    "METHODS",
    "PROMPT_KINDS",
    "Corrections",
    "Masks",
    "PromptKind",
    "Runner",
    "TruthPrompt",
    "corrections_of",
    "prompt_of",
    "session_runner",
    "split_method",
]

PromptKind = Literal["click", "box", "mask"]
PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)
CORRECTED = ("click+1", "click+3")
"""Clicks with corrective ones; other numbers are understood, too."""
METHODS: tuple[str, ...] = (*PROMPT_KINDS, *CORRECTED)
"""Ways of prompting that a full table has."""


@dataclass(frozen=True, slots=True, eq=False)
class TruthPrompt:
    """A prompt made from ground truth; it carries what the model may know and no more.

    Attributes
    ----------
    kind : {"click", "box", "mask"}
    frame, object_id : int
    value : (y, x), (y0, x0, y1, x1) with both corners inside, or bool array of shape (Y, X)
        By kind.
    positive : bool
        False for a click on what does not belong to the object.
    """

    kind: PromptKind
    frame: int
    object_id: int
    value: tuple[int, ...] | BoolArray
    positive: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """Clicks that follow the first prompts, each in answer to what came of those before.

    Attributes
    ----------
    rounds : int
        Clicks an object has at most.
    next : callable
        ``next(object_id, mask)`` gives the click that corrects the present mask of an object on the prompted
        frame, or None where there is nothing to correct.
    """

    rounds: int
    next: Callable[[int, BoolArray], TruthPrompt | None]


Masks: TypeAlias = Mapping[tuple[int, int], BoolArray]
"""Predicted masks by ``(object id, frame)``; what is missing is empty."""

Runner: TypeAlias = Callable[..., Masks]
"""``run(images, prompts, volume)`` segments the prompted objects on all frames of a clip.

For methods with corrections it gets ``corrections=``, :class:`Corrections`, too; for volumes whose files tell
how far planes, rows and columns lie apart, ``spacing=(z, y, x)``.
"""

NO_CORRECTIONS = Corrections(0, lambda *_: None)


def session_runner(model: str | Path | Model = "nano") -> Runner:
    """A runner that prompts and propagates with the model: one session for each clip.

    Parameters
    ----------
    model : str, Path or Model
        Name or path of a checkpoint, which is loaded once, here; or a model that is.
    """
    # Here, so that the baselines can be had without torch.
    from stacksam import Box, Mask, Point, Session, load_model, open_stack

    loaded = load_model(model) if isinstance(model, str | Path) else model

    def given(prompt: TruthPrompt) -> Point | Box | Mask:
        value: Any = prompt.value
        if prompt.kind == "click":
            return Point(frame=prompt.frame, object_id=prompt.object_id, yx=value, positive=prompt.positive)
        if prompt.kind == "box":
            return Box(frame=prompt.frame, object_id=prompt.object_id, yxyx=value)
        return Mask(frame=prompt.frame, object_id=prompt.object_id, mask=value)

    def run(
        images: NDArray[Any],
        prompts: Sequence[TruthPrompt],
        volume: bool,
        corrections: Corrections = NO_CORRECTIONS,
        spacing: tuple[float, float, float] | None = None,
    ) -> Masks:
        axis = "z" if volume else "t"
        axes = axis + ("yxc" if images.ndim == 4 else "yx")
        stack = open_stack(images, axes=axes, frame_axis=axis, spacing=spacing)
        with Session(stack, loaded) as session:
            session.add(*(given(prompt) for prompt in prompts))
            for _ in range(corrections.rounds):
                answers = [(p.object_id, session.mask(p.object_id, p.frame)) for p in prompts]
                clicks = [click for a in answers if (click := corrections.next(*a)) is not None]
                if not clicks:
                    break
                session.add(*(given(click) for click in clicks))
            if len(images) > 1:
                for _ in session.propagate(direction="both" if volume else "forward"):
                    pass  # The session keeps the masks.
            return {
                (prompt.object_id, frame): session.mask(prompt.object_id, frame)
                for prompt in prompts
                for frame in range(len(images))
            }

    return run


def prompt_of(clip: Clip, object_id: int, kind: PromptKind) -> TruthPrompt:
    """The prompt of a kind that the truth gives for an object."""
    mask = clip.labels[clip.prompted_frame] == object_id
    value = {"click": click_of, "box": box_of}[kind](mask) if kind != "mask" else mask
    return TruthPrompt(kind, clip.prompted_frame, object_id, value)


def split_method(method: str) -> tuple[PromptKind, int]:
    """``"click+3"`` is clicks, and three rounds of corrections.

    Raises
    ------
    InputError
        If there is no such kind, or what is corrected are not clicks.
    """
    kind, plus, rounds = method.partition("+")
    corrected = kind == "click" and rounds.isdecimal() and int(rounds) > 0
    if kind not in PROMPT_KINDS or (plus and not corrected):
        raise InputError(f"prompt kind {method!r} is unknown; choose from {', '.join(METHODS)}")
    return kind, int(rounds or 0)


def corrections_of(clip: Clip, rounds: int) -> Corrections:
    """Corrections that know the truth of a clip."""
    return Corrections(rounds, partial(_correction, clip))


def _correction(clip: Clip, object_id: int, mask: BoolArray) -> TruthPrompt | None:
    """The click that corrects a mask of the prompted frame."""
    frame = clip.prompted_frame
    click = corrective_click(clip.labels[frame] == object_id, mask)
    return None if click is None else TruthPrompt("click", frame, object_id, *click)

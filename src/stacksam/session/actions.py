"""What the user said, and the record of each thing the user did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from stacksam.errors import SessionFileError
from stacksam.session.prompts import Mask, Prompt, prompt_from_json, prompt_to_json

__all__ = ["Action", "Group", "Said", "grouped", "prompts_from_json", "prompts_to_json"]


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts for one object on one frame that were given together, and answered together."""

    prompts: tuple[Prompt, ...]
    choice: int | None = None  # the candidate that was chosen as the answer


@dataclass(frozen=True, slots=True)
class Said:
    """What holds for one object on one frame, in the order in which it was said."""

    groups: tuple[Group, ...]

    def prompts(self) -> list[Prompt]:
        """Prompts in force: a mask sweeps away what was said before it."""
        flat = [prompt for group in self.groups for prompt in group.prompts]
        last = max((i for i, prompt in enumerate(flat) if isinstance(prompt, Mask)), default=0)
        return flat[last:]

    def without(self, prompt: Prompt) -> Self | None:
        """All but one prompt, the newest of equal ones; None if it is not there."""
        for i in reversed(range(len(self.groups))):
            newest_first = list(self.groups[i].prompts[::-1])
            if prompt in newest_first:
                newest_first.remove(prompt)
                # The choice was among answers to these very prompts.
                rest = (Group(tuple(newest_first[::-1])),) if newest_first else ()
                return type(self)(self.groups[:i] + rest + self.groups[i + 1 :])
        return None

    def to_json(self) -> list[Any]:
        """As JSON types."""
        return [[[prompt_to_json(p) for p in group.prompts], group.choice] for group in self.groups]

    @classmethod
    def from_json(cls, data: Any, frame: int, object_id: int) -> Self:
        """Undo :meth:`to_json`.

        Raises
        ------
        SessionFileError
            If `data` is something else.
        """
        try:
            return cls(
                tuple(
                    Group(tuple(prompt_from_json(p, frame, object_id) for p in prompts), choice)
                    for prompts, choice in data
                )
            )
        except (TypeError, ValueError) as error:
            raise SessionFileError(
                f"what was said of object {object_id} on frame {frame} cannot be read: {error}"
            ) from error


@dataclass(slots=True)
class Action:
    """One thing the user did: its number, and the entries of the state that it changed."""

    number: int
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def change(self, key: str, before: Any, after: Any) -> None:
        """Note a changed entry of the state, in JSON types; None is for none."""
        first = self.changed[key][0] if key in self.changed else before
        self.changed[key] = (first, after)


def grouped(prompts: Sequence[Prompt]) -> tuple[Group, ...]:
    """Prompts for one object on one frame in groups that have one answer each: a mask is one for itself."""
    groups: list[list[Prompt]] = []
    for prompt in prompts:
        if not groups or isinstance(prompt, Mask) or isinstance(groups[-1][-1], Mask):
            groups.append([])
        groups[-1].append(prompt)
    return tuple(Group(tuple(group)) for group in groups)


def prompts_to_json(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """Prompts for any objects and frames in JSON types."""
    return [{"frame": p.frame, "object_id": p.object_id, **prompt_to_json(p)} for p in prompts]


def prompts_from_json(data: Sequence[dict[str, Any]]) -> list[Prompt]:
    """Undo :func:`prompts_to_json`; what is missing is a KeyError."""
    return [prompt_from_json(p, p["frame"], p["object_id"]) for p in data]

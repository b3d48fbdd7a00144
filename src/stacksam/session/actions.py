"""What the user told of objects, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from stacksam.errors import SessionFileError
from stacksam.session.prompts import Mask, Prompt, prompt_from_json, prompt_to_json

__all__ = ["Group", "Said", "Told", "grouped", "prompts_from_json", "prompts_to_json"]


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

    def of(self, frame: int, object_id: int) -> Self:
        """The same, said of another object."""
        return self.from_json(self.to_json(), frame, object_id)

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


@dataclass(frozen=True, slots=True)
class Told:
    """All that the user told of objects. It is replaced, never changed, so any thread may read it.

    Attributes
    ----------
    said : mapping of int to mapping of int to Said
        By object and frame.
    names : mapping of int to str
        Of the objects that were given one.
    removed : frozenset of int
        Ids that are not used again.
    parents : mapping of int to int
        Of the objects that have a parent: which one.
    rejected : frozenset of (int, int)
        Objects and frames of divisions that were proposed and are none.
    """

    said: Mapping[int, Mapping[int, Said]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    removed: frozenset[int] = frozenset()
    parents: Mapping[int, int] = field(default_factory=dict)
    rejected: frozenset[tuple[int, int]] = frozenset()

    def at(self, object_id: int, frame: int) -> Said | None:
        """What was said of an object on a frame."""
        return self.said.get(object_id, {}).get(frame)

    def conditioning(self, object_id: int) -> tuple[int, ...]:
        """Frames on which an object has prompts, in order."""
        return tuple(sorted(self.said.get(object_id, ())))

    def with_said(self, object_id: int, frame: int, said: Said | None) -> Self:
        """The same, but for one object on one frame."""
        own = {f: s for f, s in self.said.get(object_id, {}).items() if f != frame}
        if said is not None:
            own[frame] = said
        others = {i: frames for i, frames in self.said.items() if i != object_id}
        return replace(self, said={**others, object_id: own} if own else others)

    def with_name(self, object_id: int, name: str | None) -> Self:
        """The same, but for the name of one object."""
        others = {i: n for i, n in self.names.items() if i != object_id}
        return replace(self, names=others if name is None else {**others, object_id: name})

    def daughters(self, object_id: int) -> tuple[int, ...]:
        """Daughters of an object, in order."""
        return tuple(sorted(daughter for daughter, parent in self.parents.items() if parent == object_id))

    def with_parent(self, object_id: int, parent: int | None) -> Self:
        """The same, but for the parent of one object."""
        others = {i: p for i, p in self.parents.items() if i != object_id}
        return replace(self, parents=others if parent is None else {**others, object_id: parent})

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """From entries as :class:`stacksam.session.draft.Draft` writes them.

        Raises
        ------
        SessionFileError
            If one of them is something else.
        """
        said: dict[int, dict[int, Said]] = {}
        names, removed, parents, rejected = {}, set(), {}, set()
        for key, value in state.items():
            kind, *numbers = key.split(":")
            try:
                if kind == "prompts":
                    object_id, frame = (int(n) for n in numbers)
                    said.setdefault(object_id, {})[frame] = Said.from_json(value, frame, object_id)
                elif kind == "name":
                    names[int(numbers[0])] = str(value)
                elif kind == "parent":
                    parents[int(numbers[0])] = int(value)
                elif kind == "rejected":
                    rejected.add((int(numbers[0]), int(numbers[1])))
                elif kind == "removed":
                    removed.add(int(numbers[0]))
                else:
                    raise ValueError("this version does not know it")
            except (IndexError, TypeError, ValueError) as error:
                raise SessionFileError(f"what was said is damaged: {key!r}, {error}") from error
        return cls(said, names, frozenset(removed), parents, frozenset(rejected))


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

"""What the user said, and the record of each thing the user did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stacksam.session.prompts import Mask, Prompt, prompt_from_json, prompt_to_json

if TYPE_CHECKING:
    from stacksam.session.session import Session

__all__ = ["Action", "Said", "grouped"]


@dataclass(frozen=True, slots=True)
class Said:
    """What holds for one object on one frame: prompts in the order and the groups they were given in."""

    groups: tuple[tuple[Prompt, ...], ...]
    choice: int | None = None  # candidate taken for the last group

    def prompts(self) -> list[Prompt]:
        """Prompts in force: a mask sweeps away what was said before it."""
        flat = [p for group in self.groups for p in group]
        last = max((i for i, p in enumerate(flat) if isinstance(p, Mask)), default=0)
        return flat[last:]

    def to_json(self) -> dict[str, Any]:
        return {
            "groups": [[prompt_to_json(p) for p in group] for group in self.groups],
            "choice": self.choice,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], frame: int, object_id: int) -> Said:
        groups = tuple(
            tuple(prompt_from_json(p, frame, object_id) for p in group) for group in data["groups"]
        )
        return cls(groups, data["choice"])


class Action:
    """One thing the user did: collects what it changes, and writes all of it or nothing."""

    def __init__(self, session: Session, name: str, arguments: dict[str, Any], number: int = 0) -> None:
        self.session, self.name, self.arguments, self.number = session, name, arguments, number
        self.changed: dict[str, list[Any]] = {}
        self.frames: set[int] = set()

    def change(self, key: str, before: Any, after: Any) -> None:
        """Note a changed entry of the state."""
        first = self.changed[key][0] if key in self.changed else before
        self.changed[key] = [first, after]

    def __enter__(self) -> Action:
        store = self.session._store
        self._transaction = store.transaction()
        self._transaction.__enter__()
        self.number = self.session._begin(self.name, self.arguments).number
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        session = self.session
        store = session._store
        try:
            if kind is None:
                for key, (_, after) in self.changed.items():
                    store.set_state(key, after)
                store.write_action(self.number, {"do": self.name, **self.arguments}, self.changed)
                store.mark_dirty(self.frames)
            self._transaction.__exit__(kind, error, trace)
        except BaseException:
            session._load_state()
            raise
        if kind is None:
            session._refresh_labels(sorted(self.frames))
        else:
            session._load_state()


def grouped(prompts: Sequence[Prompt]) -> dict[str, Any]:
    return {
        "prompts": [
            {"frame": p.frame, "object_id": p.object_id, **prompt_to_json(p)} for p in prompts
        ]
    }  # fmt: skip

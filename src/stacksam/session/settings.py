"""Choices that a session is made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from stacksam.errors import InputError

__all__ = ["Canvas", "Scope", "Settings"]

Scope = Literal["auto", "full", "window"]
Canvas = Literal["frame", "native"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices that change results or resources of a session.

    Attributes
    ----------
    max_conditioning : int, optional
        How many of the nearest conditioning frames a frame attends to; all, as the official predictor, by
        default.
    fill_holes : int
        Enclosed holes of up to this many of the network's mask pixels are filled in what is shown and saved;
        the official predictor's 8 by default, 0 for none.
    cache_bytes : int
        Bound of the cache of encoded frames in memory.
    disk_cache_bytes : int
        Bound of the cache of encoded frames in the session's folder, in which frames are found again that
        memory has no room for, also by a later session; 0, none, by default.
    batch : int
        Objects that are computed at once; fewer where each sees much of a frame.
    max_memory : int, optional
        Bytes that the program may take in all. The cache gets smaller and fewer objects are computed at once
        where that is needed; none by default. See :func:`stacksam.session.needs.fitting`.
    scope : {"auto", "full", "window"}
        How much of a frame an object sees when it is followed by an official model: a window around it where
        it is small against the frame, else everything; always everything, as the official predictor and by
        default; or always a window, if one holds it. No matter for ``nano``, which has windows of its own
        kind.
    canvas : {"frame", "native"}
        What an official model sees a frame as: squeezed to its input, as the official predictor and by
        default; or, for objects that are small on that, tiles of the frame at a scale that suits them, in
        which they always see windows. No matter for ``nano``, which always chooses a scale.
    find_ends : bool
        In depth, look across the planes where an object that ``nano`` follows ends, and do not follow it
        beyond; see :mod:`stacksam.session.ends`. No matter for official models, and live stacks have no ends.

    Raises
    ------
    InputError
        If scope or canvas is none of these.
    """

    max_conditioning: int | None = None
    fill_holes: int = 8
    cache_bytes: int = 64 * 2**20
    disk_cache_bytes: int = 0
    batch: int = 16
    max_memory: int | None = None
    scope: Scope = "full"
    canvas: Canvas = "frame"
    find_ends: bool = True

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise InputError(f"scope is {self.scope!r}; use 'auto', 'full' or 'window'")
        if self.canvas not in get_args(Canvas):
            raise InputError(f"canvas is {self.canvas!r}; use 'frame' or 'native'")

    def to_json(self, *, windowed: bool) -> dict[str, Any]:
        """Those that change the results of a model, `windowed` or not."""
        chosen: dict[str, Any] = {"max_conditioning": self.max_conditioning, "fill_holes": self.fill_holes}
        if windowed and self.find_ends:  # older files, which say nothing, mean no
            chosen["find_ends"] = True
        if not windowed:
            chosen["scope"] = self.scope
            if self.canvas != "frame":  # what older files mean by saying nothing
                chosen["canvas"] = self.canvas
        return chosen

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_json`; what it does not tell is as it was before there was a choice."""
        return cls(**{"scope": "full", "find_ends": False, **data})

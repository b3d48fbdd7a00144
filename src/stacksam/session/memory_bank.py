"""Which memories a frame attends to, and where they are kept.

The rule of the SAM 2 video predictor (Ravi et al., 2024, section 4 and appendix C): every
conditioning frame, or the nearest few; the last frames in the direction of propagation; and the object
pointers of those and a few more. The choice is a pure function of frame indices, so that the bank can
be pruned, tested and drawn without a network.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from stacksam.session.canvas import View


@dataclass(frozen=True, slots=True)
class MemoryChoice:
    """Memories that one frame attends to, nearest last.

    Attributes
    ----------
    conditioning : tuple of int
        Frames whose memories are attended without temporal order.
    recent : tuple of (int, int)
        ``(frame, age)`` of propagated memories; age 1 is the frame just before, in the
        direction of propagation.
    pointers : tuple of (int, int)
        ``(frame, distance)`` of object pointers; the distance is signed along the direction of
        propagation.
    """

    conditioning: tuple[int, ...]
    recent: tuple[tuple[int, int], ...]
    pointers: tuple[tuple[int, int], ...]


def choose_memories(
    frame: int,
    conditioning: Collection[int],
    propagated: Collection[int],
    *,
    step: int = 1,
    max_conditioning: int | None = None,
    max_recent: int = 6,
    max_pointers: int = 16,
) -> MemoryChoice:
    """Choose the memories for one object on one frame.

    Parameters
    ----------
    frame : int
        The frame to be segmented.
    conditioning, propagated : collection of int
        Frames of this object that have a memory, from prompts and from propagation.
    step : {1, -1}
        Direction of propagation.
    max_conditioning : int, optional
        Nearest conditioning frames to keep; all of them by default.
    max_recent, max_pointers : int
        Limits on propagated memories and on object pointers.

    Raises
    ------
    ValueError
        If `step` is not 1 or -1, or `conditioning` is empty: an object without a prompt has nothing to
        be followed from.
    """
    if step not in (1, -1):
        raise ValueError(f"step is {step!r}; use 1 (forward) or -1 (backward)")
    if not conditioning:
        raise ValueError("the object has no conditioning frame; add a prompt before propagating")

    chosen = _nearest(frame, conditioning, max_conditioning)
    # A conditioning frame that was not chosen still counts as a recent one.
    available = (set(propagated) | set(conditioning)) - set(chosen)

    recent = tuple(
        (frame - step * age, age) for age in range(max_recent, 0, -1) if frame - step * age in available
    )
    # Pointers of conditioning frames that lie ahead are left out: they would tell the future.
    past = tuple((f, step * (frame - f)) for f in chosen if step * (frame - f) >= 0)
    others = tuple(
        (frame - step * distance, distance)
        for distance in range(1, max_pointers)
        if frame - step * distance in available
    )
    return MemoryChoice(chosen, recent, past + others)


def _nearest(frame: int, frames: Collection[int], limit: int | None) -> tuple[int, ...]:
    """The `limit` frames nearest to `frame`: always the last before it and the first from it on."""
    ordered = sorted(frames)
    if limit is None or len(ordered) <= limit:
        return tuple(ordered)
    before = [f for f in ordered if f < frame][-1:]
    after = [f for f in ordered if f >= frame][:1]
    kept = (before + after)[:limit]
    rest = sorted((f for f in ordered if f not in kept), key=lambda f: abs(f - frame))
    return tuple(sorted(kept + rest[: limit - len(kept)]))


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What is remembered of one object on one frame.

    Attributes
    ----------
    spatial : (memory_width, H, W) bfloat16 tensor
        None where only the pointer is needed still.
    pointer : (C,) float32 tensor
    view : View, optional
        What `spatial` is of; not told of windows of their own kind, which have no places on a canvas.
    """

    spatial: Tensor | None
    pointer: Tensor
    view: View | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens of `spatial`."""
        return 0 if self.spatial is None else self.spatial[0].numel()


class MemoryBank:
    """Memories that are at hand, of all objects; whatever is missing is rebuilt from its record.

    The bank holds the conditioning frames of each object and a stretch around the frame in progress, so its
    size does not depend on how many frames there are.
    """

    def __init__(self, max_recent: int, max_pointers: int) -> None:
        self.max_recent = max_recent
        self.max_pointers = max_pointers
        self._memories: dict[int, dict[int, Memory]] = {}

    def get(self, object_id: int, frame: int) -> Memory | None:
        """The memory, if it is at hand."""
        return self._memories.get(object_id, {}).get(frame)

    def put(self, object_id: int, frame: int, memory: Memory) -> None:
        """Keep a memory."""
        self._memories.setdefault(object_id, {})[frame] = memory

    def forget(self, object_id: int, frames: Collection[int] | None = None) -> None:
        """Drop the memories of some frames, or of all."""
        if frames is None:
            self._memories.pop(object_id, None)
        for frame in frames or ():
            self._memories.get(object_id, {}).pop(frame, None)

    def clear(self) -> None:
        """Drop all memories."""
        self._memories.clear()

    def prune(self, object_id: int, frame: int, keep: Collection[int]) -> None:
        """Drop what a pass that stands at `frame` no longer needs, except frames to `keep`."""
        own = self._memories.get(object_id, {})
        for other in [f for f in own if f not in keep]:
            distance = abs(other - frame)
            if distance >= self.max_pointers:
                del own[other]
            elif distance > self.max_recent and own[other].spatial is not None:
                own[other] = Memory(None, own[other].pointer)

    def __len__(self) -> int:
        return sum(len(own) for own in self._memories.values())

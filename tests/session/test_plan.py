"""Rules over frame numbers agree with plain statements, and memories are chosen by the official one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacksam.errors import InputError
from stacksam.session.memory_bank import choose_memories
from stacksam.session.plan import Scope, behind, depending, reaches

N = 14
some = st.sets(st.integers(0, N - 1), max_size=5)


@given(
    changed=some,
    sources=st.dictionaries(st.integers(0, N - 1), st.lists(st.integers(0, N - 1), max_size=4), max_size=N),
    locked=some,
)
def test_what_depends_is_what_can_be_reached_without_crossing_a_locked_frame(changed, sources, locked):
    found = set()
    for _ in range(N):  # as long as a chain can be
        for frame, used in sources.items():
            for source in used if frame not in locked else ():
                between = range(min(source, frame) + 1, max(source, frame))
                if source in changed | found and not locked & set(between):
                    found.add(frame)
    assert depending(changed, sources, locked) == sorted(found)


def test_a_chain_of_dependence_ends_at_a_locked_frame():
    chain = {f: [0, f - 1, f - 2] for f in range(2, 10)} | {1: [0]}
    assert depending([0], chain, ()) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert depending([3], chain, ()) == [4, 5, 6, 7, 8, 9]
    del chain[5]  # a locked frame depends on nothing
    assert depending([3], chain, [5]) == [4]
    assert depending([5], chain, [5]) == [6, 7, 8, 9]  # but others on it, if the user changes it
    assert depending([], chain, ()) == []


def test_long_chains_are_quick():
    n = 20_000
    sources = {f: list(range(max(0, f - 15), f)) for f in range(1, n)}
    assert len(depending([0], sources, set(range(0, n, 5000)))) == 4999


@given(conditioning=some, frame=st.integers(0, N - 1), step=st.sampled_from([1, -1]))
def test_an_object_is_followed_beyond_its_prompts(conditioning, frame, step):
    assert reaches(conditioning, frame, step) == any(step * (frame - c) > 0 for c in conditioning)


@given(
    direction=st.sampled_from(["forward", "backward", "both"]),
    first=st.integers(0, N - 1),
    length=st.integers(0, N),
    conditioning=some,
)
def test_a_scope_visits_what_can_be_reached(direction, first, length, conditioning):
    scope = Scope(direction, (1,), first, min(N - 1, first + length))
    order = list(scope.order())
    frames = range(scope.first, scope.last + 1)
    forward, backward = [(1, f) for f in frames], [(-1, f) for f in reversed(frames)]
    assert order == {"forward": forward, "backward": backward, "both": forward + backward}[direction]
    visited = {frame for step, frame in order if reaches(conditioning, frame, step)}
    assert scope.reached(conditioning) == sorted(visited)


def test_a_scope_is_checked():
    with pytest.raises(InputError, match="give first <= last"):
        Scope("both", (1,), 3, 2)
    with pytest.raises(InputError, match="use 'forward', 'backward' or 'both'"):
        Scope("up", (1,), 0, 2)


def official_memories(frame, conditioning, propagated, step, limit, max_pointers):
    """The rule as the official predictor states it, loop by loop, in terms of its own dictionaries."""
    reverse = step < 0
    # Conditioning frames: all, or the closest before, the closest after, and then by distance.
    if limit is None or len(conditioning) <= limit:
        selected = dict.fromkeys(conditioning, "cond")
    else:
        selected = {}
        before = max((t for t in conditioning if t < frame), default=None)
        if before is not None:
            selected[before] = "cond"
        after = min((t for t in conditioning if t >= frame), default=None)
        if after is not None:
            selected[after] = "cond"
        remaining = sorted((t for t in conditioning if t not in selected), key=lambda t: abs(t - frame))
        selected.update((t, "cond") for t in remaining[: limit - len(selected)])
    unselected = {t for t in conditioning if t not in selected}

    recent = []
    for t_pos in range(1, 7):
        t_rel = 7 - t_pos
        if t_rel == 1:
            previous = frame + t_rel if reverse else frame - t_rel
        elif reverse:
            previous = -(-(frame + 2) // 1) + (t_rel - 2)
        else:
            previous = ((frame - 2) // 1) - (t_rel - 2)
        if previous in propagated or previous in unselected:
            recent.append((previous, t_rel))

    sign = -1 if reverse else 1
    pointers = [
        (t, (frame - t) * sign) for t in selected if (t >= frame if reverse else t <= frame)
    ]  # only from the past
    for t_diff in range(1, max_pointers):
        t = frame + t_diff if reverse else frame - t_diff
        if t < 0:
            break
        if t in propagated or t in unselected:
            pointers.append((t, t_diff))
    return set(selected), recent, pointers


@given(
    frame=st.integers(0, 40),
    conditioning=st.sets(st.integers(0, 40), min_size=1, max_size=8),
    propagated=st.sets(st.integers(0, 40), max_size=40),
    step=st.sampled_from([1, -1]),
    limit=st.none() | st.integers(2, 6),
    max_pointers=st.integers(1, 16),
)
def test_memories_are_chosen_by_the_official_rule(frame, conditioning, propagated, step, limit, max_pointers):
    propagated = propagated - conditioning
    choice = choose_memories(
        frame, conditioning, propagated, step=step, max_conditioning=limit, max_pointers=max_pointers
    )
    selected, recent, pointers = official_memories(frame, conditioning, propagated, step, limit, max_pointers)
    assert set(choice.conditioning) == selected
    assert list(choice.recent) == recent
    assert sorted(choice.pointers) == sorted(pointers)


@given(
    frame=st.integers(0, 40),
    conditioning=st.sets(st.integers(0, 40), min_size=1, max_size=8),
    propagated=st.sets(st.integers(0, 40), max_size=40),
    step=st.sampled_from([1, -1]),
)
def test_the_nearest_frame_behind_is_a_remembered_one(frame, conditioning, propagated, step):
    if not reaches(conditioning - {frame}, frame, step):
        return
    choice = choose_memories(frame, conditioning - {frame}, propagated - conditioning - {frame}, step=step)
    found = behind(choice, frame, step)
    assert step * (frame - found) > 0
    assert found in conditioning | propagated
    nearer = range(found + step, frame, step)
    assert not set(nearer) & conditioning
    assert not {f for f in nearer if abs(f - frame) < 16} & propagated

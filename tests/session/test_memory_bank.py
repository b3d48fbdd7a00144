"""The choice of memories stays within its limits and never looks ahead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacksam.session.memory_bank import choose_memories

frames = st.sets(st.integers(0, 200), max_size=40)


@given(
    frame=st.integers(0, 200),
    conditioning=st.sets(st.integers(0, 200), min_size=1, max_size=10),
    propagated=frames,
    step=st.sampled_from([1, -1]),
    limit=st.none() | st.integers(2, 8),
)
def test_choice_is_bounded_and_causal(frame, conditioning, propagated, step, limit):
    propagated = propagated - conditioning
    choice = choose_memories(frame, conditioning, propagated, step=step, max_conditioning=limit)

    assert set(choice.conditioning) <= conditioning
    assert len(choice.conditioning) <= (limit or len(conditioning))
    assert len(choice.recent) <= 6
    assert [age for _, age in choice.recent] == sorted((age for _, age in choice.recent), reverse=True)
    assert all(f == frame - step * age and 1 <= age <= 6 for f, age in choice.recent)
    assert all(distance >= 0 for _, distance in choice.pointers)
    assert len(choice.pointers) <= len(choice.conditioning) + 15


def test_nearest_conditioning_frames_straddle_the_frame():
    choice = choose_memories(10, {0, 8, 30, 40}, (), max_conditioning=2)
    assert choice.conditioning == (8, 30)


@pytest.mark.parametrize("step", [0, 2])
def test_direction_must_be_forward_or_backward(step):
    with pytest.raises(ValueError, match="use 1"):
        choose_memories(1, {0}, (), step=step)


def test_an_object_without_prompts_is_an_error():
    with pytest.raises(ValueError, match="add a prompt"):
        choose_memories(1, (), {0})

"""A window sees what the whole canvas has in it, at its true place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stacksam.network.config import HieraConfig, NetworkConfig
from stacksam.network.layers import rope_table, sine_positions_2d
from stacksam.network.sam2 import Features, Memories, Sam2
from stacksam.network.windows import Window, cut, places

CPU = torch.device("cpu")
GRID, WIDTH, MEMORY = 8, 32, 16
WHOLE = Window(0, 0, GRID)
CONFIG = NetworkConfig(
    trunk=HieraConfig(width=8, depths=(1, 1, 1, 1), global_blocks=()),
    image_size=16 * GRID,
    width=WIDTH,
    memory_width=MEMORY,
    memory_layers=2,
    memory_hidden=32,
    decoder_hidden=32,
    decoder_heads=2,
)
WINDOWS = [Window(1, 3, 4), Window(4, 0, 4), Window(2, 2, 4)]


@st.composite
def windows(draw: st.DrawFn) -> Window:
    side = draw(st.integers(1, GRID))
    return Window(draw(st.integers(0, GRID - side)), draw(st.integers(0, GRID - side)), side)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> Sam2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Sam2(CONFIG)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features() -> Features:
    return Features(
        normal(1, WIDTH // 8, 4 * GRID, 4 * GRID, seed=1),
        normal(1, WIDTH // 4, 2 * GRID, 2 * GRID, seed=2),
        normal(1, WIDTH, GRID, GRID, seed=3),
    )


def memories_of(objects: int, ages: tuple[int, ...], kept: list[list[Window]] | None = None) -> Memories:
    """Memories of whole canvases or, where told, of what windows show of them; the same weights of chance."""
    spatial = normal(objects, len(ages), MEMORY, GRID, GRID, seed=4).to(torch.bfloat16)
    rest = normal(objects, 2, WIDTH, seed=5), torch.tensor([[1.0, 3.0]]).expand(objects, -1), 15
    if kept is None:
        return Memories(spatial, torch.tensor([ages]).expand(objects, -1), *rest)
    tokens = [
        torch.cat([cut(spatial[i, m : m + 1], [w])[0].flatten(1).T for m, w in enumerate(own)])
        for i, own in enumerate(kept)
    ]
    times = [[age for age, w in zip(ages, own, strict=True) for _ in range(w.side**2)] for own in kept]
    return Memories(torch.stack(tokens), torch.tensor(times), *rest, tuple(map(tuple, kept)))


def row(memories: Memories, i: int) -> Memories:
    """What one object remembers."""
    one = slice(i, i + 1)
    return Memories(
        memories.spatial[one],
        memories.ages[one],
        memories.pointers[one],
        memories.distances[one],
        memories.horizon,
        None if memories.windows is None else memories.windows[one],
    )


def assert_same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@given(window=windows())
def test_positions_of_a_window_are_those_of_the_canvas(window: Window) -> None:
    row, column, side = window
    inside = slice(row, row + side), slice(column, column + side)
    index = places([window], GRID, CPU)
    table = rope_table(GRID, GRID, WIDTH, CPU)
    assert torch.equal(table[index].view(side, side, -1), table.view(GRID, GRID, -1)[inside])
    positions = sine_positions_2d(GRID, GRID, WIDTH, CPU)
    assert torch.equal(cut(positions, [window]), positions[:, :, *inside])
    assert torch.equal(
        positions[0].flatten(1).T[index], cut(positions, [window])[0].flatten(1).T
    )  # tokens lie in the same order as cells


@given(several=st.lists(windows(), min_size=1, max_size=4))
def test_places_of_several_windows_lie_one_after_the_other(several: list[Window]) -> None:
    found = places(several, GRID, CPU)
    assert torch.equal(found, torch.cat([places([window], GRID, CPU) for window in several]))


def test_equal_windows_share_one_row(features: Features) -> None:
    assert all(len(level) == 1 for level in features.cut([WINDOWS[0]] * 3))
    assert all(len(level) == 3 for level in features.cut(WINDOWS))
    assert features.cut(None) == features
    for level, scale in zip(features.cut(WINDOWS), (4, 2, 1), strict=True):
        assert level.shape[2:] == (4 * scale, 4 * scale)


def test_a_window_that_spans_the_canvas_is_the_canvas(network: Sam2, features: Features) -> None:
    whole, spanning = memories_of(2, (0, 2, 1)), memories_of(2, (0, 2, 1), [[WHOLE] * 3] * 2)
    top = network.condition(features, whole)
    assert torch.equal(network.condition(features, spanning, [WHOLE] * 2), top)
    points, labels, logits = normal(2, 2, 2) + 64, torch.tensor([[1, 0], [1, -1]]), normal(2, 1, 32, 32)
    for candidates in (True, False):
        one, other = (
            network.decode_masks(features, top, points, labels, logits, candidates=candidates, windows=seen)
            for seen in (None, [WHOLE] * 2)
        )
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    score = torch.ones(2, 1)
    for binarise in (True, False):
        one, other = (
            network.encode_memory(features, logits, score, binarise=binarise, windows=seen)
            for seen in (None, [WHOLE] * 2)
        )
        assert torch.equal(one, other)


def test_memories_in_pieces_are_attended_at_their_true_places(network: Sam2, features: Features) -> None:
    """A whole memory cut into windows holds the same tokens at the same places, in another order."""
    pieces = [Window(r, c, 4) for r in (4, 0) for c in (0, 4)]
    whole = memories_of(1, (2,))
    tokens = torch.cat([cut(whole.spatial[:, 0], [w])[0].flatten(1).T for w in pieces])
    cut_up = whole._replace(
        spatial=tokens[None], ages=torch.full((1, len(tokens)), 2), windows=(tuple(pieces),)
    )
    expected = network.condition(features, whole)
    assert_same(network.condition(features, cut_up), expected)
    moved = cut_up._replace(windows=((*pieces[1:], pieces[0]),))
    assert (network.condition(features, moved) - expected).abs().max() > 1e-4


def test_a_window_attends_from_its_true_place(network: Sam2, features: Features) -> None:
    """The same tokens by hand: cut out of the whole canvas's, with the rotations that they have there."""
    memories, (row, column, side) = memories_of(1, (0, 1)), WINDOWS[0]
    inside = slice(row, row + side), slice(column, column + side)
    frame = features.top + 0.1 * sine_positions_2d(GRID, GRID, WIDTH, CPU)
    table = rope_table(GRID, GRID, WIDTH, CPU).view(GRID, GRID, -1)[inside].flatten(0, 1)
    tokens, positions, memory_table, pointers = network._memory_tokens(memories, (GRID, GRID), torch.float32)
    expected = network.memory_attention(
        frame[:, :, *inside].flatten(2).transpose(1, 2), table, tokens, positions, memory_table, pointers
    )
    found = network.condition(features, memories, WINDOWS[:1])
    assert_same(found.flatten(2).transpose(1, 2), expected)
    elsewhere = network.condition(
        Features(features.fine, features.middle, features.top.roll((1, 1), (2, 3))),
        memories,
        [Window(row + 1, column + 1, side)],
    )
    assert (elsewhere - found).abs().max() > 1e-4  # the same features at another place are another thing


def test_objects_in_windows_are_independent(network: Sam2, features: Features) -> None:
    """Also where their memories are of other sides, and as many tokens come together in another way."""
    sides = [[4, 2, 2], [2, 4, 2], [2, 2, 4]]
    kept = [[Window(m, 4 - m, side) for m, side in enumerate(own)] for own in sides]
    memories = memories_of(3, (0, 2, 1), kept)
    logits, score = normal(3, 1, 16, 16), torch.tensor([[1.0], [-1.0], [2.0]])
    top = network.condition(features, memories, WINDOWS)
    masks = network.decode_masks(features, top, logits=logits, candidates=True, windows=WINDOWS)
    memory = network.encode_memory(features, logits, score, binarise=False, windows=WINDOWS)
    assert masks.logits.shape == (3, 3, 16, 16)
    assert memory.shape == (3, MEMORY, 4, 4)
    for i in range(3):
        one, own = slice(i, i + 1), WINDOWS[i : i + 1]
        alone = network.condition(features, row(memories, i), own)
        assert_same(top[one], alone)
        answer = network.decode_masks(features, alone, logits=logits[one], candidates=True, windows=own)
        for a, b in zip(masks, answer, strict=True):
            assert_same(a[one], b)
        again = network.encode_memory(features, logits[one], score[one], binarise=False, windows=own)
        torch.testing.assert_close(memory[one], again, rtol=2**-7, atol=1e-4)


def test_positions_of_tokens_are_kept_until_the_weights_change(network: Sam2) -> None:
    encoder = network.sam_prompt_encoder
    matrix = encoder.pe_layer.get_buffer("positional_encoding_gaussian_matrix")
    with torch.no_grad():
        before = encoder.positions((GRID, GRID))
        assert encoder.positions((GRID, GRID)) is before
        matrix.mul_(2)
        changed = encoder.positions((GRID, GRID))
        matrix.div_(2)
        assert not torch.equal(changed, before)
        assert torch.equal(encoder.positions((GRID, GRID)), before)

"""Properties that the network's parts have for any weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stacksam.network.config import PRESETS, ConvTrunkConfig, HieraConfig, NetworkConfig
from stacksam.network.layers import (
    Attention,
    LayerNorm2d,
    rope_table,
    rotate,
    sine_positions_1d,
    sine_positions_2d,
)
from stacksam.network.mask_decoder import stability
from stacksam.network.prompt_encoder import (
    BOX_FIRST,
    BOX_SECOND,
    NEGATIVE,
    PADDING,
    POSITIVE,
    prompt_maps,
)
from stacksam.network.sam2 import ABSENT_LOGIT, Features, Memories, Sam2
from stacksam.network.trunk_conv import ConvTrunk
from stacksam.network.trunk_hiera import Hiera

CPU = torch.device("cpu")
sides = st.integers(1, 9)

SMALL = NetworkConfig(
    trunk=HieraConfig(width=8, depths=(1, 1, 2, 1), global_blocks=(3,), windows=(8, 4, 14, 7)),
    image_size=128,
    width=32,
    memory_width=16,
    memory_layers=2,
    memory_hidden=32,
    decoder_hidden=32,
    decoder_heads=2,
)
CONV = replace(
    SMALL,
    trunk=ConvTrunkConfig(widths=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
    dense_prompts=True,
    dense_head=True,
    top_down=True,
    refine=True,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network_of(config: NetworkConfig) -> Sam2:
    """A network without zeros among its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Sam2(config)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[SMALL, CONV], ids=["hiera", "conv"])
def network(request: pytest.FixtureRequest) -> Sam2:
    return network_of(request.param)


def features_of(network: Sam2, batch: int, seed: int = 0) -> Features:
    size = network.config.image_size
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return network.encode_image(images)


def memories_of(network: Sam2, objects: int, ages: list[int], pointers: int = 3) -> Memories:
    grid, config = network.config.image_size // 16, network.config
    return Memories(
        normal(objects, len(ages), config.memory_width, grid, grid, seed=1).to(torch.bfloat16),
        torch.tensor([ages]).expand(objects, -1),
        normal(objects, pointers, config.width, seed=2),
        torch.arange(1, pointers + 1).expand(objects, -1),
        15,
    )


def assert_same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# --- positions ---------------------------------------------------------------------------------------------


@given(height=sides, width=sides, quarters=st.integers(1, 8))
def test_rotation_keeps_lengths(height: int, width: int, quarters: int) -> None:
    x = normal(2, height * width, 4 * quarters)
    turned = rotate(x, rope_table(height, width, 4 * quarters, CPU))
    assert turned.shape == x.shape
    assert_same(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, 0], x[:, 0])  # the first token lies at the origin


@given(height=st.integers(2, 6), width=st.integers(2, 6))
def test_rotated_products_depend_on_displacement_alone(height: int, width: int) -> None:
    table = rope_table(height, width, 16, CPU)
    q, k = (rotate(normal(16, seed=seed).expand(height * width, 16), table) for seed in (0, 1))
    products = (q @ k.T).view(height, width, height, width)
    assert_same(products[:-1, :, :-1, :], products[1:, :, 1:, :])
    assert_same(products[:, :-1, :, :-1], products[:, 1:, :, 1:])
    assert not torch.allclose(products[0, 0, 0, 1], products[0, 0, 1, 0])  # x and y turn different channels


def test_a_table_serves_several_memories_in_turn() -> None:
    table = rope_table(2, 3, 8, CPU)
    x = normal(1, 18, 8)
    assert torch.equal(
        rotate(x, table), torch.cat([rotate(part, table) for part in x.split(6, dim=1)], dim=1)
    )


@given(height=sides, width=sides)
def test_sine_positions_of_a_grid(height: int, width: int) -> None:
    table = sine_positions_2d(height, width, 16, CPU)
    assert table.shape == (1, 16, height, width)
    assert table.dtype == torch.float32
    assert table.abs().max() <= 1
    y, x = table[0, :8], table[0, 8:]  # y first
    assert torch.equal(y, y[:, :, :1].expand_as(y))
    assert torch.equal(x, x[:, :1].expand_as(x))
    assert torch.equal(sine_positions_2d(width, height, 16, CPU)[0, :8], x.transpose(1, 2))
    assert len(table[0].flatten(1).T.unique(dim=0)) == height * width


def test_sine_positions_of_numbers() -> None:
    values = torch.tensor([[0.0, 0.5], [-0.5, 1.0]])
    table = sine_positions_1d(values, 8)
    assert table.shape == (2, 2, 8)
    assert torch.equal(table[0, 0], torch.tensor([0.0] * 4 + [1.0] * 4))
    assert_same(table[..., 0], values.sin())
    assert_same(table[1, 0, :4], -table[0, 1, :4])


# --- small parts -------------------------------------------------------------------------------------------


@given(channels=st.integers(1, 8), height=sides, width=sides)
def test_layer_norm_normalises_channels(channels: int, height: int, width: int) -> None:
    norm = LayerNorm2d(channels)
    weight, bias = normal(channels, seed=1), normal(channels, seed=2)
    norm.load_state_dict({"weight": weight, "bias": bias})
    x = normal(2, channels, height, width)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    expected = (x - mean) / (variance + norm.eps).sqrt() * weight[:, None, None] + bias[:, None, None]
    torch.testing.assert_close(norm(x), expected, rtol=1e-3, atol=1e-3)


@given(heads=st.sampled_from([1, 2, 4]), memories=st.integers(1, 6))
def test_attention_is_a_weighted_mean_of_values(heads: int, memories: int) -> None:
    attention = Attention(16, heads, inner=8, memory_width=4).eval()
    with torch.no_grad():
        q, k = normal(2, 5, 16), normal(2, memories, 4, seed=1)
        same = normal(2, 1, 4, seed=2).expand(2, memories, 4)
        out = attention(q, k, same)
        assert out.shape == (2, 5, 16)
        # Equal values come out whatever the weights are.
        assert_same(out, attention.out_proj(attention.v_proj(same[:, :1])).expand(2, 5, 16))
        order = torch.randperm(memories, generator=torch.Generator().manual_seed(3))
        values = normal(2, memories, 4, seed=4)
        assert_same(attention(q, k, values), attention(q, k[:, order], values[:, order]))


@pytest.mark.parametrize(("queries", "keys"), [(256, 7), (7, 256), (7, 7)])
def test_attention_in_bfloat16_is_that_in_float32(queries: int, keys: int) -> None:
    torch.manual_seed(0)
    attention = Attention(32, 8).eval()
    q, k = torch.randn(2, queries, 32), torch.randn(2, keys, 32)
    with torch.no_grad():
        exact = attention(q, k, k)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = attention(q, k, k)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded - exact).abs().max()) < 0.02 * float(exact.abs().max() + 1)


@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 10), delta=st.floats(0, 1))
def test_stability_is_a_share_that_falls_with_the_shift(seed: int, scale: float, delta: float) -> None:
    logits = scale * normal(3, 6, 6, seed=seed)
    found = stability(logits, delta)
    assert found.shape == (3,)
    assert ((found >= 0) & (found <= 1)).all()
    assert (stability(logits, 2 * delta) <= found).all()
    assert (stability(logits, 0.0) == 1).all()


def test_stability_of_an_empty_mask_is_one() -> None:
    assert stability(torch.full((1, 4, 4), -1.0)).item() == 1
    assert stability(torch.zeros(1, 4, 4)).item() == 0


# --- trunks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [96, 512])  # neither fills whole windows at every stage
def test_hiera_takes_sizes_that_windows_do_not_divide(size: int) -> None:
    trunk = Hiera(HieraConfig(width=8)).eval()
    with torch.no_grad():
        stages = trunk(torch.rand(2, 3, size, size))
    assert [tuple(x.shape) for x in stages] == [
        (2, 8 * 2**i, size // (4 * 2**i), size // (4 * 2**i)) for i in range(4)
    ]
    assert all(torch.isfinite(x).all() for x in stages)


def test_hiera_takes_oblong_pictures() -> None:
    trunk = Hiera(HieraConfig(width=8)).eval()
    with torch.no_grad():
        assert trunk(torch.rand(1, 3, 64, 160))[3].shape == (1, 64, 2, 5)


def test_hiera_forgets_positions_when_its_weights_change() -> None:
    trunk = Hiera(HieraConfig(width=8))
    torch.nn.init.normal_(trunk.pos_embed)
    with torch.no_grad():
        before = trunk.positions(16, 16)
        assert trunk.positions(16, 16) is before
        trunk.pos_embed.mul_(2)
        assert_same(trunk.positions(16, 16), 2 * before)
    assert trunk.positions(16, 16).requires_grad


@pytest.mark.parametrize("size", [64, 256])
def test_the_convolutional_trunk_has_the_strides_of_hiera(size: int) -> None:
    config = PRESETS["nano"].trunk
    assert isinstance(config, ConvTrunkConfig)
    with torch.no_grad():
        stages = ConvTrunk(config).eval()(torch.rand(1, 3, size, size))
    assert [tuple(x.shape) for x in stages] == [
        (1, width, size // (4 * 2**i), size // (4 * 2**i)) for i, width in enumerate(config.widths)
    ]


# --- prompts -----------------------------------------------------------------------------------------------


@given(x=st.integers(0, 127), y=st.integers(0, 127), kind=st.sampled_from([POSITIVE, NEGATIVE]))
def test_a_click_peaks_in_its_own_map_at_its_own_cell(x: int, y: int, kind: int) -> None:
    maps = prompt_maps(torch.tensor([[[x, y]]]).float(), torch.tensor([[kind]]), None, 128)
    assert maps.shape == (1, 4, 32, 32)
    channel = {POSITIVE: 1, NEGATIVE: 2}[kind]
    assert divmod(int(maps[0, channel].argmax()), 32) == (y // 4, x // 4)
    others = [c for c in range(4) if c != channel]
    assert not maps[0, others].any()


def test_a_box_fills_its_map_and_padding_none() -> None:
    points = torch.tensor([[[8.0, 16.0], [39.0, 63.0], [0.0, 0.0]]])
    maps = prompt_maps(points, torch.tensor([[BOX_FIRST, BOX_SECOND, PADDING]]), None, 128)
    expected = torch.zeros(32, 32)
    expected[4:16, 2:10] = 1
    assert torch.equal(maps[0, 3], expected)
    assert not maps[0, :3].any()


def test_previous_logits_enter_the_maps_bounded() -> None:
    logits = torch.full((1, 1, 32, 32), 1000.0)
    maps = prompt_maps(torch.zeros(1, 1, 2), torch.tensor([[PADDING]]), logits, 128)
    assert torch.equal(maps[0, 0], torch.full((32, 32), 3.2))


# --- objects do not meddle with each other -----------------------------------------------------------------


def test_pictures_of_a_batch_are_independent(network: Sam2) -> None:
    size = network.config.image_size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    for together, alone in zip(network.encode_image(images), network.encode_image(images[1:]), strict=True):
        assert_same(together[1:], alone)


@pytest.mark.parametrize("candidates", [True, False])
def test_decoded_objects_are_independent(network: Sam2, candidates: bool) -> None:
    features = features_of(network, 1)
    points = torch.tensor(
        [[[10.0, 20.0], [100.0, 90.0]], [[64.0, 64.0], [0.0, 0.0]], [[8.0, 8.0], [90.0, 70.0]]]
    )
    labels = torch.tensor([[POSITIVE, NEGATIVE], [POSITIVE, PADDING], [BOX_FIRST, BOX_SECOND]])
    logits = normal(3, 1, 32, 32)
    top = network.unconditioned(features)
    together = network.decode_masks(features, top, points, labels, logits, candidates=candidates)
    assert together.logits.shape == (3, 3 if candidates else 1, 32, 32)
    for i in range(3):
        row = slice(i, i + 1)
        alone = network.decode_masks(
            features, top, points[row], labels[row], logits[row], candidates=candidates
        )
        for a, b in zip(together, alone, strict=True):
            assert_same(a[row], b)


def test_memories_of_objects_are_independent(network: Sam2) -> None:
    features = features_of(network, 1)
    logits, score = normal(3, 1, 32, 32), torch.tensor([[1.0], [-1.0], [2.0]])
    together = network.encode_memory(features, logits, score, binarise=False)
    for i in range(3):
        alone = network.encode_memory(features, logits[i : i + 1], score[i : i + 1], binarise=False)
        # Both are rounded to bfloat16, so that a last bit may become one unit of that.
        torch.testing.assert_close(together[i : i + 1], alone, rtol=2**-7, atol=1e-4)


def test_conditioned_objects_are_independent_and_may_share_their_frame(network: Sam2) -> None:
    features, memories = features_of(network, 1), memories_of(network, 3, [0, 2, 1])
    shared = network.condition(features, memories)
    repeated = Features(*(level.expand(3, -1, -1, -1) for level in features))
    assert_same(shared, network.condition(repeated, memories))
    for i in range(3):
        one = slice(i, i + 1)
        own = Memories(
            memories.spatial[one],
            memories.ages[one],
            memories.pointers[one],
            memories.distances[one],
            memories.horizon,
        )
        assert_same(shared[one], network.condition(features, own))


def test_memories_are_a_set_but_their_ages_count(network: Sam2) -> None:
    features, memories = features_of(network, 1), memories_of(network, 1, [0, 2, 1])
    order = [2, 0, 1]
    shuffled = memories._replace(
        spatial=memories.spatial[:, order],
        ages=memories.ages[:, order],
        pointers=memories.pointers[:, order],
        distances=memories.distances[:, order],
    )
    expected = network.condition(features, memories)
    assert_same(network.condition(features, shuffled), expected)
    aged = network.condition(features, memories._replace(ages=memories.ages[:, order]))
    assert (aged - expected).abs().max() > 1e-4


# --- answers -----------------------------------------------------------------------------------------------


def test_the_best_candidate_is_the_one_of_highest_iou(network: Sam2) -> None:
    features = features_of(network, 1)
    points, labels = torch.rand(4, 1, 2) * 128, torch.ones(4, 1, dtype=torch.long)
    three = network.decode_masks(features, features.top, points, labels, candidates=True, hide_absent=False)
    best = three.best()
    assert torch.equal(best.iou[:, 0], three.iou.amax(dim=1))
    for i, k in enumerate(three.iou.argmax(dim=1).tolist()):
        assert torch.equal(best.logits[i, 0], three.logits[i, k])
        assert torch.equal(best.pointers[i, 0], three.pointers[i, k])


def test_absent_objects_have_no_mask_and_the_pointer_of_none(network: Sam2) -> None:
    bias = network.sam_mask_decoder.pred_obj_score_head.layers[-1].get_parameter("bias")
    before = bias.clone()
    features = features_of(network, 1)
    try:
        bias.fill_(-100)
        hidden = network.decode_masks(features, features.top, candidates=True)
        shown = network.decode_masks(features, features.top, candidates=True, hide_absent=False)
    finally:
        bias.copy_(before)
    assert (hidden.logits == ABSENT_LOGIT).all()
    assert (shown.logits > ABSENT_LOGIT).all()
    assert torch.equal(hidden.pointers, network.no_obj_ptr.expand(1, 3, -1))


def test_an_adopted_mask_is_the_answer(network: Sam2) -> None:
    features = features_of(network, 1)
    mask = torch.zeros(2, 1, 128, 128)
    mask[0, 0, 32:64, 48:96] = 1  # the second object is not on this frame
    answer = network.adopt_mask(features, mask)
    assert torch.equal(answer.logits[0, 0] > 0, mask[0, 0, ::4, ::4] > 0)
    assert not (answer.logits[1] > 0).any()
    assert answer.object_score.tolist() == [[10.0], [-10.0]]
    assert torch.equal(answer.pointers[1], network.no_obj_ptr)


def test_the_dense_head_covers_the_mask_grid() -> None:
    network = network_of(CONV)
    assert network.propose(features_of(network, 2)).shape == (2, 4, 32, 32)


@pytest.mark.parametrize("told", [False, True])
def test_fine_features_are_told_what_coarse_ones_know(told: bool) -> None:
    network = network_of(replace(CONV, top_down=told))
    image = torch.rand(1, 3, 128, 128)
    before = network.encode_image(image)
    coarsest = network.image_encoder.neck.convs[0].get_submodule("conv")
    coarsest.get_parameter("bias").add_(1.0)
    after = network.encode_image(image)
    assert not torch.equal(after.top, before.top)
    assert torch.equal(after.middle, before.middle) is not told
    assert torch.equal(after.fine, before.fine) is not told


def test_a_fresh_network_has_nothing_to_correct() -> None:
    """Refinement and the way down start as nothing, so that older weights can be trained on."""
    torch.manual_seed(0)
    plain = Sam2(replace(CONV, top_down=False, refine=False)).eval()
    refined = Sam2(CONV).eval()
    missing, unexpected = refined.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[2 if "neck" in name else 1] for name in missing} == {"top_down", "refiner"}
    image = torch.rand(1, 3, 128, 128)
    point, label = torch.tensor([[[40.0, 60.0]]]), torch.ones(1, 1, dtype=torch.long)
    answers = []
    for network in (plain, refined):
        features = network.encode_image(image)
        answers.append(network.decode_masks(features, features.top, point, label, candidates=True).logits)
    torch.testing.assert_close(*answers)


def test_refinement_sees_prompts_at_the_resolution_of_masks() -> None:
    """The same tokens and pictures, another place in the map of prompts: other masks, there."""
    network = network_of(CONV).sam_mask_decoder.refiner
    assert network is not None
    painted, tokens = (normal(1, *shape).expand(2, -1, -1, -1) for shape in ((4, 32, 32), (32, 8, 8)))
    prompts = torch.zeros(2, 4, 32, 32)
    prompts[1, 1, 20, 9] = 1.0
    out = network(painted, tokens, (normal(1, 4, 32, 32), normal(1, 8, 16, 16)), prompts)
    difference = (out[1] - out[0]).abs().sum(0)
    assert out.shape == (2, 4, 32, 32)
    assert divmod(int(difference.argmax()), 32)[0] in range(18, 23)
    assert float(difference[20, 9]) > 3 * float(difference.median())

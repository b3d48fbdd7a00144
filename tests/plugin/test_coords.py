"""Places keep their meaning between the world, the image, its frames and the layers made for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points

from stacksam.errors import InputError
from stacksam.plugin.choice import LayerChoice
from stacksam.plugin.coords import Placement, shown_index
from stacksam.plugin.labels_view import LabelsView

TURN = np.deg2rad(30)
IN_PLANE = np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])


def turned(ndim: int) -> np.ndarray:
    """Rotation in the plane of the last two dimensions."""
    matrix = np.eye(ndim)
    matrix[-2:, -2:] = IN_PLANE
    return matrix


def image(shape, **kwargs) -> Image:
    return Image(np.zeros(shape, np.uint8), contrast_limits=(0, 255), **kwargs)


def pyramid(**kwargs) -> Image:
    levels = [np.zeros(shape, np.uint8) for shape in ((4, 48, 64), (4, 24, 32), (2, 12, 16))]
    return Image(levels, multiscale=True, contrast_limits=(0, 255), **kwargs)


FRAMES = LayerChoice(frame_dim=0)
CASES = {
    "2d": lambda: (image((20, 30), scale=(0.5, 0.25), translate=(3, -4)), LayerChoice()),
    "plain": lambda: (image((5, 20, 30)), FRAMES),
    "anisotropic": lambda: (image((5, 20, 30), scale=(4, 0.5, 0.2), translate=(-7, 3, 1)), FRAMES),
    "flipped": lambda: (image((5, 20, 30), scale=(2, -0.5, 0.2), translate=(1, 2, 3)), FRAMES),
    "rotated": lambda: (image((5, 20, 30), scale=(4, 0.5, 0.2), rotate=30, translate=(1, 2, 3)), FRAMES),
    "sheared": lambda: (image((5, 20, 30), scale=(4, 0.5, 0.2), shear=(0, 0, 0.3), rotate=20), FRAMES),
    "sheared down": lambda: (
        image((5, 20, 30), scale=(4, 0.5, 0.2), shear=[[1, 0, 0], [0, 1, 0], [0, 0.4, 1]]),
        FRAMES,
    ),
    "affine": lambda: (
        image(
            (5, 20, 30),
            scale=(4, 0.5, 0.2),
            affine=[[2, 0, 0, 5], [0, 0.9, 0.3, 1], [0, 0, 1.5, -3], [0] * 3 + [1]],
        ),
        FRAMES,
    ),
    "frames along y": lambda: (image((20, 5, 30), scale=(1, 2, 3)), LayerChoice(frame_dim=1)),
    "4d": lambda: (
        image((5, 6, 20, 30), scale=(10, 2, 0.5, 0.5), translate=(0, 7, 0, 0)),
        LayerChoice(frame_dim=0, at={1: 4}),
    ),
    "4d along z": lambda: (
        image((5, 6, 20, 30), scale=(10, 2, 0.5, 0.5), rotate=turned(4)),
        LayerChoice(frame_dim=1, kind="z", at={0: 2}),
    ),
    "channels first": lambda: (
        image((2, 5, 20, 30), scale=(1, 3, 0.5, 0.2), rotate=turned(4), translate=(0, 1, 2, 3)),
        LayerChoice(frame_dim=1, channel_dim=0, channels=(1,)),
    ),
    "channels second": lambda: (
        image((5, 2, 20, 30), scale=(3, 1, 0.5, 0.2), translate=(1, 0, 2, 3)),
        LayerChoice(frame_dim=0, channel_dim=1),
    ),
    "channels last": lambda: (
        image((5, 20, 30, 2), scale=(3, 0.5, 0.2, 1)),
        LayerChoice(frame_dim=0, channel_dim=3),
    ),
    "5d": lambda: (
        image((2, 4, 3, 20, 30), scale=(1, 2, 3, 4, 5)),
        LayerChoice(frame_dim=1, channel_dim=0, at={2: 1}),
    ),
    "channels alone": lambda: (image((2, 20, 30)), LayerChoice(channel_dim=0)),
    "rgb": lambda: (image((5, 40, 50, 3), rgb=True, scale=(2, 0.5, 0.2), rotate=30), FRAMES),
    "level 0": lambda: (pyramid(scale=(3, 0.5, 0.2), translate=(1, 2, 3)), FRAMES),
    "level 1": lambda: (pyramid(scale=(3, 0.5, 0.2), translate=(1, 2, 3)), LayerChoice(frame_dim=0, level=1)),
    "level 2": lambda: (pyramid(scale=(3, 0.5, 0.2), rotate=30), LayerChoice(frame_dim=0, level=2)),
}
every = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def placements() -> dict[str, Placement]:
    return {name: Placement(*make()) for name, make in CASES.items()}


def middle(layout) -> tuple[int, float, float]:
    height, width = layout.frame_shape
    return layout.n_frames - 1, height // 2 + 1, width // 3


def place_of(placement, position, units=None):
    """Frame, y and x of a position in the world."""
    return placement.from_data(placement._at_level(position, units)[placement._dims])


@every
@given(data=st.data())
def test_places_come_back_from_the_world_and_from_layers(placements, case, data):
    placement = placements[case]
    layout = placement.layout
    height, width = layout.frame_shape
    place = (
        data.draw(st.integers(0, layout.n_frames - 1)),
        data.draw(st.floats(-0.49, height - 0.51)),
        data.draw(st.floats(-0.49, width - 0.51)),
    )
    world = placement.to_world(*place)
    # A viewer with larger layers has further dimensions in front.
    for position in (world, [17.0, *world]):
        found = place_of(placement, position)
        assert found is not None
        assert found == pytest.approx(place, abs=1e-6)
        assert placement.frame_of(position) == place[0]
    assert placement.from_data(placement.to_data(*place)) == pytest.approx(place)


@every
def test_layers_made_for_an_image_lie_where_it_is(placements, case):
    placement = placements[case]
    place = middle(placement.layout)
    data = placement.to_data(*place)
    points = Points(data[None], **placement.layer_kwargs())

    world = placement.to_world(*place)
    assert np.allclose(points.data_to_world(points.data[0]), world[-placement.layout.ndim :])
    # The same coordinates of the image's own data: a pixel of the full size for each of the first level.
    if placement.choice.level == 0:
        own = [0.0] * (placement.layer.ndim - len(data)) + list(data)
        assert np.allclose(placement.layer.data_to_world(own), world)


@every
def test_parts_of_the_transform_are_those_of_the_image(placements, case):
    placement = placements[case]
    kwargs = placement.layer_kwargs()
    dropped = placement.layer.ndim - placement.layout.ndim
    assert kwargs["axis_labels"] == placement.layer.axis_labels[dropped:]
    assert kwargs["units"] == placement.layer.units[dropped:]
    if placement.choice.level == 0:
        assert np.allclose(kwargs["scale"], placement.layer.scale[dropped:])
        assert np.allclose(kwargs["translate"], placement.layer.translate[dropped:])


@every
def test_a_moved_image_is_followed(case):
    layer, choice = CASES[case]()
    placement = Placement(layer, choice)
    points = Points(ndim=placement.layout.ndim, **placement.layer_kwargs())
    layer.rotate = turned(layer.ndim)
    layer.scale = np.arange(1, layer.ndim + 1) / 2
    layer.translate = np.arange(layer.ndim)
    for name, value in placement.layer_kwargs().items():
        setattr(points, name, value)

    place = middle(placement.layout)
    world = placement.to_world(*place)
    assert place_of(placement, world) == pytest.approx(place)
    assert np.allclose(points.data_to_world(placement.to_data(*place)), world[-placement.layout.ndim :])


def test_channels_that_are_mixed_into_the_plane_leave_one_matrix():
    tilt = np.eye(4)
    tilt[[0, 3], [3, 0]] = 0.5, -0.5  # scale, rotation and shear of the rest are not those of the whole
    with pytest.warns(UserWarning, match="Non-orthogonal"):
        layer = image((2, 5, 20, 30), scale=(1, 2, 3, 4), rotate=np.linalg.qr(tilt)[0])
    placement = Placement(layer, LayerChoice(frame_dim=1, channel_dim=0))
    points = Points(ndim=3, **placement.layer_kwargs())
    for place in ((0, 0, 0), (3, 5, 7)):
        assert np.allclose(
            points.data_to_world(placement.to_data(*place)), placement.to_world(*place)[1:], atol=1e-9
        )


@every
def test_the_viewer_shows_what_is_meant(case):
    """Sliders set by `steps_of`, labels put by `layer_kwargs`, and a click there: all of it is one pixel."""
    layer, choice = CASES[case]()
    placement = Placement(layer, choice)
    layout = placement.layout
    frame, y, x = middle(layout)
    labels = np.zeros((layout.n_frames, *layout.frame_shape), np.uint32)
    labels[frame, y, x] = 7
    viewer = ViewerModel()
    viewer.add_image(np.zeros((2,) * (layer.ndim + 1)), scale=[100.0] * (layer.ndim + 1))  # a larger world
    viewer.add_layer(layer)
    shown = viewer.add_labels(LabelsView(labels, layout), **placement.layer_kwargs())
    if "along y" in case or "last" in case:
        viewer.dims.order = (
            0,
            *(1 + d for d in range(layer.ndim) if d not in (layout.y, layout.x)),
            1 + layout.y,
            1 + layout.x,
        )

    steps = placement.steps_of(frame, viewer.dims.ndim)
    viewer.dims.set_point(list(steps), list(steps.values()))
    assert placement.frame_of(viewer.dims.point) == frame
    index = shown_index(layer, viewer.dims.point)
    if choice.level == 0:
        assert all(index[dim] == at for dim, at in choice.at.items())
        assert choice.frame_dim is None or index[choice.frame_dim] == frame

    position = np.array(viewer.dims.point)
    position[-layer.ndim :] = placement.to_world(frame, y, x)
    assert shown.get_value(position, world=True) == 7
    assert place_of(placement, position) == pytest.approx((frame, y, x))
    if layout.n_frames > 1:
        steps = placement.steps_of(frame - 1, viewer.dims.ndim)
        viewer.dims.set_point(list(steps), list(steps.values()))
        assert placement.frame_of(viewer.dims.point) == frame - 1
        assert shown.get_value(position, world=True) == 0


def test_units_of_the_viewer_are_not_those_of_the_layer():
    layer = image((5, 20, 30), scale=(2, 0.5, 0.5), units=("s", "um", "um"))
    placement = Placement(layer, FRAMES)
    viewer = ViewerModel()
    viewer.add_layer(layer)
    viewer.add_image(np.zeros((5, 20, 30)), units=("ms", "nm", "nm"))
    units = viewer.dims.units
    assert [str(unit) for unit in units] == ["millisecond", "nanometer", "nanometer"]

    assert np.allclose(placement.to_world(3, 4, 6, units), (6000, 2000, 3000))
    assert place_of(placement, (6000, 2000, 3000), units) == pytest.approx((3, 4, 6))
    steps = placement.steps_of(3, 3, units)
    viewer.dims.set_point(list(steps), list(steps.values()))
    assert placement.frame_of(viewer.dims.point, units) == 3
    assert shown_index(layer, viewer.dims.point, units)[0] == 3


def test_units_of_another_kind_leave_the_numbers_as_they_are():
    time = image((5, 20, 30), scale=(300, 0.5, 0.5), units=("s", "um", "um"))
    viewer = ViewerModel()
    viewer.add_layer(time)
    depth = image((5, 20, 30), scale=(2, 0.5, 0.5), units=("nm", "nm", "nm"))
    viewer.add_layer(depth)
    viewer.layers.remove(time)
    units = viewer.dims.units
    assert {str(unit) for unit in units} == {"nanometer"}

    placement = Placement(time, FRAMES)
    assert placement.frame_of((600, 2000, 3000), units) == 2
    assert np.allclose(placement.to_world(2, 4, 6, units), (600, 2000, 3000))
    assert shown_index(time, (600, 0, 0), units)[0] == 2


@pytest.mark.parametrize(
    "position",
    [
        (0, 0, -0.26, 0),  # above
        (0, 2, 0, 15),  # right of the last column
        (-6, 2, 1, 1),  # before the first frame
        (50, 2, 1, 1),  # after the last
        (10, 4, 1, 1),  # another plane
        (10, np.nan, 1, 1),
    ],
)
def test_positions_outside_are_nowhere(position):
    layer = image((5, 6, 20, 30), scale=(10, 2, 0.5, 0.5))
    placement = Placement(layer, LayerChoice(frame_dim=0, at={1: 1}))
    assert place_of(placement, (10, 2, 1, 1)) == (1, 2.0, 2.0)
    assert place_of(placement, position) is None


def test_sliders_that_have_left_the_stack_show_no_frame():
    placement = Placement(image((5, 20, 30)), FRAMES)
    assert [placement.frame_of((at, 0, 0)) for at in (-1, 0, 4, 5)] == [None, 0, 4, None]
    assert [placement.nearest_frame((at, 0, 0)) for at in (-1, 0, 4, 5)] == [0, 0, 4, 4]
    assert Placement(image((20, 30)), LayerChoice()).nearest_frame((7, 7)) == 0


def test_many_places_at_once():
    placement = Placement(image((5, 6, 20, 30)), LayerChoice(frame_dim=0, at={1: 3}))
    data = placement.to_data([0, 1, 2], [[4.5], [5]], 6)
    assert data.shape == (2, 3, 4)
    assert data[1, 2].tolist() == [2, 3, 5, 6]


@pytest.mark.parametrize(
    ("case", "shape", "frame", "at", "channel"),
    [
        ("4d", (5, 6, 20, 30), 0, {1: 4}, None),
        ("channels first", (5, 20, 30), 0, {}, None),
        ("channels second", (5, 2, 20, 30), 0, {}, 1),
        ("channels alone", (20, 30), None, {}, None),
        ("5d", (4, 3, 20, 30), 0, {1: 1}, None),
        ("rgb", (5, 40, 50), 0, {}, None),
        ("level 2", (2, 12, 16), 0, {}, None),
    ],
)
def test_layouts(placements, case, shape, frame, at, channel):
    layout = placements[case].layout
    assert (layout.shape, layout.frame, layout.at, layout.channel) == (shape, frame, at, channel)


def test_pixels_of_a_coarse_level_cover_those_of_the_full_size():
    placement = Placement(pyramid(), LayerChoice(frame_dim=0, level=1))
    assert placement.to_world(0, 0, 0).tolist() == [0, 0.5, 0.5]
    labels = Labels(np.zeros(placement.layout.shape, int), **placement.layer_kwargs())
    assert labels.data_to_world((0, -0.5, 31.5)) == pytest.approx((0, -0.5, 63.5))


def test_spacing_and_units():
    layer = image(
        (5, 6, 20, 30), scale=(10, 2, -0.5, 0.25), units=("min", "um", "um", "um"), rotate=turned(4)
    )
    placement = Placement(layer, LayerChoice(frame_dim=0, at={1: 0}))
    assert placement.spacing == pytest.approx((10, 0.5, 0.25))
    assert placement.units == ("minute", "micrometer", "micrometer")
    depth = Placement(layer, LayerChoice(frame_dim=1, kind="z", at={0: 0}))
    assert depth.spacing[0] == pytest.approx(2)
    assert depth.units[0] == "micrometer"

    plain = Placement(image((5, 20, 30)), FRAMES)
    assert (plain.spacing, plain.units) == ((1, 1, 1), (None, None, None))
    assert Placement(pyramid(scale=(3, 2, 2)), LayerChoice(frame_dim=0, level=2)).spacing == (6, 8, 8)
    lengths = Placement(image((5, 20, 30), units="um"), FRAMES)
    assert lengths.units == (None, "micrometer", "micrometer"), "time is not counted in micrometers"


def test_tilted_frames_are_told(placements):
    assert not any(placement.tilted for placement in placements.values())
    with pytest.warns(UserWarning, match="Non-orthogonal"):
        layer = image((5, 20, 30), rotate=(20, 10, 30))
    assert Placement(layer, FRAMES).tilted


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (LayerChoice(frame_dim=0), "choose an index along each other dimension"),
        (LayerChoice(frame_dim=0, at={0: 1}), "twice"),
        (LayerChoice(frame_dim=0, at={7: 1}), "dimensions 0 to 3"),
        (LayerChoice(frame_dim=0, at={1: 6}), "outside dimension 1"),
        (LayerChoice(frame_dim=0, at={1: 0}, level=1), "no level 1"),
        (LayerChoice(frame_dim=0, at={1: 0}, kind="x"), "use 't' or 'z'"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choice, message):
    layer = image((5, 6, 20, 30), name="cells")
    with pytest.raises(InputError, match=message):
        Placement(layer, choice)


def test_points_with_other_coordinates_are_refused():
    placement = Placement(image((5, 20, 30)), FRAMES)
    with pytest.raises(InputError, match="3 coordinates"):
        placement.from_data((1, 2))
    with pytest.raises(InputError, match="3 dimensions"):
        place_of(placement, (1, 2))

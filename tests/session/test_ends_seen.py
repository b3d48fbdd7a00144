"""Ends in depth, asked of a network that sees: what it is shown, where it is clicked, what is made of that.

In place of the network there is one that draws what is bright and was clicked on. Frames are not square,
steps are unequal, and objects lie away from the middle, so that nothing that is swapped stays unnoticed.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from random_model import CONFIG, random_model
from scipy import ndimage

from stacksam.network.prompt_encoder import NEGATIVE, PADDING, POSITIVE
from stacksam.session import ends as module
from stacksam.session.boxes import bbox_of
from stacksam.session.encoder import Encoder
from stacksam.session.ends import Ends, Reach
from stacksam.session.settings import Settings
from stacksam.session.stack import open_stack

SIDE = 256


class Seeing:
    """A network that knows what is bright.

    Attributes
    ----------
    pictures : list of (S, S) array
    clicks : list of (points (N, 2), labels (N,))
    batches : list of int
        How many pictures were encoded at once.
    """

    def __init__(self):
        self.pictures, self.clicks, self.batches = [], [], []

    def encode_image(self, pictures):
        self.batches.append(len(pictures))
        return pictures

    def unconditioned(self, features):
        return features

    def decode_masks(self, features, top, points, labels, *, candidates):
        assert not candidates
        logits = []
        for picture, xy, kinds in zip(features.numpy(), points.numpy(), labels.numpy(), strict=True):
            assert np.array_equal(picture[0], picture[1])  # greys are greys
            self.pictures.append(picture[0])
            self.clicks.append((xy, kinds))
            shown = np.full(picture[0].shape, -10.0, np.float32)
            parts, _ = ndimage.label(picture[0] > 0.5)

            def part_at(place, parts=parts):
                x, y = np.clip(np.floor(place + 0.5).astype(int), 0, SIDE - 1)
                return parts[y, x]

            own = {part_at(place) for place, kind in zip(xy, kinds, strict=True) if kind == POSITIVE}
            others = {part_at(place) for place, kind in zip(xy, kinds, strict=True) if kind == NEGATIVE}
            for part in own - others - {0}:
                shown = np.where(parts == part, (picture[0] - 0.5) * 20, shown)
            logits.append(torch.nn.functional.avg_pool2d(torch.from_numpy(shown)[None], 4))
        return SimpleNamespace(logits=torch.stack(logits))


@pytest.fixture
def ends_of(monkeypatch):
    """Makes Ends of a stack, with a network that sees, and that network."""

    def make(stack, **settings):
        network = Seeing()
        network.config = replace(CONFIG, image_size=SIDE)
        model = replace(random_model(), network=network)
        assert model.config.image_size == SIDE
        return Ends(model, stack, Encoder(model, stack, Settings(**settings))), network

    return make


def ellipsoid(shape, centre, radii):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1


def record_of(solid, frame, object_id=1):
    y0, x0, y1, x1 = box = bbox_of(solid[frame])
    return SimpleNamespace(object_id=object_id, frame=frame, bbox=box, mask=solid[frame][y0:y1, x0:x1])


def stack_of(solid, spacing=(1, 1, 1)):
    return open_stack(solid.astype(np.float32), axes="zyx", intensity=(0.0, 1.0), spacing=spacing)


def is_near(reach, first, last):
    """To a frame: of the pole of a ball little is to be seen."""
    return abs(reach.first - first) <= 1 and abs(reach.last - last) <= 1


def test_the_network_is_shown_the_object_and_clicked_where_it_is(ends_of, monkeypatch):
    """A ball of 12 units where steps are 2, 1 and 0.5, in the far corner of frames of 70 x 200 pixels."""
    monkeypatch.setattr(module, "_LEAST", 6)  # so that no section may go astray
    solid = ellipsoid((40, 70, 200), (17, 46, 150), (6, 12, 24))
    ends, network = ends_of(stack_of(solid, (2.0, 1.0, 0.5)))
    assert is_near(ends.reach(record_of(solid, 17)), 11, 23)
    assert len(network.pictures) == 6 + 12
    for picture, (points, labels) in zip(network.pictures, network.clicks, strict=True):
        assert labels.tolist() == [POSITIVE, NEGATIVE, NEGATIVE]
        inside = [picture[round(y), round(x)] > 0.5 for x, y in points]
        assert inside == [True, False, False]
        assert np.ptp(points[:, 1]) == 0  # all on one frame
        y0, x0, y1, x1 = bbox_of(picture > 0.5)
        assert (y1 - y0) / (x1 - x0) == pytest.approx(1, abs=0.15)  # space is shown as it is


@pytest.mark.parametrize("radius", [8, 12, 20])
def test_a_ball_is_not_cut_short(ends_of, radius):
    solid = ellipsoid((60, 60, 70), (30, 28, 36), (radius,) * 3)
    ends, _ = ends_of(stack_of(solid))
    for frame in (30, 30 - radius // 2):  # also where it was prompted away from its middle
        assert is_near(ends.reach(record_of(solid, frame)), 30 - radius, 30 + radius)


def test_a_straight_object_is_not_made_longer(ends_of):
    rod = np.repeat(ellipsoid((1, 60, 70), (0, 28, 36), (1, 12, 12)), 60, axis=0)
    rod[:16] = rod[47:] = False
    ends, _ = ends_of(stack_of(rod))
    assert ends.reach(record_of(rod, 30)) == Reach(16, 46)


def test_planes_are_read_once_for_all_objects_and_looked_at_in_batches(ends_of, monkeypatch):
    solids = [
        ellipsoid((60, 70, 200), (30, 20 + 30 * (k // 3), 25 + 60 * (k % 3)), (7, 7, 9)) for k in range(6)
    ]
    stack = stack_of(np.any(solids, axis=0))
    records = [record_of(solid, 30, k + 1) for k, solid in enumerate(solids)]
    alone = [ends_of(stack)[0].reach(record) for record in records]
    assert all(is_near(reach, 23, 37) for reach in alone)
    read, frame = [], type(stack).frame

    def counted(self, index, *how):
        read.append(index)
        return frame(self, index, *how)

    monkeypatch.setattr(type(stack), "frame", counted)
    ends, network = ends_of(stack, batch=4)
    ends.learn(60, [[record] for record in records])
    assert len(read) == len(set(read))
    assert max(network.batches) == 4
    assert ends._encoder.count == sum(network.batches) == 6 * 18
    assert [ends.reach(record) for record in records] == alone
    assert len(read) == len(set(read))  # and nothing is looked at again
    read.clear()
    ends.learn(30, [[record] for record in records])  # a prompted frame needs no look
    monkeypatch.setattr(module, "_HELD", 1)  # no room but for one at a time
    small, _ = ends_of(stack)
    small.learn(60, [[record] for record in records])
    assert [small.reach(record) for record in records] == alone
    assert len(read) == 6 * len(set(read))


def test_of_large_frames_only_what_is_shown_is_read(ends_of, monkeypatch):
    solids = [ellipsoid((40, 70, 200), (20, 35, x), (7, 7, 9)) for x in (25, 170)]
    stack = stack_of(np.any(solids, axis=0))
    records = [record_of(solid, 20, k + 1) for k, solid in enumerate(solids)]
    widths, frame = [], type(stack).frame

    def measured(self, index, box, *how):
        widths.append(box[3] - box[1])
        return frame(self, index, box, *how)

    monkeypatch.setattr(type(stack), "frame", measured)
    for large, widest in ((70 * 200, 200), (70 * 200 - 1, 80)):
        monkeypatch.setattr(module, "LARGE", large)
        ends, _ = ends_of(stack)
        widths.clear()
        ends.learn(39, [[record] for record in records])
        assert all(is_near(ends.reach(record), 13, 27) for record in records)
        assert max(widths) <= widest
        assert (max(widths) > 80) is (widest == 200)


def test_a_click_that_would_fall_on_the_object_is_left_out(ends_of):
    """A ball with a slit of one pixel: behind it the object goes on."""
    solid = ellipsoid((60, 60, 70), (30, 28, 36), (12, 12, 12))
    solid[:, :, 40] = False
    ends, network = ends_of(stack_of(solid))
    ends.reach(record_of(solid, 30))
    assert sum(PADDING in labels for _, labels in network.clicks[:6]) == 3

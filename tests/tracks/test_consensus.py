"""What two of three axes agree on: with a predictor that sees bright shapes, the true shape comes back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_model import DiscPredictor, labels, random_model
from scipy import ndimage

from stacksam.errors import InputError, StackError
from stacksam.session.boxes import bbox_of
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.session import Session
from stacksam.session.stack import open_stack
from stacksam.tracks.consensus import consensus, cross_sections, points_along

SHAPE, STEP = (12, 40, 44), (2.0, 0.5, 0.5)


class BrightPredictor(DiscPredictor):
    """In place of a Predictor: an object is the bright patch at its prompt, or at its mask before."""

    def _patch(self, record, seed):
        patches, _ = ndimage.label(self.stack.frame(record.frame)[..., 0] > 0.5)
        numbers = np.unique(patches[seed])
        mask = np.isin(patches, numbers[numbers > 0])
        box = bbox_of(mask)
        logits = np.where(mask, 8.0, -8.0).astype(np.float16)
        view = replace(record.view, height=mask.shape[0], width=mask.shape[1])
        return replace(
            record, bbox=box, mask=mask[box[0] : box[2], box[1] : box[3]], view=view, logits=logits
        )

    def candidates(self, object_id, frame, prompts, *rest, **options):
        found = super().candidates(object_id, frame, prompts, *rest, **options)
        seed = np.zeros(self.stack.frame_shape, bool)
        match prompts[-1]:
            case Mask():
                return found
            case Box(yxyx=(y0, x0, y1, x1)):
                seed[round(y0) : round(y1) + 1, round(x0) : round(x1) + 1] = True
            case Point(yx=(y, x)):
                seed[round(y), round(x)] = True
        return [self._patch(one, seed) for one in found]

    def follow(self, frame, requests, step):
        out = []
        for record, request in zip(super().follow(frame, requests, step), requests, strict=True):
            seed = np.zeros(self.stack.frame_shape, bool)
            y0, x0, y1, x1 = request.previous.bbox
            seed[y0:y1, x0:x1] = request.previous.mask
            out.append(self._patch(record, seed))
        return out


def ellipsoid(centre, radii):
    grid = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1


TRUTH = ellipsoid((6, 18, 16), (3.5, 11, 9))
OTHER = ellipsoid((5, 18, 35), (3.5, 8, 6))


def volume(session, object_id=1):
    return np.stack([session.mask(object_id, f) for f in range(session.stack.n_frames)])


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture
def session(monkeypatch):
    """Two bodies, followed along z; slices are four times as thick as pixels are wide."""
    monkeypatch.setattr("stacksam.session.session.Predictor", BrightPredictor)
    image = (TRUTH | OTHER).astype(np.float32)
    stack = open_stack(image, axes="zyx", spacing=STEP, units="mm", intensity=(0, 1))
    with Session(stack, random_model()) as opened:
        opened.add(Point(6, 1, (18.0, 16.0)), Point(6, 2, (18.0, 35.0)))
        list(opened.propagate())
        assert (volume(opened) == TRUTH).all()
        yield opened


@pytest.mark.parametrize("fuse", ["vote", "mean"])
def test_axes_that_agree_change_little(session, fuse):
    found = consensus(session, fuse=fuse)
    assert set(found.agreement) == {1, 2}
    assert min(found.agreement.values()) > 0.93  # interpolated slices end a little elsewhere
    assert all((mask.mask ^ session.mask(mask.object_id, mask.frame)).sum() < 60 for mask in found.masks)
    before = labels(session)
    if found.masks:
        session.set_masks(*found.masks)
        assert dice(volume(session), TRUTH) > 0.95
        session.undo()
    np.testing.assert_array_equal(labels(session), before)


def test_what_one_axis_got_wrong_is_outvoted(session):
    wrong = TRUTH[3].copy()
    wrong[:20, 24:] = True  # runs out over its border
    nothing = np.zeros_like(wrong)
    session.set_masks(Mask(3, 1, nothing), Mask(4, 1, wrong | TRUTH[4]), Mask(8, 1, nothing))
    spoilt = dice(volume(session), TRUTH)
    found = consensus(session, objects=[1])
    session.set_masks(*found.masks)
    assert spoilt < 0.87
    assert dice(volume(session), TRUTH) > 0.95
    assert {mask.object_id for mask in found.masks} == {1}
    assert found.agreement[1] < 0.93
    session.undo()
    assert dice(volume(session), TRUTH) == spoilt


def test_no_voxel_has_two_owners(session):
    session.set_masks(*(Mask(f, 2, OTHER[f] | TRUTH[f]) for f in range(2, 9)))
    found = consensus(session)
    if found.masks:
        session.set_masks(*found.masks)
    assert not (volume(session, 1) & volume(session, 2)).any()


def test_the_users_own_prompts_along_another_axis(session):
    """They are in the pixels of that axis, whatever the network sees."""
    seen = []

    def watch(self, object_id, frame, prompts, *rest, **options):
        seen.append((self.stack.frame_shape, prompts[-1]))
        return BrightPredictor.candidates(self, object_id, frame, prompts, *rest, **options)

    class Watched(BrightPredictor):
        candidates = watch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stacksam.session.session.Predictor", Watched)
        prompts = {"y": [Point(18, 1, (6.0, 16.0))], "x": [Box(16, 1, (3.0, 7.0, 9.0, 29.0))]}
        consensus(session, prompts=prompts, objects=[1])
    assert [shape for shape, _ in seen] == [(48, 44), (48, 40)]
    assert seen[0][1] == Point(18, 1, (6.5 * 4 - 0.5, 16.0))
    assert seen[1][1] == Box(16, 1, (12.0, 7.0, 39.0, 29.0))
    with pytest.raises(InputError, match=r"objects \[5\] are prompted along y"):
        consensus(session, prompts={"y": [Point(18, 5, (6.0, 16.0))]})


def test_cross_sections_halve_the_object(session):
    along_y, other = cross_sections(session, "y")
    assert (along_y.frame, along_y.object_id, other.object_id) == (18, 1, 2)
    np.testing.assert_array_equal(along_y.mask, TRUTH[:, 18, :])
    (along_x,) = cross_sections(session, "x", [1])
    assert along_x.frame == 16
    np.testing.assert_array_equal(along_x.mask, TRUTH[:, :, 16])
    stack = session.stack.along("x")
    np.testing.assert_array_equal(stack.frame(16)[..., 0] > 0.5, TRUTH[:, :, 16])


def test_clicks_turn():
    point = Point(3, 1, (10.4, 20.6), positive=False)
    assert points_along([point], "y") == (Point(10, 1, (3.0, 20.6), False),)
    assert points_along([point], "x") == (Point(21, 1, (3.0, 10.4), False),)
    with pytest.raises(InputError, match="a Box on one slice is a line"):
        points_along([Box(0, 1, (0, 0, 4, 4))], "y")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fuse": "max"}, "fuse is 'max'"),
        ({"axes": ("z",)}, "axes are"),
        ({"axes": ()}, "axes are"),
        ({"objects": [7]}, r"objects are \(7,\)"),
    ],
)
def test_arguments_that_do_not_fit(session, options, match):
    with pytest.raises(InputError, match=match):
        consensus(session, **options)


def test_what_is_no_volume(monkeypatch):
    monkeypatch.setattr("stacksam.session.session.Predictor", BrightPredictor)
    with Session(open_stack(TRUTH.astype(np.float32), axes="tyx"), random_model()) as movie:
        with pytest.raises(InputError, match="no object has a mask"):
            consensus(movie)
        movie.add(Point(6, 1, (18.0, 16.0)))
        with pytest.raises(StackError, match="followed along t"):
            consensus(movie)


def test_the_network_itself_comes_through():
    """Masks of random weights mean nothing, but every step is taken with real records."""
    stack = open_stack(TRUTH.astype(np.float32), axes="zyx", spacing=STEP, units="mm", intensity=(0, 1))
    with Session(stack, random_model()) as session:
        session.add(Mask(6, 1, TRUTH[6]))
        list(session.propagate())
        steps = []
        found = consensus(session, fuse="mean", progress=lambda done, total: steps.append((done, total)))
        assert 0 <= found.agreement[1] <= 1
        assert steps[-1][0] == steps[-1][1] == len(steps)
        if found.masks:
            session.set_masks(*found.masks)

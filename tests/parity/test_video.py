"""The session gives what the reference video predictor gives, for every checkpoint and every kind of prompt.

Each test replays one row of golden/README.md through the public session: the prompts as a user gives them,
the propagation as a user runs it. What is compared is what the session remembers of each frame: low-res mask
logits, object score and object pointer. The scope is full: one of the masks is small enough for a window
otherwise. The tolerance is 1e-3 of an array's standard deviation; the reference
against itself, with other kernels and threads, differs by 1.3e-4.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from golden_model import CHECKPOINTS, clip, error, golden, inputs, model

from stacksam.session.feature_cache import FeatureCache
from stacksam.session.predictor import Settings
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.session import Session

TOLERANCE = 1e-3
TINY = "sam2.1_hiera_tiny"
# What SAM 2 does otherwise than 2.1 shows in clicks, corrections and absence; the rest is for the patient.
EARLIER = pytest.param("sam2_hiera_tiny", marks=pytest.mark.long)
# Sizes of SAM 2 are those of SAM 2.1, whose every size is followed; of SAM 2 one is enough.
EACH = [
    pytest.param(name, marks=pytest.mark.long) if name.startswith("sam2_") and "tiny" not in name else name
    for name in CHECKPOINTS
]
CLICK = Point(frame=0, object_id=1, yx=(307, 256))

pytestmark = pytest.mark.parity


@lru_cache(maxsize=2)
def encoded(name):
    """Encoded frames, shared by the tests of one checkpoint: they are most of the work."""
    return FeatureCache(2**30)


class Recorded(Session):
    """A session that keeps what the network answered, before it is rounded to half precision for the disk."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._predictor._encoder.cache = encoded(self.model.name)
        self.answers = {}
        make = self._predictor._record

        def record(object_id, frame, view, masks, row, k, **how):
            self.answers[frame] = (
                masks.logits[row, k].numpy()[3::8, 3::8],
                masks.object_score[row].numpy(),
                masks.pointers[row, k].numpy()[::8],
            )
            return make(object_id, frame, view, masks, row, k, **how)

        self._predictor._record = record


def open_session(name, frames, present=True):
    return Recorded(clip(frames), model(name, present), settings=Settings(fill_holes=0, scope="full"))


def compare(session, name, group, frames):
    reference = golden(name)
    for t in frames:
        for key, value in zip(("low_res", "object_score", "object_pointer"), session.answers[t], strict=True):
            wanted = reference[f"video/{group}/frame{t}/{key}"]
            if (wanted == -1024).all():
                np.testing.assert_array_equal(value, wanted)
            else:
                assert error(value, wanted) < TOLERANCE, (group, t, key)


def frames_of(name, group):
    start = f"video/{group}/frame"
    return sorted({int(k[len(start) :].split("/")[0]) for k in golden(name) if k.startswith(start)})


def test_click_followed_for_a_few_frames():
    frames = frames_of(TINY, "point")[:4]
    with open_session(TINY, 24) as session:
        session.add(CLICK)
        list(session.propagate("forward", last=frames[-1]))
        compare(session, TINY, "point", frames)


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_click_followed(name):
    frames = frames_of(name, "point")
    # The clips of the reference end with the last frame shown, and SAM 2.1 places object pointers in time by
    # the length of a clip that is shorter than its horizon of 16 frames.
    with open_session(name, frames[-1] + 1) as session:
        session.add(CLICK)
        list(session.propagate("forward", last=frames[-1]))
        compare(session, name, "point", frames)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TINY, EARLIER])
def test_box_followed(name):
    frames = frames_of(name, "box")
    with open_session(name, 10) as session:
        session.add(Box(frame=0, object_id=1, yxyx=(480, 430, 750, 700)))
        list(session.propagate("forward", last=frames[-1]))
        compare(session, name, "box", frames)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TINY, EARLIER])
def test_mask_followed(name):
    frames = frames_of(name, "mask")
    with open_session(name, 10) as session:
        session.add(Mask(frame=2, object_id=1, mask=inputs.blob_mask(2, 2)))
        list(session.propagate("forward", last=frames[-1]))
        compare(session, name, "mask", frames)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TINY, EARLIER])
def test_both_directions(name):
    with open_session(name, 10) as session:
        session.add(Point(frame=5, object_id=1, yx=(680, 600)))
        forward = frames_of(name, "both_forward")
        list(session.propagate("forward", last=forward[-1]))
        compare(session, name, "both_forward", forward)
        list(session.propagate("backward", first=1))
        compare(session, name, "both_reverse", frames_of(name, "both_reverse"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [TINY, "sam2_hiera_tiny"])
def test_correction_of_a_followed_frame(name):
    frames = frames_of(name, "correction")
    with open_session(name, 10) as session:
        session.add(CLICK)
        list(session.propagate("forward", last=frames[-1]))
        session.add(Point(frame=4, object_id=1, yx=(360, 300), positive=False))
        assert error(session.answers[4][0], golden(name)["video/correction/click/low_res"]) < TOLERANCE
        assert session.stale_frames(1) == (5, 6)  # and frames before it stay as they are, unless asked for:
        list(session.propagate("forward", last=frames[-1], restart=True))
        compare(session, name, "correction", frames)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TINY, EARLIER])
def test_two_prompted_frames(name):
    with open_session(name, 10) as session:
        session.add(CLICK)
        session.add(Point(7, 1, (390, 330)), Point(7, 1, (500, 500), positive=False))
        list(session.propagate("forward"))
        compare(session, name, "two_prompts", frames_of(name, "two_prompts"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [TINY, "sam2_hiera_tiny"])
def test_absent_object(name):
    frames = frames_of(name, "absent")
    with open_session(name, 10, present=False) as session:
        session.add(CLICK)
        list(session.propagate("forward", last=frames[-1]))
        compare(session, name, "absent", frames)

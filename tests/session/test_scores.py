"""Scores are what the masks and flags say, without a look at the masks."""

from __future__ import annotations

import numpy as np
import pytest
from random_model import random_model, run, small_stack

from stacksam.errors import SessionFileError
from stacksam.session.prompts import Mask, Point
from stacksam.session.scores import FrameScores
from stacksam.session.session import Session


def recomputed(session, object_id):
    """Scores of an object, from its updates."""
    frames = session.frames_of(object_id)
    updates = [session.update(object_id, frame) for frame in frames]
    masks = [u.full_mask(session.stack.frame_shape) for u in updates]
    middles = [np.argwhere(m).mean(0) if m.any() else (np.nan, np.nan) for m in masks]
    return {
        "frames": np.array(frames, int),
        "object_score": np.array([u.object_score for u in updates]),
        "predicted_iou": np.array([u.predicted_iou for u in updates]),
        "area": np.array([m.sum() for m in masks], int),
        "centroid": np.array(middles, float).reshape(-1, 2),
        "bbox": np.array([u.bbox for u in updates], int).reshape(-1, 4),
        "prompted": np.array([u.prompted for u in updates], bool),
        "locked": np.isin(frames, session.locked_frames(object_id)),
        "stale": np.isin(frames, session.stale_frames(object_id)),
    }


def check(session):
    found = session.all_scores()
    assert tuple(found) == session.object_ids
    for object_id, scores in found.items():
        assert isinstance(scores, FrameScores)
        assert scores.object_id == object_id
        assert len(scores) == len(session.frames_of(object_id))
        alone = session.scores(object_id)
        for name, expected in recomputed(session, object_id).items():
            values = getattr(scores, name)
            np.testing.assert_array_equal(getattr(alone, name), values)
            np.testing.assert_allclose(values, expected, rtol=1e-12, err_msg=name)
            assert (values.dtype.kind, values.shape) == (expected.dtype.kind, expected.shape)
            assert not values.flags.writeable


def test_scores_are_what_the_masks_say_after_every_action(session):
    assert session.all_scores() == {}
    mask = np.zeros((64, 64), bool)
    mask[3:9, 5:17] = mask[40, 40] = True
    session.add(Point(2, 1, (19, 19)), Mask(0, 2, mask))
    check(session)
    np.testing.assert_allclose(session.scores(2).centroid, [np.argwhere(mask).mean(0)])
    run(session)
    check(session)
    session.lock(1, [4])
    session.add(Point(3, 1, (30, 30)))
    assert session.scores(1).stale.any()
    check(session)
    session.merge(1, [2])
    check(session)
    session.undo()
    check(session)
    session.clear()
    check(session)


def test_an_empty_mask_has_no_centroid(discs, monkeypatch):
    with Session(small_stack(2, 24), random_model()) as session:
        make = session._predictor._record
        monkeypatch.setattr(
            session._predictor, "_record", lambda i, f, y, x, r, t, **rest: make(i, f, -99, -99, r, t, **rest)
        )
        session.add(Point(0, 1, (6, 6)))
        scores = session.scores(1)
        assert scores.area.tolist() == [0]
        assert np.isnan(scores.centroid).all()
        assert scores.bbox.tolist() == [[0, 0, 0, 0]]
        check(session)


def test_an_object_without_results_has_empty_scores(session):
    scores = session.scores(7)
    assert len(scores) == 0
    assert (scores.centroid.shape, scores.bbox.shape) == ((0, 2), (0, 4))


def test_scores_decode_no_masks(session, monkeypatch):
    session.add(Point(2, 1, (19, 19)))
    monkeypatch.setattr("stacksam.session.results.from_row", lambda row: pytest.fail("a record was decoded"))
    assert session.scores(1).area[0] == session.all_scores()[1].area[0] > 0
    plan = session._store._all(
        "EXPLAIN QUERY PLAN SELECT object_id, frame, bbox, area, stale FROM records ORDER BY 1, 2"
    )
    assert "COVERING INDEX records_without_masks" in plan[0][-1]


def test_a_damaged_row_is_told_of(session):
    session.add(Point(2, 1, (19, 19)))
    session._store._run("UPDATE records SET bbox = '[0, 0, 1]'")
    with pytest.raises(SessionFileError, match="results of object 1 are damaged"):
        session.all_scores()

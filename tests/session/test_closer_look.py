"""Prompts of `nano`: masks are settled by a closer look, and corrections may begin anew."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from random_model import random_model, small_stack

from stacksam import Box, Mask, Point, Session
from stacksam.metrics import iou
from stacksam.network.prompt_encoder import BOX_FIRST
from stacksam.network.sam2 import Masks
from stacksam.session.answers import Answers
from stacksam.session.boxes import bbox_of
from stacksam.session.windows import Windows, as_points

SIDE = 256
CELLS = 16  # of the logits along a window: coarse, so that a closer look shows


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(rows - y, columns - x) <= radius


def logits_of(mask: np.ndarray, view) -> np.ndarray:
    """Logits of a mask as a network sees it that knows it: the share of each cell that it covers."""
    y, x, height, width = view.span
    rows = np.clip((y + (np.arange(4 * CELLS) + 0.5) * height / (4 * CELLS)).astype(int), 0, SIDE - 1)
    columns = np.clip((x + (np.arange(4 * CELLS) + 0.5) * width / (4 * CELLS)).astype(int), 0, SIDE - 1)
    share = mask[np.ix_(rows, columns)].reshape(CELLS, 4, CELLS, 4).mean((1, 3))
    return (16 * share - 8).astype(np.float32)


@dataclass
class Oracle:
    """Stands for the network's decoder: what it answers in a window, and what it was asked."""

    first: np.ndarray  # the mask in the window of the prompts
    close: np.ndarray  # the mask where logits are given
    first_iou: float = 0.8
    close_iou: float = 0.9
    asked: list = field(default_factory=list)

    def decode(self, frame, view, prompts, previous, choice, object_id, *, all_three):
        self.asked.append((view, len(prompts), previous))
        mask, belief = (self.first, self.first_iou) if previous is None else (self.close, self.close_iou)
        count = 3 if all_three else 1
        logits = torch.from_numpy(logits_of(mask, view))[None, None].expand(1, count, -1, -1)
        return Masks(logits, torch.full((1, count), belief), torch.zeros(1, count, 8), torch.ones(1, 1))

    def again(self, record, view, prompts):
        return self.decode(record.frame, view, prompts, record, None, record.object_id, all_three=False)


@pytest.fixture
def opened(monkeypatch):
    """A session of windows whose decoder is an oracle."""
    sessions = []

    def start(oracle: Oracle) -> Session:
        monkeypatch.setattr(Answers, "_decode", lambda self, *given, **said: oracle.decode(*given, **said))
        monkeypatch.setattr(Answers, "_mirrored", lambda self, *given: oracle.again(*given))
        session = Session(small_stack(1, side=SIDE), random_model(windowed=True))
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.close()


def answered(session: Session, *prompts) -> np.ndarray:
    for prompt in prompts:
        session.add(prompt)
    return session.mask(1, 0)


def in_frame(view, logits) -> np.ndarray:
    """The mask (rows, columns) of the frame that logits in a view make."""
    (y0, x0, y1, x1), inside = view.mask(logits.astype(np.float32), (SIDE, SIDE))
    whole = np.zeros((SIDE, SIDE), bool)
    whole[y0:y1, x0:x1] = inside
    return whole


BOX = Box(frame=0, object_id=1, yxyx=(100.0, 90.0, 140.0, 130.0))
TRUTH = disc(120, 110, 20)


def test_a_closer_look_gives_the_mask_and_keeps_the_window(opened):
    oracle = Oracle(TRUTH, TRUTH)
    session = opened(oracle)
    found = answered(session, BOX)
    (wide, _, none), (close, _, given) = oracle.asked
    assert none is None
    assert given.view == wide
    assert close.height < wide.height
    kept = session._objects.recall(1, 0)
    assert np.array_equal(found, in_frame(close, logits_of(TRUTH, close)))
    assert not np.array_equal(found, in_frame(wide, logits_of(TRUTH, wide)))
    assert kept.view == wide
    assert kept.logits.shape == (CELLS, CELLS)
    assert kept.predicted_iou == pytest.approx(0.9)


def test_memories_are_made_of_what_the_closer_look_found(opened):
    """The first look finds too large a mask; logits that are kept are as small as the mask that is shown."""
    session = opened(Oracle(disc(120, 110, 34), TRUTH))
    answered(session, BOX)
    kept = session._objects.recall(1, 0)
    assert iou(in_frame(kept.view, kept.logits), TRUTH) > 0.8


@pytest.mark.parametrize(
    ("oracle", "why"),
    [
        (Oracle(TRUTH, disc(120, 110, 18), close_iou=0.7), "it is believed in less"),
        (Oracle(TRUTH, disc(120, 60, 20)), "it is not what the box is around"),
        (Oracle(TRUTH, disc(120, 110, 90)), "the window cuts it"),
        (Oracle(TRUTH, np.zeros_like(TRUTH)), "there is nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_closer_look_that_is_no_better_changes_nothing(opened, oracle, why):
    session = opened(oracle)
    answered(session, BOX)
    kept = session._objects.recall(1, 0)
    assert len(oracle.asked) == 2
    assert kept.predicted_iou == pytest.approx(0.8)
    assert np.array_equal(kept.logits, logits_of(TRUTH, kept.view))


def test_a_click_alone_has_no_size_to_look_closer_by(opened):
    oracle = Oracle(TRUTH, TRUTH)
    session = opened(oracle)
    session._predictor._answers._search = lambda object_id, frame, *_: (window(), None, [])
    answered(session, Point(frame=0, object_id=1, yx=(120.0, 110.0)))
    assert [(view, previous) for view, _, previous in oracle.asked] == [(window(), None)]


def window(side: float = 180.0):
    return Windows((SIDE, SIDE), 64).at((120.0, 110.0), side)


def of(session: Session, mask: np.ndarray, belief: float):
    """What a search answers, in full resolution."""
    kept = session._objects.recall(1, 0)
    y0, x0, y1, x1 = bbox_of(mask)
    return replace(
        kept,
        view=window(),
        logits=logits_of(mask, window()),
        bbox=(y0, x0, y1, x1),
        mask=mask[y0:y1, x0:x1],
        predicted_iou=belief,
    )


@pytest.mark.parametrize(
    ("corrected", "belief", "taken"),
    [
        (disc(120, 110, 60), 0.5, True),  # the negative click is not heeded
        (disc(120, 110, 30), 0.9, False),  # it is, and the other is hardly better
        (disc(120, 110, 30), 0.3, True),  # it is, but hardly believed in
    ],
)
def test_a_correction_begins_anew_where_that_does_more_of_what_is_said(opened, corrected, belief, taken):
    """A click was taken for something large; a second one says that it is not."""
    oracle = Oracle(disc(120, 110, 70), corrected, 0.6, belief)
    session = opened(oracle)
    found = []
    session._predictor._answers._search = lambda *_: (window(), found[0] if found else None, found)
    answered(session, Point(frame=0, object_id=1, yx=(120.0, 110.0)))
    found.append(of(session, TRUTH, 0.95))
    shown = answered(session, Point(frame=0, object_id=1, yx=(120.0, 155.0), positive=False))
    assert (iou(shown, TRUTH) > 0.9) == taken


def test_a_painted_mask_that_clicks_refine_is_not_looked_for_anew(opened):
    oracle = Oracle(TRUTH, TRUTH)
    session = opened(oracle)

    def search(*_):
        raise AssertionError("clicks alone would forget what was painted")

    session._predictor._answers._search = search
    answered(session, Mask(0, 1, TRUTH), Point(frame=0, object_id=1, yx=(135.0, 110.0)))
    assert iou(session.mask(1, 0), TRUTH) > 0.9


def painting(features, top, points, labels, logits, *, candidates):
    """In place of the network's decoder: logits that tell where it was asked, and nothing of the picture."""
    rows, columns = (t.float() * 4 + 1.5 for t in torch.meshgrid(*[torch.arange(16)] * 2, indexing="ij"))
    drawn = []
    for own, kinds, hint in zip(points, labels, logits[:, 0], strict=True):
        first, second = own[0], own[1]
        boxed = kinds[0] == BOX_FIRST
        x, y = own[2] if boxed else own[0]
        near = 100.0 - (rows - y) ** 2 - 3 * (columns - x) ** 2 + hint
        within = (columns >= first[0]) & (columns <= second[0]) & (rows >= first[1]) & (rows <= second[1])
        drawn.append(torch.where(within, near, -50.0) if boxed else near)
    count = len(points)
    return Masks(
        torch.stack(drawn)[:, None], torch.ones(count, 1), torch.zeros(count, 1, 8), torch.ones(count, 1)
    )


@pytest.mark.parametrize("boxed", [True, False], ids=["box and click", "clicks"])
def test_mirrored_looks_are_of_the_same_place(boxed, monkeypatch):
    """A decoder that answers by place alone says the same in all of them, so their mean is any one's."""
    with Session(small_stack(1, side=SIDE), random_model(windowed=True)) as session:
        answers, network = session._predictor._answers, session.model.network
        session.add(Mask(0, 1, TRUTH))
        record = session._objects.recall(1, 0)
        monkeypatch.setattr(network, "decode_masks", painting)
        click = Point(frame=0, object_id=1, yx=(126.0, 101.0))
        prompts = [BOX, click] if boxed else [click, Point(frame=0, object_id=1, yx=(90.0, 90.0))]
        view = window(120.0)
        (seen,) = answers._mirrored(record, view, prompts).logits[0]
        points, labels = as_points(view, prompts)
        hint = torch.from_numpy(record.view.carry(record.logits, view))[None, None]
        alone = painting(None, None, points, labels, hint, candidates=False).logits[0, 0]
        torch.testing.assert_close(seen, alone, rtol=1e-4, atol=1e-3)

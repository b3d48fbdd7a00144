"""A small network of fixed random weights, stacks for it, and what can be seen of a session."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from stacksam.network.config import PRESETS, ConvTrunkConfig
from stacksam.network.sam2 import Sam2
from stacksam.session.boxes import bbox_of
from stacksam.session.canvas import View
from stacksam.session.judge import gone
from stacksam.session.memory_bank import MemoryBank
from stacksam.session.models import Model
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.records import Record, to_row
from stacksam.session.stack import open_stack

CPU = torch.device("cpu")
CONFIG = replace(  # the embedded model's architecture, made tiny
    PRESETS["nano"],
    trunk=ConvTrunkConfig(widths=(16, 16, 32, 32), depths=(1, 1, 1, 1)),
    image_size=64,
    width=32,
    memory_width=16,
    memory_hidden=64,
    decoder_hidden=64,
    top_down=False,
    refine=False,  # of no matter here, and costs time
)


@lru_cache
def random_network() -> Sam2:
    """Weights under which every prompt, memory and pixel matters, and masks are neither empty nor full."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Sam2(CONFIG).eval().requires_grad_(False)
        for name, weight in network.named_parameters():
            if weight.ndim >= 2:
                weight.mul_(2.0)
            elif "norm" not in name:
                weight.add_(torch.randn_like(weight) * 0.05)
        for weight in (network.maskmem_tpos_enc, network.no_mem_embed, network.no_obj_ptr):
            weight.normal_(std=0.3)
        decoder = network.sam_mask_decoder
        decoder.pred_obj_score_head.layers[-1].weight.mul_(3)
        decoder.pred_obj_score_head.layers[-1].bias.fill_(2.0)
        for head in decoder.output_hypernetworks_mlps:
            head.layers[-1].weight.mul_(20)
            head.layers[-1].bias.normal_()
    return network


def random_model(*, windowed: bool = True, digest: str = "digest", name: str = "random") -> Model:
    return Model(random_network(), name, digest, CPU, torch.float32, windowed)


def small_stack(n_frames: int = 6, side: int = 64, seed: int = 0):
    """Two drifting blobs in noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    frames = rng.normal(0, 0.1, (n_frames, side, side))
    for t in range(n_frames):
        for cy, cx in ((0.3 * side + t, 0.3 * side), (0.7 * side, 0.6 * side - t)):
            frames[t] += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 50)
    return open_stack(frames.astype(np.float32), axes="tyx", intensity=(-0.5, 1.5))


class DiscPredictor:
    """In place of a Predictor: it paints discs, at once; each result tells of everything it came from.

    A painted mask is taken as it is.
    """

    finds_ends = False
    looks = 1

    def __init__(self, model, stack, settings, recall, folder=None):
        self.stack, self.settings = stack, settings
        frames = model.config.max_pointers if stack.live else stack.n_frames
        self.max_pointers = min(frames, model.config.max_pointers)
        self.bank = MemoryBank(model.config.recent_memories, self.max_pointers)
        self.recall = recall
        self.encoder = None

    def close(self):
        pass

    def prepare(self, objects):
        pass

    def answer(self, object_id, frame, prompts, previous, choice, candidate, near):
        found = self.candidates(object_id, frame, prompts, previous, choice, near, all_three=True)
        return found[candidate or 0]

    def candidates(self, object_id, frame, prompts, previous, choice, near, *, all_three):
        last = prompts[-1]
        if isinstance(last, Mask):
            y, x = np.argwhere(last.mask).mean(0)
        elif isinstance(last, Box):
            y, x = (last.yxyx[0] + last.yxyx[2]) / 2, (last.yxyx[1] + last.yxyx[3]) / 2
        else:
            y, x = last.yx
        used = [p.yx[0] * (1 if p.positive else -1) for p in prompts if isinstance(p, Point)]
        trace = [sum(used), len(prompts), 0 if previous is None else previous.pointer.sum()]
        found = [
            self._record(object_id, frame, y, x, 4 + k + len(prompts), trace, prompted=True) for k in range(3)
        ]
        if isinstance(last, Mask):
            y0, x0, y1, x1 = own = bbox_of(last.mask)
            found = [replace(one, bbox=own, mask=last.mask[y0:y1, x0:x1]) for one in found]
        return found

    def painted(self, frame, masks):
        return [self.answer(m.object_id, frame, [m], None, None, None, None) for m in masks]

    def follow(self, frame, requests, step):
        found = []
        for request in requests:
            choice, before = request.choice, request.previous
            y0, x0, y1, x1 = before.bbox
            sources = {*choice.conditioning, *(f for f, _ in choice.recent), *(f for f, _ in choice.pointers)}
            trace = [self.recall(request.object_id, f).pointer.sum() / 7 for f in sources]
            place = (y0 + y1) / 2, (x0 + x1) / 2 + step
            rest = {"step": step, "sources": tuple(sorted(sources))}
            found.append(self._record(request.object_id, frame, *place, 6, [frame, *trace], **rest))
        return found

    def remember(self, records):
        pass

    def absent(self, record):
        return gone(record)

    def with_mask(self, record, mask):
        return replace(record, bbox=mask.bbox, mask=mask.painted)

    def _record(self, object_id, frame, y, x, radius, trace, **rest):
        height, width = self.stack.frame_shape
        rows, columns = np.ogrid[:height, :width]
        full = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        bbox = bbox_of(full)
        return Record(
            object_id,
            frame,
            View(0, 0, height, width, 16),
            np.full((4, 4), sum(trace) % 10, np.float16),
            np.array([sum(trace) % 1000], np.float32),
            1.0,
            0.9 - radius / 100,
            bbox,
            full[bbox[0] : bbox[2], bbox[1] : bbox[3]],
            **rest,
        )


def rows(session, object_id, frames=None):
    """Records of an object as they are on disk, byte for byte, by frame."""
    wanted = session.frames_of(object_id) if frames is None else frames
    return {frame: to_row(session._store.get(object_id, frame)) for frame in wanted}


def labels(session):
    """All label frames; those on disk must be the same."""
    frames = np.stack([session.label_frame(i) for i in range(session.stack.n_frames)])
    np.testing.assert_array_equal(session.labels[...], frames)
    return frames


def run(session, *arguments, **options):
    """Propagate to the end; (frame, object id) of all updates, in order."""
    return [(u.frame, u.object_id) for u in session.propagate(*arguments, **options)]


def state(session):
    """All that an error must leave as it was."""
    return (
        session.object_ids,
        session.prompts,
        session.history,
        {i: rows(session, i) for i in session.object_ids},
        {i: (session.stale_frames(i), session.locked_frames(i)) for i in session.object_ids},
        labels(session).tobytes(),
        session.names,
    )

"""What was encoded once is found on disk again: by the other direction, a correction, the next session."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import torch
from random_model import random_model, small_stack

from stacksam.network.sam2 import Features
from stacksam.session.canvas import View
from stacksam.session.disk_cache import DiskCache
from stacksam.session.encoder import Encoder
from stacksam.session.prompts import Point
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.stack import open_stack

CPU = torch.device("cpu")
VIEW = View(0, 0, 64, 64, 64)


def features(seed=0, dtype=torch.bfloat16):
    torch.manual_seed(seed)
    return Features(
        torch.randn(1, 2, 16, 16).to(dtype), torch.randn(1, 4, 8, 8).to(dtype), torch.randn(1, 8, 4, 4)
    )


def size_of(found):
    return sum(level.element_size() * level.nelement() for level in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_come_back_bit_for_bit(tmp_path, dtype):
    cache = DiskCache(tmp_path / "f", 10**6, dtype)
    kept = features(dtype=dtype)
    cache.put(3, VIEW, kept)
    for again in (cache, DiskCache(tmp_path / "f", 10**6, dtype)):
        for level, wanted in zip(again.get(3, VIEW, CPU), kept, strict=True):
            assert level.dtype == wanted.dtype
            assert torch.equal(level, wanted)
        assert again.bytes == size_of(kept)
    assert cache.get(4, VIEW, CPU) is None
    assert cache.get(3, View(0, 0, 64, 64, 64, True), CPU) is None
    other = torch.float32 if dtype == torch.bfloat16 else torch.bfloat16
    assert DiskCache(tmp_path / "f", 10**6, other).get(3, VIEW, CPU) is None


def test_it_stays_within_its_bound_and_the_oldest_go_first(tmp_path):
    one = size_of(features())
    cache = DiskCache(tmp_path / "f", 3 * one, torch.bfloat16)
    for frame in range(5):
        cache.put(frame, VIEW, features(frame))
        assert cache.bytes <= 3 * one
    assert [f for f in range(5) if cache.get(f, VIEW, CPU)] == [2, 3, 4]
    assert len(list((tmp_path / "f").iterdir())) == 3
    smaller = DiskCache(tmp_path / "f", one, torch.bfloat16)
    assert [f for f in range(5) if smaller.get(f, VIEW, CPU)] == [4]
    smaller.put(9, VIEW, Features(*(torch.zeros(1, 99, 64, 64) for _ in range(3))))  # larger than all
    assert smaller.get(9, VIEW, CPU) is None


def test_what_was_damaged_or_not_finished_is_forgotten(tmp_path):
    cache = DiskCache(tmp_path / "f", 10**6, torch.bfloat16)
    cache.put(0, VIEW, features())
    cache.put(1, VIEW, features())
    first, second = sorted((tmp_path / "f").iterdir())
    shutil.rmtree(first / "top")
    assert cache.get(0, VIEW, CPU) is None
    assert cache.get(1, VIEW, CPU) is not None
    (second / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert DiskCache(tmp_path / "f", 10**6, torch.bfloat16).bytes == 0
    assert not second.exists()


def test_a_disk_that_refuses_makes_it_forgetful(tmp_path):
    (tmp_path / "f").write_text("a file where the folder should be")
    cache = DiskCache(tmp_path / "f", 10**6, torch.bfloat16)
    cache.put(0, VIEW, features())
    assert cache.get(0, VIEW, CPU) is None


@pytest.mark.parametrize("windowed", [False, True])
def test_no_frame_is_encoded_twice(tmp_path, windowed):
    settings = Settings(cache_bytes=0, disk_cache_bytes=10**8)
    model, stack = random_model(windowed=windowed), small_stack(8)
    with Session(stack, model, tmp_path / "s", settings=settings) as session:
        session.add(Point(3, 1, (20.0, 20.0)))
        list(session.propagate("both"))
        done = session._predictor.features_encoded
        if not windowed:
            assert done == 8
        list(session.propagate("both", restart=True))
        assert session._predictor.features_encoded == done
        labels = session.labels[:]
    with Session(stack, model, tmp_path / "s", settings=settings) as session:
        list(session.propagate("both", restart=True))
        assert session._predictor.features_encoded == 0
        np.testing.assert_array_equal(session.labels[:], labels)


def test_the_next_frame_is_read_in_the_background():
    class Slow:
        """An array that tells which thread read which frame."""

        def __init__(self):
            self.data = np.random.default_rng(0).integers(0, 255, (5, 64, 64), np.uint8)
            self.shape, self.dtype, self.reads = self.data.shape, self.data.dtype, []

        def __getitem__(self, key):
            self.reads.append((key[0], threading.current_thread().name))
            return self.data[key]

    slow = Slow()
    stack = open_stack(slow, axes="tyx", intensity=(0, 255))
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (20.0, 20.0)))
        slow.reads.clear()
        list(session.propagate("forward"))
        assert sorted(frame for frame, _ in slow.reads) == [1, 2, 3, 4]
        assert {thread.split("_")[0] for frame, thread in slow.reads if frame > 1} == {"stacksam-read"}
    assert not [t for t in threading.enumerate() if t.name.startswith("stacksam-read")]


def test_reading_ahead_fails_where_the_frame_is_needed():
    class Broken:
        shape, dtype = (4, 64, 64), np.dtype(np.uint8)

        def __getitem__(self, key):
            if key[0] == 2:
                raise OSError("the disk is gone")
            return np.zeros((64, 64), np.uint8)

    stack = open_stack(Broken(), axes="tyx", intensity=(0, 255))
    encoder = Encoder(random_model(), stack, Settings())
    encoder.read_ahead(2)
    assert encoder.cut(1, VIEW).shape == (3, 64, 64)
    with pytest.raises(Exception, match="the disk is gone"):
        encoder.cut(2, VIEW)
    encoder.close()

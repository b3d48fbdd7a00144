"""A session keeps to the memory there is: it tells what it needs, stays under a ceiling, and gives way."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_model import random_model, small_stack

from stacksam.errors import DeviceMemoryError, InputError
from stacksam.session.canvas import View
from stacksam.session.encoder import Encoder
from stacksam.session.needs import fitting, needs
from stacksam.session.prompts import Point
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.stack import open_stack

SHAPE = (64, 64)
POINTS = [Point(0, i + 1, (float(10 + 4 * i), 20.0)) for i in range(12)]


def labels_of(session):
    session.add(*POINTS)
    list(session.propagate())
    return session.labels[:]


@pytest.mark.parametrize("windowed", [True, False])
def test_more_objects_and_larger_frames_need_more(windowed):
    model = random_model(windowed=windowed)

    def total(shape, objects, **settings):
        return needs(model, shape, objects, Settings(**settings)).total

    assert total(SHAPE, 1) < total(SHAPE, 2) < total(SHAPE, 100)
    assert total(SHAPE, 1) < total((2000, 2000), 1)
    assert total((10**5, 10**5), 1) == total((10**4, 10**4), 1)  # large frames are read in parts
    assert total(SHAPE, 1, cache_bytes=0) < total(SHAPE, 1)
    assert total(SHAPE, 50, batch=1) <= total(SHAPE, 50)  # encoding a whole frame may be what takes most
    if windowed:
        assert total(SHAPE, 50, batch=1) < total(SHAPE, 50)


def test_sections_across_planes_are_counted():
    model = random_model()
    volume = np.zeros((5, *SHAPE), np.float32)
    told = {}
    for axes in ("zyx", "tyx"):
        with Session(open_stack(volume, axes=axes, intensity=(0.0, 1.0)), model) as session:
            told[axes] = session.needs(1).work
    assert told["tyx"] == needs(model, SHAPE, 1, Settings()).work
    assert told["zyx"] == needs(model, SHAPE, 12, Settings()).work > told["tyx"]


def test_under_a_ceiling_the_cache_goes_first_then_the_batch():
    model = random_model()
    free = Settings()
    full = needs(model, SHAPE, 50, free).total
    assert fitting(model, SHAPE, 50, free, full) == free
    less_cache = fitting(model, SHAPE, 50, free, full - 2**20)
    assert less_cache == replace(free, cache_bytes=free.cache_bytes - 2**20)
    smallest = needs(model, SHAPE, 50, replace(free, cache_bytes=0, batch=1)).total
    assert fitting(model, SHAPE, 50, free, smallest) == replace(free, cache_bytes=0, batch=1)
    with pytest.raises(DeviceMemoryError, match=r"50 objects on frames of 64 x 64 pixels take \d+ MB"):
        fitting(model, SHAPE, 50, free, smallest - 1)


def test_a_session_under_a_ceiling_gives_the_same_labels():
    model, stack = random_model(), small_stack()
    with Session(stack, model) as session:
        expected = labels_of(session)
        told = session.needs()
        assert told == session.needs(12)
        assert session.needs(1).total < told.total
    least = needs(model, SHAPE, 12, Settings(cache_bytes=0, batch=1)).total
    with Session(stack, model, settings=Settings(max_memory=least)) as session:
        # Sums of another batch are rounded otherwise, and random masks hang by a thread.
        assert (labels_of(session) == expected).mean() > 0.99
    with Session(stack, model, settings=Settings(max_memory=2**20)) as session:
        session.add(POINTS[0])
        with pytest.raises(DeviceMemoryError, match="only 1 MB are allowed"):
            session.propagate()


def test_a_number_of_objects_is_a_number():
    with Session(small_stack(), random_model()) as session:
        with pytest.raises(InputError, match="objects is -1; give 0 or more"):
            session.needs(-1)
        with pytest.raises(InputError, match="objects"):
            session.needs("two")


# Which argument of a method has a row for each object or picture.
ROWS = {
    "condition": lambda features, memories, *_: len(memories.spatial),
    "encode_memory": lambda features, logits, *_: len(logits),
}


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory")]
)
@pytest.mark.parametrize("room", [1, 3])
@pytest.mark.parametrize("method", ROWS)
def test_a_device_that_runs_out_of_memory_gets_less_at_once(monkeypatch, error, room, method):
    model, stack = random_model(), small_stack(3, side=300)
    points = [Point(0, i + 1, (20.0 + 30 * i, 280.0 - 25 * i)) for i in range(10)]
    network = model.network
    real, sizes = getattr(network, method), []

    def limited(*args, **kwargs):
        sizes.append(ROWS[method](*args))
        if sizes[-1] > room:
            raise error
        return real(*args, **kwargs)

    with Session(stack, model) as session:
        session.add(*points)
        monkeypatch.setattr(network, method, limited)
        told = r"cpu ran out of memory on \d+ objects at once; going on with"
        with pytest.warns(RuntimeWarning, match=told):
            updates = list(session.propagate())
        assert len(updates) == 20
    assert max(sizes) > room
    assert sizes[-1] <= room  # and it does not try again


@pytest.mark.parametrize("room", [1, 3])
def test_pictures_are_encoded_fewer_at_once_where_memory_runs_out(monkeypatch, room):
    model = random_model()
    encoder = Encoder(model, small_stack(1), Settings())
    views = [View(4 * i, 0, 16, 16, 64) for i in range(9)]
    expected = encoder.features(0, views)
    encoder.cache.clear()
    real = model.network.encode_image

    def limited(pictures):
        if len(pictures) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(pictures)

    monkeypatch.setattr(model.network, "encode_image", limited)
    with pytest.warns(RuntimeWarning) as told:
        found = encoder.features(0, views)
    assert str(told[0].message) == "cpu ran out of memory on 9 objects at once; going on with 4"
    for level, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(level, wanted)


def test_without_room_for_one_object_the_error_says_what_to_do(monkeypatch):
    model, stack = random_model(), small_stack()
    with Session(stack, model) as session:
        session.add(POINTS[0])
        updates = session.propagate()
        next(updates)

        def none(*args, **kwargs):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(model.network, "condition", none)
        with pytest.raises(DeviceMemoryError, match="cpu ran out of memory on a single object; close other"):
            list(updates)
        assert session.frames_of(1) == (0, 1)  # what was given is safe


def test_other_errors_of_a_device_are_told_as_they_are(monkeypatch):
    model = random_model()
    with Session(small_stack(), model) as session, warnings.catch_warnings():
        session.add(POINTS[0])

        def broken(*args, **kwargs):
            raise RuntimeError("device-side assert triggered")

        monkeypatch.setattr(model.network, "condition", broken)
        with pytest.raises(RuntimeError, match="device-side assert"):
            list(session.propagate())

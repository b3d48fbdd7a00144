"""Prompts are read as they were written, and what cannot be one is told with its place."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from stacksam.errors import InputError, SessionFileError, StackError
from stacksam.prompt_files import (
    box_from_text,
    check_all,
    check_session_stack,
    point_from_text,
    prompts_from_labels,
    read_prompts,
    read_session_prompts,
)
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.stack import open_stack


@pytest.fixture
def stack():
    return open_stack(np.random.default_rng(0).integers(0, 99, (4, 30, 40)).astype(np.uint16))


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_text():
    assert point_from_text("2, 1,120.5,96").prompt == Point(2, 1, (120.5, 96.0))
    assert point_from_text("2,1,1e1,96", positive=False).prompt == Point(2, 1, (10.0, 96.0), False)
    assert box_from_text("0,3,1,2,5,6").prompt == Box(0, 3, (1.0, 2.0, 5.0, 6.0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2,3", "--point 1,2,3: 3 values; give FRAME,ID,Y,X, 4 numbers"),
        ("a,2,3,4", "FRAME is 'a'; give a whole number"),
        ("0,1.5,3,4", "ID is '1.5'; give a whole number"),
        ("0,1,,4", "Y is ''; give a number"),
    ],
)
def test_text_that_is_no_point(text, words):
    with pytest.raises(InputError, match=words):
        point_from_text(text)


ROWS = [Point(0, 1, (3.0, 4.0)), Point(1, 1, (5.0, 6.5), False), Box(0, 2, (1.0, 2.0, 8.0, 9.0))]


def test_a_table_and_a_list_say_the_same(write):
    table = write(
        "p.csv", "Kind, frame ,id,y,x,y1,x1\npoint,0,1,3,4,,\nnegative,1,1,5,6.5\n\nbox,0,2,1,2,8,9\n"
    )
    rows = [
        {"kind": "point", "frame": 0, "id": 1, "y": 3, "x": 4},
        {"kind": "negative", "frame": 1, "id": 1, "y": 5, "x": 6.5},
        {"kind": "box", "frame": 0, "id": 2, "y": 1, "x": 2, "y1": 8, "x1": 9},
    ]
    listed = write("p.json", json.dumps(rows))
    for path in (table, listed):
        assert [given.prompt for given in read_prompts(path)] == ROWS


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.txt", "", "neither .csv nor .json"),
        ("p.csv", "kind,frame,id,y\n", "no column x; its first line should be"),
        ("p.csv", "kind,frame,id,y,x\n", "holds no prompts"),
        (
            "p.csv",
            "kind,frame,id,y,x\npoint,0,1,2,3\ncircle,0,1,2,3\n",
            "line 3: kind is 'circle'; use one of",
        ),
        ("p.csv", "kind,frame,id,y,x\nbox,0,1,2,3\n", "line 2: y1 is None; give a number"),
        ("p.csv", "kind,frame,id,y,x\npoint,0,cell,2,3\n", "line 2: id is 'cell'; give a whole number"),
        ("p.json", "{", "cannot read prompts"),
        ("p.json", "{}", "not a list of prompts"),
        ("p.json", '[{"kind": "point", "frame": 0.5, "id": 1, "y": 1, "x": 1}]', "prompt 1: frame is 0.5"),
        ("p.json", '[{"kind": "point", "frame": 0, "id": 1, "y": [1], "x": 1}]', "y is .1.; give a number"),
    ],
)
def test_files_that_hold_something_else(write, name, text, words):
    with pytest.raises(InputError, match=words):
        read_prompts(write(name, text))


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read prompts"):
        read_prompts(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9,1,2,3", "--point 9,1,2,3: frame 9 is outside the stack; frames are 0 to 3"),
        ("0,0,2,3", "object id 0"),
        ("0,1,2,40", "outside the frame"),
        ("0,1,nan,4", "finite"),
    ],
)
def test_prompts_are_checked_against_the_stack(stack, text, words):
    with pytest.raises(InputError, match=words):
        check_all([point_from_text("0,1,2,3"), point_from_text(text)], stack)


def test_none_is_an_error_and_twins_count_once(stack):
    with pytest.raises(InputError, match="there are no prompts"):
        check_all([], stack)
    assert len(check_all([point_from_text("0,1,2,3"), point_from_text("0,1,2.0,3")], stack)) == 1


@pytest.mark.parametrize(
    ("prompts", "wrong"),
    [
        (["-0,1,2,3"], "object 1 has only negative clicks on frame 0, .*--point, --box"),
        (["-0,1,2,3", "+1,1,2,3"], "object 1 has only negative clicks on frame 0"),
        (["+0,2,2,3", "-3,1,2,3", "-2,1,2,3"], "object 1 has only negative clicks on frame 2"),
        (["+0,1,2,3", "-2,1,2,3"], None),
        (["-0,1,2,3", "+0,1,9,9"], None),
        (["-0,1,2,3", "box"], None),
    ],
)
def test_an_object_begins_where_it_is(stack, prompts, wrong):
    given = [
        box_from_text("0,1,1,2,5,6") if text == "box" else point_from_text(text[1:], positive=text[0] == "+")
        for text in prompts
    ]
    if wrong is None:
        assert len(check_all(given, stack)) == len(given)
        return
    with pytest.raises(InputError, match=wrong):
        check_all(given, stack)


@pytest.mark.parametrize("shape", [(30, 40), (4, 30, 40)])
def test_objects_of_a_label_image(tmp_path, stack, shape):
    labels = np.zeros(shape, np.uint16)
    frame = labels if labels.ndim == 2 else labels[2]
    frame[5:10, 8:20] = 4
    frame[20, 3:9] = 300
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, labels, photometric="minisblack")
    masks = prompts_from_labels(path, stack, 2)
    assert [given.prompt for given in masks] == [Mask(2, 4, frame == 4), Mask(2, 300, frame == 300)]
    boxes = check_all(prompts_from_labels(path, stack, 2, "box"), stack)
    assert boxes == (Box(2, 4, (5, 8, 9, 19)), Box(2, 300, (20, 3, 21, 8)))
    for point in check_all(prompts_from_labels(path, stack, 2, "point"), stack):
        y, x = (int(v) for v in point.yx)
        assert frame[y, x] == point.object_id


def test_labels_that_do_not_fit(tmp_path, stack):
    def saved(shape, dtype=np.uint16):
        tifffile.imwrite(tmp_path / "l.tif", np.zeros(shape, dtype), photometric="minisblack")
        return tmp_path / "l.tif"

    with pytest.raises(InputError, match="30 × 41 pixels"):
        prompts_from_labels(saved((30, 41)), stack, None)
    with pytest.raises(InputError, match="a stack of 4 frames"):
        prompts_from_labels(saved((5, 30, 40)), stack, None)
    with pytest.raises(InputError, match="empty on frame 0"):
        prompts_from_labels(saved((30, 40)), stack, None)
    with pytest.raises(InputError, match="--labels-frame 4 is outside"):
        prompts_from_labels(saved((30, 40)), stack, 4)
    with pytest.raises(InputError, match="cannot become a 'circle'"):
        prompts_from_labels(saved((30, 40)), stack, 0, "circle")
    with pytest.raises(StackError, match="whole numbers"):
        prompts_from_labels(saved((30, 40), np.float32), stack, None)


def session_file(write, **more):
    about = {"format": "stacksam-session", "version": 1, "stack": {}, "model": {}, "settings": {}}
    return write("session.json", json.dumps(about | {"actions": []} | more))


def test_a_session_is_of_its_stack(write, stack):
    own = session_file(write, stack=stack.describe())
    check_session_stack(own, stack)
    check_session_stack(own, open_stack(stack.image.read()))  # wherever the pixels lie
    other = open_stack(np.zeros((4, 30, 40), np.uint16))
    with pytest.raises(InputError, match=r"session\.json is of another stack.*--other-stack"):
        check_session_stack(own, other)
    with pytest.raises(SessionFileError, match="is damaged"):
        check_session_stack(session_file(write), stack)


def test_session_files_that_cannot_be_read(write, tmp_path):
    with pytest.raises(
        SessionFileError, match=r"missing\.json cannot be read: No such file or directory; give"
    ):
        read_session_prompts(tmp_path / "missing.json")
    with pytest.raises(SessionFileError, match="cannot be read"):
        read_session_prompts(session_file(write, prompts=[{"frame": 0}]))
    with pytest.raises(SessionFileError, match="cannot be read"):
        read_session_prompts(session_file(write))

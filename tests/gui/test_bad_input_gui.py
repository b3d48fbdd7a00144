"""What goes wrong is told, one notification each; nothing that was found is lost, and work can go on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtWidgets import QPushButton
from robot import Robot, workers

from stacksam import assets
from stacksam.errors import StorageError
from stacksam.plugin.exporting import FileFormat
from stacksam.session.results import ResultStore

HERE, THERE = (20.0, 20.0), (44.0, 40.0)


def click(robot: Robot, yx=HERE) -> None:
    """Click, and wait for the answer."""
    before = len(robot.prompts)
    robot.click(yx)
    robot.wait(lambda: len(robot.prompts) == before + 1)
    robot.settle()


def can_start(robot: Robot) -> bool:
    return robot.dock.image_part.start.isEnabled()


def works(robot: Robot) -> None:
    """A session can be opened, and it answers."""
    robot.told.clear()
    robot.start()
    robot.show_frame(0)
    click(robot, THERE)
    assert len(workers()) == 1
    assert not [text for text in robot.told if text.startswith(("error", "warning"))]


# --- images that cannot be used ----------------------------------------------------------------------------


def test_without_an_image_there_is_nothing_to_start(robot):
    assert not can_start(robot)
    assert "Open an image" in robot.dock.next_step.text()
    assert not robot.dock.sections[3].isEnabled()


def test_a_single_image_is_one_frame(robot, gate, blobs):
    robot.viewer.add_image(blobs[0], name="single")
    robot.start()
    assert robot.session.stack.n_frames == 1
    robot.click(HERE)
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()
    assert (np.asarray(robot.dock.layers.result.data) == 1).any()
    robot.push(robot.dock.follow_part.go)
    robot.wait(lambda: robot.told)
    robot.followed()
    assert robot.told == ["info: Followed to the end"]


def test_a_stack_of_one_frame_is_followed_at_once(robot, gate, blobs):
    robot.viewer.add_image(blobs[:1], name="one")
    robot.start()
    click(robot)
    robot.follow()
    assert robot.session.frames_of(1) == (0,)


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")  # napari's own
@pytest.mark.parametrize("data", [np.arange(9.0), np.ones((8, 64, 64), complex)], ids=["1D", "complex"])
def test_what_napari_cannot_show_leaves_the_dock_as_it_was(robot, gate, blobs, data):
    with pytest.raises((NotImplementedError, ValueError)):
        robot.viewer.add_image(data, name="impossible")
    assert not can_start(robot)
    assert robot.dock.image_part.layer_box.count() == 0
    robot.viewer.add_image(blobs, name="blobs")
    works(robot)


def test_other_layers_are_not_offered(robot, blobs):
    viewer, box = robot.viewer, robot.dock.image_part.layer_box
    viewer.add_labels(np.ones((8, 64, 64), int), name="labels")
    viewer.add_points(np.zeros((1, 3)), name="points")
    viewer.add_shapes(None, ndim=3, name="shapes")
    assert box.count() == 0
    assert not can_start(robot)
    viewer.add_image(blobs, name="blobs")
    viewer.layers.selection.active = viewer.layers["labels"]
    assert [box.itemText(i) for i in range(box.count())] == ["blobs"]
    robot.wait(lambda: can_start(robot))


def test_an_image_is_described_as_it_is_now(robot, gate, blobs):
    image = robot.viewer.add_image(blobs[0], name="blobs")
    assert robot.dock.image_part.choice().frame_dim is None
    image.data = blobs
    assert robot.dock.image_part.choice().frame_dim == 0
    works(robot)


def test_a_brightness_without_range_is_told(robot, gate, blobs):
    robot.viewer.add_image(blobs, name="blobs")
    part = robot.dock.image_part
    robot.choose(part.intensity, "range")
    robot.type(part.low, "5")
    robot.type(part.high, "1")
    robot.wait(lambda: "the second must be the larger one" in part.message.text())
    robot.push(part.start)
    robot.wait_for_word("the second must be the larger one")
    robot.choose(part.intensity, "auto")
    works(robot)


def test_another_start_makes_another_session(started, blobs):
    robot = started
    click(robot)
    robot.start()  # with the same choices
    robot.wait_for_word("Continued where it was left: 1 object")
    assert robot.n_shown() == (1, 0)
    assert len(robot.viewer.layers) == 5
    other = robot.viewer.add_image(blobs[:, ::-1], name="other")
    robot.viewer.layers.move(5, 0)
    robot.dock.image_part.choose(other)
    robot.start()
    assert robot.prompts == ()
    assert robot.dock.layers.result.name == "other masks"
    assert len(robot.viewer.layers) == 6
    click(robot)
    assert len(workers()) == 1


def test_a_dropped_stack_is_placed_as_its_file_says(robot, gate):
    (layer,) = robot.viewer.open(str(assets.sample("zstack")), plugin="napari")
    part = robot.dock.image_part
    robot.wait(part.found.isVisible)
    assert part.found.text() == "From the file: 24 planes, 2 µm apart · pixels of 0.5 µm"
    assert part.frames.currentText().startswith("depth")
    assert layer.scale.tolist() == [1, 1, 1]
    robot.show_frame(5)
    session = robot.start()
    assert layer.scale.tolist() == [2, 0.5, 0.5]
    assert robot.viewer.dims.point[0] == 10
    assert robot.dock.layers.frame == 5
    assert (session.stack.frame_axis, session.stack.spacing) == ("z", (2, 0.5, 0.5))
    robot.click((122.0, 122.0))
    robot.wait(lambda: len(robot.prompts) == 1)
    assert robot.prompts[0].frame == 5
    assert robot.prompts[0].yx == pytest.approx((122, 122), abs=1)
    labels = robot.viewer.add_labels(np.zeros((24, 256, 256), int))  # as from a file of another program
    assert labels.scale.tolist() == [2, 0.5, 0.5]
    assert not [text for text in robot.told if text.startswith("error")]


def test_a_second_image_is_shown_and_worked_on_in_the_same_window(robot, gate, blobs):
    first = robot.viewer.add_image(blobs, name="first", scale=(300, 1, 1))
    session = robot.start()
    robot.show_frame(7)
    second = robot.viewer.add_image(blobs[:, :48], name="second", scale=(2, 1, 1), translate=(0, 900, 900))
    robot.wait_for_word("info: To work on “second”, choose it in part 1")
    robot.viewer.layers.move(robot.viewer.layers.index(second), 0)
    robot.choose(robot.dock.image_part.layer_box, second)
    assert robot.session is session
    robot.viewer.dims.set_point(0, 2100)
    robot.start()
    assert robot.dock.layers.frame == 7
    assert robot.viewer.dims.point[0] == 14
    click(robot, THERE)
    assert (robot.prompts[0].frame, robot.prompts[0].yx) == (7, pytest.approx(THERE, abs=1))
    robot.viewer.dims.set_point(0, 2100)
    assert robot.dock.layers.frame is None
    robot.click((30.0, 30.0))
    robot.wait_for_word("the slider stands at no frame of “second”; move it to one")
    assert len(robot.prompts) == 1
    assert first in robot.viewer.layers


# --- layers that go or change ------------------------------------------------------------------------------


@pytest.fixture
def busy(started, gate):
    """The robot, while an object of its session is being followed."""
    click(started)
    gate.hold(after=3)
    started.push(started.dock.follow_part.go)
    started.wait(gate.waiting.is_set)
    started.told.clear()
    return started


def came_back(robot: Robot, frames: int) -> None:
    """Press Start: what was done is there again."""
    robot.start()
    robot.wait_for_word("Continued where it was left: 1 object")
    assert len(robot.session.frames_of(1)) >= frames
    assert robot.n_shown() == (1, 0)
    robot.follow()
    assert len(robot.session.frames_of(1)) == 8


def test_the_image_is_removed_while_following(busy, gate, blobs):
    robot = busy
    robot.viewer.layers.remove(robot.image)
    robot.wait_for_word("warning: The image was removed")
    gate.release()
    robot.settle()
    assert len(robot.viewer.layers) == 0
    assert "Open an image" in robot.dock.next_step.text()
    assert len(workers()) == 1
    robot.viewer.add_image(blobs, name="blobs")
    came_back(robot, 4)


def test_an_image_in_other_units_stays_when_the_one_worked_on_is_removed(robot, gate):
    """Time in seconds and depth in micrometers meet in one window."""
    robot.viewer.open_sample("napari-stacksam", "timelapse")
    robot.start()
    robot.show_frame(11)
    robot.viewer.open_sample("napari-stacksam", "zstack")
    for layer in [layer for layer in robot.viewer.layers if layer.name.startswith("timelapse")]:
        robot.viewer.layers.remove(layer)
    robot.wait_for_word("warning: The image was removed")
    robot.settle()
    assert [layer.name for layer in robot.viewer.layers] == ["zstack"]
    assert robot.dock.image_part.layer() is robot.image
    robot.start()
    robot.click((122.0, 122.0))
    robot.wait(lambda: len(robot.prompts) == 1)
    robot.settle()
    assert not [text for text in robot.told if text.startswith("error")]


def test_all_layers_are_removed_while_following(busy, gate, blobs):
    robot = busy
    robot.viewer.layers.clear()
    robot.wait_for_word("warning: The image was removed")
    gate.release()
    robot.settle()
    assert len(robot.viewer.layers) == 0
    robot.viewer.add_image(blobs, name="blobs")
    came_back(robot, 4)


@pytest.mark.parametrize("shape", [(8, 64, 64), (5, 48, 40), (64, 64), (2, 8, 64, 64)])
def test_the_data_of_the_image_are_replaced_while_following(busy, gate, blobs, shape):
    robot = busy
    image = robot.image
    image.data = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    robot.wait_for_word("warning: The image's data were replaced")
    gate.release()
    robot.settle()
    assert list(robot.viewer.layers) == [image]
    assert not [text for text in robot.told if text.startswith("error")]
    if len(shape) == 3:
        robot.start()
        assert robot.prompts == ()  # another image, another session
        robot.told.clear()
    image.data = blobs
    if len(shape) == 3:
        robot.wait_for_word("warning: The image's data were replaced")
    came_back(robot, 4)


def test_the_image_is_turned_into_labels_while_following(busy, gate, blobs):
    robot = busy
    image = robot.viewer.layers.pop(0)  # as napari converts layers
    robot.viewer.layers.insert(0, Labels((blobs > 0.5).astype(int), name=image.name))
    robot.wait_for_word("warning: The image was removed")
    gate.release()
    robot.settle()
    assert [layer.name for layer in robot.viewer.layers] == ["blobs"]
    assert not can_start(robot)


@pytest.mark.parametrize("which", ["result", "points", "boxes", "paint"])
def test_a_layer_of_ours_is_removed_while_following(busy, gate, which):
    robot = busy
    robot.viewer.layers.remove(getattr(robot.dock.layers, which))
    robot.wait_for_word("warning: A layer that stacksam works with was removed")
    gate.release()
    robot.wait_for_word("Followed to the end")
    robot.followed()
    assert len(robot.viewer.layers) == 5
    assert robot.n_shown() == (1, 0)
    assert robot.seen(1).any()
    click(robot, THERE)
    assert robot.n_shown() == (2, 0)


def test_layers_are_renamed_while_following(busy, gate):
    robot = busy
    for number, layer in enumerate(robot.viewer.layers):
        layer.name = f"other {number}"
    gate.release()
    robot.wait_for_word("Followed to the end")
    robot.followed()
    click(robot, THERE)
    assert len(robot.session.frames_of(1)) == 8
    assert [robot.dock.image_part.layer_box.itemText(0)] == ["other 0"]


def test_a_layer_is_taken_out_of_order(busy, gate):
    robot = busy
    robot.viewer.layers.move(0, 4)  # the image comes to lie on top
    gate.release()
    robot.wait_for_word("Followed to the end")
    robot.followed()
    assert robot.session.frames_of(1) == tuple(range(8))


def test_the_dock_is_closed_while_following(busy, gate):
    robot = busy
    session, viewer = robot.session, robot.viewer
    threading.Timer(0.5, gate.release).start()  # the step in progress ends after the cross was pressed
    robot.close_dock()
    assert [layer.name for layer in viewer.layers] == ["blobs"]
    assert (session.folder / "session.json").exists()
    robot.open_dock()
    came_back(robot, 4)


# --- what the machine does not give ------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that can be filled up."""
    put = ResultStore.put
    full = threading.Event()

    def held(self, *arguments):
        if full.is_set():
            raise StorageError("results cannot be written: no space left on device")
        return put(self, *arguments)

    monkeypatch.setattr(ResultStore, "put", held)
    return full


def test_the_disk_is_full_at_a_click(started, full_disk):
    robot = started
    click(robot)
    full_disk.set()
    labels = robot.labels()
    robot.click(THERE)
    robot.wait_for_word("error: Prompt: results cannot be written: no space left on device")
    robot.wait(lambda: robot.n_shown() == (1, 0))  # a point without an answer does not stay
    assert np.array_equal(robot.labels(), labels)
    full_disk.clear()
    click(robot, THERE)
    assert robot.n_shown() == (2, 0)
    assert len(workers()) == 1


def test_the_disk_is_full_while_following(started, gate, full_disk):
    robot = started
    click(robot)
    gate.hold(after=3)
    robot.push(robot.dock.follow_part.go)
    robot.wait(gate.waiting.is_set)
    full_disk.set()
    gate.release()
    robot.wait_for_word("error: Following: results cannot be written")
    robot.followed()
    assert len(robot.session.frames_of(1)) == 4
    full_disk.clear()
    robot.follow()
    assert len(robot.session.frames_of(1)) == 8


def test_the_disk_is_full_at_an_export(started, tmp_path, monkeypatch):
    robot = started
    click(robot)

    def full(*_, **__):
        raise StorageError("labels cannot be written: no space left on device")

    monkeypatch.setattr("stacksam.plugin.exporting.write_labels_tiff", full)
    robot.export(tmp_path / "out", FileFormat.TIFF, "no space left")
    robot.wait_for_word("error: Export: labels cannot be written: no space left on device")
    monkeypatch.undo()
    robot.export(tmp_path / "out", FileFormat.TIFF)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_sessions_cannot_be_kept(robot, gate, blobs, monkeypatch, tmp_path):
    robot.viewer.add_image(blobs, name="blobs")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("stacksam.plugin.places.data_dir", lambda: tmp_path / "file")
    robot.push(robot.dock.image_part.start)
    robot.wait_for_word("error: Opening:")
    robot.wait(lambda: can_start(robot))
    monkeypatch.setattr("stacksam.plugin.places.data_dir", lambda: tmp_path / "folder")
    works(robot)


def test_the_model_file_is_missing(robot, blobs, tmp_path):
    robot.viewer.add_image(blobs, name="blobs")
    robot.dock.model_part.choose(str(tmp_path / "gone.safetensors"))
    robot.push(robot.dock.image_part.start)
    robot.wait_for_word("gone.safetensors")
    robot.wait(lambda: can_start(robot))
    robot.choose(robot.dock.model_part.model, "nano")
    works(robot)


def test_a_device_is_missing(robot, blobs, monkeypatch):
    robot.viewer.add_image(blobs, name="blobs")
    device = robot.dock.model_part.device
    device.addItem("cuda", "cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    robot.choose(device, "cuda")
    robot.push(robot.dock.image_part.start)
    robot.wait_for_word("error: Opening: device 'cuda' is not available on this machine")
    robot.wait(lambda: can_start(robot))
    robot.choose(device, "cpu")
    works(robot)


# --- downloads ---------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Gives half of a file; then the connection breaks, or nothing more comes for a while."""

    content: bytes
    ended: threading.Event

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        half = len(self.content) // 2
        self.wfile.write(self.content[:half])
        if "slow" in self.path:
            for start in range(half, len(self.content), 2**14):
                if self.ended.wait(0.02):
                    return
                try:
                    self.wfile.write(self.content[start : start + 2**14])
                except OSError:
                    return

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def serve(monkeypatch) -> Iterator[object]:
    """A model that is fetched from a server on this machine, which does as the name says."""
    ended = threading.Event()
    content = np.random.default_rng(0).bytes(2**24)
    handler = type("Handler", (Handler,), {"content": content, "ended": ended})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def start(name: str) -> None:
        known = replace(
            assets.MODELS["sam2.1-tiny"],
            url=f"http://127.0.0.1:{server.server_port}/{name}.pt",
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )
        monkeypatch.setattr(assets, "MODELS", MappingProxyType({**assets.MODELS, "sam2.1-tiny": known}))

    yield start
    ended.set()
    server.shutdown()
    server.server_close()


def test_a_download_is_cut(robot, blobs, serve):
    serve("cut")
    robot.viewer.add_image(blobs, name="blobs")
    robot.choose(robot.dock.model_part.model, "sam2.1-tiny")
    robot.push(robot.dock.image_part.start)
    robot.wait_for_word("error: Opening: sam2.1-tiny: the download broke off")
    robot.wait(lambda: can_start(robot))
    assert not [path for path in assets.cache_dir().rglob("*") if path.suffix in (".pt", ".part")]
    robot.choose(robot.dock.model_part.model, "nano")
    works(robot)


def test_a_download_is_cancelled(robot, blobs, serve):
    serve("slow")
    robot.viewer.add_image(blobs, name="blobs")
    part = robot.dock.model_part
    robot.choose(part.model, "sam2.1-tiny")
    robot.push(robot.dock.image_part.start)
    robot.wait(part.bar.isVisible)
    robot.push(next(b for b in part.findChildren(QPushButton) if b.text() == "Cancel"))
    robot.wait_for_word("the download was cancelled")
    robot.wait(lambda: can_start(robot) and not part.bar.isVisible())
    assert not [path for path in assets.cache_dir().rglob("*") if path.suffix in (".pt", ".part")]
    robot.choose(part.model, "nano")
    works(robot)

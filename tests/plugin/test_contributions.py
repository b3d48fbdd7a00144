"""What napari finds in the manifest works: menus, samples, the reader of sessions, writers, settings."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr
from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model

from random_model import random_model, run, small_stack

import stacksam
from stacksam import assets
from stacksam.errors import DownloadError, InputError, SessionFileError, StorageError
from stacksam.io import open_image
from stacksam.plugin import contributions
from stacksam.plugin.config import DEVICES, Config, read_config
from stacksam.prompt_files import read_prompts
from stacksam.session.predictor import Settings
from stacksam.session.prompts import Box, Point
from stacksam.session.session import Session
from stacksam.session.stack import open_stack, reopen_stack

MICROMETERS = ("micrometer", "micrometer")
MANIFEST = Path(stacksam.__file__).parent / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(MANIFEST)


# --- the manifest ------------------------------------------------------------------------------------------


def test_every_command_of_the_manifest_can_be_imported(manifest):
    names = {command.id: command.python_name for command in manifest.contributions.commands}
    assert names.pop("napari-stacksam.widget") == "stacksam.plugin.widget:StacksamWidget"
    assert all(callable(import_python_name(name)) for name in names.values())


def test_every_contribution_has_its_command_and_every_command_its_use(manifest):
    points = manifest.contributions
    used = [*points.widgets, *points.readers, *points.writers, *points.sample_data]
    used += [item for items in points.menus.values() for item in items]
    commands = [command.id for command in points.commands]
    assert sorted(item.command for item in used) == sorted(commands)
    assert len(set(commands)) == len(commands)
    assert set(points.menus) == {"napari/layers/segment", "napari/layers/track"}


def test_settings_of_the_manifest_are_those_of_the_program(manifest):
    (shown,) = manifest.contributions.configurations.values()
    defaults = {field.name: field.default for field in fields(Config)}
    assert {name: one.default for name, one in shown.properties.items()} == defaults
    assert tuple(shown.properties["device"].enum) == DEVICES
    assert shown.properties["model"].enum == list(assets.MODELS)
    assert Config().settings() == Settings()


def test_ends_in_depth_can_be_switched_off_and_are_another_session_with_nano_then():
    off = Config(find_ends=False)
    assert off.settings() == Settings(find_ends=False)
    assert off.sight(windowed=True) != Config().sight(windowed=True) == "full"
    assert off.sight(windowed=False) == Config().sight(windowed=False) == "full"
    assert Config(scope="auto", canvas="native").sight(windowed=False) == "auto native"
    with pytest.raises(InputError, match="find_ends is 'no'; use true or false"):
        Config(find_ends="no")


def test_asking_whether_a_file_is_ours_does_not_import_torch(tmp_path):
    (tmp_path / "other.json").write_text('{"format": "other"}')
    code = (
        "import sys; from stacksam.plugin.contributions import get_reader;"
        f"assert get_reader({str(tmp_path / 'other.json')!r}) is None;"
        "sys.exit('torch' in sys.modules or 'qtpy' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(MANIFEST.parents[1])}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, timeout=120, check=False).returncode
        == 0
    )


# --- samples that come with the package --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "name", "scale", "units", "axes"),
    [
        (contributions.sample_timelapse, "timelapse", (300, 0.4, 0.4), ("second", *MICROMETERS), "tyx"),
        (contributions.sample_zstack, "zstack", (2, 0.5, 0.5), ("micrometer", *MICROMETERS), "zyx"),
    ],
)
def test_shipped_samples_are_layers_with_their_sizes(sample, name, scale, units, axes):
    ((data, about, kind),) = sample()
    assert (kind, data.shape, data.dtype) == ("image", (24, 256, 256), np.uint16)
    assert np.array_equal(data, tifffile.imread(assets.sample(name)))
    assert about["scale"] == pytest.approx(scale)
    assert (about["units"], about["axis_labels"], about["name"]) == (units, tuple(axes), name)
    assert open_stack(about["metadata"]["stacksam"]["source"]).n_frames == 24


def test_napari_takes_the_samples(make_layer):
    layer = make_layer(*contributions.sample_timelapse()[0])
    assert layer.axis_labels == ("t", "y", "x")
    assert [str(unit) for unit in layer.units] == ["second", "micrometer", "micrometer"]


@pytest.fixture
def make_layer():
    from napari.layers import Layer

    return Layer.create


# --- samples that are fetched ------------------------------------------------------------------------------


FRAMES = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)


def _archive(*, evil: bool = False, sequence: str = "01") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for number, frame in enumerate(FRAMES):
            page = io.BytesIO()
            tifffile.imwrite(page, frame)
            packed.writestr(f"Fluo-N2DH-GOWT1/{sequence}/t{number:03}.tif", page.getvalue())
            packed.writestr(f"Fluo-N2DH-GOWT1/01_GT/TRA/man_track{number:03}.tif", page.getvalue())
        if evil:
            for name in (
                "../../t100.tif",
                "/t101.tif",
                "Fluo-N2DH-GOWT1/01/../../../t102.tif",
                "x/01/t103.tif",
            ):
                packed.writestr(name, b"evil")
    return content.getvalue()


class _Handler(BaseHTTPRequestHandler):
    """Serves what the test has put up; the name says what goes wrong."""

    content: bytes
    requests: list[str]
    stalled: threading.Event

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if "absent" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        half = len(self.content) // 2
        self.wfile.write(self.content[:half])
        if "stalled" in self.path:
            self.stalled.wait(30)
        if "truncated" not in self.path:
            self.wfile.write(self.content[half:])

    def log_message(self, *args: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def serve(monkeypatch) -> Iterator[object]:
    """Put an archive up at a local server, as the published one; returns the paths that were asked for."""
    running: list[ThreadingHTTPServer] = []
    stalled = threading.Event()

    def start(name: str, content: bytes, **changes: object) -> list[str]:
        handler = type("Handler", (_Handler,), {"content": content, "requests": [], "stalled": stalled})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        known = replace(
            assets.TIME_LAPSES["Fluo-N2DH-GOWT1"],
            url=f"http://127.0.0.1:{server.server_port}/{name}.zip",
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            **changes,
        )
        monkeypatch.setattr(assets, "TIME_LAPSES", {"Fluo-N2DH-GOWT1": known})
        return handler.requests

    yield start
    stalled.set()
    for server in running:
        server.shutdown()
        server.server_close()


def _kept() -> list[str]:
    folder = assets.cache_dir() / "samples"
    hidden = (".lock", ".verified.json")
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(hidden)) if folder.is_dir() else []


def test_the_published_archives_are_those_of_the_challenge():
    for name, known in assets.TIME_LAPSES.items():
        assert known.url == f"https://data.celltrackingchallenge.net/training-datasets/{name}.zip"
        assert len(bytes.fromhex(known.sha256)) == 32
        assert known.size > 10**7


def test_a_fetched_sample_is_a_lazy_layer_and_fetched_once(serve):
    requests = serve("good", _archive())
    ((data, about, kind),) = contributions.sample_gowt1()
    assert (kind, data.shape, data.dtype) == ("image", FRAMES.shape, FRAMES.dtype)
    assert not isinstance(data, np.ndarray)
    assert data.chunks[0] == (1, 1, 1)
    assert np.array_equal(np.asarray(data[1]), FRAMES[1])
    assert about["scale"] == (300.0, 0.24, 0.24)
    assert about["units"] == ("second", "micrometer", "micrometer")
    assert np.array_equal(open_image(about["metadata"]["stacksam"]["source"]).read(), FRAMES)

    assert np.array_equal(np.asarray(contributions.sample_gowt1()[0][0]), FRAMES)
    assert requests == ["/good.zip"]
    assert _kept() == ["Fluo-N2DH-GOWT1-01", "good.zip"]


def test_only_frames_of_the_sequence_are_unpacked_wherever_names_lead(serve):
    serve("good", _archive(evil=True))
    folder = assets.fetch_time_lapse("Fluo-N2DH-GOWT1")
    assert sorted(p.name for p in folder.iterdir()) == ["t000.tif", "t001.tif", "t002.tif"]
    everywhere = {p.name for p in assets.cache_dir().parent.rglob("*.tif")}
    assert not everywhere & {"t100.tif", "t101.tif", "t102.tif", "t103.tif"}


@pytest.mark.parametrize(
    ("name", "content", "changes", "message"),
    [
        ("truncated", _archive(), {}, "broke off|bytes arrived"),
        ("absent", _archive(), {}, "the server answered 404.*with a browser.*samples/absent.zip"),
        ("wrong", b"<html>a login page</html>", {"sequence": "01"}, "no frames|damaged"),
        ("other", _archive(sequence="02"), {}, "holds no frames Fluo-N2DH-GOWT1/01"),
    ],
)
def test_what_does_not_arrive_leaves_no_sample(serve, name, content, changes, message):
    serve(name, content, **changes)
    with pytest.raises(DownloadError, match=message):
        contributions.sample_gowt1()
    assert "Fluo-N2DH-GOWT1-01" not in _kept()
    assert not any(entry.endswith(".part") for entry in _kept())


def test_an_archive_that_is_not_the_published_one_is_deleted(serve, monkeypatch):
    serve("good", _archive())
    known = replace(assets.TIME_LAPSES["Fluo-N2DH-GOWT1"], sha256="0" * 64)
    monkeypatch.setattr(assets, "TIME_LAPSES", {known.name: known})
    with pytest.raises(DownloadError, match="not the published file and was deleted"):
        contributions.sample_gowt1()
    assert _kept() == []


def test_a_damaged_archive_is_told_of_by_its_checksums(serve):
    content = bytearray(_archive())
    content[content.index(b"t001.tif") + 60] ^= 0xFF  # in the packed pixels, which the zip's CRC covers
    serve("good", bytes(content))
    with pytest.raises(DownloadError, match=r"is damaged.*Delete it"):
        contributions.sample_gowt1()
    assert _kept() == ["good.zip"]


def test_without_a_network_a_sample_says_what_to_do(serve, monkeypatch):
    known = replace(assets.TIME_LAPSES["Fluo-N2DH-GOWT1"], url="http://127.0.0.1:9/GOWT1.zip")
    monkeypatch.setattr(assets, "TIME_LAPSES", {known.name: known})
    with pytest.raises(
        DownloadError, match=r"no connection.*with a browser.*save it as .*samples.GOWT1\.zip"
    ):
        contributions.sample_gowt1()
    with pytest.raises(DownloadError, match="the network is not to be used"):
        assets.fetch_time_lapse(known.name, offline=True)
    with pytest.raises(InputError, match="did you mean 'Fluo-N2DH-GOWT1'"):
        assets.fetch_time_lapse("Fluo-N2DH-GOWT2")


def test_an_archive_put_there_by_hand_needs_no_network(serve):
    requests = serve("good", _archive())
    place = assets.cache_dir() / "samples" / "good.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(_archive())
    assert len(list(assets.fetch_time_lapse("Fluo-N2DH-GOWT1", offline=True).iterdir())) == 3
    assert requests == []


def test_the_window_stays_alive_during_a_download_and_cancel_returns_at_once(serve, qtbot):
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication, QProgressDialog, QPushButton

    serve("stalled", _archive())
    ticks = []

    def tick() -> None:
        ticks.append(1)
        shown = [
            w for w in QApplication.topLevelWidgets() if isinstance(w, QProgressDialog) and w.isVisible()
        ]
        if shown:
            assert "Fluo-N2DH-GOWT1" in shown[0].labelText()
            shown[0].findChild(QPushButton).click()

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(20)
    try:
        with pytest.raises(DownloadError, match="cancelled"):
            contributions.sample_gowt1()
    finally:
        timer.stop()
    assert len(ticks) > 5  # events were handled all the time
    assert _kept() in ([], ["stalled.zip.part"])  # its thread may still wait for the server


def test_a_download_that_fails_fails_in_the_window_too(serve, qtbot):
    serve("absent", _archive())
    with pytest.raises(DownloadError, match="404"):
        contributions.sample_gowt1()


# --- sessions ----------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """Folder of a session on a stack of known sizes, with labels on all frames."""
    pixels = small_stack().image.read()
    tifffile.imwrite(
        tmp_path / "cells.ome.tif",
        pixels,
        metadata={
            "axes": "TYX", "PhysicalSizeX": 0.3, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5,
            "PhysicalSizeYUnit": "µm", "TimeIncrement": 2.0, "TimeIncrementUnit": "min",
        },
    )  # fmt: skip
    folder = tmp_path / "cells.stacksam"
    stack = open_stack(tmp_path / "cells.ome.tif", intensity=(-0.5, 1.5))
    with stack, Session(stack, random_model(), folder) as session:
        session.add(Point(0, 1, (19, 19)), Box(0, 2, (35, 30, 55, 50)))
        run(session)
        session.save()
        labels = session.labels[...]
    assert labels.any(axis=(1, 2)).all()
    return folder, pixels, labels


@pytest.mark.parametrize("entry", ["session.json", "results.sqlite", "."])
def test_a_saved_session_comes_back_as_image_and_labels(saved, entry, make_layer):
    folder, pixels, labels = saved
    path = str(folder / entry)
    read = contributions.get_reader(path)
    assert read is not None
    (image, about, kind), (painted, about_labels, kind_labels) = read(path)
    assert (kind, kind_labels) == ("image", "labels")
    assert image.shape == painted.shape == pixels.shape
    assert not isinstance(image, np.ndarray)
    assert not isinstance(painted, np.ndarray)
    np.testing.assert_array_equal(np.asarray(image[3]), pixels[3])
    np.testing.assert_array_equal(np.asarray(painted[...]), labels)
    for one in (about, about_labels):
        assert one["scale"] == pytest.approx((2.0, 0.5, 0.3))
        assert one["units"] == ("minute", "micrometer", "micrometer")
        assert one["axis_labels"] == ("t", "y", "x")
        assert one["metadata"]["stacksam"]["folder"] == str(folder.absolute())
        assert Path(one["metadata"]["stacksam"]["source"]).name == "cells.ome.tif"
    assert about["contrast_limits"] == [-0.5, 1.5]
    assert (about["name"], about_labels["name"]) == ("cells", "cells labels")

    layers = [make_layer(*layer) for layer in read(path)]
    assert [layer.extent.world.tolist() for layer in layers[:1]] == [layers[1].extent.world.tolist()]
    with pytest.raises(ValueError, match="read-only"):
        layers[1].data[0] = 0  # a picture of the session, not the session

    # The widget can go on from what the layer tells.
    origin = about["metadata"]["stacksam"]
    with reopen_stack(origin["stack"]) as stack, Session(stack, random_model(), origin["folder"]) as session:
        assert session.object_ids == (1, 2)


def test_a_session_file_elsewhere_has_no_labels_to_show(saved, tmp_path):
    folder, pixels, _ = saved
    moved = tmp_path / "elsewhere" / "my.json"
    moved.parent.mkdir()
    moved.write_bytes((folder / "session.json").read_bytes())
    ((image, about, kind),) = contributions.get_reader(str(moved))(str(moved))
    assert kind == "image"
    assert about["metadata"]["stacksam"]["folder"] is None
    np.testing.assert_array_equal(np.asarray(image[0]), pixels[0])


def test_a_session_file_beside_the_session_of_another_stack_has_no_labels(saved, tmp_path):
    folder, *_ = saved
    with Session(small_stack(seed=3), random_model(), tmp_path / "other") as session:
        session.add(Point(0, 1, (19, 19)))
    strange = tmp_path / "other" / "session.json"
    strange.write_bytes((folder / "session.json").read_bytes())
    assert [kind for *_, kind in contributions.get_reader([str(strange)])(str(strange))] == ["image"]


def test_a_session_without_its_image_shows_the_labels_and_says_so(saved, monkeypatch):
    folder, _, labels = saved
    (folder.parent / "cells.ome.tif").unlink()
    warned = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", warned.append)
    ((painted, _, kind),) = contributions.get_reader(str(folder))(str(folder))
    assert kind == "labels"
    np.testing.assert_array_equal(np.asarray(painted[...]), labels)
    assert "cells.ome.tif" in warned[0]

    alone = folder.parent / "alone.json"
    alone.write_bytes((folder / "session.json").read_bytes())
    with pytest.raises(SessionFileError, match=r"nothing to show.*cells\.ome\.tif"):
        contributions.get_reader(str(alone))(str(alone))


def test_a_changed_image_is_not_shown_as_that_of_the_session(saved, monkeypatch):
    folder, pixels, _ = saved
    tifffile.imwrite(folder.parent / "cells.ome.tif", pixels[::-1], metadata={"axes": "TYX"})
    warned = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", warned.append)
    assert [kind for *_, kind in contributions.get_reader(str(folder))(str(folder))] == ["labels"]
    assert "not the image any more" in warned[0]


def test_a_session_that_is_open_says_so(saved):
    folder, *_ = saved
    stack = open_stack(folder.parent / "cells.ome.tif", intensity=(-0.5, 1.5))
    with (
        stack,
        Session(stack, random_model(), folder),
        pytest.raises(StorageError, match="open in a program; close it first"),
    ):
        contributions.get_reader(str(folder))(str(folder))


def test_layers_show_what_the_session_saw_of_a_larger_image(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4000, (3, 5, 2, 40, 48), dtype=np.uint16)  # z, t, c
    np.save(tmp_path / "odd.npy", pixels)
    options = {"axes": "ztcyx", "at": {"z": 2}, "channels": (1,), "intensity": (100.0, 3000.0)}
    with (
        open_stack(tmp_path / "odd.npy", **options) as stack,
        Session(stack, random_model(), tmp_path / "s") as session,
    ):
        session.add(Point(1, 1, (19, 19)))
    first, second, (painted, *_) = contributions.get_reader(str(tmp_path / "s"))(str(tmp_path / "s"))
    for channel, (data, about, _) in enumerate((first, second)):
        assert data.shape == painted.shape == (5, 40, 48)
        np.testing.assert_array_equal(np.asarray(data), pixels[2, :, channel])
        assert about["name"] == f"odd channel {channel}"
    assert "contrast_limits" not in first[1]
    assert second[1]["contrast_limits"] == [100.0, 3000.0]


def test_colours_stay_colours(tmp_path, make_layer):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 40, 48, 3), dtype=np.uint8)
    np.save(tmp_path / "rgb.npy", pixels)
    with (
        open_stack(tmp_path / "rgb.npy") as stack,
        Session(stack, random_model(), tmp_path / "s") as session,
    ):
        session.add(Point(1, 1, (19, 19)))
    image, labels = contributions.get_reader(str(tmp_path / "s"))(str(tmp_path / "s"))
    np.testing.assert_array_equal(np.asarray(image[0]), pixels)
    assert make_layer(*image).rgb
    assert make_layer(*labels).ndim == 3


MENTIONED = b'{"version": 1, "note": "\\"format\\": \\"stacksam-session\\""}'


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", MENTIONED, b"\xff\xfe\x00", None])
def test_other_json_files_are_not_ours(tmp_path, content):
    path = tmp_path / "other.json"
    if content is not None:  # else there is no such file
        path.write_bytes(content)
    assert contributions.get_reader(str(path)) is None


def test_other_folders_and_lists_are_not_ours(tmp_path, saved):
    folder, *_ = saved
    assert contributions.get_reader(str(tmp_path)) is None
    (tmp_path / "results.sqlite").write_bytes(b"")
    assert contributions.get_reader(str(tmp_path / "results.sqlite")) is None
    assert contributions.get_reader([str(folder / "session.json")] * 2) is None


def test_a_damaged_session_is_told_of(saved, tmp_path):
    folder, *_ = saved
    (folder / "results.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(SessionFileError, match=r"results\.sqlite"):
        contributions.get_reader(str(folder))(str(folder))
    cut = tmp_path / "cut.json"
    cut.write_bytes((folder / "session.json").read_bytes()[:300])
    with pytest.raises(SessionFileError, match="cannot be read"):
        contributions.get_reader(str(cut))(str(cut))
    poor = tmp_path / "poor.json"
    poor.write_text(
        json.dumps(
            {
                "format": "stacksam-session",
                "version": 1,
                "stack": {},
                "model": {},
                "settings": {},
                "actions": [],
            }
        )
    )
    with pytest.raises(SessionFileError, match="damaged"):
        contributions.get_reader(str(poor))(str(poor))


# --- writers -----------------------------------------------------------------------------------------------


class _Frames:
    """Labels of which only single frames can be had."""

    def __init__(self, labels):
        self._labels, self.shape, self.dtype, self.ndim = labels, labels.shape, labels.dtype, labels.ndim

    def __getitem__(self, key):
        assert isinstance(key, int), "a writer that reads more than one frame at a time"
        return self._labels[key]


META = {"name": "L", "scale": np.array([3.0, 0.5, 0.25]), "axis_labels": ("z", "y", "x")}


def _units(*names):
    """As a layer gives them."""
    from napari.layers import Labels

    return Labels(np.zeros((1, 2, 2), int), units=names).as_layer_data_tuple()[1]["units"]


@pytest.mark.parametrize(("largest", "dtype"), [(500, np.uint16), (70_000, np.uint32)])
@pytest.mark.parametrize("name", ["l.tif", "l.TIFF", "l.ome.tif", "l.ome.zarr", "l.zarr"])
def test_labels_are_written_frame_by_frame_and_read_back(tmp_path, name, largest, dtype):
    labels = np.random.default_rng(0).integers(0, 5, (4, 30, 40))
    labels[2, 3, 4] = largest
    path = tmp_path / name
    meta = META | {"units": _units("micrometer", "micrometer", "micrometer")}
    for _ in range(2):  # napari has asked whether to overwrite
        assert contributions.write_labels(str(path), _Frames(labels), meta) == [str(path)]
    found = zarr.open_array(path, path="0", mode="r")[...] if path.is_dir() else tifffile.imread(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, labels)
    with open_image(path) as image:
        assert image.axes == "zyx"
        assert list(image.scale.values()) == pytest.approx([3.0, 0.5, 0.25])
        assert set(image.units.values()) == {"micrometer"}


def test_a_single_frame_and_bare_labels_are_written(tmp_path):
    labels = np.arange(12, dtype=np.int64).reshape(3, 4)
    meta = {"scale": [0.5, 0.5], "units": _units("pixel", "um", "um")[1:]}
    contributions.write_labels(str(tmp_path / "l.tif"), labels, meta)
    with open_image(tmp_path / "l.tif") as image:
        np.testing.assert_array_equal(np.squeeze(image.read()), labels)
        assert image.units["x"] == "micrometer"
    contributions.write_labels(str(tmp_path / "b.zarr"), np.stack([labels, labels]), {})
    with open_image(tmp_path / "b.zarr") as image:
        assert image.axes == "tyx"


@pytest.mark.parametrize(
    ("labels", "meta", "name", "error", "message"),
    [
        (np.zeros((2, 3, 4, 5), int), {}, "l.tif", InputError, r"4 dimensions"),
        (np.full((2, 3, 4), -1), {}, "l.tif", InputError, r"ids from -1"),
        (np.zeros((2, 3, 4), int), {}, "no/l.tif", StorageError, "there is no folder"),
        (np.zeros((2, 3, 4), int), {}, "labels.ome.zarr", StorageError, "belongs to the session"),
    ],
)
def test_labels_that_cannot_be_written_leave_nothing(tmp_path, labels, meta, name, error, message):
    (tmp_path / "results.sqlite").touch()
    with pytest.raises(error, match=message):
        contributions.write_labels(str(tmp_path / name), labels, meta)
    assert [p.name for p in tmp_path.iterdir()] == ["results.sqlite"]


def test_prompts_are_written_as_the_command_line_reads_them(tmp_path):
    from napari.layers import Points, Shapes

    points = Points(
        [[0, 10.5, 20], [3, 4, 5]],
        features={"object_id": [1, 2], "positive": [True, False]},
    )
    boxes = Shapes(
        [[[2, 8, 4], [2, 8, 9], [2, 1, 9], [2, 1, 4]]], shape_type="rectangle", features={"object_id": [7]}
    )
    path = tmp_path / "p.json"
    layers = [layer.as_layer_data_tuple() for layer in (points, boxes)]
    assert contributions.write_prompts(str(path), layers) == [str(path)]
    assert [given.prompt for given in read_prompts(path)] == [
        Point(0, 1, (10.5, 20)),
        Point(3, 2, (4, 5), positive=False),
        Box(2, 7, (1, 4, 8, 9)),
    ]


def test_prompts_on_a_single_image_are_on_frame_0(tmp_path):
    data = np.array([[10.5, 20.0]])
    contributions.write_prompts(
        str(tmp_path / "p.json"), [(data, {"features": {"object_id": np.array([4])}}, "points")]
    )
    (given,) = read_prompts(tmp_path / "p.json")
    assert given.prompt == Point(0, 4, (10.5, 20))


ONE = {"object_id": [1]}
RECTANGLE = np.array([[0, 1, 1], [0, 1, 5], [0, 5, 5], [0, 5, 1]], float)
TWO_FRAMES = RECTANGLE + np.array([[0], [0], [1], [1]]) * [1, 0, 0]


@pytest.mark.parametrize(
    ("data", "meta", "kind", "message"),
    [
        (np.zeros((0, 3)), {}, "points", "neither points nor boxes"),
        (np.zeros((1, 3)), {"name": "P"}, "points", "'P' have no column object_id"),
        (np.zeros((1, 4)), {"features": ONE}, "points", "is no place"),
        (np.full((1, 3), np.nan), {"features": ONE}, "points", "is no place"),
        (np.zeros((1, 3)), {"features": {"object_id": [0]}}, "points", "ids are whole numbers from 1"),
        (np.zeros((1, 3)), {"features": {"object_id": [np.nan]}}, "points", "ids are whole numbers from 1"),
        (np.zeros((1, 3)), {"features": {"object_id": ["a"]}}, "points", "ids are whole numbers from 1"),
        ([RECTANGLE], {"features": ONE, "shape_type": ["ellipse"]}, "shapes", "is a ellipse on 1 frames"),
        ([TWO_FRAMES], {"features": ONE, "shape_type": "rectangle"}, "shapes", "on 2 frames; a box is a"),
    ],
)
def test_what_are_no_prompts_leaves_the_old_file(tmp_path, data, meta, kind, message):
    (tmp_path / "p.json").write_text("old")
    with pytest.raises(InputError, match=message):
        contributions.write_prompts(str(tmp_path / "p.json"), [(data, meta, kind)])
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_prompts_need_a_folder(tmp_path):
    layer = (np.zeros((1, 3)), {"features": {"object_id": [1]}}, "points")
    with pytest.raises(StorageError, match="cannot write"):
        contributions.write_prompts(str(tmp_path / "no" / "p.json"), [layer])


# --- in napari ---------------------------------------------------------------------------------------------


@pytest.fixture
def plugin(manifest, tmp_path):
    """The plugin as napari knows it, whether or not it is installed here; settings in the test's folder."""
    from napari.settings import get_plugin_settings
    from npe2 import PluginManager

    manager = PluginManager.instance()
    new = manifest.name not in manager
    if new:
        manager.register(PluginManifest.from_file(MANIFEST))
    get_plugin_settings().clear()
    get_plugin_settings(path_dir=tmp_path)
    yield manager
    get_plugin_settings().clear()
    if new:
        manager.unregister(manifest.name)


def test_napari_reads_and_writes_through_the_manifest(plugin, saved, tmp_path):
    import npe2

    folder, _, labels = saved
    for entry in ("session.json", "results.sqlite"):
        layers, reader = npe2.io_utils.read_get_reader(
            [str(folder / entry)], plugin_name="napari-stacksam", stack=False
        )
        assert reader.plugin_name == "napari-stacksam"
        assert [kind for *_, kind in layers] == ["image", "labels"]
    layer = (np.asarray(layers[1][0][...]), layers[1][1], "labels")
    written = npe2.write(tmp_path / "out.ome.zarr", [layer], plugin_name="napari-stacksam")
    with open_image(written[0]) as image:
        np.testing.assert_array_equal(image.read(), labels)
    points = (np.array([[1.0, 2, 3]]), {"features": {"object_id": [5]}}, "points")
    written = npe2.write(tmp_path / "p.json", [points], plugin_name="napari-stacksam")
    assert read_prompts(Path(written[0]))[0].prompt == Point(1, 5, (2, 3))


def test_folders_and_other_formats_are_left_to_their_readers(plugin, saved):
    folder, *_ = saved
    for path in (folder, folder / "labels.ome.zarr", folder.parent / "cells.ome.tif"):
        readers = {reader.plugin_name for reader in plugin.iter_compatible_readers([str(path)])}
        assert "napari-stacksam" not in readers


def test_settings_are_kept_by_napari(plugin, tmp_path):
    from napari.settings import get_plugin_settings

    assert read_config() == Config()
    stored = get_plugin_settings()["napari-stacksam"].stacksam
    stored.device, stored.cache_size_mb = "cpu", 256
    assert read_config() == Config("cpu", "nano", 256)
    assert "cache_size_mb: 256" in (tmp_path / "napari-stacksam.yaml").read_text()
    get_plugin_settings().clear()  # the next program
    get_plugin_settings(path_dir=tmp_path)
    assert read_config() == Config("cpu", "nano", 256)
    assert read_config().settings().cache_bytes == 256 * 2**20
    assert read_config().torch_device == "cpu"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu'; use one of auto, cpu"),
        ({"model": "sam"}, "model is 'sam'; use one of nano"),
        ({"cache_size_mb": -1}, "cache_size_mb is -1; give a whole number"),
        ({"memory_ceiling_mb": 0.5}, "memory_ceiling_mb is 0.5"),
        ({"scope": "half"}, "scope is 'half'; use one of full, auto, window"),
        ({"canvas": "half"}, "canvas is 'half'; use one of frame, native"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Config(**values)


def test_without_the_plugin_in_napari_settings_are_the_defaults(monkeypatch):
    monkeypatch.setattr("napari.settings.get_plugin_settings", dict)
    assert read_config() == Config()
    assert Config().torch_device is None


def test_menu_commands_need_a_window_and_an_image(monkeypatch):
    from napari.components import ViewerModel

    monkeypatch.setattr("napari.current_viewer", lambda: None)
    with pytest.raises(InputError, match="no napari window"):
        contributions.track_layer()
    viewer = ViewerModel()
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    viewer.add_points()
    for command in (contributions.track_layer, contributions.segment_layer):
        with pytest.raises(InputError, match="select the image layer"):
            command()


class _Window:
    """As much of napari's window as the commands use; the Plugins menu knows its widgets by their names."""

    def __init__(self) -> None:
        self.dock_widgets: dict[str, object] = {}

    def add_dock_widget(self, widget, name):
        from qtpy.QtWidgets import QDockWidget

        self.docked = QDockWidget(name)
        self.docked.setWidget(widget)
        self.dock_widgets[name] = widget


@pytest.mark.parametrize("opened_as", [None, "stacksam (napari-stacksam)", "stacksam (stacksam)"])
def test_menu_commands_start_the_one_widget_on_the_active_layer(monkeypatch, qtbot, manifest, opened_as):
    from napari.components import ViewerModel
    from napari.plugins import menu_item_template
    from qtpy.QtWidgets import QWidget

    class Widget(QWidget):
        def __init__(self, viewer):
            super().__init__()
            self.viewer, self.started = viewer, []

        def start(self, layer, task):
            self.started.append((layer.name, task))

    monkeypatch.setitem(sys.modules, "stacksam.plugin.widget", SimpleNamespace(StacksamWidget=Widget))
    model = ViewerModel()
    window = _Window()
    viewer = SimpleNamespace(layers=model.layers, window=window)
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    model.add_image(np.zeros((3, 9, 9)), name="cells")
    if opened_as is not None:
        window.add_dock_widget(Widget(viewer), opened_as)
    contributions.track_layer()
    contributions.segment_layer()

    ((name, widget),) = window.dock_widgets.items()
    (shown,) = manifest.contributions.widgets
    of_menu = menu_item_template.format(manifest.display_name, shown.display_name)
    assert name == (opened_as or of_menu)
    assert widget.viewer is viewer
    assert widget.started == [("cells", "track"), ("cells", "segment")]
    assert window.docked.isVisible()
    window.docked.close()


@pytest.mark.parametrize(("ceiling", "bytes_"), [(0, None), (2048, 2**31)])
def test_a_memory_ceiling_is_the_sessions(ceiling, bytes_):
    settings = Config(memory_ceiling_mb=ceiling, cache_size_mb=32).settings()
    assert (settings.max_memory, settings.cache_bytes) == (bytes_, 2**25)

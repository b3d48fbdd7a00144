"""A fetched file is complete and right, or it is not there; every failure says what to do."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stacksam import assets
from stacksam.assets import ModelFile, Status
from stacksam.errors import DownloadError, InputError, ModelError, StorageError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """Serves CONTENT under any name; the name says what goes wrong."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if "absent" in self.path:
            self.send_error(404)
            return
        body = CONTENT[::-1] if "wrong" in self.path else CONTENT
        self.send_response(200)
        if "unsized" not in self.path:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if "truncated" in self.path else body)

    def log_message(self, *args: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """URL of a local server, and the paths that were asked of it."""
    requests: list[str] = []
    handler = type("Handler", (_Handler,), {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()
        thread.join()


def _register(monkeypatch: pytest.MonkeyPatch, url: str, **changes: object) -> ModelFile:
    """Make one model known, called "m", to be fetched from a URL."""
    model = replace(ModelFile("m", "nano", url=url, sha256=SHA256, size=len(CONTENT)), **changes)
    monkeypatch.setattr(assets, "MODELS", {"m": model})
    return model


def _left_behind() -> set[str]:
    """Names of the files in the cache that are neither a lock nor a note."""
    folder = assets.cache_dir() / "models"
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names if not name.endswith((".lock", ".verified.json"))}


def test_good_file_arrives_verified_and_is_fetched_once(server, monkeypatch):
    url, requests = server
    _register(monkeypatch, f"{url}/good.pt")
    seen = []

    path = assets.fetch("m", progress=lambda done, total: seen.append((done, total)))

    assert path == assets.cached_path("m") == assets.cache_dir() / "models" / "good.pt"
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in seen} == {len(CONTENT)}
    assert assets.verify("m") is Status.VERIFIED
    assert assets.fetch("m", offline=True) == path
    assert requests == ["/good.pt"]
    assert _left_behind() == {"good.pt"}


def test_server_that_names_no_length(server, monkeypatch):
    _register(monkeypatch, f"{server[0]}/unsized.pt", size=None)
    seen = []

    path = assets.fetch("m", progress=lambda done, total: seen.append((done, total)))

    assert path.read_bytes() == CONTENT
    assert seen[0][1] is None


@pytest.mark.parametrize("name", ["truncated", "truncated-unsized"])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_truncated_file_is_refused_and_removed(server, monkeypatch, name, size):
    _register(monkeypatch, f"{server[0]}/{name}.pt", size=size)

    with pytest.raises(DownloadError, match=r"broke off|bytes arrived|not the published file"):
        assets.fetch("m")
    assert _left_behind() == set()


def test_wrong_hash_is_refused_and_removed(server, monkeypatch):
    model = _register(monkeypatch, f"{server[0]}/wrong.pt")

    with pytest.raises(DownloadError, match="not the published file") as caught:
        assets.fetch("m")
    assert model.sha256 in str(caught.value)
    assert hashlib.sha256(CONTENT[::-1]).hexdigest() in str(caught.value)
    assert _left_behind() == set()


def test_absent_file_says_the_code_and_where_to_put_it_by_hand(server, monkeypatch):
    _register(monkeypatch, f"{server[0]}/absent.pt")

    with pytest.raises(DownloadError, match="404") as caught:
        assets.fetch("m")
    assert str(assets.cached_path("m")) in str(caught.value)
    assert _left_behind() == set()


def test_without_network_the_message_says_where_to_put_the_file(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    model = _register(monkeypatch, f"http://127.0.0.1:{port}/good.pt")

    with pytest.raises(DownloadError, match="no connection") as caught:
        assets.fetch("m")
    assert model.url in str(caught.value)
    assert str(assets.cached_path("m")) in str(caught.value)


def test_offline_never_connects_and_takes_a_file_put_there_by_hand(server, monkeypatch):
    url, requests = server
    _register(monkeypatch, f"{url}/good.pt")
    with pytest.raises(DownloadError, match="not on this machine") as caught:
        assets.fetch("m", offline=True)
    path = assets.cached_path("m")
    assert str(path) in str(caught.value)

    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert assets.status_table()[0].status is Status.UNCHECKED
    assert assets.fetch("m", offline=True) == path
    assert assets.status_table()[0].status is Status.VERIFIED
    assert requests == []


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[::-1]], ids=["short", "other"])
def test_damaged_file_is_an_error_and_is_not_deleted(server, monkeypatch, content):
    url, requests = server
    _register(monkeypatch, f"{url}/good.pt")
    path = assets.cached_path("m")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    assert assets.verify("m") is Status.DAMAGED
    with pytest.raises(DownloadError, match="Delete it"):
        assets.fetch("m")
    assert path.read_bytes() == content
    assert requests == []


def test_file_changed_after_it_was_verified_is_checked_again(server, monkeypatch):
    _register(monkeypatch, f"{server[0]}/good.pt")
    path = assets.fetch("m")
    path.write_bytes(CONTENT[::-1])

    assert assets.status_table()[0].status is Status.UNCHECKED
    with pytest.raises(DownloadError, match="is not the published m"):
        assets.fetch("m")


def test_damaged_note_only_costs_another_look(server, monkeypatch):
    _register(monkeypatch, f"{server[0]}/good.pt")
    path = assets.fetch("m")
    note = path.with_name(path.name + ".verified.json")
    note.write_text("{")

    assert assets.fetch("m", offline=True) == path
    assert json.loads(note.read_text())["sha256"] == SHA256


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["size known before", "size told by server"])
def test_too_small_disk_is_refused_before_writing(server, monkeypatch, size):
    url, requests = server
    _register(monkeypatch, f"{url}/good.pt", size=size)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, len(CONTENT) - 1))

    with pytest.raises(StorageError, match="no room for m"):
        assets.fetch("m")
    assert len(requests) == (size is None)
    assert _left_behind() == set()


def test_disk_that_fills_up_meanwhile(server, monkeypatch):
    import pooch

    class Full(pooch.HTTPDownloader):
        def __call__(self, url, output_file, pooch, check_only=False):
            Path(output_file).write_bytes(CONTENT[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pooch, "HTTPDownloader", Full)
    _register(monkeypatch, f"{server[0]}/good.pt")

    with pytest.raises(StorageError, match="was full"):
        assets.fetch("m")
    assert _left_behind() == set()


def test_cache_folder_that_cannot_be_made(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STACKSAM_HOME", str(tmp_path / "file"))
    _register(monkeypatch, f"{server[0]}/good.pt")

    with pytest.raises(StorageError, match="STACKSAM_HOME"):
        assets.fetch("m")


@pytest.mark.parametrize("reason", [KeyboardInterrupt, RuntimeError])
def test_cancelled_download_leaves_nothing_and_starts_afresh(server, monkeypatch, reason):
    _register(monkeypatch, f"{server[0]}/good.pt")

    def cancel(done: int, total: int | None) -> None:
        if done > len(CONTENT) // 3:
            raise reason

    with pytest.raises(reason):
        assets.fetch("m", progress=cancel)
    assert _left_behind() == set()
    assert assets.fetch("m").read_bytes() == CONTENT


def test_remains_of_a_killed_download_are_written_over(server, monkeypatch):
    _register(monkeypatch, f"{server[0]}/good.pt")
    path = assets.cached_path("m")
    path.parent.mkdir(parents=True)
    path.with_name("good.pt.part").write_bytes(b"x" * 2 * len(CONTENT))

    assert assets.fetch("m").read_bytes() == CONTENT
    assert _left_behind() == {"good.pt"}


def test_processes_that_fetch_at_once_download_once(server, monkeypatch, repo_root):
    url, requests = server
    code = (
        "import sys; from stacksam import assets; from stacksam.assets import ModelFile;"
        f"assets.MODELS = {{'m': ModelFile('m', 'nano', {url + '/good.pt'!r}, {SHA256!r}, {len(CONTENT)})}};"
        "sys.stdout.write(assets.sha256_of(assets.fetch('m')))"
    )
    monkeypatch.setenv("PYTHONPATH", str(repo_root / "src"))
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    hashes = [process.communicate(timeout=60)[0] for process in running]

    assert hashes == [SHA256] * 3
    assert requests == ["/good.pt"]


def test_unknown_names_are_answered_with_known_ones():
    with pytest.raises(InputError, match=r"did you mean 'sam2\.1-tiny'"):
        assets.fetch("sam2.1-tin")
    with pytest.raises(InputError, match="known are timelapse"):
        assets.sample("mitosis")


def test_registry_holds_every_official_checkpoint():
    from stacksam.network.config import PRESETS

    assert set(assets.MODELS) == {"nano"} | {
        f"{version}-{size}"
        for version in ("sam2", "sam2.1")
        for size in ("tiny", "small", "base-plus", "large")
    }
    assert {model.preset for model in assets.MODELS.values()} <= set(PRESETS)
    official = [model for model in assets.MODELS.values() if not model.embedded]
    assert len({model.sha256 for model in official}) == len({model.size for model in official}) == 8
    assert all(len(model.sha256) == 64 and set(model.sha256) <= set("0123456789abcdef") for model in official)
    assert assets.model_file("sam2-base-plus").url.endswith("/072824/sam2_hiera_base_plus.pt")


def test_status_table_lists_all_models_on_a_fresh_machine():
    table = {row.model.name: row for row in assets.status_table()}

    assert list(table) == list(assets.MODELS)
    assert {row.status for name, row in table.items() if name != "nano"} == {Status.MISSING}
    assert table["sam2.1-tiny"].path == assets.cache_dir() / "models" / "sam2.1_hiera_tiny.pt"
    assert assets.verify("sam2.1-tiny") is Status.MISSING


def test_embedded_model_and_samples_are_found():
    described, weights = assets.embedded_model()
    assert json.loads(described.read_text(encoding="utf-8"))
    assert assets.fetch("nano", offline=True) == assets.cached_path("nano") == weights
    assert assets.verify("nano") is Status.EMBEDDED
    for name in assets.SAMPLES:
        assert assets.sample(name) == assets.sample(f"{name}.tif")
        assert assets.sample(name).read_bytes()[:2] in (b"II", b"MM")


def test_package_without_its_model_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(assets, "_package_dir", lambda: tmp_path / "stacksam")

    with pytest.raises(ModelError, match="reinstall"):
        assets.embedded_model()
    with pytest.raises(StorageError, match="reinstall"):
        assets.sample("zstack")
    assert assets.verify("nano") is Status.MISSING
    assert assets.status_table()[0].status is Status.MISSING


def test_cache_folder_defaults_to_that_of_the_system(monkeypatch):
    monkeypatch.delenv("STACKSAM_HOME")
    assert assets.cache_dir().name == "stacksam"

"""What all tests share: one thread, no network by accident, no files outside the test's own folder."""

from __future__ import annotations

import os

# Before torch or numpy is imported: tests compare numbers, and share the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import importlib
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# Deadlines measure the machine, not the code; the examples are the same in every run.
settings.register_profile("stacksam", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("stacksam")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def recipe(repo_root: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports modules of the training recipe, which is not installed; they are forgotten afterwards."""
    folder = repo_root / "model" / "train"
    own = {path.stem for path in folder.iterdir()}
    before = set(sys.modules)
    path = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in own:
                del sys.modules[name]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep fetched files of tests away from those of the user who runs them."""
    monkeypatch.setenv("STACKSAM_HOME", str(tmp_path_factory.mktemp("stacksam_home")))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that leave this machine."""
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0] if isinstance(address, tuple) else address
            if host not in ("127.0.0.1", "::1", "localhost"):
                raise RuntimeError(f"a test tried to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)

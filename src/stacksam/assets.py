"""Files that stacksam needs but does not compute: the embedded model, the samples, the official checkpoints.

The embedded model and the samples come with the package. The official checkpoints and two published
time-lapses are fetched on request into a cache folder, and compared with their known SHA-256 before anything
opens them. A fetched file gets its final name only when it is complete and right; one that was put there by
hand is checked before its first use.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from stacksam.errors import DownloadError, InputError, ModelError, StorageError

__all__ = [
    "MODELS",
    "SAMPLES",
    "TIME_LAPSES",
    "ModelFile",
    "ModelStatus",
    "Progress",
    "Status",
    "TimeLapse",
    "cache_dir",
    "cached_path",
    "embedded_model",
    "fetch",
    "fetch_time_lapse",
    "model_file",
    "sample",
    "sha256_of",
    "status_table",
    "verify",
]

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and the bytes to come in all, if known; raise in it to cancel."""

SAMPLES = ("timelapse", "timelapse_labels", "zstack", "zstack_labels")
"""Names of the image stacks, and their labels, that come with the package."""

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that stacksam knows by name.

    Attributes
    ----------
    name : str
        What the user types.
    preset : str
        The network's preset that the weights fit, see `stacksam.network.config.PRESETS`.
    url : str or None
        Where it is fetched from; None if it comes with the package.
    sha256 : str or None
        Hash of the whole file, in hexadecimal; None if it comes with the package.
    size : int or None
        Size in bytes, if known beforehand.
    """

    name: str
    preset: str
    url: str | None = None
    sha256: str | None = None
    size: int | None = None

    @property
    def embedded(self) -> bool:
        """Whether the weights come with the package."""
        return self.url is None

    @property
    def file_name(self) -> str:
        """Name of the file in the cache folder, as its publisher calls it."""
        return f"{self.name}.safetensors" if self.url is None else self.url.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """Folder of the cache folder that it is kept in."""
        return "models"


@dataclass(frozen=True, slots=True)
class TimeLapse:
    """A published time-lapse that stacksam knows by name: a zip archive of sequences of TIFF frames.

    Attributes
    ----------
    name : str
        As its publisher calls it; also the archive's top folder.
    url, sha256, size
        As for `ModelFile`; always known.
    spacing : tuple of 3 float
        Seconds between frames, and micrometres between rows and columns, as published: the files do not tell.
    sequence : str
        Which sequence of the archive is shown.
    """

    name: str
    url: str
    sha256: str
    size: int
    spacing: tuple[float, float, float]
    sequence: str = "01"

    @property
    def file_name(self) -> str:
        """Name of the archive, as its publisher calls it."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """Folder of the cache folder that it is kept in."""
        return "samples"


Published = ModelFile | TimeLapse
"""What is fetched on request."""


class Status(StrEnum):
    """What is known of a model's file on this machine."""

    EMBEDDED = "embedded"
    """It comes with the package."""
    VERIFIED = "verified"
    """It is there, and is the published file."""
    UNCHECKED = "unchecked"
    """It is there, of the right size; it is checked before its first use."""
    DAMAGED = "damaged"
    """It is there, but is not the published file."""
    MISSING = "missing"
    """It is not there."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One line of `status_table`."""

    model: ModelFile
    status: Status
    path: Path


def _official() -> Iterator[ModelFile]:
    """The checkpoints that the authors of SAM 2 publish.

    They publish no hashes. These are the ones that other projects pin, and on which they agree:
    micro-sam (`micro_sam/v2/util.py` of computational-cell-analytics/micro-sam, both versions in its earlier
    revisions) and, for 2.0, Segment with SAM for 3D Slicer (`SegmentWithSAM/SegmentWithSAM.py` of
    mazurowski-lab/SlicerSegmentWithSAM).
    """
    base = "https://dl.fbaipublicfiles.com/segment_anything_2"
    known = {
        "sam2.1-tiny": ("7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 156_008_466),
        "sam2.1-small": ("6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 184_416_285),
        "sam2.1-base-plus": ("a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 323_606_802),
        "sam2.1-large": ("2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 898_083_611),
        "sam2-tiny": ("65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125", 155_906_050),
        "sam2-small": ("95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3", 184_309_650),
        "sam2-base-plus": ("d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071", 323_493_298),
        "sam2-large": ("7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b", 897_952_466),
    }
    folders = {"sam2.1": "092824", "sam2": "072824"}
    for name, (sha256, size) in known.items():
        version, variant = name.split("-", 1)
        url = f"{base}/{folders[version]}/{version}_hiera_{variant.replace('-', '_')}.pt"
        yield ModelFile(name, preset=name, url=url, sha256=sha256, size=size)


MODELS: Mapping[str, ModelFile] = MappingProxyType(
    {model.name: model for model in (ModelFile("nano", preset="nano"), *_official())}
)
"""The models that stacksam knows by name, the embedded one first."""

_CTC = "https://data.celltrackingchallenge.net/training-datasets"
TIME_LAPSES: Mapping[str, TimeLapse] = MappingProxyType(
    {
        sequence.name: sequence
        for sequence in (
            TimeLapse(
                "Fluo-N2DH-GOWT1",
                f"{_CTC}/Fluo-N2DH-GOWT1.zip",
                "1a7bd9a7d1d10c4122c7782427b437246fb69cc3322a975485c04e206f64fc2c",
                59_331_035,
                (300.0, 0.24, 0.24),
            ),
            TimeLapse(
                "PhC-C2DH-U373",
                f"{_CTC}/PhC-C2DH-U373.zip",
                "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
                43_454_399,
                (900.0, 0.65, 0.65),
            ),
        )
    }
)
"""Training sequences of the Cell Tracking Challenge, whose conditions of use apply.

The challenge publishes no hashes. These are the ones that torch-em pins
(`torch_em/data/datasets/light_microscopy/ctc.py` of constantinpape/torch-em) and that other projects found,
too.
"""


def model_file(name: str) -> ModelFile:
    """The registry's entry of a model.

    Raises
    ------
    InputError
        If there is no model of that name.
    """
    found = MODELS.get(name)
    if found is None:
        raise InputError(_unknown("model", name, MODELS))
    return found


def embedded_model() -> tuple[Path, Path]:
    """Paths of the embedded model's description (JSON) and weights (safetensors).

    Raises
    ------
    ModelError
        If they are not where the package keeps them.
    """
    described = _packaged("_model", "model", "nano.json")
    weights = _packaged("_model", "model", "nano.safetensors")
    if described is None or weights is None:
        raise ModelError(
            f"the embedded model is incomplete: nano.json and nano.safetensors belong in "
            f"{_package_dir() / '_model'}; reinstall napari-stacksam"
        )
    return described, weights


def sample(name: str) -> Path:
    """Path of a sample stack (TIFF) that comes with the package.

    Parameters
    ----------
    name : str
        One of `SAMPLES`, with or without ``.tif``.

    Raises
    ------
    InputError
        If there is no sample of that name.
    StorageError
        If the package lacks it.
    """
    stem = name.removesuffix(".tif")
    if stem not in SAMPLES:
        raise InputError(_unknown("sample", name, SAMPLES))
    path = _packaged("_samples", "sample_data", f"{stem}.tif")
    if path is None:
        raise StorageError(
            f"the sample {stem}.tif is missing from {_package_dir() / '_samples'}; reinstall napari-stacksam"
        )
    return path


def cache_dir() -> Path:
    """Folder of fetched files: ``$STACKSAM_HOME``, or else the system's cache folder for stacksam."""
    home = os.environ.get("STACKSAM_HOME")
    if home:
        return Path(home).expanduser()
    import pooch

    return Path(pooch.os_cache("stacksam"))


def cached_path(name: str) -> Path:
    """Where the weights of a model are, or would be once fetched."""
    model = model_file(name)
    return embedded_model()[1] if model.embedded else _place(model)


def verify(name: str) -> Status:
    """Read the whole file of a model and compare it with the published hash."""
    model = model_file(name)
    if model.embedded:
        return _status(model)
    path = cached_path(name)
    if not path.is_file():
        return Status.MISSING
    if sha256_of(path) != model.sha256:
        return Status.DAMAGED
    _remember_verified(path, model)
    return Status.VERIFIED


def status_table() -> tuple[ModelStatus, ...]:
    """The state of all known models, without reading their files: for ``stacksam models``."""
    rows = []
    for model in MODELS.values():
        status = _status(model)
        missing = model.embedded and status is Status.MISSING
        path = _package_dir() / "_model" / model.file_name if missing else cached_path(model.name)
        rows.append(ModelStatus(model, status, path))
    return tuple(rows)


def fetch(name: str, *, progress: Progress | None = None, offline: bool = False) -> Path:
    """Path of a model's weights, fetched if they are not here yet, and checked in any case.

    Safe to call from several processes at once: one fetches, the others wait for it.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    progress : callable, optional
        Called as the file arrives. An exception that it raises cancels the download.
    offline : bool
        Never use the network.

    Returns
    -------
    Path
        Of the weights: a ``.pt`` file of the official models, ``.safetensors`` of the embedded one.

    Raises
    ------
    DownloadError
        If the file cannot be fetched, arrives incomplete, or is not the published one.
    StorageError
        If the cache folder cannot be written or has no room.
    """
    model = model_file(name)
    return embedded_model()[1] if model.embedded else _fetch(model, progress, offline)


def fetch_time_lapse(name: str, *, progress: Progress | None = None, offline: bool = False) -> Path:
    """Folder with the frames (``t000.tif`` ...) of a published time-lapse, fetched if they are not here yet.

    The archive is kept beside the folder. Safe to call from several processes at once.

    Parameters
    ----------
    name : str
        One of `TIME_LAPSES`.
    progress, offline
        As for `fetch`.

    Raises
    ------
    InputError
        If there is no time-lapse of that name.
    DownloadError, StorageError
        As for `fetch`; also if the archive holds no such sequence.
    """
    wanted = TIME_LAPSES.get(name)
    if wanted is None:
        raise InputError(_unknown("time-lapse", name, TIME_LAPSES))
    folder = cache_dir() / wanted.folder / f"{wanted.name}-{wanted.sequence}"
    if folder.is_dir():  # it gets this name when it is complete
        return folder
    archive = _fetch(wanted, progress, offline)
    with _locked(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            _unpack(wanted, archive, folder)
    return folder


def sha256_of(path: Path) -> str:
    """SHA-256 of a whole file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- the files of the package ------------------------------------------------------------------------------


def _package_dir() -> Path:
    return Path(__file__).resolve().parent


def _packaged(folder: str, source_folder: str, file_name: str) -> Path | None:
    """A file of the package, or of the repository if the package is used from a checkout."""
    package = _package_dir()
    root = package.parents[1]
    candidates = [package / folder / file_name]
    if package.parent.name == "src" and (root / "pyproject.toml").is_file():
        candidates.append(root / source_folder / file_name)
    return next((path for path in candidates if path.is_file()), None)


# --- what is known of a cached file ------------------------------------------------------------------------


def _status(model: ModelFile) -> Status:
    """State of a model's file, from its size and what was noted when it was last read."""
    if model.embedded:
        try:
            embedded_model()
        except ModelError:
            return Status.MISSING
        return Status.EMBEDDED
    path = cached_path(model.name)
    if not path.is_file():
        return Status.MISSING
    if model.size is not None and path.stat().st_size != model.size:
        return Status.DAMAGED
    return Status.VERIFIED if _is_remembered(path, model) else Status.UNCHECKED


def _usable(path: Path, wanted: Published) -> bool:
    """Whether the file is there and right; a wrong one is an error, for it may be the user's own."""
    if not path.is_file():
        return False
    if _is_remembered(path, wanted):
        return True
    found = sha256_of(path)
    if found != wanted.sha256:
        raise DownloadError(
            f"{path} is not the published {wanted.name}: its SHA-256 is {found}, not {wanted.sha256}. "
            "Delete it to have it fetched again"
            + (
                "; keep a fine-tuned model elsewhere and load it by its path"
                if wanted.folder == "models"
                else ""
            )
        )
    _remember_verified(path, wanted)
    return True


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".verified.json")


def _note(path: Path, wanted: Published) -> dict[str, object]:
    """What identifies a file that was found to be right, so that it is not read again at every start."""
    found = path.stat()
    return {"sha256": wanted.sha256, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _is_remembered(path: Path, wanted: Published) -> bool:
    try:
        noted = json.loads(_note_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(noted == _note(path, wanted))


def _remember_verified(path: Path, wanted: Published) -> None:
    # A read-only cache, shared by a facility's machines, is fine: its files are then checked at every start.
    with contextlib.suppress(OSError):
        _note_path(path).write_text(json.dumps(_note(path, wanted)), encoding="utf-8")


# --- fetching ----------------------------------------------------------------------------------------------


class _Meter:
    """Stands where pooch expects a progress bar: reports, and stops a download that cannot fit."""

    def __init__(self, wanted: Published, part: Path, progress: Progress | None) -> None:
        self._wanted = wanted
        self._part = part
        self._progress = progress
        self._done = 0
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes that the server promised; 0 if it did not say."""
        return self._total

    @total.setter
    def total(self, value: int) -> None:
        _require_room(self._part.parent, value, self._wanted)
        self._total = value

    def update(self, count: int) -> None:
        # pooch counts whole chunks, also for the last one.
        self._done = min(self._done + count, self._total) if self._total else self._done + count
        if self._progress is not None:
            self._progress(self._done, self._total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing is held open."""


def _place(wanted: Published) -> Path:
    """Where a fetched file is kept."""
    return cache_dir() / wanted.folder / wanted.file_name


def _fetch(wanted: Published, progress: Progress | None, offline: bool) -> Path:
    """Path of a published file, fetched if it is not here yet, and checked in any case."""
    path = _place(wanted)
    if _usable(path, wanted):
        return path
    if offline:
        raise DownloadError(
            f"{wanted.name} is not on this machine, and the network is not to be used. {_by_hand(wanted)}"
        )
    _make_folder(path.parent)
    with _locked(path.with_name(path.name + ".lock")):
        if not _usable(path, wanted):  # another process may have fetched it while this one waited
            _download(wanted, path, progress)
    return path


def _download(wanted: Published, path: Path, progress: Progress | None) -> None:
    """Fetch to a temporary sibling, check it, give it its name. The caller holds the lock."""
    part = path.with_name(path.name + ".part")
    _require_room(path.parent, wanted.size or 0, wanted)
    try:
        meter = _Meter(wanted, part, progress)
        _receive(wanted, part, meter)
        _check_arrived(wanted, part, meter.total)
        os.replace(part, path)
    except OSError as error:
        if isinstance(error, (DownloadError, StorageError)):
            raise
        raise _storage_error(error, path.parent, wanted) from error
    finally:
        part.unlink(missing_ok=True)
    _remember_verified(path, wanted)


def _receive(wanted: Published, part: Path, meter: _Meter) -> None:
    """Let pooch write the file, and say in plain words what the network did wrong."""
    import pooch
    import requests

    with contextlib.ExitStack() as opened:

        def close_at_end(response: requests.Response, **_: object) -> None:
            opened.callback(response.close)  # pooch leaves it open when something goes wrong

        downloader = pooch.HTTPDownloader(
            progressbar=meter,
            chunk_size=_CHUNK,
            timeout=_TIMEOUT,
            # Left to itself the server may compress, and the promised length would not be that of the file.
            headers={"Accept-Encoding": "identity"},
            hooks={"response": close_at_end},
        )
        try:
            downloader(wanted.url, str(part), None)
        except requests.HTTPError as error:
            code = error.response.status_code if error.response is not None else "an error"
            raise DownloadError(
                f"{wanted.name}: the server answered {code} for {wanted.url}. {_by_hand(wanted)}"
            ) from error
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise DownloadError(
                f"{wanted.name}: the download broke off: {error}. Fetch it again, it starts afresh"
            ) from error
        except requests.RequestException as error:
            raise DownloadError(
                f"{wanted.name}: no connection to {wanted.url}: {error}. {_by_hand(wanted)}"
            ) from error


def _check_arrived(wanted: Published, part: Path, promised: int) -> None:
    """Raise unless the file is complete and is the published one."""
    size = part.stat().st_size
    expected = promised or wanted.size or size
    if size != expected:
        raise DownloadError(
            f"{wanted.name}: {size} bytes arrived where {expected} belong. Fetch it again, it starts afresh"
        )
    found = sha256_of(part)
    if found != wanted.sha256:
        raise DownloadError(
            f"{wanted.name}: what came from {wanted.url} is not the published file and was deleted: "
            f"its SHA-256 is {found}, not {wanted.sha256}. A login page or a proxy may have answered. "
            + _by_hand(wanted)
        )


def _by_hand(wanted: Published) -> str:
    """How to put the file in place without stacksam's help."""
    return (
        f"Fetch {wanted.url} with a browser, on any machine, and save it as {_place(wanted)}, "
        f"or set STACKSAM_HOME to a folder that has it as {wanted.folder}/{wanted.file_name}"
    )


def _unpack(wanted: TimeLapse, archive: Path, folder: Path) -> None:
    """Unpack the frames of one sequence; the caller holds the lock. The folder gets its name when complete.

    Only members whose whole name is that of a frame are written, each under its last part: no name in an
    archive can lead out of the folder.
    """
    frame = re.compile(rf"{re.escape(wanted.name)}/{re.escape(wanted.sequence)}/(t[0-9]+\.tif)")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of a program that was killed
    try:
        with zipfile.ZipFile(archive) as packed:
            names = ((member, frame.fullmatch(member.filename)) for member in packed.infolist())
            members = [(member, found[1]) for member, found in names if found]
            if not members:
                raise DownloadError(f"{archive} holds no frames {wanted.name}/{wanted.sequence}/t000.tif ...")
            _require_room(folder.parent, sum(member.file_size for member, _ in members), wanted)
            part.mkdir()
            for member, file_name in members:
                with packed.open(member) as source, (part / file_name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        part.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{archive} is damaged: {error}. Delete it to have it fetched again") from error
    except OSError as error:
        if isinstance(error, (DownloadError, StorageError)):
            raise
        raise _storage_error(error, folder.parent, wanted) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


# --- the cache folder --------------------------------------------------------------------------------------


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the cache folder {folder}: {error}. Set STACKSAM_HOME to another folder"
        ) from error


def _require_room(folder: Path, size: int, wanted: Published) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise StorageError(
            f"no room for {wanted.name} in {folder}: "
            f"it needs {size / 1e6:.0f} MB, {free / 1e6:.0f} MB are free. "
            "Make room, or set STACKSAM_HOME to a folder on another disk"
        )


def _storage_error(error: OSError, folder: Path, wanted: Published) -> StorageError:
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return StorageError(
            f"the disk of {folder} was full before {wanted.name} had arrived. "
            "Make room, or set STACKSAM_HOME to a folder on another disk"
        )
    return StorageError(
        f"cannot write {wanted.name} into {folder}: {error}. Set STACKSAM_HOME to another folder"
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock, which the system takes back when the process ends however it ends."""
    try:
        file = path.open("a+b")
    except OSError as error:
        raise StorageError(
            f"the cache folder {path.parent} cannot be written: {error}. Set STACKSAM_HOME to another folder"
        ) from error
    with file:
        while not _try_lock(file):
            time.sleep(0.1)
        yield


def _try_lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; False if another holder has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise StorageError(
            f"{file.name} cannot be locked: {error}. Set STACKSAM_HOME to a folder on a local disk"
        ) from error
    return True


def _unknown(kind: str, name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return f"no {kind} is called {name!r}{guess}; known are {', '.join(known)}"

"""Files and folders that are complete or not there at all.

What is written goes beside its place and is moved there at the end; what was there before stays until then.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stacksam.errors import StorageError
from stacksam.io._lazy import _told

if TYPE_CHECKING:
    import zarr


def _is_zarr(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


@contextmanager
def complete_or_nothing(
    target: Path, overwrite: bool, ours: Callable[[Path], bool] = _is_zarr
) -> Iterator[Path]:
    """Give a temporary path beside `target`, and move it there if all goes well; else remove it.

    Parameters
    ----------
    target : Path
    overwrite : bool
        Whether what is there may be replaced.
    ours : callable
        Whether a folder is of the kind to be written. Others are never replaced.

    Raises
    ------
    StorageError
        If there is something that may not be replaced, or the disk refuses.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        check_free(target, overwrite, ours)
        try:
            yield temporary
            check_free(target, overwrite, ours)
            _move(temporary, target)
        except BaseException:
            remove(temporary)
            raise
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(target, error) from error


def check_free(target: Path, overwrite: bool, ours: Callable[[Path], bool] = _is_zarr) -> None:
    """See that there is nothing at `target` that would be lost."""
    if not target.parent.is_dir():
        raise StorageError(f"cannot write {target}: there is no folder {target.parent}")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise StorageError(f"{target} exists already; choose another name, or allow it to be overwritten")
    if target.is_dir() and not ours(target):
        raise StorageError(
            f"{target} is a folder of other things, which is not overwritten; choose another name"
        )


def _move(temporary: Path, target: Path) -> None:
    if not target.is_dir() and not temporary.is_dir():
        temporary.replace(target)
        return
    # A folder cannot replace another in one step: the old one steps aside and comes back if that fails.
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    had = os.path.lexists(target)
    if had:
        target.rename(aside)
    try:
        temporary.rename(target)
    except OSError:
        if had:
            aside.rename(target)
        raise
    if had:
        remove(aside)


def remove(path: Path) -> None:
    """Remove a file or folder, if that can be done."""
    delete: Callable[[Path], None] = shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink
    with suppress(OSError):
        delete(path)


def storage_error(target: Path, error: OSError, left: str = "nothing was left behind") -> StorageError:
    """What the system says of a write that failed, in words."""
    why = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file would be larger than the system allows",
        errno.EACCES: f"no permission to write in {target.parent}",
        errno.EPERM: f"no permission to write in {target.parent}",
        errno.EROFS: f"{target.parent} is read-only",
    }.get(error.errno or 0, _told(error))
    return StorageError(f"cannot write {target}: {why}; {left}")


def atomic_store(root: Path) -> zarr.storage.LocalStore:
    """A zarr store whose every write is a rename; zarr's own does so only from 3.1 on."""
    from zarr.core.buffer import Buffer
    from zarr.storage import LocalStore

    class AtomicStore(LocalStore):
        async def set(self, key: str, value: Buffer) -> None:
            self._check_writable()
            await asyncio.to_thread(replace_file, self.root / key, value.to_bytes())

    return AtomicStore(root)


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file by a rename: the old content or the new, never half of one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise

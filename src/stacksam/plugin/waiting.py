"""Waiting for a download without a frozen window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QApplication, QMainWindow, QProgressDialog

from stacksam.assets import Progress
from stacksam.errors import DownloadError

__all__ = ["wait_for"]

_T = TypeVar("_T")
_POLL_MS = 50
_PATIENCE_MS = 500
"""What is quicker shows no dialog."""


class _CancelledError(Exception):
    """Raised in the download's own thread, and seen by nobody."""


def wait_for(work: Callable[[Progress], _T], what: str) -> _T:
    """Do something that fetches a file, and show how far it is; the window stays alive.

    Called outside of Qt's main thread, or without an application, it just does it.

    Parameters
    ----------
    work : callable
        Called in a thread of its own, with a callable that takes the bytes done and the bytes in all or None.
    what : str
        What is fetched, for the dialog and for errors.

    Returns
    -------
    object
        What `work` returned.

    Raises
    ------
    DownloadError
        If the user cancels. A server that does not answer holds up nobody: its thread ends by itself.
    Exception
        Whatever `work` raised.
    """
    application = QApplication.instance()
    if application is None or threading.current_thread() is not threading.main_thread():
        return work(lambda _done, _total: None)

    job = _Job(work)
    window = QApplication.activeWindow()
    # Anything else that is active may go, and would take the dialog with it.
    parent = window if isinstance(window, QMainWindow) else None
    dialog = QProgressDialog(f"Fetching {what} …", "Cancel", 0, 0, parent)
    dialog.setWindowTitle("stacksam")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setAutoReset(False)  # it would vanish at the last byte, before the file is checked
    loop, timer, patience = QEventLoop(), QTimer(), QTimer()
    patience.setSingleShot(True)
    patience.timeout.connect(dialog.show)  # left to itself it waits for the second value

    def look() -> None:
        if job.future.done():
            loop.quit()
        elif job.total:
            dialog.setMaximum(100)
            dialog.setValue(job.done * 100 // job.total)

    dialog.canceled.connect(job.cancel)
    dialog.canceled.connect(loop.quit)
    timer.timeout.connect(look)
    timer.start(_POLL_MS)
    patience.start(_PATIENCE_MS)
    job.start()
    try:
        loop.exec()
    finally:
        timer.stop()
        patience.stop()
        dialog.canceled.disconnect()  # closing a dialog cancels it
        dialog.close()
        dialog.deleteLater()
    if job.cancelled.is_set():
        raise DownloadError(f"{what}: the download was cancelled")
    return job.future.result()


class _Job(Generic[_T]):
    """Work in a thread, and how far it is."""

    def __init__(self, work: Callable[[Progress], _T]) -> None:
        self.done, self.total = 0, 0
        self.cancelled = threading.Event()
        self.future: Future[_T] = Future()
        self._work = work

    def start(self) -> None:
        """Begin; a thread that is cancelled must not keep the program alive."""
        threading.Thread(target=self._run, name="stacksam download", daemon=True).start()

    def cancel(self) -> None:
        """End with the next bytes."""
        self.cancelled.set()

    def _run(self) -> None:
        try:
            result = self._work(self._report)
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def _report(self, done: int, total: int | None) -> None:
        if self.cancelled.is_set():
            raise _CancelledError
        self.done, self.total = done, total or 0

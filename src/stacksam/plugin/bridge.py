"""From any thread to the main one."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, Qt, Signal, Slot

__all__ = ["Bridge"]


class Bridge(QObject):
    """Has functions called on the thread that made it, in order; a dead one calls nothing."""

    _given = Signal(object)

    def __init__(
        self, parent: QObject | None = None, *, failed: Callable[[Exception], None] | None = None
    ) -> None:
        super().__init__(parent)
        self._open = True
        self._failed = failed
        self._given.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def deliver(self, function: Callable[[], None]) -> None:
        """Have `function` called soon; may be called from any thread."""
        if self._open:
            self._given.emit(function)

    def close(self) -> None:
        """Drop what is still to come."""
        self._open = False

    @Slot(object)
    def _call(self, function: Callable[[], None]) -> None:
        if not self._open:
            return
        try:
            function()
        except Exception as error:
            if self._failed is None:
                raise
            self._failed(error)

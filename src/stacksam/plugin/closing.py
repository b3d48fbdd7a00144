"""What is left to do when a dock is closed, or napari is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QApplication

from stacksam.plugin.bridge import Bridge
from stacksam.plugin.controller import Controller
from stacksam.plugin.engine import wait_for_closed

__all__ = ["closer"]

_WAITS = "stacksam_waits"  # property of the application


def closer(
    controller: Controller, bridge: Bridge, events: list[tuple[Any, Any]], exporting: threading.Event
) -> Callable[..., None]:
    """What is left to do when the dock is gone; holds no reference to it."""
    application = QApplication.instance()
    if not application.property(_WAITS):
        application.setProperty(_WAITS, True)
        application.aboutToQuit.connect(_wait)

    def close(*_: object) -> None:
        bridge.close()
        if events:
            application.aboutToQuit.disconnect(leave)
        while events:
            emitter, callback = events.pop()
            emitter.disconnect(callback)
        exporting.set()
        controller.shut_down()

    def leave() -> None:
        close()
        wait_for_closed()

    application.aboutToQuit.connect(leave)
    return close


def _wait() -> None:
    """Wait for what was asked for in docks that were closed; at the end, when no window is held up by it."""
    wait_for_closed()

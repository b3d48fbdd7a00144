"""Between the panel that asks what to export and the thread that writes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from stacksam import assets
from stacksam.plugin.controller import Controller
from stacksam.plugin.engine import Deliver
from stacksam.plugin.export import ExportPanel
from stacksam.plugin.exporting import ExportCancelledError, ExportPlan, Origin, run_export
from stacksam.plugin.lineage_layers import lineage_of
from stacksam.plugin.places import data_dir
from stacksam.plugin.state import State
from stacksam.session.session import Session

__all__ = ["Exporter"]


class Exporter:
    """Has plans carried out, and tells the panel what there is and what came of it.

    Parameters
    ----------
    panel : ExportPanel
    controller : Controller
    stop : threading.Event
        Set to cancel.
    deliver : callable
        Has a function called on the main thread.
    fail : callable
        Told what went wrong, and what was being done.
    """

    def __init__(
        self,
        panel: ExportPanel,
        controller: Controller,
        stop: threading.Event,
        deliver: Deliver,
        fail: Callable[[Exception, str], None],
    ) -> None:
        self._panel, self._controller, self._stop = panel, controller, stop
        self._deliver, self._fail = deliver, fail

    def tell(self, session: Session, state: State) -> None:
        """Say what there is to export now."""
        stack = session.stack
        source = stack.opened.get("source")
        self._panel.set_context(
            stack.name,
            stack.n_frames,
            stack.frame_shape,
            state.object_ids,
            _folder(session),
            Origin(
                stack.axes_out,
                stack.spacing,
                stack.units,
                tuple(lineage_of(state).edges),
                source if isinstance(source, str) else None,
                dict(stack.at),
            ),
        )

    def run(self, plan: ExportPlan) -> None:
        """Carry out a plan."""
        self._stop.clear()

        def report(done: int, total: int) -> bool:
            self._deliver(lambda: self._panel.set_progress(done, total))
            return not self._stop.is_set()

        def failed(error: Exception) -> None:
            if isinstance(error, ExportCancelledError):
                self._panel.cancelled(error.files)
            else:
                self._panel.failed(str(error), getattr(error, "files", ()))
                self._fail(error, "Export")

        self._controller.ask(
            lambda session: run_export(plan, session, report),
            self._panel.finished,
            "Export",
            failed=failed,
            always=True,
        )


def _folder(session: Session) -> Path:
    """Where results are looked for: beside the image, unless it lies where nobody looks."""
    opened = session.stack.opened.get("source")
    folder = Path(opened).parent if isinstance(opened, str) else Path.home()
    ours = assets.cache_dir(), data_dir(), assets.sample("timelapse").parent
    return Path.home() if any(folder.is_relative_to(place) for place in ours) else folder

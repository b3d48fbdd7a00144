"""The dock: its parts in the order in which a person works, and the wires between them and the controller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import napari.viewer
import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_info, show_warning
from numpy.typing import NDArray
from psygnal import EmitLoopError
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QApplication,
    QMessageBox,
)

from stacksam.errors import InputError, StacksamError
from stacksam.plugin.bridge import Bridge
from stacksam.plugin.choice import LayerChoice
from stacksam.plugin.closing import closer
from stacksam.plugin.commands import Commands
from stacksam.plugin.comparing import Comparing
from stacksam.plugin.config import read_config
from stacksam.plugin.controller import Controller, Opening
from stacksam.plugin.coords import Placement, shown_index
from stacksam.plugin.dock import FOLLOW, REVIEW, Dock
from stacksam.plugin.exporter import Exporter
from stacksam.plugin.file_axes import FileAxes, axes_of_file, place_like, says_nothing
from stacksam.plugin.finding import Finding
from stacksam.plugin.keys import KEYS, bind_keys, help_text, hint
from stacksam.plugin.labels_view import LabelsView
from stacksam.plugin.layers import SessionLayers
from stacksam.plugin.lineage_view import LineageView
from stacksam.plugin.opengl import switch_off_vertex_arrays
from stacksam.plugin.pace import seconds_per_mask, told
from stacksam.plugin.parts import guarded, tells, timer
from stacksam.plugin.places import digest_of, place_of, saved_at
from stacksam.plugin.progress import Progress
from stacksam.plugin.review import Thumb, thumbnail
from stacksam.plugin.sight import in_sight
from stacksam.plugin.stacks import opener_of
from stacksam.plugin.state import State
from stacksam.plugin.words import action_name, in_the_dock, next_step, review_note
from stacksam.session.models import Model
from stacksam.session.session import Session
from stacksam.session.stack import Stack

__all__ = ["StacksamWidget"]

log = logging.getLogger(__name__)

_FEW = np.iinfo(np.uint16).max  # ids that masks are shown in 16 bits for
_THUMBS = 15  # around the frame that is shown
_QUIET_MS = 150  # after the last move of a slider
_THUMB_SIDE = 52
_TILTED = (
    "This layer is tilted against its frames, which napari shows only approximately: what you see and click "
    "may lie a little beside. Take its rotation or shear back to work on it."
)


class StacksamWidget(Dock):
    """Click, follow, correct, accept, save.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:  # napari looks for just this annotation
        super().__init__()
        # Napari hands out a proxy, through which a layer is never the same object twice.
        self.viewer: Any = getattr(viewer, "__wrapped__", viewer)
        self.bridge = Bridge(self, failed=self.fail)
        self.controller = Controller(self.bridge.deliver)
        self.layers: SessionLayers | None = None
        self.commands = Commands(self)
        self.lineage = LineageView(self)
        self.finding = Finding(self)
        self.comparing = Comparing(self)
        self._image: Image | None = None
        self._choice: LayerChoice | None = None
        self._watched: Image | None = None  # the one that is described
        self._usable = False  # whether it can be worked on
        self._file_axes: FileAxes | None = None  # of its file, where it tells nothing itself
        self._pace: float | None = None  # of the pass that runs, or of the last one
        self._task: Literal["segment", "track"] = "track"
        self._saved = False  # whether there is a session on what is chosen
        self._opening = ""  # what is being done before there is a session
        self._exporting = threading.Event()
        self._exporter = Exporter(
            self.export_part, self.controller, self._exporting, self.bridge.deliver, self.fail
        )
        self._preview = timer(self, _QUIET_MS, self._show_preview)
        self._thumbs = timer(self, _QUIET_MS, self._ask_thumbs)
        self._brush = timer(self, _QUIET_MS, self._keep_paint)
        self._check_layers = timer(self, 0, self._layers_gone)
        self.acts: dict[str, Callable[[], None]] = {
            key.action: guarded(getattr(self.commands, key.action), self.fail) for key in KEYS
        }
        self.undo_button.clicked.connect(lambda *_: self.acts["undo"]())
        self.redo_button.clicked.connect(lambda *_: self.acts["redo"]())
        self.help_button.clicked.connect(lambda *_: self._show_help())
        self._connect()
        config = self._config()
        self.model_part.choose(config.model)
        self._images_changed()
        self._tell_next()

    # Wires

    def _connect(self) -> None:
        do = self._wire
        c = self.controller
        c.opened.connect(self._opened)
        c.closed.connect(self._closed)
        c.state_changed.connect(self._show_state)
        c.painted.connect(self._labels_changed)
        c.busy.connect(self._show_busy)
        c.progress.connect(self._show_progress)
        c.downloading.connect(self._show_download)
        c.failed.connect(self._failed)
        c.noted.connect(show_info)
        c.current_changed.connect(self._current_changed)
        c.sign_changed.connect(self._sign_changed)
        self.lineage.divisions.changed.connect(self._tell_next)
        do(self.image_part.start_requested, self.start_chosen)
        do(self.image_part.layer_chosen, self._layer_chosen)
        do(self.image_part.choice_changed, self._preview.start)
        do(self.model_part.changed, self._preview.start)
        do(self.model_part.cancel_requested, c.cancel_download)
        do(self.objects_part.current_changed, self._row_chosen)
        do(self.objects_part.selection_changed, self.export_part.set_selected)
        do(self.objects_part.add_requested, self.commands.new_object)
        do(self.objects_part.remove_requested, c.remove_objects)
        do(self.objects_part.merge_requested, c.merge)
        do(self.objects_part.split_requested, lambda object_id: c.split(object_id, self.frame()))
        do(self.objects_part.rename_requested, c.rename)
        do(self.objects_part.visibility_changed, self._show_object)
        do(self.objects_part.lock_requested, self.commands.lock_object)
        do(self.prompt_part.tool_requested, self.commands.use)
        do(self.prompt_part.sign_toggled, self.commands.toggle_sign)
        do(self.prompt_part.new_requested, self.commands.new_object)
        do(self.prompt_part.next_candidate_requested, self.commands.next_candidate)
        do(self.prompt_part.from_labels_requested, self.commands.take_labels)
        do(self.follow_part.follow_requested, self.commands.follow)
        do(self.follow_part.cancel_requested, self.commands.cancel)
        do(self.review_part.frame_clicked, self.go_to)
        do(self.review_part.accept_requested, self.commands.accept)
        do(self.review_part.absent_requested, self.commands.mark_absent)
        do(self.review_part.unlock_requested, self.commands.take_back)
        do(self.review_part.worst_requested, self.commands.next_worst)
        do(self.export_part.export_requested, self._exporter.run)
        do(self.export_part.cancel_requested, self._exporting.set)
        layers = self.viewer.layers.events
        self._viewer_events = [
            (layers.inserted, self._layer_added),
            (layers.removed, self._layer_removed),
            (layers.reordered, self._images_changed),
            (layers.renamed, self._images_changed),
            (self.viewer.dims.events.point, self._frame_moved),
        ]
        for emitter, callback in self._viewer_events:
            emitter.connect(callback)
        self._leave = closer(self.controller, self.bridge, self._viewer_events, self._exporting)
        self.destroyed.connect(self._leave)

    def _wire(self, signal: Any, act: Callable[..., Any]) -> None:
        signal.connect(guarded(act, self.fail))

    # Images

    @tells("fail")
    def _images_changed(self, _event: Any = None) -> None:
        images = [layer for layer in self.viewer.layers if isinstance(layer, Image)]
        active = self.viewer.layers.selection.active
        self.image_part.set_layers(images, active if isinstance(active, Image) else None)
        self.comparing.layers_changed()
        self._tell_next()

    @tells("fail")
    def _layer_added(self, event: Any) -> None:
        layer = event.value
        if self._image is not None and self._image in self.viewer.layers:
            if isinstance(layer, Labels):
                place_like(layer, self._image)
            elif isinstance(layer, Image):
                show_info(f"To work on “{layer.name}”, choose it in part 1, Image, and press Start.")
        self._images_changed()

    @tells("fail")
    def _layer_removed(self, _event: Any = None) -> None:
        switch_off_vertex_arrays()
        self._images_changed()
        self._check_layers.start()

    def _layers_gone(self) -> None:
        """After layers were removed: end, or make the missing ones anew."""
        if self.layers is None:
            return
        if self._image not in self.viewer.layers:
            self._stop_session("The image was removed. What was done on it is saved and comes back with it.")
        elif not any(layer in self.viewer.layers for layer in self.layers.all):
            self._stop_session("The layers were removed. What was done is saved: press Start to go on.")
        elif not self.layers.present() and self.controller.session is not None:
            self._make_layers(self.controller.session)
            self.warn("A layer that stacksam works with was removed; it was made again from the session.")

    @tells("fail")
    def _data_replaced(self, _event: Any = None) -> None:
        if self.controller.session is None:
            self._let_go()  # it is being opened, which ends when it comes to light
        else:
            self._stop_session("The image's data were replaced. What was done on the former ones is saved.")

    def _stop_session(self, why: str) -> None:
        self.controller.close_session()
        self.warn(why)

    @tells("fail")
    def _layer_chosen(self) -> None:
        layer = self.image_part.layer()
        if layer is not self._watched:
            if self._watched is not None:
                self._watched.events.data.disconnect(self._layer_chosen)
            if layer is not None:
                layer.events.data.connect(self._layer_chosen)
            self._watched, self._saved = layer, False
        self._usable = False
        try:
            if layer is None:
                self.image_part.show_preview(None)
                return
            shown = shown_index(layer, self.viewer.dims.point, self.viewer.dims.units)
            told = self._file_axes = axes_of_file(layer)
            labels = self.viewer.dims.axis_labels if told is None else told.labels
            self.image_part.describe(layer, labels, shown, "" if told is None else told.words())
            self.image_part.set_message("")
            self._usable = True
            self._preview.start()
        except StacksamError as error:
            self.image_part.set_message(str(error))
        finally:
            self._show_start()

    def _show_start(self) -> None:
        """Let Start be pressed if there is something to start, and it is not being started."""
        self.image_part.start.setEnabled(self._usable and not self.controller.opening)

    def _show_preview(self) -> None:
        layer = self.image_part.layer()
        if layer is None or not self._usable:
            return
        try:
            choice = self.image_part.choice()
            opened = opener_of(layer, choice)
            placement = Placement(layer, choice)
            frame = placement.frame_of(self.viewer.dims.point, self.viewer.dims.units)
        except StacksamError as error:
            self.image_part.set_message(str(error))
            return
        self.image_part.set_message(_TILTED if placement.tilted else "")
        name = self.model_part.name()
        sight = self._config(quiet=True).sight(windowed=name == "nano")
        kept = bool(layer.metadata.get("stacksam", {}).get("folder"))

        def work() -> tuple[NDArray[np.float32], bool]:
            stack = opened()
            digest = None if kept else digest_of(name)
            saved = digest is not None and saved_at(stack, digest, sight)
            return stack.frame(min(frame or 0, stack.n_frames - 1)), kept or bool(saved)

        def done(seen: tuple[NDArray[np.float32], bool]) -> None:
            picture, self._saved = seen
            self.image_part.show_preview(picture)
            self._tell_next()

        def failed(error: Exception) -> None:
            self.image_part.show_preview(None)
            self.image_part.set_message(str(error))

        self.controller.run(work, done, "Preview", key="preview", failed=failed)

    # Opening and closing

    def start(self, layer: Image, task: Literal["segment", "track"] = "track") -> None:
        """Work on an image layer; for "segment" the part that follows objects stays folded."""
        self.image_part.choose(layer)
        self._task = task
        self.start_chosen()

    def start_chosen(self) -> None:
        """Make a session of what is chosen."""
        layer = self.image_part.layer()
        if layer is None:
            raise InputError("there is no image; open one first")
        choice = self.image_part.choice()
        Placement(layer, choice)  # complains about a choice that does not fit
        origin = dict(layer.metadata.get("stacksam", {}))
        config = self._config()

        def folder(stack: Stack, model: Model) -> Path:
            if origin.get("folder"):
                return Path(origin["folder"])
            return place_of(stack, model.digest, config.sight(windowed=model.windowed))

        self.controller.close_session()
        self._let_go()  # of the image that was worked on before
        self._place(layer, choice)
        opener = opener_of(layer, choice)
        self._image, self._choice = layer, choice
        layer.events.data.connect(self._data_replaced)
        self.controller.open(
            Opening(
                opener,
                self.model_part.name(),
                self.model_part.device_name() or config.torch_device,
                folder,
                None if origin.get("folder") else config.settings(),  # a session keeps its own
            )
        )
        self._show_start()

    def _place(self, layer: Image, choice: LayerChoice) -> None:
        """Put a layer that tells nothing itself where its file says, and what lies on it."""
        told = self._file_axes
        if told is None or layer is not self._watched or not says_nothing(layer):
            return
        frame = Placement(layer, choice).frame_of(self.viewer.dims.point, self.viewer.dims.units)
        told.with_frames(choice.frame_dim, choice.kind).place(layer)
        for other in self.viewer.layers:
            if isinstance(other, Labels):
                place_like(other, layer)
        dims, placement = self.viewer.dims, Placement(layer, choice)
        steps = placement.steps_of(frame or 0, dims.ndim, dims.units)
        if steps:
            dims.set_point(list(steps), list(steps.values()))
        self.viewer.reset_view()

    def _config(self, *, quiet: bool = False) -> Any:
        try:
            return read_config()
        except InputError as error:
            if not quiet:
                self.warn(f"{error}. The default is used instead.")
            from stacksam.plugin.config import Config

            return Config()

    def _opened(self, session: Session) -> None:
        if self._image not in self.viewer.layers:
            self._stop_session("The image was removed or replaced before it could be worked on.")
            return
        self._make_layers(session)
        self.follow_part.begin()  # not as it was left for another image
        self._hide_former(session)
        self._show_image()
        self.set_open(True)
        self.sections[FOLLOW].set_folded(self._task == "segment" or session.stack.n_frames == 1)
        count = session.stack.n_frames
        self.sections[0].set_note(f"{session.stack.name} · {count} frame{'' if count == 1 else 's'}")
        self.sections[1].set_note(session.model.name)
        self._pace = None  # that of another model, or on another stack
        self.model_part.set_pace("", "")
        self._show_start()
        self.image_part.set_running(session.stack.name)
        self.model_part.refresh()
        self._current_changed(self.controller.current)
        self.lineage.opened(session)
        self.finding.opened(session)
        self.comparing.layers_changed()
        self._measure(session)

    def _make_layers(self, session: Session) -> None:
        if self._image is None or self._choice is None:
            return
        tool = "point"
        if self.layers is not None:
            tool = self.layers.tool or tool
            self.layers.close()
        placement = Placement(self._image, self._choice)
        largest = max(self.controller.state.object_ids, default=0)
        view = LabelsView(session.labels, placement.layout, np.min_scalar_type(max(largest, _FEW)))
        self.layers = SessionLayers(
            self.viewer,
            placement,
            view,
            self._image.name,
            self.controller,
            self._refused,
            guarded(self.commands.use, self.fail),
        )
        for layer in self.layers.all:
            bind_keys(layer, self.acts)
        bind_keys(self._image, self.acts)
        self.layers.show_prompts(self.controller.prompts)
        self.layers.hide(self.objects_part.hidden(), self.controller.state.object_ids)
        self.commands.use(tool)
        self._frame_moved()

    def _hide_former(self, session: Session) -> None:
        """Hide labels that were read from the session's folder: its masks show the same, and what changes."""
        for layer in self.viewer.layers:
            folder = layer.metadata.get("stacksam", {}).get("folder")
            if isinstance(layer, Labels) and folder and Path(folder) == session.folder:
                layer.visible = False

    def _show_image(self) -> None:
        """Move sliders and camera to the image, where they stand beside it: another one was looked at."""
        if self.layers is None or self._image is None:
            return
        if not self._image.visible:
            self._image.visible = True
        if self.layers.frame is None:
            dims = self.viewer.dims
            self.layers.go_to(self.layers.placement.nearest_frame(dims.point, dims.units))
        if not in_sight(self.viewer, self.layers.placement):
            self.viewer.fit_to_view(layers=[self._image])

    def _closed(self) -> None:
        self._let_go()
        self.set_open(False)
        self.image_part.set_running(None)
        self._show_start()
        self._show_progress(None)
        self._tell_next()
        self._preview.start()

    def _let_go(self) -> None:
        """Take the layers out of the viewer, and the keys off the image."""
        if self.layers is not None:
            self.layers.close()
            self.layers = None
        if self._image is not None:
            self._image.events.data.disconnect(self._data_replaced)
            for key in KEYS:
                self._image.bind_key(key.key, None)
            self._image = None

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """End when the dock is closed: napari then only takes the widget out of it, and keeps it."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._leave()
            self._let_go()
            self.deleteLater()

    def _measure(self, session: Session) -> None:
        """Say what this machine makes of the model, where finding out takes no time worth speaking of."""
        if not session.model.windowed:
            return  # told by the pace of following instead

        def each(seconds: float | None) -> None:
            if seconds is not None:
                self.bridge.deliver(lambda: self._show_pace(session, seconds))

        self.controller.aside(seconds_per_mask(session.model), each, "Timing the model")

    def _show_pace(self, session: Session | None, seconds: float) -> None:
        if session is None or session is not self.controller.session:
            return
        name, device = session.model.name, session.model.device
        self.model_part.set_pace(name, told(seconds, session.stack.n_frames, device))
        pace = f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
        self.sections[1].set_note(f"{name} on {device.type} · {pace} a mask")

    # Showing

    def _show_state(self, state: State) -> None:
        session = self.controller.session
        bits = None if self.layers is None else np.iinfo(self.layers.view.dtype)
        if bits is not None and session is not None and max(state.object_ids, default=0) > bits.max:
            self._make_layers(session)
        self.objects_part.set_state(state)
        self.review_part.set_state(state, self.controller.changed)
        if self.layers is not None:
            self.layers.show_prompts(self.controller.prompts)
            self.layers.hide(self.objects_part.hidden(), state.object_ids)
            self._keep_paint()
        for button, name, word in (
            (self.undo_button, state.can_undo, "Undo"),
            (self.redo_button, state.can_redo, "Redo"),
        ):
            button.setEnabled(name is not None)
            what = "" if name is None else f": {action_name(name)}"
            button.setToolTip(f"{word}{what}{hint(word.lower())}")
        if session is not None:
            self._exporter.tell(session, state)
        if not self.reviewable and any(row.n_frames > len(row.prompted) for row in state.objects):
            self.reviewable = True  # once: the user may fold it again
            self.sections[REVIEW].set_folded(False)
        self.sections[REVIEW].set_note(review_note(state))
        self._show_current()
        self._tell_next()
        if not self.controller.following:
            self._thumbs.start()

    def _tell_next(self) -> None:
        """One sentence on what to do now."""
        text = next_step(
            self.controller.state,
            has_image=self.image_part.layer() is not None,
            has_session=self.controller.session is not None,
            saved=self._saved,
            opening=self._opening,
            following=self.controller.following,
            current=self.controller.current,
            divisions=len(self.lineage.divisions.open),
            asked=self.lineage.divisions.asked,
        )
        self.next_step.setText(text)

    def _show_busy(self, text: str) -> None:
        opened = self.controller.session is not None
        self.prompt_part.set_busy(text if opened else "")
        self._opening = "" if opened else text
        self._tell_next()

    def _labels_changed(self, frames: frozenset[int] | None) -> None:
        if self.layers is not None:
            self.layers.labels_changed(frames)
            if frames is None or self.layers.frame in frames:
                self._keep_paint()

    def _show_progress(self, progress: Progress | None) -> None:
        self.follow_part.set_progress(progress)
        if progress is not None and progress.seconds_each is not None:
            self._pace = progress.seconds_each
        elif self._pace is not None:
            self._show_pace(self.controller.session, self._pace)
        if progress is None or progress.done == 0:
            self._tell_next()

    def _show_download(self, progress: Progress | None) -> None:
        self.model_part.set_download(progress)
        if progress is not None:
            self.sections[1].set_folded(False)

    def _failed(self, title: str, error: Exception) -> None:
        self._show_start()
        self._refused(error, title)

    def _refused(self, error: Exception, title: str = "") -> None:
        """Tell what went wrong, and show what holds instead of what was tried."""
        self.fail(error, title)
        if self.layers is not None:
            self.layers.show_prompts(self.controller.prompts)
            if self.layers.tool == "paint":
                self.load_paint()

    def fail(self, error: Exception, title: str = "") -> None:
        """Tell the user what went wrong; the log has the rest."""
        if isinstance(error, EmitLoopError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # psygnal's wrapping of what a listener raised
        text = in_the_dock(f"{title}: {error}" if title else str(error))
        if not isinstance(error, StacksamError):
            log.error("unexpected error", exc_info=error)
            head = f"{title}: " if title else ""
            text = f"{head}{type(error).__name__}: {error}. Nothing that was found is lost."
        show_error(text)
        self.trouble.tell(text)

    def warn(self, text: str) -> None:
        """Tell the user what happened that they may not have wanted."""
        show_warning(text)
        self.trouble.tell(text)

    def frame(self) -> int:
        """The frame that is shown, or InputError where it is none of the stack's."""
        frame = None if self.layers is None else self.layers.frame
        if frame is None:
            where = "" if self._image is None else f" of “{self._image.name}”"
            raise InputError(f"the slider stands at no frame{where}, which is worked on; move it to one")
        return frame

    @tells("fail")
    def _frame_moved(self, _event: Any = None) -> None:
        frame = None if self.layers is None else self.layers.frame
        if self.layers is not None:
            self.review_part.set_frame(frame)
            self.objects_part.set_frame(frame)
            self.lineage.frame_moved(frame)
        if frame is not None and self.layers is not None:
            if self.layers.tool == "paint":
                self.load_paint()
            if not self.controller.following:
                self._thumbs.start()
        elif self.layers is None:
            self._preview.start()

    def _current_changed(self, object_id: int) -> None:
        self.objects_part.set_current(object_id)
        self.export_part.set_selected(self.objects_part.selected())
        self.review_part.set_current(object_id)
        if self.layers is not None:
            self.layers.set_next(object_id, self.controller.positive)
            if self.layers.tool == "paint":
                self.load_paint()
        self._show_current()
        self._tell_next()
        self._thumbs.start()

    def _show_current(self) -> None:
        rows = {row.object_id: row for row in self.controller.state.objects}
        row = rows.get(self.controller.current)
        self.prompt_part.set_current(self.controller.current, row.name if row else "", row is not None)

    def _sign_changed(self, positive: bool) -> None:
        self.prompt_part.set_sign(positive)
        if self.layers is not None:
            self.layers.set_next(self.controller.current, positive)

    def _row_chosen(self, object_id: int) -> None:
        if object_id:
            self.controller.set_current(object_id)

    def _show_object(self, _object_id: int, _visible: bool) -> None:
        if self.layers is not None:
            self.layers.hide(self.objects_part.hidden(), self.controller.state.object_ids)

    def go_to(self, object_id: int, frame: int) -> None:
        """Show a frame, and make an object current; 0 leaves that as it is."""
        if object_id:
            self.controller.set_current(object_id)
        if self.layers is not None:
            self.layers.go_to(frame)

    def _ask_thumbs(self) -> None:
        state, current = self.controller.state, self.controller.current
        scores = state.scores.get(current)
        if scores is None or self.controller.session is None or self.layers is None:
            self.review_part.set_thumbs(current, ())
            return
        here = self.layers.frame or 0
        frames = sorted(sorted(scores.frames.tolist(), key=lambda f: abs(f - here))[:_THUMBS])
        values = dict(zip(scores.frames.tolist(), state.confidences[current].tolist(), strict=True))

        def work(session: Session) -> list[Thumb]:
            made = []
            box = None
            for frame in frames:
                update = session.update(current, frame)
                if update is None:
                    continue
                mask = update.mask
                if mask.any():
                    box = update.bbox
                elif box is None:
                    continue
                else:  # not seen here: show the place where it was
                    mask = np.zeros((box[2] - box[0], box[3] - box[1]), bool)
                seen = thumbnail(session.stack.frame(frame), box, mask, _THUMB_SIDE)
                made.append(Thumb(frame, *seen, values[frame]))
            return made

        self.controller.ask(
            work,
            lambda made: self.review_part.set_thumbs(current, made),
            "Thumbnails",
            key="thumbs",
        )

    def _keep_paint(self) -> None:
        """Bring the brush in step with what was found, but for strokes that are being made or answered."""
        if self.layers is None or self.layers.tool != "paint":
            return
        if QApplication.mouseButtons() != Qt.MouseButton.NoButton:
            self._brush.start()
        elif len(self.controller.prompts) == len(self.controller.state.prompts):
            self.load_paint()

    def load_paint(self) -> None:
        """Put the current object's mask under the brush."""
        layers = self.layers
        if layers is None or self.controller.session is None or layers.frame is None:
            return
        layers.put_paint(layers.frame, self.controller.mask(self.controller.current, layers.frame))

    def _show_help(self) -> None:
        QMessageBox.information(self, "Keys of stacksam", help_text())

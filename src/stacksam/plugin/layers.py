"""The layers of one session: prompts a person makes, and what came of them.

Layers are views. What holds is in the session; a change that a person makes in a layer is read as a change
of prompts, sent off, and the layers are made to show what the session then says. So prompts made elsewhere
(undo, a script, a session that was opened again) appear by themselves.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels, Layer, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication
from skimage.draw import polygon2mask

from stacksam.errors import InputError
from stacksam.plugin.colors import color_of, label_colormap
from stacksam.plugin.coords import Placement
from stacksam.plugin.labels_view import LabelsView
from stacksam.plugin.opengl import switch_off_vertex_arrays
from stacksam.plugin.paint import PaintBuffer
from stacksam.plugin.parts import tells
from stacksam.session.prompts import Box, Mask, Point, Prompt

__all__ = ["PromptSink", "SessionLayers"]

_REFRESH_MS = 40  # at most 25 times a second
_REFRESH_3D_MS = 1500  # the whole volume is read each time
_SETTLE_MS = 30  # after the last event of a drag
_LEAST_AREA = 2.0  # of a drawn outline, in pixels; less is a slip of the hand
_SYMBOLS = {True: "disc", False: "x"}
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_TOOLS = {
    (Points, "add"): "point",
    (Shapes, "add_rectangle"): "box",
    (Shapes, "add_polygon_lasso"): "lasso",
    **{(Labels, mode): "paint" for mode in ("paint", "erase", "fill", "polygon")},
}


class PromptSink(Protocol):
    """Where prompts go that a person makes in the layers."""

    @property
    def current(self) -> int:
        """The object that new prompts are for."""

    @property
    def positive(self) -> bool:
        """What the next point says."""

    def add(self, *prompts: Prompt) -> None:
        """Take new prompts."""

    def paint(self, painted: Mask, before: NDArray[np.bool_]) -> None:
        """Take what the brush made of a mask."""

    def remove(self, *prompts: Prompt) -> None:
        """Take prompts back."""

    def replace(self, old: Prompt, new: Prompt) -> None:
        """Move a prompt."""


class SessionLayers:
    """Points, boxes, paint and masks of one session in a viewer.

    Parameters
    ----------
    viewer : ViewerModel
    placement : Placement
        Where frames lie in the viewer.
    labels : LabelsView
        Results.
    name : str
        Of the image, which the layers' names begin with.
    sink : PromptSink
    failed : callable
        Told what went wrong in reading a layer.
    taken : callable
        Told which tool was taken in hand through napari's own list of layers and their controls.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        placement: Placement,
        labels: LabelsView,
        name: str,
        sink: PromptSink,
        failed: Callable[[Exception], None],
        taken: Callable[[str], None],
    ) -> None:
        self.viewer, self.placement, self.view, self.sink = viewer, placement, labels, sink
        self._failed, self._taken = failed, taken
        kwargs = placement.layer_kwargs()
        ndim = labels.ndim
        self.result: Labels = viewer.add_labels(
            labels, name=f"{name} masks", opacity=0.55, colormap=label_colormap(), multiscale=False, **kwargs
        )
        self.result.editable = False
        self.buffer = PaintBuffer(placement.layout)
        self._unpainted = self.buffer.mask  # what is under the brush, as it was before the stroke
        self.paint: Labels = viewer.add_labels(
            self.buffer, name=f"{name} brush", opacity=0.7, visible=False, multiscale=False, **kwargs
        )
        self.paint.brush_size = max(2, min(placement.layout.frame_shape) // 40)
        self.boxes: Shapes = viewer.add_shapes(
            None,
            ndim=ndim,
            name=f"{name} boxes",
            edge_width=2,
            face_color="transparent",
            features={"object_id": np.zeros(0, int)},
            visible=False,  # see _reveal_boxes
            **kwargs,
        )
        self.points: Points = viewer.add_points(
            np.zeros((0, ndim)),
            ndim=ndim,
            name=f"{name} points",
            size=max(4, round(min(placement.layout.frame_shape) / 45)),
            border_color="white",
            features={"object_id": np.zeros(0, int), "positive": np.zeros(0, bool)},
            **kwargs,
        )
        self.further: list[Layer] = []  # that others have put here, which go with these
        self._image_ndim = placement.layer.ndim
        self.tool: str | None = None
        self._shown: Counter[Prompt] = Counter()
        self._hiding: tuple[frozenset[int], tuple[int, ...]] = (frozenset(), ())
        self._points_seen = True  # whether points are shown in 2D
        self._own = False  # whether the change of a layer is ours
        self._brush_for: int | None = None  # the object in whose colour is painted
        self._refreshed = 0.0  # when labels were last shown, in seconds
        self._settle = _timer(_SETTLE_MS, self._read_prompts)
        self._repaint = _timer(_REFRESH_MS, self._refresh)
        self._connected = [
            (self.points.events.data, self._clicked),
            (self.boxes.events.data, self._changed),
            (self.paint.events.paint, self._painted),
            (viewer.dims.events.ndisplay, self._turned),
            (viewer.layers.selection.events.active, self._reached),
            *((layer.events.mode, self._reached) for layer in (self.points, self.boxes, self.paint)),
            *((placement.layer.events[name], self._moved) for name in _PLACE),
        ]
        for emitter, callback in self._connected:
            emitter.connect(callback)

    @property
    def all(self) -> tuple[Layer, ...]:
        """Layers that are ours, bottom first."""
        return self.result, self.paint, self.boxes, self.points

    def present(self) -> bool:
        """Whether all of them are still in the viewer."""
        return all(layer in self.viewer.layers for layer in self.all)

    def close(self, *, remove: bool = True) -> None:
        """Let go of the viewer; the layers go too."""
        for emitter, callback in self._connected:
            emitter.disconnect(callback)
        self._connected = []
        self._settle.stop()
        self._repaint.stop()
        if remove:
            for layer in (*self.all, *self.further):
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
            switch_off_vertex_arrays()

    # Showing

    @property
    def frame(self) -> int | None:
        """The frame that the viewer shows, if it shows one of the stack's."""
        dims, ndim = self.viewer.dims, self.placement.layer.ndim
        if dims.ndim < ndim or ndim != self._image_ndim:  # the image is gone, or is another
            return None
        return self.placement.frame_of(dims.point, dims.units)

    def go_to(self, frame: int) -> None:
        """Show a frame."""
        dims = self.viewer.dims
        steps = self.placement.steps_of(frame, dims.ndim, dims.units)
        if steps:
            dims.set_point(list(steps), list(steps.values()))

    def show_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Show the prompts that hold."""
        wanted: Counter[Prompt] = Counter(p for p in prompts if not isinstance(p, Mask))
        if self._settle.isActive():
            return  # a change is being read; what comes of it is shown then
        points = [p for p in prompts if isinstance(p, Point)]
        boxes = [p for p in prompts if isinstance(p, Box)]
        with self._ours():
            if Counter(self._points_now()) != Counter(points):
                self._show_points(points)
            if Counter(self._boxes_now()) != Counter(boxes):
                self._show_boxes(boxes)
        self._shown = wanted

    def _show_points(self, points: list[Point]) -> None:
        self.points.selected_data = set()
        data = np.array([self.placement.to_data(p.frame, *p.yx) for p in points]).reshape(
            -1, self.points.ndim
        )
        self.points.data = data
        self.points.features = {
            "object_id": np.array([p.object_id for p in points], int),
            "positive": np.array([p.positive for p in points], bool),
        }
        if points:
            self.points.face_color = np.array([color_of(p.object_id) for p in points])
            self.points.symbol = [_SYMBOLS[p.positive] for p in points]
        self.set_next(self.sink.current, self.sink.positive)

    def _show_boxes(self, boxes: list[Box]) -> None:
        self.boxes.selected_data = set()
        self.boxes.data = []
        if boxes:
            corners = [self._corners(box) for box in boxes]
            self.boxes.add(
                corners,
                shape_type="rectangle",
                edge_color=np.array([color_of(b.object_id) for b in boxes]),
                face_color="transparent",
            )
            self.boxes.features = {"object_id": np.array([b.object_id for b in boxes], int)}
        self._reveal_boxes()
        self.set_next(self.sink.current, self.sink.positive)

    def _reveal_boxes(self) -> None:
        """Show the layer of boxes only where it is used.

        Napari builds the shaders of a Shapes layer anew for each frame, a quarter of the time of a step of
        scrolling; and vispy may crash after one that was drawn is removed (napari issues 8471 and 8165).
        """
        used = self.tool in ("box", "lasso") or len(self.boxes.data) > 0
        _set_visible(self.boxes, used and self._flat)

    def _corners(self, box: Box) -> NDArray[np.float64]:
        y0, x0, y1, x1 = box.yxyx
        return np.array(
            [self.placement.to_data(box.frame, y, x) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))]
        )

    def set_next(self, object_id: int, positive: bool) -> None:
        """Make new prompts look like what they will be."""
        color = color_of(object_id)
        with self._ours():
            for layer in (self.points, self.boxes):
                layer.selected_data = set()
            self.points.feature_defaults = {"object_id": object_id, "positive": positive}
            self.points.current_face_color = np.array(color)
            self.points.current_symbol = _SYMBOLS[positive]
            self.boxes.feature_defaults = {"object_id": object_id}
            self.boxes.current_edge_color = np.array(color)
            if object_id != self._brush_for:  # a colormap takes napari longer than all the rest
                self._brush_for = object_id
                self.paint.colormap = DirectLabelColormap(
                    color_dict={
                        None: np.zeros(4, np.float32),
                        0: np.zeros(4, np.float32),
                        1: np.array(color, np.float32),
                    }
                )
            self.paint.selected_label = 1

    def hide(self, hidden: Collection[int], object_ids: Collection[int]) -> None:
        """Leave out the masks of some of the objects."""
        key = (frozenset(hidden), tuple(object_ids) if hidden else ())
        if key == self._hiding:
            return
        self._hiding = key
        nothing = np.zeros(4, np.float32)
        if hidden:
            colors: dict[int | None, NDArray[np.float32]] = {None: nothing, 0: nothing}
            for i in object_ids:
                colors[i] = nothing if i in hidden else np.array(color_of(i), np.float32)
            self.result.colormap = DirectLabelColormap(color_dict=colors)
        else:
            self.result.colormap = label_colormap()

    def labels_changed(self, frames: frozenset[int] | None) -> None:
        """Show new labels soon, if they are on the frame that is shown."""
        if frames is None:
            self.view.forget()
        else:
            for frame in frames:
                self.view.forget(frame)
        flat = self._flat
        if (not flat or frames is None or self.frame in frames) and not self._repaint.isActive():
            # At once, unless that was just done: who clicks should not wait.
            rest = self._refreshed + (_REFRESH_MS if flat else _REFRESH_3D_MS) / 1000 - time.monotonic()
            self._repaint.start(max(0, round(rest * 1000)))

    def _refresh(self) -> None:
        if self.result in self.viewer.layers:
            self.result.refresh(extent=False, thumbnail=False)
        self._refreshed = time.monotonic()

    # Tools

    def use(self, tool: str | None) -> None:
        """Take a tool in hand: "point", "box", "lasso" or "paint"; None to only look."""
        self.tool = tool
        _set_visible(self.paint, tool == "paint" and self._flat)
        self._reveal_boxes()
        layer, mode = {
            "point": (self.points, "add"),
            "box": (self.boxes, "add_rectangle"),
            "lasso": (self.boxes, "add_polygon_lasso"),
            "paint": (self.paint, "paint"),
        }.get(tool or "", (self.points, "pan_zoom"))
        if not self._flat:
            # A click has no place in a volume; the tool is taken up again in 2D.
            layer, mode = self.result, "pan_zoom"
        with self._ours():
            for other in (self.points, self.boxes, self.paint):
                if other is not layer:
                    other.mode = "pan_zoom"
            if layer in self.viewer.layers:
                self.viewer.layers.selection.active = layer
            # An eraser that is in hand is not put away for the brush.
            if mode == "pan_zoom" or _TOOLS.get((type(layer), str(layer.mode))) != tool:
                layer.mode = mode

    @tells("_failed")
    def _reached(self, _event: Any = None) -> None:
        """Take up the tool that the user has chosen in napari itself."""
        active = self.viewer.layers.selection.active
        if self._own or active not in (self.points, self.boxes, self.paint):
            return
        tool = _TOOLS.get((type(active), str(active.mode)))
        if tool is not None and tool != self.tool:
            self._taken(tool)

    @tells("_failed")
    def _moved(self, _event: Any = None) -> None:
        """Lie where the image lies."""
        if self.placement.layer.ndim != self._image_ndim:
            return
        for name, value in self.placement.layer_kwargs().items():
            for layer in (*self.all, *self.further):
                if not _same(getattr(layer, name), value):  # napari slices a layer anew for each of them
                    setattr(layer, name, value)

    @tells("_failed")
    def _turned(self, _event: Any = None) -> None:
        """Show bodies without prompts in 3D, and all as it was in 2D."""
        with self._ours():
            # Napari's keys of a Shapes layer fail in 3D if a shape is selected.
            self.boxes.selected_data = set()
            self.points.selected_data = set()
            if not self._flat:
                self._points_seen = self.points.visible
            _set_visible(self.points, self._flat and self._points_seen)
        self.use(self.tool)

    @property
    def _flat(self) -> bool:
        return bool(self.viewer.dims.ndisplay == 2)

    def put_paint(self, frame: int, mask: NDArray[np.bool_]) -> None:
        """Put a mask (H, W) on a frame under the brush."""
        self.buffer.put(frame, mask)
        self._unpainted = self.buffer.mask
        self.paint.refresh(extent=False, thumbnail=False)

    # Reading

    @tells("_failed")
    def _changed(self, _event: Any = None) -> None:
        if not self._own:
            self._settle.start(_SETTLE_MS)

    @tells("_failed")
    def _clicked(self, _event: Any = None) -> None:
        if not self._own:
            dragged = QApplication.mouseButtons() != Qt.MouseButton.NoButton
            self._settle.start(_SETTLE_MS if dragged else 0)

    @tells("_failed")
    def _painted(self, _event: Any = None) -> None:
        frame = self.frame
        if frame is None or self._own:
            return
        before, mask = self._unpainted, self.buffer.mask
        self._unpainted = mask
        if mask.any() or before.any():
            self._send(lambda: self.sink.paint(Mask(frame, self.sink.current, mask), before))

    @tells("_failed")
    def _read_prompts(self) -> None:
        """Send what differs between the layers and what they were made to show."""
        if QApplication.mouseButtons() != Qt.MouseButton.NoButton:
            self._settle.start(_SETTLE_MS)  # a drag is not over
            return
        outlines, strays = self._take_outlines()
        points = self._points_now()
        if len(points) < len(self.points.data):
            strays = True
            with self._ours():
                self._show_points(points)
        now: Counter[Prompt] = Counter([*points, *self._boxes_now()])
        added, removed = list((now - self._shown).elements()), list((self._shown - now).elements())
        self._shown = now
        moved = _paired(removed, added)
        for old, new in moved:
            removed.remove(old)
            added.remove(new)
            self._send(lambda old=old, new=new: self.sink.replace(old, new))  # type: ignore[misc]
        if removed:
            self._send(lambda: self.sink.remove(*removed))
        if added or outlines:
            self._send(lambda: self.sink.add(*added, *outlines))
        if strays:
            self._failed(InputError(self._outside()))

    def _outside(self) -> str:
        """What to do about a prompt that lies outside."""
        image = f"“{self.placement.layer.name}”"
        if self.frame is None:
            return (
                f"the slider stands at no frame of {image}; move it to one, or choose another image in "
                "part 1 and press Start"
            )
        return f"that lies outside {image}, which is worked on; click or draw within it"

    def _send(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - shown to the user, who made the prompt
            self._shown = Counter()
            self._failed(error)

    def _points_now(self) -> list[Point]:
        features = self.points.features
        found = []
        for row, object_id, positive in zip(
            self.points.data, features["object_id"], features["positive"], strict=True
        ):
            place = self.placement.from_data(row)
            if place is not None:
                found.append(
                    Point(place[0], int(object_id), (float(place[1]), float(place[2])), bool(positive))
                )
        return found

    def _boxes_now(self) -> list[Box]:
        boxes = [
            self._box(corners, int(object_id))
            for corners, kind, object_id in zip(
                self.boxes.data, self.boxes.shape_type, self.boxes.features["object_id"], strict=True
            )
            if kind == "rectangle"
        ]
        return [box for box in boxes if box is not None]

    def _box(self, corners: NDArray[np.float64], object_id: int) -> Box | None:
        """The box that a rectangle is, cut off at the frame's border; None if little or nothing is left."""
        places = self._places(corners)
        if not places:
            return None
        yx = np.array([p[1:] for p in places])
        (y0, x0), (y1, x1) = yx.min(axis=0), yx.max(axis=0)
        if (y1 - y0) * (x1 - x0) < _LEAST_AREA:
            return None
        return Box(places[0][0], object_id, (float(y0), float(x0), float(y1), float(x1)))

    def _places(self, vertices: NDArray[np.float64]) -> list[tuple[int, float, float]]:
        """Frame, y and x of vertices, with those beyond the frame's border moved to it."""
        layout = self.placement.layout
        inside = np.array(vertices, np.float64)
        for dim, size in zip((layout.y, layout.x), layout.frame_shape, strict=True):
            inside[:, dim] = np.clip(inside[:, dim], -0.5, size - 0.5)
        places = [self.placement.from_data(vertex) for vertex in inside]
        return [place for place in places if place is not None]

    def _take_outlines(self) -> tuple[list[Mask], bool]:
        """Masks of outlines that were drawn, and whether one of the shapes lies outside the frames.

        The outlines go, since a mask shows itself, and so do slips of the hand.
        """
        drawn, done, strays = [], [], False
        for i, (vertices, kind) in enumerate(zip(self.boxes.data, self.boxes.shape_type, strict=True)):
            if kind in ("path", "line"):
                continue  # an outline is a path while it is being drawn
            object_id = int(self.boxes.features["object_id"].iloc[i])
            if kind == "rectangle":
                if self._box(vertices, object_id) is None:
                    done.append(i)
                    strays = strays or _area(vertices) >= _LEAST_AREA
                continue
            done.append(i)
            places = self._places(_around(vertices) if kind == "ellipse" else vertices)
            mask = np.zeros(self.placement.layout.frame_shape, bool)
            if len(places) >= 3:
                outline = np.array([p[1:] for p in places])
                mask = polygon2mask(mask.shape, outline)  # type: ignore[no-untyped-call]
            if mask.sum() >= _LEAST_AREA:
                drawn.append(Mask(places[0][0], object_id, mask))
            else:
                strays = strays or _area(vertices) >= _LEAST_AREA
        if done:
            mode = self.boxes.mode
            with self._ours():
                self.boxes.selected_data = set(done)
                self.boxes.remove_selected()
                self.boxes.mode = mode
        return drawn, strays

    @contextmanager
    def _ours(self) -> Any:
        before, self._own = self._own, True
        try:
            yield
        finally:
            self._own = before


def _set_visible(layer: Layer, visible: bool) -> None:
    """Show or hide a layer; napari puts its tool away when this is set, even to what it was."""
    if layer.visible != visible:
        layer.visible = visible


def _same(one: Any, other: Any) -> bool:
    """Whether two values of a layer's place are equal: arrays, or tuples of units or names."""
    return bool(one == other if isinstance(other, tuple) else np.array_equal(np.asarray(one), other))


def _area(vertices: NDArray[np.float64]) -> float:
    """Of the rectangle around a shape, in data coordinates."""
    sides = np.sort(np.ptp(vertices, axis=0))
    return float(sides[-2] * sides[-1])


def _around(corners: NDArray[np.float64], count: int = 180) -> NDArray[np.float64]:
    """Vertices of an ellipse, of which napari gives the corners around it."""
    center, half = corners.mean(axis=0), (corners[[1, 3]] - corners[0]) / 2
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    around: NDArray[np.float64] = center + np.stack([np.cos(angles), np.sin(angles)], axis=1) @ half
    return around


def _paired(removed: list[Prompt], added: list[Prompt]) -> list[tuple[Prompt, Prompt]]:
    """Prompts that went and came for the same object and frame: they were moved."""
    pairs, free = [], list(added)
    for old in removed:
        new = next(
            (
                p
                for p in free
                if isinstance(old, type(p)) and (p.object_id, p.frame) == (old.object_id, old.frame)
            ),
            None,
        )
        if new is not None:
            free.remove(new)
            pairs.append((old, new))
    return pairs


def _timer(milliseconds: int, call: Callable[[], None]) -> QTimer:
    timer = QTimer()
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(call)
    return timer

"""What the dock does to compare its labels with those of another layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from stacksam.comparison import Comparison, compare
from stacksam.comparison_files import Planes
from stacksam.errors import InputError
from stacksam.plugin.choice import Layout
from stacksam.plugin.lineage_layers import lineage_of
from stacksam.plugin.parts import guarded

if TYPE_CHECKING:
    from stacksam.plugin.widget import StacksamWidget
    from stacksam.session.session import Session

__all__ = ["Comparing", "measures", "planes_of"]


class Comparing:
    """The part of the dock that compares labels.

    Parameters
    ----------
    dock : StacksamWidget
    """

    def __init__(self, dock: StacksamWidget) -> None:
        self.dock, self.controller = dock, dock.controller
        self.panel = dock.compare_part
        self.controller.searching.connect(self.panel.show_search)
        self.controller.closed.connect(self._closed)
        self.panel.compare_requested.connect(guarded(self.compare, dock.fail))
        self.panel.stop_requested.connect(guarded(self.controller.stop_search, dock.fail))

    def layers_changed(self) -> None:
        """Offer the Labels layers that are not the session's own."""
        ours = () if self.dock.layers is None else self.dock.layers.all
        found = [x for x in self.dock.viewer.layers if isinstance(x, Labels) and x not in ours]
        self.panel.set_layers([(layer.name, layer) for layer in found])

    def compare(self, layer: Labels) -> None:
        """Compare all objects with a layer that counts as right."""
        layers, session = self.dock.layers, self.controller.session
        if session is None or layers is None:
            raise InputError("no image is being worked on; choose one and press Start")
        if not self.controller.state.objects:
            raise InputError("there are no objects to compare yet; click one, or find all")
        axis = session.stack.frame_axis
        reference = planes_of(layer, layers.placement.layout, axis)
        links = lineage_of(self.controller.state)
        # With links it would be an error that the measures of the challenge cannot be had.
        lineage = links if links.number_of_edges() and find_spec("ctc_metrics") else None

        def work(session: Session, tell: Callable[[int, int], None]) -> Comparison:
            labels = session.labels
            shape: tuple[int, ...] = tuple(labels.shape)
            own = Planes(
                "the masks", f"{axis}yx", shape, lambda t, z: np.asarray(labels[t if axis == "t" else z])
            )
            return compare(own, reference, lineage=lineage, progress=tell)

        self.panel.set_rows(())
        self.controller.compare(work, lambda found: self.panel.set_rows(*measures(found)))

    def _closed(self) -> None:
        self.panel.show_search(None)
        self.panel.set_rows(())


def planes_of(layer: Labels, layout: Layout, axis: str) -> Planes:
    """The labels of a layer, frame by frame as the session has them.

    Parameters
    ----------
    layer : Labels
        With the dimensions of the image, or those of its frames alone.
    layout : Layout
        How the frames lie in the image.
    axis : {"t", "z"}
        What the frames are.

    Raises
    ------
    InputError
        If it has another shape.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    size = layout.n_frames, layout.shape[layout.y], layout.shape[layout.x]
    shape = tuple(data.shape)
    if shape in (size, size[1:]) and (len(shape) == 3 or size[0] == 1):

        def read(number: int) -> Any:
            return data[number] if len(shape) == 3 else data
    elif len(shape) == layout.ndim and all(
        n == layout.shape[d] for d, n in enumerate(shape) if d != layout.channel
    ):

        def read(number: int) -> Any:
            index: list[Any] = [0] * layout.ndim
            for dim, at in layout.at.items():
                index[dim] = at
            index[layout.y] = index[layout.x] = slice(None)
            if layout.frame is not None:
                index[layout.frame] = number
            return data[tuple(index)]
    else:
        raise InputError(
            f"the layer {layer.name!r} has shape {shape}; to be compared with, it must have "
            f"{size[0]} frames of {size[1]} x {size[2]} pixels, as the image"
        )

    def plane(time: int, depth: int) -> NDArray[Any]:
        found = np.asarray(read(time if axis == "t" else depth))
        return found.astype(np.uint8) if found.dtype == np.bool_ else found

    return Planes(f"the layer {layer.name!r}", f"{axis}yx", size, plane)


def measures(found: Comparison) -> tuple[list[tuple[str, str, str]], str]:
    """What to show of a comparison: name, value and meaning of each measure; and a note, or an empty text."""
    total = found.total
    half = next(one for one in found.detection if math.isclose(one.threshold, 0.5))
    rows = [
        (
            "Mean IoU",
            _number(total.iou),
            f"Overlap of each object of the reference with its partner, over all frames; {total.matched} of "
            f"{total.objects} have one, {total.extra} of ours have none",
        ),
        ("F1 at IoU 0.5", _number(half.f1), "Objects found, frame by frame, and not too many of them"),
    ]
    if found.sequence == "t" and found.shape[0] > 1:
        values = found.ctc
        if values is not None:
            rows += [
                ("DET", _number(values.det), "Cell Tracking Challenge: detection"),
                ("SEG", _number(values.seg), "Cell Tracking Challenge: segmentation, mean IoU"),
                ("TRA", _number(values.tra), "Cell Tracking Challenge: tracking, with links between objects"),
            ]
        elif found.ctc_note:
            return rows, found.ctc_note[:1].upper() + found.ctc_note[1:]
    return rows, ""


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"

"""What there is to see of a lineage in the picture: outlines of one division, and the ways of all objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer, Tracks, Vectors
from napari.utils.colormaps import Colormap
from numpy.typing import NDArray
from skimage.measure import find_contours

from stacksam.plugin.colors import color_of
from stacksam.tracks.lineage import tracks_data

if TYPE_CHECKING:
    import networkx as nx

    from stacksam.plugin.layers import SessionLayers
    from stacksam.plugin.state import State
    from stacksam.tracks.divisions import Division

__all__ = ["LineageLayers", "lineage_of"]

_WHITE = (1.0, 1.0, 1.0, 1.0)
_DASH = 4  # segments of an outline that are drawn, and that are left out
_TAIL = 30  # frames of a way that are shown behind an object

Part = tuple[NDArray[np.bool_], tuple[int, int]]  # a mask, and the place (y, x) of its first pixel


def lineage_of(state: State) -> nx.DiGraph:
    """The lineage of all objects that are seen on any frame."""
    import networkx as nx

    lineage = nx.DiGraph()
    lineage.add_nodes_from(sorted(state.spans))
    lineage.add_edges_from(
        (parent, daughter)
        for daughter, parent in sorted(state.parents.items())
        if parent in lineage and daughter in lineage
    )
    return lineage


class LineageLayers:
    """Layers that are made when they are first needed, and go with those of the session.

    Parameters
    ----------
    made : callable
        Told of each layer that was made.
    """

    def __init__(self, made: Callable[[Layer], None]) -> None:
        self._made = made
        self._outlines: Vectors | None = None
        self._tracks: Tracks | None = None
        self._drawn: tuple[dict[int, Any], dict[int, int]] | None = None  # scores and parents of the tracks

    @property
    def tracks_shown(self) -> bool:
        """Whether there are tracks in the picture."""
        return self._tracks is not None

    def forget(self) -> None:
        """The layers are gone, with those of the session."""
        self._outlines = self._tracks = self._drawn = None

    def lost(self, layers: SessionLayers) -> bool:
        """Whether the user has removed the tracks, of which nothing is known any more then."""
        if self._tracks is None or self._tracks in layers.viewer.layers:
            return False
        self._tracks = self._drawn = None
        return True

    # The division that is looked at

    def show_division(
        self, layers: SessionLayers, division: Division, parent: Part | None, next_id: int
    ) -> None:
        """Outline a parent in white, dashed on the frame of the division, and its daughters in colour.

        Parameters
        ----------
        layers : SessionLayers
        division : Division
        parent : (mask, corner) or None
            The parent on the frame before.
        next_id : int
            Id of the next new object: daughters that are none yet have the colour that they will have.
        """
        pieces: list[tuple[NDArray[np.float64], tuple[float, ...]]] = []
        if parent is not None:
            lines = _lines(*parent)
            pieces.append((self._vectors(layers, division.frame - 1, lines), _WHITE))
            dashed = lines[np.arange(len(lines)) // _DASH % 2 == 0]
            pieces.append((self._vectors(layers, division.frame, dashed), _WHITE))
        for daughter in division.daughters:
            new = daughter.object_id in (None, division.parent)
            object_id = next_id if new else daughter.object_id or 0
            next_id += new
            lines = _lines(daughter.mask, daughter.bbox[:2])
            pieces.append((self._vectors(layers, daughter.frame, lines), color_of(object_id)))
        data = np.concatenate([own for own, _ in pieces])
        colors = np.concatenate([np.tile(color, (len(own), 1)) for own, color in pieces])
        layer = self._outlines
        if layer is not None and layer in layers.viewer.layers:
            # Napari keeps the colours of vectors that were there, whatever their number.
            layer.data, layer.edge_color, layer.visible = data, colors, True
            return
        self._outlines = Vectors(
            data,
            edge_color=colors,
            edge_width=max(0.5, min(layers.placement.layout.frame_shape) / 260),
            vector_style="line",
            name=f"{layers.placement.layer.name} division",
            **layers.placement.layer_kwargs(),
        )
        self._put(layers, self._outlines)

    def hide_division(self, layers: SessionLayers | None) -> None:
        """Outline nothing."""
        if layers is not None and self._outlines is not None and self._outlines in layers.viewer.layers:
            self._outlines.visible = False

    def _vectors(self, layers: SessionLayers, frame: int, lines: NDArray[np.float64]) -> NDArray[np.float64]:
        ends = layers.placement.to_data(frame, lines[..., 0], lines[..., 1])
        return np.stack([ends[:, 0], ends[:, 1] - ends[:, 0]], axis=1)

    # All tracks

    def show_tracks(self, layers: SessionLayers, state: State) -> None:
        """Show the ways of all objects, as they are now."""
        drawn = state.scores, state.parents
        if self._tracks is not None and self._drawn is not None and _same(self._drawn, drawn):
            return
        self._drawn = drawn
        rows, graph = tracks_data(state.scores, lineage_of(state))
        if not len(rows):
            self.hide_tracks(layers)
            return
        data = np.column_stack([rows[:, 0], layers.placement.to_data(rows[:, 1], rows[:, 2], rows[:, 3])])
        ids = np.unique(rows[:, 0]).astype(int)
        shade = (np.searchsorted(ids, rows[:, 0]) + 0.5) / len(ids)  # napari takes them as they are
        colors = Colormap(
            [color_of(int(i)) for i in ids], controls=np.linspace(0, 1, len(ids) + 1), interpolation="zero"
        )
        old = self._tracks
        self._tracks = Tracks(
            data,
            graph=graph,
            features={"shade": shade},
            color_by="shade",
            colormaps_dict={"shade": colors},
            blending="translucent",
            tail_length=_TAIL if old is None else old.tail_length,
            tail_width=2 if old is None else old.tail_width,
            visible=True if old is None else old.visible,
            name=f"{layers.placement.layer.name} tracks",
            **layers.placement.layer_kwargs(),
        )
        # A new one for other data: replacing data would reset what they are coloured by.
        if old is not None:
            self._take(layers, old)
        self._put(layers, self._tracks)

    def hide_tracks(self, layers: SessionLayers | None) -> None:
        """Take the tracks out of the picture."""
        if layers is not None and self._tracks is not None:
            self._take(layers, self._tracks)
        self._tracks = self._drawn = None

    def _put(self, layers: SessionLayers, layer: Layer) -> None:
        """Put a layer below the prompts, and leave in hand what is in hand."""
        own = layers.viewer.layers
        chosen = set(own.selection)
        active = own.selection.active
        own.insert(own.index(layers.result) + 1, layer)
        layers.further.append(layer)
        own.selection = chosen
        own.selection.active = active
        self._made(layer)

    def _take(self, layers: SessionLayers, layer: Layer) -> None:
        if layer in layers.further:
            layers.further.remove(layer)
        own = layers.viewer.layers
        if layer in own:
            active = own.selection.active
            own.remove(layer)
            if active in own:
                own.selection.active = active


def _same(one: tuple[dict[int, Any], dict[int, int]], other: tuple[dict[int, Any], dict[int, int]]) -> bool:
    """Whether nothing has changed; snapshots share what has not."""
    scores, before = other[0], one[0]
    return (
        one[1] == other[1] and scores.keys() == before.keys() and all(scores[i] is before[i] for i in scores)
    )


def _lines(mask: NDArray[np.bool_], corner: tuple[int, int]) -> NDArray[np.float64]:
    """The outline of a mask as lines (n, 2, 2): from where, and to where, ``(y, x)`` of the frame."""
    found = [np.zeros((0, 2, 2))]
    for contour in find_contours(np.pad(mask, 1).astype(np.float64), 0.5):  # type: ignore[no-untyped-call]
        places = contour - 1 + np.asarray(corner)
        found.append(np.stack([places[:-1], places[1:]], axis=1))
    return np.concatenate(found)

"""In 3D there are bodies, and no prompts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel

from stacksam.plugin.choice import LayerChoice
from stacksam.plugin.coords import Placement
from stacksam.plugin.labels_view import LabelsView
from stacksam.plugin.layers import SessionLayers
from stacksam.session.prompts import Box, Point

PROMPTS = (Point(1, 1, (5.0, 5.0)), Box(1, 2, (10.0, 10.0, 15.0, 18.0)))


@pytest.fixture
def layers(qapp):
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 20, 30)))
    placement = Placement(image, LayerChoice(frame_dim=0, kind="z"))
    labels = LabelsView(np.ones((4, 20, 30), np.uint16), placement.layout)
    sink = SimpleNamespace(current=1, positive=True)

    def failed(error: Exception) -> None:
        raise error

    made = SessionLayers(viewer, placement, labels, "a", sink, failed, lambda _: None)
    made.show_prompts(PROMPTS)
    yield made
    made.close()


@pytest.mark.parametrize("tool", ["point", "box", "lasso", "paint", None])
def test_prompts_are_hidden_in_3d_and_come_back(layers, tool):
    layers.use(tool)
    seen = [layer.visible for layer in layers.all]
    mode = layers.boxes.mode
    layers.boxes.selected_data = {0}
    layers.viewer.dims.ndisplay = 3
    assert [layer.visible for layer in layers.all] == [True, False, False, False]
    assert layers.viewer.layers.selection.active is layers.result
    assert layers.boxes.selected_data == set()
    layers.show_prompts(PROMPTS[1:])  # what was found meanwhile changes nothing of that
    layers.show_prompts(PROMPTS)
    assert [layer.visible for layer in layers.all] == [True, False, False, False]
    layers.viewer.dims.ndisplay = 2
    assert [layer.visible for layer in layers.all] == seen
    assert (layers.tool, layers.boxes.mode) == (tool, mode)


def test_points_that_were_hidden_stay_so(layers):
    layers.use("box")
    layers.points.visible = False
    layers.viewer.dims.ndisplay = 3
    layers.viewer.dims.ndisplay = 2
    assert not layers.points.visible

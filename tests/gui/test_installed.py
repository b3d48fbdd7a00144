"""The way napari itself opens the dock: through the manifest of the installed package, with its proxies."""

from __future__ import annotations

import pytest

from stacksam.plugin.widget import StacksamWidget


@pytest.fixture
def opened(make_napari_viewer, qtbot, monkeypatch, tmp_path):
    monkeypatch.setenv("STACKSAM_HOME", str(tmp_path))
    viewer = make_napari_viewer()
    viewer.open_sample("napari-stacksam", "timelapse")
    _, widget = viewer.window.add_plugin_dock_widget("napari-stacksam", "stacksam")
    yield viewer, widget
    viewer.close()


def test_the_dock_of_the_manifest_works_on_the_sample_of_the_manifest(opened, qtbot):
    viewer, widget = opened
    assert isinstance(widget, StacksamWidget)
    widget.image_part.start.click()
    qtbot.waitUntil(lambda: widget.layers is not None, timeout=60000)
    # Layers are the same objects wherever they come from.
    assert all(layer in viewer.layers for layer in widget.layers.all)
    assert widget.layers.present()
    widget.layers.points.add(widget.layers.placement.to_data(0, 58, 61))
    qtbot.waitUntil(lambda: widget.controller.state.object_ids == (1,), timeout=60000)
    assert widget.controller.session.mask(1, 0)[58, 61]

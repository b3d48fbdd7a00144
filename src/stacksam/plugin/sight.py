"""Which part of the world the window shows, and moving it to what there is to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from stacksam.plugin.coords import Placement

__all__ = ["in_sight", "look_at"]

_TINY = 0.1  # of half the window; what takes less of it is not seen
_INNER = 0.9  # of half the window; what lies beyond is too near to its border


def in_sight(viewer: Any, placement: Placement) -> bool:
    """Whether an image is in the part of the world that the window shows, and not tiny."""
    dims, camera = viewer.dims, viewer.scene.camera
    if dims.ndisplay != 2:
        return True
    height, width = placement.layout.frame_shape
    ends = [placement.to_world(0, y, x, dims.units) for y, x in ((0, 0), (height - 1, width - 1))]
    shown = [dim - (dims.ndim - len(ends[0])) for dim in dims.displayed]
    if min(shown) < 0:
        return True
    low, high = np.sort([end[shown] for end in ends], axis=0)
    half = np.asarray(viewer.canvas.size) / camera.zoom / 2
    beside = np.abs(np.asarray(camera.center)[-2:] - (low + high) / 2) >= half + (high - low) / 2
    return not beside.any() and bool((high - low).max() > _TINY * half.min())


def look_at(viewer: Any, placement: Placement, frame: int, y: float, x: float) -> None:
    """Move the camera to a place (in pixels of a frame), where it is not in the window."""
    dims, camera = viewer.dims, viewer.scene.camera
    if dims.ndisplay != 2:
        return
    world = placement.to_world(frame, y, x, dims.units)
    shown = [dim - (dims.ndim - len(world)) for dim in dims.displayed]
    if min(shown) < 0:
        return
    half = np.asarray(viewer.canvas.size) / camera.zoom / 2
    if (np.abs(np.asarray(camera.center)[-2:] - world[shown]) > _INNER * half).any():
        camera.center = (*camera.center[:-2], *world[shown].tolist())

"""The colour of an object id: one and the same in masks, prompts, tables and strips."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap
from numpy.typing import NDArray

__all__ = ["color_of", "label_colormap"]

_COUNT = 60  # colours before they come again
_GOLDEN = 0.61803398875  # neighbouring ids get hues that lie far apart


@lru_cache(maxsize=1)
def label_colormap() -> CyclicLabelColormap:
    """Colormap of the layer of results: bright on dark images, different for neighbouring ids."""
    colors = [(0.0, 0.0, 0.0, 0.0)]
    for i in range(_COUNT):
        hue = (0.52 + i * _GOLDEN) % 1.0
        lightness = (0.62, 0.5, 0.72)[i % 3]
        colors.append((*colorsys.hls_to_rgb(hue, lightness, 0.85), 1.0))
    return CyclicLabelColormap(colors=np.asarray(colors, np.float32), background_value=0)


def color_of(object_id: int) -> tuple[float, float, float, float]:
    """Red, green, blue and alpha (0 to 1) of an object id."""
    mapped: NDArray[np.float32] = label_colormap().map(np.asarray([object_id]))
    red, green, blue, alpha = (float(v) for v in np.ravel(mapped)[:4])
    return red, green, blue, alpha

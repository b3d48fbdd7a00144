"""Looks: each draws a scene, or a volume, as an image of one modality.

A look takes the random numbers, the side of the working grid and the number of frames.
"""

from __future__ import annotations

from synth.fields import Array
from synth.scene import Scene

# The image (T, n, n); the object of each pixel as a column of the scene, -1 for none; the scene.
Drawn = tuple[Array, Array, Scene]

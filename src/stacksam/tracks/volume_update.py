"""What is said of objects in volumes through time, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.session.prompts import Prompt, check_integer, check_prompt
from stacksam.tracks.solids import BBox3
from stacksam.tracks.volumes import Volumes

__all__ = ["Event", "VolumePrompt", "VolumeUpdate", "check_prompts"]

Event = Literal["prompted", "carried", "returned", "born", "lost"]


@dataclass(frozen=True, slots=True)
class VolumePrompt:
    """A prompt at a time point.

    Attributes
    ----------
    time : int
        From 0.
    prompt : Point, Box or Mask
        Its frame is the plane.
    """

    time: int
    prompt: Prompt


@dataclass(frozen=True, slots=True, eq=False)
class VolumeUpdate:
    """One object at one time point.

    Attributes
    ----------
    time, object_id : int
    event : {"prompted", "carried", "returned", "born", "lost"}
        Born objects are those that a division has made: daughters, or the parent where one goes back in time.
        Lost ones were looked for and not found, so that their mask is empty; they return if they are found
        later.
    bbox : tuple of 6 int
        Half-open ``(z0, y0, x0, z1, y1, x1)`` in planes and pixels; zeros where it is lost.
    mask : bool array of the bounding box's shape
    score : float
        Mean of the predicted IoU of its planes, 0 to 1; 0 where it is lost.
    """

    time: int
    object_id: int
    event: Event
    bbox: BBox3
    mask: NDArray[np.bool_]
    score: float


def check_prompts(volumes: Volumes, prompts: Iterable[VolumePrompt]) -> tuple[VolumePrompt, ...]:
    """The prompts in the form that sessions keep them, or what is wrong with one.

    Raises
    ------
    InputError
        If there are none, or one is no VolumePrompt or lies outside the stack.
    """
    checked = []
    for one in prompts:
        if not isinstance(one, VolumePrompt):
            raise InputError(
                f"a prompt is a {type(one).__name__}; use VolumePrompt(time, prompt), the frame of which "
                "is the plane"
            )
        time = check_integer(one.time, "time")
        if not 0 <= time < volumes.n_times:
            raise InputError(f"time {time} is outside the stack; time points are 0 to {volumes.n_times - 1}")
        frame = check_integer(one.prompt.frame, "plane")
        if not 0 <= frame < volumes.n_planes:
            raise InputError(f"plane {frame} is outside the stack; planes are 0 to {volumes.n_planes - 1}")
        checked.append(VolumePrompt(time, check_prompt(one.prompt, volumes.n_planes, volumes.plane_shape)))
    if not checked:
        raise InputError("there are no prompts; say which objects to follow, on any plane of any time point")
    return tuple(checked)

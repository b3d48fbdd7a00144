"""A made time-lapse of dividing cells, with the exact truth: which cell is where, and whose daughter it is.

Nuclei as under a fluorescence microscope grow, wander, push each other aside, divide, enter at the borders
and leave there. Everything follows from a seed, so figures that were measured on it can be measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["DividingCells", "dividing_cells"]

Array: TypeAlias = NDArray[np.float64]

_RADIUS = 13.0  # pixels, when it divides; daughters have half the area
_CYCLE = (34, 44)  # frames from division to division
_MITOSIS = 4  # frames before a division on which the cell gets longer and brighter
_SMALLEST = 30  # pixels; less of a cell at the border is not seen
_GAP = 2.0  # pixels between cells that do not divide


@dataclass(frozen=True, slots=True, eq=False)
class DividingCells:
    """A made time-lapse.

    Attributes
    ----------
    images : (T, H, W) uint16
    labels : (T, H, W) int32
        Which cell is where; 0 is background. A cell has one id from its first frame to its last.
    lineage : networkx.DiGraph
        All ids, and edges from parents to daughters. A daughter begins on the frame after its parent's last.
    """

    images: NDArray[np.uint16]
    labels: NDArray[np.int32]
    lineage: nx.DiGraph


@dataclass
class _Cell:
    """One cell on the frame at hand."""

    number: int
    yx: Array
    velocity: Array
    age: int  # frames since it began
    cycle: int  # frames from its beginning to its division
    start: float  # area as a share of the largest, when it began
    axis: float  # direction of its long axis, radians
    bright: float
    phases: Array  # of its outline and its texture
    drift: Array = field(default_factory=lambda: np.zeros(2))  # of those that enter or leave
    divides: bool = True

    @property
    def radius(self) -> float:
        share = min(1.0, self.age / self.cycle)
        return float(_RADIUS * np.sqrt(self.start + (1 - self.start) * share))

    @property
    def mitosis(self) -> float:
        """0, and rising to 1 on the last frame before it divides."""
        if not self.divides:
            return 0.0
        return float(np.clip((self.age - self.cycle + _MITOSIS + 1) / _MITOSIS, 0.0, 1.0))


def dividing_cells(
    n_frames: int = 60,
    *,
    side: int = 320,
    n_start: int = 16,
    n_entering: int = 4,
    n_leaving: int = 3,
    seed: int = 0,
) -> DividingCells:
    """Make a time-lapse of dividing cells.

    Parameters
    ----------
    n_frames : int
        At least 2.
    side : int
        Height and width in pixels, at least 64.
    n_start : int
        Cells on the first frame; with 60 frames there are about twice as many at the end.
    n_entering, n_leaving : int
        Cells that come in over a border later, and how many of the first go out over one.
    seed : int

    Raises
    ------
    InputError
        If a number is out of range, or so many cells have no room.
    """
    import networkx as nx

    _check(n_frames, side, n_start, n_entering, n_leaving)
    rng = np.random.default_rng(seed)
    cells = _first_cells(rng, side, n_start, n_leaving)
    # They are drawn before anything moves, so that more frames begin with the same ones.
    entering = sorted(int(f) for f in rng.uniform(0.08, 0.7, n_entering) * n_frames)
    lineage, numbers = nx.DiGraph(), n_start + 1
    images = np.empty((n_frames, side, side), np.uint16)
    labels = np.zeros((n_frames, side, side), np.int32)
    for t in range(n_frames):
        if t:
            cells, numbers = _step(rng, cells, side, numbers, lineage)
            for _ in range(entering.count(t)):
                cells.append(_newcomer(rng, side, numbers))
                numbers += 1
        light, labels[t] = _draw(cells, side)
        images[t] = _picture(rng, light)
    seen = set(np.unique(labels).tolist()) - {0}
    kept = nx.DiGraph(lineage.subgraph(seen))
    kept.add_nodes_from(sorted(seen))
    return DividingCells(images, labels, kept)


def _check(n_frames: int, side: int, n_start: int, n_entering: int, n_leaving: int) -> None:
    if n_frames < 2:
        raise InputError(f"n_frames is {n_frames}; a time-lapse has at least 2")
    if side < 64:
        raise InputError(f"side is {side}; use at least 64 pixels")
    if n_start < 1 or n_entering < 0 or not 0 <= n_leaving <= n_start:
        raise InputError(
            f"{n_start} cells to start with, {n_entering} entering and {n_leaving} leaving cannot be; use at "
            "least one to start with, and no more leaving than those"
        )
    if n_start * 4 * (2 * _RADIUS) ** 2 > side**2:
        raise InputError(f"{n_start} cells have no room on {side} x {side} pixels to divide in")


def _cell(rng: np.random.Generator, number: int, yx: Array, age: int, start: float = 0.5) -> _Cell:
    cycle = int(rng.integers(*_CYCLE))
    return _Cell(
        number,
        np.array(yx, np.float64),
        rng.normal(0, 0.6, 2),
        min(age, cycle - 2),
        cycle,
        start,
        float(rng.uniform(0, np.pi)),
        float(rng.uniform(0.75, 1.25)),
        rng.uniform(0, 2 * np.pi, 8),
    )


def _first_cells(rng: np.random.Generator, side: int, count: int, n_leaving: int) -> list[_Cell]:
    """Cells of all ages, apart from each other; the outermost are those that leave."""
    places: list[Array] = []
    apart, border = 3.0 * _RADIUS, 1.5 * _RADIUS
    while len(places) < count:
        yx = rng.uniform(border, side - border, 2)
        if all(np.hypot(*(yx - other)) > apart for other in places):
            places.append(yx)
        else:
            apart *= 0.999
    cells = [_cell(rng, i + 1, yx, int(rng.integers(0, _CYCLE[0]))) for i, yx in enumerate(places)]
    outwards = sorted(cells, key=lambda c: float(min(*c.yx, *(side - c.yx))))
    for cell in outwards[:n_leaving]:
        cell.drift, cell.divides = -1.1 * _inwards(cell.yx, side), False
    return cells


def _newcomer(rng: np.random.Generator, side: int, number: int) -> _Cell:
    """A cell that is about to come in."""
    yx = rng.uniform(0.15 * side, 0.85 * side, 2)
    axis = int(rng.integers(2))
    yx[axis] = -_RADIUS if rng.random() < 0.5 else side + _RADIUS
    cell = _cell(rng, number, yx, 0, 0.7)
    cell.drift, cell.divides = 1.3 * _inwards(yx, side), False
    return cell


def _inwards(yx: Array, side: int) -> Array:
    """Unit vector away from the nearest border."""
    away = np.array([yx[0], side - yx[0], yx[1], side - yx[1]])
    ways: Array = np.array([(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])[int(np.argmin(away))]
    return ways


def _step(
    rng: np.random.Generator, cells: list[_Cell], side: int, numbers: int, lineage: nx.DiGraph
) -> tuple[list[_Cell], int]:
    """One frame later."""
    after: list[_Cell] = []
    for cell in cells:
        cell.age += 1
        if cell.divides and cell.age >= cell.cycle:
            pair = [_daughter(rng, cell, numbers + k, 1 - 2 * k) for k in (0, 1)]
            lineage.add_edges_from((cell.number, one.number) for one in pair)
            after += pair
            numbers += 2
            continue
        cell.velocity = 0.85 * cell.velocity + rng.normal(0, 0.35, 2)
        cell.axis += float(rng.normal(0, 0.05))
        speed = (1 - 0.7 * cell.mitosis) * cell.velocity
        margin = 2.2 * _RADIUS - min(*cell.yx, *(side - cell.yx))
        if cell.drift.any():
            speed = 0.5 * speed + cell.drift
            if margin < -20:  # one that came in stays
                cell.drift = np.zeros(2)
        elif margin > 0:
            speed = speed + 0.08 * margin * _inwards(cell.yx, side)
        cell.yx = cell.yx + speed
        gone = np.any(cell.yx < -2 * _RADIUS) or np.any(cell.yx > side + 2 * _RADIUS)
        if not gone:
            after.append(cell)
    _push_apart(after)
    return after, numbers


def _daughter(rng: np.random.Generator, mother: _Cell, number: int, sign: int) -> _Cell:
    direction = np.array([np.sin(mother.axis), np.cos(mother.axis)])
    one = _cell(rng, number, mother.yx + sign * 0.78 * _RADIUS * direction, 0)
    one.velocity = 0.5 * mother.velocity + sign * 1.2 * direction
    one.bright = mother.bright * float(rng.uniform(0.95, 1.05))
    one.axis = mother.axis + np.pi / 2
    return one


def _push_apart(cells: Sequence[_Cell]) -> None:
    """Move cells that overlap away from each other, all at once, a few times."""
    if not cells:
        return
    places = np.stack([cell.yx for cell in cells])
    radius = np.array([cell.radius for cell in cells])
    long = np.array([cell.mitosis for cell in cells])
    young = np.array([cell.age < 3 for cell in cells])
    sisters = young[:, None] & young  # they part by and by
    room = (radius[:, None] + radius) * (1 + 0.25 * np.maximum(long[:, None], long)) + _GAP * ~sisters
    strength = np.where(sisters, 0.1, 0.3)
    for _ in range(6):
        way = places[:, None] - places
        distance = np.hypot.reduce(way, axis=-1)
        np.fill_diagonal(distance, np.inf)
        overlap = np.maximum(room - distance, 0.0)
        push = strength * overlap / np.maximum(distance, 1e-6)
        places = places + (push[..., None] * way).sum(axis=1)
    for cell, place in zip(cells, places, strict=True):
        cell.yx = place


def _draw(cells: list[_Cell], side: int) -> tuple[Array, NDArray[np.int32]]:
    """Light of all cells, and whose each pixel is: that of the cell whose centre is nearest for its size."""
    light, nearest = np.zeros((side, side)), np.full((side, side), 1.0)
    labels = np.zeros((side, side), np.int32)
    for cell in cells:
        reach = int(2 * _RADIUS)
        y0, x0 = (np.maximum(cell.yx.astype(int) - reach, 0)).tolist()
        y1, x1 = (np.minimum(cell.yx.astype(int) + reach + 1, side)).tolist()
        if y0 >= y1 or x0 >= x1:
            continue
        rows, columns = np.ogrid[y0:y1, x0:x1]
        dy, dx = rows - cell.yx[0], columns - cell.yx[1]
        sin, cos = np.sin(cell.axis), np.cos(cell.axis)
        along, across = dy * sin + dx * cos, dy * cos - dx * sin
        stretch = 1.12 + 0.35 * cell.mitosis
        radius, angle = np.hypot(along / stretch, across * stretch), np.arctan2(across, along)
        outline = 1 + 0.05 * np.cos(3 * angle + cell.phases[0]) + 0.04 * np.cos(2 * angle + cell.phases[1])
        far = radius / (cell.radius * outline)
        grain = np.cos(along / 2.1 + cell.phases[2]) * np.cos(across / 2.6 + cell.phases[3])
        grain += np.cos(along / 3.7 + cell.phases[4]) * np.cos(across / 3.1 + cell.phases[5])
        glow = cell.bright * (1 + 0.35 * cell.mitosis) * (1 + 0.12 * grain) * (1 - 0.25 * far**2)
        place = np.s_[y0:y1, x0:x1]
        own = far < nearest[place]
        nearest[place][own], labels[place][own], light[place][own] = far[own], cell.number, glow[own]
    counts = np.bincount(labels.ravel())
    labels[counts[labels] < _SMALLEST] = 0
    return light, labels


def _picture(rng: np.random.Generator, light: Array) -> NDArray[np.uint16]:
    """What a camera sees: blurred, with a background and noise."""
    side = len(light)
    haze = 40 * np.cos(np.linspace(0, 3, side))[:, None] * np.cos(np.linspace(1, 4, side))
    return _noisy(rng, 600 * ndimage.gaussian_filter(light, 1.0) + 250 + haze)


def _noisy(rng: np.random.Generator, light: Array) -> NDArray[np.uint16]:
    """What a camera makes of so much light."""
    noisy = rng.poisson(light) + rng.normal(0, 12, light.shape)
    picture: NDArray[np.uint16] = np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)
    return picture

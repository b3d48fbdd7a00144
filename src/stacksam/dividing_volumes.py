"""Made volumes of dividing cells through time, with the exact truth in four dimensions.

The cells of :mod:`stacksam.dividing` with a third dimension: they grow, wander, push each other aside and
divide within a slab whose planes lie farther apart than its pixels. Everything follows from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.dividing import _RADIUS, Array, _Cell, _noisy, _push_apart
from stacksam.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["DividingVolumes", "dividing_volumes"]

_GROWTH = 40  # time points from half of the volume to all of it
_SMALLEST = 60  # voxels; less of a cell at the border is not seen
_EDGE = 1.25 * _RADIUS  # pixels from the border at which a cell turns back


@dataclass(frozen=True, slots=True, eq=False)
class DividingVolumes:
    """Made volumes.

    Attributes
    ----------
    images : (T, Z, H, W) uint16
    labels : (T, Z, H, W) int32
        Which cell is where; 0 is background. A cell has one id from its first time point to its last.
    lineage : networkx.DiGraph
        All ids, and edges from parents to daughters. A daughter begins on the time point after its parent's
        last.
    spacing : tuple of 4 float
        Size of a step along t, z, y and x; pixels are 1.
    """

    images: NDArray[np.uint16]
    labels: NDArray[np.int32]
    lineage: nx.DiGraph
    spacing: tuple[float, float, float, float]


@dataclass
class _VolumeCell(_Cell):
    """One cell at the time point at hand; its place is ``(z, y, x)`` in pixels, along z, too."""

    direction: Array = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))  # unit, of its long axis

    @property
    def radius(self) -> float:
        share = min(1.0, self.start + (1 - self.start) * self.age / _GROWTH)
        return float(_RADIUS * np.cbrt(share))


def dividing_volumes(
    n_times: int = 10,
    *,
    depth: int = 24,
    side: int = 256,
    n_start: int = 12,
    n_dividing: int = 3,
    spacing: float = 2.0,
    seed: int = 0,
) -> DividingVolumes:
    """Make volumes of dividing cells.

    Parameters
    ----------
    n_times : int
        At least 2.
    depth : int
        Planes.
    side : int
        Height and width in pixels.
    n_start, n_dividing : int
        Cells at the first time point, and how many of them divide: one after the other, evenly spread over
        the middle of the time.
    spacing : float
        Distance of planes in pixels.
    seed : int

    Raises
    ------
    InputError
        If a number is out of range, or so many cells have no room.
    """
    import networkx as nx

    size = np.array([depth * spacing, side, side], np.float64)
    _check(n_times, n_start, n_dividing, spacing, size)
    rng = np.random.default_rng(seed)
    cells = _first_cells(rng, size, n_start, n_dividing, n_times)
    lineage, numbers = nx.DiGraph(), n_start + 1
    lineage.add_nodes_from(range(1, n_start + 1))
    shape = (n_times, depth, side, side)
    images, labels = np.empty(shape, np.uint16), np.zeros(shape, np.int32)
    haze = 40 * np.cos(np.linspace(0, 3, side))[:, None] * np.cos(np.linspace(1, 4, side))
    for t in range(n_times):
        if t:
            cells, numbers = _step(rng, cells, size, numbers, lineage)
        light, labels[t] = _draw(cells, shape[1:], spacing)
        blurred = ndimage.gaussian_filter(light, (2.0 / spacing, 1.0, 1.0))  # light spreads more along z
        images[t] = _noisy(rng, 600 * blurred + 250 + haze)
    return DividingVolumes(images, labels, lineage, (1.0, float(spacing), 1.0, 1.0))


def _check(n_times: int, n_start: int, n_dividing: int, spacing: float, size: Array) -> None:
    if n_times < 2:
        raise InputError(f"n_times is {n_times}; use at least 2 time points")
    if not 0 < spacing <= _RADIUS:
        raise InputError(f"spacing is {spacing}; use a distance of planes above 0 and up to {_RADIUS} pixels")
    if n_start < 1 or not 0 <= n_dividing <= n_start:
        raise InputError(
            f"{n_start} cells of which {n_dividing} divide cannot be; use at least one, and no "
            "more that divide"
        )
    if size[0] < 3 * _RADIUS:
        raise InputError(
            f"planes of {size[0]:g} pixels in all are too few; use a depth of {3 * _RADIUS / spacing:.0f}"
        )
    if n_start * (3.2 * _RADIUS) ** 2 > size[1] * size[2]:
        raise InputError(f"{n_start} cells have no room on {size[1]:g} x {size[2]:g} pixels to divide in")


def _direction(rng: np.random.Generator) -> Array:
    """A unit vector ``(z, y, x)``, within 30 degrees of the plane: cells are flat on their dish."""
    tilt, turn = rng.uniform(-np.pi / 6, np.pi / 6), rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(tilt), np.cos(tilt) * np.sin(turn), np.cos(tilt) * np.cos(turn)])


def _cell(rng: np.random.Generator, number: int, place: Array, age: int) -> _VolumeCell:
    return _VolumeCell(
        number=number,
        yx=np.array(place, np.float64),
        velocity=rng.normal(0, 1.5, 3),
        age=age,
        cycle=_GROWTH,
        start=0.5,
        axis=0.0,
        bright=float(rng.uniform(0.75, 1.25)),
        phases=rng.uniform(0, 2 * np.pi, 8),
        divides=False,
        direction=_direction(rng),
    )


def _first_cells(
    rng: np.random.Generator, size: Array, count: int, n_dividing: int, n_times: int
) -> list[_VolumeCell]:
    """Cells apart from each other, of which some divide at times that are told in advance."""
    places: list[Array] = []
    apart = 3.0 * _RADIUS
    while len(places) < count:
        place = rng.uniform(np.minimum(_EDGE, size / 2 - 1), np.maximum(size - _EDGE, size / 2 + 1))
        if all(np.hypot(*(place - other)[1:]) > apart for other in places):
            places.append(place)
        else:
            apart *= 0.999
    cells = [_cell(rng, i + 1, place, int(rng.integers(20, _GROWTH))) for i, place in enumerate(places)]
    chosen = rng.permutation(count)[:n_dividing]
    for number, when in zip(chosen, np.linspace(0.3, 0.7, n_dividing) * n_times, strict=True):
        cell = cells[int(number)]
        cell.divides, cell.cycle = True, cell.age + max(1, round(float(when)))
    return cells


def _step(
    rng: np.random.Generator, cells: list[_VolumeCell], size: Array, numbers: int, lineage: nx.DiGraph
) -> tuple[list[_VolumeCell], int]:
    """One time point later."""
    after: list[_VolumeCell] = []
    for cell in cells:
        cell.age += 1
        if cell.divides and cell.age >= cell.cycle:
            for sign in (1, -1):
                after.append(_daughter(rng, cell, numbers, sign))
                lineage.add_edge(cell.number, numbers)
                numbers += 1
            continue
        cell.velocity = 0.85 * cell.velocity + rng.normal(0, 0.8, 3)
        turned = cell.direction + rng.normal(0, 0.05, 3)
        cell.direction = turned / np.linalg.norm(turned)
        inwards = np.maximum(_EDGE - cell.yx, 0) - np.maximum(_EDGE - (size - cell.yx), 0)
        cell.yx = cell.yx + (1 - 0.7 * cell.mitosis) * cell.velocity + 0.3 * inwards
        after.append(cell)
    _push_apart(after)
    return after, numbers


def _daughter(rng: np.random.Generator, mother: _VolumeCell, number: int, sign: int) -> _VolumeCell:
    one = _cell(rng, number, mother.yx + sign * 0.9 * mother.radius * mother.direction, 0)
    one.start = 0.5 * (mother.radius / _RADIUS) ** 3
    one.velocity = 0.5 * mother.velocity + sign * 1.2 * mother.direction
    one.bright = mother.bright * float(rng.uniform(0.95, 1.05))
    across = one.direction - (one.direction @ mother.direction) * mother.direction
    one.direction = across / np.linalg.norm(across)  # a daughter is widest along the cleft
    return one


def _draw(
    cells: list[_VolumeCell], shape: tuple[int, int, int], spacing: float
) -> tuple[Array, NDArray[np.int32]]:
    """Light of all cells, and whose each voxel is: that of the cell whose centre is nearest for its size."""
    light, nearest, labels = np.zeros(shape), np.ones(shape), np.zeros(shape, np.int32)
    steps, reach = np.array([spacing, 1.0, 1.0]), 2 * _RADIUS
    for cell in cells:
        first = np.maximum(np.floor((cell.yx - reach) / steps).astype(int), 0)
        last = np.minimum(np.ceil((cell.yx + reach) / steps).astype(int) + 1, shape)
        place = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        planes, rows, columns = np.ogrid[place]
        dz, dy, dx = planes * spacing - cell.yx[0], rows - cell.yx[1], columns - cell.yx[2]
        uz, uy, ux = cell.direction
        along = dz * uz + dy * uy + dx * ux
        distance = np.sqrt(dz**2 + dy**2 + dx**2)
        across = np.sqrt(np.maximum(distance**2 - along**2, 0))
        stretch = 1.12 + 0.35 * cell.mitosis  # of equal volume
        turn = np.arctan2(dy, dx)
        lobes = 0.05 * np.cos(3 * turn + cell.phases[0]) + 0.03 * np.cos(2 * turn + cell.phases[1])
        outline = 1 + lobes * np.hypot(dy, dx) / np.maximum(distance, 1e-6)  # round above and below
        far = np.hypot(along / stretch, across * np.sqrt(stretch)) / (cell.radius * outline)
        grain = np.cos(dy / 2.1 + cell.phases[2]) * np.cos(dx / 2.6 + cell.phases[3]) * np.cos(dz / 4.0)
        grain = grain + np.cos(dy / 3.7 + cell.phases[4]) * np.cos(dx / 3.1 + cell.phases[5])
        glow = cell.bright * (1 + 0.35 * cell.mitosis) * (1 + 0.12 * grain) * (1 - 0.25 * far**2)
        own = far < nearest[place]
        nearest[place][own], labels[place][own], light[place][own] = far[own], cell.number, glow[own]
    counts = np.bincount(labels.ravel())
    labels[counts[labels] < _SMALLEST] = 0
    return light, labels

"""Solids: masks of objects in a volume, each within its bounding box, and how one falls into two."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["BBox3", "Solid", "two_parts", "without_crumbs"]

BBox3: TypeAlias = tuple[int, int, int, int, int, int]
Spacing: TypeAlias = tuple[float, float, float]

COMPARABLE = 0.2  # of the larger part's volume, at least
_CRUMB = 0.05  # of the largest part's volume; less is dropped
_NECK = 0.45  # radii of the object that are taken off to see whether a neck holds two parts together
_CORE = 0.1  # of the volume that has to be left in both parts together then


@dataclass(frozen=True, eq=False)
class Solid:
    """A mask in a volume.

    Attributes
    ----------
    bbox : tuple of 6 int
        Half-open ``(z0, y0, x0, z1, y1, x1)`` in planes and pixels.
    mask : (z1 - z0, y1 - y0, x1 - x0) bool array
    """

    bbox: BBox3
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], corner: tuple[int, int, int] = (0, 0, 0)) -> Solid | None:
        """Of a mask whose first voxel lies at `corner`; None if it is empty."""
        found = ndimage.find_objects(mask.astype(np.uint8))
        if not found or found[0] is None:
            return None
        first = [corner[k] + found[0][k].start for k in range(3)]
        last = [corner[k] + found[0][k].stop for k in range(3)]
        return cls((first[0], first[1], first[2], last[0], last[1], last[2]), mask[found[0]])

    @classmethod
    def stacked(
        cls, planes: Iterable[tuple[int, tuple[int, int, int, int], NDArray[np.bool_]]]
    ) -> Solid | None:
        """Of masks of planes, each as ``(z, (y0, x0, y1, x1), mask)``; None if all are empty."""
        own = [(z, box, mask) for z, box, mask in planes if mask.any()]
        if not own:
            return None
        z0, z1 = min(z for z, _, _ in own), max(z for z, _, _ in own) + 1
        y0, x0 = (min(box[k] for _, box, _ in own) for k in (0, 1))
        y1, x1 = (max(box[k] for _, box, _ in own) for k in (2, 3))
        whole = np.zeros((z1 - z0, y1 - y0, x1 - x0), bool)
        for z, box, mask in own:
            whole[z - z0, box[0] - y0 : box[2] - y0, box[1] - x0 : box[3] - x0] |= mask
        return cls.of(whole, (z0, y0, x0))

    @cached_property
    def volume(self) -> int:
        """Voxels."""
        return int(np.count_nonzero(self.mask))

    @property
    def extent(self) -> tuple[int, int]:
        """First and last plane, both included."""
        return self.bbox[0], self.bbox[3] - 1

    def centre(self, spacing: Spacing) -> NDArray[np.float64]:
        """Centroid ``(z, y, x)``, in units of the spacing."""
        places = np.argwhere(self.mask).mean(axis=0) + self.bbox[:3]
        return np.asarray(places * spacing)

    def diameter(self, spacing: Spacing) -> float:
        """Of the ball of equal volume, in units of the spacing."""
        return float(np.cbrt(6 * self.volume * np.prod(spacing) / np.pi))

    def plane(self, z: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask (H, W) on one plane."""
        whole = np.zeros(shape, bool)
        self.paint(whole, z, True)
        return whole

    def paint(self, frame: NDArray[np.generic], z: int, value: int | bool) -> None:
        """Set the pixels of a plane (H, W) that are part of it."""
        z0, y0, x0, z1, y1, x1 = self.bbox
        if z0 <= z < z1:
            frame[y0:y1, x0:x1][self.mask[z - z0]] = value

    def shared(self, other: Solid) -> int:
        """Voxels that both have."""
        low = [max(a, b) for a, b in zip(self.bbox[:3], other.bbox[:3], strict=True)]
        high = [min(a, b) for a, b in zip(self.bbox[3:], other.bbox[3:], strict=True)]
        if any(a >= b for a, b in zip(low, high, strict=True)):
            return 0
        return int(np.count_nonzero(self._at(low, high) & other._at(low, high)))

    def iou(self, other: Solid) -> float:
        """Intersection over union."""
        shared = self.shared(other)
        return shared / (self.volume + other.volume - shared)

    def joined(self, other: Solid) -> Solid:
        """Both together."""
        low = np.minimum(self.bbox[:3], other.bbox[:3])
        high = np.maximum(self.bbox[3:], other.bbox[3:])
        whole = np.zeros(tuple(high - low), bool)
        for one in (self, other):
            place = tuple(
                slice(a - c, b - c) for a, b, c in zip(one.bbox[:3], one.bbox[3:], low.tolist(), strict=True)
            )
            whole[place] |= one.mask
        z0, y0, x0 = (int(v) for v in low)
        z1, y1, x1 = (int(v) for v in high)
        return Solid((z0, y0, x0, z1, y1, x1), whole)

    def without(self, others: Iterable[Solid]) -> Solid | None:
        """What others do not have of it; None if that is nothing."""
        z0, y0, x0, z1, y1, x1 = self.bbox
        mask = self.mask.copy()
        for z in range(z0, z1):
            taken = np.zeros((y1, x1), bool)
            for other in others:
                other.paint_within(taken, z)
            mask[z - z0] &= ~taken[y0:, x0:]
        return Solid.of(mask, (z0, y0, x0))

    def paint_within(self, frame: NDArray[np.bool_], z: int) -> None:
        """Set the pixels of a plane that are part of it, as far as the plane reaches."""
        z0, y0, x0, z1, y1, x1 = self.bbox
        height, width = frame.shape
        if z0 <= z < z1 and y0 < height and x0 < width:
            part = self.mask[z - z0, : height - y0, : width - x0]
            frame[y0 : min(y1, height), x0 : min(x1, width)] |= part

    def _at(self, low: list[int], high: list[int]) -> NDArray[np.bool_]:
        place = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, self.bbox[:3], strict=True))
        return self.mask[place]


def without_crumbs(solid: Solid) -> Solid:
    """Without pieces that are less than a twentieth of the largest one; pieces touch by faces."""
    parts, count = ndimage.label(solid.mask)
    if count < 2:
        return solid
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = np.flatnonzero(sizes >= _CRUMB * sizes.max())
    return Solid.of(np.isin(parts, kept), solid.bbox[:3]) or solid


def two_parts(solid: Solid, spacing: Spacing) -> tuple[Solid, Solid] | None:
    """Two parts of comparable size that an object falls into, or would but for a neck between them.

    To look for a neck, shells are taken off until two cores are left; each voxel goes with the nearer one.
    """
    parts, count = ndimage.label(solid.mask)
    if count > 1:
        found = _comparable(parts, solid)
        if found is not None:
            return found
    padded = np.pad(solid.mask, 1)  # at its box it ends, too
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, 1:-1]
    radius = solid.diameter(spacing) / 2
    for share in np.linspace(0, _NECK, 10)[1:]:
        cores, count = ndimage.label(depth > share * radius)
        if count < 2:
            continue
        sizes = np.bincount(cores.ravel())[1:]
        one, other = np.argsort(-sizes, kind="stable")[:2] + 1
        if sizes[other - 1] < 0.4 * sizes[one - 1]:
            continue
        if sizes[one - 1] + sizes[other - 1] < _CORE * solid.volume:
            break
        kept = np.where(np.isin(cores, (one, other)), cores, 0)
        nearest = ndimage.distance_transform_edt(
            kept == 0, sampling=spacing, return_distances=False, return_indices=True
        )
        return _comparable(np.where(solid.mask, kept[tuple(nearest)], 0), solid)
    return None


def _comparable(parts: NDArray[np.integer], solid: Solid) -> tuple[Solid, Solid] | None:
    """The two largest parts, the larger first, if they are of comparable size."""
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")[:2]
    if len(order) < 2 or sizes[order[1]] < COMPARABLE * sizes[order[0]]:
        return None
    found = [Solid.of(parts == number, solid.bbox[:3]) for number in order]
    one, other = found
    return None if one is None or other is None else (one, other)

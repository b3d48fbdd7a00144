"""Where a volume lies in the body: affines, in one convention.

An *affine* here is a 4 x 4 matrix that takes ``(z, y, x, 1)``, an index of our voxels with centres at
integers, to ``(right, anterior, superior, 1)`` in millimetres (RAS+). NIfTI means the same space, but indexes
``(x, y, z)``; DICOM means ``(left, posterior, superior)``. Nothing is ever resampled or flipped to fit: the
matrix says how the voxels lie, so oblique, mirrored and sheared volumes (a tilted gantry) are as good as
others, and what is written has the geometry of what was read.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import StackError

__all__ = [
    "MILLIMETERS",
    "Affine",
    "checked_affine",
    "from_xyz",
    "lps_to_ras",
    "shifted",
    "spacing_of",
    "to_xyz",
]

Affine = NDArray[np.float64]

# One step of a unit of length in mm.
MILLIMETERS = {
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "meter": 1000.0,
}
_AXES = "zyx"


def checked_affine(affine: Any, source: str) -> Affine:
    """An affine as a read-only matrix of float64.

    Parameters
    ----------
    affine : (4, 4) array-like
        Of (z, y, x, 1).
    source : str
        Whose it is, for messages.

    Raises
    ------
    StackError
        If it is no affine, or one that squeezes the volume flat.
    """
    try:
        matrix = np.array(affine, np.float64)
    except (TypeError, ValueError) as error:
        raise StackError(f"the affine of {source} is no matrix of numbers: {error}") from error
    if matrix.shape != (4, 4):
        raise StackError(f"the affine of {source} has shape {matrix.shape}; an affine is 4 × 4")
    if not np.isfinite(matrix).all():
        raise StackError(f"the affine of {source} has values that are not finite; its header is damaged")
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise StackError(f"the last row of the affine of {source} is {matrix[3].tolist()}, not 0 0 0 1")
    lengths = [math.hypot(*matrix[:3, column]) for column in range(3)]
    flat = [axis for axis, length in zip(_AXES, lengths, strict=True) if length == 0]
    if flat:
        raise StackError(
            f"the affine of {source} is singular: the spacing along {' and '.join(flat)} is 0; correct the "
            "header, or write the volume anew with its true spacing"
        )
    # Of the directions alone, so that thin or tiny voxels are not taken for flat ones.
    if abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-6:
        raise StackError(
            f"the affine of {source} is singular: its axes lie in one plane; correct the header, or write "
            "the volume anew with its true orientation"
        )
    matrix.flags.writeable = False
    return matrix


def spacing_of(affine: Affine) -> dict[str, float]:
    """Distance in mm between neighbouring voxels along z, y and x, to seven digits."""
    # NIfTI holds single precision: 0.7 and not 0.699999988079071.
    return {axis: float(f"{math.hypot(*affine[:3, k]):.7g}") for k, axis in enumerate(_AXES)}


def from_xyz(affine: Any) -> NDArray[np.float64]:
    """The affine of (z, y, x) from that of (x, y, z), as NIfTI and NRRD have it; also the other way."""
    return np.asarray(affine, np.float64)[:, [2, 1, 0, 3]]


to_xyz = from_xyz  # it is its own inverse


def lps_to_ras(affine: Any) -> NDArray[np.float64]:
    """The affine to right, anterior, superior from one to left, posterior, superior; also the other way."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, np.float64)


def shifted(affine: Affine, zyx: tuple[float, float, float]) -> Affine:
    """The affine of a part of the volume that begins at index `zyx`."""
    out = affine.copy()
    out[:3, 3] += affine[:3, :3] @ np.asarray(zyx, np.float64)
    out.flags.writeable = False
    return out

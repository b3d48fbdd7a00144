"""Formats of other programs in the export panel: which fit, what they lose, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.io.formats import FORMATS, ResultFormat, Results
from stacksam.io.label_stack import LabelStack
from stacksam.session.scores import estimates_by_frame

if TYPE_CHECKING:
    from stacksam.session.session import Session

__all__ = ["Origin", "Place", "kept", "lost", "offered", "place_of_format", "title", "write_format"]

_ELSEWHERE = ("tiff", "ome-zarr")  # which the panel has as formats of labels
_KEPT = {
    "labels": "labels",
    "outlines": "outlines",
    "lineage": "the lineage",
    "spacing": "spacing and units",
    "measures": "measurements",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What there is to know of results beforehand.

    Attributes
    ----------
    axes : {"tyx", "zyx"}
    scale, units : tuple of 3
        Of a step along each of them.
    links : tuple of (int, int)
        Parent and daughter of each link.
    image : str or None
        Where the image is, if that is one file or folder.
    at : dict of str to int
        Where the frames lie on other axes of the image.
    """

    axes: str = "tyx"
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    units: tuple[str | None, str | None, str | None] = (None, None, None)
    links: tuple[tuple[int, int], ...] = ()
    image: str | None = None
    at: dict[str, int] = field(default_factory=dict)

    @property
    def in_zarr(self) -> bool:
        """Whether labels can be written into the image."""
        return self.image is not None and any(
            (Path(self.image) / name).is_file() for name in ("zarr.json", ".zgroup")
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a format writes.

    Attributes
    ----------
    path : Path
        File or folder that is made.
    given : Path
        What its writer wants to be told: the same, or the image for what goes into it.
    """

    path: Path
    given: Path


def offered(origin: Origin) -> list[ResultFormat]:
    """Formats that these results fit, besides those of labels; also those whose package is missing."""
    return [
        one
        for one in FORMATS.values()
        if one.name not in _ELSEWHERE and origin.axes[0] in one.axes and (not one.inside or origin.in_zarr)
    ]


def title(one: ResultFormat) -> str:
    """A format as a person calls it."""
    about = one.about[:1].upper() + one.about[1:]
    return about if one.name.split("-")[0] in about.lower() else f"{about} ({one.name})"


def kept(one: ResultFormat) -> str:
    """What a format keeps, in words."""
    words = [_KEPT[what] for what in one.keeps if what in _KEPT]
    return "Keeps " + " and ".join(", ".join(words).rsplit(", ", 1))


def lost(name: str, origin: Origin, object_ids: Collection[int]) -> list[str]:
    """What a format does not keep of the results of some objects, in words."""
    import networkx as nx

    links = [link for link in origin.links if set(link) <= set(object_ids)]
    labels = LabelStack(_unread, (1, 1, 1), origin.axes, origin.scale, origin.units)
    return FORMATS[name].lost(Results(labels, nx.DiGraph(links)))


def place_of_format(one: ResultFormat, folder: Path, stem: str, origin: Origin) -> Place:
    """Where a format is written: beside the other files, or inside the image."""
    if one.inside:
        if origin.image is None:
            raise InputError(f"the format {one.name} is written into the image, which is no OME-Zarr here")
        return Place(Path(origin.image) / "labels" / Results.name, Path(origin.image))
    # As with labels: what is called so is often the truth, or another program's.
    path = folder / f"{stem}-{one.file_name.replace('labels', 'masks')}"
    return Place(path, path)


def write_format(
    one: ResultFormat,
    place: Place,
    session: Session,
    object_ids: Collection[int],
    advance: Callable[[], None],
    overwrite: bool,
) -> None:
    """Write the results of some objects in a format.

    Parameters
    ----------
    one : ResultFormat
    place : Place
    session : Session
    object_ids : collection of int
    advance : callable
        Called after each frame that was read; all are read at least twice.
    overwrite : bool
        Whether what is there may be replaced.

    Raises
    ------
    InputError
        If a package is missing, or the results do not fit.
    StorageError
        If it cannot be written; it is complete or not there.
    """
    stack, others = session.stack, set(session.object_ids) - set(object_ids)
    one.check(stack.axes_out[0], max(object_ids))

    def read(frame: int) -> NDArray[Any]:
        labels = session.label_frame(frame)
        if others:
            labels[~np.isin(labels, list(object_ids))] = 0
        advance()
        return labels

    labels = LabelStack(
        read,
        (stack.n_frames, *stack.frame_shape),
        stack.axes_out,
        stack.spacing,
        stack.units,
        stack.name,
        top_id=max(object_ids),
    )
    # What others cover entirely is in no label, and in no file that is made of labels.
    lineage = session.lineage.subgraph(labels.survey.keys())
    image = stack.opened.get("source")
    known = image if isinstance(image, str) else None
    estimates = estimates_by_frame(session.all_scores())
    results = Results(
        labels,
        lineage,
        raw=stack.raw,
        image=known,
        at=stack.at,
        predicted_iou=lambda frame: estimates.get(frame, {}),
    )
    one.write(place.given, results, overwrite)


def _unread(_frame: int) -> NDArray[Any]:
    raise RuntimeError("these labels are only described")

"""Segmenting and tracking in four dimensions: in depth at each time point, and from each to the next.

Objects are prompted on any plane of any time point. There they are followed up and down. To the next time
point they are carried on a few planes of their own, by their masks of the last time points, and what was
carried is followed up and down again (:mod:`stacksam.tracks.volume_steps`). An object that falls into two
becomes two daughters (:mod:`stacksam.tracks.volume_divisions`). Memory holds the masks of one time point,
each in its box, whatever the number of time points.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, SessionFileError, StorageError
from stacksam.io._complete import replace_file, storage_error
from stacksam.io.label_volumes import VolumeLabels, create_volume_labels, open_volume_labels
from stacksam.session.models import Model
from stacksam.session.plan import Direction
from stacksam.session.prompts import Prompt, check_integer, prompt_to_json
from stacksam.session.settings import Settings
from stacksam.tracks.four_d_log import Log, Told
from stacksam.tracks.solids import Solid, two_parts
from stacksam.tracks.volume_divisions import apart, judged
from stacksam.tracks.volume_steps import Closed, Origin, carry, close_in_depth, margin_of, prompts_of
from stacksam.tracks.volume_update import Event, VolumePrompt, VolumeUpdate, check_prompts
from stacksam.tracks.volumes import Volumes

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["VolumeFollower", "VolumePrompt", "VolumeUpdate"]

_RIVALS = 0.5  # IoU from which on two objects are the same one
_TAKEN = 0.3  # of an object that returns, at most, that others have
_FORMAT = 1


class VolumeFollower:
    """Follow objects through volumes and time, and keep their labels in a folder.

    Parameters
    ----------
    volumes : Volumes
        From :func:`stacksam.tracks.open_volumes`.
    model : Model
        From :func:`stacksam.load_model`.
    prompts : iterable of VolumePrompt
        Of all objects. One that is prompted at several time points is followed from the first; at the others
        these prompts alone say where it is.
    folder : path
        Where ``labels.ome.zarr`` and the log of time points go. If an earlier run with the same volumes,
        model, prompts and options was stopped there, it is gone on with.
    direction : {"forward", "backward", "both"}
        In time, from an object's first prompt; with "backward" from its last one.
    memory : int
        Time points that an object is remembered from.
    patience : int
        Time points on end at which an object may be lost before it is given up.
    threshold : float
        Least confidence of a division, 0 to 1; see :mod:`stacksam.tracks.volume_divisions`. Above 1, none is
        accepted.
    settings : Settings, optional
        Of the sessions.

    Attributes
    ----------
    labels : VolumeLabels
        Labels (T, Z, Y, X) on disk.

    Raises
    ------
    InputError
        If there are no prompts, one lies outside, or an option is out of range.
    SessionFileError
        If the folder holds a run of something else.
    StorageError
        If the folder cannot be written.
    """

    def __init__(
        self,
        volumes: Volumes,
        model: Model,
        prompts: Iterable[VolumePrompt],
        folder: str | os.PathLike[str],
        *,
        direction: Direction = "both",
        memory: int = 3,
        patience: int = 3,
        threshold: float = 0.5,
        settings: Settings | None = None,
    ) -> None:
        self.volumes, self.model, self.settings = volumes, model, settings
        self.prompts = check_prompts(volumes, prompts)
        if direction not in ("forward", "backward", "both"):
            raise InputError(f"direction is {direction!r}; use 'forward', 'backward' or 'both'")
        if (
            check_integer(memory, "memory") < 1
            or check_integer(patience, "patience") < 0
            or not threshold >= 0
        ):
            raise InputError(
                f"memory is {memory}, patience {patience} and threshold {threshold}; use 1 or more, 0 or "
                "more, and 0 to 1"
            )
        self.direction, self.memory, self.patience, self.threshold = direction, memory, patience, threshold
        self.folder = Path(folder)
        self._spacing = volumes.spacing[1:]
        self.labels = self._claim()
        self._log = Log(self.folder / "time_points.jsonl")

    @property
    def lineage(self) -> nx.DiGraph:
        """Objects that were seen, and edges from parents to daughters."""
        return self._log.lineage

    @property
    def steps_left(self) -> int:
        """Time points that are still to be computed; one that is computed in both directions counts twice."""
        return sum(1 for place in self._order() if place not in self._log.done)

    def follow(self) -> Iterator[VolumeUpdate]:
        """Follow all objects; time points that are complete already are not computed again.

        Close the generator to cancel: time points whose updates were given stay. It stops between time points
        only, so cancelling takes as long as the rest of one.

        Yields
        ------
        VolumeUpdate
            One for each object and time point, when the labels of that time point are on disk.

        Raises
        ------
        StorageError
            If labels cannot be written; time points before are safe.
        """
        for time, step in self._order():
            if (time, step) not in self._log.done:
                yield from self._time_point(time, step)

    def summary(self) -> dict[str, Any]:
        """What was found so far, as JSON types."""
        tracks = self._log.tracks
        return {
            "stack": self.volumes.describe(),
            "model": {"name": self.model.name, "sha256": self.model.digest},
            "complete": not self.steps_left,
            "objects": [
                {
                    "id": i,
                    "parent": tracks[i].parent,
                    "daughters": list(tracks[i].daughters),
                    "first": min(tracks[i].seen),
                    "last": max(tracks[i].seen),
                    "seen_on": len(tracks[i].seen),
                    "lost_on": sorted(tracks[i].lost),
                    "mean_voxels": round(float(np.mean(list(tracks[i].voxels.values()))), 1),
                    "mean_score": round(float(np.mean(list(tracks[i].scores.values()))), 3),
                }
                for i in sorted(tracks)
                if tracks[i].seen
            ],
            "not_found": [i for i in sorted(tracks) if not tracks[i].seen],
            "divisions": sum(1 for track in tracks.values() if track.daughters),
        }

    def write_summary(self, **more: Any) -> dict[str, Any]:
        """Write ``summary.json``, and ``lineage.txt`` with a line ``L B E P`` for each object.

        That is its id, its first and last time point, and its parent, as in the Cell Tracking Challenge.

        Parameters
        ----------
        **more
            What the summary is to tell besides, as JSON types.

        Returns
        -------
        dict
            The summary.

        Raises
        ------
        StorageError
            If they cannot be written.
        """
        summary = self.summary() | more
        rows = [f"{o['id']} {o['first']} {o['last']} {o['parent'] or 0}\n" for o in summary["objects"]]
        try:
            replace_file(self.folder / "lineage.txt", "".join(rows).encode())
            replace_file(self.folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
        except OSError as error:
            raise storage_error(self.folder / "summary.json", error, "the labels are complete") from error
        return summary

    # Where it goes

    def _claim(self) -> VolumeLabels:
        """The folder's labels, if it is one of this run; else new ones."""
        said = [
            {
                "time": p.time,
                "plane": p.prompt.frame,
                "id": p.prompt.object_id,
            }
            | prompt_to_json(p.prompt)
            for p in self.prompts
        ]
        own = {
            "format": _FORMAT,
            "stack": self.volumes.identity(),
            "intensity": self.volumes.intensity.to_json(),
            "model": self.model.digest,
            "prompts": hashlib.sha256(json.dumps(said).encode()).hexdigest(),
            "options": [self.direction, self.memory, self.patience, self.threshold],
            "settings": (self.settings or Settings()).to_json(windowed=self.model.windowed),
        }
        about, labels = self.folder / "four_d.json", self.folder / "labels.ome.zarr"
        if about.is_file():
            try:
                known = json.loads(about.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise SessionFileError(f"cannot read {about}: {error}") from error
            other = [key for key in own if known.get(key) != own[key]]
            if other:
                raise SessionFileError(
                    f"{self.folder} holds a run with other {' and '.join(other)}; repeat that one to go on "
                    "with it, or choose another folder"
                )
        elif labels.exists():
            raise StorageError(f"{labels} exists already and no run tells what it is; choose another folder")
        else:
            try:
                replace_file(about, (json.dumps(own, indent=2) + "\n").encode())
            except OSError as error:
                raise storage_error(about, error) from error
        if labels.exists():
            return open_volume_labels(labels)
        volumes = self.volumes
        return create_volume_labels(labels, volumes.shape, volumes.spacing, volumes.units)

    def _order(self) -> Iterator[tuple[int, int]]:
        """``(time, step)`` in the order of work."""
        times: dict[int, list[int]] = {}
        for prompt in self.prompts:
            times.setdefault(prompt.prompt.object_id, []).append(prompt.time)
        firsts = [min(own) for own in times.values()]
        if self.direction != "backward":
            yield from ((t, 1) for t in range(min(firsts), self.volumes.n_times))
        if self.direction == "both":
            yield from ((t, -1) for t in range(max(firsts) - 1, -1, -1))
        if self.direction == "backward":
            yield from ((t, -1) for t in range(max(max(own) for own in times.values()), -1, -1))

    # One time point

    def _time_point(self, time: int, step: int) -> Iterator[VolumeUpdate]:
        said = [p.prompt for p in self.prompts if p.time == time]
        if self.direction == "both" and step < 0:
            said = []  # objects that have prompts here were followed forward from them, or from before
        prompted = {prompt.object_id for prompt in said}
        # A person may well correct an object because it went astray: what is carried would speak against it.
        origins = {i: origin for i, origin in self._origins(time, step).items() if i not in prompted}
        there = {i: origin for i, origin in origins.items() if origin.times[-1] == time - step}
        closed = self._found(time, there, said)
        solids, scores = dict(closed.solids), dict(closed.scores)
        links = self._links(time, step, closed, solids, scores, there, prompted)
        self._settle(closed, solids, prompted)
        self._returned(time, {i: origins[i] for i in origins.keys() - there.keys()}, solids, scores)
        self._spare(time, solids)
        parted = {i for link in links for i in link}
        lost = sorted((origins.keys() | prompted) - solids.keys() - parted)
        self._write(time, solids)
        found = {
            i: {"extent": list(s.extent), "voxels": s.volume, "score": round(scores[i], 4)}
            for i, s in sorted(solids.items())
        }
        earlier = {i: time - step in self._log.tracks[i].seen for i in origins}
        self._log.append(Told(time, step, found, tuple(lost), tuple(links)))
        for object_id, solid in sorted(solids.items()):
            event: Event = "prompted" if object_id in prompted else "carried"
            if object_id in parted:
                event = "born"
            elif object_id not in prompted and not earlier[object_id]:
                event = "returned"
            yield VolumeUpdate(time, object_id, event, solid.bbox, solid.mask, scores[object_id])
        for object_id in lost:
            yield VolumeUpdate(time, object_id, "lost", (0,) * 6, np.zeros((0, 0, 0), bool), 0.0)

    def _found(self, time: int, origins: Mapping[int, Origin], said: Sequence[Prompt]) -> Closed:
        """What is carried from somewhere, and what is prompted, at a time point."""
        carried = carry(self.volumes, self.model, origins, time, self.settings)
        prompts = [*said, *(prompt for i, planes in carried.items() for prompt in prompts_of(i, planes))]
        if not prompts:
            return Closed({}, {}, {})
        bounds = {i: self._bounds(origin.extent) for i, origin in origins.items()}
        return close_in_depth(self.volumes, self.model, time, prompts, bounds, self.settings)

    def _returned(
        self, time: int, origins: Mapping[int, Origin], solids: dict[int, Solid], scores: dict[int, float]
    ) -> None:
        """Add objects that were lost and are found again, where no other is: one may take another's place."""
        found = self._found(time, origins, [])
        others = list(solids.values())
        for object_id, solid in found.solids.items():
            if sum(solid.shared(other) for other in others) <= _TAKEN * solid.volume:
                left = solid.without(others)
                if left is not None:
                    solids[object_id], scores[object_id] = left, found.scores[object_id]

    def _origins(self, time: int, step: int) -> dict[int, Origin]:
        """Objects that may be carried to a time point, and where from."""
        found = {}
        for object_id, track in self._log.tracks.items():
            behind = sorted((t for t in track.seen if step * (time - t) > 0), key=lambda t: step * t)
            ended = bool(track.daughters) if step > 0 else track.parent is not None
            after_all = self.direction == "both" and step < 0 and any(t <= time for t in track.seen)
            if not behind or ended or after_all or abs(time - behind[-1]) > self.patience + 1:
                continue
            found[object_id] = Origin(
                track.seen[behind[-1]], tuple(behind[-self.memory :]), self._reader(object_id)
            )
        return found

    def _reader(self, object_id: int) -> Callable[[int, int], NDArray[np.bool_]]:
        return lambda time, z: self.labels.plane(time, z) == object_id

    def _part_reader(self, part: Solid) -> Callable[[int, int], NDArray[np.bool_]]:
        return lambda _, z: part.plane(z, self.volumes.plane_shape)

    def _bounds(self, extent: tuple[int, int]) -> tuple[int, int]:
        margin = margin_of(extent)
        return max(0, extent[0] - margin), min(self.volumes.n_planes - 1, extent[1] + margin)

    def _solid(self, object_id: int, time: int) -> Solid | None:
        """An object as it is on disk."""
        first, last = self._log.tracks[object_id].seen[time]
        box = (0, 0, *self.volumes.plane_shape)
        planes = ((z, box, self.labels.plane(time, z) == object_id) for z in range(first, last + 1))
        return Solid.stacked(planes)

    # Divisions, and objects that claim the same

    def _links(
        self,
        time: int,
        step: int,
        closed: Closed,
        solids: dict[int, Solid],
        scores: dict[int, float],
        origins: Mapping[int, Origin],
        prompted: set[int],
    ) -> list[tuple[int, int]]:
        """Divisions at a time point; objects in `solids` are replaced by what they became."""
        links: list[tuple[int, int]] = []
        fresh = max([self._log.next_id - 1, *(p.prompt.object_id for p in self.prompts)]) + 1
        if step < 0:
            for one, other in self._same(closed, prompted):
                daughters = (
                    self._solid(one, origins[one].times[-1]),
                    self._solid(other, origins[other].times[-1]),
                )
                shown = [solids[i] for i in (one, other) if i in solids]
                if daughters[0] is None or daughters[1] is None or not shown:
                    continue
                parent = shown[0].joined(shown[-1])
                when = origins[one].times[-1]
                pair = daughters[0], daughters[1]
                if judged(when, fresh, parent, pair, self._spacing, 1.0).confidence < self.threshold:
                    continue
                for own in (one, other):
                    solids.pop(own, None)
                solids[fresh], scores[fresh] = parent, max(scores[one], scores[other])
                links += [(fresh, one), (fresh, other)]
                fresh += 1
            return links
        later = {p.prompt.object_id for p in self.prompts if p.time >= time}
        for object_id in sorted(solids.keys() & origins.keys() - later):
            parts = self._divided(time, object_id, solids[object_id], origins[object_id])
            if parts is None:
                continue
            del solids[object_id]
            for part in parts:
                solids[fresh], scores[fresh] = part, scores[object_id]
                links.append((object_id, fresh))
                fresh += 1
        return links

    def _divided(self, time: int, object_id: int, now: Solid, origin: Origin) -> tuple[Solid, Solid] | None:
        """The daughters of an object, if it has divided."""
        parts = two_parts(now, self._spacing)
        if parts is None:
            return None
        before = self._solid(object_id, origin.times[-1])
        if before is None or two_parts(before, self._spacing) is not None:
            return None
        if judged(time, object_id, before, parts, self._spacing, 1.0).confidence < self.threshold:
            return None  # also if it lasted
        lasts = self._lasts(time, parts)
        found = judged(time, object_id, before, parts, self._spacing, lasts)
        return parts if found.confidence >= self.threshold else None

    def _lasts(self, time: int, parts: tuple[Solid, Solid]) -> float:
        """Whether two parts are still apart one time point on: 1 or 0, and 0.5 where there is none."""
        if time + 1 >= self.volumes.n_times:
            return 0.5
        own = dict(enumerate(parts, 1))
        origins = {i: Origin(part.extent, (time,), self._part_reader(part)) for i, part in own.items()}
        carried = carry(self.volumes, self.model, origins, time + 1, self.settings)
        prompts = [prompt for i in own for prompt in prompts_of(i, carried[i])]
        if not all(carried.values()):
            return 0.0
        bounds = {i: self._bounds(part.extent) for i, part in own.items()}
        after = close_in_depth(self.volumes, self.model, time + 1, prompts, bounds, self.settings)
        return float(apart(parts, after.whole))

    @staticmethod
    def _same(closed: Closed, prompted: set[int]) -> list[tuple[int, int]]:
        """Pairs of carried objects whose masks are the same."""
        ids = sorted(closed.whole.keys() - prompted)
        return [
            (one, other)
            for k, one in enumerate(ids)
            for other in ids[k + 1 :]
            if closed.whole[one].iou(closed.whole[other]) >= _RIVALS
        ]

    @staticmethod
    def _settle(closed: Closed, solids: dict[int, Solid], prompted: set[int]) -> None:
        """Of two objects taken for one, leave that of which there is less doubt, with all that both have."""
        ids = sorted(solids.keys() & closed.whole.keys())
        for k, one in enumerate(ids):
            for other in ids[k + 1 :]:
                if not {one, other} <= solids.keys():
                    continue
                if closed.whole[one].iou(closed.whole[other]) < _RIVALS:
                    continue
                less, more = sorted((one, other), key=lambda i: (i in prompted, closed.scores[i]))
                if less not in prompted:
                    solids[more] = solids[more].joined(solids.pop(less))

    def _spare(self, time: int, solids: dict[int, Solid]) -> None:
        """Take from objects what belongs, at this time point, to those that were followed before them."""
        kept = self._kept(time)
        if not kept:
            return
        for object_id, solid in list(solids.items()):
            z0, y0, x0, _, y1, x1 = solid.bbox
            mask = solid.mask.copy()
            for k in range(len(mask)):
                mask[k] &= ~np.isin(self.labels.plane(time, z0 + k)[y0:y1, x0:x1], kept)
            left = Solid.of(mask, (z0, y0, x0))
            if left is None:
                del solids[object_id]
            else:
                solids[object_id] = left

    def _kept(self, time: int) -> list[int]:
        """Objects that are on disk at a time point, from the other direction."""
        return [i for i, track in self._log.tracks.items() if time in track.seen]

    def _write(self, time: int, solids: Mapping[int, Solid]) -> None:
        kept = self._kept(time)
        with self.labels.writing(time) as volume:
            for z in range(self.volumes.n_planes):
                frame = self.labels.plane(time, z) if kept else np.zeros(self.volumes.plane_shape, np.uint32)
                frame[~np.isin(frame, kept)] = 0
                for object_id, solid in solids.items():
                    solid.paint(frame, z, object_id)
                if frame.any():
                    volume[0, z] = frame

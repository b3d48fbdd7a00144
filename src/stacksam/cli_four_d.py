"""The command ``stacksam segment4d``: objects in volumes through time."""

from __future__ import annotations

import os
import shutil
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from stacksam.cli_options import (
    AxesOption,
    ChannelsOption,
    DeviceOption,
    Direction,
    DirectionOption,
    DtypeOption,
    EndsOption,
    ImageSizeOption,
    IntensityOption,
    JsonOption,
    LevelOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    Precision,
    QuietOption,
    SeriesOption,
    StackPath,
    numbers,
    option,
    reporter,
    session_settings,
    show,
    show_json,
    stack_arguments,
    tell,
)
from stacksam.errors import InputError, StorageError

if TYPE_CHECKING:
    from stacksam.session.models import Model
    from stacksam.tracks.four_d import VolumeFollower
    from stacksam.tracks.volume_update import VolumePrompt
    from stacksam.tracks.volumes import Volumes

__all__ = ["segment4d"]

_P, _S, _F = "What to follow", "How to read the stack", "How to follow"

_POINT, _BOX = "T,Z,ID,Y,X", "T,Z,ID,Y0,X0,Y1,X1"
PointOption = Annotated[
    list[str] | None,
    option(
        "--point",
        "-p",
        about="Click on an object: time point, plane, your number for the object, place.",
        panel=_P,
        metavar=_POINT,
    ),
]
NegativeOption = Annotated[
    list[str] | None,
    option(
        "--negative",
        "-n",
        about="Click beside it, on what does not belong to it.",
        panel=_P,
        metavar=_POINT,
    ),
]
BoxOption = Annotated[
    list[str] | None,
    option("--box", "-b", about="Box around an object.", panel=_P, metavar=_BOX),
]
PromptsOption = Annotated[
    Path | None,
    option(
        "--prompts",
        about="Table (.csv) or list (.json) with kind,time,frame,id,y,x,y1,x1; frame is the plane, kind is "
        "point, negative or box.",
        panel=_P,
    ),
]
LabelsOption = Annotated[
    Path | None,
    option(
        "--labels",
        about="Labels (zyx) of one time point: each object's mask on its middle plane is followed.",
        panel=_P,
    ),
]
LabelsTimeOption = Annotated[
    int | None, option("--labels-time", about="Time point that the labels are of. Default: 0", panel=_P)
]
SpacingOption = Annotated[
    str | None,
    option(
        "--spacing", about="Step between time points, planes, rows, columns.", panel=_S, metavar="T,Z,Y,X"
    ),
]
MemoryOption = Annotated[
    int, option("--memory", about="Time points that an object is remembered from.", panel=_F)
]
PatienceOption = Annotated[
    int, option("--patience", about="Time points that a lost object is looked for.", panel=_F)
]
ThresholdOption = Annotated[
    float, option("--divisions", about="Least confidence of a division, 0 to 1; 2 for none.", panel=_F)
]


def segment4d(  # noqa: PLR0913, PLR0917 - one argument an option
    stack: StackPath,
    point: PointOption = None,
    negative: NegativeOption = None,
    box: BoxOption = None,
    prompts: PromptsOption = None,
    labels: LabelsOption = None,
    labels_time: LabelsTimeOption = None,
    direction: DirectionOption = Direction.BOTH,
    memory: MemoryOption = 3,
    patience: PatienceOption = 3,
    divisions: ThresholdOption = 0.5,
    channels: ChannelsOption = None,
    intensity: IntensityOption = None,
    axes: AxesOption = None,
    spacing: SpacingOption = None,
    level: LevelOption = 0,
    series: SeriesOption = None,
    model: ModelOption = "nano",
    image_size: ImageSizeOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    ends: EndsOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Follow objects through depth and time (axes t, z, y, x), with divisions.

    Say which objects with clicks, boxes, a table or a label volume, each on any plane of any time point; both
    are counted from 0. Results are labels.ome.zarr, lineage.txt and summary.json. A run that was stopped is
    gone on with by the same command.

    Example: stacksam segment4d embryo.ome.zarr --point 0,12,1,120,96 --point 0,14,2,80,40
    """
    from stacksam.tracks.four_d import VolumeFollower
    from stacksam.tracks.volumes import open_volumes

    how = stack_arguments(channels=channels, intensity=intensity, axes=axes, level=level, series=series)
    for name in ("frame_axis", "at"):
        del how[name]
    how["spacing"] = None if spacing is None else numbers("--spacing", spacing, float, 4, form="T,Z,Y,X")
    given = [_point(text, True) for text in point or ()] + [_point(text, False) for text in negative or ()]
    given += [_box(text) for text in box or ()]
    given += _table(prompts) if prompts else []
    if labels_time is not None and labels is None:
        raise InputError("--labels-time is given without --labels; name the label volume")
    folder = out or _beside(stack)
    with open_volumes(stack.expanduser().absolute(), **how) as volumes:
        if labels is not None:
            given += _from_labels(labels, volumes, labels_time or 0)
        wanted = _checked(given, volumes)
        _free(folder, overwrite)
        loaded = _load(model, device, dtype, image_size, quiet)
        follower = VolumeFollower(
            volumes,
            loaded,
            wanted,
            folder,
            direction=direction.value,
            memory=memory,
            patience=patience,
            threshold=divisions,
            settings=session_settings(None, None, None, None, ends),
        )
        summary = _followed(follower, quiet)
    if as_json:
        show_json(summary)
    elif not quiet:
        _show(summary, follower)


def _followed(follower: VolumeFollower, quiet: bool) -> dict[str, Any]:
    """Follow to the end, and write the summary."""
    start = clock.monotonic()
    try:
        with reporter(quiet)("following in depth and time", follower.steps_left, "time points") as step:
            left = follower.steps_left
            for update in follower.follow():
                if update.event in ("lost", "returned") and not quiet:
                    tell(f"object {update.object_id} {update.event} at time point {update.time}")
                if follower.steps_left != left:
                    step.advance(left - follower.steps_left)
                    left = follower.steps_left
        return follower.write_summary(seconds=round(clock.monotonic() - start, 2))
    except (KeyboardInterrupt, StorageError) as error:
        stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        tell(
            f"{stopped}; complete time points are kept in {follower.folder}, and the same command (without "
            "--overwrite) goes on from there"
        )
        raise


def _show(summary: dict[str, Any], follower: VolumeFollower) -> None:
    from stacksam.console import duration

    count = len(summary["objects"])
    show(
        f"{count} object{'s' if count != 1 else ''}, {summary['divisions']} divisions, "
        f"{follower.volumes.n_times} time points, {duration(summary['seconds'])}"
    )
    for object_id in summary["not_found"]:
        show(f"  object {object_id} was found nowhere; prompt it on another plane, or with a box")
    for name in ("labels.ome.zarr", "lineage.txt", "summary.json"):
        show(f"  {name:<16} {follower.folder / name}")


def _point(text: str, positive: bool) -> tuple[str, VolumePrompt]:
    from stacksam.prompt_files import numbers_from_text
    from stacksam.session.prompts import Point
    from stacksam.tracks.volume_update import VolumePrompt

    origin = f"--{'point' if positive else 'negative'} {text}"
    time, z, object_id, y, x = numbers_from_text(text, _POINT, origin, 3)
    return origin, VolumePrompt(time, Point(z, object_id, (y, x), positive))


def _box(text: str) -> tuple[str, VolumePrompt]:
    from stacksam.prompt_files import numbers_from_text
    from stacksam.session.prompts import Box
    from stacksam.tracks.volume_update import VolumePrompt

    time, z, object_id, y0, x0, y1, x1 = numbers_from_text(text, _BOX, f"--box {text}", 3)
    return f"--box {text}", VolumePrompt(time, Box(z, object_id, (y0, x0, y1, x1)))


def _table(path: Path) -> list[tuple[str, VolumePrompt]]:
    from stacksam.prompt_files import number_from, prompt_from_row, read_rows
    from stacksam.tracks.volume_update import VolumePrompt

    found = []
    for origin, row in read_rows(path):
        time = int(number_from(row.get("time"), "time", origin, whole=True))
        found.append((origin, VolumePrompt(time, prompt_from_row(row, origin).prompt)))
    return found


def _from_labels(path: Path, volumes: Volumes, time: int) -> list[tuple[str, VolumePrompt]]:
    """A mask prompt for each object of a label volume, on its middle plane."""
    import numpy as np

    from stacksam.io import read_labels
    from stacksam.session.prompts import Mask, compact
    from stacksam.tracks.volume_update import VolumePrompt

    with read_labels(path, axes=None) as image:
        sizes = [size for axis, size in image.sizes.items() if axis not in "yx" and size > 1]
        wanted = [volumes.n_planes] if volumes.n_planes > 1 else []
        if sizes != wanted or (image.sizes["y"], image.sizes["x"]) != volumes.plane_shape:
            raise InputError(
                f"labels {path} have shape {image.shape} ({image.axes}); give one volume of "
                f"{(volumes.n_planes, *volumes.plane_shape)} (zyx)"
            )
        depth = next((axis for axis in image.axes if axis not in "yx" and image.sizes[axis] > 1), "")

        def read(z: int) -> Any:
            return image.read(**{axis: z if axis == depth else 0 for axis in image.axes if axis not in "yx"})

        planes: dict[int, list[int]] = {}
        for z in range(volumes.n_planes):
            for object_id in np.unique(read(z)).tolist():
                planes.setdefault(object_id, []).append(z)
        found = []
        for object_id in sorted(i for i in planes if i > 0):
            z = planes[object_id][len(planes[object_id]) // 2]
            mask = compact(Mask(z, object_id, np.asarray(read(z)) == object_id))
            found.append((f"object {object_id} of {path}", VolumePrompt(time, mask)))
    if not found:
        raise InputError(f"labels {path} are empty; give a volume with objects")
    return found


def _checked(given: list[tuple[str, VolumePrompt]], volumes: Volumes) -> list[VolumePrompt]:
    """The prompts; an error says where the one was written that does not fit."""
    from stacksam.tracks.volume_update import check_prompts

    if not given:
        raise InputError(
            "there are no prompts; say which objects to follow with --point, --box, --prompts or --labels"
        )
    for origin, one in given:
        try:
            check_prompts(volumes, [one])
        except InputError as error:
            raise InputError(f"{origin}: {error}") from error
    return [one for _, one in given]


def _beside(stack: Path) -> Path:
    plain = stack.expanduser().absolute()
    return plain.with_name(plain.name.split(".")[0] + ".stacksam4d")


def _free(folder: Path, overwrite: bool) -> None:
    """See that no finished run is lost; with `overwrite`, remove an earlier one."""
    run, done = folder / "four_d.json", folder / "summary.json"
    if not os.path.lexists(folder) or not run.is_file():
        return
    if not overwrite:
        if done.exists():
            raise StorageError(
                f"{folder} holds results already; choose another folder with --out, or replace them with "
                "--overwrite"
            )
        return
    try:
        shutil.rmtree(folder / "labels.ome.zarr", ignore_errors=False)
        for name in ("time_points.jsonl", "lineage.txt", "summary.json", "four_d.json"):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove the results in {folder}: {error.strerror or error}") from error


def _load(
    name: str, device: str | None, dtype: Precision | None, image_size: int | None, quiet: bool
) -> Model:
    from stacksam.session.models import load_model

    with reporter(quiet)(f"fetching {name}", None, "B") as step:
        return load_model(name, device=device, dtype=dtype, image_size=image_size, progress=step.reach)

"""The command line: ``stacksam segment``, ``watch``, ``demo``, ``replay``, ``export``, ``info`` ...

A script can rely on this: results go to stdout and everything else to stderr; an error is one line that
begins with ``error:``; and the exit status says what kind it was (see `stacksam.cli_options.STATUS`). All
input is checked before any work begins. What has been computed when a run is stopped is kept, and the same
command goes on from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stacksam import __version__
from stacksam.cli_evaluate import evaluate
from stacksam.cli_four_d import segment4d
from stacksam.cli_models import models_app
from stacksam.cli_options import (
    EPILOG,
    AtOption,
    AxesOption,
    BoxOption,
    CanvasOption,
    ChannelsOption,
    ConsensusOption,
    DeviceOption,
    Direction,
    DirectionOption,
    DiskCacheOption,
    DivisionsOption,
    DtypeOption,
    EndsOption,
    EveryOption,
    EverythingOption,
    FirstOption,
    FormatOption,
    FrameAxisOption,
    Group,
    ImageSizeOption,
    IntensityOption,
    JsonOption,
    LabelsAs,
    LabelsAsOption,
    LabelsFrameOption,
    LabelsOption,
    LastOption,
    LevelOption,
    MaxMemoryOption,
    ModelOption,
    NegativeOption,
    OtherStackOption,
    OutOption,
    OverwriteOption,
    PatienceOption,
    PictureOption,
    PointOption,
    PollOption,
    Precision,
    PromptsOption,
    QuietOption,
    ScopeOption,
    SeriesOption,
    SessionOption,
    SettleOption,
    SizeOption,
    SpacingOption,
    StackPath,
    StopFileOption,
    UntilIdleOption,
    option,
    reporter,
    session_settings,
    show,
    show_json,
    stack_arguments,
    tell,
)
from stacksam.errors import InputError, StackError, StorageError

if TYPE_CHECKING:
    from stacksam.outputs import Outputs
    from stacksam.session.models import Model
    from stacksam.session.settings import Scope

__all__ = ["app", "main"]

app = typer.Typer(
    name="stacksam",
    cls=Group,
    help="Follow objects through image stacks: prompt a cell or an organ on one frame, get it on all frames.",
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_app, name="models")
app.command(epilog=EPILOG)(evaluate)
app.command(epilog=EPILOG)(segment4d)


_DOUBTFUL = 0.3  # mean predicted IoU of an object below which it is named


def main() -> None:
    """Entry point of the ``stacksam`` command."""
    app()


@app.callback(invoke_without_command=True)
def _start(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    traceback: Annotated[  # noqa: ARG001 - read where errors are told
        bool, typer.Option("--traceback", help="Show where in the program an error arose.")
    ] = False,
) -> None:
    if version:
        show(f"stacksam {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        show(ctx.get_help())


@app.command(epilog=EPILOG)
def segment(  # noqa: PLR0913, PLR0917 - one argument an option
    stack: StackPath,
    point: PointOption = None,
    negative: NegativeOption = None,
    box: BoxOption = None,
    prompts: PromptsOption = None,
    labels: LabelsOption = None,
    labels_frame: LabelsFrameOption = None,
    labels_as: LabelsAsOption = LabelsAs.MASK,
    session: SessionOption = None,
    other_stack: OtherStackOption = False,
    everything: EverythingOption = False,
    size: SizeOption = None,
    every: EveryOption = None,
    divisions: DivisionsOption = False,
    direction: DirectionOption = Direction.BOTH,
    first: FirstOption = None,
    last: LastOption = None,
    consensus: ConsensusOption = False,
    frame_axis: FrameAxisOption = None,
    at: AtOption = None,
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
    scope: ScopeOption = None,
    canvas: CanvasOption = None,
    ends: EndsOption = None,
    max_memory: MaxMemoryOption = None,
    disk_cache: DiskCacheOption = None,
    out: OutOption = None,
    formats: FormatOption = None,
    overwrite: OverwriteOption = False,
    picture: PictureOption = True,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Follow objects through a stack and write their labels.

    Say which objects with clicks, boxes, a table, a label image or a saved session, or that you want
    everything. Frames are counted from 0; places are rows (Y) and columns (X) in pixels from the upper left.
    An ID is your number for an object: the same one on several frames is the same object.

    Example: stacksam segment cells.tif --point 0,1,120,96 --point 0,2,80,40
    """
    from stacksam import prompt_files as reading
    from stacksam.outputs import Outputs
    from stacksam.runs import check_everything, check_span, follow, follow_everything
    from stacksam.session.stack import open_stack

    settings = session_settings(scope, canvas, max_memory, disk_cache, ends)
    given = _given(point, negative, box, prompts, session)
    if labels_frame is not None and labels is None:
        raise InputError("--labels-frame is given without --labels; name the label image")
    if other_stack and session is None:
        raise InputError("--other-stack is given without --session; name the session")
    outputs = Outputs.named(out or _beside(stack), formats or (), picture=picture)
    how = stack_arguments(frame_axis, at, channels, intensity, axes, spacing, level, series)
    with open_stack(stack.expanduser().absolute(), **how) as opened:
        if session is not None and not other_stack:
            reading.check_session_stack(session, opened)
        if labels is not None:
            given += reading.prompts_from_labels(labels, opened, labels_frame, labels_as)
        if everything and given:
            raise InputError("--everything is given with other prompts; give one or the other")
        check_everything(opened, size, every, direction.value, asked=everything)
        wanted = [] if everything else reading.check_all(given, opened, or_everything=True)
        check_span(opened, first, last)
        if consensus and (opened.frame_axis != "z" or opened.n_frames < 2):
            raise InputError(
                "--consensus needs a volume whose frames lie along z; name its axes with --axes, or choose "
                "with --frame-axis z"
            )
        if divisions and opened.frame_axis != "t":
            raise InputError("--divisions is for time-lapses; the frames of this stack lie along z")
        if divisions and direction is Direction.BACKWARD:
            raise InputError("--divisions follows forward; leave out --direction backward")
        outputs.check(
            overwrite=overwrite,
            frame_axis=opened.frame_axis,
            top_id=max((prompt.object_id for prompt in wanted), default=0),
        )
        with _kept(outputs):
            loaded = _load(model, device, dtype, quiet, image_size)
            if overwrite:
                outputs.clear()
            how = {"first": first, "last": last, "settings": settings, "report": reporter(quiet)}
            how["divisions"] = divisions
            if everything:
                every = 1 if every is None else every
                summary = follow_everything(opened, loaded, outputs, size=size, every=every, **how)
            else:
                how |= {"direction": direction.value, "consensus": consensus}
                summary = follow(opened, loaded, wanted, outputs, **how)
    _show_summary(summary, quiet, as_json)


@app.command(epilog=EPILOG)
def watch(  # noqa: PLR0913, PLR0917 - one argument an option
    stack: Annotated[
        Path, typer.Argument(metavar="STACK", help="A folder of images, or a zarr folder, that is written.")
    ],
    point: PointOption = None,
    negative: NegativeOption = None,
    box: BoxOption = None,
    prompts: PromptsOption = None,
    labels: LabelsOption = None,
    labels_frame: LabelsFrameOption = None,
    labels_as: LabelsAsOption = LabelsAs.MASK,
    session: SessionOption = None,
    other_stack: OtherStackOption = False,
    poll: PollOption = 1.0,
    until_idle: UntilIdleOption = None,
    settle: SettleOption = None,
    patience: PatienceOption = 30.0,
    stop_file: StopFileOption = None,
    frame_axis: FrameAxisOption = None,
    at: AtOption = None,
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
    scope: ScopeOption = None,
    canvas: CanvasOption = None,
    max_memory: MaxMemoryOption = None,
    disk_cache: DiskCacheOption = None,
    out: OutOption = None,
    formats: FormatOption = None,
    overwrite: OverwriteOption = False,
    picture: PictureOption = True,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Follow objects through a stack that is still being written, as its frames arrive.

    Labels are in session/labels.ome.zarr of the results folder, frame by frame. The other files are written
    when the stream has stopped (--until-idle, --stop-file). However it was stopped, the same command goes on.

    Example: stacksam watch run.zarr --point 0,1,120,96 --until-idle 60
    """
    from stacksam import prompt_files as reading
    from stacksam.outputs import Outputs
    from stacksam.runs import follow_live
    from stacksam.session.watch import await_stack

    settings = session_settings(scope, canvas, max_memory, disk_cache)
    given = _given(point, negative, box, prompts, session)
    if labels_frame is not None and labels is None:
        raise InputError("--labels-frame is given without --labels; name the label image")
    if other_stack and session is None:
        raise InputError("--other-stack is given without --session; name the session")
    outputs = Outputs.named(out or _beside(stack), formats or (), picture=picture)
    how = stack_arguments(frame_axis, at, channels, intensity, axes, spacing, level, series)
    say = None if quiet else tell
    waiting: dict[str, Any] = {"poll": poll, "timeout": until_idle, "stop": stop_file, "tell": say}
    needed = 1 + max([labels_frame or 0, *(one.prompt.frame for one in given)])
    with await_stack(stack.expanduser().absolute(), needed, settle=settle, **waiting, **how) as opened:
        if session is not None and not other_stack:
            reading.check_session_stack(session, opened)
        if labels is not None:
            given += reading.prompts_from_labels(labels, opened, labels_frame, labels_as)
        wanted = reading.check_all(given, opened)
        outputs.check(
            overwrite=overwrite,
            again=True,
            frame_axis=opened.frame_axis,
            top_id=max((prompt.object_id for prompt in wanted), default=0),
        )
        with _kept(outputs):
            loaded = _load(model, device, dtype, quiet, image_size)
            if overwrite:
                outputs.clear()
            summary = follow_live(
                opened,
                loaded,
                wanted,
                outputs,
                settings=settings,
                report=reporter(quiet),
                patience=patience,
                **waiting,
            )
    _show_summary(summary, quiet, as_json)


@app.command(epilog=EPILOG)
def demo(
    out: Annotated[Path, option("--out", "-o", about="Folder for the results.")] = Path("stacksam-demo"),
    model: ModelOption = "nano",
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try it: follow cells through a small time-lapse and a small z-stack that come with stacksam."""
    from stacksam.demo import check_demo, format_demo, run_demo

    with _kept(*check_demo(out, overwrite=overwrite)):
        loaded = _load(model, device, dtype, quiet)
        results = run_demo(out, loaded, overwrite=overwrite, report=reporter(quiet))
    if as_json:
        show_json([result.to_json() for result in results])
    elif not quiet:
        show(format_demo(results))


@app.command(epilog=EPILOG)
def replay(  # noqa: PLR0913, PLR0917 - one argument an option
    session: Annotated[Path, typer.Argument(metavar="SESSION", help="A saved session: session.json")],
    stack: Annotated[Path | None, option("--stack", about="The stack, if it has moved.")] = None,
    model: Annotated[str | None, option("--model", about="The model, if its file has moved.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    out: OutOption = None,
    formats: FormatOption = None,
    overwrite: OverwriteOption = False,
    picture: PictureOption = True,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the labels of a saved session again, from its prompts and settings.

    Results go to SESSION.stacksam beside the session file, unless --out says otherwise.
    """
    from stacksam.outputs import Outputs
    from stacksam.runs import open_session_stack, replay_session, session_model

    outputs = Outputs.named(out or _beside(session), formats or (), picture=picture)
    with open_session_stack(session, stack) as opened:
        outputs.check(overwrite=overwrite, resume=False, frame_axis=opened.frame_axis)
        try:
            name, size = session_model(session)
            loaded = _load(model or name, device, dtype, quiet, size)
            outputs.clear()
            summary = replay_session(session, opened, loaded, outputs, report=reporter(quiet))
        finally:
            outputs.leave()
    _show_summary(summary, quiet, as_json)


@app.command(epilog=EPILOG)
def export(  # noqa: PLR0913, PLR0917 - one argument an option
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A results folder (NAME.stacksam), a session's folder, a label stack, or a folder of the "
            "Cell Tracking Challenge.",
        ),
    ],
    formats: FormatOption = None,
    out: Annotated[
        Path | None, option("--out", "-o", about="Folder for the files. Default: NAME.export beside SOURCE")
    ] = None,
    lineage: Annotated[
        Path | None,
        option("--lineage", about="Table of who is whose daughter: CSV with object_id,parent, or L B E P."),
    ] = None,
    image: Annotated[
        Path | None, option("--image", about="The stack that the labels are of, for intensities.")
    ] = None,
    at: AtOption = None,
    affine: Annotated[
        Path | None,
        option("--affine", about="Text file of 4 × 4 numbers: index (z, y, x) to millimetres in RAS."),
    ] = None,
    name: Annotated[str, option("--name", about="Of labels inside the image.")] = "stacksam",
    axes: AxesOption = None,
    spacing: SpacingOption = None,
    units: Annotated[
        str | None,
        option("--units", about="Units of the spacing, where the file does not tell.", metavar="FRAME,Y,X"),
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write labels and lineage in formats of other programs, and measure the objects.

    Example: stacksam export cells.stacksam --format ctc --format csv --image cells.tif
    """
    from stacksam.exports import export_results, open_results

    if not formats:
        raise InputError("no format is given; say which with --format, such as --format ctc")
    how = stack_arguments(at=at, spacing=spacing)
    results = open_results(
        source,
        lineage=lineage,
        image=image,
        at=how["at"],
        affine=affine,
        name=name,
        axes=axes,
        spacing=how["spacing"],
        units=None if units is None else tuple(units.split(",")),
    )
    plain = source.expanduser().absolute()
    folder = out or plain.with_name(plain.name.split(".")[0] + ".export")
    files, lost = export_results(results, formats, folder, overwrite=overwrite, report=reporter(quiet))
    for kind, words in lost.items():
        tell(f"note: {kind} does not keep {' and '.join(words)}")
    if as_json:
        show_json({"files": files, "not_kept": lost})
    elif not quiet:
        for kind, path in files.items():
            show(f"  {kind:<12} {path}")


@app.command(epilog=EPILOG)
def info(
    stack: StackPath,
    frame_axis: FrameAxisOption = None,
    at: AtOption = None,
    channels: ChannelsOption = None,
    axes: AxesOption = None,
    level: LevelOption = 0,
    series: SeriesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a stack holds, and how it would be read."""
    from stacksam.io import open_image
    from stacksam.session.stack import open_stack

    with open_image(stack, level=level, series=series, axes=axes) as image:
        about: dict[str, Any] = {
            "source": image.source,
            "axes": image.axes,
            "shape": list(image.shape),
            "dtype": str(image.dtype),
            "rgb": image.rgb,
            "scale": image.scale,
            "units": image.units,
        }
        try:
            opened = open_stack(image, **stack_arguments(frame_axis, at, channels))
            about |= {"frames": opened.describe(), "question": None}
        except StackError as error:
            # More than one way to read it: the file is fine, and the user has to choose.
            about |= {"frames": None, "question": str(error)}
    if as_json:
        show_json(about)
        return
    show(f"{about['source']}: {about['dtype']}, {'colours' if about['rgb'] else 'values'}")
    for axis, size in zip(about["axes"], about["shape"], strict=True):
        unit = about["units"][axis]
        show(f"  {axis}  {size:>6}" + (f"  step {about['scale'][axis]:g} {unit}" if unit else ""))
    frames = about["frames"]
    if frames is None:
        show(f"how to read it is not clear yet: {about['question']}")
        return
    low, high = (", ".join(f"{v:g}" for v in frames["intensity"][end]) for end in ("low", "high"))
    height, width = frames["frame_shape"]
    show(f"{frames['n_frames']} frames of {height} × {width} along {frames['frame_axis']}")
    if frames["channels"]:
        show(f"channels {', '.join(map(str, frames['channels']))}")
    show(f"intensity {low} to {high} (black to white)")


@app.command(epilog=EPILOG)
def bench(
    model: Annotated[
        list[str] | None,
        option("--model", about="Names or paths; may be repeated. Default: all that are on this machine."),
    ] = None,
    side: Annotated[int, option("--side", about="Rows and columns of a frame.")] = 1024,
    seconds: Annotated[float, option("--seconds", about="Longest time in all, about.")] = 100.0,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine: frames a second against the number of small objects, for each model."""
    from stacksam.bench import COUNTS, format_paces, measure

    if not 64 <= side <= 8192:
        raise InputError(f"--side is {side}; give 64 to 8192 pixels")
    if not seconds > 0:
        raise InputError(f"--seconds is {seconds:g}; give a time above 0")
    names = model or _on_this_machine()
    both: tuple[Scope, Scope] = ("full", "window")
    jobs = [(name, scope) for name in names for scope in (both[:1] if name == "nano" else both)]
    found = {}
    if not as_json:
        show(f"frames a second on {side} x {side} pixels, by number of objects (≈: extrapolated)")
        show(f"{'':<26}" + "".join(str(count).rjust(10) for count in COUNTS))
    for name, scope in jobs:
        loaded = _load(name, device, dtype, quiet=True)
        paces = list(measure(loaded, scope=scope, side=side, budget=seconds / len(jobs)))
        label = name if name == "nano" else f"{name} ({scope})"
        found[label] = [dataclasses.asdict(pace) for pace in paces]
        if not as_json:
            show(format_paces(label, paces))
    if as_json:
        show_json(found)


def _on_this_machine() -> list[str]:
    from stacksam.assets import Status, status_table

    missing = (Status.MISSING, Status.DAMAGED)
    return [row.model.name for row in status_table() if row.status not in missing]


def _given(
    point: list[str] | None,
    negative: list[str] | None,
    box: list[str] | None,
    prompts: Path | None,
    session: Path | None,
) -> list[Any]:
    """Prompts from all options but label images, which need the stack."""
    from stacksam import prompt_files as reading

    given = [reading.point_from_text(text) for text in point or ()]
    given += [reading.point_from_text(text, positive=False) for text in negative or ()]
    given += [reading.box_from_text(text) for text in box or ()]
    given += reading.read_prompts(prompts) if prompts else []
    given += reading.read_session_prompts(session) if session else []
    return given


@contextmanager
def _kept(*places: Outputs) -> Iterator[None]:
    """Work whose results stay if it is stopped; says so then."""
    try:
        yield
    except (KeyboardInterrupt, StackError, StorageError) as error:
        kept = [str(place.folder) for place in places if place.session_folder.is_dir()]
        stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        if kept:
            tell(
                f"{stopped}; what was computed is kept in {', '.join(kept)}, and the same command "
                "(without --overwrite) goes on from there"
            )
        raise
    finally:
        for place in places:
            place.leave()


def _load(
    name: str, device: str | None, dtype: Precision | None, quiet: bool, image_size: int | None = None
) -> Model:
    from stacksam.assets import MODELS
    from stacksam.session.models import load_model

    # A path goes into the session file, which may be replayed from another folder.
    found = Path(name).expanduser()
    which = str(found.absolute()) if name not in MODELS and found.exists() else name
    with reporter(quiet)(f"fetching {name}", None, "B") as step:
        return load_model(which, device=device, dtype=dtype, image_size=image_size, progress=step.reach)


def _beside(stack: Path) -> Path:
    """Default folder of the results: ``cells.stacksam`` beside ``cells.ome.tif``."""
    plain = stack.expanduser().absolute()
    return plain.with_name(plain.name.split(".")[0] + ".stacksam")


def _show_summary(summary: Mapping[str, Any], quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json(summary)
    elif not quiet:
        from stacksam.console import duration

        number = len(summary["objects"])
        what = f"{number} object{'s' if number != 1 else ''} followed"
        divisions = summary.get("divisions", 0)
        what += f", {divisions} division{'s' if divisions != 1 else ''}" if divisions else ""
        show(f"{what}, {_frames_words(summary)}, {duration(summary['seconds'])}")
        told = {one["id"]: one["predicted_iou"] for one in summary["objects"] if "predicted_iou" in one}
        if told:
            mean = sum(each["mean"] for each in told.values()) / len(told)
            worst = min(told, key=lambda object_id: told[object_id]["min"])
            show(
                f"predicted IoU (the model's own estimate): mean {mean:.2f}, lowest "
                f"{told[worst]['min']:.2f} of object {worst} on frame {told[worst]['min_frame']}"
            )
        for kind, path in summary["files"].items():
            show(f"  {kind:<12} {path}")
        doubtful = [str(object_id) for object_id, each in told.items() if each["mean"] < _DOUBTFUL]
        if doubtful:
            tell(
                f"note: look at object{'s' if len(doubtful) > 1 else ''} {', '.join(doubtful)}: the "
                f"predicted IoU is below {_DOUBTFUL} on the average"
            )


def _frames_words(summary: Mapping[str, Any]) -> str:
    """Which frames have results: ``24 frames``, or ``frames 0 to 1 of 24``."""
    first, last, count = summary["first"], summary["last"], summary["stack"]["n_frames"]
    if first is None or last - first + 1 == count:
        return f"{count} frame{'s' if count != 1 else ''}"
    return f"frame {first} of {count}" if first == last else f"frames {first} to {last} of {count}"


if __name__ == "__main__":
    main()

"""What the commands share: their options, what they print, and how errors become an exit status.

Nothing here may load more than typer: ``stacksam --help`` has to be quick.
"""

from __future__ import annotations

import json
import math
import re
import sys
import traceback as tracebacks
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from stacksam.errors import (
    DeviceMemoryError,
    DownloadError,
    InputError,
    ModelError,
    SessionFileError,
    StackError,
    StacksamError,
    StorageError,
)

if TYPE_CHECKING:
    from stacksam.console import Reporter
    from stacksam.session.settings import Settings

# Exit status by kind of error; 0 is success, 1 an error that is not foreseen.
STATUS: dict[type[StacksamError], int] = {
    InputError: 2,
    StackError: 2,
    SessionFileError: 2,
    ModelError: 3,
    DeviceMemoryError: 3,
    DownloadError: 3,
    StorageError: 4,
}
INTERRUPTED = 130
EPILOG = (
    "Exit status: 0 done, 1 unexpected error, 2 something is wrong with the input, "
    "3 model, memory or download, 4 output folder or disk, 130 interrupted (what was computed is kept)."
)

# Of the library below typer, which has had two homes: the base of all errors in a command line.
_CommandLineError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class Group(TyperGroup):
    """Commands whose errors are one line on stderr and an exit status."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and leave with an exit status; what typer objects to is told here."""
        kwargs["standalone_mode"] = False
        try:
            status = super().main(*args, **kwargs)
        except typer.Abort:
            status = INTERRUPTED
        except _CommandLineError as error:
            command = error.ctx.command_path if getattr(error, "ctx", None) else "stacksam"
            # Newer typer has choices checked by a library that puts its own words before ours.
            about = error.format_message().replace("Value error, ", "").rstrip(".")
            tell(f"error: {about}; see {command} --help")
            status = error.exit_code
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what the command objects to is told here."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            tell("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except StacksamError as error:
            if ctx.params.get("traceback"):
                tracebacks.print_exc()
            tell(f"error: {error}")
            raise typer.Exit(next((s for kind, s in STATUS.items() if isinstance(error, kind)), 1)) from error
        except (typer.Exit, typer.Abort, _CommandLineError, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("traceback"):
                tracebacks.print_exc()
            tell(
                f"error: unexpected {type(error).__name__}: {error}. This should not happen; "
                "stacksam --traceback COMMAND ... shows where it did"
            )
            raise typer.Exit(1) from error


class Direction(StrEnum):
    """Which way objects are followed from their prompts."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"


class Axis(StrEnum):
    """The axis along which frames lie."""

    T = "t"
    Z = "z"


class Precision(StrEnum):
    """Numbers that the model computes with."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Sight(StrEnum):
    """How much of a frame an object sees with an official model."""

    AUTO = "auto"
    FULL = "full"
    WINDOW = "window"


class Canvas(StrEnum):
    """What an official model sees a frame as."""

    FRAME = "frame"
    NATIVE = "native"


class LabelsAs(StrEnum):
    """What an object of a label image becomes."""

    MASK = "mask"
    BOX = "box"
    POINT = "point"


def option(*names: str, about: str, panel: str | None = None, metavar: str | None = None) -> Any:
    """An option, in a panel of the help text."""
    return typer.Option(*names, help=about, rich_help_panel=panel, metavar=metavar)


_P, _S, _M, _R = "What to follow", "How to read the stack", "Model", "Results"
_W = "How to wait for frames"

PointOption = Annotated[
    list[str] | None,
    option(
        "--point",
        "-p",
        about="Click on an object: frame, your number for the object, place.",
        panel=_P,
        metavar="FRAME,ID,Y,X",
    ),
]
NegativeOption = Annotated[
    list[str] | None,
    option(
        "--negative",
        "-n",
        about="Click beside it, on what does not belong to it.",
        panel=_P,
        metavar="FRAME,ID,Y,X",
    ),
]
BoxOption = Annotated[
    list[str] | None,
    option("--box", "-b", about="Box around an object.", panel=_P, metavar="FRAME,ID,Y0,X0,Y1,X1"),
]
PromptsOption = Annotated[
    Path | None,
    option(
        "--prompts",
        about="Table (.csv) or list (.json) with kind,frame,id,y,x,y1,x1; kind is point, negative or box.",
        panel=_P,
    ),
]
LabelsOption = Annotated[
    Path | None, option("--labels", about="Label image: each of its objects is followed.", panel=_P)
]
LabelsFrameOption = Annotated[
    int | None, option("--labels-frame", about="Frame that the labels are for. Default: 0", panel=_P)
]
LabelsAsOption = Annotated[
    LabelsAs, option("--labels-as", about="Take the labels as they are, or as boxes or clicks.", panel=_P)
]
SessionOption = Annotated[
    Path | None, option("--session", about="Take the prompts of a saved session (session.json).", panel=_P)
]
OtherStackOption = Annotated[
    bool,
    option(
        "--other-stack",
        about="With --session: take its prompts although it is of another stack.",
        panel=_P,
    ),
]
EverythingOption = Annotated[
    bool,
    option(
        "--everything",
        about="Find all objects, from the first frame on, and newcomers later. No other prompts then.",
        panel=_P,
    ),
]
SizeOption = Annotated[
    float | None,
    option("--size", about="With --everything: typical diameter in pixels. Default: estimated", panel=_P),
]
EveryOption = Annotated[
    int | None,
    option(
        "--every",
        about="With --everything: look for newcomers on every so many frames; 0: never. Default: 1",
        panel=_P,
    ),
]
DivisionsOption = Annotated[
    bool,
    option(
        "--divisions",
        about="Look for divisions: a cell that divides ends there, and its daughters begin, as objects of "
        "their own that know their parent.",
        panel=_P,
    ),
]
DirectionOption = Annotated[
    Direction, option("--direction", about="Which way to follow, from the prompts.", panel=_P)
]
ConsensusOption = Annotated[
    bool,
    option(
        "--consensus",
        about="Volumes: also follow along the other two axes, and keep what two of three agree on.",
        panel=_P,
    ),
]
FirstOption = Annotated[int | None, option("--first", about="First frame to follow to.", panel=_P)]
LastOption = Annotated[int | None, option("--last", about="Last frame to follow to.", panel=_P)]

StackPath = Annotated[
    Path,
    typer.Argument(
        metavar="STACK",
        help="TIFF, OME-TIFF, OME-Zarr, NIfTI, NRRD, a folder of images or of DICOM files, or .npy.",
    ),
]
FrameAxisOption = Annotated[
    Axis | None, option("--frame-axis", about="Follow through time (t) or depth (z).", panel=_S)
]
AtOption = Annotated[
    list[str] | None,
    option(
        "--at", about="Fix another axis at an index: z=3. Counted from 0.", panel=_S, metavar="AXIS=INDEX"
    ),
]
ChannelsOption = Annotated[
    str | None, option("--channels", about="One to three channels that the model sees, from 0: 0,2", panel=_S)
]
IntensityOption = Annotated[
    str | None,
    option(
        "--intensity",
        about="Values shown as black and white: 100,4000; or ct-lung, ct-bone, ct-soft-tissue, ct-brain, "
        "ct-liver, ct:LEVEL,WIDTH (HU), mr, mr:LOW,HIGH (percentiles).",
        panel=_S,
        metavar="LOW,HIGH|NAME",
    ),
]
AxesOption = Annotated[
    str | None,
    option("--axes", about="Meaning of the dimensions, where the file does not tell: tyx", panel=_S),
]
SpacingOption = Annotated[
    str | None,
    option("--spacing", about="Step between frames, rows, columns.", panel=_S, metavar="FRAME,Y,X"),
]
LevelOption = Annotated[int, option("--level", about="Resolution level; 0 is the full size.", panel=_S)]
SeriesOption = Annotated[
    int | None, option("--series", about="Which image of a file, or series of a DICOM folder.", panel=_S)
]
ModelOption = Annotated[
    str, option("--model", about="A name from `stacksam models`, or the path of a checkpoint.", panel=_M)
]
ImageSizeOption = Annotated[
    int | None,
    option("--image-size", about="Input side of a fine-tune trained at another one than 1024.", panel=_M),
]
DeviceOption = Annotated[
    str | None, option("--device", about="cpu, cuda or mps. Default: the fastest there is.", panel=_M)
]
DtypeOption = Annotated[
    Precision | None, option("--dtype", about="Precision. Default: what the device does well.", panel=_M)
]
ScopeOption = Annotated[
    Sight | None,
    option(
        "--scope",
        about="What an object sees with an official model: window around it, full frame, or auto: a window "
        "where it is small. Default: full",
        panel=_M,
    ),
]
CanvasOption = Annotated[
    Canvas | None,
    option(
        "--canvas",
        about="What an official model sees: frame, squeezed to its input, or native: objects small on that "
        "at a scale that suits them. Default: frame",
        panel=_M,
    ),
]
EndsOption = Annotated[
    bool | None,
    option(
        "--ends/--no-ends",
        about="With nano in depth: look across the planes where an object ends. Default: ends",
        panel=_M,
    ),
]
MaxMemoryOption = Annotated[
    float | None,
    option("--max-memory", about="Gigabytes of memory to get by with. Default: no ceiling.", panel=_M),
]
DiskCacheOption = Annotated[
    float | None,
    option(
        "--disk-cache",
        about="Gigabytes on disk for encoded frames, so that corrections and later runs do not encode them "
        "again. Default: none",
        panel=_M,
    ),
]
PollOption = Annotated[float, option("--poll", about="Seconds between two looks for new frames.", panel=_W)]
UntilIdleOption = Annotated[
    float | None,
    option(
        "--until-idle",
        about="End when no frame has come for so many seconds. Default: never",
        panel=_W,
        metavar="SECONDS",
    ),
]
SettleOption = Annotated[
    float | None,
    option(
        "--settle",
        about="Seconds without a change after which a frame counts as complete. Default: 1 in a folder; none "
        "in zarr, where all chunks of the frame must be there",
        panel=_W,
    ),
]
PatienceOption = Annotated[
    float,
    option("--patience", about="Seconds for which a frame that cannot be read is tried again.", panel=_W),
]
StopFileOption = Annotated[
    Path | None, option("--stop-file", about="End when there is a file of this name.", panel=_W)
]
OutOption = Annotated[
    Path | None, option("--out", "-o", about="Folder for the results. Default: NAME.stacksam", panel=_R)
]
FormatOption = Annotated[
    list[str] | None,
    option(
        "--format",
        "-f",
        about="tiff, ome-tiff, ome-zarr, ome-zarr-0.4, image-labels (export only), ctc, geff, trackmate, "
        "coco, nifti, nrrd, csv or parquet; may be repeated. Default: tiff and ome-zarr (export: none)",
        panel=_R,
    ),
]
OverwriteOption = Annotated[
    bool, option("--overwrite", about="Replace earlier results in that folder.", panel=_R)
]
PictureOption = Annotated[
    bool, option("--overview/--no-overview", about="Draw overview.png: frames with outlines.", panel=_R)
]
QuietOption = Annotated[bool, option("--quiet", "-q", about="No progress, no summary.", panel=_R)]
JsonOption = Annotated[bool, option("--json", about="Print the results as JSON.", panel=_R)]


def session_settings(
    scope: Sight | None,
    canvas: Canvas | None,
    max_memory: float | None,
    disk_cache: float | None,
    ends: bool | None = None,
) -> Settings | None:
    """The options on how a session computes; None, for those of an earlier session, where none is given."""
    from stacksam.session.settings import Settings

    sizes = {"--max-memory": max_memory, "--disk-cache": disk_cache}
    for name, value in sizes.items():
        if value is not None and not 0 < value < 1e6:
            raise InputError(f"{name} is {value:g}; give a number of gigabytes above 0")
    if all(given is None for given in (scope, canvas, max_memory, disk_cache, ends)):
        return None
    return Settings(
        scope="full" if scope is None else scope.value,
        canvas="frame" if canvas is None else canvas.value,
        max_memory=None if max_memory is None else round(max_memory * 1e9),
        disk_cache_bytes=round((disk_cache or 0) * 1e9),
        find_ends=ends is not False,
    )


def stack_arguments(
    frame_axis: Axis | None = None,
    at: Sequence[str] | None = None,
    channels: str | None = None,
    intensity: str | None = None,
    axes: str | None = None,
    spacing: str | None = None,
    level: int = 0,
    series: int | None = None,
) -> dict[str, Any]:
    """The options on how to read a stack, as arguments of `open_stack`."""
    indices = {}
    for text in at or ():
        axis, equals, index = text.partition("=")
        if not equals or not axis.strip():
            raise InputError(f"--at {text}: give an axis and an index, such as z=3")
        indices[axis.strip().lower()] = numbers("--at", index, int, 1, form="AXIS=INDEX")[0]
    return {
        "frame_axis": None if frame_axis is None else frame_axis.value,
        "at": indices,
        "channels": None
        if channels is None
        else numbers("--channels", channels, int, form="whole numbers: 0,2"),
        "intensity": None if intensity is None else _intensity(intensity),
        "axes": axes,
        "spacing": None if spacing is None else numbers("--spacing", spacing, float, 3, form="FRAME,Y,X"),
        "level": level,
        "series": series,
    }


def _intensity(text: str) -> Any:
    """Two numbers, or a name, which must be one."""
    from stacksam.session.presets import read_preset

    if re.match(r"\s*(ct|mr)", text.lower()):
        return read_preset(text).name
    return numbers("--intensity", text, float, 2, form="LOW,HIGH, or a name such as ct-lung or mr")


def numbers(
    option: str, text: str, kind: type[Any], count: int | None = None, *, form: str
) -> tuple[Any, ...]:
    """Numbers with commas between them."""
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: give {form}") from None
    if count is not None and len(values) != count:
        raise InputError(f"{option} {text}: {len(values)} values; give {form}")
    return values


def reporter(silent: bool) -> Reporter:
    """How progress is shown."""
    from stacksam.console import quiet, terminal

    return quiet if silent else terminal


def tell(line: str) -> None:
    """Write a line to stderr, for people."""
    _write(sys.stderr, line)


def show(text: str) -> None:
    """Write results to stdout."""
    _write(sys.stdout, text)


def show_json(value: Any) -> None:
    """Write results to stdout as JSON, figures that are not there as null."""
    show(json.dumps(_plain(value), indent=2, allow_nan=False))


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:  # a terminal of another time: × and µ are not worth failing for
        stream.write((text + "\n").encode(stream.encoding, "replace").decode(stream.encoding))
    stream.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value

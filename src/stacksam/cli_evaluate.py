"""``stacksam evaluate``: labels against a reference, or a model on the project's own suite."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stacksam.cli_options import (
    AxesOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    QuietOption,
    numbers,
    option,
    reporter,
    show,
    show_json,
    tell,
)
from stacksam.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

    from stacksam.comparison_files import Planes
    from stacksam.comparison_result import Comparison
    from stacksam.io import LazyImage

__all__ = ["evaluate"]


class MatchBy(StrEnum):
    """Which object of the labels is which of the reference."""

    OVERLAP = "overlap"
    IDS = "ids"


class ChosenObjects(StrEnum):
    """Which objects of a stack of the suite, where not all are taken."""

    SPACED = "spaced"
    LARGEST = "largest"


class CountedFrames(StrEnum):
    """Frames that count for J and F of an object."""

    PRESENT = "present"
    DAVIS = "davis"


_C, _S = "Labels against a reference", "The suite"


def evaluate(  # noqa: PLR0913, PLR0917 - one argument an option
    ctx: typer.Context,
    labels: Annotated[
        str | None,
        typer.Argument(metavar="LABELS", help="Labels: a file, or a folder (CTC, OME-Zarr, images)."),
    ] = None,
    reference: Annotated[
        str | None, typer.Argument(metavar="REFERENCE", help="The truth, of the same shape.")
    ] = None,
    lineage: Annotated[
        Path | None, option("--lineage", about="Tracks of the labels: a CTC table, lines L B E P.", panel=_C)
    ] = None,
    reference_lineage: Annotated[
        Path | None, option("--reference-lineage", about="Tracks of the reference.", panel=_C)
    ] = None,
    match: Annotated[
        MatchBy, option("--match", about="Which object is which: by overlap, or equal ids.", panel=_C)
    ] = MatchBy.OVERLAP,
    objects: Annotated[
        str | None,
        option("--objects", about="Only these of the reference: 1,5,8", panel=_C, metavar="IDS"),
    ] = None,
    counted: Annotated[
        CountedFrames,
        option("--count", about="Frames of J and F: those that show the object, or DAVIS's.", panel=_C),
    ] = CountedFrames.PRESENT,
    ctc: Annotated[
        bool | None,
        option("--ctc/--no-ctc", about="SEG, DET, TRA, LNK. Default: if py-ctcmetrics is there.", panel=_C),
    ] = None,
    image: Annotated[
        Path | None, option("--image", about="The stack, to show behind the worst cases.", panel=_C)
    ] = None,
    axes: AxesOption = None,
    out: Annotated[
        Path | None,
        option("--out", "-o", about="Folder for table, JSON and a picture of the worst.", panel=_C),
    ] = None,
    overwrite: OverwriteOption = False,
    suite: Annotated[
        bool, option("--suite", about="Measure a model on stacks with known truth instead.", panel=_S)
    ] = False,
    data: Annotated[
        Path | None, option("--data", about="Folder of data sets. Default: $STACKSAM_EVALDATA", panel=_S)
    ] = None,
    sets: Annotated[
        list[str] | None, option("--set", about="Which sets; may be repeated. Default: all.", panel=_S)
    ] = None,
    prompts: Annotated[
        list[str] | None,
        option(
            "--prompt", about="click, box, mask, click+1, click+3; may be repeated. Default: all.", panel=_S
        ),
    ] = None,
    max_objects: Annotated[
        int, option("--max-objects", about="Most objects of a stack; 0: all.", panel=_S)
    ] = 20,
    choose: Annotated[
        ChosenObjects,
        option("--choose", about="Which objects, if not all: evenly spaced ids, or the largest.", panel=_S),
    ] = ChosenObjects.SPACED,
    baselines_only: Annotated[bool, option("--baselines-only", about="Run no model.", panel=_S)] = False,
    model: ModelOption = "nano",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure labels against a reference; with --suite, a model on stacks with known truth.

    Example: stacksam evaluate result.tif truth.tif --out report
    """
    _check_mode(ctx, suite)
    if suite:
        from stacksam.evalprompts import METHODS
        from stacksam.evaluate import run_evaluation
        from stacksam.evaluation_report import format_report, to_plain

        rows = run_evaluation(
            data=data,
            model=None if baselines_only else model,
            sets=sets or (),
            prompts=prompts or METHODS,
            max_objects=max_objects,
            choose=choose.value,
            progress=None if quiet else tell,
        )
        if as_json:
            show_json(to_plain(rows))
        else:
            show(format_report(rows, "plain"))
        return
    if labels is None or reference is None:
        raise InputError(
            "give two stacks of labels: stacksam evaluate LABELS REFERENCE; or --suite, for a model on the "
            "data sets of the project"
        )
    from stacksam.comparison import compare
    from stacksam.comparison_files import open_planes, read_lineage
    from stacksam.comparison_report import check_folder, check_image, format_comparison, to_json

    if image is not None and out is None:
        raise InputError("--image is given without --out; the picture goes to that folder")
    graphs: list[nx.DiGraph | None] = [read_lineage(p) if p else None for p in (lineage, reference_lineage)]
    computed, truth = open_planes(labels, axes), open_planes(reference, axes)
    chosen = None if objects is None else numbers("--objects", objects, int, form="ids: 1,5,8")
    behind = _opened(image, axes)
    if behind is not None:
        check_image(behind, computed)
    if out is not None:
        check_folder(out, overwrite=overwrite)
    with reporter(quiet)("comparing", None, "planes") as step:
        found = compare(
            computed,
            truth,
            match=match.value,
            counted=counted.value,
            lineage=graphs[0],
            reference_lineage=graphs[1],
            ctc=ctc,
            objects=chosen,
            progress=step.reach,
        )
    if out is not None:
        _write(out, found, computed, truth, behind, quiet)
    if as_json:
        show_json(to_json(found))
    elif not quiet:
        show(format_comparison(found))


# Options that mean nothing to the other of the two.
_OF_SUITE = {
    "data": "--data",
    "sets": "--set",
    "prompts": "--prompt",
    "max_objects": "--max-objects",
    "choose": "--choose",
    "baselines_only": "--baselines-only",
    "model": "--model",
}
_OF_COMPARISON = {
    "labels": "LABELS",
    "reference": "REFERENCE",
    "lineage": "--lineage",
    "reference_lineage": "--reference-lineage",
    "match": "--match",
    "objects": "--objects",
    "counted": "--count",
    "ctc": "--ctc",
    "image": "--image",
    "axes": "--axes",
    "out": "--out",
    "overwrite": "--overwrite",
}


def _check_mode(ctx: typer.Context, suite: bool) -> None:
    """An option of the other mode is a misunderstanding, not to be passed over."""
    for name, shown in (_OF_COMPARISON if suite else _OF_SUITE).items():
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(
                f"{shown} does not go with --suite, which reads its own data sets"
                if suite
                else f"{shown} is an option of the suite; add --suite"
            )


def _opened(image: Path | None, axes: str | None) -> LazyImage | None:
    from stacksam.io import open_image

    if image is None:
        return None
    opened = open_image(image)
    # Labels and image seldom tell the same of their axes; channels are the image's own.
    return open_image(image, axes=axes) if axes and len(axes) == len(opened.axes) else opened


def _write(
    out: Path, found: Comparison, computed: Planes, truth: Planes, behind: LazyImage | None, quiet: bool
) -> None:
    from stacksam.comparison_report import worst_cases, write_report

    paths = write_report(out, found, worst_cases(found, computed, truth, behind))
    if not quiet:
        for path in paths.values():
            tell(f"wrote {path}")

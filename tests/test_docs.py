"""What the documentation shows works: Python runs, command lines parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from stacksam import cli
from stacksam.assets import MODELS
from stacksam.cli_options import stack_arguments
from stacksam.io.formats import chosen_formats
from stacksam.outputs import Outputs
from stacksam.prompt_files import box_from_text, point_from_text

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "model" / "MODEL_CARD.md",
    ROOT / "sample_data" / "README.md",
]
RUNNABLE = ["README.md", "docs/python.md"]
ALWAYS = {"--help", "--index-url"}  # every command's, and pip's

# What the library below typer objects with; see `stacksam.cli_options`.
USAGE_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

_FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```", re.S | re.M)
_SPAN = re.compile(r"`([^`]+)`")


class Line(NamedTuple):
    """A command line of stacksam, and where it stands."""

    page: str
    text: str
    complete: bool  # in a block, to be copied; else in running text, where arguments may be left out


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _blocks(page: Path, language: str) -> list[str]:
    return [m["text"] for m in _FENCE.finditer(page.read_text("utf-8")) if m["language"].strip() == language]


def _spans(page: Path) -> list[str]:
    """Code in running text."""
    return [" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", page.read_text("utf-8")))]


def _command_lines() -> Iterator[Line]:
    for page in PAGES:
        for block in _blocks(page, "sh"):
            for part in re.split(r"\n|&&|\|\||[;|>]", block.replace("\\\n", " ")):
                if re.match(r"(\S*/)?stacksam\s", part.strip()):
                    yield Line(_name(page), part.strip(), complete=True)
        for span in _spans(page):
            if span.startswith("stacksam "):
                yield Line(_name(page), span, complete=False)


LINES = list({(line.text, line.complete): line for line in _command_lines()}.values())


def _parse(line: Line) -> Any:
    """Let typer take a command line apart, without running it; gives the innermost context."""
    command: Any = typer.main.get_command(cli.app)
    context: Any = None
    name, *arguments = shlex.split(line.text, comments=True)
    while True:
        context = command.make_context(name, arguments, parent=context)
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "resolve_command") or not rest:
            return context
        name, command, arguments = command.resolve_command(context, rest)


def _options(command: Any) -> set[str]:
    """Options of a command and of all commands below it."""
    found = {o for parameter in command.params for o in (*parameter.opts, *parameter.secondary_opts)}
    return found.union(*map(_options, getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.text)
def test_command_lines_parse(line):
    try:
        context = _parse(line)
    except typer.Exit:
        return  # help was asked for
    except USAGE_ERROR as error:
        if line.complete or type(error).__name__ != "MissingParameter":
            pytest.fail(f"{line.page}: {line.text}: {error.format_message()}")
        return
    given = context.params
    if context.info_name == "segment4d":
        four_d = ("point", "negative", "box")
        given = {name: value for name, value in given.items() if name not in four_d} | {
            name: [text.split(",", 1)[1] for text in given[name] or ()] for name in four_d
        }  # the time point comes first
    for text in given.get("point") or ():
        point_from_text(text)
    for text in given.get("negative") or ():
        point_from_text(text, positive=False)
    for text in given.get("box") or ():
        box_from_text(text)
    if context.info_name == "export":
        chosen_formats(given["formats"])
    else:
        Outputs.named(Path("out"), given.get("formats") or ())
    names = ("frame_axis", "at", "channels", "intensity", "axes", "spacing", "level", "series")
    if context.info_name in ("segment", "watch", "info"):
        stack_arguments(**{name: given[name] for name in names if name in given})
    models = [*(given.get("names") or ()), *([given["model"]] if given.get("model") else [])]
    models += [given["name"]] if context.info_name == "path" else []
    assert all(name in MODELS or Path(name).suffix for name in models)


def test_every_command_is_shown_somewhere():
    shown = {_parse(line).command_path for line in LINES if line.complete}
    names = ("segment", "segment4d", "watch", "demo", "replay", "export", "info", "evaluate", "models")
    commands = {f"stacksam {name}" for name in names}
    assert commands <= {path.replace(".venv/bin/", "") for path in shown}


def test_options_in_running_text_exist():
    known = _options(typer.main.get_command(cli.app)) | ALWAYS
    spans = [(_name(page), span) for page in PAGES for span in _spans(page)]
    named = {(page, word) for page, span in spans if not span.startswith("pip ") for word in span.split()}
    unknown = {(page, word) for page, word in named if re.fullmatch(r"--[a-z-]+", word) and word not in known}
    assert not unknown


@pytest.mark.parametrize("name", RUNNABLE)
def test_python_runs(name, tmp_path, monkeypatch, capsys):
    """The blocks of a page are one program, run where the README says: in the root of a clone."""
    blocks = _blocks(ROOT / name, "python runnable")
    assert blocks
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    monkeypatch.chdir(tmp_path)
    program = "\n".join(blocks)
    exec(compile(program, name, "exec"), {"__name__": "docs"})  # our own documentation
    assert capsys.readouterr().out


def test_scripts_that_are_named_exist():
    named = {
        (_name(page), script)
        for page in PAGES
        for text in [*_blocks(page, "sh"), *_spans(page)]
        for script in re.findall(r"\b(?:tests|model|sample_data|src)/[\w/]+\.py\b", text)
    }
    assert named
    assert not {(page, script) for page, script in named if not (ROOT / script).is_file()}


def test_python_that_is_only_shown_compiles():
    for page in PAGES:
        for block in _blocks(page, "python"):
            compile(block, _name(page), "exec")


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ +(.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    broken = []
    text = _SPAN.sub("", _FENCE.sub("", page.read_text("utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        there = found.exists() and found.is_relative_to(ROOT)
        if not there or (anchor and anchor not in _anchors(found)):
            broken.append(target)
    assert not broken


def test_every_page_is_reached_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    missing = {page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index}
    assert missing == {"index.md"}

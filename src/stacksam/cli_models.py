"""``stacksam models``: which models there are, which are here, and how to get the others."""

from __future__ import annotations

from typing import Annotated

import typer

from stacksam.cli_options import JsonOption, QuietOption, reporter, show, show_json
from stacksam.errors import ModelError

__all__ = ["models_app"]

models_app = typer.Typer(help="List, fetch and check the models.", rich_markup_mode="markdown")


@models_app.callback(invoke_without_command=True)
def _models(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        list_models()


@models_app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """Show all models, and which of them are on this machine."""
    from stacksam.assets import cache_dir, status_table

    rows = status_table()
    if as_json:
        show_json(
            [
                {
                    "name": r.model.name,
                    "status": r.status,
                    "path": str(r.path),
                    "size": r.model.size,
                    "url": r.model.url,
                }
                for r in rows
            ]
        )
        return
    for row in rows:
        size = f"{row.model.size / 1e6:.0f} MB" if row.model.size else ""
        show(f"{row.model.name:<18}{row.status:<11}{size:>8}")
    show(f"Fetched models are kept in {cache_dir() / 'models'}")


@models_app.command("fetch")
def fetch_models(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names from `stacksam models`.")],
    quiet: QuietOption = False,
) -> None:
    """Download models, check them, and print where they are."""
    from stacksam.assets import fetch, model_file

    for model in [model_file(name) for name in names]:
        with reporter(quiet)(f"fetching {model.name}", model.size, "B") as step:
            path = fetch(model.name, progress=step.reach)
        show(str(path))


@models_app.command("verify")
def verify_models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL...]", help="Default: all on this machine.")
    ] = None,
) -> None:
    """Read model files and compare them with the published ones."""
    from stacksam.assets import Status, cached_path, model_file, status_table, verify

    present = [row.model.name for row in status_table() if row.status != Status.MISSING]
    found = {model_file(name).name: verify(name) for name in names or present}
    for name, status in found.items():
        show(f"{name:<18}{status}")
    bad = [name for name, status in found.items() if status in (Status.MISSING, Status.DAMAGED)]
    if bad:
        raise ModelError(
            f"{', '.join(bad)}: not there or damaged; delete {cached_path(bad[0])} if it is there, and run "
            f"stacksam models fetch {bad[0]}"
        )


@models_app.command("path")
def model_path(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A name from `stacksam models`.")],
) -> None:
    """Print where a model is, or would be once fetched."""
    from stacksam.assets import cached_path

    show(str(cached_path(name)))

"""Imports go one way, and only the plugin knows of napari and Qt.

`network <- session <- tracks <- batch, cli, plugin`; `io` and `metrics` are leaves that never import torch.
Every import statement counts, also those inside functions and under ``TYPE_CHECKING``: an arrow is an arrow.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import stacksam

SOURCE = Path(__file__).resolve().parents[1] / "src" / "stacksam"

# Layer -> the layers it may import, besides itself, `errors` and `assets`, which all may.
ALLOWED = {
    "": {"network", "session", "tracks", "io", "metrics"},  # the package's own lazy names
    "errors": set(),
    "assets": set(),
    "io": set(),
    "metrics": set(),
    "network": set(),
    "session": {"network", "io"},
    "tracks": {"network", "session", "io", "metrics", "overview_tile"},
    "evaldata": {"io"},
    "evalprompts": {"evaldata", "session", "metrics"},
    "evaluation_result": set(),
    "evaluation_report": {"evaluation_result", "tables"},
    "evaluate": {"evaldata", "evalprompts", "network", "session", "tracks", "io", "metrics"}
    | {"evaluation_report", "evaluation_result"},
    "tables": set(),
    "comparison_files": {"io"},
    "comparison_result": {"metrics"},
    "comparison": {"comparison_files", "comparison_result", "io", "metrics"},
    "comparison_report": {
        "comparison_files",
        "comparison_result",
        "io",
        "overview",
        "overview_tile",
        "tables",
    },
    "console": set(),
    "dividing": set(),
    "dividing_volumes": {"dividing"},
    "overview": {"overview_tile"},
    "overview_tile": set(),
    "prompt_files": {"session", "io", "metrics"},
    "outputs": {"session", "io", "console", "overview"},
    "exports": {"io", "console"},
    "runs": {"session", "tracks", "console", "outputs"},
    "demo": {"session", "metrics", "console", "outputs", "prompt_files", "runs"},
    "batch": {"network", "session", "tracks", "io", "metrics", "evaluate"}
    | {"console", "outputs", "overview", "prompt_files", "runs"},
    "bench": {"session"},
    "cli_options": {"console", "session"},
    "cli_evaluate": {
        "cli_options",
        "comparison",
        "comparison_files",
        "comparison_report",
        "comparison_result",
        "evalprompts",
        "evaluate",
        "evaluation_report",
        "io",
    },
    "cli_four_d": {"cli_options", "console", "io", "prompt_files", "session", "tracks"},
    "cli_models": {"cli_options"},
    "cli": {"network", "session", "tracks", "io", "metrics", "evaluate", "batch"}
    | {
        "bench",
        "cli_evaluate",
        "cli_four_d",
        "cli_models",
        "cli_options",
        "console",
        "demo",
        "exports",
        "outputs",
        "overview",
        "prompt_files",
        "runs",
    },
    "plugin": {"network", "session", "tracks", "io", "metrics", "evaluate", "batch"}
    | {"comparison", "comparison_files"},
}
SHARED = {"errors", "assets"}

# Third-party packages that only some layers may import.
RESTRICTED = {
    "torch": {"network", "session", "tracks", "evaluate", "batch", "cli", "plugin"},
    "safetensors": {"network", "session"},
    "napari": {"plugin"},
    "qtpy": {"plugin"},
    "magicgui": {"plugin"},
    "PyQt5": set(),
    "PyQt6": set(),
    "PySide2": set(),
    "PySide6": set(),
    "ctc_metrics": {"metrics"},
    "typer": {"cli", "cli_evaluate", "cli_models", "cli_options"},
    "pooch": {"assets"},
    "requests": {"assets"},
    "transformers": set(),
}
# All that a leaf may import from outside the standard library.
LEAF_PACKAGES = {
    "metrics": {"numpy", "scipy", "skimage", "networkx", "ctc_metrics"},
    "errors": set(),
    "assets": {"pooch", "requests"},
}

DISTRIBUTIONS = {"skimage": "scikit-image", "PIL": "pillow", "ctc_metrics": "py-ctcmetrics", "nrrd": "pynrrd"}


def _layer(module: str) -> str:
    """`stacksam.session.canvas` -> `session`."""
    return module.split(".")[1] if "." in module else ""


def _imports(path: Path, package: str) -> Iterator[str]:
    """Full names of all modules that a file imports, relative ones resolved."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # `from stacksam import session` imports a module as much as `import stacksam.session` does.
            yield from (f"{module}.{alias.name}" if module == "stacksam" else module for alias in node.names)


def _modules() -> dict[str, set[str]]:
    """Every module of the package, and what it imports."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("stacksam", *path.relative_to(SOURCE).with_suffix("").parts)
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[module] = set(_imports(path, ".".join(parts[:-1])))
    return found


MODULES = _modules()


def test_every_module_belongs_to_a_layer():
    unknown = {module for module in MODULES if _layer(module) not in ALLOWED}
    assert not unknown, "say in ALLOWED what they may import"


def _reached(module: str) -> set[str]:
    """Layers that a module imports; names that the package exports lazily stand for their modules."""
    own = {name for name in MODULES[module] if name.split(".")[0] == "stacksam"} - {"stacksam.__version__"}
    homes = {f"stacksam.{name}": home for name, home in stacksam._HOMES.items()}
    return {_layer(homes.get(name, name)) for name in own}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    layer = _layer(module)
    assert _reached(module) - {layer} - SHARED <= ALLOWED[layer]


def test_shared_modules_import_nothing_but_errors():
    assert _reached("stacksam.errors") == set()
    assert _reached("stacksam.assets") == {"errors"}


@pytest.mark.parametrize("module", MODULES)
def test_third_party_packages_stay_in_their_layers(module):
    layer = _layer(module)
    packages = {name.split(".")[0] for name in MODULES[module]} - {"stacksam"} - set(sys.stdlib_module_names)

    assert {name for name in packages if layer not in RESTRICTED.get(name, ALLOWED)} == set()
    if layer in LEAF_PACKAGES:
        assert packages <= LEAF_PACKAGES[layer]


def test_every_third_party_import_is_declared(repo_root):
    project = tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=! ;]", requirement, maxsplit=1)[0].lower() for requirement in requirements}

    base = names(project["dependencies"])
    assert not base & {"napari", "qtpy", "magicgui", "pyqt6"}, "the core installs without Qt"
    for module, imported in MODULES.items():
        packages = {name.split(".")[0] for name in imported} - {"stacksam"} - set(sys.stdlib_module_names)
        declared = base | names(extras["io"])
        if _layer(module) == "io":
            declared |= names(extras["formats"]) | names(extras["medical"])
        if _layer(module) == "plugin":
            declared |= names(extras["plugin"])
        if _layer(module) in ("evaldata", "metrics"):
            declared |= names(extras["evaluate"])
        needed = {DISTRIBUTIONS.get(package, package).lower() for package in packages}
        assert needed <= declared, f"{module} needs packages that pyproject.toml does not declare"


def _loaded_by(statement: str) -> set[str]:
    """Top-level modules that are loaded after a statement ran in a fresh interpreter."""
    code = f"{statement}\nimport sys\nsys.stdout.write(' '.join(sys.modules))"
    environment = dict(os.environ, PYTHONPATH=str(SOURCE.parent))
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return {name.split(".")[0] for name in run.stdout.split()}


HEAVY = {"torch", "numpy", "scipy", "skimage", "zarr", "dask", "pooch", "requests", "typer"}
GRAPHICAL = {"napari", "qtpy", "magicgui", "PyQt5", "PyQt6", "PySide2", "PySide6", "vispy"}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import stacksam; dir(stacksam); stacksam.__version__", HEAVY | GRAPHICAL),
        ("import stacksam.assets, stacksam.errors; stacksam.StacksamError", HEAVY | GRAPHICAL),
        ("import stacksam.io", {"torch"} | GRAPHICAL),
        ("import stacksam.metrics", {"torch"} | GRAPHICAL),
        ("import stacksam.session", GRAPHICAL),
        ("from stacksam import *", GRAPHICAL),
    ],
)
def test_importing_loads_nothing_that_is_not_needed(statement, forbidden):
    assert not _loaded_by(statement) & forbidden


def test_public_names_resolve_and_are_listed():
    assert set(stacksam.__all__) <= set(dir(stacksam))
    assert set(stacksam._HOMES) == set(stacksam.__all__) - {"__version__"}
    for name in stacksam.__all__:
        getattr(stacksam, name)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = stacksam.no_such_name


def test_type_checkers_see_the_same_names_as_users():
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stacksam")
        for alias in node.names
    }
    assert typed == stacksam._HOMES

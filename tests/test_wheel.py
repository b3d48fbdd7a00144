"""What is built is what users get: the wheel alone, outside the repository, loads the embedded model."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Run isolated (-I -S: no PYTHONPATH, no current folder, no .pth files), the wheel's folder first, and this
# environment's packages only for what the wheel depends on.
LOAD = """
import json, sys
installed, dependencies = sys.argv[1:]
sys.path[:0] = [installed]
sys.path.append(dependencies)
import stacksam
from stacksam import assets
files = [stacksam.__file__, *assets.embedded_model(), *map(assets.sample, assets.SAMPLES)]
model = stacksam.load_model("nano", device="cpu")
sys.stdout.write(json.dumps({
    "version": stacksam.__version__,
    "files": [str(file) for file in files],
    "modules": [str(m.__file__) for n, m in sys.modules.items() if n.split(".")[0] == "stacksam"],
    "model": type(model).__name__,
}))
"""


def _run(*command: str | Path, cwd: Path) -> str:
    run = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> tuple[Path, Path]:
    """The wheel and the sdist; the wheel is built from the sdist, so that both are complete."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", folder, repo_root, cwd=folder)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def test_wheel_holds_the_package_and_single_files_of_data(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        metadata = next(
            wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")
        ).splitlines()

    data = {name for name in names if name.startswith(("stacksam/_model/", "stacksam/_samples/"))}
    assert data == {
        "stacksam/_model/MODEL_CARD.md",
        "stacksam/_model/nano.json",
        "stacksam/_model/nano.safetensors",
        "stacksam/_samples/timelapse.tif",
        "stacksam/_samples/timelapse_labels.tif",
        "stacksam/_samples/zstack.tif",
        "stacksam/_samples/zstack_labels.tif",
    }
    assert {"stacksam/__init__.py", "stacksam/py.typed"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"stacksam"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {"License-Expression: Apache-2.0", "Classifier: Framework :: napari"} <= set(metadata)


def test_sdist_holds_what_a_packager_needs(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.split("/", 1)[-1] for name in sdist.getnames()}

    assert {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "src/stacksam/__init__.py",
        "tests/constraints.txt",
        "tests/test_wheel.py",
        "model/nano.safetensors",
        "sample_data/timelapse.tif",
    } <= names
    assert not {name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pt"))}


def test_installed_wheel_loads_the_embedded_model(built, tmp_path, repo_root):
    installed = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    _run(*install, "--target", installed, built[0], cwd=tmp_path)

    found = json.loads(
        _run(sys.executable, "-I", "-S", "-c", LOAD, installed, sysconfig.get_path("purelib"), cwd=tmp_path)
    )
    paths = [Path(path) for path in found["files"] + found["modules"]]
    assert all(path.is_relative_to(installed) for path in paths)
    assert not any(path.is_relative_to(repo_root) for path in paths)
    assert found["version"] in built[0].name

"""How long it takes to begin: imports, loading the embedded model, the first mask.

Run it as ``python tests/benchmarks/bench_start.py``; it prints Markdown tables of medians, each from fresh
interpreters.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 5
STATEMENTS = [
    "pass",
    "import stacksam",
    "import stacksam.assets",
    "import stacksam.io",
    "import stacksam.session",
    "import stacksam.cli",
]
FIRST_MASK = """
import time
start = time.perf_counter()
import numpy as np
from stacksam import Point, Session, load_model, open_stack
imported = time.perf_counter()
model = load_model()
loaded = time.perf_counter()
y, x = np.mgrid[:512, :512]
frame = (200 + 800 * (np.hypot(y - 200, x - 300) < 25)).astype("uint16")
with Session(open_stack(np.stack([frame] * 3), axes="tyx"), model) as session:
    opened = time.perf_counter()
    session.add(Point(0, 1, (200.0, 300.0)))
    first = time.perf_counter()
    session.add(Point(0, 1, (200.0, 320.0)))
    second = time.perf_counter()
print(imported - start, loaded - imported, opened - loaded, first - opened, second - first)
"""
STAGES = [
    "import torch and stacksam",
    "load nano",
    "open a session",
    "first click to mask",
    "next click to mask",
]
SOURCE = Path(__file__).resolve().parents[2] / "src"


def seconds(statement: str) -> float | None:
    """Median time of a fresh interpreter that runs a statement; None if the statement fails."""
    environment = dict(os.environ, PYTHONPATH=str(SOURCE))
    times = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        run = subprocess.run(
            [sys.executable, "-c", statement], env=environment, check=False, capture_output=True
        )
        times.append(time.perf_counter() - started)
        if run.returncode:
            return None
    return statistics.median(times[1:])  # the first one warms the disk's cache


def stages() -> list[float]:
    """Medians of the stages up to the first masks, each run in a fresh interpreter."""
    environment = dict(os.environ, PYTHONPATH=str(SOURCE))
    runs = []
    for _ in range(RUNS + 1):
        command = [sys.executable, "-c", FIRST_MASK]
        run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        runs.append([float(word) for word in run.stdout.split()])
    return [statistics.median(values) for values in zip(*runs[1:], strict=True)]


def main() -> None:
    bare = seconds("pass")
    print(f"Median of {RUNS} runs, Python {sys.version.split()[0]}\n")
    print("| statement | total | beyond bare Python |")
    print("| --- | ---: | ---: |")
    for statement in STATEMENTS:
        took = seconds(statement)
        if took is None or bare is None:
            print(f"| `{statement}` | fails | |")
        else:
            print(f"| `{statement}` | {took * 1e3:.0f} ms | {(took - bare) * 1e3:.0f} ms |")

    print("\n512 x 512 frames, nano:\n\n| stage | took |\n| --- | ---: |")
    for name, took in zip(STAGES, stages(), strict=True):
        print(f"| {name} | {took * 1e3:.0f} ms |")


if __name__ == "__main__":
    main()

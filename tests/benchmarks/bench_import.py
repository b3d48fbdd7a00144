"""How long imports take, in fresh interpreters, beyond the start of Python itself.

Run it as ``python tests/benchmarks/bench_import.py``; it prints a Markdown table of medians.
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


if __name__ == "__main__":
    main()

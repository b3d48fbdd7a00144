"""The recipe of the embedded model learns, and goes on after it was killed.

A tiny run in a process of its own: some steps of a few frames each, of a network with fewer channels.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "model" / "train"
STEPS = 12
# The same parts as in the embedded model, with fewer channels.
PROGRAM = f"""
import sys
from dataclasses import replace
sys.path.insert(0, {str(FOLDER)!r})
import train
import trainer
from stacksam.network.config import ConvTrunkConfig
trunk = ConvTrunkConfig(widths=(16, 32, 48, 64), depths=(1, 1, 1, 1))
sizes = dict(width=64, memory_width=16, memory_layers=1, memory_hidden=128, decoder_hidden=128)
trainer.PRESETS = {{"nano": replace(trainer.PRESETS["nano"], trunk=trunk, **sizes)}}
"""
SECONDS = 600.0  # until something that was to happen counts as not happening

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="the recipe forks, which this system does not"),
]


@pytest.fixture(scope="module")
def parts(recipe: Callable[[str], ModuleType]) -> SimpleNamespace:
    exec(PROGRAM, {})
    return SimpleNamespace(**{name: recipe(name) for name in ("checks", "clips", "losses", "trainer")})


def start(run: Path, changed: dict[str, Any] | None = None, before: str = "") -> subprocess.Popen[str]:
    """Begin a run, or go on with one, after some lines of code.

    It leads a group of processes: its workers can be killed with it.
    """
    options = {
        "--steps": STEPS,
        "--frames": 8,
        "--pool": 16,
        "--checked": 4,
        "--workers": 1,
        "--processes": 1,
    }
    options |= {"--save-every": 1, "--rate": 1e-2, "--run": run, "--device": "cpu"}
    options |= changed or {}
    words = [str(word) for pair in options.items() for word in pair]
    command = [sys.executable, "-c", f"{PROGRAM}\n{before}\ntrain.main()", *words]
    paths = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str], *, workers: bool = True) -> None:
    """End a run as the system ends one that takes too much: without a word."""
    if workers:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    """Wait until a run has ended well; returns what it said."""
    try:
        _, said = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            kill(process)
    assert process.returncode == 0, said
    return said


def wait_for(condition, process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        if process is not None and process.poll() is not None:
            pytest.fail(f"the run ended by itself: {process.communicate()[1]}")
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def members(group: int) -> list[str]:
    """Processes of a group that still run."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,pid="], capture_output=True, text=True, check=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [pid for pgid, state, pid in rows if int(pgid) == group and not state.startswith("Z")]


def loss_of(parts: SimpleNamespace, weights: dict[str, torch.Tensor] | None) -> float:
    """Mean loss of weights, or of those that a run begins with, on clips that are always the same."""
    device = torch.device("cpu")
    net = parts.trainer.Trainer(parts.trainer.Plan(), device).net
    if weights is not None:
        net.load_state_dict({name: value.float() for name, value in weights.items()})
    pool = parts.clips.Pool(6, device)
    made = [parts.clips.render(parts.checks.CHECKED + 1000 + n) for n in range(6)]
    pool.add(np.stack([m[0] for m in made]), np.stack([m[1] for m in made]))
    losses = []
    with torch.no_grad():
        for seed, (kind, frames) in enumerate((("click", 1), ("box", 1), ("click", 4), ("mask", 4))):
            torch.manual_seed(seed)
            samples = parts.clips.draw(pool, 3, parts.clips.Look(frames), torch.Generator().manual_seed(seed))
            loss, _ = parts.losses.clip_loss(net, samples, kind, np.random.default_rng(seed))
            losses.append(float(loss))
    return float(np.mean(losses))


def test_a_run_that_was_killed_goes_on_and_learns(parts, tmp_path):
    run = tmp_path / "run"
    checkpoint = run / "last.pt"
    process = start(run)
    try:
        wait_for(checkpoint.exists, process)
    finally:
        kill(process)
    state = torch.load(checkpoint, weights_only=True)
    reached = state["step"]
    assert 0 < reached < STEPS
    before = json.loads((run / "checked.json").read_text())["before"]

    # As if it had been killed while it wrote: what was written before still stands.
    checkpoint.with_suffix(".part").write_bytes(b"half of a checkpoint")
    (run / "average.part").write_bytes(b"half of the weights")
    state["seconds"] += 5000  # tells a run that goes on from one that begins anew
    torch.save(state, checkpoint)

    finish(start(run))
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == STEPS
    assert state["seconds"] > 5000
    assert {path.name for path in run.iterdir()} >= {"average.safetensors", "checked.json", "log.jsonl"}
    assert not list(run.glob("*.part"))
    figures = json.loads((run / "checked.json").read_text())
    assert figures["before"] == before
    assert set(figures) == {"before", "last", "average"}

    untrained, after = loss_of(parts, None), loss_of(parts, state["net"])
    assert after < 0.9 * untrained


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="lists processes as Linux does")
def test_workers_of_a_killed_run_end(tmp_path):
    process = start(tmp_path / "run")
    try:
        wait_for((tmp_path / "run" / "last.pt").exists, process)
        kill(process, workers=False)
        wait_for(lambda: not members(process.pid))
    finally:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def test_processes_that_train_together_end_together(tmp_path):
    """By the clock of one of them: each has begun at its own time."""
    said = finish(
        start(tmp_path / "run", {"--processes": 2, "--frames": 16, "--steps": 10**6, "--seconds": 6})
    )
    assert "Traceback" not in said
    assert (tmp_path / "run" / "checked.json").exists()


FIRST_FAILS = """
import running
def broken(*arguments):
    raise ValueError("the checks are broken")
running.check = broken
"""
OTHER_FAILS = """
import running
class Broken(running.Workers):
    def __init__(self, seed, count):
        if seed[2] == 1:
            raise ValueError("no clips here")
        super().__init__(seed, count)
running.Workers = Broken
"""
OTHER_IS_KILLED = """
import os
import running
class Killed(running.Trainer):
    def train_step(self, pool):
        if self.peers.rank == 1:
            os._exit(7)
        return super().train_step(pool)
running.Trainer = Killed
"""


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (FIRST_FAILS, ["the checks are broken"]),
        (OTHER_FAILS, ["no clips here", "process 1 ended with exit code 1"]),  # the first still waits for it
        (OTHER_IS_KILLED, ["process 1 ended with exit code 7"]),
    ],
    ids=["first", "other", "killed"],
)
def test_a_process_that_fails_ends_the_others(tmp_path, before, words):
    process = start(tmp_path / "run", {"--processes": 2, "--frames": 16}, before)
    try:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 1, said
        for word in words:
            assert word in said
        wait_for(lambda: not members(process.pid))
    finally:
        if members(process.pid):
            kill(process)

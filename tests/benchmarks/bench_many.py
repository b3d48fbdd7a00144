"""A window with many objects on many frames: is it still pleasant to scroll, to choose and to look through?

``xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/bench_many.py
[--objects 300] [--frames 500] [--side 1024] [--steps 60] [--threads 2]``

Opens drifting discs in a real napari window, puts a result for every object on every frame into the session's
folder without a network, opens that session as a person would, and prints how long things take. A step
of scrolling ends when the window shows the frame. "CPU" is the main thread's own time, without waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import numpy as np
import psutil
from bench_gui import Desk, Pulse

RADIUS = 14.0
LOW, HIGH = 40, 200  # intensities
CORRECTED = (0.4, 0.8)  # of the stack: where objects have further prompts


class Discs:
    """Objects on a grid that drift together.

    Parameters
    ----------
    count, frames, side : int
    """

    def __init__(self, count: int, frames: int, side: int) -> None:
        self.count, self.frames, self.side = count, frames, side
        columns = int(np.ceil(np.sqrt(count)))
        pitch = (side - 4 * RADIUS) / columns
        self.home = (np.stack(np.divmod(np.arange(count), columns), 1) * pitch + 2 * RADIUS).astype(int)
        reach = np.arange(-int(RADIUS), int(RADIUS) + 1)
        self.mask = reach[:, None] ** 2 + reach**2 <= RADIUS**2

    def corner(self, i: int, frame: int) -> tuple[int, int]:
        """First row and column of an object's box."""
        away = round(RADIUS * np.sin(frame / 25))
        y, x = self.home[i] - int(RADIUS) + (away, away)
        return int(y), int(x)

    def labels(self, frame: int) -> np.ndarray:
        """Object ids (side, side), from 1."""
        picture = np.zeros((self.side, self.side), np.uint32)
        n = len(self.mask)
        for i in range(self.count):
            y, x = self.corner(i, frame)
            picture[y : y + n, x : x + n][self.mask] = i + 1
        return picture

    def stack(self, path: Path) -> np.ndarray:
        """Images (frames, side, side) in a file."""
        rng = np.random.default_rng(0)
        noise = rng.integers(0, LOW, (self.side, self.side), np.uint8)
        images = np.memmap(path, np.uint8, "w+", shape=(self.frames, self.side, self.side))
        for t in range(self.frames):
            images[t] = np.roll(noise, 37 * t, axis=t % 2) + (self.labels(t) > 0) * np.uint8(HIGH)
        return images


def make_session(folder: Path, desk: Desk) -> None:
    """Make the folder of a session of the image that is chosen in the dock; it has no objects."""
    from stacksam.plugin.stacks import opener_of
    from stacksam.session.models import load_model
    from stacksam.session.session import Session

    image = desk.dock.image_part
    Session(opener_of(image.layer(), image.choice())(), load_model(), folder).close()


def write_results(folder: Path, discs: Discs) -> None:
    """Put a result of every object on every frame into the folder of a session that is closed."""
    from stacksam.io.labels import open_label_store, store_frame
    from stacksam.session.actions import Group, Said
    from stacksam.session.canvas import View
    from stacksam.session.prompts import Point
    from stacksam.session.records import COLUMNS, Record, to_row

    labels = open_label_store(folder / "labels.ome.zarr")
    for t in range(discs.frames):
        store_frame(labels, t, discs.labels(t))
    rng = np.random.default_rng(0)
    logits = np.where(discs.mask, 6.0, -6.0).astype(np.float16)
    pointer = rng.normal(size=128).astype(np.float32)
    height, width = discs.mask.shape
    prompted = sorted({0, *(int(share * discs.frames) for share in CORRECTED)})

    def rows() -> Any:
        for i in range(discs.count):
            for t in range(discs.frames):
                y, x = discs.corner(i, t)
                view = View(y - height, x - width, 3 * height, 3 * width, 256)
                record = Record(
                    i + 1, t, view, logits, pointer, float(rng.normal(4, 2)), float(rng.uniform(0.5, 1)),
                    (y, x, y + height, x + width), discs.mask, prompted=t in prompted,
                    step=0 if t in prompted else 1, sources=() if t in prompted else (max(t - 1, 0),),
                )  # fmt: skip
                yield to_row(record)

    with sqlite3.connect(folder / "results.sqlite") as database:
        database.executemany(f"INSERT INTO records VALUES ({', '.join('?' * len(COLUMNS))})", rows())
        for i in range(discs.count):
            for t in prompted:
                middle = tuple(float(c + RADIUS) for c in discs.corner(i, t))
                said = Said((Group((Point(t, i + 1, middle),)),))
                value = json.dumps(said.to_json())
                database.execute("INSERT INTO state VALUES (?, ?)", (f"prompts:{i + 1}:{t}", value))
    database.close()


class Clock:
    """Wall and main-thread CPU milliseconds of what is done over and over."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def time(self, act: Callable[[], None]) -> None:
        """Do it, and write down how long it took."""
        wall, cpu = time.perf_counter(), time.thread_time()
        act()
        self.wall.append((time.perf_counter() - wall) * 1000)
        self.cpu.append((time.thread_time() - cpu) * 1000)

    def row(self, name: str, rate: bool = False) -> str:
        """A line of the table."""
        middle, high, cpu = np.median(self.wall), np.percentile(self.wall, 95), np.median(self.cpu)
        per_second = f"{len(self.wall) / sum(self.wall) * 1000:.1f}" if rate else ""
        return (
            f"| {name} | {len(self.wall)} | {middle:.0f} | {high:.0f} | {max(self.wall):.0f} | {cpu:.0f} "
            f"| {per_second} |"
        )


class Bench:
    """What is measured in one window.

    Parameters
    ----------
    desk : Desk
    steps : int
        How often each thing is done.
    """

    def __init__(self, desk: Desk, steps: int) -> None:
        from qtpy.QtCore import QEventLoop

        self.desk, self.steps = desk, steps
        self.dock = desk.dock
        self._loop = QEventLoop()
        desk.canvas.frameSwapped.connect(self._loop.quit)
        self.lines: list[str] = []

    def shown(self) -> None:
        """Turn the event loop until the window has shown something."""
        self.desk.canvas.update()
        self._loop.exec()

    def measure(self, name: str, act: Callable[[int], None], count: int = 0, *, rate: bool = False) -> None:
        """Do something and see it, several times."""
        clock = Clock()
        for i in range(count or self.steps):
            clock.time(lambda i=i: (act(i), self.shown()))
            self.desk.pulse.wait(0.0)
        self.told(clock.row(name, rate))

    def told(self, line: str) -> None:
        """Keep a line of the table."""
        self.lines.append(line)
        print(line, file=sys.stderr, flush=True)

    def run(self, frames: int) -> None:
        """Measure all."""
        dims, dock, controller = self.desk.viewer.dims, self.dock, self.dock.controller
        rng = np.random.default_rng(1)
        anywhere = rng.permutation(frames)
        ids = controller.state.object_ids
        self.measure("next frame", lambda i: dims.set_current_step(0, i + 1), rate=True)
        self.measure("any frame", lambda i: dims.set_current_step(0, int(anywhere[i % frames])), rate=True)
        self.measure("another object", lambda i: controller.set_current(ids[(i * 7) % len(ids)]), 20)
        bar = dock.review_part.strip.findChildren(type(dock.review_part.strip.canvas._bar))[0]
        self.measure("strips, scrolled", lambda i: bar.setValue(i * bar.maximum() // self.steps), rate=True)
        table = dock.objects_part.findChildren(_table_type())[0].verticalScrollBar()
        self.measure(
            "table, scrolled", lambda i: table.setValue(i * table.maximum() // self.steps), rate=True
        )
        state = controller.state
        self.measure("the same state", lambda _: controller.state_changed.emit(state), 10)
        for name, part in (
            ("of which table", lambda: dock.objects_part.set_state(state)),
            ("of which strips", lambda: dock.review_part.set_state(state, controller.changed)),
            ("of which prompts", lambda: dock.layers.show_prompts(controller.prompts)),
        ):
            clock = Clock()
            for _ in range(10):
                clock.time(part)
            self.told(clock.row(name))

    def snapshots(self) -> None:
        """How long the engine's thread needs for a snapshot of the state; nothing else runs."""
        from stacksam.plugin.state import Snapshots

        controller = self.dock.controller
        session, taker = controller.session, Snapshots()
        taker.take(session)
        ids = session.object_ids
        for name, touched in (("all", None), ("one object", ids[:1]), ("many objects", ids)):
            clock = Clock()
            for _ in range(5):
                clock.time(lambda touched=touched: taker.take(session, touched) and None)
            self.told(clock.row(f"snapshot, {name} touched"))


def _table_type() -> Any:
    from stacksam.plugin.objects_table import ObjectsTable

    return ObjectsTable


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, help="of torch; by default as the plugin sets them")
    args = parser.parse_args()
    process = psutil.Process()

    def resident() -> float:
        return process.memory_info().rss / 2**20

    with tempfile.TemporaryDirectory() as folder:
        os.environ["STACKSAM_HOME"] = str(Path(folder) / "home")
        import torch

        if args.threads:
            torch.set_num_threads(args.threads)
        from qtpy.QtWidgets import QApplication

        application = QApplication.instance() or QApplication([])
        discs = Discs(args.objects, args.frames, args.side)
        own = Path(folder) / "session"
        about = {"name": "discs", "axis_labels": ("t", "y", "x"), "metadata": {"stacksam": {"folder": own}}}
        pulse = Pulse()
        desk = Desk(pulse, [(discs.stack(Path(folder) / "stack.raw"), about)], "nano")
        controller = desk.dock.controller
        begun = time.perf_counter()
        make_session(own, desk)
        write_results(own, discs)
        size = sum(f.stat().st_size for f in own.rglob("*") if f.is_file()) / 2**20
        seconds = time.perf_counter() - begun
        print(f"written in {seconds:.0f} s, {size:.0f} MB on disk", file=sys.stderr, flush=True)
        memory = [("before Start", resident())]
        pulse.mark()
        begun = time.perf_counter()
        desk.open()
        desk.wait_for(lambda: len(controller.state.objects) == args.objects)
        pulse.wait(0.0)
        opened, gaps = time.perf_counter() - begun, pulse.gaps()
        pulse.wait(1.0)
        memory.append(("session opened", resident()))
        for section in desk.dock.sections:
            section.set_folded(section.content not in (desk.dock.objects_part, desk.dock.review_part))
        pulse.wait(1.0)
        bench = Bench(desk, args.steps)
        bench.run(args.frames)
        memory.append(("after all that", resident()))
        bench.snapshots()
        desk.close()
        print(f"{args.objects} objects on {args.frames} frames of {args.side} x {args.side}\n")
        print(f"Opened in {opened:.1f} s, longest gap {gaps.max():.0f} ms.\n")
        print("| what | times | median ms | p95 ms | max ms | CPU ms | per second |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        print("\n".join(bench.lines))
        print("\n| resident memory | MB |\n| --- | ---: |")
        print("\n".join(f"| {name} | {value:.0f} |" for name, value in memory))
        application.quit()


if __name__ == "__main__":
    main()

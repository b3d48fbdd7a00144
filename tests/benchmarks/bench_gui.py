"""Whether the window ever freezes: gaps between turns of the Qt event loop, and time from click to mask.

``xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/bench_gui.py
[--case sample nano tiny] [--frames 120] [--objects 5] [--clicks 12] [--seconds 15] [--threads 2]``

Opens a real napari window with the dock, and sits at its mouse and keyboard by real Qt events. Cases:

``sample``  the shipped time-lapse, with the embedded model
``nano``    drifting discs on 1024 x 1024 frames, with the embedded model
``tiny``    the same frames, with SAM 2.1 of the tiny size and random weights, read from a file

A timer of 5 ms writes down when it is called. A gap is what lies between two calls, 5 ms where nothing is in
the way. Besides percentiles of the gaps, there is the share of the time that lies in gaps above 50 ms: it
tells of freezes that the percentiles, in which short gaps are many, do not show. Where the main thread itself
is busy for most of the time, the gaps are its own work (on a virtual display much of it is drawing, in
software: see the rows before Start, in which there is nothing but napari); else it waits for others.

While objects are followed, the user scrolls to another frame twenty times a second. A click counts from the
release of the mouse to the first frame buffer that is shown after the labels layer has its new slice. For a
click on a new object ``nano`` looks at windows of several sizes, which have to be encoded; for another one on
the same object its window is there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))

import numpy as np

SIDE = 1024
WINDOW = (1300, 850)
HEARTBEAT_MS = 5
SCROLL_MS = 50
IDLE_SECONDS = 3.0
PATIENCE = 300.0  # seconds that one thing may take
TINY_KEYS = "sam2.1_hiera_tiny.keys.json"


class Pulse:
    """A timer that tells how regularly the event loop turns, and lets one wait in that loop."""

    def __init__(self) -> None:
        from qtpy.QtCore import QEventLoop, Qt, QTimer

        self._loop_of = QEventLoop
        self._times: list[float] = []
        self._cpu = 0.0
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(HEARTBEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._loop: Any = None
        self._condition: Callable[[], bool] = lambda: True
        self._timer.start()

    def _beat(self) -> None:
        self._times.append(time.perf_counter())
        if self._loop is not None and self._condition():
            self._loop.quit()

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Turn the event loop until something holds; whether it did in time."""
        end = time.perf_counter() + seconds
        self._condition = lambda: condition() or time.perf_counter() > end
        self._loop = self._loop_of()
        self._loop.exec()
        self._loop = None
        return condition()

    def wait(self, seconds: float) -> None:
        """Turn the event loop for a while."""
        self.until(lambda: False, seconds)

    def mark(self) -> None:
        """Forget the gaps until now."""
        self._times = [time.perf_counter()]
        self._cpu = time.thread_time()

    def gaps(self) -> np.ndarray:
        """Milliseconds between turns since the last mark."""
        return np.diff(np.array([*self._times, time.perf_counter()])) * 1000

    def cpu(self) -> float:
        """Seconds of CPU that the main thread has used since the last mark."""
        return time.thread_time() - self._cpu


class Desk:
    """A napari window with the dock, and a hand at its mouse.

    Parameters
    ----------
    pulse : Pulse
    layers : list of layer data tuples
    model : str
        Registry name or path.
    """

    def __init__(self, pulse: Pulse, layers: list[tuple[Any, ...]], model: str) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        from stacksam.plugin.widget import StacksamWidget

        self.pulse = pulse
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*WINDOW)
        for data, kwargs, *_ in layers:
            self.viewer.add_image(data, **kwargs)
        self.dock = StacksamWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="stacksam")
        self.top = self.dock.window()
        self.canvas = next(
            w for w in QApplication.allWidgets() if hasattr(w, "frameSwapped") and w.window() is self.top
        )
        self.dock.model_part.choose(model)
        self.errors: list[str] = []
        self.dock.controller.failed.connect(lambda title, error: self.errors.append(f"{title}: {error}"))
        self.swapped = 0.0  # when a frame buffer was last shown
        self.refreshed = 0.0  # when the labels layer last had a new slice
        self.canvas.frameSwapped.connect(self._swap)
        pulse.wait(0.5)
        self.viewer.reset_view()  # the dock has taken some room
        pulse.wait(0.2)

    def _swap(self) -> None:
        self.swapped = time.perf_counter()

    def _refresh(self, _event: Any = None) -> None:
        self.refreshed = time.perf_counter()

    def open(self) -> None:
        """Press Start, and wait for the session."""
        self.press(self.dock.image_part.start)
        self.wait_for(lambda: self.dock.layers is not None)
        self.dock.layers.result.events.set_data.connect(self._refresh)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait, or end with what went wrong."""
        if not self.pulse.until(lambda: bool(condition() or self.errors)) or self.errors:
            raise SystemExit(f"it did not happen: {self.errors or 'out of patience'}")

    def press(self, button: Any) -> None:
        """Click on a button of the dock."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def at(self, frame: int, y: float, x: float) -> Any:
        """Where a pixel of the image is in the window; the camera looks straight at it."""
        from qtpy.QtCore import QPoint

        camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera
        world = np.array(self.viewer.layers[0].data_to_world((frame, y, x))[-2:])
        down, right = (world - np.array(camera.center[-2:])) * camera.zoom
        place = QPoint(round(self.canvas.width() / 2 + right), round(self.canvas.height() / 2 + down))
        return self.canvas.mapTo(self.top, place)

    def click(self, frame: int, y: float, x: float) -> float:
        """Click on a pixel; milliseconds from the release of the mouse until its mask is seen."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        place, handle = self.at(frame, y, x), self.top.windowHandle()
        plain, left = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
        QTest.mouseMove(handle, place)
        self.pulse.wait(0.1)
        before = len(self.dock.controller.state.prompts)
        QTest.mousePress(handle, left, plain, place)
        QTest.mouseRelease(handle, left, plain, place)
        released = time.perf_counter()
        # Nothing else refreshes the labels meanwhile.
        self.wait_for(lambda: self.refreshed > released and self.swapped > self.refreshed)
        shown = self.swapped
        self.wait_for(lambda: len(self.dock.controller.state.prompts) == before + 1)
        return (shown - released) * 1000

    def scroll(self, frames: int) -> Any:
        """A timer that goes back and forth through the stack."""
        from qtpy.QtCore import QTimer

        place, step = [0], [1]

        def move() -> None:
            if not 0 <= place[0] + step[0] < frames:
                step[0] = -step[0]
            place[0] += step[0]
            self.viewer.dims.set_current_step(0, place[0])

        timer = QTimer()
        timer.setInterval(SCROLL_MS)
        timer.timeout.connect(move)
        timer.start()
        return timer

    def close(self) -> None:
        """Close the window, as a person would."""
        self.dock.controller.cancel()
        self.viewer.close()
        self.pulse.wait(0.2)


def discs(frames: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A stack (frames, 1024, 1024) of slowly drifting discs, and their places (count, 2) at first."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(count)))
    grid = (np.stack(np.divmod(np.arange(count), side), 1) + 0.5) * SIDE / side
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    noise = rng.normal(300, 30, (SIDE, SIDE)).astype(np.float32)
    stack = np.empty((frames, SIDE, SIDE), np.uint16)
    for t in range(frames):
        picture = np.roll(noise, 37 * t, axis=(t % 2))
        for cy, cx in np.add(grid, (t, 0.7 * t)):
            near = (slice(max(int(cy) - 40, 0), int(cy) + 40), slice(max(int(cx) - 40, 0), int(cx) + 40))
            away = np.hypot(y[near] - cy, x[near] - cx)
            picture[near] += 800 / (1 + np.exp(away - 20))
        stack[t] = picture
    return stack, grid


def tiny_model(folder: Path) -> Path:
    """A file of random weights of SAM 2.1 tiny, under which objects are seen."""
    import golden_model
    import torch
    from safetensors.torch import save_file

    keys = json.loads((golden_model.FOLDER / TINY_KEYS).read_text())
    weights = {k: torch.from_numpy(golden_model.inputs.weight(k, tuple(s))) for k, s in keys.items()}
    path = folder / "sam2.1_tiny_random.safetensors"
    save_file(weights, path)
    return path


def sample() -> tuple[list[tuple[Any, ...]], np.ndarray]:
    """The shipped time-lapse and places in the middle of its objects on the first frame."""
    from scipy import ndimage

    from stacksam import assets
    from stacksam.io import read_labels
    from stacksam.plugin.contributions import sample_timelapse

    labels = np.asarray(read_labels(assets.sample("timelapse_labels")).data[0])
    ids = np.unique(labels)[1:]
    return sample_timelapse(), np.array(ndimage.center_of_mass(labels > 0, labels, ids))


def row(name: str, doing: str, pulse: Pulse) -> str:
    """One line of the table of gaps."""
    gaps, cpu = pulse.gaps(), pulse.cpu()
    middle, high = np.percentile(gaps, (50, 95))
    frozen = gaps[gaps > 50].sum() / gaps.sum()
    return (
        f"| {name} | {doing} | {gaps.sum() / 1000:.1f} | {middle:.1f} | {high:.1f} | {gaps.max():.0f} "
        f"| {frozen:.0%} | {cpu / gaps.sum() * 1000:.0%} |"
    )


def run_case(name: str, args: argparse.Namespace, pulse: Pulse, model: str) -> tuple[list[str], list[str]]:
    """Rows of the table of gaps, and of the table of clicks."""
    if name == "sample":
        layers, places = sample()
    else:
        data, places = discs(args.frames, max(args.objects, args.clicks + 1))
        layers = [(data, {"name": "discs", "axis_labels": ("t", "y", "x")})]
    rows = []

    def told(doing: str) -> None:
        rows.append(row(name, doing, pulse))
        print(rows[-1], file=sys.stderr, flush=True)

    def watch(doing: str, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        pulse.mark()
        pulse.until(until, seconds)
        told(doing)

    desk = Desk(pulse, layers, model)
    controller = desk.dock.controller
    frames = len(layers[0][0])
    watch("idle, before Start", IDLE_SECONDS)
    scrolling = desk.scroll(frames)
    watch("scrolling, before Start", IDLE_SECONDS)
    scrolling.stop()
    pulse.mark()
    desk.open()
    told("opening stack and model")
    desk.viewer.dims.set_current_step(0, 0)
    pulse.mark()
    first = desk.click(0, *places[0])
    told("first click")
    pulse.wait(1.0)
    times, again = [], []
    pulse.mark()
    for y, x in places[1 : args.clicks + 1]:
        desk.dock.commands.new_object()
        times.append(desk.click(0, y, x))
        again.append(desk.click(0, y + 3, x - 3))
    told(f"{2 * len(times)} more clicks")
    pulse.wait(1.0)
    watch("idle", IDLE_SECONDS)
    objects = controller.state.object_ids[: args.objects]
    controller.follow("forward", objects=objects)
    watch(f"following {len(objects)}, looking on", args.seconds / 2, lambda: not controller.following)
    scrolling.start()
    watch(f"following {len(objects)}, scrolling", args.seconds, lambda: not controller.following)
    begun = time.perf_counter()
    stopped = controller.following
    controller.cancel()
    desk.wait_for(lambda: not controller.following)
    ended = f"{(time.perf_counter() - begun) * 1000:.0f}" if stopped else "–"
    done = sum(r.n_frames - len(r.prompted) for r in controller.state.objects)
    watch("scrolling", IDLE_SECONDS)
    scrolling.stop()
    desk.close()
    clicks = [f"| {name} | the first | {first:.0f} | {first:.0f} | {first:.0f} | 1 |"]
    for kind, taken in (("a new object", times), ("again on that object", again)):
        middle, high = np.percentile(taken, (50, 95))
        clicks.append(f"| {name} | {kind} | {middle:.0f} | {high:.0f} | {max(taken):.0f} | {len(taken)} |")
    clicks.append(f"| {name} | Stop, after {done} masks | {ended} | | | 1 |")
    return rows, clicks


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", nargs="+", default=["sample", "nano", "tiny"])
    parser.add_argument("--model", help="registry name or path, in place of the cases' own")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--clicks", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=15, help="after which a pass is cancelled")
    parser.add_argument("--threads", type=int, help="of torch; by default as the plugin sets them")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STACKSAM_HOME"] = str(Path(folder) / "home")
        import torch

        if args.threads:
            torch.set_num_threads(args.threads)
        from qtpy import API_NAME
        from qtpy.QtWidgets import QApplication

        from stacksam import __version__

        application = QApplication.instance() or QApplication([])
        pulse = Pulse()
        gaps, clicks = [], []
        for name in args.case:
            model = args.model or (str(tiny_model(Path(folder))) if name == "tiny" else "nano")
            rows, lines = run_case(name, args, pulse, model)
            gaps += rows
            clicks += lines
        print(
            f"stacksam {__version__}, {API_NAME}, torch {torch.__version__} with {torch.get_num_threads()} "
            f"threads, {len(os.sched_getaffinity(0))} CPUs"
        )
        print("\nGaps between turns of the event loop, in ms:\n")
        print("| case | while | seconds | median | p95 | max | in gaps > 50 ms | main thread's CPU |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        print("\n".join(gaps))
        print("\nFrom the release of the mouse to the painted mask, and from Stop to the end, in ms:\n")
        print("| case | click | median | p95 | max | clicks |")
        print("| --- | --- | ---: | ---: | ---: | ---: |")
        print("\n".join(clicks))
        application.quit()


if __name__ == "__main__":
    main()

"""Make the small stacks that come with stacksam: a time-lapse and a z-stack, each with its labels.

    python sample_data/make_samples.py [folder]

Everything is computed from the seeds below; nothing is taken from a microscope. The code is not that of the
training stacks (`model/train/synth`), so the embedded model has not seen these images.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]

SIZE = 256
N_FRAMES = 24
TIMELAPSE_SEED = 9_200_417
ZSTACK_SEED = 9_300_533
TIMELAPSE_PIXEL_UM = 0.4
TIMELAPSE_INTERVAL_S = 300.0
ZSTACK_SPACING_UM = (2.0, 0.5, 0.5)
DIVIDES = 1  # id of the cell that divides
ANAPHASE = 13  # first frame of its daughters


@dataclass(frozen=True, slots=True)
class Sample:
    """Images and labels, both uint16 (frames, 256, 256)."""

    images: Array
    labels: Array


@dataclass(slots=True)
class _Cell:
    """A nucleus at one time; lengths in pixels."""

    label: int
    centre: Array
    velocity: Array
    radius: float
    aspect: float
    angle: float
    gain: float
    outline: Array  # complex Fourier coefficients from order 2
    texture: tuple[int, int]


# ------------------------------------------------------------------------------------------- time-lapse


def make_timelapse(frames: Iterable[int] = range(N_FRAMES)) -> Sample:
    """Nuclei that crawl, touch and deform; one divides, one leaves the view and returns, all of them bleach.

    Parameters
    ----------
    frames : iterable of int
        The frames to be made; a frame is the same whichever others are made with it.
    """
    wanted = list(frames)
    rng = np.random.default_rng(TIMELAPSE_SEED)
    pools = [_texture(rng, 3.0), _texture(rng, 3.0)]
    history = _crawl(rng)
    light = 1 - 0.25 * (np.hypot(*(np.indices((SIZE, SIZE)) - 110.0)) / 200.0) ** 2
    images, labels = [], []
    for f in wanted:
        mix = np.cos(0.06 * f) * pools[0] + np.sin(0.06 * f) * pools[1]
        signal, label = _draw_nuclei(history[f], mix)
        haze = ndimage.gaussian_filter(signal, 14.0)
        signal = ndimage.gaussian_filter(signal, 1.1) + 0.25 * haze + 22.0
        images.append(_camera(signal * light * np.exp(-0.02 * f), TIMELAPSE_SEED, f))
        labels.append(label)
    return Sample(np.stack(images), np.stack(labels))


def _crawl(rng: np.random.Generator) -> list[list[_Cell]]:
    """Cells of every frame."""
    # Placed by hand, so that some touch, the first has room to divide and the last one crosses the border.
    places = [
        (128, 120),
        (58, 60),
        (84, 92),
        (196, 66),
        (206, 110),
        (60, 176),
        (94, 206),
        (196, 196),
        (150, 218),
        (226, 20),
    ]
    radii = [20, 19, 16, 23, 15, 24, 17, 21, 14, 17]
    cells = [
        _Cell(
            label=k + 1,
            centre=np.array(place, float),
            velocity=rng.normal(0, 1.2, 2),
            radius=float(radius),
            aspect=float(rng.uniform(1.05, 1.5)),
            angle=float(rng.uniform(0, np.pi)),
            gain=float(rng.uniform(210, 480)),
            outline=0.08 * rng.normal(0, 1, 4) / np.arange(1, 5) * np.exp(2j * np.pi * rng.random(4)),
            texture=(int(rng.integers(0, 128)), int(rng.integers(0, 128))),
        )
        for k, (place, radius) in enumerate(zip(places, radii, strict=True))
    ]
    history = []
    for f in range(N_FRAMES):
        if f == ANAPHASE:
            cells = _split(cells)
        history.append([_mitotic(cell, f) for cell in cells])
        cells = [_step(rng, cell, f) for cell in cells]
        _separate(cells)
    return history


def _step(rng: np.random.Generator, cell: _Cell, f: int) -> _Cell:
    velocity = 0.8 * cell.velocity + 0.75 * rng.normal(0, 1, 2)
    if cell.label == 10:  # leaves at the lower left and returns
        velocity = np.array([1.6, -4.6]) if f < 9 else np.array([-1.8, 4.8])
    elif cell.label != DIVIDES:
        velocity += 0.006 * (SIZE / 2 - cell.centre)
    else:
        velocity *= 0.5
    centre = cell.centre + velocity
    phase = np.exp(1j * 0.16 * rng.normal(0, 1, 4))
    radius = cell.radius
    if cell.label > 10:  # daughters spread again
        radius += 0.09 * (15.5 - radius)
    aspect = 1 + (cell.aspect - 1) * (0.85 if cell.label > 10 else np.exp(0.05 * rng.normal()))
    return _Cell(
        cell.label,
        centre,
        velocity,
        radius,
        float(np.clip(aspect, 1.02, 1.8)),
        cell.angle + 0.06 * rng.normal(),
        cell.gain,
        cell.outline * phase,
        cell.texture,
    )


def _mitotic(cell: _Cell, f: int) -> _Cell:
    """The looks of the dividing cell: it rounds up and brightens, then is a plate."""
    if cell.label > 10:
        fresh = max(0.0, 1 - (f - ANAPHASE) / 5)
        gain = cell.gain * (1 + 0.8 * fresh)
        return _Cell(
            cell.label,
            cell.centre.copy(),
            cell.velocity,
            cell.radius,
            cell.aspect + 0.9 * fresh,
            cell.angle,
            gain,
            cell.outline,
            cell.texture,
        )
    ahead = ANAPHASE - f
    if cell.label != DIVIDES or not 1 <= ahead <= 5:
        return _Cell(
            cell.label,
            cell.centre.copy(),
            cell.velocity,
            cell.radius,
            cell.aspect,
            cell.angle,
            cell.gain,
            cell.outline,
            cell.texture,
        )
    done = (6 - ahead) / 5
    plate = 2.4 if ahead <= 2 else 1.1
    return _Cell(
        cell.label,
        cell.centre.copy(),
        cell.velocity,
        cell.radius * (1 - 0.3 * done),
        plate,
        cell.angle,
        cell.gain * (1 + 0.9 * done),
        cell.outline * (1 - 0.6 * done),
        cell.texture,
    )


def _split(cells: list[_Cell]) -> list[_Cell]:
    """Replace the parent by two daughters beside the plate."""
    parent = next(cell for cell in cells if cell.label == DIVIDES)
    across = np.array([np.cos(parent.angle), -np.sin(parent.angle)])
    daughters = [
        _Cell(
            11 + k,
            parent.centre + side * 10.5 * across,
            side * 2.6 * across,
            10.5,
            1.3,
            parent.angle,
            parent.gain,
            parent.outline * 0.6,
            parent.texture,
        )
        for k, side in enumerate((-1.0, 1.0))
    ]
    return [cell for cell in cells if cell.label != DIVIDES] + daughters


def _separate(cells: list[_Cell]) -> None:
    """Push overlapping cells apart until they only touch."""
    for _ in range(6):
        for i, a in enumerate(cells):
            for b in cells[i + 1 :]:
                away = a.centre - b.centre
                distance = float(np.hypot(*away)) + 1e-9
                lap = 0.97 * (a.radius + b.radius) - distance
                if lap > 0:
                    a.centre += 0.5 * lap * away / distance
                    b.centre -= 0.5 * lap * away / distance


def _draw_nuclei(cells: list[_Cell], pool: Array) -> tuple[Array, Array]:
    """Light and labels of one frame; where two cells meet, the pixel is of the one it lies deeper in."""
    signal, label = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE), np.uint16)
    deepest = np.zeros((SIZE, SIZE))
    for cell in cells:
        reach = cell.radius * cell.aspect * 1.3 + 3
        low = np.maximum(np.floor(cell.centre - reach).astype(int), 0)
        high = np.minimum(np.ceil(cell.centre + reach).astype(int) + 1, SIZE)
        if (low >= high).any():
            continue
        box = (slice(low[0], high[0]), slice(low[1], high[1]))
        dy, dx = np.mgrid[box] - cell.centre[:, None, None]
        along = np.cos(cell.angle) * dx + np.sin(cell.angle) * dy
        across = np.cos(cell.angle) * dy - np.sin(cell.angle) * dx
        theta = np.arctan2(across * np.sqrt(cell.aspect), along / np.sqrt(cell.aspect))
        rho = np.hypot(across * np.sqrt(cell.aspect), along / np.sqrt(cell.aspect)) / cell.radius
        edge = 1 + sum((c * np.exp(1j * (k + 2) * theta)).real for k, c in enumerate(cell.outline))
        depth = (1 - rho / edge) * cell.radius / np.sqrt(cell.aspect)
        wins = depth > deepest[box]
        grain = ndimage.map_coordinates(
            pool, [across + cell.texture[0], along + cell.texture[1]], order=1, mode="grid-wrap"
        )
        light = (
            cell.gain
            * (1 + 0.24 * grain).clip(0.2)
            * (0.7 + 0.3 * np.sqrt(np.clip(1 - (rho / edge) ** 2, 0, 1)))
        )
        signal[box] = np.where(wins, light, signal[box])
        label[box][wins] = cell.label
        deepest[box] = np.where(wins, depth, deepest[box])
    return signal, label


# ---------------------------------------------------------------------------------------------- z-stack


def make_zstack() -> Sample:
    """Nine blobs in anisotropic planes, some near each other; blurred along z, dimmer with depth."""
    rng = np.random.default_rng(ZSTACK_SEED)
    shape = (N_FRAMES, SIZE, SIZE)
    # Centres (z, y, x) and half axes in micrometres, set by hand.
    blobs = [
        ((20, 62, 58), (15, 15, 19)),
        ((26, 42, 84), (11, 13, 12)),
        ((14, 90, 44), (10, 13, 14)),
        ((30, 92, 74), (14, 17, 14)),
        ((24, 36, 34), (11, 13, 14)),
        ((34, 68, 100), (9, 14, 13)),
        ((12, 104, 106), (8, 11, 12)),
        ((37, 42, 60), (8, 10, 13)),
        ((22, 110, 14), (13, 12, 9)),
    ]
    step = np.array(ZSTACK_SPACING_UM)
    wobble = [_field(rng, shape, (4, 22, 22)) for _ in range(3)]
    grain = _field(rng, shape, (1.0, 4.0, 4.0))
    fine = _field(rng, shape, (0.6, 1.6, 1.6))
    signal, labels = np.zeros(shape), np.zeros(shape, np.uint16)
    deepest = np.zeros(shape)
    for k, (centre, axes) in enumerate(blobs):
        low = np.maximum(((np.array(centre) - 1.6 * np.array(axes)) / step).astype(int), 0)
        high = np.minimum(((np.array(centre) + 1.6 * np.array(axes)) / step).astype(int) + 2, shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        at = [index * s - c for index, s, c in zip(np.mgrid[box], step, centre, strict=True)]
        turn = rng.uniform(0, np.pi)
        at[1], at[2] = (
            np.cos(turn) * at[1] - np.sin(turn) * at[2],
            np.sin(turn) * at[1] + np.cos(turn) * at[2],
        )
        rho = np.sqrt(sum(((p + 2.6 * w[box]) / a) ** 2 for p, w, a in zip(at, wobble, axes, strict=True)))
        depth = (1 - rho) * min(axes)
        wins = depth > deepest[box]
        gain = rng.uniform(170, 420)
        light = gain * (1 + 0.18 * grain[box] + 0.1 * fine[box]).clip(0.2)
        light *= 1 + 0.15 * np.exp(-((depth / 1.2) ** 2))  # brighter border
        signal[box] = np.where(wins, light, signal[box])
        labels[box][wins] = k + 1
        deepest[box] = np.where(wins, depth, deepest[box])
    ground = 24 + 5 * _field(rng, shape, (4, 24, 24))
    signal = ndimage.gaussian_filter(signal, (0.75, 1.3, 1.3)) + 0.2 * ndimage.gaussian_filter(
        signal, (2, 12, 12)
    )
    signal = (signal + ground) * np.exp(-0.018 * np.arange(N_FRAMES))[:, None, None]
    images = np.stack([_camera(plane, ZSTACK_SEED, z) for z, plane in enumerate(signal)])
    return Sample(images, labels)


# ----------------------------------------------------------------------------------------------- common


def _texture(rng: np.random.Generator, grain: float) -> Array:
    """Periodic noise (128, 128) of mean 0 and deviation 1."""
    noise = ndimage.gaussian_filter(rng.normal(size=(128, 128)), grain, mode="wrap")
    noise += 0.3 * ndimage.gaussian_filter(rng.normal(size=(128, 128)), grain / 2.5, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _field(rng: np.random.Generator, shape: tuple[int, int, int], sigma: tuple[float, float, float]) -> Array:
    """Smooth noise of mean 0 and deviation 1."""
    shrink = [max(int(s / 2), 1) for s in sigma]
    small = tuple(n // s + 4 for n, s in zip(shape, shrink, strict=True))
    noise = ndimage.gaussian_filter(
        rng.normal(size=small), [a / b for a, b in zip(sigma, shrink, strict=True)]
    )
    at = [np.arange(n) / s + 1.5 for n, s in zip(shape, shrink, strict=True)]
    for axis, where in enumerate(at):
        base = where.astype(int)
        part = (where - base).reshape([-1 if a == axis else 1 for a in range(3)])
        noise = noise.take(base, axis) * (1 - part) + noise.take(base + 1, axis) * part
    return (noise - noise.mean()) / noise.std()


def _camera(signal: Array, seed: int, frame: int) -> Array:
    """Counts of a 16-bit camera: offset 100, shot noise, read noise. Each frame has its own random stream."""
    rng = np.random.default_rng([seed, frame])
    counts = 100 + signal + rng.standard_normal(signal.shape) * np.sqrt(6 + 0.3 * signal)
    return np.rint(counts).clip(0, 65535).astype(np.uint16)


def write_samples(folder: Path) -> list[Path]:
    """Write the four files and return their paths."""
    yx = TIMELAPSE_PIXEL_UM
    z, y, x = ZSTACK_SPACING_UM
    time = {
        "axes": "TYX",
        "PhysicalSizeX": yx,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": yx,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": TIMELAPSE_INTERVAL_S,
        "TimeIncrementUnit": "s",
    }
    space = {
        "axes": "ZYX",
        "PhysicalSizeX": x,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": y,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": z,
        "PhysicalSizeZUnit": "µm",
    }
    paths = []
    for name, sample, metadata in (("timelapse", make_timelapse(), time), ("zstack", make_zstack(), space)):
        for suffix, data in (("", sample.images), ("_labels", sample.labels)):
            path = folder / f"{name}{suffix}.tif"
            # zlib without a predictor: readable by tifffile alone, without imagecodecs.
            tifffile.imwrite(
                path,
                data,
                ome=True,
                photometric="minisblack",
                compression="zlib",
                compressionargs={"level": 9},
                rowsperstrip=SIZE,
                metadata={**metadata, "Name": name + suffix},
            )
            paths.append(path)
    return paths


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for written in write_samples(target):
        print(f"{written}  {written.stat().st_size / 1e6:.2f} MB")

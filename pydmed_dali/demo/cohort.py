"""The synthetic slides of a demonstration: made once, found again by the next identical run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from pydmed_dali import Dataset, __version__
from pydmed_dali.dali.device import core_count
from pydmed_dali.demo.slide_maker import make_slide
from pydmed_dali.geometry import Size
from pydmed_dali.synthetic.tissue_slides import TISSUES

_MANIFEST = "demo-slides.json"
_SEEDS_APART = 1000
_SIZE = Size(8192, 8192)


@dataclass(frozen=True, slots=True)
class SlidePlan:
    """One slide that is to be made."""

    name: str
    """Its path below the output folder: `train/gland/gland-0.svs`."""
    tissue: str
    seed: int


@dataclass(frozen=True, slots=True)
class Cohort:
    """Slides to train on and others to test on, so many of each tissue."""

    seed: int = 0
    size: Size = _SIZE
    """Of each slide, in level-0 pixels."""
    train: int = 3
    test: int = 2
    tissues: tuple[str, ...] = TISSUES

    def slides(self) -> Iterator[SlidePlan]:
        """Every slide; each has a seed of its own."""
        seed = self.seed * _SEEDS_APART
        for tissue in self.tissues:
            for number in range(self.train + self.test):
                part = "train" if number < self.train else "test"
                yield SlidePlan(f"{part}/{tissue}/{tissue}-{number}.svs", tissue, seed)
                seed += 1

    def make(self, out: Path, progress: Progress) -> tuple[Dataset, Dataset]:
        """Make the slides that `out` does not hold yet; return those to train and to test on.

        A file is put in place only when it is whole, so what an interrupted run made is kept. What
        another cohort left behind in `out` is removed first, but nothing else.
        """
        self._claim(out)
        slides = list(self.slides())
        missing = [slide for slide in slides if not (out / slide.name).exists()]
        kept = len(slides) - len(missing)
        task = progress.add_task("making slides", total=len(slides), note="")
        progress.update(task, completed=kept, note=f"{kept} kept from before" if kept else "")
        with ThreadPoolExecutor(core_count()) as threads:
            for _ in threads.map(lambda slide: self._make_slide(out, slide), missing):
                progress.update(task, advance=1)
        return _labelled(out / "train"), _labelled(out / "test")

    def _make_slide(self, out: Path, slide: SlidePlan) -> None:
        path = out / slide.name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_slide(path, self.size, slide.tissue, slide.seed)

    def _claim(self, out: Path) -> None:
        """Write down what `out` holds; remove the slides of a different cohort."""
        manifest = out / _MANIFEST
        text = json.dumps(
            {
                "made by": f"pydmed-dali {__version__}",
                "size": str(self.size),
                "slides": {slide.name: slide.seed for slide in self.slides()},
            },
            indent=1,
        )
        if manifest.exists() and manifest.read_text() != text:
            for name in json.loads(manifest.read_text())["slides"]:
                (out / name).unlink(missing_ok=True)
        unfinished = manifest.with_suffix(".part")
        unfinished.write_text(text)
        unfinished.replace(manifest)


def _labelled(folder: Path) -> Dataset:
    return Dataset.from_folder(folder, label=lambda path: path.parent.name)

"""Slides of which a chunk costs next to nothing: one colour each, made in the worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydmed_dali import BigChunkLoader, Dataset, Patient, Point, Record, Size, SlideFacts
from pydmed_dali.geometry import Region
from pydmed_dali.slide.slide import WHITE, Pixels, Slide
from pydmed_dali.slide.view import View

_FACTS = SlideFacts(
    level_dimensions=(Size(100_000, 100_000),),
    level_downsamples=(1.0,),
    tile_sizes=(None,),
    mpp=None,
    objective_power=None,
    background=WHITE,
    vendor="flat",
    reader="flat 1",
)


@dataclass
class FlatSlide:
    path: Path
    facts: SlideFacts = _FACTS

    def read_into(self, out: Pixels, location: Point, level: int) -> None:
        out[:] = (location.x // 256 + location.y // 256) % 256

    def close(self) -> None:
        pass


class FlatLoader(BigChunkLoader):
    def open_slide(self, path: Path) -> Slide:
        return FlatSlide(path)

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        slide.read_into(out, origin, 0)


def flat_dataset(slides: int = 64) -> Dataset:
    names = [f"{number:04}" for number in range(slides)]
    return Dataset(
        tuple(Patient(n, (Record(Path("/none"), PurePosixPath(f"{n}.x")),)) for n in names)
    )

"""Chunks of one colour each: whatever mixes two chunks, or belies its `info`, shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.dataset import Dataset, Patient, Record
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.placement import cell_borders
from pydmed_dali.plan.random import mix
from pydmed_dali.slide.slide import WHITE, Pixels, Slide, SlideFacts
from pydmed_dali.slide.view import View
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader

EXTENT = Size(100_000, 100_000)
CHUNK, CROP = 512, 256
"""Large enough that DALI takes longer to cut a batch than a worker to overwrite a chunk."""
FACTS = SlideFacts(
    level_dimensions=(EXTENT,),
    level_downsamples=(1.0,),
    tile_sizes=(None,),
    mpp=None,
    objective_power=None,
    background=WHITE,
    vendor="colours",
    reader="colours 1",
)


def colours(slide: NDArray[np.int64], origin: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(n, 3): the colour of each chunk; `origin` is (n, 2) (x, y)."""
    bits = mix(slide, origin[:, 0], origin[:, 1])
    return bits.view(np.uint8).reshape(-1, 8)[:, :3]


@dataclass
class ColourSlide:
    """A slide that exists in a worker's memory only."""

    path: Path
    facts: SlideFacts = field(default=FACTS)

    def read_into(self, out: Pixels, location: Point, level: int) -> None:
        slide = np.array([int(self.path.stem)])
        out[:] = colours(slide, np.array([[location.x, location.y]]))[0]

    def close(self) -> None:
        pass


class ColourLoader(BigChunkLoader):
    """Fills each chunk with a colour of its own, as fast as memory can be written."""

    def open_slide(self, path: Path) -> Slide:
        return ColourSlide(path)

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: Pixels, parts: Sequence[Region]
    ) -> None:
        slide.read_into(out, origin, 0)


def colour_dataset(slides: int) -> Dataset:
    """Slides whose names are their positions in the dataset."""
    names = [f"{number:04}" for number in range(slides)]
    return Dataset(
        tuple(Patient(n, (Record(Path("/none"), PurePosixPath(f"{n}.x")),)) for n in names)
    )


def count_torn(image: NDArray[np.uint8], slide: NDArray[np.int64], xy: NDArray[np.int64]) -> int:
    """Crops that are not all of the colour of the chunk that `info` puts them in."""
    borders = cell_borders(EXTENT.width, CROP, CHUNK, 1)
    origin = borders[np.searchsorted(borders, xy, "right") - 1]
    expected = colours(slide, origin)[:, None, None, :]
    return int((image != expected).any(axis=(1, 2, 3)).sum())

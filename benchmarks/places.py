"""Where crops lie: the same list of random places for every loader that takes places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.slides import dataset_of
from benchmarks.tissue import TissueMask, tissue_mask
from benchmarks.workload import Workload
from pydmed_dali import Size
from pydmed_dali.slide.openslide_slide import OpenSlideSlide

LEAST_TISSUE = 0.5
"""Share of a crop, or a tile, that must be tissue where only tissue is asked for."""

_COUNT = 200_000  # places in the list, which is taken again from its start when it is used up
_AT_ONCE, _VAIN = 1000, 50  # draws at a time, and how often in vain until none is to be had

Places = NDArray[np.int64]
"""(n, 3): a slide's number, and x and y of a crop's top left corner in level-0 pixels."""


@dataclass(frozen=True)
class SlideFile:
    """What places are drawn from."""

    path: Path
    size: Size
    """Width and height in level-0 pixels."""
    tile: Size | None
    """The file's storage cell at level 0, None where the format does not tell."""
    mask: TissueMask | None
    """Where the tissue is, or None where any place will do."""


def slide_files(
    workload: Workload, mask_of: Callable[[Path], TissueMask] = tissue_mask
) -> list[SlideFile]:
    """The workload's slides, with masks by `mask_of` if its crops must lie on tissue."""
    return [
        _slide_file(record.path, mask_of if workload.tissue else None)
        for record in dataset_of(workload.slides).slides
    ]


def is_eligible(
    slide: SlideFile, x: NDArray[np.int64], y: NDArray[np.int64], size: int
) -> NDArray[np.bool_]:
    """Whether the squares of `size` at (x, y), in level-0 pixels, may be delivered."""
    if slide.mask is None:
        return np.ones(len(x), np.bool_)
    return slide.mask.shares(x, y, size) >= LEAST_TISSUE


def draw_places(slides: list[SlideFile], crop: int, seed: int, count: int = _COUNT) -> Places:
    """Places of crops: each slide equally likely, and each eligible place of a slide.

    Raises ValueError for a slide that is smaller than a crop or has no eligible place.
    """
    rng = np.random.default_rng(seed)
    places = np.zeros((count, 3), np.int64)
    places[:, 0] = rng.integers(len(slides), size=count)
    for number, slide in enumerate(slides):
        (rows,) = np.nonzero(places[:, 0] == number)
        places[rows, 1:] = draw_starts(rng, slide, (0, 0), slide.size, crop, len(rows))
    return places


def draw_starts(
    rng: np.random.Generator,
    slide: SlideFile,
    origin: tuple[int, int],
    extent: Size,
    crop: int,
    count: int,
) -> NDArray[np.int64]:
    """(count, 2): x and y of crops inside one rectangle of a slide, uniform over what is eligible.

    By rejection. All in level-0 pixels. Raises ValueError where nothing eligible is found.
    """
    spans = (extent.width - crop + 1, extent.height - crop + 1)
    found, lacking, vain = [np.zeros((0, 2), np.int64)], count, 0
    while lacking:
        if min(spans) < 1 or vain == _VAIN:
            raise ValueError(
                f"{slide.path}: the {extent} pixels at {origin} have no place for a crop of "
                f"{crop} pixels" + (" on tissue" if slide.mask else "")
            )
        starts = origin + rng.integers(spans, size=(max(lacking, _AT_ONCE), 2))
        starts = starts[is_eligible(slide, starts[:, 0], starts[:, 1], crop)][:lacking]
        found.append(starts)
        lacking -= len(starts)
        vain = 0 if len(starts) else vain + 1
    return np.concatenate(found)


def _slide_file(path: Path, mask_of: Callable[[Path], TissueMask] | None) -> SlideFile:
    slide = OpenSlideSlide(path)
    try:
        facts = slide.facts
    finally:
        slide.close()
    mask = mask_of(path) if mask_of else None
    return SlideFile(path, facts.dimensions, facts.tile_sizes[0], mask)

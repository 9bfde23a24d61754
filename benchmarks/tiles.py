"""The tiling pass that pre-cut training needs: slides cut once into JPEG files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np

from benchmarks.accounting import Chunks, Content, content, grid_chunks
from benchmarks.places import SlideFile, is_eligible, slide_files
from benchmarks.workload import Workload
from pydmed_dali import Point
from pydmed_dali.slide.openslide_slide import OpenSlideSlide

TILE = 256
QUALITY = 80
_MOST = 40_000  # files: enough that no loader sees a tile twice in a few seconds


def cut_tiles(workload: Workload, folder: Path) -> None:
    """Write the tiles of all slides as folder/SLIDE/X-Y.jpg, at most 40,000 drawn from all of them.

    SLIDE is the slide's number, X-Y the tile's corner in level-0 pixels. Quality 80 with the chroma
    halved in both directions, as Pillow and most tiling tools write JPEG.
    """
    slides = slide_files(workload)
    share = min(1.0, _MOST / sum(_tile_count(slide) for slide in slides))
    with ProcessPoolExecutor(workload.cores) as pool:
        cut = partial(_cut_slide, folder, share)
        list(pool.map(cut, range(len(slides)), [slide.path for slide in slides]))


class TileList:
    """The tiles that a loader reads: their files, and the places they come from."""

    def __init__(self, workload: Workload) -> None:
        assert workload.tiles is not None, "reading pre-cut tiles needs --tiles"
        found = [*_listed(workload.tiles, slide_files(workload))]
        order = np.random.default_rng(workload.seed).permutation(len(found))
        self.files = [found[number][0] for number in order]
        """The files, in a random order."""
        self._places = np.array([found[number][1] for number in order], np.int64)
        self._workload = workload

    def content(self, batches: Sequence[np.ndarray]) -> Content:
        """The content of batches given as positions in `files`."""
        places: list[Chunks] = [self._places[np.asarray(batch).ravel()] for batch in batches]
        chunks = [grid_chunks(rows, self._workload.chunk) for rows in places]
        return content(chunks, TILE**2 / self._workload.crop**2)


def _listed(folder: Path, slides: list[SlideFile]) -> Iterator[tuple[Path, tuple[int, int, int]]]:
    for number, slide in enumerate(slides):
        files = sorted((folder / str(number)).iterdir())
        places = np.array([file.stem.split("-") for file in files], np.int64).reshape(-1, 2)
        eligible = is_eligible(slide, places[:, 0], places[:, 1], TILE)
        for file, (x, y), taken in zip(files, places.tolist(), eligible, strict=True):
            if taken:
                yield file, (number, x, y)


def _tile_count(slide: SlideFile) -> int:
    return (slide.size.width // TILE) * (slide.size.height // TILE)


def _cut_slide(folder: Path, share: float, number: int, path: Path) -> None:
    """Cut one slide, row of tiles by row of tiles; each tile is kept with probability `share`."""
    target = folder / str(number)
    target.mkdir(parents=True)
    rng = np.random.default_rng(number)
    slide = OpenSlideSlide(path)
    columns, rows = slide.facts.dimensions.width // TILE, slide.facts.dimensions.height // TILE
    row = np.empty((TILE, columns * TILE, 3), np.uint8)
    for y in range(0, rows * TILE, TILE):
        slide.read_into(row, Point(0, y), 0)
        for x in range(0, columns * TILE, TILE):
            if rng.random() < share:
                tile = np.ascontiguousarray(row[:, x : x + TILE])
                coded = imagecodecs.jpeg8_encode(tile, level=QUALITY, subsampling="420")
                (target / f"{x}-{y}.jpg").write_bytes(coded)
    slide.close()

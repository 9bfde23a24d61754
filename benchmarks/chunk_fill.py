"""Filling a BigChunk against the bare decoder: what reading costs beyond decoding the tiles.

    .venv/bin/python -m benchmarks.chunk_fill [--slides FOLDER] [--rounds 5]

One core, files in the page cache, BigChunks of 4096x4096 all over the slides. The decoder alone
gets the same tiles, already in memory, once into one piece of memory again and again (nobody could
use the pixels) and once into new memory for each tile (as a program would that keeps them).
OpenSlide reads the same regions. All take turns; seconds of the processor, medians over the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.machine import headline
from benchmarks.slides import slides_in
from pydmed_dali import Dataset, Point, Size
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.codec.jpeg import JpegTiles
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.tiled_slide import scratch

CHUNK = 4096
_SLOTS = 4  # chunks of memory that are written to in turn, more than the caches hold

Chunk = tuple[Path, Point]


def chunks_of(paths: Sequence[Path], count: int) -> list[Chunk]:
    """Chunks at random places of the slides, on tile borders."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        path = paths[number % len(paths)]
        with tifffile.TiffFile(path) as file:
            page = _page(file)
            steps = [
                max(side - CHUNK, 0) // tile
                for side, tile in (
                    (page.imagewidth, page.tilewidth),
                    (page.imagelength, page.tilelength),
                )
            ]
            x, y = (int(rng.integers(most + 1)) for most in steps)
            found.append((path, Point(x * page.tilewidth, y * page.tilelength)))
    return found


def fill(slides: dict[Path, Slide], chunks: Sequence[Chunk], slots: NDArray[np.uint8]) -> None:
    """Read every chunk into a slot, as a loader process does."""
    for number, (path, origin) in enumerate(chunks):
        slides[path].read_into(slots[number % _SLOTS], origin, 0)


class Decoder:
    """The tiles of the chunks, in memory, and nothing but their decoding."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._tiles = [tile for chunk in chunks for tile in _tiles(*chunk)]
        self._same = scratch(self._tiles[0][2])

    def into_the_same_memory(self) -> None:
        """Each tile over the last one."""
        for data, decoder, _ in self._tiles:
            decoder.decode(data, self._same, len(self._same))

    def into_new_memory(self) -> None:
        """Each tile into memory of its own."""
        for data, decoder, tile in self._tiles:
            decoder.decode(data, scratch(tile), tile.height)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    chosen = _parser().parse_args(arguments)
    with slides_in(chosen.slides, 4, chosen.side) as folder:
        paths = [record.path for record in Dataset.from_folder(folder).slides]
        chunks = chunks_of(paths, chosen.chunks)
        fast = {path: open_slide(path, Cache(None)) for path in paths}
        slow: dict[Path, Slide] = {path: OpenSlideSlide(path) for path in paths}
        slots = np.zeros((_SLOTS, CHUNK, CHUNK, 3), np.uint8)
        decoder = Decoder(chunks)
        found = _take_turns(
            {
                "the decoder alone, each tile over the last": decoder.into_the_same_memory,
                "the decoder alone, each tile into new memory": decoder.into_new_memory,
                "pydmed-dali, tiles in their place in the chunk": lambda: fill(fast, chunks, slots),
                "OpenSlide, the same regions": lambda: fill(slow, chunks, slots),
            },
            chosen.rounds,
        )
    base = median(next(iter(found.values())))
    print("\n".join([*headline("benchmarks.chunk_fill", 1), ""]))
    print(
        "| per chunk of 4096x4096 | ms | range | speed against the decoder |\n|---|---:|---:|---:|"
    )
    for name, seconds in found.items():
        each = [1000 * value / len(chunks) for value in seconds]
        share = base / median(seconds)
        print(f"| {name} | {median(each):.1f} | {min(each):.1f}-{max(each):.1f} | {share:.0%} |")


def _take_turns(works: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            begun = time.process_time()
            work()
            found[name].append(time.process_time() - begun)
    return found


def _tiles(path: Path, origin: Point) -> Iterator[tuple[bytes, JpegTiles, Size]]:
    """The coded tiles of a chunk, each with what decodes it and its extent."""
    with tifffile.TiffFile(path) as file:
        page = _page(file)
        space = "RGB" if page.photometric == tifffile.PHOTOMETRIC.RGB else "YCBCR"
        decoder = JpegTiles(page.jpegtables, space)
        columns = -(-page.imagewidth // page.tilewidth)
        right = min(origin.x + CHUNK, page.imagewidth)
        bottom = min(origin.y + CHUNK, page.imagelength)
        for row in range(origin.y // page.tilelength, -(-bottom // page.tilelength)):
            for column in range(origin.x // page.tilewidth, -(-right // page.tilewidth)):
                number = row * columns + column
                file.filehandle.seek(page.dataoffsets[number])
                data = file.filehandle.read(page.databytecounts[number])
                yield data, decoder, Size(page.tilewidth, page.tilelength)


def _page(file: tifffile.TiffFile) -> tifffile.TiffPage:
    page = file.pages.first
    assert isinstance(page, tifffile.TiffPage)
    return page


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=Path, help="a folder of JPEG slides instead of mosaics")
    parser.add_argument("--side", type=int, default=20480, help="the mosaics' side (20480)")
    parser.add_argument("--chunks", type=int, default=16, help="chunks in a round (16)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all (5)")
    return parser


if __name__ == "__main__":
    main()

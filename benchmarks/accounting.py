"""What a batch is made of: how many slides and BigChunks, and what had to be decoded for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.places import Places, SlideFile
from benchmarks.workload import Workload
from pydmed_dali import Size

Chunks = NDArray[np.int64]
"""(N, 3): for each crop of a batch its slide's number and x and y of the BigChunk it comes from."""


@dataclass(frozen=True, slots=True)
class Content:
    """What batches are made of, as means over the timed run."""

    slides: float
    """Different slides in a batch."""
    pairs: float
    """Pairs of crops in a batch that come from the same BigChunk; of N crops there are N(N-1)/2
    pairs in all. A loader without BigChunks has a crop in the BigChunk that a grid of them over the
    slide would put it in, by its top left corner."""
    amplification: float | None
    """Pixels decoded for each pixel delivered; None where that cannot be told."""


def content(batches: Sequence[Chunks], amplification: float | None) -> Content:
    """The content of these batches."""
    slides = np.mean([len(np.unique(chunks[:, 0])) for chunks in batches])
    return Content(float(slides), float(np.mean([_pairs(c) for c in batches])), amplification)


def grid_chunks(places: Places, chunk: int) -> Chunks:
    """The cells of a grid of `chunk` level-0 pixels that these crops start in."""
    chunks = places.copy()
    chunks[:, 1:] -= chunks[:, 1:] % chunk
    return chunks


def read_content(
    slides: Sequence[SlideFile], batches: Sequence[Places], workload: Workload
) -> Content:
    """The content of batches whose crops are read one by one: each decodes the tiles it touches.

    A reader that still holds a tile of an earlier crop decodes less; of large slides it rarely
    does.
    """
    chunks = [grid_chunks(places, workload.chunk) for places in batches]
    together = np.concatenate(batches)
    decoded = 0
    for number, slide in enumerate(slides):
        if slide.tile is None:
            return content(chunks, None)
        x, y = together[together[:, 0] == number, 1:].T
        decoded += touched_pixels(x, y, workload.crop, slide.tile)
    return content(chunks, decoded / (len(together) * workload.crop**2))


def touched_pixels(x: NDArray[np.int64], y: NDArray[np.int64], crop: int, tile: Size) -> int:
    """Pixels of the tiles that the crops at (x, y) touch, counted anew for each crop."""
    columns = (x + crop - 1) // tile.width - x // tile.width + 1
    rows = (y + crop - 1) // tile.height - y // tile.height + 1
    return int((columns * rows).sum()) * tile.area


def _pairs(chunks: Chunks) -> int:
    _, counts = np.unique(chunks, axis=0, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())

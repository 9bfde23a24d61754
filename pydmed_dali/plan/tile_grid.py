"""The grid of tiles over one slide, and its parting into BigChunks, in the order of the file.

A *tile* is named by its (row, column) in the grid and lies at (column * stride, row * stride), in
view pixels. The grid is regular, so that a dense array of results is a picture of the slide: tiles
of the last row and column are not shifted inwards but reach beyond the slide's edge by less than a
tile, where they show the slide's background. A slide smaller than a tile has one tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import SlideChangedError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.eligible import Eligible
from pydmed_dali.plan.place_runs import Runs
from pydmed_dali.plan.placement import Placement, Placer, Positions

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]

_CELL = 1 << 32  # the price of a cell that is decoded, in chunks


@dataclass(frozen=True, slots=True, eq=False)
class SlideGrid:
    """The tiles of one slide and the chunks that hold them. Every tile lies whole in one chunk."""

    extent: Size
    """The slide, in view pixels."""
    tile: Size
    stride: Size
    """From one tile to the next, in view pixels; at most a tile."""
    rows: Integers
    """Borders of the chunks downwards, in tiles: chunk row i has rows[i] <= row < rows[i+1]."""
    columns: Integers
    """The same to the right."""
    bits: NDArray[np.uint8] | None = None
    """Which tiles are wanted, row after row, eight to a byte; None for all of them."""

    @classmethod
    def of(
        cls,
        extent: Size,
        tile: Size,
        stride: Size,
        chunk: Size,
        cell: Size,
        wanted: Mask | None = None,
    ) -> SlideGrid:
        """The grid of a slide of `extent` whose file stores cells of `cell` (all view pixels).

        `wanted`, (rows, columns), leaves out the tiles that are False.
        """
        rows = chunk_borders(extent.height, tile.height, stride.height, chunk.height, cell.height)
        columns = chunk_borders(extent.width, tile.width, stride.width, chunk.width, cell.width)
        bits = None if wanted is None else np.packbits(wanted)
        return cls(extent, tile, stride, rows, columns, bits)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return int(self.rows[-1]), int(self.columns[-1])

    @property
    def wanted(self) -> Mask:
        """(rows, columns): which tiles are wanted."""
        rows, columns = self.shape
        if self.bits is None:
            return np.ones((rows, columns), np.bool_)
        flat = np.unpackbits(self.bits, count=rows * columns).view(np.bool_)
        return flat.reshape(rows, columns)

    @property
    def count(self) -> int:
        """Tiles that are wanted."""
        return int(self.wanted.sum())

    def chunks(self) -> tuple[Integers, Integers]:
        """(numbers, tiles): the chunks that hold wanted tiles, row after row, and how many each."""
        counts = np.add.reduceat(self.wanted.astype(np.int64), self.rows[:-1], axis=0)
        flat = np.add.reduceat(counts, self.columns[:-1], axis=1).ravel()
        (numbers,) = np.nonzero(flat)
        return numbers, flat[numbers]

    def tiles_of(self, chunk: int) -> Integers:
        """(n, 2): (row, column) of a chunk's wanted tiles, row after row."""
        top, bottom, left, right = self._borders(chunk)
        found: Integers = np.argwhere(self.wanted[top:bottom, left:right]) + np.array((top, left))
        return found

    def region(self, chunk: int) -> Region:
        """Where a chunk lies, in view pixels: all its tiles, also where they leave the slide."""
        top, bottom, left, right = self._borders(chunk)
        return Region(
            Point(left * self.stride.width, top * self.stride.height),
            Size(
                (right - left - 1) * self.stride.width + self.tile.width,
                (bottom - top - 1) * self.stride.height + self.tile.height,
            ),
        )

    def _borders(self, chunk: int) -> tuple[int, int, int, int]:
        row, column = divmod(chunk, len(self.columns) - 1)
        top, bottom = self.rows[row : row + 2].tolist()
        left, right = self.columns[column : column + 2].tolist()
        return top, bottom, left, right


@dataclass(frozen=True, slots=True, eq=False)
class GridPlacer(Placer):
    """Places chunks and tiles as their slide's grid says: `crop` is a tile, the seed decides
    nothing."""

    grids: Mapping[int, SlideGrid]
    """By slide number."""

    def place(
        self,
        extent: Size,
        tile: Size,
        candidate: Candidate,
        visit: int,
        eligible: Eligible | Runs | None = None,
    ) -> Placement:
        """The chunk of a candidate, whose `turn` is its number in the grid.

        Raises `SlideChangedError` where the slide has another extent than when it was looked at.
        """
        grid = self.grids[candidate.slide]
        if extent != grid.extent:
            raise SlideChangedError(
                f"the slide has {extent} pixels, and had {grid.extent} when its tiles were counted"
            )
        region = grid.region(candidate.turn)
        return Placement(region.location, region.size, region.size)

    def crops(
        self, placement: Placement, candidate: Candidate, visit: int, count: int
    ) -> Positions:
        """Where the tiles lie in their chunk; the last one repeated up to `count`."""
        grid = self.grids[candidate.slide]
        stride = np.array((grid.stride.height, grid.stride.width))
        places = grid.tiles_of(candidate.turn) * stride - (placement.origin.y, placement.origin.x)
        filled: Positions = places[np.minimum(np.arange(count), len(places) - 1)].astype(np.int32)
        return filled


def tile_count(extent: int, tile: int, stride: int) -> int:
    """Tiles along an axis: as few as cover every one of its pixels."""
    return -(-max(extent - tile, 0) // stride) + 1


@lru_cache(maxsize=256)
def chunk_borders(extent: int, tile: int, stride: int, chunk: int, cell: int) -> Integers:
    """Borders of the chunks along one axis, in tiles, so that fewest cells are decoded.

    A chunk holds at most so many tiles as fit in `chunk` pixels. Of all ways to part the tiles the
    one is taken that touches fewest of the file's cells (`cell` pixels each, from 0 on), each as
    often as chunks touch it, and of those one with fewest chunks. Since a chunk is a rectangle, the
    two axes can be parted apart from each other. By dynamic programming over the tiles.
    """
    count = tile_count(extent, tile, stride)
    most = (chunk - tile) // stride + 1
    starts = np.arange(count, dtype=np.int64) * stride
    first = starts // cell
    behind = -(-np.minimum(starts + tile, extent) // cell)
    price = np.zeros(count + 1, np.int64)
    begin = np.zeros(count + 1, np.int64)
    for end in range(1, count + 1):
        low = max(end - most, 0)
        prices = price[low:end] + (behind[end - 1] - first[low:end]) * _CELL + 1
        best = int(np.argmin(prices))
        price[end], begin[end] = prices[best], low + best
    borders = [count]
    while borders[-1]:
        borders.append(int(begin[borders[-1]]))
    found = np.array(borders[::-1], np.int64)
    found.flags.writeable = False  # it is shared by all who ask
    return found


def scanned_tiles(scanned: Region, tile: Size, stride: Size, shape: tuple[int, int]) -> Mask:
    """(rows, columns), of `shape`: the tiles of a grid that show some of what was scanned.

    All in view pixels.
    """
    down, right = (
        _touching(start, length, size, step, count)
        for start, length, size, step, count in (
            (scanned.location.y, scanned.size.height, tile.height, stride.height, shape[0]),
            (scanned.location.x, scanned.size.width, tile.width, stride.width, shape[1]),
        )
    )
    return down[:, None] & right


def _touching(start: int, length: int, tile: int, stride: int, count: int) -> Mask:
    begins = np.arange(count, dtype=np.int64) * stride
    touching: Mask = (begins < start + length) & (begins + tile > start)
    return touching


def tissue_shares(mask: Mask, extent: Size, tile: Size, stride: Size) -> Reals:
    """(rows, columns): the part of each tile that is tissue, 0 to 1, of what lies on the slide.

    `mask`, (rows, columns), covers the slide from edge to edge; its pixels count by the area that a
    tile has of them.
    """
    values = mask.astype(np.float64)
    for length, size, step in (
        (extent.height, tile.height, stride.height),
        (extent.width, tile.width, stride.width),
    ):
        starts = np.arange(tile_count(length, size, step), dtype=np.int64) * step
        ends = np.minimum(starts + size, length)
        values = _means(values, starts / length, ends / length).T
    return values


def _means(values: Reals, starts: Reals, ends: Reals) -> Reals:
    """The means of `values` (n, m) along the first axis over stretches, given in parts of it."""
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])

    def up_to(parts: Reals) -> Reals:
        places = parts * len(values)
        whole = np.minimum(places.astype(np.int64), len(values) - 1)
        return sums[whole] + (places - whole)[:, None] * values[whole]

    return (up_to(ends) - up_to(starts)) / ((ends - starts) * len(values))[:, None]

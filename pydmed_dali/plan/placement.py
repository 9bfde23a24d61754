"""Where a chunk lies on its slide, and where its crops lie in the chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.eligible import Eligible, Places
from pydmed_dali.plan.place_runs import Runs
from pydmed_dali.plan.random import Stream, uniform

Positions = NDArray[np.int32]
"""(R, 2) int32: (y, x) of each crop's top left corner in the chunk, in view pixels."""

_GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class Placement:
    """One chunk on its slide. All in view pixels."""

    origin: Point
    """The chunk's top left corner on the slide; on the file's tile borders where it can."""
    size: Size
    """What of the chunk lies on the slide; the rest is background and in no crop, unless the whole
    slide is smaller than a crop."""
    cell: Size
    """Crops start in the first `cell` pixels of the chunk, each place as likely as any other."""
    places: Places | Runs | None = None
    """Where in the cell crops may start; None for everywhere."""


@dataclass(frozen=True, slots=True)
class Placer:
    """Places chunks and crops by area, as pure functions of the seed and the visit.

    The places where a crop can start are parted among the cells of a grid, one chunk each, so that
    every place belongs to exactly one cell. A cell is drawn in proportion to its places, and a crop
    uniformly within it: all together, every crop of the slide is equally likely. Where only some
    places are eligible, only those count, and every eligible crop is equally likely.

    The visits of one slide walk over its cells by a Kronecker sequence with the golden ratio and a
    random start: each visit by itself is distributed as said, and n visits together cover the slide
    more evenly than independent draws (H. Niederreiter, "Random Number Generation and Quasi-Monte
    Carlo Methods", SIAM 1992, chapter 3).
    """

    seed: int
    chunk: Size
    crop: Size

    def place(
        self,
        extent: Size,
        tile: Size,
        candidate: Candidate,
        visit: int,
        eligible: Eligible | Runs | None = None,
    ) -> Placement:
        """The chunk of a visit on a slide of `extent` with tiles of `tile` (both view pixels).

        `eligible` tells the places where a crop may start, at least one; None for everywhere.
        """
        columns = cell_borders(extent.width, self.crop.width, self.chunk.width, tile.width)
        rows = cell_borders(extent.height, self.crop.height, self.chunk.height, tile.height)
        quantile = self._quantile(candidate, visit)
        if eligible is None:
            row, column = _cell_at(quantile, rows, columns)
        else:
            number = int(quantile * float(eligible.count))
            row, column = eligible.cell_of(number, rows, columns)
        x, y = int(columns[column]), int(rows[row])
        cell = Size(int(columns[column + 1]) - x, int(rows[row + 1]) - y)
        return Placement(
            origin=Point(x, y),
            size=Size(
                min(self.chunk.width, extent.width - x), min(self.chunk.height, extent.height - y)
            ),
            cell=cell,
            places=None if eligible is None else eligible.places_in(Point(x, y), cell),
        )

    def at(self, extent: Size, origin: Point, eligible: Eligible | Runs | None = None) -> Placement:
        """The chunk at a place of somebody's own choice; its crops start anywhere in it."""
        size = Size(
            min(self.chunk.width, extent.width - origin.x),
            min(self.chunk.height, extent.height - origin.y),
        )
        cell = Size(
            max(size.width - self.crop.width + 1, 1), max(size.height - self.crop.height + 1, 1)
        )
        places = None if eligible is None else eligible.places_in(origin, cell)
        return Placement(origin, size, cell, places)

    def crops(
        self, placement: Placement, candidate: Candidate, visit: int, count: int
    ) -> Positions:
        """Where the `count` crops of a visit lie in its chunk."""
        key = (self.seed, Stream.CROPS, visit, candidate.attempt)
        drawn = uniform(*key, np.arange(2 * count, dtype=np.int64)).reshape(count, 2)
        if placement.places is not None:
            numbers = (drawn[:, 0] * placement.places.count).astype(np.int64)
            return placement.places.at(numbers).astype(np.int32)
        return (drawn * (placement.cell.height, placement.cell.width)).astype(np.int32)

    def _quantile(self, candidate: Candidate, visit: int) -> float:
        if candidate.attempt:
            key = (self.seed, Stream.LOCATION, candidate.slide, candidate.attempt, visit)
            return float(uniform(*key)[0])
        start = float(uniform(self.seed, Stream.LOCATION, candidate.slide)[0])
        return (start + candidate.turn * _GOLDEN_RATIO) % 1.0


def _cell_at(
    quantile: float, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[int, int]:
    """The cell at a share of all places, the cells in rows: a row first, then a cell of it."""
    wide = int(columns[-1])
    drawn = int(quantile * float(wide * int(rows[-1])))
    row = int(np.searchsorted(rows * wide, drawn, "right")) - 1
    high = int(rows[row + 1] - rows[row])
    column = int(np.searchsorted(columns * high, drawn - int(rows[row]) * wide, "right")) - 1
    return row, column


def cell_borders(extent: int, crop: int, chunk: int, tile: int) -> NDArray[np.int64]:
    """Borders of the cells along one axis: cell i starts its crops in [borders[i], borders[i+1]).

    A crop that starts in a cell lies whole inside the `chunk` pixels from the cell's start on, and
    inside `extent`. Cells start on tile borders where a cell can hold a tile, and are as equal as
    that allows. A slide smaller than a crop has the one place 0.
    """
    places = max(extent - crop + 1, 1)
    most = chunk - crop + 1
    step = tile if tile <= most else 1
    steps = -(-places // step)
    count = -(-steps // (most // step))
    borders = np.arange(count + 1, dtype=np.int64) * steps // count * step
    borders[-1] = places
    return borders

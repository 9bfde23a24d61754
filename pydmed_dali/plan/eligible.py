"""The places of a slide where a crop has enough tissue, and the drawing of one of them.

A *place* is where a crop can start: (x, y) of its top left corner, in view pixels. Whether a place
is eligible is decided for blocks of places at a time: those that start in one pixel of the mask.
Eligible places are numbered, so that a uniform number is a uniform place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Region, Size

VERSION = 3
"""Of the rule by which places are eligible: kept ones were computed by the same."""

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Sums = NDArray[np.int32]

_BAND = 64  # rows of blocks at a time: what is computed of them fits in a core's cache
_MOST_BLOCKS = 4096
"""Blocks along one axis, to which the pixels of a coarse mask are divided at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Eligible:
    """The eligible places of one slide, for crops of one size. All in view pixels."""

    rows: Integers
    """Borders of the blocks downwards: block i has the places with rows[i] <= y < rows[i+1]."""
    columns: Integers
    """The same to the right, for x."""
    blocks: Mask
    """(len(rows) - 1, len(columns) - 1): whether the places of a block are eligible."""
    lines: Integers
    """Eligible places in each line of places, by row of blocks: the same within a block."""
    above: Integers
    """Eligible places above each of `rows`; the last one is their count."""

    @classmethod
    def of(cls, rows: Integers, columns: Integers, blocks: Mask) -> Eligible:
        """With the counts that follow from the blocks."""
        lines = blocks.astype(np.int64) @ np.diff(columns)
        return cls(rows, columns, blocks, lines, _running(lines * np.diff(rows)))

    @property
    def count(self) -> int:
        """Eligible places of the slide."""
        return int(self.above[-1])

    def inside(self, region: Region, extent: Size, crop: Size) -> Eligible:
        """Those of the places from which a crop lies wholly in a region of the slide.

        Args:
            region: in view pixels; along an axis on which it is shorter than a crop, the one place
                nearest to its beginning counts.
            extent: of the whole slide, in view pixels.
            crop: a crop's extent.
        """
        first_x, last_x = _starts(region.location.x, region.size.width, extent.width, crop.width)
        first_y, last_y = _starts(region.location.y, region.size.height, extent.height, crop.height)
        rows = np.union1d(self.rows, (first_y, last_y + 1))
        columns = np.union1d(self.columns, (first_x, last_x + 1))
        down = np.searchsorted(self.rows, rows[:-1], "right") - 1
        right = np.searchsorted(self.columns, columns[:-1], "right") - 1
        blocks = self.blocks[np.ix_(down, right)]
        blocks[(rows[:-1] < first_y) | (rows[:-1] > last_y)] = False
        blocks[:, (columns[:-1] < first_x) | (columns[:-1] > last_x)] = False
        return Eligible.of(rows, columns, blocks)

    def cell_of(self, number: int, rows: Integers, columns: Integers) -> tuple[int, int]:
        """(row, column) of the cell that holds an eligible place, 0 <= number < count.

        `rows` and `columns` are borders of cells that part the places. Places are numbered by row
        of cells first, then by column of cells; a cell holds as many numbers as eligible places.
        """
        block = int(np.searchsorted(self.above, number, "right")) - 1
        into = (number - int(self.above[block])) // int(self.lines[block])
        row = int(np.searchsorted(rows, int(self.rows[block]) + into, "right")) - 1
        top, bottom = int(rows[row]), int(rows[row + 1])
        first, heights = _overlap(self.rows, top, bottom)
        high = heights @ self.blocks[first : first + len(heights)]
        left = _running(high * np.diff(self.columns))
        rest = number - self._above(top)
        block = int(np.searchsorted(left, rest, "right")) - 1
        x = int(self.columns[block]) + (rest - int(left[block])) // int(high[block])
        return row, int(np.searchsorted(columns, x, "right")) - 1

    def places_in(self, origin: Point, cell: Size) -> Places:
        """The eligible places among the `cell` places from `origin` on."""
        top, heights = _overlap(self.rows, origin.y, origin.y + cell.height)
        left, widths = _overlap(self.columns, origin.x, origin.x + cell.width)
        inside = self.blocks[top : top + len(heights), left : left + len(widths)]
        return Places(_running(heights), _running(widths), inside)

    def _above(self, y: int) -> int:
        """Eligible places above line `y`."""
        block = min(int(np.searchsorted(self.rows, y, "right")), len(self.lines)) - 1
        return int(self.above[block]) + (y - int(self.rows[block])) * int(self.lines[block])


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The eligible places of one cell, relative to its first. In view pixels."""

    rows: Integers
    """Borders of the blocks downwards, from 0 on."""
    columns: Integers
    """The same to the right."""
    blocks: Mask
    """Which blocks are eligible."""

    @property
    def count(self) -> int:
        """How many they are."""
        return int(np.diff(self.rows) @ self.blocks @ np.diff(self.columns))

    def at(self, numbers: Integers) -> Integers:
        """(N, 2): (y, x) of the places of these numbers, 0 <= number < count."""
        high, wide = np.diff(self.rows), np.diff(self.columns)
        first = _running((self.blocks.astype(np.int64) * high[:, None] * wide).ravel())
        block = np.searchsorted(first, numbers, "right") - 1
        row, column = np.divmod(block, len(wide))
        down, right = np.divmod(numbers - first[block], wide[column])
        return np.stack([self.rows[row] + down, self.columns[column] + right], axis=-1)


def scanned_places(scanned: Region | None, extent: Size, crop: Size) -> Eligible | None:
    """Where a crop of a view of `extent` lies wholly on what was scanned; None for everywhere.

    All in view pixels; see `Eligible.inside`.
    """
    if scanned is None:
        return None
    high, wide = (
        np.array((0, max(whole - part + 1, 1)), np.int64)
        for whole, part in ((extent.height, crop.height), (extent.width, crop.width))
    )
    everywhere = Eligible.of(high, wide, np.ones((1, 1), np.bool_))
    return everywhere.inside(scanned, extent, crop)


def eligible_places(mask: Mask, extent: Size, crop: Size, min_tissue: float) -> Eligible:
    """Where a crop of a view of `extent` has at least `min_tissue` (0 to 1) of tissue.

    `mask`, (rows, columns), covers the view from edge to edge: a view pixel is tissue as the
    mask's pixel in which its centre lies; beyond the edge there is none. The blocks of places are
    the mask's pixels, divided where they are larger than half a crop. A block is eligible if every
    crop that starts in it has enough tissue: so each crop that is drawn has, and only places
    within one pixel of the mask from an ineligible one are left out.
    """
    mask = _divided(mask, extent, crop)
    down = _Axis.of(extent.height, crop.height, mask.shape[0])
    right = _Axis.of(extent.width, crop.width, mask.shape[1])
    tissue = mask[np.ix_(down.pixels, right.pixels)].astype(np.int32)
    above = _running_down(tissue, down.widths)
    blocks = np.empty((len(down.starts) - 1, len(right.starts) - 1), np.bool_)
    for top in range(0, len(blocks), _BAND):
        band = slice(top, top + _BAND)
        least = np.full(blocks[band].T.shape, crop.area, np.int32)
        for y in down.extremes:
            high = np.ascontiguousarray(down.windows(above, tissue, y[band]).T)
            left = _running_down(high, right.widths)
            for x in right.extremes:
                np.minimum(least, right.windows(left, high, x), out=least)
        blocks[band] = least.T / crop.area >= min_tissue
    return Eligible.of(down.starts, right.starts, blocks)


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """The mask's pixels and the blocks of places along one axis, in view pixels."""

    crop: int
    """Length of a crop."""
    pixels: Integers
    """Which pixels of the mask hold the centre of a view pixel."""
    borders: Integers
    """Where these begin, and where the last one ends."""
    starts: Integers
    """Borders of the blocks of places: the same, as far as crops can start."""
    extremes: tuple[Integers, Integers, Integers]
    """Of each block its first place, its last, and one between: at one of them tissue is least.

    While a crop is moved, its tissue changes evenly until one of its edges passes a border of the
    mask's pixels; the near edge stays in the block, and the far one meets at most one border
    between the first and the last place, since all pixels are equally wide to within 1.
    """

    @classmethod
    def of(cls, extent: int, crop: int, pixels: int) -> _Axis:
        """An axis of `extent` view pixels and so many `pixels` of the mask."""
        numbers = np.arange(pixels + 1, dtype=np.int64)
        borders = -((pixels - 2 * extent * numbers) // (2 * pixels))
        (kept,) = np.nonzero(np.diff(borders))
        borders = np.append(borders[kept], extent)
        places = max(extent - crop + 1, 1)
        starts = np.append(borders[:-1][borders[:-1] < places], places)
        first, last = starts[:-1], starts[1:] - 1
        met = borders[np.searchsorted(borders, last + crop, "right") - 1] - crop
        return cls(crop, kept, borders, starts, (first, last, np.clip(met, first, last)))

    @property
    def widths(self) -> Integers:
        """Of the mask's pixels."""
        return np.diff(self.borders)

    def windows(self, above: Sums, values: Sums, places: Integers) -> Sums:
        """The sums of `values` along the first axis over a crop's length from each place on.

        (len(places), m) for `values` (n, m), one row for each of the mask's pixels; `above` are
        their running sums.
        """
        near = self._up_to(above, values, places)
        return self._up_to(above, values, np.minimum(places + self.crop, self.borders[-1])) - near

    def _up_to(self, above: Sums, values: Sums, places: Integers) -> Sums:
        pixel = np.minimum(np.searchsorted(self.borders, places, "right"), len(values)) - 1
        into = (places - self.borders[pixel]).astype(np.int32)
        sums: Sums = above[pixel] + into[:, None] * values[pixel]
        return sums


def _running_down(values: Sums, widths: Integers) -> Sums:
    """The running sums of `values` (n, m), each row as often as it is wide: (n + 1, m).

    They may run over the 32 bits, but a difference of two of them that is less is right.
    """
    above = np.zeros((len(values) + 1, values.shape[1]), np.int32)
    np.cumsum(values * widths.astype(np.int32)[:, None], axis=0, out=above[1:])
    return above


def _starts(start: int, length: int, extent: int, crop: int) -> tuple[int, int]:
    """First and last place, along an axis, of crops in start..start + length."""
    last = max(extent - crop, 0)
    return min(start, last), min(max(start + length - crop, start), last)


def _divided(mask: Mask, extent: Size, crop: Size) -> Mask:
    """The mask with so many pixels that one is at most half a crop wide, if that is feasible."""
    for axis, (whole, part) in enumerate(
        ((extent.height, crop.height), (extent.width, crop.width))
    ):
        pixels = mask.shape[axis]
        times = min(-(-2 * whole // (pixels * part)), max(_MOST_BLOCKS // pixels, 1))
        mask = np.repeat(mask, max(times, 1), axis=axis)
    return mask


def _overlap(borders: Integers, start: int, end: int) -> tuple[int, Integers]:
    """(first, lengths): the blocks that meet start..end, and how much of each lies in it."""
    first = int(np.searchsorted(borders, start, "right")) - 1
    last = int(np.searchsorted(borders, end, "left"))
    inside = np.clip(borders[first : last + 1], start, end)
    return first, inside[1:] - inside[:-1]


def _running(values: Integers) -> Integers:
    """0, then the sums of the first values."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])

"""Smooth fields over a block of pixels: taken at the corners of a grid, interpolated in between.

The corners' values are small whole numbers and the grid's steps powers of two, so the float32
arithmetic is exact in any order: a pixel's value does not depend on the block it is asked with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pydmed_dali.geometry import Point, Size
from pydmed_dali.synthetic.noise import Field, Layer, Samples


@dataclass(frozen=True, slots=True)
class GridAxis:
    """One axis of a block: `count` pixels of a level from `first` on, and the corners around."""

    first: int
    """The first pixel, in the level's own frame."""
    count: int
    """Number of pixels."""
    step: int
    """Pixels from corner to corner, a power of two; the corners are multiples of it."""

    @property
    def offset(self) -> int:
        """Pixels from the first corner to the first pixel."""
        return self.first % self.step

    @property
    def corners(self) -> int:
        """Number of corners."""
        return (self.offset + self.count - 1) // self.step + 2

    def samples(self, downsample: int) -> Samples:
        """The corners' positions, the centres of their pixels, in level-0 pixels."""
        start = self.first - self.offset
        return Samples((start + 0.5) * downsample, float(self.step * downsample), self.corners)

    def spread(self, corners: Layer) -> Layer:
        """`corners` (corners, n) at the pixels, multiplied by `step`: (count, n)."""
        past = np.arange(self.step, dtype=np.float32)[:, None]
        spread = corners[:-1, None] * (self.step - past)
        spread += corners[1:, None] * past
        return spread.reshape(-1, corners.shape[1])[self.offset : self.offset + self.count]


class FieldGrid:
    """The grid of a block of a level's pixels."""

    def __init__(self, location_in_level: Point, size: Size, downsample: int, step: int) -> None:
        """Lay corners `step` level-0 pixels apart, or one pixel apart where that is wider.

        `downsample` and `step` are powers of two, `step` at most 32.
        """
        step = max(step // downsample, 1)
        self._rows = GridAxis(location_in_level.y, size.height, step)
        self._columns = GridAxis(location_in_level.x, size.width, step)
        self.rows = self._rows.samples(downsample)
        """The corners' y, in level-0 pixels."""
        self.columns = self._columns.samples(downsample)
        """The corners' x, in level-0 pixels."""

    def spread(self, corners: Field, unit: float) -> Layer:
        """`corners` (rows, columns, n) at the pixels: (height, width, n) float32.

        They are rounded to multiples of `unit`, a power of two, and must stay below 2**14 of it:
        at most 32 * 32 times their number has to fit the 24 bits of a float32.
        """
        rows, _, values = corners.shape
        whole = np.rint(corners.swapaxes(0, 1) / unit).astype(np.float32)
        across = self._columns.spread(whole.reshape(-1, rows * values))
        down = across.reshape(-1, rows, values).swapaxes(0, 1)
        spread = self._rows.spread(down.reshape(rows, -1))
        spread *= np.float32(unit / self._rows.step**2)
        return spread.reshape(len(spread), -1, values)

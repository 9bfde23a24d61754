"""Where the tissue is: the one mask that all loaders of a benchmark share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.tissue_mask import compute_mask


@dataclass(frozen=True)
class TissueMask:
    """A slide's tissue as a raster of cells."""

    cells: NDArray[np.bool_]
    """(rows, columns): whether a cell is tissue."""
    downsample: tuple[float, float]
    """Level-0 pixels per cell (x, y)."""

    def shares(self, x: NDArray[np.int64], y: NDArray[np.int64], size: int) -> NDArray[np.float64]:
        """The share of tissue in the squares of `size` whose top left corners are (x, y).

        Exact for the raster, also where a border runs through cells. All in level-0 pixels.
        """
        sums = self._sums(x + size, y + size) - self._sums(x, y + size)
        sums -= self._sums(x + size, y) - self._sums(x, y)
        shares: NDArray[np.float64] = sums * self.downsample[0] * self.downsample[1] / size**2
        return shares

    def _sums(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cells of tissue between the slide's corner and (x, y), with fractions of cells."""
        table = np.pad(self.cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        column = np.clip(x / self.downsample[0], 0, self.cells.shape[1])
        row = np.clip(y / self.downsample[1], 0, self.cells.shape[0])
        left = np.minimum(column.astype(int), self.cells.shape[1] - 1)
        top = np.minimum(row.astype(int), self.cells.shape[0] - 1)
        right, bottom = column - left, row - top
        upper = table[top, left] * (1 - right) + table[top, left + 1] * right
        lower = table[top + 1, left] * (1 - right) + table[top + 1, left + 1] * right
        found: NDArray[np.float64] = upper * (1 - bottom) + lower * bottom
        return found


def tissue_mask(path: Path) -> TissueMask:
    """The tissue of a slide, as this project finds it: so that all draw from the same places."""
    slide = OpenSlideSlide(path)
    try:
        mask = compute_mask(slide)
    finally:
        slide.close()
    return TissueMask(mask.pixels, mask.pixel)

"""Where on a slide the tissue lies: an irregular piece with clefts, on empty glass."""

from __future__ import annotations

import numpy as np

from pydmed_dali.geometry import Size
from pydmed_dali.synthetic.noise import Field, Samples, plane_noise

_REACH = 60.0
"""Distances are cut off here, in level-0 pixels."""
_CLEFT_EXTENT = 16000.0
"""Clefts are as large as on a slide of this side, or of the slide's own where that is less."""


class TissueOutline:
    """The piece of tissue of one slide, a pure function of the slide's key and size."""

    def __init__(self, size: Size, key: int) -> None:
        """Choose the share of a slide of `size` level-0 pixels that the piece covers."""
        self._size = size
        self._key = key
        self._unit = min(size.width, size.height) / 2
        rng = np.random.default_rng([key, 0])
        self._threshold = 0.0
        self._threshold = float(np.quantile(self._overview(), 1 - rng.uniform(0.64, 0.74)))

    def distance(self, rows: Samples, columns: Samples) -> Field:
        """About how deep a position lies in the tissue: (rows, columns) float64 within -60..60.

        Level-0 pixels, negative outside the tissue. `rows` and `columns` are in level-0 pixels.
        """
        distance = (self._shape(rows, columns) - self._threshold) * self._unit
        if distance.max() > -2 * _REACH:
            distance += self._frayed(rows, columns)
            distance = np.minimum(distance, self._cleft(rows, columns))
        return np.clip(distance, -_REACH, _REACH)

    def _overview(self) -> Field:
        """The shape at 64x64 positions of the slide."""
        rows, columns = (
            Samples(extent / 128, extent / 64, 64)
            for extent in (self._size.height, self._size.width)
        )
        return self._shape(rows, columns)

    def _shape(self, rows: Samples, columns: Samples) -> Field:
        """A rounded rectangle, falling from 1 at the slide's centre to 0 at its sides; wavy."""
        across, down = (
            np.abs(samples.positions * 2 / extent - 1)
            for samples, extent in ((columns, self._size.width), (rows, self._size.height))
        )
        shape: Field = 1 - np.cbrt(down[:, None] ** 3 + across**3)
        extent = max(self._size.width, self._size.height)
        for octave, (share, height) in enumerate(((0.42, 0.17), (0.19, 0.08), (0.07, 0.03))):
            shape += height * plane_noise(self._key + octave, share * extent, rows, columns)[0]
        return shape

    def _frayed(self, rows: Samples, columns: Samples) -> Field:
        """What is added to the distance near the edge, in level-0 pixels."""
        share = min(1.0, self._unit / 1000)
        coarse = plane_noise(self._key + 10, 460, rows, columns)[0]
        fine = plane_noise(self._key + 11, 110, rows, columns)[0]
        frayed: Field = share * (34 * coarse + 11 * fine)
        return frayed

    def _cleft(self, rows: Samples, columns: Samples) -> Field:
        """Distance from the nearest cleft, a tapering slit where a smooth noise is zero."""
        fine = plane_noise(self._key + 21, 170, rows, columns)[0]
        distance = np.full(fine.shape, _REACH)
        for octave, (share, width) in enumerate(((0.28, 0.005), (0.11, 0.0025))):
            extent = min(2 * self._unit, _CLEFT_EXTENT)
            slit, open_ = plane_noise(self._key + 22 + octave, share * extent, rows, columns, 2)
            away = np.abs(slit) * 0.45 * share * extent - width * extent * (1.6 * open_ - 0.35)
            distance = np.minimum(distance, away + 4 * fine)
        return distance

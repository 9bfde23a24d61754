"""Smooth noise that is a pure function of its key and the position, on the plane and on a torus."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float64]
Layer = NDArray[np.float32]
_T = TypeVar("_T", np.uint8, np.float32)

_TO_UNIT = 1.45
"""Makes up for what the spline's averaging takes from the noise's spread, per axis."""
_WORD = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Samples:
    """Evenly spaced positions along one axis."""

    start: float
    """The first position, in level-0 pixels."""
    step: float
    """Distance between neighbours, in level-0 pixels."""
    count: int
    """Number of positions."""

    @property
    def positions(self) -> Field:
        """The positions, (count,) float64, in level-0 pixels."""
        return self.start + self.step * np.arange(self.count, dtype=np.float64)


def plane_noise(
    key: int, wavelength: float, rows: Samples, columns: Samples, fields: int = 1
) -> Field:
    """Independent fields of smooth noise: (fields, rows, columns) float64, mostly within -1..1.

    Random numbers on a square lattice of `wavelength` level-0 pixels, smoothed by the cubic
    B-spline: twice continuously differentiable, and the same at a position on whatever grid.
    """
    first_row, row_weights = _spline_weights(rows, wavelength)
    first_column, column_weights = _spline_weights(columns, wavelength)
    lattice = _hashed(
        key,
        np.arange(fields)[:, None, None],
        np.arange(first_row, first_row + row_weights.shape[1])[:, None],
        np.arange(first_column, first_column + column_weights.shape[1]),
    )
    return row_weights @ lattice @ column_weights.T


def torus_noise(
    rng: np.random.Generator, side: int, cells: tuple[int, int], octaves: int = 1
) -> Layer:
    """Smooth noise that repeats after `side` in both directions: (side, side) float32 within 0..1.

    `cells` is the number of random values (down, across) of the first octave; each further octave
    has twice as many and two thirds of the weight.
    """
    values = rng.random(cells, np.float32)
    total = weight = 1.0
    for _ in range(octaves - 1):
        weight /= 1.5
        total += weight
        values = torus_resized(values, (2 * values.shape[0], 2 * values.shape[1]))
        values = values + np.float32(weight) * rng.random(values.shape, np.float32)
    noise = torus_resized(values / np.float32(total), (side, side))
    return np.clip(noise, 0, 1, out=noise)


def torus_resized(values: NDArray[_T], shape: tuple[int, int]) -> NDArray[_T]:
    """`values` (down, across) enlarged to `shape` by bicubic interpolation, across the seam too."""
    down, across = values.shape
    padded = Image.fromarray(np.pad(values, 3, mode="wrap"))
    box = (3, 3, 3 + across, 3 + down)
    resized = padded.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box)
    return np.array(resized, values.dtype)


@lru_cache(maxsize=8192)
def _spline_weights(samples: Samples, wavelength: float) -> tuple[int, Field]:
    """The first lattice index, and the weights (count, lattice) of the cubic B-spline."""
    positions = samples.positions / wavelength
    whole = np.floor(positions).astype(np.int64)
    t = positions - whole
    splines = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    first = int(whole[0]) - 1
    weights = np.zeros((samples.count, int(whole[-1]) + 3 - first))
    rows = np.arange(samples.count)
    for offset, spline in enumerate(splines):
        weights[rows, whole - 1 + offset - first] = spline * _TO_UNIT / 6
    return first, weights


def _hashed(key: int, *indices: NDArray[np.int64]) -> Field:
    """A number in -1..1 for each of the broadcast indices, by splitmix64's finalizer."""
    mixed = np.array(key * 0x9E3779B97F4A7C15 & _WORD, np.uint64)
    factors = (0xD1B54A32D192ED03, 0xAEF17502108EF2D9, 0x8CB92BA72F3D8DD7)
    for index, factor in zip(indices, factors, strict=True):
        mixed = mixed ^ index.astype(np.uint64) * np.uint64(factor)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1

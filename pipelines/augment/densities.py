"""Optical densities, in which amounts of stain add up: from grey values and back."""

from __future__ import annotations

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

_DENSITIES = np.log10(256 / (np.arange(256) + 1.0))
"""Optical density of each grey value; black is 2.41 and white 0."""
_STEPS = 4096
"""Densities told apart on the way back: at most half a grey value lies between two of them."""
SCALE = float(_STEPS / np.log10(256))
"""Steps per density, to the base of ten."""
_GREYS = np.rint(256 * 10 ** (-np.arange(_STEPS) / SCALE) - 1)


def change_densities(image: DataNode, matrix: DataNode, shift: DataNode | None = None) -> DataNode:
    """The optical densities of each pixel times a matrix, plus a shift.

    `matrix` is (3, 3) float32, `shift` (3,) float32, both on the CPU, and both times `SCALE`. From
    grey values to optical densities by a table, to new ones by the matrix, and back by a table:
    within one grey value of the same in floating point, at half its cost.
    """
    densities = fn.lookup_table(
        image, keys=list(range(256)), values=_DENSITIES.tolist(), dtype=types.FLOAT
    )
    changed = fn.coord_transform(densities, M=matrix, T=0.0 if shift is None else shift)
    steps = fn.cast(changed, dtype=types.UINT16)
    return fn.lookup_table(
        steps, keys=list(range(_STEPS)), values=_GREYS.tolist(), dtype=types.UINT8
    )

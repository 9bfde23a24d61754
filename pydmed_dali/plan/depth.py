"""The third axis: which slices of a volume a chunk holds, and in which of them its crops lie.

Of volumes a chunk is a box and a crop a smaller one. In its slot the slices of a chunk lie one
below the other, so that to the ring it is one tall image; a crop is cut out slice by slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.placement import cell_borders
from pydmed_dali.plan.random import Stream, uniform

Slices = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Slab:
    """The slices of one chunk."""

    first: int
    """Of the volume."""
    cell: int
    """Crops begin in the first `cell` of them, each as likely as any other."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How many slices a chunk and a crop have.

    As in the plane (`Placer`): the slices in which a crop can begin are parted among cells, one for
    a chunk; a cell is drawn in proportion to its slices, and a crop uniformly within it, apart from
    where they lie in the plane. All together, every crop of the volume is equally likely.
    """

    chunk: int
    crop: int

    def place(self, slices: int, seed: int, candidate: Candidate, visit: int) -> Slab:
        """The slab of a visit of a volume of so many slices."""
        borders = cell_borders(slices, self.crop, self.chunk, 1)
        key = (seed, Stream.DEPTH, candidate.slide, candidate.attempt, visit)
        drawn = int(float(uniform(*key)[0]) * int(borders[-1]))
        cell = int(np.searchsorted(borders, drawn, "right")) - 1
        return Slab(int(borders[cell]), int(borders[cell + 1] - borders[cell]))

    def crops(self, slab: Slab, seed: int, candidate: Candidate, visit: int, count: int) -> Slices:
        """(count,) int32: the first slice of each crop, counted from the slab's."""
        key = (seed, Stream.DEPTH_CROPS, visit, candidate.attempt)
        drawn = uniform(*key, np.arange(count, dtype=np.int64))
        return (drawn * slab.cell).astype(np.int32)

    def __str__(self) -> str:
        return f"{self.crop} of {self.chunk} slices"

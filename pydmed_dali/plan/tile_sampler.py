"""Whom to visit where every chunk comes once: the slides in order, and of each its chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.tile_grid import Integers, SlideGrid


class TileSampler:
    """Which chunk each visit takes: the part of a `Sampler` in training."""

    def __init__(self, patients: Sequence[int], grids: Mapping[int, SlideGrid]) -> None:
        """`patients` is the patient of every slide; `grids` the slides of the run, in order."""
        found = [(slide, *grid.chunks()) for slide, grid in grids.items()]
        self._patients = patients
        self._slides = np.concatenate([np.full(len(chunks), slide) for slide, chunks, _ in found])
        self._chunks = np.concatenate([chunks for _, chunks, _ in found])
        self.tiles: Integers = np.concatenate([tiles for _, _, tiles in found])
        """Tiles of each chunk, in the order of the visits."""

    @property
    def visits_per_pass(self) -> int:
        """Chunks of a run."""
        return len(self.tiles)

    def candidates(self, visit: int) -> Iterator[Candidate]:
        """The chunk itself, `turn` being its number in its grid: nothing stands in for it."""
        slide = int(self._slides[visit])
        yield Candidate(self._patients[slide], slide, int(self._chunks[visit]), 0)

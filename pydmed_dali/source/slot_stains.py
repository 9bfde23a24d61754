"""How the slide of each slot's chunk is stained, kept ready for a batch to be put together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.pool.chunk_scheduler import ReadyChunk
from pydmed_dali.slide.stain import UNKNOWN


class SlotStains:
    """The numbers that pipelines get of the slots' stains, by one method."""

    def __init__(self, slots: int, method: str) -> None:
        self._unknown = UNKNOWN[method]
        self._numbers = np.repeat(self._unknown[None], slots, axis=0)

    def note(self, resident: ReadyChunk) -> None:
        """A chunk is ready in its slot."""
        stain = resident.loaded.stain
        self._numbers[resident.slot] = self._unknown if stain is None else stain.numbers()

    def rows(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, rows, 3): those of a batch's crops."""
        return self._numbers[slots]

"""What a batch says of its crops, kept ready by slot: a row of `info`, and the slide's stain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Size
from pydmed_dali.plan.depth import Depth
from pydmed_dali.pool.chunk_scheduler import ReadyChunk
from pydmed_dali.slide.stain import UNKNOWN
from pydmed_dali.source.provenance import PICOMETRES, InfoColumn


class SlotTable:
    """What a batch says of each slot's chunk: its part of `info`, and its slide's stain."""

    def __init__(
        self, slots: int, chunk: Size, crop: Size, depth: Depth | None, stain_method: str | None
    ) -> None:
        self._slice_height = chunk.height
        self._fixed = np.zeros((slots, len(InfoColumn)), np.int64)
        self._fixed[:, InfoColumn.DEPTH] = 1 if depth is None else depth.crop
        self._fixed[:, InfoColumn.CHUNK_DEPTH] = 1 if depth is None else depth.chunk
        self._fixed[:, InfoColumn.WIDTH] = crop.width
        self._fixed[:, InfoColumn.HEIGHT] = crop.height
        self._crop = crop
        self._origin = np.zeros((slots, 2))
        self._downsample = np.ones((slots, 2))
        self._unknown_stain = self._stains = None
        if stain_method is not None:
            self._unknown_stain = UNKNOWN[stain_method]
            self._stains = np.repeat(self._unknown_stain[None], slots, axis=0)

    def note(self, ready: ReadyChunk) -> None:
        """Take over what is known of a chunk that is ready in its slot."""
        loaded, slot = ready.loaded, ready.slot
        row = self._fixed[slot]
        row[InfoColumn.PATIENT] = ready.candidate.patient
        row[InfoColumn.SLIDE] = ready.candidate.slide
        row[InfoColumn.CHUNK] = ready.visit
        row[InfoColumn.ATTEMPT] = ready.candidate.attempt
        row[InfoColumn.CLASS] = ready.candidate.class_number
        row[InfoColumn.LEVEL] = loaded.level
        row[InfoColumn.LEVEL0_WIDTH] = round(self._crop.width * loaded.downsample[0])
        row[InfoColumn.LEVEL0_HEIGHT] = round(self._crop.height * loaded.downsample[1])
        row[InfoColumn.MPP_PM] = round(loaded.mpp[0] * PICOMETRES) if loaded.mpp else 0
        row[InfoColumn.CHUNK_X] = round(loaded.origin.x * loaded.downsample[0])
        row[InfoColumn.CHUNK_Y] = round(loaded.origin.y * loaded.downsample[1])
        row[InfoColumn.CHUNK_LEVEL0_WIDTH] = round(loaded.size.width * loaded.downsample[0])
        row[InfoColumn.CHUNK_LEVEL0_HEIGHT] = round(loaded.size.height * loaded.downsample[1])
        row[InfoColumn.CHUNK_Z] = loaded.first_slice
        self._origin[slot] = (loaded.origin.x, loaded.origin.y)
        self._downsample[slot] = loaded.downsample
        if self._stains is not None:
            stain = loaded.stain
            self._stains[slot] = self._unknown_stain if stain is None else stain.numbers()

    def rows(
        self,
        batch: int,
        slots: NDArray[np.int64],
        crops: NDArray[np.int64],
        anchors: NDArray[np.int32],
        valid: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """`info` of a batch; `anchors` is (N, 2) (y, x) in the chunk's pixels."""
        rows = self._fixed[slots]
        slices, y = np.divmod(anchors[:, 0], self._slice_height)
        inside = np.stack((anchors[:, 1], y), axis=-1)
        places = np.rint((self._origin[slots] + inside) * self._downsample[slots])
        rows[:, InfoColumn.BATCH] = batch
        rows[:, InfoColumn.CROP] = crops
        rows[:, InfoColumn.X : InfoColumn.Y + 1] = places
        rows[:, InfoColumn.VALID] = valid
        rows[:, InfoColumn.Z] = rows[:, InfoColumn.CHUNK_Z] + slices
        return rows

    def stains(self, slots: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """(N, rows, 3): the stains of a batch's crops; None where no statistics were asked for."""
        return None if self._stains is None else self._stains[slots]

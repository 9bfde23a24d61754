"""The batch builder puts together, call after call, the index arrays of one batch of crops."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.dali.batch import Batch
from pydmed_dali.dali.image_list import RingImages
from pydmed_dali.geometry import Size
from pydmed_dali.plan.tile_window import TileWindow
from pydmed_dali.plan.window import Window
from pydmed_dali.pool.chunk_scheduler import ChunkScheduler
from pydmed_dali.source.provenance import InfoColumn
from pydmed_dali.source.slot_table import SlotTable


class BatchBuilder:
    """Counts the source's calls and answers each. A call that raises is not counted.

    A finite run ends with one StopIteration after its last batch; the next call begins it anew.
    """

    def __init__(
        self,
        window: Window | TileWindow,
        scheduler: ChunkScheduler,
        slot_table: SlotTable,
        tables: NDArray[np.int32],
        images: RingImages,
        labels: NDArray[np.int64],
        crop: Size,
    ) -> None:
        self._window, self._scheduler, self._slot_table = window, scheduler, slot_table
        self._tables, self._images, self._labels = tables, images, labels
        shape = np.array((crop.height, crop.width), np.int32)
        self._shapes = np.tile(shape, (window.batch_size, images.pastes, 1))
        self._call = self._begun_at = 0
        self._run_over = False

    @property
    def call(self) -> int:
        """The number of the next call."""
        return self._call

    @property
    def has_begun(self) -> bool:
        """Whether a batch was asked for."""
        return self._scheduler.tally.requested_at is not None

    def begin_at(self, call: int) -> None:
        """Continue a saved run with this call; only before the first one."""
        self._call = self._begun_at = call
        self._scheduler.start_at(call)

    @property
    def begins_again(self) -> bool:
        """Whether the next call begins a finite run anew, after the end of one was announced."""
        return self._run_over

    def end_run(self) -> None:
        """Have the next call end a finite run that is under way, as if it were complete."""
        run, batch = self._window.place(self._call)
        if batch and self._window.batches is not None:
            self._call = (run + 1) * self._window.batches
            self._run_over = False

    def places_from(self, batches: int) -> dict[int, int]:
        """The candidates' places that a state behind `batches` batches of the latest run keeps.

        Chunk numbers count from that run's start. Raises `StateError` for a batch that is so long
        ago that they were dropped.
        """
        if not batches:
            return {}
        run, newest = self._window.place(max(self._call - 1, 0))
        if batches - 1 > newest:
            run -= 1
        start = self._window.first_chunk(run * (self._window.batches or 0))
        first = self._window.first_chunk(run * (self._window.batches or 0) + batches)
        return {g - start: place for g, place in self._scheduler.places_from(first).items()}

    def next_batch(self, depth: int) -> Batch:
        """The next batch; `depth` is the prefetch depth of the pipeline that asks."""
        _, batch = self._window.place(self._call)
        ends_run = self._window.batches and not batch and self._call > self._begun_at
        if ends_run and not self._run_over:
            self._run_over = True
            raise StopIteration
        arrays = self._deal(batch, depth)
        self._run_over = False
        self._call += 1
        return arrays

    def close(self) -> None:
        """Let go of the ring's memory; the counters stay."""
        del self._tables, self._images

    def _deal(self, batch: int, depth: int) -> Batch:
        tally = self._scheduler.tally
        tally.requested_at = tally.requested_at or time.monotonic()
        waited = self._scheduler.require(self._call, depth)
        chunks, crops, valid = self._window.deal(self._call)
        slots = chunks % len(self._tables)
        anchors = self._tables[slots, crops]
        in_ids, in_anchors = self._images.address(slots, crops, anchors)
        info = self._slot_table.rows(batch, slots, crops, anchors, valid)
        tally.count_batch(int(valid.sum()), len(np.unique(info[:, InfoColumn.SLIDE])), waited)
        tally.count_classes(info[valid, InfoColumn.CLASS])
        label = self._labels[info[:, InfoColumn.PATIENT]]
        stains = self._slot_table.stains(slots)
        return Batch(in_ids, in_anchors, self._shapes, label, info, stains)

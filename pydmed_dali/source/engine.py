"""The engine behind a source: it makes plan, ring, pool and batch builder, in that order."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pydmed_dali.dali.device import Device
from pydmed_dali.dali.image_list import RingImages
from pydmed_dali.dali.residency import choose_residency, open_ring
from pydmed_dali.dali.rings import RingNeed
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Size
from pydmed_dali.plan.tile_window import TileWindow
from pydmed_dali.plan.window import Window
from pydmed_dali.pool.chunk_scheduler import ChunkScheduler
from pydmed_dali.pool.worker_pool import ChunkPool, InProcessPool, WorkerPool, pickle_loader
from pydmed_dali.ring.arena import SharedArena
from pydmed_dali.source.batch_builder import BatchBuilder
from pydmed_dali.source.options import Options
from pydmed_dali.source.schedule import Schedule
from pydmed_dali.source.slot_table import SlotTable
from pydmed_dali.worker.annotation_plan import AnnotationPlan
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.chunk_runner import ChunkRunner
from pydmed_dali.worker.patient_context import PatientQueue
from pydmed_dali.worker.plugin_calls import has_policy
from pydmed_dali.worker.read_plan import ReadPlan
from pydmed_dali.worker.stain_finder import StainPlan
from pydmed_dali.worker.tissue_places import TissuePlan

_MOST_JOBS = 16


class Engine:
    """Owns the ring and the workers. Nothing is allocated for options that cannot work."""

    def __init__(
        self,
        options: Options,
        schedule: Schedule[Window] | Schedule[TileWindow],
        dataset: Dataset,
        loader: BigChunkLoader,
        tissue: TissuePlan | None,
        cache: Path | None,
        device: Device,
        gpu: int | None,
        annotated: AnnotationPlan | None = None,
        workers: WorkerPool[Any, Any] | None = None,
    ) -> None:
        """`workers` is a pool with the same loader that has no jobs: it goes on in the ring."""
        self.options = options
        self.owner = os.getpid()
        """The process that made it: a forked child has its workers' channels and ring, too."""
        pickled = pickle_loader(loader)
        self.annotated = annotated
        self.visits_per_pass = schedule.sampler.visits_per_pass
        self.window: Window | TileWindow = schedule.window
        need = self._ring_need(gpu or 0)
        self.residency = choose_residency(options.residency, device, need)
        self.ring = open_ring(self.residency, need)
        stains = options.stain_statistics
        try:
            plan = ReadPlan(
                self.ring.worker_memory.layout,
                schedule.placer,
                options.scale,
                tissue,
                cache,
                annotated,
                None if stains is None else StainPlan(stains, tissue.masks if tissue else {}),
                options.depth,
            )
            self.pool = self.ring.wrap(self._open_pool(plan, loader, pickled, workers))
        except BaseException:
            self.ring.close()
            raise
        slot_table = SlotTable(
            need.layout.slots, options.chunk, options.crop, options.depth, stains
        )
        self.scheduler = ChunkScheduler(
            dataset,
            schedule.sampler,
            self.window,
            partial(_visit, self.window, options),
            self.ring,
            self.pool,
            slot_table.note,
            options.on_error,
            options.prefetch_depth,
            PatientQueue() if has_policy(loader) and options.passes is None else None,
        )
        labels = np.asarray(dataset.label_numbers, np.int64)
        ring_images = RingImages(
            need.layout, need.slots_per_image, options.chunk.height, options.depth
        )
        self.batch_builder = BatchBuilder(
            self.window,
            self.scheduler,
            slot_table,
            self.ring.tables,
            ring_images,
            labels,
            options.crop,
        )

    def close(self) -> None:
        """End the workers and let go of the ring."""
        self.pool.close()
        self.ring.close()
        self.batch_builder.close()

    def _ring_need(self, gpu: int) -> RingNeed:
        """Slots for what is pinned and what is loaded; pad rows up to one image for each crop."""
        options = self.options
        loads = max(options.num_workers, 1)
        slots = self.window.ring_size(options.prefetch_depth, loads)
        try:
            together = options.slots_per_image(slots)
        except OptionError:  # the lesser trouble, where the ring would not fit in memory either
            SharedArena.refuse_overrun(options.layout(slots, 0, self.annotated is not None))
            raise
        pad_rows = options.batch_size - -(-slots // together)
        layout = options.layout(slots, pad_rows, self.annotated is not None)
        per_batch = -(-options.batch_size // options.crops_per_chunk)
        # Loads under way, and some more that are copied while the next ones are read.
        stages = min(max(loads, per_batch) + 2, slots)
        share = options.gpu_memory_share
        below = 0 if options.depth is None else (options.depth.crop - 1) * options.chunk.height
        crop = Size(options.crop.width, options.crop.height + below)
        return RingNeed(layout, together, crop, stages, gpu, share)

    def _open_pool(
        self,
        plan: ReadPlan,
        loader: BigChunkLoader,
        pickled: bytes,
        workers: WorkerPool[Any, Any] | None,
    ) -> ChunkPool:
        """Return a pool on the ring's worker arena: new processes, `workers`, or this process."""
        options, shared = self.options, self.ring.worker_arena
        if options.num_workers == 0:
            return InProcessPool(ChunkRunner(plan, loader, self.ring.worker_memory))
        # Enough jobs each that a worker does not idle until the next batch is asked for; so few
        # that neither side's messages can ever fill a channel, where both would wait for ever.
        per_batch = -(-options.batch_size // options.crops_per_chunk)
        jobs = min(max(2, -(-per_batch // options.num_workers) + 1), _MOST_JOBS)
        if workers is not None:
            return workers.reconfigure(plan, shared, options.num_workers, jobs)
        return WorkerPool(plan, pickled, shared, options.num_workers, options.read_timeout, jobs)

    def visit(self, chunk: int) -> int:
        """The plan's visit, over all ranks, of a loading number."""
        return _visit(self.window, self.options, chunk)


def _visit(window: Window | TileWindow, options: Options, chunk: int) -> int:
    return window.visit(chunk) * options.world_size + options.rank

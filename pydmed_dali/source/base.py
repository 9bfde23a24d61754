"""What every source is to its pipeline: nodes, batches on request, and how it ends."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from nvidia.dali import Pipeline
from nvidia.dali.pipeline import do_not_convert

from pydmed_dali.dali.crop_shape import CropShape, note_shape
from pydmed_dali.dali.device import Device, core_count
from pydmed_dali.dali.image_list import Images
from pydmed_dali.dali.nodes import CropNodes, make_nodes
from pydmed_dali.dali.residency import Residency
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import SourceClosedError, SourceError
from pydmed_dali.plan.random import mix
from pydmed_dali.pool.report import Report
from pydmed_dali.pool.statistics import Stats
from pydmed_dali.source.engine import Engine
from pydmed_dali.source.options import Options
from pydmed_dali.source.pipeline_binding import PipelineBinding, remember_source, weakly
from pydmed_dali.source.provenance import CropInfo, describe, to_numpy
from pydmed_dali.source.ranks import Ranks
from pydmed_dali.source.summary import make_report, make_stats

MOST_WORKERS = 8
"""Loader processes, unless more are asked for."""


def usual_workers() -> int:
    """Loader processes where none are asked for: one less than the cores."""
    return min(max(core_count() - 1, 1), MOST_WORKERS)


class BaseSource(ABC):
    """The part that `BigChunkSource` and `TileSource` have in common. One serves one pipeline.

    A subclass sets all attributes below in its constructor, `_engine` last. The names that begin
    with an underscore are for the modules of this package: pipeline definition and iterator.
    """

    options: Options
    dataset: Dataset
    device: Device
    _engine: Engine
    _binding: PipelineBinding
    _gpu: int | None
    _ranks: Ranks
    _left_out: Sequence[int] = ()
    _failure: BaseException | None = None
    _closed = False

    @property
    @abstractmethod
    def batches_per_epoch(self) -> int:
        """Batches of an epoch."""

    @property
    @abstractmethod
    def is_finite(self) -> bool:
        """Whether the source ends with StopIteration."""

    @abstractmethod
    def _crops_in_batch(self, batch: int) -> int:
        """Crops of a batch without the copies that fill it."""

    @property
    def residency(self) -> Residency:
        """Where the BigChunks lie: `host`, `device` or `mapped`."""
        return self._engine.residency

    @property
    def batch_size(self) -> int:
        """Crops in a batch."""
        return self.options.batch_size

    @property
    def pipeline_options(self) -> dict[str, Any]:
        """The arguments of `nvidia.dali.pipeline_def` that fit this source.

        The seed differs between ranks, so that two ranks do not augment alike. With checkpointing,
        a state can hold what random operators draw next.
        """
        options = self.options
        return {
            "batch_size": options.batch_size,
            "num_threads": max(core_count() - options.num_workers, 1),
            "device_id": self._gpu,
            "prefetch_queue_depth": options.prefetch_depth,
            "seed": int(mix(options.seed, options.rank)[0] >> np.uint64(33)),
            "enable_checkpointing": True,
        }

    @do_not_convert
    def small_chunks(self) -> CropNodes:
        """The crops as nodes of the pipeline that is being defined; once in a source's life.

        Raises `SourceError` outside a pipeline definition, at a second call, and where the
        pipeline's batch size or prefetch depth does not fit the source.
        """
        self._refuse_if_over()
        pipeline = self._binding.bind(Pipeline.current(), self._engine.batch_builder.has_begun)
        remember_source(pipeline, self)
        chunks = make_nodes(
            weakly(self._next_images),
            weakly(self._next_batch),
            self.options.crop,
            self._engine.ring.backend,
            self.device,
            self.options.pixel,
            self.options.depth,
            None if self._engine.annotated is None else weakly(self._next_masks),
            self.options.stain_statistics is not None,
        )
        shape = CropShape(self.options.crop, self.options.depth, self.options.pixel)
        note_shape(chunks.image, shape)
        if chunks.annotated is not None:
            note_shape(chunks.mask, replace(shape, pixel=None))
        return chunks

    def describe(self, info: ArrayLike) -> list[CropInfo]:
        """Where each crop came from; `info` is the pipeline's output, (N, columns) or one row."""
        rows = np.atleast_2d(to_numpy(info))
        annotated = self._engine.annotated
        return [describe(row, self.dataset, self.options.mpp, annotated) for row in rows]

    def stats(self) -> Stats:
        """What the source did so far."""
        self._refuse_fork()
        return make_stats(self._engine, self.dataset, self.options.crop)

    def report(self) -> Report:
        """What could not be read, which loader processes were replaced, which rank this is, and
        which slides a finite source does not visit.
        """
        self._refuse_fork()
        return make_report(self._engine, self.dataset, self._ranks, self._left_out)

    @property
    def _bound_pipeline(self) -> Pipeline | None:
        """The pipeline that this source serves, as long as somebody holds it."""
        return self._binding.pipeline

    def _unbind(self) -> None:
        """Let go of a pipeline whose definition failed."""
        self._binding.unbind()

    def _end_run(self) -> None:
        """Have a finite run that is under way end at its next batch, as if it were complete."""
        self._refuse_fork()
        self._engine.batch_builder.end_run()

    def close(self) -> None:
        """End the workers and let go of the ring; closing again does nothing.

        Pipelines of the source raise `SourceClosedError` from then on.
        """
        if not self._closed:
            self._closed = True
            self._engine.close()

    def __repr__(self) -> str:
        """What it deals, of what, and in what state it is."""
        options, patients = self.options, len(self.dataset.patients)
        scales = {
            "level": options.level,
            "mpp": options.mpp,
            "magnification": options.magnification,
        }
        scale = ", ".join(f"{name}={value}" for name, value in scales.items() if value is not None)
        state = "closed" if self._closed else "failed" if self._failure is not None else "open"
        return (
            f"<{type(self).__name__}, {state}: {patients} patients, {len(self.dataset.slides)} "
            f"slides; batches of {options.batch_size} crops of {options.crop} at {scale}, from "
            f"{options.resident} BigChunks of {options.chunk}; {options.num_workers} workers, on "
            f"the {self.device}; rank {self._ranks.rank} of {self._ranks.world_size}>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _next_images(self, _: int) -> Images:
        """DALI's callback for the ring: always the same list, so nothing is copied.

        DALI numbers the calls, but anew in each epoch and process: the batch builder counts by
        itself. A callback without an argument would have DALI warn wherever it makes checkpoints.
        """
        self._refuse_if_over()
        return self._engine.ring.images

    def _next_masks(self, _: int) -> Images:
        """DALI's callback for the ring's masks, as `_next_images`."""
        self._refuse_if_over()
        assert self._engine.ring.masks is not None
        return self._engine.ring.masks

    def _next_batch(self, _: int) -> tuple[NDArray[Any], ...]:
        """DALI's callback for a batch. A call that raises loses a batch in DALI, so after the first
        failure nothing is delivered any more.
        """
        self._refuse_if_over()
        if not self._engine.batch_builder.has_begun:
            self._ranks.refuse_change()
        try:
            self._binding.refuse_overtaking(self._engine.batch_builder.begins_again)
            return self._engine.batch_builder.next_batch(self._binding.depth).given()
        except StopIteration:
            raise
        except BaseException as error:
            if self._closed:  # by another thread, while this one waited
                self._refuse_if_over()
            self._failure = error
            raise

    @property
    def _position(self) -> int:
        """Number of the batch that DALI asks for next: ahead of what a training loop has."""
        return self._engine.window.place(self._engine.batch_builder.call)[1]

    def _refuse_fork(self) -> None:
        """Raise `SourceError` in a forked child, whose use would break its parent's run."""
        if os.getpid() != self._engine.owner:
            raise SourceError(
                f"the source was made by process {self._engine.owner}, and this is its forked "
                f"child {os.getpid()}: both would take batches from the same loader processes. Use "
                "the source where it was made (without a DataLoader around it, or with "
                "num_workers=0), or make one here; the child may close its copy, and ends no worker"
            )

    def _refuse_if_over(self) -> None:
        """Raise what ended the source: that it was closed, or its first failure, again."""
        self._refuse_fork()
        if self._closed:
            raise SourceClosedError("the source was closed; make a new one to go on")
        if isinstance(self._failure, Exception):
            raise self._failure
        if self._failure is not None:
            raise SourceError(
                f"the source was interrupted ({self._failure!r}) while a batch was put together; "
                "make a new one, and load_state_dict to continue"
            )

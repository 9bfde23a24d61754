"""The binding between a source and the one pipeline it serves, and the rules that come with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nvidia.dali import Pipeline

from pydmed_dali.errors import OptionError, SourceError

if TYPE_CHECKING:
    from pydmed_dali.source.base import BaseSource

T = TypeVar("T")

# Of the pipeline. (In a WeakKeyDictionary its end would call back into Python, and what is raised
# there is lost: of programs that Ctrl-C reached at that moment, some went on.)
_SOURCE = "_pydmed_dali_source"
_OUTPUTS = "_pydmed_dali_outputs"


class PipelineBinding:
    """At most one pipeline, whose batch size fits and whose prefetch depth the ring was made for.

    Weak: the pipeline keeps its source, and a failed source keeps its failure, whose traceback
    keeps the pipeline.
    """

    def __init__(self, batch_size: int, deepest: int, gpu: int | None = None) -> None:
        self._batch_size, self._deepest, self._gpu = batch_size, deepest, gpu
        self._pipeline: weakref.ref[Pipeline] | None = None
        self.depth = deepest
        """The pipeline's prefetch depth."""

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline that is tied, as long as somebody holds it."""
        return self._pipeline() if self._pipeline else None

    def bind(self, pipeline: Pipeline | None, is_used: bool) -> Pipeline:
        """Take `pipeline`, in whose definition this happens; `is_used` once batches were asked for.

        Raises `SourceError` where there is none, where there is one already, or where it does not
        fit.
        """
        if pipeline is None:
            raise SourceError(
                "small_chunks() makes nodes of a pipeline: call it inside a function decorated "
                "with pipeline_def"
            )
        if self._pipeline is not None and (self._pipeline() or is_used):
            raise SourceError(
                "this source serves a pipeline already; two would each get a part of its batches: "
                "make one BigChunkSource for each pipeline"
            )
        if pipeline.max_batch_size != self._batch_size:
            raise SourceError(
                f"the pipeline has batch_size={pipeline.max_batch_size}, its source "
                f"batch_size={self._batch_size}; define it with pydmed_dali.pipeline_def, or "
                "pass **source.pipeline_options"
            )
        if self._gpu is not None and pipeline.device_id != self._gpu:
            raise SourceError(
                f"the pipeline has device_id={pipeline.device_id}, its source works with GPU "
                f"{self._gpu}, torch's current one when it was made; call torch.cuda.set_device "
                "before making the source, and pass **source.pipeline_options"
            )
        self.depth = self._fitting_depth(pipeline)
        if self._gpu is not None:
            refuse_streams(pipeline)
        self._pipeline = weakref.ref(pipeline)
        return pipeline

    def unbind(self) -> None:
        """Let go of a pipeline whose definition failed."""
        self._pipeline = None

    def refuse_overtaking(self, begins_again: bool) -> None:
        """Raise `SourceError` if more batches are in flight than the ring has slots for.

        `begins_again` tells that the next batch is the first of another finite run.
        """
        pipeline = self.pipeline
        if pipeline is None:
            return
        if begins_again and not pipeline.empty():
            raise SourceError(
                "the pipeline was reset while batches of the last run were not taken yet; take all "
                "of them before reset(), or use SmallChunkIterator, where break is safe"
            )
        # DALI tells the number of batches in flight in no public way.
        in_flight = getattr(pipeline, "_batches_to_consume", 0)
        if in_flight >= self.depth:
            raise SourceError(
                f"{in_flight} batches were scheduled and not taken, but the pipeline's "
                f"prefetch_queue_depth is {self.depth}: take outputs before scheduling more, or "
                "raise prefetch_depth of the source and prefetch_queue_depth of the pipeline"
            )

    def _fitting_depth(self, pipeline: Pipeline) -> int:
        depth = pipeline.prefetch_queue_depth
        if isinstance(depth, dict):  # separate queues, for the CPU and the GPU
            depth = max(depth.values())
        if depth > self._deepest:
            raise SourceError(
                f"the pipeline has prefetch_queue_depth={depth}, but the ring was made for "
                f"{self._deepest}; give the source prefetch_depth={depth}"
            )
        return int(depth)


def refuse_streams(pipeline: Pipeline) -> None:
    """Have `outputs(cuda_stream=...)` of this pipeline raise `SourceError`.

    Such outputs come before the GPU has finished them, so that the batch would still be read from
    slots which are given free and overwritten. Without a stream, DALI hands out what is complete.
    """
    reference = weakref.ref(pipeline)
    for name in ("outputs", "share_outputs"):
        setattr(pipeline, name, _without_stream(reference, getattr(Pipeline, name)))


def _without_stream(
    reference: weakref.ref[Pipeline], plain: Callable[[Pipeline | None], Any]
) -> Callable[..., Any]:
    def outputs(cuda_stream: object = None) -> Any:
        if cuda_stream is not None:
            raise SourceError(
                "outputs were asked for with a cuda_stream, before the GPU has finished them; "
                "the ring's slots would be overwritten too early: ask without one, or use "
                "SmallChunkIterator or DALIGenericIterator"
            )
        return plain(reference())

    return outputs


def remember_source(pipeline: Pipeline, source: BaseSource) -> None:
    """Have `source_of` find the source, and the pipeline keep it."""
    setattr(pipeline, _SOURCE, source)


def weakly(method: Callable[[int], T]) -> Callable[[int], T]:
    """A method as a callback that does not keep its object.

    DALI's nodes and operators hold each other, and so, until Python's collector runs, what they
    hold: a source that is let go would keep its loader processes.
    """
    reference = weakref.WeakMethod(method)

    def call(number: int) -> T:
        found = reference()
        if found is None:
            raise SourceError("the pipeline's source is gone; keep the source, or the pipeline")
        return found(number)

    return call


def source_of(pipeline: Pipeline) -> BaseSource:
    """The source that a pipeline was bound to; raises `SourceError` where there is none."""
    source: BaseSource | None = getattr(pipeline, _SOURCE, None)
    if source is None:
        raise SourceError("the pipeline has no BigChunkSource: it never called small_chunks()")
    return source


def name_outputs(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Note the names of a pipeline's outputs, in their order, for the iterator."""
    setattr(pipeline, _OUTPUTS, tuple(names))


def outputs_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The names of a pipeline's outputs, by `pipeline_def(outputs=...)`.

    Raises:
        OptionError: The pipeline was defined without names.
    """
    names: tuple[str, ...] | None = getattr(pipeline, _OUTPUTS, None)
    if names is None:
        raise OptionError(
            "the pipeline was defined without names for its outputs: give output_map, such as "
            '["image", "label", "info"], or define the pipeline by '
            '@pipeline_def(outputs=("image", "label", "info"))'
        )
    return names


def check_names(pipeline: Pipeline, names: Sequence[str], option: str) -> None:
    """Raise `OptionError` unless each output of a built pipeline has a name of its own."""
    if len(names) != pipeline.num_outputs or len(set(names)) != len(names):
        raise OptionError(
            f"{option}={list(names)} must give each of the pipeline's {pipeline.num_outputs} "
            "outputs a name of its own, in the order in which the pipeline returns them"
        )

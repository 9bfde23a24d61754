"""The work of a source: which chunks come in which order, and which of their crops make a batch.

`crop_schedule` is that of a `BigChunkSource`, random crops; `tile_schedule` that of a `TileSource`,
every tile once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.plan.class_sampler import ClassSampler
from pydmed_dali.plan.placement import Placer
from pydmed_dali.plan.sampler import Sampler
from pydmed_dali.plan.tile_grid import GridPlacer, SlideGrid
from pydmed_dali.plan.tile_sampler import TileSampler
from pydmed_dali.plan.tile_window import TileWindow
from pydmed_dali.plan.window import Window
from pydmed_dali.source.options import Options
from pydmed_dali.worker.annotation_plan import AnnotationPlan

W = TypeVar("W", Window, TileWindow)

logger = logging.getLogger("pydmed_dali.source")


@dataclass(frozen=True, slots=True)
class Schedule(Generic[W]):
    """What an engine does."""

    sampler: Sampler | ClassSampler | TileSampler
    """Whom each visit takes."""
    window: W
    """How crops are dealt to batches."""
    placer: Placer
    """Where chunks and crops lie."""


def make_sampler(
    options: Options, dataset: Dataset, plan: AnnotationPlan | None
) -> Sampler | ClassSampler:
    """The sampler of random crops, by class where the annotations have shares."""
    common = (
        options.seed,
        options.rank,
        options.world_size,
        options.balance,
        options.weights,
    )
    if plan is None or not plan.shares:
        return Sampler(dataset, *common)
    slides = [plan.slides_with(number, dataset) for number in range(len(plan.names))]
    return ClassSampler(dataset, plan.shares, slides, *common)


def slides_left_out(
    options: Options, dataset: Dataset, plan: AnnotationPlan | None
) -> tuple[int, ...]:
    """Find the slides that no visit of a finite source is planned for, and warn of them.

    Args:
        options: the source's.
        dataset: the source's.
        plan: of its annotations; None without.

    Returns:
        Positions in `Dataset.slides`, of all ranks together. None for an endless source.
    """
    by_class = plan is not None and bool(plan.shares)
    every_slide = options.balance == "slide" and options.weights is None and not by_class
    if options.passes is None or every_slide:
        return ()
    sampler = make_sampler(options, dataset, plan)  # one of its own: it keeps where it looked last
    visits = range(options.passes * sampler.visits_per_pass)
    visited = {next(sampler.candidates(visit)).slide for visit in visits}
    left_out = tuple(slide for slide in range(len(dataset.slides)) if slide not in visited)
    if left_out:
        logger.warning(
            "%d of %d slides are left out of a run: %d visits (passes=%d, balance=%r%s) do not "
            "reach all; balance='slide' without weights and shares of classes visits every slide, "
            "and report().slides_left_out names them",
            len(left_out),
            len(dataset.slides),
            len(visits),
            options.passes,
            options.balance,
            ", weights" * (options.weights is not None) + ", shares of classes" * by_class,
        )
    return left_out


def crop_schedule(options: Options, sampler: Sampler | ClassSampler) -> Schedule[Window]:
    """Random crops, for ever or in passes."""
    if 2 * options.batch_size > options.crops_per_chunk * options.resident:
        logger.warning(
            "batch_size=%d uses up more BigChunks than half of resident=%d: the ring's size "
            "follows from prefetching; raise crops_per_chunk=%d or lower batch_size",
            options.batch_size,
            options.resident,
            options.crops_per_chunk,
        )
    chunks = _chunks(options, sampler.visits_per_pass)
    window = Window.of(options.resident, options.crops_per_chunk, options.batch_size, chunks)
    return Schedule(sampler, window, Placer(options.seed, options.chunk, options.crop))


def tile_schedule(
    options: Options, sampler: TileSampler, grids: Mapping[int, SlideGrid]
) -> Schedule[TileWindow]:
    """Every tile of these slides once; a batch touches at most `options.resident` chunks."""
    window = TileWindow.of(sampler.tiles, options.batch_size, options.resident)
    return Schedule(sampler, window, GridPlacer(options.seed, options.chunk, options.crop, grids))


def _chunks(options: Options, visits_per_pass: int) -> int | None:
    """J: this rank's chunks of a finite run."""
    if options.passes is None:
        return None
    total = options.passes * visits_per_pass
    if options.rank >= total:
        raise OptionError(
            f"rank {options.rank} of {options.world_size} has no BigChunk to visit: "
            f"passes={options.passes} make {total} visits; raise passes or lower world_size"
        )
    return len(range(options.rank, total, options.world_size))

"""What a source tells of its work: its counters and its troubles, by the slides' paths."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydmed_dali.dataset import Dataset
from pydmed_dali.geometry import Size
from pydmed_dali.pool.report import Report
from pydmed_dali.pool.statistics import ClassShare, Stats
from pydmed_dali.source.engine import Engine
from pydmed_dali.source.ranks import Ranks

_T = TypeVar("_T")


def make_stats(engine: Engine, dataset: Dataset, crop: Size) -> Stats:
    """A snapshot of what the engine did for crops of this size."""
    tally, residents = engine.scheduler.tally, engine.scheduler
    begun = tally.first_batch_at
    return Stats(
        batches=tally.batches,
        crops=tally.crops,
        chunks_read=tally.chunks_read,
        decode_amplification=tally.pixels_decoded / max(tally.crops * crop.area, 1),
        decode_seconds=tally.decode_seconds,
        startup_seconds=tally.startup_seconds,
        starved_seconds=tally.starved_seconds,
        running_seconds=0.0 if begun is None else time.monotonic() - begun,
        distinct_slides_per_batch=tally.slides_in_batches / max(tally.batches, 1),
        reads_per_slide=_by_path(tally.reads_per_slide, dataset),
        tissue_shares=_by_path(tally.tissue_shares, dataset),
        slides_skipped=_by_path({**residents.troubled_slides, **residents.bad_slides}, dataset),
        worker_deaths=len(engine.pool.deaths),
        class_shares=_class_shares(engine),
    )


def make_report(engine: Engine, dataset: Dataset, ranks: Ranks, left_out: Sequence[int]) -> Report:
    """What the engine could not read or does not visit, whom it had to replace; by which rank."""
    residents = engine.scheduler
    return Report(
        slides_skipped=_by_path(residents.bad_slides, dataset),
        regions_failed=_by_path(residents.troubled_slides, dataset),
        chunks_substituted=residents.tally.chunks_substituted,
        deaths=tuple(engine.pool.deaths),
        rank=ranks.rank,
        world_size=ranks.world_size,
        rank_origin=ranks.origin,
        slides_left_out=tuple(dataset.slides[slide].path for slide in left_out),
    )


def _class_shares(engine: Engine) -> dict[str, ClassShare]:
    plan, counts = engine.annotated, engine.scheduler.tally.crops_per_class
    if plan is None:
        return {}
    return {
        name: ClassShare(share, counts[number] / max(counts.total(), 1))
        for number, (name, share) in enumerate(zip(plan.names, plan.shares, strict=False))
        if share
    }


def _by_path(values: Mapping[int, _T], dataset: Dataset) -> dict[Path, _T]:
    """Values by slide number, as values by the slide's path, in the dataset's order."""
    return {dataset.slides[slide].path: value for slide, value in sorted(values.items())}

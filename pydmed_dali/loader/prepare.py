"""Finding out, once and of all slides, how much tissue each has: for `balance="tissue"`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace

from pydmed_dali.dataset import Dataset, Patient, Record, TissueArea
from pydmed_dali.errors import DatasetError, OptionError
from pydmed_dali.geometry import Size
from pydmed_dali.loader.big_chunk_loader import BigChunkLoader
from pydmed_dali.loader.cores import core_count
from pydmed_dali.loader.messages import Answer, Failed, Job, ReadPlan
from pydmed_dali.loader.own_masks import Masks, find_masks
from pydmed_dali.loader.pool import InProcessPool, Pool, WorkerPool
from pydmed_dali.loader.tissue import TissuePlan
from pydmed_dali.plan.placement import Placer
from pydmed_dali.plan.sampler import Candidate
from pydmed_dali.ring.arena import Arena, Layout, SharedArena
from pydmed_dali.slide.cache import cache_folder
from pydmed_dali.slide.scale import Scale
from pydmed_dali.wording import some

logger = logging.getLogger("pydmed_dali.loader")

_PATIENCE = 3600.0  # the pool's own deadlines are shorter; this only bounds one wait
_NO_CROP = Size(1, 1)
_JOBS_PER_WORKER = 2


def prepare(
    dataset: Dataset,
    *,
    masks: Masks | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    num_workers: int | None = None,
    read_timeout: float = 300.0,
    loader: BigChunkLoader | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The dataset with the tissue area of every slide, by masks computed in worker processes.

    Needed once before `BigChunkSource(balance="tissue")`. The masks are kept in the cache, so that
    it takes moments the next time, and sources with `min_tissue` find them there.

    Args:
        dataset: the patients and their slides.
        masks, cache_dir, read_timeout, loader: as for `BigChunkSource`.
        num_workers: processes; by default as many as there are cores. 0 computes in this one.
        progress: called as `progress(done, total)` after each slide, in the calling process.

    Slides that cannot be read are named in the log and have no tissue. Raises `DatasetError` where
    no slide has any, `OptionError` for masks that are not there.
    """
    workers = core_count() if num_workers is None else num_workers
    if not isinstance(workers, int) or workers < 0:
        raise OptionError(f"num_workers must be an int of at least 0, not {num_workers!r}")
    tissue = TissuePlan(1.0, {} if masks is None else find_masks(dataset, masks))
    layout = Layout(1, _NO_CROP, 0, 1)
    placer = Placer(0, _NO_CROP, _NO_CROP)
    plan = ReadPlan(layout, placer, Scale(level=0), tissue, cache_folder(cache_dir))
    shared = SharedArena(layout)
    pool: Pool
    try:
        if workers:
            pool = WorkerPool(
                plan, loader or BigChunkLoader(), shared, workers, read_timeout, _JOBS_PER_WORKER
            )
        else:
            pool = InProcessPool(plan, loader or BigChunkLoader(), Arena(layout, shared.descriptor))
        try:
            areas = _areas(pool, dataset, progress)
        finally:
            pool.close()
    finally:
        shared.close()
    if not any(area.pixels for area in areas):
        paths = [record.path for record in dataset.slides]
        raise DatasetError(
            f"none of {len(areas)} slides has tissue ({some(paths)}); "
            "look at them by `pydmed-dali preview`, or give masks of your own"
        )
    return _with_areas(dataset, areas)


def _areas(
    pool: Pool, dataset: Dataset, progress: Callable[[int, int], None] | None
) -> list[TissueArea]:
    """Of each slide, in the dataset's order."""
    waiting = list(reversed(_jobs(dataset)))
    areas = [TissueArea(0.0, None)] * len(waiting)
    done = 0
    while done < len(areas):
        while waiting and pool.has_room():
            pool.submit(waiting.pop())
        for answer in pool.answers(_PATIENCE):
            areas[answer.chunk] = _area(answer)
            done += 1
            if progress is not None:
                progress(done, len(areas))
    return areas


def _jobs(dataset: Dataset) -> list[Job]:
    jobs: list[Job] = []
    for number, patient in enumerate(dataset.patients):
        for record in patient.records:
            slide = len(jobs)
            candidate = Candidate(number, slide, 0, 0)
            jobs.append(Job(slide, 0, slide, candidate, record.path, patient.id, survey=True))
    return jobs


def _area(answer: Answer) -> TissueArea:
    if isinstance(answer, Failed):
        logger.warning("%s; it counts as a slide without tissue", answer.error)
        return TissueArea(0.0, None)
    assert answer.tissue is not None
    return TissueArea(answer.tissue * answer.size.area, answer.mpp)


def _with_areas(dataset: Dataset, areas: list[TissueArea]) -> Dataset:
    rest = iter(areas)

    def measured(record: Record) -> Record:
        return replace(record, tissue=next(rest))

    def of(patient: Patient) -> Patient:
        return replace(patient, records=tuple(map(measured, patient.records)))

    return Dataset(tuple(map(of, dataset.patients)), dataset.classes)

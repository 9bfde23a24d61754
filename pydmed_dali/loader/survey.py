"""A look at every slide before a run, in worker processes: its size, its tissue, its tiles."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from pydmed_dali.geometry import Size
from pydmed_dali.loader.big_chunk_loader import BigChunkLoader
from pydmed_dali.loader.messages import Failed, Job, ReadPlan, Surveyed, SurveyPlan
from pydmed_dali.loader.pool import InProcessPool, Pool, WorkerPool
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.placement import Placer
from pydmed_dali.ring.arena import Arena, Layout, SharedArena
from pydmed_dali.slide.scale import Scale

_PATIENCE = 3600.0  # the pool's own deadlines are shorter; this only bounds one wait
_NO_CROP = Size(1, 1)
_JOBS_PER_WORKER = 2


def survey(
    paths: Sequence[Path],
    plan: SurveyPlan,
    scale: Scale,
    loader: BigChunkLoader,
    cache: Path | None,
    num_workers: int,
    read_timeout: float,
) -> Generator[Surveyed | Failed]:
    """What is found of each slide, or why nothing is, as it comes; `chunk` is its number.

    Worker processes die, hang and are replaced as in a run, however many. With `num_workers=0` the
    calling process looks itself. Raises `WorkerError` where workers cannot start.
    """
    layout = Layout(1, _NO_CROP, 0, 1)
    placer = Placer(0, _NO_CROP, _NO_CROP)
    workers = min(num_workers, len(paths))
    read = ReadPlan(layout, placer, scale, None, cache, survey=plan)
    shared = SharedArena(layout)
    try:
        pool: Pool
        if workers:
            pool = WorkerPool(read, loader, shared, workers, read_timeout, _JOBS_PER_WORKER)
        else:
            pool = InProcessPool(read, loader, Arena(layout, shared.descriptor))
        try:
            yield from _ask(pool, paths)
        finally:
            pool.close()
    finally:
        shared.close()


def _ask(pool: Pool, paths: Sequence[Path]) -> Iterator[Surveyed | Failed]:
    given = taken = 0
    while taken < len(paths):
        while given < len(paths) and pool.has_room():
            pool.submit(Job(given, 0, given, Candidate(0, given, 0, 0), paths[given], ""))
            given += 1
        for answer in pool.answers(_PATIENCE):
            assert isinstance(answer, Surveyed | Failed)
            yield answer
            taken += 1
            # However many slides end their readers, each does so twice: that is no flapping.
            pool.deaths.clear()

"""A look at every slide before a run, in worker processes: its size, its tissue, its tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydmed_dali.pool.worker_pool import InProcessPool, SurveyPool, WorkerPool, pickle_loader
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.messages import Failed, Surveyed, SurveySlide
from pydmed_dali.worker.read_plan import SurveyPlan
from pydmed_dali.worker.survey_runner import SurveyRunner

_PATIENCE = 3600.0  # the pool's own deadlines are shorter; this only bounds one wait
_TASKS_PER_WORKER = 2


class Survey:
    """Looks at slides, in worker processes, or with `num_workers=0` in the calling process.

    Iterating gives what is found of each slide, or why nothing is, as it comes; `number` is its
    position in `paths`. Workers die, hang and are replaced as in a run, however many; raises
    `WorkerError` where they cannot start. A context manager, which ends them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        plan: SurveyPlan,
        loader: BigChunkLoader,
        num_workers: int,
        read_timeout: float,
    ) -> None:
        self._paths, self._kept = paths, False
        self._workers: WorkerPool[SurveySlide, Surveyed] | None = None
        workers = min(num_workers, len(paths))
        if workers:
            self._workers = WorkerPool(
                plan, pickle_loader(loader), None, workers, read_timeout, _TASKS_PER_WORKER
            )
        self._pool: SurveyPool = self._workers or InProcessPool(SurveyRunner(plan, loader))

    def __enter__(self) -> Survey:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._workers is None or not self._kept:
            self._pool.close()

    def __iter__(self) -> Iterator[Surveyed | Failed]:
        given = taken = 0
        while taken < len(self._paths):
            while given < len(self._paths) and self._pool.has_room():
                self._pool.submit(SurveySlide(given, self._paths[given]))
                given += 1
            for answer in self._pool.answers(_PATIENCE):
                yield answer
                taken += 1
                # However many slides end their readers, each does so twice: that is no flapping.
                self._pool.deaths.clear()

    @property
    def workers(self) -> WorkerPool[SurveySlide, Surveyed] | None:
        """The worker processes, for `WorkerPool.reconfigure` when all slides are surveyed."""
        return self._workers

    def keep_workers(self) -> None:
        """Do not end the workers, if there are any: whoever uses them does."""
        self._kept = True

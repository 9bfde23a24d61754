"""A look at every slide before a run, in worker processes: its size, its tissue, its tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from pydmed_dali.geometry import Size
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.placement import Placer
from pydmed_dali.pool.worker_pool import InProcessPool, Pool, WorkerPool, pickle_loader
from pydmed_dali.ring.arena import Arena, Layout, SharedArena
from pydmed_dali.slide.scale import Scale
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.messages import Failed, Job, ReadPlan, Surveyed, SurveyPlan

_PATIENCE = 3600.0  # the pool's own deadlines are shorter; this only bounds one wait
_NO_CROP = Size(1, 1)
_JOBS_PER_WORKER = 2


class Survey:
    """Looks at slides, in worker processes, or with `num_workers=0` in the calling process.

    Iterating gives what is found of each slide, or why nothing is, as it comes; `chunk` is its
    number. Workers die, hang and are replaced as in a run, however many; raises `WorkerError` where
    they cannot start. A context manager, which ends them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        plan: SurveyPlan,
        scale: Scale,
        loader: BigChunkLoader,
        cache: Path | None,
        num_workers: int,
        read_timeout: float,
    ) -> None:
        self._paths, self._kept = paths, False
        layout = Layout(1, _NO_CROP, 0, 1)
        placer = Placer(0, _NO_CROP, _NO_CROP)
        read = ReadPlan(layout, placer, scale, None, cache, survey=plan)
        with ExitStack() as stack:
            shared = SharedArena(layout)
            stack.callback(shared.close)
            shared.mark_filled(0)  # a few bytes, that no error's text is to speak of
            workers = min(num_workers, len(paths))
            self._pool: Pool
            if workers:
                self._pool = WorkerPool(
                    read,
                    pickle_loader(loader),
                    shared,
                    workers,
                    read_timeout,
                    _JOBS_PER_WORKER,
                )
            else:
                self._pool = InProcessPool(read, loader, Arena(layout, shared.descriptor))
            stack.callback(self._close_pool)
            self._stack = stack.pop_all()

    def __enter__(self) -> Survey:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Surveyed | Failed]:
        given = taken = 0
        while taken < len(self._paths):
            while given < len(self._paths) and self._pool.has_room():
                candidate = Candidate(0, given, 0, 0)
                self._pool.submit(Job(given, 0, given, candidate, self._paths[given], ""))
                given += 1
            for answer in self._pool.answers(_PATIENCE):
                assert isinstance(answer, Surveyed | Failed)
                yield answer
                taken += 1
                # However many slides end their readers, each does so twice: that is no flapping.
                self._pool.deaths.clear()

    @property
    def workers(self) -> WorkerPool | None:
        """The worker processes, for `WorkerPool.reconfigure` when all slides are looked at."""
        return self._pool if isinstance(self._pool, WorkerPool) else None

    def keep_workers(self) -> None:
        """Do not end the workers, if there are any: whoever uses them does."""
        self._kept = True

    def _close_pool(self) -> None:
        if self.workers is None or not self._kept:
            self._pool.close()

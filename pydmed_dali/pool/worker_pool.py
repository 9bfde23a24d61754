"""The pools that load chunks or survey slides: worker processes, or the calling process itself."""

from __future__ import annotations

import logging
import os
import pickle
import select
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, Protocol, TypeVar, cast

import cloudpickle

from pydmed_dali.errors import (
    OptionError,
    SlideReadError,
    WorkerError,
    WorkerTimeoutError,
)
from pydmed_dali.pool.report import Death
from pydmed_dali.pool.worker_process import WorkerProcess
from pydmed_dali.ring.arena import SharedArena
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.messages import (
    AnswerPart,
    Failed,
    FromWorker,
    Hello,
    LoadChunk,
    Loaded,
    Setup,
    Started,
    Surveyed,
    SurveySlide,
    Task,
    receive,
)
from pydmed_dali.worker.read_plan import ReadPlan, SurveyPlan

logger = logging.getLogger("pydmed_dali.pool")

_START_SECONDS = 120.0  # a cold import over a network share takes long; a hang is longer
_END_SECONDS = 5.0
_DEATHS_PER_TASK = 2
_MOST_DEATHS = 50
_MOST_FAILED_STARTS = 3


_Given = TypeVar("_Given", bound=Task)
_Found = TypeVar("_Found", bound=Loaded | Surveyed)
_GivenIn = TypeVar("_GivenIn", bound=Task, contravariant=True)
_FoundOut = TypeVar("_FoundOut", bound=Loaded | Surveyed, covariant=True)


class Pool(Protocol[_GivenIn, _FoundOut]):
    """What does tasks. The parent submits tasks while there is room, and takes the answers."""

    reads_ahead: bool
    """Whether chunks may be submitted before a batch waits for them."""
    deaths: list[Death]
    """Workers that ended without being told to, in order."""

    def has_room(self) -> bool:
        """Whether another task would not just wait in a queue."""
        ...

    def submit(self, task: _GivenIn, /) -> None:
        """Take a task; a chunk's slot is the pool's until the answer."""
        ...

    def answers(self, timeout: float) -> Sequence[_FoundOut | Failed]:
        """Answers so far; waits up to `timeout` seconds for one. Raises `WorkerError`."""
        ...

    def close(self) -> None:
        """Stop; the tasks that are not answered are dropped. Closing again does nothing."""
        ...


ChunkPool = Pool[LoadChunk, Loaded]
SurveyPool = Pool[SurveySlide, Surveyed]


class Runner(Protocol[_GivenIn, _FoundOut]):
    """What a process does tasks with: `ChunkRunner` or `SurveyRunner`."""

    def run(self, task: _GivenIn, /) -> _FoundOut | Failed:
        """Do a task, or say why not; raises nothing but what ends a process."""
        ...

    def close(self) -> None:
        """Close the slides that are still open."""
        ...


class InProcessPool(Generic[_Given, _Found]):
    """Reads in the calling process, one task when asked for answers: `num_workers=0`."""

    reads_ahead = False

    def __init__(self, runner: Runner[_Given, _Found]) -> None:
        self.deaths: list[Death] = []
        self._runner = runner
        self._tasks: list[_Given] = []

    def has_room(self) -> bool:
        """One task at a time."""
        return not self._tasks

    def submit(self, task: _Given, /) -> None:
        """See `Pool.submit`."""
        self._tasks.append(task)

    def answers(self, timeout: float) -> Sequence[_Found | Failed]:
        """Read what was submitted, unless the caller does not want to wait."""
        if not timeout:
            return []
        tasks, self._tasks = self._tasks, []
        return [self._runner.run(task) for task in tasks]

    def close(self) -> None:
        """See `Pool.close`."""
        self._runner.close()
        del self._runner


class WorkerPool(Generic[_Given, _Found]):
    """Worker processes, replaced when they die, killed when they hang, gone when this is closed.

    A task whose worker died or exceeded `read_timeout` seconds is given to another; a task that
    does so twice is answered with `Failed(whole_slide=True)`. After 50 deaths, with many workers
    two of each, the pool gives up. `loader` is the loader as `pickle_loader` gives it.
    """

    reads_ahead = True

    def __init__(
        self,
        plan: ReadPlan | SurveyPlan,
        loader: bytes,
        arena: SharedArena | None,
        num_workers: int,
        read_timeout: float,
        jobs_per_worker: int,
    ) -> None:
        self._arena = None if arena is None else arena.descriptor
        self._read_timeout = read_timeout
        self._jobs_per_worker = jobs_per_worker
        self._setup = Setup(plan, loader, os.getpid())
        self._deaths_of: Counter[Task] = Counter()
        self._pending: list[_Found | Failed] = []
        self.deaths: list[Death] = []
        self._failed_starts = 0
        self._workers: dict[int, WorkerProcess] = {}
        self._finalizer = weakref.finalize(self, _end_all, self._workers, owner=os.getpid())
        with _file_of(self._setup) as setup:
            for number in range(num_workers):
                self._workers[number] = WorkerProcess(number, setup, self._arena)

    def reconfigure(
        self, plan: ReadPlan, arena: SharedArena, num_workers: int, jobs_per_worker: int
    ) -> WorkerPool[LoadChunk, Loaded]:
        """Switch the running workers to loading chunks by a plan into an arena.

        The workers keep their loader and must be idle. Where there are fewer than `num_workers`,
        the rest is started. Returns this pool, for its new kind of tasks.
        """
        self._arena, self._jobs_per_worker = arena.descriptor, jobs_per_worker
        self._setup = replace(self._setup, plan=plan)
        self._deaths_of.clear()
        self.deaths.clear()
        self._failed_starts = 0
        with _file_of(self._setup) as setup:
            for worker in self._workers.values():
                worker.reconfigure(setup, self._arena)
            for number in range(len(self._workers), num_workers):
                self._workers[number] = WorkerProcess(number, setup, self._arena)
        return cast("WorkerPool[LoadChunk, Loaded]", self)

    def has_room(self) -> bool:
        """See `Pool.has_room`."""
        return any(len(worker.jobs) < self._jobs_per_worker for worker in self._workers.values())

    def submit(self, task: _Given, /) -> None:
        """Give the task to the worker that has least to do."""
        min(self._workers.values(), key=lambda worker: len(worker.jobs)).give(task)

    def answers(self, timeout: float) -> Sequence[_Found | Failed]:
        """See `Pool.answers`. Watches the processes themselves, not only their channels."""
        until = time.monotonic() + timeout
        while True:
            # The deadlines are looked at after the messages, so that a parent which was busy for
            # long does not take for hanging what it has not listened to.
            self._listen(max(until - time.monotonic(), 0) if not self._pending else 0)
            self._check_deadlines()
            if self._pending or time.monotonic() >= until:
                answers, self._pending = self._pending, []
                return answers

    def close(self) -> None:
        """See `Pool.close`. Workers get a few seconds to end by themselves, then are killed."""
        self._finalizer()

    def _listen(self, timeout: float) -> None:
        """Wait up to `timeout` for any message or any death, and take in all there are."""
        poll = select.poll()
        for worker in self._workers.values():
            poll.register(worker.channel, select.POLLIN)
            poll.register(worker.pidfd, select.POLLIN)
        poll.poll(min(timeout, self._next_deadline()) * 1000)
        for worker in list(self._workers.values()):
            alive = True
            while alive and _readable(worker.channel.fileno()):
                alive = self._take(worker)
            if _readable(worker.pidfd):
                while _readable(worker.channel.fileno()) and self._take(worker):
                    pass  # what it said before it died
                self._replace(worker, worker.ending())

    def _take(self, worker: WorkerProcess) -> bool:
        """Take in one message; False at the channel's end."""
        try:
            message = receive(worker.channel)
        except OSError:
            return False
        if message is None:
            return False
        self._note(worker, message)  # type: ignore[arg-type]
        return True

    def _note(self, worker: WorkerProcess, message: FromWorker) -> None:
        if isinstance(message, Hello):
            worker.ready = True
            self._failed_starts = 0
            worker.since = time.monotonic()
        elif isinstance(message, Started):
            worker.since = message.at
        elif isinstance(message, AnswerPart):
            worker.pieces.append(message.bits)
            worker.since = time.monotonic()
        else:
            if isinstance(message, Surveyed) and message.wanted is not None:
                message = replace(message, wanted=b"".join(worker.pieces))
                worker.pieces.clear()
            job = worker.jobs.popleft()
            assert job.number == message.number
            worker.since = time.monotonic()
            self._pending.append(message)  # type: ignore[arg-type]

    def _next_deadline(self) -> float:
        """Seconds until some worker is late."""
        now = time.monotonic()
        ends = [w.since + limit for w in self._workers.values() if (limit := self._limit(w))]
        return max(min(ends, default=now + 3600.0) - now, 0.0) + 0.01

    def _limit(self, worker: WorkerProcess) -> float | None:
        """How long what a worker does now may take; None for an idle one."""
        if not worker.ready:
            return _START_SECONDS
        return self._read_timeout if worker.jobs else None

    def _check_deadlines(self) -> None:
        for worker in list(self._workers.values()):
            limit = self._limit(worker)
            if limit is None or time.monotonic() - worker.since <= limit:
                continue
            if not worker.kill():
                raise WorkerTimeoutError(
                    f"{worker} neither answers nor can be killed; it hangs in the kernel"
                    + (f", reading {worker.jobs[0].path}" if worker.jobs else "")
                )
            name = "read_timeout" if worker.ready else "the limit for its start"
            told = f"was killed after {limit:g} s without an answer ({name})"
            self._replace(worker, told + self._with_annotations(worker))

    def _with_annotations(self, worker: WorkerProcess) -> str:
        """What a slow worker may have read beside the slide, where nothing could be kept of it."""
        plan = self._setup.plan
        if isinstance(plan, SurveyPlan):
            annotated = None if plan.tiles is None else plan.tiles.annotated
        else:
            annotated = plan.annotated
        if not worker.ready or annotated is None or plan.cache is not None:
            return ""
        file = annotated.files.get(worker.jobs[0].path)
        if file is None:
            return ""
        return f" for the slide or its annotations {file.path}, parsed anew for want of a cache_dir"

    def _replace(self, worker: WorkerProcess, ending: str) -> None:
        """Put a new worker in the place of one that has ended, and see to its jobs."""
        jobs = list(worker.jobs)
        path = str(jobs[0].path) if jobs and worker.ready else None
        death = Death(str(worker), ending, path)
        self.deaths.append(death)
        worker.release()
        del self._workers[worker.number]
        self._refuse_flapping(worker, death)
        doing = "it had nothing to do" if worker.ready else "it started"
        where = f" while reading {path}" if path else f" while {doing}"
        logger.warning("%s %s%s; it is replaced", worker, ending, where)
        with _file_of(self._setup) as setup:
            self._workers[worker.number] = WorkerProcess(worker.number, setup, self._arena)
        if path and self._is_fatal(jobs[0]):
            self._pending.append(_fatal(jobs.pop(0), death))
        for job in jobs:
            self._workers[worker.number].give(job)

    def _refuse_flapping(self, worker: WorkerProcess, death: Death) -> None:
        self._failed_starts += not worker.ready
        if self._failed_starts >= _MOST_FAILED_STARTS:
            raise WorkerError(
                f"{worker} {death.ending} before it was ready, the last of "
                f"{self._failed_starts} that failed to start; its own words are on standard error, "
                "and `pydmed-dali doctor` tells whether workers can run here"
            )
        # Of bad slides alone, each worker can die twice before one of these is given up.
        if len(self.deaths) >= max(_MOST_DEATHS, 2 * (len(self._workers) + 2)):
            last = "; ".join(f"{d.worker} {d.ending} ({d.path})" for d in self.deaths[-3:])
            raise WorkerError(f"{len(self.deaths)} workers ended, the last ones: {last}")

    def _is_fatal(self, task: Task) -> bool:
        """Count a death against a task; whether it was one too many."""
        self._deaths_of[task] += 1
        return self._deaths_of[task] >= _DEATHS_PER_TASK


def pickle_loader(loader: BigChunkLoader) -> bytes:
    """The loader as it travels to the workers; raises `OptionError` where it cannot."""
    try:
        data: bytes = cloudpickle.dumps(loader)
        pickle.loads(data)
    except Exception as error:
        raise OptionError(
            f"loader={loader!r} cannot be pickled for the worker processes ({error}); open files "
            "and connections in its open_slide method, or use num_workers=0"
        ) from error
    return data


@contextmanager
def _file_of(setup: Setup) -> Iterator[int]:
    """A descriptor of a nameless file that holds the setup: a message could not be so long."""
    descriptor = os.memfd_create("pydmed-dali-setup", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        pickle.dump(setup, file)
        file.flush()
        yield descriptor


def _end_all(workers: dict[int, WorkerProcess], owner: int) -> None:
    """End every worker: closed channels first, then a common deadline, then SIGKILL for all.

    Those that have not said hello are killed at once: they listen only when all is imported, which
    takes long where there are many, and have done nothing yet.
    """
    if os.getpid() != owner:
        return  # a forked child: the workers, and their ends, are not its own
    for worker in workers.values():
        worker.hang_up()
        if not worker.ready:
            worker.kill(0)
    until = time.monotonic() + _END_SECONDS
    late = [worker for worker in workers.values() if not worker.wait(until - time.monotonic())]
    for worker in late:
        worker.kill(0)
    until = time.monotonic() + _END_SECONDS
    for worker in late:
        worker.wait(until - time.monotonic())
    for worker in workers.values():
        worker.release()
    workers.clear()


def _fatal(job: Task, death: Death) -> Failed:
    error = SlideReadError(
        f"{job.path}: {_DEATHS_PER_TASK} workers ended while reading it; the last "
        f"one, {death.worker}, {death.ending}"
    )
    return Failed(job.number, error, traceback="", whole_slide=True)


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))

"""Staging: workers fill slots that are copied from there into a ring that they cannot reach.

    job -> staging slot, filled by a worker -> copy -> the ring's slot -> answered

A ring in GPU memory is such a ring. A job counts as answered only once its copy is complete, so
that everything else, the lease rule first of all, is as with a ring that workers write themselves.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.plan.touched_regions import crops_box
from pydmed_dali.pool.worker_pool import ChunkPool
from pydmed_dali.ring.arena import Arena, SharedArena
from pydmed_dali.worker.messages import Failed, LoadChunk, Loaded


class Ticket(Protocol):
    """A copy under way. Both methods raise what made it fail."""

    def is_done(self) -> bool:
        """Whether all bytes have arrived."""
        ...

    def wait(self) -> None:
        """Return once all bytes have arrived."""
        ...


class Copier(Protocol):
    """Copies chunks from staging slots into slots of the ring, in the order of the calls.

    Used by the parent, in the thread that calls the source.
    """

    def copy(self, stage: int, slot: int, box: Region) -> Ticket:
        """Begin to copy what lies in `box`, in the slot's pixels, of a staging slot into a slot.

        Neither slot is touched by others until the ticket is done.
        """
        ...

    def close(self) -> None:
        """Wait for the copies under way, and let go of the memory. Closing again does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class _Copying:
    stage: int
    loaded: Loaded
    ticket: Ticket


class StagedPool:
    """A pool whose workers fill staging slots, of which there may be fewer than jobs in the end.

    `tables` are the ring's own tables of crops, (P, R, 2), in the parent's memory.
    """

    def __init__(
        self,
        pool: ChunkPool,
        shared: SharedArena,
        staging: Arena,
        copier: Copier,
        tables: NDArray[np.int32],
        crop: Size,
    ) -> None:
        self._pool, self._shared, self._staging = pool, shared, staging
        self._copier, self._tables, self._crop = copier, tables, crop
        self._free = deque(range(staging.layout.slots))
        self._places: dict[int, tuple[int, int]] = {}  # of each chunk: its staging slot, its slot
        self._copies: deque[_Copying] = deque()
        self.reads_ahead = pool.reads_ahead
        self.deaths = pool.deaths

    def has_room(self) -> bool:
        """See `Pool.has_room`."""
        return bool(self._free) and self._pool.has_room()

    def submit(self, job: LoadChunk) -> None:
        """See `Pool.submit`."""
        stage = self._free.popleft()
        self._places[job.chunk] = stage, job.slot
        self._pool.submit(replace(job, slot=stage))

    def answers(self, timeout: float) -> list[Loaded | Failed]:
        """See `Pool.answers`. A copy takes milliseconds, so while one is awaited no worker is."""
        until = time.monotonic() + timeout
        while True:
            remaining = max(until - time.monotonic(), 0.0)
            found = self._pool.answers(0.0 if self._copies else remaining)
            failed = [answer for answer in found if isinstance(answer, Failed)]
            for answer in found:
                self._take(answer)
            if timeout and self._copies and not failed:
                self._copies[0].ticket.wait()
            answers = [*failed, *self._copied()]
            if answers or time.monotonic() >= until:
                return answers

    def close(self) -> None:
        """See `Pool.close`. First nothing writes to the staging slots, then nothing reads them."""
        self._pool.close()
        self._copier.close()
        self._copies.clear()

    def _take(self, answer: Loaded | Failed) -> None:
        stage, slot = self._places.pop(answer.number)
        self._shared.mark_filled(stage)
        if isinstance(answer, Failed):
            self._free.append(stage)
            return
        table = self._staging.table(stage)
        self._tables[slot] = table
        layout = self._staging.layout
        packed = layout.packed is not None
        box = Region(Point(0, 0), layout.slot) if packed else crops_box(table, self._crop)
        ticket = self._copier.copy(stage, slot, box)
        self._copies.append(_Copying(stage, answer, ticket))

    def _copied(self) -> list[Loaded | Failed]:
        """The chunks that have arrived; their staging slots are free again."""
        arrived: list[Loaded | Failed] = []
        while self._copies and self._copies[0].ticket.is_done():
            copying = self._copies.popleft()
            self._free.append(copying.stage)
            arrived.append(copying.loaded)
        return arrived

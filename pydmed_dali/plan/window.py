"""Which crop of which chunk belongs to which batch: arithmetic only.

Words: `resident` (S) chunks are open at a time, each gives `crops_per_chunk` (R) crops, a batch has
`batch_size` (N). The *crop clock* counts crops. Chunks are numbered in the order of loading; where
a finite run is repeated the numbers go on, so that a chunk's slot in the ring is its number modulo
the ring's size for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_USUAL_DEPTH = 8
"""Prefetch depths up to this one have the same horizon."""
_READ_AHEAD = 16
"""Chunks that the horizon leaves to be read ahead of those that batches in flight need."""


class Deal(NamedTuple):
    """The crops of one batch, each array of length N."""

    chunk: Integers
    """Loading number of the chunk."""
    crop: Integers
    """Number of the crop in its chunk, 0..R-1."""
    valid: NDArray[np.bool_]
    """False where the tail of a finite run repeats its last crop to fill the batch."""


@dataclass(frozen=True, slots=True)
class Window:
    """The dealing of crops to batches, for ever or in runs of `chunks` chunks.

    An endless run has a ramp: its first S-1 chunks give fewer than R crops. In a finite run of J
    chunks every chunk gives exactly R, because the window wraps around: the run loads J+S-1 chunks,
    of which the last S-1 are the first ones again.

    A batch mixes all S chunks where S divides R and N; otherwise at least half of min(N, S, R),
    because a batch can meet a round in which not every chunk has a crop left to give.
    """

    resident: int
    crops_per_chunk: int
    batch_size: int
    chunks: int | None = None
    """J: the chunks of a finite run; None for an endless one."""

    @classmethod
    def of(cls, resident: int, crops_per_chunk: int, batch_size: int, chunks: int | None) -> Window:
        """A window that holds no chunk of a finite run twice at a time."""
        resident = resident if chunks is None else min(resident, chunks)
        return cls(resident, crops_per_chunk, batch_size, chunks)

    @property
    def batches(self) -> int | None:
        """Batches of a finite run, the last one filled up; None for an endless one."""
        if self.chunks is None:
            return None
        return -(-self.chunks * self.crops_per_chunk // self.batch_size)

    def place(self, call: int) -> tuple[int, int]:
        """(run, batch of that run) of the source's call number `call`; endless runs have run 0."""
        return (0, call) if self.batches is None else divmod(call, self.batches)

    def visit(self, chunk: int) -> int:
        """The visit of the plan that a loading number stands for."""
        if self.chunks is None:
            return chunk
        return chunk % self._loads % self.chunks

    def deal(self, call: int) -> Deal:
        """The crops of the batch that the source's call number `call` (from 0) delivers."""
        run, batch = self.place(call)
        clock = batch * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        valid = np.ones(self.batch_size, np.bool_)
        if self.chunks is not None:
            end = self.chunks * self.crops_per_chunk
            valid = clock < end
            clock = np.minimum(clock, end - 1)
        chunk, crop = deal(clock, self.resident, self.crops_per_chunk)
        return Deal(chunk + run * self._loads, crop, valid)

    def first_chunk(self, call: int) -> int:
        """The lowest loading number that the batch of this call can touch."""
        run, batch = self.place(call)
        return run * self._loads + batch * self.batch_size // self.crops_per_chunk

    def last_chunk(self, call: int) -> int:
        """The highest loading number that the batch of this call can touch."""
        run, batch = self.place(call)
        last = (batch + 1) * self.batch_size - 1
        if self.chunks is not None:
            last = min(last, self.chunks * self.crops_per_chunk - 1)
        return run * self._loads + last // self.crops_per_chunk + self.resident - 1

    def read_until(self, call: int) -> None:
        """None: chunks of any later call may be read ahead, also those of a finite run's next."""

    def oldest_in_use(self, call: int, depth: int) -> int:
        """Chunks below this one are free once call number `call` is made: the lease rule.

        DALI makes source call k after it handed out the outputs of iteration k - depth, so the
        batches k-depth+1..k-1 are still in flight. Between two finite runs it empties its queue.
        """
        _, batch = self.place(call)
        return self.first_chunk(call - min(batch, depth - 1))

    def ring_size(self, depth: int, loads: int) -> int:
        """Slots that let `loads` chunks be read while the batches in flight hold theirs."""
        size, per_chunk = self.batch_size, self.crops_per_chunk
        pinned = self.resident + -(-(depth * size - 1) // per_chunk)
        return pinned + max(loads, -(-size // per_chunk))

    def horizon(self, depth: int) -> int:
        """H: what a training loop says after batch t acts from chunk `first_chunk(t)` + H on.

        No chunk from there on is begun before the loop has batch t + 1, whatever the number of
        workers, and the prefetch depth up to 8: so what is delivered depends on neither.
        """
        ahead = max(depth, _USUAL_DEPTH) + 1
        return self.resident + -(-ahead * self.batch_size // self.crops_per_chunk) + _READ_AHEAD

    @property
    def _loads(self) -> int:
        """Chunks loaded in one finite run."""
        return 0 if self.chunks is None else self.chunks + self.resident - 1


def deal(clock: Integers, resident: int, per_chunk: int) -> tuple[Integers, Integers]:
    """(chunk, crop) of each tick of the crop clock, in O(1).

    Over the R ticks with clock // R == q the window holds the chunks q..q+S-1; each of them gives
    R/S crops in turn, rounded so that every chunk has given each crop once when it leaves.
    """
    whole, rest = divmod(per_chunk, resident)
    oldest, tick = np.divmod(clock, per_chunk)
    even = tick < whole * resident
    extra = (tick - whole * resident) * resident // max(rest, 1)
    turn = np.where(even, tick // resident, whole)
    age = np.where(even, tick % resident, extra)
    crop = whole * age + -(-age * rest // resident) + turn
    return oldest + age, crop

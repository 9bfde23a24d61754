"""Which tile of which chunk belongs to which batch, where every tile comes once: arithmetic only.

Words: tiles are numbered in the order of their chunks, and within a chunk as its table has them. A
*run* deals all tiles once. Chunks are numbered in the order of loading, and where a run is repeated
the numbers go on, so that a chunk's slot in the ring is its number modulo the ring's size for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.plan.window import Deal

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TileWindow:
    """The dealing of tiles to batches, run after run: the part of a `Window` in training.

    A batch has the next `batch_size` tiles. It ends early where it would touch more than
    `most_chunks` chunks, which happens where few tiles of each are wanted: so the ring stays as
    small as it was made. It is filled up with copies of its last tile, which are not valid.
    """

    first_tiles: Integers
    """(J + 1): number of each chunk's first tile, and of all tiles."""
    first_in_batch: Integers
    """(batches + 1): number of each batch's first tile, and of all tiles."""
    batch_size: int

    @classmethod
    def of(cls, tiles: Sequence[int] | Integers, batch_size: int, most_chunks: int) -> TileWindow:
        """A window over chunks of so many tiles each, in the order of loading; none is empty."""
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(tiles, dtype=np.int64)])
        begins, total = [0], int(first[-1])
        while begins[-1] < total:
            chunk = int(np.searchsorted(first, begins[-1], "right")) - 1
            limit = int(first[min(chunk + most_chunks, len(first) - 1)])
            begins.append(min(begins[-1] + batch_size, limit))
        return cls(first, np.array(begins, np.int64), batch_size)

    @property
    def chunks(self) -> int:
        """J: the chunks of a run."""
        return len(self.first_tiles) - 1

    @property
    def tiles(self) -> int:
        """All tiles."""
        return int(self.first_tiles[-1])

    @property
    def batches(self) -> int:
        """Batches of a run."""
        return len(self.first_in_batch) - 1

    def tiles_in(self, batch: int) -> int:
        """Tiles of a batch, without the copies that fill it up."""
        return int(self.first_in_batch[batch + 1] - self.first_in_batch[batch])

    def place(self, call: int) -> tuple[int, int]:
        """(run, batch of that run) of the source's call number `call`."""
        return divmod(call, self.batches)

    def visit(self, chunk: int) -> int:
        """The chunk of the plan that a loading number stands for."""
        return chunk % self.chunks

    def deal(self, call: int) -> Deal:
        """The tiles of the batch that the source's call number `call` (from 0) delivers."""
        run, batch = self.place(call)
        first, end = self.first_in_batch[batch : batch + 2].tolist()
        numbers = first + np.arange(self.batch_size, dtype=np.int64)
        valid = numbers < end
        numbers = np.minimum(numbers, end - 1)
        chunk = self._chunk_of(numbers)
        return Deal(chunk + run * self.chunks, numbers - self.first_tiles[chunk], valid)

    def first_chunk(self, call: int) -> int:
        """The lowest loading number that the batch of this call touches."""
        run, batch = self.place(call)
        return run * self.chunks + int(self._chunk_of(self.first_in_batch[batch]))

    def last_chunk(self, call: int) -> int:
        """The highest loading number that the batch of this call touches."""
        run, batch = self.place(call)
        return run * self.chunks + int(self._chunk_of(self.first_in_batch[batch + 1] - 1))

    def read_until(self, call: int) -> int:
        """The first chunk that must wait until later calls: of another run, which may never come.

        What is read ahead for it would take the processor from the last batches of this one.
        """
        run, _ = self.place(call)
        return (run + 1) * self.chunks

    def oldest_in_use(self, call: int, depth: int) -> int:
        """Chunks below this one are free once call number `call` is made: see `Window`."""
        _, batch = self.place(call)
        return self.first_chunk(call - min(batch, depth - 1))

    def ring_size(self, depth: int, loads: int) -> int:
        """Slots that let `loads` chunks be read while the batches in flight hold theirs."""
        first = self._chunk_of(self.first_in_batch[:-1])
        last = self._chunk_of(self.first_in_batch[1:] - 1)
        oldest = first[np.maximum(np.arange(self.batches) - depth + 1, 0)]
        return int((last - oldest).max()) + 1 + loads

    def horizon(self, depth: int) -> int:
        """0: nothing that is said on the way changes which tiles come; see `Window.horizon`."""
        return 0

    def _chunk_of(self, tiles: Integers) -> Integers:
        found: Integers = np.searchsorted(self.first_tiles, tiles, "right") - 1
        return found


def share_slides(tiles: Sequence[int], world_size: int) -> list[list[int]]:
    """The slides of each rank, in order, so that all have about equally many tiles.

    The largest slide first, each to the rank that has least (R. L. Graham, "Bounds on
    Multiprocessing Timing Anomalies", SIAM Journal on Applied Mathematics 17, 1969): no rank has
    more than 4/3 of the best possible.
    """
    shares: list[list[int]] = [[] for _ in range(world_size)]
    loads = [(0, rank) for rank in range(world_size)]
    for slide in sorted(range(len(tiles)), key=lambda slide: (-tiles[slide], slide)):
        load, rank = heappop(loads)
        shares[rank].append(slide)
        heappush(loads, (load + tiles[slide], rank))
    return [sorted(share) for share in shares]

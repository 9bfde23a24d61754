"""A ring that workers cannot reach, in host memory: the way a chunk takes to a GPU, without one.

All of it is real but the last step: workers, staging slots, copies that go on while batches are
cut, and a ring of its own that DALI's CPU backend reads.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import numpy as np

from pydmed_dali.dali.image_list import host_images, host_masks
from pydmed_dali.dali.rings import RingNeed, StagedRing
from pydmed_dali.geometry import Region
from pydmed_dali.ring.arena import Arena, SharedArena


class ThreadTicket:
    """A copy in the copier's thread."""

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def is_done(self) -> bool:
        if self._future.done():
            self._future.result()
            return True
        return False

    def wait(self) -> None:
        self._future.result()


class ThreadCopier:
    """Copies rows in a thread, one chunk after the other, as a stream does.

    Until `gate` is set no copy ends; it is set at first.
    """

    def __init__(self, staging: Arena, ring: Arena) -> None:
        self._staging, self._ring = staging, ring
        self._thread = ThreadPoolExecutor(1, "copier")
        self.gate = Event()
        self.gate.set()
        self.copied_bytes = 0

    def copy(self, stage: int, slot: int, box: Region) -> ThreadTicket:
        return ThreadTicket(self._thread.submit(self._copy, stage, slot, box))

    def close(self) -> None:
        self.gate.set()
        self._thread.shutdown()

    def _copy(self, stage: int, slot: int, box: Region) -> None:
        self.gate.wait()
        pairs = [(self._staging.pixels(stage), self._ring.pixels(slot))]
        if self._ring.layout.has_masks:
            pairs.append((self._staging.mask(stage), self._ring.mask(slot)))
        for source, target in pairs:
            # Rows one by one, so that batches cut from a slot which is not complete would show it.
            for to, row in zip(target[box.slices], source[box.slices], strict=True):
                np.copyto(to, row)
                self.copied_bytes += row.nbytes


def staged_host_ring(need: RingNeed) -> StagedRing:
    """In place of `HostRing`, from which nothing that is delivered may differ."""
    shared = SharedArena(need.layout)
    ring = Arena(need.layout, shared.descriptor)
    shared.close()
    return StagedRing(
        need,
        "cpu",
        host_images(ring, need.slots_per_image),
        lambda staging: ThreadCopier(staging, ring),
        host_masks(ring, need.slots_per_image),
    )

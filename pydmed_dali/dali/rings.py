"""Rings: where resident chunks live, how a loaded one gets there, and what DALI is given.

    HostRing     shared memory that workers write and DALI's CPU backend reads
    MappedRing   the same memory, read by the GPU (gpu_rings.py)
    StagedRing   memory that workers cannot reach, filled by copies from a small shared arena; on a
                 GPU that is the residency `device` (gpu_rings.py)

One seam, so that all but the last step to a GPU is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.dali.device import Device
from pydmed_dali.dali.image_list import Images, host_images, host_masks
from pydmed_dali.geometry import Size
from pydmed_dali.pool.staged_pool import Copier, StagedPool
from pydmed_dali.pool.worker_pool import ChunkPool
from pydmed_dali.ring.arena import Arena, SharedArena
from pydmed_dali.ring.layout import Layout


@dataclass(frozen=True, slots=True)
class RingNeed:
    """What a source needs of its ring."""

    layout: Layout
    """Slots, pad rows and tables."""
    slots_per_image: int
    """Neighbouring slots that form one image for DALI."""
    crop: Size
    """Extent in a slot of what a crop takes: of a volume, from its first slice to its last."""
    stages: int
    """Slots of a staging arena, where there is one: loads under way at a time."""
    gpu: int
    """Number of the GPU, where one is used."""
    gpu_memory_share: float
    """Part of the GPU's free memory that the ring may take."""


class Ring(Protocol):
    """The memory of the resident chunks.

    The engine opens the ring, starts a pool on the worker arena, wraps that pool once, and closes
    the ring after the pool.
    """

    layout: Layout
    backend: Device
    """Whose memory the images are, for DALI: crops are cut by that backend."""
    images: Images
    """What DALI is given, the same at every batch."""
    masks: Images | None
    """The same of the masks, images of one channel; None where the layout has none."""
    tables: NDArray[np.int32]
    """(P, R, 2) int32, (y, x): the crops of every slot, in the parent's memory."""

    worker_arena: SharedArena
    """The memory that workers fill: the parent's end."""
    worker_memory: Arena
    """The same memory, mapped in the parent."""

    def wrap(self, pool: ChunkPool) -> ChunkPool:
        """Return a pool that answers once chunks are in the ring, around one on the arena."""
        ...

    def mark_filled(self, slot: int) -> None:
        """Note that a slot's memory is taken: before its first use it may only be promised."""
        ...

    def close(self) -> None:
        """Let go of the memory, after the pool was closed; DALI may hold it for a while."""
        ...


class HostRing:
    """Shared memory: workers write the slots themselves."""

    backend: Device = "cpu"

    def __init__(self, need: RingNeed) -> None:
        self.layout = need.layout
        self.worker_arena = SharedArena(need.layout)
        try:
            self.worker_memory = Arena(need.layout, self.worker_arena.descriptor)
            self.tables = self.worker_memory.tables
            self.images, self.masks = self.list_images(need)
        except BaseException:
            self.worker_arena.close()
            raise

    def list_images(self, need: RingNeed) -> tuple[Images, Images | None]:
        """The images and the masks, as DALI's backend takes them."""
        images = host_images(self.worker_memory, need.slots_per_image)
        return images, host_masks(self.worker_memory, need.slots_per_image)

    def wrap(self, pool: ChunkPool) -> ChunkPool:
        """See `Ring.wrap`: workers write the ring itself."""
        return pool

    def mark_filled(self, slot: int) -> None:
        """See `Ring.mark_filled`."""
        self.worker_arena.mark_filled(slot)

    def close(self) -> None:
        """See `Ring.close`."""
        self.worker_arena.close()
        del self.images, self.masks, self.worker_memory, self.tables


class StagedRing:
    """Memory out of the workers' reach, made by the caller: `images` and `masks` hold on to it.

    `open_copier` gives what copies from the staging arena into it.
    """

    def __init__(
        self,
        need: RingNeed,
        backend: Device,
        images: Images,
        open_copier: Callable[[Arena], Copier],
        masks: Images | None = None,
    ) -> None:
        self.layout, self.backend, self.images = need.layout, backend, images
        self.masks = masks
        self.tables = np.zeros((need.layout.slots, need.layout.crops, 2), np.int32)
        staging = replace(need.layout, slots=need.stages, pad_rows=0)
        self._crop = need.crop
        self.worker_arena = SharedArena(staging)
        try:
            self.worker_memory = Arena(staging, self.worker_arena.descriptor)
            self._copier = open_copier(self.worker_memory)
        except BaseException:
            self.worker_arena.close()
            raise

    def wrap(self, pool: ChunkPool) -> ChunkPool:
        """See `Ring.wrap`: chunks are copied from the staging arena into the ring."""
        return StagedPool(
            pool, self.worker_arena, self.worker_memory, self._copier, self.tables, self._crop
        )

    def mark_filled(self, slot: int) -> None:
        """The ring's memory was taken when it was made."""

    def close(self) -> None:
        """See `Ring.close`."""
        self._copier.close()
        self.worker_arena.close()
        del self.images, self.masks, self.tables, self.worker_memory, self._copier

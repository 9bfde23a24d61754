"""The host arena: one anonymous shared memory that every process of a source maps."""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import RingMemoryError
from pydmed_dali.plan.placement import Positions
from pydmed_dali.ring.layout import Layout
from pydmed_dali.ring.memory import free_memory
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.text import format_gib

_MUCH = 0.5
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, which Python's mmap has no name for


class Arena:
    """A mapped arena. The parent creates it, workers open it by its descriptor.

    The memory has no name, so nothing is left behind whatever happens to the processes; it does not
    count against /dev/shm either. It is given back when the last mapping goes: DALI holds views of
    it until it is done with them, so nothing unmaps it by force.
    """

    def __init__(self, layout: Layout, descriptor: int) -> None:
        self.layout = layout
        self._map = mmap.mmap(descriptor, layout.nbytes)
        self._met: set[int] = set()
        self._mapped: set[int] = set()
        # frombuffer keeps the mapping alive; an ndarray made with buffer= would leave DALI a
        # dangling pointer.
        self.memory = np.frombuffer(self._map, np.uint8)
        """All bytes of the arena."""
        tables = self.memory[layout.tables_offset :].view(np.int32)
        self.tables = tables.reshape(layout.slots, layout.crops, 2)
        """(P, R, 2) int32: (y, x) of every crop of every slot, in the chunk's pixels."""

    def pixels(self, slot: int) -> NDArray[Any]:
        """The pixels of a slot, (height, width, channels)."""
        return self._rows(slot * self.layout.slot_bytes, self.layout.slot.height)

    def crops(self, slot: int) -> NDArray[Any]:
        """Where slots hold crops: those of a slot, (R, height, width, channels)."""
        return self._one_by_one(self.pixels(slot))

    def map_pages(self, slot: int, share: float = 1.0) -> None:
        """Have this process's page tables hold a slot, of which it is to write `share`, 0 to 1.

        All at once takes a third of the time that it takes page by page, as tiles are written. A
        slot of which little is written waits for its second time, so that a first batch does not
        wait for memory that it does not need: docs/decisions/0009. A kernel that cannot map at once
        (before Linux 5.14) does it page by page.
        """
        if share < _MUCH and slot not in self._met:
            self._met.add(slot)
        elif slot not in self._mapped:
            self._mapped.add(slot)
            begin = slot * self.layout.slot_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            end = (slot + 1) * self.layout.slot_bytes
            with suppress(OSError):
                self._map.madvise(_POPULATE_WRITE, begin, end - begin)

    def table(self, slot: int) -> Positions:
        """The crop positions of a slot, (R, 2)."""
        table: Positions = self.tables[slot]
        return table

    def images(self, slots_per_image: int) -> list[NDArray[Any]]:
        """The images that DALI sees, each (height, width, channels); see `Layout.images`."""
        return [self._rows(*image) for image in self.layout.images(slots_per_image)]

    def mask(self, slot: int) -> Pixels:
        """The mask of a slot, (height, width)."""
        extent = self.layout.slot
        start = self.layout.masks_offset + slot * extent.area
        return self.memory[start : start + extent.area].reshape(extent.height, extent.width)

    def crop_masks(self, slot: int) -> Pixels:
        """Where slots hold crops: the masks of those of a slot, (R, height, width)."""
        return self._one_by_one(self.mask(slot))

    def masks(self, slots_per_image: int) -> list[Pixels]:
        """The masks of the images that DALI sees, each (height, width, 1), or none at all."""
        layout = self.layout
        if not layout.has_masks:
            return []
        return [
            self.memory[start : start + rows * layout.slot.width].reshape(rows, -1, 1)
            for start, rows in layout.mask_images(slots_per_image)
        ]

    def _rows(self, start: int, rows: int) -> NDArray[Any]:
        layout = self.layout
        pixels = self.memory[start : start + rows * layout.row_bytes].view(layout.pixel.dtype)
        return pixels.reshape(rows, layout.slot.width, layout.pixel.channels)

    def _one_by_one(self, image: NDArray[Any]) -> NDArray[Any]:
        assert self.layout.packed is not None
        return image.reshape(self.layout.crops, self.layout.packed.height, *image.shape[1:])


class SharedArena:
    """The parent's end: makes the memory, holds its descriptor, accounts for it."""

    _live: ClassVar[weakref.WeakSet[SharedArena]] = weakref.WeakSet()

    def __init__(self, layout: Layout) -> None:
        self.refuse_overrun(layout)
        descriptor = os.memfd_create("pydmed-dali", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, layout.nbytes)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        except BaseException:
            os.close(descriptor)
            raise
        self.layout = layout
        self.descriptor = descriptor
        self._filled: set[int] = set()
        self._finalizer = weakref.finalize(self, os.close, descriptor)
        self._live.add(self)

    @classmethod
    def refuse_overrun(cls, layout: Layout) -> None:
        """Raise `RingMemoryError` where a ring would not fit beside those that are promised."""
        _refuse_overrun(layout, sum(arena.untouched_bytes for arena in cls._live))

    def mark_filled(self, slot: int) -> None:
        """Note that a slot's memory is taken: before its first use it is only promised."""
        self._filled.add(slot)

    @property
    def untouched_bytes(self) -> int:
        """Bytes promised to slots that were never filled: not yet missing from free memory."""
        per_slot = self.layout.slot_bytes + self.layout.has_masks * self.layout.slot.area
        return (self.layout.slots - len(self._filled)) * per_slot

    def close(self) -> None:
        """Let go of the memory; it is freed once every mapping and DALI's views of it are gone."""
        self._finalizer()
        self._live.discard(self)


def _refuse_overrun(layout: Layout, promised: int) -> None:
    """Raise where the ring would overrun the memory: later that is a SIGKILL without a word."""
    free = free_memory() - promised
    if layout.nbytes > free:
        raise RingMemoryError(
            f"the ring needs {format_gib(layout.nbytes)} ({layout.description}), "
            f"but {format_gib(max(free, 0))} are free here"
            + (f", with {format_gib(promised)} promised to other sources" if promised else "")
            + f"; lower {layout.limiting_option}, resident, batch_size or num_workers"
        )

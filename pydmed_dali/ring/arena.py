"""The host arena: one anonymous shared memory that every process of a source maps.

Layout, in this order: the slots, each an image (height, width, channels) of a pixel format, back to
back; pad rows, which fill a DALI batch up to its length; where there are annotations, from the next
page on, a mask of each slot, (height, width) uint8, and pad rows of masks; and, from the next page
on, each slot's table of crop positions, (R, 2) int32 (y, x).

A slot holds a chunk, or, where few crops are taken of one, those crops (packing.py): one below the
other, as one image that is as wide as a crop.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import RingMemoryError
from pydmed_dali.geometry import Size
from pydmed_dali.plan.placement import Positions
from pydmed_dali.ring.memory import free_memory
from pydmed_dali.slide.pixel_format import RGB8, PixelFormat
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.text import format_gib

_MUCH = 0.5
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, which Python's mmap has no name for


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of an arena: all that another process needs to map it."""

    slots: int
    """P: chunks that fit."""
    chunk: Size
    """Extent of a chunk in pixels."""
    pad_rows: int
    """Rows of pixels behind the slots."""
    crops: int
    """R: rows of a slot's table of crop positions."""
    has_masks: bool = False
    """Whether each slot has a mask beside its pixels."""
    pixel: PixelFormat = RGB8
    """What a pixel is made of."""
    packed: Size | None = None
    """Extent of a crop, where slots hold a chunk's crops; None where they hold the chunk."""

    @property
    def slot(self) -> Size:
        """Extent of a slot in pixels."""
        if self.packed is None:
            return self.chunk
        return Size(self.packed.width, self.packed.height * self.crops)

    @property
    def description(self) -> str:
        """What the slots hold, for an error's text."""
        if self.packed is None:
            return f"{self.slots} chunks of {self.chunk} pixels"
        return f"{self.slots} times {self.crops} crops of {self.packed} pixels"

    @property
    def limiting_option(self) -> str:
        """The option that makes slots smaller."""
        return "chunk_size" if self.packed is None else "crops_per_chunk"

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot."""
        return self.slot.area * self.pixel.nbytes

    @property
    def masks_offset(self) -> int:
        """Where the masks begin: the first page border behind the pixels."""
        return _page_border(self.pixel_bytes)

    @property
    def ring_bytes(self) -> int:
        """Bytes up to the end of what DALI sees: pixels, and masks where there are any."""
        if not self.has_masks:
            return self.pixel_bytes
        return self.masks_offset + self.pixel_bytes // self.pixel.nbytes

    @property
    def tables_offset(self) -> int:
        """Where the tables begin: the first page border behind pixels and masks."""
        return _page_border(self.ring_bytes)

    @property
    def planes(self) -> list[tuple[int, int]]:
        """(where it begins; its bytes per pixel) of the pixels, and of the masks if any."""
        return [(0, self.pixel.nbytes), *([(self.masks_offset, 1)] if self.has_masks else [])]

    def images(self, slots_per_image: int) -> list[tuple[int, int]]:
        """(where it begins, in bytes; its rows) of each image that DALI sees, `slot.width` wide.

        The slots in order, `slots_per_image` of them to an image, then the pad rows: each image
        begins where the one before it ends.
        """
        rows = [
            min(slots_per_image, self.slots - first) * self.slot.height
            for first in range(0, self.slots, slots_per_image)
        ] + [1] * self.pad_rows
        ends = np.cumsum([0, *rows]) * self.row_bytes
        return list(zip(ends[:-1].tolist(), rows, strict=True))

    def mask_images(self, slots_per_image: int) -> list[tuple[int, int]]:
        """As `images`, of the masks."""
        return [
            (self.masks_offset + start // self.pixel.nbytes, rows)
            for start, rows in self.images(slots_per_image)
        ]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of pixels."""
        return self.slot.width * self.pixel.nbytes

    @property
    def pixel_bytes(self) -> int:
        """Bytes of slots and pad rows, which is what DALI sees."""
        return self.slots * self.slot_bytes + self.pad_rows * self.row_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of the whole arena."""
        return self.tables_offset + self.slots * self.crops * 2 * np.dtype(np.int32).itemsize


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


def _page_border(offset: int) -> int:
    """The first border of a page from `offset` on."""
    return -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE


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

"""The layout of an arena: where slots, masks and tables of crop positions lie in its memory.

In this order: the slots, each an image (height, width, channels) of a pixel format, back to back;
pad rows, which fill a DALI batch up to its length; where there are annotations, from the next page
on, a mask of each slot, (height, width) uint8, and pad rows of masks; and, from the next page on,
each slot's table of crop positions, (R, 2) int32 (y, x).

A slot holds a chunk, or, where few crops are taken of one, those crops (packing.py): one below the
other, as one image that is as wide as a crop.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np

from pydmed_dali.geometry import Size
from pydmed_dali.slide.pixel_format import RGB8, PixelFormat


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


def _page_border(offset: int) -> int:
    """The first border of a page from `offset` on."""
    return -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE

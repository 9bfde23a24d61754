"""What a slide reader offers, and what is known of a slide once it is open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.slide.limits import check_claims

Pixels = NDArray[np.uint8]
"""Image pixels, (height, width, 3) uint8 RGB."""

WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """What a plan needs to know of one slide: small, picklable, read from the file once.

    Raises `SlideFormatError` for sizes and resolutions that no slide has: see `slide/limits.py`.
    """

    level_dimensions: tuple[Size, ...]
    """Width and height of each level in its own pixels, finest first."""
    level_downsamples: tuple[float, ...]
    """Level-0 pixels per pixel of each level; the first is 1.0."""
    tile_sizes: tuple[Size | None, ...]
    """The file's storage cell at each level, None where the format does not tell."""
    mpp: tuple[float, float] | None
    """Micrometres per level-0 pixel (x, y), None where the file does not tell."""
    objective_power: float | None
    """The objective's magnification, for display only."""
    background: tuple[int, int, int]
    """RGB of places that were not scanned, and of what lies beyond the edges."""
    vendor: str
    """The format as the reader names it, e.g. `aperio`."""
    reader: str
    """The reader and its version, e.g. `openslide 4.0.1`."""
    reader_reason: str = ""
    """Why this reader and no other, for people."""
    shifted_levels: frozenset[int] = frozenset()
    """Levels that the reader shifts by part of a pixel, by how much depending on where a read
    begins, so that a chunk of them must be read in one piece."""
    bounds: Region | None = None
    """What was scanned, in level-0 pixels: OpenSlide's bounds. None for the whole slide, as far as
    the file tells."""
    background_reason: str = ""
    """Why `background` is this colour, for people."""
    remarks: tuple[str, ...] = ()
    """What a user should know of the file, without its path: logged once, and shown by
    `pydmed-dali inspect`."""

    def __post_init__(self) -> None:
        check_claims(self.level_dimensions, self.level_downsamples, self.tile_sizes, self.mpp)

    @property
    def dimensions(self) -> Size:
        """Width and height in level-0 pixels."""
        return self.level_dimensions[0]


@runtime_checkable
class Slide(Protocol):
    """An open slide. Used by one thread of one process: opened, read any number of times, closed.

    A reader is made by the process that reads (a loader worker, or the caller with
    `num_workers=0`); nothing of it crosses to another process but `facts`.
    """

    @property
    def path(self) -> Path:
        """The file that was opened."""
        ...

    @property
    def facts(self) -> SlideFacts:
        """What the file says of itself."""
        ...

    def read_into(self, out: Pixels, location: Point, level: int) -> None:
        """Fill `out` with the region of `level` whose top left corner lies at `location`.

        `out` is (height, width, 3) uint8 RGB and may be a view whose rows lie apart; `location` is
        in level-0 pixels and may lie outside the slide. Places outside the scan take
        `facts.background`. Raises `SlideReadError`, after which `out` holds undefined pixels.
        """
        ...

    def close(self) -> None:
        """Release the file. Reading afterwards is an error; closing again is not."""
        ...


@runtime_checkable
class Volume(Slide, Protocol):
    """An open volume: a stack of slices of one size, of which `facts` tells.

    `read_into` must raise for a volume: read its slices instead.
    """

    @property
    def depth(self) -> int:
        """How many slices it has."""
        ...

    def slice(self, number: int) -> Slide:
        """The slice, 0 <= number < depth, as a slide of its own, which nobody closes."""
        ...

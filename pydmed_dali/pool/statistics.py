"""What a source did so far, in numbers."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ClassShare(NamedTuple):
    """How often a class comes."""

    requested: float
    """Its part of the crops, 0 to 1, as asked for."""
    realised: float
    """Its part of the crops so far; 0 before the first."""


@dataclass(frozen=True, slots=True, repr=False)
class Stats:
    """A snapshot of a source's work since it was made; see `BigChunkSource.stats`."""

    batches: int
    """Batches handed to DALI (which runs a few ahead of the training loop)."""
    crops: int
    """SmallChunks in them, padding of a last batch not counted."""
    chunks_read: int
    """BigChunks loaded into the ring."""
    decode_amplification: float
    """Pixels decoded per pixel delivered: what reading costs. Below 1 where crops overlap so much
    that pixels are used again; a run's first chunks, read before they give crops, raise it. Tiles
    are counted as wholes, though of a JPEG tile the rows below the last wanted are left out."""
    decode_seconds: float
    """Time spent opening, reading and decoding them, summed over the workers."""
    startup_seconds: float
    """From the first request to the first batch: filling the ring's window."""
    starved_seconds: float
    """Time a later batch had to wait for a BigChunk: the loaders were too slow."""
    running_seconds: float
    """From the first batch until now."""
    distinct_slides_per_batch: float
    """Mean number of different slides in a batch."""
    reads_per_slide: dict[Path, int]
    """BigChunks read of each slide."""
    tissue_shares: dict[Path, float]
    """Part of each of these slides that is tissue, 0 to 1; empty without `min_tissue`."""
    slides_skipped: dict[Path, str]
    """Slides that could not be read, wholly or in places, with the first reason."""
    worker_deaths: int
    """Loader processes that had to be replaced."""
    class_shares: dict[str, ClassShare] = field(default_factory=dict)
    """By the name of each class, and of the rest; empty where crops are not drawn by class."""

    def __repr__(self) -> str:
        """A few lines for people; every field has its figure."""
        lines = [
            f"{self.batches:,} batches, {self.crops:,} crops, {self.crops_per_second:,.0f} crops/s",
            f"{self.chunks_read:,} BigChunks read of {len(self.reads_per_slide):,} slides, "
            f"{self.decode_amplification:.2f} pixels decoded for one delivered",
            f"started in {self.startup_seconds:.1f} s, starved {self.starved_fraction:.1%} of "
            f"{self.running_seconds:.1f} s; {self.distinct_slides_per_batch:.1f} slides in a batch",
        ]
        if self.slides_skipped or self.worker_deaths:
            lines.append(
                f"{len(self.slides_skipped)} slides skipped, {self.worker_deaths} workers replaced"
            )
        return "\n".join(lines)

    @property
    def starved_fraction(self) -> float:
        """Share of the running time in which a batch waited for a BigChunk."""
        return self.starved_seconds / self.running_seconds if self.running_seconds else 0.0

    @property
    def crops_per_second(self) -> float:
        """SmallChunks per second of the running time."""
        return self.crops / self.running_seconds if self.running_seconds else 0.0


@dataclass(slots=True)
class Tally:
    """The counters behind `Stats`, kept by the parent."""

    batches: int = 0
    crops: int = 0
    chunks_read: int = 0
    chunks_substituted: int = 0
    pixels_decoded: int = 0
    decode_seconds: float = 0.0
    startup_seconds: float = 0.0
    starved_seconds: float = 0.0
    requested_at: float | None = None
    first_batch_at: float | None = None
    slides_in_batches: int = 0
    reads_per_slide: Counter[int] = field(default_factory=Counter)
    tissue_shares: dict[int, float] = field(default_factory=dict)
    crops_per_class: Counter[int] = field(default_factory=Counter)

    def count_batch(self, crops: int, slides: int, waited: float) -> None:
        """A batch was put together; `waited` seconds of that its chunks were awaited."""
        self.batches += 1
        self.crops += crops
        self.slides_in_batches += slides
        if self.first_batch_at is None:
            self.first_batch_at = time.monotonic()
            self.startup_seconds = waited
        else:
            self.starved_seconds += waited

    def count_classes(self, classes: NDArray[np.int64]) -> None:
        """Crops of these classes went into a batch; -1 is none, and not counted."""
        if len(classes) and classes[0] >= 0:
            self.crops_per_class.update(dict(enumerate(np.bincount(classes).tolist())))

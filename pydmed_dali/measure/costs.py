"""What reading and cropping cost on this machine, found by short runs of the real thing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali.dali.device import core_count
from pydmed_dali.dataset import Dataset
from pydmed_dali.measure.stopwatch import Timing, time_batches
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.plan.window import Window
from pydmed_dali.pool.statistics import Stats
from pydmed_dali.source.big_chunk_source import BigChunkSource

_IDLE = 0.6  # of the cores' time in use: below, something else is waited for,
_STARVED = 0.5  # and where batches waited for chunks for more of the time than this, for storage
_FEW, _MANY = 32, 512
"""Crops per chunk of the two runs: in one few tiles of a chunk are decoded, in the other most."""
_FILLS = 4  # of each slot before a run is timed: at first processes take the ring's memory


@dataclass(frozen=True, slots=True)
class Costs:
    """What things take, in seconds of one core."""

    chunk: float
    """Of each BigChunk, whatever its size: finding it, opening its slide."""
    megapixel: float
    """Of each million pixels that are decoded."""
    crop: float
    """Of each crop: cutting it, and its share of a batch."""
    efficiency: float
    """Measured speed over what these three figures alone would allow, where reading takes part."""
    storage_chunk: float = 0.0
    """What the disk, or the share, takes for each BigChunk, whatever the number of processes, in
    seconds; 0 where it was never what the timed runs waited for."""
    storage_megapixel: float = 0.0
    """And for each million pixels that are decoded."""


TYPICAL = Costs(chunk=0.005, megapixel=0.0023, crop=45e-6, efficiency=0.9)
"""Of a virtual core of 2026, JPEG tiles of 256 pixels at quality 80, crops of 224x224."""


def crops_of(source: BigChunkSource, threads: int) -> Iterator[int]:
    """The source's crops through DALI into torch, as the number in each batch."""
    names = ["image", "label", "info"]
    iterator = DALIGenericIterator([basic(source, num_threads=threads)], names, size=-1)
    return (len(batch["image"]) for (batch,) in iterator)


def measure_costs(dataset: Dataset, options: dict[str, Any], seconds: float) -> tuple[Costs, float]:
    """The costs, and the share of the slides from which crops are drawn (1 without `min_tissue`).

    Two runs over the dataset of about `seconds` each, and up to twice that before each of them; see
    `BigChunkSource` for `options`. They keep all cores busy, as a training does, so what crowding
    costs is in the figures.
    """
    few, many = (_trial(dataset, {**options, "crops_per_chunk": n}, seconds) for n in (_FEW, _MANY))
    megapixel = _slope(few, many)
    chunk = max(min(t.chunk_seconds - megapixel * t.chunk_megapixels for t in (few, many)), 0.0)
    crop = many.timing.own_seconds / many.timing.crops
    busy = {
        t: t.timing.crops_per_second * (t.chunk_seconds / t.crops_per_chunk + crop) / core_count()
        for t in (few, many)
    }
    # Cores idle too where a single thread that crops is the limit: then no batch waits for chunks.
    waiting = [t for t in busy if busy[t] < _IDLE and t.starved > _STARVED]
    working = [min(busy[t], 1.0) for t in busy if busy[t] >= _IDLE]
    efficiency = sum(working) / len(working) if working else TYPICAL.efficiency
    return Costs(chunk, megapixel, crop, efficiency, *_storage(waiting)), many.tissue_share


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    timing: Timing
    crops_per_chunk: int
    chunk_seconds: float
    """Of the processor."""
    chunk_megapixels: float
    chunk_interval: float
    """From one chunk to the next, by the clock."""
    starved: float
    """Part of the time in which a batch waited for chunks."""
    tissue_share: float


def _trial(dataset: Dataset, options: dict[str, Any], seconds: float) -> _Trial:
    per_chunk = options["crops_per_chunk"]
    alone = {"num_workers": core_count(), "rank": 0, "world_size": 1}
    marks: list[tuple[float, Stats]] = []  # the time of each batch, and what was done until then

    def marked(source: BigChunkSource) -> Iterator[int]:
        for crops in crops_of(source, threads=1):
            marks.append((time.perf_counter(), source.stats()))
            yield crops

    with BigChunkSource(dataset, **{**options, **alone}) as source:
        chosen = source.options
        window = Window(chosen.resident, per_chunk, chosen.batch_size)
        chunks = _FILLS * window.ring_size(chosen.prefetch_depth, chosen.num_workers)
        stream = marked(source)
        next(stream)
        latest = time.perf_counter() + 2 * seconds
        while source.stats().chunks_read < chunks and time.perf_counter() < latest:
            next(stream)
        timing = time_batches(stream, seconds)
        stats = source.stats()
    (begun, before), (ended, after) = marks[-1 - timing.crops // source.batch_size], marks[-1]
    area = source.options.crop.area
    megapixels = stats.decode_amplification * stats.crops * area / max(stats.chunks_read, 1) / 1e6
    shares = list(stats.tissue_shares.values())
    return _Trial(
        timing,
        per_chunk,
        timing.child_seconds / timing.crops * per_chunk,
        megapixels,
        (ended - begun) / max(after.chunks_read - before.chunks_read, 1),
        (after.starved_seconds - before.starved_seconds) / (ended - begun),
        sum(shares) / len(shares) if shares else 1.0,
    )


def _storage(waiting: Sequence[_Trial]) -> tuple[float, float]:
    """(seconds per chunk, per megapixel of it) of runs that left cores idle: they waited for it."""
    if not waiting:
        return 0.0, 0.0
    least, most = waiting[0], waiting[-1]
    more = most.chunk_megapixels - least.chunk_megapixels
    longer = most.chunk_interval - least.chunk_interval
    megapixel = longer / more if more > 0.2 * most.chunk_megapixels and longer > 0 else 0.0
    megapixel = min(megapixel, least.chunk_interval / least.chunk_megapixels)
    return least.chunk_interval - megapixel * least.chunk_megapixels, megapixel


def _slope(few: _Trial, many: _Trial) -> float:
    """Seconds per megapixel, from the difference of two runs where it is large enough to tell."""
    more = many.chunk_megapixels - few.chunk_megapixels
    if more > 0.2 * many.chunk_megapixels:
        slope = (many.chunk_seconds - few.chunk_seconds) / more
        if slope > 0:
            return min(slope, many.chunk_seconds / many.chunk_megapixels)
    return many.chunk_seconds / many.chunk_megapixels

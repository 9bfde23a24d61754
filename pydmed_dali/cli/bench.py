"""`pydmed-dali bench`: this library against a DataLoader over OpenSlide, on one's own slides."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pydmed_dali.dali.device import core_count
from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import SlideReadError
from pydmed_dali.geometry import Size
from pydmed_dali.measure.costs import crops_of
from pydmed_dali.measure.openslide_crops import openslide_loader
from pydmed_dali.measure.stopwatch import Timing, time_batches
from pydmed_dali.pool.statistics import Stats
from pydmed_dali.source.big_chunk_source import BigChunkSource

OURS, OPENSLIDE = "pydmed-dali", "torch DataLoader + OpenSlide"


@dataclass(frozen=True, slots=True)
class Result:
    """What one loader reached."""

    name: str
    timings: tuple[Timing, ...]
    """One a round."""
    first_batch_seconds: float
    """From its making to its first batch."""

    @property
    def crops_per_second(self) -> float:
        """The median over the rounds."""
        return statistics.median(timing.crops_per_second for timing in self.timings)

    @property
    def processor_seconds(self) -> float:
        """Of all processes, per 1,000 crops."""
        spent = sum(timing.own_seconds + timing.child_seconds for timing in self.timings)
        return 1000 * spent / sum(timing.crops for timing in self.timings)


@dataclass(frozen=True, slots=True)
class Bench:
    """The results, and what they were reached with."""

    ours: Result
    openslide: Result
    stats: Stats
    options: dict[str, Any]
    """Arguments of the `BigChunkSource`."""
    slides: int


def run_bench(folder: Path, options: dict[str, Any], seconds: float, rounds: int) -> Bench:
    """Time both loaders in turn: `rounds` times `seconds` each, with equally many processes.

    `options` go to `BigChunkSource`. The peer reads level 0 of the slides that ours could read, at
    random places. Raises `DatasetError` for a folder without slides, `SlideReadError` where none of
    them can be read.
    """
    dataset = Dataset.from_folder(folder)
    workers = options["num_workers"]
    ours, theirs = [], []
    with ExitStack() as stack:
        begun = time.perf_counter()
        source = stack.enter_context(BigChunkSource(dataset, rank=0, world_size=1, **options))
        stream = crops_of(source, max(core_count() - workers, 1))
        next(stream)
        our_first = time.perf_counter() - begun
        paths = _readable(dataset, source)
        their_first = _first_batch(lambda: _openslide_crops(paths, source, workers))
        for _ in range(rounds):
            peer = _openslide_crops(paths, source, workers)
            theirs.append(time_batches(peer, seconds))
            del peer  # its workers would read on while ours is timed
            ours.append(time_batches(stream, seconds))
        stats = source.stats()
    return Bench(
        Result(OURS, tuple(ours), our_first),
        Result(OPENSLIDE, tuple(theirs), their_first),
        stats,
        options,
        len(paths),
    )


def as_dict(bench: Bench) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "crops_per_second": bench.ours.crops_per_second,
        "openslide_dataloader_crops_per_second": bench.openslide.crops_per_second,
        "ratio": _ratio(bench),
        "first_batch_seconds": bench.ours.first_batch_seconds,
        "openslide_dataloader_first_batch_seconds": bench.openslide.first_batch_seconds,
        "processor_seconds_per_1000_crops": bench.ours.processor_seconds,
        "openslide_dataloader_processor_seconds_per_1000_crops": bench.openslide.processor_seconds,
        "decode_amplification": bench.stats.decode_amplification,
        "slides_per_batch": bench.stats.distinct_slides_per_batch,
        "chunks_read": bench.stats.chunks_read,
        "slides": bench.slides,
        "slides_skipped": len(bench.stats.slides_skipped),
        "cores": core_count(),
        "options": {
            name: str(value) if isinstance(value, Size) else value
            for name, value in bench.options.items()
        },
    }


def show_bench(console: Console, bench: Bench) -> None:
    """Print the table."""
    options = bench.options
    console.print(
        f"{bench.slides} slides, {options['num_workers']} loader processes each on "
        f"{core_count()} cores; crops of {options['crop_size']} in batches of "
        f"{options['batch_size']}, {options['resident']} chunks of {options['chunk_size']} "
        f"resident, each replaced after {options['crops_per_chunk']} crops\n"
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("loader")
    for name in ("crops/s", "range", "ratio", "CPU s per 1,000", "first batch"):
        table.add_column(name, justify="right")
    for result in (bench.openslide, bench.ours):
        rates = [timing.crops_per_second for timing in result.timings]
        table.add_row(
            result.name,
            f"{result.crops_per_second:,.0f}",
            f"{min(rates):,.0f}-{max(rates):,.0f}",
            f"{result.crops_per_second / bench.openslide.crops_per_second:.1f}x",
            f"{result.processor_seconds:.2f}",
            f"{result.first_batch_seconds:.1f} s",
        )
    console.print(table)
    console.print(
        f"\ndecoded per delivered pixel {bench.stats.decode_amplification:.2f}, "
        f"slides in a batch {bench.stats.distinct_slides_per_batch:.1f}, "
        f"chunks read {bench.stats.chunks_read}, "
        f"slides skipped {len(bench.stats.slides_skipped)}"
    )


def _ratio(bench: Bench) -> float:
    return bench.ours.crops_per_second / bench.openslide.crops_per_second


def _readable(dataset: Dataset, source: BigChunkSource) -> list[Path]:
    skipped = source.report().slides_skipped
    paths = [record.path for record in dataset.slides if record.path not in skipped]
    if not paths:
        raise SlideReadError(f"no slide can be read: {source.report()}")
    return paths


def _openslide_crops(paths: list[Path], source: BigChunkSource, num_workers: int) -> Iterator[int]:
    options = source.options
    loader = openslide_loader(paths, options.crop, options.batch_size, num_workers)
    for batch in loader:
        yield len(batch)


def _first_batch(make: Callable[[], Iterator[int]]) -> float:
    begun = time.perf_counter()
    next(make())
    return time.perf_counter() - begun

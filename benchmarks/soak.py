"""Half an hour of training's reading: memory, descriptors and throughput must stay as they are.

    .venv/bin/python -m benchmarks.soak [--minutes 30] [--crops 5000000] [--json FILE]

200 slides (symbolic links to four files) are read by two workers that keep replacing BigChunks. At
regular times the processes are looked at: their memory (resident, proportional, and own: see
`process_tree.Memory`) and their open file descriptors. The first tenth is left out: until then the
ring's pages are touched for the first time. What is left is fitted by least squares. Ends with exit
code 1, and says why, if anything grew: of memory 64 MB are allowed, because DALI holds one batch
(39 MB) more at some times than at others. Over 5 million crops that is 13 bytes a crop.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from benchmarks.machine import headline
from benchmarks.process_tree import family, memory
from benchmarks.slides import dataset_of, link_slides, write_slides
from pydmed_dali import BigChunkSource
from pydmed_dali.pipelines.basic import basic

WARM_UP = 0.1
"""Share of the samples that is left out at the beginning."""

KINDS = ("rss", "pss", "own")
"""Of memory, as in `process_tree.Memory`."""

_FILES, _EVERY = 4, 5.0  # files behind the links; seconds between two looks


@dataclass(frozen=True, slots=True)
class Process:
    """One look at one process."""

    name: str
    """`parent` or `worker PID`."""
    rss: int
    """Bytes of resident memory."""
    pss: int
    """Bytes of memory, shared pages in proportion."""
    own: int
    """Bytes of what was allocated: `process_tree.Memory.own`."""
    descriptors: int
    """Open file descriptors."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at all processes."""

    seconds: float
    """Since the first batch."""
    crops: int
    """Delivered since then."""
    processes: tuple[Process, ...]
    """The parent first."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through a series of measurements."""

    name: str
    """What was measured."""
    mean: float
    per_second: float
    per_crop: float
    growth: float
    """By how much the line rises from the first sample to the last."""


def watch(
    source: BigChunkSource, is_over: Callable[[float, int], bool], every: float
) -> list[Sample]:
    """Take batches until `is_over(seconds, crops)`, and look at the processes now and then."""
    batches = _batches(source)
    next(batches)
    ctypes.CDLL(None).malloc_trim(0)  # a leak would hide in what earlier work has freed
    begun, crops, samples = time.monotonic(), 0, list[Sample]()
    while not is_over(seconds := time.monotonic() - begun, crops):
        if not samples or seconds - samples[-1].seconds >= every:
            samples.append(Sample(seconds, crops, _look()))
        crops += next(batches)
    return samples


def settled(samples: Sequence[Sample]) -> list[Sample]:
    """The samples without the first tenth."""
    return list(samples[int(len(samples) * WARM_UP) :])


def memory_trends(samples: Sequence[Sample]) -> list[Trend]:
    """In bytes: RSS, PSS and own memory of each process, and the latter two of all together."""
    trends = []
    for number, process in enumerate(samples[0].processes):
        for kind in KINDS:
            sizes = [getattr(sample.processes[number], kind) for sample in samples]
            trends.append(_trend(f"{kind}, {process.name}", samples, sizes))
    for kind in KINDS[1:]:
        sums = [sum(getattr(each, kind) for each in sample.processes) for sample in samples]
        trends.append(_trend(f"{kind}, all", samples, sums))
    return trends


def throughput_trend(samples: Sequence[Sample]) -> Trend:
    """In crops per second, between each two looks."""
    rates = [(b.crops - a.crops) / (b.seconds - a.seconds) for a, b in pairwise(samples)]
    return _trend("crops/s", samples[1:], rates)


def complaints(samples: Sequence[Sample], most_growth: float) -> list[str]:
    """What did not stay as it was.

    Memory: own memory of a process, or of all, that grew by more than `most_growth` bytes. RSS and
    PSS are for information, since they also tell of library pages and of other programs.
    Descriptors: a worker has one slide more open for the moment of changing to another, so the
    lowest count in the first and in the last third must be the same.
    """
    found = []
    if len({tuple(process.name for process in sample.processes) for sample in samples}) > 1:
        return ["the processes did not stay the same: a worker was replaced"]
    for trend in memory_trends(samples):
        if trend.name.startswith("own") and trend.growth > most_growth:
            grown, most = trend.growth / 1e6, most_growth / 1e6
            found.append(f"{trend.name}: grew by {grown:.1f} MB; at most {most:.1f} MB are allowed")
    for number, process in enumerate(samples[0].processes):
        counts = [sample.processes[number].descriptors for sample in samples]
        third = max(len(counts) // 3, 1)
        before, after = min(counts[:third]), min(counts[-third:])
        if before != after:
            found.append(f"descriptors, {process.name}: {before} at first, {after} at last")
    return found


def show(samples: Sequence[Sample]) -> None:
    """Print the trends as tables."""
    print("| memory | mean, MB | MB per hour | MB per million crops |\n|---|---:|---:|---:|")
    for trend in memory_trends(samples):
        hourly, by_crops = trend.per_second * 3600 / 1e6, trend.per_crop
        print(f"| {trend.name} | {trend.mean / 1e6:,.1f} | {hourly:+.2f} | {by_crops:+.3f} |")
    print("\n| open file descriptors | lowest | highest |\n|---|---:|---:|")
    for number, process in enumerate(samples[0].processes):
        counts = [sample.processes[number].descriptors for sample in samples]
        print(f"| {process.name} | {min(counts)} | {max(counts)} |")
    rate = throughput_trend(samples)
    percent = 100 * rate.per_second * 3600 / rate.mean
    last = samples[-1]
    print(
        f"\n{last.crops:,} crops in {last.seconds / 60:.1f} minutes, {rate.mean:,.0f} crops/s, "
        f"trend {percent:+.2f} % per hour; {len(samples)} looks"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Soak, and judge."""
    chosen = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pydmed-dali-soak-") as work:
        files, links = Path(work, "files"), Path(work, "slides")
        files.mkdir()
        link_slides(write_slides(files, _FILES, chosen.side), links, chosen.slides)
        with BigChunkSource(
            dataset_of(links),
            chunk_size=chosen.chunk,
            resident=chosen.resident,
            crops_per_chunk=chosen.crops_per_chunk,
            num_workers=chosen.workers,
            cache_dir=Path(work, "cache"),
            device="cpu",
        ) as source:
            end = chosen.minutes * 60
            samples = watch(
                source, lambda s, crops: s >= end or crops >= chosen.crops, chosen.every
            )
            stats = source.stats()
    print("\n".join([*headline("benchmarks.soak"), ""]))
    show(settled(samples))
    print(f"{stats.chunks_read:,} BigChunks read, {stats.worker_deaths} workers replaced")
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(sample) for sample in samples]) + "\n")
    if found := complaints(settled(samples), chosen.most_growth * 1e6):
        sys.exit("not flat:\n  " + "\n  ".join(found))
    print("flat")


def _batches(source: BigChunkSource) -> Iterator[int]:
    iterator = DALIGenericIterator(
        [basic(source, num_threads=1)], ["image", "label", "info"], size=-1
    )
    for (batch,) in iterator:
        yield len(batch["image"])


def _look() -> tuple[Process, ...]:
    found = []
    for number, process in enumerate(family()):
        used = memory(process.pid)
        name = f"worker {process.pid}" if number else "parent"
        descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
        found.append(Process(name, used.rss, used.pss, used.own, descriptors))
    return tuple(found)


def _trend(name: str, samples: Sequence[Sample], values: Sequence[float]) -> Trend:
    seconds = np.array([sample.seconds for sample in samples])
    crops = np.array([sample.crops for sample in samples])
    slope = float(np.polyfit(seconds, values, 1)[0])
    return Trend(
        name,
        mean=float(np.mean(values)),
        per_second=slope,
        per_crop=float(np.polyfit(crops, values, 1)[0]),
        growth=slope * float(seconds[-1] - seconds[0]),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="end after so long (30)")
    parser.add_argument("--crops", type=int, default=5_000_000, help="or after so many (5,000,000)")
    parser.add_argument("--every", type=float, default=_EVERY, help="seconds between looks (5)")
    parser.add_argument("--slides", type=int, default=200, help="slides (200)")
    parser.add_argument("--side", type=int, default=8192, help="their side in pixels (8192)")
    parser.add_argument("--chunk", type=int, default=2048, help="side of a BigChunk (2048)")
    parser.add_argument("--resident", type=int, default=16, help="resident BigChunks (16)")
    parser.add_argument("--crops-per-chunk", type=int, default=128, help="crops of each (128)")
    parser.add_argument("--workers", type=int, default=2, help="loader processes (2)")
    parser.add_argument("--most-growth", type=float, default=64, help="MB that may be gained (64)")
    parser.add_argument("--json", type=Path, help="also write every look to this file")
    return parser


if __name__ == "__main__":
    main()

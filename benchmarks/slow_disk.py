"""Loaders on slow storage: slides that are not in memory yet, on a disk that is the bottleneck.

    sudo .venv/bin/python -m benchmarks.slow_disk [--count 120]

Other benchmarks have their slides in the page cache, so that they compare programs. Here nothing of
a slide is in memory when it is first read, and the kernel lets each loader read no faster than the
named storage can: so many bytes and so many requests a second (`slow_storage`, which needs root).
All else is as in `benchmarks.suite`. The slides are copies of a few mosaics, each a file of its
own, more than a run reads. Tiles are cut beforehand of eight slides only.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders import TILE_READERS, Contender, contenders, lacking, run
from benchmarks.machine import headline
from benchmarks.measure import Round
from benchmarks.slides import link_slides, slides_in
from benchmarks.slow_storage import SlowDisk, Speed, forget_files, slow_disk
from benchmarks.table import markdown
from benchmarks.tiles import cut_tiles
from benchmarks.workload import Workload, slides_parser

SPEEDS = (
    Speed("a hard disk", 160, 150),
    Speed("a share over 1 Gbit/s", 110, 1500),
)
_TILED = 8  # slides of which tiles are cut
_COLUMNS = (
    "loader",
    "crops/s",
    "processor, % of all cores",
    "read, MB/s",
    "read, KB per crop",
    "KB per request",
    "slides in a batch",
    "first batch, s",
)
_SLIDES = 4  # mosaics that are copied


@dataclass(frozen=True, slots=True)
class Reading:
    """A round, and what its process asked of the disk from its start to its end."""

    round: Round
    bytes: int
    requests: int


def play(
    order: Sequence[Contender], workload: Workload, tiled: Workload, speed: Speed
) -> dict[Contender, Reading | str]:
    """One round of each, or why there is none."""
    found: dict[Contender, Reading | str] = {}
    with slow_disk(workload.slides, speed) as disk:
        for contender in order:
            print(f"  {contender.title}", file=sys.stderr, flush=True)
            chosen = tiled if contender.peer in TILE_READERS else workload
            found[contender] = lacking(contender) or _reading(contender, chosen, disk)
    return found


def _reading(contender: Contender, workload: Workload, disk: SlowDisk) -> Reading | str:
    for folder in (workload.slides, workload.tiles):
        if folder is not None:
            forget_files(folder)
    before = disk.used()
    outcome = run(contender, workload, disk.command())
    if isinstance(outcome, str):
        return outcome
    count, requests = (now - then for now, then in zip(disk.used(), before, strict=True))
    return Reading(outcome, count, requests)


def table(found: dict[Contender, Reading | str], cores: int) -> list[str]:
    """Markdown: a row for each contender; who has no round is named."""
    cells = {
        contender.title: [f"not run: {each}"] if isinstance(each, str) else _cells(each, cores)
        for contender, each in found.items()
    }
    return markdown(_COLUMNS, cells)


def _cells(reading: Reading, cores: int) -> list[str]:
    measured = reading.round
    rate = measured.crops_per_second
    return [
        f"{rate:,.0f}",
        f"{measured.cpu_seconds * rate / 1000 / cores:.0%}",
        f"{measured.disk_bytes * rate / 1e6:.0f}",
        f"{measured.disk_bytes / 1e3:.1f}",
        f"{reading.bytes / max(reading.requests, 1) / 1e3:.0f}",
        f"{measured.content.slides:.1f}",
        f"{measured.first_batch_seconds:.1f}",
    ]


@contextmanager
def _copies(files: Sequence[Path], beside: Path, count: int) -> Iterator[Path]:
    """A folder with `count` copies of these files in turn, each with pages of its own."""
    with tempfile.TemporaryDirectory(prefix="pydmed-dali-copies-", dir=beside) as folder:
        for number in range(count):
            file = files[number % len(files)]
            shutil.copyfile(file, Path(folder) / f"slide-{number:04d}{file.suffix}")
        yield Path(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on each storage, and print its table."""
    chosen = _parser().parse_args(arguments)
    order = contenders(chosen.reuse, (), chosen.peers)
    with (
        slides_in(chosen.slides, _SLIDES, chosen.side) as mosaics,
        _copies(sorted(mosaics.iterdir()), chosen.folder, chosen.count) as slides,
        tempfile.TemporaryDirectory(prefix="pydmed-dali-tiles-", dir=chosen.folder) as cut,
    ):
        chosen.slides, chosen.tiles = slides, None
        workload = Workload.from_arguments(chosen)
        few, tiles = Path(cut) / "slides", Path(cut) / "tiles"
        link_slides(sorted(slides.iterdir())[:_TILED], few, _TILED)
        tiled = replace(workload, slides=few, tiles=tiles)
        if any(contender.peer in TILE_READERS for contender in order):
            cut_tiles(tiled, tiles)
        print("\n".join(headline("benchmarks.slow_disk", workload.cores)))
        for speed in SPEEDS:
            print(f"{speed.name}", file=sys.stderr, flush=True)
            rows = table(play(order, workload, tiled, speed), workload.cores)
            title = f"{speed.name}: {speed.megabytes:g} MB/s, {speed.requests:,} requests/s"
            print("\n".join(["", f"## {title[0].upper()}{title[1:]}", "", *rows]), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = slides_parser(__doc__, 120, "copies of them")
    parser.add_argument(
        "--folder", type=Path, default=Path("/tmp"), help="where to put them (/tmp)"
    )
    parser.add_argument(
        "--reuse", type=int, nargs="*", default=[64, 512], help="R of this project (64 512)"
    )
    return parser


if __name__ == "__main__":
    main()

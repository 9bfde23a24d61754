"""What this project costs as the work grows: more slides, larger slides, more workers.

    .venv/bin/python -m benchmarks.scale [--large] [--plot FILE.png]

One of the three grows while the others stay at --base (10 slides, 20,480 pixels a side, 2 workers).
Each point is a process of its own, the one that the suite measures too (`peers/this_project`); the
table and the plot give medians over the rounds, the plot's bars the lowest and the highest. Many
slides are symbolic links to a few files: each link is opened as a slide of its own, but the files
stay in the page cache, so this shows the cost of the work and not of a disk. --large adds slides of
102,400 pixels, which take 2 GB and some minutes to write.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contenders import OURS, run
from benchmarks.machine import headline
from benchmarks.measure import Round
from benchmarks.slides import link_slides, write_slides
from benchmarks.workload import Workload, add_options

LARGEST = 102_400
_FEW = 4  # files that the slides are links to
_ONE_FILE_FROM = 40_960  # pixels a side: from here on a single file is written


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """What is measured together."""

    slides: int
    side: int
    """Of a slide, in level-0 pixels."""
    workers: int


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of panels in the plot, one column of the table."""

    title: str
    of: Callable[[Round], float]


AXES = {"slides": "slides", "side": "pixels a side", "workers": "loader processes"}
MEASURES = (
    Measure("until the source is made, s", lambda found: found.made_seconds),
    Measure("until the first batch, s", lambda found: found.first_batch_seconds),
    Measure("memory, MB (PSS)", lambda found: found.memory / 1e6),
    Measure("crops/s", lambda found: found.crops_per_second),
)
Found = dict[Point, list[Round]]


def points(base: Point, values: dict[str, Sequence[int]]) -> dict[str, list[Point]]:
    """For each axis the points along it."""
    return {
        axis: [replace(base, **{axis: value}) for value in sorted(values[axis])] for axis in AXES
    }


def measure_all(
    along: dict[str, list[Point]], workload: Workload, rounds: int, work: Path
) -> Found:
    """Rounds of every point, in turns; a point on several axes is measured once a round."""
    distinct = sorted({point for each in along.values() for point in each})
    folders = {point: _folder(point, work) for point in distinct}
    found: Found = {point: [] for point in distinct}
    for number in range(rounds):
        for point in distinct:
            print(f"round {number + 1} of {rounds}: {point}", file=sys.stderr, flush=True)
            outcome = run(
                OURS,
                replace(workload, slides=folders[point], workers=point.workers, seed=number),
            )
            if isinstance(outcome, str):
                raise RuntimeError(f"{point}: {outcome}")
            found[point].append(outcome)
    return found


def table(found: Found) -> list[str]:
    """Markdown: a row for each point, medians over its rounds."""
    titles = [*AXES.values(), *(measure.title for measure in MEASURES)]
    lines = ["| " + " | ".join(titles) + " |", "|---:" * len(titles) + "|"]
    for point, rounds in sorted(found.items()):
        cells = [f"{getattr(point, axis):,}" for axis in AXES]
        for measure in MEASURES:
            value = median(measure.of(each) for each in rounds)
            cells.append(f"{value:,.0f}" if value >= 100 else f"{value:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def plot(along: dict[str, list[Point]], found: Found, base: Point, caption: str) -> Figure:
    """A row of panels for each measure, all of one scale from 0 on; a column for each axis."""
    figure = Figure(figsize=(10, 11), layout="constrained")
    panels = figure.subplots(len(MEASURES), len(AXES), sharex="col", sharey="row", squeeze=False)
    for row, measure in enumerate(MEASURES):
        top = max(measure.of(each) for rounds in found.values() for each in rounds)
        panels[row, 0].set_ylabel(measure.title)
        for column, axis in enumerate(AXES):
            rounds = {getattr(point, axis): found[point] for point in along[axis]}
            _draw(panels[row, column], axis, rounds, measure)
            panels[row, column].set_ylim(0, 1.1 * top)
    for column, (axis, title) in enumerate(AXES.items()):
        fixed = [
            f"{name} {getattr(base, other):,}" for other, name in AXES.items() if other != axis
        ]
        panels[0, column].set_title(f"{title}\n({', '.join(fixed)})", fontsize=10)
        panels[-1, column].set_xlabel(title)
    figure.suptitle(caption, fontsize=9)
    return figure


def _draw(panel: Axes, axis: str, rounds: dict[int, list[Round]], measure: Measure) -> None:
    """One panel: the medians, with bars from the lowest to the highest."""
    values = list(rounds)
    heights = [[measure.of(each) for each in found] for found in rounds.values()]
    middle = [median(each) for each in heights]
    below = [m - min(each) for m, each in zip(middle, heights, strict=True)]
    above = [max(each) - m for m, each in zip(middle, heights, strict=True)]
    panel.errorbar(values, middle, yerr=[below, above], marker="o", capsize=3)
    if axis != "workers":
        panel.set_xscale("log")
    panel.set_xticks(values, [f"{value:,}" for value in values], rotation=30)
    panel.minorticks_off()
    panel.grid(alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, draw the plot."""
    chosen = _parser().parse_args(arguments)
    base = Point(*chosen.base)
    sides = [*chosen.sides, LARGEST] if chosen.large else chosen.sides
    along = points(base, {"slides": chosen.counts, "side": sides, "workers": chosen.worker_counts})
    chosen.slides, chosen.tiles, chosen.workers = Path(), None, 0
    workload = Workload.from_arguments(chosen)
    with tempfile.TemporaryDirectory(prefix="pydmed-dali-scale-") as work:
        found = measure_all(along, workload, chosen.rounds, chosen.keep or Path(work))
    head = headline("benchmarks.scale", chosen.cores)
    print("\n".join([*head, "", *table(found)]))
    if chosen.plot:
        caption = f"{head[0]}\n{_settings(workload)}; median, lowest, highest of {chosen.rounds}"
        plot(along, found, base, caption).savefig(chosen.plot, dpi=120)
    if chosen.json:
        rows = [{**asdict(p), "rounds": [asdict(each) for each in f]} for p, f in found.items()]
        chosen.json.write_text(json.dumps({"headline": head, "points": rows}, indent=1) + "\n")


def _settings(workload: Workload) -> str:
    return (
        f"R = {workload.crops_per_chunk}, {workload.resident} resident BigChunks of "
        f"{workload.chunk} pixels, batches of {workload.batch}"
    )


def _folder(point: Point, work: Path) -> Path:
    """A folder of links for a point; the files behind it are written once a side."""
    files = work / "files" / str(point.side)
    if not files.exists():
        files.mkdir(parents=True)
        write_slides(files, _FEW if point.side < _ONE_FILE_FROM else 1, point.side)
    folder = work / f"{point.slides}-of-{point.side}"
    if not folder.exists():
        link_slides(sorted(files.iterdir()), folder, point.slides)
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options: list[tuple[str, int | str, list[int], str]] = [
        ("--base", 3, [10, 20480, 2], "slides, pixels a side and workers where not varied"),
        ("--counts", "+", [1, 10, 100, 1000], "numbers of slides"),
        ("--sides", "+", [4096, 10240, 20480, 40960], "pixels a side"),
        ("--worker-counts", "+", [1, 2, 3, 4], "loader processes"),
    ]
    for name, count, default, text in options:
        parser.add_argument(name, type=int, nargs=count, default=default, help=text)
    parser.add_argument("--large", action="store_true", help=f"also slides of {LARGEST:,} pixels")
    parser.add_argument("--keep", type=Path, help="write the slides here, or find them here")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all points (3)")
    parser.add_argument("--plot", type=Path, help="draw the plot to this PNG file")
    parser.add_argument("--json", type=Path, help="also write every round to this file")
    add_options(parser, leave_out=("slides", "tiles", "workers", "tissue", "seed"))
    parser.set_defaults(cores=len(os.sched_getaffinity(0)), tissue=False, seed=0)
    return parser


if __name__ == "__main__":
    main()

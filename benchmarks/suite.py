"""This project and what people use instead, side by side on the same slides.

    make bench                                          # the whole suite, about ten minutes
    make bench ARGS=--tissue                            # crops on tissue only
    .venv/bin/python -m benchmarks.suite --side 8192 --rounds 1 --seconds 2     # a quick look

Each loader delivers crops of 224x224, uint8, as torch tensors in batches of 256, from random places
all over the same slides, with the same number of reading processes on the same cores. Every round
starts every loader once, in a process of its own (`benchmarks/peers`), so that they take turns; the
table gives medians over the rounds. What the columns mean: see `measure.Round` and
`accounting.Content`.

R is how many crops are taken of a BigChunk (4096x4096 pixels, 16 resident) before it is replaced.
Slides are mosaics of real tissue, unless --slides names a folder (`slides.write_slides`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.contenders import TILE_READERS, Contender, contenders, lacking, run
from benchmarks.machine import cpu_model, headline
from benchmarks.measure import Round
from benchmarks.slides import slides_in
from benchmarks.table import TISSUE_TARGETS, WHOLE_TARGETS, ratios, table
from benchmarks.tiles import cut_tiles
from benchmarks.workload import Workload, slides_parser


def play(
    order: Sequence[Contender], workload: Workload, rounds: int
) -> tuple[dict[Contender, list[Round]], dict[Contender, str]]:
    """(rounds, reasons why there are none) by contender: all in turn, round after round."""
    found: dict[Contender, list[Round]] = {}
    missing = {c: reason for c in order if (reason := lacking(c)) is not None}
    for number in range(rounds):
        for contender in order:
            if contender in missing:
                continue
            _say(f"round {number + 1} of {rounds}: {contender.title}")
            outcome = run(contender, replace(workload, seed=workload.seed + number))
            if isinstance(outcome, str):
                missing[contender] = outcome
                _say(f"  {outcome}")
            else:
                found.setdefault(contender, []).append(outcome)
    return found, missing


def show(
    order: Sequence[Contender],
    found: dict[Contender, list[Round]],
    missing: dict[Contender, str],
    workload: Workload,
) -> None:
    """Print what is to be kept."""
    targets = TISSUE_TARGETS if workload.tissue else WHOLE_TARGETS
    lines = [
        *headline("benchmarks.suite", workload.cores),
        "",
        *table(found, missing, order),
        "",
        "How many times faster this project is:",
        "",
        *ratios(found, targets),
    ]
    print("\n".join(lines))


def save(
    file: Path,
    found: dict[Contender, list[Round]],
    missing: dict[Contender, str],
    workload: Workload,
) -> None:
    """Write every single round as JSON."""
    content: dict[str, Any] = {
        "date": str(date.today()),
        "cpu": cpu_model(),
        "cores": min(workload.cores, len(os.sched_getaffinity(0))),
        "command": sys.argv,
        "workload": {**asdict(workload), "slides": str(workload.slides), "tiles": None},
        "rounds": {c.key: [asdict(each) for each in rounds] for c, rounds in found.items()},
        "not_run": {contender.key: reason for contender, reason in missing.items()},
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the suite that the command line asks for."""
    chosen = _parser().parse_args(arguments)
    order = contenders(chosen.reuse, chosen.window_reuse, chosen.peers)
    with (
        slides_in(chosen.slides, chosen.count, chosen.side) as slides,
        tempfile.TemporaryDirectory(prefix="pydmed-dali-tiles-") as tiles,
    ):
        chosen.slides, chosen.tiles = slides, None
        workload = Workload.from_arguments(chosen)
        if any(contender.peer in TILE_READERS for contender in order):
            _say("cutting tiles")
            cut_tiles(workload, Path(tiles))
            workload = replace(workload, tiles=Path(tiles))
        found, missing = play(order, workload, chosen.rounds)
    show(order, found, missing, workload)
    if chosen.json:
        save(chosen.json, found, missing, workload)


def _parser() -> argparse.ArgumentParser:
    parser = slides_parser(__doc__, 4, "slides to write")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of everybody (3)")
    parser.add_argument(
        "--reuse",
        type=int,
        nargs="*",
        default=[16, 64, 128, 512, 2048],
        help="R of this project (16 64 128 512 2048)",
    )
    parser.add_argument(
        "--window-reuse",
        type=int,
        nargs="*",
        default=[16, 128, 512],
        help="R of the window without DALI (16 128 512)",
    )
    parser.add_argument("--json", type=Path, help="also write every round to this file")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

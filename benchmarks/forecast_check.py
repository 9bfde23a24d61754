"""What `pydmed-dali plan` forecasts, against what then comes: within 25%?

    .venv/bin/python -m benchmarks.forecast_check [--slides FOLDER] [--seconds 8]

Times the slides as `plan` does, then runs the options of some rows of its table, with the crops
into torch, and compares speed, decoding and mixing with the forecast.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import headline
from benchmarks.slides import slides_in
from pydmed_dali import BigChunkSource, Size
from pydmed_dali.cli.plan import Scale, plan_options, source_options, study_slides, usual_request
from pydmed_dali.measure.costs import crops_of
from pydmed_dali.measure.forecast import Forecast
from pydmed_dali.measure.stopwatch import time_batches

SCALE = Scale(level=None, mpp=None, min_tissue=None)
MOST_OFF = 0.25
_WARM_UP = 6.0  # seconds


def check(found: Forecast, source: BigChunkSource, seconds: float) -> tuple[float, float]:
    """(crops per second, pixels decoded per pixel delivered) of a run."""
    with source:
        timing = time_batches(crops_of(source, threads=1), seconds, _WARM_UP)
        stats = source.stats()
    crops = stats.chunks_read * found.setting.crops_per_chunk
    return timing.crops_per_second, stats.decode_amplification * stats.crops / crops


def main(arguments: Sequence[str] | None = None) -> None:
    """Forecast, run, compare."""
    chosen = _parser().parse_args(arguments)
    with slides_in(chosen.slides, 4, chosen.side) as folder:
        wishes = usual_request(Size(224, 224), 256, chosen.memory, None)
        study = study_slides(folder, wishes, SCALE, 5.0)
        advice = plan_options(study, wishes)
        print("\n".join([*headline("benchmarks.forecast_check"), ""]))
        print(
            "| crops per chunk | workers | crops/s forecast | measured | off | decoded/delivered |"
        )
        print("|---:|---:|---:|---:|---:|---:|")
        worst = 0.0
        for found in advice.options:
            if found.setting.crops_per_chunk not in chosen.reuse and found is not advice.chosen:
                continue
            options = source_options(found.setting, SCALE)
            source = BigChunkSource(study.dataset, **options, device="cpu")
            speed, decoded = check(found, source, chosen.seconds)
            off = found.crops_per_second / speed - 1
            worst = max(worst, abs(off))
            mark = " (chosen)" if found is advice.chosen else ""
            print(
                f"| {found.setting.crops_per_chunk}{mark} | {found.setting.num_workers} "
                f"| {found.crops_per_second:,.0f} | {speed:,.0f} | {off:+.0%} "
                f"| {found.decode_amplification:.2f}, {decoded:.2f} |",
                flush=True,
            )
    print(f"\nlargest deviation {worst:.0%}, allowed {MOST_OFF:.0%}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=Path, help="a folder of slides instead of new mosaics")
    parser.add_argument("--side", type=int, default=20480, help="the mosaics' side (20480)")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB for the ring (4)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each run (8)")
    parser.add_argument(
        "--reuse", type=int, nargs="+", default=[32, 128, 512, 2048], help="rows that are run"
    )
    return parser


if __name__ == "__main__":
    main()

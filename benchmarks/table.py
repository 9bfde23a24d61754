"""The suite's table, and the ratios below it beside what they should reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from benchmarks.contenders import OURS, WINDOW, Contender
from benchmarks.measure import Round

COLUMNS = (
    "loader",
    "crops/s",
    "range",
    "CPU s per 1,000 crops",
    "pixels decoded per pixel delivered",
    "slides in a batch",
    "same-chunk pairs in a batch",
    "memory, MB (PSS)",
    "first batch, s",
)

WHOLE_TARGETS: dict[int, dict[str, float]] = {
    16: {"openslide_reads": 2.5, "cucim_reads": 1.1},
    128: {"openslide_reads": 5.5, "cucim_reads": 2.3, "jpeg_tiles_dali": 0.5},
    512: {
        "openslide_reads": 13,
        "cucim_reads": 5,
        "jpeg_tiles_dali": 1.2,
        "torch_window": 1.8,
    },
}
"""Times faster than each peer that this project should be, by its crops per chunk (R)."""

TISSUE_TARGETS: dict[int, dict[str, float]] = {
    512: {"openslide_reads": 13, "cucim_reads": 6.5, "jpeg_tiles_dali": 1.5},
}
"""The same where crops lie on tissue only."""

Rounds = Mapping[Contender, Sequence[Round]]
Missing = Mapping[Contender, str]


def table(rounds: Rounds, missing: Missing, order: Sequence[Contender]) -> list[str]:
    """Markdown: a row for each contender, medians over its rounds; who has none is named."""
    return markdown(
        COLUMNS,
        {
            c.title: _cells(rounds[c]) if rounds.get(c) else [f"not run: {missing[c]}"]
            for c in order
        },
    )


def markdown(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """A table of rows by their titles; one with too few cells is filled up."""
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    for title, cells in rows.items():
        empty = [""] * (len(columns) - 1 - len(cells))
        lines.append("| " + " | ".join([title, *cells, *empty]) + " |")
    return lines


def ratios(rounds: Rounds, targets: Mapping[int, Mapping[str, float]]) -> list[str]:
    """A line for each R that has a target and each other contender: how many times faster.

    The window without DALI is compared at the same R.
    """
    lines = [
        "| against | " + " | ".join(f"R = {r}" for r in targets) + " |",
        "|---" * (len(targets) + 1) + "|",
    ]
    ours = {c.crops_per_chunk: _rate(found) for c, found in rounds.items() if c.peer == OURS.peer}
    for title, peer, others in _others(rounds):
        cells = [
            _ratio(ours.get(r), others.get(r, others.get(None)), targets[r].get(peer))
            for r in targets
        ]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return lines


def _others(rounds: Rounds) -> Iterator[tuple[str, str, dict[int | None, float]]]:
    """(title, peer, its rate by R, or by None where there is no R) of all but this project."""
    windows: dict[int | None, float] = {}
    for contender, found in rounds.items():
        if contender.crops_per_chunk is None:
            yield contender.title, contender.peer, {None: _rate(found)}
        elif contender.peer == WINDOW.peer:
            windows[contender.crops_per_chunk] = _rate(found)
    if windows:
        yield WINDOW.title.format("the same"), WINDOW.peer, windows


def _ratio(ours: float | None, other: float | None, target: float | None) -> str:
    if not ours or not other:
        return "" if target is None else f"not run (target {target:g}x)"
    found = ours / other
    if target is None:
        return f"{found:.2f}x"
    return f"{found:.2f}x (target {target:g}x, {'met' if found >= target else 'NOT met'})"


def _rate(found: Sequence[Round]) -> float:
    return median(each.crops_per_second for each in found)


def _cells(found: Sequence[Round]) -> list[str]:
    def middle(of: Callable[[Round], float]) -> float:
        return median(of(each) for each in found)

    rates = [each.crops_per_second for each in found]
    decoded = [a for each in found if (a := each.content.amplification) is not None]
    return [
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f}-{max(rates):,.0f}",
        f"{middle(lambda each: each.cpu_seconds):.3f}",
        f"{median(decoded):.2f}" if decoded else "unknown",
        f"{middle(lambda each: each.content.slides):.1f}",
        f"{middle(lambda each: each.content.pairs):,.0f}",
        f"{middle(lambda each: each.memory) / 1e6:,.0f}",
        f"{middle(lambda each: each.first_batch_seconds):.2f}",
    ]

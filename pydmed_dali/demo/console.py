"""The demonstration's progress, on standard error, and its summary, on standard output."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pydmed_dali.demo.report import Report, TrainingResult
from pydmed_dali.text import paragraph, printable


def progress_on_stderr() -> Progress:
    """Bars for the parts of a demonstration; a task's field `note` is shown behind its bar."""
    return Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="cyan"),
        console=Console(stderr=True),
    )


def show_report(report: Report) -> None:
    """Print the summary."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (*_lesson_rows(report.lesson), *_rows(report)):
        table.add_row(name, Text(value, style="bold" if name == "accuracy" else ""))
    Console().print(table)


def _lesson_rows(lesson: TrainingResult | None) -> Iterator[tuple[str, str]]:
    if lesson is None:
        return
    classes = ", ".join(f"{name} {value:.3f}" for name, value in lesson.accuracy_per_class.items())
    yield (
        "accuracy",
        f"{lesson.accuracy:.3f} of {lesson.test_crops:,} crops of "
        f"{len(lesson.test_slides)} slides it never saw ({classes})",
    )
    yield (
        "left out",
        f"{lesson.left_out_in_training:.0%} of the training crops and "
        f"{lesson.left_out_in_test:.0%} of the test crops, which lay mostly on the bare glass "
        "around the tissue and so show no class",
    )


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    stats = report.stats
    count, channels, height, width = report.batch_shape
    yield "crops per second", f"{stats.crops_per_second:,.0f}"
    yield "starved share", f"{stats.starved_fraction:.1%} of the time a batch waited for a chunk"
    yield "chunks read", f"{stats.chunks_read} of {len(stats.reads_per_slide)} slides"
    yield "batches", f"{report.steps} of {count} x {channels} x {height} x {width}"
    yield "device", report.device
    for reason in stats.slides_skipped.values():
        yield "skipped", paragraph(reason)
    yield "picture", printable(report.picture)
    yield "time", f"{report.seconds:.0f} s"

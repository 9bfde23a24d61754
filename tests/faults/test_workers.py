"""Workers that die or hang: replaced, their chunks read again, the data the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pydmed_dali import BigChunkLoader, BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.errors import WorkerError
from pydmed_dali.pipelines.basic import basic
from tests.faults.loaders import EndsAlways, EndsAtOnce, Misbehaving
from tests.support import NAMES, sum_up, take
from tests.support import SMALL_RUN as OPTIONS


def healthy(dataset: Dataset, batches: int = 20) -> Any:
    with BigChunkSource(dataset, **OPTIONS) as source:
        return sum_up(take(source, batches))


DEADLY = ["sys.exit", "os._exit(0)", "SIGKILL", "SIGSEGV", "SIGTERM", "hang"]


@pytest.mark.parametrize("deed", DEADLY)
def test_a_slide_that_kills_two_workers_is_skipped(
    coordinates: Dataset, tmp_path: Path, deed: str
) -> None:
    loader = Misbehaving(tmp_path, deed, "reading", always=True)
    with BigChunkSource(coordinates, **OPTIONS, loader=loader, read_timeout=5) as source:
        crops = [c for b in take(source, 20) for c in source.describe(b["info"])]
        stats, report = source.stats(), source.report()
    assert list(report.slides_skipped) == list(stats.slides_skipped)
    assert str(report).startswith("skipped: ") and "slide-2.tif" in str(report)
    assert report.chunks_substituted > 0
    assert {c.record.path.name for c in crops} == {f"slide-{n}.tif" for n in (0, 1, 3, 4, 5)}
    (reason,) = stats.slides_skipped.values()
    assert "2 workers ended while reading it" in reason
    assert 2 <= stats.worker_deaths <= 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_read_that_raises_is_replaced_by_another_place(
    coordinates: Dataset, tmp_path: Path, num_workers: int
) -> None:
    loader = Misbehaving(tmp_path, "raise", "reading")
    options = {**OPTIONS, "num_workers": num_workers}
    with BigChunkSource(coordinates, **options, loader=loader) as source:
        crops = [c for b in take(source, 20) for c in source.describe(b["info"])]
        assert "RuntimeError('a defect')" in next(iter(source.stats().slides_skipped.values()))
    substituted = {c.record.path.name for c in crops if c.substituted}
    assert substituted == {"slide-2.tif"}


def test_workers_killed_from_outside_between_batches(coordinates: Dataset) -> None:
    """As the kernel does when memory runs out, in the middle of a run."""
    with BigChunkSource(coordinates, **OPTIONS) as source:
        batches = []
        loader = SmallChunkIterator(basic(source), NAMES, batches_per_epoch=20)
        for number, batch in enumerate(loader):
            batches.append(batch)
            if number % 5 == 4:
                psutil.Process().children()[0].kill()
        deaths = source.stats().worker_deaths
    np.testing.assert_array_equal(sum_up(batches)["image"], healthy(coordinates)["image"])
    assert 3 <= deaths <= 4


def test_workers_that_cannot_start_end_the_run_with_words(coordinates: Dataset) -> None:
    with (
        BigChunkSource(coordinates, **OPTIONS, loader=EndsAtOnce()) as source,
        pytest.raises(
            WorkerError, match=r"worker \d \(pid \d+\) ended with exit code 9 before .* of 3"
        ),
    ):
        take(source, 1)


def test_after_fifty_deaths_the_run_ends_with_a_report(tmp_path: Path) -> None:
    """Thirty slides, each of which kills its readers: not one after the other for ever."""
    for number in range(30):
        (tmp_path / f"{number}.svs").touch()
    with (
        BigChunkSource(Dataset.from_folder(tmp_path), **OPTIONS, loader=EndsAlways()) as source,
        pytest.raises(WorkerError, match=r"50 workers ended, the last ones: .* SIGKILL .*\.svs"),
    ):
        take(source, 1)


def test_when_every_slide_kills_its_reader_the_run_ends_with_a_report(
    coordinates: Dataset,
) -> None:
    with (
        BigChunkSource(coordinates, **OPTIONS, loader=EndsAlways()) as source,
        pytest.raises(OSError, match=r"(?s)no slide .*is left that can be read.*SIGKILL"),
    ):
        take(source, 1)


@pytest.mark.parametrize("batch_size", [300, 600])
def test_more_chunks_a_batch_than_a_channel_holds_messages(
    coordinates: Dataset, batch_size: int
) -> None:
    """One crop of each chunk: hundreds of jobs at once, for one worker."""
    options = {**OPTIONS, "batch_size": batch_size, "crops_per_chunk": 1, "num_workers": 1}
    with BigChunkSource(coordinates, **options) as source:
        assert len(take(source, 2)) == 2


class Wordy(BigChunkLoader):
    """Fails at length, and fails again when the slide is closed."""

    def extract_bigchunk(self, *arguments: object) -> None:
        raise RuntimeError("word " * 100_000)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_any_length_reaches_the_user(coordinates: Dataset, num_workers: int) -> None:
    options = {**OPTIONS, "num_workers": num_workers}
    with (
        BigChunkSource(coordinates, **options, loader=Wordy(), on_error="raise") as source,
        pytest.raises(OSError, match=r"raised RuntimeError\('word word .* \.\.\.$"),
    ):
        take(source, 1)

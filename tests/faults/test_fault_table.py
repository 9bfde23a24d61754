"""Every way to go wrong at every place of a worker's life: the run goes on, with the same data.

Run with `-v --durations=0` for the table, cell by cell.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.pool import worker_pool
from tests.faults.loaders import SLIDE, Misbehaving
from tests.support import NAMES, SMALL_RUN, first, sum_up, take

DEEDS = ["raise", "sys.exit", "os._exit(0)", "SIGKILL", "SIGSEGV", "hang"]
PLACES = ["starting", "opening", "reading", "publishing", "idle", "shutting down"]
SECONDS = 120.0
START_SECONDS, READ_SECONDS = 15.0, 5.0
"""Limits that a hang must exceed, and that no healthy worker exceeds on a busy machine."""
OPTIONS: dict[str, Any] = {**SMALL_RUN, "read_timeout": READ_SECONDS}


@pytest.fixture(scope="module")
def healthy(coordinates: Dataset) -> Any:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        return sum_up(take(source, 20))


@pytest.fixture(autouse=True)
def short_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that hangs while it starts is given up after seconds, here."""
    monkeypatch.setattr(worker_pool, "_START_SECONDS", START_SECONDS)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("deed", DEEDS)
def test_a_cell_of_the_table(
    coordinates: Dataset, healthy: Any, tmp_path: Path, deed: str, place: str
) -> None:
    begun = time.monotonic()
    loader = Misbehaving(tmp_path, deed, place)
    with BigChunkSource(coordinates, **OPTIONS, loader=loader) as source:
        batches = first(SmallChunkIterator(basic(source), NAMES), 10**9)
        outputs = sum_up([next(batches) for _ in range(20)])
        skipped = deed == "raise" and place in ("opening", "reading")
        while not (skipped or place == "shutting down" or source.report().deaths):
            assert time.monotonic() - begun < SECONDS, "nobody died"
            next(batches)  # a worker that died since the last batch is noticed at the next
        stats, deaths = source.stats(), source.report().deaths
    assert (tmp_path / "done").exists(), "the fault never happened"
    assert time.monotonic() - begun < SECONDS
    if skipped:
        assert SLIDE in {path.name for path in stats.slides_skipped}
        return
    np.testing.assert_array_equal(outputs["image"], healthy["image"])
    np.testing.assert_array_equal(outputs["info"], healthy["info"])
    assert not stats.slides_skipped
    if place != "shutting down":
        (death,) = deaths
        assert death.path is None or place != "starting"
        assert death.path or place in ("starting", "idle")
        assert SLIDE in str(death.path) or place not in ("opening", "reading")
        assert deed in death.ending if deed.startswith("SIG") else death.ending


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGSTOP"])
def test_an_idle_worker(coordinates: Dataset, healthy: Any, signal: str) -> None:
    """From outside, as the kernel does it; a stopped one is found when it does not read."""
    with BigChunkSource(coordinates, **OPTIONS) as source:
        batches = []
        loader = SmallChunkIterator(basic(source), NAMES, batches_per_epoch=20)
        for number, batch in enumerate(loader):
            batches.append(batch)
            if number == 5:
                worker = psutil.Process().children()[0]
                worker.send_signal(getattr(__import__("signal"), signal))
        assert len(source.report().deaths) == 1
    np.testing.assert_array_equal(sum_up(batches)["image"], healthy["image"])

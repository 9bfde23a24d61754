"""No crop mixes two chunks, or disagrees with its `info`, however fast chunks are replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import BigChunkSource, InfoColumn, SmallChunkIterator
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.plan.window import Window
from tests.faults.colours import CHUNK, CROP, ColourLoader, colour_dataset, count_torn
from tests.support import NAMES, Batch, first

CROPS_EACH = int(os.environ.get("PYDMED_DALI_STRESS_CROPS", 2_000))
"""Crops of each of the fourteen runs; 72,000 make a million together."""
BURST = 6  # batches taken without a pause, so that DALI is cutting while slots are overwritten


def open_source(
    depth: int, seed: int = 0, passes: int | None = None, per_chunk: int = 16
) -> BigChunkSource:
    """A tight ring: every slot that becomes free is written to at once."""
    return BigChunkSource(
        colour_dataset(40),
        chunk_size=CHUNK,
        crop_size=CROP,
        batch_size=64,
        resident=8,
        crops_per_chunk=per_chunk,
        num_workers=2,
        prefetch_depth=depth,
        seed=seed,
        passes=passes,
        loader=ColourLoader(),
    )


def torn(batch: Batch) -> int:
    info = batch["info"].numpy()
    return count_torn(
        batch["image"].numpy(), info[:, InfoColumn.SLIDE], info[:, InfoColumn.X : InfoColumn.Y + 1]
    )


def endless(source: BigChunkSource, depth: int) -> Iterator[Batch]:
    pipeline = basic(source, prefetch_queue_depth=depth, num_threads=1)
    return first(SmallChunkIterator(pipeline, NAMES), 10**9)


def count(batches: Iterator[Batch], crops: int) -> int:
    """Torn crops among so many."""
    found = 0
    while crops > 0:
        burst = [next(batches) for _ in range(BURST)]
        found += sum(torn(batch) for batch in burst)
        crops -= sum(len(batch["image"]) for batch in burst)
    return found


@pytest.mark.parametrize(("depth", "per_chunk"), [(1, 16), (2, 16), (3, 16), (1, 3), (2, 3)])
def test_an_endless_source(depth: int, per_chunk: int) -> None:
    """With 3 crops a chunk, slots hold crops."""
    with open_source(depth, per_chunk=per_chunk) as source:
        assert (source._engine.ring.layout.packed is None) == (per_chunk == 16)
        assert count(endless(source, depth), CROPS_EACH) == 0
        assert source.stats().chunks_read > CROPS_EACH / per_chunk


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("auto_reset", [True, False])
def test_a_finite_source_in_plain_dali(depth: int, auto_reset: bool) -> None:
    def repeat() -> Iterator[Batch]:
        while True:
            for (batch,) in iterator:
                yield batch
            if not auto_reset:
                iterator.reset()

    with open_source(depth, passes=1) as source:
        pipeline = basic(source, prefetch_queue_depth=depth)
        iterator: Any = DALIGenericIterator([pipeline], NAMES, size=-1, auto_reset=auto_reset)
        assert count(repeat(), CROPS_EACH) == 0


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_training_and_validation_together(depth: int) -> None:
    with open_source(depth) as training, open_source(depth, seed=1, passes=1) as validation:
        validate = SmallChunkIterator(basic(validation, prefetch_queue_depth=depth), NAMES)
        batches = endless(training, depth)
        for number in range(6):
            assert count(batches, CROPS_EACH // 6) == 0
            for position, batch in enumerate(validate):
                assert torn(batch) == 0
                if number % 2 and position == number:
                    break


@pytest.mark.usefixtures("slow_to_cut")
@pytest.mark.parametrize("depth", [2, 3])
def test_cutting_that_is_late_is_waited_for(depth: int) -> None:
    with open_source(depth) as source:
        assert count(endless(source, depth), 1_000) == 0


@pytest.mark.usefixtures("slow_to_cut")
@pytest.mark.parametrize(("depth", "per_chunk"), [(2, 16), (3, 16), (2, 3)])
def test_a_lease_shorter_by_one_is_noticed(
    depth: int, per_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail: with slots freed one batch too early, crops are torn."""
    rule = Window.oldest_in_use
    monkeypatch.setattr(Window, "oldest_in_use", lambda w, call, depth: rule(w, call, depth - 1))
    with open_source(depth, per_chunk=per_chunk) as source:
        batches = endless(source, depth)
        assert any(count(batches, 1) for _ in range(200))

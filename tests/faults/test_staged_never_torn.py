"""No crop is torn where chunks are copied into the ring while batches are cut from it.

What a GPU does with a ring in its memory, done here by a thread in host memory.
"""

from __future__ import annotations

import pytest

from pydmed_dali import BigChunkSource, SmallChunkIterator
from pydmed_dali.dali.residency import RINGS
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.plan.window import Window
from pydmed_dali.pool.staged_pool import StagedPool
from tests.faults.colours import CHUNK, CROP, ColourLoader, colour_dataset
from tests.faults.test_never_torn import CROPS_EACH, count, endless, open_source, torn
from tests.staged_host import ThreadTicket, staged_host_ring
from tests.support import NAMES


@pytest.fixture(autouse=True)
def _staged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RINGS, "host", staged_host_ring)


def torn_soon(source: BigChunkSource, depth: int) -> bool:
    batches = endless(source, depth)
    return any(count(batches, 1) for _ in range(2000))


@pytest.mark.parametrize(("depth", "per_chunk"), [(1, 16), (2, 16), (3, 16), (2, 3)])
def test_an_endless_source(depth: int, per_chunk: int) -> None:
    with open_source(depth, per_chunk=per_chunk) as source:
        assert isinstance(source._engine.pool, StagedPool)
        assert count(endless(source, depth), CROPS_EACH) == 0
        assert source.stats().chunks_read > CROPS_EACH / per_chunk


def test_training_and_validation_together() -> None:
    with open_source(2) as training, open_source(2, seed=1, passes=1) as validation:
        validate = SmallChunkIterator(basic(validation), NAMES)
        batches = endless(training, 2)
        for number in range(4):
            assert count(batches, CROPS_EACH // 4) == 0
            for position, batch in enumerate(validate):
                assert torn(batch) == 0
                if number % 2 and position == number:
                    break


def test_a_chunk_that_is_ready_before_its_copy_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: where no copy is waited for, crops are torn."""
    monkeypatch.setattr(ThreadTicket, "is_done", lambda ticket: True)
    monkeypatch.setattr(ThreadTicket, "wait", lambda ticket: None)
    with open_source(2) as source:
        assert torn_soon(source, 2)


def open_ahead() -> BigChunkSource:
    """With one chunk a batch, so that reading is ahead, and six batches in flight: here a copy that
    comes too early shows at once, though it begins later than a worker's own writing would."""
    return BigChunkSource(
        colour_dataset(40), chunk_size=CHUNK, crop_size=CROP, batch_size=64, resident=8,
        crops_per_chunk=64, num_workers=2, prefetch_depth=6, loader=ColourLoader(),
    )  # fmt: skip


def test_a_source_whose_reading_is_ahead() -> None:
    with open_ahead() as source:
        assert count(endless(source, 6), CROPS_EACH) == 0


@pytest.mark.usefixtures("slow_to_cut")
def test_a_lease_that_is_too_short_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Window, "oldest_in_use", lambda w, call, depth: w.first_chunk(call))
    with open_ahead() as source:
        assert torn_soon(source, 6)

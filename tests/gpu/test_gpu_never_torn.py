"""No crop is torn where a GPU cuts it while slots are overwritten as fast as memory allows."""

from __future__ import annotations

from typing import Any

import pytest

from pydmed_dali import BigChunkSource, SmallChunkIterator
from pydmed_dali.geometry import Region
from pydmed_dali.pipelines.basic import basic
from tests.faults.colours import CHUNK, CROP, ColourLoader, colour_dataset
from tests.faults.test_never_torn import CROPS_EACH, torn
from tests.gpu.places import DEVICE, PLACES, on_cpu
from tests.support import NAMES, first

BATCHES = CROPS_EACH // 64
BURST = 6
GIB = 2**30


def open_source(place: dict[str, Any], depth: int, per_chunk: int = 16) -> BigChunkSource:
    """With 64 crops a chunk and six batches in flight reading is ahead, and errors show soonest;
    with 3, slots hold crops.
    """
    return BigChunkSource(
        colour_dataset(40), chunk_size=CHUNK, crop_size=CROP, batch_size=64, resident=8,
        crops_per_chunk=per_chunk, num_workers=2, prefetch_depth=depth,
        loader=ColourLoader(), **place,
    )  # fmt: skip


def torn_crops(source: BigChunkSource, batches: int) -> int:
    """Taken in bursts, so that crops are cut while slots are overwritten."""
    stream = first(SmallChunkIterator(basic(source), NAMES), batches)
    found = 0
    while burst := [batch for _, batch in zip(range(BURST), stream, strict=False)]:
        found += sum(torn(on_cpu(batch)) for batch in burst)
    return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("depth", "per_chunk"), [(1, 16), (2, 16), (3, 16), (6, 64), (2, 3)])
def test_an_endless_source(place: dict[str, Any], depth: int, per_chunk: int) -> None:
    with open_source(place, depth, per_chunk) as source:
        assert torn_crops(source, BATCHES) == 0
        assert source.stats().chunks_read > BATCHES * 64 // per_chunk


@pytest.fixture
def slow_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each copy to the card waits there behind some milliseconds of other work on its stream."""
    from cupy.cuda import runtime

    from pydmed_dali.dali import cuda

    begin, scratch = cuda.CudaCopier.copy, cuda.allocate(GIB, 0)

    def begin_late(copier: Any, stage: int, slot: int, box: Region) -> Any:
        for _ in range(20):
            runtime.memsetAsync(scratch.ptr, 0, GIB, copier._stream.ptr)
        return begin(copier, stage, slot, box)

    monkeypatch.setattr(cuda.CudaCopier, "copy", begin_late)


@pytest.mark.gpu
@pytest.mark.usefixtures("slow_copies")
def test_copies_that_take_long_are_waited_for() -> None:
    with open_source(DEVICE, 2) as source:
        assert torn_crops(source, 20) == 0


@pytest.mark.gpu
@pytest.mark.usefixtures("slow_copies")
def test_a_chunk_that_is_ready_before_its_copy_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail on a GPU too: where no copy is waited for, crops are torn."""
    from pydmed_dali.dali.cuda import Recorded

    monkeypatch.setattr(Recorded, "is_done", lambda ticket: True)
    monkeypatch.setattr(Recorded, "wait", lambda ticket: None)
    with open_source(DEVICE, 2) as source:
        assert torn_crops(source, 20) > 0

"""A ring that workers reach only through staging slots delivers what a host ring does."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from pydmed_dali import BigChunkSource, Dataset, Size
from pydmed_dali.dali.residency import RINGS
from pydmed_dali.dali.rings import RingNeed, StagedRing
from pydmed_dali.geometry import Region
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.pool.staged_pool import StagedPool
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.faults.loaders import Misbehaving
from tests.integration.source.test_determinism import assert_same, run
from tests.staged_host import ThreadCopier, ThreadTicket, staged_host_ring
from tests.support import SMALL_RUN, assert_coordinates, sum_up, take


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RINGS, "host", staged_host_ring)


def copier_of(source: BigChunkSource) -> ThreadCopier:
    ring = source._engine.ring
    assert isinstance(ring, StagedRing) and isinstance(ring._copier, ThreadCopier)
    return ring._copier


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("depth", [1, 3])
def test_staging_changes_nothing_that_is_delivered(
    coordinates: Dataset, monkeypatch: pytest.MonkeyPatch, num_workers: int, depth: int
) -> None:
    plain = run(coordinates)
    monkeypatch.setitem(RINGS, "host", staged_host_ring)
    assert_same(plain, run(coordinates, num_workers=num_workers, depth=depth))


def test_broken_slides_are_replaced_alike(
    real_slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset.from_folder(real_slides)
    plain = run(dataset, 40)
    monkeypatch.setitem(RINGS, "host", staged_host_ring)
    assert_same(plain, run(dataset, 40, num_workers=2))


@pytest.mark.parametrize("deed", ["SIGKILL", "hang"])
def test_a_worker_that_ends_while_it_reads_changes_nothing(
    coordinates: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    """Its staging slot is filled again by the next worker."""
    options: dict[str, Any] = {**SMALL_RUN, "read_timeout": 1.0}
    with BigChunkSource(coordinates, **options) as source:
        plain = sum_up(take(source, 20))
    monkeypatch.setitem(RINGS, "host", staged_host_ring)
    loader = Misbehaving(tmp_path, deed, "reading")
    with BigChunkSource(coordinates, **options, loader=loader) as source:
        assert_same(plain, sum_up(take(source, 20)))
        assert source.stats().worker_deaths == 1


SHAPES = [
    # chunk, crop, batch, resident, crops per chunk
    (Size(700, 300), Size(96, 33), 16, 3, 7),
    (4096, 224, 8, 2, 16),  # chunks larger than the slides
    (300, 64, 2, 6, 9),  # more slots than crops in a batch
    (256, 64, 64, 4, 2),  # a batch uses up many chunks
    (256, 1, 64, 1, 100),
]


@pytest.mark.usefixtures("staged")
@pytest.mark.parametrize(("chunk", "crop", "batch", "resident", "per_chunk"), SHAPES)
def test_every_pixel_is_the_one_that_info_names(
    coordinates: Dataset,
    coordinate_extents: dict[int, Size],
    chunk: int | Size,
    crop: int | Size,
    batch: int,
    resident: int,
    per_chunk: int,
) -> None:
    with BigChunkSource(
        coordinates, chunk_size=chunk, crop_size=crop, batch_size=batch, resident=resident,
        crops_per_chunk=per_chunk, num_workers=1,
    ) as source:  # fmt: skip
        assert isinstance(source._engine.pool, StagedPool)
        for output in take(source, 30):
            assert_coordinates(output, coordinate_extents)


@pytest.mark.usefixtures("staged")
def test_only_what_crops_touch_is_copied(tmp_path: Path) -> None:
    """Of a slide much smaller than a chunk, only its own rows and columns."""
    write_coordinate_slide(tmp_path / "small.tif", Size(200, 120), levels=1)
    with BigChunkSource(
        Dataset.from_folder(tmp_path), chunk_size=1024, crop_size=64, batch_size=8, resident=2,
        crops_per_chunk=220, num_workers=0,
    ) as source:  # fmt: skip
        for batch in take(source, 60):
            assert_coordinates(batch, {0: Size(200, 120)})
        copied = copier_of(source).copied_bytes
        assert 0 < copied <= source.stats().chunks_read * 200 * 120 * 3


@pytest.mark.usefixtures("staged")
def test_no_batch_comes_before_its_chunks_are_copied(coordinates: Dataset) -> None:
    with BigChunkSource(
        coordinates, chunk_size=256, crop_size=64, batch_size=8, resident=2, crops_per_chunk=8,
        num_workers=1,
    ) as source:  # fmt: skip
        gate = copier_of(source).gate
        gate.clear()
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(take(source, 1)))
        thread.start()
        thread.join(1.0)  # a wait that must not be answered has no other end than its length
        assert not found and source.stats().batches == 0
        gate.set()
        thread.join(60)
        assert len(found) == 1


@pytest.mark.usefixtures("staged")
def test_a_copy_that_fails_ends_the_run_with_its_error(
    coordinates: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(copier: ThreadCopier, stage: int, slot: int, box: Region) -> None:
        raise OSError("the copy failed")

    monkeypatch.setattr(ThreadCopier, "_copy", fail)
    with (
        BigChunkSource(
            coordinates, chunk_size=256, crop_size=64, batch_size=8, resident=2, num_workers=1
        ) as source,
        pytest.raises(OSError, match="the copy failed"),
    ):
        take(source, 1)


@pytest.mark.usefixtures("staged")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_closing_while_the_pipeline_is_still_referenced(
    coordinates: Dataset, num_workers: int
) -> None:
    with BigChunkSource(
        coordinates, chunk_size=256, batch_size=8, resident=2, num_workers=num_workers
    ) as source:
        pipeline = basic(source)
        pipeline.run()
    source.close()
    del pipeline


@pytest.mark.usefixtures("staged")
def test_a_source_that_is_forgotten_ends_its_workers(coordinates: Dataset) -> None:
    take(BigChunkSource(coordinates, chunk_size=256, batch_size=8, resident=2, num_workers=2), 2)
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("copier"):
            thread.join(timeout=600)
            assert not thread.is_alive()


def test_a_ring_whose_copier_cannot_be_made_leaves_nothing(coordinates: Dataset) -> None:
    def fail(need: RingNeed) -> StagedRing:
        def refuse(staging: object) -> ThreadCopier:
            raise OSError("no copier")

        whole = staged_host_ring(need)
        return StagedRing(need, "cpu", whole.images, refuse)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RINGS, "host", fail)
        with pytest.raises(OSError, match="no copier"):
            BigChunkSource(coordinates, chunk_size=256, batch_size=8, resident=2, num_workers=2)


def test_a_ticket_tells_what_made_its_copy_fail() -> None:
    from concurrent.futures import Future

    future: Future[None] = Future()
    future.set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        ThreadTicket(future).is_done()

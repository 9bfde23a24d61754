"""What cannot work is refused, in words, before any process is started where that is possible."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import nvidia.dali
import psutil
import pytest
from nvidia.dali import fn
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import (
    BigChunkLoader,
    BigChunkSource,
    Dataset,
    InfoColumn,
    Size,
    SmallChunkIterator,
    pipeline_def,
)
from pydmed_dali.dali.device import gpu_count
from pydmed_dali.errors import (
    OptionError,
    PydmedError,
    RingMemoryError,
    SlideFormatError,
    SlideReadError,
    SourceClosedError,
    SourceError,
)
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.ring.memory import free_memory
from tests.support import NAMES, take

SMALL: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": 64,
    "batch_size": 8,
    "resident": 2,
    "crops_per_chunk": 8,
    "num_workers": 1,
}

MANY = 5000  # crops: of so many, slots hold the chunk

BAD_OPTIONS = [
    ({"crop_size": 300}, "crop_size=300x300 does not fit in chunk_size=256x256"),
    ({"chunk_size": 0}, "chunk_size must be at least 1 pixel"),
    ({"chunk_size": (256, 256)}, r"chunk_size must be an int or a Size"),
    (
        {"chunk_size": 26755, "crops_per_chunk": MANY},
        r"chunk_size=26755x26755 has 2,147,490,075 elements.*26754",
    ),
    (
        {"chunk_size": 9000, "resident": 40, "batch_size": 2, "crops_per_chunk": 90_000},
        "raise batch_size, or lower resident or chunk_size",
    ),
    ({"batch_size": 0}, "batch_size must be an int of at least 1, not 0"),
    ({"resident": 0}, "resident must be an int of at least 1"),
    ({"crops_per_chunk": 2.5}, "crops_per_chunk must be an int of at least 1, not 2.5"),
    ({"num_workers": -1}, "num_workers must be an int of at least 0"),
    ({"seed": -1}, "seed must be an int of at least 0"),
    ({"level": 0, "mpp": 0.5}, "level=0 and mpp=0.5 were both given"),
    ({"level": -1}, "level must be an int of at least 0"),
    ({"mpp": 0.0}, "mpp must be positive"),
    ({"passes": 0}, "passes must be None"),
    ({"rank": 2, "world_size": 2}, "rank=2 does not exist among world_size=2"),
    ({"passes": 1, "rank": 6, "world_size": 9}, "rank 6 of 9 has no BigChunk to visit"),
    ({"balance": "class"}, "balance must be one of .*'patient', 'label', 'slide'"),
    (
        {"balance": "tissue"},
        r"of 6 of 6 that is not known: call dataset = pydmed_dali\.measure_tissue",
    ),
    ({"weights": [1.0]}, "weights must be a mapping from patients' ids"),
    ({"weights": {"nobody": 1.0}}, "not in the dataset: 'nobody'.*is like 'even/slide-0.tif'"),
    ({"weights": {"even/slide-0.tif": 0}}, "'even/slide-0.tif' must be a positive number, not 0"),
    ({"on_error": "ignore"}, "on_error must be 'skip' or 'raise'"),
    ({"read_timeout": 0}, "read_timeout must be positive"),
    ({"read_timeout": "5"}, "read_timeout must be positive seconds, not '5'"),
    ({"mpp": "0.5"}, "mpp must be positive micrometres per pixel, not '0.5'"),
    ({"chunk_size": Size(256.0, 256.0)}, "in whole pixels, not 256.0x256.0"),  # type: ignore[arg-type]
    ({"loader": BigChunkLoader}, "loader must be an instance of a BigChunkLoader"),
    ({"device": "cuda"}, "device must be 'auto', 'cpu' or 'gpu'"),
]


def processes() -> int:
    return len(psutil.Process().children())


@pytest.mark.parametrize(("changed", "message"), BAD_OPTIONS, ids=lambda v: str(v)[:40])
def test_an_option_out_of_range_is_refused(
    coordinates: Dataset, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        BigChunkSource(coordinates, **{**SMALL, **changed})
    assert processes() == 0


@pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused(coordinates: Dataset) -> None:
    with pytest.raises(OptionError, match="DALI finds no CUDA GPU here"):
        BigChunkSource(coordinates, **SMALL, device="gpu")


def test_a_ring_larger_than_free_memory_is_refused(coordinates: Dataset) -> None:
    chunks = free_memory() // (4096 * 4096 * 3) + 10
    with pytest.raises(RingMemoryError, match=r"the ring needs .* GiB .* are free here; lower"):
        BigChunkSource(coordinates, **{**SMALL, "chunk_size": 4096, "resident": chunks,
                                       "batch_size": 64, "crops_per_chunk": MANY})  # fmt: skip
    assert processes() == 0


def test_the_memory_promised_to_other_sources_counts(coordinates: Dataset) -> None:
    """Two rings that fit alone, but not together: nothing is allocated until a chunk is read."""
    half = int(free_memory() * 0.6) // (4096 * 4096 * 3)
    options = {**SMALL, "chunk_size": 4096, "resident": half, "batch_size": 256, "num_workers": 0,
               "crops_per_chunk": MANY}  # fmt: skip
    with (
        BigChunkSource(coordinates, **options),
        pytest.raises(RingMemoryError, match="promised to other sources"),
    ):
        BigChunkSource(coordinates, **options)


def test_a_ring_that_prefetching_makes_large_is_warned_of(
    coordinates: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    BigChunkSource(coordinates, **{**SMALL, "crops_per_chunk": 2}).close()
    assert "raise crops_per_chunk=2 or lower batch_size" in caplog.text
    caplog.clear()
    BigChunkSource(coordinates, **SMALL).close()
    assert not caplog.records


class HoldsALock(BigChunkLoader):
    """A loader that cannot travel to another process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_a_loader_that_cannot_be_pickled_is_refused(coordinates: Dataset) -> None:
    with pytest.raises(OptionError, match=r"loader=.*HoldsALock.* cannot be pickled .*open_slide"):
        BigChunkSource(coordinates, **SMALL, loader=HoldsALock())
    assert processes() == 0


def test_a_label_function_that_cannot_be_pickled_is_no_trouble(coordinate_folder: Path) -> None:
    lock = threading.Lock()

    def label(path: Path) -> str:
        with lock:
            return path.parent.name

    with BigChunkSource(Dataset.from_folder(coordinate_folder, label=label), **SMALL) as source:
        assert set(take(source, 4)[3]["label"].tolist()) <= {0, 1}


def test_a_level_that_no_slide_has_is_said_with_what_there_is(coordinates: Dataset) -> None:
    with (
        BigChunkSource(coordinates, **SMALL, level=7) as source,
        pytest.raises(
            SlideReadError, match=r"level 7 was asked for, but the slide has levels 0..2"
        ),
    ):
        take(source, 1)


def test_an_mpp_finer_than_any_slide_is_said_with_what_there_is(coordinates: Dataset) -> None:
    with (
        BigChunkSource(coordinates, **SMALL, mpp=0.2) as source,
        pytest.raises(SlideReadError, match=r"finest level has 0.5 micrometres"),
    ):
        take(source, 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_slides_among_good_ones_are_skipped_and_reported(
    real_slides: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    with BigChunkSource(
        Dataset.from_folder(real_slides), **{**SMALL, "num_workers": num_workers}
    ) as source:
        batches = take(source, 60)
        stats = source.stats()
        crops = [c for batch in batches for c in source.describe(batch["info"])]
    skipped = {path.name: reason for path, reason in stats.slides_skipped.items()}
    assert sorted(skipped) == ["lfs-pointer.svs", "unopenable.tiff", "unreadable.svs"]
    assert "git lfs pull" in skipped["lfs-pointer.svs"]
    assert len({crop.record.path for crop in crops}) == 5
    assert any(crop.substituted for crop in crops)
    for name in skipped:
        assert sum(name in record.message for record in caplog.records) == 1, "said once a slide"


def test_on_error_raise_stops_at_the_first_broken_slide(real_slides: Path) -> None:
    dataset = Dataset.from_folder(real_slides / "broken")
    with BigChunkSource(dataset, **SMALL, on_error="raise") as source:
        with pytest.raises(PydmedError, match="broken") as failure:
            take(source, 1)
        assert "Traceback" in str(failure.value.__cause__)
        with pytest.raises(type(failure.value)):
            source.small_chunks()


def test_when_no_slide_can_be_read_the_reasons_are_listed(real_slides: Path) -> None:
    dataset = Dataset.from_folder(real_slides / "broken")
    with (
        BigChunkSource(dataset, **SMALL) as source,
        pytest.raises(SlideReadError, match=r"(?s)no slide is left .* 3 failed:.*lfs-pointer"),
    ):
        take(source, 1)


def test_a_slide_deleted_after_the_dataset_was_made_is_skipped(
    coordinate_folder: Path, tmp_path: Path
) -> None:
    for number, slide in enumerate(coordinate_folder.rglob("*.tif")):
        shutil.copy(slide, tmp_path / f"{number}.tif")
    dataset = Dataset.from_folder(tmp_path)
    (tmp_path / "0.tif").unlink()
    with BigChunkSource(dataset, **SMALL) as source:
        take(source, 10)
        assert "no such file" in source.stats().slides_skipped[tmp_path / "0.tif"]


def test_a_second_small_chunks_is_refused(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **SMALL) as source:
        pipeline = basic(source)
        with pytest.raises(SourceError, match="serves a pipeline already"):
            basic(source)
        del pipeline


def test_small_chunks_outside_a_pipeline_is_refused(coordinates: Dataset) -> None:
    with (
        BigChunkSource(coordinates, **SMALL) as source,
        pytest.raises(SourceError, match="decorated with pipeline_def"),
    ):
        source.small_chunks()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 7}, "pipeline has batch_size=7, its source batch_size=8"),
        ({"prefetch_queue_depth": 3}, "give the source prefetch_depth=3"),
    ],
)
def test_a_pipeline_that_does_not_fit_is_refused(
    coordinates: Dataset, options: dict[str, int], message: str
) -> None:
    with BigChunkSource(coordinates, **SMALL) as source:
        with pytest.raises(SourceError, match=message):
            basic(source, **options)
        assert len(take(source, 2)) == 2, "the source can still serve a pipeline that fits"


def test_a_pipeline_without_a_source_has_no_small_chunk_iterator() -> None:
    pipeline = nvidia.dali.Pipeline(batch_size=1, num_threads=1, device_id=None)
    pipeline.set_outputs(fn.random.uniform())
    with pytest.raises(SourceError, match="never called small_chunks"):
        SmallChunkIterator(pipeline, ["x"])


def test_a_folder_instead_of_a_dataset_is_refused(coordinate_folder: Path) -> None:
    with pytest.raises(OptionError, match=r"must be a Dataset, .* Dataset.from_folder makes one"):
        BigChunkSource(str(coordinate_folder), **SMALL)  # type: ignore[arg-type]


def test_a_definition_that_failed_can_be_mended_and_tried_again(coordinates: Dataset) -> None:
    @pipeline_def
    def faulty(source: BigChunkSource) -> Any:
        crops = source.small_chunks()
        return crops.image, crops.nonsense  # type: ignore[attr-defined]

    with BigChunkSource(coordinates, **SMALL) as source:
        with pytest.raises(AttributeError) as kept:
            faulty(source)
        assert len(take(source, 2)) == 2
        assert kept.value


def test_scheduling_more_than_the_prefetch_depth_is_refused(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **SMALL) as source:
        pipeline = basic(source)
        with pytest.raises(SourceError, match="2 batches were scheduled and not taken"):
            for _ in range(3):
                pipeline.schedule_run()


def test_a_reset_with_batches_in_flight_is_refused(coordinates: Dataset) -> None:
    """DALI takes it for the end of the run as soon as the source's end was prefetched."""
    options = {**SMALL, "prefetch_depth": 3, "passes": 1}
    with BigChunkSource(coordinates, **options) as source:
        iterator = DALIGenericIterator([basic(source)], NAMES, size=-1)
        for _ in range(source.batches_per_epoch - 2):
            next(iterator)
        with pytest.raises(SourceError, match="reset while batches of the last run"):
            iterator.reset()
            list(iterator)


def test_our_pipeline_def_wants_a_source() -> None:
    with pytest.raises(SourceError, match="basic takes a BigChunkSource"):
        basic("slides")


def test_a_closed_source_says_so(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **SMALL) as source:
        loader = SmallChunkIterator(basic(source), NAMES, batches_per_epoch=50)
        batches = iter(loader)
        info = next(batches)["info"]
    with pytest.raises(SourceClosedError, match="make a new one"):
        list(batches)
    assert source.stats().batches > 0
    assert len(source.describe(info)) == 8
    assert source.state_dict(after=info)["batches"] == int(info[0, InfoColumn.BATCH]) + 1


class Clumsy(BigChunkLoader):
    """A user's loader with a defect."""

    def open_slide(self, path: Path) -> Any:
        raise ZeroDivisionError(f"in process {os.getpid()}")


def test_an_exception_in_a_users_loader_reaches_the_user(coordinates: Dataset) -> None:
    with (
        BigChunkSource(coordinates, **SMALL, loader=Clumsy(), on_error="raise") as source,
        pytest.raises(SlideFormatError, match="opening it raised ZeroDivisionError") as failure,
    ):
        take(source, 1)
    assert "in open_slide" in str(failure.value.__cause__)


def test_another_definition_that_fails_leaves_the_first_pipeline_its_source(
    coordinates: Dataset,
) -> None:
    @pipeline_def
    def broken(source: BigChunkSource) -> Any:
        raise ZeroDivisionError

    with BigChunkSource(coordinates, **SMALL) as source:
        pipeline = basic(source)
        with pytest.raises(ZeroDivisionError):
            broken(source)
        with pytest.raises(SourceError, match="serves a pipeline already"):
            basic(source)
        assert next(iter(SmallChunkIterator(pipeline, NAMES)))["image"].shape[0] == 8

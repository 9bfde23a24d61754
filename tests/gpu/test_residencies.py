"""What is delivered is the same wherever the ring lies, and right to the last pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nvidia.dali import types

from pydmed_dali import BigChunkSource, Dataset, Size, SmallChunkIterator
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.pipelines.classification import STD, classification
from tests.gpu.places import CPU, DEVICE, GPU_PLACES, PLACES, assert_place, on_cpu
from tests.support import NAMES, assert_coordinates, sum_up, take

OPTIONS: dict[str, Any] = {
    "chunk_size": 300,
    "crop_size": 64,
    "batch_size": 24,
    "resident": 4,
    "crops_per_chunk": 20,
    "num_workers": 2,
    "seed": 11,
}
SHAPES = [
    # level, chunk, crop, batch, resident, crops per chunk
    (0, 512, 64, 32, 4, 32),  # slots hold crops
    (0, 512, 64, 32, 4, 64),  # and here, chunks
    (0, Size(700, 300), Size(96, 33), 16, 3, 7),  # rows of a length that is no multiple of 4
    (0, Size(701, 300), Size(96, 33), 16, 3, 60),  # the same of chunks
    (1, 300, 64, 2, 6, 9),  # more slots than crops in a batch: taller images in the pool
    (1, 300, 64, 2, 6, 20),  # the same of chunks
    (0, 256, 64, 64, 4, 2),  # many pad rows, many chunks a batch
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("level", "chunk", "crop", "batch", "resident", "per_chunk"), SHAPES)
def test_every_pixel_is_the_one_that_info_names(
    coordinates: Dataset,
    coordinate_extents: dict[int, Size],
    place: dict[str, Any],
    level: int,
    chunk: int | Size,
    crop: int | Size,
    batch: int,
    resident: int,
    per_chunk: int,
) -> None:
    with BigChunkSource(
        coordinates, chunk_size=chunk, crop_size=crop, batch_size=batch, level=level,
        resident=resident, crops_per_chunk=per_chunk, num_workers=1, **place,
    ) as source:  # fmt: skip
        assert source.residency == place["residency"]
        for output in take(source, 20):
            assert_place(source, output)
            assert_coordinates(on_cpu(output), coordinate_extents)


def run(dataset: Dataset, place: dict[str, Any], **changed: Any) -> dict[str, Any]:
    with BigChunkSource(dataset, **{**OPTIONS, **place, **changed}) as source:
        return sum_up([on_cpu(batch) for batch in take(source, 25)])


@pytest.mark.parametrize("place", GPU_PLACES)
@pytest.mark.parametrize("changed", [{}, {"num_workers": 0}, {"prefetch_depth": 3}], ids=str)
def test_crops_equal_those_of_the_cpu_byte_for_byte(
    coordinates: Dataset, place: dict[str, Any], changed: dict[str, Any]
) -> None:
    one, other = run(coordinates, CPU), run(coordinates, place, **changed)
    for name in NAMES:
        np.testing.assert_array_equal(one[name], other[name])


def classify(dataset: Dataset, place: dict[str, Any]) -> torch.Tensor:
    with BigChunkSource(dataset, **OPTIONS, **place) as source:
        for batch in SmallChunkIterator(classification(source), NAMES):
            assert_place(source, batch)
            return batch["image"].cpu()
    raise AssertionError("no batch")


@pytest.mark.parametrize("place", GPU_PLACES)
def test_augmentation_differs_from_the_cpus_by_two_grey_levels_at_most(
    coordinates: Dataset, place: dict[str, Any]
) -> None:
    """The same random numbers; the backends round apart, between steps in uint8."""
    one, other = classify(coordinates, CPU), classify(coordinates, place)
    torch.testing.assert_close(one, other, rtol=0, atol=2.01 / 255 / min(STD))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_half_precision_straight_into_torch(
    coordinates: Dataset, place: dict[str, Any], layout: str
) -> None:
    """NCHW as it is; NHWC becomes channels_last by a view, without a copy."""
    with BigChunkSource(coordinates, **OPTIONS, **place) as source:
        (batch,) = take(source, 1)
        plain = batch["image"].cpu().permute(0, 3, 1, 2)
    with BigChunkSource(coordinates, **OPTIONS, **place) as source:
        pipeline = classification(
            source, augment=False, mean=(0, 0, 0), std=(1, 1, 1), dtype=types.FLOAT16, layout=layout
        )
        batch = next(iter(SmallChunkIterator(pipeline, NAMES)))
        image = batch["image"] if layout == "CHW" else batch["image"].permute(0, 3, 1, 2)
    memory = torch.contiguous_format if layout == "CHW" else torch.channels_last
    assert image.dtype == torch.float16 and image.is_contiguous(memory_format=memory)
    torch.testing.assert_close(image.cpu().float(), plain / 255, rtol=0, atol=1e-3)


@pytest.mark.parametrize("place", PLACES)
def test_several_sources_at_once(
    coordinates: Dataset, coordinate_extents: dict[int, Size], place: dict[str, Any]
) -> None:
    """Two of one place, with a third whose ring lies in host memory."""
    first_two: list[dict[str, Any]] = [{**OPTIONS, **place, "seed": seed} for seed in (1, 2)]
    with (
        BigChunkSource(coordinates, **first_two[0]) as one,
        BigChunkSource(coordinates, **first_two[1]) as two,
        BigChunkSource(coordinates, **OPTIONS, **CPU) as three,
    ):
        loaders = [iter(SmallChunkIterator(basic(s), NAMES)) for s in (one, two, three)]
        for _ in range(5):
            for loader in loaders:
                assert_coordinates(on_cpu(next(loader)), coordinate_extents)


@pytest.mark.parametrize("place", PLACES)
def test_a_finite_source_runs_again(coordinates: Dataset, place: dict[str, Any]) -> None:
    with BigChunkSource(coordinates, **OPTIONS, **place, passes=1) as source:
        loader = SmallChunkIterator(basic(source), NAMES)
        first, again = ([on_cpu(batch) for batch in loader] for _ in range(2))
    assert sum(len(batch["image"]) for batch in first) == 6 * 20
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one["image"], other["image"], rtol=0, atol=0)


@pytest.mark.parametrize("place", PLACES)
def test_closing_while_the_pipeline_is_still_referenced(
    coordinates: Dataset, place: dict[str, Any]
) -> None:
    with BigChunkSource(coordinates, **OPTIONS, **place) as source:
        pipeline = basic(source)
        pipeline.run()
    source.close()
    del pipeline


@pytest.mark.gpu
def test_auto_chooses_the_device(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        assert (source.device, source.residency) == ("gpu", "device")


@pytest.mark.gpu
def test_a_state_goes_on_where_the_ring_lies_elsewhere(coordinates: Dataset) -> None:
    whole = run(coordinates, CPU)["image"]
    with BigChunkSource(coordinates, **OPTIONS, **CPU) as source:
        state = source.state_dict(after=take(source, 10)[-1]["info"])
    with BigChunkSource(coordinates, **OPTIONS, **DEVICE) as source:
        source.load_state_dict(state)
        rest = sum_up([on_cpu(batch) for batch in take(source, 15)])["image"]
    np.testing.assert_array_equal(whole[10 * 24 :], rest)

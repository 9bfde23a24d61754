"""Masks are right wherever the ring lies, and belong to their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pydmed_dali import BigChunkSource, Dataset, Size, SmallChunkIterator
from pydmed_dali.pipelines.segmentation import segmentation
from tests.drawings import OUTPUTS, SHARES, annotate, assert_masks, join, take_masked
from tests.gpu.places import CPU, GPU_PLACES, PLACES, assert_place
from tests.support import assert_coordinates

OPTIONS: dict[str, Any] = {
    "chunk_size": 300,
    "crop_size": 64,
    "batch_size": 24,
    "resident": 4,
    "crops_per_chunk": 20,
    "num_workers": 1,
    "classes": SHARES,
}
SHAPES = [
    # chunk, crop, batch, resident, crops per chunk
    (Size(701, 303), Size(97, 33), 16, 3, 7),  # rows of a length that is no multiple of 4
    (Size(701, 303), Size(97, 33), 16, 3, 60),  # the same where slots hold chunks
    (300, 64, 2, 6, 9),  # more slots than crops in a batch: taller images in the pool
    (256, 64, 64, 4, 2),  # many pad rows, many chunks a batch
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("chunk", "crop", "batch", "resident", "per_chunk"), SHAPES)
def test_every_pixel_of_mask_and_image_is_the_one_that_info_names(
    coordinates: Dataset,
    coordinate_extents: dict[int, Size],
    tmp_path: Path,
    place: dict[str, Any],
    chunk: int | Size,
    crop: int | Size,
    batch: int,
    resident: int,
    per_chunk: int,
) -> None:
    drawn = annotate(coordinates, tmp_path)
    with BigChunkSource(
        coordinates, chunk_size=chunk, crop_size=crop, batch_size=batch, resident=resident,
        crops_per_chunk=per_chunk, num_workers=1, annotations=tmp_path, classes=SHARES, **place,
    ) as source:  # fmt: skip
        assert source.residency == place["residency"]
        for output in take_masked(source, 6):
            assert_place(source, output)
            assert output["mask"].device == output["class_number"].device == output["image"].device
            assert_masks(coordinates, drawn, output, 1.0)
            assert_coordinates({n: t.cpu() for n, t in output.items()}, coordinate_extents)


@pytest.mark.parametrize("place", GPU_PLACES)
def test_batches_equal_those_of_the_cpu_byte_for_byte(
    coordinates: Dataset, tmp_path: Path, place: dict[str, Any]
) -> None:
    annotate(coordinates, tmp_path)
    runs = []
    for where in (CPU, place):
        with BigChunkSource(coordinates, **OPTIONS, annotations=tmp_path, **where) as source:
            runs.append(join(take_masked(source, 15)))
    for name in OUTPUTS:
        np.testing.assert_array_equal(runs[0][name], runs[1][name])


@pytest.mark.parametrize("place", GPU_PLACES)
def test_the_segmentation_pipeline_gives_the_masks_of_the_cpu(
    coordinates: Dataset, tmp_path: Path, place: dict[str, Any]
) -> None:
    annotate(coordinates, tmp_path)
    masks: list[torch.Tensor] = []
    for where in (CPU, place):
        with BigChunkSource(coordinates, **OPTIONS, annotations=tmp_path, **where) as source:
            loader = SmallChunkIterator(segmentation(source), ["image", "mask", "label", "info"])
            masks.append(next(iter(loader))["mask"].cpu())
    torch.testing.assert_close(masks[0], masks[1], rtol=0, atol=0)

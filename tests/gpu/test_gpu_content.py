"""Other contents than 8-bit RGB crops of training: right and alike wherever the ring lies.

On the CPU the same checks are made by `tests/unit/dali`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    NiftiLoader,
    PixelFormat,
    Size,
    SmallChunkIterator,
    TileSource,
)
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.gpu.places import GPU_PLACES, PLACES, on_cpu
from tests.integration.source import test_pixel_format as formats
from tests.integration.source import test_tile_source as tiles
from tests.support import NAMES, Batch, assert_coordinates


@pytest.mark.parametrize("place", GPU_PLACES)
@pytest.mark.parametrize("pixel", formats.FORMATS, ids=str)
def test_every_value_of_every_type_is_the_one_that_info_names(
    tmp_path: Path, pixel: PixelFormat, place: dict[str, Any]
) -> None:
    write_coordinate_slide(tmp_path / "0.tif", formats.SIZE, levels=1, mpp=0.5)
    formats.check(Dataset.from_folder(tmp_path), pixel, num_workers=1, **place)


@pytest.mark.parametrize("place", GPU_PLACES)
@pytest.mark.parametrize("resident", [3, 40])  # of 40, several slots form one image
def test_every_voxel_of_a_volume_is_the_one_that_info_names(
    tmp_path: Path, resident: int, place: dict[str, Any]
) -> None:
    pytest.importorskip("nibabel")
    from tests.integration.source import test_volumes as volumes

    paths = [
        volumes.write(tmp_path / f"{number}.nii", volumes.codes(shape))
        for number, shape in enumerate(volumes.SHAPES)
    ]
    dataset = volumes.dataset_of(*paths)
    loader = NiftiLoader(volumes.CODES)
    volumes.check_codes(
        volumes.take(dataset, 30, loader, num_workers=1, resident=resident, seed=3, **place)
    )


@pytest.mark.gpu
def test_every_tile_comes_once(tmp_path: Path) -> None:
    sizes, tile = (*tiles.SIZES, tiles.TINY), Size(64, 64)
    dataset = tiles.make_slides(tmp_path, sizes)
    with TileSource(
        dataset, tile_size=tile, chunk_size=256, batch_size=10, num_workers=1, device="gpu"
    ) as source:
        batches = [on_cpu(batch) for batch in SmallChunkIterator(basic(source), NAMES)]
    tiles.check(batches, dataset, sizes, 0, tile)


@pytest.mark.gpu
def test_predict_writes_what_it_writes_on_the_cpu(coordinates: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    from pydmed_dali.infer import predict, read_features

    def first_pixel(images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0].float()

    found = []
    for device in ("cpu", "gpu"):
        done = predict(
            coordinates, first_pixel, tmp_path / device, model_name="first pixel", tile_size=64,
            num_workers=1, device=device,
        )  # fmt: skip
        found.append([read_features(file).features for file in done.written])
    assert found[0]
    np.testing.assert_array_equal(np.concatenate(found[0]), np.concatenate(found[1]))


@pytest.mark.parametrize("place", PLACES)
def test_dalis_own_iterator(
    coordinates: Dataset, coordinate_extents: dict[int, Size], place: dict[str, Any]
) -> None:
    with BigChunkSource(
        coordinates, chunk_size=300, crop_size=64, batch_size=24, resident=4, crops_per_chunk=20,
        num_workers=1, **place,
    ) as source:  # fmt: skip
        iterator = DALIGenericIterator([basic(source)], NAMES, size=-1)
        kept: list[Batch] = [batch for (batch,), _ in zip(iterator, range(12), strict=False)]
        for batch in kept:  # while DALI has gone on, and reused what is not held
            assert_coordinates(on_cpu(batch), coordinate_extents)

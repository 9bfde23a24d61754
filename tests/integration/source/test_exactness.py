"""Every pixel of every crop, from the slide's file to the torch tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, Size, SmallChunkIterator
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.support import assert_coordinates, folder_dataset, read_directly, take

SHAPES = [
    # level, chunk, crop, batch, resident, crops per chunk
    (0, 512, 64, 32, 4, 32),
    (0, Size(700, 300), Size(96, 33), 16, 3, 7),
    (0, 4096, 224, 8, 2, 16),  # chunks larger than the slides
    (1, 256, 224, 12, 5, 5),
    (2, 128, 128, 9, 2, 4),  # a crop is a whole chunk
    (1, 300, 64, 2, 6, 9),  # more slots than crops in a batch: taller images in the pool
    (0, 256, 1, 64, 1, 100),  # one pixel, one resident chunk
]


@pytest.mark.parametrize(("level", "chunk", "crop", "batch", "resident", "per_chunk"), SHAPES)
def test_every_pixel_is_the_one_that_info_names(
    coordinates: Dataset,
    coordinate_extents: dict[int, Size],
    level: int,
    chunk: int | Size,
    crop: int | Size,
    batch: int,
    resident: int,
    per_chunk: int,
) -> None:
    with BigChunkSource(
        coordinates,
        chunk_size=chunk,
        crop_size=crop,
        batch_size=batch,
        level=level,
        resident=resident,
        crops_per_chunk=per_chunk,
        num_workers=0,
        seed=5,
    ) as source:
        batches = take(source, 40)
        size = Size.of(crop, "crop")
        for output in batches:
            assert output["image"].shape == (batch, size.height, size.width, 3)
            assert (output["info"][:, InfoColumn.LEVEL] == level).all()
            assert_coordinates(output, coordinate_extents)


def test_crops_reach_every_edge_of_a_slide(tmp_path: Path) -> None:
    write_coordinate_slide(tmp_path / "slide.tif", Size(300, 260), levels=1)
    with BigChunkSource(
        Dataset.from_folder(tmp_path), chunk_size=200, crop_size=128, batch_size=64, num_workers=0,
        resident=4, crops_per_chunk=64,
    ) as source:  # fmt: skip
        info = np.concatenate([b["info"].numpy() for b in take(source, 100)])
    x, y = info[:, InfoColumn.X], info[:, InfoColumn.Y]
    assert (x.min(), y.min()) == (0, 0)
    assert (x.max(), y.max()) == (300 - 128, 260 - 128)


@pytest.mark.parametrize("extent", [Size(100, 700), Size(700, 100), Size(50, 60)])
def test_a_slide_smaller_than_a_crop_is_continued_by_its_background(
    tmp_path: Path, extent: Size
) -> None:
    write_coordinate_slide(tmp_path / "small.tif", extent, levels=1)
    with BigChunkSource(
        Dataset.from_folder(tmp_path), chunk_size=256, crop_size=128, batch_size=8, num_workers=0,
        resident=3, crops_per_chunk=8,
    ) as source:  # fmt: skip
        for batch in take(source, 6):
            assert_coordinates(batch, {0: extent})


def test_background_replaces_what_an_earlier_chunk_left_in_the_slot(tmp_path: Path) -> None:
    """A large slide fills the slots; then a slide smaller than a crop must not show it."""
    write_coordinate_slide(tmp_path / "large.tif", Size(600, 600), levels=1)
    write_coordinate_slide(tmp_path / "small.tif", Size(20, 20), levels=1)
    with BigChunkSource(
        Dataset.from_folder(tmp_path), chunk_size=128, crop_size=64, batch_size=4, num_workers=0,
        resident=1, crops_per_chunk=4,
    ) as source:  # fmt: skip
        for batch in take(source, 60):
            slide = source.describe(batch["info"])[0].record.path.name
            side = 600 if slide == "large.tif" else 20
            assert_coordinates(batch, {0: Size(side, side)})


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_real_crops_equal_a_direct_read(real_slides: Path, level: int, num_workers: int) -> None:
    """At level 0, and where a level's downsample is whole: elsewhere OpenSlide interpolates."""
    with BigChunkSource(
        Dataset.from_folder(real_slides), chunk_size=1024, crop_size=160, batch_size=64,
        level=level, resident=8, crops_per_chunk=32, num_workers=num_workers,
    ) as source:  # fmt: skip
        compared = set()
        for batch in take(source, 20):
            for image, crop in zip(
                batch["image"].numpy()[::8], source.describe(batch["info"][::8]), strict=True
            ):
                whole = crop.level0_size.width == crop.size.width << level
                name = crop.record.path.name
                if level == 0 or (
                    whole and name in ("fluorescence-dapi.ndpi", "packed-biopsies.tif")
                ):
                    np.testing.assert_array_equal(image, read_directly(crop))
                    compared.add(name)
    assert len(compared) == (5 if level == 0 else 2)


def test_labels_belong_to_the_crops_slide(coordinate_folder: Path) -> None:
    dataset = folder_dataset(coordinate_folder)
    with BigChunkSource(
        dataset, chunk_size=256, crop_size=64, batch_size=16, num_workers=0, resident=4,
        crops_per_chunk=8,
    ) as source:  # fmt: skip
        for batch in take(source, 20):
            for label, crop in zip(
                batch["label"].tolist(), source.describe(batch["info"]), strict=True
            ):
                assert dataset.classes[label] == crop.record.path.parent.name == crop.patient.label


def test_infos_come_back_from_describe(coordinate_folder: Path) -> None:
    path = coordinate_folder / "even" / "slide-0.tif"
    table = [{"slide": path.name, "label": "even", "stain": "H&E", "block": 3}]
    dataset = Dataset.from_table(table, root=path.parent)
    with BigChunkSource(
        dataset,
        chunk_size=256,
        crop_size=64,
        batch_size=2,
        resident=1,
        crops_per_chunk=2,
        num_workers=0,
        passes=1,
    ) as source:
        (batch,) = SmallChunkIterator(basic(source), ["image", "label", "info"])
        crops = source.describe(batch["info"])
    assert [crop.record.infos for crop in crops] == 2 * [{"stain": "H&E", "block": 3}]
    assert {crop.record.path for crop in crops} == {path}

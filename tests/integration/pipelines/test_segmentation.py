"""After augmentation, each pixel of a mask still belongs to its pixel of the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode
from shapely import box

from pydmed_dali import BigChunkSource, Dataset, Size, SmallChunkIterator, pipeline_def
from pydmed_dali.errors import OptionError, SourceError
from pydmed_dali.pipelines.augment import crop_size_to_rotate, rotate_together, turn_together
from pydmed_dali.pipelines.classification import MEAN, STD, normalised
from pydmed_dali.pipelines.segmentation import segmentation
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.drawings import write_geojson

SIZE = 48
OUTPUTS = ["image", "mask", "label", "info"]
OPTIONS: dict[str, Any] = {
    "chunk_size": 256,
    "batch_size": 16,
    "resident": 2,
    "crops_per_chunk": 16,
    "num_workers": 0,
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 256x256, whose red and green are x and y, with stripes and bands drawn on it."""
    folder = tmp_path_factory.mktemp("segmentation")
    write_coordinate_slide(folder / "slide.tif", Size(256, 256), levels=1)
    stripes = [("stripe", box(x, 0, x + 20, 256)) for x in range(0, 256, 50)]
    bands = [("band", box(0, y, 256, y + 16)) for y in range(0, 256, 40)]
    write_geojson(folder / "slide.geojson", [*stripes, *bands])
    return folder


def class_at(x: Any, y: Any) -> Any:
    """What is drawn at a place of the slide, in its pixels."""
    return np.where(y % 40 < 16, 2, np.where(x % 50 < 20, 1, 0))


def is_near_an_outline(x: Any, y: Any, distance: float) -> Any:
    """Whether another class may be so near, in pixels."""
    steps = [(dx, dy) for dx in (-distance, 0, distance) for dy in (-distance, 0, distance)]
    return np.any([class_at(x + dx, y + dy) != class_at(x, y) for dx, dy in steps], axis=0)


def take(folder: Path, crop_size: int, pipeline: Any, batches: int, **options: Any) -> Any:
    with BigChunkSource(
        Dataset.from_folder(folder), **OPTIONS, crop_size=crop_size, annotations=folder,
        classes=("stripe", "band"),
    ) as source:  # fmt: skip
        loader = SmallChunkIterator(pipeline(source, **options), OUTPUTS, batches_per_epoch=batches)
        return list(loader)


def as_pixels(images: Any) -> Any:
    """(N, height, width, 3) in 0..255, of images as the pipeline normalises them."""
    return (images.numpy().transpose(0, 2, 3, 1) * STD + MEAN) * 255


@pipeline_def(enable_conditionals=True)
def turned(source: BigChunkSource) -> tuple[DataNode, ...]:
    """The geometry of `segmentation` by itself: colours stay what they are."""
    crops = source.small_chunks()
    image, mask = turn_together(crops.image, crops.mask)
    return normalised(image), fn.squeeze(mask, axes=[2]), crops.label, crops.info


@pipeline_def(enable_conditionals=True)
def rotated(source: BigChunkSource) -> tuple[DataNode, ...]:
    """The same with `size`."""
    crops = source.small_chunks()
    image, mask = turn_together(crops.image, crops.mask)
    image, mask = rotate_together(image, mask, source.options.crop.width, SIZE)
    return normalised(image), fn.squeeze(mask, axes=[2]), crops.label, crops.info


def test_turned_masks_belong_to_their_images_pixel_by_pixel(slide: Path) -> None:
    for batch in take(slide, 64, turned, 6):
        pixels = np.rint(as_pixels(batch["image"])).astype(int)
        expected = class_at(pixels[..., 0], pixels[..., 1])
        np.testing.assert_array_equal(batch["mask"].numpy(), expected)


def test_rotated_masks_belong_to_their_images_pixel_by_pixel(slide: Path) -> None:
    """Up to outlines, where the nearest pixel's class and the colours' mean may differ by half."""
    judged = total = 0
    for batch in take(slide, crop_size_to_rotate(SIZE), rotated, 6):
        assert batch["mask"].shape == (16, SIZE, SIZE)
        x, y, _ = np.moveaxis(as_pixels(batch["image"]), -1, 0)
        clear = ~is_near_an_outline(x, y, 1.6)
        np.testing.assert_array_equal(batch["mask"].numpy()[clear], class_at(x, y)[clear])
        judged, total = judged + int(clear.sum()), total + clear.size
    assert judged > 0.7 * total


def test_the_pipeline_colours_images_and_leaves_masks(slide: Path) -> None:
    """What it turns is found again in the plain crop, and only one turn fits the mask."""
    plain, augmented = (
        take(slide, 64, segmentation, 1, augment=augment)[0] for augment in (False, True)
    )
    assert augmented["image"].shape == (16, 3, 64, 64) and augmented["image"].is_floating_point()
    assert augmented["mask"].shape == (16, 64, 64) and str(augmented["mask"].dtype) == "torch.uint8"
    pixels = np.rint(as_pixels(plain["image"])).astype(int)
    np.testing.assert_array_equal(plain["mask"], class_at(pixels[..., 0], pixels[..., 1]))
    turns = 0
    for before, after, image, original in zip(
        plain["mask"].numpy(), augmented["mask"].numpy(),
        as_pixels(augmented["image"]), as_pixels(plain["image"]), strict=True,
    ):  # fmt: skip
        ways = [(m, n) for m in (1, -1) for n in range(4)]
        errors = [np.abs(np.rot90(original[::m], n) - image).mean() for m, n in ways]
        mirrored, quarter = ways[int(np.argmin(errors))]
        np.testing.assert_array_equal(np.rot90(before[::mirrored], quarter), after)
        turns += (mirrored, quarter) != (1, 0)
    assert turns > 4


def test_any_angle_needs_larger_crops_and_gives_smaller_ones(slide: Path) -> None:
    (batch,) = take(slide, crop_size_to_rotate(SIZE), segmentation, 1, size=SIZE, stain=0.15)
    assert batch["image"].shape == (16, 3, SIZE, SIZE) and batch["mask"].shape == (16, SIZE, SIZE)
    with pytest.raises(OptionError, match="crop_size=64 is too small"):
        take(slide, 64, segmentation, 1, size=SIZE)


def test_a_source_without_annotations_is_refused(slide: Path) -> None:
    with (
        BigChunkSource(Dataset.from_folder(slide), **OPTIONS, crop_size=64) as source,
        pytest.raises(SourceError, match="crops have no mask, because their source has no annot"),
    ):
        segmentation(source)

"""What several tests share: small slides, running a source, and the truth to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import tifffile
import torch
from numpy.typing import NDArray

from pydmed_dali import (
    BigChunkSource,
    CropInfo,
    Dataset,
    InfoColumn,
    Point,
    Size,
    SmallChunkIterator,
)
from pydmed_dali.geometry import Region
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels

NAMES = ["image", "label", "info"]
WHITE = 255

SMALL_RUN: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": 64,
    "batch_size": 8,
    "resident": 3,
    "crops_per_chunk": 8,
    "num_workers": 2,
}
"""Options of a source that replaces a chunk at every batch."""

Batch = dict[str, torch.Tensor]


def take(source: BigChunkSource, batches: int, **options: Any) -> list[Batch]:
    """The first batches of a source through the basic pipeline."""
    loader = SmallChunkIterator(basic(source, **options), NAMES)
    return list(first(loader, batches))


def first(loader: SmallChunkIterator, batches: int) -> Iterator[Batch]:
    """Batches over the borders of epochs."""
    while True:
        for batch in loader:
            if not batches:
                return
            batches -= 1
            yield batch


def sum_up(batches: list[Batch]) -> dict[str, NDArray[Any]]:
    """The batches' outputs, one after the other."""
    return {name: np.concatenate([batch[name].numpy() for batch in batches]) for name in NAMES}


def assert_coordinates(batch: Batch, extents: dict[int, Size], downsample: int = 2) -> None:
    """Every pixel of every crop of a coordinate slide is the one that `info` names.

    `extents` gives the size of each level; beyond it the background is expected.
    """
    for image, row in zip(batch["image"].numpy(), batch["info"].numpy(), strict=True):
        level = int(row[InfoColumn.LEVEL])
        place = Point(*(int(row[c]) // downsample**level for c in (InfoColumn.X, InfoColumn.Y)))
        assert place.x * downsample**level == row[InfoColumn.X], "not on a pixel of the level"
        expected = coordinate_pixels(place, Size(image.shape[1], image.shape[0]), level)
        expected[max(extents[level].height - place.y, 0) :] = WHITE
        expected[:, max(extents[level].width - place.x, 0) :] = WHITE
        np.testing.assert_array_equal(image, expected)


def read_directly(crop: CropInfo) -> NDArray[np.uint8]:
    """The crop as OpenSlide reads it at the place that its description names."""
    with openslide.OpenSlide(crop.record.path) as slide:
        place = (crop.location.x, crop.location.y)
        image = slide.read_region(place, crop.level, (crop.size.width, crop.size.height))
    rgba = np.asarray(image).astype(np.uint16)
    alpha = rgba[..., 3:]
    return ((rgba[..., :3] * alpha + WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)


def all_of(image: NDArray[np.uint8]) -> Region:
    """The whole of an image."""
    return Region(Point(0, 0), Size(image.shape[1], image.shape[0]))


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """A slide of one level that shows `pixels`, (height, width, 3), at 0.5 micrometres each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        tile=(256, 256),
        compression="adobe_deflate",
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )
    return path


def folder_dataset(folder: Path) -> Dataset:
    """One patient per slide, labelled by the folder the slide lies in."""
    return Dataset.from_folder(folder, label=lambda path: path.parent.name)

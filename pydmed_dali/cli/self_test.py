"""A worker and a pipeline at work on a tiny slide: the proof that all parts fit together."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from pydmed_dali import BigChunkSource, CropInfo, Dataset, SmallChunkIterator
from pydmed_dali.errors import SourceError
from pydmed_dali.geometry import Size
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels, write_coordinate_slide


def run_trial(device: str, residency: str = "auto") -> str:
    """Read a slide in a worker, crop it in a pipeline, compare every pixel; say how it went.

    Takes a few seconds. Raises whatever fails, and `SourceError` where the pixels are wrong.
    """
    begun = time.monotonic()
    with TemporaryDirectory(prefix="pydmed-dali-doctor-") as folder:
        write_coordinate_slide(Path(folder, "slide.tif"), Size(700, 600), levels=1)
        with BigChunkSource(
            Dataset.from_folder(folder),
            chunk_size=256,
            crop_size=64,
            batch_size=8,
            resident=2,
            crops_per_chunk=8,
            num_workers=1,
            passes=4,
            rank=0,
            world_size=1,
            device=device,
            residency=residency,
            on_error="raise",
        ) as source:
            crops = sum(_compared(source, batch) for batch in SmallChunkIterator(basic(source)))
    return f"{crops} crops, each pixel as it should be, in {time.monotonic() - begun:.1f} s"


def _compared(source: BigChunkSource, batch: dict[str, torch.Tensor]) -> int:
    """The number of crops in a batch; raises `SourceError` where one differs from its slide."""
    crops = source.describe(batch["info"])
    for image, crop in zip(batch["image"].cpu().numpy(), crops, strict=True):
        if not np.array_equal(image, _expected(crop)):
            raise SourceError(
                f"the crop of {crop.size} pixels at ({crop.location.x}, {crop.location.y}) of "
                "level 0 differs from the slide's pixels there"
            )
    return len(crops)


def _expected(crop: CropInfo) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return coordinate_pixels(crop.location, crop.size, crop.level)

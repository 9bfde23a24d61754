"""What a user should know of a slide's file is logged once, whoever reads it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pydmed_dali import BigChunkSource, Dataset, SmallChunkIterator
from pydmed_dali.pipelines.classification import classification


@pytest.mark.parametrize("workers", [0, 1])
def test_a_remark_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 600, 600, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(256, 256), photometric="rgb", metadata=None)
    with (
        caplog.at_level(logging.WARNING, "pydmed_dali"),
        BigChunkSource(
            Dataset.from_folder(tmp_path),
            chunk_size=256,
            crop_size=64,
            batch_size=4,
            resident=2,
            crops_per_chunk=4,
            num_workers=workers,
        ) as source,
    ):
        batches = SmallChunkIterator(classification(source), ["image", "label", "info"])
        for _, _ in zip(range(5), batches, strict=False):
            pass
    said = [record.getMessage() for record in caplog.records if "a.tif" in record.getMessage()]
    assert said == [
        f"{tmp_path / 'a.tif'}: the file has 3 images of the full size; the first one is read"
    ]

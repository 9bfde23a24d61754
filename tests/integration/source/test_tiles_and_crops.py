"""Tiles that are decoded directly, as far as crops of them go: every pixel, and few of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydmed_dali import BigChunkSource, Dataset, Point, Size
from pydmed_dali.geometry import Region
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.tiled_slide import TiledSlide
from pydmed_dali.source import options
from pydmed_dali.worker import chunk_reader
from tests.integration.slide.tiled_files import write_lossless_coordinates
from tests.support import NAMES, assert_coordinates, sum_up, take


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("crops_per_chunk", [2, 64])
def test_every_pixel_through_the_pipeline(tmp_path: Path, level: int, crops_per_chunk: int) -> None:
    """With few crops per chunk most tiles are not decoded; the slots are poisoned first."""
    size = Size(2048, 1536)
    write_lossless_coordinates(tmp_path / "a.svs", size)
    write_lossless_coordinates(tmp_path / "b.svs", size)
    extents = {level: Size(size.width >> level, size.height >> level)}
    with BigChunkSource(
        Dataset.from_folder(tmp_path), chunk_size=1024, crop_size=100, batch_size=16, level=level,
        resident=4, crops_per_chunk=crops_per_chunk, num_workers=0, on_error="raise",
    ) as source:  # fmt: skip
        for batch in take(source, 12):
            assert_coordinates(batch, extents)
    slide = open_slide(tmp_path / "a.svs", Cache(None))
    assert isinstance(slide, TiledSlide)
    slide.close()


def test_few_crops_per_chunk_decode_little(tmp_path: Path) -> None:
    write_lossless_coordinates(tmp_path / "a.svs", Size(2048, 2048))
    amplification = {}
    for crops_per_chunk in (1, 256):
        with BigChunkSource(
            Dataset.from_folder(tmp_path), chunk_size=1024, crop_size=100, batch_size=16,
            resident=2, crops_per_chunk=crops_per_chunk, num_workers=0, passes=64,
        ) as source:  # fmt: skip
            take(source, 64 * crops_per_chunk // 16)
            amplification[crops_per_chunk] = source.stats().decode_amplification
    # One crop touches 1 to 4 tiles of 65,536 pixels for its 10,000; 256 crops use 9 to 16 tiles.
    assert 6.5 < amplification[1] < 27
    assert 0.2 < amplification[256] < 0.42


@pytest.mark.parametrize("mpp", [None, 0.8])
def test_crops_are_equal_with_and_without_sparse_fill(
    real_slides: Path, monkeypatch: pytest.MonkeyPatch, mpp: float | None
) -> None:
    """On real slides of both readers, at a level and resampled; where slots hold chunks."""
    monkeypatch.setattr(options, "packed_crop", lambda *_: None)

    def whole(crops: Any, crop: Size, extent: Size, cell: Size, offset: Point) -> list[Region]:
        return [Region(Point(0, 0), extent)]

    runs = []
    for everything in (False, True):
        with monkeypatch.context() as patch:
            if everything:
                patch.setattr(chunk_reader, "touched_parts", whole)
            with BigChunkSource(
                Dataset.from_folder(real_slides), chunk_size=1024, crop_size=96, batch_size=32,
                mpp=mpp, resident=4, crops_per_chunk=8, num_workers=0,
            ) as source:  # fmt: skip
                runs.append((sum_up(take(source, 12)), source.stats().decode_amplification))
    (sparse, less), (full, more) = runs
    for name in NAMES:
        np.testing.assert_array_equal(sparse[name], full[name])
    assert less < 0.8 * more or mpp is not None

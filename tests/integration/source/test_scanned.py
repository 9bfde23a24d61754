"""Crops and tiles come from what was scanned, and from nowhere else, on slides that tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    InfoColumn,
    Point,
    Size,
    SmallChunkIterator,
    TileSource,
)
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.tissue_mask import compute_mask
from tests.scanned_slides import write_scn
from tests.support import NAMES, folder_dataset, read_directly, take, write_picture

ORIGIN, SIZE, FRAME = Point(700, 1000), Size(800, 600), Size(2000, 2400)
RUN: dict[str, Any] = {
    "chunk_size": 512,
    "crop_size": 64,
    "batch_size": 16,
    "resident": 4,
    "crops_per_chunk": 16,
    "num_workers": 0,
}
ROUNDING = 4
"""Level-0 pixels by which a place of a resampled view may differ."""


def _pixels() -> np.ndarray:
    """Glass with a stained square, at (200, 100) of what was scanned, 300x300."""
    pixels = np.random.default_rng(1).integers(232, 246, (SIZE.height, SIZE.width, 3), np.uint8)
    pixels[100:400, 200:500] = (150, 40, 120)
    return pixels


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    write_scn(tmp_path / "slides" / "a.scn", _pixels(), ORIGIN, FRAME)
    return folder_dataset(tmp_path / "slides")


@pytest.mark.parametrize(
    "scale", [{"level": 0}, {"level": 1}, {"mpp": 0.5}, {"mpp": 0.41}], ids=str
)
def test_every_crop_lies_on_what_was_scanned(dataset: Dataset, scale: dict[str, Any]) -> None:
    with BigChunkSource(dataset, **RUN, **scale) as source:
        crops = [c for b in take(source, 8) for c in source.describe(b["info"])]
    slack = 0 if "level" in scale else ROUNDING
    for crop in crops:
        place, size = crop.location, crop.level0_size
        right, bottom = ORIGIN.x + SIZE.width - size.width, ORIGIN.y + SIZE.height - size.height
        assert ORIGIN.x - slack <= place.x <= right + slack, crop
        assert ORIGIN.y - slack <= place.y <= bottom + slack, crop
    assert len({(c.location.x, c.location.y) for c in crops}) > 60, "of many places"


def test_crops_show_what_openslide_reads(dataset: Dataset) -> None:
    with BigChunkSource(dataset, **RUN) as source:
        for batch in take(source, 4):
            for image, crop in zip(
                batch["image"].numpy(), source.describe(batch["info"]), strict=True
            ):
                np.testing.assert_array_equal(image, read_directly(crop))


def test_every_place_on_the_scan_can_come(tmp_path: Path) -> None:
    write_scn(
        tmp_path / "a.scn", np.full((70, 68, 3), 200, np.uint8), Point(301, 207), Size(900, 800)
    )
    with BigChunkSource(folder_dataset(tmp_path), **RUN) as source:
        crops = [c for b in take(source, 40) for c in source.describe(b["info"])]
    found = {(c.location.x, c.location.y) for c in crops}
    assert found == {(x, y) for x in range(301, 306) for y in range(207, 214)}


def test_a_scan_smaller_than_a_crop_has_one_place(tmp_path: Path) -> None:
    write_scn(
        tmp_path / "a.scn", np.full((40, 50, 3), 200, np.uint8), Point(301, 760), Size(900, 800)
    )
    with BigChunkSource(folder_dataset(tmp_path), **RUN) as source:
        crops = [c for b in take(source, 2) for c in source.describe(b["info"])]
    assert {(c.location.x, c.location.y) for c in crops} == {(301, 736)}


def test_with_min_tissue_too(tmp_path: Path) -> None:
    """The stain lies away from the edge, where a mask of 32 pixels a square fills gaps."""
    pixels = np.roll(_pixels(), 50, axis=0)
    write_scn(tmp_path / "slides" / "a.scn", pixels, ORIGIN, FRAME)
    dataset = folder_dataset(tmp_path / "slides")
    with BigChunkSource(dataset, **RUN, min_tissue=0.1) as source:
        crops = [c for b in take(source, 8) for c in source.describe(b["info"])]
    with openslide.OpenSlide(dataset.slides[0].path) as slide:
        for crop in crops:
            rgba = np.asarray(slide.read_region((crop.location.x, crop.location.y), 0, (64, 64)))
            assert (rgba[..., 3] == 255).all(), "scanned"
            assert (rgba[..., 1] == 40).mean() >= 0.05, "stained"


def test_tissue_is_found_as_if_there_were_no_frame(tmp_path: Path) -> None:
    pixels = np.repeat(np.repeat(_pixels(), 4, axis=0), 4, axis=1)
    alone = open_slide(write_picture(tmp_path / "alone.tif", pixels), Cache(None))
    path = write_scn(
        tmp_path / "a.scn", pixels, Point(1600, 3200), Size(8000, 8000), um=0.5, levels=1
    )
    framed = open_slide(path, Cache(None))
    inner, outer = compute_mask(alone), compute_mask(framed)
    alone.close()
    framed.close()
    assert inner.pixel == outer.pixel == (16.0, 16.0)
    rows, columns = inner.pixels.shape
    np.testing.assert_array_equal(outer.pixels[200 : 200 + rows, 100 : 100 + columns], inner.pixels)
    assert outer.pixels.sum() == inner.pixels.sum() > 0


@pytest.mark.parametrize(("level", "step"), [(0, 1), (1, 4)])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_tiles_that_show_nothing_scanned_do_not_come(
    dataset: Dataset, level: int, step: int, num_workers: int
) -> None:
    with TileSource(
        dataset, tile_size=48, stride=40, level=level, num_workers=num_workers
    ) as source:
        rows = np.concatenate([b["info"].numpy() for b in SmallChunkIterator(basic(source), NAMES)])
    found = {(int(x), int(y)) for x, y in rows[:, [InfoColumn.X, InfoColumn.Y]]}
    expected = {
        (x, y)
        for x in range(0, FRAME.width, 40 * step)
        for y in range(0, FRAME.height, 40 * step)
        if x < ORIGIN.x + SIZE.width
        and x + 48 * step > ORIGIN.x
        and y < ORIGIN.y + SIZE.height
        and y + 48 * step > ORIGIN.y
    }
    assert found == expected
    assert len(rows) == len(expected)

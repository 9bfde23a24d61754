"""The colour of what was not scanned follows the slide's kind."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pydmed_dali import Point, Size
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.slide import Slide, SlideFacts
from tests.scanned_slides import write_scn
from tests.support import write_picture


def _dark(height: int, width: int) -> np.ndarray:
    """Shining cells on a dark ground of (3, 5, 20)."""
    pixels = np.full((height, width, 3), (3, 5, 20), np.uint8)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (40, 90, 250)
    return pixels


def _read(slide: Slide, x: int, y: int, level: int = 0) -> np.ndarray:
    out = np.empty((20, 20, 3), np.uint8)
    slide.read_into(out, Point(x, y), level)
    return out


def _facts(path: Path) -> SlideFacts:
    slide = open_slide(path, Cache(None))
    slide.close()
    return slide.facts


def test_a_dark_slide_goes_on_with_its_own_ground(tmp_path: Path) -> None:
    path = write_scn(tmp_path / "a.scn", _dark(600, 400), Point(300, 200), Size(1000, 1100))
    slide = open_slide(path, Cache(None))
    for x, y in ((0, 0), (-30, -30), (990, 1090), (800, 300)):
        assert (_read(slide, x, y) == (3, 5, 20)).all(), (x, y)
    assert (_read(slide, 800, 300, 1) == (3, 5, 20)).all()
    corner = _read(slide, 290, 190)
    np.testing.assert_array_equal(corner[10:, 10:], _dark(600, 400)[:10, :10])
    slide.close()
    assert "dark ground" in slide.facts.background_reason


def test_a_large_slide_is_looked_at_in_blocks(tmp_path: Path) -> None:
    assert _facts(write_picture(tmp_path / "a.tif", _dark(1500, 1200))).background == (3, 5, 20)


def test_any_other_slide_goes_on_in_white(tmp_path: Path) -> None:
    pixels = np.full((300, 300, 3), 240, np.uint8)
    pixels[50:250, 50:250] = (150, 40, 120)
    assert _facts(write_picture(tmp_path / "a.tif", pixels)).background == (255, 255, 255)


@pytest.mark.parametrize(
    ("name", "is_dark"),
    [
        ("fluorescence-dapi.ndpi", True),
        ("CMU-1-Small-Region.svs", False),
        ("tcga-cr-7395-01a-01-ts1.svs", False),
        ("packed-biopsies.tif", False),
    ],
)
def test_real_slides(real_slides: Path, name: str, is_dark: bool) -> None:
    background = _facts(real_slides / name).background
    assert max(background) <= 48 if is_dark else background == (255, 255, 255)


def _write_mask(path: Path, missing: bool) -> Path:
    """Labels 1 and 2 in tiles of 128x128 of one channel; the last tile may be left out."""
    labels = np.ones((256, 256), np.uint8)
    labels[:, 128:] = 2
    tiles = [labels[y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128)]
    tifffile.imwrite(
        path,
        iter([*tiles[:3], None if missing else tiles[3]]),
        shape=labels.shape,
        dtype=labels.dtype,
        photometric="minisblack",
        tile=(128, 128),
        compression="adobe_deflate",
    )
    return path


def test_a_mask_of_labels_goes_on_with_0(tmp_path: Path) -> None:
    slide = open_slide(_write_mask(tmp_path / "a.tif", missing=True), Cache(None))
    assert (_read(slide, 20, 20) == 1).all() and (_read(slide, 200, 20) == 2).all()
    assert (_read(slide, 200, 200) == 0).all(), "of the tile that is missing"
    assert (_read(slide, 300, 20) == 0).all(), "beyond the edge"
    slide.close()
    assert "single channel" in slide.facts.background_reason


def test_what_was_seen_is_kept(tmp_path: Path) -> None:
    path = write_scn(tmp_path / "a.scn", _dark(300, 300), Point(100, 100), Size(600, 600))
    cache = Cache(tmp_path / "cache")
    first = open_slide(path, cache)
    assert list((tmp_path / "cache").rglob("*/*")), "something is kept"
    again = open_slide(path, cache)
    assert again.facts == first.facts
    np.testing.assert_array_equal(_read(again, 0, 0), _read(first, 0, 0))
    first.close()
    again.close()


def test_a_slide_whose_overview_cannot_be_read_stays_readable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.full((600, 400, 3), 200, np.uint8)
    path = write_scn(tmp_path / "a.scn", pixels, Point(100, 100), Size(800, 800))
    with tifffile.TiffFile(path) as file:
        offset, count = (v[0] for v in (file.pages[2].dataoffsets, file.pages[2].databytecounts))
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = b"\xff" * count
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        slide = open_slide(path, Cache(None))
        assert (_read(slide, 200, 200) == 200).all()
        slide.close()
    assert slide.facts.background == (255, 255, 255)
    assert "cannot be read" in slide.facts.background_reason

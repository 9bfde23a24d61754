"""The OpenSlide reader: facts, background, and what it says of files that are no slides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pydmed_dali import Point, Size, Slide
from pydmed_dali.errors import SlideFormatError, SlideNotFoundError, SlideReadError
from pydmed_dali.slide.openslide_slide import OpenSlideSlide, _flatten
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels, write_coordinate_slide


def test_facts_of_a_slide(tmp_path: Path) -> None:
    slide = OpenSlideSlide(write_coordinate_slide(tmp_path / "s.tif", Size(1024, 512), mpp=0.25))
    assert isinstance(slide, Slide)
    facts = slide.facts
    assert facts.dimensions == Size(1024, 512)
    assert facts.level_downsamples == (1.0, 2.0, 4.0)
    assert facts.tile_sizes == (Size(256, 256),) * 3
    assert facts.mpp == pytest.approx((0.25, 0.25))
    assert facts.background == (255, 255, 255)
    assert facts.vendor == "generic-tiff"
    assert facts.reader.startswith("openslide 4")
    slide.close()
    slide.close()


@pytest.mark.parametrize("place", [Point(-40, -30), Point(990, 480), Point(5000, 5000)])
def test_places_outside_take_the_background(tmp_path: Path, place: Point) -> None:
    slide = OpenSlideSlide(write_coordinate_slide(tmp_path / "s.tif", Size(1024, 512), levels=1))
    out = np.zeros((100, 120, 3), np.uint8)
    slide.read_into(out, place, 0)
    expected = coordinate_pixels(place, Size(120, 100), 0)
    y, x = np.mgrid[place.y : place.y + 100, place.x : place.x + 120]
    expected[(y < 0) | (y >= 512) | (x < 0) | (x >= 1024)] = 255
    np.testing.assert_array_equal(out, expected)


def test_a_tall_read_equals_reads_of_its_parts(tmp_path: Path) -> None:
    """Reading in bands shifts nothing, also not into a strided view."""
    slide = OpenSlideSlide(write_coordinate_slide(tmp_path / "s.tif", Size(600, 3000)))
    for level in range(3):
        out = np.zeros((3000 >> level, 640, 3), np.uint8)
        slide.read_into(out[:, 20:120], Point(64, 0), level)
        expected = coordinate_pixels(Point(64 >> level, 0), Size(100, 3000 >> level), level)
        np.testing.assert_array_equal(out[:, 20:120], expected)
        assert not out[:, :20].any() and not out[:, 120:].any()


def test_half_transparent_pixels_are_laid_over_the_background() -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 128], [9, 9, 9, 0]]], np.uint8)
    out = np.zeros((1, 3, 3), np.uint8)
    _flatten(rgba, (0, 0, 255), out)
    assert out.tolist() == [[[200, 0, 0], [100, 0, 127], [0, 0, 255]]]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SlideNotFoundError, match="no such file"):
        OpenSlideSlide(tmp_path / "none.svs")


def test_a_file_that_is_no_slide(tmp_path: Path) -> None:
    (tmp_path / "text.svs").write_text("hello")
    with pytest.raises(SlideFormatError, match=r"text.svs: OpenSlide cannot open it .* 5 bytes"):
        OpenSlideSlide(tmp_path / "text.svs")


def test_a_folder_with_a_slides_name(tmp_path: Path) -> None:
    (tmp_path / "x.svs").mkdir()
    with pytest.raises(SlideFormatError, match="it is a folder"):
        OpenSlideSlide(tmp_path / "x.svs")


def test_the_broken_slides(real_slides: Path) -> None:
    with pytest.raises(SlideFormatError, match="git lfs pull"):
        OpenSlideSlide(real_slides / "broken" / "lfs-pointer.svs")
    with pytest.raises(SlideFormatError, match="Unsupported TIFF compression"):
        OpenSlideSlide(real_slides / "broken" / "unopenable.tiff")
    slide = OpenSlideSlide(real_slides / "broken" / "unreadable.svs")
    with pytest.raises(SlideReadError, match=r"cannot read 16x16 pixels of level 0 at \(0, 0\)"):
        slide.read_into(np.empty((16, 16, 3), np.uint8), Point(0, 0), 0)

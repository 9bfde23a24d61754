"""Levels and resolutions: which level serves, what is resampled, what is refused."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pydmed_dali import BigChunkSource, Dataset, Point, Size
from pydmed_dali.errors import SlideScaleError
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.view import choose_view, read_view
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.support import all_of, take


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    """Levels of 0.5, 1 and 2 micrometres per pixel."""
    return OpenSlideSlide(write_coordinate_slide(tmp_path / "s.tif", Size(1024, 768), mpp=0.5))


@pytest.mark.parametrize(
    ("mpp", "level"), [(0.5, 0), (0.52, 0), (0.48, 0), (1.0, 1), (1.04, 1), (2.0, 2), (1.91, 2)]
)
def test_a_level_within_five_percent_serves_as_it_is(slide: Slide, mpp: float, level: int) -> None:
    view = choose_view(slide.facts, slide.path, None, mpp)
    assert (view.level, view.is_level) == (level, True)
    assert view.mpp == pytest.approx((0.5 * 2**level,) * 2)


@pytest.mark.parametrize(
    ("mpp", "level", "scale"), [(0.75, 0, 1.5), (1.5, 1, 1.5), (1.8, 1, 1.8), (5.0, 2, 2.5)]
)
def test_otherwise_the_next_finer_level_is_resampled(
    slide: Slide, mpp: float, level: int, scale: float
) -> None:
    view = choose_view(slide.facts, slide.path, None, mpp)
    assert view.level == level
    assert view.scale == pytest.approx((scale, scale))
    assert view.mpp == (mpp, mpp)
    assert view.dimensions == Size(int(1024 * 0.5 / mpp), int(768 * 0.5 / mpp))
    assert view.downsample == pytest.approx((mpp / 0.5, mpp / 0.5))


def test_an_mpp_finer_than_the_slide_says_what_it_has(slide: Slide) -> None:
    with pytest.raises(SlideScaleError, match=r"s.tif: mpp=0.25 .* 0.5 .*; ask for mpp >= 0.5"):
        choose_view(slide.facts, slide.path, None, 0.25)


def test_a_missing_mpp_is_an_error_only_when_one_was_asked_for(tmp_path: Path) -> None:
    bare = OpenSlideSlide(write_coordinate_slide(tmp_path / "bare.tif", Size(512, 512)))
    assert choose_view(bare.facts, bare.path, 1, None).mpp is None
    with pytest.raises(SlideScaleError, match=r"does not tell .* level=0..2 instead"):
        choose_view(bare.facts, bare.path, None, 0.5)
    bare.close()


def test_a_level_that_is_not_there_says_which_are(slide: Slide) -> None:
    with pytest.raises(SlideScaleError, match=r"levels 0..2 \(1024x768, 512x384, 256x192\)"):
        choose_view(slide.facts, slide.path, 3, None)


@pytest.mark.parametrize("scale", [1.5, 2.5, 3.7])
def test_resampling_in_blocks_equals_resampling_the_whole(tmp_path: Path, scale: float) -> None:
    """The slide is resampled chunk by chunk and block by block; the reference is one resize."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (2048, 2048, 3), np.uint8)
    tifffile.imwrite(
        tmp_path / "noise.tif",
        pixels,
        tile=(256, 256),
        photometric="rgb",
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )
    slide = OpenSlideSlide(tmp_path / "noise.tif")
    view = choose_view(slide.facts, slide.path, None, 0.5 * scale)
    width, height = view.dimensions.width, view.dimensions.height
    box = (0.0, 0.0, width * view.scale[0], height * view.scale[1])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.HAMMING, box=box)
    whole = np.asarray(image).astype(int)
    origin = Point(30, 17)
    out = np.empty((height - 17, width - 30, 3), np.uint8)
    read_view(slide, view, origin, out, [all_of(out)])
    # Pillow works in two passes and rounds after each, with weights that depend on the origin.
    assert np.abs(out.astype(int) - whole[17:, 30:]).max() <= 2
    slide.close()


def test_background_surrounds_a_resampled_slide(slide: Slide) -> None:
    view = choose_view(slide.facts, slide.path, None, 0.75)
    out = np.zeros((100, 100, 3), np.uint8)
    read_view(slide, view, Point(view.dimensions.width + 10, 0), out, [all_of(out)])
    assert (out == 255).all()


def test_crops_at_a_resolution_say_their_effective_mpp(tmp_path: Path) -> None:
    """Slides of two scanners: one level serves within 5%, the other slide is resampled."""
    write_coordinate_slide(tmp_path / "a.tif", Size(900, 900), mpp=0.26)
    write_coordinate_slide(tmp_path / "b.tif", Size(900, 900), mpp=0.25)
    write_coordinate_slide(tmp_path / "c.tif", Size(900, 900), mpp=0.4)
    with BigChunkSource(
        Dataset.from_folder(tmp_path), chunk_size=256, crop_size=64, batch_size=16, mpp=0.5,
        resident=3, crops_per_chunk=8, num_workers=0,
    ) as source:  # fmt: skip
        crops = [c for b in take(source, 6) for c in source.describe(b["info"])]
    found = {crop.record.path.name: (crop.mpp, crop.level0_size.width) for crop in crops}
    assert found == {"a.tif": (0.52, 128), "b.tif": (0.5, 128), "c.tif": (0.5, 80)}
    assert all(crop.requested_mpp == 0.5 for crop in crops)


def test_a_coarse_view_of_a_fine_slide_takes_little_memory(tmp_path: Path) -> None:
    """Its whole source would be 100 times as large as the chunk."""
    path = tmp_path / "fine.tif"
    write_coordinate_slide(path, Size(8192, 8192), levels=1, mpp=0.05)
    slide = OpenSlideSlide(path)
    view = choose_view(slide.facts, path, None, 0.5)
    assert view.dimensions.width == pytest.approx(819, abs=1)
    out = np.zeros((800, 800, 3), np.uint8)
    tracemalloc.start()
    read_view(slide, view, Point(0, 0), out, [all_of(out)])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 250e6, "the whole source has 201 million pixels, 604 MB"
    assert len(np.unique(out)) > 10
    slide.close()


def test_an_absurdly_fine_mpp_is_not_believed(slide: Slide) -> None:
    facts = replace(slide.facts, mpp=(1e-4, 1e-4))
    with pytest.raises(SlideScaleError, match="is the file's mpp right"):
        choose_view(facts, slide.path, None, 0.5)

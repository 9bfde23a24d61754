"""Coordinate slides: what OpenSlide reads from the file is what `coordinate_pixels` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest

from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels, write_coordinate_slide


def read(slide: openslide.OpenSlide, level: int) -> Pixels:
    """A whole level as OpenSlide reads it, which must be opaque everywhere."""
    pixels = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))
    assert (pixels[:, :, 3] == 255).all()
    return pixels[:, :, :3]


@pytest.mark.parametrize(
    ("size", "levels", "tile", "downsample"),
    [
        (Size(1024, 512), 3, 256, 2),
        (Size(1001, 777), 4, 256, 2),
        (Size(300, 900), 3, 128, 3),
        (Size(640, 640), 2, 16, 4),
        (Size(1, 1), 1, 256, 2),
    ],
)
def test_every_pixel_of_every_level_is_what_the_function_says(
    tmp_path: Path, size: Size, levels: int, tile: int, downsample: int
) -> None:
    path = write_coordinate_slide(
        tmp_path / "slide.tif", size, levels=levels, tile=tile, downsample=downsample
    )
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_count == levels
        for level, (width, height) in enumerate(slide.level_dimensions):
            step = downsample**level
            assert (width, height) == (-(-size.width // step), -(-size.height // step))
            expected = coordinate_pixels(Point(0, 0), Size(width, height), level)
            np.testing.assert_array_equal(read(slide, level), expected)


def test_downsamples_are_exact_where_the_size_is_a_multiple(tmp_path: Path) -> None:
    path = write_coordinate_slide(tmp_path / "slide.tif", Size(1280, 768), levels=4)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_downsamples == (1.0, 2.0, 4.0, 8.0)


@pytest.mark.parametrize("mpp", [0.25, 0.499, 1.0])
def test_openslide_reports_the_mpp(tmp_path: Path, mpp: float) -> None:
    path = write_coordinate_slide(tmp_path / "slide.tif", Size(64, 64), mpp=mpp)
    with openslide.OpenSlide(path) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(mpp, rel=1e-6)


def test_a_slide_without_mpp_reports_none(tmp_path: Path) -> None:
    path = write_coordinate_slide(tmp_path / "slide.tif", Size(64, 64))
    with openslide.OpenSlide(path) as slide:
        assert "openslide.mpp-x" not in slide.properties


def test_red_and_green_are_the_place_in_the_block() -> None:
    pixels = coordinate_pixels(Point(250, 700), Size(20, 10), level=1)
    assert pixels.shape == (10, 20, 3)
    assert pixels[3, 12, :2].tolist() == [(250 + 12) % 256, (700 + 3) % 256]
    assert pixels[3, 0, 2] != pixels[3, 19, 2], "blue must change from block to block"


def test_a_region_is_a_part_of_the_whole_even_left_of_the_origin() -> None:
    whole = coordinate_pixels(Point(-300, -300), Size(900, 900), level=2)
    part = coordinate_pixels(Point(17, -100), Size(300, 450), level=2)
    np.testing.assert_array_equal(part, whole[200:650, 317:617])


def test_blue_is_well_mixed_and_never_white() -> None:
    blues = np.stack(
        [
            coordinate_pixels(Point(0, 0), Size(64 * 256, 64 * 256 // 64), level)
            for level in range(4)
        ]
    )[:, 0, ::256, 2]
    assert blues.max() < 224
    assert len(np.unique(blues)) > 128
    assert (blues[:, 1:] == blues[:, :-1]).mean() < 0.05
    assert (blues[1:] == blues[:-1]).mean() < 0.05


def test_the_same_arguments_give_the_same_file(tmp_path: Path) -> None:
    first, second = (
        write_coordinate_slide(tmp_path / name, Size(500, 300), mpp=0.5) for name in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()


def test_progress_counts_every_tile(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_coordinate_slide(
        tmp_path / "slide.tif",
        Size(600, 300),
        levels=2,
        progress=lambda done, total: calls.append((done, total)),
    )
    tiles = 3 * 2 + 2 * 1
    assert calls == [(done, tiles) for done in range(1, tiles + 1)]


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    path = tmp_path / "slide.tif"
    with pytest.raises(KeyboardInterrupt):
        write_coordinate_slide(path, Size(600, 600), progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    path.write_text("an older file")
    with pytest.raises(KeyboardInterrupt):
        write_coordinate_slide(path, Size(600, 600), progress=interrupt)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "an older file"


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (Size(0, 100), {}, "at least 1 pixel"),
        (Size(100, 100), {"levels": 0}, "levels must be a whole number of at least 1"),
        (Size(100, 3), {"levels": 3}, "lower levels"),
        (Size(100, 100), {"tile": 100}, "multiple of 16"),
        (Size(100, 100), {"tile": 0}, "at least 16"),
        (Size(100, 100), {"downsample": 1}, "at least 2"),
        (Size(100, 100), {"mpp": 0.0}, "mpp must be more than 0"),
        (Size(100, 100), {"mpp": float("nan")}, "mpp must be more than 0"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, size: Size, options: dict[str, float], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        write_coordinate_slide(tmp_path / "slide.tif", size, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []

"""Masks of real, drawn and spoilt slides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pydmed_dali.errors import SlideMaskError, SlideReadError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide import tissue_mask
from pydmed_dali.slide.mask_image import MaskFile
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.slide.tissue_mask import TissueMask, compute_mask, mask_size, overview, read_mask
from pydmed_dali.slide.tissue_threshold import otsu, tissue_pixels
from pydmed_dali.synthetic.tissue_slides import tissue_image
from tests.support import write_picture

GLASS = (241, 240, 243)
BLUE, GREEN, BLACK, RED = (45, 70, 160), (30, 120, 80), (25, 25, 30), (200, 30, 50)


def _mask_of(path: Path) -> TissueMask:
    slide = OpenSlideSlide(path)
    try:
        return compute_mask(slide)
    finally:
        slide.close()


def _glass(height: int, width: int) -> Pixels:
    noisy = np.random.default_rng(0).normal(GLASS, 2.5, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def section() -> Pixels:
    """(256, 256, 3): the overview of a drawn slide, 8 micrometres a pixel, with dense tissue."""
    return tissue_image(Size(4096, 4096), tissue="tumor", seed=3).pixels(
        Point(0, 0), Size(256, 256), 16
    )


def _stroke(overview: Pixels, colour: tuple[int, int, int], width: int = 12) -> Pixels:
    """The overview with a line of ink from the upper left to the right, over glass and tissue.

    Ink darkens what it lies on, and its edge is a mixture.
    """
    size = (overview.shape[1], overview.shape[0])
    line = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(line).line([(0, 40), (4 * size[0], 260)], 240, 4 * width)
    opacity = np.asarray(line.resize(size, Image.Resampling.BOX))[:, :, None] / 255
    inked = overview * (np.array(colour) / 255)
    return (overview * (1 - opacity) + inked * opacity).astype(np.uint8)


def _line_is_in(mask: NDArray[np.bool_]) -> float:
    """Share of the stroke's middle that is taken for tissue."""
    x = np.arange(mask.shape[1])
    y = np.round(10 + x * 55 / mask.shape[1]).astype(int)
    return float(mask[y, x].mean())


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("CMU-1-Small-Region.svs", 0.34, 0.41),
        ("CMU-1-Small-Region.pyramid.tif", 0.34, 0.41),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.60, 0.66),
        ("packed-biopsies.tif", 0.19, 0.24),
        ("fluorescence-dapi.ndpi", 0.65, 0.85),
    ],
)
def test_real_slides_have_as_much_tissue_as_the_eye_sees(
    real_slides: Path, name: str, least: float, most: float
) -> None:
    assert least < _mask_of(real_slides / name).share < most


def test_tissue_lies_where_the_eye_sees_it(real_slides: Path) -> None:
    """Places in level 0 of the real slides, glass and tissue, also on the dark ground."""
    seen = {
        "CMU-1-Small-Region.svs": ([(1000, 1500), (900, 2700), (1200, 1900)], [(300, 500)]),
        "packed-biopsies.tif": ([(300, 400), (1150, 150)], [(800, 100), (1380, 470)]),
        "fluorescence-dapi.ndpi": ([(2000, 3600), (640, 1290)], [(1500, 4700), (3700, 100)]),
    }
    for name, (tissue, ground) in seen.items():
        mask = _mask_of(real_slides / name)
        for places, expected in ((tissue, True), (ground, False)):
            for x, y in places:
                found = mask.pixels[int(y / mask.pixel[1]), int(x / mask.pixel[0])]
                assert found == expected, f"{name} at ({x}, {y})"


def test_the_level_that_is_read_changes_little(real_slides: Path) -> None:
    """The same slide with and without coarse levels."""
    single = _mask_of(real_slides / "CMU-1-Small-Region.svs").pixels
    pyramid = _mask_of(real_slides / "CMU-1-Small-Region.pyramid.tif").pixels
    assert single.shape == pyramid.shape == (186, 139)
    assert (single != pyramid).mean() < 0.02


def test_the_drawn_section_is_found_whole(section: Pixels) -> None:
    drawn = (section != section[0, 0]).any(axis=2)
    found = tissue_pixels(section)
    assert (found & drawn).sum() > 0.97 * drawn.sum()
    assert (found & ~drawn).sum() < 0.03 * drawn.sum()


def test_glass_alone_has_no_tissue() -> None:
    assert not tissue_pixels(_glass(200, 250)).any()
    assert not tissue_pixels(np.full((50, 50, 3), 255, np.uint8)).any()
    assert not tissue_pixels(np.pad(_glass(200, 250), ((60, 60), (60, 60), (0, 0)))).any()
    assert not tissue_pixels(np.zeros((50, 50, 3), np.uint8)).any()


def test_tissue_without_glass_is_all_tissue(section: Pixels) -> None:
    """Otsu by itself would call the paler half of it glass."""
    inner = section[90:170, 90:170]
    assert tissue_pixels(inner).mean() > 0.99


@pytest.mark.parametrize("colour", [BLUE, GREEN, BLACK, RED])
def test_ink_on_glass_is_no_tissue(colour: tuple[int, int, int]) -> None:
    assert not tissue_pixels(_stroke(_glass(256, 256), colour)).any()


@pytest.mark.parametrize("colour", [BLUE, GREEN, BLACK, RED])
def test_ink_hides_the_tissue_below_it_and_no_other(
    section: Pixels, colour: tuple[int, int, int]
) -> None:
    bare, inked = tissue_pixels(section), tissue_pixels(_stroke(section, colour))
    assert _line_is_in(bare) > 0.4
    assert _line_is_in(inked) < 0.15
    assert (inked[100:] == bare[100:]).mean() > 0.99


def test_black_frames_and_padding_are_no_tissue(section: Pixels) -> None:
    framed = np.pad(section, ((20, 0), (20, 40), (0, 0)))
    framed[:, -20:] = (30, 24, 36)
    found = tissue_pixels(framed)
    assert not found[:18].any() and not found[:, :18].any() and not found[:, -38:].any()
    assert (found[20:, 20:-40] == tissue_pixels(section)).mean() > 0.99


def test_a_section_on_black_padding_without_any_glass_is_found(section: Pixels) -> None:
    found = tissue_pixels(np.pad(section[90:170, 90:170], ((80, 0), (0, 60), (0, 0))))
    assert found[84:, :-64].all()
    assert found.sum() < 1.15 * 80 * 80


def test_what_shines_on_a_dark_ground_is_tissue() -> None:
    """Sparse nuclei with dark gaps between, as in fluorescence; and the ground alone."""
    rng = np.random.default_rng(1)
    ground = rng.integers(0, 5, (120, 160, 3)).astype(np.uint8)
    shining = ground.copy()
    nuclei = rng.random((120, 80)) < 0.2
    shining[:, :80, 2][nuclei] = 180
    found = tissue_pixels(shining)
    assert found[:, :76].mean() > 0.98 and found[:, 86:].mean() < 0.01
    assert not tissue_pixels(ground).any()


def test_specks_and_small_holes_are_smoothed_away(section: Pixels) -> None:
    glass = _glass(100, 100)
    glass[10:12, 10:12] = glass[50:53, 70:73] = (150, 60, 120)
    assert not tissue_pixels(glass).any()
    holes = section[90:170, 90:170].copy()
    holes[10:14, 10:14] = holes[40:45, 60:64] = GLASS
    assert tissue_pixels(holes).mean() > 0.99


def test_otsu_parts_two_heaps_in_the_middle_between_them() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0.1, 0.2, 5000), rng.uniform(0.6, 0.8, 500)])
    assert otsu(values) == pytest.approx(0.4, abs=0.02)
    assert otsu(np.full(10, 0.3)) == 0.0
    assert otsu(np.empty(0)) == 0.0


def test_otsu_is_the_threshold_of_the_largest_variance_between_classes() -> None:
    values = np.random.default_rng(2).beta(2, 5, 4000)

    def between(threshold: float) -> float:
        low, high = values[values < threshold], values[values >= threshold]
        return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)

    best = max((between(number / 256), number / 256) for number in range(20, 200))
    assert between(otsu(values)) >= 0.999 * best[0]


def test_a_mask_s_pixels_are_as_fine_as_is_useful(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "slide.tif", np.full((330, 3210, 3), 255, np.uint8))
    slide = OpenSlideSlide(path)
    assert mask_size(slide.facts) == Size(201, 21)
    mask = compute_mask(slide)
    slide.close()
    assert mask.pixels.shape == (21, 201)
    assert mask.pixel == pytest.approx((16, 16), rel=0.03)


def test_an_overview_read_in_bands_is_the_one_read_whole(
    real_slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = OpenSlideSlide(real_slides / "CMU-1-Small-Region.svs")
    size = mask_size(slide.facts)
    whole = overview(slide, size)
    monkeypatch.setattr(tissue_mask, "_MOST_READ", 400_000)
    banded = overview(slide, size)
    slide.close()
    # the box filter takes a pixel on the border of two bands to either
    assert (np.abs(whole.astype(int) - banded) > 1).mean() < 0.01


def test_an_overview_that_cannot_be_read_is_an_error(real_slides: Path) -> None:
    slide = OpenSlideSlide(real_slides / "broken" / "unreadable.svs")
    with pytest.raises(SlideReadError, match=r"unreadable\.svs"):
        compute_mask(slide)
    slide.close()


def test_a_mask_survives_as_bytes() -> None:
    pixels = np.random.default_rng(0).random((37, 51)) < 0.5
    mask = TissueMask.over(pixels, Size(5100, 3700))
    copy = TissueMask.from_bytes(mask.to_bytes())
    np.testing.assert_array_equal(copy.pixels, pixels)
    assert copy.pixel == mask.pixel == (100, 100)
    assert copy.share == pixels.mean()


def _own(tmp_path: Path, image: Image.Image, name: str = "mask.png") -> TissueMask:
    image.save(tmp_path / name)
    slide = OpenSlideSlide(write_picture(tmp_path / "slide.tif", np.zeros((300, 400, 3), np.uint8)))
    slide.close()
    return read_mask(MaskFile(tmp_path / name), tmp_path / "slide.tif", slide.facts)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16", "label", "bool.tif"])
def test_what_is_not_black_in_an_own_mask_is_tissue(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((30, 40), np.uint8)
    pixels[5:20, 10:30] = 1 if mode == "label" else 255
    image = Image.fromarray(pixels)
    if mode == "P":
        image = image.convert("RGB").quantize(2)
        image.putpalette([0, 0, 0, 255, 0, 0])
        pixels = np.asarray(image)
    elif mode in ("1", "LA", "RGB", "RGBA", "I;16"):
        image = image.convert(mode)
    name = "mask.tif" if mode.endswith("tif") else "mask.png"
    mask = _own(tmp_path, image, name)
    np.testing.assert_array_equal(mask.pixels, pixels > 0)
    assert mask.pixel == (10, 10)


def test_a_large_own_mask_is_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tissue_mask, "_LONGEST", 20)
    pixels = np.zeros((90, 120), np.uint8)
    pixels[:60, :60] = 1
    mask = _own(tmp_path, Image.fromarray(pixels))
    assert mask.pixels.shape == (30, 40)
    assert mask.pixels[:20, :20].all() and mask.share == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("size", "fits"), [((410, 300), False), ((400, 304), True), ((4, 3), True)]
)
def test_an_own_mask_has_the_slide_s_proportions(
    tmp_path: Path, size: tuple[int, int], fits: bool
) -> None:
    image = Image.new("L", size, 255)
    if fits:
        assert _own(tmp_path, image).share == 1
        return
    with pytest.raises(SlideMaskError, match=r"410x300.*400x300.*2\.5%"):
        _own(tmp_path, image)


def test_an_own_mask_that_cannot_be_used_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.png").write_text("no image")
    slide = OpenSlideSlide(write_picture(tmp_path / "slide.tif", np.zeros((30, 40, 3), np.uint8)))
    slide.close()
    with pytest.raises(SlideMaskError, match=r"text\.png: the tissue mask of .*slide\.tif"):
        read_mask(MaskFile(tmp_path / "text.png"), tmp_path / "slide.tif", slide.facts)
    Image.new("L", (40, 30)).save(tmp_path / "mask.png")
    monkeypatch.setattr(tissue_mask, "_MOST_READ", 1000)
    with pytest.raises(SlideMaskError, match="40x30 pixels, more than 1,000"):
        read_mask(MaskFile(tmp_path / "mask.png"), tmp_path / "slide.tif", slide.facts)

"""Tissue slides: they open, are repeatable, have no seams, and their class can be told."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import openslide
import pytest
from numpy.typing import NDArray

from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.synthetic.stains import GROUND
from pydmed_dali.synthetic.tissue_image import TissueImage
from pydmed_dali.synthetic.tissue_slides import TISSUES, tissue_image, write_tissue_slide

WHOLE = Size(8192, 8192)
SMALL = Size(2000, 1300)


@pytest.fixture(scope="module")
def images() -> dict[tuple[str, int], TissueImage]:
    """Every class twice, by name and seed."""
    return {
        (tissue, seed): tissue_image(WHOLE, tissue=tissue, seed=seed)
        for tissue in TISSUES
        for seed in (0, 1)
    }


@pytest.fixture
def small_texture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the painting, for tests that do not look at it: it takes most of their time."""
    monkeypatch.setattr("pydmed_dali.synthetic.tissue_image._SIDE", 1024)


@pytest.fixture
def path(tmp_path: Path, small_texture: None) -> Path:
    """A small slide of glands on disk."""
    return write_gland(tmp_path / "gland.svs")


def write_gland(path: Path) -> Path:
    return write_tissue_slide(path, SMALL, tissue="gland", seed=0, mpp=0.499, levels=3)


def is_tissue(pixels: Pixels) -> NDArray[np.bool_]:
    tissue: NDArray[np.bool_] = pixels.min(axis=2) < GROUND - 3
    return tissue


def mean_difference(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    return float(np.abs(first.astype(np.float64) - second.astype(np.float64)).mean())


def test_openslide_opens_it_as_aperio_with_its_scale(path: Path) -> None:
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert float(slide.properties["openslide.mpp-x"]) == 0.499
        assert float(slide.properties["openslide.mpp-y"]) == 0.499
        assert float(slide.properties["openslide.objective-power"]) == pytest.approx(20, abs=0.1)
        assert slide.level_dimensions == ((2000, 1300), (500, 325), (125, 82))


def test_the_file_holds_the_image_at_every_level(path: Path) -> None:
    image = tissue_image(SMALL, tissue="gland", seed=0, mpp=0.499)
    with openslide.OpenSlide(path) as slide:
        for level, (width, height) in enumerate(slide.level_dimensions):
            read = np.asarray(slide.read_region((0, 0), level, (width, height)))[:, :, :3]
            expected = image.pixels(Point(0, 0), Size(width, height), 4**level)
            elsewhere = np.roll(expected, 3, axis=1)
            assert mean_difference(read, expected) < mean_difference(read, elsewhere) / 2


def test_empty_glass_is_grey_to_the_last_bit(path: Path) -> None:
    with openslide.OpenSlide(path) as slide:
        corner = np.asarray(slide.read_region((0, 0), 0, (16, 16)))
    assert (corner[:, :, :3] == GROUND).all()


@pytest.mark.parametrize("tissue", TISSUES)
@pytest.mark.parametrize("seed", [0, 1])
def test_tissue_covers_well_over_half_of_the_slide(
    images: dict[tuple[str, int], TissueImage], tissue: str, seed: int
) -> None:
    overview = images[tissue, seed].pixels(Point(0, 0), Size(128, 128), 64)
    assert 0.55 < is_tissue(overview).mean() < 0.78
    assert is_tissue(overview)[48:80, 48:80].mean() > 0.6


def test_the_same_arguments_give_the_same_file(path: Path, tmp_path: Path) -> None:
    again = write_gland(tmp_path / "again.svs")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("tissue", TISSUES)
def test_another_seed_is_another_slide(
    images: dict[tuple[str, int], TissueImage], tissue: str
) -> None:
    first, second = (
        images[tissue, seed].pixels(Point(0, 0), Size(128, 128), 64) for seed in (0, 1)
    )
    assert (is_tissue(first) != is_tissue(second)).mean() > 0.03
    assert mean_difference(first, second) > 5


@pytest.mark.parametrize("downsample", [1, 4, 32])
def test_a_region_does_not_depend_on_how_it_is_cut(
    images: dict[tuple[str, int], TissueImage], downsample: int
) -> None:
    image = images["gland", 0]
    left, top = 100 // downsample, 3000 // downsample
    whole = image.pixels(Point(left, top), Size(800, 600), downsample)
    part = image.pixels(Point(left + 123, top + 45), Size(300, 400), downsample)
    np.testing.assert_array_equal(part, whole[45:445, 123:423])
    assert is_tissue(whole).any()
    assert not is_tissue(whole).all()


def seam(pixels: Pixels, tile: int) -> float:
    """How far the steps across tile borders are from all others, in standard errors."""
    steps = np.abs(np.diff(pixels.astype(np.float64), axis=1)).mean(axis=(0, 2))
    at_border = np.arange(1, pixels.shape[1]) % tile == 0
    others = steps[~at_border]
    excess = steps[at_border].mean() - others.mean()
    return float(abs(excess) / (others.std() / at_border.sum() ** 0.5))


@pytest.mark.parametrize("tissue", TISSUES)
def test_tiles_meet_without_a_seam(images: dict[tuple[str, int], TissueImage], tissue: str) -> None:
    image = images[tissue, 0]
    tiles = [
        [image.pixels(Point(x, y), Size(256, 256)) for x in range(3072, 5120, 256)]
        for y in range(3072, 4096, 256)
    ]
    assert seam(np.block([[[tile] for tile in row] for row in tiles]), 256) < 4
    mismatched = [np.roll(tile, 31, axis=0) for tile in tiles[0]]
    alternating = [tiles[0][i] if i % 2 else mismatched[i] for i in range(len(mismatched))]
    assert seam(np.hstack(alternating), 256) > 4, "the measure must see a seam"


@pytest.mark.parametrize("tissue", TISSUES)
@pytest.mark.parametrize("downsample", [4, 16])
def test_a_coarse_pixel_is_the_mean_of_the_fine_ones(
    images: dict[tuple[str, int], TissueImage], tissue: str, downsample: int
) -> None:
    image = images[tissue, 1]
    side = 1024 // downsample
    fine = image.pixels(Point(4096, 3072), Size(1024, 1024)).astype(np.float64)
    means = fine.reshape(side, downsample, side, downsample, 3).mean(axis=(1, 3))
    coarse = image.pixels(
        Point(4096 // downsample, 3072 // downsample), Size(side, side), downsample
    )
    assert mean_difference(coarse, means) < 5
    assert abs(coarse.mean() - means.mean()) < 1
    assert mean_difference(coarse, means) < mean_difference(np.roll(coarse, 1, axis=1), means) / 2


def features(crop: Pixels) -> NDArray[np.float64]:
    """What is pale, what is dark, and how busy it is at each scale; the colour plays no part."""
    absorbed = np.log10(GROUND / np.maximum(crop[:, :, 0], 1.0))
    absorbed = np.maximum(absorbed, 0) / (np.quantile(absorbed, 0.98) + 1e-3)
    values = [10 * (crop.mean(axis=2) > 215).mean(), 10 * (absorbed > 0.55).mean()]
    for step in (1, 2, 4, 8, 16):
        side = len(crop) // step
        coarse = absorbed[: side * step, : side * step].reshape(side, step, side, step)
        steps = np.diff(coarse.mean(axis=(1, 3)), axis=0)
        values.append(3 * np.log(np.abs(steps).mean() + 1e-4))
    return np.array(values)


def crops(image: TissueImage, count: int, side: int) -> list[Pixels]:
    """Crops from within the tissue, free of empty glass."""
    rng = np.random.default_rng(7)
    found: list[Pixels] = []
    while len(found) < count:
        x, y = rng.integers(1500, 6500, 2).tolist()
        crop = image.pixels(Point(x, y), Size(side, side))
        if (crop == GROUND).all(axis=2).mean() < 0.02:
            found.append(crop)
    return found


@pytest.mark.parametrize("side", [128, 224])
def test_the_class_can_be_told_from_a_crop_of_another_slide(
    images: dict[tuple[str, int], TissueImage], side: int
) -> None:
    known, unknown = (
        {
            tissue: [features(crop) for crop in crops(images[tissue, seed], 8, side)]
            for tissue in TISSUES
        }
        for seed in (0, 1)
    )
    names = [tissue for tissue in TISSUES for _ in known[tissue]]
    points = np.array([point for tissue in TISSUES for point in known[tissue]])
    right = [
        names[int(((points - point) ** 2).sum(axis=1).argmin())] == tissue
        for tissue in TISSUES
        for point in unknown[tissue]
    ]
    assert np.mean(right) > 0.9


@pytest.mark.usefixtures("small_texture")
def test_any_place_of_a_huge_slide_costs_little_memory() -> None:
    size = Size(100_000, 100_000)
    image = tissue_image(size, tissue="tumor", seed=3)
    image.pixels(Point(0, 0), Size(256, 256))
    image.pixels(Point(50_000, 50_000), Size(256, 256))
    tracemalloc.start()
    try:
        tiles = [image.pixels(Point(x, 50_000), Size(256, 256)) for x in range(0, 99_000, 9000)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6
    assert sum(bool(is_tissue(tile).any()) for tile in tiles) > 5
    assert not is_tissue(image.pixels(Point(99_700, 99_700), Size(256, 256))).any()


@pytest.mark.usefixtures("small_texture")
def test_progress_counts_every_tile_and_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        calls.append((done, total))
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tissue_slide(
            tmp_path / "slide.svs",
            Size(512, 512),
            tissue="fat",
            seed=0,
            levels=2,
            progress=interrupt,
        )
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tissue": "bone"}, "tissue must be one of fat, gland, stroma, tumor, not 'bone'"),
        ({"size": Size(0, 100)}, "at least 1 pixel"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"mpp": 2.0}, "mpp must be from 0.2 to 1.0"),
        ({"mpp": float("nan")}, "mpp must be from 0.2 to 1.0"),
        ({"tile": 100}, "multiple of 16"),
        ({"downsample": 3}, "power of two"),
        ({"levels": 0}, "levels must be a whole number of at least 1"),
        ({"levels": 9}, "lower levels"),
        ({"quality": 101}, "quality must be at most 100"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    arguments: dict[str, object] = {"size": Size(512, 512), "tissue": "fat", "seed": 0, **options}
    with pytest.raises(OptionError, match=message):
        write_tissue_slide(tmp_path / "slide.svs", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []

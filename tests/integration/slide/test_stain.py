"""How a slide is stained: against the papers' methods written down once more, in plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pydmed_dali import MacenkoStain, Point, ReinhardStain, Size, measure_stain
from pydmed_dali.errors import OptionError, SlideNotFoundError
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.slide.stain import (
    LAB,
    LMS,
    MACENKO_REFERENCE,
    UNKNOWN,
    Stain,
    find_stain,
    macenko_stain,
    reinhard_stain,
)
from pydmed_dali.slide.stain_sample import sample_tissue
from pydmed_dali.slide.tissue_mask import compute_mask
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.support import write_picture

Floats = NDArray[np.float64]

SLIDES = ("CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs", "packed-biopsies.tif")


def whole_slide(path: Path) -> Pixels:
    """(n, 3): pixels from all over level 0."""
    slide = open_slide(path, Cache(None))
    size = slide.facts.dimensions
    pixels = np.empty((size.height, size.width, 3), np.uint8)
    slide.read_into(pixels, Point(0, 0), 0)
    slide.close()
    return pixels.reshape(-1, 3)[::5]


def sample(path: Path) -> Pixels:
    slide = open_slide(path, Cache(None))
    pixels = sample_tissue(slide, compute_mask(slide))
    slide.close()
    return pixels


def density(pixels: Pixels) -> Floats:
    return np.asarray(-np.log((pixels.astype(float) + 1) / 256))


def reference_macenko(pixels: Pixels) -> tuple[Floats, Floats]:
    """As the authors' program does it; vectors (2, 3), strongest amounts (2,)."""
    found = density(pixels)
    found = found[~np.any(found < 0.15, axis=1)]
    _, vectors = np.linalg.eigh(np.cov(found.T))
    plane = vectors[:, [2, 1]]
    plane *= np.sign(plane.sum(axis=0))
    along = found @ plane
    angles = np.percentile(np.arctan2(along[:, 1], along[:, 0]), [1, 99])
    low, high = (plane @ [np.cos(angle), np.sin(angle)] for angle in angles)
    stains = np.array([low, high] if low[0] > high[0] else [high, low])
    amounts = np.linalg.lstsq(stains.T, found.T, rcond=None)[0]
    return stains, np.percentile(amounts, 99, axis=1)


def mixed(vectors: Floats, count: int = 20_000) -> Pixels:
    """Pixels of two stains in random amounts, some of one alone."""
    amounts = np.random.default_rng(0).uniform(0.3, 1.5, (count, 2))
    amounts[: count // 10, 0] = amounts[-count // 10 :, 1] = 0
    grey = np.clip(np.rint(256 * np.exp(-amounts @ vectors) - 1), 0, 255)
    return np.asarray(grey, np.uint8)


def test_two_stains_that_were_mixed_are_found_again() -> None:
    vectors = np.array(MACENKO_REFERENCE.vectors)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = macenko_stain(mixed(vectors))
    assert found is not None
    np.testing.assert_allclose(found.vectors, vectors, atol=0.02)
    np.testing.assert_allclose(found.strongest, 1.49, rtol=0.05)


@pytest.mark.parametrize("name", SLIDES)
def test_macenko_is_what_the_authors_program_does(real_slides: Path, name: str) -> None:
    pixels = sample(real_slides / name)
    found = macenko_stain(pixels)
    assert found is not None
    vectors, strongest = reference_macenko(pixels)
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-3)
    np.testing.assert_allclose(found.strongest, strongest, rtol=1e-3)


def test_reinhard_is_mean_and_deviation_in_lab(real_slides: Path) -> None:
    pixels = sample(real_slides / SLIDES[0])
    found = reinhard_stain(pixels)
    assert found is not None
    stained = pixels[(density(pixels) >= 0.15).any(axis=1)]
    lab = np.log((stained + 1.0) @ LMS.T) @ LAB.T
    np.testing.assert_allclose(found.mean, lab.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.deviation, lab.std(axis=0), atol=1e-5)


def normal(pixels: Pixels, stain: Stain, target: Stain) -> Floats:
    """The pixels as if they had the target's stain, in floating point."""
    if isinstance(stain, MacenkoStain) and isinstance(target, MacenkoStain):
        matrix = target.densities @ np.linalg.pinv(stain.densities)
        return np.asarray(np.clip(256 * np.exp(-density(pixels) @ matrix.T) - 1, 0, 255))
    assert isinstance(stain, ReinhardStain) and isinstance(target, ReinhardStain)
    lab = np.log((pixels + 1.0) @ LMS.T) @ LAB.T
    lab = (lab - stain.mean) / stain.deviation * np.array(target.deviation) + target.mean
    cones = np.exp(lab @ np.linalg.inv(LAB).T)
    return np.asarray(np.clip(cones @ np.linalg.inv(LMS).T - 1, 0, 255))


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
@pytest.mark.parametrize("name", SLIDES)
def test_a_sample_is_as_good_as_all_pixels_of_the_slide(
    real_slides: Path, name: str, method: str
) -> None:
    """By what a normalised image then looks like: a few grey values of difference, on tissue."""
    path = real_slides / name
    few, all_of_it = sample(path), whole_slide(path)
    target = measure_stain(real_slides / SLIDES[0], method)
    by_sample, by_all = find_stain(method, few), find_stain(method, all_of_it)
    assert by_sample is not None and by_all is not None
    shown = few[::50]
    difference = normal(shown, by_sample, target) - normal(shown, by_all, target)
    assert np.abs(difference).mean() < 5.0


def test_what_has_no_stain_has_none_found() -> None:
    rng = np.random.default_rng(1)
    glass = rng.integers(238, 248, (50_000, 3)).astype(np.uint8)
    nearly_empty = np.concatenate([glass, mixed(np.array(MACENKO_REFERENCE.vectors), 900)])
    one_colour = np.full((50_000, 3), (120, 60, 130), np.uint8)
    one_stain = np.rint(256 * np.exp(-rng.uniform(0.5, 2, (50_000, 1)) * [[0.5, 0.6, 0.4]]) - 1)
    dark = rng.integers(0, 12, (50_000, 3)).astype(np.uint8)
    for pixels in (glass[:0], glass, nearly_empty, one_colour, dark):
        for method in ("macenko", "reinhard"):
            assert find_stain(method, pixels) is None
    assert find_stain("macenko", one_stain.astype(np.uint8)) is None


def test_the_sample_shows_tissue_and_is_the_same_at_every_look(tmp_path: Path) -> None:
    pixels = np.full((1024, 1024, 3), 243, np.uint8)
    pixels[300:700, 200:900] = (150, 60, 140)
    path = write_picture(tmp_path / "slide.tif", pixels)
    found = sample(path)
    np.testing.assert_array_equal(found, sample(path))
    assert 0.8 < (found == (150, 60, 140)).all(axis=1).mean() < 1.0, "edges show some glass"
    empty = write_picture(tmp_path / "glass.tif", np.full((1024, 1024, 3), 243, np.uint8))
    assert len(sample(empty)) == 0
    with pytest.raises(OptionError, match=r"glass\.tif: it has no stain to be a target"):
        measure_stain(empty, "reinhard")


def test_a_stain_is_kept_for_the_next_time(tmp_path: Path) -> None:
    path = write_tissue_slide(tmp_path / "a.svs", Size(1024, 1024), tissue="tumor", seed=1)
    for method in ("macenko", "reinhard"):
        first = measure_stain(path, method, cache_dir=tmp_path / "cache")
        kept = set((tmp_path / "cache").rglob("*"))
        assert measure_stain(path, method, cache_dir=tmp_path / "cache") == first
        assert set((tmp_path / "cache").rglob("*")) == kept
        assert measure_stain(path, method, cache_dir=tmp_path / "another") == first


def test_a_mask_of_ones_own_decides_where_the_stain_is_found(tmp_path: Path) -> None:
    """Two halves of other stains; the mask names one."""
    pixels = np.full((1024, 1024, 3), 243, np.uint8)
    vectors = np.array(MACENKO_REFERENCE.vectors)
    pixels[:, :512] = mixed(vectors, 1024 * 512).reshape(1024, 512, 3)
    pixels[:, 512:] = mixed(vectors * [[0.5], [1.0]], 1024 * 512).reshape(1024, 512, 3)
    path = write_picture(tmp_path / "slide.tif", pixels)
    left = np.zeros((1024, 1024, 3), np.uint8)
    left[:, :512] = 255
    mask = write_picture(tmp_path / "masks" / "slide.tif", left)
    by_mask, by_both = (measure_stain(path, "macenko", mask=which) for which in (mask, None))
    assert isinstance(by_mask, MacenkoStain) and isinstance(by_both, MacenkoStain)
    assert by_mask.strongest[0] == pytest.approx(1.49, rel=0.05)
    assert by_both != by_mask


WRONG: list[tuple[type[MacenkoStain] | type[ReinhardStain], Any, Any]] = [
    (MacenkoStain, ((1.0, 0.0), (0.0, 1.0)), (1.0, 1.0)),
    (MacenkoStain, ((0.5, 0.7, 0.4), (0.5, 0.7, 0.4)), (1.0, 1.0)),
    (MacenkoStain, ((0.5, 0.7, 0.4), (0.2, 0.8, 0.5)), (1.0, 0.0)),
    (MacenkoStain, ((0.5, 0.7, 0.4), (0.2, 0.8, float("nan"))), (1.0, 1.0)),
    (ReinhardStain, (8.0, 0.0), (1.0, 1.0, 1.0)),
    (ReinhardStain, (8.0, 0.0, float("inf")), (1.0, 1.0, 1.0)),
    (ReinhardStain, (8.0, 0.0, 0.0), (1.0, 0.0, 1.0)),
]


@pytest.mark.parametrize(("kind", "one", "other"), WRONG)
def test_numbers_that_are_no_stain_are_refused(kind: Any, one: Any, other: Any) -> None:
    with pytest.raises(OptionError):
        kind(one, other)


def test_a_method_or_a_slide_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="must be one of macenko, reinhard, not 'vahadane'"):
        measure_stain(tmp_path / "a.svs", "vahadane")
    with pytest.raises(SlideNotFoundError):
        measure_stain(tmp_path / "a.svs", "macenko")


def test_numbers_for_pipelines_are_finite_and_of_one_shape() -> None:
    reinhard = ReinhardStain((8.0, -0.1, 0.1), (0.5, 0.1, 0.05))
    for method, stain in (("macenko", MACENKO_REFERENCE), ("reinhard", reinhard)):
        numbers = stain.numbers()
        assert numbers.dtype == np.float32 and np.isfinite(numbers).all()
        assert numbers.shape == UNKNOWN[method].shape

"""Slides of several scanners in one run: crops show the same physical extent of each."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pydmed_dali import BigChunkSource, CropInfo, Dataset
from pydmed_dali.errors import OptionError, SlideError, SlideScaleError, StateError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.scale import Scale, objective_power
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels, write_coordinate_slide
from pydmed_dali.synthetic.pyramid_writer import TileCoding, write_pyramid
from tests.integration.slide.tiled_files import Coding, write_tiled
from tests.support import read_directly, take

CROP = 64
EXTENT = 300.0
"""Micrometres along a side of the slides that `write_ramp` makes."""
GREY = 0.75
"""Grey values a micrometre of their ramps."""
PLACE_TOLERANCE = 0.1
"""Micrometres, an eighth of a pixel, by which a resampled crop may lie off the place that `info`
names, beside the half level-0 pixel that this place is rounded by."""
GREY_TOLERANCE = 1.0
"""Grey values by which a resampled pixel may differ: both slide and crop are rounded."""


def crops_of(
    folder: Path, batches: int = 8, **options: float | int | str
) -> list[tuple[CropInfo, NDArray[np.uint8]]]:
    """Crops with their descriptions."""
    with BigChunkSource(
        Dataset.from_folder(folder), chunk_size=256, crop_size=CROP, batch_size=16, resident=3,
        crops_per_chunk=8, num_workers=0, **options,  # type: ignore[arg-type]
    ) as source:  # fmt: skip
        found = []
        for batch in take(source, batches):
            images = batch["image"].numpy()
            found += list(zip(source.describe(batch["info"]), images, strict=True))
        return found


def write_ramp(path: Path, mpp: float, downsample: int = 4) -> Path:
    """A slide whose red and green say where a pixel lies in micrometres, whatever its mpp."""
    side = int(EXTENT / mpp)
    sizes = tuple(Size(-(-side // downsample**n), -(-side // downsample**n)) for n in range(2))

    def ramps(location: Point, size: Size, level: int) -> NDArray[np.uint8]:
        step = mpp * downsample**level
        pixels = np.zeros((size.height, size.width, 3), np.uint8)
        pixels[..., 0] = np.rint((location.x + np.arange(size.width) + 0.5) * step * GREY)
        y = np.rint((location.y + np.arange(size.height) + 0.5) * step * GREY)
        pixels[..., 1] = y[:, None]
        return pixels

    coding = TileCoding(lambda pixels: pixels.tobytes(), compression="none")
    return write_pyramid(path, sizes, ramps, tile=256, coding=coding, mpp=mpp)


@pytest.fixture
def two_scanners(tmp_path: Path) -> Path:
    """Position-coded slides of 0.25 and 0.5 micrometres per pixel, three levels each."""
    write_coordinate_slide(tmp_path / "forty.tif", Size(1024, 1024), mpp=0.25)
    write_coordinate_slide(tmp_path / "twenty.tif", Size(1024, 1024), mpp=0.5)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({"mpp": 0.5}, {"forty.tif": 1, "twenty.tif": 0}),
        ({"mpp": 1.0}, {"forty.tif": 2, "twenty.tif": 1}),
        ({"magnification": 20}, {"forty.tif": 1, "twenty.tif": 0}),
        ({"magnification": 10}, {"forty.tif": 2, "twenty.tif": 1}),
    ],
)
def test_levels_that_serve_as_they_are_give_equal_extents_exactly(
    two_scanners: Path, options: dict[str, Any], levels: dict[str, int]
) -> None:
    wanted = options.get("mpp") or 10 / options["magnification"]
    seen = set()
    for crop, image in crops_of(two_scanners, **options):
        name = crop.record.path.name
        seen.add(name)
        own = 0.25 if name == "forty.tif" else 0.5
        step = 2 ** levels[name]
        assert crop.level == levels[name] and crop.mpp == pytest.approx(wanted, rel=1e-6)
        assert crop.level0_size.width * own == pytest.approx(CROP * wanted)
        place = Point(crop.location.x // step, crop.location.y // step)
        expected = coordinate_pixels(place, Size(CROP, CROP), crop.level)
        np.testing.assert_array_equal(image, expected)
    assert seen == set(levels)


@pytest.mark.parametrize("own", [0.23, 0.25, 0.4, 0.5])
def test_a_resampled_crop_shows_the_places_that_info_names(tmp_path: Path, own: float) -> None:
    """Whatever the scanner, by the grey values along a row and a column."""
    write_ramp(tmp_path / "slide.tif", own)
    for crop, image in crops_of(tmp_path, 2, mpp=0.8):
        assert crop.mpp == 0.8
        assert crop.level0_size.width == round(CROP * 0.8 / own)
        for axis, start in enumerate((crop.location.x, crop.location.y)):
            um = start * own + (np.arange(CROP) + 0.5) * 0.8
            along = image[CROP // 2, :, 0] if axis == 0 else image[:, CROP // 2, 1]
            error = (along - um * GREY)[um < EXTENT - 4]  # the slide's edge is beyond
            assert np.abs(error).max() <= GREY_TOLERANCE
            # Whole grey values: steps of few phases do not round to their own mean.
            assert abs(error.mean()) <= (own / 2 + PLACE_TOLERANCE) * GREY + 0.25


def test_real_slides_of_different_scanners_give_equal_extents(real_slides: Path) -> None:
    """0.499 as it is, 0.228 resampled; 0.987 is too coarse and is skipped; one tells nothing."""
    found = crops_of(real_slides, 30, mpp=0.5)
    extents: dict[str, set[float]] = {}
    own = {"CMU": 0.499, "flu": 0.2281750559}
    for crop, image in found:
        name = crop.record.path.name
        assert name[:3] in own
        extents.setdefault(name[:3], set()).add(crop.level0_size.width * own[name[:3]])
        if name[:3] == "CMU":
            assert crop.level == 0 and crop.mpp == 0.499
            np.testing.assert_array_equal(image, read_directly(crop))
        else:
            assert crop.level == 1 and crop.mpp == 0.5
    assert sorted(extents) == ["CMU", "flu"]
    assert list(extents["CMU"]) == pytest.approx([CROP * 0.499])
    assert list(extents["flu"]) == pytest.approx([CROP * 0.5], abs=0.2)  # whole level-0 pixels


def test_slides_that_cannot_serve_are_skipped_with_the_reason(real_slides: Path) -> None:
    with BigChunkSource(
        Dataset.from_folder(real_slides), chunk_size=256, crop_size=CROP, batch_size=16, mpp=0.5,
        resident=3, crops_per_chunk=8, num_workers=0,
    ) as source:  # fmt: skip
        take(source, 30)
        skipped = {path.name: why for path, why in source.report().slides_skipped.items()}
    assert "ask for mpp >= 0.9872" in skipped["packed-biopsies.tif"]
    assert "give default_mpp" in skipped["tcga-cr-7395-01a-01-ts1.svs"]


def test_the_default_serves_slides_that_do_not_tell_and_no_other(
    real_slides: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pydmed_dali"):
        found = crops_of(real_slides, 40, mpp=0.5, default_mpp=0.25)
    by_name = {crop.record.path.name: crop for crop, _ in found}
    silent = by_name["tcga-cr-7395-01a-01-ts1.svs"]
    assert (silent.level, silent.level0_size.width) == (1, 128)
    assert silent.mpp == pytest.approx(0.5, 1e-3)
    assert by_name["CMU-1-Small-Region.svs"].mpp == 0.499
    told = [r.getMessage() for r in caplog.records if "default_mpp=0.25" in r.getMessage()]
    assert len(told) == 1 and "tcga-cr-7395-01a-01-ts1.svs" in told[0]


def test_magnification_goes_by_the_objective_power_that_a_file_tells(tmp_path: Path) -> None:
    """The files say 20x and 0.5 micrometres; 40x with the same mpp shows which of them counts."""
    path = write_tiled(tmp_path / "slide.svs", Size(1024, 1024), Coding("jpeg"))
    slide = OpenSlideSlide(path)
    facts = slide.facts
    slide.close()
    assert (facts.objective_power, objective_power(facts)) == (20.0, 20.0)
    assert [Scale(magnification=m).view(facts, path).level for m in (20, 10, 5)] == [0, 1, 2]
    finer = replace(facts, objective_power=40.0)
    assert [Scale(magnification=m).view(finer, path).level for m in (40, 20, 10)] == [0, 1, 2]
    assert Scale(magnification=20).view(finer, path).mpp == (1.0, 1.0)
    between = Scale(magnification=8).view(facts, path)
    assert (between.level, between.scale) == (1, (1.25, 1.25))
    assert between.mpp == pytest.approx((1.25, 1.25))
    with pytest.raises(SlideScaleError, match=r"magnification=40 .* has 20x; .* <= 20"):
        Scale(magnification=40).view(facts, path)


def test_without_an_objective_power_magnification_goes_by_mpp(two_scanners: Path) -> None:
    slide = OpenSlideSlide(two_scanners / "forty.tif")
    facts = slide.facts
    slide.close()
    assert facts.objective_power is None
    assert objective_power(facts) == pytest.approx(40)
    view = Scale(magnification=16).view(facts, slide.path)
    assert view.level == 1
    assert view.mpp == pytest.approx((0.625, 0.625))


def test_without_either_magnification_needs_a_default(tmp_path: Path) -> None:
    write_coordinate_slide(tmp_path / "bare.tif", Size(512, 512))
    with pytest.raises(SlideError, match=r"neither its objective power nor .* give default_mpp"):
        crops_of(tmp_path, 1, magnification=20)
    crop, _ = crops_of(tmp_path, 1, magnification=20, default_mpp=0.25)[0]
    assert (crop.level, crop.mpp) == (1, 0.5)


def test_a_default_tells_the_extent_of_crops_of_a_level(tmp_path: Path) -> None:
    write_coordinate_slide(tmp_path / "bare.tif", Size(512, 512))
    assert crops_of(tmp_path, 1, level=1)[0][0].mpp is None
    assert crops_of(tmp_path, 1, level=1, default_mpp=0.25)[0][0].mpp == 0.5


@pytest.mark.parametrize("changed", [{"default_mpp": 0.5}, {"mpp": 0.5, "default_mpp": 0.25}])
def test_a_state_is_refused_with_another_scale(
    two_scanners: Path, changed: dict[str, float]
) -> None:
    dataset = Dataset.from_folder(two_scanners)
    common = {"chunk_size": 256, "crop_size": CROP, "resident": 2, "num_workers": 0}
    with BigChunkSource(dataset, magnification=20, default_mpp=0.25, **common) as source:  # type: ignore[arg-type]
        state = source.state_dict()
    asked = {"magnification": 20, **changed} if "mpp" not in changed else changed
    with (
        BigChunkSource(dataset, **asked, **common) as source,  # type: ignore[arg-type]
        pytest.raises(StateError, match=r"default_mpp: saved 0.25|magnification: saved 20"),
    ):
        source.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mpp": 0.5, "magnification": 20}, "mpp=0.5 and magnification=20 were both given"),
        ({"level": 0, "magnification": 20}, "level=0 and magnification=20 were both given"),
        ({"magnification": 0}, "magnification must be a positive number"),
        ({"mpp": 0.5, "default_mpp": -1}, "default_mpp must be positive micrometres"),
    ],
)
def test_scales_that_cannot_be_are_refused(
    coordinates: Dataset, options: dict[str, float], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        BigChunkSource(coordinates, **options)  # type: ignore[arg-type]

"""How well masks agree with what was outlined by hand on real slides, and with drawn hard cases.

The outlines, in level-0 pixels, were drawn by eye on thumbnails of 8 micrometres a pixel (of the
DICOM slide, of level 0). `tissue` is what must be found and `ground` holes in it; `sparse` is fat
of which only membranes are stained; `either` frays and crumbs, which count neither way.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pydmed_dali.geometry import Size
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.slide.tissue_mask import TissueMask, compute_mask, mask_size, overview
from pydmed_dali.slide.tissue_threshold import tissue_pixels
from tests.unit.slide import hard_overviews as hard

OUTLINES = Path(__file__).parent / "outlines"
GROUND, TISSUE, SPARSE, EITHER = range(4)
NUMBERS = {"either": EITHER, "sparse": SPARSE, "tissue": TISSUE, "ground": GROUND}
FOLDERS = {"a.dcm": "more-slides/dicom/jpeg"}
SIZES = {"a.dcm": Size(2048, 1245)}
"""Of masks of slides whose resolution is doubted: as of the 29 micrometres that the file tells."""


def _outlined(name: str, mask: TissueMask, dimensions: Size) -> NDArray[np.uint8]:
    """(rows, columns) of a mask's pixels: what the outlines say of each."""
    features = json.loads((OUTLINES / f"{name}.geojson").read_text())["features"]
    rows, columns = mask.pixels.shape
    picture = Image.new("L", (columns, rows), GROUND)
    scale = np.array([columns / dimensions.width, rows / dimensions.height])
    order = list(NUMBERS) if name == "a.dcm" else ["sparse", "tissue", "ground", "either"]
    for kind in order:
        for feature in features:
            if feature["properties"]["classification"]["name"] == kind:
                ring = np.array(feature["geometry"]["coordinates"][0]) * scale - 0.5
                ImageDraw.Draw(picture).polygon([*map(tuple, ring.tolist())], NUMBERS[kind])
    return np.asarray(picture)


def _precision_recall(found: NDArray[np.bool_], truth: NDArray[np.uint8]) -> tuple[float, float]:
    right = int((found & (truth == TISSUE)).sum())
    wrong = int((found & (truth == GROUND)).sum())
    return right / max(right + wrong, 1), right / int((truth == TISSUE).sum())


@pytest.mark.parametrize(
    ("name", "precision", "recall", "sparse"),
    [
        ("CMU-1-Small-Region.svs", 0.95, 0.97, None),
        ("packed-biopsies.tif", 0.97, 0.95, None),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.97, 0.99, None),
        ("fluorescence-dapi.ndpi", 0.97, 0.96, None),
        ("a.dcm", 0.97, 0.99, 0.45),
    ],
)
def test_masks_of_real_slides_agree_with_outlines_drawn_by_hand(
    real_slides: Path, name: str, precision: float, recall: float, sparse: float | None
) -> None:
    folder = real_slides.parent / FOLDERS[name] if name in FOLDERS else real_slides
    if not (folder / name).is_file():
        pytest.skip(f"no {folder / name}")
    slide = OpenSlideSlide(folder / name)
    try:
        mask, dimensions = compute_mask(slide, SIZES.get(name)), slide.facts.dimensions
    finally:
        slide.close()
    truth = _outlined(name, mask, dimensions)
    got = _precision_recall(mask.pixels, truth)
    assert got[0] > precision and got[1] > recall, got
    if sparse is not None:
        assert mask.pixels[truth == SPARSE].mean() > sparse


@pytest.mark.parametrize(("gain", "ground"), [(1, 0), (3, 0), (0.7, 50)])
def test_what_a_grey_camera_shows_of_a_real_slide_is_found(
    real_slides: Path, gain: float, ground: float
) -> None:
    slide = OpenSlideSlide(real_slides / "fluorescence-dapi.ndpi")
    try:
        mask, dimensions = compute_mask(slide), slide.facts.dimensions
        coloured = overview(slide, mask_size(slide.facts))
    finally:
        slide.close()
    grey = np.clip(coloured.max(axis=2, keepdims=True) * gain + ground, 0, 255).astype(np.uint8)
    found = tissue_pixels(np.ascontiguousarray(grey.repeat(3, axis=2)))
    precision, recall = _precision_recall(
        found, _outlined("fluorescence-dapi.ndpi", mask, dimensions)
    )
    assert precision > 0.96 and recall > 0.9


DRAWN = {
    "pale, 30% of the stain": (hard.pale(0.3), 0.98),
    "pale, 12%": (hard.pale(0.12), 0.97),
    "pale, 8%": (hard.pale(0.08), 0.94),
    "sparse, 60% of the pixels": (hard.sparse(0.6), 0.96),
    "sparse, 40%": (hard.sparse(0.4), 0.92),
    "sparse, 30%": (hard.sparse(0.3), 0.87),
    "fat": (hard.section("fat"), 0.97),
    "gland": (hard.section("gland"), 0.98),
    "blue fluorescence": (hard.fluorescence(2, 200, (0, 0, 1)), 0.94),
    "grey fluorescence": (hard.fluorescence(2, 200, (1, 1, 1)), 0.94),
    "dim grey fluorescence": (hard.fluorescence(2, 40, (1, 1, 1)), 0.96),
    "bright grey fluorescence": (hard.fluorescence(2, 400, (1, 1, 1)), 0.94),
    "grey fluorescence on grey": (hard.fluorescence(60, 120, (1, 1, 1)), 0.96),
    "bright grey fluorescence on grey": (hard.fluorescence(60, 300, (1, 1, 1)), 0.94),
    "grey fluorescence on light grey": (hard.fluorescence(100, 150, (1, 1, 1)), 0.96),
    "green fluorescence on dark green": (hard.fluorescence(30, 100, (0, 1, 0)), 0.95),
}


@pytest.mark.parametrize("name", DRAWN)
def test_pale_sparse_and_grey_tissue_is_found(name: str) -> None:
    """By intersection over union."""
    (overview, truth), least = DRAWN[name]
    found = tissue_pixels(overview)
    assert (found & truth).sum() / (found | truth).sum() > least


@pytest.mark.parametrize("ink", hard.INKS)
def test_ink_of_every_colour_is_no_tissue(ink: str) -> None:
    assert not tissue_pixels(hard.stroke(hard.glass(), hard.INKS[ink])[0]).any()
    section, truth = hard.section()
    inked, stroke = hard.stroke(section, hard.INKS[ink])
    found = tissue_pixels(inked)
    assert found[truth & ~stroke].mean() > 0.97
    assert found[~truth & ~stroke].mean() < 0.02
    # what lies on tissue may keep its colour; its part on glass is gone
    assert found[stroke & ~truth].mean() < 0.03


@pytest.mark.parametrize(
    "colour", [hard.GLASS, (240, 225, 232), (240, 236, 215), (215, 225, 240), (170, 168, 172)]
)
def test_glass_of_any_tint_has_no_tissue(colour: tuple[int, int, int]) -> None:
    assert not tissue_pixels(hard.glass(colour=colour)).any()


def test_tissue_on_tinted_glass_is_found() -> None:
    section, truth = hard.section()
    tinted = section * (np.array((240, 228, 215)) / section[0, 0])
    found = tissue_pixels(hard.noisy(tinted))
    assert (found & truth).sum() / (found | truth).sum() > 0.97


def test_dust_shadows_and_fibres_are_no_tissue() -> None:
    assert not tissue_pixels(hard.dust()).any()


def test_a_dark_frame_around_glass_makes_no_dark_ground() -> None:
    """More than half is black, and the glass is grey."""
    framed: Pixels = np.pad(hard.glass(120, 120, (200, 200, 200)), ((80, 80), (80, 80), (0, 0)))
    assert not tissue_pixels(framed).any()


def test_threads_of_opencv_are_as_they_were() -> None:
    import cv2

    threads = cv2.getNumThreads()
    tissue_pixels(hard.glass(40, 40))
    assert cv2.getNumThreads() == threads

"""Annotations and masks lie where they were drawn, on slides of which a rectangle was scanned."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from PIL import Image

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    InfoColumn,
    Point,
    Size,
    SmallChunkIterator,
    TileSource,
)
from pydmed_dali.errors import OptionError, SlideReadError, StateError
from pydmed_dali.pipelines.basic import basic
from tests.drawings import OUTPUTS, masked
from tests.scanned_slides import write_scn
from tests.support import NAMES, folder_dataset

ORIGIN, SIZE, FRAME = Point(700, 1000), Size(800, 600), Size(2000, 2400)
STAIN = (150, 40, 120)
SQUARE = (200, 100, 500, 400)
"""Left, top, right and bottom of what is stained, in pixels of what was scanned."""
RUN: dict[str, Any] = {
    "chunk_size": 512,
    "crop_size": 64,
    "batch_size": 16,
    "resident": 4,
    "crops_per_chunk": 16,
    "num_workers": 0,
}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    pixels = np.full((SIZE.height, SIZE.width, 3), 240, np.uint8)
    left, top, right, bottom = SQUARE
    pixels[top:bottom, left:right] = STAIN
    write_scn(tmp_path / "slides" / "a.scn", pixels, ORIGIN, FRAME)
    return folder_dataset(tmp_path / "slides")


def _ring(frame: str) -> list[tuple[int, int]]:
    left, top, right, bottom = SQUARE
    x, y = (ORIGIN.x, ORIGIN.y) if frame == "slide" else (0, 0)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return [(a + x, b + y) for a, b in corners]


def _write(folder: Path, program: str, frame: str) -> Path:
    """The square, as a program's file in a folder, in one of the frames."""
    folder.mkdir()
    ring = _ring(frame)
    if program == "qupath":
        feature = {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "properties": {"classification": {"name": "Tumor"}},
        }
        (folder / "a.geojson").write_text(json.dumps(feature))
    elif program == "asap":
        corners = "".join(
            f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(ring)
        )
        (folder / "a.xml").write_text(
            '<ASAP_Annotations><Annotations><Annotation Name="a" Type="Polygon" '
            f'PartOfGroup="Tumor"><Coordinates>{corners}</Coordinates></Annotation></Annotations>'
            "</ASAP_Annotations>"
        )
    else:
        corners = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring)
        (folder / "a.xml").write_text(
            '<Annotations><Annotation Name="Tumor"><Regions><Region Type="0" NegativeROA="0">'
            f"<Vertices>{corners}</Vertices></Region></Regions></Annotation></Annotations>"
        )
    return folder


@pytest.mark.parametrize(
    ("program", "drawn", "frame"),
    [
        ("qupath", "bounds", "auto"),
        ("asap", "slide", "auto"),
        ("imagescope", "bounds", "auto"),
        ("qupath", "slide", "slide"),
        ("asap", "bounds", "bounds"),
    ],
)
@pytest.mark.parametrize("scale", [{"level": 0}, {"level": 1, "crop_size": 16}], ids=str)
def test_the_mask_of_a_crop_is_what_is_stained(
    dataset: Dataset, tmp_path: Path, program: str, drawn: str, frame: str, scale: dict[str, Any]
) -> None:
    folder = _write(tmp_path / "drawn", program, drawn)
    classes = {"Tumor": 0.5}
    with BigChunkSource(
        dataset, **{**RUN, **scale}, annotations=folder, classes=classes, frame=frame
    ) as source:
        loader = SmallChunkIterator(masked(source), OUTPUTS)
        seen = 0
        for _, batch in zip(range(4), loader, strict=False):
            stained = (batch["image"].numpy() == STAIN).all(axis=-1)
            np.testing.assert_array_equal(batch["mask"].numpy().squeeze(-1) == 1, stained)
            seen += int(stained.any())
    assert seen


def test_what_was_chosen_is_said_once(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _write(tmp_path / "drawn", "qupath", "bounds")
    for frame, times in (("auto", 1), ("bounds", 0)):
        caplog.clear()
        with (
            caplog.at_level(logging.WARNING),
            BigChunkSource(dataset, **RUN, annotations=folder, frame=frame) as source,
        ):
            for _ in zip(range(4), SmallChunkIterator(basic(source), NAMES), strict=False):
                pass
        said = [
            r.getMessage() for r in caplog.records if "from the corner of what" in r.getMessage()
        ]
        assert len(said) == times, said


def test_annotations_of_the_other_corner_are_doubted(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _write(tmp_path / "drawn", "qupath", "slide")  # as no QuPath writes it
    with (
        caplog.at_level(logging.WARNING),
        BigChunkSource(dataset, **RUN, annotations=folder) as source,
        pytest.raises(SlideReadError, match="count from the corner of what was scanned; frame="),
    ):
        next(iter(SmallChunkIterator(basic(source), NAMES)))


def _mask(tmp_path: Path, size: Size, square: tuple[int, ...]) -> Path:
    pixels = np.zeros((size.height, size.width), np.uint8)
    left, top, right, bottom = square
    pixels[top:bottom, left:right] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "masks" / "a.png")
    return tmp_path / "masks"


def _stained_tiles(dataset: Dataset) -> set[tuple[int, int]]:
    """By OpenSlide: tiles of 50x50 of which half is stained."""
    found = set()
    with openslide.OpenSlide(dataset.slides[0].path) as slide:
        whole = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    for y in range(0, FRAME.height, 50):
        for x in range(0, FRAME.width, 50):
            if (whole[y : y + 50, x : x + 50] == STAIN).all(axis=-1).mean() >= 0.5:
                found.add((x, y))
    return found


def _tiles(dataset: Dataset, masks: Path, **options: Any) -> set[tuple[int, int]]:
    with TileSource(
        dataset, tile_size=50, masks=masks, min_tissue=0.5, num_workers=0, **options
    ) as source:
        rows = [b["info"].numpy() for b in SmallChunkIterator(basic(source), NAMES)]
    return {(int(x), int(y)) for x, y in np.concatenate(rows)[:, [InfoColumn.X, InfoColumn.Y]]}


QUARTER = tuple(side // 4 for side in SQUARE)
SHIFTED = tuple(
    (side + shift) // 4 for side, shift in zip(SQUARE, (700, 1000, 700, 1000), strict=True)
)


@pytest.mark.parametrize("frame", ["auto", "bounds"])
def test_a_mask_of_what_was_scanned(dataset: Dataset, tmp_path: Path, frame: str) -> None:
    masks = _mask(tmp_path, Size(200, 150), QUARTER)
    assert _tiles(dataset, masks, frame=frame) == _stained_tiles(dataset) != set()


@pytest.mark.parametrize("frame", ["auto", "slide"])
def test_a_mask_of_the_whole_slide(dataset: Dataset, tmp_path: Path, frame: str) -> None:
    masks = _mask(tmp_path, Size(500, 600), SHIFTED)
    assert _tiles(dataset, masks, frame=frame) == _stained_tiles(dataset)


@pytest.mark.parametrize(
    ("frame", "words"), [("auto", "2000x2400 and .*800x600"), ("slide", "2000x2400")]
)
def test_a_mask_that_fits_neither(dataset: Dataset, tmp_path: Path, frame: str, words: str) -> None:
    masks = _mask(tmp_path, Size(300, 100), QUARTER)
    with pytest.raises(Exception, match=f"300x100 pixels.*{words}"):
        _tiles(dataset, masks, frame=frame)


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_mask_that_fits_both_is_told_by_where_nothing_was_scanned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_whole: bool
) -> None:
    pixels = np.full((600, 500, 3), 240, np.uint8)
    pixels[100:300, 200:400] = STAIN
    write_scn(tmp_path / "slides" / "a.scn", pixels, Point(700, 1000), FRAME)
    dataset = folder_dataset(tmp_path / "slides")
    square = (900, 1100, 1100, 1300) if is_whole else (800, 400, 1600, 1200)
    masks = _mask(tmp_path, Size(500, 600), tuple(side // 4 for side in square))
    with caplog.at_level(logging.WARNING):
        assert _tiles(dataset, masks) == _stained_tiles(dataset)
    (said,) = [r.getMessage() for r in caplog.records if "fit both" in r.getMessage()]
    assert ("cover the whole slide:" in said) == is_whole


def test_a_word_that_is_no_frame(dataset: Dataset) -> None:
    with pytest.raises(OptionError, match="frame must be one of auto, slide, bounds"):
        BigChunkSource(dataset, **RUN, frame="scan")


def test_a_state_of_another_frame_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    folder = _write(tmp_path / "drawn", "qupath", "bounds")
    masks = _mask(tmp_path, Size(200, 150), QUARTER)
    for options in ({"annotations": folder}, {"masks": masks, "min_tissue": 0.5}):
        with BigChunkSource(dataset, **RUN, **options) as source:
            state = source.state_dict()
        with (
            BigChunkSource(dataset, **RUN, **options, frame="bounds") as source,
            pytest.raises(StateError, match="frame bounds"),
        ):
            source.load_state_dict(state)

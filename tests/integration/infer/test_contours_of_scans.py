"""Outlines of what a model found open in QuPath where they belong, on slides with a frame."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch

from pydmed_dali import Point, Size, read_annotations
from pydmed_dali.errors import OptionError
from pydmed_dali.infer import contours, segment
from tests.scanned_slides import write_scn
from tests.support import folder_dataset

ORIGIN = Point(256, 512)


def _stained(tiles: torch.Tensor) -> torch.Tensor:
    """(N, 2, height, width): 1 where the green is low."""
    green = tiles[..., 1].float()
    return torch.stack([green, 200 - green], dim=1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.full((400, 500, 3), 240, np.uint8)
    pixels[100:228, 40:200] = (150, 40, 120)
    write_scn(tmp_path / "slides" / "a.scn", pixels, ORIGIN, Size(1200, 1100))
    dataset = folder_dataset(tmp_path / "slides")
    done = segment(dataset, _stained, tmp_path / "out", model_name="s", tile_size=64, num_workers=0)
    return done.written[0]


@pytest.mark.parametrize(
    ("frame", "x", "y"), [("auto", 0, 0), ("bounds", 0, 0), ("slide", 256, 512)]
)
def test_outlines_count_from_the_corner_that_is_asked_for(
    picture: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, frame: str, x: int, y: int
) -> None:
    with caplog.at_level(logging.WARNING):
        contours(picture, {1: "stained"}, tmp_path / "c.geojson", frame=frame)
    (feature,) = json.loads((tmp_path / "c.geojson").read_text())["features"]
    expected = shapely.box(40 + x, 100 + y, 200 + x, 228 + y)
    assert shapely.geometry.shape(feature["geometry"]).equals(expected)
    assert ("corner of what was scanned" in caplog.text) == (frame == "auto")


def test_what_is_written_is_read_as_it_is_meant(picture: Path, tmp_path: Path) -> None:
    contours(picture, {1: "stained"}, tmp_path / "c.geojson")
    assert read_annotations(tmp_path / "c.geojson").frame == "bounds"


def test_a_word_that_is_no_frame(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="frame must be one of"):
        contours(picture, {1: "stained"}, tmp_path / "c.geojson", frame="qupath")

"""Which slides the fast reader takes: what it cannot prove to be equal is left to OpenSlide."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
import simplejpeg
import tifffile
from numpy.typing import NDArray

from pydmed_dali import Point, Size
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.integration.slide.tiled_files import (
    NO_CACHE,
    SIZE,
    TAKEN,
    Coding,
    assert_equal_region,
    tile_place,
    whole_level,
    write_tiled,
)


def test_facts_are_those_of_openslide_but_for_the_reader(real_slides: Path) -> None:
    for name in TAKEN:
        fast, reference = (
            open_slide(real_slides / name, NO_CACHE),
            OpenSlideSlide(real_slides / name),
        )
        assert "imagecodecs" in fast.facts.reader
        assert not fast.facts.shifted_levels
        same = {
            field: getattr(reference.facts, field)
            for field in ("reader", "reader_reason", "shifted_levels")
        }
        assert replace(fast.facts, **same) == reference.facts
        fast.close()
        reference.close()


def test_what_is_no_tiled_jpeg_is_left_to_openslide(real_slides: Path, tmp_path: Path) -> None:
    write_coordinate_slide(tmp_path / "deflated.tif", Size(600, 500), levels=2)
    for path, words in (
        (real_slides / "fluorescence-dapi.ndpi", "the format is hamamatsu"),
        (tmp_path / "deflated.tif", "coded as ADOBE_DEFLATE in RGB"),
    ):
        slide = open_slide(path, NO_CACHE)
        assert slide.facts.reader.startswith("openslide")
        assert words in slide.facts.reader_reason
        slide.close()


def test_a_slide_that_decodes_otherwise_is_left_to_openslide(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a codec that differs by one grey level somewhere would: it is found at the opening."""
    path = write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg", "ycbcr", "420"))
    decode = simplejpeg.decode_jpeg

    def off_by_one(data: bytes, space: str, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        decode(data, space, buffer=buffer)
        buffer[100, 100, 1] ^= 1
        return buffer

    monkeypatch.setattr(simplejpeg, "decode_jpeg", off_by_one)
    with caplog.at_level(logging.WARNING):
        slide = open_slide(path, NO_CACHE)
    assert slide.facts.reader.startswith("openslide")
    assert "decodes otherwise" in slide.facts.reader_reason
    (record,) = caplog.records
    assert str(path) in record.message
    assert_equal_region(slide, whole_level(path, 0), 0, Point(10, 20), Size(400, 300))
    slide.close()


def test_a_damaged_tile_that_is_tried_at_the_opening_spoils_no_other(tmp_path: Path) -> None:
    """OpenSlide refuses every read after one that failed, unless the slide is opened anew."""
    path = write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg"))
    reference = whole_level(path, 0)
    offset, count = tile_place(path, -1)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    slide = open_slide(path, NO_CACHE)
    assert "a tile that was tried cannot be read" in slide.facts.reader_reason
    assert_equal_region(slide, reference, 0, Point(0, 0), Size(700, 500))
    slide.close()


def test_a_tile_that_claims_more_bytes_than_any_has_is_left_to_openslide(tmp_path: Path) -> None:
    path = write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg"))
    os.truncate(path, 2**24)
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages.first
        assert isinstance(page, tifffile.TiffPage)
        page.tags["TileByteCounts"].overwrite([*page.databytecounts[:-1], 2**20])
    slide = open_slide(path, NO_CACHE)
    assert "a tile of level 1100x800 claims 1,048,576 bytes" in slide.facts.reader_reason
    slide.close()


def test_a_file_that_lacks_tiles_is_left_to_openslide(tmp_path: Path) -> None:
    path = write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg"))
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages.first
        assert isinstance(page, tifffile.TiffPage)
        page.tags["TileOffsets"].overwrite([*page.dataoffsets[:-1], path.stat().st_size - 10])
    slide = open_slide(path, NO_CACHE)
    assert "beyond the end of the file" in slide.facts.reader_reason
    slide.close()


def test_what_was_proven_once_is_known_without_openslide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg"))
    cache = Cache(tmp_path / "cache")
    first = open_slide(path, cache)
    with monkeypatch.context() as patch:
        patch.setattr(openslide, "OpenSlide", None)  # would raise if it were used
        again = open_slide(path, cache)
    assert again.facts == first.facts
    reference = whole_level(path, 1)
    assert_equal_region(again, reference, 1, Point(30, 40), Size(300, 200))
    first.close()
    again.close()


def test_another_file_of_the_same_size_and_time_is_looked_at_anew(tmp_path: Path) -> None:
    """As a copy that kept its time may be: what is known of the other is not believed."""
    path = write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg"))
    other = write_tiled(tmp_path / "o.svs", Size(800, 1100), Coding("jpeg"))
    status = path.stat()
    with other.open("r+b") as file:
        file.truncate(max(status.st_size, other.stat().st_size))
    with path.open("r+b") as file:
        file.truncate(other.stat().st_size)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    cache = Cache(tmp_path / "cache")
    open_slide(path, cache).close()
    os.replace(other, path)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    slide = open_slide(path, cache)
    assert slide.facts.dimensions == Size(800, 1100)
    assert_equal_region(slide, whole_level(path, 0), 0, Point(0, 0), Size(800, 1100))
    slide.close()

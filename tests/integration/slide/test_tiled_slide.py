"""What the fast reader reads equals OpenSlide's pixels to the last bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pydmed_dali import Point, Size, Slide
from pydmed_dali.errors import SlideReadError
from pydmed_dali.geometry import Region
from pydmed_dali.slide import tiled_slide
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.tiled_slide import TiledSlide
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels
from tests.integration.slide.tiled_files import (
    CODINGS,
    NO_CACHE,
    SIZE,
    TAKEN,
    Coding,
    assert_equal_region,
    tile_place,
    whole_level,
    write_lossless_coordinates,
    write_tiled,
)


@pytest.fixture(scope="module", params=CODINGS, ids=str)
def coded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    coding: Coding = request.param
    name = "slide.svs" if coding.aperio else "slide.tif"
    return write_tiled(tmp_path_factory.mktemp("coded") / name, SIZE, coding)


@pytest.fixture(scope="module")
def opened(coded: Path) -> Iterator[tuple[Slide, list[NDArray[np.uint8]]]]:
    slide = open_slide(coded, NO_CACHE)
    yield slide, [whole_level(coded, level) for level in range(3)]
    slide.close()


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    level=st.integers(0, 2),
    x=st.integers(-300, 1400),
    y=st.integers(-300, 1200),
    width=st.integers(1, 700),
    height=st.integers(1, 700),
)
def test_any_region_of_any_coding_equals_openslide(
    opened: tuple[Slide, list[NDArray[np.uint8]]],
    level: int,
    x: int,
    y: int,
    width: int,
    height: int,
) -> None:
    slide, levels = opened
    assert isinstance(slide, TiledSlide), slide.facts.reader_reason
    place = Point(x >> level, y >> level)
    assert_equal_region(slide, levels[level], level, place, Size(width, height))


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    level=st.integers(0, 2),
    corners=st.lists(
        st.tuples(st.integers(-300, 1400), st.integers(-300, 1200)), min_size=1, max_size=6
    ),
    gap=st.sampled_from([0, 1 << 12, 1 << 16]),
    piece=st.sampled_from([1 << 10, 1 << 20]),
)
def test_what_is_announced_is_all_that_is_read_in_as_few_pieces_as_gaps_allow(
    opened: tuple[Slide, list[NDArray[np.uint8]]],
    monkeypatch: pytest.MonkeyPatch,
    level: int,
    corners: list[tuple[int, int]],
    gap: int,
    piece: int,
) -> None:
    slide, _ = opened
    assert isinstance(slide, TiledSlide)
    told, read = [], []

    def advise(descriptor: int, start: int, length: int, advice: int) -> None:
        told.append((start, start + length))
        posix_fadvise(descriptor, start, length, advice)

    def pread(descriptor: int, length: int, start: int) -> bytes:
        read.append((start, start + length))
        return posix_pread(descriptor, length, start)

    posix_fadvise, posix_pread = os.posix_fadvise, os.pread
    parts = [Region(Point(0, 90 * number), Size(200, 90)) for number in range(len(corners))]
    out = np.zeros((90 * len(corners), 200, 3), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(tiled_slide, "_LARGEST_GAP", gap)
        patch.setattr(tiled_slide, "_PIECE", piece)
        patch.setattr(os, "posix_fadvise", advise)
        patch.setattr(os, "pread", pread)
        slide.read_parts(out, parts, [Point(x, y) for x, y in corners], level)
    announced = sorted(told)
    for part, (x, y) in zip(parts, corners, strict=True):
        alone = np.zeros((90, 200, 3), np.uint8)
        slide.read_into(alone, Point(x, y), level)
        np.testing.assert_array_equal(out[part.slices], alone)
    assert bool(announced) == bool(read)
    assert all(end - begin <= piece for begin, end in announced)
    wholes: list[tuple[int, int]] = []
    for begin, end in announced:
        if wholes and wholes[-1][1] == begin:
            begin = wholes.pop()[0]
        wholes.append((begin, end))
    assert all(later[0] - end > gap for (_, end), later in pairwise(wholes))
    # What lies between tiles is read through by the reader too, where it is little.
    for begin, end in read:
        assert any(first <= begin and end <= last for first, last in wholes)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    level=st.integers(0, 2),
    corners=st.lists(
        st.tuples(st.integers(-300, 1400), st.integers(-300, 1200)), min_size=1, max_size=9
    ),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
)
def test_crops_of_any_coding_equal_openslide_and_decode_each_tile_once(
    opened: tuple[Slide, list[NDArray[np.uint8]]],
    level: int,
    corners: list[tuple[int, int]],
    width: int,
    height: int,
) -> None:
    """Anywhere, also over each other and beyond the level."""
    slide, levels = opened
    assert isinstance(slide, TiledSlide)
    places = np.array([(y >> level, x >> level) for x, y in corners])
    out = np.zeros((len(places), height, width, 3), np.uint8)
    decoded, decoders = [], slide._decoders

    def decode(data: memoryview, pixels: NDArray[np.uint8], rows: int) -> None:
        decoded.append(bytes(data))
        decoders[level](data, pixels, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slide, "_decoders", [decode] * 3)
        pixels = slide.read_crops(out, places, level)
    tile, (rows, columns) = slide._levels[level].tile, levels[level].shape[:2]
    touched = set()
    for image, (y, x) in zip(out, places.tolist(), strict=True):
        expected = np.full_like(image, 255)
        top, left, bottom, right = (
            max(y, 0),
            max(x, 0),
            min(y + height, rows),
            min(x + width, columns),
        )
        if top < bottom and left < right:
            inside = levels[level][top:bottom, left:right]
            expected[top - y : bottom - y, left - x : right - x] = inside
            touched |= {
                (row, column)
                for row in range(top // tile.height, (bottom - 1) // tile.height + 1)
                for column in range(left // tile.width, (right - 1) // tile.width + 1)
            }
        np.testing.assert_array_equal(image, expected)
    assert len(decoded) == len(touched)
    assert pixels == len(touched) * tile.area


@pytest.mark.parametrize("name", TAKEN)
def test_every_level_of_a_real_slide_equals_openslide(real_slides: Path, name: str) -> None:
    slide = open_slide(real_slides / name, NO_CACHE)
    assert isinstance(slide, TiledSlide), slide.facts.reader_reason
    assert TAKEN[name] in slide.facts.reader_reason
    rng = np.random.default_rng(1)
    for level, size in enumerate(slide.facts.level_dimensions):
        reference = whole_level(real_slides / name, level)
        assert_equal_region(slide, reference, level, Point(0, 0), size)
        for _ in range(10):
            place = Point(*(int(rng.integers(-100, side)) for side in (size.width, size.height)))
            assert_equal_region(slide, reference, level, place, Size(300, 333))
    slide.close()


def test_a_damaged_tile_is_an_error_as_it_is_with_openslide(tmp_path: Path) -> None:
    path = write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg"))
    offset, count = tile_place(path, 2)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    slide = open_slide(path, NO_CACHE)
    assert isinstance(slide, TiledSlide)
    out = np.empty((300, 300, 3), np.uint8)
    with pytest.raises(SlideReadError, match=r"s\.svs: OpenSlide cannot read 300x300 pixels"):
        slide.read_into(out, Point(500, 10), 0)
    slide.read_into(out, Point(0, 600), 0)  # and what is not damaged can still be read
    slide.close()


def test_memory_of_other_pixels_is_refused(tmp_path: Path) -> None:
    """As a loader's with a pixel_format of its own: it would be filled with nonsense."""
    slide = open_slide(write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg")), NO_CACHE)
    assert isinstance(slide, TiledSlide)
    others: list[NDArray[Any]] = [np.zeros((9, 9, 3), np.uint16), np.zeros((9, 9, 4), np.uint8)]
    for pixel in others:
        words = f"3 x uint8, and {pixel.shape[-1]} x {pixel.dtype} were asked for"
        with pytest.raises(SlideReadError, match=words):
            slide.read_into(pixel, Point(0, 0), 0)
        with pytest.raises(SlideReadError, match=words):
            slide.read_crops(pixel[None], np.array([(0, 0)]), 0)
    slide.close()


def test_crops_beside_a_damaged_tile_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the decoder cannot, OpenSlide is asked for, and only for the crop that needs it."""
    path = write_tiled(tmp_path / "s.svs", SIZE, Coding("jpeg"))
    reference = whole_level(path, 0)
    slide = open_slide(path, NO_CACHE)
    assert isinstance(slide, TiledSlide)
    decoders, asked = slide._decoders, []
    offset, count = tile_place(path, 2)
    with path.open("rb") as file:
        file.seek(offset)
        damaged = file.read(count)

    def refuses(data: memoryview, pixels: NDArray[np.uint8], rows: int) -> None:
        if data == damaged:
            raise ValueError("as of a damaged tile")
        decoders[0](data, pixels, rows)

    def seen(self: OpenSlideSlide, out: NDArray[np.uint8], location: Point, level: int) -> None:
        asked.append(location)
        read_into(self, out, location, level)

    read_into = OpenSlideSlide.read_into
    monkeypatch.setattr(OpenSlideSlide, "read_into", seen)
    monkeypatch.setattr(slide, "_decoders", [refuses])
    out = np.zeros((3, 90, 80, 3), np.uint8)
    places = np.array([(300, 20), (10, 600), (600, 700)])
    slide.read_crops(out, places, 0)
    assert asked == [Point(600, 10)]
    for image, (y, x) in zip(out, places.tolist(), strict=True):
        np.testing.assert_array_equal(image, reference[y : y + 90, x : x + 80])
    slide.close()


def test_the_pixels_of_the_coordinate_slide_are_lossless(tmp_path: Path) -> None:
    path = write_lossless_coordinates(tmp_path / "a.svs", Size(700, 600))
    expected = coordinate_pixels(Point(0, 0), Size(700, 600), 0)
    np.testing.assert_array_equal(whole_level(path, 0), expected)

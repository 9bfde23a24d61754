"""Tiles of JPEG: no more rows than wanted, and what libjpeg only warns of is an error."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from pydmed_dali import Point, Size
from pydmed_dali.errors import SlideReadError
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.codec.jpeg import JpegTiles
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.tiled_slide import TiledSlide
from tests.integration.slide.tiled_files import CODINGS, Coding, tile_place, write_tiled

SIZE = Size(1100, 800)
NO_CACHE = Cache(None)
JPEG = [coding for coding in CODINGS if coding.kind == "jpeg"]


def _count_decoded_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each decoding from now on."""
    rows: list[int] = []
    decode = simplejpeg.decode_jpeg

    def counted(data: bytes, space: str, buffer: NDArray[np.uint8]) -> object:
        rows.append(len(buffer))
        return decode(data, space, buffer=buffer)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    return rows


@pytest.mark.parametrize("coding", JPEG, ids=str)
@pytest.mark.parametrize("rows", [1, 64, 129, 190])
def test_rows_below_those_asked_for_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coding: Coding, rows: int
) -> None:
    slide = open_slide(write_tiled(tmp_path / "s.svs", SIZE, coding), NO_CACHE)
    whole = np.empty((coding.tile, coding.tile, 3), np.uint8)
    slide.read_into(whole, Point(0, 0), 0)
    decoded = _count_decoded_rows(monkeypatch)
    out = np.empty((rows, coding.tile, 3), np.uint8)
    slide.read_into(out, Point(0, 0), 0)
    np.testing.assert_array_equal(out, whole[:rows])
    assert len(decoded) == 1 and rows <= decoded[0] <= rows + 2
    slide.close()


@pytest.mark.parametrize("coding", JPEG, ids=str)
def test_a_jpeg_tile_that_ends_too_early_is_an_error(tmp_path: Path, coding: Coding) -> None:
    """libjpeg only warns of it and puts grey in place of what is missing; OpenSlide does not."""
    path = write_tiled(tmp_path / "s.svs", SIZE, coding)
    offset, count = tile_place(path, 0)  # the longest and the last are tried at the opening
    with path.open("r+b") as file:
        file.seek(offset + count * 3 // 4)
        file.write(b"\xff\xd9" + b"\0" * (count - count * 3 // 4 - 2))
    slide = open_slide(path, NO_CACHE)
    assert isinstance(slide, TiledSlide)
    out = np.empty((64, 64, 3), np.uint8)
    with pytest.raises(SlideReadError, match="Corrupt JPEG data"):
        slide.read_into(out, Point(0, 0), 0)
    slide.close()


@pytest.mark.parametrize("coding", JPEG, ids=str)
def test_a_hole_in_a_tile_is_an_error_also_where_rows_behind_it_are_not_asked_for(
    tmp_path: Path, coding: Coding
) -> None:
    """Zeros are valid code: libjpeg warns of them only where the tile ends with too many bits."""
    path = write_tiled(tmp_path / "s.svs", SIZE, coding)
    offset, count = tile_place(path, 0)
    with path.open("r+b") as file:
        file.seek(offset + count // 4)
        file.write(b"\0" * (count // 4))
    slide = open_slide(path, NO_CACHE)
    out = np.empty((coding.tile // 2, 64, 3), np.uint8)
    with pytest.raises(SlideReadError, match="Corrupt JPEG data"):
        slide.read_into(out, Point(0, 0), 0)
    slide.close()


def test_tiles_with_restarts_are_decoded_whole_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    picture = io.BytesIO()
    Image.fromarray(tile).save(picture, "JPEG", quality=80, restart_marker_rows=1)
    data = picture.getvalue()
    assert b"\xff\xdd" in data
    whole, top = (np.zeros((256, 256, 3), np.uint8) for _ in range(2))
    simplejpeg.decode_jpeg(data, "RGB", buffer=whole)
    decoded = _count_decoded_rows(monkeypatch)
    JpegTiles(None, "YCBCR").decode(data, top, 100)
    np.testing.assert_array_equal(top[:100], whole[:100])
    assert decoded == [256]


def _in_three_scans(pixels: NDArray[np.uint8]) -> bytes:
    """A baseline JPEG stream with a scan for each channel, of three grey ones."""
    streams = []
    for channel in range(3):
        picture = io.BytesIO()
        Image.fromarray(pixels[..., channel]).save(picture, "JPEG", quality=80)
        streams.append(picture.getvalue())
    grey = streams[0]
    frame, scan = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
    size = grey[frame + 4 : frame + 9]
    channels = b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
    tables = grey[2:frame] + grey[frame + 2 + 11 : scan]
    scans = b"".join(
        b"\xff\xda\x00\x08\x01"
        + bytes((number,))
        + b"\x00\x00\x3f\x00"
        # behind the grey one's start of scan, up to its end of image
        + stream[stream.index(b"\xff\xda") + 10 : -2]
        for number, stream in enumerate(streams, 1)
    )
    whole = b"\xff\xd8" + tables + b"\xff\xc0\x00\x11" + size + b"\x03" + channels + scans
    return whole + b"\xff\xd9"


def test_tiles_with_a_scan_for_each_channel_are_decoded_whole_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else what is left out of the first scan would hide that the others are missing."""
    tile = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    data = _in_three_scans(tile)
    whole, top = (np.zeros((256, 256, 3), np.uint8) for _ in range(2))
    JpegTiles(None, "YCBCR").decode(data, whole, 256)
    decoded = _count_decoded_rows(monkeypatch)
    JpegTiles(None, "YCBCR").decode(data, top, 100)
    np.testing.assert_array_equal(top, whole)
    assert decoded == [256]
    last = data.rindex(b"\xff\xda")
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    damaged = bytearray(data)
    damaged[last] = damaged[second] = 0xFE
    with pytest.raises(ValueError, match="Corrupt JPEG data"):
        JpegTiles(None, "YCBCR").decode(bytes(damaged), top, 100)


def test_a_byte_before_a_tile_is_refused_and_padding_behind_the_tables_is_not() -> None:
    pixels = np.full((256, 256, 3), (10, 200, 30), np.uint8)
    data = Coding("jpeg", "ycbcr", "420").encode(pixels)
    out = np.zeros_like(pixels)
    with pytest.raises(ValueError, match="no JPEG marker"):
        JpegTiles(None, "YCBCR").decode(b"\0" + data, out, 256)
    end = data.index(b"\xff\xc0")
    tables, rest = b"\xff\xd8" + data[2:end] + b"\xff\xd9", data[:2] + data[end:]
    for padding in (b"", b"\0"):
        decoder = JpegTiles(tables + padding, "YCBCR")
        decoder.decode(rest, out, 100)
        assert np.abs(out[:100].astype(int) - pixels[:100]).max() < 4

"""Tiles whose header claims other pixels than the slide's tiles have: refused, never decoded."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pydmed_dali import PixelFormat, Point, Size
from pydmed_dali.errors import SlideFormatError, SlideReadError
from pydmed_dali.slide.channel_tiff import ChannelTiff
from pydmed_dali.slide.codec.jpeg import JpegTiles, OddTileError
from pydmed_dali.slide.codec.jpeg2000 import decode_jpeg2000
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.openslide_slide import OpenSlideSlide
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.slide.tiled_slide import TiledSlide
from tests.integration.slide.tiled_files import APERIO, CODINGS, NO_CACHE, Coding, tile_place

TILE = 256
JPEG, JPEG2000 = Coding("jpeg", "ycbcr", "420"), Coding("jpeg2000")
SIZ = {"width": 8, "left": 16, "top": 20, "channels": 40, "bits": 42, "step": 43}
"""Where a JPEG 2000 codestream says so; of numbers of four bytes, the first."""

Odd = Callable[[Pixels], Any]


def _pillow(tile: Pixels, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(tile).convert(mode).save(file, "JPEG", quality=90)
    return file.getvalue()


def _changed(**values: int) -> Odd:
    """A JPEG 2000 tile with these numbers written over those of its header."""

    def encode(tile: Pixels) -> bytes:
        data = bytearray(JPEG2000.encode(tile))
        for name, value in values.items():
            length = 4 if name in ("width", "left", "top") else 1 if name != "channels" else 2
            data[SIZ[name] : SIZ[name] + length] = value.to_bytes(length, "big")
        return bytes(data)

    return encode


ODD_JPEG: dict[str, Odd] = {
    "grey": lambda tile: _pillow(tile, "L"),
    "CMYK": lambda tile: _pillow(tile, "CMYK"),
    "larger": lambda tile: _pillow(np.kron(tile, np.ones((2, 2, 1), np.uint8))),
    "smaller": lambda tile: _pillow(tile[:128, :128]),
    "as large otherwise": lambda tile: _pillow(tile.reshape(128, 512, 3)),
    "12 bits": lambda tile: imagecodecs.jpeg8_encode(tile.astype(np.uint16), bitspersample=12),
}
ODD_JPEG2000: dict[str, Odd] = {
    "boxed": lambda tile: imagecodecs.jpeg2k_encode(tile, reversible=True, codecformat="jp2"),
    "one column further": _changed(left=1),
    "a row and a column further": _changed(left=1, top=1),
    "2^28 wide": _changed(width=TILE ^ 1 << 28),
    "grey": lambda tile: imagecodecs.jpeg2k_encode(tile[..., 0].copy(), codecformat="j2k"),
    "16 bits": lambda tile: imagecodecs.jpeg2k_encode(tile.astype(np.uint16), codecformat="j2k"),
    "signed": _changed(bits=0x87),
    "smaller": lambda tile: JPEG2000.encode(tile[:128, :128].copy()),
    "cut": lambda tile: JPEG2000.encode(tile)[:40],
}
ODD = [(JPEG, name, odd) for name, odd in ODD_JPEG.items()] + [
    (JPEG2000, name, odd) for name, odd in ODD_JPEG2000.items()
]


def _image() -> Pixels:
    y, x = np.mgrid[: 5 * TILE, : 5 * TILE]
    waves = np.stack([np.sin(x / 37.0), np.cos(y / 23.0), np.sin((x + y) / 51.0)], axis=-1)
    noise = np.random.default_rng(1).normal(0, 8, waves.shape)
    return np.asarray(128 + 100 * waves + noise).clip(0, 255).astype(np.uint8)


def _write(path: Path, coding: Coding, odd: Odd, places: frozenset[int]) -> Path:
    """Five by five tiles, of which those at `places` are odd: row after row, from 0."""
    image = _image()
    tiles = [
        image[top : top + TILE, left : left + TILE].copy()
        for top in range(0, 5 * TILE, TILE)
        for left in range(0, 5 * TILE, TILE)
    ]
    coded = [odd(tile) if n in places else coding.encode(tile) for n, tile in enumerate(tiles)]
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter(coded),
            shape=image.shape,
            dtype="uint8",
            tile=(TILE, TILE),
            description=APERIO,
            metadata=None,
            **coding.tags(),
        )
    return path


@pytest.mark.parametrize(("coding", "name", "odd"), ODD, ids=[f"{c}-{n}" for c, n, _ in ODD])
def test_an_odd_tile_in_the_middle_is_an_error_and_its_neighbours_are_not(
    tmp_path: Path, coding: Coding, name: str, odd: Odd
) -> None:
    path = _write(tmp_path / "s.svs", coding, odd, frozenset([11]))
    slide = open_slide(path, NO_CACHE)
    for height in (TILE, 60):
        out = np.full((height, TILE, 3), 7, np.uint8)
        with pytest.raises(SlideReadError, match=r"s\.svs"):
            slide.read_into(out, Point(TILE, 2 * TILE), 0)
    assert isinstance(slide, TiledSlide)
    crops = np.zeros((2, 60, 60, 3), np.uint8)
    with pytest.raises(SlideReadError, match="tile"):
        slide.read_crops(crops, np.array([(2 * TILE, TILE), (0, 0)]), 0)
    out = np.zeros((TILE, TILE, 3), np.uint8)
    slide.read_into(out, Point(2 * TILE, 2 * TILE), 0)
    with openslide.OpenSlide(path) as reference:
        wanted = reference.read_region((2 * TILE, 2 * TILE), 0, (TILE, TILE))
    np.testing.assert_array_equal(out, np.asarray(wanted)[..., :3])
    slide.close()


@pytest.mark.parametrize("values", [{"left": 1}, {"bits": 0x87}], ids=str)
def test_a_slide_whose_tiles_openslide_delivers_wrongly_is_refused(
    tmp_path: Path, values: dict[str, int]
) -> None:
    """Of an image offset it delivers memory beyond the tile's values, and signed ones as others."""
    path = _write(tmp_path / "s.svs", JPEG2000, _changed(**values), frozenset(range(25)))
    out = np.zeros((TILE, TILE, 3), np.uint8)
    OpenSlideSlide(path).read_into(out, Point(0, 0), 0)  # as said
    with pytest.raises(
        SlideFormatError, match=r"s\.svs: tiles of level 0: the tile claims .*; convert"
    ):
        open_slide(path, NO_CACHE)


@pytest.mark.parametrize(("coding", "name", "odd"), ODD, ids=[f"{c}-{n}" for c, n, _ in ODD])
def test_no_decoder_is_asked_for_an_odd_tile(
    monkeypatch: pytest.MonkeyPatch, coding: Coding, name: str, odd: Odd
) -> None:
    """So that no memory is taken by its claim, and none of `out` is touched."""
    data = odd(_image()[:TILE, :TILE].copy())
    out = np.full((TILE, TILE, 3), 7, np.uint8)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)  # would raise a TypeError
    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", None)
    decode = JpegTiles(None, "YCBCR").decode if coding.kind == "jpeg" else decode_jpeg2000
    with pytest.raises(OddTileError):
        decode(data, out, TILE)
    assert (out == 7).all()


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@pytest.mark.parametrize("rows", [60, None])
def test_decoders_leave_nothing_of_what_was_in_memory(coding: Coding, rows: int | None) -> None:
    side = coding.tile
    data = coding.encode(_image()[:side, :side].copy())
    space = "YCBCR" if coding.space == "ycbcr" else "RGB"
    decode = JpegTiles(None, space).decode if coding.kind == "jpeg" else decode_jpeg2000
    decoded: list[NDArray[np.uint8]] = []
    for poison in (0x00, 0xA5, 0xFF):
        out = np.full((side, side, 3), poison, np.uint8)
        decode(data, out, rows or side)
        decoded.append(out[: rows or side])
    np.testing.assert_array_equal(decoded[0], decoded[1])
    np.testing.assert_array_equal(decoded[0], decoded[2])


def test_coarser_channels_are_left_to_openslide() -> None:
    data = _changed(step=2)(_image()[:TILE, :TILE].copy())
    with pytest.raises(ValueError, match="fewer values than pixels") as raised:
        decode_jpeg2000(data, np.zeros((TILE, TILE, 3), np.uint8), TILE)
    assert not isinstance(raised.value, OddTileError)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "jpegxl", "png"])
def test_channel_tiffs_refuse_a_tile_that_claims_more_than_its_size(
    tmp_path: Path, compression: str
) -> None:
    """Also one of as many pixels in another shape, which would be reshaped in silence."""
    image = _image()
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, tile=(TILE, TILE), compression=compression, photometric="rgb")
    begin, length = tile_place(path, 11)
    other = tmp_path / "b.tif"
    tile = np.zeros((128, 512, 3), np.uint8)
    tifffile.imwrite(other, tile, tile=(128, 512), compression=compression, photometric="rgb")
    start, count = tile_place(other, 0)
    wide = other.read_bytes()[start : start + count]
    assert len(wide) <= length
    with path.open("r+b") as written:
        written.seek(begin)
        written.write(wide)
    slide = ChannelTiff(path, PixelFormat(3, "uint8"))
    out = np.zeros((TILE, TILE, 3), np.uint8)
    words = r"a\.tif: tile 11 of a level of 1280x1280 claims 512x128 pixels, where at most 256x256"
    with pytest.raises(SlideReadError, match=words):
        slide.read_into(out, Point(TILE, 2 * TILE), 0)
    slide.read_into(out, Point(0, 0), 0)
    slide.close()
    assert slide.facts.dimensions == Size(1280, 1280)

"""JPEG tiles of a TIFF, decoded as OpenSlide does it: what libjpeg only warns of is an error."""

from __future__ import annotations

from importlib.metadata import version

import simplejpeg

from pydmed_dali.slide.protocol import Pixels

DECODER = f"simplejpeg {version('simplejpeg')}"
"""The decoder's name and version: it decides pixels."""

_START_OF_SCAN = 0xDA
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_SPACES = {"RGB": _ADOBE + b"\x00", "YCBCR": _ADOBE + b"\x01"}
"""The marker by which libjpeg knows the colour space: the TIFF's word counts, not the tile's."""


def decode_jpeg(data: bytes, tables: bytes | None, space: str, out: Pixels) -> None:
    """Decode one tile into `out`, (height, width, 3) RGB and contiguous, the size of the tile.

    `tables` is the stream of tables that tiles of the TIFF have in common, if they have one;
    `space` is what the tile's channels are, `RGB` or `YCBCR`. Raises `ValueError` for a tile of
    another size, and for damaged data, also where libjpeg could go on with grey in its place.
    """
    decoded = simplejpeg.decode_jpeg(_complete(data, tables, space), "RGB", buffer=out)
    if decoded.shape != out.shape:
        raise ValueError(f"the tile has {decoded.shape[1]}x{decoded.shape[0]} pixels")


def _complete(data: bytes, tables: bytes | None, space: str) -> bytes:
    """The stream with the common tables first, and the colour space just before the scan."""
    scan = 2
    while data[scan : scan + 2] != bytes((0xFF, _START_OF_SCAN)):
        if data[scan : scan + 1] != b"\xff" or scan + 4 > len(data):
            raise ValueError(f"there is no JPEG marker at byte {scan} of the tile")
        scan += 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    common = tables[2:-2] if tables else b""  # without its own start and end
    return b"".join((data[:2], common, data[2:scan], _SPACES[space], data[scan:]))

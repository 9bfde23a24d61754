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


class JpegTiles:
    """Decodes the tiles of one level."""

    def __init__(self, tables: bytes | None, space: str) -> None:
        """`tables` is the stream of tables that the tiles have in common, if they have one; `space`
        is what their channels are, `RGB` or `YCBCR`.
        """
        self._common = tables[2:-2] if tables else b""  # without its own start and end
        self._space = _SPACES[space]
        self._head = self._whole_head = b"\0"  # of the last tile; most tiles of a level have it too

    def decode(self, data: bytes, out: Pixels) -> None:
        """Decode one tile into `out`, (height, width, 3) RGB and contiguous, the tile's size.

        Raises `ValueError` for a tile of another size, and for damaged data, also where libjpeg
        could go on with grey in its place.
        """
        decoded = simplejpeg.decode_jpeg(self._complete(data), "RGB", buffer=out)
        if decoded.shape != out.shape:
            raise ValueError(f"the tile has {decoded.shape[1]}x{decoded.shape[0]} pixels")

    def _complete(self, data: bytes) -> bytes:
        """The stream with the common tables first, and the colour space just before the scan."""
        if not data.startswith(self._head):
            head = data[: _length_of_head(data)]
            self._whole_head = b"".join(
                (head[:2], self._common, head[2:-2], self._space, head[-2:])
            )
            self._head = head
        return self._whole_head + data[len(self._head) :]


def _length_of_head(data: bytes) -> int:
    """Bytes before the scan, its marker included, which a head therefore ends with and nowhere
    else has: two tiles that begin with the same one have the same.
    """
    scan = 2
    while data[scan : scan + 2] != bytes((0xFF, _START_OF_SCAN)):
        if data[scan : scan + 1] != b"\xff" or scan + 4 > len(data):
            raise ValueError(f"there is no JPEG marker at byte {scan} of the tile")
        scan += 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    return scan + 2

"""JPEG tiles of a TIFF, decoded as OpenSlide does it: what libjpeg only warns of is an error."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

import simplejpeg

from pydmed_dali.slide.codec.coded_size import frame_of_jpeg
from pydmed_dali.slide.slide import Pixels

DECODER = f"simplejpeg {simplejpeg.__version__}"
"""The decoder's name and version: it decides pixels."""

_START_OF_SCAN, _START_OF_FRAME, _RESTART_INTERVAL = 0xDA, 0xC0, b"\xff\xdd"
_FRAME = struct.Struct(">BHHB")
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_SPACES = {"RGB": _ADOBE + b"\x00", "YCBCR": _ADOBE + b"\x01"}
"""The marker by which libjpeg knows the colour space: the TIFF's word counts, not the tile's."""

_ONLY_MORE = re.compile("extraneous bytes before marker 0xd9$")  # the end of the image
_BELOW = 2  # rows: the colours of a row are interpolated with those of the next pair of rows
_LEAST = 32  # rows: for fewer it is not worth while to leave any out
_HOLE = bytes(64)  # what a copy left out; it is valid code, and noticed only at the tile's end


class OddTileError(ValueError):
    """A tile's header claims other pixels than the slide's tiles have, so no reader reads it."""


class _Head(NamedTuple):
    """What comes before the scan of a tile: most tiles of a level have the same."""

    begin: bytes
    """As the tile has it."""
    whole: bytes
    """With the tables that tiles have in common, and the colour space just before the scan."""
    claimed: tuple[int, int, int, int]
    """What it says of the tile: bits of a value, rows, columns and channels."""
    height: int
    """Where in `whole` the height stands; 0 where rows must not be left out."""


class JpegTiles:
    """Decodes the tiles of one level."""

    def __init__(self, tables: bytes | None, space: str) -> None:
        """`tables` is the stream of tables that the tiles have in common, if they have one; `space`
        is what their channels are, `RGB` or `YCBCR`.
        """
        self._common = tables[2:-2] if tables else b""  # without its own start and end
        self._space = _SPACES[space]
        self._head: _Head | None = None  # of the last tile

    def decode(self, data: bytes | memoryview, out: Pixels, rows: int) -> None:
        """Decode the first `rows` rows of one tile, or more, into the first of `out`, (height,
        width, 3) RGB and contiguous, the tile's size.

        Raises `OddTileError`, before decoding, for a tile whose header claims another size, other
        channels or other bits, and `ValueError` for damage in those rows, also where libjpeg could
        go on with grey in its place.
        """
        head = self._head
        if head is None or bytes(data[: len(head.begin)]) != head.begin:
            head = self._head = self._read_head(bytes(data))
        if head.claimed != (8, *out.shape):
            raise _odd(head, out)
        rest = data[len(head.begin) :]
        rows += _BELOW
        if rows + _LEAST > len(out) or not _decode_top(head, rest, out, rows):
            decoded = simplejpeg.decode_jpeg(b"".join((head.whole, rest)), "RGB", buffer=out)
            if decoded.shape != out.shape:
                raise ValueError(f"the tile has {decoded.shape[1]}x{decoded.shape[0]} pixels")

    def _read_head(self, data: bytes) -> _Head:
        markers = _markers(data)
        length = markers[_START_OF_SCAN] + 2
        begin = data[:length]
        whole = b"".join((begin[:2], self._common, begin[2:-2], self._space, begin[-2:]))
        frame = frame_of_jpeg(whole)
        # behind the marker and the length
        claimed = _FRAME.unpack_from(whole, frame + 4)
        # With restarts, libjpeg's warning tells of one of them instead of the end.
        is_simple = _START_OF_FRAME in markers and _RESTART_INTERVAL not in whole
        return _Head(begin, whole, claimed, frame + 5 if is_simple else 0)


def _odd(head: _Head, out: Pixels) -> OddTileError:
    bits, height, width, channels = head.claimed
    return OddTileError(
        f"the tile claims {width}x{height} pixels of {channels} channels of {bits} bits, where "
        f"{out.shape[1]}x{out.shape[0]} of {out.shape[2]} of 8 were expected"
    )


def _decode_top(head: _Head, rest: bytes | memoryview, out: Pixels, rows: int) -> bool:
    """Decode only so many rows, if that is possible and they are undamaged; whether it was.

    The tile is told to be that low. What libjpeg then finds first to warn of is that it goes on:
    the first of its warnings is the one it tells, so before that it found nothing amiss. (Of a
    stream with a scan for each channel only the first scan would be known to be sound.)
    """
    if not head.height or rest[2:3] != head.whole[head.height + 4 : head.height + 5]:
        return False
    begin, end = head.whole[: head.height], head.whole[head.height + 2 :]
    lower = b"".join((begin, rows.to_bytes(2, "big"), end, rest))
    if lower.find(_HOLE, len(head.whole)) >= 0:
        return False
    try:
        simplejpeg.decode_jpeg(lower, "RGB", buffer=out[:rows])
    except ValueError as error:
        return _ONLY_MORE.search(str(error)) is not None
    return True


def _markers(stream: bytes) -> dict[int, int]:
    """Where each kind of marker stands, last of its kind, up to the start of the scan.

    A head that ends with that one has it nowhere else: two tiles that begin with the same head have
    the same.
    """
    found: dict[int, int] = {}
    at = 2
    while _START_OF_SCAN not in found:
        if stream[at : at + 1] != b"\xff" or at + 2 > len(stream):
            raise ValueError(f"there is no JPEG marker at byte {at} of the tile")
        found[stream[at + 1]] = at
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return found

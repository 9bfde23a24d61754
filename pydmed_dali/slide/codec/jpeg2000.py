"""JPEG 2000 tiles of a TIFF: decoded only where their header claims what the directory says."""

from __future__ import annotations

import struct

import imagecodecs

from pydmed_dali.geometry import Size
from pydmed_dali.slide.codec.jpeg import OddTileError
from pydmed_dali.slide.slide import Pixels

_HEADER = struct.Struct(">4sHH8IH")
_BEGIN = b"\xff\x4f\xff\x51"
"""Of a codestream without a file format around it: its start, and the marker of its size."""
_EIGHT_BITS = b"\x07"
_COMPONENT = _EIGHT_BITS + b"\x01\x01"
"""Of a channel: eight bits without a sign, and a value for each pixel."""
_CHANNELS = 3


def decode_jpeg2000(data: bytes | memoryview, out: Pixels, rows: int) -> None:
    """Decode a tile into `out`, (height, width, 3) RGB and contiguous, the tile's size.

    All rows are decoded, however few are asked for. Raises `OddTileError` or `ValueError` where the
    tile's header claims other pixels than `out` has, before any memory is taken by it.
    """
    _check(data, Size(out.shape[1], out.shape[0]))
    decoded = imagecodecs.jpeg2k_decode(bytes(data), out=out)
    if decoded.shape != out.shape:
        raise ValueError(f"the tile decodes to {decoded.shape}")


def _check(data: bytes | memoryview, tile: Size) -> None:
    """Raise `OddTileError` unless the header claims three channels of a tile's size and place.

    Raises `ValueError` where some of its channels are coarser, which OpenSlide can read.
    """
    if len(data) < _HEADER.size or data[:4] != _BEGIN:
        raise OddTileError("the tile is no bare JPEG 2000 codestream")
    _, _, _, right, bottom, left, top, *_, channels = _HEADER.unpack_from(data)
    if (right, bottom, left, top) != (tile.width, tile.height, 0, 0):
        raise OddTileError(
            f"the tile claims {right - left}x{bottom - top} pixels from ({left}, {top}) on, where "
            f"{tile} from (0, 0) on were expected"
        )
    components = bytes(data[_HEADER.size : _HEADER.size + 3 * _CHANNELS])
    if channels != _CHANNELS or components[::3] != _EIGHT_BITS * _CHANNELS:
        raise OddTileError(
            f"the tile claims {channels} channels, where three of 8 bits are expected"
        )
    if components != _COMPONENT * _CHANNELS:
        raise ValueError("the tile has fewer values than pixels in some of its channels")

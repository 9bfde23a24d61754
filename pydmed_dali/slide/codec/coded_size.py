"""The size that a coded tile claims to have, read from its header without decoding anything.

A decoder takes memory by that claim: one flipped bit makes gigabytes of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pydmed_dali.geometry import Size

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _ALONE = 0xDA, frozenset((0x01, *range(0xD0, 0xD9)))
_CODESTREAM = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 codestream begins: its start, and the marker of its size."""
_XR_WIDTH, _XR_HEIGHT = 0xBC80, 0xBC81
_XR_INTEGERS = {1: "B", 3: "H", 4: "I"}
_MOST_CHANNELS = 256
_XL_BITS = (9, 13, 18, 30)
_XL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def claimed_size(compression: int, data: bytes) -> Size | None:
    """The size in pixels that a tile or strip of a TIFF claims in its own header.

    `compression` is the value of the TIFF's tag. None for codings whose data has no size of its
    own: the directory tells it, and the decoder gets it from there.

    Raises `ValueError` for data that does not begin as its coding has to.
    """
    read = _READERS.get(compression)
    if read is None:
        return None
    try:
        return read(data)
    except (struct.error, IndexError) as error:
        raise ValueError(f"its header ends after {len(data)} bytes") from error


def frame_of_jpeg(data: bytes) -> int:
    """Where the frame's marker begins in a JPEG stream; raises `ValueError` where there is none."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 1 < len(data):
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            return at
        if marker == _START_OF_SCAN:
            break
        if marker == 0xFF:  # a fill byte
            at += 1
        else:
            at += 2 if marker in _ALONE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("it has no start of a JPEG frame before the scan")


def _jpeg(data: bytes) -> Size:
    height, width = struct.unpack_from(">HH", data, frame_of_jpeg(data) + 5)
    return Size(width, height)


def _jpeg2000(data: bytes) -> Size:
    begin = data.find(_CODESTREAM)
    if begin < 0:
        raise ValueError("it has no JPEG 2000 codestream")
    right, bottom, left, top = struct.unpack_from(">4I", data, begin + 8)
    return Size(max(right - left, 0), max(bottom - top, 0))


def _png(data: bytes) -> Size:
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("it does not begin as PNG")
    return Size(*struct.unpack_from(">II", data, 16))


def _webp(data: bytes) -> Size:
    kind = data[12:16]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("it does not begin as WebP")
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return Size(width, height)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return Size(width & 0x3FFF, height & 0x3FFF)


def _jpeg_xr(data: bytes) -> Size:
    if data[:3] != b"II\xbc":
        raise ValueError("it does not begin as JPEG XR")
    (at,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, at)
    found = {}
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from("<HH", data, entry)
        if tag in (_XR_WIDTH, _XR_HEIGHT) and kind in _XR_INTEGERS:
            (found[tag],) = struct.unpack_from("<" + _XR_INTEGERS[kind], data, entry + 8)
    if len(found) < 2:
        raise ValueError("its JPEG XR header has no size")
    return Size(found[_XR_WIDTH], found[_XR_HEIGHT])


def _lerc(data: bytes) -> Size:
    if data[:6] != b"Lerc2 ":
        raise ValueError("it does not begin as LERC")
    (version,) = struct.unpack_from("<i", data, 6)
    height, width, channels = struct.unpack_from("<iii", data, 10 if version < 3 else 14)
    if version > 3 and not 1 <= channels <= _MOST_CHANNELS:
        raise ValueError(f"it claims {channels:,} channels")
    return Size(width, height)


def _jpeg_xl(data: bytes) -> Size:
    if data[:2] != b"\xff\x0a":
        data = _xl_codestream(data)
    bits = _Bits(data[2:18])
    small = bits.take(1)
    height = _xl_side(bits, small)
    ratio = bits.take(3)
    if not ratio:
        return Size(_xl_side(bits, small), height)
    above, below = _XL_RATIOS[ratio - 1]
    return Size(height * above // below, height)


def _xl_codestream(data: bytes) -> bytes:
    """The beginning of the codestream in a container of boxes."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        if kind in (b"jxlc", b"jxlp"):
            content += 4 * (kind == b"jxlp")  # the part's number
            if data[content : content + 2] == b"\xff\x0a":
                return data[content:]
        if length < 8:
            break
        at += length
    raise ValueError("it has no JPEG XL codestream")


def _xl_side(bits: _Bits, small: int) -> int:
    if small:
        return (bits.take(5) + 1) * 8
    return bits.take(_XL_BITS[bits.take(2)]) + 1


class _Bits:
    """Takes bits from bytes, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken


_READERS: dict[int, Callable[[bytes], Size]] = {
    **dict.fromkeys((6, 7, 33007, 34892), _jpeg),
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg2000),
    **dict.fromkeys((22610, 34934), _jpeg_xr),
    **dict.fromkeys((34927, 50001), _webp),
    **dict.fromkeys((50002, 52546), _jpeg_xl),
    34887: _lerc,
    34933: _png,
}
"""By the value of the TIFF's tag Compression."""

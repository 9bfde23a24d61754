"""What coded tiles claim of their size, of every coding, and what a flipped bit makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest

from pydmed_dali import Size
from pydmed_dali.slide.codec.coded_size import claimed_size
from pydmed_dali.slide.slide import Pixels

ENCODERS: dict[str, tuple[int, Callable[[Pixels], Any]]] = {
    "jpeg": (7, imagecodecs.jpeg8_encode),
    "jpeg, lossless": (7, imagecodecs.ljpeg_encode),
    "jpeg 2000": (33005, lambda tile: imagecodecs.jpeg2k_encode(tile, codecformat="j2k")),
    "jpeg 2000 in boxes": (34712, lambda tile: imagecodecs.jpeg2k_encode(tile, codecformat="jp2")),
    "png": (34933, imagecodecs.png_encode),
    "webp, lossy": (50001, lambda tile: imagecodecs.webp_encode(tile, lossless=False)),
    "webp, lossless": (50001, lambda tile: imagecodecs.webp_encode(tile, lossless=True)),
    "jpeg xl": (50002, imagecodecs.jpegxl_encode),
    "jpeg xl in boxes": (50002, lambda tile: imagecodecs.jpegxl_encode(tile, usecontainer=True)),
    "jpeg xr": (22610, imagecodecs.jpegxr_encode),
    "lerc": (34887, imagecodecs.lerc_encode),
}
SIZES = [Size(256, 256), Size(240, 100), Size(8, 8), Size(513, 300), Size(320, 240), Size(31, 77)]
FLIPPED: dict[str, Callable[[bytearray], int]] = {  # where the coding has a high byte of its width
    "jpeg": lambda data: data.index(b"\xff\xc0") + 7,
    "jpeg 2000": lambda data: 8,
    "jpeg 2000 in boxes": lambda data: data.index(b"\xff\x4f\xff\x51") + 8,
    "png": lambda data: 16,
    "webp, lossy": lambda data: 27,
    "lerc": lambda data: 21,
}


def _tile(size: Size) -> Pixels:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size.height, size.width, 3), np.uint8)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_claimed_size_is_that_of_the_tile(name: str, size: Size) -> None:
    compression, encode = ENCODERS[name]
    tile = _tile(size)
    data = encode(tile[..., 0].copy() if name == "jpeg, lossless" else tile)
    assert claimed_size(compression, bytes(data)) == size


@pytest.mark.parametrize("name", FLIPPED)
def test_a_flipped_bit_is_seen_without_decoding(name: str) -> None:
    compression, encode = ENCODERS[name]
    data = bytearray(encode(_tile(Size(256, 256))))
    data[FLIPPED[name](data)] ^= 0x20
    claimed = claimed_size(compression, bytes(data))
    assert claimed is not None and claimed.width > 8000


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("data", [b"", b"\0" * 40, b"\xff\xd8\xff\xda\0\0"], ids=repr)
def test_data_of_another_coding_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|begin|codestream|frame"):
        claimed_size(ENCODERS[name][0], data)


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 50000])
def test_codings_without_a_size_of_their_own_claim_none(compression: int) -> None:
    assert claimed_size(compression, b"anything") is None


def test_lerc_that_claims_thousands_of_channels_is_refused() -> None:
    data = bytearray(imagecodecs.lerc_encode(_tile(Size(64, 64))))
    data[24] ^= 0x10
    with pytest.raises(ValueError, match=r"claims [\d,]+ channels"):
        claimed_size(34887, bytes(data))

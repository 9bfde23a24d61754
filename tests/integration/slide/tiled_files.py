"""Tiled TIFF in every coding that the fast reader takes, and OpenSlide's pixels to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray

from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.slide import Pixels, Slide
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels
from pydmed_dali.synthetic.pyramid_writer import level_sizes
from pydmed_dali.synthetic.tissue_slides import tissue_image

Source = Callable[[Point, Size, int], Pixels]
APERIO = "Aperio Image Library v11.2.1\nwritten for a test|AppMag = 20|MPP = 0.5"
SIZE = Size(1100, 800)
NO_CACHE = Cache(None)
TAKEN = {
    "CMU-1-Small-Region.svs": "JPEG (RGB)",
    "CMU-1-Small-Region.pyramid.tif": "JPEG (YCbCr)",
    "tcga-cr-7395-01a-01-ts1.svs": "JPEG 2000",
    "packed-biopsies.tif": "JPEG (YCbCr)",
}
_JPEG_TABLES = 347
_SAMPLING = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}


@dataclass(frozen=True)
class Coding:
    """A way to code tiles."""

    kind: str
    """`jpeg` or `jpeg2000`."""
    space: str = "rgb"
    sampling: str = "444"
    tile: int = 256
    tables: bool = False
    """Whether quantization and Huffman tables stand once in the directory, not in each tile."""
    aperio: bool = True

    def __str__(self) -> str:
        words = [self.kind, self.space, self.sampling, str(self.tile)]
        return "-".join(words + ["tables"] * self.tables + ["svs" if self.aperio else "tif"])

    def encode(self, pixels: Pixels) -> bytes:
        if self.kind == "jpeg2000":
            return bytes(imagecodecs.jpeg2k_encode(pixels, reversible=True, codecformat="j2k"))
        return bytes(
            imagecodecs.jpeg8_encode(
                pixels,
                level=85,
                colorspace="RGB",
                outcolorspace=self.space,
                subsampling=self.sampling,
            )
        )

    def tags(self) -> dict[str, Any]:
        tags: dict[str, Any] = {"photometric": self.space, "compression": "jpeg"}
        if self.kind == "jpeg2000":
            tags["compression"] = "aperio_jp2000_rgb"
        if self.space == "ycbcr":
            tags["subsampling"] = _SAMPLING[self.sampling]
        return tags


CODINGS = [
    Coding("jpeg"),
    Coding("jpeg", tile=240, tables=True),
    Coding("jpeg", tile=512, aperio=False),
    Coding("jpeg", "ycbcr", aperio=False),
    Coding("jpeg", "ycbcr", "422", tables=True),
    Coding("jpeg", "ycbcr", "420", tile=240),
    Coding("jpeg", "ycbcr", "420", tile=512, tables=True, aperio=False),
    Coding("jpeg2000"),
    Coding("jpeg2000", tile=240),
]


def write_tiled(
    path: Path, size: Size, coding: Coding, source: Source | None = None, downsample: int = 2
) -> Path:
    """A pyramid of three levels, of tissue unless a source of pixels is given."""
    source = source or _tissue(size, downsample)
    with tifffile.TiffWriter(path) as writer:
        for level, extent in enumerate(level_sizes(size, 3, downsample)):
            tiles = list(_tiles(source, extent, level, coding))
            extra: dict[str, Any] = {}
            if coding.tables:
                tables, tiles = _common_tables(tiles)
                extra["extratags"] = [(_JPEG_TABLES, 7, len(tables), tables, True)]
            writer.write(
                iter(tiles),
                shape=(extent.height, extent.width, 3),
                dtype="uint8",
                tile=(coding.tile, coding.tile),
                subfiletype=int(level > 0),
                description=APERIO if coding.aperio else None,
                metadata=None,
                **coding.tags(),
                **extra,
            )
    return path


def write_lossless_coordinates(path: Path, size: Size) -> Path:
    """A coordinate slide that the fast reader takes: Aperio's JPEG 2000, without loss."""
    return write_tiled(path, size, Coding("jpeg2000"), coordinate_pixels)


def tile_place(path: Path, number: int) -> tuple[int, int]:
    """(where it begins, its length), in bytes, of a tile of the finest level."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        return page.dataoffsets[number], page.databytecounts[number]


def _tiles(source: Source, extent: Size, level: int, coding: Coding) -> Iterator[bytes]:
    side = coding.tile
    for y in range(0, extent.height, side):
        for x in range(0, extent.width, side):
            yield coding.encode(source(Point(x, y), Size(side, side), level))


def _tissue(size: Size, downsample: int) -> Source:
    image = tissue_image(size, tissue="gland", seed=3)
    return lambda location, extent, level: image.pixels(location, extent, downsample**level)


def _common_tables(tiles: list[bytes]) -> tuple[bytes, list[bytes]]:
    """The tables of JPEG streams that all have the same, and the streams without them."""
    parted = [_parted(tile) for tile in tiles]
    (tables,) = {tables for tables, _ in parted}
    return b"\xff\xd8" + tables + b"\xff\xd9", [rest for _, rest in parted]


def _parted(stream: bytes) -> tuple[bytes, bytes]:
    """The DQT and DHT segments of a JPEG stream, and all others."""
    tables, rest, at = b"", stream[:2], 2
    while stream[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at + 1] in (0xDB, 0xC4):
            tables += stream[at:end]
        else:
            rest += stream[at:end]
        at = end
    return tables, rest + stream[at:]


def whole_level(path: Path, level: int) -> NDArray[np.uint8]:
    """A level as OpenSlide reads it from its origin on, where it does not interpolate."""
    with openslide.OpenSlide(path) as slide:
        image = slide.read_region((0, 0), level, slide.level_dimensions[level])
    return np.asarray(image)[..., :3].copy()


def assert_equal_region(
    slide: Slide, reference: NDArray[np.uint8], level: int, place: Point, size: Size
) -> None:
    """A read at `place` (the level's pixels) is the reference there, on white ground beyond it."""
    expected = np.full((size.height, size.width, 3), 255, np.uint8)
    height, width = reference.shape[:2]
    x, y = max(place.x, 0), max(place.y, 0)
    right, bottom = min(place.x + size.width, width), min(place.y + size.height, height)
    if right > x and bottom > y:
        rows = slice(y - place.y, bottom - place.y)
        expected[rows, x - place.x : right - place.x] = reference[y:bottom, x:right]
    downsample = slide.facts.level_downsamples[level]
    out = np.zeros((size.height, size.width + 5, 3), np.uint8)[:, 2:-3]  # not contiguous
    slide.read_into(out, Point(round(place.x * downsample), round(place.y * downsample)), level)
    np.testing.assert_array_equal(out, expected)

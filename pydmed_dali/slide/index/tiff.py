"""Where a TIFF file's tiles lie and how they are coded: what a reader of tiles needs to know."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from pydmed_dali.geometry import Size
from pydmed_dali.slide.slide import SlideFacts

_VENDORS = ("aperio", "generic-tiff")
"""Formats, as OpenSlide names them, of which each level is one tiled directory of the file."""

_JPEG, _JPEG2000_RGB = tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.APERIO_JP2000_RGB
_SPACES: dict[int, str] = {tifffile.PHOTOMETRIC.RGB: "RGB", tifffile.PHOTOMETRIC.YCBCR: "YCBCR"}

_MOST_BYTES_A_PIXEL, _MOST_BYTES_MORE = 6, 1 << 16
"""A coded tile is shorter than twice its pixels and some headers: all of it is read at once."""

# tifffile logs what it finds wrong in a file; without a handler that goes to standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class UnsuitedError(Exception):
    """A file's tiles are not of the kind that is read here; the text says why, for the user."""


@dataclass(frozen=True, slots=True)
class TiledLevel:
    """One level's tiles, row after row."""

    dimensions: Size
    """Extent in the level's own pixels; the last tiles of rows and columns reach beyond it."""
    tile: Size
    """Extent of a tile."""
    offsets: NDArray[np.int64]
    """(tiles,): where each begins in the file, in bytes."""
    counts: NDArray[np.int64]
    """(tiles,): how long each is, in bytes."""
    jpeg_space: str | None
    """The colour space inside JPEG tiles, `RGB` or `YCBCR`; None for JPEG 2000 tiles, in RGB."""
    jpeg_tables: bytes | None
    """Quantization and Huffman tables that the JPEG tiles have in common."""

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.dimensions.width // self.tile.width)

    @property
    def rows(self) -> int:
        """Tiles in a column."""
        return -(-self.dimensions.height // self.tile.height)

    @property
    def coding(self) -> str:
        """The coding of the tiles, in words."""
        if self.jpeg_space is None:
            return "JPEG 2000"
        return "JPEG (YCbCr)" if self.jpeg_space == "YCBCR" else "JPEG (RGB)"


def index_tiles(path: Path, facts: SlideFacts) -> tuple[TiledLevel, ...]:
    """The tiles of each level that OpenSlide found in the file at `path`.

    Raises `UnsuitedError` unless OpenSlide is known to take every level's tiles from one directory
    of the file, all of them present and coded as JPEG (RGB or YCbCr) or JPEG 2000 (RGB).
    """
    if facts.vendor not in _VENDORS:
        raise UnsuitedError(f"the format is {facts.vendor}, not one of {' or '.join(_VENDORS)}")
    length = path.stat().st_size
    try:
        with tifffile.TiffFile(path) as file:
            pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
            tiled = [page for page in pages if page.is_tiled]
            return tuple(_level(tiled, size, length) for size in facts.level_dimensions)
    except UnsuitedError:
        raise
    except Exception as error:  # tifffile raises whatever a malformed directory leads it to
        raise UnsuitedError(f"tifffile cannot read its directories ({error!r})") from error


def _level(pages: list[tifffile.TiffPage], size: Size, length: int) -> TiledLevel:
    """The one page that has the level's size; `length` is the file's, in bytes."""
    fitting = [page for page in pages if (page.imagewidth, page.imagelength) == _pair(size)]
    if len(fitting) != 1:
        raise UnsuitedError(f"{len(fitting)} tiled directories have the {size} pixels of a level")
    page = fitting[0]
    _refuse_others(page)
    level = TiledLevel(
        dimensions=size,
        tile=Size(page.tilewidth, page.tilelength),
        offsets=np.asarray(page.dataoffsets, np.int64),
        counts=np.asarray(page.databytecounts, np.int64),
        jpeg_space=_SPACES[page.photometric] if page.compression == _JPEG else None,
        jpeg_tables=page.jpegtables,
    )
    tiles = level.columns * level.rows
    if len(level.offsets) != tiles or len(level.counts) != tiles:
        raise UnsuitedError(f"level {size} has {tiles} tiles, but {len(level.offsets)} offsets")
    if (level.counts <= 0).any():
        raise UnsuitedError(f"{int((level.counts <= 0).sum())} tiles of level {size} are missing")
    if int(level.counts.max()) > _MOST_BYTES_A_PIXEL * level.tile.area + _MOST_BYTES_MORE:
        raise UnsuitedError(f"a tile of level {size} claims {int(level.counts.max()):,} bytes")
    if (level.offsets < 0).any() or (level.offsets + level.counts > length).any():
        raise UnsuitedError(f"tiles of level {size} lie beyond the end of the file")
    return level


def _refuse_others(page: tifffile.TiffPage) -> None:
    """Raise `UnsuitedError` for a page whose tiles are not read here."""
    is_jpeg = page.compression == _JPEG and page.photometric in _SPACES
    is_jpeg2000 = page.compression == _JPEG2000_RGB and page.photometric == tifffile.PHOTOMETRIC.RGB
    if not (is_jpeg or is_jpeg2000):
        names = f"{_name(page.compression)} in {_name(page.photometric)}"
        raise UnsuitedError(f"its tiles are coded as {names}")
    shape = (page.samplesperpixel, page.bitspersample, page.planarconfig, page.imagedepth)
    if shape != (3, 8, tifffile.PLANARCONFIG.CONTIG, 1):
        raise UnsuitedError("its tiles are not of three interleaved channels of 8 bits")


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


def _pair(size: Size) -> tuple[int, int]:
    return size.width, size.height

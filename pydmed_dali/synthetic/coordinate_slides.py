"""Lossless slides whose every pixel says where it lies, to prove what a reader reads.

A pixel (x, y) of a level, in that level's own frame, has the colour

    red = x mod 256, green = y mod 256, blue = mix(x div 256, y div 256, level)

so that red and green tell the place inside a block of 256x256 pixels and blue tells blocks and
levels apart (two neighbouring blocks agree by chance with a probability of 1 in 224). Blue lies in
0..223: no pixel is white or nearly so, and none can be taken for a slide's ground.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.synthetic.pyramid_writer import (
    Progress,
    TileCoding,
    check_tile,
    level_sizes,
    write_pyramid,
)

_BLUES = 224
_WORD = 0xFFFFFFFF


def coordinate_pixels(location_in_level: Point, size: Size, level: int) -> Pixels:
    """The pixels of `level` from `location_in_level` on: (height, width, 3) uint8 RGB.

    Both the location and the size are in the level's own pixels. The function knows no slide's
    edge: it goes on beyond it, also to negative coordinates.
    """
    x = np.arange(location_in_level.x, location_in_level.x + size.width)
    y = np.arange(location_in_level.y, location_in_level.y + size.height)
    pixels = np.empty((size.height, size.width, 3), np.uint8)
    pixels[:, :, 0] = x & 255
    pixels[:, :, 1] = (y & 255)[:, None]
    if pixels.size:
        columns, rows = x >> 8, y >> 8
        blues = _blue(_span(columns), _span(rows), level)
        pixels[:, :, 2] = blues[(rows - rows[0])[:, None], columns - columns[0]]
    return pixels


def write_coordinate_slide(
    path: str | os.PathLike[str],
    size: Size,
    *,
    levels: int = 3,
    tile: int = 256,
    downsample: int = 2,
    mpp: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a slide of `coordinate_pixels` to `path`, which OpenSlide opens as `generic-tiff`.

    A tiled BigTIFF, 8-bit RGB, deflate with horizontal differences (1 KB per tile of 256x256).
    Level `l` has ceil(size / downsample**l) pixels; where the size is a multiple of
    downsample**(levels - 1), OpenSlide's level_downsamples are exact whole numbers.

    Args:
        path: the file to write, replaced whole if it exists; its folder must exist.
        size: width and height in level-0 pixels; one tile at a time is in memory.
        levels: number of levels; the coarsest has at least 1 pixel in each direction.
        tile: side of the tiles in pixels, a multiple of 16.
        downsample: a whole number, pixels of a level per pixel of the next coarser.
        mpp: micrometres per level-0 pixel, in the resolution tags; None leaves the scale unknown.
        progress: called as `progress(done_tiles, total_tiles)` after each tile.

    Returns:
        The path of the slide.

    Raises:
        OptionError: an argument is out of its range.
    """
    sizes = level_sizes(size, levels, downsample)
    check_tile(tile)
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise OptionError(f"mpp must be more than 0 micrometres per pixel, not {mpp!r}")
    coding = TileCoding(_deflated, compression="adobe_deflate", predictor=True)
    return write_pyramid(
        path, sizes, coordinate_pixels, tile=tile, coding=coding, mpp=mpp, progress=progress
    )


def _deflated(pixels: Pixels) -> bytes:
    differences = imagecodecs.delta_encode(pixels, axis=1)
    return bytes(imagecodecs.zlib_encode(differences.tobytes(), level=6))


def _span(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.arange(blocks[0], blocks[-1] + 1)


def _blue(columns: NDArray[np.int64], rows: NDArray[np.int64], level: int) -> NDArray[np.uint8]:
    """Mix block positions and level: (rows, columns) uint8 below 224, by murmur3's finalizer."""
    column, row = (columns & _WORD).astype(np.uint32), (rows & _WORD).astype(np.uint32)
    mixed = column * np.uint32(0x9E3779B1) + (row * np.uint32(0x85EBCA77))[:, None]
    mixed += np.uint32(level * 0xC2B2AE3D & _WORD)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    return (mixed % _BLUES).astype(np.uint8)

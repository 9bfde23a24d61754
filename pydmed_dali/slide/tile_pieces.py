"""Which pieces of which tiles images show: each tile is decoded once, whichever images show it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Size
from pydmed_dali.slide.index.tiff import TiledLevel

CHANNELS = 3
"""Bytes of a pixel."""

Integers = NDArray[np.int64]


class TilePieces(NamedTuple):
    """Pieces of tiles that images show, tile after tile; of each, and of its image: where it lies,
    in rows and in bytes of a row.
    """

    tile: Integers
    image: Integers
    top: Integers
    bottom: Integers
    left: Integers
    right: Integers
    y: Integers
    x: Integers


def find_tile_pieces(places: Integers, size: Size, tiles: TiledLevel) -> TilePieces:
    """What images of `size` at `places` (n, 2), (y, x) in the level's pixels, take of its tiles."""
    height, width = tiles.tile.height, tiles.tile.width
    begin = np.maximum(places, 0).astype(np.int64)
    extent = (tiles.dimensions.height, tiles.dimensions.width)
    end = np.minimum(places + np.array((size.height, size.width)), extent)
    first = begin // (height, width)
    row = first[:, 0] + np.arange((size.height - 1) // height + 2)[:, None, None]
    column = first[:, 1] + np.arange((size.width - 1) // width + 2)[:, None]
    top, left = np.maximum(begin[:, 0], row * height), np.maximum(begin[:, 1], column * width)
    bottom = np.minimum(end[:, 0], (row + 1) * height)
    right = np.minimum(end[:, 1], (column + 1) * width)
    met = (top < bottom) & (left < right)  # (tiles down, tiles along, images)
    found = TilePieces(
        row * tiles.columns + column,
        np.arange(len(places)),
        top - row * height,
        bottom - row * height,
        (left - column * width) * CHANNELS,
        (right - column * width) * CHANNELS,
        top - places[:, 0],
        (left - places[:, 1]) * CHANNELS,
    )
    flat = [np.broadcast_to(values, met.shape)[met] for values in found]
    order = np.argsort(flat[0], kind="stable")
    return TilePieces(*(values[order] for values in flat))

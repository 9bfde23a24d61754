"""A slide's classes as a tiled, pyramidal TIFF in colours, which OpenSlide and QuPath open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

Classes = NDArray[np.uint8]

UNCOVERED = 255
"""The value of pixels that no tile covers."""

_TILE, _SMALLEST = 256, 512
COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167), (90, 90, 90)),
)
"""M. Okabe and K. Ito's colours, in turn; class 0 is pale grey, and what is not covered white."""


def write_classes(
    path: Path,
    classes: Classes,
    mpp: tuple[float, float] | None,
    pixel: tuple[float, float],
    slide: Mapping[str, Any] | None = None,
) -> None:
    """Write (height, width) class numbers, `UNCOVERED` where there is none; `mpp` is of its pixels,
    and `pixel` how large (x, y) they are in level-0 pixels of the slide. `slide` tells which slide
    it is: see `folder.origin`; its `bounds`, [x, y, width, height], tell what of it was scanned.

    Each level has half as many pixels a side as the one before, every second one of each axis, so
    that all are class numbers. `classes` may be larger than the memory: a tile at a time is taken.
    """
    resolution = None if mpp is None else (1e4 / mpp[0], 1e4 / mpp[1])
    with tifffile.TiffWriter(path, bigtiff=classes.nbytes > 2**31) as file:
        level = classes
        while True:
            file.write(
                _tiles(level),
                shape=level.shape,
                dtype=level.dtype,
                photometric="palette",
                colormap=_palette(),
                tile=(_TILE, _TILE),
                compression="zlib",
                subfiletype=int(level is not classes),
                resolution=resolution,
                resolutionunit=None if resolution is None else "CENTIMETER",
                description=json.dumps({"pixel_level0": pixel, **(slide or {})}),
                metadata=None,
            )
            if max(level.shape) <= _SMALLEST:
                return
            level = level[::2, ::2]
            if resolution is not None:
                resolution = (resolution[0] / 2, resolution[1] / 2)


def description_of(path: Path) -> dict[str, Any]:
    """What a picture says of itself; nothing for a file that is none."""
    try:
        with tifffile.TiffFile(path) as file:
            found = json.loads(file.pages.first.description)
    except Exception:  # tifffile raises whatever a damaged file leads it to
        return {}
    return found if isinstance(found, dict) else {}


def _tiles(level: Classes) -> Iterator[Classes]:
    """The tiles of a level, row by row, those at the edges filled up."""
    for top in range(0, level.shape[0], _TILE):
        for left in range(0, level.shape[1], _TILE):
            tile = np.full((_TILE, _TILE), UNCOVERED, np.uint8)
            found = level[top : top + _TILE, left : left + _TILE]
            tile[: found.shape[0], : found.shape[1]] = found
            yield tile


def _palette() -> NDArray[np.uint16]:
    """(3, 256): red, green and blue of each value."""
    colours = np.zeros((256, 3), np.uint16)
    colours[0] = 225
    colours[1:] = [COLOURS[n % len(COLOURS)] for n in range(255)]
    colours[UNCOVERED] = 255
    return np.ascontiguousarray((colours * 257).T)

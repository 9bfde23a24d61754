"""Writes a tiled pyramid as BigTIFF, one tile in memory at a time, and puts it in place whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels

Progress = Callable[[int, int], None]
"""Called as `progress(done_tiles, total_tiles)` with each tile that is ready to be written."""

_TILE_STEP = 16


@dataclass(frozen=True, slots=True)
class TileCoding:
    """How a tile becomes bytes, and how the file's tags say so."""

    encode: Callable[[Pixels], bytes]
    """Makes the compressed tile of (tile, tile, 3) uint8 RGB pixels."""
    compression: str
    """tifffile's name of the compression, e.g. `jpeg`."""
    photometric: str = "rgb"
    """tifffile's name of the colour space inside the file: `rgb` or `ycbcr`."""
    subsampling: tuple[int, int] | None = None
    """Chroma subsampling (horizontal, vertical) of `ycbcr`."""
    predictor: bool = False
    """Whether the tile's bytes are horizontal differences."""


def level_sizes(size: Size, levels: int, downsample: int) -> tuple[Size, ...]:
    """Sizes of a pyramid's levels, each in its own pixels, finest first.

    A level has ceil(size / downsample**level) pixels, so none loses the slide's last row or column.
    The size must reach `downsample**(levels - 1)` in both directions: OpenSlide sorts levels by
    width, which must therefore shrink from level to level. Raises `OptionError` otherwise.
    """
    check_count("levels", levels, 1)
    check_count("downsample", downsample, 2)
    size = Size.of(size, "size")
    coarsest = downsample ** (levels - 1)
    if min(size.width, size.height) < coarsest:
        raise OptionError(
            f"{levels} levels with downsample={downsample} need at least {coarsest} pixels in each"
            f" direction, the slide has {size}: lower levels"
        )
    steps = [downsample**level for level in range(levels)]
    return tuple(Size(-(-size.width // step), -(-size.height // step)) for step in steps)


def check_count(name: str, value: int, least: int) -> None:
    """Raise `OptionError` unless `value` is an int of at least `least`; `name` is the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, not {value!r}")


def check_tile(tile: int) -> None:
    """Raise `OptionError` unless `tile` is a side that TIFF allows: a multiple of 16 pixels."""
    check_count("tile", tile, _TILE_STEP)
    if tile % _TILE_STEP:
        raise OptionError(f"tile must be a multiple of {_TILE_STEP} pixels, not {tile}")


def write_pyramid(
    path: str | os.PathLike[str],
    sizes: tuple[Size, ...],
    pixels: Callable[[Point, Size, int], Pixels],
    *,
    tile: int,
    coding: TileCoding,
    mpp: float | None = None,
    description: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the levels `sizes` to `path`, taking each tile from `pixels` just before it is written.

    `pixels(location, size, level)` returns (tile, tile, 3) uint8 RGB; its location is in the
    level's own pixels, and the last tile of a row or column reaches beyond the level. The file is
    written under a temporary name beside `path` and then renamed: whatever stops the writing, an
    exception of `pixels` or `progress` or Ctrl-C, leaves what was at `path` before and no
    temporary file (a process that is killed leaves `.NAME.*.part`).
    """
    path = Path(path)
    count = _Count(sum(_tiles_across(size, tile).area for size in sizes), progress)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(unfinished, "xb") as file, tifffile.TiffWriter(file, bigtiff=True) as writer:
            for level, size in enumerate(sizes):
                writer.write(
                    _encoded_tiles(size, level, tile, pixels, coding, count),
                    subfiletype=int(level > 0),
                    description=description if level == 0 else None,
                    **_tags(size, tile, coding),
                    **_resolution(mpp, sizes[0], size),
                )
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return path


class _Count:
    """Counts tiles and tells `progress` about each."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done = 0
        self.total = total
        self.progress = progress

    def one(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _tiles_across(size: Size, tile: int) -> Size:
    return Size(-(-size.width // tile), -(-size.height // tile))


def _encoded_tiles(
    size: Size,
    level: int,
    tile: int,
    pixels: Callable[[Point, Size, int], Pixels],
    coding: TileCoding,
    count: _Count,
) -> Iterator[bytes]:
    across = _tiles_across(size, tile)
    for row in range(across.height):
        for column in range(across.width):
            place = Point(column * tile, row * tile)
            encoded = coding.encode(pixels(place, Size(tile, tile), level))
            # Counted before it is handed over: tifffile asks for no more than the level's tiles,
            # so what follows the last yield would never run.
            count.one()
            yield encoded


def _tags(size: Size, tile: int, coding: TileCoding) -> dict[str, Any]:
    tags: dict[str, Any] = {
        "shape": (size.height, size.width, 3),
        "dtype": np.uint8,
        "tile": (tile, tile),
        "photometric": coding.photometric,
        "compression": coding.compression,
        "metadata": None,
        "software": "pydmed-dali",
    }
    if coding.predictor:
        tags["predictor"] = 2
    if coding.subsampling is not None:
        tags["subsampling"] = coding.subsampling
    return tags


def _resolution(mpp: float | None, finest: Size, size: Size) -> dict[str, Any]:
    """Tags of a level's pixels per centimetre; none where `mpp` is not known."""
    if mpp is None:
        return {}
    across, down = (
        1e4 / mpp * level / slide
        for level, slide in ((size.width, finest.width), (size.height, finest.height))
    )
    return {"resolution": (across, down), "resolutionunit": "CENTIMETER"}

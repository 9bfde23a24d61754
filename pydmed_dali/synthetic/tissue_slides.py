"""Slides that look like tissue in hematoxylin and eosin, for trying, testing and teaching.

Each slide is of one class, which a crop of 128x128 level-0 pixels on the tissue suffices to tell.
Nothing in them is taken from a patient, and nothing about patients can be learnt from them.
"""

from __future__ import annotations

import os
from pathlib import Path

import imagecodecs
import numpy as np

from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.synthetic.painters import PAINTERS
from pydmed_dali.synthetic.pyramid_writer import (
    Progress,
    TileCoding,
    check_count,
    check_tile,
    level_sizes,
    write_pyramid,
)
from pydmed_dali.synthetic.stains import GROUND
from pydmed_dali.synthetic.tissue_image import TissueImage

TISSUES: tuple[str, ...] = tuple(sorted(PAINTERS))
"""The classes of tissue, in alphabetical order."""

FINEST_MPP, COARSEST_MPP = 0.2, 1.0
"""Limits of a slide's micrometres per level-0 pixel."""

_OVERVIEW = 1024


def tissue_image(size: Size, *, tissue: str, seed: int, mpp: float = 0.5) -> TissueImage:
    """The image that `write_tissue_slide` writes with the same arguments, without a file.

    Raises `OptionError` if an argument is out of its range.
    """
    if tissue not in TISSUES:
        raise OptionError(f"tissue must be one of {', '.join(TISSUES)}, not {tissue!r}")
    check_count("seed", seed, 0)
    if not FINEST_MPP <= mpp <= COARSEST_MPP:
        raise OptionError(
            f"mpp must be from {FINEST_MPP} to {COARSEST_MPP} micrometres per pixel, not {mpp!r}"
        )
    return TissueImage(Size.of(size, "size"), tissue, seed, mpp)


def write_tissue_slide(
    path: str | os.PathLike[str],
    size: Size,
    *,
    tissue: str,
    seed: int,
    mpp: float = 0.5,
    tile: int = 256,
    downsample: int = 4,
    levels: int | None = None,
    quality: int = 80,
    progress: Progress | None = None,
) -> Path:
    """Write a slide of one class of tissue to `path`, which OpenSlide opens as `aperio`.

    A tiled BigTIFF with JPEG tiles (baseline, YCbCr, chroma halved in both directions). One piece
    of tissue with a ragged edge covers about two thirds of it, the rest is empty glass of grey
    value 243; the seed decides the outline, the texture, its direction and the staining.

    Args:
        path: the file to write, replaced whole if it exists; its folder must exist. Name it `.svs`,
            as Aperio's files are.
        size: width and height in level-0 pixels; memory does not depend on it.
        tissue: one of `TISSUES`.
        seed: a whole number from 0 on; another seed is another slide of the same class.
        mpp: micrometres per level-0 pixel, 0.2 to 1.0: nuclei have their true size in pixels.
        tile: side of the tiles in pixels, a multiple of 16.
        downsample: a power of two, pixels of a level per pixel of the next coarser.
        levels: number of levels; None takes as many as bring the coarsest to at most 1024 pixels.
        quality: of the JPEG tiles, 1 to 100.
        progress: called as `progress(done_tiles, total_tiles)` after each tile.

    Returns:
        The path of the slide. Level `l` has ceil(size / downsample**l) pixels.

    Raises:
        OptionError: an argument is out of its range.
    """
    check_count("downsample", downsample, 2)
    if downsample & (downsample - 1):
        raise OptionError(f"downsample must be a power of two, not {downsample}")
    size = Size.of(size, "size")
    if levels is None:
        levels = _levels(size, downsample)
    sizes = level_sizes(size, levels, downsample)
    check_tile(tile)
    check_count("quality", quality, 1)
    if quality > 100:
        raise OptionError(f"quality must be at most 100, not {quality}")
    image = tissue_image(size, tissue=tissue, seed=seed, mpp=mpp)

    def pixels(location_in_level: Point, tile_size: Size, level: int) -> Pixels:
        return image.pixels(location_in_level, tile_size, downsample**level)

    return write_pyramid(
        path,
        sizes,
        pixels,
        tile=tile,
        coding=TileCoding(_JpegEncoder(quality), "jpeg", "ycbcr", subsampling=(2, 2)),
        mpp=mpp,
        description=_description(size, tile, quality, mpp),
        progress=progress,
    )


class _JpegEncoder:
    """Encodes tiles, and the empty ones only once."""

    def __init__(self, quality: int) -> None:
        self._quality = quality
        self._empty = b""

    def __call__(self, pixels: Pixels) -> bytes:
        if bool(np.all(pixels == GROUND)):
            self._empty = self._empty or self._encoded(pixels)
            return self._empty
        return self._encoded(pixels)

    def _encoded(self, pixels: Pixels) -> bytes:
        return bytes(
            imagecodecs.jpeg8_encode(
                pixels,
                level=self._quality,
                colorspace="RGB",
                outcolorspace="YCBCR",
                subsampling="420",
            )
        )


def _levels(size: Size, downsample: int) -> int:
    """Levels until the longer side is at most `_OVERVIEW`, or the shorter one would vanish."""
    levels = 1
    while (
        max(size.width, size.height) > _OVERVIEW * downsample ** (levels - 1)
        and min(size.width, size.height) >= downsample**levels
    ):
        levels += 1
    return levels


def _description(size: Size, tile: int, quality: int, mpp: float) -> str:
    """What OpenSlide knows Aperio's files by, with the scale and the objective's power."""
    return (
        "Aperio compatible: synthetic tissue by pydmed-dali\r\n"
        f"{size} [0,0 {size}] ({tile}x{tile}) JPEG/YCC Q={quality}"
        f"|AppMag = {10 / mpp:.4g}|MPP = {mpp:.10g}"
    )

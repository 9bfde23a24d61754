"""The colour of what was not scanned, and of what lies beyond a slide's edge.

The file's word wins. Without it the colour follows from the slide's kind: a mask of labels goes on
with label 0, a dark slide (fluorescence) with its own dark ground, and any other with white.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide
import tifffile

from pydmed_dali.slide.ground import has_dark_ground, is_black
from pydmed_dali.slide.slide import WHITE, Pixels

BLACK = (0, 0, 0)

_FEWEST = 1 << 14
"""Pixels that tell a slide's kind: the coarsest level with so many is looked at."""
_FEWEST_SCANNED = 1 << 12
"""Of these, pixels that must have been scanned for a slide to count as dark."""
_MOST_READ = 1 << 20
"""Pixels of that level, up to which all of it is looked at; else some blocks are."""
_BLOCKS, _SIDE = 4, 64
"""Blocks along each axis, and how many pixels wide and high each is."""


@dataclass(frozen=True, slots=True)
class Background:
    """The colour, and why it is this one."""

    colour: tuple[int, int, int]
    """Red, green and blue."""
    reason: str
    """For people, in a few words."""


def told_background(slide: openslide.OpenSlide, path: Path) -> Background | None:
    """What the file itself tells, by its properties and tags; None where only its pixels can."""
    colour = slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "").lstrip("#")
    if len(colour) == 6:
        red, green, blue = bytes.fromhex(colour)
        return Background((red, green, blue), "the file tells it")
    if slide.properties.get(openslide.PROPERTY_NAME_VENDOR) == "generic-tiff" and _is_single(path):
        return Background(BLACK, "0, as of a mask: the file has a single channel")
    return None


def seen_background(slide: openslide.OpenSlide) -> Background:
    """What the pixels of a coarse level show: dark ground, or white for any other.

    The coarsest level of at least 16,384 pixels is looked at: all of it up to 1024x1024 pixels,
    else 16 blocks of 64x64 spread evenly; of these, the pixels that were scanned. With fewer than
    4,096 of them, a slide counts as light. Raises what reading raises.
    """
    scanned = np.concatenate([block[block[..., 3] == 255][:, :3] for block in _blocks(slide)])
    if len(scanned) < _FEWEST_SCANNED or not has_dark_ground(scanned[None]):
        return Background(WHITE, "white, as the file tells none and its ground is not dark")
    ground = np.median(scanned[is_black(scanned)], axis=0)
    red, green, blue = np.rint(ground).astype(int).tolist()
    return Background((red, green, blue), "the slide's own dark ground, as in fluorescence")


def _is_single(path: Path) -> bool:
    """Whether a TIFF holds one channel of numbers, and no colours; False where nothing tells."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return bool(
                page.samplesperpixel == 1 and page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
            )
    except Exception:  # tifffile raises whatever a malformed directory leads it to
        return False


def _blocks(slide: openslide.OpenSlide) -> Iterator[Pixels]:
    """(height, width, 4) uint8 RGBA: all of the level, or some of it."""
    areas = [width * height for width, height in slide.level_dimensions]
    level = max((n for n, area in enumerate(areas) if area >= _FEWEST), default=0)
    width, height = slide.level_dimensions[level]
    if width * height <= _MOST_READ:
        yield np.asarray(slide.read_region((0, 0), level, (width, height)))
        return
    step = slide.level_downsamples[level]
    for row in range(_BLOCKS):
        for column in range(_BLOCKS):
            x, y = (
                max((2 * n + 1) * side // (2 * _BLOCKS) - _SIDE // 2, 0)
                for n, side in ((column, width), (row, height))
            )
            place = (round(x * step), round(y * step))
            yield np.asarray(slide.read_region(place, level, (_SIDE, _SIDE)))

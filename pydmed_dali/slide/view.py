"""The view of a slide that is cut into chunks: a level, or a level resampled to an mpp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pydmed_dali.errors import SlideScaleError
from pydmed_dali.geometry import Point, Region, Size
from pydmed_dali.slide.scanned_bounds import in_view
from pydmed_dali.slide.slide import Slide, SlideFacts
from pydmed_dali.slide.tiled_slide import TiledSlide

MPP_TOLERANCE = 0.05
"""A level whose mpp is this close (relative) to the requested one is used without resampling."""

_MOST_AT_ONCE = 512  # pixels a side that are resampled at once, and
_MOST_SOURCE = 4096  # those of the level that they are made of: a coarse view needs much of it
_MARGIN = 4  # source pixels per step of the scale that the resampling filter may look beyond
_MOST_SCALE = 256
"""Steps of a level per view pixel: beyond, a slide's mpp is not believed."""


@dataclass(frozen=True, slots=True)
class View:
    """One slide at one resolution. Its pixels are those of chunks and crops."""

    level: int
    """The level of the file that is read."""
    scale: tuple[float, float]
    """Pixels of that level per view pixel (x, y): 1.0 where the level is not resampled."""
    dimensions: Size
    """Extent of the whole slide in view pixels."""
    downsample: tuple[float, float]
    """Level-0 pixels per view pixel (x, y)."""
    tile: Size
    """The file's storage cell in view pixels; 1x1 where it is unknown or the level is resampled."""
    mpp: tuple[float, float] | None
    """Micrometres per view pixel (x, y): the effective one. None where it is not known."""
    scanned: Region | None = None
    """What was scanned, in view pixels: those that lie wholly inside `SlideFacts.bounds`. None for
    the whole slide, as far as the file tells."""

    @property
    def is_level(self) -> bool:
        """Whether a level of the file is used without resampling."""
        return self.scale == (1.0, 1.0)

    def location(self, origin: Point) -> Point:
        """The level-0 pixel of a place given in view pixels."""
        return Point(round(origin.x * self.downsample[0]), round(origin.y * self.downsample[1]))


def choose_view(facts: SlideFacts, path: Path, level: int | None, mpp: float | None) -> View:
    """The view for a level, or for a resolution in micrometres per pixel; give one of the two.

    For `mpp`, a level within 5% is used without resampling; otherwise the nearest finer level
    is to be resampled. Raises `SlideScaleError` for a level that the slide does not have, for
    an mpp finer than it has or absurdly coarser, and for an mpp where the file tells none.
    """
    if mpp is None:
        return _level_view(facts, path, 0 if level is None else level)
    if facts.mpp is None:
        raise SlideScaleError(
            f"{path}: mpp={mpp} was asked for, but the file does not tell its micrometres per "
            f"pixel; give default_mpp, or ask for level=0..{len(facts.level_downsamples) - 1} "
            "instead"
        )
    finest = math.sqrt(facts.mpp[0] * facts.mpp[1])
    has = f"{finest:.4g} micrometres per pixel; ask for mpp >= {finest:.4g}"
    view = view_at(facts, path, (mpp / facts.mpp[0], mpp / facts.mpp[1]), f"mpp={mpp}", has)
    return view if view.is_level else replace(view, mpp=(mpp, mpp))


def view_at(
    facts: SlideFacts, path: Path, target: tuple[float, float], asked: str, has: str
) -> View:
    """The view with about `target` level-0 pixels per pixel (x, y): a level within 5% (of the
    geometric mean) as it is, otherwise the nearest finer level resampled.

    `asked` and `has` word the error where the slide is not so fine: what was asked for, and what
    the finest level has. Raises `SlideScaleError`.
    """
    step = math.sqrt(target[0] * target[1])
    for number, downsample in enumerate(facts.level_downsamples):
        if abs(downsample / step - 1) <= MPP_TOLERANCE:
            return _level_view(facts, path, number)
    if step < 1:
        raise SlideScaleError(f"{path}: {asked} was asked for, but the finest level has {has}")
    finer = max(n for n, d in enumerate(facts.level_downsamples) if d < step)
    return _resampled_view(facts, path, finer, target, asked)


def read_view(
    slide: Slide, view: View, origin: Point, out: NDArray[Any], parts: Sequence[Region]
) -> None:
    """Fill the `parts` of `out` (height, width, channels) with the view's pixels from `origin` on.

    `origin` is in view pixels, the parts are in those of `out`; other places of `out` may be filled
    or left as they are. Places outside the slide take the background colour.

    Resampling is Pillow's antialiased Hamming filter, computed block by block so that a coarse view
    of a fine level does not hold the whole of it; a filter without jumps, so that blocks and chunks
    do not show. Whole numbers are rounded and kept within their type.
    """
    if view.is_level:
        places = [
            view.location(Point(origin.x + part.location.x, origin.y + part.location.y))
            for part in parts
        ]
        if isinstance(slide, TiledSlide):
            slide.read_parts(out, parts, places, view.level)
        else:
            for place, part in zip(places, parts, strict=True):
                slide.read_into(out[part.slices], place, view.level)
        return
    side = min(_MOST_AT_ONCE, int(_MOST_SOURCE / max(view.scale)))
    for top in range(0, out.shape[0], side):
        for left in range(0, out.shape[1], side):
            block = Region(Point(left, top), Size(side, side))
            if any(_meet(part, block) for part in parts):
                corner = Point(origin.x + left, origin.y + top)
                _resample(slide, view, corner, out[block.slices])


def reads_crops(slide: Slide, view: View) -> bool:
    """Whether `read_crops` can be used: not where a view is resampled, or OpenSlide reads."""
    return view.is_level and isinstance(slide, TiledSlide)


def read_crops(
    slide: Slide, view: View, origin: Point, crops: NDArray[np.int32], out: NDArray[Any]
) -> int:
    """Fill `out`, (R, height, width, 3), with the crops at `crops`, (R, 2) (y, x), of a chunk.

    `origin` is the chunk's corner, and all is in view pixels. What comes is what `read_view` would
    fill a chunk with, and is decoded once as there. Returns how many pixels were decoded.
    """
    assert isinstance(slide, TiledSlide)
    return slide.read_crops(out, crops + np.array((origin.y, origin.x)), view.level)


def _meet(one: Region, other: Region) -> bool:
    """Whether two regions have a pixel in common."""
    return all(
        mine.start < theirs.stop and theirs.start < mine.stop
        for mine, theirs in zip(one.slices, other.slices, strict=True)
    )


def _level_view(facts: SlideFacts, path: Path, level: int) -> View:
    count = len(facts.level_downsamples)
    if not 0 <= level < count:
        raise SlideScaleError(
            f"{path}: level {level} was asked for, but the slide has levels 0..{count - 1} "
            f"({', '.join(map(str, facts.level_dimensions))})"
        )
    downsample = facts.level_downsamples[level]
    mpp = None if facts.mpp is None else (facts.mpp[0] * downsample, facts.mpp[1] * downsample)
    steps, extent = (downsample, downsample), facts.level_dimensions[level]
    return View(
        level=level,
        scale=(1.0, 1.0),
        dimensions=extent,
        downsample=steps,
        tile=facts.tile_sizes[level] or Size(1, 1),
        mpp=mpp,
        scanned=in_view(facts.bounds, steps, extent),
    )


def _resampled_view(
    facts: SlideFacts, path: Path, level: int, target: tuple[float, float], asked: str
) -> View:
    downsample = facts.level_downsamples[level]
    scale = (target[0] / downsample, target[1] / downsample)
    if max(scale) > _MOST_SCALE:
        raise SlideScaleError(
            f"{path}: {asked} was asked for, {max(scale):,.0f} times coarser than the level that "
            f"would be resampled; at most {_MOST_SCALE} times is: is the file's mpp right?"
        )
    size = facts.level_dimensions[level]
    mpp = None if facts.mpp is None else (facts.mpp[0] * target[0], facts.mpp[1] * target[1])
    extent = Size(max(int(size.width / scale[0]), 1), max(int(size.height / scale[1]), 1))
    return View(
        level=level,
        scale=scale,
        dimensions=extent,
        downsample=target,
        tile=Size(1, 1),
        mpp=mpp,
        scanned=in_view(facts.bounds, target, extent),
    )


def _resample(slide: Slide, view: View, origin: Point, out: NDArray[Any]) -> None:
    """Read the source of one block with a margin for the filter, and resample it into `out`."""
    height, width = out.shape[:2]
    box = (
        origin.x * view.scale[0],
        origin.y * view.scale[1],
        (origin.x + width) * view.scale[0],
        (origin.y + height) * view.scale[1],
    )
    margin = math.ceil(_MARGIN * max(view.scale))
    left, top = math.floor(box[0]) - margin, math.floor(box[1]) - margin
    right, bottom = math.ceil(box[2]) + margin, math.ceil(box[3]) + margin
    source = np.empty((bottom - top, right - left, out.shape[2]), out.dtype)
    downsample = slide.facts.level_downsamples[view.level]
    slide.read_into(source, Point(round(left * downsample), round(top * downsample)), view.level)
    moved = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    if out.shape[2] == 3 and out.dtype == np.uint8:
        out[:] = _resized(source, (width, height), moved)
        return
    for channel in range(out.shape[2]):
        values = _resized(source[..., channel].astype(np.float32), (width, height), moved)
        if out.dtype.kind in "iu":
            limits = np.iinfo(out.dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        out[..., channel] = values


def _resized(
    source: NDArray[Any], size: tuple[int, int], box: tuple[float, float, float, float]
) -> NDArray[Any]:
    """The `box` (left, top, right, bottom) of an image, resampled to (width, height)."""
    image = Image.fromarray(source).resize(size, Image.Resampling.HAMMING, box=box)
    return np.asarray(image)

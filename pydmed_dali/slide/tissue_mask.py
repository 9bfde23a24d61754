"""Where on a slide there is tissue: computed from the slide, or read from a mask of the user's."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pydmed_dali.errors import SlideMaskError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.mask_frame import Coverage, choose_coverage, fits, ratio, spread
from pydmed_dali.slide.mask_image import Mask, MaskFile, UnfitImageError, open_mask_image
from pydmed_dali.slide.scanned_bounds import in_view
from pydmed_dali.slide.slide import Pixels, Slide, SlideFacts

METHOD = "glass 1"
"""Name and version of how masks are computed: states and cached masks keep it."""

_PIXEL_UM = 8.0
"""Micrometres that a mask's pixel is wide, unless the mask would be larger than `_LONGEST`."""
_ASSUMED_MPP = 0.5
"""Of a slide that does not tell: at worst the mask's pixels are finer than they need be."""
_LONGEST = 2048
"""Pixels along the longer side of a mask; of the user's own, twice as many."""
_MOST_READ = 64_000_000
"""Pixels of an image of the user's; and bytes of a slide's level that are read at once."""


@dataclass(frozen=True, slots=True, eq=False)
class TissueMask:
    """Where a slide has tissue. The mask covers the slide from edge to edge."""

    pixels: Mask
    """(rows, columns) bool: True where there is tissue."""
    pixel: tuple[float, float]
    """Level-0 pixels per pixel of the mask (x, y)."""
    notice: str = ""
    """What was chosen when it was read, for the log; it names no slide."""

    @classmethod
    def over(cls, pixels: Mask, dimensions: Size, notice: str = "") -> TissueMask:
        """A mask that covers a slide of `dimensions` level-0 pixels."""
        rows, columns = pixels.shape
        return cls(pixels, (dimensions.width / columns, dimensions.height / rows), notice)

    @property
    def share(self) -> float:
        """The part of the slide's area that is tissue, 0 to 1."""
        return float(self.pixels.mean())

    def to_bytes(self) -> bytes:
        """The mask, as `from_bytes` reads it."""
        file = io.BytesIO()
        np.savez_compressed(
            file,
            bits=np.packbits(self.pixels),
            shape=np.array(self.pixels.shape),
            pixel=np.array(self.pixel),
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> TissueMask:
        """The mask that `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            rows, columns = arrays["shape"].tolist()
            bits = np.unpackbits(arrays["bits"], count=rows * columns)
            x, y = arrays["pixel"].tolist()
        return cls(bits.view(np.bool_).reshape(rows, columns), (x, y))


def compute_mask(slide: Slide, size: Size | None = None) -> TissueMask:
    """The tissue of a slide, by the colours of its overview: see
    `tissue_threshold.tissue_pixels`.

    The mask's pixels are 8 micrometres wide, on slides larger than 16 millimetres so wide that the
    longer side has 2048; where the file does not tell its scale, 0.5 micrometres per level-0 pixel
    are taken; `size` is another size, in columns and rows. Of a slide that tells what was scanned,
    only that is looked at: the fill around it decides nothing. Raises `SlideReadError` where the
    overview cannot be read.
    """
    from pydmed_dali.slide.tissue_threshold import tissue_pixels  # and OpenCV: seldom needed

    facts = slide.facts
    picture = overview(slide, size or mask_size(facts))
    found = np.zeros(picture.shape[:2], np.bool_)
    inner = _scanned_pixels(facts, Size(picture.shape[1], picture.shape[0]))
    found[inner] = tissue_pixels(picture[inner])
    return TissueMask.over(found, facts.dimensions)


def _scanned_pixels(facts: SlideFacts, size: Size) -> tuple[slice, slice]:
    """Rows and columns of a mask of `size` that lie wholly on what was scanned, one at least."""
    whole = facts.dimensions
    step = (whole.width / size.width, whole.height / size.height)
    scanned = in_view(facts.bounds, step, size)
    return (slice(None), slice(None)) if scanned is None else scanned.slices


def mask_size(facts: SlideFacts) -> Size:
    """Columns and rows of a slide's computed mask."""
    mpp = facts.mpp or (_ASSUMED_MPP, _ASSUMED_MPP)
    width, height = (
        side * scale / _PIXEL_UM
        for side, scale in zip((facts.dimensions.width, facts.dimensions.height), mpp, strict=True)
    )
    shrink = max(width / _LONGEST, height / _LONGEST, 1.0)
    return Size(max(math.ceil(width / shrink), 1), max(math.ceil(height / shrink), 1))


def overview(slide: Slide, size: Size) -> Pixels:
    """The whole slide as a picture of `size`, (height, width, 3) uint8 RGB: means of its pixels.

    Made from the coarsest level that is as fine as the picture, in bands of rows: a slide without
    coarse levels is read whole, but never held whole.
    """
    facts = slide.facts
    level = overview_level(facts, size)
    across = facts.level_dimensions[level].width
    down = facts.level_dimensions[level].height / size.height
    rows = max(int(_MOST_READ / (3 * across * down)), 1)
    picture = np.empty((size.height, size.width, 3), np.uint8)
    for top in range(0, size.height, rows):
        band = picture[top : top + rows]
        first, last = math.floor(top * down), math.ceil((top + len(band)) * down)
        pixels = np.empty((last - first, across, 3), np.uint8)
        slide.read_into(pixels, Point(0, round(first * facts.level_downsamples[level])), level)
        box = (0.0, top * down - first, float(across), (top + len(band)) * down - first)
        shape = (size.width, len(band))
        image = Image.fromarray(pixels).resize(shape, Image.Resampling.BOX, box=box)
        band[:] = np.asarray(image)
    return picture


def overview_level(facts: SlideFacts, size: Size) -> int:
    """The level that an overview of `size` is made from: the coarsest that is as fine."""
    step = min(facts.dimensions.width / size.width, facts.dimensions.height / size.height)
    return max((n for n, d in enumerate(facts.level_downsamples) if d <= step), default=0)


def read_mask(mask: MaskFile, slide_path: Path, facts: SlideFacts) -> TissueMask:
    """A mask of the user's: an image that covers the slide, or what of it was scanned; see
    `choose_coverage`, and `MaskPixels.tissue` for what is tissue.

    Of a TIFF with levels, the finest of at most 64 million pixels is read. Images of more than 4096
    pixels a side are reduced to that: a pixel is tissue where most are. Raises `SlideMaskError`
    where the image cannot be read, leaves open what is tissue, is too large, or has proportions
    that differ from those of what it covers by more than 2%.
    """
    path = mask.path
    try:
        with open_mask_image(path, _MOST_READ) as image:
            fitting = _fitting(mask, image.size, slide_path, facts)
            pixels = image.read().tissue(mask.values)
    except SlideMaskError:
        raise
    except UnfitImageError as error:
        raise SlideMaskError(f"{path}: the tissue mask of {slide_path} {error}") from error
    except Exception as error:  # of a decoder, at a file that is damaged in a way of its own
        raise SlideMaskError(
            f"{path}: the tissue mask of {slide_path} cannot be read ({error!r})"
        ) from error
    whole, bounds = facts.dimensions, facts.bounds
    if bounds is None:
        return TissueMask.over(_reduced(pixels), whole)
    coverage = Coverage(fitting[0])
    if mask.frame == "auto":
        coverage = choose_coverage(pixels, fitting, bounds, whole)
    pixels = _reduced(pixels)
    if coverage.frame == "bounds":
        pixels = spread(pixels, bounds, whole, 2 * _LONGEST)
    return TissueMask.over(pixels, whole, coverage.notice)


def _fitting(mask: MaskFile, size: Size, slide_path: Path, facts: SlideFacts) -> list[str]:
    """Of `slide` and `bounds`, those whose proportions an image of `size` has, one at least."""
    path = mask.path
    if size.area > _MOST_READ:
        raise SlideMaskError(
            f"{path}: the tissue mask of {slide_path} has {size} pixels, more than "
            f"{_MOST_READ:,}; save it smaller, a pixel of {_PIXEL_UM:g} micrometres is fine "
            "enough, or as a TIFF with levels"
        )
    extents = {"slide": facts.dimensions}
    if facts.bounds is not None:
        extents["bounds"] = facts.bounds.size
        if mask.frame != "auto":
            extents = {mask.frame: extents[mask.frame]}
    fitting = [frame for frame, extent in extents.items() if fits(size, extent)]
    if fitting:
        return fitting
    has = " and what was scanned of it ".join(map(str, extents.values()))
    off = min(abs(ratio(size, extent) - 1) for extent in extents.values())
    covers = " or what was scanned of it" if len(extents) > 1 else ""
    if "slide" not in extents:
        has, covers = f"{has} scanned", ", here (frame='bounds') what was scanned of it"
    raise SlideMaskError(
        f"{path}: the tissue mask has {size} pixels, but the slide {slide_path} has {has}: their "
        f"proportions differ by {off:.1%}; a mask must cover the whole slide{covers} (at most 2% "
        "off)"
    )


def _reduced(mask: Mask) -> Mask:
    longest = 2 * _LONGEST
    rows, columns = mask.shape
    if max(rows, columns) <= longest:
        return mask
    factor = longest / max(rows, columns)
    shape = (max(round(columns * factor), 1), max(round(rows * factor), 1))
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize(shape, Image.Resampling.BOX)
    return np.asarray(image) > 127

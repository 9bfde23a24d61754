"""A small picture of a whole slide."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pydmed_dali.errors import SlideReadError
from pydmed_dali.geometry import Point, Size
from pydmed_dali.slide.slide import Pixels, Slide

_MOST_PIXELS = 64_000_000  # of the level it is made from: 192 MB while it is read


def thumbnail(slide: Slide, longest: int) -> Pixels | None:
    """The slide, (height, width, 3) uint8 RGB, its longer side at most `longest` pixels.

    None where the slide has no level small enough to be read whole, and where reading fails.
    """
    facts = slide.facts
    wanted = max(facts.dimensions.width, facts.dimensions.height) / longest
    level = max((n for n, d in enumerate(facts.level_downsamples) if d <= wanted), default=0)
    size = facts.level_dimensions[level]
    if size.area > _MOST_PIXELS:
        return None
    pixels = np.empty((size.height, size.width, 3), np.uint8)
    try:
        slide.read_into(pixels, Point(0, 0), level)
    except SlideReadError:
        return None
    return _shrunk(pixels, size, longest)


def _shrunk(pixels: Pixels, size: Size, longest: int) -> Pixels:
    factor = min(longest / max(size.width, size.height), 1.0)
    shape = (max(round(size.width * factor), 1), max(round(size.height * factor), 1))
    return np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.LANCZOS))

"""What of a slide was scanned: the rectangle that its file tells, checked before it is believed.

MIRAX, Leica, Ventana and others store no pixels outside of it. OpenSlide calls it the bounds, and
shows a larger frame around it, filled with the background.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import openslide

from pydmed_dali.geometry import Point, Region, Size

_NAMES = (
    openslide.PROPERTY_NAME_BOUNDS_X,
    openslide.PROPERTY_NAME_BOUNDS_Y,
    openslide.PROPERTY_NAME_BOUNDS_WIDTH,
    openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
)


def read_bounds(properties: Mapping[str, str], dimensions: Size) -> Region | None:
    """The bounds that OpenSlide's properties tell, in level-0 pixels.

    Args:
        properties: OpenSlide's, by name.
        dimensions: extent of the whole slide, in level-0 pixels.

    Returns:
        None where the file tells none, or the whole slide. A rectangle that reaches beyond the
        slide's right or lower edge is cut there.

    Raises:
        ValueError: the properties are no whole numbers, or no rectangle on the slide.
    """
    told = [properties.get(name) for name in _NAMES]
    if all(value is None for value in told):
        return None
    text = ", ".join(f"{name}={value}" for name, value in zip(_NAMES, told, strict=True))
    try:
        x, y, width, height = (int(str(value)) for value in told)
    except ValueError as error:
        raise ValueError(f"{text}: four whole numbers were expected") from error
    right, bottom = min(x + width, dimensions.width), min(y + height, dimensions.height)
    if min(x, y) < 0 or right <= x or bottom <= y:
        raise ValueError(f"{text}: that is no rectangle on a slide of {dimensions} pixels")
    found = Region(Point(x, y), Size(right - x, bottom - y))
    return None if found.size == dimensions else found


def in_view(bounds: Region | None, downsample: tuple[float, float], extent: Size) -> Region | None:
    """The bounds in the pixels of a view: those that lie wholly inside, one at least.

    Args:
        bounds: in level-0 pixels; None for the whole slide.
        downsample: level-0 pixels per view pixel, (x, y).
        extent: of the whole slide, in view pixels.
    """
    if bounds is None:
        return None
    left, width = _within(bounds.location.x, bounds.size.width, downsample[0], extent.width)
    top, height = _within(bounds.location.y, bounds.size.height, downsample[1], extent.height)
    return Region(Point(left, top), Size(width, height))


def _within(start: int, length: int, step: float, extent: int) -> tuple[int, int]:
    """(first, count) of the pixels, each `step` wide, that lie wholly in start..start + length."""
    first = min(math.ceil(start / step), extent - 1)
    behind = min(math.floor((start + length) / step), extent)
    return first, max(behind - first, 1)

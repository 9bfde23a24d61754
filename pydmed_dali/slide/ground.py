"""Whether a slide lies on a dark ground, as in fluorescence, or on the light one of glass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.slide.slide import Pixels

BLACK = 48
"""Padding, frames and the ground in fluorescence are at most so bright (of 255)."""
LIGHT, LIGHT_SHARE = 150, 0.01
"""Glass has all channels above the first, on at least the second share of the pixels."""
GREY_SPREAD = 30
"""Channels of a pixel without colour are at most so far apart."""

_FLAT = 8
"""Half of the pixels of glass differ by less from their neighbour; of what shines, hardly any."""
_BLACK_SHARE, _COLOURED_SHARE, _DIM = 0.25, 0.005, 90
"""Of stained tissue fewer pixels than the first share are black, more than the second have colour,
and half are brighter than the third."""
_STEP = 4
"""Every so manieth row is looked at."""


def has_dark_ground(pixels: Pixels) -> bool:
    """Whether (height, width, 3) uint8 RGB pixels are of a slide on a dark ground: hardly any is
    light, and many are black.
    """
    light = np.mean(pixels.min(axis=2) > LIGHT)
    return bool(light < LIGHT_SHARE and np.mean(is_black(pixels)) > _BLACK_SHARE)


def shines(pixels: Pixels) -> bool:
    """Whether what (height, width, 3) uint8 RGB pixels of an overview show is light on dark.

    That is where there is no glass, which is light and flat, and what is there does not look
    stained: much is black, hardly anything has colour, or most is dim.
    """
    rows = pixels[::_STEP]
    brightest, darkest = rows.max(axis=2), rows.min(axis=2)
    light = darkest > LIGHT
    if light.mean() >= LIGHT_SHARE and _is_flat(darkest, light):
        return False
    coloured = (brightest > BLACK) & (brightest - darkest > GREY_SPREAD)
    return bool(
        np.mean(brightest <= BLACK) > _BLACK_SHARE
        or coloured.mean() < _COLOURED_SHARE
        or np.median(brightest) < _DIM
    )


def is_black(pixels: Pixels) -> NDArray[np.bool_]:
    """Which of (..., 3) uint8 RGB pixels can be dark ground."""
    black: NDArray[np.bool_] = pixels.max(axis=-1) <= BLACK
    return black


def _is_flat(values: NDArray[np.uint8], where: NDArray[np.bool_]) -> bool:
    """Whether neighbours in a row are alike."""
    steps = np.abs(np.diff(values.astype(np.int16), axis=1))[where[:, 1:]]
    return bool(not steps.size or np.median(steps) < _FLAT)

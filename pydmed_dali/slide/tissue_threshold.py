"""Which pixels of a slide's overview show tissue: by their colour, in the manner of the field.

On a light ground, tissue is what has colour: Otsu's threshold on the saturation, as in CLAM (Lu et
al., "Data-efficient and weakly supervised computational pathology on whole-slide images", Nature
Biomedical Engineering 5, 2021). On a dark ground, as in fluorescence, tissue is what shines: Otsu's
threshold on the logarithm of the brightness.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pydmed_dali.slide.protocol import Pixels

Mask = NDArray[np.bool_]
"""(rows, columns) bool: True where there is tissue."""

Bytes = NDArray[np.uint8]

METHOD = "otsu 1"
"""Name and version of what is done here: it decides crops, so states and cached masks keep it."""

_PALEST, _STRONGEST = 0.05, 0.10
"""Limits of the saturation's threshold: bare glass stays below the first, and what is above the
second is tissue, though strongly stained parts draw Otsu's threshold up, to 0.25 on real slides."""
_BLACK = 48
"""Padding, frames and the ground in fluorescence are at most so bright (of 255)."""
_GREY, _GREY_SPREAD = 120, 30
"""Black ink and pencil are at most so bright, and their channels at most so far apart."""
_LIGHT, _LIGHT_SHARE, _BLACK_SHARE = 150, 0.01, 0.25
"""A ground is dark where fewer pixels than that share have all channels above `_LIGHT`, and more
than the other are black."""
_DIMMEST, _BRIGHTEST = 8, 32
"""Limits of the brightness's threshold on a dark ground (of 255)."""
_INKS = (
    # lowest hue, highest hue (degrees), saturation that no tissue has there
    (70.0, 195.0, 0.25),  # green
    (195.0, 245.0, 0.60),  # blue
    (-15.0, 15.0, 0.75),  # red
)
_INK_EDGE = 3
"""Pixels around ink where a paler shade of it is ink too."""
_SMOOTH, _CLOSE, _SMOOTH_DARK = 2, 3, 3
"""Radii in pixels: of the majority taken, of the holes and gaps closed, and of the blur that joins
the shining nuclei of a tissue."""
_BINS = 256


def tissue_pixels(overview: Pixels) -> Mask:
    """Where the overview, (height, width, 3) uint8 RGB, shows tissue.

    A pixel is meant to be 8 micrometres wide: as large as a cell. Specks and holes of few pixels
    are smoothed away. Black padding and frames are not taken for tissue, nor are strokes of black,
    green, blue and red ink, which hide the tissue below them. Nothing, or everything, is tissue
    where the colours are all those of glass, or of tissue.
    """
    red, green, blue = np.moveaxis(overview, 2, 0)
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    if has_dark_ground(overview):
        return _shining(brightest)
    spread = brightest - darkest
    black = (brightest <= _BLACK) | ((brightest <= _GREY) & (spread <= _GREY_SPREAD))
    saturation = spread / np.maximum(brightest, 1).astype(np.float32)
    no_tissue = black | _ink(overview, saturation)
    least = min(max(otsu(saturation[~no_tissue]), _PALEST), _STRONGEST)
    found = _most(~no_tissue & (saturation > least), _SMOOTH)
    return _most(_closed(found, _CLOSE), _SMOOTH) & ~_most(no_tissue, _SMOOTH)


def has_dark_ground(pixels: Pixels) -> bool:
    """Whether (height, width, 3) uint8 RGB pixels are of a slide on a dark ground: hardly any is
    light, and many are black.
    """
    light = np.mean(pixels.min(axis=2) > _LIGHT)
    return bool(light < _LIGHT_SHARE and np.mean(is_black(pixels)) > _BLACK_SHARE)


def is_black(pixels: Pixels) -> Mask:
    """Which of (..., 3) uint8 RGB pixels can be dark ground."""
    black: Mask = pixels.max(axis=-1) <= _BLACK
    return black


def otsu(values: NDArray[np.floating]) -> float:
    """The threshold that parts values within 0..1 into two classes best; 0 where all are alike.

    N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Transactions on
    Systems, Man, and Cybernetics 9(1), 1979. Where several are best, the middle one.
    """
    counts, edges = np.histogram(values, _BINS, (0.0, 1.0))
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    lower = np.cumsum(counts)[:-1].astype(np.float64)
    upper = len(values) - lower
    parted = (lower > 0) & (upper > 0)
    if not parted.any():
        return 0.0
    lower, upper, below, above = (
        numbers[parted] for numbers in (lower, upper, sums[:-1], sums[-1] - sums[:-1])
    )
    variance = lower * upper * (below / lower - above / upper) ** 2
    best = np.flatnonzero(variance >= variance.max() * (1 - 1e-9))
    return float(edges[1:-1][parted][best].mean())


def _shining(brightest: Bytes) -> Mask:
    """Tissue on a dark ground. The blur, of the light itself, joins nuclei that lie apart."""
    light = np.log1p(_mean(brightest, _SMOOTH_DARK).astype(np.float32)) / np.float32(math.log(256))
    lowest, highest = (math.log1p(limit) / math.log(256) for limit in (_DIMMEST, _BRIGHTEST))
    return _most(light > min(max(otsu(light.ravel()), lowest), highest), _SMOOTH)


def _ink(overview: Pixels, saturation: NDArray[np.float32]) -> Mask:
    """Strokes of coloured ink, with their paler edges: ink mixed with glass keeps its hue."""
    coloured = saturation > _PALEST
    hue = np.full(coloured.shape, np.nan, np.float32)
    hue[coloured] = _hue(overview[coloured])
    ink = np.zeros(coloured.shape, np.bool_)
    for lowest, highest, least in _INKS:
        shade = (hue >= lowest) & (hue < highest)
        strong = shade & (saturation >= least)
        if strong.any():
            ink |= shade & _near(strong, _INK_EDGE)
    return ink


def _hue(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The hue of HSV of (n, 3) colours that are not grey, in degrees from -60 to 300; red is 0."""
    red, green, blue = colours.T.astype(np.float32)
    highest = np.maximum(np.maximum(red, green), blue)
    spread = highest - np.minimum(np.minimum(red, green), blue)
    turn: NDArray[np.float32] = np.where(
        red == highest,
        (green - blue) / spread,
        np.where(green == highest, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    return turn * np.float32(60)


def _closed(mask: Mask, radius: int) -> Mask:
    """Holes and gaps narrower than a square of 2 `radius` + 1 pixels are filled."""
    grown = _near(np.pad(mask, radius), radius)
    inner = slice(radius, -radius)
    closed: Mask = ~_near(~grown, radius)[inner, inner]
    return closed


def _near(mask: Mask, radius: int) -> Mask:
    """Whether any pixel in the square around is set."""
    return _mean(_as_bytes(mask), radius) > 0


def _most(mask: Mask, radius: int) -> Mask:
    """Whether most pixels in the square around are set: the median of a mask."""
    return _mean(_as_bytes(mask), radius) > 127


def _as_bytes(mask: Mask) -> Bytes:
    return mask.view(np.uint8) * np.uint8(255)


def _mean(values: Bytes, radius: int) -> Bytes:
    """Means over squares of 2 `radius` + 1 pixels; beyond the border its pixels go on."""
    return np.asarray(Image.fromarray(values).filter(ImageFilter.BoxBlur(radius)))

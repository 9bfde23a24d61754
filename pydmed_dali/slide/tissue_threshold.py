"""Which pixels of a slide's overview show tissue: by their colour, in the manner of the field.

On a light ground, tissue is what has more colour than the glass: the saturation of HSV above 8 of
255, as in CLAM (Lu et al., "Data-efficient and weakly supervised computational pathology on
whole-slide images", Nature Biomedical Engineering 5, 2021), but measured from the colour of the
slide's own glass. On a dark ground, as in fluorescence, tissue is what shines: Otsu's threshold on
the logarithm of the brightness above the ground's. Decision 0014 has the figures.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pydmed_dali.slide import mask_filter as around
from pydmed_dali.slide.ground import BLACK, GREY_SPREAD, LIGHT, LIGHT_SHARE, shines
from pydmed_dali.slide.mask_image import Mask
from pydmed_dali.slide.slide import Pixels

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint16]

_LEAST_COLOUR, _CLEAR_COLOUR = 0.03, 0.10
"""Saturations above that of the glass: what is below the first is glass, what is above the second
is no glass, however noisy the glass is. CLAM's threshold is 8 / 255 = 0.031."""
_EDGE_COLOUR = 0.06
"""What has less beside strong tissue is the blurred edge of that."""
_NOISE = 6.0
"""Standard deviations of the glass's saturation above its median: what is within them is glass."""
_WITHOUT_GLASS = 0.05
"""The threshold where no glass is to be seen."""
_GLASS_TINT = 0.15
"""The saturation that glass has at most: what has more is pale tissue that covers all."""
_GLASS_SPREAD = 4
"""Glass is darker by at most so much where it is lightest."""
_GREY = 120
"""Black ink and pencil have no colour, and are at most so bright."""
_WHITE = 254
"""Padding is so bright in all channels: it says nothing of the glass."""
_DIMMEST, _BRIGHTEST, _DIMMEST_SHARE = 4, 32, 0.2
"""Limits of the brightness's threshold above a dark ground (of 255); the lower one is at least so
large a part of the ground's own brightness."""
_INKS = (
    # lowest hue, highest hue (degrees), saturation and brightness that no tissue has there at once
    (70.0, 195.0, 0.25, 0),  # green
    (195.0, 245.0, 0.60, 0),  # blue
    (245.0, 312.0, 0.68, 90),  # purple: haematoxylin that is so saturated is darker
    (0.0, 15.0, 0.75, 0),  # red
    (345.0, 360.0, 0.75, 0),  # red, on the other side
    (15.0, 70.0, 0.70, 140),  # orange and yellow: DAB that is so saturated is darker
)
_INK_EDGE, _INK_PALEST = 3, 0.05
"""Pixels around ink where a paler shade of it, of at least that saturation, is ink too."""
_SMOOTH, _CLOSE, _SMOOTH_DARK, _SMOOTH_PALE = 2, 3, 3, 2
"""Radii in pixels: of the majority taken, of the holes and gaps closed, of the blur that joins the
shining nuclei of a tissue, and of the blur that tells pale tissue from the noise of the glass."""
_DENSE, _DENSE_AROUND = 0.06, 3
"""Strands and cells are a tissue where the mean of their saturation is above the first, in squares
of the second's radius."""
_SPECK = 64
"""A piece of fewer pixels is dust."""
_UNITS, _FINER = 1000, 16
"""Saturations are counted in thousandths, and colours in sixteenths: whole numbers are faster."""
_STEP = 4
"""Every so manieth row and column tells what is common on the slide."""
_BINS = 256


def tissue_pixels(overview: Pixels) -> Mask:
    """Where the overview, (height, width, 3) uint8 RGB, shows tissue.

    A pixel is meant to be 8 micrometres wide: as large as a cell. Specks and holes of few pixels
    are smoothed away. Black padding and frames are not taken for tissue, nor are strokes of ink,
    black, green, blue, purple, red, orange or yellow, which hide the tissue below them. Nothing, or
    everything, is tissue where the colours are all those of glass, or of tissue.
    """
    overview = np.ascontiguousarray(overview)
    with around.one_thread():
        brightest, darkest = _extremes(*cv2.split(overview))
        if shines(overview):
            return _shining(brightest)
        return _coloured(overview, brightest, darkest)


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
    light = around.mean(brightest.astype(np.float32), _SMOOTH_DARK)
    lit = light[light > 0]  # what is not is padding
    if not lit.size:
        return np.zeros(light.shape, np.bool_)
    ground = float(np.percentile(lit, 2))
    above = np.log1p(np.maximum(light - ground, 0)) / math.log(256)
    limits = (max(_DIMMEST, _DIMMEST_SHARE * ground), _BRIGHTEST)
    lowest, highest = (math.log1p(limit) / math.log(256) for limit in limits)
    least = max(min(otsu(above.ravel()), highest), lowest)
    return around.without_specks(around.most(above > least, _SMOOTH), _SPECK)


def _coloured(overview: Pixels, brightest: Bytes, darkest: Bytes) -> Mask:
    """Tissue on a light ground."""
    grey = (brightest <= _GREY) & (brightest - darkest <= GREY_SPREAD)
    no_tissue = (brightest <= BLACK) | grey | _ink(overview)
    glass = _glass(overview[::_STEP, ::_STEP], darkest[::_STEP, ::_STEP])
    balanced = _balanced(overview, glass)
    sharp, smooth = _saturation(balanced), _saturation(around.mean(balanced, _SMOOTH_PALE))
    least = _WITHOUT_GLASS if glass is None else _threshold(smooth, darkest, glass)
    # Pale tissue is told where nothing strong is near, whose colour the blur would spread.
    close = around.near(no_tissue | (sharp > _UNITS * _CLEAR_COLOUR), _SMOOTH_PALE)
    edge = _UNITS * max(least, _EDGE_COLOUR)
    found = ~no_tissue & np.where(close, sharp > edge, smooth > _UNITS * least)
    sharp[no_tissue] = 0
    dense = around.mean(sharp, _DENSE_AROUND) > _UNITS * _DENSE
    found = around.most(found, 1) | around.inside(dense, _DENSE_AROUND)
    found = around.most(around.closed(found, _CLOSE), _SMOOTH) & ~around.most(no_tissue, _SMOOTH)
    return around.without_specks(found, _SPECK)


def _glass(overview: Pixels, darkest: Bytes) -> NDArray[np.float64] | None:
    """The colour of the glass, (3,): the lightest that is common; None where there is none."""
    light = (darkest > LIGHT) & (darkest < _WHITE)
    if light.mean() < LIGHT_SHARE:
        return None
    lightest = np.percentile(darkest[light], 95)
    colour = np.median(overview[light & (darkest >= lightest - _GLASS_SPREAD)], axis=0)
    found: NDArray[np.float64] = colour
    return found if 1 - found.min() / found.max() <= _GLASS_TINT else None


def _threshold(saturation: Words, darkest: Bytes, glass: NDArray[np.float64]) -> float:
    """Above the saturation of what has the brightness of the glass."""
    seen, values = darkest[::_STEP, ::_STEP], saturation[::_STEP, ::_STEP] / _UNITS
    values = values[(seen < _WHITE) & (seen >= glass.min() - _GLASS_SPREAD)]
    if not values.size:
        return _LEAST_COLOUR
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))  # as a standard deviation
    return float(np.clip(middle + _NOISE * spread, _LEAST_COLOUR, _CLEAR_COLOUR))


def _balanced(overview: Pixels, glass: NDArray[np.float64] | None) -> Words:
    """The colours as they would be if the glass were white, (height, width, 3), in finer steps."""
    factors = np.ones(3) if glass is None else 255 / glass
    table = np.arange(256)[:, None] * factors * _FINER
    words = np.minimum(table.round(), np.iinfo(np.uint16).max).astype(np.uint16)
    return np.asarray(cv2.LUT(overview, words[None]), np.uint16)


def _saturation(colours: Words) -> Words:
    """(rows, columns): the saturation of each colour, in `_UNITS`."""
    brightest, darkest = _extremes(*cv2.split(colours))
    spread = cv2.subtract(brightest, darkest)
    return np.asarray(cv2.divide(spread, brightest, scale=_UNITS), np.uint16)  # 0 / 0 is 0


def _ink(overview: Pixels) -> Mask:
    """Strokes of coloured ink, with their paler edges: ink mixed with glass keeps its hue."""
    colours = cv2.cvtColor(overview, cv2.COLOR_RGB2HSV_FULL)
    some = np.ascontiguousarray(colours[::2, ::2])  # a stroke is wider
    ink = np.zeros(colours.shape[:2], np.bool_)
    for lowest, highest, least, brightest in _INKS:
        first, last = (round(hue * 256 / 360) for hue in (lowest, highest))
        palest, strong = _hsv(first, _INK_PALEST, 0), _hsv(first, least, brightest)
        strongest = _hsv(last - 1, 1, 255)
        if cv2.countNonZero(cv2.inRange(some, strong, strongest)):
            core = around.most(cv2.inRange(colours, strong, strongest) > 0, 1)
            shade = cv2.inRange(colours, palest, strongest) > 0
            ink |= shade & around.near(core, _INK_EDGE)
    return ink


def _hsv(hue: int, saturation: float, brightness: int) -> tuple[float, float, float]:
    """As OpenCV has it in bytes."""
    return (hue, math.ceil(255 * saturation), brightness)


def _extremes(red: Any, green: Any, blue: Any) -> tuple[Any, Any]:
    """(the largest, the smallest) of three channels, pixel by pixel."""
    return cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)

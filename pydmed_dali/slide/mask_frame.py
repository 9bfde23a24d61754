"""What a user's mask covers: the whole slide, or only what of it was scanned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Region, Size
from pydmed_dali.slide.mask_image import Mask

_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a mask covers, and why it is taken for that."""

    frame: str
    """`slide` or `bounds`."""
    notice: str = ""
    """For the log, where it was chosen; it names no slide."""


def fits(size: Size, extent: Size) -> bool:
    """Whether an image of `size` has the proportions of `extent`, to within 2%."""
    # half a pixel of a small mask is no other shape
    slack = 0.5 / min(size.width, size.height)
    return abs(ratio(size, extent) - 1) <= _ASPECT_TOLERANCE + slack


def ratio(size: Size, extent: Size) -> float:
    """By what an image is too wide for `extent`."""
    return size.width * extent.height / (size.height * extent.width)


def choose_coverage(pixels: Mask, fitting: list[str], bounds: Region, whole: Size) -> Coverage:
    """What a mask covers whose proportions fit these frames.

    Where they fit both, the mask is of the whole slide if it then has no tissue where nothing was
    scanned, and else of what was scanned, as QuPath exports it.
    """
    what = {"slide": "the whole slide", "bounds": "what was scanned, not the whole slide"}
    if len(fitting) == 1:
        return Coverage(
            fitting[0], f"its mask covers {what[fitting[0]]}, as its proportions tell{_OTHERWISE}"
        )
    outside = _has_tissue_outside(pixels, bounds, whole)
    frame = "bounds" if outside else "slide"
    why = (
        "over the whole slide its tissue would lie where nothing was scanned"
        if outside
        else "where nothing was scanned it has no tissue"
    )
    told = f"its mask is taken to cover {what[frame]}: its proportions fit both, and {why}"
    return Coverage(frame, told + _OTHERWISE)


_OTHERWISE = "; frame='slide' or 'bounds' says otherwise"


def spread(pixels: Mask, bounds: Region, whole: Size, longest: int) -> Mask:
    """A mask over the whole slide of one that covers what was scanned.

    It has pixels of the same size, or larger ones where its longer side would have more than
    `longest`; each takes the value of the pixel in which its centre lies. Around, nothing is set.
    """
    step_x = bounds.size.width / pixels.shape[1]
    step_y = bounds.size.height / pixels.shape[0]
    factor = min(longest / max(whole.width / step_x, whole.height / step_y), 1.0)
    columns = max(round(whole.width / step_x * factor), 1)
    rows = max(round(whole.height / step_y * factor), 1)
    found = np.zeros((rows, columns), np.bool_)
    right, xs = _sources(columns, whole.width, bounds.location.x, step_x, pixels.shape[1])
    down, ys = _sources(rows, whole.height, bounds.location.y, step_y, pixels.shape[0])
    found[np.ix_(down, right)] = pixels[np.ix_(ys, xs)]
    return found


def _sources(
    count: int, extent: int, start: int, step: float, pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(pixels of the whole, the mask's pixels in which their centres lie), along one axis."""
    centres = (np.arange(count) + 0.5) * extent / count
    numbers = np.floor((centres - start) / step).astype(np.int64)
    (inside,) = np.nonzero((numbers >= 0) & (numbers < pixels))
    return inside, numbers[inside]


def _has_tissue_outside(pixels: Mask, bounds: Region, whole: Size) -> bool:
    """Whether a mask of the whole slide has a pixel of tissue wholly outside of the bounds."""
    rows, columns = pixels.shape
    down = _outside(rows, whole.height, bounds.location.y, bounds.size.height)
    right = _outside(columns, whole.width, bounds.location.x, bounds.size.width)
    return bool(pixels[down].any() or pixels[:, right].any())


def _outside(count: int, extent: int, start: int, length: int) -> NDArray[np.bool_]:
    borders = np.arange(count + 1) * extent / count
    outside: NDArray[np.bool_] = (borders[1:] <= start) | (borders[:-1] >= start + length)
    return outside

"""Some pixels of a slide's tissue, the same at every look, from which its stain is found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.geometry import Point
from pydmed_dali.slide.slide import Pixels, Slide, SlideFacts
from pydmed_dali.slide.tissue_mask import TissueMask

_COARSEST_MPP = 0.5
"""Of the level that is read: coarser pixels mix nuclei with what lies between them."""
_ASSUMED_MPP = 0.5
"""Of a slide that does not tell."""
_TOLERANCE = 1.05
_BLOCKS, _SIDE = 64, 64


def sample_level(facts: SlideFacts) -> int:
    """The coarsest level of at most 0.5 micrometres per pixel; 0 where that is coarser."""
    mpp = max(facts.mpp or (_ASSUMED_MPP, _ASSUMED_MPP))
    limit = _COARSEST_MPP * _TOLERANCE
    return max((n for n, d in enumerate(facts.level_downsamples) if mpp * d <= limit), default=0)


def sample_tissue(slide: Slide, mask: TissueMask) -> Pixels:
    """(n, 3) uint8 RGB: of 64 places spread evenly over the mask, 64x64 pixels each.

    Fewer where the tissue is smaller; none where there is none. Raises `SlideReadError` where a
    place cannot be read.
    """
    level = sample_level(slide.facts)
    half = _SIDE * slide.facts.level_downsamples[level] / 2
    blocks = []
    for row, column in _places(mask.pixels):
        x, y = ((n + 0.5) * size for n, size in zip((column, row), mask.pixel, strict=True))
        block = np.empty((_SIDE, _SIDE, 3), np.uint8)
        slide.read_into(block, Point(round(x - half), round(y - half)), level)
        blocks.append(block.reshape(-1, 3))
    return np.concatenate(blocks) if blocks else np.empty((0, 3), np.uint8)


def _places(tissue: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Rows and columns of pixels of the mask, in equal steps along its rows.

    Only those that have tissue all around, if there are any: at borders a square is half glass.
    """
    from pydmed_dali.slide.mask_filter import inside  # and OpenCV: seldom needed

    inner = inside(tissue, 1)
    found = np.flatnonzero(inner if inner.any() else tissue)
    count = min(len(found), _BLOCKS)
    chosen = found[(np.arange(count) * len(found) + len(found) // 2) // max(count, 1)]
    return [divmod(int(place), tissue.shape[1]) for place in chosen]

"""What an annotation file says, before anything is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from reprlib import repr as short

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.annotation.defaults import LARGEST
from pydmed_dali.errors import AnnotationError

UNCLASSIFIED = "Unclassified"
"""The class of an annotation that the file gives none."""

Ring = NDArray[np.float64]
"""(n, 2): corners (x, y) in level-0 pixels; whether the first is repeated at the end does not
matter."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """One annotation as the file has it, checked for nothing but its numbers."""

    where: str
    """What messages call it, e.g. `feature 3`; counted from 1."""
    class_name: str
    """The class; `UNCLASSIFIED` where the file gives none."""
    name: str
    """The name of this very annotation, or an empty text."""
    kind: str
    """What it is in the file's own words, e.g. `Polygon` or `Point`."""
    polygons: tuple[tuple[Ring, ...], ...]
    """For each polygon its outer ring, then its holes; nothing for points and lines."""
    layer: int = 0
    """Annotations of one layer belong together: a hole is cut out of the others of its layer."""
    is_hole: bool = False
    """Whether it is to be cut out of its layer."""
    is_named_by_text: bool = False
    """Whether its class is its own text, because its layer has no name."""


def check_number(value: float, where: str) -> float:
    """A coordinate, if it can be one. Raises `AnnotationError`, also for NaN."""
    if value != value:
        raise AnnotationError(
            f"{where}: it holds the number NaN as a coordinate; expected level-0 pixels"
        )
    if not -LARGEST <= value <= LARGEST:
        raise AnnotationError(
            f"{where}: the coordinate {short(value)} lies on no slide; expected level-0 pixels"
        )
    return float(value)

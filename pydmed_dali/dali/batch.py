"""One batch of crops, as index arrays for DALI."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """What one call of the source hands to DALI beside the ring's images; N rows each."""

    in_ids: NDArray[np.int32]
    """(N, D): which image of the ring; D is 1, or the slices of a crop of a volume."""
    in_anchors: NDArray[np.int32]
    """(N, D, 2): (y, x) of the crop, or its slice, in that image."""
    shapes: NDArray[np.int32]
    """(N, D, 2): (height, width) of the crop."""
    label: NDArray[np.int64]
    """(N,): the patient's label number."""
    info: NDArray[np.int64]
    """(N, columns of `InfoColumn`)."""
    stain: NDArray[np.float32] | None = None
    """(N, rows, 3): how the crop's slide is stained; None where that was not asked for."""

    def given(self) -> tuple[NDArray[Any], ...]:
        """What there is of them, in this order."""
        return tuple(array for array in self if array is not None)

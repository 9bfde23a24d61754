"""A rectangle of the crop erased, so that a network does not rely on one place.

T. DeVries and G. W. Taylor, "Improved regularization of convolutional neural networks with cutout",
arXiv:1708.04552 (2017).
"""

from __future__ import annotations

from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from pydmed_dali.pipelines.augment.check import require_bytes
from pydmed_dali.pipelines.augment.draw import Range

GLASS = 243
"""A grey value that empty glass has: what is erased looks as if nothing were there."""


def cutout(image: DataNode, side: Range = (0.1, 0.3), fill: float = GLASS) -> DataNode:
    """One rectangle, whose sides are drawn within `side` as parts of the crop's, becomes `fill`.

    Its middle is anywhere on the crop, so some of it may lie outside.
    """
    if fill == GLASS:
        require_bytes(image, "cutout with its own fill")
    shape = fn.random.uniform(range=list(side), shape=[2])
    middle = fn.random.uniform(range=[0.0, 1.0], shape=[2])
    return fn.erase(
        image,
        anchor=middle,
        shape=shape,
        axis_names="HW",
        centered_anchor=True,
        normalized=True,
        fill_value=fill,
    )

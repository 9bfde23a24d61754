"""Flips and quarter turns: tissue on a slide has no up and no left."""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali.pipelines.augment.check import require_square


def turn(image: DataNode) -> DataNode:
    """One of the eight flips and quarter turns, each as likely.

    `image` must be square; raises `OptionError` where the source's crops are not.
    """
    (image,) = turn_together(image)
    return image


def turn_together(*images: DataNode) -> tuple[DataNode, ...]:
    """`turn`, the same one for all of a crop's images, e.g. its image and its mask."""
    for image in images:
        require_square(image, "turn")
    across = fn.random.coin_flip(dtype=types.INT32)
    down = fn.random.coin_flip(dtype=types.INT32)
    images = tuple(fn.flip(image, horizontal=across, vertical=down) for image in images)
    if fn.random.coin_flip(dtype=types.BOOL):
        images = tuple(
            fn.transpose(image, perm=[1, 0, 2], transpose_layout=False) for image in images
        )
    return images

"""Flips and quarter turns: tissue on a slide has no up and no left."""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode


def turn(image: DataNode) -> DataNode:
    """One of the eight flips and quarter turns, each as likely; `image` must be square."""
    image = fn.flip(
        image,
        horizontal=fn.random.coin_flip(dtype=types.INT32),
        vertical=fn.random.coin_flip(dtype=types.INT32),
    )
    if fn.random.coin_flip(dtype=types.BOOL):
        image = fn.transpose(image, perm=[1, 0, 2], transpose_layout=False)
    return image

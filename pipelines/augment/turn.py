"""Flips and quarter turns: tissue on a slide has no up and no left."""

from __future__ import annotations

from nvidia.dali import Pipeline, fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import do_not_convert

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
    if not _conditionals():
        coin = fn.random.coin_flip(dtype=types.INT32)
        return tuple(_one_of(image, coin) for image in images)
    if fn.random.coin_flip(dtype=types.BOOL):
        images = tuple(
            fn.transpose(image, perm=[1, 0, 2], transpose_layout=False) for image in images
        )
    return images


@do_not_convert
def _conditionals() -> bool:
    """Whether the pipeline that is being defined takes an `if` on a node."""
    return bool(getattr(Pipeline.current(), "_conditionals_enabled", False))


@do_not_convert
def _one_of(image: DataNode, coin: DataNode) -> DataNode:
    """The image, or where the coin is 1 the image transposed; without an `if`."""
    turned = fn.transpose(image, perm=[1, 0, 2], transpose_layout=False)
    return fn.reshape(fn.stack(image, turned)[coin], layout="HWC")

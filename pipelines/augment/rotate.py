"""Any angle and some zoom, cut from a larger crop, so that no corner lies outside of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.augment.check import require_side
from pydmed_dali.pipelines.augment.draw import Range, uniform

ANGLE: Range = (-180.0, 180.0)
"""Degrees, counter-clockwise."""
ZOOM: Range = (0.8, 1.25)
"""Size of things in the result, per their size in the crop."""


def crop_size_to_rotate(size: int, zoom: Range = ZOOM) -> int:
    """The source's `crop_size` from which `rotate` can cut `size` pixels at any angle.

    A square of `size` pixels shows `size / zoom` pixels of the crop; turned by 45 degrees it is
    sqrt(2) times as wide. For 224 pixels that is 396, and 317 without zoom.
    """
    return math.ceil(math.sqrt(2) * size / min(zoom))


def rotate(
    image: DataNode, crop_size: int, size: int, angle: Range = ANGLE, zoom: Range = ZOOM
) -> DataNode:
    """The middle of a square crop turned and zoomed: (size, size, 3), by linear interpolation.

    `crop_size` is that of the source, or of the image where an operator changed its size; raises
    `OptionError` where it is less than `crop_size_to_rotate(size, zoom)`, because corners of the
    result could lie outside of the crop, and where the source has another one. An image of unknown
    size that turns out to have another one ends the run with an error of DALI's.
    """
    to_crop = _to_crop([image], crop_size, size, angle, zoom)
    return _warped(image, to_crop, size, types.INTERP_LINEAR)


def rotate_together(
    image: DataNode,
    mask: DataNode,
    crop_size: int,
    size: int,
    angle: Range = ANGLE,
    zoom: Range = ZOOM,
) -> tuple[DataNode, DataNode]:
    """`rotate`, the same for an image and for its mask, which takes the nearest pixel's class."""
    to_crop = _to_crop([image, mask], crop_size, size, angle, zoom)
    return (
        _warped(image, to_crop, size, types.INTERP_LINEAR),
        _warped(mask, to_crop, size, types.INTERP_NN),
    )


def _to_crop(
    images: Sequence[DataNode], crop_size: int, size: int, angle: Range, zoom: Range
) -> DataNode:
    """From a place in the result to its place in the crop, about the middle of both."""
    needed = crop_size_to_rotate(size, zoom)
    if crop_size < needed:
        raise OptionError(
            f"crop_size={crop_size} is too small to cut {size} pixels at any angle with "
            f"zoom={zoom}; make the source with crop_size={needed}, which "
            f"crop_size_to_rotate({size}, {zoom}) computes"
        )
    middle: float | DataNode = crop_size / 2
    for image in images:
        zero = require_side(image, crop_size, "rotate")
        middle = middle if zero is None else zero + middle
    shrink = 1.0 / uniform(zoom)
    to_crop = fn.transforms.translation(offset=[-size / 2, -size / 2])
    to_crop = fn.transforms.rotation(to_crop, angle=uniform(angle))
    to_crop = fn.transforms.scale(to_crop, scale=fn.stack(shrink, shrink))
    offset = [middle, middle] if isinstance(middle, float) else fn.stack(middle, middle)
    return fn.transforms.translation(to_crop, offset=offset)


def _warped(
    image: DataNode, matrix: DataNode, size: int, interpolation: types.DALIInterpType
) -> DataNode:
    return fn.warp_affine(image, matrix=matrix, size=[size, size], interp_type=interpolation)

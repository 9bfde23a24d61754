"""The nodes that annotations add to a pipeline: each crop's mask, and the class of its centre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali.dali.device import Device
from pydmed_dali.dali.image_list import Images
from pydmed_dali.geometry import Size


@dataclass(frozen=True, slots=True)
class MaskNodes:
    """Where a source has annotations."""

    mask: DataNode
    """(height, width, 1) uint8, layout HWC: the class of each pixel of the crop."""
    class_number: DataNode
    """int64 scalar: the class of the crop's pixel (height // 2, width // 2)."""

    def gpu(self) -> MaskNodes:
        """The same on the GPU."""
        return MaskNodes(self.mask.gpu(), self.class_number.gpu())


def make_mask_nodes(
    next_masks: Callable[[int], Images],
    in_ids: DataNode,
    in_anchors: DataNode,
    shapes: DataNode,
    crop: Size,
    backend: Device,
) -> MaskNodes:
    """Masks are cut like images: with the same ids and anchors, out of a second plane of the ring.

    What a pipeline does not use of this, DALI leaves out.
    """
    pool = fn.external_source(source=next_masks, no_copy=True, batch=True, device=backend)
    mask = fn.multi_paste(
        pool,
        in_ids=in_ids,
        in_anchors=in_anchors,
        shapes=shapes,
        output_size=[crop.height, crop.width],
    )
    to_centre = np.array([[crop.height // 2, crop.width // 2]], np.int32)
    centre = fn.multi_paste(
        pool,
        in_ids=in_ids,
        in_anchors=in_anchors + types.Constant(to_centre, device="cpu"),
        shapes=types.Constant(np.ones((1, 2), np.int32), device="cpu"),
        output_size=[1, 1],
    )
    number = fn.cast(fn.reshape(centre, shape=[], layout=""), dtype=types.INT64)
    return MaskNodes(mask, number)

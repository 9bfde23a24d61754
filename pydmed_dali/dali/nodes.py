"""The nodes of a source's pipeline: ring and index arrays in, crops out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali.dali.batch import Batch
from pydmed_dali.dali.device import Device
from pydmed_dali.dali.image_list import Images
from pydmed_dali.dali.mask_nodes import MaskNodes, make_mask_nodes
from pydmed_dali.errors import SourceError
from pydmed_dali.geometry import Size
from pydmed_dali.plan.depth import Depth
from pydmed_dali.slide.pixel_format import PixelFormat


@dataclass(frozen=True, slots=True)
class CropNodes:
    """The nodes that a source gives a pipeline: one batch of crops."""

    image: DataNode
    """(height, width, channels), layout HWC, on the source's device: three channels of uint8,
    unless the source's loader says otherwise by its `pixel_format`. Of volumes (depth, height,
    width, channels), layout DHWC."""
    label: DataNode
    """int64 scalar: `Dataset.label_numbers` of the crop's patient; on the source's device."""
    info: DataNode
    """int64 row, columns as in `InfoColumn`; always on the CPU."""
    stain: DataNode | None = None
    """float32 (rows, 3), how the crop's slide is stained, for `macenko` or `reinhard` of
    `pydmed_dali.pipelines.augment`; always on the CPU. None unless the source was made with
    `stain_statistics`."""
    annotated: MaskNodes | None = None
    """What annotations add; None where the source has none."""

    @property
    def mask(self) -> DataNode:
        """(height, width, 1) uint8, layout HWC: the class of each pixel of the crop, 0 for none of
        the source's `classes`; on the source's device.

        Raises `SourceError` where the source has no annotations.
        """
        return self._require("mask").mask

    @property
    def class_number(self) -> DataNode:
        """int64 scalar: the class of the crop's centre, the pixel (height // 2, width // 2), as in
        `mask`; on the source's device.

        Raises `SourceError` where the source has no annotations.
        """
        return self._require("class_number").class_number

    def _require(self, what: str) -> MaskNodes:
        if self.annotated is None:
            raise SourceError(
                f"crops have no {what}, because their source has no annotations; give "
                "BigChunkSource annotations, a folder of files or a function from a slide's path "
                "to its file"
            )
        return self.annotated


def make_nodes(
    next_pool: Callable[[int], Images],
    next_batch: Callable[[int], tuple[NDArray[Any], ...]],
    crop: Size,
    backend: Device,
    device: Device,
    pixel: PixelFormat,
    depth: Depth | None,
    next_masks: Callable[[int], Images] | None,
    with_stain: bool,
) -> CropNodes:
    """Crops are cut where the ring lies, by `backend`, and given out on `device`.

    The same graph on both backends, so that a machine without a GPU tests what a GPU runs.
    """
    pool = fn.external_source(source=next_pool, no_copy=True, batch=True, device=backend)
    in_ids, in_anchors, shapes, label, info, *more = fn.external_source(
        source=next_batch, num_outputs=len(Batch._fields) - (not with_stain), batch=True
    )
    stain = more[0] if with_stain else None
    slices = 1 if depth is None else depth.crop
    image = fn.multi_paste(
        pool,
        in_ids=in_ids,
        in_anchors=in_anchors,
        shapes=shapes,
        **_one_below_another(crop, slices),
        output_size=[slices * crop.height, crop.width],
    )
    if pixel.carried != pixel.dtype:
        image = fn.reinterpret(image, dtype=types.UINT16)
    if depth is not None:
        shape = [depth.crop, crop.height, crop.width, pixel.channels]
        image = fn.reshape(image, shape=shape, layout="DHWC")
    annotated = None
    if next_masks is not None:
        annotated = make_mask_nodes(next_masks, in_ids, in_anchors, shapes, crop, backend)
    if device == "gpu":
        # Behind the feeding of a batch, in DALI's own thread: a source of device="gpu" would have
        # the caller wait for the labels' copy.
        return CropNodes(image.gpu(), label.gpu(), info, stain, annotated and annotated.gpu())
    return CropNodes(image, label, info, stain, annotated)


def _one_below_another(crop: Size, slices: int) -> dict[str, Any]:
    """Where the slices of a crop go in a tall image; nothing for one: DALI is quicker without."""
    if slices == 1:
        return {}
    places = np.zeros((slices, 2), np.int32)
    places[:, 0] = np.arange(slices) * crop.height
    return {"out_anchors": types.Constant(places, device="cpu")}

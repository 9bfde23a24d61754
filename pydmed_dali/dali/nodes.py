"""The nodes of a source's pipeline: ring and index arrays in, crops out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from pydmed_dali.dali.dealer import Batch
from pydmed_dali.dali.device import Device
from pydmed_dali.dali.pool_list import Images
from pydmed_dali.geometry import Size


@dataclass(frozen=True, slots=True)
class SmallChunks:
    """The nodes that a source gives a pipeline: one batch of crops."""

    image: DataNode
    """(height, width, 3) uint8, layout HWC, on the source's device."""
    label: DataNode
    """int64 scalar: `Dataset.label_numbers` of the crop's patient; on the source's device."""
    info: DataNode
    """int64 row, columns as in `Info`; always on the CPU."""


def make_nodes(
    next_pool: Callable[[int], Images],
    next_batch: Callable[[int], Batch],
    crop: Size,
    backend: Device,
    device: Device,
) -> SmallChunks:
    """Crops are cut where the ring lies, by `backend`, and given out on `device`.

    The same graph on both backends, so that a machine without a GPU tests what a GPU runs.
    """
    pool = fn.external_source(source=next_pool, no_copy=True, batch=True, device=backend)
    in_ids, in_anchors, shapes, label, info = fn.external_source(
        source=next_batch, num_outputs=len(Batch._fields), batch=True
    )
    image = fn.multi_paste(
        pool,
        in_ids=in_ids,
        in_anchors=in_anchors,
        shapes=shapes,
        output_size=[crop.height, crop.width],
    )
    if device == "gpu":
        # Behind the feeding of a batch, in DALI's own thread: a source of device="gpu" would have
        # the caller wait for the labels' copy.
        return SmallChunks(image.gpu(), label.gpu(), info)
    return SmallChunks(image, label, info)

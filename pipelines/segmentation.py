"""Images and their masks, through the same turns: for learning segmentation from annotations."""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, pipeline_def
from pydmed_dali.pipelines.augment import (
    colour_jitter,
    rotate_together,
    stain_jitter,
    turn_together,
)
from pydmed_dali.pipelines.classification import MEAN, STD, normalised


@pipeline_def(outputs=("image", "mask", "label", "info"), enable_conditionals=True)
def segmentation(
    source: BigChunkSource,
    augment: bool = True,
    size: int | None = None,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
    stain: float = 0.0,
    dtype: types.DALIDataType = types.FLOAT,
    layout: str = "CHW",
) -> tuple[DataNode, DataNode, DataNode, DataNode]:
    """Give out image (N, 3, height, width) float32, mask (N, height, width) uint8, label and info.

    The image is normalised as by `classification`, of its `dtype` and `layout`. The mask has the
    class of each pixel: 0 for none, 1 for the first of the source's `classes`, and so on;
    `mask.long()` is what torch's cross entropy takes. The source has `annotations`.

    With `augment`, image and mask are flipped and turned together, then the image alone is
    restained (by `stain`) and coloured. With `size` they are also turned to any angle and zoomed,
    and `size` pixels of them kept, so the source's `crop_size` is `crop_size_to_rotate(size)`; the
    mask takes the class of the nearest pixel. Crops must be square. Without `augment` both are as
    they were cut, for validation.
    """
    crops = source.small_chunks()
    image, mask = crops.image, crops.mask
    if augment:
        image, mask = turn_together(image, mask)
        if size is not None:
            image, mask = rotate_together(image, mask, source.options.crop.width, size)
        image = colour_jitter(stain_jitter(image, stain))
    image = normalised(image, mean, std, dtype, layout)
    return image, fn.squeeze(mask, axes=[2]), crops.label, crops.info

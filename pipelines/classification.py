"""The usual augmentation for a classifier: turned, stained a little differently, coloured."""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, pipeline_def
from pydmed_dali.pipelines.augment import colour_jitter, stain_jitter, turn
from pydmed_dali.pipelines.augment.check import require_rgb8

MEAN = (0.485, 0.456, 0.406)
"""Channel means of ImageNet, which most pretrained networks expect; in 0..1."""
STD = (0.229, 0.224, 0.225)
"""Channel standard deviations of ImageNet; in 0..1."""


@pipeline_def(outputs=("image", "label", "info"), enable_conditionals=True)
def classification(
    source: BigChunkSource,
    augment: bool = True,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
    stain: float = 0.0,
    dtype: types.DALIDataType = types.FLOAT,
    layout: str = "CHW",
) -> tuple[DataNode, DataNode, DataNode]:
    """Give out image (N, 3, height, width) float32 normalised, label (N,) and info (N, columns).

    `dtype` and `layout` are the image's, as `normalised` has them.

    With `augment`: one of the eight flips and quarter turns, each as likely, then other amounts of
    stain by up to the part `stain` (0.15 is usual, 0 leaves them; see `stain_jitter`), then
    brightness, contrast, hue and saturation by small random amounts. Without: normalised only, for
    validation. Crops must be square for the quarter turns.
    """
    crops = source.small_chunks()
    image = crops.image
    if augment:
        image = turn(image)
        image = stain_jitter(image, stain)
        image = colour_jitter(image)
    return normalised(image, mean, std, dtype, layout), crops.label, crops.info


def normalised(
    image: DataNode,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
    dtype: types.DALIDataType = types.FLOAT,
    layout: str = "CHW",
) -> DataNode:
    """(3, height, width) float32 of an image: less the `mean`, by `std`, both of 0..1.

    With `dtype=types.FLOAT16` in half precision. With `layout="HWC"` as (height, width, 3): in
    torch `batch["image"].permute(0, 3, 1, 2)`, a view, is (N, 3, height, width) in channels_last.
    """
    require_rgb8(image, "normalised")
    return fn.crop_mirror_normalize(
        image,
        dtype=dtype,
        output_layout=layout,
        mean=[255 * value for value in mean],
        std=[255 * value for value in std],
    )

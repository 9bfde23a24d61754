"""The usual augmentation for a classifier: mirrored, turned, and stained a little differently."""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, pipeline_def

MEAN = (0.485, 0.456, 0.406)
"""Channel means of ImageNet, which most pretrained networks expect; in 0..1."""
STD = (0.229, 0.224, 0.225)
"""Channel standard deviations of ImageNet; in 0..1."""


@pipeline_def(enable_conditionals=True)
def classification(
    source: BigChunkSource,
    augment: bool = True,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
) -> tuple[DataNode, DataNode, DataNode]:
    """Give out image (N, 3, height, width) float32 normalised, label (N,) and info (N, columns).

    With `augment`: one of the eight flips and quarter turns, each as likely, then brightness,
    contrast, hue and saturation by small random amounts. Without: normalised only, for validation.
    Crops must be square for the quarter turns.
    """
    crops = source.small_chunks()
    image = crops.image
    if augment:
        image = turn(image)
        image = fn.color_twist(
            image,
            brightness=fn.random.uniform(range=(0.9, 1.1)),
            contrast=fn.random.uniform(range=(0.9, 1.1)),
            hue=fn.random.uniform(range=(-8.0, 8.0)),
            saturation=fn.random.uniform(range=(0.85, 1.15)),
        )
    image = fn.crop_mirror_normalize(
        image,
        dtype=types.FLOAT,
        output_layout="CHW",
        mean=[255 * value for value in mean],
        std=[255 * value for value in std],
    )
    return image, crops.label, crops.info


def turn(image: DataNode) -> DataNode:
    """One of the eight flips and quarter turns of a square image, by conditionals of the caller."""
    image = fn.flip(
        image,
        horizontal=fn.random.coin_flip(dtype=types.INT32),
        vertical=fn.random.coin_flip(dtype=types.INT32),
    )
    if fn.random.coin_flip(dtype=types.BOOL):
        image = fn.transpose(image, perm=[1, 0, 2], transpose_layout=False)
    return image

"""Crops of volumes: turned about all axes, of other contrast and brightness, a little noisy."""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, pipeline_def
from pydmed_dali.errors import OptionError


@pipeline_def(outputs=("image", "label", "info"))
def volumes(
    source: BigChunkSource,
    augment: bool = True,
    mean: float = 0.0,
    std: float = 1.0,
    noise: float = 0.05,
) -> tuple[DataNode, DataNode, DataNode]:
    """Give out image (N, channels, depth, height, width) float32, label (N,), info (N, columns).

    `mean` and `std` are of the voxels' values: what comes out has about 0 and 1. With `augment`:
    each of the three axes reversed or not, contrast by up to a tenth, brightness by up to a tenth
    of `std`, and Gaussian noise of `noise` times `std` (0 leaves it out). For a source with a
    `crop_depth`.
    """
    if source.options.depth is None:
        raise OptionError(
            "volumes is for boxes of volumes, and the source makes crops of slides; make it with a "
            "crop_depth, and NiftiLoader or a loader of your own"
        )
    crops = source.small_chunks()
    image = (fn.cast(crops.image, dtype=types.FLOAT) - mean) / std
    if augment:
        image = fn.flip(
            image,
            horizontal=fn.random.coin_flip(dtype=types.INT32),
            vertical=fn.random.coin_flip(dtype=types.INT32),
            depthwise=fn.random.coin_flip(dtype=types.INT32),
        )
        image = image * fn.random.uniform(range=[0.9, 1.1])
        image = image + fn.random.uniform(range=[-0.1, 0.1])
        if noise:
            image = image + noise * fn.random.normal(image)
    image = fn.transpose(image, perm=[3, 0, 1, 2], output_layout="CDHW")
    return image, crops.label, crops.info

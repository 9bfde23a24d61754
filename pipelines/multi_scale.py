"""One place at several magnifications: concentric views, for networks that look at context too.

As in M. van Rijthoven et al., "HookNet: Multi-resolution convolutional neural networks for semantic
segmentation in histopathology whole-slide images", Medical Image Analysis 68 (2021) 101890.
"""

from __future__ import annotations

from collections.abc import Sequence

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, Size, pipeline_def
from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.augment import colour_jitter, stain_jitter, turn
from pydmed_dali.pipelines.augment.check import require_rgb8
from pydmed_dali.pipelines.classification import normalised

SCALES = (1, 2, 4)


def _outputs(scales: Sequence[int], **_: object) -> tuple[str, ...]:
    """The names of the outputs."""
    return (*(f"scale_{scale}" for scale in scales), "label", "info")


@pipeline_def(outputs=_outputs, enable_conditionals=True)
def multi_scale(
    source: BigChunkSource,
    size: int = 224,
    scales: Sequence[int] = SCALES,
    augment: bool = True,
    stain: float = 0.0,
    dtype: types.DALIDataType = types.FLOAT,
    layout: str = "CHW",
) -> tuple[DataNode, ...]:
    """Give out one view (N, 3, size, size) float32 for each scale, then label and info.

    The outputs are named `scale_1`, `scale_2`, ..., `label` and `info`.

    The view at scale s shows the `size` times s pixels in the middle of the crop that `info` names,
    at 1/s of its resolution; all have the crop's centre. So the source's `crop_size` is `size`
    times the largest scale: 896 for 224 and (1, 2, 4), and `min_tissue` speaks of the largest view.
    A pixel of it is the mean of s x s pixels, as in a slide's own coarser levels. Normalised as for
    `classification`, of its `dtype` and `layout`.

    With `augment` all views of a crop are turned, restained and coloured alike.

    Raises `OptionError` where scales are no whole numbers from 1 on, or `size` or the source's
    `crop_size` does not fit them.
    """
    _check(source, size, scales)
    crops = source.small_chunks()
    require_rgb8(crops.image, "multi_scale")
    image = turn(crops.image) if augment else crops.image
    views = [reduced(image, size, scale, max(scales)) for scale in scales]
    if augment:
        # One image of all views, so that what is drawn for it is drawn for all of them.
        together = colour_jitter(stain_jitter(fn.cat(*views, axis=0), stain))
        views = [together[n * size : (n + 1) * size] for n in range(len(scales))]
    ready = (normalised(view, dtype=dtype, layout=layout) for view in views)
    return (*ready, crops.label, crops.info)


def reduced(image: DataNode, size: int, scale: int, largest: int) -> DataNode:
    """The middle of an image of `size` times `largest` pixels a side, reduced by `scale`.

    By means and not by `fn.resize`, which takes half the time, but makes up what lies beyond the
    view's border.
    """
    begin, end = size * (largest - scale) // 2, size * (largest + scale) // 2
    middle = image[begin:end, begin:end]
    if scale == 1:
        return middle
    blocks = fn.reshape(middle, shape=[size, scale, size, scale, 3], layout="")
    means = fn.cast(fn.reductions.mean(blocks, axes=[1, 3]), dtype=types.UINT8)
    return fn.reshape(means, layout="HWC")


def _check(source: BigChunkSource, size: int, scales: Sequence[int]) -> None:
    if not scales or any(not isinstance(scale, int) or scale < 1 for scale in scales):
        raise OptionError(f"scales must be whole numbers from 1 on, such as {SCALES}, not {scales}")
    if size < 2 or size % 2:
        raise OptionError(
            f"size must be an even number of pixels, not {size!r}: else views of odd and even "
            "scales have no common centre"
        )
    needed = Size(size * max(scales), size * max(scales))
    if source.options.crop != needed:
        raise OptionError(
            f"crop_size={source.options.crop} does not fit size={size} at the scales {scales}; "
            f"make the source with crop_size={needed.width}, the largest view's"
        )

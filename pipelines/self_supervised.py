"""Several views of one place, for learning without labels: multi-crop, as in DINO.

M. Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments",
NeurIPS 2020, and "Emerging properties in self-supervised vision transformers", ICCV 2021.
"""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, pipeline_def
from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.augment import blur, colour_jitter, stain_jitter, turn
from pydmed_dali.pipelines.augment.check import require_rgb8
from pydmed_dali.pipelines.classification import normalised

GLOBAL_VIEWS, LOCAL_VIEWS = 2, 8
GLOBAL_SIZE, LOCAL_SIZE = 224, 96
"""Sides of the views, in their own pixels."""
GLOBAL_AREA, LOCAL_AREA = (0.32, 1.0), (0.05, 0.32)
"""Parts of the crop that a view shows; its sides differ by a third at most."""
RATIO = (3 / 4, 4 / 3)

OUTPUTS = (
    *(f"global_{number}" for number in range(GLOBAL_VIEWS)),
    *(f"local_{number}" for number in range(LOCAL_VIEWS)),
    "label",
    "info",
)
"""Names of the outputs: two global views, eight local ones, label and info."""


@pipeline_def(outputs=OUTPUTS, enable_conditionals=True)
def self_supervised(
    source: BigChunkSource,
    stain: float = 0.15,
    dtype: types.DALIDataType = types.FLOAT,
    layout: str = "CHW",
) -> tuple[DataNode, ...]:
    """Give out two global views (N, 3, 224, 224), eight local ones (N, 3, 96, 96), label and info.

    Views are float32, normalised as for `classification`, of its `dtype` and `layout`, and each is
    a tensor of its own, in the order of `OUTPUTS`. All ten are cut from the one crop that `info`
    names, so the source's `crop_size` is larger than a view (at least 224, or `OptionError` is
    raised): with 384, a global view shows 217 to
    384 pixels of the slide on 224, a local one 86 to 217 on 96. A view's resolution is therefore
    not the source's.

    Each view is cut, turned, restained, coloured and blurred by itself. Blur is for all of the
    first global view, a tenth of the second and half of the local ones, as in DINO; instead of its
    grey and inverted colours, which no stain makes, the amounts of stain vary by `stain`.
    """
    if min(source.options.crop.width, source.options.crop.height) < GLOBAL_SIZE:
        raise OptionError(
            f"crop_size={source.options.crop} is less than a global view of {GLOBAL_SIZE} pixels, "
            "so that every view would be enlarged; make the source with crop_size=384"
        )
    crops = source.small_chunks()
    kinds = [(GLOBAL_SIZE, GLOBAL_AREA, 1.0), (GLOBAL_SIZE, GLOBAL_AREA, 0.1)]
    kinds += [(LOCAL_SIZE, LOCAL_AREA, 0.5)] * LOCAL_VIEWS
    views = [
        normalised(view(crops.image, size, area, stain, blurred), dtype=dtype, layout=layout)
        for size, area, blurred in kinds
    ]
    return (*views, crops.label, crops.info)


def view(
    image: DataNode, size: int, area: tuple[float, float], stain: float, blurred: float
) -> DataNode:
    """A random part of the crop, (size, size, 3) uint8; `blurred` is the chance of blur."""
    require_rgb8(image, "self_supervised")
    image = fn.random_resized_crop(
        image, size=[size, size], random_area=list(area), random_aspect_ratio=list(RATIO)
    )
    image = stain_jitter(turn(image), stain)
    if fn.random.coin_flip(probability=0.8, dtype=types.BOOL):
        image = colour_jitter(image, (0.7, 1.3), (0.7, 1.3), (0.8, 1.2), (-10.0, 10.0))
    if fn.random.coin_flip(probability=blurred, dtype=types.BOOL):
        image = blur(image, (0.1, 2.0))
    return image

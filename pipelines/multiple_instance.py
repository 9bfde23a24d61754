"""Bags of crops under one label, for learning from labels of slides by attention or pooling.

M. Ilse, J. M. Tomczak and M. Welling, "Attention-based deep multiple instance learning", ICML 2018.
"""

from __future__ import annotations

from nvidia.dali import types
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, pipeline_def
from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.augment import colour_jitter, stain_jitter, turn
from pydmed_dali.pipelines.classification import normalised


@pipeline_def(outputs=("image", "label", "info"), enable_conditionals=True)
def multiple_instance(
    source: BigChunkSource,
    augment: bool = True,
    stain: float = 0.0,
    dtype: types.DALIDataType = types.FLOAT,
    layout: str = "CHW",
) -> tuple[DataNode, DataNode, DataNode]:
    """Give out what `classification` does, bag after bag: a bag is the crops of one BigChunk.

    The source has `resident=1`, and a `batch_size` that is a multiple of `crops_per_chunk`, the
    crops of a bag; raises `OptionError` otherwise. Then `batch["image"].unflatten(0, (-1, K))` is
    (bags, K, 3, height, width), and `batch["label"][::K]` is each bag's label.

    A bag shows one region of a slide, of `chunk_size`, not places from all over it. Every bag reads
    a BigChunk, so reading sets the pace.
    """
    options = source.options
    if options.resident != 1 or options.batch_size % options.crops_per_chunk:
        raise OptionError(
            f"resident={options.resident}, batch_size={options.batch_size}, "
            f"crops_per_chunk={options.crops_per_chunk}: for bags, resident must be 1 and "
            "batch_size a multiple of crops_per_chunk, which is the size of a bag"
        )
    crops = source.small_chunks()
    image = crops.image
    if augment:
        image = colour_jitter(stain_jitter(turn(image), stain))
    return normalised(image, dtype=dtype, layout=layout), crops.label, crops.info

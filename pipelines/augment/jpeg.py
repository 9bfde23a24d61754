"""The blocks and blurred colours that a stronger JPEG compression leaves."""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali.pipelines.augment.check import require_rgb8

LOWEST, HIGHEST = 40, 95


def jpeg(image: DataNode, lowest: int = LOWEST, highest: int = HIGHEST) -> DataNode:
    """The artefacts of JPEG at a quality from `lowest` to `highest` (1..100), each as likely.

    Colours at half the resolution (4:2:0), as most scanners keep them.
    """
    require_rgb8(image, "jpeg")
    quality = fn.random.uniform(values=list(range(lowest, highest + 1)), dtype=types.INT32)
    return fn.jpeg_compression_distortion(image, quality=quality)

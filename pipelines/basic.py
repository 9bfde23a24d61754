"""Crops as they are: the smallest pipeline there is, and a start for your own."""

from __future__ import annotations

from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, TileSource, pipeline_def


@pipeline_def(outputs=("image", "label", "info"))
def basic(source: BigChunkSource | TileSource) -> tuple[DataNode, DataNode, DataNode]:
    """Give out image (N, height, width, 3) uint8, label (N,) int64 and info (N, columns) int64."""
    crops = source.small_chunks()
    return crops.image, crops.label, crops.info

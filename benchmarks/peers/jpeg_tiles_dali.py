"""DALI's file reader and CPU decoder, random crops of JPEG tiles that were cut beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nvidia.dali import fn, pipeline_def
from nvidia.dali.data_node import DataNode
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from benchmarks.accounting import Content
from benchmarks.measure import Batch
from benchmarks.peer import main
from benchmarks.tiles import TileList
from benchmarks.workload import Workload


@pipeline_def
def cropped_tiles(files: list[str], crop: int) -> tuple[DataNode, DataNode]:
    """Give out image (N, crop, crop, 3) uint8 and number (N, 1): the tile's position in `files`."""
    coded, number = fn.readers.file(
        files=files, labels=list(range(len(files))), shuffle_after_epoch=True
    )
    image = fn.decoders.image_crop(
        coded,
        device="cpu",
        crop=(crop, crop),
        crop_pos_x=fn.random.uniform(range=(0.0, 1.0)),
        crop_pos_y=fn.random.uniform(range=(0.0, 1.0)),
    )
    return image, number


class DaliTileLoader:
    """The pipeline, with as many threads as others have processes."""

    def __init__(self, workload: Workload) -> None:
        self._workload, self._tiles = workload, TileList(workload)
        self._iterator: Any = None

    def start(self) -> None:
        """See `Loader`."""
        pipeline = cropped_tiles(
            [str(file) for file in self._tiles.files],
            self._workload.crop,
            batch_size=self._workload.batch,
            num_threads=max(self._workload.workers, 1),
            device_id=None,
            seed=self._workload.seed,
        )
        self._iterator = DALIGenericIterator([pipeline], ["image", "number"], size=-1)

    def __iter__(self) -> Iterator[Batch]:
        for (batch,) in self._iterator:
            yield batch["image"], batch["number"]

    def content(self, traces: Sequence[Any]) -> Content:
        """See `Loader`."""
        return self._tiles.content(traces)

    def close(self) -> None:
        """The pipeline's threads end with it."""
        self._iterator = None


if __name__ == "__main__":
    main(__doc__, DaliTileLoader)

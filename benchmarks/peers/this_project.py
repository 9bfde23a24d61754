"""pydmed-dali in a plain DALIGenericIterator, with BigChunks that are replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from benchmarks.accounting import Content, content
from benchmarks.measure import Batch
from benchmarks.peer import main
from benchmarks.places import LEAST_TISSUE
from benchmarks.slides import dataset_of
from benchmarks.workload import Workload
from pydmed_dali import BigChunkSource, InfoColumn
from pydmed_dali.pipelines.basic import basic


def tissue_options(workload: Workload) -> dict[str, Any]:
    """The options of a source whose crops lie on tissue, if the workload asks for that."""
    return {"min_tissue": LEAST_TISSUE} if workload.tissue else {}


class ThisProject:
    """The source as a user has it; DALI gets one thread, because the workers fill the cores."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._options = tissue_options(workload)
        self._source: BigChunkSource

    def start(self) -> None:
        """See `Loader`."""
        workload = self._workload
        self._source = BigChunkSource(
            dataset_of(workload.slides),
            chunk_size=workload.chunk,
            crop_size=workload.crop,
            batch_size=workload.batch,
            resident=workload.resident,
            crops_per_chunk=workload.crops_per_chunk,
            num_workers=workload.workers,
            seed=workload.seed,
            device="cpu",
            **self._options,
        )

    def __iter__(self) -> Iterator[Batch]:
        names = ["image", "label", "info"]
        iterator = DALIGenericIterator([basic(self._source, num_threads=1)], names, size=-1)
        for (batch,) in iterator:
            yield batch["image"], (batch["info"], self._source.stats())

    def content(self, traces: Sequence[Any]) -> Content:
        """See `Loader`. What was decoded is told from the source's statistics, which run as many
        batches ahead at the timed run's end as at its beginning.
        """
        rows = [
            np.asarray(info)[:, [InfoColumn.SLIDE, InfoColumn.CHUNK_X, InfoColumn.CHUNK_Y]]
            for info, _ in traces
        ]
        first, last = traces[0][1], traces[-1][1]
        delivered = last.crops - first.crops
        decoded = last.decode_amplification * last.crops - first.decode_amplification * first.crops
        return content(rows, decoded / delivered if delivered else None)

    def close(self) -> None:
        """End the workers."""
        self._source.close()


if __name__ == "__main__":
    main(__doc__, ThisProject)

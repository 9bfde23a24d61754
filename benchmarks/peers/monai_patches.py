"""MONAI's PatchWSIDataset with its cuCIM backend, in MONAI's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import monai.data
import numpy as np
from cucim import CuImage  # noqa: F401  MONAI asks for it only when a crop is read

from benchmarks.accounting import Content, read_content
from benchmarks.measure import Batch
from benchmarks.peer import main
from benchmarks.places import draw_places, slide_files
from benchmarks.workload import Workload


class MonaiLoader:
    """Samples as MONAI's users list them: a file and a location (top, left) each."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._slides = slide_files(workload)
        self._places = draw_places(self._slides, workload.crop, workload.seed)
        self._samples = [
            {"image": str(self._slides[slide].path), "location": (y, x)}
            for slide, x, y in self._places.tolist()
        ]
        self._loader: Any = None

    def start(self) -> None:
        """See `Loader`."""
        dataset = monai.data.PatchWSIDataset(
            self._samples,
            patch_size=self._workload.crop,
            patch_level=0,
            include_label=False,
            center_location=False,
            reader="cuCIM",
            channel_dim=-1,
        )
        self._loader = monai.data.DataLoader(
            dataset, batch_size=self._workload.batch, num_workers=self._workload.workers
        )

    def __iter__(self) -> Iterator[Batch]:
        while True:
            for batch in self._loader:
                image = batch["image"]
                yield image.as_tensor(), (image.meta["path"], image.meta["location"])

    def content(self, traces: Sequence[Any]) -> Content:
        """See `Loader`."""
        numbers = {str(slide.path): number for number, slide in enumerate(self._slides)}
        batches = [
            np.column_stack([[numbers[path] for path in paths], np.asarray(places)[:, ::-1]])
            for paths, places in traces
        ]
        return read_content(self._slides, batches, self._workload)

    def close(self) -> None:
        """The workers ended with the loader's iterator."""


if __name__ == "__main__":
    main(__doc__, MonaiLoader)

"""One read per crop in a torch DataLoader: what most training code does, for any reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.accounting import Content, read_content
from benchmarks.measure import Batch
from benchmarks.places import Places, SlideFile, draw_places, slide_files
from benchmarks.workload import Workload
from pydmed_dali.slide.slide import Pixels

Sample = tuple[torch.Tensor, torch.Tensor]
"""One crop (crop, crop, 3) uint8, and its row of the list of places (3,) int64."""


class CropDataset(Dataset[Sample], ABC):
    """Crops at the places of a list, which starts anew when it is used up.

    Each worker opens a slide when it first needs it, and keeps it open.
    """

    def __init__(self, slides: Sequence[SlideFile], places: Places, crop: int) -> None:
        self.slides, self.places, self.crop = slides, places, crop
        self._open: dict[int, Any] = {}

    @abstractmethod
    def open_slide(self, slide: SlideFile) -> Any:
        """A handle that `read` takes."""

    @abstractmethod
    def read(self, handle: Any, x: int, y: int) -> Pixels:
        """The crop whose top left corner is (x, y), in level-0 pixels."""

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> Sample:
        place = self.places[index % len(self.places)]
        number, x, y = place.tolist()
        if number not in self._open:
            self._open[number] = self.open_slide(self.slides[number])
        pixels = self.read(self._open[number], x, y)
        return torch.from_numpy(pixels), torch.from_numpy(place)


class CropLoader:
    """A `CropDataset` in a torch DataLoader."""

    def __init__(self, kind: type[CropDataset], workload: Workload) -> None:
        self._workload = workload
        self._slides = slide_files(workload)
        self._places = draw_places(self._slides, workload.crop, workload.seed)
        self._data = kind(self._slides, self._places, workload.crop)
        self._loader: DataLoader[Sample]

    def start(self) -> None:
        """See `Loader`."""
        self._loader = DataLoader(
            self._data,
            batch_size=self._workload.batch,
            num_workers=self._workload.workers,
        )

    def __iter__(self) -> Iterator[Batch]:
        yield from self._loader

    def content(self, traces: Sequence[Any]) -> Content:
        """See `Loader`."""
        batches = [np.asarray(places, np.int64) for places in traces]
        return read_content(self._slides, batches, self._workload)

    def close(self) -> None:
        """The workers ended with the loader's iterator."""

"""torch DataLoader + Pillow, random crops of JPEG tiles that were cut beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.accounting import Content
from benchmarks.measure import Batch
from benchmarks.peer import main
from benchmarks.tiles import TILE, TileList
from benchmarks.workload import Workload

Sample = tuple[torch.Tensor, int]
"""A crop (crop, crop, 3) uint8, and its tile's position in the list."""


class TileCrops(Dataset[Sample]):
    """Reads one tile a crop; the list starts anew when it is used up."""

    def __init__(self, tiles: TileList, crop: int) -> None:
        self._files, self._crop = tiles.files, crop

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> Sample:
        number = index % len(self._files)
        x, y = torch.randint(TILE - self._crop + 1, (2,)).tolist()
        with Image.open(self._files[number]) as image:
            crop = image.crop((x, y, x + self._crop, y + self._crop))
        return torch.from_numpy(np.array(crop)), number


class TileLoader:
    """`TileCrops` in a torch DataLoader."""

    def __init__(self, workload: Workload) -> None:
        self._workload, self._tiles = workload, TileList(workload)
        self._loader: DataLoader[Sample]

    def start(self) -> None:
        """See `Loader`."""
        self._loader = DataLoader(
            TileCrops(self._tiles, self._workload.crop),
            batch_size=self._workload.batch,
            num_workers=self._workload.workers,
        )

    def __iter__(self) -> Iterator[Batch]:
        yield from self._loader

    def content(self, traces: Sequence[Any]) -> Content:
        """See `Loader`."""
        return self._tiles.content(traces)

    def close(self) -> None:
        """The workers ended with the loader's iterator."""


if __name__ == "__main__":
    main(__doc__, TileLoader)

"""Two slides, and a model over them, that can be stopped at a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pydmed_dali import Dataset, Size
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.support import folder_dataset

SIZES = {"a": Size(300, 200), "b": Size(500, 330)}


TILES = {"a": 5 * 4, "b": 8 * 6}


OPTIONS: dict[str, Any] = {
    "model_name": "means",
    "tile_size": 64,
    "chunk_size": 256,
    "batch_size": 7,
    "num_workers": 0,
}


def means(tiles: torch.Tensor) -> torch.Tensor:
    """(N, 3)."""
    return tiles.double().mean(dim=(1, 2))


class Breaks:
    """`means`, that raises at a batch; keeps how many tiles it answered for."""

    def __init__(self, at: int) -> None:
        self._left, self.tiles = at, 0

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        if not self._left:
            raise ValueError("out of luck")
        self._left -= 1
        self.tiles += len(tiles)
        return means(tiles)


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_two_slides(folder: Path) -> Dataset:
    """Make the folder and the slides."""
    folder.mkdir()
    for name, size in SIZES.items():
        write_coordinate_slide(folder / f"{name}.tif", size, levels=1, mpp=0.5)
    return folder_dataset(folder)

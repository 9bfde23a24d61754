"""Three slides, one smaller than a tile, and a model over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import torch

from pydmed_dali import Dataset, Size
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.support import folder_dataset

SIZES = {"a": Size(300, 200), "b": Size(40, 30), "c": Size(260, 320)}


OPTIONS: dict[str, Any] = {
    "model_name": "means",
    "tile_size": 64,
    "chunk_size": 256,
    "batch_size": 7,
    "num_workers": 0,
}


def means(tiles: torch.Tensor) -> torch.Tensor:
    """(N, 4): mean red, green and blue, and the red of the upper left pixel."""
    colours = tiles.double().mean(dim=(1, 2))
    return torch.cat([colours, tiles[:, 0, 0, :1].double()], dim=1)


def contents(file: Path) -> dict[str, Any]:
    with h5py.File(file) as opened:
        names = {name: opened[name][()] for name in ("features", "coords")}
        return {**names, **opened["coords"].attrs}


def write_three_slides(folder: Path) -> Dataset:
    """Make the folder and the slides; b is smaller than a tile."""
    folder.mkdir()
    for name, size in SIZES.items():
        write_coordinate_slide(folder / f"{name}.tif", size, levels=1, mpp=0.5)
    return folder_dataset(folder)

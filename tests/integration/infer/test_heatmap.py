"""Results as an array over the slide and as a picture: against plain loops over the tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from pydmed_dali import Dataset, Size
from pydmed_dali.errors import OptionError
from pydmed_dali.infer import feature_grid, heatmap, predict
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide

OPTIONS: dict[str, Any] = {"model_name": "colours", "tile_size": 96, "num_workers": 0}


def colours(tiles: torch.Tensor) -> torch.Tensor:
    """(N, 3)."""
    return tiles.float().mean(dim=(1, 2))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    return write_tissue_slide(folder / "gland.svs", Size(1000, 700), tissue="gland", seed=1)


@pytest.mark.parametrize(
    ("stride", "options"),
    [
        (96, {}),
        (48, {}),
        (40, {}),
        (96, {"mpp": 0.83}),
        (48, {"mpp": 0.83}),
        (96, {"min_tissue": 0.6}),
        (48, {"min_tissue": 0.6}),
    ],
)
def test_a_cell_is_the_mean_of_the_tiles_that_cover_it(
    slide: Path, tmp_path: Path, stride: int, options: dict[str, Any]
) -> None:
    dataset = Dataset.from_folder(slide.parent)
    (file,) = predict(dataset, colours, tmp_path, stride=stride, **OPTIONS, **options).written
    found = feature_grid(file)
    with h5py.File(file) as opened:
        coords, features = opened["coords"][()], opened["features"][()]
        tile = int(opened["coords"].attrs["patch_size_level0"])
    assert found.values.shape == (*found.covered.shape, 3)
    assert found.covered.any() and (found.covered.all() or options.get("min_tissue"))
    wide, high = found.cell
    for row, column in np.ndindex(found.covered.shape):
        x, y = (column + 0.5) * wide, (row + 0.5) * high  # the centre of the cell
        inside = (
            (coords[:, 0] <= x)
            & (x < coords[:, 0] + max(tile, wide))
            & (coords[:, 1] <= y)
            & (y < coords[:, 1] + max(tile, high))
        )
        if stride == 40:  # a tile ends within its last cell, which counts as covered
            inside = (abs(coords[:, 0] + tile / 2 - x) < (tile + wide) / 2) & (
                abs(coords[:, 1] + tile / 2 - y) < (tile + high) / 2
            )
        assert found.covered[row, column] == inside.any()
        if inside.any():
            mean = features[inside].mean(axis=0)
            np.testing.assert_allclose(found.values[row, column], mean, rtol=1e-4)
        else:
            assert np.isnan(found.values[row, column]).all()


def test_a_picture_shows_what_was_said(slide: Path, tmp_path: Path) -> None:
    dataset = Dataset.from_folder(slide.parent)
    (file,) = predict(dataset, colours, tmp_path / "out", **OPTIONS).written
    pictures = []
    for column in (0, 1):
        heatmap(slide, file, tmp_path / f"{column}.png", column, label="mean")
        with Image.open(tmp_path / f"{column}.png") as picture:
            assert picture.width > 1000 and picture.height > 500
            pictures.append(np.asarray(picture.convert("RGB"), np.int16))
    assert pictures[0].shape == pictures[1].shape
    assert abs(pictures[0] - pictures[1]).mean() > 1
    with pytest.raises(OptionError, match=r"column=3 was asked for, and .* has columns 0\.\.2"):
        heatmap(slide, file, tmp_path / "no.png", 3)

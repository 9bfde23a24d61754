"""Ten views of one place: shapes, that they show it, and that each is drawn by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, Size, SmallChunkIterator
from pydmed_dali.pipelines.classification import MEAN, STD
from pydmed_dali.pipelines.self_supervised import OUTPUTS, self_supervised
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.support import write_picture

OPTIONS: dict[str, Any] = {
    "chunk_size": 512,
    "crop_size": 384,
    "batch_size": 8,
    "resident": 2,
    "crops_per_chunk": 8,
    "num_workers": 0,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("slides")
    for number, tissue in enumerate(("fat", "gland", "stroma", "tumor")):
        write_tissue_slide(folder / f"{number}.svs", Size(1024, 1024), tissue=tissue, seed=2)
    return Dataset.from_folder(folder)


@pytest.fixture(scope="module")
def views(dataset: Dataset) -> dict[str, torch.Tensor]:
    return first_views(dataset)


def first_views(dataset: Dataset) -> dict[str, torch.Tensor]:
    with BigChunkSource(dataset, **OPTIONS) as source:
        batch = next(iter(SmallChunkIterator(self_supervised(source), OUTPUTS)))
    return {name: tensor.clone() for name, tensor in batch.items()}


def test_each_view_is_a_tensor_of_its_own(views: dict[str, torch.Tensor]) -> None:
    shapes = {name: tuple(views[name].shape) for name in OUTPUTS[:-2]}
    assert shapes == {
        **{f"global_{number}": (8, 3, 224, 224) for number in range(2)},
        **{f"local_{number}": (8, 3, 96, 96) for number in range(8)},
    }
    assert {views[name].dtype for name in shapes} == {torch.float32}
    assert views["label"].shape[0] == views["info"].shape[0] == 8


def test_views_differ_in_what_they_show(views: dict[str, torch.Tensor]) -> None:
    assert not torch.equal(views["global_0"], views["global_1"])
    local = [views[f"local_{number}"] for number in range(8)]
    assert not any(torch.equal(local[0], other) for other in local[1:])


def test_all_views_show_the_crop_that_info_names(tmp_path: Path) -> None:
    """A red, a green and a blue slide: whatever is done to a view, it stays red, green or blue."""
    for channel in range(3):
        colour = np.where(np.arange(3) == channel, 190, 80).astype(np.uint8)
        write_picture(tmp_path / f"{channel}.tif", np.tile(colour, (512, 512, 1)))
    batch = first_views(Dataset.from_folder(tmp_path))
    own = batch["info"][:, InfoColumn.SLIDE].numpy()
    assert len(set(own)) > 1
    for name in OUTPUTS[:-2]:
        shown = batch[name].numpy().mean(axis=(2, 3)) * STD + MEAN
        np.testing.assert_array_equal(shown.argmax(axis=1), own)


def test_the_seed_decides_the_views(dataset: Dataset, views: dict[str, torch.Tensor]) -> None:
    again = first_views(dataset)
    assert all(torch.equal(again[name], views[name]) for name in OUTPUTS)


def test_a_resumed_run_gives_the_views_that_would_have_come(dataset: Dataset) -> None:
    with BigChunkSource(dataset, **OPTIONS) as source:
        loader = SmallChunkIterator(self_supervised(source), OUTPUTS, batches_per_epoch=2)
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        expected = {name: tensor.clone() for name, tensor in next(batches).items()}
    with BigChunkSource(dataset, **OPTIONS) as source:
        loader = SmallChunkIterator(self_supervised(source), OUTPUTS, batches_per_epoch=2)
        loader.load_state_dict(state)
        resumed = next(iter(loader))
    assert all(torch.equal(resumed[name], expected[name]) for name in OUTPUTS)

"""Ten views of one place: shapes, that they show it, and that each is drawn by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pydmed_dali import BigChunkSource, Dataset, Size, SmallChunkIterator
from pydmed_dali.pipelines.classification import MEAN, STD
from pydmed_dali.pipelines.self_supervised import OUTPUTS, self_supervised
from pydmed_dali.slide.tissue_slides import write_tissue_slide
from tests.support import take

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


def test_views_show_the_crop_that_info_names(
    dataset: Dataset, views: dict[str, torch.Tensor]
) -> None:
    """By their mean colour each global view is nearer to its own crop than to most others."""
    with BigChunkSource(dataset, **OPTIONS) as source:
        plain = take(source, 1)[0]
    np.testing.assert_array_equal(plain["info"], views["info"])
    colours = plain["image"].numpy().astype(float).mean(axis=(1, 2))
    shown = views["global_1"].numpy().mean(axis=(2, 3)) * STD + MEAN
    apart = np.linalg.norm(shown[:, None] * 255 - colours, axis=2)
    ranks = (apart < np.diag(apart)[:, None]).sum(axis=1)
    assert ranks.mean() < 2.5, "by chance it were 3.5"


def test_the_seed_decides_the_views(dataset: Dataset, views: dict[str, torch.Tensor]) -> None:
    again = first_views(dataset)
    assert all(torch.equal(again[name], views[name]) for name in OUTPUTS)

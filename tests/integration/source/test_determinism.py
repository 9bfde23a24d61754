"""What is delivered depends on the seed, and on nothing that timing decides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator
from pydmed_dali.pipelines.basic import basic
from tests.support import NAMES, SMALL_RUN, sum_up, take

OPTIONS: dict[str, Any] = {
    "chunk_size": 300,
    "crop_size": 64,
    "batch_size": 24,
    "resident": 4,
    "crops_per_chunk": 20,
    "seed": 11,
}


def run(dataset: Dataset, batches: int = 25, depth: int = 2, **changed: Any) -> dict[str, Any]:
    options = {**OPTIONS, "num_workers": 0, "prefetch_depth": depth, **changed}
    with BigChunkSource(dataset, **options) as source:
        return sum_up(take(source, batches))


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_nothing(coordinates: Dataset, num_workers: int) -> None:
    assert_same(run(coordinates), run(coordinates, num_workers=num_workers))


@pytest.mark.parametrize("depth", [1, 3])
def test_prefetch_depth_changes_nothing(coordinates: Dataset, depth: int) -> None:
    assert_same(run(coordinates), run(coordinates, depth=depth, num_workers=1))


def test_broken_slides_are_replaced_alike_with_any_number_of_workers(real_slides: Path) -> None:
    dataset = Dataset.from_folder(real_slides)
    assert_same(run(dataset, 60), run(dataset, 60, num_workers=3))


def test_another_seed_changes_the_crops(coordinates: Dataset) -> None:
    one, other = run(coordinates), run(coordinates, seed=12)
    assert not np.array_equal(one["info"], other["info"])


def test_a_lower_depth_of_the_pipeline_than_of_the_source_changes_nothing(
    coordinates: Dataset,
) -> None:
    with BigChunkSource(coordinates, **OPTIONS, num_workers=1, prefetch_depth=3) as source:
        lower = sum_up(take(source, 25, prefetch_queue_depth=1))
    assert_same(run(coordinates), lower)


def test_each_chunk_of_a_finite_source_gives_each_crop_once(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS, num_workers=1, passes=3) as source:
        info = sum_up(take(source, source.batches_per_epoch))["info"]
    given = Counter(
        zip(info[:, InfoColumn.CHUNK].tolist(), info[:, InfoColumn.CROP].tolist(), strict=True)
    )
    assert given == {(chunk, crop): 1 for chunk in range(18) for crop in range(20)}


def test_every_patient_comes_once_before_any_comes_twice(coordinates: Dataset) -> None:
    info = run(coordinates, 100)["info"]
    patients = dict(
        zip(info[:, InfoColumn.CHUNK].tolist(), info[:, InfoColumn.PATIENT].tolist(), strict=True)
    )
    assert sorted(patients) == list(range(len(patients)))
    for first in range(0, len(patients) - 6, 6):
        assert sorted(patients[first + n] for n in range(6)) == list(range(6))


def test_two_ranks_read_disjoint_chunks_that_make_up_the_whole(coordinates: Dataset) -> None:
    both = [
        run(coordinates, 8, passes=2, rank=rank, world_size=2)["info"][:, InfoColumn.CHUNK]
        for rank in range(2)
    ]
    assert not set(both[0]) & set(both[1])
    whole = run(coordinates, 10, passes=2)["info"][:, InfoColumn.CHUNK]
    assert set(both[0]) | set(both[1]) == set(whole)


def test_labels_can_be_balanced(coordinate_folder: Path) -> None:
    """Of six patients one is of the rare label: in a finite run each gets half of the crops."""
    dataset = Dataset.from_folder(
        coordinate_folder, label=lambda path: "rare" if path.name == "slide-0.tif" else "usual"
    )
    for balance, rare in (("patient", 8), ("label", 24)):
        with BigChunkSource(dataset, **SMALL_RUN, passes=1, balance=balance) as source:
            batches = list(SmallChunkIterator(basic(source), NAMES))
        labels = np.concatenate([batch["label"].numpy() for batch in batches])
        assert (len(labels), int((labels == 0).sum())) == (48, rare)

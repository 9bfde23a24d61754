"""Bags: whole, of one BigChunk each, under one label."""

from __future__ import annotations

from typing import Any

import pytest

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator
from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.multiple_instance import multiple_instance
from tests.support import NAMES

BAGS, CROPS = 3, 5
OPTIONS: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": 48,
    "batch_size": BAGS * CROPS,
    "resident": 1,
    "crops_per_chunk": CROPS,
    "num_workers": 0,
}


def test_each_bag_is_the_crops_of_one_chunk(coordinates: Dataset) -> None:
    seen: list[int] = []
    with BigChunkSource(coordinates, **OPTIONS) as source:
        loader = SmallChunkIterator(multiple_instance(source), NAMES, batches_per_epoch=4)
        for batch in loader:
            assert batch["image"].shape == (BAGS * CROPS, 3, 48, 48)
            bags = batch["info"].reshape(BAGS, CROPS, len(InfoColumn))
            assert (bags[:, :, InfoColumn.CHUNK] == bags[:, :1, InfoColumn.CHUNK]).all()
            assert (bags[:, :, InfoColumn.CROP] == bags[:1, :, InfoColumn.CROP]).all()
            assert sorted(bags[0, :, InfoColumn.CROP].tolist()) == list(range(CROPS))
            labels = batch["label"].reshape(BAGS, CROPS)
            assert (labels == labels[:, :1]).all()
            seen += bags[:, 0, InfoColumn.CHUNK].tolist()
    assert seen == list(range(4 * BAGS))


@pytest.mark.parametrize("wrong", [{"resident": 2}, {"crops_per_chunk": 4}])
def test_options_that_would_tear_bags_are_refused(
    coordinates: Dataset, wrong: dict[str, int]
) -> None:
    with (
        BigChunkSource(coordinates, **{**OPTIONS, **wrong}) as source,
        pytest.raises(OptionError, match=r"for bags, resident must be 1"),
    ):
        multiple_instance(source)

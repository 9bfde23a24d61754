"""Names of a pipeline's outputs: those of its definition, or those that an iterator is given."""

from __future__ import annotations

from typing import Any

import pytest
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, Dataset, InfoColumn, SmallChunkIterator, pipeline_def
from pydmed_dali.errors import OptionError
from pydmed_dali.pipelines.basic import basic
from tests.support import NAMES

OPTIONS: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": 32,
    "batch_size": 24,
    "resident": 3,
    "crops_per_chunk": 20,
    "num_workers": 1,
}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["image", "label"], "must give each of the pipeline's 3 outputs a name of its own"),
        ([*NAMES, "more"], "3 outputs"),
        (["image", "image", "info"], "a name of its own"),
        (["image", "info", "label"], r"shape \(24,\) 'info', which has .* as 'label' has"),
    ],
)
def test_names_that_do_not_fit_the_outputs_are_refused(
    coordinates: Dataset, names: list[str], message: str
) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        pipeline = basic(source)
        with pytest.raises(OptionError, match=message):
            next(iter(SmallChunkIterator(pipeline, names)))


def test_wrong_names_are_refused_again(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS, passes=1) as source:
        loader = SmallChunkIterator(basic(source), ["image", "info", "label"])
        for _ in range(2):
            with pytest.raises(OptionError, match="in the order in which the pipeline returns"):
                next(iter(loader))


def test_some_columns_of_info_may_be_all_that_is_given_out(coordinates: Dataset) -> None:
    @pipeline_def
    def placed(source: BigChunkSource) -> tuple[DataNode, ...]:
        crops = source.small_chunks()
        return crops.image, crops.label, crops.info[InfoColumn.X : InfoColumn.Y + 1]

    with BigChunkSource(coordinates, **OPTIONS) as source:
        batch = next(iter(SmallChunkIterator(placed(source), NAMES)))
    assert batch["info"].shape == (24, 2)


def test_a_pipeline_names_its_outputs_itself(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **OPTIONS) as source:
        batch = next(iter(SmallChunkIterator(basic(source))))
    assert list(batch) == NAMES
    assert batch["image"].shape == (24, 32, 32, 3) and batch["label"].shape == (24,)


def test_outputs_without_names_ask_for_them(coordinates: Dataset) -> None:
    @pipeline_def
    def nameless(source: BigChunkSource) -> tuple[DataNode, ...]:
        crops = source.small_chunks()
        return crops.image, crops.label, crops.info

    with (
        BigChunkSource(coordinates, **OPTIONS) as source,
        pytest.raises(OptionError, match=r"give output_map, .* or define the pipeline by"),
    ):
        SmallChunkIterator(nameless(source))


def test_names_of_a_definition_that_do_not_fit_are_refused(coordinates: Dataset) -> None:
    @pipeline_def(outputs=("image", "info"))
    def wrong(source: BigChunkSource) -> tuple[DataNode, ...]:
        crops = source.small_chunks()
        return crops.image, crops.label, crops.info

    with (
        BigChunkSource(coordinates, **OPTIONS) as source,
        pytest.raises(OptionError, match=r"outputs=\['image', 'info'\] must give each"),
    ):
        SmallChunkIterator(wrong(source))

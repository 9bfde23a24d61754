"""Pipelines for a GPU, as far as they can be looked at without one: DALI has every operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nvidia.dali import Pipeline, fn, types
from nvidia.dali.backend import RegisteredGPUOps
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, Dataset, ReinhardStain, pipeline_def
from pydmed_dali.dali import device
from pydmed_dali.pipelines import augment
from pydmed_dali.pipelines.basic import basic
from pydmed_dali.pipelines.classification import classification
from pydmed_dali.pipelines.multi_scale import multi_scale
from pydmed_dali.pipelines.multiple_instance import multiple_instance
from pydmed_dali.pipelines.segmentation import segmentation
from pydmed_dali.pipelines.self_supervised import self_supervised
from pydmed_dali.pipelines.volumes import volumes
from pydmed_dali.slide.stain import MACENKO_REFERENCE
from tests.drawings import SHARES, annotate

CUTTING = {"ExternalSource", "MultiPaste", "Reinterpret", "Reshape"}
"""What cuts crops out of a ring on the card, of which a ring in host memory shows nothing here."""
SIDE = augment.crop_size_to_rotate(32)
REINHARD = ReinhardStain((8.3, -0.1, 0.03), (0.5, 0.1, 0.02))


@pipeline_def(enable_conditionals=True)
def every_block(source: BigChunkSource) -> tuple[DataNode, ...]:
    crops = source.small_chunks()
    images = [
        augment.cutout(augment.noise(augment.jpeg(augment.blur(crops.image)))),
        augment.rotate(crops.image, SIDE, 32),
        augment.macenko(crops.image, crops.stain, MACENKO_REFERENCE),
    ]
    return (*images, crops.label, crops.info)


@pipeline_def
def by_reinhard(source: BigChunkSource) -> tuple[DataNode, ...]:
    crops = source.small_chunks()
    image = augment.reinhard(crops.image, crops.stain, REINHARD)
    return fn.cast(image, dtype=types.FLOAT), crops.label, crops.info


MADE: dict[str, tuple[Callable[[BigChunkSource], Pipeline], dict[str, Any]]] = {
    "basic": (basic, {}),
    "classification": (lambda source: classification(source, stain=0.1), {}),
    "multi_scale": (lambda source: multi_scale(source, size=32), {"crop_size": 128}),
    "multiple_instance": (lambda source: multiple_instance(source, stain=0.1), {"resident": 1}),
    "self_supervised": (self_supervised, {"crop_size": 256}),
    "volumes": (volumes, {"crop_depth": 2}),
    "every block": (every_block, {"crop_size": SIDE, "stain_statistics": "macenko"}),
    "reinhard": (by_reinhard, {"stain_statistics": "reinhard"}),
}


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source and its graph are made as for a GPU; nothing is run."""
    monkeypatch.setattr(device, "gpu_count", lambda: 1)


def assert_known(made: Pipeline) -> None:
    """Each operator that is given something on the GPU is one that DALI has there."""
    pipeline: Any = made  # what it is made of is private
    pipeline._build_graph()
    there = {
        operator._op.schema_name
        for operator in pipeline._ops
        if any(node.device == "gpu" for node in operator.inputs)
    }
    assert there | CUTTING <= set(RegisteredGPUOps())
    assert any(node.device == "gpu" for node in pipeline._graph_outputs)


def open_source(dataset: Dataset, **options: Any) -> BigChunkSource:
    usual: dict[str, Any] = {"crop_size": 64, "batch_size": 4, "resident": 2, "crops_per_chunk": 4}
    return BigChunkSource(
        dataset, chunk_size=256, num_workers=0, device="gpu", residency="host", **usual | options
    )


@pytest.mark.parametrize("name", MADE)
def test_every_operator_is_there_on_a_gpu(coordinates: Dataset, name: str) -> None:
    make, options = MADE[name]
    with open_source(coordinates, **options) as source:
        assert_known(make(source))


def test_every_operator_of_segmentation_is_there_on_a_gpu(
    coordinates: Dataset, tmp_path: Path
) -> None:
    annotate(coordinates, tmp_path)
    with open_source(coordinates, crop_size=SIDE, annotations=tmp_path, classes=SHARES) as source:
        assert_known(segmentation(source, size=32, stain=0.1))


def test_an_operator_that_is_not_there_is_noticed(coordinates: Dataset) -> None:
    @pipeline_def
    def without(source: BigChunkSource) -> tuple[DataNode, ...]:
        crops = source.small_chunks()
        return fn.decoders.numpy(crops.image), crops.label, crops.info

    with open_source(coordinates) as source, pytest.raises(AssertionError):
        assert_known(without(source))

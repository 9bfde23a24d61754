"""Stain normalisation in a pipeline: against numpy, and by the stain of the crop's own slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn
from nvidia.dali import pipeline_def as plain_pipeline_def
from nvidia.dali.data_node import DataNode

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    InfoColumn,
    MacenkoStain,
    Point,
    ReinhardStain,
    Size,
    SmallChunkIterator,
    measure_stain,
    pipeline_def,
)
from pydmed_dali.errors import OptionError, StateError
from pydmed_dali.pipelines import augment
from pydmed_dali.slide.slide import Pixels
from pydmed_dali.slide.stain import LAB, LMS, MACENKO_REFERENCE, UNKNOWN, Stain, find_stain
from pydmed_dali.synthetic.tissue_slides import TISSUES, tissue_image, write_tissue_slide
from tests.support import write_picture

BATCH, SIDE, WIDE = 8, 64, 192
REINHARD_TARGET = ReinhardStain((8.3, -0.1, 0.03), (0.5, 0.1, 0.02))
TARGETS: dict[str, Stain] = {"macenko": MACENKO_REFERENCE, "reinhard": REINHARD_TARGET}
NAMES = ["image", "stain", "label", "info"]
OPTIONS: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": SIDE,
    "batch_size": BATCH,
    "resident": 4,
    "crops_per_chunk": 8,
}


@pytest.fixture(scope="module")
def tissue() -> Pixels:
    """(BATCH, WIDE, WIDE, 3): two crops of each tissue."""
    crops = [
        tissue_image(Size(2048, 2048), tissue=kind, seed=3).pixels(
            Point(1000, y), Size(WIDE, WIDE), 1
        )
        for kind in TISSUES
        for y in (900, 1100)
    ]
    return np.stack(crops)


def block(image: DataNode, stain: DataNode | None, target: Stain) -> DataNode:
    if isinstance(target, MacenkoStain):
        return augment.macenko(image, stain, target)
    return augment.reinhard(image, stain, target)


def run(images: Pixels, numbers: NDArray[np.float32], target: Stain) -> Pixels:
    """What a block makes of images whose slides have these numbers, (N, rows, 3)."""

    @plain_pipeline_def
    def pipeline() -> Any:
        image = fn.external_source(lambda: images, batch=True, layout="HWC")
        return block(image, fn.external_source(lambda: numbers, batch=True), target)

    made: Pipeline = pipeline(batch_size=len(images), num_threads=1, device_id=None)
    (output,) = made.run()
    return np.stack([np.asarray(output.at(i)) for i in range(len(images))])


def reference(image: Pixels, stain: Stain, target: Stain) -> NDArray[np.float64]:
    """Step by step as the papers say, in floating point: by amounts of stain; by l, alpha, beta."""
    flat = image.reshape(-1, 3)
    if isinstance(stain, MacenkoStain) and isinstance(target, MacenkoStain):
        density = -np.log((flat + 1.0) / 256)
        amounts = np.linalg.lstsq(np.array(stain.vectors).T, density.T, rcond=None)[0].T
        amounts *= np.array(target.strongest) / stain.strongest
        grey = 256 * np.exp(-amounts @ np.array(target.vectors)) - 1
    else:
        assert isinstance(stain, ReinhardStain) and isinstance(target, ReinhardStain)
        lab = np.log((flat + 1.0) @ LMS.T) @ LAB.T
        lab = (lab - stain.mean) / stain.deviation * np.array(target.deviation) + target.mean
        grey = np.linalg.solve(LMS, np.exp(np.linalg.solve(LAB, lab.T))).T - 1
    return np.asarray(np.clip(grey, 0, 255).reshape(image.shape))


def own_stains(images: Pixels, method: str) -> list[Stain]:
    """Of each image, as if it were a slide."""
    found = [find_stain(method, image.reshape(-1, 3)) for image in images]
    assert all(found)
    return [stain for stain in found if stain is not None]


@pytest.mark.parametrize(("method", "within"), [("macenko", 1.0), ("reinhard", 0.51)])
def test_each_crop_is_normalised_by_its_own_slide(
    tissue: Pixels, method: str, within: float
) -> None:
    some = tissue[[i for i, kind in enumerate(np.repeat(TISSUES, 2)) if kind != "fat"]]
    stains = own_stains(some, method)
    target = TARGETS[method]
    found = run(some, np.stack([stain.numbers() for stain in stains]), target)
    for image, original, stain in zip(found, some, stains, strict=True):
        np.testing.assert_allclose(image, reference(original, stain, target), atol=within)
    assert np.abs(found.astype(int) - some).mean() > 5


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_the_stain_of_what_comes_out_is_the_targets(tissue: Pixels, method: str) -> None:
    (stain,) = own_stains(tissue[-1:], method)
    target = TARGETS[method]
    found = run(tissue[-1:], stain.numbers()[None], target)
    after = find_stain(method, found.reshape(-1, 3))
    if isinstance(target, MacenkoStain):
        assert isinstance(after, MacenkoStain)
        np.testing.assert_allclose(after.densities, target.densities, atol=0.15)
    else:
        assert isinstance(after, ReinhardStain) and isinstance(target, ReinhardStain)
        np.testing.assert_allclose(after.mean, target.mean, atol=0.05)
        np.testing.assert_allclose(after.deviation, target.deviation, rtol=0.15)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_without_a_known_stain_an_image_stays_as_it_is(method: str) -> None:
    every_grey = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3)).astype(np.uint8)
    numbers = np.repeat(UNKNOWN[method][None], 2, axis=0)
    np.testing.assert_array_equal(run(every_grey, numbers, TARGETS[method]), every_grey)


@pytest.mark.parametrize(("method", "other"), [("macenko", "reinhard"), ("reinhard", "macenko")])
def test_statistics_of_the_other_method_are_refused(
    tissue: Pixels, method: str, other: str
) -> None:
    """By DALI: they have other shapes."""
    numbers = np.repeat(UNKNOWN[other][None], BATCH, axis=0)
    with pytest.raises(RuntimeError, match=r"[Rr]eshape"):
        run(tissue, numbers, TARGETS[method])


@pipeline_def
def normal(source: BigChunkSource, target: Stain) -> tuple[DataNode, ...]:
    crops = source.small_chunks()
    assert crops.stain is not None
    return block(crops.image, crops.stain, target), crops.stain, crops.label, crops.info


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three tissues of other stainings, and one of glass."""
    folder = tmp_path_factory.mktemp("slides")
    for number, kind in enumerate(("gland", "stroma", "tumor")):
        write_tissue_slide(folder / f"{number}.svs", Size(640, 640), tissue=kind, seed=number)
    write_picture(folder / "3.tif", np.full((640, 640, 3), 243, np.uint8))
    return Dataset.from_folder(folder)


def batches(source: BigChunkSource, count: int, target: Stain) -> list[dict[str, Any]]:
    loader = SmallChunkIterator(normal(source, target), NAMES, batches_per_epoch=count)
    return [{name: tensor.clone() for name, tensor in batch.items()} for batch in loader]


def assert_same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(mine[name].numpy(), theirs[name].numpy())


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_a_source_gives_the_stain_of_each_crops_slide(
    dataset: Dataset, method: str, tmp_path: Path
) -> None:
    """Whoever finds it, with whatever in the cache; of glass, that it has none."""
    target = TARGETS[method]
    options = {**OPTIONS, "stain_statistics": method}
    with BigChunkSource(dataset, num_workers=0, cache_dir=tmp_path / "a", **options) as source:
        found = batches(source, 6, target)
    with BigChunkSource(dataset, num_workers=2, cache_dir=tmp_path / "b", **options) as source:
        assert_same(batches(source, 6, target), found)
    with BigChunkSource(dataset, num_workers=1, cache_dir=tmp_path / "b", **options) as source:
        assert_same(batches(source, 6, target), found)
    expected = [measure_stain(record.path, method).numbers() for record in dataset.slides[:3]]
    expected.append(UNKNOWN[method])
    seen = set()
    for batch in found:
        for numbers, row, image in zip(batch["stain"], batch["info"], batch["image"], strict=True):
            slide = int(row[InfoColumn.SLIDE])
            np.testing.assert_array_equal(numbers.numpy(), expected[slide])
            if slide == 3:
                assert (image == 243).all(), "glass stays glass"
            seen.add(slide)
    assert seen == {0, 1, 2, 3}


def test_a_resumed_run_gives_the_same_stains(dataset: Dataset, tmp_path: Path) -> None:
    target = TARGETS["macenko"]
    options = {**OPTIONS, "stain_statistics": "macenko"}
    with BigChunkSource(dataset, num_workers=0, cache_dir=tmp_path, **options) as source:
        loader = SmallChunkIterator(normal(source, target), NAMES, batches_per_epoch=6)
        taken = []
        for batch in loader:
            taken.append({name: tensor.clone() for name, tensor in batch.items()})
            if len(taken) == 2:
                state = loader.state_dict()
    with BigChunkSource(
        dataset, num_workers=1, prefetch_depth=1, cache_dir=tmp_path / "cold", **options
    ) as source:
        loader = SmallChunkIterator(normal(source, target), NAMES, batches_per_epoch=6)
        loader.load_state_dict(state)
        assert_same(list(loader), taken[2:])
    options["stain_statistics"] = "reinhard"
    with (
        BigChunkSource(dataset, num_workers=0, **options) as source,
        pytest.raises(StateError, match=r"stain: saved 'macenko, stain 2', here 'reinhard"),
    ):
        source.load_state_dict(state["source"])


def test_a_source_that_was_not_asked_gives_none(dataset: Dataset) -> None:
    seen: list[Any] = []

    @pipeline_def
    def looked_at(source: BigChunkSource, use: Callable[[Any], DataNode]) -> tuple[DataNode, ...]:
        crops = source.small_chunks()
        seen.append(crops.stain)
        return use(crops), crops.label, crops.info

    with BigChunkSource(dataset, num_workers=0, **OPTIONS) as source:
        with pytest.raises(OptionError, match=r"make it with stain_statistics="):
            looked_at(source, lambda crops: block(crops.image, crops.stain, REINHARD_TARGET))
        looked_at(source, lambda crops: crops.image)
    assert seen == [None, None]
    with pytest.raises(OptionError, match="stain_statistics must be None or one of macenko"):
        BigChunkSource(dataset, stain_statistics="other", **OPTIONS)

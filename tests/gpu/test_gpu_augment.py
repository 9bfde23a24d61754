"""What augmentation does on a GPU differs from the CPU by what is stated here, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from pydmed_dali import BigChunkSource, Dataset, Point, ReinhardStain, Size, SmallChunkIterator
from pydmed_dali.pipelines import augment
from pydmed_dali.pipelines.classification import STD, classification
from pydmed_dali.pipelines.multi_scale import multi_scale
from pydmed_dali.pipelines.self_supervised import OUTPUTS, self_supervised
from pydmed_dali.slide.stain import MACENKO_REFERENCE
from pydmed_dali.synthetic.tissue_slides import TISSUES, tissue_image, write_tissue_slide
from tests.faults.resumable import digest
from tests.gpu.places import CPU, DEVICES, PLACES
from tests.support import NAMES, first

SIDE = 128
REINHARD = ReinhardStain((8.3, -0.1, 0.03), (0.5, 0.1, 0.02))
Block = Callable[[DataNode], DataNode]

BLOCKS: dict[str, tuple[Block, float, float]] = {
    # block, and how far grey values may differ: any of them, and their mean
    "turn": (augment.turn, 0, 0),
    "cutout": (augment.cutout, 0, 0),
    "colour_jitter": (augment.colour_jitter, 1, 0.1),
    "stain_jitter": (augment.stain_jitter, 2, 0.2),
    "blur": (augment.blur, 1, 0.1),
    "rotate": (lambda image: augment.rotate(image, SIDE, 72), 2, 0.2),
    "jpeg": (augment.jpeg, 48, 2.0),  # a coder of its own: blocks are rounded otherwise
}


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    """(8, SIDE, SIDE, 3): two crops of each tissue."""
    images = [tissue_image(Size(512, 512), tissue=kind, seed=3) for kind in TISSUES]
    return np.stack([
        image.pixels(Point(256, y), Size(SIDE, SIDE), 1) for image in images for y in (130, 250)
    ])  # fmt: skip


def run(images: NDArray[np.uint8], block: Block, device: str) -> NDArray[np.float64]:
    """Images through a block, with the same seed."""

    @pipeline_def(enable_conditionals=True)
    def pipeline() -> Any:
        image = fn.external_source(lambda: images, batch=True, layout="HWC")
        return block(image.gpu() if device == "gpu" else image)

    number = 0 if device == "gpu" else None
    made: Pipeline = pipeline(batch_size=len(images), num_threads=1, device_id=number, seed=1)
    (found,) = made.run()
    return np.asarray(found.as_cpu().as_array(), np.float64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block(tissue: NDArray[np.uint8], name: str, device: str) -> None:
    """The same random numbers on both."""
    block, most, mean = BLOCKS[name]
    one, other = run(tissue, block, "cpu"), run(tissue, block, device)
    difference = np.abs(one - other)
    assert difference.max() <= most and difference.mean() <= mean
    assert name == "turn" or np.abs(one - tissue[:, : one.shape[1], : one.shape[2]]).mean() > 0.2


@pytest.mark.parametrize("device", DEVICES)
def test_noise_has_its_deviation(device: str) -> None:
    """Drawn on the card, so other numbers than on the CPU."""
    grey = np.full((4, SIDE, SIDE, 3), 128, np.uint8)
    noisy = run(grey, lambda image: augment.noise(image, (6.0, 6.0)), device) - 128
    assert abs(noisy.mean()) < 0.1
    assert abs(noisy.std() - 6.0) < 0.1


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A slide of each tissue."""
    folder = tmp_path_factory.mktemp("tissue")
    for number, kind in enumerate(TISSUES):
        write_tissue_slide(folder / f"{kind}.svs", Size(1024, 1024), tissue=kind, seed=number)
    return Dataset.from_folder(folder)


OPTIONS: dict[str, Any] = {
    "chunk_size": 512,
    "batch_size": 8,
    "resident": 4,
    "crops_per_chunk": 8,
    "num_workers": 1,
}
WIDEST = 1 / 255 / min(STD)
"""A grey value, in a normalised image."""


def outputs(
    dataset: Dataset, place: dict[str, Any], pipeline: Any, names: Sequence[str], **options: Any
) -> list[torch.Tensor]:
    """The images of the first batch, on the CPU."""
    with BigChunkSource(dataset, **{**OPTIONS, **options}, **place) as source:
        batch = next(iter(SmallChunkIterator(pipeline(source), list(names))))
        return [batch[name].cpu().float() for name in names[:-2]]


def assert_close(
    one: list[torch.Tensor], other: list[torch.Tensor], most: float, mean: float
) -> None:
    """Within so many grey values."""
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        difference = (a - b).abs() / WIDEST
        assert difference.max() <= most and difference.mean() <= mean


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_stain_normalisation(slides: Dataset, method: str, place: dict[str, Any]) -> None:
    from pydmed_dali import pipeline_def as of_source

    @of_source(enable_conditionals=True)
    def normal(source: BigChunkSource) -> tuple[DataNode, ...]:
        crops = source.small_chunks()
        if method == "macenko":
            image = augment.macenko(crops.image, crops.stain, MACENKO_REFERENCE)
        else:
            image = augment.reinhard(crops.image, crops.stain, REINHARD)
        return fn.cast(image, dtype=types.FLOAT) * WIDEST, crops.label, crops.info

    one, other = (
        outputs(slides, where, normal, NAMES, crop_size=64, stain_statistics=method)
        for where in (CPU, place)
    )
    assert_close(one, other, 2.01, 0.2)


@pytest.mark.parametrize("place", PLACES)
def test_all_of_classification(slides: Dataset, place: dict[str, Any]) -> None:
    one, other = (
        outputs(slides, where, lambda s: classification(s, stain=0.15), NAMES, crop_size=64)
        for where in (CPU, place)
    )
    assert_close(one, other, 4.01, 0.3)


@pytest.mark.parametrize("place", PLACES)
def test_self_supervised(slides: Dataset, place: dict[str, Any]) -> None:
    """Views are resized, by filters that round apart, before all else."""
    one, other = (
        outputs(slides, where, self_supervised, OUTPUTS, crop_size=384) for where in (CPU, place)
    )
    assert_close(one, other, 8.01, 0.5)


@pytest.mark.parametrize("place", PLACES)
def test_multi_scale(slides: Dataset, place: dict[str, Any]) -> None:
    names = ("scale_1", "scale_2", "scale_4", "label", "info")
    one, other = (
        outputs(slides, where, lambda s: multi_scale(s, size=64), names, crop_size=256)
        for where in (CPU, place)
    )
    assert_close(one, other, 3.01, 0.5)


@pytest.mark.parametrize("place", PLACES)
def test_a_resumed_run_is_augmented_as_the_whole_one(
    slides: Dataset, tmp_path: Path, place: dict[str, Any]
) -> None:
    """To the last bit, on the same device, with another prefetch depth."""

    def open_source(**options: Any) -> BigChunkSource:
        return BigChunkSource(slides, **OPTIONS, crop_size=64, **options, **place)

    with open_source() as source:
        loader = SmallChunkIterator(classification(source, stain=0.15), NAMES)
        whole = []
        for number, batch in enumerate(first(loader, 12)):
            whole.append(digest({name: tensor.cpu() for name, tensor in batch.items()}))
            if number == 5:
                torch.save(loader.state_dict(), tmp_path / "state.pt")
    with open_source(prefetch_depth=3) as source:
        loader = SmallChunkIterator(classification(source, stain=0.15), NAMES)
        loader.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        rest = [
            digest({name: tensor.cpu() for name, tensor in batch.items()})
            for batch in first(loader, 6)
        ]
    assert rest == whole[6:]


@pytest.mark.parametrize("place", PLACES)
def test_training_and_validation_at_once(slides: Dataset, place: dict[str, Any]) -> None:
    """Two pipelines of two sources take turns on one card; the finite one ends, and runs again."""
    small = {**OPTIONS, "crop_size": 64}
    with (
        BigChunkSource(slides, **small, **place) as training,
        BigChunkSource(slides, **small, **place, passes=1) as validation,
    ):
        endless = first(SmallChunkIterator(classification(training), NAMES), 10**9)
        check = SmallChunkIterator(classification(validation, augment=False), NAMES)
        runs = []
        for _ in range(2):
            seen = []
            for batch in check:
                assert next(endless)["image"].isfinite().all()
                seen.append(batch["image"].cpu())
            runs.append(torch.cat(seen))
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)
    assert len(runs[0]) == len(TISSUES) * OPTIONS["crops_per_chunk"]

"""What blocks and pipelines assume of crops is compared with the source when both meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pydmed_dali import (
    BigChunkLoader,
    BigChunkSource,
    Dataset,
    PixelFormat,
    Point,
    Size,
    Slide,
    SmallChunkIterator,
    pipeline_def,
)
from pydmed_dali.errors import OptionError
from pydmed_dali.geometry import Region
from pydmed_dali.pipelines import augment
from pydmed_dali.pipelines.classification import classification, normalised
from pydmed_dali.pipelines.elastic import displace
from pydmed_dali.pipelines.multi_scale import multi_scale
from pydmed_dali.pipelines.self_supervised import self_supervised
from pydmed_dali.pipelines.volumes import volumes
from pydmed_dali.slide.view import View
from tests.support import NAMES, SMALL_RUN

RUN: dict[str, Any] = {**SMALL_RUN, "num_workers": 0, "device": "cpu"}
Block = Callable[[DataNode], DataNode]
SIDE = 64
CROP = augment.crop_size_to_rotate(SIDE)
MIDDLE = slice((CROP - SIDE) // 2, (CROP + SIDE) // 2)


@pipeline_def(enable_conditionals=True)
def through(source: BigChunkSource, block: Block) -> tuple[DataNode, ...]:
    crops = source.small_chunks()
    return block(crops.image), crops.label, crops.info


def still(image: DataNode, crop_size: int = CROP) -> DataNode:
    """The middle of the crop, not turned and not zoomed."""
    return augment.rotate(image, crop_size, SIDE, (0.0, 0.0), (1.0, 1.0))


def first_of(dataset: Dataset, block: Block, **options: Any) -> dict[str, torch.Tensor]:
    with BigChunkSource(dataset, **{**RUN, **options}) as source:
        return next(iter(SmallChunkIterator(through(source, block), NAMES)))


def changed(image: DataNode) -> DataNode:
    """As large as before, by operators of several kinds."""
    image = augment.stain_jitter(augment.colour_jitter(augment.turn(image)))
    if fn.random.coin_flip(dtype=types.BOOL):
        image = augment.blur(image)
    return fn.cast(image, dtype=types.UINT8)


@pytest.mark.parametrize("before", [lambda image: image, changed], ids=["crops", "changed"])
@pytest.mark.parametrize("crop", [SIDE, CROP - 1, CROP + 1, Size(CROP, CROP + 8)], ids=str)
def test_rotate_refuses_what_it_would_make_up(
    coordinates: Dataset, before: Block, crop: int | Size
) -> None:
    with (
        BigChunkSource(coordinates, **{**RUN, "crop_size": crop}) as source,
        pytest.raises(OptionError, match=f"the source has crop_size={crop}"),
    ):
        through(source, lambda image: still(before(image)))


def test_rotate_takes_the_crops_that_it_was_told_of(coordinates: Dataset) -> None:
    plain = first_of(coordinates, lambda image: image, crop_size=CROP)["image"]
    turned = first_of(coordinates, still, crop_size=CROP)["image"]
    assert torch.equal(turned, plain[:, MIDDLE, MIDDLE])


def test_rotate_checks_images_of_unknown_size_as_they_come(coordinates: Dataset) -> None:
    """An operator of the user's changes the size; DALI ends the run where it is not as told."""

    def cut(side: int) -> Block:
        return lambda image: still(image[:side, :side])

    plain = first_of(coordinates, lambda image: image, crop_size=200)["image"]
    turned = first_of(coordinates, cut(CROP), crop_size=200)["image"]
    assert torch.equal(turned, plain[:, MIDDLE, MIDDLE])
    for side in (CROP - 1, CROP + 1):
        with pytest.raises(RuntimeError, match=f"Index {CROP} is out of range"):
            first_of(coordinates, cut(side), crop_size=200)


class Grey16(BigChunkLoader):
    """One channel of 16 bits."""

    pixel_format = PixelFormat(channels=1, dtype="uint16")

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: NDArray[Any], parts: Sequence[Region]
    ) -> None:
        out[...] = 1000


class ThreeOf16(Grey16):
    """Three channels of 16 bits."""

    pixel_format = PixelFormat(channels=3, dtype="uint16")


COLOURS: dict[str, Block] = {
    "colour_jitter": augment.colour_jitter,
    "stain_jitter": augment.stain_jitter,
    "jpeg": augment.jpeg,
    "cutout": augment.cutout,
    "normalised": normalised,
    "stain_jitter, turned": lambda image: augment.stain_jitter(augment.turn(image)),
}


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("loader", [Grey16(), ThreeOf16()], ids=["one", "three"])
def test_blocks_for_colours_refuse_other_pixels(
    coordinates: Dataset, name: str, loader: BigChunkLoader
) -> None:
    with (
        BigChunkSource(coordinates, **RUN, loader=loader) as source,
        pytest.raises(OptionError, match=rf"{name.split(',')[0]} .* x uint16"),
    ):
        through(source, COLOURS[name])


def test_blocks_for_any_pixels_take_them(coordinates: Dataset) -> None:
    batch = first_of(
        coordinates,
        lambda image: fn.cast(augment.cutout(augment.turn(image), fill=7), dtype=types.INT32),
        loader=Grey16(),
    )
    assert set(np.unique(batch["image"].numpy())) <= {7, 1000}


@pytest.mark.parametrize("pipeline", [classification, lambda s: through(s, augment.turn)])
def test_quarter_turns_refuse_crops_that_are_not_square(
    coordinates: Dataset, pipeline: Callable[..., Any]
) -> None:
    options = {**RUN, "crop_size": Size(64, 96)}
    with (
        BigChunkSource(coordinates, **options) as source,
        pytest.raises(OptionError, match="needs square crops"),
    ):
        pipeline(source)
    with BigChunkSource(coordinates, **options) as source:
        loader = SmallChunkIterator(classification(source, augment=False), NAMES)
        assert next(iter(loader))["image"].shape == (8, 3, 96, 64)


def test_pipelines_refuse_sources_that_they_are_not_for(coordinates: Dataset) -> None:
    with BigChunkSource(coordinates, **RUN) as source:
        with pytest.raises(OptionError, match="is less than a global view"):
            self_supervised(source)
        with pytest.raises(OptionError, match="make it with a crop_depth"):
            volumes(source)
        with pytest.raises(OptionError, match="make the source with crop_size=896"):
            multi_scale(source)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_stain_normalisation_refuses_statistics_of_the_other_kind(
    coordinates: Dataset, method: str
) -> None:
    other = "reinhard" if method == "macenko" else "macenko"
    block: Callable[..., DataNode] = getattr(augment, method)

    @pipeline_def
    def normal(source: BigChunkSource) -> DataNode:
        crops = source.small_chunks()
        return block(crops.image, crops.stain, None)

    with (
        BigChunkSource(coordinates, **RUN, stain_statistics=other) as source,
        pytest.raises(OptionError, match=f"make it with stain_statistics='{method}'"),
    ):
        normal(source)


def test_a_field_of_another_size_is_refused() -> None:
    with pytest.raises(OptionError, match=r"does not fit images of \(2, 3, 8, 8\)"):
        displace(torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 1, 2))


@pytest.mark.parametrize("loader", [None, Grey16()], ids=["rgb", "grey16"])
def test_turn_needs_no_conditionals(coordinates: Dataset, loader: BigChunkLoader | None) -> None:
    """Each of the eight, and no other, under a plain `pipeline_def`."""

    @pipeline_def
    def plain(source: BigChunkSource) -> tuple[DataNode, ...]:
        crops = source.small_chunks()
        images = (crops.image, augment.turn(crops.image))
        wide = (fn.cast(image, dtype=types.INT32) for image in images)
        return (*wide, crops.label, crops.info)

    seen = set()
    with BigChunkSource(coordinates, **RUN, loader=loader) as source:
        names = ["image", "turned", "label", "info"]
        batches = SmallChunkIterator(plain(source), names, batches_per_epoch=12)
        for batch in batches:
            for image, turned in zip(batch["image"].numpy(), batch["turned"].numpy(), strict=True):
                eight = [
                    np.rot90(flipped, quarters)
                    for flipped in (image, image[:, ::-1])
                    for quarters in range(4)
                ]
                fitting = [n for n, other in enumerate(eight) if np.array_equal(other, turned)]
                assert fitting
                seen.update(fitting)
    assert seen == set(range(8))

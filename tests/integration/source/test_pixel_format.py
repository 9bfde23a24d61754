"""Pixels of other types and channel counts than 8-bit RGB, through the whole pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import (
    BigChunkLoader,
    BigChunkSource,
    Dataset,
    PixelFormat,
    Point,
    Size,
    Slide,
    View,
    pipeline_def,
)
from pydmed_dali.dali.residency import RINGS
from pydmed_dali.errors import OptionError, StateError
from pydmed_dali.geometry import Region
from pydmed_dali.slide.view import read_view
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.staged_host import staged_host_ring

CROP = 48
SIZE = Size(700, 600)
OPTIONS: dict[str, Any] = {
    "chunk_size": 256,
    "crop_size": CROP,
    "batch_size": 16,
    "resident": 3,
    "crops_per_chunk": 12,
}
FORMATS = [
    PixelFormat(1, "uint8"),
    PixelFormat(4, "uint8"),
    PixelFormat(1, "int16"),
    PixelFormat(1, "uint16"),
    PixelFormat(3, "uint16"),
    PixelFormat(2, "int32"),
    PixelFormat(16, "float32"),
    PixelFormat(40, "uint8"),
]


def values_at(place: Point, size: Size, pixel: PixelFormat) -> NDArray[Any]:
    """(height, width, channels): each value tells its place and channel, over the type's range."""
    x = place.x + np.arange(size.width)[None, :, None]
    y = place.y + np.arange(size.height)[:, None, None]
    whole = (x * 40503 + y * 30011 + np.arange(pixel.channels) * 7919) % 2**16
    if pixel.dtype == "float32":
        return (whole / 7.0 - 1000).astype(np.float32)
    if pixel.dtype == "int32":
        return (whole * 30_000 - 2**30).astype(np.int32)
    return whole.astype("uint16").astype(pixel.dtype)  # wraps: the highest bits are used too


class Encoded(BigChunkLoader):
    """Reads no pixels of the slide, but says where they lie."""

    def __init__(self, pixel_format: PixelFormat) -> None:
        self.pixel_format = pixel_format

    def extract_bigchunk(
        self, slide: Slide, view: View, origin: Point, out: NDArray[Any], parts: Sequence[Region]
    ) -> None:
        assert (out.shape[2], out.dtype.name) == (
            self.pixel_format.channels,
            self.pixel_format.dtype,
        )
        for part in parts:
            corner = Point(origin.x + part.location.x, origin.y + part.location.y)
            out[part.slices] = values_at(corner, part.size, self.pixel_format)


@pipeline_def
def cropped(source: BigChunkSource) -> tuple[DataNode, ...]:
    """torch has no uint16 that DALI can hand over, so such crops leave as int32."""
    crops = source.small_chunks()
    image = crops.image
    if source.options.pixel.dtype == "uint16":
        image = fn.cast(image, dtype=types.INT32)
    return image, crops.label, crops.info


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(3):
        write_coordinate_slide(folder / f"{number}.tif", SIZE, levels=1, mpp=0.5)
    return Dataset.from_folder(folder)


def check(dataset: Dataset, pixel: PixelFormat, batches: int = 6, **options: Any) -> None:
    with BigChunkSource(dataset, loader=Encoded(pixel), **{**OPTIONS, **options}) as source:
        iterator = DALIGenericIterator([cropped(source)], ["image", "label", "info"], size=-1)
        for (batch,), _ in zip(iterator, range(batches), strict=False):
            image: torch.Tensor = batch["image"]
            for crop, found in zip(
                source.describe(batch["info"]), image.cpu().numpy(), strict=True
            ):
                expected = values_at(crop.location, Size(CROP, CROP), pixel)
                np.testing.assert_array_equal(found, expected)
                assert pixel.dtype in (found.dtype.name, "uint16")


@pytest.mark.parametrize("pixel", FORMATS, ids=str)
def test_every_value_is_the_one_that_info_names(dataset: Dataset, pixel: PixelFormat) -> None:
    check(dataset, pixel, num_workers=0)


@pytest.mark.parametrize("pixel", [FORMATS[4], FORMATS[6]], ids=str)
def test_workers_and_taller_images_deliver_the_same(dataset: Dataset, pixel: PixelFormat) -> None:
    check(dataset, pixel, num_workers=1)
    check(dataset, pixel, num_workers=0, batch_size=2)


@pytest.mark.parametrize("pixel", [FORMATS[3], FORMATS[6]], ids=str)
def test_a_staged_ring_delivers_the_same(
    dataset: Dataset, pixel: PixelFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RINGS, "host", staged_host_ring)
    check(dataset, pixel, num_workers=1)


class Ramps:
    """What `read_view` needs of a slide; two channels, that rise along x and fall along y."""

    facts = SimpleNamespace(level_downsamples=(1.0,))

    def read_into(self, out: NDArray[Any], location: Point, level: int) -> None:
        height, width = out.shape[:2]
        out[..., 0] = np.clip((location.x + np.arange(width)) * 100, 0, 65535)[None, :]
        out[..., 1] = 65535 - np.clip((location.y + np.arange(height)) * 100, 0, 65535)[:, None]


def test_a_resampled_view_keeps_each_channel_and_its_range() -> None:
    slide: Any = Ramps()
    view = View(0, (2.0, 2.0), Size(300, 300), (2.0, 2.0), Size(1, 1), (1.0, 1.0))
    out = np.zeros((40, 50, 2), np.uint16)
    read_view(slide, view, Point(10, 20), out, [Region(Point(0, 0), Size(50, 40))])
    along, down = (10 + np.arange(50)) * 200 + 50, 65535 - ((20 + np.arange(40)) * 200 + 50)
    assert np.abs(out[..., 0].astype(int) - along[None, :]).max() <= 1
    assert np.abs(out[..., 1].astype(int) - down[:, None]).max() <= 1


@pytest.mark.parametrize(
    ("channels", "dtype", "message"),
    [
        (0, "uint8", "1 to 40 channels, not 0"),
        (41, "uint8", "1 to 40 channels, not 41"),
        (3, "float64", "not 'float64': convert them in the loader"),
    ],
)
def test_what_cannot_be_cropped_is_refused(channels: int, dtype: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PixelFormat(channels, dtype)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_tissue": 0.5}, "min_tissue without masks needs the colours of slides"),
        ({"stain_statistics": "macenko"}, "stain_statistics needs the colours of slides"),
        ({"chunk_size": 8192, "crops_per_chunk": 5000}, r"has 2,684,354,560 elements"),
    ],
)
def test_options_that_do_not_go_with_other_pixels_are_refused(
    dataset: Dataset, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        BigChunkSource(dataset, loader=Encoded(FORMATS[-1]), **{**OPTIONS, **options})


def test_a_state_of_other_pixels_is_refused(dataset: Dataset) -> None:
    with BigChunkSource(dataset, num_workers=0, loader=Encoded(FORMATS[0]), **OPTIONS) as source:
        state = source.state_dict()
    with (
        BigChunkSource(dataset, num_workers=0, loader=Encoded(FORMATS[1]), **OPTIONS) as other,
        pytest.raises(StateError, match="pixel: saved '1 x uint8', here '4 x uint8'"),
    ):
        other.load_state_dict(state)

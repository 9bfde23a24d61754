"""TIFF files of 16 bits and several channels, to the bit, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    InfoColumn,
    PixelFormat,
    Point,
    TiffLoader,
    pipeline_def,
)
from pydmed_dali.errors import PydmedError, SlideFormatError
from pydmed_dali.slide.channel_tiff import ChannelTiff

HEIGHT, WIDTH = 500, 612
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one channel, tiled, deflate": ("YX", {"tile": (128, 96), "compression": "zlib"}),
    "one channel, strips": ("YX", {"rowsperstrip": 37}),
    "one channel, tiled, lzw and predictor": (
        "YX",
        {"tile": (64, 64), "compression": "lzw", "predictor": True},
    ),
    "samples of a pixel": ("YXS", {"tile": (128, 128), "planarconfig": "contig"}),
    "planes": (
        "SYX",
        {
            "tile": (128, 128),
            "photometric": "rgb",
            "planarconfig": "separate",
            "compression": "zlib",
        },
    ),
    "pages": ("CYX", {"tile": (128, 128), "photometric": "minisblack"}),
    "pages in strips": ("CYX", {"photometric": "minisblack", "compression": "zlib"}),
}


def pixels(axes: str, dtype: str, step: int = 1) -> NDArray[Any]:
    """(height, width, channels), each value another, over the type's whole range."""
    channels = 1 if axes == "YX" else 3
    y, x, c = np.indices((HEIGHT // step, WIDTH // step, channels))
    values: NDArray[Any] = ((x * 40503 + y * 30011 + c * 7919 + step) % 2**16).astype(dtype)
    return values


def ordered(values: NDArray[Any], axes: str) -> NDArray[Any]:
    """As the file has the axes."""
    if axes == "YX":
        return values[..., 0]
    return values if axes == "YXS" else np.ascontiguousarray(values.transpose(2, 0, 1))


def write(path: Path, axes: str, dtype: str, options: dict[str, Any], ome: bool) -> Path:
    """A pyramid of two levels, the second one in a SubIFD."""
    metadata: dict[str, Any] = {"axes": axes}
    if ome:
        metadata |= {"PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm"}
        metadata |= {"PhysicalSizeY": 650, "PhysicalSizeYUnit": "nm"}
    with tifffile.TiffWriter(path, ome=ome) as file:
        whole = ordered(pixels(axes, dtype), axes)
        file.write(whole, subifds=1, metadata=metadata, **options)
        half = ordered(pixels(axes, dtype, 2), axes)
        file.write(half, subfiletype=1, **options)
    return path


@pytest.mark.parametrize("ome", [False, True], ids=["plain", "ome"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_read_to_the_bit(tmp_path: Path, name: str, ome: bool) -> None:
    axes, options = VARIANTS[name]
    path = write(tmp_path / "a.tif", axes, "uint16", options, ome)
    channels = 1 if axes == "YX" else 3
    slide = ChannelTiff(path, PixelFormat(channels, "uint16"))
    try:
        assert slide.facts.mpp == (pytest.approx((0.65, 0.65)) if ome else None)
        levels = slide.facts.level_dimensions
        known = 1 if axes == "CYX" and not ome else 2  # nothing tells whose the reduced pages are
        assert [(s.width, s.height) for s in levels] == [(612, 500), (306, 250)][:known]
        for level, step in ((0, 1), (1, 2))[:known]:
            whole = pixels(axes, "uint16", step)
            for y, x, height, width in ((0, 0, 500, 612), (100, 90, 77, 201), (-20, -9, 90, 60)):
                out = np.full((height, width, channels), 7, np.uint16)
                slide.read_into(out, Point(x * step, y * step), level)
                wanted = np.zeros((height + 1000, width + 1000, channels), np.uint16)
                top, left = max(-y, 0), max(-x, 0)
                inside = whole[max(y, 0) :, max(x, 0) :]
                wanted[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
                np.testing.assert_array_equal(out, wanted[:height, :width])
    finally:
        slide.close()


@pipeline_def
def crops_as_int32(source: BigChunkSource) -> Any:
    """DALI hands torch no uint16."""
    crops = source.small_chunks()
    return fn.cast(crops.image, dtype=types.INT32), crops.label, crops.info


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_in_torch_are_the_pixels_that_info_names(tmp_path: Path, workers: int) -> None:
    axes, options = VARIANTS["pages"]
    path = write(tmp_path / "a.ome.tif", axes, "uint16", options, ome=True)
    whole = pixels(axes, "uint16")
    with BigChunkSource(
        Dataset.from_folder(tmp_path),
        loader=TiffLoader(PixelFormat(3, "uint16")),
        chunk_size=256,
        crop_size=64,
        batch_size=8,
        resident=3,
        crops_per_chunk=8,
        num_workers=workers,
    ) as source:
        batches = DALIGenericIterator([crops_as_int32(source)], ["image", "label", "info"])
        for _, (batch,) in zip(range(5), batches, strict=False):
            for image, row in zip(batch["image"].numpy(), batch["info"].numpy(), strict=True):
                x, y = row[InfoColumn.X], row[InfoColumn.Y]
                np.testing.assert_array_equal(image, whole[y : y + 64, x : x + 64])
                assert row[InfoColumn.MPP_PM] == 650_000
    assert path.exists()


def test_the_resolution_tags_count_where_there_is_no_ome_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        pixels("YX", "uint16")[..., 0],
        resolution=(20_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    slide = ChannelTiff(path, PixelFormat(1, "uint16"))
    assert slide.facts.mpp == (0.5, 0.25)
    slide.close()


@pytest.mark.parametrize(
    ("values", "asked", "words"),
    [
        (np.zeros((60, 60), np.uint8), PixelFormat(1, "uint16"), "has 1 x uint8, and 1 x uint16"),
        (np.zeros((60, 60, 3), np.uint8), PixelFormat(4, "uint8"), "has 3 x uint8, and 4 x uint8"),
    ],
)
def test_other_pixels_are_refused(
    tmp_path: Path, values: NDArray[Any], asked: PixelFormat, words: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(SlideFormatError, match=words):
        ChannelTiff(tmp_path / "a.tif", asked)


def test_a_stack_in_time_is_refused(tmp_path: Path) -> None:
    stack = np.zeros((4, 60, 60), np.uint16)
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "TYX"})
    with pytest.raises(SlideFormatError, match="axes T: 4"):
        ChannelTiff(tmp_path / "a.ome.tif", PixelFormat(1, "uint16"))


@pytest.mark.parametrize("part", [0.001, 0.3, 0.6])
def test_a_cut_file_is_an_error_and_no_garbage(tmp_path: Path, part: float) -> None:
    axes, options = VARIANTS["one channel, tiled, deflate"]
    path = write(tmp_path / "a.tif", axes, "uint16", options, ome=False)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    pixel, out = PixelFormat(1, "uint16"), np.zeros((HEIGHT, WIDTH, 1), np.uint16)
    with pytest.raises((PydmedError, Exception)) as caught:
        slide = ChannelTiff(path, pixel)
        try:
            slide.read_into(out, Point(0, 0), 0)
        finally:
            slide.close()
    assert str(caught.value)

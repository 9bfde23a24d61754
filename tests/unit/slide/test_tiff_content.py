"""TIFF files that OpenSlide would show other than they are, or not at all: what a user is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from pydmed_dali import PixelFormat, Point
from pydmed_dali.cli.inspect import inspect_slide
from pydmed_dali.errors import SlideFormatError
from pydmed_dali.slide.channel_tiff import ChannelTiff
from pydmed_dali.slide.open_slide import open_slide
from tests.integration.slide.tiled_files import NO_CACHE

TILED: dict[str, Any] = {"tile": (256, 256), "metadata": None}


def _values(dtype: str, *extent: int) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, extent).astype(dtype)


REFUSED: dict[str, tuple[NDArray[Any], dict[str, Any], str]] = {
    "grey of 16 bits": (_values("uint16", 400, 500), {}, "1 x uint16"),
    "grey of 16 bits, deflated": (
        _values("uint16", 400, 500),
        {"compression": "zlib"},
        "1 x uint16",
    ),
    "RGB of 16 bits": (_values("uint16", 400, 500, 3), {"photometric": "rgb"}, "3 x uint16"),
    "real numbers": (_values("float32", 400, 500), {}, "1 x float32"),
    "channels as pages": (
        _values("uint8", 3, 400, 500),
        {"photometric": "minisblack"},
        "3 x uint8 in 3 images",
    ),
    "channels as samples": (
        _values("uint8", 400, 500, 5),
        {"photometric": "minisblack", "planarconfig": "contig"},
        "5 x uint8",
    ),
    "a fourth channel that is no transparency": (
        _values("uint8", 400, 500, 4),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
        "4 x uint8",
    ),
    "signed": (_values("int16", 400, 500), {}, "1 x int16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pixels_that_openslide_would_show_otherwise_are_refused(tmp_path: Path, name: str) -> None:
    values, options, words = REFUSED[name]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, **TILED, **options)
    with pytest.raises(SlideFormatError, match=f"a.tif: it is a TIFF of 500x400 pixels of {words}"):
        open_slide(path, NO_CACHE)
    problem = inspect_slide(path).problem
    assert problem is not None and words in problem


@pytest.mark.parametrize("name", REFUSED)
def test_the_reader_that_the_message_names_reads_the_file(tmp_path: Path, name: str) -> None:
    values, options, words = REFUSED[name]
    path = tmp_path / "a.ome.tif"
    axes = {2: "YX", 3: "CYX" if values.shape[0] < 9 else "YXS"}[values.ndim]
    tifffile.imwrite(path, values, **{**TILED, "metadata": {"axes": axes}}, **options)
    channels, _, dtype, *_ = words.split()
    with pytest.raises(SlideFormatError) as raised:
        open_slide(path, NO_CACHE)
    assert f"TiffLoader(PixelFormat({channels}, '{dtype}'))" in str(raised.value)
    slide = ChannelTiff(path, PixelFormat(int(channels), dtype))
    out = np.zeros((400, 500, int(channels)), dtype)
    slide.read_into(out, Point(0, 0), 0)
    moved = np.moveaxis(values, 0, -1) if axes == "CYX" else values
    np.testing.assert_array_equal(out, moved.reshape(400, 500, -1))
    slide.close()


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (_values("uint8", 400, 500), {}),
        (_values("uint8", 400, 500, 3), {"photometric": "rgb"}),
        (_values("uint8", 3, 400, 500), {"photometric": "rgb", "planarconfig": "separate"}),
        (_values("uint8", 400, 500, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    ],
    ids=["grey", "RGB", "RGB in planes", "transparency"],
)
def test_colours_of_8_bits_are_read_as_before(
    tmp_path: Path, values: NDArray[Any], options: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, **TILED, **options)
    slide = open_slide(path, NO_CACHE)
    assert slide.facts.remarks == ()
    slide.close()


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (_values("uint8", 400, 500, 3), {"compression": "webp"}, "3 x uint8, WEBP, in tiles of"),
        (_values("uint8", 400, 500, 3), {"compression": "jpegxl"}, "3 x uint8, JPEGXL, in tiles"),
        (_values("uint8", 400, 500, 3), {"tile": None}, "3 x uint8, not compressed, in strips"),
    ],
)
def test_a_tiff_that_openslide_cannot_open_is_described(
    tmp_path: Path, values: NDArray[Any], options: dict[str, Any], words: str
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, **{**TILED, "photometric": "rgb", **options})
    with pytest.raises(SlideFormatError, match="OpenSlide cannot open it") as raised:
        open_slide(path, NO_CACHE)
    for part in (words, "vips tiffsave", "TiffLoader(PixelFormat(3, 'uint8'))"):
        assert part in str(raised.value)
    ChannelTiff(path, PixelFormat(3, "uint8")).close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cells-gray16.tif", "1 x uint16, not compressed, in strips"),
        ("cells-2c.ome.tif", "2 x uint8 in 2 images, ADOBE_DEFLATE, in strips"),
        ("small_vectra.qptiff", "3 x uint8 in 3 images, LZW, in strips"),
    ],
)
def test_real_files_of_other_pixels_are_described(name: str, words: str) -> None:
    folder = Path(__file__).resolve().parents[4] / "shared" / "more-slides" / "other"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: it has files of other scanners")
    with pytest.raises(SlideFormatError) as raised:
        open_slide(folder / name, NO_CACHE)
    assert words in str(raised.value)


def _write_pyramid(path: Path, **options: Any) -> Path:
    values = _values("uint8", 1200, 1600, 3)
    common: dict[str, Any] = {**TILED, "photometric": "rgb"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(values, **common, subifds=options.get("subifds"))
        for step in (4, 8):
            reduced = values[::step, ::step].copy()
            writer.write(reduced, **common, subfiletype=options["subfiletype"])
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subfiletype": 0}, "not see (400x300, 200x150: not marked as reduced images)"),
        ({"subfiletype": 1, "subifds": 2}, "not see (400x300, 200x150: in SubIFDs)"),
    ],
)
def test_levels_that_openslide_does_not_see_are_remarked_on(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    slide = open_slide(_write_pyramid(tmp_path / "a.tif", **options), NO_CACHE)
    (remark,) = slide.facts.remarks
    assert words in remark and "vips tiffsave" in remark
    slide.close()
    inspection = inspect_slide(tmp_path / "a.tif")
    assert inspection.problem is None and inspection.as_dict()["remarks"] == [remark]


def test_levels_that_openslide_sees_are_not(tmp_path: Path) -> None:
    slide = open_slide(_write_pyramid(tmp_path / "a.tif", subfiletype=1), NO_CACHE)
    assert len(slide.facts.level_dimensions) == 3 and slide.facts.remarks == ()
    slide.close()


def test_further_images_of_the_full_size_are_remarked_on(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _values("uint8", 4, 400, 500, 3), **TILED, photometric="rgb")
    slide = open_slide(path, NO_CACHE)
    assert slide.facts.remarks == ("the file has 4 images of the full size; the first one is read",)
    slide.close()

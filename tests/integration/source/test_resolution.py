"""Resolutions that no scanner has, and wrong ones: said, and put right by an option."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from pydmed_dali import (
    BigChunkSource,
    Dataset,
    PixelFormat,
    Point,
    Size,
    SmallChunkIterator,
    measure_tissue,
)
from pydmed_dali.cli.inspect import inspect_slide
from pydmed_dali.errors import OptionError, ResultError, SlideError, StateError
from pydmed_dali.infer import predict, read_features
from pydmed_dali.pipelines.classification import classification
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.channel_tiff import ChannelTiff
from pydmed_dali.slide.limits import scanned_mpp
from pydmed_dali.slide.open_slide import open_slide
from pydmed_dali.slide.scale import Scale
from pydmed_dali.synthetic.tissue_slides import tissue_image
from pydmed_dali.worker.tissue_places import find_mask
from tests.integration.slide.tiled_files import NO_CACHE

MPP = 0.25
RIGHT: dict[str, Any] = {"resolution": (10_000 / MPP, 10_000 / MPP), "resolutionunit": 3}
PRINTERS: dict[str, dict[str, Any]] = {
    "72 dpi": {"resolution": (72, 72), "resolutionunit": 2},
    "96 dpi": {"resolution": (96, 96), "resolutionunit": 2},
    "300 dpi": {"resolution": (300, 300), "resolutionunit": 2},
    "600 dpi": {"resolution": (600, 600), "resolutionunit": 2},
    "1,200 dpi": {"resolution": (1200, 1200), "resolutionunit": 2},
    "10 per centimetre": {"resolution": (10, 10), "resolutionunit": 3},
    "millimetres": {"resolution": (10_000_000 / MPP, 10_000_000 / MPP), "resolutionunit": 3},
}
SOURCE: dict[str, Any] = {
    "chunk_size": 512, "crop_size": 64, "batch_size": 8, "resident": 2, "crops_per_chunk": 8,
    "num_workers": 0,
}  # fmt: skip
TILES: dict[str, Any] = {"tile_size": 112, "level": 0, "min_tissue": 0.5, "num_workers": 0}


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    size = Size(1800, 1500)
    return tissue_image(size, tissue="gland", seed=3, mpp=0.5).pixels(Point(0, 0), size, 1)


def write(path: Path, pixels: NDArray[Any], tags: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(
        path, pixels, tile=(256, 256), compression="zlib", photometric="rgb", metadata=None, **tags
    )
    return path


def means(tiles: torch.Tensor) -> torch.Tensor:
    return tiles.float().mean((1, 2))


@pytest.mark.parametrize("name", PRINTERS)
def test_a_resolution_that_no_scanner_has_counts_as_none_and_is_said(
    tmp_path: Path, tissue: NDArray[np.uint8], name: str
) -> None:
    path = write(tmp_path / "a.tif", tissue, PRINTERS[name])
    slide = open_slide(path, NO_CACHE)
    assert slide.facts.mpp is None
    (remark,) = slide.facts.remarks
    assert "which no scanner has" in remark and "give default_mpp" in remark
    slide.close()
    assert inspect_slide(path).as_dict()["remarks"] == [remark]
    tiff = ChannelTiff(path, PixelFormat(3, "uint8"))
    assert tiff.facts.mpp is None and tiff.facts.remarks == (remark,)
    tiff.close()


@pytest.mark.parametrize(
    ("told", "taken"),
    [(0.02, True), (0.25, True), (20.0, True), (0.0199, False), (20.1, False)],
)
def test_the_limits_of_what_a_scanner_has(told: float, taken: bool) -> None:
    assert (scanned_mpp(told, told)[0] is not None) == taken
    assert (scanned_mpp(0.5, told)[0] is not None) == taken
    assert (scanned_mpp(told, told)[1] is None) == taken
    assert scanned_mpp(None, told) == (None, None)


@pytest.mark.parametrize("asked", [{"mpp": 0.5}, {"magnification": 20}])
@pytest.mark.parametrize("option", ["default_mpp", "mpp_override"])
def test_an_option_puts_it_right(
    tmp_path: Path,
    tissue: NDArray[np.uint8],
    caplog: pytest.LogCaptureFixture,
    asked: dict[str, Any],
    option: str,
) -> None:
    write(tmp_path / "s" / "a.tif", tissue, PRINTERS["72 dpi"])
    dataset, given = Dataset.from_folder(tmp_path / "s"), {**asked, option: MPP}
    with BigChunkSource(dataset, **SOURCE, **asked) as source, pytest.raises(SlideError):
        next(iter(SmallChunkIterator(classification(source), ["image", "label", "info"])))
    caplog.clear()
    with (
        caplog.at_level(logging.WARNING, "pydmed_dali"),
        BigChunkSource(dataset, **SOURCE, **given) as source,
    ):
        batches = SmallChunkIterator(classification(source), ["image", "label", "info"])
        for _, batch in zip(range(3), batches, strict=False):
            for crop in source.describe(batch["info"]):
                assert crop.mpp == pytest.approx(0.5) and crop.level0_size.width == 128
    said = [record.getMessage() for record in caplog.records if "a.tif" in record.getMessage()]
    assert len(said) == 2 and "352.8 x 352.8 micrometres per pixel (72 dpi)" in said[0]
    assert f"by {option}=0.25 its crops are taken to have 0.5" in said[1]


@pytest.mark.parametrize("tags", [PRINTERS["72 dpi"], PRINTERS["10 per centimetre"]])
def test_masks_and_features_are_those_of_the_right_resolution(
    tmp_path: Path, tissue: NDArray[np.uint8], tags: dict[str, Any]
) -> None:
    right = write(tmp_path / "right" / "a.tif", tissue, RIGHT)
    wrong = write(tmp_path / "wrong" / "a.tif", tissue, tags)
    found = {}
    runs: list[tuple[Path, dict[str, Any]]] = [
        (right, {}),
        (wrong, {"default_mpp": MPP}),
        (wrong, {"mpp_override": MPP}),
    ]
    for path, options in runs:
        slide = open_slide(path, NO_CACHE)
        mask = find_mask(path, slide, None, NO_CACHE, Scale(**options))
        slide.close()
        out = tmp_path / f"out-{path.parent.name}{'-'.join(options)}"
        dataset = Dataset.from_folder(path.parent)
        done = predict(dataset, means, out, model_name="means", **TILES, **options)
        features = read_features(done.written[0])
        area = next(iter(measure_tissue(dataset, num_workers=0, **options).slides)).tissue
        assert area is not None
        found[path.parent.name, *options] = (mask.pixels, features, area)
    pixels, features, area = found.pop(("right",))
    assert len(found) == 2 and 0 < len(features.coords) < 16 * 13
    for other, others, same in found.values():
        np.testing.assert_array_equal(other, pixels)
        np.testing.assert_array_equal(others.coords, features.coords)
        np.testing.assert_array_equal(others.features, features.features)
        assert others.attributes["mpp"] == pytest.approx(features.attributes["mpp"])
        assert same.pixels == area.pixels and same.mpp == pytest.approx(area.mpp)


def test_the_override_counts_where_a_file_tells_a_believable_resolution(
    tmp_path: Path, tissue: NDArray[np.uint8]
) -> None:
    path = write(tmp_path / "a.tif", tissue, RIGHT)
    slide = open_slide(path, NO_CACHE)
    scale = Scale(mpp=1.0, default_mpp=0.7, mpp_override=0.5)
    view = scale.view(slide.facts, path)
    assert view.downsample == (2.0, 2.0) and view.mpp == (1.0, 1.0)
    told = scale.remark(slide.facts, view)
    assert told is not None and "tells 0.25 x 0.25" in told and "mpp_override=0.5" in told
    assert Scale(mpp=1.0, default_mpp=0.7).view(slide.facts, path).downsample == (4.0, 4.0)
    assert Scale(mpp=1.0, default_mpp=0.7).remark(slide.facts, view) is None
    slide.close()


def test_a_mask_that_is_kept_is_not_taken_for_one_of_another_resolution(
    tmp_path: Path, tissue: NDArray[np.uint8]
) -> None:
    path = write(tmp_path / "a.tif", tissue, RIGHT)
    slide, cache = open_slide(path, NO_CACHE), Cache(tmp_path / "cache")
    shapes = [
        find_mask(path, slide, None, cache, Scale(mpp_override=mpp)).pixels.shape
        for mpp in (None, 0.5, None, 0.5)
    ]
    assert shapes == [(47, 57), (94, 113)] * 2
    slide.close()


def test_a_state_of_another_override_is_refused(tmp_path: Path, tissue: NDArray[np.uint8]) -> None:
    write(tmp_path / "s" / "a.tif", tissue, RIGHT)
    dataset = Dataset.from_folder(tmp_path / "s")
    with BigChunkSource(dataset, **SOURCE, mpp=0.5, mpp_override=0.5) as source:
        state = source.state_dict()
    with (
        BigChunkSource(dataset, **SOURCE, mpp=0.5) as source,
        pytest.raises(StateError, match=r"mpp_override: saved 0\.5, here None"),
    ):
        source.load_state_dict(state)
    with pytest.raises(OptionError, match="mpp_override must be positive micrometres"):
        BigChunkSource(dataset, **SOURCE, mpp_override=0)


def test_results_of_another_override_are_not_gone_on_with(
    tmp_path: Path, tissue: NDArray[np.uint8]
) -> None:
    write(tmp_path / "s" / "a.tif", tissue, RIGHT)
    dataset = Dataset.from_folder(tmp_path / "s")
    predict(dataset, means, tmp_path / "o", model_name="means", **TILES, mpp_override=0.5)
    with pytest.raises((OptionError, ResultError), match="mpp_override"):
        predict(dataset, means, tmp_path / "o", model_name="means", **TILES)

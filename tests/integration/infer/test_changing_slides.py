"""Slides that are replaced, or out of reach, while a model is run over them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from pydmed_dali import Dataset, Size
from pydmed_dali.errors import SlideChangedError, UserCodeError
from pydmed_dali.infer import predict, read_features
from pydmed_dali.synthetic.coordinate_slides import write_coordinate_slide
from tests.integration.infer.two_slides import (
    OPTIONS,
    SIZES,
    TILES,
    Breaks,
    listed,
    means,
    write_two_slides,
)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_two_slides(tmp_path / "slides")


def test_a_slide_that_changed_is_run_anew(dataset: Dataset, tmp_path: Path) -> None:
    out, path = tmp_path / "out", dataset.slides[0].path
    with pytest.raises(UserCodeError):
        predict(dataset, Breaks(2), out, **OPTIONS)
    assert ".a.h5.tiles" in listed(out)
    write_coordinate_slide(path, Size(300, 200), levels=1, mpp=0.5, tile=128)
    model = Breaks(100)
    predict(dataset, model, out, **OPTIONS)
    assert model.tiles == sum(TILES.values())


def test_a_slide_that_is_out_of_reach_for_a_while_keeps_what_is_done(
    dataset: Dataset, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", dataset.slides[0].path
    first = Breaks(2)
    with pytest.raises(UserCodeError):
        predict(dataset, first, out, **OPTIONS)
    hidden = path.rename(tmp_path / "hidden")
    done = predict(dataset, Breaks(100), out, **OPTIONS)
    assert list(done.slides_skipped) == [path] and ".a.h5.tiles" in listed(out)
    hidden.rename(path)
    last = Breaks(100)
    predict(dataset, last, out, **OPTIONS)
    assert first.tiles + last.tiles == TILES["a"]
    assert listed(out) == ["a.h5", "b.h5", "run.json"]


def test_a_slide_that_goes_out_of_reach_on_the_way_keeps_what_is_done(
    dataset: Dataset, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", dataset.slides[0].path
    first = Breaks(100)

    def hides(tiles: torch.Tensor) -> torch.Tensor:
        if not first.tiles:
            path.rename(tmp_path / "hidden")
        return first(tiles)

    options = {**OPTIONS, "chunk_size": 64, "batch_size": 2}
    done = predict(dataset, hides, out, **options)
    assert list(done.slides_skipped) == [path] and ".a.h5.tiles" in listed(out)
    (tmp_path / "hidden").rename(path)
    last = Breaks(100)
    predict(dataset, last, out, **options)
    assert first.tiles - TILES["b"] + last.tiles == TILES["a"]


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_a_slide_that_changes_on_the_way_leaves_nothing_of_its_former_self(
    dataset: Dataset, tmp_path: Path, on_error: str
) -> None:
    out, path = tmp_path / "out", dataset.slides[0].path
    first = Breaks(100)

    def replaces(tiles: torch.Tensor) -> torch.Tensor:
        if not first.tiles:
            write_coordinate_slide(path, Size(300, 200), levels=1, mpp=0.5, tile=128)
        return first(tiles)

    options = {**OPTIONS, "chunk_size": 64, "batch_size": 2}
    with nullcontext() if on_error == "skip" else pytest.raises(SlideChangedError):
        done = predict(dataset, replaces, out, on_error=on_error, **options)
        assert not done.slides_skipped
        assert TILES["a"] < first.tiles - TILES["b"] < 2 * TILES["a"], "it was run anew"
    again = Breaks(100)
    predict(dataset, again, out, **OPTIONS)
    assert again.tiles == (TILES["a"] + TILES["b"] if on_error == "raise" else 0)
    assert listed(out) == ["a.h5", "b.h5", "run.json"]


@pytest.mark.parametrize("unnoticed", [True, False])
def test_tiles_of_two_files_are_never_in_one_file_of_results(
    dataset: Dataset, tmp_path: Path, unnoticed: bool
) -> None:
    """A slide is replaced after all of it was read, or while another one runs in the next call."""
    out, path = tmp_path / "out", dataset.slides[1].path
    only_b = Dataset((dataset.patients[1],), dataset.classes)

    def breaks(tiles: torch.Tensor) -> torch.Tensor:
        calls.append(len(tiles))
        if len(calls) == 3:
            if unnoticed:
                write_white_slide(path, SIZES["b"])
            raise ValueError("out of luck")
        return means(tiles)

    calls: list[int] = []
    with pytest.raises(UserCodeError):
        predict(only_b, breaks, out, **{**OPTIONS, "chunk_size": 1024})
    assert ".b.h5.tiles" in listed(out)

    def replaces(tiles: torch.Tensor) -> torch.Tensor:
        if not unnoticed and not calls:
            write_white_slide(path, SIZES["b"])
        calls.append(len(tiles))
        return means(tiles)

    calls.clear()
    options = {**OPTIONS, "batch_size": 2}
    done = predict(dataset, replaces, out, **options)
    assert [file.name for file in done.written] == ["a.h5", "b.h5"] and not done.slides_skipped
    assert (read_features(done.written[1]).features == 255).all()
    assert listed(out) == ["a.h5", "b.h5", "run.json"]


def test_a_slide_replaced_after_it_was_looked_at_is_looked_at_again(
    dataset: Dataset, tmp_path: Path
) -> None:
    """Of the same size: only what was found to be tissue tells."""
    out, path = tmp_path / "out", dataset.slides[1].path
    for slide, size in zip(dataset.slides, SIZES.values(), strict=True):
        write_stained_slide(slide.path, size)

    def replaces(tiles: torch.Tensor) -> torch.Tensor:
        if not path.with_suffix(".old").exists():
            path.rename(path.with_suffix(".old"))
            write_white_slide(path, SIZES["b"])
        return means(tiles)

    options = {**OPTIONS, "batch_size": 2, "min_tissue": 0.1}
    done = predict(dataset, replaces, out, **options)
    assert [file.name for file in done.written] == ["a.h5"]
    assert list(done.slides_skipped) == [path] and "no tile" in done.slides_skipped[path]


def write_stained_slide(path: Path, size: Size) -> None:
    """Glass whose middle is stained."""
    pixels = np.full((size.height, size.width, 3), 240, np.uint8)
    pixels[20:-20, 20:-20] = (150, 40, 120)
    write_pixels(path, pixels)


def write_white_slide(path: Path, size: Size) -> None:
    """Another slide of that size in the place of one."""
    write_pixels(path, np.full((size.height, size.width, 3), 255, np.uint8))


def write_pixels(path: Path, pixels: NDArray[np.uint8]) -> None:
    """A slide of one level that keeps these pixels, 0.5 micrometres wide."""
    tifffile.imwrite(
        path,
        pixels,
        tile=(64, 64),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 100},
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )

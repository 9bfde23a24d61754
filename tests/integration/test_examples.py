"""The examples run as they are, on slides that are really there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image

from examples import array_slides, augmentation_sheet, stain_sheet
from pydmed_dali import BigChunkSource, InfoColumn, PixelFormat, Point, Size
from pydmed_dali.synthetic.coordinate_slides import coordinate_pixels
from pydmed_dali.synthetic.tissue_slides import write_tissue_slide
from tests.support import SMALL_RUN, assert_coordinates, sum_up, take


def check_picture(target: Path, least: int) -> None:
    """It is drawn, and neither white nor black."""
    with Image.open(target) as picture:
        assert picture.width > least and picture.height > least
        grey = picture.convert("L")
        dark, light = grey.getextrema()
        mean = sum(n * count for n, count in enumerate(grey.histogram())) / (
            picture.width * picture.height
        )
    assert isinstance(dark, int) and isinstance(light, int)
    assert dark < 60 and light == 255 and 100 < mean < 240


def test_the_sheet_of_synthetic_tissue(tmp_path: Path) -> None:
    write_tissue_slide(tmp_path / "tumor.svs", Size(1024, 1024), tissue="tumor", seed=1)
    augmentation_sheet.draw(tmp_path, tmp_path / "sheet.png")
    check_picture(tmp_path / "sheet.png", 1000)


def test_the_sheet_of_a_real_slide(real_slides: Path, tmp_path: Path) -> None:
    shutil.copy(real_slides / "CMU-1-Small-Region.svs", tmp_path)
    augmentation_sheet.draw(tmp_path, tmp_path / "sheet.png")
    check_picture(tmp_path / "sheet.png", 1000)


def test_the_sheet_of_three_stainings(real_slides: Path, tmp_path: Path) -> None:
    names = ("CMU-1-Small-Region.svs", "packed-biopsies.tif", "fluorescence-dapi.ndpi")
    for name in names:
        shutil.copy(real_slides / name, tmp_path)
    stain_sheet.draw(tmp_path, tmp_path / names[0], tmp_path / "sheet.png")
    check_picture(tmp_path / "sheet.png", 700)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """The same picture, whose pixels say where they lie, as a .npy and as a Zarr of two levels."""
    size = Size(700, 600)
    whole = coordinate_pixels(Point(0, 0), size, 0)
    np.save(tmp_path / "even0.npy", whole)
    group = zarr.create_group(tmp_path / "even1.zarr", attributes={"mpp": [0.5, 0.5]})
    half = coordinate_pixels(Point(0, 0), Size(350, 300), 1)
    for name, pixels in (("0", whole), ("1", half)):
        array = group.create_array(name, shape=pixels.shape, chunks=(128, 128, 3), dtype="uint8")
        array[:] = pixels
    return tmp_path


@pytest.mark.parametrize("level", [0, 1])
def test_array_slides_are_read_by_workers_to_the_pixel(stacks: Path, level: int) -> None:
    dataset = array_slides.dataset_of(stacks)
    extents = {0: Size(700, 600), 1: Size(350, 300)}
    options = {**SMALL_RUN, "level": level, "loader": array_slides.ArrayLoader()}
    with BigChunkSource(dataset, **options) as source:
        batches = take(source, 8)
        report = source.report()
    for batch in batches:
        assert_coordinates(batch, extents)
    kinds = {dataset.slides[s].path.suffix for s in sum_up(batches)["info"][:, InfoColumn.SLIDE]}
    assert kinds == ({".npy", ".zarr"} if level == 0 else {".zarr"}), report


def test_an_array_slide_keeps_the_rules_of_a_slide_beyond_its_edges(stacks: Path) -> None:
    for name in ("even0.npy", "even1.zarr"):
        slide = array_slides.ArrayLoader().open_slide(stacks / name)
        out = np.zeros((30, 40, 3), np.uint8)
        slide.read_into(out, Point(-10, -20), 0)
        np.testing.assert_array_equal(
            out[20:, 10:], coordinate_pixels(Point(0, 0), Size(30, 10), 0)
        )
        assert (out[:20] == 255).all() and (out[:, :10] == 255).all()
        slide.read_into(out, Point(5000, 5000), 0)
        assert (out == 255).all()
        slide.close()


def test_array_slides_of_other_pixels_are_read_and_wrong_ones_refused(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 2**15, (300, 400, 2)).astype(np.int16)
    np.save(tmp_path / "cell0.npy", stack)
    loader = array_slides.ArrayLoader(PixelFormat(2, "int16"))
    slide: Any = loader.open_slide(tmp_path / "cell0.npy")
    out = np.full((50, 60, 2), 7, np.int16)
    slide.read_into(out, Point(370, 280), 0)
    np.testing.assert_array_equal(out[:20, :30], stack[280:, 370:])
    assert not out[20:].any() and not out[:, 30:].any()
    slide.close()
    with pytest.raises(ValueError, match=r"pixels of 2 x int16, where .* 3 x uint8 were"):
        array_slides.ArrayLoader().open_slide(tmp_path / "cell0.npy")


def test_the_example_of_array_slides_runs_as_a_program(stacks: Path) -> None:
    program = Path(array_slides.__file__)
    done = subprocess.run(
        [sys.executable, str(program), str(stacks)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("(256, 3, 128, 128)") == 3

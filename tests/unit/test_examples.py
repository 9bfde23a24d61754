"""The examples run as they are, on slides that are really there."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from examples import augmentation_sheet
from pydmed_dali import Size
from pydmed_dali.slide.tissue_slides import write_tissue_slide


def check_sheet(slides: Path, target: Path) -> None:
    """It is drawn, and neither white nor black."""
    augmentation_sheet.draw(slides, target)
    with Image.open(target) as picture:
        assert picture.width > 1000 and picture.height > 1000
        grey = picture.convert("L")
        dark, light = grey.getextrema()
        mean = sum(n * count for n, count in enumerate(grey.histogram())) / (
            picture.width * picture.height
        )
    assert isinstance(dark, int) and isinstance(light, int)
    assert dark < 60 and light == 255 and 100 < mean < 240


def test_the_sheet_of_synthetic_tissue(tmp_path: Path) -> None:
    write_tissue_slide(tmp_path / "tumor.svs", Size(1024, 1024), tissue="tumor", seed=1)
    check_sheet(tmp_path, tmp_path / "sheet.png")


def test_the_sheet_of_a_real_slide(real_slides: Path, tmp_path: Path) -> None:
    shutil.copy(real_slides / "CMU-1-Small-Region.svs", tmp_path)
    check_sheet(tmp_path, tmp_path / "sheet.png")

"""Files beside slides: one file for one slide, of masks as of annotations."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydmed_dali import Dataset
from pydmed_dali.errors import OptionError
from pydmed_dali.pool.mask_files import find_masks


def test_one_slide_takes_one_mask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "a.svs").touch()
    (tmp_path / "mask of it.png").touch()
    one = Dataset.from_folder(tmp_path / "slides")
    for given in (tmp_path / "mask of it.png", str(tmp_path / "mask of it.png")):
        ((slide, mask),) = find_masks(one, given).items()
        assert (slide, mask.path) == (one.slides[0].path, tmp_path / "mask of it.png")
    assert not caplog.records
    (tmp_path / "slides" / "b.svs").touch()
    two = Dataset.from_folder(tmp_path / "slides")
    with pytest.raises(OptionError, match=r"of it\.png' is one file for 2 slides; give a folder"):
        find_masks(two, tmp_path / "mask of it.png")


def test_masks_that_are_ambiguous_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.svs", "a.ndpi", "a.png", "a.ndpi.png", "a.bmp"):
        (tmp_path / name).touch()
    dataset = Dataset.from_folder(tmp_path)
    assert {mask.path for mask in find_masks(dataset, tmp_path).values()} == {tmp_path / "a.png"}
    several, shared = [record.getMessage() for record in caplog.records]
    assert "masks: 2 slides have several files, of which the first is taken" in several
    assert f"{tmp_path}/a.png, not {tmp_path}/a.ndpi.png, {tmp_path}/a.bmp" in several
    assert f"{tmp_path}/a.png for {tmp_path}/a.ndpi, {tmp_path}/a.svs" in shared

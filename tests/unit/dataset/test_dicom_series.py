"""DICOM slides in folders: each series is one, and nothing else hides it or passes unseen."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import openslide
import pytest

from pydmed_dali import Dataset
from pydmed_dali.errors import DatasetError
from tests.unit.dataset.dicom_files import CT, real_dicom, write_header


def names(dataset: Dataset) -> list[str]:
    return [record.relative.as_posix() for record in dataset.slides]


def test_each_series_of_a_folder_is_a_slide(tmp_path: Path) -> None:
    for series in "AB":
        for level in range(3):
            write_header(tmp_path / f"{series}_level{level}.dcm", str(ord(series)))
    dataset = Dataset.from_folder(tmp_path)
    assert names(dataset) == ["A_level0.dcm", "B_level0.dcm"]
    assert not dataset.passed_over, "the other files of a slide belong to it"


def test_files_of_series_may_alternate_and_slides_of_other_kinds_lie_between(
    tmp_path: Path,
) -> None:
    for number in range(6):
        write_header(tmp_path / f"{number}.dcm", str(1 + number % 2))
    (tmp_path / "0.svs").touch()
    (tmp_path / "00.svs").touch()
    assert names(Dataset.from_folder(tmp_path)) == ["0.dcm", "0.svs", "00.svs", "1.dcm"]


def test_a_label_or_an_overview_does_not_name_the_slide(tmp_path: Path) -> None:
    for number, kind in enumerate(["LABEL", "OVERVIEW", "THUMBNAIL", "VOLUME", "VOLUME"]):
        write_header(tmp_path / f"{number}.dcm", "1", kind)
    assert names(Dataset.from_folder(tmp_path)) == ["3.dcm"]


def test_other_modalities_hide_no_slide_and_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        write_header(tmp_path / f"a-ct-{number}.dcm", "9", "AXIAL", CT)
    write_header(tmp_path / "slide.dcm", "1")
    write_header(tmp_path / "unnamed.dcm", "")
    write_header(tmp_path / "only-label.dcm", "2", "LABEL")
    (tmp_path / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with caplog.at_level(logging.WARNING):
        dataset = Dataset.from_folder(tmp_path)
    assert names(dataset) == ["slide.dcm"]
    found = {reason: [p.name for p in paths] for reason, paths in dataset.passed_over.items()}
    assert found == {
        "CT Image Storage": ["a-ct-0.dcm", "a-ct-1.dcm", "a-ct-2.dcm"],
        "slides that name no series (SeriesInstanceUID)": ["unnamed.dcm"],
        "series of slides without an image of the slide (ImageType VOLUME)": ["only-label.dcm"],
        "files without a whole DICOM header": ["damaged.dcm"],
    }
    (message,) = [record.getMessage() for record in caplog.records]
    assert "6 DICOM files are no slides" in message
    assert "3 of CT Image Storage, as a-ct-0.dcm" in message


def test_a_folder_of_other_modalities_holds_no_slide_and_says_why(tmp_path: Path) -> None:
    write_header(tmp_path / "ct.dcm", "9", "AXIAL", CT)
    with pytest.raises(DatasetError, match=r"holds no slide.*1 of CT Image Storage, as ct\.dcm"):
        Dataset.from_folder(tmp_path)


def test_one_series_in_two_folders_is_one_slide(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_header(tmp_path / "a" / "1.dcm", "1")
    write_header(tmp_path / "b" / "1.dcm", "1")
    with caplog.at_level(logging.WARNING):
        assert names(Dataset.from_folder(tmp_path)) == ["a/1.dcm"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert f"{tmp_path}/b/1.dcm is {tmp_path}/a/1.dcm" in message
    with pytest.raises(DatasetError, match=r"files of one DICOM series, but patient gives 'a' for"):
        Dataset.from_folder(tmp_path, patient=lambda path: path.parent.name)


def test_a_table_of_all_files_of_a_slide_has_it_once(tmp_path: Path) -> None:
    for number, kind in enumerate(["LABEL", "VOLUME", "VOLUME"]):
        write_header(tmp_path / f"{number}.dcm", "1", kind)
    rows = [{"slide": f"{number}.dcm", "patient": "P"} for number in range(3)]
    assert names(Dataset.from_table(rows, root=tmp_path)) == ["1.dcm"]
    rows[2]["patient"] = "Q"
    with pytest.raises(DatasetError, match=r"rows 1 and 2 .* files of one DICOM series, but diff"):
        Dataset.from_table(rows, root=tmp_path)


@pytest.fixture
def real_folder(tmp_path: Path) -> Path:
    """Three real slides in one folder, one of them of two files, behind a CT."""
    real = real_dicom()
    write_header(tmp_path / "0.dcm", "9", "AXIAL", CT)
    shutil.copy(real / "parts" / "boxes_1.dcm", tmp_path / "1.dcm")  # a thumbnail
    shutil.copy(real / "jpeg" / "a.dcm", tmp_path / "2.dcm")
    shutil.copy(real / "parts" / "boxes_0.dcm", tmp_path / "3.dcm")
    shutil.copy(real / "sm_image.dcm", tmp_path / "4.dcm")
    return tmp_path


def test_real_slides_of_one_folder_are_all_found_and_open(real_folder: Path) -> None:
    dataset = Dataset.from_folder(real_folder)
    assert names(dataset) == ["2.dcm", "3.dcm", "4.dcm"]
    sizes = []
    for record in dataset.slides:
        with openslide.OpenSlide(record.path) as slide:
            sizes.append(slide.dimensions)
    assert sizes == [(1152, 700), (16, 16), (50, 50)]

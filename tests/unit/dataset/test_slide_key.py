"""One slide by several names is one slide: never one of two patients, never in two parts."""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePosixPath

import pytest

from pydmed_dali import Dataset, Patient, Record
from pydmed_dali.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files, one of which has two more names: a hard link and a symbolic one."""
    for name in ("0.tif", "1.tif", "2.tif", "3.tif"):
        (tmp_path / name).write_bytes(name.encode())
    os.link(tmp_path / "0.tif", tmp_path / "hard.tif")
    (tmp_path / "soft.tif").symlink_to("0.tif")
    return tmp_path


def names(dataset: Dataset) -> list[str]:
    return [record.relative.as_posix() for record in dataset.slides]


def test_a_file_of_three_names_is_listed_once_and_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = Dataset.from_folder(folder)
    assert names(dataset) == ["0.tif", "1.tif", "2.tif", "3.tif"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "2 slides have several names" in message
    for other in ("hard", "soft"):
        assert f"{folder}/{other}.tif is {folder}/0.tif" in message


def test_names_of_two_patients_or_labels_are_refused(folder: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"0\.tif and .*hard\.tif are names of one file, but pat"
    ):
        Dataset.from_folder(folder, patient=lambda path: path.stem)
    with pytest.raises(DatasetError, match=r"but label gives 1 for the first and 4 for the second"):
        Dataset.from_folder(folder, label=lambda path: len(path.stem))
    assert len(Dataset.from_folder(folder, patient=lambda path: "P").slides) == 4


def test_a_copy_is_another_file(folder: Path) -> None:
    (folder / "copy.tif").write_bytes((folder / "0.tif").read_bytes())
    assert "copy.tif" in names(Dataset.from_folder(folder))


def test_a_folder_of_two_names_cannot_be_of_two_patients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "P1").mkdir()
    (tmp_path / "P1" / "x.tif").touch()
    (tmp_path / "P2").symlink_to("P1")
    with caplog.at_level(logging.WARNING):
        assert names(Dataset.from_folder(tmp_path)) == ["P1/x.tif"]
    assert f"listed once: {tmp_path}/P2 is {tmp_path}/P1" in caplog.text
    with pytest.raises(DatasetError, match=r"P1/x\.tif and .*P2/x\.tif are names of one file"):
        Dataset.from_folder(tmp_path, patient=lambda path: path.parent.name)


def test_rows_that_name_one_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"slide": name, "patient": "P"} for name in ("0.tif", "hard.tif", "soft.tif")]
    with caplog.at_level(logging.WARNING):
        assert names(Dataset.from_table(rows, root=folder)) == ["0.tif"]
    assert "row 1 (hard.tif) is row 0, row 2 (soft.tif) is row 0" in caplog.text
    rows[2]["patient"] = "Q"
    with pytest.raises(
        DatasetError, match=r"rows 0 and 2 \(0\.tif, soft\.tif\) are names of one file"
    ):
        Dataset.from_table(rows, root=folder)
    labelled = [{"slide": "0.tif", "label": 0}, {"slide": "hard.tif", "label": 1}]
    with pytest.raises(DatasetError, match=r"rows 0 and 1 .* differ in patient or label"):
        Dataset.from_table(labelled, root=folder)


def test_no_split_has_one_file_in_two_parts(folder: Path) -> None:
    patients = [
        Patient(name, (Record(folder, PurePosixPath(name)),))
        for name in ("0.tif", "1.tif", "soft.tif", "missing.tif")
    ]
    dataset = Dataset(tuple(patients))
    for split in (lambda: dataset.split({"a": 0.5, "b": 0.5}), lambda: dataset.folds(2)):
        with pytest.raises(
            DatasetError, match=r"of patient '0\.tif', and .*of patient 'soft\.tif'"
        ):
            split()
    one = Dataset((Patient("P", (*patients[0].records, *patients[2].records)), patients[1]))
    assert set(one.split({"a": 0.5, "b": 0.5})) == {"a", "b"}, "one patient is in one part"

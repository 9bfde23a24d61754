"""Names in Unicode's two normal forms are one name: of patients, slides, labels and columns."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali import Dataset, Patient, Record
from pydmed_dali.dataset.spelling import composed, variants
from pydmed_dali.errors import DatasetError

NFC = unicodedata.normalize("NFC", "Müller")
NFD = unicodedata.normalize("NFD", "Müller")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        (tmp_path / f"{number}.tif").touch()
    return tmp_path


def test_two_forms_are_one_patient_one_label_and_one_column(folder: Path) -> None:
    rows = [
        {"slide": "0.tif", "patient": NFC, "label": NFC, NFD: 1},
        {"slide": "1.tif", "patient": NFD, "label": NFD, NFC: 2},
        {"slide": "2.tif", "patient": "P", "label": NFD, NFC: 3},
    ]
    dataset = Dataset.from_table(rows, root=folder)
    assert [(p.id, len(p.records)) for p in dataset.patients] == [(NFC, 2), ("P", 1)]
    assert dataset.classes == (NFC,)
    assert [record.infos for record in dataset.slides] == [{NFC: 1}, {NFC: 2}, {NFC: 3}]
    assert len(Dataset.from_table(rows, root=folder, patient=NFD).patients) == 3


def test_two_forms_are_one_patient_of_a_folder(folder: Path) -> None:
    dataset = Dataset.from_folder(folder, patient=lambda p: NFC if p.stem < "2" else NFD)
    assert [patient.id for patient in dataset.patients] == [NFC]


def test_two_patients_of_one_name_are_refused_and_classes_compare(folder: Path) -> None:
    one, other = (Record(folder, PurePosixPath(f"{n}.tif")) for n in range(2))
    with pytest.raises(DatasetError, match="occurs twice"):
        Dataset((Patient(NFC, (one,)), Patient(NFD, (other,))))
    assert Dataset((Patient("P", (one,), NFD),), classes=(NFC,)).label_numbers == (0,)
    assert Dataset((Patient("P", (one,), NFC),), classes=(NFD,)).label_numbers == (0,)


def test_a_table_finds_files_in_the_other_form(tmp_path: Path) -> None:
    for name in (f"{NFD}/{NFC}.tif", f"{NFC}.svs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = [{"slide": f"{NFC}/{NFD}.tif"}, {"slide": f"{NFD}.svs"}]
    dataset = Dataset.from_table(rows, root=tmp_path)
    assert all(record.path.is_file() for record in dataset.slides)
    assert [patient.id for patient in dataset.patients] == [f"{NFC}.svs", f"{NFC}/{NFC}.tif"]


def test_where_both_forms_lie_in_a_folder_the_exact_one_counts(tmp_path: Path) -> None:
    for name in (NFC, NFD):
        (tmp_path / f"{name}.tif").touch()
        (record,) = Dataset.from_table([{"slide": f"{name}.tif"}], root=tmp_path).slides
        assert record.path.name == f"{name}.tif"
    mixed = f"{unicodedata.normalize('NFD', 'é')}{unicodedata.normalize('NFC', 'ü')}.tif"
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, mixed)).touch()
    with pytest.raises(DatasetError, match=r"row 0: .* 2 files that it could mean"):
        Dataset.from_table([{"slide": mixed}], root=tmp_path)


def test_a_moved_folder_has_the_same_fingerprint_and_split(tmp_path: Path) -> None:
    datasets = []
    for form in ("NFC", "NFD"):
        for number in range(10):
            path = tmp_path / form / unicodedata.normalize(form, f"ü{number}.tif")
            path.parent.mkdir(exist_ok=True)
            path.touch()
        datasets.append(Dataset.from_folder(tmp_path / form))
    one, other = datasets
    assert one.fingerprint == other.fingerprint
    parts = [dataset.split({"a": 0.5, "b": 0.5})["a"] for dataset in datasets]
    assert [p.id for p in parts[0].patients] == [p.id for p in parts[1].patients]


def test_patients_that_look_alike_are_two_and_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = ["P1", "p1", "P1\u200b", "P2"]
    rows = [{"slide": f"{n}.tif", "patient": name} for n, name in enumerate(ids)]
    with caplog.at_level(logging.WARNING):
        assert len(Dataset.from_table(rows, root=folder).patients) == 4
    (message,) = [record.getMessage() for record in caplog.records]
    assert "patients that differ only in case, or in characters that are not seen" in message
    assert r"'P1' and 'p1'" in message


@given(st.text())
def test_every_spelling_is_one_name(name: str) -> None:
    assert {composed(variant) for variant in variants(name)} == {composed(name)}
    assert name in variants(name)

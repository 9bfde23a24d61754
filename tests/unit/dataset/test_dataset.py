"""Patients, records and datasets, from folders of all kinds."""

from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath

import pytest

from pydmed_dali import Dataset, Patient, Record
from pydmed_dali.dataset import SLIDE_EXTENSIONS
from pydmed_dali.errors import DatasetError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def ids(dataset: Dataset) -> list[str]:
    return [patient.id for patient in dataset.patients]


def test_every_extension_at_any_depth_in_any_case(tmp_path: Path) -> None:
    names = [f"a/b{n}/c/slide{e}" for n, e in enumerate(sorted(SLIDE_EXTENSIONS))]
    touch(tmp_path, *names, "TOP.SVS", "notes.txt", "a/.hidden.svs", ".cache/x.svs", "a/._x.tif")
    assert ids(Dataset.from_folder(tmp_path)) == sorted([*names, "TOP.SVS"])


def test_adding_a_file_moves_no_id(tmp_path: Path) -> None:
    touch(tmp_path, "b.svs", "d.svs")
    before = Dataset.from_folder(tmp_path)
    after = Dataset.from_folder(touch(tmp_path, "a.svs", "c.svs"))
    assert set(before.patients) < set(after.patients)


def test_several_slides_of_a_patient_stay_together(tmp_path: Path) -> None:
    touch(tmp_path, "P1-a.svs", "P2-a.svs", "P1-b.svs")
    dataset = Dataset.from_folder(tmp_path, patient=lambda path: path.name[:2])
    assert ids(dataset) == ["P1", "P2"]
    assert [r.path.name for r in dataset.patients[0].records] == ["P1-a.svs", "P1-b.svs"]
    assert dataset.first_slide == (0, 2)
    assert [record.path.name for record in dataset.slides] == ["P1-a.svs", "P1-b.svs", "P2-a.svs"]


def test_paths_are_right_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "data/x.svs", "elsewhere/y")
    monkeypatch.chdir(tmp_path)
    dataset = Dataset.from_folder("data")
    monkeypatch.chdir(tmp_path / "elsewhere")
    (record,) = dataset.slides
    assert record.path.exists()
    assert record.relative == PurePosixPath("x.svs")


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "real/x.svs", "data/y.svs")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert ids(Dataset.from_folder(tmp_path / "data")) == ["linked/x.svs", "y.svs"]


def test_a_folder_of_dicom_files_is_one_slide(tmp_path: Path) -> None:
    touch(tmp_path, "s1/1.dcm", "s1/2.dcm", "s2/1.dcm", "s2/2.dcm", "x.svs")
    assert ids(Dataset.from_folder(tmp_path)) == ["s1/1.dcm", "s2/1.dcm", "x.svs"]


def test_names_are_numbered_in_their_order_and_numbers_travel_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "tumor/1.svs", "benign/2.svs", "benign/3.svs")
    named = Dataset.from_folder(tmp_path, label=lambda path: path.parent.name)
    assert named.classes == ("benign", "tumor")
    assert named.label_numbers == (0, 0, 1)
    numbered = Dataset.from_folder(tmp_path, label=lambda path: 5 * int(path.stem))
    assert numbered.label_numbers == (10, 15, 5)
    assert Dataset.from_folder(tmp_path).label_numbers == (-1, -1, -1)


def test_the_fingerprint_is_of_the_contents_not_of_the_place(tmp_path: Path) -> None:
    one = touch(tmp_path / "one", "a/x.svs", "b/y.svs")
    two = touch(tmp_path / "two", "a/x.svs", "b/y.svs")
    three = touch(tmp_path / "three", "a/x.svs", "b/z.svs")

    def fingerprint(folder: Path) -> str:
        return Dataset.from_folder(folder, label=lambda path: path.parent.name).fingerprint

    assert fingerprint(one) == fingerprint(two) != fingerprint(three)
    assert Dataset.from_folder(one).fingerprint != fingerprint(one), "labels count"


def test_a_dataset_can_be_pickled(tmp_path: Path) -> None:
    dataset = Dataset.from_folder(touch(tmp_path, "x.svs"))
    assert pickle.loads(pickle.dumps(dataset)) == dataset


def test_infos_come_along() -> None:
    record = Record(Path("/slides"), PurePosixPath("x.svs"), {"scanner": "A"})
    assert Dataset((Patient("p", (record,)),)).slides[0].infos == {"scanner": "A"}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no slide: no file below it ends in one of .bif"):
        Dataset.from_folder(touch(tmp_path, "readme.txt"))


@pytest.mark.parametrize("name", ["missing", "file.svs"])
def test_what_is_not_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        Dataset.from_folder(touch(tmp_path, "file.svs") / name)


def test_missing_labels_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.svs" for n in range(9)))
    with pytest.raises(DatasetError, match=r"label gave None for 8 of 9 .*1.svs, .*\.\.\."):
        Dataset.from_folder(tmp_path, label=lambda path: {"0": "a"}.get(path.stem))


def test_a_label_function_that_fails_names_the_slide(tmp_path: Path) -> None:
    touch(tmp_path, "x.svs")
    with pytest.raises(DatasetError, match=r"label\('.*x.svs'\) raised KeyError"):
        Dataset.from_folder(tmp_path, label=lambda path: {"y": "a"}[path.stem])


def test_a_label_of_another_kind_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x.svs")
    with pytest.raises(DatasetError, match=r"has the label 0.5; a label is a str or an int"):
        Dataset.from_folder(tmp_path, label=lambda path: 0.5)  # type: ignore[arg-type, return-value]


def test_a_patient_with_two_labels_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/P1.svs", "b/P1.svs")
    with pytest.raises(DatasetError, match="patient 'P1' has slides of two labels, 'a' and 'b'"):
        Dataset.from_folder(tmp_path, lambda path: path.parent.name, lambda path: path.stem)


def record(name: str) -> Record:
    return Record(Path("/slides"), PurePosixPath(name))


@pytest.mark.parametrize(
    ("patients", "message"),
    [
        ([], "at least one patient"),
        ([("p", "x", None), ("p", "y", None)], "patient id 'p' occurs twice"),
        ([("p", "x", None), ("q", "x", None)], "slide '/slides/x' occurs twice"),
        ([("p", "x", "a"), ("q", "y", None)], r"1 of 2 patients have no label \(q\)"),
        ([("p", "x", "a"), ("q", "y", 1)], "partly names and partly numbers"),
        ([("p", "x", -1)], "numbers start at 0"),
    ],
)
def test_a_dataset_that_contradicts_itself_is_refused(
    patients: list[tuple[str, str, str | int | None]], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        Dataset(tuple(Patient(name, (record(slide),), label) for name, slide, label in patients))


def test_a_patient_without_a_slide_is_refused() -> None:
    with pytest.raises(DatasetError, match="patient 'p' has no slide"):
        Patient("p", ())

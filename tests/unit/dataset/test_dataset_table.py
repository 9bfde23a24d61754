"""Datasets from tables: files of all kinds, tables in memory, and all that can be wrong in them."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali import Dataset
from pydmed_dali.dataset import Label
from pydmed_dali.errors import DatasetError, OptionError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with slides a.svs to d.svs, of which only the names are looked at."""
    for name in "abcd":
        (tmp_path / f"{name}.svs").touch()
    return tmp_path


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "slides.csv"
    path.write_text(text, encoding=encoding)
    return path


def labels(dataset: Dataset) -> dict[str, Label | None]:
    return {patient.id: patient.label for patient in dataset.patients}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_as_spreadsheets_write_it(
    folder: Path, encoding: str, delimiter: str, end: str
) -> None:
    rows = ["slide,patient,label", "a.svs,P1,tumor", "b.svs,P1,tumor", "c.svs,P2,benign"]
    path = folder / "slides.csv"
    path.write_bytes((end.join(rows).replace(",", delimiter) + end).encode(encoding))
    dataset = Dataset.from_table(path)
    assert labels(dataset) == {"P1": "tumor", "P2": "benign"}
    assert [record.path for record in dataset.slides] == [folder / f"{n}.svs" for n in "abc"]


def test_quoted_cells_may_hold_anything(folder: Path) -> None:
    (folder / 'x, "y".svs').touch()
    path = write(folder, 'slide,note\n"x, ""y"".svs","two\nlines"\na.svs,"; and \t!"\n')
    dataset = Dataset.from_table(path)
    assert [record.infos["note"] for record in dataset.slides] == ["; and \t!", "two\nlines"]


def test_other_columns_come_back_in_infos_as_text(folder: Path) -> None:
    path = write(folder, "slide,scanner,age,\na.svs,Aperio,071,x\nb.svs,,5,y\n")
    first, second = Dataset.from_table(path).slides
    assert first.infos == {"scanner": "Aperio", "age": "071"}, "a column without a name is none"
    assert second.infos == {"scanner": "", "age": "5"}


def test_blank_rows_count_but_hold_nothing(folder: Path) -> None:
    path = write(folder, "slide;label\n\na.svs;x\n;\nmissing.svs;x\n\n")
    with pytest.raises(DatasetError, match=r"1 of 2 slides .* \(row 5: missing.svs\)"):
        Dataset.from_table(path)


def test_without_a_patient_column_every_slide_is_its_own(folder: Path) -> None:
    dataset = Dataset.from_table(write(folder, "slide\nb.svs\na.svs\n"))
    assert labels(dataset) == {"a.svs": None, "b.svs": None}


def test_columns_can_have_other_names_or_be_left_alone(folder: Path) -> None:
    path = write(folder, "file,case,label,patient\na.svs,1,,x\nb.svs,2,,\n")
    dataset = Dataset.from_table(path, slide="file", patient="case", label=None)
    assert labels(dataset) == {"1": None, "2": None}
    assert dataset.slides[0].infos == {"label": "", "patient": "x"}


class PandasLike:
    """Gives its columns as pandas' DataFrame does: its index, and so rows, can repeat in a dict."""

    def __init__(self, columns: Mapping[str, list[object]]) -> None:
        self._columns = columns

    def to_dict(self, orient: str = "dict") -> Mapping[Any, Any]:
        if orient == "list":
            return dict(self._columns)
        return {name: dict.fromkeys([0], cells[-1]) for name, cells in self._columns.items()}


class PolarsLike:
    """Gives its columns as polars' DataFrame does: by a keyword argument, as series."""

    def __init__(self, columns: Mapping[str, list[object]]) -> None:
        self._columns = columns

    def to_dict(self, *, as_series: bool = True) -> Mapping[Any, Any]:
        assert as_series
        return {name: np.array(cells, object) for name, cells in self._columns.items()}


class IndexedLike:
    """Gives each column as a dict by the row's index."""

    def __init__(self, columns: Mapping[str, list[object]]) -> None:
        self._columns = columns

    def to_dict(self) -> Mapping[Any, Any]:
        return {name: dict(enumerate(cells)) for name, cells in self._columns.items()}


@pytest.mark.parametrize("kind", ["columns", "rows", PandasLike, PolarsLike, IndexedLike])
def test_a_table_in_memory(folder: Path, kind: Any) -> None:
    columns: dict[str, list[Any]] = {
        "slide": ["a.svs", folder / "b.svs", "c.svs"],
        "patient": [7, 7, 9],
        "label": [np.int64(1), 1, np.uint8(0)],
        "score": [0.5, None, float("inf")],
    }
    rows = [{name: cells[n] for name, cells in columns.items()} for n in range(3)]
    table = columns if kind == "columns" else rows if kind == "rows" else kind(columns)
    dataset = Dataset.from_table(table, root=folder)
    assert labels(dataset) == {"7": 1, "9": 0}
    assert all(type(patient.label) is int for patient in dataset.patients)
    assert [record.infos["score"] for record in dataset.slides] == [0.5, None, float("inf")]
    assert [record.path for record in dataset.slides] == [folder / f"{n}.svs" for n in "abc"]


def test_paths_in_memory_are_relative_to_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    dataset = Dataset.from_table({"slide": ["a.svs"]})
    monkeypatch.chdir("/")
    assert dataset.slides[0].path == folder / "a.svs"


def test_rows_of_a_csv_reader_are_a_table(folder: Path) -> None:
    with write(folder, "slide,label\na.svs,0\nb.svs,1+\n").open(newline="") as file:
        dataset = Dataset.from_table(csv.DictReader(file), root=folder)
    assert labels(dataset) == {"a.svs": "0", "b.svs": "1+"}, "in memory text is a name"


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["0", "1", "10"], [0, 1, 10]),
        (["tumor", " tumor ", "benign"], ["tumor", "tumor", "benign"]),
        (["3+4", "4+3", "T1"], ["3+4", "4+3", "T1"]),
    ],
)
def test_labels_of_a_file_are_numbers_where_all_are(
    folder: Path, cells: list[str], found: list[Label]
) -> None:
    rows = [f"{name}.svs,{cell}" for name, cell in zip("abc", cells, strict=True)]
    dataset = Dataset.from_table(write(folder, "\n".join(["slide,label", *rows])))
    assert [patient.label for patient in dataset.patients] == found


@pytest.mark.parametrize("odd", ["-1", "01", "1.0", "1,5", "1e3", "NaN", "inf", "9" * 19])
@pytest.mark.parametrize("other", ["0", "tumor"])
def test_labels_that_only_look_like_numbers_are_refused(folder: Path, odd: str, other: str) -> None:
    path = write(folder, f'slide;label\na.svs;{other}x\nb.svs;"{odd}"\n')
    with pytest.raises(DatasetError, match=f"label '{odd}' looks like a number, in row 3; "):
        Dataset.from_table(path)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["x", 1], r"partly names, in row 0, and partly numbers, in row 1"),
        ([0, 1.0], r"row 1 has the label 1\.0"),
        ([0, True], r"row 1 has the label True"),
        ([0, np.True_], r"row 1 has the label np\.True_"),
        ([0, -3], r"row 1 has the label -3"),
        ([0, 2**63], r"row 1 has the label 9223372036854775808; .* to 9223372036854775807"),
        ([0, None], r"no label \('label'\) in row 1"),
        ([0, float("nan")], r"no label \('label'\) in row 1"),
        (["x", " "], r"no label \('label'\) in row 1"),
    ],
)
def test_labels_in_memory_that_are_none_are_refused(
    folder: Path, cells: list[Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        Dataset.from_table({"slide": ["a.svs", "b.svs"], "label": cells}, root=folder)


class NotAvailable:
    """Compares as pandas' NA does."""

    def __ne__(self, other: object) -> NotAvailable:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


def test_a_value_that_is_not_available_is_an_empty_cell(folder: Path) -> None:
    table: dict[str, list[object]] = {"slide": ["a.svs", "b.svs"], "patient": ["P", NotAvailable()]}
    with pytest.raises(DatasetError, match=r"names no patient \('patient'\) in row 1"):
        Dataset.from_table(table, root=folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty; the first line of a table names its columns"),
        ("\n\n", r"is empty"),
        ("slide,label\n", r"has no rows"),
        ("Slides,label\na.svs,x\n", r"no column 'slide'; did you mean 'Slides'\? \(columns: Sli"),
        ("file\na.svs\n", r"no column 'slide' \(columns: file\)"),
        (
            "slide,Patient\na.svs,x\n",
            r"no column 'patient', but one called 'Patient'; pass",
        ),
        ("slide,labels\na.svs,x\n", r"pass label='labels' to use it, or label=None to do without"),
        ("slide,label,label\na.svs,x,y\n", r"two columns called 'label'"),
        ("slide,label\na.svs\n", r"row 2 has 1 cells, but the header names 2 columns"),
        ("slide,label\na.svs,x\nb.svs,x,y\n", r"row 3 has 3 cells"),
        ('slide,label\na.svs,"x\nb.svs,y\n', r"line 3 is no CSV"),
        ("slide\na.svs\n" + "x" * 200_000, r"line 3 is no CSV: field larger"),
        ("slide," + "x" * 200_000 + "\na.svs,x\n", r"line 1 is no CSV: field larger"),
        ("slide,label\n,x\na.svs,x\n,y\n", r"names no slide \('slide'\) in rows 2, 4 \(2 rows\)"),
        ("slide,patient\na.svs,\nb.svs,P\n", r"names no patient \('patient'\) in row 2; .*=None"),
        ("slide,label\na.svs,\nb.svs,P\n", r"has no label \('label'\) in row 2; .*label=None"),
        ("slide\na.svs\nb.svs\n./a.svs\n", r"the slide 'a\.svs' is in rows 2 and 4"),
        (
            "slide,patient,label\na.svs,P,x\nb.svs,Q,x\nc.svs,P,y\n",
            r"patient 'P' has the label 'x' in row 2 and 'y' in row 4; a patient has one label",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_path(
    folder: Path, text: str, message: str
) -> None:
    path = write(folder, text)
    with pytest.raises(DatasetError, match=f"(?s)^{re.escape(str(path))}.*{message}"):
        Dataset.from_table(path)


def test_a_column_that_was_asked_for_must_be_there(folder: Path) -> None:
    path = write(folder, "slide,diagnosis\na.svs,x\n")
    with pytest.raises(DatasetError, match=r"no column 'diagnoses'; did you mean 'diagnosis'\?"):
        Dataset.from_table(path, label="diagnoses")
    with pytest.raises(DatasetError, match=r"no column 'case' \(columns: slide, diagnosis\)"):
        Dataset.from_table(path, patient="case")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_refused(folder: Path, encoding: str) -> None:
    path = write(folder, "slide,note\na.svs,Größe\n", encoding)
    with pytest.raises(DatasetError, match=r"not a UTF-8 text \(byte \d+\); save the table as"):
        Dataset.from_table(path)


@pytest.mark.parametrize("name", ["", "none.csv"])
def test_a_file_that_cannot_be_read_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=r"the table cannot be read: (Is a dir|No such file)"):
        Dataset.from_table(folder / name)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (7, r"a table is the path of a CSV file, .*, but row 0 is a int"),
        (["a.svs"], r"row 0 is a str"),
        ([{"slide": "a.svs"}, None], r"row 1 is a NoneType"),
        ([], r"no column 'slide' \(columns: none\)"),
        ({"slide": "a.svs"}, r"column 'slide' of the table is 'a\.svs'; a column is a sequence"),
        ({"slide": 3}, r"column 'slide' of the table is 3"),
        ({"slide": ["a.svs"], "label": [1, 2]}, r"different lengths: \{'slide': 1, 'label': 2\}"),
        ({"slide": [3]}, r"row 0: 3 is not the path of a slide"),
        ({"slide": [b"a.svs"]}, r"row 0: b'a.svs' is not the path of a slide"),
        ([{"slide": "a.svs", "label": "x"}, {"slide": "b.svs"}], r"no label \('label'\) in row 1"),
    ],
)
def test_a_table_in_memory_that_is_wrong_is_refused(folder: Path, table: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Dataset.from_table(table, root=folder)


@pytest.mark.parametrize(
    "path",
    ["../a.svs", "x/../a.svs", "..", "/etc/passwd", "/", "//a.svs", "a\0.svs"],
)
def test_a_path_cannot_lead_out_of_the_root(folder: Path, path: str) -> None:
    with pytest.raises(DatasetError, match=f"row 3.*{re.escape(repr(path))}"):
        Dataset.from_table(write(folder, f"slide\na.svs\n{path}\n"))


def test_an_absolute_path_below_the_root_is_a_relative_one(folder: Path) -> None:
    path = write(folder, f"slide\n{folder}/a.svs\n")
    (record,) = Dataset.from_table(path).slides
    assert (record.root, str(record.relative)) == (folder, "a.svs")
    (record,) = Dataset.from_table(path, root="/").slides
    assert (record.root, record.path) == (Path("/"), folder / "a.svs")


def test_a_link_in_the_root_may_lead_anywhere(folder: Path) -> None:
    (folder / "root").mkdir()
    (folder / "root" / "linked").symlink_to(folder)
    dataset = Dataset.from_table([{"slide": "linked/a.svs"}], root=folder / "root")
    assert dataset.slides[0].path.samefile(folder / "a.svs")


@given(st.text())
def test_no_path_at_all_leads_out_of_the_root(text: str) -> None:
    """Whatever the text, it is refused by our error or names a file that is lexically below."""
    root = Path(__file__).parent
    try:
        dataset = Dataset.from_table([{"slide": text}, {"slide": Path(__file__).name}], root=root)
    except DatasetError:
        return
    assert all(record.path.is_relative_to(root) for record in dataset.slides)


def test_missing_slides_are_counted_and_the_first_named(folder: Path) -> None:
    (folder / "directory.svs").mkdir()
    names = ["a.svs", *(f"no-{n}.svs" for n in range(6)), "directory.svs", "x" * 5000]
    path = write(folder, "\n".join(["slide", *names]))
    with pytest.raises(DatasetError) as caught:
        Dataset.from_table(path)
    assert str(caught.value) == (
        f"{path}: 8 of 9 slides are no files below {folder} (row 3: no-0.svs, row 4: no-1.svs, "
        "row 5: no-2.svs, row 6: no-3.svs, row 7: no-4.svs, ...); correct the paths or root, or "
        "leave them out with missing='skip'"
    )


def test_missing_slides_can_be_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(folder, "slide,label\na.svs,x\nno.svs,\nb.svs,y\n")
    with caplog.at_level(logging.WARNING):
        dataset = Dataset.from_table(path, missing="skip")
    assert labels(dataset) == {"a.svs": "x", "b.svs": "y"}, "their labels do not matter either"
    (message,) = [record.getMessage() for record in caplog.records]
    assert "1 of 3 slides" in message and "row 3: no.svs" in message


def test_a_table_of_missing_slides_is_refused(folder: Path) -> None:
    path = write(folder, "slide\nno.svs\n")
    with pytest.raises(DatasetError, match=r"1 of 1 slides are no files .*; correct the paths"):
        Dataset.from_table(path, missing="skip")
    with pytest.raises(OptionError, match="missing must be 'raise' or 'skip', not 'ignore'"):
        Dataset.from_table(path, missing="ignore")


def test_an_iterator_of_rows_is_read_once(folder: Path) -> None:
    def rows() -> Iterable[Mapping[str, object]]:
        yield {"slide": "a.svs"}
        yield {"slide": "b.svs"}

    assert len(Dataset.from_table(rows(), root=folder)) == 2

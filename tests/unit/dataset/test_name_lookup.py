"""Tables that name slides without their ending, as CLAM's do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydmed_dali import Dataset
from pydmed_dali.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.svs", "TCGA-1.DX1.5F-9.svs", "deep/er/b.TIF", "c.svs", "c.tif", "d/x.svs"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a.csv").touch()
    return tmp_path


def found(folder: Path, *names: str) -> list[str]:
    dataset = Dataset.from_table([{"slide": name} for name in names], root=folder)
    return [record.relative.as_posix() for record in dataset.slides]


def test_a_clam_table_is_read(folder: Path) -> None:
    table = folder / "clam.csv"
    table.write_text("case_id,slide_id,label\np1,a,tumor\np2,TCGA-1.DX1.5F-9,normal\n")
    dataset = Dataset.from_table(table, slide="slide_id", patient="case_id")
    assert [(p.id, p.label, p.records[0].path.name) for p in dataset.patients] == [
        ("p1", "tumor", "a.svs"),
        ("p2", "normal", "TCGA-1.DX1.5F-9.svs"),
    ]


def test_a_name_without_ending_means_the_one_slide_of_that_name(folder: Path) -> None:
    assert found(folder, "a", "b", "d/x") == ["a.svs", "d/x.svs", "deep/er/b.TIF"]


def test_a_name_of_several_slides_is_refused_with_their_names(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"row 0: c: .*2 files that it could mean: c\.svs, c\."):
        found(folder, "c")
    (folder / "other").mkdir()
    (folder / "other" / "b.svs").touch()
    with pytest.raises(DatasetError, match=r"could mean: deep/er/b\.TIF, other/b\.svs; write the"):
        found(folder, "b")


def test_a_name_with_an_ending_means_no_other_and_what_is_missing_is_told(folder: Path) -> None:
    for name in ("a.tif", "nowhere", "d/a", "x/y/a"):
        with pytest.raises(DatasetError, match=f"1 of 1 slides are no files .*{name}"):
            found(folder, name)


def test_a_name_without_ending_and_its_file_are_one_slide(folder: Path) -> None:
    rows = [{"slide": "a", "label": 0}, {"slide": "a.svs", "label": 1}]
    with pytest.raises(DatasetError, match=r"patient 'a\.svs' has the label 0 in row 0 and 1"):
        Dataset.from_table(rows, root=folder)

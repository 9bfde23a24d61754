"""What a prompt and a notebook show of a dataset."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pydmed_dali import Dataset, Patient, Record
from pydmed_dali.dataset import Label


def dataset(labels: list[Label | None]) -> Dataset:
    patients = []
    for number, label in enumerate(labels):
        records = [Record(Path("/s"), PurePosixPath(f"{number}-{n}.svs")) for n in range(2)]
        patients.append(Patient(f"{number:03}", tuple(records), label))
    return Dataset(tuple(patients))


def test_a_prompt_shows_patients_slides_and_labels_in_a_line() -> None:
    assert repr(dataset([None])) == "<Dataset: 1 patient, 2 slides>"
    found = repr(dataset(["tumor", "benign", "tumor"]))
    assert found == "<Dataset: 3 patients, 6 slides; patients by label: benign: 1, tumor: 2>"
    many = repr(dataset(list(range(1200))))
    assert many.startswith("<Dataset: 1,200 patients, 2,400 slides; patients by label: 0: 1, 1: 1,")
    assert many.endswith(", 11: 1, ...>")


def test_a_notebook_shows_a_table_in_which_names_are_text() -> None:
    found = dataset(["<b>", "a\nb", "a\nb"])._repr_html_()
    assert "<td>&lt;b&gt;</td><td>1</td><td>2</td>" in found
    assert r"<td>a\nb</td><td>2</td><td>4</td>" in found
    assert "<td>all</td><td>3</td><td>6</td>" in found
    many = dataset(list(range(20)))._repr_html_()
    assert "<td>8 more labels</td><td>8</td><td>16</td>" in many

"""Splits and folds: names, numbering, what is refused, and what few patients can do."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pydmed_dali import Dataset, Patient, Record
from pydmed_dali.dataset import Label
from pydmed_dali.errors import DatasetError, OptionError

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def dataset_of(*labels: Label | None, slides: int = 1) -> Dataset:
    def records(number: int) -> tuple[Record, ...]:
        names = [f"{number}-{slide}.svs" for slide in range(slides)]
        return tuple(Record(Path("/s"), PurePosixPath(name)) for name in names)

    return Dataset(
        tuple(Patient(f"P{number}", records(number), label) for number, label in enumerate(labels))
    )


def ids(dataset: Dataset) -> list[str]:
    return [patient.id for patient in dataset.patients]


def test_a_split_is_this_one_for_ever() -> None:
    """The order of patients is a hash, so no new Python or numpy may change it."""
    parts = dataset_of(*20 * ["a"]).split(SHARES, seed=0)
    assert list(parts) == ["train", "validation", "test"]
    assert ids(parts["validation"]) == ["P12", "P18", "P9"]
    assert ids(parts["test"]) == ["P13", "P15", "P3"]


def test_the_counts_are_the_shares_of_each_label() -> None:
    parts = dataset_of(*60 * ["a"], *40 * ["b"]).split(SHARES, seed=3)
    counts = {
        name: [sum(patient.label == label for patient in part.patients) for label in "ab"]
        for name, part in parts.items()
    }
    assert counts == {"train": [42, 28], "validation": [9, 6], "test": [9, 6]}


def test_rare_labels_do_not_all_round_to_the_same_part(caplog: pytest.LogCaptureFixture) -> None:
    """Of 3 patients 0.45 are for validation and 0.45 for test: each label can give to one."""
    labels = [f"type {number}" for number in range(10)]
    with caplog.at_level(logging.WARNING):
        parts = dataset_of(*3 * labels).split(SHARES)
    assert [len(part) for part in parts.values()] == [21, 5, 4]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "'test' has none of the 3 with label 'type 0'" in message


def test_a_third_is_a_third() -> None:
    parts = dataset_of(*9 * ["a"]).split({"x": 1 / 3, "y": 1 / 3, "z": 1 / 3})
    assert [len(part) for part in parts.values()] == [3, 3, 3]
    parts = dataset_of(*100 * ["a"]).split({"x": 0.29, "y": 0.71})
    assert [len(part) for part in parts.values()] == [29, 71], "0.29 * 100 is 28.999999999999996"


def test_labels_have_the_same_numbers_in_all_parts() -> None:
    dataset = dataset_of("a", *4 * ["b"], *4 * ["c"])
    for part in dataset.split({"x": 0.5, "y": 0.5}).values():
        assert part.classes == ("a", "b", "c")
        for patient, number in zip(part.patients, part.label_numbers, strict=True):
            assert "abc"[number] == patient.label
    for training, test in dataset.folds(3):
        assert training.classes == test.classes == ("a", "b", "c")


def test_classes_can_be_taken_over_from_another_dataset() -> None:
    training, test = dataset_of("a", "b", "c"), dataset_of("b", "c", "b")
    assert test.label_numbers == (0, 1, 0)
    assert dataclasses.replace(test, classes=training.classes).label_numbers == (1, 2, 1)
    assert Dataset(test.patients, ("c", "b")).label_numbers == (1, 0, 1)
    assert Dataset(dataset_of(7).patients, (3, 7)).label_numbers == (7,), "numbers stay"


def test_the_numbering_is_part_of_the_fingerprint() -> None:
    dataset = dataset_of("a", "b")
    other = dataclasses.replace(dataset, classes=("b", "a"))
    assert dataset.fingerprint != other.fingerprint
    assert dataset.fingerprint == dataclasses.replace(dataset).fingerprint


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("a",), r"the labels 'b' are not among the classes \('a',\)"),
        (("a", "b", "a"), r"hold a label twice"),
        (("a", "b", 3), r"partly names and partly numbers"),
    ],
)
def test_classes_that_do_not_fit_are_refused(classes: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Dataset(dataset_of("a", "b").patients, classes)


def test_a_number_that_torch_cannot_hold_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"numbers start at 0 and end at 9223372036854775807"):
        dataset_of(2**63)


def test_the_slides_of_a_patient_stay_together() -> None:
    dataset = dataset_of(*6 * ["a"], slides=3)
    for part in dataset.split({"x": 0.5, "y": 0.5}).values():
        assert len(part.slides) == 9


def test_a_dataset_without_labels_is_one_stratum() -> None:
    parts = dataset_of(*10 * [None]).split({"x": 0.8, "y": 0.2})
    assert [len(part) for part in parts.values()] == [8, 2]
    assert all(part.classes == () for part in parts.values())


def test_another_seed_splits_otherwise() -> None:
    dataset = dataset_of(*50 * ["a"])
    tests = [ids(dataset.split(SHARES, seed)["test"]) for seed in (0, 0, 1, -1)]
    assert tests[0] == tests[1]
    assert len({tuple(test) for test in tests}) == 3


def test_a_patient_of_any_name_can_be_split() -> None:
    """A file name that is no UTF-8 reaches Python with lone surrogates in it."""
    records = [Record(Path("/s"), PurePosixPath(f"{n}.svs")) for n in range(2)]
    names = [b"\xff.svs".decode("utf-8", "surrogateescape"), "é/\N{SNOWMAN}"]
    patients = tuple(Patient(name, (r,)) for name, r in zip(names, records, strict=True))
    assert [len(part) for part in Dataset(patients).split({"x": 0.5, "y": 0.5}).values()] == [1, 1]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, r"\{\} add up to 0; they must add up to 1"),
        ({"x": 0.5, "y": 0.4}, r"add up to 0.9;"),
        ({"x": 70, "y": 30}, r"share of 'x' must be above 0 and at most 1, not 70"),
        ({"x": 1.0, "y": 0.0}, r"share of 'y' .* not 0\.0"),
        ({"x": float("nan"), "y": 1}, r"share of 'x' .* not nan"),
        ({"x": "0.5", "y": 0.5}, r"share of 'x' .* not '0\.5'"),
        ([0.7, 0.3], r"must name the parts, as {'train': 0.8, .* not \[0.7, 0.3\]"),
    ],
)
def test_bad_shares_are_refused(shares: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        dataset_of("a", "b").split(shares)


@pytest.mark.parametrize("k", [1, 0, -2, 2.0, "3", True])
def test_bad_numbers_of_folds_are_refused(k: Any) -> None:
    with pytest.raises(OptionError, match="at least 2 folds, not"):
        dataset_of("a", "b", "c").folds(k)


def test_a_seed_is_an_int() -> None:
    with pytest.raises(OptionError, match="seed must be an int, not None"):
        dataset_of("a", "b").folds(2, seed=None)  # type: ignore[arg-type]


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"2 patients are too few for 3 parts .* 'test' would"):
        dataset_of("a", "a").split(SHARES)
    with pytest.raises(DatasetError, match="3 patients are too few for 4 parts"):
        dataset_of("a", "b", "c").folds(4)

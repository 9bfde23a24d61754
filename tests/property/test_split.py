"""Splits of any dataset in any shares: who is where, how many, and who stays."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path, PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.dataset import Dataset, Patient, Record
from pydmed_dali.errors import DatasetError

label_lists = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)
weights = st.lists(st.integers(1, 20), min_size=2, max_size=5)
seeds = st.integers(0, 2**63 - 1)


def dataset_of(labels: list[str]) -> Dataset:
    return Dataset(tuple(patient(str(number), label) for number, label in enumerate(labels)))


def patient(name: str, label: str) -> Patient:
    return Patient(name, (Record(Path("/s"), PurePosixPath(f"{name}.svs")),), label)


def shares_of(weights: list[int]) -> dict[str, float]:
    return {f"part {n}": weight / sum(weights) for n, weight in enumerate(weights)}


def split(dataset: Dataset, weights: list[int], seed: int) -> dict[str, Dataset] | None:
    try:
        return dataset.split(shares_of(weights), seed)
    except DatasetError:
        return None


@given(label_lists, weights, seeds)
def test_every_patient_is_in_one_part_and_every_label_has_its_share(
    labels: list[str], weights: list[int], seed: int
) -> None:
    dataset = dataset_of(labels)
    parts = split(dataset, weights, seed)
    if parts is None:
        assert any(len(labels) * weight < 2 * sum(weights) for weight in weights)
        return
    patients = [patient for part in parts.values() for patient in part.patients]
    assert sorted(patients, key=lambda p: p.id) == list(dataset.patients)
    for part, weight in zip(parts.values(), weights, strict=True):
        share = Fraction(weight, sum(weights))
        for label, count in Counter(labels).items():
            got = sum(p.label == label for p in part.patients)
            assert math.floor(count * share) <= got <= math.ceil(count * share)
        assert abs(len(part) - len(labels) * share) < 2


@given(label_lists, weights, seeds, st.randoms(use_true_random=False))
def test_the_order_in_which_patients_are_given_does_not_matter(
    labels: list[str], weights: list[int], seed: int, random: object
) -> None:
    dataset = dataset_of(labels)
    shuffled = list(dataset.patients)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split(dataset, weights, seed) == split(Dataset(tuple(shuffled)), weights, seed)


@given(st.integers(2, 60), st.integers(1, 19), seeds, st.sampled_from("ab"))
def test_of_two_parts_at_most_one_patient_a_label_moves_when_one_is_added(
    count: int, weight: int, seed: int, label: str
) -> None:
    dataset = dataset_of(["a"] * count + ["b"] * count)
    larger = Dataset((*dataset.patients, patient("new", label)))
    before, after = (split(d, [weight, 20 - weight], seed) for d in (dataset, larger))
    if before and after:
        was = {p.id for p in before["part 0"].patients}
        now = {p.id for p in after["part 0"].patients} - {"new"}
        assert len(was ^ now) <= 2


@given(label_lists, st.integers(2, 7), seeds)
def test_every_patient_is_tested_in_one_fold(labels: list[str], k: int, seed: int) -> None:
    dataset = dataset_of(labels)
    if len(labels) < k:
        return
    folds = dataset.folds(k, seed)
    tested = [patient for _, test in folds for patient in test.patients]
    assert sorted(tested, key=lambda p: p.id) == list(dataset.patients)
    for training, test in folds:
        assert {*training.patients, *test.patients} == set(dataset.patients)
        assert len(training) + len(test) == len(dataset)
    for label in (*set(labels), None):
        counts = [sum(label in (None, p.label) for p in test.patients) for _, test in folds]
        assert max(counts) - min(counts) <= 1

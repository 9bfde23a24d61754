"""How often each patient, or slide, is visited when they have weights, and when these change."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydmed_dali.errors import StateError
from pydmed_dali.plan.class_sampler import ClassSampler
from pydmed_dali.plan.sampler import Sampler
from tests.property.test_sampler import dataset_of, label_lists, planned

weight = st.floats(0.01, 100.0)


def visited(sampler: Sampler, visits: range) -> list[int]:
    return [planned(sampler, visit).patient for visit in visits]


@settings(max_examples=40)
@given(st.data(), label_lists, st.integers(0, 2**63 - 1), st.integers(1, 3))
def test_after_every_pass_each_patient_is_within_one_visit_of_its_share(
    data: st.DataObject, labels: list[str], seed: int, world_size: int
) -> None:
    size = len(labels)
    weights = data.draw(st.lists(weight, min_size=size, max_size=size))
    sampler = Sampler(dataset_of(labels), seed, 0, world_size, weights=weights)
    shares = np.array(weights) / sum(weights)
    counts = np.zeros(size)
    for number in range(12):
        for patient in visited(sampler, range(number * size, (number + 1) * size)):
            counts[patient] += 1
        assert (abs(counts - (number + 1) * size * shares) < 1 + 1e-9).all()


@settings(max_examples=40)
@given(st.data(), label_lists, st.integers(0, 1000))
def test_weights_count_within_the_label_where_labels_are_balanced(
    data: st.DataObject, labels: list[str], seed: int
) -> None:
    size = len(labels)
    weights = np.array(data.draw(st.lists(weight, min_size=size, max_size=size)))
    sampler = Sampler(dataset_of(labels), seed, balance="label", weights=weights.tolist())
    length, kinds = sampler.visits_per_pass, sorted(set(labels))
    counts = Counter(visited(sampler, range(5 * length)))
    for kind in kinds:
        own = np.array([label == kind for label in labels])
        made = np.array([counts[p] for p in range(size)])[own]
        assert made.sum() == 5 * length / len(kinds)
        expected = made.sum() * weights[own] / weights[own].sum()
        assert (abs(made - expected) < 1 + 1e-9).all()


@given(label_lists, st.integers(0, 1000), st.floats(0.1, 10.0))
def test_equal_weights_visit_every_patient_once_before_any_twice(
    labels: list[str], seed: int, value: float
) -> None:
    size = len(labels)
    sampler = Sampler(dataset_of(labels), seed, weights=[value] * size)
    for number in range(3):
        chosen = visited(sampler, range(number * size, (number + 1) * size))
        assert sorted(chosen) == list(range(size))


@given(label_lists, st.integers(0, 1000), st.integers(1, 3))
def test_slides_come_equally_often_and_each_turn_once(
    labels: list[str], seed: int, slides: int
) -> None:
    dataset = dataset_of(labels, slides)
    sampler = Sampler(dataset, seed, balance="slide")
    length = sampler.visits_per_pass
    assert length == len(dataset.slides)
    for number in range(3):
        chosen = [planned(sampler, v) for v in range(number * length, (number + 1) * length)]
        assert sorted(c.slide for c in chosen) == list(range(length))
        assert {c.turn for c in chosen} == {number}
        assert all(c.slide in sampler._slides_of(c.patient) for c in chosen)


changes_of_weights = st.lists(
    st.tuples(st.integers(1, 60), st.lists(weight, min_size=6, max_size=6)), max_size=5
)


def steered(seed: int, balance: str, world_size: int, first: list[float] | None) -> Sampler:
    return Sampler(dataset_of(list("aaabbc"), 2), seed, 0, world_size, balance, first)


@settings(max_examples=40)
@given(
    changes_of_weights,
    st.one_of(st.none(), st.lists(weight, min_size=6, max_size=6)),
    st.sampled_from(["patient", "label", "slide"]),
    st.integers(0, 1000),
    st.integers(1, 3),
    st.integers(0, 150),
)
def test_a_plan_goes_on_from_its_state_at_any_visit(
    steps: list[tuple[int, list[float]]],
    first: list[float] | None,
    balance: str,
    seed: int,
    world_size: int,
    place: int,
) -> None:
    """Also where changes are known that begin later."""
    whole = steered(seed, balance, world_size, first)
    visit = 0
    for step, weights in steps:
        visit += step
        whole.set_weights(visit, weights)
    expected = [planned(whole, v) for v in range(place, 200)]
    resumed = steered(seed, balance, world_size, first)
    resumed.restore_weights(whole.weights_state(place))
    assert [planned(resumed, v) for v in range(place, 200)] == expected
    again = resumed.weights_state(199)
    assert again == whole.weights_state(199)


@settings(max_examples=40)
@given(changes_of_weights, st.sampled_from(["patient", "label"]), st.integers(0, 1000))
def test_changes_leave_nobody_behind(
    steps: list[tuple[int, list[float]]], balance: str, seed: int
) -> None:
    """What is owed stays bounded, and no visit of a slide repeats another one's number."""
    sampler = steered(seed, balance, 1, None)
    visit = 0
    for step, weights in steps:
        visit += step
        sampler.set_weights(visit, weights)
    chosen = [planned(sampler, v) for v in range(500)]
    assert len({(c.slide, c.turn) for c in chosen}) == len(chosen)
    if sampler._weighted is not None:
        assert (abs(sampler._weighted.account(499).owed) < 3).all()


def test_changes_at_every_visit_are_forgotten_behind_the_plan() -> None:
    """So that a loop which gives weights after every batch fills no memory."""
    sampler, other = steered(0, "patient", 1, None), steered(0, "patient", 1, None)
    weights = np.random.default_rng(0).uniform(0.5, 2, (400, 6))
    for visit in range(400):
        other.set_weights(visit + 10, weights[visit].tolist())
    for visit in range(400):
        sampler.set_weights(visit + 10, weights[visit].tolist())
        sampler.forget_weights(visit)
        assert planned(sampler, visit) == planned(other, visit)
    assert sampler._weighted is not None
    assert len(sampler._weighted.changes) <= 12
    assert sampler.weights_state(399) == other.weights_state(399)
    with pytest.raises(StateError, match="is forgotten; take the state of a later batch"):
        sampler.weights_state(300)


def by_class(seed: int, world_size: int) -> ClassSampler:
    slides = [range(12), [0, 1, 2, 6], [3, 10]]
    return ClassSampler(
        dataset_of(list("aaabbc"), 2), [0.5, 0.4, 0.1], slides, seed, 0, world_size, "patient"
    )


@settings(max_examples=40)
@given(changes_of_weights, st.integers(0, 1000), st.integers(1, 3), st.integers(0, 150))
def test_a_plan_by_class_goes_on_from_its_state_at_any_visit(
    steps: list[tuple[int, list[float]]], seed: int, world_size: int, place: int
) -> None:
    """Changes that fall between two visits of a class, too."""
    whole = by_class(seed, world_size)
    plain = by_class(seed, world_size)
    visit = 0
    for step, weights in steps:
        visit += step * world_size
        whole.set_weights(visit, weights)
    place -= place % world_size
    first = steps[0][0] * world_size if steps else 200
    expected = [next(whole.candidates(v)) for v in range(0, 200)]
    assert expected[:first] == [next(plain.candidates(v)) for v in range(0, min(first, 200))]
    resumed = by_class(seed, world_size)
    resumed.restore_weights(whole.weights_state(place))
    assert [next(resumed.candidates(v)) for v in range(place, 200)] == expected[place:]


def test_weights_count_within_each_class() -> None:
    """Of the class 1 three patients have slides: the first two, and the fourth."""
    sampler = by_class(0, 1)
    sampler.set_weights(0, [8.0, 1.0, 5.0, 1.0, 5.0, 5.0])
    chosen = [next(sampler.candidates(v)) for v in range(1000)]
    counts = Counter(c.patient for c in chosen if c.class_number == 1)
    expected = np.array([0.8, 0.1, 0, 0.1, 0, 0]) * 400
    assert (abs(np.array([counts[p] for p in range(6)]) - expected) < 2).all()


def test_a_patient_of_a_hundredth_of_the_weight_is_visited_a_hundredth_as_often() -> None:
    sampler = Sampler(dataset_of(["a"] * 50), 3, weights=[1.0] * 49 + [0.01])
    counts = Counter(visited(sampler, range(50 * 400)))
    assert abs(counts[49] - 50 * 400 * 0.01 / 49.01) < 1
    assert max(counts.values()) - min(counts[p] for p in range(49)) <= 2


def test_the_visits_of_a_heavy_patient_are_spread_over_a_pass() -> None:
    sampler = Sampler(dataset_of(["a"] * 100), 0, weights=[100.0] + [1.0] * 99)
    places = [v for v in range(100) if planned(sampler, v).patient == 0]
    assert len(places) in (50, 51)
    assert max(np.diff(places)) < 15 and places[0] < 10 and places[-1] > 90

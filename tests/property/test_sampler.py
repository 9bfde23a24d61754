"""Who is visited when: passes, ranks, labels, slides and stand-ins."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pydmed_dali.dataset import Dataset, Patient, Record
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.sampler import Sampler

label_lists = st.lists(st.sampled_from("abc"), min_size=1, max_size=20)


def dataset_of(labels: list[str], slides: int = 1) -> Dataset:
    return Dataset(
        tuple(
            Patient(
                f"{n:03}",
                tuple(Record(Path("/s"), Path(f"{n}-{s}.svs")) for s in range(slides)),  # type: ignore[arg-type]
                label,
            )
            for n, label in enumerate(labels)
        )
    )


def planned(sampler: Sampler, visit: int) -> Candidate:
    return next(sampler.candidates(visit))


@given(label_lists, st.integers(0, 2**63 - 1), st.integers(1, 4))
def test_every_patient_comes_once_before_any_comes_twice(
    labels: list[str], seed: int, world_size: int
) -> None:
    sampler = Sampler(dataset_of(labels), seed, 0, world_size)
    for number in range(3):
        visits = range(number * len(labels), (number + 1) * len(labels))
        assert sorted(planned(sampler, v).patient for v in visits) == list(range(len(labels)))


@given(label_lists, st.integers(0, 1000), st.integers(2, 4))
def test_every_rank_gets_its_share_of_every_label(
    labels: list[str], seed: int, world_size: int
) -> None:
    sampler = Sampler(dataset_of(labels), seed, 0, world_size)
    for number in range(4):
        visits = range(number * len(labels), (number + 1) * len(labels))
        for label in set(labels):
            own = [
                sum(
                    labels[planned(sampler, v).patient] == label
                    for v in visits
                    if v % world_size == rank
                )
                for rank in range(world_size)
            ]
            assert max(own) - min(own) <= 1


@given(label_lists, st.integers(0, 2**63 - 1), st.integers(1, 3))
def test_balanced_labels_come_equally_often_and_their_patients_in_turn(
    labels: list[str], seed: int, world_size: int
) -> None:
    sampler = Sampler(dataset_of(labels), seed, 0, world_size, "label")
    length, kinds = sampler.visits_per_pass, sorted(set(labels))
    assert length == len(kinds) * -(-len(labels) // len(kinds))
    met: Counter[int] = Counter()
    for number in range(4):
        chosen = [planned(sampler, number * length + v) for v in range(length)]
        shares = Counter(labels[c.patient] for c in chosen)
        assert set(shares.values()) == {length // len(kinds)} and sorted(shares) == kinds
        for rank in range(world_size):
            ours = chosen[(rank - number * length) % world_size :: world_size]
            own = Counter(labels[c.patient] for c in ours)
            assert all(abs(own[k] - shares[k] / world_size) < 1 for k in kinds)
        met.update(c.patient for c in chosen)
        for kind in kinds:
            counts = [met[p] for p, label in enumerate(labels) if label == kind]
            assert max(counts) - min(counts) <= 1


def test_orders_differ_between_seeds_and_between_passes() -> None:
    def order(seed: int, number: int) -> list[int]:
        sampler = Sampler(dataset_of(["a"] * 30), seed)
        return [planned(sampler, number * 30 + v).patient for v in range(30)]

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert all(one != other for one, other in pairwise([*orders, orders[0]]))


@given(st.integers(1, 5), st.integers(0, 1000))
def test_the_slides_of_a_patient_take_turns(slides: int, seed: int) -> None:
    sampler = Sampler(dataset_of(["a", "b"], slides), seed)
    chosen = [planned(sampler, visit) for visit in range(2 * slides * 3)]
    for turn in range(3):
        seen = Counter(c.slide for c in chosen if c.turn == turn)
        assert seen == {slide: 1 for slide in range(2 * slides)}


@given(label_lists, st.integers(0, 100), st.integers(1, 3))
def test_stand_ins_are_of_the_same_label_and_reach_every_slide_of_it(
    labels: list[str], visit: int, slides: int
) -> None:
    candidates = list(Sampler(dataset_of(labels, slides), 0).candidates(visit))
    label = labels[candidates[0].patient]
    assert {labels[c.patient] for c in candidates} == {label}
    assert len({c.slide for c in candidates}) == labels.count(label) * slides
    assert [c.attempt for c in candidates] == list(range(len(candidates)))
    assert candidates[1].slide == candidates[0].slide
    own = [c.patient == candidates[0].patient for c in candidates]
    assert own == sorted(own, reverse=True), "the patient's own slides come first"

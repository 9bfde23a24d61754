"""Whom to visit: which patient, which of its slides, and who stands in where one cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.dataset import Dataset
from pydmed_dali.plan.random import Stream, permutation

Integers = NDArray[np.int64]


class Candidate(NamedTuple):
    """One way to fill a chunk of the plan."""

    patient: int
    """Position in `Dataset.patients`."""
    slide: int
    """Position in `Dataset.slides`."""
    turn: int
    """How often the plan visited this slide before: walks over its area."""
    attempt: int
    """0 for the plan itself; above, the location is drawn anew for every attempt."""
    class_number: int = -1
    """The class of annotation that crops are drawn from, 0 for the rest; -1 for any place."""


class Sampler:
    """Which patient and slide each visit takes, as a pure function of the seed and the visit.

    A *pass* visits every patient once; with `balance="label"` it visits every label equally often,
    and has as many visits as that needs, at least one for each patient of the whole dataset on
    average. Its visits are dealt to the ranks so that each rank gets its share of every label, to
    within one visit per label; no two ranks get the same visit, and each rank has an order of its
    own. Within a label every patient comes once before any comes twice, in a random order that is
    new each time, and so do the slides of a patient, over its visits.

    Visits are numbered over all ranks: rank r of W makes the visits r, W + r, 2W + r, ...
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        balance: str = "patient",
    ) -> None:
        self._first_slide = dataset.first_slide
        self._slide_counts = [len(patient.records) for patient in dataset.patients]
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._strata = _strata(dataset.label_numbers)
        self._stratum_of = {int(p): s for s, members in enumerate(self._strata) for p in members}
        self._quotas = _quotas(self._strata, balance)
        self._pass_order = lru_cache(maxsize=4)(self._deal_pass)

    @property
    def visits_per_pass(self) -> int:
        """Visits of one pass over all ranks."""
        return sum(self._quotas)

    def candidates(self, visit: int) -> Iterator[Candidate]:
        """The plan's own choice first, then who stands in, nearest first.

        The order: the planned slide at another location, the patient's other slides, then the other
        patients of the same label in a random order. Whether one is needed depends on the disk, so
        the source records how far it had to go.
        """
        patient, number = self._patient(visit)
        slide, turn = self._slide(patient, number)
        yield Candidate(patient, slide, turn, 0)
        yield Candidate(patient, slide, turn, 1)
        attempt = 2
        for other in self._slides_of(patient):
            if other != slide:
                yield Candidate(patient, other, turn, attempt)
                attempt += 1
        members = self._strata[self._stratum_of[patient]]
        order = permutation(len(members), self._seed, Stream.SUBSTITUTES, visit)
        for stand_in in members[order].tolist():
            if stand_in != patient:
                for other in self._slides_of(stand_in):
                    yield Candidate(stand_in, other, turn, attempt)
                    attempt += 1

    def _patient(self, visit: int) -> tuple[int, int]:
        """(patient, how often it was visited before) of a visit."""
        number, position = divmod(visit, self.visits_per_pass)
        patient, earlier = self._pass_order(number)[position]
        return int(patient), int(earlier)

    def _slide(self, patient: int, number: int) -> tuple[int, int]:
        """(slide, how often it was visited before) at a patient's visit `number`."""
        count = self._slide_counts[patient]
        turn, position = divmod(number, count)
        order = permutation(count, self._seed, Stream.SLIDES, patient, turn)
        return self._first_slide[patient] + int(order[position]), turn

    def _slides_of(self, patient: int) -> range:
        first = self._first_slide[patient]
        return range(first, first + self._slide_counts[patient])

    def _deal_pass(self, number: int) -> Integers:
        """(visits, 2): the patients of a pass in the order of its visits, and how often each was
        visited before.
        """
        first = number * self.visits_per_pass
        strata = permutation(len(self._strata), self._seed, Stream.STRATA, number)
        # Stratum after stratum, so that dealing them out shares each.
        ordered = np.concatenate([self._members(int(s), number) for s in strata])
        ranks = (first + np.arange(len(ordered))) % self._world_size
        dealt = np.empty_like(ordered)
        for rank in range(self._world_size):
            (own,) = np.nonzero(ranks == rank)
            key = (self._seed, Stream.DEALING, number, rank)
            dealt[own] = ordered[own][permutation(len(own), *key)]
        return dealt

    def _members(self, stratum: int, number: int) -> Integers:
        """(quota, 2): whom a stratum sends into a pass, and how often each was visited before.

        Its patients stand in a queue, in which each stands once before any stands twice; every pass
        takes the next ones.
        """
        members, quota = self._strata[stratum], self._quotas[stratum]
        places = number * quota + np.arange(quota, dtype=np.int64)
        rounds, position = np.divmod(places, len(members))
        patients = np.empty_like(places)
        for lap in np.unique(rounds):
            order = permutation(len(members), self._seed, Stream.PATIENTS, stratum, int(lap))
            patients[rounds == lap] = members[order[position[rounds == lap]]]
        return np.stack([patients, rounds], axis=1)


def _strata(label_numbers: Sequence[int]) -> list[Integers]:
    labels = np.asarray(label_numbers, np.int64)
    return [np.nonzero(labels == label)[0] for label in np.unique(labels)]


def _quotas(strata: Sequence[Integers], balance: str) -> list[int]:
    """Visits of each stratum in a pass."""
    sizes = [len(members) for members in strata]
    if balance == "label":
        return [-(-sum(sizes) // len(sizes))] * len(sizes)
    return sizes

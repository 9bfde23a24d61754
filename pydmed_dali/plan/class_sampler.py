"""Which class of annotation each visit is for, and whom it visits for it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.dataset import Dataset
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.random import Stream, mix
from pydmed_dali.plan.sampler import Sampler
from pydmed_dali.plan.saved_values import mapping

Integers = NDArray[np.int64]

PERIOD = 10_000
"""Visits after which the classes come again in the same order, at most: shares are rounded to
parts of it."""


class ClassSchedule:
    """The class of each visit: after n visits each class came its share of n times, within 1.

    By R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980) 323-330: of
    the classes that are furthest behind, the one that must come first. It keeps each within
    1 - 1/(2k - 2) visits of its share, for k classes, after any number of visits.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        """Shares of the classes 0, 1, ..., that sum to 1; 0 for one that never comes."""
        quotas = _quotas(shares)
        self._order = _order(quotas)
        came = self._order[:, None] == np.arange(len(shares))
        self._before = np.concatenate([np.zeros((1, len(shares)), np.int64), came.cumsum(axis=0)])

    def at(self, visit: int) -> tuple[int, int]:
        """(class of a visit, how many visits before it were of that class)."""
        place = visit % len(self._order)
        number = int(self._order[place])
        return number, self.before(visit, number)

    def before(self, visit: int, number: int) -> int:
        """How many visits before `visit` are of a class."""
        period, place = divmod(visit, len(self._order))
        return period * int(self._before[-1, number]) + int(self._before[place, number])


class ClassSampler:
    """Which class, patient and slide each visit takes, as a pure function of seed and visit.

    Every rank goes through the same rota of classes, so each gets its share of each. The visits of
    one class are those of a `Sampler` over the patients and slides that have the class: there every
    patient comes once before any comes twice, and so on. So a class has its share, however few
    slides have it, and a patient comes as often as its classes have it come. Stand-ins are for the
    same class.
    """

    def __init__(
        self,
        dataset: Dataset,
        shares: Sequence[float],
        slides: Sequence[Collection[int]],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        balance: str = "patient",
        weights: Sequence[float] | None = None,
    ) -> None:
        """`slides` has for each class the positions, in `Dataset.slides`, of those that have it;
        `weights` are those of the patients, which count within each class.
        """
        self._world_size = world_size
        self._rota = ClassSchedule(shares)
        self.visits_per_pass = Sampler(dataset, seed, rank, world_size, balance).visits_per_pass
        """Visits of one pass over all ranks: as many as without classes."""
        self._parts = {
            number: _Part.of(
                dataset, slides[number], _seed_of(seed, number), rank, world_size, balance
            )
            for number, share in enumerate(shares)
            if share
        }
        if weights is not None:
            self.set_weights(0, weights)

    def set_weights(self, visit: int, weights: Sequence[float]) -> None:
        """As `Sampler.set_weights`; `visit` is a multiple of the world's size."""
        of_patients = np.asarray(weights, np.float64)
        for number, part in self._parts.items():
            first, _ = self._visits_before(number, visit)
            part.sampler.set_weights(first, of_patients[part.patients].tolist())

    def forget_weights(self, visit: int) -> None:
        """As `Sampler.forget_weights`."""
        for number, part in self._parts.items():
            part.sampler.forget_weights(self._visits_before(number, visit)[0])

    def weights_state(self, visit: int) -> dict[str, Any] | None:
        """As `Sampler.weights_state`, by the number of the class."""
        states = {
            str(number): part.sampler.weights_state(sum(self._visits_before(number, visit)))
            for number, part in self._parts.items()
        }
        return states if any(states.values()) else None

    def restore_weights(self, state: Mapping[str, Any] | None, visit: int | None = None) -> None:
        """As `Sampler.restore_weights`."""
        found = {} if state is None else mapping(state, "weights")
        read = {
            number: part.sampler.read_weights(
                found.get(str(number)),
                None if visit is None else sum(self._visits_before(number, visit)),
            )
            for number, part in self._parts.items()
        }
        for number, quotas in read.items():
            self._parts[number].sampler.take_weights(quotas)

    def _visits_before(self, number: int, visit: int) -> tuple[int, int]:
        """(the class's first visit, over all ranks, that is not before `visit`, this rank)."""
        own, rank = divmod(visit, self._world_size)
        return self._rota.before(own, number) * self._world_size, rank

    def candidates(self, visit: int) -> Iterator[Candidate]:
        """The plan's own choice first, then who stands in; see `Sampler.candidates`."""
        own, rank = divmod(visit, self._world_size)
        number, earlier = self._rota.at(own)
        part = self._parts[number]
        for found in part.sampler.candidates(earlier * self._world_size + rank):
            yield found._replace(
                patient=int(part.patients[found.patient]),
                slide=int(part.slides[found.slide]),
                class_number=number,
            )


class _Part(NamedTuple):
    """The patients and slides of one class, and their sampler."""

    sampler: Sampler
    patients: Integers
    """Positions in the whole dataset of the part's patients."""
    slides: Integers
    """The same of its slides."""

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        slides: Collection[int],
        seed: int,
        rank: int,
        world_size: int,
        balance: str,
    ) -> _Part:
        chosen, patients, kept = set(slides), [], []
        for number, (patient, first) in enumerate(
            zip(dataset.patients, dataset.first_slide, strict=True)
        ):
            own = [n for n in range(len(patient.records)) if first + n in chosen]
            if own:
                records = tuple(patient.records[n] for n in own)
                patients.append((number, replace(patient, records=records)))
                kept += [first + n for n in own]
        part = replace(dataset, patients=tuple(patient for _, patient in patients))
        numbers = np.array([number for number, _ in patients], np.int64)
        sampler = Sampler(part, seed, rank, world_size, balance)
        return cls(sampler, numbers, np.array(kept, np.int64))


def _seed_of(seed: int, number: int) -> int:
    """Classes have orders of their own."""
    return int(mix(seed, Stream.CLASSES, number)[0] >> np.uint64(1))


def _quotas(shares: Sequence[float]) -> list[int]:
    """Visits of each class in a period: the largest remainders are rounded up."""
    exact = np.asarray(shares, np.float64) * (PERIOD / math.fsum(shares))
    quotas = np.floor(exact + 1e-6).astype(np.int64)
    short = PERIOD - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:short]] += 1
    return [int(quota) for quota in quotas // math.gcd(*quotas.tolist())]


def _order(quotas: Sequence[int]) -> Integers:
    """The classes of a period, in Tijdeman's order; in whole numbers, so that it is exact."""
    period = sum(quotas)
    slack = max(2 * sum(quota > 0 for quota in quotas) - 2, 1)
    came = [0] * len(quotas)
    order = []
    for visit in range(1, period + 1):
        behind = [
            slack * (quota * visit - period * n) for quota, n in zip(quotas, came, strict=True)
        ]
        due = [n for n, late in enumerate(behind) if quotas[n] and late >= period]
        # When the class must come at the latest, up to what is the same for all.
        chosen = min(due, key=lambda n: ((slack - 1) * period - behind[n]) / quotas[n])
        came[chosen] += 1
        order.append(chosen)
    return np.array(order, np.int64)

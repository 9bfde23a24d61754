"""Whom to visit: which patient, which of its slides, and who stands in where one cannot be read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.dataset import Dataset
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.quotas import Group, PassState, Quotas, next_numbers
from pydmed_dali.plan.random import Stream, permutation
from pydmed_dali.plan.saved_values import damaged, items, numbers, part, whole
from pydmed_dali.plan.weights import tissue_areas

Integers = NDArray[np.int64]

_KEPT_PASSES = 4


class Sampler:
    """Which patient and slide each visit takes, as a pure function of the seed and the visit.

    A *unit* is a patient, or with `balance="slide"` and `"tissue"` a slide. A *pass* visits every
    unit once; with `balance="label"` it visits every label equally often, and has as many visits as
    that needs, at least one for each patient of the whole dataset on average. Its visits are dealt
    to the ranks so that each rank gets its share of every label, to within one visit per label; no
    two ranks get the same visit, and each rank has an order of its own. Within a label every unit
    comes once before any comes twice, in a random order that is new each time, and so do the slides
    of a patient, over its visits.

    With weights, and with `balance="tissue"`, where a slide's weight is the area of its tissue, a
    pass is as long, but its visits are shared by weight (within each label, with
    `balance="label"`); see `Quotas`. Where units are patients, their slides take turns.

    Visits are numbered over all ranks: rank r of W makes the visits r, W + r, 2W + r, ...
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        balance: str = "patient",
        weights: Sequence[float] | None = None,
    ) -> None:
        """`weights`: a positive number for each patient; None for equal ones."""
        self._first_slide = dataset.first_slide
        self._slide_counts = [len(patient.records) for patient in dataset.patients]
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._patient_strata = _strata(dataset.label_numbers)
        self._stratum_of = {
            int(p): s for s, members in enumerate(self._patient_strata) for p in members
        }
        self._by_slide = balance in ("slide", "tissue")
        self._patient_of = np.arange(len(dataset.patients), dtype=np.int64)
        if self._by_slide:
            self._patient_of = np.repeat(self._patient_of, self._slide_counts)
        labels = np.asarray(dataset.label_numbers, np.int64)[self._patient_of]
        self._strata = _strata(labels)
        self._quotas = _quotas(self._strata, balance)
        self._groups = [Group(np.arange(len(labels)), len(labels))]
        if balance == "label":
            self._groups = list(map(Group, self._strata, self._quotas))
        self._orders: dict[int, Integers] = {}  # (lru_cache would hold the sampler in a circle)
        self._areas = np.array(tissue_areas(dataset)) if balance == "tissue" else None
        self._weighted: Quotas | None = None
        if weights is not None or self._areas is not None:
            self.set_weights(0, weights or [1.0] * len(dataset.patients))

    @property
    def visits_per_pass(self) -> int:
        """Visits of one pass over all ranks."""
        return sum(self._quotas)

    def set_weights(self, visit: int, weights: Sequence[float]) -> None:
        """Share the visits from `visit` on by these weights, one for each patient.

        Call it before any visit >= `visit` is requested, and in increasing order of `visit`.
        """
        of_units = np.asarray(weights, np.float64)[self._patient_of]
        if self._areas is not None:
            of_units = of_units * self._areas
        if self._weighted is None:
            self._weighted = self._quotas_from(self._account(visit, of_units))
        elif visit == self._weighted.begin:
            self._weighted = self._quotas_from(replace(self._weighted.base, weights=of_units))
        else:
            self._weighted.changes[visit] = of_units

    def forget_weights(self, visit: int) -> None:
        """Forget of weights what no visit from this one on needs."""
        if self._weighted is not None:
            self._weighted.forget_before(visit)

    def weights_state(self, visit: int) -> dict[str, Any] | None:
        """What a run that goes on with `visit` must know of weights, in plain values."""
        if self._weighted is None:
            return None
        changes = {self._weighted.begin: self._weighted.base.weights, **self._weighted.changes}
        account = self._weighted.account(visit) if visit >= self._weighted.begin else None
        first = -1 if account is None else account.first
        return {
            "account": None if account is None else account.to_dict(),
            "changes": [[v, new.tolist()] for v, new in changes.items() if v > first],
        }

    def restore_weights(self, state: Mapping[str, Any] | None, visit: int | None = None) -> None:
        """Take over what `weights_state` gave, before any visit is asked for.

        Raises `StateError`, and changes nothing, for what it did not give, or not for `visit`.
        """
        self.take_weights(self.read_weights(state, visit))

    def read_weights(self, state: object, visit: int | None) -> Quotas | None:
        """What `take_weights` takes, of what `weights_state` gave. Raises `StateError`."""
        if state is None:
            return None
        units = len(self._patient_of)
        changes: dict[int, NDArray[np.float64]] = {}
        for change in items(part(state, "changes", "weights"), "changes of weights"):
            if len(items(change, "a change of weights")) != 2:
                raise damaged("a change of weights", "a visit and its weights", change)
            changed = whole(change[0], "the visit of a change of weights")
            changes[changed] = self._read_shares(change[1])
        saved = part(state, "account", "weights")
        if saved is not None:
            account = PassState.from_dict(saved, units, self.visits_per_pass)
            self._read_shares(account.weights.tolist())
            if visit is not None and not 0 <= visit - account.first < self.visits_per_pass:
                raise damaged("the account of weights", f"of the pass of visit {visit}", saved)
        elif changes and (visit is None or min(changes) > visit):
            first = min(changes)
            account = self._account(first, changes.pop(first))
        else:
            raise damaged("weights", "an account or changes", state)
        if any(visit <= account.first for visit in changes):
            raise damaged("a change of weights", f"after visit {account.first}", sorted(changes))
        quotas = self._quotas_from(account)
        quotas.changes.update(dict(sorted(changes.items())))
        return quotas

    def take_weights(self, quotas: Quotas | None) -> None:
        """Go on with what `read_weights` gave."""
        if quotas is not None:
            self._weighted = quotas

    def _read_shares(self, value: object) -> NDArray[np.float64]:
        """Weights of the units, of which each group has some. Raises `StateError`."""
        found = numbers(value, "weights", len(self._patient_of), 0.0, sys.float_info.max)
        if not all(0 < math.fsum(found[group.members]) < math.inf for group in self._groups):
            raise damaged("weights", "above 0 for some of each label", value)
        return found

    def _quotas_from(self, account: PassState) -> Quotas:
        return Quotas(account, self._groups, self._strata, self._seed, self._world_size)

    def _account(self, visit: int, weights: NDArray[np.float64]) -> PassState:
        """Of a plan that has no weights before `visit`, and these from there on."""
        number, position = divmod(visit, self.visits_per_pass)
        visits = np.zeros(len(self._patient_of), np.int64)
        for stratum, members in enumerate(self._strata):
            lap, place = divmod(number * self._quotas[stratum], len(members))
            visits[members] = lap
            visits[members[self._queue(stratum, lap)[:place]]] += 1
        made = self._pass_order(number)[:position]
        counts = visits + np.bincount(made[:, 0], minlength=len(visits))
        owed = np.zeros(len(visits))
        for group in self._groups:
            owed[group.members] = counts[group.members].mean() - counts[group.members]
        return PassState(number + bool(visit), visit, weights, owed, next_numbers(visits, made))

    def candidates(self, visit: int) -> Iterator[Candidate]:
        """The plan's own choice first, then who stands in, nearest first.

        The order: the planned slide at another location, the patient's other slides, then the other
        patients of the same label in a random order. Whether one is needed depends on the disk, so
        the source records how far it had to go.
        """
        unit, number = self._unit(visit)
        patient = int(self._patient_of[unit])
        slide, turn = (unit, number) if self._by_slide else self._slide(patient, number)
        yield Candidate(patient, slide, turn, 0)
        yield Candidate(patient, slide, turn, 1)
        attempt = 2
        for other in self._slides_of(patient):
            if other != slide:
                yield Candidate(patient, other, turn, attempt)
                attempt += 1
        members = self._patient_strata[self._stratum_of[patient]]
        order = permutation(len(members), self._seed, Stream.SUBSTITUTES, visit)
        for stand_in in members[order].tolist():
            if stand_in != patient:
                for other in self._slides_of(stand_in):
                    yield Candidate(stand_in, other, turn, attempt)
                    attempt += 1

    def _unit(self, visit: int) -> tuple[int, int]:
        """(unit, how often it was visited before) of a visit."""
        if self._weighted is not None and visit >= self._weighted.begin:
            return self._weighted.at(visit)
        number, position = divmod(visit, self.visits_per_pass)
        unit, earlier = self._pass_order(number)[position]
        return int(unit), int(earlier)

    def _slide(self, patient: int, number: int) -> tuple[int, int]:
        """(slide, how often it was visited before) at a patient's visit `number`."""
        count = self._slide_counts[patient]
        turn, position = divmod(number, count)
        order = permutation(count, self._seed, Stream.SLIDES, patient, turn)
        return self._first_slide[patient] + int(order[position]), turn

    def _slides_of(self, patient: int) -> range:
        first = self._first_slide[patient]
        return range(first, first + self._slide_counts[patient])

    def _pass_order(self, number: int) -> Integers:
        """See `_deal_pass`; the latest are kept."""
        if number not in self._orders:
            while len(self._orders) >= _KEPT_PASSES:
                del self._orders[next(iter(self._orders))]
            self._orders[number] = self._deal_pass(number)
        return self._orders[number]

    def _deal_pass(self, number: int) -> Integers:
        """(visits, 2): the units of a pass in the order of its visits, and how often each was
        visited before. Without weights.
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

        Its units stand in a queue, in which each stands once before any stands twice; every pass
        takes the next ones.
        """
        members, quota = self._strata[stratum], self._quotas[stratum]
        places = number * quota + np.arange(quota, dtype=np.int64)
        rounds, position = np.divmod(places, len(members))
        units = np.empty_like(places)
        for lap in np.unique(rounds):
            order = self._queue(stratum, int(lap))
            units[rounds == lap] = members[order[position[rounds == lap]]]
        return np.stack([units, rounds], axis=1)

    def _queue(self, stratum: int, lap: int) -> Integers:
        """The order in which a stratum's members stand in the queue for the time number `lap`."""
        length = len(self._strata[stratum])
        return permutation(length, self._seed, Stream.PATIENTS, stratum, lap)


def _strata(label_numbers: Sequence[int] | Integers) -> list[Integers]:
    labels = np.asarray(label_numbers, np.int64)
    return [np.nonzero(labels == label)[0] for label in np.unique(labels)]


def _quotas(strata: Sequence[Integers], balance: str) -> list[int]:
    """Visits of each stratum in a pass."""
    sizes = [len(members) for members in strata]
    if balance == "label":
        return [-(-sum(sizes) // len(sizes))] * len(sizes)
    return sizes

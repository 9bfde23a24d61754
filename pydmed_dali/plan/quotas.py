"""Quotas: how often a pass visits each unit, a patient or a slide, when they have weights.

A unit's share of the visits follows its weight. Counts are whole, so what a unit is owed is carried
from pass to pass.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pydmed_dali.errors import StateError
from pydmed_dali.plan.random import Stream, mix, permutation, uniform
from pydmed_dali.plan.saved_values import LARGEST, numbers, part, whole

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_KEPT_VISITS = 20_000
"""Of one rank: passes are forgotten when the plan is so far ahead; no state asks for them."""


class Group(NamedTuple):
    """Units that share a fixed number of a pass's visits."""

    members: Integers
    visits: int


@dataclass(frozen=True, slots=True, eq=False)
class PassState:
    """Where the plan stands when a pass begins. Arrays have an element for each unit."""

    number: int
    """Passes before this one: gives each its own random order."""
    first: int
    """The pass's first visit, over all ranks."""
    weights: Floats
    """By which its visits are shared; units of weight 0 have none."""
    owed: Floats
    """Visits that a unit should have had by its shares until now, less those that it had."""
    numbers: Integers
    """The number of its next visit: above those that it had."""

    def to_dict(self) -> dict[str, Any]:
        """The same in plain values, for a saved state."""
        return {
            "number": self.number,
            "first": self.first,
            "weights": self.weights.tolist(),
            "owed": self.owed.tolist(),
            "numbers": self.numbers.tolist(),
        }

    @classmethod
    def from_dict(cls, values: object, units: int, visits: int) -> PassState:
        """What `to_dict` gave, of so many units and visits in a pass; raises `StateError`."""

        def found(name: str, least: float, most: float) -> Floats:
            return numbers(part(values, name, "weights"), f"weights: {name}", units, least, most)

        most_owed = 10.0 * (visits + 1)
        return cls(
            whole(part(values, "number", "weights"), "weights: number"),
            whole(part(values, "first", "weights"), "weights: first"),
            found("weights", 0.0, sys.float_info.max),
            found("owed", -most_owed, most_owed),
            found("numbers", 0, LARGEST).astype(np.int64),
        )


class Quotas:
    """The passes from an account on, as a pure function of it, the seed and the changes of weights.

    A pass gives each unit the whole number of visits below or above what it is owed by then: those
    visits that are due first are chosen, as the quota method of apportionment does (M. L. Balinski
    and H. P. Young, "The quota method of apportionment", American Mathematical Monthly 82, 1975),
    and ties are drawn. So with constant weights every unit is within one visit of its share at the
    end of every pass, and none is ever left out for good. A change of weights ends the pass under
    way; what units are owed then is carried on.

    Within a pass the order is random, the visits of one unit being spread over it.
    """

    def __init__(
        self,
        account: PassState,
        groups: Sequence[Group],
        strata: Sequence[Integers],
        seed: int,
        world_size: int,
    ) -> None:
        """`groups` and `strata` part the units: those share visits, these are dealt to the ranks so
        that each gets its share.
        """
        self.begin = account.first
        """The first visit."""
        self.base = account
        """From which on the passes follow: at first that of `begin`."""
        self.changes: dict[int, Floats] = {}
        """New weights of all units, by the visit from which on they count, in that order."""
        self._groups, self._strata = groups, strata
        self._seed, self._world_size = seed, world_size
        self._length = sum(group.visits for group in groups)
        self._go_back()

    def at(self, visit: int) -> tuple[int, int]:
        """(unit, how often it was visited before) of a visit."""
        if visit < self._accounts[0].first:  # a finite run begins again
            self._go_back()
        while visit >= (end := self._end(self._accounts[-1])):
            self._accounts.append(self._closed(self._accounts[-1], self._orders[-1], end))
            self._orders.append(self._order(self._accounts[-1]))
            self.forget_before(visit - _KEPT_VISITS * self._world_size)
        place = self._place(visit)
        unit, earlier = self._orders[place][visit - self._accounts[place].first]
        return int(unit), int(earlier)

    def account(self, visit: int) -> PassState:
        """Of the pass that a visit belongs to. Raises `StateError` for one that is forgotten."""
        if visit < self._accounts[0].first:
            raise StateError(
                f"a state from visit {visit} on was asked for, but of the weights what was before "
                f"visit {self._accounts[0].first} is forgotten; take the state of a later batch"
            )
        return self._accounts[self._place(visit)]

    def forget_before(self, visit: int) -> None:
        """Forget the passes, and the changes of weights, that no visit from this one on needs."""
        while len(self._accounts) > 1 and self._accounts[1].first <= visit:
            del self._accounts[0], self._orders[0]
        first = self._accounts[0].first
        past = [change for change in self.changes if change <= first]
        for change in past:
            del self.changes[change]
        if past:
            self.base = self._accounts[0]

    def _go_back(self) -> None:
        self._accounts = [self.base]
        self._orders = [self._order(self.base)]

    def _place(self, visit: int) -> int:
        """Where the pass of a visit is among those that are kept."""
        return bisect_right(self._accounts, visit, key=lambda account: account.first) - 1

    def _end(self, account: PassState) -> int:
        """The visit with which the next pass begins."""
        later = [visit for visit in self.changes if visit > account.first]
        return min([account.first + self._length, *later])

    def _closed(self, account: PassState, order: Integers, end: int) -> PassState:
        """The account behind the visits of a pass up to `end`."""
        made = order[: end - account.first]
        counts = np.bincount(made[:, 0], minlength=len(account.owed)).astype(np.int64)
        by_group = [int(counts[group.members].sum()) for group in self._groups]
        return PassState(
            account.number + 1,
            end,
            self.changes.get(end, account.weights),
            account.owed + self._due(account.weights, by_group) - counts,
            next_numbers(account.numbers, made),
        )

    def _due(self, weights: Floats, visits: Sequence[int]) -> Floats:
        """What each unit should have of so many visits of each group."""
        due = np.zeros(len(weights))
        for group, count in zip(self._groups, visits, strict=True):
            own = weights[group.members]
            # fsum, because numpy's sum may differ in the last bit between machines.
            due[group.members] = count * own / math.fsum(own)
        return due

    def _order(self, account: PassState) -> Integers:
        """(visits, 2): the units of a pass in the order of its visits, and how often each was
        visited before.
        """
        counts = self._counts(account)
        strata = permutation(len(self._strata), self._seed, Stream.STRATA, account.number)
        ordered = np.concatenate([self._shuffled(int(s), account.number) for s in strata])
        units = np.repeat(ordered, counts[ordered])
        copies = _numbered(counts[ordered])
        pairs = np.stack([units, account.numbers[units] + copies], axis=1)
        drawn = uniform(self._seed, Stream.DEALING, account.number, pairs[:, 0], pairs[:, 1])
        spread = (copies + drawn) / counts[units]
        ranks = (account.first + np.arange(len(pairs))) % self._world_size
        dealt = np.empty_like(pairs)
        for rank in range(self._world_size):
            (own,) = np.nonzero(ranks == rank)
            dealt[own] = pairs[own][np.argsort(spread[own], kind="stable")]
        return dealt

    def _shuffled(self, stratum: int, number: int) -> Integers:
        members = self._strata[stratum]
        order = permutation(len(members), self._seed, Stream.PATIENTS, stratum, number)
        return np.asarray(members[order])

    def _counts(self, account: PassState) -> Integers:
        """Visits of each unit in the pass: those due first."""
        due = self._due(account.weights, [group.visits for group in self._groups])
        counts = np.zeros(len(due), np.int64)
        for group in self._groups:
            members = group.members[due[group.members] > 0]
            until_end = account.owed[members] + due[members]
            open_visits = np.maximum(np.ceil(until_end), 0).astype(np.int64)
            which = np.repeat(np.arange(len(members)), open_visits)
            # When a unit will be owed one more, in passes from this one's end.
            deadline = (_numbered(open_visits) + 1 - until_end[which]) / due[members][which]
            chance = mix(self._seed, Stream.QUOTAS, account.number, members[which])
            chosen = np.lexsort((chance, deadline))[: group.visits]
            counts += np.bincount(members[which[chosen]], minlength=len(counts))
        return counts


def next_numbers(numbers: Integers, made: Integers) -> Integers:
    """The numbers of the units' next visits, behind `made`, (visits, 2): units and numbers."""
    numbers = numbers.copy()
    np.maximum.at(numbers, made[:, 0], made[:, 1] + 1)
    return numbers


def _numbered(counts: Integers) -> Integers:
    """0, 1, ..., count-1 for each count, one after the other."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)

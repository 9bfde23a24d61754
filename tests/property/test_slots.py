"""The ring's slots against a model: no chunk is lost, none is overwritten while it may be read."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pydmed_dali.errors import PydmedError
from pydmed_dali.ring.slots import Slots


class SlotMachine(RuleBasedStateMachine):
    """Claims, publishes and retires in any legal order; the model is a dict of chunks."""

    @initialize(size=st.integers(1, 7), begin=st.integers(0, 50))
    def make(self, size: int, begin: int) -> None:
        self.slots = Slots(size)
        self.slots.start_at(begin)
        self.size = size
        self.oldest = self.next = begin
        self.loading: set[int] = set()
        self.ready: set[int] = set()

    @precondition(lambda self: self.slots.can_claim())
    @rule()
    def claim(self) -> None:
        chunk, slot = self.slots.claim()
        assert (chunk, slot) == (self.next, self.next % self.size)
        self.loading.add(chunk)
        self.next += 1

    @precondition(lambda self: self.loading)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        chunk = data.draw(st.sampled_from(sorted(self.loading)))
        self.slots.publish(chunk)
        self.loading.remove(chunk)
        self.ready.add(chunk)

    @rule(further=st.integers(0, 10))
    def retire(self, further: int) -> None:
        oldest = self.oldest + further
        waits = any(chunk < oldest for chunk in self.loading)
        assert self.slots.is_loading_below(oldest) == waits
        if waits:
            return
        self.slots.retire(oldest)
        self.oldest, self.next = oldest, max(self.next, oldest)
        self.ready = {chunk for chunk in self.ready if chunk >= oldest}

    @invariant()
    def agrees_with_the_model(self) -> None:
        live = self.loading | self.ready
        assert len({chunk % self.size for chunk in live}) == len(live) <= self.size
        assert self.slots.can_claim() == (self.next < self.oldest + self.size)
        for chunk in range(max(self.oldest - 3, 0), self.next + 3):
            assert self.slots.is_ready(chunk) == (chunk in self.ready)


TestSlots = SlotMachine.TestCase


def test_a_claim_against_the_rule_is_a_defect() -> None:
    slots = Slots(1)
    slots.claim()
    with pytest.raises(PydmedError, match="a defect"):
        slots.claim()


def test_publishing_what_is_not_being_loaded_is_a_defect() -> None:
    with pytest.raises(PydmedError, match="not being loaded"):
        Slots(2).publish(0)


def test_retiring_what_is_being_loaded_is_a_defect() -> None:
    slots = Slots(2)
    slots.claim()
    with pytest.raises(PydmedError, match="retired while"):
        slots.retire(1)

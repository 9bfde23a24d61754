"""The slots' states: which chunk each slot holds, and whether its pixels are complete."""

from __future__ import annotations

from enum import Enum

from pydmed_dali.errors import PydmedError


class SlotState(Enum):
    """FREE -> LOADING -> READY -> FREE. A slot is only ever written while LOADING."""

    FREE = 0
    LOADING = 1
    READY = 2


class Slots:
    """Chunk number g lives in slot g modulo the ring's size: no free list, no eviction policy.

    Used by the parent alone. `retire` is called with the lease rule's answer before `claim`, so
    that no slot is claimed while a batch in flight can still read it; a claim against the rule
    raises.
    """

    def __init__(self, size: int) -> None:
        self._chunk = [-1] * size
        self._state = [SlotState.FREE] * size
        self._oldest = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._state)

    @property
    def next_chunk(self) -> int:
        """The lowest chunk that was never claimed."""
        return self._next

    def start_at(self, chunk: int) -> None:
        """Begin with this chunk, as a resumed run does; only before the first claim."""
        self._oldest = self._next = chunk

    def slot(self, chunk: int) -> int:
        """The slot in which a chunk lives."""
        return chunk % len(self._state)

    def retire(self, oldest: int) -> None:
        """Free the slots of all chunks below `oldest`."""
        for chunk in range(self._oldest, min(oldest, self._next)):
            slot = self.slot(chunk)
            if self._state[slot] is SlotState.LOADING:
                raise PydmedError(f"chunk {chunk} is retired while it is being loaded: a defect")
            self._state[slot] = SlotState.FREE
        self._oldest = max(self._oldest, oldest)
        self._next = max(self._next, self._oldest)

    def is_loading_below(self, oldest: int) -> bool:
        """Whether a chunk below `oldest` is still being loaded, so that `retire` must wait."""
        chunks = range(self._oldest, min(oldest, self._next))
        return any(self._state[self.slot(chunk)] is SlotState.LOADING for chunk in chunks)

    def can_claim(self) -> bool:
        """Whether the slot of `next_chunk` is free."""
        return self._state[self.slot(self._next)] is SlotState.FREE

    def claim(self) -> tuple[int, int]:
        """(chunk, slot) of the next chunk to load; its slot must be free."""
        chunk, slot = self._next, self.slot(self._next)
        if self._state[slot] is not SlotState.FREE:
            raise PydmedError(f"slot {slot} is claimed while {self._state[slot]}: a defect")
        self._chunk[slot], self._state[slot] = chunk, SlotState.LOADING
        self._next += 1
        return chunk, slot

    def publish(self, chunk: int) -> None:
        """The chunk's pixels and its table of crops are complete."""
        slot = self.slot(chunk)
        if self._chunk[slot] != chunk or self._state[slot] is not SlotState.LOADING:
            raise PydmedError(f"chunk {chunk} is published but not being loaded: a defect")
        self._state[slot] = SlotState.READY

    def is_ready(self, chunk: int) -> bool:
        """Whether batches may read the chunk."""
        slot = self.slot(chunk)
        return self._chunk[slot] == chunk and self._state[slot] is SlotState.READY

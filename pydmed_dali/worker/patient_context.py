"""Patient context: one visit of a patient after the other, each with what the last one left behind.

Only for loaders with a `place_chunk` of their own. Read order does not affect results: a visit gets
the state that the patient's visit before it returned, and the messages that the plan gives it.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

from pydmed_dali.plan.saved_values import damaged, items, mapping, part, text, whole

_MOST_KEPT = 10_000  # far more than chunks that a batch still in use can touch


@dataclass(frozen=True, slots=True)
class Message:
    """What a training loop sent to a patient."""

    first_chunk: int
    """It goes to the patient's first chunk from this one on."""
    text: str
    """The message, as JSON."""


@dataclass(frozen=True, slots=True)
class PatientContext:
    """What a visit is told of its patient. Crosses to the worker."""

    state: str | None
    """What the visit before returned, as JSON."""
    messages: tuple[str, ...]
    """The messages for this visit, as JSON."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A visit that was made, kept for saved states."""

    patient: int
    state: str | None
    """Before it."""
    messages: tuple[Message, ...]
    """That it took."""


Patients = tuple[dict[int, str | None], dict[int, list[Message]]]
"""States and messages of patients, by position in the dataset."""


class PatientQueue:
    """States and messages of the patients, by position in the dataset; kept by the parent."""

    def __init__(self) -> None:
        self._states: dict[int, str | None] = {}
        self._messages: dict[int, list[Message]] = defaultdict(list)
        self._queues: dict[int, deque[int]] = {}
        self._done: dict[int, _Done] = {}

    def enter(self, patient: int, chunk: int) -> bool:
        """Whether the patient's turn is this chunk's now; otherwise it waits for `leave`."""
        queue = self._queues.setdefault(patient, deque())
        queue.append(chunk)
        return len(queue) == 1

    def context(self, patient: int, chunk: int) -> PatientContext:
        """What the visit of this chunk, whose turn it is, is told."""
        messages = tuple(message.text for message in self._due(patient, chunk))
        return PatientContext(self._states.get(patient), messages)

    def leave(self, patient: int, state: str | None, followed: bool) -> int | None:
        """The patient's present chunk is loaded; the one whose turn it is now, or None.

        `followed` is False where another place or slide stood in, of which the loader was not
        asked: then state and messages wait for the next visit.
        """
        queue = self._queues[patient]
        chunk = queue.popleft()
        taken = self._due(patient, chunk) if followed else ()
        self._done[chunk] = _Done(patient, self._states.get(patient), taken)
        if len(self._done) > _MOST_KEPT:
            del self._done[next(iter(self._done))]
        if followed:
            self._states[patient] = state
            self._messages[patient] = self._messages[patient][len(taken) :]
        if not queue:
            del self._queues[patient]
            return None
        return queue[0]

    def send(self, patient: int, message: Message) -> None:
        """Keep a message for the patient; its first chunk is not begun yet."""
        self._messages[patient].append(message)
        self._messages[patient].sort(key=lambda kept: kept.first_chunk)

    def waiting(self, patient: int) -> int:
        """Characters of the messages that wait for the patient."""
        return sum(len(message.text) for message in self._messages[patient])

    def state(self, first: int) -> dict[str, Any]:
        """What a run that goes on with chunk `first` must know, in plain values."""
        states, messages = dict(self._states), {p: list(m) for p, m in self._messages.items()}
        for chunk in sorted((c for c in self._done if c >= first), reverse=True):
            done = self._done[chunk]
            states[done.patient] = done.state
            messages[done.patient] = [*done.messages, *messages.get(done.patient, [])]
        return {
            "states": {str(p): state for p, state in states.items() if state is not None},
            "messages": [
                [patient, message.first_chunk, message.text]
                for patient, kept in sorted(messages.items())
                for message in kept
            ],
        }

    def restore(self, read: Patients) -> None:
        """Take over what `read` gave of a saved state, before any chunk is begun."""
        self._states, messages = read
        self._messages.update(messages)

    @staticmethod
    def read(state: object) -> Patients:
        """States and messages, of what `state` gave; raises `StateError` for anything else."""
        states: dict[int, str | None] = {}
        for patient, found in mapping(part(state, "states", "patients"), "states").items():
            states[whole(patient, "a patient")] = _json(found)
        messages: dict[int, list[Message]] = defaultdict(list)
        for message in items(part(state, "messages", "patients"), "messages"):
            if len(items(message, "a message")) != 3:
                raise damaged("a message", "a patient, a chunk and a text", message)
            patient, chunk = (whole(n, "a message's patient or chunk") for n in message[:2])
            messages[patient].append(Message(chunk, _json(message[2])))
        return states, messages

    def _due(self, patient: int, chunk: int) -> tuple[Message, ...]:
        return tuple(m for m in self._messages[patient] if m.first_chunk <= chunk)


def _json(value: object) -> str:
    """A text that is JSON; raises `StateError` for anything else."""
    found = text(value, "a patient's state or message")
    try:
        json.loads(found)
    except (ValueError, RecursionError) as error:
        raise damaged("a patient's state or message", "JSON", value) from error
    return found

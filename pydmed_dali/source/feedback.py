"""What a training loop tells its source on the way, so that later BigChunks heed it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import OptionError, SourceError, StateError
from pydmed_dali.plan.class_sampler import ClassSampler
from pydmed_dali.plan.sampler import Sampler
from pydmed_dali.plan.saved_values import damaged, mapping, whole
from pydmed_dali.plan.weights import read_weights
from pydmed_dali.source.engine import Engine
from pydmed_dali.source.provenance import InfoColumn, to_numpy
from pydmed_dali.worker.patient_context import Message, PatientQueue

_MOST_AHEAD = 1_000_000  # BigChunks: far above any horizon
_MOST_WAITING = 16_384
"""Characters of the messages that wait for one patient: they travel with its visit."""


class TrainingFeedback:
    """Has an engine's plan heed what was told, and keeps of it what a resumed run needs.

    What is told after batch t acts from chunk floor(t*N/R) + H on, and what is delivered is the
    same for any number of workers and any prefetch depth: see `Window.horizon`.
    """

    def __init__(self, engine: Engine, sampler: Sampler | ClassSampler, dataset: Dataset) -> None:
        self._engine, self._sampler, self._dataset = engine, sampler, dataset
        self._positions = {patient.id: n for n, patient in enumerate(dataset.patients)}

    def set_weights(self, weights: Mapping[str, float], after: ArrayLike) -> None:
        """See `BigChunkSource.set_weights`."""
        values = read_weights(self._dataset, weights)
        engine, world_size = self._engine, self._engine.options.world_size
        batch, chunk = self._effective_from(after, "set_weights")
        # The same visit on every rank.
        visit = engine.visit(chunk) // world_size * world_size
        self._sampler.set_weights(visit, values)
        self._sampler.forget_weights(engine.visit(engine.window.first_chunk(batch)))

    def send(self, patient: str, message: Any, after: ArrayLike) -> None:
        """See `BigChunkSource.send`."""
        position = self._positions.get(patient)
        if position is None:
            raise OptionError(
                f"there is no patient {patient!r} in the dataset; a patient's id is like "
                f"{self._dataset.patients[0].id!r}"
            )
        _, chunk = self._effective_from(after, "send")
        patient_queue = self._engine.scheduler.patient_queue
        if patient_queue is None:
            raise SourceError(
                "send() needs a loader that overrides place_chunk, and this source has none; give "
                "the source one as `loader`"
            )
        try:
            text = json.dumps(message, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError(f"a message is of JSON's kinds, not {message!r} ({error})") from error
        waiting = patient_queue.waiting(position) + len(text)
        if waiting > _MOST_WAITING:
            raise OptionError(
                f"the messages that wait for patient {patient!r} would be {waiting:,} characters "
                f"long as JSON; {_MOST_WAITING:,} are the most: send fewer, or shorter ones"
            )
        patient_queue.send(position, Message(chunk, text))

    def state(self, batches: int) -> dict[str, Any]:
        """Of a run that goes on behind so many batches, in plain values; empty if nothing is."""
        engine = self._engine
        if engine.window.chunks is not None:
            return {}
        first = engine.window.first_chunk(batches)
        weights = self._sampler.weights_state(engine.visit(first))
        patient_queue = engine.scheduler.patient_queue
        patients = None if patient_queue is None else patient_queue.state(first)
        if weights is None and patients is None:
            return {}
        return {
            "horizon": engine.scheduler.horizon,
            "weights": weights,
            "patients": patients,
        }

    def check(self, saved_state: object) -> None:
        """Raise `StateError` where this source cannot go on from what `state` gave."""
        state = mapping(saved_state, "told")
        if self._engine.window.chunks is not None and state:
            raise damaged("told", "empty in a finite source", state)
        if state.get("patients") is not None and self._engine.scheduler.patient_queue is None:
            raise StateError(
                "the saved run's loader had a place_chunk of its own; give this source the same one"
            )
        here, saved = self._engine.scheduler.horizon, state.get("horizon")
        if saved is not None and whole(saved, "horizon", most=_MOST_AHEAD) < here:
            raise StateError(
                f"what the saved run was told acts {saved} BigChunks later, but with "
                f"prefetch_depth={self._engine.options.prefetch_depth} this source begins chunks "
                f"up to {here} ahead; lower prefetch_depth"
            )

    def restore(self, state: Mapping[str, Any], batches: int) -> None:
        """Take over what `state` gave for so many batches, before any chunk is begun.

        Raises `StateError`, and changes nothing, for what it did not give.
        """
        residents, patients = self._engine.scheduler, state.get("patients")
        read = None if patients is None else PatientQueue.read(patients)
        visit = self._engine.visit(self._engine.window.first_chunk(batches))
        self._sampler.restore_weights(state.get("weights"), visit)
        if residents.patient_queue is not None and read is not None:
            residents.patient_queue.restore(read)
        if state.get("horizon") is not None:
            residents.horizon = state["horizon"]

    def _effective_from(self, after: ArrayLike, said: str) -> tuple[int, int]:
        """(the batch of this `info`, the first chunk that heeds what is said after it)."""
        if self._engine.window.chunks is not None:
            raise SourceError(
                f"{said} is for endless sources: each run of one with `passes` gives the same crops"
            )
        batch = int(np.atleast_2d(to_numpy(after))[-1, InfoColumn.BATCH])
        return batch, self._engine.scheduler.first_affected_chunk(batch)

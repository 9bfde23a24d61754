"""A source that runs: what a training loop tells it, and the state that is saved of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pydmed_dali.errors import StateError
from pydmed_dali.plan.saved_values import part
from pydmed_dali.source.base import BaseSource
from pydmed_dali.source.feedback import TrainingFeedback
from pydmed_dali.source.provenance import InfoColumn, to_numpy
from pydmed_dali.source.saved_state import check_state, make_state, read_progress


class RunningSource(BaseSource):
    """The part of `BigChunkSource` that a training loop uses beside its batches."""

    _feedback: TrainingFeedback

    def state_dict(self, after: ArrayLike | None = None) -> dict[str, Any]:
        """The place behind the last batch that the training loop has: plain values only.

        `after` is that batch's `info`: DALI runs some batches ahead of the loop, so the source by
        itself does not know. Without `after`, the source must not have been asked for a batch yet.
        Raises `StateError` for a batch that is too long ago.

        What the pipeline's random operators draw next is DALI's, and `SmallChunkIterator`'s state
        holds both. With DALI's own iterator, take its checkpoint too, right behind the batch,

            saved = source.state_dict(after=batch["info"]), iterator.checkpoints()[0]

        and give it to the new pipeline: `classification(source, checkpoint=saved[1])`, after
        `source.load_state_dict(saved[0])`. A checkpoint is bytes, which DALI reads as protobuf.
        """
        if after is not None:
            batch = int(np.atleast_2d(to_numpy(after))[-1, InfoColumn.BATCH])
            return self.state_after(batch + 1)
        if self._engine.batch_builder.has_begun:
            raise StateError(
                "state_dict needs the info of the last batch that you have used: "
                'state_dict(after=batch["info"]), or take SmallChunkIterator.state_dict()'
            )
        return self.state_after(self.position)

    def state_after(self, batches: int) -> dict[str, Any]:
        """The place behind the first `batches` batches, of the present run in a finite source."""
        self.refuse_fork()
        places = self._engine.batch_builder.places_from(batches)
        skipped = self._engine.scheduler.bad_slides
        told = self._feedback.state(batches)
        return make_state(self.options, self.dataset, batches, places, skipped, told)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue a saved run: the next batch is the one behind the saved place.

        Before the first batch is asked for (a plain DALIGenericIterator asks when it is made).
        `num_workers`, `prefetch_depth`, `on_error`, `read_timeout`, `cache_dir`, `device`,
        `residency` and `gpu_memory_share` may differ from the saved run's. Raises `StateError`, and
        changes nothing, where anything else does, saying what, and where the state is damaged.
        """
        self.refuse_fork()
        self.refuse_begun()
        check_state(state, self.options, self.dataset)
        most, slides = self._engine.window.batches, len(self.dataset.slides)
        batches, places, skipped = read_progress(state, most, slides)
        told = part(state, "told", "state")
        self._feedback.check(told)
        self._feedback.restore(told, batches)
        self._engine.scheduler.restore(places, skipped)
        self._engine.batch_builder.begin_at(batches)

    def refuse_begun(self) -> None:
        """Raise `StateError` where it is too late to load a state."""
        if self._engine.batch_builder.has_begun:
            raise StateError(
                "load_state_dict must come before the first batch is asked for: make a new source, "
                "load the state, then make its pipeline and iterator"
            )

    def set_weights(self, weights: Mapping[str, float], *, after: ArrayLike) -> None:
        """Share visits by new `weights`, as given to the constructor, soon `after` a batch.

        `after` is the `info` of the last batch that the training loop has. The weights act from the
        BigChunk on that lies a fixed number ahead of it (see docs/user_code.md), and a saved state
        holds them. With several ranks, call it on all of them after the same batch with the same
        weights. Raises `OptionError` for weights that cannot be, `SourceError` for a finite source
        and for a batch before the latest one.
        """
        self.refuse_if_over()
        self._feedback.set_weights(weights, after)

    def send(self, patient: str, message: Any, *, after: ArrayLike) -> None:
        """Send a message, of JSON's kinds, to one of the next visits of the patient of this id.

        A loader with a `place_chunk` of its own finds it in `Visit.messages`, at the patient's
        first BigChunk that lies at least a fixed number ahead of the batch `after`: as
        `set_weights`. Each rank has visits, and messages, of its own. Raises `OptionError` for an
        unknown patient and for a message that JSON cannot hold or that is too long, `SourceError`
        for a finite source, one whose loader has no policy, and a batch before the latest one.
        """
        self.refuse_if_over()
        self._feedback.send(patient, message, after)

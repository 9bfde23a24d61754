"""The iterator of a training loop: dicts of torch tensors, epochs of known length, its state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from nvidia.dali import Pipeline
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali.dali.source import source_of
from pydmed_dali.errors import OptionError, StateError


class SmallChunkIterator:
    """Iterates over a source's pipeline; a thin coat over `DALIGenericIterator`.

    Each `for` is one epoch of `len(iterator)` batches: of an endless source, the next ones, in
    which every patient is visited about once (or `batches_per_epoch`, if given); of a finite
    source, one whole run from its start, of which the last batch is cut to the crops that are left.
    After `break` the next `for` is an epoch of its own.

    Batches are dicts from the names of `output_map`, one for each output of the pipeline, to torch
    tensors that stay valid as long as they are held.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        output_map: Sequence[str],
        *,
        batches_per_epoch: int | None = None,
    ) -> None:
        self.source = source_of(pipeline)
        if batches_per_epoch is not None and (batches_per_epoch < 1 or self.source.is_finite):
            raise OptionError(
                f"batches_per_epoch={batches_per_epoch}: give a number of at least 1, and only for "
                "an endless source; a finite one has the length of its run"
            )
        self._length = batches_per_epoch or self.source.batches_per_epoch
        self._iterator = DALIGenericIterator(
            [pipeline], list(output_map), size=-1, auto_reset=False, prepare_first_batch=False
        )
        self._clock = 0  # batches of the present run; of an endless source, altogether
        self._position = 0  # batches of the present epoch
        self._drawn = 0  # batches taken from DALI since the present run was begun or resumed
        self._resumed = False  # whether the next `for` goes on with the epoch of a loaded state
        self._epoch = 0  # numbers the `for`s, so that an older one ends when a newer one begins

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._length

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """One epoch; after `load_state_dict`, first the rest of the interrupted one."""
        self._epoch += 1
        present = self._epoch
        if not self._resumed:
            self._begin_epoch()
        self._resumed = False
        while present == self._epoch and self._position < self._length:
            yield self._next()

    def state_dict(self) -> dict[str, Any]:
        """The place behind the last batch that was yielded, in plain values; as in torch.

        After `break` that is a place within an epoch, which a resumed run first brings to its end.
        The augmentation's own random numbers are DALI's and are not part of it.
        """
        batches = self._clock if self._drawn else self.source.position
        return {
            "source": self.source.state_after(batches),
            "position": self._position,
            "batches_per_epoch": self._length,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue a saved run, before the first batch; see `BigChunkSource.load_state_dict`."""
        if "source" not in state:
            raise StateError(
                "this is no state of a SmallChunkIterator; a BigChunkSource's own is loaded by "
                "source.load_state_dict"
            )
        if state["batches_per_epoch"] != self._length:
            raise StateError(
                f"the state was saved with batches_per_epoch={state['batches_per_epoch']}, "
                f"this iterator has {self._length}"
            )
        self.source.load_state_dict(state["source"])
        self._clock, self._position = self.source.position, int(state["position"])
        self._resumed = True

    def _begin_epoch(self) -> None:
        if not self._drawn:
            self._clock = self.source.position  # of a state that was loaded into the source itself
        elif self.source.is_finite:
            self._rewind()
        self._position = self._clock if self.source.is_finite else 0

    def _next(self) -> dict[str, torch.Tensor]:
        (batch,) = next(self._iterator)
        crops = self.source.crops_in_batch(self._clock)
        self._drawn += 1
        self._clock += 1
        self._position += 1
        if crops == self.source.batch_size:
            return dict(batch)
        return {name: tensor[:crops] for name, tensor in batch.items()}

    def _rewind(self) -> None:
        """Go to the start of the finite run, past the batches that DALI has in hand."""
        self.source.end_run()
        while True:
            try:
                next(self._iterator)
            except StopIteration:
                break
        self._iterator.reset()
        self._drawn = self._clock = 0

"""The iterator of a training loop: dicts of torch tensors, epochs of known length, its state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from nvidia.dali import Pipeline
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from pydmed_dali.dali.checkpoint import PipelineState
from pydmed_dali.errors import OptionError, SourceError, StateError
from pydmed_dali.plan.saved_values import items, mapping, part, whole
from pydmed_dali.source.big_chunk_source import BigChunkSource
from pydmed_dali.source.pipeline_binding import check_names, outputs_of, source_of
from pydmed_dali.source.provenance import InfoColumn
from pydmed_dali.source.saved_state import break_seal, check_state, seal

logger = logging.getLogger("pydmed_dali.source")


class _Place(NamedTuple):
    """Where a training loop is: behind the last batch that it got."""

    batches: int
    """Batches of the present run; of an endless source, altogether."""
    position: int
    """Batches of the present epoch."""
    checkpoint: bytes | None
    """What DALI's operators draw next."""


class SmallChunkIterator:
    """Iterates over a source's pipeline; a thin wrapper around `DALIGenericIterator`.

    Each `for` is one epoch of `len(iterator)` batches: of an endless source, the next ones, in
    which every patient is visited about once (or `batches_per_epoch`, if given); of a finite
    source, one whole run from its start, of which the last batch is cut to the crops that are left.
    After `break` the next `for` is an epoch of its own.

    Batches are dicts from the names of the pipeline's outputs to torch tensors, which stay valid as
    long as they are held. The names are those of `pipeline_def(outputs=...)`, unless `output_map`
    gives others, one for each output and in the same order. Raises `OptionError` where there are
    more or fewer names than outputs, and at the first batch where `info` names another.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        output_map: Sequence[str] | None = None,
        *,
        batches_per_epoch: int | None = None,
        all_ranks: bool = False,
    ) -> None:
        """Take a pipeline that has called `source.small_chunks()`.

        Args:
            pipeline: of the source.
            output_map: a name for each of its outputs, in their order; None for the names of
                `pipeline_def(outputs=...)`.
            batches_per_epoch: length of an epoch of an endless source, if not a visit of every
                patient.
            all_ranks: whether `state_dict` gathers the places of all ranks of torch.distributed, so
                that a trainer which writes one rank's state, as Lightning does, saves them all.
                Then `state_dict` is to be called on every rank at once.
        """
        self._all_ranks = all_ranks
        self.source = source_of(pipeline)
        if batches_per_epoch is not None and (batches_per_epoch < 1 or self.source.is_finite):
            raise OptionError(
                f"batches_per_epoch={batches_per_epoch}: give a number of at least 1, and only for "
                "an endless source; a finite one has the length of its run"
            )
        self._length = batches_per_epoch or self.source.batches_per_epoch
        pipeline.build()
        self._names = list(outputs_of(pipeline) if output_map is None else output_map)
        check_names(pipeline, self._names, "outputs" if output_map is None else "output_map")
        self._pipeline_state = PipelineState(pipeline)
        self._iterator = DALIGenericIterator(
            [pipeline], self._names, size=-1, auto_reset=False, prepare_first_batch=False
        )
        self._place: _Place | None = None  # until the first `for`, or a loaded state
        self._checked = False  # whether a batch's `info` was looked at, and is what it should be
        self._begun = False  # whether DALI was asked since the present run was begun or resumed
        self._taking = False  # whether DALI is being asked, or was when an exception came
        self._resumed = False  # whether the next `for` goes on with the epoch of a loaded state
        self._lock = threading.RLock()  # around the next two
        self._thread: threading.Thread | None = None  # that is within a `for`
        self._number: int | None = None  # of the epoch, as a trainer counts
        self._loaded_number: int | None = None  # in the state that was loaded
        self._epoch = 0  # numbers the `for`s, so that an older one ends when a newer one begins

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._length

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """One epoch; after `load_state_dict`, first the rest of the interrupted one."""
        present = self._begin_loop()
        try:
            place = self._here() if self._resumed else self._begin_epoch()
            self._resumed = False
            while place.position < self._length:
                yield self._next(place)
                if present != self._epoch:
                    return
                self._thread = threading.current_thread()
                place = self._here()
            self._place = place._replace(position=0)  # a state taken from now on begins an epoch
        finally:
            if present == self._epoch:
                self._thread = None

    batch_sampler = None
    """There is none; trainers that find a `sampler` ask."""

    @property
    def sampler(self) -> SmallChunkIterator:
        """Itself, because trainers call `loader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Tell that the next `for` is epoch number `epoch`; Lightning does so by itself.

        It changes no crops. A trainer that counts batches never asks behind an epoch's last one
        whether there is another, so a state that it saves there is within the epoch; but when it
        goes on, it begins with the next one. By its number this is known, and comes as a whole.

        Args:
            epoch: as the trainer counts, from 0 on.
        """
        at_end = self._place is not None and self._place.position >= self._length
        if self._resumed and at_end and self._loaded_number not in (None, epoch):
            assert self._place is not None
            self._place = self._place._replace(position=0)
        unused = self._number is None and not self._resumed and not self._begun
        if epoch and unused and not self.source.is_finite:
            logger.warning(
                "the training goes on with epoch %d, but gave this iterator no state: its crops "
                "begin anew. Lightning gives none where a checkpoint was written behind an "
                "epoch's end (save_on_train_epoch_end): save by every_n_train_steps, or where "
                "validation ends",
                epoch,
            )
        self._number = epoch

    def _begin_loop(self) -> int:
        """The number of a new `for`, which ends an older one of the same thread.

        Raises `SourceError` where another thread is within one: each would get a part of the
        batches, and one of them end in the middle.
        """
        self.source._refuse_fork()
        here = threading.current_thread()
        with self._lock:
            other = self._thread
            if other is not None and other is not here and other.is_alive():
                raise SourceError(
                    f"thread {other.name!r} iterates over this iterator, and thread {here.name!r} "
                    "began to: one source gives its batches once; take them in one thread, and "
                    "hand them on, or end the first loop before (a generator by its close())"
                )
            self._thread = here
            self._epoch += 1
            return self._epoch

    def state_dict(self) -> dict[str, Any]:
        """The place behind the last batch that was yielded, in plain values; as in torch.

        Source, pipeline and iterator together: a run that loads it gets all batches that this one
        would have got, byte for byte, augmentation included. Within the body of a `for`, and after
        `break`, that is a place within an epoch, which a resumed run first brings to its end; once
        a `for` has ended by itself, a resumed run begins with the next epoch.

        Of a pipeline made without `enable_checkpointing=True` (`pydmed_dali.pipeline_def` gives it)
        the state does not hold what random operators draw next, and a warning is logged. It never
        holds what Python functions inside a pipeline draw.

        With `all_ranks`, a list of all ranks' states: call it on every rank at once.
        """
        own = self._own_state()
        if not self._all_ranks:
            return own
        import torch.distributed as dist

        states: list[Any] = [own]
        if dist.is_available() and dist.is_initialized():
            states = [None] * dist.get_world_size()
            dist.all_gather_object(states, own)
        return {"ranks": states}

    def _own_state(self) -> dict[str, Any]:
        place = self._here()
        return seal(
            {
                "epoch": self._loaded_number if self._number is None else self._number,
                "source": self._resumable()._state_after(place.batches),
                "position": place.position,
                "batches_per_epoch": self._length,
                "pipeline": self._pipeline_state.to_dict(place.checkpoint),
            }
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue a saved run, before the first batch; see `BigChunkSource.load_state_dict`.

        The pipeline must be the saved run's, too; its prefetch depth and threads may differ. Raises
        `StateError` for a damaged state, and for another run's or pipeline's, with what differs.
        """
        source = self._resumable()
        state = self._own_part(state)
        break_seal(state)
        if "source" not in state:
            raise StateError(
                "this is no state of a SmallChunkIterator; a BigChunkSource's own is loaded by "
                "source.load_state_dict"
            )
        check_state(state["source"], self.source.options, self.source.dataset)
        saved_length = part(state, "batches_per_epoch", "state")
        if saved_length != self._length:
            raise StateError(
                f"the state was saved with batches_per_epoch={saved_length}, "
                f"this iterator has {self._length}"
            )
        position = whole(part(state, "position", "state"), "position", most=self._length)
        number = state.get("epoch")
        if number is not None:
            number = whole(number, "epoch")
        checkpoint = self._pipeline_state.from_dict(part(state, "pipeline", "state"))
        source._refuse_begun()
        before = self._pipeline_state.checkpoint()
        self._pipeline_state.restore(checkpoint)
        try:
            source.load_state_dict(state["source"])
        except BaseException:
            self._pipeline_state.restore(before)
            raise
        self._place = _Place(self.source._position, position, self._pipeline_state.checkpoint())
        self._resumed = True
        self._loaded_number = number

    def _resumable(self) -> BigChunkSource:
        """The source, where it has a state; raises `StateError` for a `TileSource`."""
        if not isinstance(self.source, BigChunkSource):
            raise StateError(
                "a TileSource has no state to save; make one of the slides that are not finished "
                "yet, or use predict, which does that"
            )
        return self.source

    def _own_part(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """This rank's state, of one of `all_ranks`; any other as it is."""
        if not isinstance(state, Mapping) or "ranks" not in state:
            return state
        states, options = items(state["ranks"], "ranks"), self.source.options
        if len(states) != options.world_size:
            raise StateError(
                f"the state was saved by {len(states)} ranks, here are {options.world_size}; go on "
                "with as many"
            )
        own: Mapping[str, Any] = mapping(states[options.rank], f"the state of rank {options.rank}")
        return own

    def _here(self) -> _Place:
        """The present place; before the first batch, the source's and the pipeline's own."""
        return self._place or _Place(self.source._position, 0, self._pipeline_state.checkpoint())

    def _begin_epoch(self) -> _Place:
        place = self._here()
        if self._begun and self.source.is_finite:
            place = self._rewind(place)
        elif self._taking:
            self.source._refuse_if_over()
            raise SourceError(
                "the iterator was interrupted while it took a batch from DALI, which is lost; make "
                "source, pipeline and iterator anew, and load this one's state_dict to continue"
            )
        position = place.batches if self.source.is_finite else 0
        self._place = place._replace(position=position)
        return self._place

    def _next(self, place: _Place) -> dict[str, torch.Tensor]:
        self._begun = self._taking = True
        (batch,) = next(self._iterator)
        # Now, not when a state is asked for: a call that fails may have taken a batch from DALI.
        checkpoint = self._pipeline_state.checkpoint()
        self._place = _Place(place.batches + 1, place.position + 1, checkpoint)
        self._taking = False
        if not self._checked:
            self._check_info(batch)
            self._checked = True
        crops = self.source._crops_in_batch(place.batches)
        if crops == self.source.batch_size:
            return dict(batch)
        return {name: tensor[:crops] for name, tensor in batch.items()}

    def _check_info(self, batch: dict[str, torch.Tensor]) -> None:
        """Refuse names in another order than the outputs; a pipeline may give out some columns."""
        shape = (self.source.batch_size, len(InfoColumn))
        others = [name for name, tensor in batch.items() if tensor.shape == shape]
        if "info" in batch and others and "info" not in others:
            raise OptionError(
                f"output_map={self._names} calls an output of the shape "
                f"{tuple(batch['info'].shape)} 'info', which has the shape {shape}, as "
                f"{others[0]!r} has; give the names in the order in which the pipeline returns its "
                "outputs"
            )

    def _rewind(self, place: _Place) -> _Place:
        """Go to the start of the finite run, and discard the batches that DALI has prefetched.

        How many those are depends on the prefetch depth; what comes then must not.
        """
        self.source._end_run()
        while True:
            try:
                next(self._iterator)
            except StopIteration:
                break
        self._pipeline_state.restore(place.checkpoint)
        self._place = place._replace(batches=0, position=0)
        self._begun = self._taking = False
        self._iterator.reset()
        return self._place

"""The resident chunks: keeps the ring filled along the plan, and waits where a chunk is late."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydmed_dali.dataset import Dataset
from pydmed_dali.errors import (
    SlideChangedError,
    SlideError,
    SlideReadError,
    SourceError,
    StateError,
    UserCodeError,
)
from pydmed_dali.plan.candidate import Candidate
from pydmed_dali.plan.class_sampler import ClassSampler
from pydmed_dali.plan.sampler import Sampler
from pydmed_dali.plan.tile_sampler import TileSampler
from pydmed_dali.plan.tile_window import TileWindow
from pydmed_dali.plan.window import Window
from pydmed_dali.pool.notices import Notices
from pydmed_dali.pool.statistics import Tally
from pydmed_dali.pool.worker_pool import ChunkPool
from pydmed_dali.ring.layout import Layout
from pydmed_dali.ring.slots import Slots
from pydmed_dali.slide.file_identity import FileIdentity, change_in_words
from pydmed_dali.worker.messages import Failed, LoadChunk, Loaded
from pydmed_dali.worker.patient_context import PatientQueue
from pydmed_dali.worker.tissue_places import warn_of_little_tissue

logger = logging.getLogger("pydmed_dali.pool")

_PATIENCE = 3600.0  # the pool's own deadlines are shorter; this only bounds one wait
_MOST_PLACES = 10_000  # far more than chunks that a batch still in use can touch


@dataclass(frozen=True, slots=True)
class ReadyChunk:
    """A chunk that is ready in its slot."""

    slot: int
    visit: int
    """The plan's visit, over all ranks."""
    candidate: Candidate
    loaded: Loaded


class Ring(Protocol):
    """The memory that the pool fills, as far as it matters here."""

    layout: Layout

    def mark_filled(self, slot: int) -> None:
        """Note that a slot's memory is taken."""
        ...


class _Search:
    """The way of one chunk along its candidates."""

    def __init__(self, visit: int, candidates: Iterator[Candidate], known: int | None) -> None:
        self.visit = visit
        self.place = -1
        self.first: Candidate | None = None
        self.present: Candidate
        self._candidates = candidates
        self._known = known

    def advance(self, bad_slides: Mapping[int, str]) -> bool:
        """Go to the next candidate whose slide is not known to be bad; False at the end.

        First of all to the one that a saved run had taken, though its slide turned bad later.
        """
        known, self._known = self._known, None
        while self._step():
            if known is not None:
                if self.place == known:
                    return True
            elif self.present.slide not in bad_slides:
                return True
        return False

    def _step(self) -> bool:
        candidate = next(self._candidates, None)
        if candidate is None:
            return False
        self.place += 1
        self.first = self.first or candidate
        self.present = candidate
        return True


class ChunkScheduler:
    """Executes the plan: claims slots, has them filled, and lets batches wait for them.

    All of it happens inside the source's calls, in the caller's thread: slots become free only
    there. `on_ready` is called with each chunk that became ready.
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: Sampler | ClassSampler | TileSampler,
        window: Window | TileWindow,
        visit_of: Callable[[int], int],
        ring: Ring,
        pool: ChunkPool,
        on_ready: Callable[[ReadyChunk], None],
        on_error: str,
        prefetch_depth: int,
        patient_queue: PatientQueue | None,
    ) -> None:
        """Take `patient_queue` where a patient's visits depend on each other, by a policy."""
        self._dataset, self._sampler, self._window = dataset, sampler, window
        self._visit_of, self._ring, self._pool = visit_of, ring, pool
        self._on_ready, self._on_error = on_ready, on_error
        self.patient_queue = patient_queue
        self._slots = Slots(ring.layout.slots)
        self._searches: dict[int, _Search] = {}
        self._places: dict[int, int] = {}
        self._known: dict[int, int] = {}
        self._forgot = False
        self._acknowledged_batch = 0  # the batch after which the loop may still say something
        self._files: dict[int, FileIdentity | None] = {}
        self._remarked: set[int] = set()
        self._notices = Notices()
        self.bad_slides: dict[int, str] = {}
        """Slides that are not tried again, with the reason."""
        self.troubled_slides: dict[int, str] = {}
        """Slides of which a region could not be read, with the first reason."""
        self.tally = Tally()
        self.horizon = window.horizon(prefetch_depth)
        """H of `Window.horizon`: how far ahead of the training loop chunks are begun."""

    def first_affected_chunk(self, batch: int) -> int:
        """The first chunk that heeds what the training loop says after a batch.

        Raises `SourceError` where the loop has a later batch, so that this chunk may be begun.
        """
        if batch < self._acknowledged_batch:
            raise SourceError(
                f"set_weights or send refers to batch {batch}, but batch "
                f"{self._acknowledged_batch} was already delivered, and later BigChunks may be in "
                "progress; pass `after=` the latest batch's info, before taking the next batch"
            )
        return self._window.first_chunk(batch) + self.horizon

    def start_at(self, call: int) -> None:
        """Begin with the batch of this call; only before the first `require`."""
        self._slots.start_at(self._window.first_chunk(call))
        self._acknowledged_batch = max(call - 1, 0)

    def require(self, call: int, depth: int) -> float:
        """Have every chunk ready that the batch of `call` can touch; seconds waited for them.

        `depth` is the pipeline's prefetch depth: see `Window.oldest_in_use`.
        """
        oldest = self._window.oldest_in_use(call, depth)
        while self._slots.is_loading_below(oldest):  # only where a finite run was ended early
            self._take(self._pool.answers(_PATIENCE))
        self._slots.retire(oldest)
        last, end = self._window.last_chunk(call), self._window.read_until(call)
        begun = time.monotonic()
        self._acknowledged_batch = max(self._acknowledged_batch, call - depth)
        self._dispatch(last, end)
        self._take(self._pool.answers(0.0))
        self._dispatch(last, end)
        for chunk in range(self._window.first_chunk(call), last + 1):
            while not self._slots.is_ready(chunk):
                self._take(self._pool.answers(_PATIENCE))
                self._dispatch(last, end)
        return time.monotonic() - begun

    def places_from(self, first: int) -> dict[int, int]:
        """For each chunk from `first` on that was loaded, here or in the run that is resumed: the
        place of the candidate it took.

        Raises `StateError` where that was forgotten.
        """
        oldest = next(iter(self._places), first)
        if first < oldest and self._forgot:
            raise StateError(
                f"a state from chunk {first} on was asked for, but what was loaded before chunk "
                f"{oldest} is forgotten; take the state of a later batch"
            )
        places = {**self._known, **self._places}
        return {chunk: place for chunk, place in places.items() if chunk >= first}

    def restore(self, places: Mapping[int, int], bad_slides: Mapping[int, str]) -> None:
        """Take over what a saved run had found out; only before the first `require`."""
        self._known, self.bad_slides = dict(places), dict(bad_slides)

    def _dispatch(self, last: int, end: int | None) -> None:
        """Give jobs to the pool: in the order of need, as far as slots and the pool have room, but
        none from chunk `end` on.
        """
        while self._slots.can_claim() and self._pool.has_room():
            if end is not None and self._slots.next_chunk >= end:
                return
            if self._window.chunks is None and self._slots.next_chunk >= self._feedback_limit():
                return
            if not self._pool.reads_ahead and self._slots.next_chunk > last:
                return
            chunk, slot = self._slots.claim()
            visit = self._visit_of(chunk)
            known = self._known.pop(chunk, None)
            self._searches[chunk] = _Search(visit, self._sampler.candidates(visit), known)
            if self.patient_queue is None or self.patient_queue.enter(
                self._planned_patient(visit), chunk
            ):
                self._submit_next(chunk, slot)

    def _feedback_limit(self) -> int:
        """Chunks from this one on heed what the loop may still say."""
        return self._window.first_chunk(self._acknowledged_batch) + self.horizon

    def _planned_patient(self, visit: int) -> int:
        return next(self._sampler.candidates(visit)).patient

    def _submit_next(self, chunk: int, slot: int) -> None:
        search = self._searches[chunk]
        if not search.advance(self.bad_slides):
            raise self._nothing_left(search)
        candidate = search.present
        path = self._dataset.slides[candidate.slide].path
        patient = self._dataset.patients[candidate.patient].id
        context = None
        if self.patient_queue is not None and not search.place:
            context = self.patient_queue.context(candidate.patient, chunk)
        self._pool.submit(LoadChunk(chunk, slot, search.visit, candidate, path, patient, context))

    def expect_files(self, files: Mapping[int, FileIdentity | None]) -> None:
        """These slides were looked at already; chunks must be of the same files."""
        self._files.update(files)

    def _take(self, answers: Sequence[Loaded | Failed]) -> None:
        for answer in map(self._refuse_change, answers):
            if isinstance(answer, Failed):
                self._pass_over(answer)
            else:
                self._publish(answer)

    def _refuse_change(self, answer: Loaded | Failed) -> Loaded | Failed:
        """The answer, but a failure for a chunk of another file than what was seen of it before.

        Known here for all workers, so that no two of them read two files under one name.
        """
        if not isinstance(answer, Loaded):
            return answer
        slide = self._searches[answer.chunk].present.slide
        if self._files.setdefault(slide, answer.file) == answer.file:
            return answer
        error = SlideChangedError(change_in_words(self._dataset.slides[slide].path))
        return Failed(answer.chunk, error, traceback="", whole_slide=True)

    def _publish(self, loaded: Loaded) -> None:
        search = self._searches.pop(loaded.chunk)
        slot = self._slots.slot(loaded.chunk)
        self.tally.chunks_substituted += search.place > 0
        self._places[loaded.chunk] = search.place
        if len(self._places) > _MOST_PLACES:
            del self._places[next(iter(self._places))]
            self._forgot = True
        self._ring.mark_filled(slot)
        self.tally.chunks_read += 1
        self.tally.pixels_decoded += loaded.decoded_pixels
        self.tally.decode_seconds += loaded.seconds
        self.tally.reads_per_slide[search.present.slide] += 1
        if loaded.tissue is not None:
            self._note_tissue(search.present.slide, loaded.tissue)
        self._say_remarks(search.present.slide, loaded)
        self._notices.say(self._dataset.slides[search.present.slide].path, loaded.notices)
        self._on_ready(ReadyChunk(slot, search.visit, search.present, loaded))
        self._slots.publish(loaded.chunk)
        if self.patient_queue is not None:
            patient = self._planned_patient(search.visit)
            following = self.patient_queue.leave(patient, loaded.state, followed=not search.place)
            if following is not None:
                self._submit_next(following, self._slots.slot(following))

    def _say_remarks(self, slide: int, loaded: Loaded) -> None:
        """Log what a user should know of a slide, once."""
        if slide in self._remarked:
            return
        self._remarked.add(slide)
        for remark in loaded.remarks:
            logger.warning("%s: %s", self._dataset.slides[slide].path, remark)

    def _note_tissue(self, slide: int, share: float) -> None:
        """Keep how much of a slide is tissue, and warn once where that is next to nothing."""
        if slide not in self.tally.tissue_shares:
            warn_of_little_tissue(self._dataset.slides[slide].path, share)
        self.tally.tissue_shares[slide] = share

    def _pass_over(self, failed: Failed) -> None:
        """A chunk could not be read: note it, say so once a slide, go to the next candidate."""
        slide = self._searches[failed.number].present.slide
        if self._on_error == "raise" or isinstance(failed.error, UserCodeError):
            raise _with_cause(failed)
        reason = str(failed.error)
        if slide not in self.bad_slides and slide not in self.troubled_slides:
            scope = "the slide is skipped" if failed.whole_slide else "another place is read"
            logger.warning("%s; %s", reason, scope)
            logger.debug("traceback in the worker:\n%s", failed.traceback)
        (self.bad_slides if failed.whole_slide else self.troubled_slides).setdefault(slide, reason)
        self._submit_next(failed.number, self._slots.slot(failed.number))

    def _nothing_left(self, search: _Search) -> SlideError:
        assert search.first is not None
        patient = self._dataset.patients[search.first.patient]
        label = "" if patient.label is None else f" with the label {patient.label!r}"
        reasons = list(dict.fromkeys([*self.bad_slides.values(), *self.troubled_slides.values()]))
        shown = "\n  ".join(reasons[:5])
        return SlideReadError(
            f"no slide{label} is left that can be read; {len(reasons)} failed:\n  {shown}"
        )


def _with_cause(failed: Failed) -> SlideError | UserCodeError:
    """The worker's error, with its traceback as the cause."""
    error = failed.error
    if failed.traceback:
        error.__cause__ = RuntimeError(f"in the worker:\n{failed.traceback}")
    return error

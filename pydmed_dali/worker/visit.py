"""A visit as a loader's own code sees it: which patient, which slide, what the plan would do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydmed_dali.geometry import Point, Size
from pydmed_dali.plan.eligible import Eligible
from pydmed_dali.plan.place_runs import Runs
from pydmed_dali.plan.placement import Placement, Placer, Positions
from pydmed_dali.plan.random import Stream, mix
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.view import View
from pydmed_dali.worker.messages import LoadChunk
from pydmed_dali.worker.patient_context import PatientContext


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One visit of a patient: one BigChunk of one of its slides, in the process that reads it.

    Made by the package; `BigChunkLoader.place_chunk` and `place_crops` get it. All places are in
    *view pixels*: those of the level, or resolution, that is read.
    """

    patient: str
    """The patient's id."""
    number: int
    """The plan's visit, over all ranks: `SmallChunk.chunk`."""
    seed: int
    """64 random bits of this visit: `numpy.random.default_rng(visit.seed)` draws alike for any
    number of workers and in a resumed run."""
    slide: Slide
    """The slide, open: `slide.path`, `slide.facts`, and `slide.read_into` for a look at it."""
    view: View
    """What of it is read: `view.dimensions` is the slide's extent in view pixels."""
    chunk_size: Size
    crop_size: Size
    state: Any
    """What `place_chunk` returned at the patient's last visit; None at the first."""
    messages: tuple[Any, ...]
    """What `BigChunkSource.send` was given for the patient since that visit, in that order."""
    _plan: _Plan

    @classmethod
    def of(
        cls,
        job: LoadChunk,
        placer: Placer,
        slide: Slide,
        view: View,
        eligible: Eligible | Runs | None,
    ) -> Visit:
        """The visit of a job; `eligible` as in `Placer.place`."""
        seed = int(mix(placer.seed, Stream.OWN_CODE, job.visit, job.candidate.attempt)[0])
        planned = placer.place(view.dimensions, view.tile, job.candidate, job.visit, eligible)
        context = job.context or PatientContext(None, ())
        return cls(
            patient=job.patient,
            number=job.visit,
            seed=seed,
            slide=slide,
            view=view,
            chunk_size=placer.chunk,
            crop_size=placer.crop,
            state=None if context.state is None else json.loads(context.state),
            messages=tuple(map(json.loads, context.messages)),
            _plan=_Plan(job, placer, eligible, planned),
        )

    @property
    def planned(self) -> Point:
        """Where the plan puts the BigChunk: its upper left corner."""
        return self._plan.planned.origin

    @property
    def last_origin(self) -> Point:
        """The rightmost and lowest corner that a BigChunk may have, so that a crop fits in it."""
        extent, crop = self.view.dimensions, self.crop_size
        return Point(max(extent.width - crop.width, 0), max(extent.height - crop.height, 0))

    def places(self, origin: Point) -> int:
        """In how many places of a BigChunk at `origin` a crop may start: with `min_tissue`, those
        with enough tissue; where crops are drawn by class, those of this visit's class.
        """
        placement = self.placement(origin)
        return placement.cell.area if placement.places is None else placement.places.count

    def draw_crops(self, origin: Point, count: int) -> Positions:
        """`count` crops of a BigChunk at `origin`, as the plan draws them: (count, 2) int32, (y, x)
        from its corner on, each of the `places` equally likely.

        The first n of them are the same for any larger `count`.
        """
        job = self._plan.job
        return self._plan.placer.crops(self.placement(origin), job.candidate, job.visit, count)

    def placement(self, origin: Point) -> Placement:
        """The BigChunk at `origin`, for the package's use."""
        if origin == self.planned:
            return self._plan.planned
        return self._plan.placer.at(self.view.dimensions, origin, self._plan.eligible)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What the plan knows of a visit."""

    job: LoadChunk
    placer: Placer
    eligible: Eligible | Runs | None
    planned: Placement

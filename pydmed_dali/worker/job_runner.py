"""Filling a slot: what a worker does with a job, and the caller's own process with no workers."""

from __future__ import annotations

import time
import traceback
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydmed_dali.errors import (
    SlideChangedError,
    SlideError,
    SlideFormatError,
    SlideMaskError,
    SlideNotFoundError,
    SlideReadError,
    SlideScaleError,
    UserCodeError,
)
from pydmed_dali.plan.depth import Slab
from pydmed_dali.plan.eligible import Eligible, scanned_places
from pydmed_dali.plan.place_runs import Runs
from pydmed_dali.plan.placement import Placement
from pydmed_dali.plan.tile_grid import GridPlacer
from pydmed_dali.ring.arena import Arena
from pydmed_dali.slide.cache import Cache
from pydmed_dali.slide.file_identity import FileIdentity, check_same_file, file_identity
from pydmed_dali.slide.slide import Slide
from pydmed_dali.slide.view import View
from pydmed_dali.worker.big_chunk_loader import BigChunkLoader
from pydmed_dali.worker.chunk_reader import ChunkReader
from pydmed_dali.worker.messages import (
    Answer,
    Failed,
    Job,
    Loaded,
    ReadPlan,
    first_words,
    last_lines,
)
from pydmed_dali.worker.plugin_calls import place_chunk, place_crops
from pydmed_dali.worker.slide_survey import SlideSurvey
from pydmed_dali.worker.stain_finder import StainFinder
from pydmed_dali.worker.tissue_places import Tissue, TissueFinder
from pydmed_dali.worker.visit import Visit

if TYPE_CHECKING:
    from pydmed_dali.worker.annotation_finder import AnnotationFinder, ViewAnnotations

_OURS = (
    SlideNotFoundError,
    SlideFormatError,
    SlideScaleError,
    SlideMaskError,
    SlideReadError,
    SlideChangedError,
)
_MOST_OPEN = 8  # open slides a process keeps: each holds the file's directory in memory


class JobRunner:
    """Loads chunks into an arena, one at a time, keeping a few slides open."""

    def __init__(self, plan: ReadPlan, loader: BigChunkLoader, arena: Arena) -> None:
        self._plan, self._loader, self._arena = plan, loader, arena
        self._open: OrderedDict[Path, Slide] = OrderedDict()
        self._files: dict[Path, FileIdentity | None] = {}
        loader.cache = cache = Cache(plan.cache)
        self._reader = ChunkReader(loader, arena, plan.placer, plan.depth)
        crop = plan.placer.crop
        self._finder = TissueFinder(plan.tissue, crop, cache, plan.scale) if plan.tissue else None
        self._annotations: AnnotationFinder | None = None
        if plan.annotated:
            # Here, because it imports what most runs do not need, and workers are to start soon.
            from pydmed_dali.worker.annotation_finder import AnnotationFinder

            self._annotations = AnnotationFinder(plan.annotated, crop, cache)
        self._stains = StainFinder(plan.stain, cache, plan.scale) if plan.stain else None
        self._surveyor = SlideSurvey(plan.survey, plan.scale, cache) if plan.survey else None
        # On a grid, tiles lie where the grid has them, whatever an own loader does in training.
        self._places = BigChunkLoader() if isinstance(plan.placer, GridPlacer) else loader

    def fill(self, job: Job) -> Answer:
        """Load the job's chunk, or say why not; raises nothing but what ends a process."""
        begun = time.monotonic()
        opened = False
        try:
            slide = self._slide(job.path)
            if self._surveyor is not None:
                file = self._files[job.path]
                found = self._surveyor.look(job, slide, file)
                check_same_file(job.path, file)
                return found
            view = self._plan.scale.view(slide.facts, job.path)
            tissue = self._finder.find(job.path, slide, view) if self._finder else None
            stain = self._stains.find(job.path, slide) if self._stains else None
            annotated = (
                self._annotations.find(job.path, slide.facts, view) if self._annotations else None
            )
            opened = True
            placement, slab, decoded, state = self._fill(job, slide, view, tissue, annotated)
            # Afterwards, so that a file which changes while it is read is noticed too.
            check_same_file(job.path, self._files[job.path])
        except Exception as error:
            return self._failed(job, error, opened)
        return Loaded(
            chunk=job.chunk,
            origin=placement.origin,
            size=placement.size,
            first_slice=slab.first,
            level=view.level,
            downsample=view.downsample,
            mpp=view.mpp,
            decoded_pixels=decoded,
            seconds=time.monotonic() - begun,
            file=self._files[job.path],
            tissue=tissue.share if tissue else None,
            stain=stain,
            state=state,
            notices=tuple(one.notice for one in (tissue, annotated) if one and one.notice),
            remarks=self._remarks(slide, view),
        )

    def _remarks(self, slide: Slide, view: View) -> tuple[str, ...]:
        assumed = self._plan.scale.remark(slide.facts, view)
        return slide.facts.remarks if assumed is None else (*slide.facts.remarks, assumed)

    def close(self) -> None:
        """Close the slides that are still open."""
        while self._open:
            self._forget(next(iter(self._open)))

    def _fill(
        self,
        job: Job,
        slide: Slide,
        view: View,
        tissue: Tissue | None,
        annotated: ViewAnnotations | None,
    ) -> tuple[Placement, Slab, int, str | None]:
        """Write the chunk's crops and pixels; where it lies, pixels decoded, a policy's state."""
        placer = self._plan.placer
        allowed = (
            tissue.eligible
            if tissue
            else scanned_places(view.scanned, view.dimensions, placer.crop)
        )
        eligible: Eligible | Runs | None = allowed
        if annotated:
            eligible = annotated.places(job.candidate.class_number, allowed)
        visit = Visit.of(job, placer, slide, view, eligible)
        placement, state = place_chunk(self._places, visit, job)
        table = self._arena.table(job.slot)
        table[:] = place_crops(self._places, visit, placement, len(table))
        if annotated:
            self._reader.paint(job.slot, annotated, placement.origin, table)
        if self._plan.depth is None:
            decoded = self._reader.read_image(job.slot, slide, view, placement, table)
            return placement, Slab(0, 1), decoded, state
        slab, decoded = self._reader.read_slices(job, slide, view, placement, table)
        return placement, slab, decoded, state

    def _failed(self, job: Job, error: Exception, opened: bool) -> Failed:
        """The answer for what was raised, or for the changed file that was the reason of it."""
        text = last_lines(traceback.format_exc())
        try:
            check_same_file(job.path, self._files.get(job.path))
        except SlideError as changed:
            error = changed
        except OSError:
            pass  # the file system fails as well: the first error says it
        self._forget(job.path)
        gone = isinstance(error, SlideChangedError | SlideNotFoundError)
        return Failed(
            job.chunk, _slide_error(error, job, opened), text, whole_slide=gone or not opened
        )

    def _slide(self, path: Path) -> Slide:
        slide = self._open.pop(path, None)
        if slide is None:
            self._files[path] = file_identity(path)
            slide = self._loader.open_slide(path)
        self._open[path] = slide
        while len(self._open) > _MOST_OPEN:
            self._forget(next(iter(self._open)))
        return slide

    def _forget(self, path: Path) -> None:
        """Close a slide, if it can be: after an error it may be in any state."""
        self._files.pop(path, None)
        slide = self._open.pop(path, None)
        if slide is not None:
            with suppress(Exception):
                slide.close()


def _slide_error(error: Exception, job: Job, opened: bool) -> SlideError | UserCodeError:
    """The error as it crosses to the parent: ours as it is, any other in our words."""
    if isinstance(error, UserCodeError):
        return UserCodeError(first_words(str(error)))
    for kind in _OURS:
        if isinstance(error, kind):
            text = str(error)
            named = text if str(job.path) in text else f"{job.path}: {text}"
            return kind(first_words(named))
    if not opened:
        return SlideFormatError(first_words(f"{job.path}: opening it raised {error!r}"))
    return SlideReadError(first_words(f"{job.path}: reading a chunk of it raised {error!r}"))
